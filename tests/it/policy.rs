//! The language of `ACTIVITY_SAMPLE`, over random policies and random text.

use std::time::Duration;

use proptest::prelude::*;
use tracing_activity::config::{
    Faults, Override, OverrideRule, SamplingPolicy, Selector, SelectorColumn,
};
use tracing_activity::sampling::Sampler;

fn duration() -> impl Strategy<Value = Duration> {
    // Up to a few years, in every unit.
    prop_oneof![
        (0..100_000_000_u64, 0..1_000_000_000_u32).prop_map(|(s, n)| Duration::new(s, n)),
        (0..100_000_u64).prop_map(Duration::from_millis),
    ]
}

fn share() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(1.0), 0.0..=1.0, Just(1e-12)]
}

fn selector() -> impl Strategy<Value = Selector> {
    let column = prop_oneof![Just(SelectorColumn::Ekind), Just(SelectorColumn::Route)];
    let text = prop_oneof![
        Just("/orders/{id}".to_owned()),
        Just("GET /files/{*path}".to_owned()),
        "[a-c,=>\"*:\\\\ /{}é]{0,6}",
        "[a/*\" ]{0,2}(start|total)[* ]?",
    ];
    (column, text, any::<bool>()).prop_map(|(column, text, prefix)| Selector {
        column,
        text,
        prefix,
    })
}

fn override_rule() -> impl Strategy<Value = OverrideRule> {
    prop_oneof![
        Just(OverrideRule::Always),
        Just(OverrideRule::Never),
        Just(OverrideRule::Drop),
        duration().prop_map(OverrideRule::Slow),
        duration().prop_map(OverrideRule::Start),
        duration().prop_map(OverrideRule::Total),
        share().prop_map(OverrideRule::Rate),
    ]
}

/// What a rule says of a selector: about one thing there may be one rule.
fn topic(rule: &OverrideRule) -> u8 {
    match rule {
        OverrideRule::Always | OverrideRule::Never => 0,
        OverrideRule::Slow(_) => 1,
        OverrideRule::Rate(_) => 2,
        OverrideRule::Start(_) => 3,
        OverrideRule::Total(_) => 4,
        OverrideRule::Drop => 5,
    }
}

fn policy() -> impl Strategy<Value = SamplingPolicy> {
    let faults = prop_oneof![Just(Faults::None), Just(Faults::Server), Just(Faults::All)];
    let limit = || proptest::option::of(duration());
    let slow = (limit(), limit(), limit());
    let budget = proptest::option::of(prop_oneof![1e-6..1e9, (1..1000_u32).prop_map(f64::from)]);
    let overrides = proptest::collection::vec((selector(), override_rule()), 0..8);
    (faults, slow, share(), budget, overrides).prop_map(
        |(faults, slow, rate, budget, overrides)| {
            let mut policy = SamplingPolicy::OFF;
            (policy.slow, policy.start, policy.total) = slow;
            (policy.faults, policy.rate, policy.budget) = (faults, rate, budget);
            for (selector, rule) in overrides {
                let same =
                    |it: &Override| it.selector == selector && topic(&it.rule) == topic(&rule);
                if !policy.overrides.iter().any(same) {
                    policy.overrides.push(Override { selector, rule });
                }
            }
            policy
        },
    )
}

/// Text that looks like a policy without being one.
fn nearly() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("errors"),
        Just("slow"),
        Just("start"),
        Just("total"),
        Just(">"),
        Just("="),
        Just(","),
        Just("ekind:"),
        Just("route:"),
        Just("always:"),
        Just("never:"),
        Just("drop:"),
        Just("\""),
        Just("\\"),
        Just("*"),
        Just("/s"),
        Just("budget"),
        Just("rate"),
        Just("0.5"),
        Just("1s"),
        Just(" "),
        Just("é"),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_policy_says_it_reads_back_as_it_prints(policy in policy()) {
        let text = policy.to_string();
        prop_assert_eq!(text.parse::<SamplingPolicy>(), Ok(policy), "{}", text);
    }

    #[test]
    fn no_text_makes_it_panic_and_every_refusal_names_a_column_of_it(
        text in prop_oneof![nearly(), any::<String>()],
    ) {
        match text.parse::<SamplingPolicy>() {
            Ok(policy) => {
                prop_assert_eq!(policy.to_string().parse::<SamplingPolicy>(), Ok(policy.clone()));
                drop(Sampler::new(policy));
            }
            Err(error) => {
                let column = error.strip_prefix("column ").and_then(|it| it.split_once(','));
                let column = column.and_then(|(column, _)| column.parse::<usize>().ok());
                let inside = column.is_some_and(|it| (1..=text.len() + 1).contains(&it));
                prop_assert!(inside && error.contains("expected"), "{:?}: {}", text, error);
            }
        }
    }
}
