//! What the language of policies reads, and what it says of what it does not.

use std::time::Duration;

use super::*;

fn parsed(text: &str) -> SamplingPolicy {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn a_policy_reads_back_as_it_prints() {
    for text in [
        "off",
        "errors",
        "faults",
        "slow>1s",
        "start>500ms",
        "slow>500ms,start>200ms,total>1h",
        "errors,route:/events start>1s,route:/events total>1day,route:/llm/* start>5s",
        r#"errors,route:"/x start">1s,ekind:"a total" total>1s,route:"/a,b"* start>1s"#,
        "errors,route:start>1s,ekind:total=0.5",
        "rate=0.5",
        "errors,slow>500ms,rate=0.01",
        "errors,slow>500ms,rate=0.01,ekind:checkout=1",
        "errors,route:/orders/{id}=0.1,route:/export/*>30s,budget=0.5/s",
        "errors,ekind:GET /orders/{id}=0.1,route:/files/{*path}=0,route:*>1m",
        "always:ekind:payment,never:route:/health",
        r#"always:ekind:"a, \"b\" = c",never:route:"/x*",ekind:"\\\"a"*=0.5"#,
        "off,never:route:/health,budget=1/s",
        "off,drop:route:/healthz",
        "errors,drop:route:/healthz,never:route:/healthz,drop:ekind:\"a,b\"*",
    ] {
        assert_eq!(parsed(text).to_string(), text);
    }
    assert_eq!(parsed("all"), SamplingPolicy::ALL);
    assert_eq!(parsed("rate=0"), SamplingPolicy::OFF);
    assert_eq!(parsed("errors,faults,errors"), parsed("faults"));
    assert_eq!(parsed(" errors , slow > 1s "), parsed("errors,slow>1s"));
    assert_eq!(parsed("all,budget=5 /s").to_string(), "errors,rate=1,budget=5/s");
}

#[test]
fn a_template_is_taken_as_it_is_and_only_a_star_at_its_end_is_a_sign() {
    let selector = |text: &str| parsed(text).overrides.remove(0).selector;
    let route = |text: &str, prefix| Selector {
        column: SelectorColumn::Route,
        text: text.to_owned(),
        prefix,
    };
    assert_eq!(selector("route:/a/{id}/b:c=0.1"), route("/a/{id}/b:c", false));
    assert_eq!(selector("route:/a/{*rest}=0.1"), route("/a/{*rest}", false));
    assert_eq!(selector("route:/a/*=0.1"), route("/a/", true));
    assert_eq!(selector("route:\"/a/*\"=0.1"), route("/a/*", false));
    assert_eq!(selector("route:\"/a,b\"*=0.1"), route("/a,b", true));
    let slow = parsed("route:/export/*>30s").overrides.remove(0).rule;
    assert_eq!(slow, OverrideRule::Slow(Duration::from_secs(30)));
}

#[test]
fn a_measure_is_the_last_word_before_the_sign_and_nowhere_else() {
    let rule = |text: &str| {
        let it = parsed(text).overrides.remove(0);
        (it.selector.text, it.selector.prefix, it.rule)
    };
    let second = Duration::from_secs(1);
    for (text, name, prefix, expected) in [
        ("route:/x start>1s", "/x", false, OverrideRule::Start(second)),
        ("route:/x*  start > 1s", "/x", true, OverrideRule::Start(second)),
        ("ekind:GET /x total>1s", "GET /x", false, OverrideRule::Total(second)),
        ("route:\"/x\" start>1s", "/x", false, OverrideRule::Start(second)),
        ("route:\"/x\"*total >1s", "/x", true, OverrideRule::Total(second)),
        ("route:start>1s", "start", false, OverrideRule::Slow(second)),
        ("route:/restart>1s", "/restart", false, OverrideRule::Slow(second)),
        ("route:\"/x start\">1s", "/x start", false, OverrideRule::Slow(second)),
        ("ekind:job start=0.5", "job start", false, OverrideRule::Rate(0.5)),
        ("always:ekind:job start", "job start", false, OverrideRule::Always),
    ] {
        assert_eq!(rule(text), (name.to_owned(), prefix, expected), "{text}");
    }
    assert_eq!(parsed("start > 500ms").start, Some(Duration::from_millis(500)));
    assert_eq!(parsed("total>1h").total, Some(Duration::from_hours(1)));
}

#[test]
fn an_error_names_the_rule_its_column_and_the_remedy() {
    for (text, column, expected) in [
        ("errors, slow>5", 14, "with its unit"),
        ("rate=1.5", 6, "0 to 1"),
        ("rate=NaN", 6, "0 to 1"),
        ("errors,", 8, "slow>DURATION"),
        ("", 1, "off"),
        ("errors,slwo>1s", 8, "did you mean slow>DURATION?"),
        ("error", 1, "did you mean errors?"),
        ("latency>1s", 1, "did you mean slow>DURATION?"),
        ("ttfb>1s", 1, "did you mean start>DURATION?"),
        ("duration>1s", 1, "did you mean total>DURATION?"),
        ("start=1s", 6, "start>500ms"),
        ("start>1", 7, "with its unit"),
        ("start>1s,start>2s", 10, "column 1 has it already"),
        ("route:/x start>1s,route:/x start>2s", 19, "column 1 has it already"),
        ("always:route:/x start>1s", 22, "with nothing behind it"),
        ("errors,exclude:route:/x", 8, "did you mean never:"),
        ("errors,dorp:route:/x", 8, "did you mean drop:ekind:NAME or drop:route:TEMPLATE?"),
        ("errors,drop:/x", 13, "ekind:NAME or route:TEMPLATE"),
        ("errors,drop=/x", 12, "drop:ekind:NAME"),
        ("errors,drop:route:/x=1", 21, "with nothing behind it"),
        ("errors,drop:route:/x,drop:route:/x", 22, "column 8 has it already"),
        ("drop:route:/x", 1, "write off to keep none"),
        ("slow=1s", 5, "slow>500ms"),
        ("rate>0.1", 5, "rate=0.01"),
        ("errors=yes", 7, "a comma or the end behind errors"),
        ("rate=0.1,rate=0.2", 10, "column 1 has it already"),
        ("all,rate=0.2", 5, "column 1 has it already"),
        ("errors,ekind:a=0.1,ekind:a=0.2", 20, "column 8 has it already"),
        ("always:route:/a,never:route:/a", 17, "column 1 has it already"),
        ("errors,ekind:checkout", 22, "=SHARE or >DURATION"),
        ("errors,ekind:=0.1", 14, "a name behind the colon"),
        ("always:rout:/a", 8, "did you mean route?"),
        ("always:checkout", 8, "ekind:NAME"),
        ("always:ekind:a=1", 15, "with nothing behind it"),
        ("route:/a=b=0.1", 10, "in double quotes"),
        ("route:\"/a=0.1", 7, "a closing \""),
        ("route:\"\\n\"=0.1", 8, "inside of quotes"),
        ("budget=100", 8, "100/s"),
        ("budget=0/s", 8, "above 0"),
        ("errors,off", 8, "remove off"),
        ("never:route:/health", 1, "write off to keep none"),
        ("budget=100/s", 1, "rate=1"),
        ("errors,ekind:é=2", 17, "0 to 1"),
    ] {
        let error = text.parse::<SamplingPolicy>().unwrap_err();
        let column = format!("column {column}, ");
        assert!(error.starts_with(&column) && error.contains(expected), "{text}: {error}");
        assert!(error.contains("expected"), "{error}");
    }
}

#[test]
fn a_hundred_thousand_rules_take_no_longer_each_than_a_few() {
    let rules = |count: usize| {
        let rule = |n: usize| format!("route:/r{n}=0.1,drop:route:/r{n}/*,ekind:e{n}*>1s");
        (0..count / 3).map(rule).collect::<Vec<_>>().join(",")
    };
    let time = |text: &str| {
        let begin = std::time::Instant::now();
        let policy = parsed(text);
        assert!(policy.overrides.len() >= 2_999);
        begin.elapsed()
    };
    let (few, many) = (rules(3_000), rules(102_000));
    let few = (0..5).map(|_| time(&few)).min().unwrap();
    let many = time(&many);
    // 34 times as many; what grows by the square takes a thousand times as long.
    assert!(many < few * 300, "{many:?} against {few:?}");
}

#[test]
fn what_resembles_nothing_gets_no_guess() {
    let error = "xyz".parse::<SamplingPolicy>().unwrap_err();
    assert!(!error.contains("did you mean"), "{error}");
}
