//! A row of a stranger fails nobody's question.

use proptest::prelude::*;
use serde_json::{Map, Value as Json};
use tracing_activity::model::{Activity, EventRecord, Level, SpanRecord, Trace, Value};
use tracing_activity::sink::{Batch, Sink as _};

use crate::database::{Db, activity, wait};

/// What reads the columns for people, over every row.
const READ: [&str; 7] = [
    "SELECT count(), sum(length(toString(data_json))) FROM {db}.activities",
    "SELECT sum(length(toString(data_json.a))), sum(length(toString(data_json.a.b))) FROM {db}.activities",
    "SELECT sum(data_json.total.:Int64), countIf(data_json.x IS NOT NULL) FROM {db}.activities",
    "SELECT sum(length(trace)), sum(length(utm_source) + length(utm_medium) + length(utm_campaign)) FROM {db}.activities",
    "SELECT sum(length(span_id)), sum(length(trace_id)), max(duration_ms) FROM {db}.activities",
    "SELECT count(), sum(length(toString(tuple(*)))) FROM {db}.activity_spans",
    "SELECT min(Start), max(End) FROM {db}.activity_spans_trace_id_ts",
];

fn with_data(data: &str) -> Activity {
    Activity { data: data.to_owned(), ..activity(200) }
}

fn write(db: &Db, rows: Vec<Activity>) {
    wait(db.sink().write(&Batch::new(rows, 0))).unwrap();
}

