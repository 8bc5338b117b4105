//! Many passes with churn: nothing grows.

use evenkeel_tests::proc::Sample;
use evenkeel_tests::soak::{Look, grown, soak};
use evenkeel_tests::tally::Scale;

#[test]
fn nothing_grows_over_many_passes_with_churn() {
    let passes = Scale::asked().of(200, 10_000);
    let looks = soak(passes, None, |_| {});
    let grown = grown(&looks, Scale::asked().of(50, 10));
    assert!(grown.is_empty(), "{}\n{looks:#?}", grown.join("\n"));
}

#[test]
fn a_leak_would_be_seen() {
    let look = |passes: u64, leaked: u64| Look {
        passes,
        process: Sample {
            rss: 12_000_000 + leaked * 4_000_000,
            pss: 8_000_000,
            private: 8_000_000,
            threads: 5,
            descriptors: (0..10 + leaked)
                .map(|number| (number.to_string(), "a file".to_owned()))
                .collect(),
            written: 0,
            write_calls: 0,
            ticks: 0,
        },
        state_bytes: 100_000,
        state_files: 20,
        root_files: 20,
    };
    let flat: Vec<Look> = (1..=20).map(|number| look(number, 0)).collect();
    assert!(grown(&flat, 10).is_empty());
    let leaking: Vec<Look> = (1..=20).map(|number| look(number, number / 5)).collect();
    let grown = grown(&leaking, 10);
    assert_eq!(grown.len(), 2, "{grown:?}");
}
