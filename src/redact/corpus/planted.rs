//! Texts with secrets in them.

use fastrand::Rng;

use super::{Planted, filled};

const NAMES: &[&str] = &[
    "password",
    "passwd",
    "db_password",
    "api_key",
    "apiKey",
    "client_secret",
    "access_token",
    "refreshToken",
    "SECRET_KEY",
    "X-Api-Key",
    "passphrase",
    "private_key",
    "pwd",
    "PGPASSWORD",
    "signing_key",
    "encryption-key",
    "AccountKey",
    "auth_token",
    "newPassword",
    "app.secret",
    "smtp_pass",
    "webhook_secret",
];

/// How languages and formats write a value behind its name. `%` is the name, `~` the value.
const LITERALS: &[&str] = &[
    r#"%="~""#,
    r#"%: "~""#,
    "% = '~'",
    "%=~",
    "%: ~",
    r#""%":"~","#,
    r#"{"a":1,"%":"~"}"#,
    r#"got \"%\":\"~\" back"#,
    r#"L { a: 1, %: "~" }"#,
    "cut {'%': '~', 'b",
    r#"%: b"~""#,
    "%=b'~'",
    r##"%: r#"~"#, n: 1"##,
    r###"% = r##"~"##;"###,
    r#"%: r"~""#,
    r#"%: br"~""#,
    r#"% = """~""""#,
    "% = '''~'''",
    r#"% = """
~
""""#,
    "% := `~`",
    "%: `~`,",
    "'%' => '~',",
    r#":% => "~""#,
    r#""%" => "~""#,
    "[% => ~]",
    r#"% == "~""#,
    "if (% === '~')",
    r#"% != "~""#,
    "%: |\n  ~\nnext: 1",
    "a:\n  %: >-\n    ~\n  b: 2",
    "%: |-\n  ~",
    r#"% = f"~""#,
    r"% = u'~'",
    r#"% = @"~";"#,
    r#"% = $"~";"#,
    r#"%: L"~""#,
    "export %=~",
    "export %='~'",
    "set %=~",
    r#"$env:% = "~""#,
    r#"%: Some("~")"#,
    r#"% = Some(Secret("~"))"#,
    r#"%: Ok(Some("~"))"#,
    r#"%: Value { inner: "~" }"#,
    r#"%: ["~"]"#,
    r#"cut "%":{"old":"~""#,
    "%=~&a=1",
    "?a=1&%=~",
    "%=~; path=/",
    "% ='~'",
    "%\t=\t~",
    "%\n=\n\"~\"",
    r#"  - %: "~""#,
    "%?: '~'",
    r#"config.% = "~""#,
    r#"ENV["%"] = "~""#,
    r"os.environ['%'] = '~'",
    "conf(%=~)",
    "{%:~}",
    r"-D%=~ -jar a",
    "SET % = '~';",
    r#"%="~" # a remark"#,
    "[db]\n% = ~\nuser = ana",
];

/// The same without a separator between name and value.
const UNSEPARATED: &[&str] = &[
    r#"%("~")"#,
    "set_%('~')",
    r#".%("~".to_owned())"#,
    r#"("%", "~")"#,
    r#"("%","~"), ("a","b")"#,
    r#"cut [["%","~"],["a""#,
    r#"[["%", "~"]]"#,
    r#"{"name":"%","value":"~"}"#,
    r#"cut {"name":"%","value":"~","#,
    r#"{"key": "%", "value": "~"}"#,
    r#"{"value":"~","name":"%"}"#,
    r#"Header { name: "%", value: "~" }"#,
    r#"<input name="%" value="~">"#,
    r#"<input type="text" name='%' value='~'/>"#,
    r#"<add key="%" value="~" />"#,
    r#"<property name="%">~</property>"#,
    "user[%]=~",
    "user%5B%%5D=~",
    "a[b][%]=~&c=1",
    "--% ~",
    "tool --% '~' --yes",
    "tool --% \"~\"",
    "--%=~",
    r#"["--%", "~"]"#,
    "<%>~</%>",
    r#"<%  a="1">~</%>"#,
    r#"<x %="~"/>"#,
    r#"HeaderMap { "%": "~" }"#,
    r#"\"name\":\"%\",\"value\":\"~\""#,
];

/// Values without a name, in what surrounds them.
const AROUND: &[&str] = &[
    "~",
    "upstream refused ~ as revoked",
    r#"{"note":"~"}"#,
    "[~]",
    r#"V { v: "~" }"#,
    r#"cut {\"v\":\"~\""#,
    "a\n  - ~\n",
    "x=~;",
    "(~)",
    "<a>~</a>",
    "seen ~, ~.",
    "`~`",
    "v:~",
];

/// Forms that issuers give their keys.
const ISSUED: &[&str] = &[
    "sk-ant-api03-{a93}AA",
    "sk-ant-admin01-{a93}AA",
    "sk-proj-{a74}T3BlbkFJ{a74}",
    "sk-{a20}T3BlbkFJ{a20}",
    "sk-svcacct-{a80}",
    "sk-or-v1-{x64}",
    "pypi-AgEIcHlwaS5vcmc{a70}",
    "SG.{a22}.{a43}",
    "hf_{a34}",
    "hvs.{a95}",
    "hvb.{a140}",
    "whsec_{a32}",
    "xapp-1-A{u10}-{d13}-{x64}",
    "xoxb-{d12}-{d13}-{a24}",
    "xoxp-{d11}-{d11}-{d12}-{x32}",
    "xoxe.xoxp-1-{a160}",
    "glrt-{a20}",
    "glpat-{a20}",
    "glptt-{x40}",
    "gldt-{a20}",
    "GOCSPX-{a28}",
    "shpat_{x32}",
    "shpss_{x32}",
    "shpca_{x32}",
    "dop_v1_{x64}",
    "doo_v1_{x64}",
    "dor_v1_{x64}",
    "ghp_{a36}",
    "gho_{a36}",
    "ghs_{a36}",
    "github_pat_{a22}_{a59}",
    "AKIA{u16}",
    "ASIA{u16}",
    "AIza{a35}",
    "ya29.{a120}",
    "sk_live_{a24}",
    "rk_live_{a24}",
    "sk_test_{a24}",
    "sq0atp-{a22}",
    "sq0csp-{a43}",
    "EAAA{a60}",
    "npm_{a36}",
    "rubygems_{x48}",
    "dckr_pat_{a27}",
    "PMAK-{x24}-{x34}",
    "lin_api_{a40}",
    "ntn_{d11}{a35}",
    "pul-{x40}",
    "pscale_tkn_{a43}",
    "pscale_pw_{a43}",
    "dapi{x32}",
    "NRAK-{u27}",
    "NRJS-{x19}",
    "glsa_{a32}_{x8}",
    "glc_{a60}",
    "sntrys_{a80}",
    "sntryu_{x64}",
    "key-{x32}",
    "r8_{a37}",
    "gsk_{a52}",
    "pplx-{a48}",
    "xai-{a80}",
    "AGE-SECRET-KEY-1{u58}",
    "tskey-auth-{a12}-{a32}",
    "figd_{a40}",
    "CFPAT-{a43}",
    "ATATT3xFfGF0{a180}",
    "ATCTT3xFfGF0{a180}",
    "sbp_{x40}",
    "fo1_{a43}",
    "rnd_{a28}",
    "vercel_{a24}",
    "cio_{a30}",
    "phc_{a43}",
    "phx_{a43}",
    "sk_prod_{a24}",
    "oy2{x43}",
    "shppa_{x32}",
    "EZAK{a54}",
    "duffel_live_{a43}",
    "FLWSECK_TEST-{x32}-X",
    "xkeysib-{x64}-{a16}",
    "re_{a8}_{a24}",
    "nfp_{a36}",
    "cfut_{a48}",
    "tfp_{a44}",
    "dp.pt.{a43}",
    "dt0c01.{u24}.{u64}",
    "lsv2_pt_{x32}_{x10}",
    "ops_eyJ{a260}",
    "{a14}.atlasv1.{a67}",
    "SCW{u17}",
    "https://hooks.slack.com/services/T{u8}/B{u8}/{a24}",
    "https://hooks.slack.com/workflows/T{u8}/A{u8}/{d18}/{a24}",
    "https://discord.com/api/webhooks/{d18}/{a68}",
    "https://discordapp.com/api/webhooks/{d18}/{a68}",
    "https://acme.webhook.office.com/webhookb2/{uuid}@{uuid}/IncomingWebhook/{x32}/{uuid}",
    "{d10}:AA{a33}",
    "eyJhbGciOiJIUzI1NiJ9.eyJ{a30}.{a43}",
];

/// Connections: the value is the password.
const CONNECTIONS: &[&str] = &[
    "postgres://ana:~@db/shop",
    "postgresql://ana:~@db:5432/shop?sslmode=require",
    "redis://:~@cache:6379/0",
    "rediss://default:~@cache:6379",
    "amqp://shop:~@mq:5672/%2f",
    "mongodb+srv://ana:~@c.mongodb.example/db",
    "mysql://root:~@127.0.0.1:3306/shop",
    "mysql://ana:~@tcp(db:3306)/shop",
    "https://ana:~@git.example/r.git",
    r#"cut {"dsn":"postgres:\/\/ana:~@db\/shop"#,
    "host=db user=ana password=~ dbname=shop",
    "host=db password='~' port=5432",
    "Server=db;Database=shop;User Id=ana;Password=~;Encrypt=true",
    "Driver={ODBC};UID=ana;PWD=~;",
    "jdbc:postgresql://db/shop?user=ana&password=~",
    "jdbc:sqlserver://db;user=ana;password=~;",
    "jdbc:oracle:thin:ana/~@db:1521/shop",
    "DefaultEndpointsProtocol=https;AccountName=shop;AccountKey=~;EndpointSuffix=core.windows.net",
    "Endpoint=sb://s.servicebus.windows.net/;SharedAccessKeyName=root;SharedAccessKey=~",
    "smtp://ana:~@mail:587",
    "ldap://cn=ana:~@ldap",
    "error connecting to postgres://ana:~@db: timed out",
    r#"PgConnectOptions { host: "db", username: "ana", password: Some("~"), database: "shop" }"#,
    "postgres://ana:a/~@db/shop",
    "postgres://ana:a#~@db/shop",
    "postgres://ana:a ~@db/shop",
    "postgres://ana:~/b@db/shop",
    "postgres://ana:~#b@db/shop",
    "postgres://ana:~?b@db/shop",
    "postgres://ana:~ b@db/shop",
];

/// Addresses: the value stands in a query, a fragment or a path.
const ADDRESSES: &[&str] = &[
    "GET https://h.example/p?key=~&page=2: 502",
    "see /reset?code=~ for more",
    "GET /reset?code=~ HTTP/1.1",
    r#"link="/verify?t=~""#,
    "redirect to /cb?state=~&code=1",
    "Location: /cb?code=~",
    "https://h/cb#access_token=~&token_type=bearer",
    "to /cb#id_token=~",
    "https://b.blob.core.windows.net/c/f?sv=2022&sig=~",
    "https://b.s3.amazonaws.com/k?X-Amz-Signature=~",
    "GET ./a?otp=~",
    "<a href='/a?otp=~'>",
    "(/a/b?otp=~)",
    "error for url (https://h/p?q=~)",
    "path=/a?otp=~",
    "https://h/p?~",
    r#"cut {"u":"https:\/\/h\/p?k=~""#,
    r#"cut {"u":"\/p?k=~""#,
    "https://h/#/cb?otp=~",
    "POST /a?x[y]=~",
    "https://h/a#state=~",
];

/// Headers and shells.
const HEADERS: &[&str] = &[
    "Authorization: Bearer ~",
    "authorization: Basic ~",
    "Authorization: Token ~",
    "Authorization: ApiKey ~",
    r#"{"authorization": "Bearer ~"}"#,
    r#"authorization: "Bearer ~""#,
    r#"Authorization: Digest username="ana", response="~""#,
    "proxy-authorization: Basic ~",
    "Cookie: sid=~; theme=dark",
    "Set-Cookie: sid=~; Path=/; HttpOnly",
    r#"("cookie", "sid=~")"#,
    r#"["set-cookie", "sid=~; Path=/"]"#,
    r#"HeaderMap { "host": "h", "cookie": "sid=~" }"#,
    "x-api-key: ~",
    "X-Auth-Token: ~",
    "x-csrf-token: ~",
    "-H 'Authorization: Bearer ~'",
    "curl -u ana:~ https://h",
    "curl --user ana:~ https://h",
    "curl -sS -u 'ana:~' https://h",
    "mysql -uroot -p~ shop",
    "mysqldump -h db -p~ shop",
    "PGPASSWORD=~ psql -h db",
    "MYSQL_PWD=~ mysql",
    "sshpass -p ~ ssh ana@h",
    "machine h login ana password ~",
    "docker login -u ana -p ~ r.example",
    "redis-cli -h cache -a ~ ping",
    "kubectl config: client-key-data: ~",
    "    client-key-data: ~\n    x: 1",
    "    token: ~\n",
    "AWS_SECRET_ACCESS_KEY=~",
    "aws_secret_access_key = ~",
    "//registry.npmjs.org/:_authToken=~",
    "_auth=~",
    "Ocp-Apim-Subscription-Key: ~",
    "sent Bearer ~ to it",
    "sent Token ~ to it",
];

const SQL: &[&str] = &[
    "ALTER USER ana WITH PASSWORD '~'",
    "CREATE ROLE ana LOGIN PASSWORD '~' VALID UNTIL 'x'",
    "CREATE USER ana IDENTIFIED BY '~'",
    "create user 'ana'@'%' identified by '~'",
    "CREATE USER ana IDENTIFIED WITH sha256_password BY '~'",
    "SET PASSWORD FOR 'ana' = '~'",
    "SET PASSWORD = PASSWORD('~')",
    "UPDATE u SET password = '~' WHERE id = 1",
    "SELECT 1 WHERE token = '~'",
    "WHERE api_key IN ('~')",
    "WHERE password LIKE '~'",
    "ALTER LOGIN ana WITH PASSWORD = '~'",
    "CREATE USER ana PASSWORD '~'",
    "WHERE secret = E'~'",
    "WHERE password = N'~'",
    "ALTER USER ana WITH ENCRYPTED PASSWORD '~'",
];

const ESCAPED: &[&str] = &[
    r#"got {"p\u0061ssword":"~"}"#,
    r#"{"p\u0061ssword":"~"}"#,
    r#"got \"p\\u0061ssword\":\"~\""#,
    "pass%77ord=~",
    "a=1&p%61ssword=~&b=2",
    "next=%2Fa%3Ftoken%3D~",
    r#"cut {"\u0070assword":"~"#,
    "api%5Fkey=~",
    r#"got {"api\u005fkey":"~"}"#,
    "user%5Bpassword%5D=~",
    r#"got {"password"\u003a"~"}"#,
    r#"x "dsn":"postgres:\/\/ana:~@db""#,
];

const BLOCKS: &[&str] = &[
    "-----BEGIN RSA PRIVATE KEY-----\n~\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n~\n-----END PGP PRIVATE KEY BLOCK-----",
    "-----BEGIN OPENSSH PRIVATE KEY-----\\n~\\n-----END OPENSSH PRIVATE KEY-----",
    "-----BEGIN EC PRIVATE KEY-----\n~",
    "-----BEGIN ENCRYPTED PRIVATE KEY-----\n~",
    "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\n~\n---- END SSH2 ENCRYPTED PRIVATE KEY ----",
    "PuTTY-User-Key-File-2: ssh-rsa\nEncryption: none\nPrivate-Lines: 1\n~\n",
];

/// How cards are written: groups of four with this between them.
const BETWEEN_GROUPS: &[&str] = &[
    " ", "-", ".", "\u{a0}", "  ", "+", "%20", "_", "/", "\u{202f}", "\u{2009}", "\u{2013}", " - ",
];
/// And in one piece, with a word beside them.
const CARDS: &[&str] = &[
    "card ~ refused",
    r#"{"card_number":"~"}"#,
    r#"{"card":~}"#,
    "pan=~",
    "cc: ~",
    "paid with ~",
    "Payment { pan: \"~\" }",
    "credit card no. ~",
    "cardnumber=~&cvc=1",
    "visa ~",
    "Kreditkarte ~",
    "charged ~ (visa)",
    "<CardNumber>~</CardNumber>",
    "card number is ~.",
];
const ISSUERS: &[&str] =
    &["4+15", "51+14", "55+14", "2221+12", "2720+12", "6011+12", "65+14", "3528+12", "6212+12"];

pub(super) fn all() -> Vec<Planted> {
    let mut rng = Rng::with_seed(27);
    let mut all = Vec::new();
    let mut add = |kind, text: String, secret: &str| {
        all.push(Planted { kind, text, secret: secret.to_owned() });
    };
    // What people and generators choose.
    let value = |rng: &mut Rng| {
        let forms = [
            "c4n{l4}{d2}ry",
            "{a12}",
            "{x32}",
            "Tr0ub{l3}-{d3}",
            "{l9}",
            "{a8}.{a8}",
            "{a5}!{a5}",
            "{a20}+{a19}=",
        ];
        filled(forms[rng.usize(..forms.len())], rng)
    };
    let with = |template: &str, name: &str, value: &str| {
        template
            .replacen("%5B%%5D", "\u{1}", 1)
            .replace('%', name)
            .replace('\u{1}', &format!("%5B{name}%5D"))
            .replace('~', value)
    };
    for template in LITERALS {
        for name in NAMES {
            let value = value(&mut rng);
            add("literals", with(template, name, &value), &value);
        }
    }
    for template in UNSEPARATED {
        for name in NAMES.iter().filter(|name| !name.contains('.')) {
            let value = value(&mut rng);
            add("no separator", with(template, name, &value), &value);
        }
    }
    for issued in ISSUED {
        for around in AROUND {
            let key = filled(issued, &mut rng);
            // Of an address, its scheme and host may stay.
            let secret = key.rsplit('/').next().unwrap_or(&key);
            add("issued keys", around.replace('~', &key), secret);
        }
    }
    for (kind, templates) in [
        ("connections", CONNECTIONS),
        ("addresses", ADDRESSES),
        ("headers, shells", HEADERS),
        ("SQL", SQL),
        ("escapes", ESCAPED),
    ] {
        for template in templates {
            for form in ["c4n{l4}{d2}ry", "{a16}1", "7{x31}", "Tr0ub{l3}{d3}x"] {
                let mut value = filled(form, &mut rng);
                if template.contains("Basic ~") {
                    value = format!("YW5hO{value}YTE=");
                }
                add(kind, template.replace('~', &value), &value);
            }
        }
    }
    for template in BLOCKS {
        for around in ["~", "got ~", r#"{"key":"~"}"#, "key: |\n~"] {
            let secret = filled("MII{a60}", &mut rng);
            add("key blocks", around.replace('~', &template.replace('~', &secret)), &secret);
        }
    }
    for issuer in ISSUERS {
        for between in BETWEEN_GROUPS {
            let number = filled(&format!("{{{issuer}}}"), &mut rng);
            let groups = [&number[..4], &number[4..8], &number[8..12], &number[12..]].join(between);
            add("cards", format!("it was {groups}, 12/29"), &groups);
            let text = format!("it was {groups}");
            add("cards", text, &groups);
        }
        for template in CARDS {
            let number = filled(&format!("{{{issuer}}}"), &mut rng);
            add("cards", template.replace('~', &number), &number);
        }
    }
    for between in BETWEEN_GROUPS {
        let number = filled("{37+13}", &mut rng);
        let groups = [&number[..4], &number[4..10], &number[10..]].join(between);
        add("cards", format!("amex {groups}"), &groups);
    }
    all
}