/// Texts that a server may refuse to read, each of another kind.
fn refused() -> Vec<String> {
    let mut texts: Vec<String> = [
        r#"{"x":{"y":1},"x.y":2}"#,
        r#"{"x.y":2,"x":{"y":{"z":1}}}"#,
        r#"{"a":1,"a":2}"#,
        r#"{"a":1,"a":"x"}"#,
        r#"{"a":{"b":1},"a":{"b":"x"}}"#,
        r#"{"a":1,"a":{"b":1}}"#,
        r#"{"a":[{"b":{"c":1},"b.c":2}]}"#,
        r#"{"a":[1,[2,{"x":1,"x":2}]]}"#,
        r#"{"a":[1,"x",null,{"b":[true,1.5]}]}"#,
        r#"{"a":1e999,"b":-1e999}"#,
        r#"{"a":123456789012345678901234567890}"#,
        r#"{"a":"\ud800"}"#,
        r#"{"\ud800":1}"#,
        r#"{"a":"\u0000","\u0000":1}"#,
        r#"{"":1,"":{"":2}}"#,
        r#"{".":1,"..":2,"a.":3,".a":4}"#,
        r#"{"a`b":1,"a\"b":2,"^a":3,"a:Int64":4,"a[]":5}"#,
        r#"{"a":1} x"#,
        r#"{"a":01}"#,
        r#"{"a":NaN}"#,
        "{\"a\":\"\u{1}\"}",
        "[]",
        "null",
        "",
        "{",
        "\u{feff}{}",
    ]
    .map(str::to_owned)
    .to_vec();
    for depth in [100, 1_000, 1_100, 20_000] {
        texts.push(format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth)));
        texts.push(format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth)));
        texts.push(r#"{"a":"#.repeat(depth));
    }
    let keys: Vec<String> = (0..5_000).map(|n| format!(r#""k{n}.x":{n}"#)).collect();
    texts.push(format!("{{{}}}", keys.join(",")));
    texts.push(format!(r#"{{"{}":1}}"#, "k".repeat(100_000)));
    texts
}

#[test]
fn no_text_in_data_fails_a_question_about_other_rows() {
    for data in refused() {
        let db = Db::new();
        write(&db, vec![with_data(&data), with_data(r#"{"total":5,"a":{"b":"x"}}"#)]);
        for sql in READ {
            db.query(sql);
        }
        let sql = "SELECT sum(data_json.total.:Int64) FROM {db}.activities";
        assert_eq!(db.query(sql), "5", "{}", data.chars().take(80).collect::<String>());
    }
}

#[test]
fn what_cannot_be_read_by_key_reads_as_nothing_and_stays_as_text() {
    let db = Db::new();
    let data = r#"{"x":{"y":1},"x.y":2}"#;
    write(&db, vec![with_data(data)]);
    let sql = "SELECT toString(data_json), data, JSONExtractInt(data, 'x.y') FROM {db}.activities FORMAT TSVRaw";
    assert_eq!(db.query(sql), format!("{{}}\t{data}\t2"));
}

/// JSON as nobody would write it: few keys, so that they meet, with what a server may stumble over.
fn hostile() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        Just("a"),
        Just("b"),
        Just("a.b"),
        Just("a.a"),
        Just(""),
        Just("."),
        Just("total"),
        Just("\\u0000"),
        Just("\\ud800"),
        Just("A"),
        Just("a`"),
        Just("\\\\"),
        Just("^a"),
        Just("é")
    ];
    let leaf = prop_oneof![
        Just("1".to_owned()),
        Just("-0".to_owned()),
        Just("1.5".to_owned()),
        Just("1e999".to_owned()),
        Just("18446744073709551616".to_owned()),
        Just("\"x\"".to_owned()),
        Just("\"2020-01-01\"".to_owned()),
        Just("\"\\udc00\"".to_owned()),
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("{}".to_owned()),
        Just("[]".to_owned()),
        Just("NaN".to_owned()),
        "[ -~]{0,6}".prop_map(|it| it),
    ];
    let inner = leaf.prop_recursive(6, 40, 5, move |value| {
        let pairs = proptest::collection::vec((key.clone(), value.clone()), 0..5);
        prop_oneof![
            3 => pairs.prop_map(|pairs| {
                let pairs: Vec<String> =
                    pairs.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
                format!("{{{}}}", pairs.join(","))
            }),
            1 => proptest::collection::vec(value, 0..4).prop_map(|it| format!("[{}]", it.join(","))),
        ]
    });
    (inner, "[ ,}{]{0,1}").prop_map(|(value, end)| format!("{{\"a\":{value}}}{end}"))
}

/// Numbers of which the last are too much for a sum of times.
fn long() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), Just(u64::MAX), Just(i64::MAX as u64), Just(i64::MIN as u64)]
}

/// What applications write.
fn ordinary() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Json::from),
        "[a-z é\"\\\\]{0,8}".prop_map(Json::from),
        any::<bool>().prop_map(Json::from),
    ];
    let map = |value| {
        proptest::collection::btree_map("[a-z_]{1,6}", value, 1..5)
            .prop_map(|it| Json::Object(it.into_iter().collect::<Map<_, _>>()))
    };
    map(leaf.prop_recursive(3, 12, 4, map).boxed())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn hostile_rows_fail_no_question_and_ordinary_ones_read_by_key(
        hostile in proptest::collection::vec(hostile(), 200),
        ordinary in proptest::collection::vec(ordinary(), 50),
    ) {
        let db = Db::new();
        let mut rows: Vec<Activity> = hostile.iter().map(|it| with_data(it)).collect();
        rows.extend(ordinary.iter().map(|it| Activity { status: 1, ..with_data(&it.to_string()) }));
        write(&db, rows);
        for sql in READ {
            db.query(sql);
        }
        let sql = "SELECT data, toString(data_json) FROM {db}.activities WHERE status = 1 FORMAT JSONCompactEachRow \
                   SETTINGS output_format_json_quote_64bit_integers = 0";
        for line in db.query(sql).lines() {
            let (text, read): (String, String) = serde_json::from_str(line).unwrap();
            let parse = |text: &str| serde_json::from_str::<Json>(text).unwrap();
            prop_assert_eq!(parse(&text), parse(&read));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn no_other_text_or_number_of_a_row_fails_a_question(
        rows in proptest::collection::vec(
            (hostile(), "[a-z&=%+?#é]{0,12}|.{0,6}", long(), any::<u32>(), any::<i64>()), 60),
    ) {
        let db = Db::new();
        let activities = rows.into_iter().map(|(json, text, long, short, number)| {
            let span = SpanRecord {
                name: text.clone().into(),
                target: json.clone().into(),
                level: Level::Info,
                parent: short % 3,
                start: short,
                duration: u32::MAX,
                error: text.clone().into(),
                attributes: vec![
                    (text.clone().into(), Value::Str(json.clone().into())),
                    (text.clone().into(), Value::I64(number)),
                    ("otel.kind".into(), Value::Str(text.clone().into())),
                ],
            };
            let event = EventRecord {
                span: short % 3,
                time: short,
                level: Level::Info,
                target: text.clone().into(),
                message: json.clone(),
                attributes: vec![
                    (text.clone().into(), Value::Str(json.clone().into())),
                    (text.clone().into(), Value::F64(f64::from_bits(long))),
                ],
            };
            Activity {
                campaign: format!("utm_source={text}&{json}"),
                duration: long,
                url: text.clone(),
                data: json,
                trace: Some(Trace { spans: vec![span; 3], events: vec![event; 2] }),
                ..activity(200)
            }
        });
        write(&db, activities.collect());
        for sql in READ {
            db.query(sql);
        }
    }
}
