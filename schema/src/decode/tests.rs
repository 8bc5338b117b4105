#![allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]

use super::*;
use crate::diagnostic::Position;

fn node(value: Value) -> Node {
    Node {
        file: "a.toml".into(),
        at: Position { line: 3, column: 5 },
        value,
    }
}

fn string(text: &str) -> Node {
    node(Value::String(text.to_owned()))
}

fn entry(key: &str, value: Value) -> Entry {
    Entry {
        key: key.to_owned(),
        key_at: Position { line: 3, column: 1 },
        value: node(value),
    }
}

fn problems(out: Diagnostics) -> Vec<String> {
    out.sorted().iter().map(ToString::to_string).collect()
}

#[test]
fn an_unknown_key_is_reported_with_the_nearest_known_one_and_the_rest_is_read() {
    let mut out = Diagnostics::new();
    let table_node = node(Value::Table(vec![
        entry("sorce", Value::Integer(1)),
        entry("mode", Value::Integer(2)),
        entry("zzz", Value::Integer(2)),
    ]));
    let read = table(&table_node, "a file", &["source", "mode"], &mut out).unwrap();
    assert_eq!(read.len(), 1);
    assert_eq!(
        problems(out),
        [
            "a.toml:3:1: unknown key `sorce` in a file (help: did you mean `source`?)",
            "a.toml:3:1: unknown key `zzz` in a file (help: known keys: `source` and `mode`)",
        ]
    );
}

#[test]
fn rendered_text_counts_as_the_number_it_spells() {
    let mut out = Diagnostics::new();
    assert_eq!(integer(&string("1883"), &mut out), Some(1883));
    assert_eq!(boolean(&string("true"), &mut out), Some(true));
    assert_eq!(number(&string("0.5"), &mut out), Some(0.5));
    assert_eq!(
        duration(&node(Value::Integer(5)), &mut out),
        Some(Duration::from_secs(5))
    );
    assert_eq!(size(&string("64m"), &mut out), Some(64 << 20));
    assert_eq!(
        integer_between::<u16>(&string("65535"), 1, u16::MAX, &mut out),
        Some(65535)
    );
    assert!(out.is_empty());
}

#[test]
fn each_wrong_value_is_one_problem_at_its_place() {
    let mut out = Diagnostics::new();
    assert_eq!(integer(&string("x"), &mut out), None);
    assert_eq!(
        integer_between::<u16>(&node(Value::Integer(70_000)), 1, u16::MAX, &mut out),
        None
    );
    assert_eq!(text(&node(Value::Integer(1)), &mut out), None);
    assert_eq!(boolean(&string("yes"), &mut out), None);
    assert_eq!(number(&node(Value::Float(f64::NAN)), &mut out), None);
    assert_eq!(
        one_of(&string("alway"), &[("always", 1), ("no", 2)], &mut out),
        None
    );
    let messages = problems(out);
    assert_eq!(messages.len(), 6);
    assert!(
        messages
            .iter()
            .all(|message| message.starts_with("a.toml:3:5: "))
    );
    assert!(
        messages
            .iter()
            .any(|message| message.contains("did you mean `always`?"))
    );
}

#[test]
fn near_words_are_found_and_far_ones_are_not() {
    let known = ["source", "content", "on_change", "on_remove"];
    assert_eq!(nearest("sorce", known), Some("source"));
    assert_eq!(nearest("on-change", known), Some("on_change"));
    assert_eq!(nearest("Content", known), Some("content"));
    assert_eq!(nearest("cotnent", known), Some("content"));
    assert_eq!(nearest("x", known), None);
    assert_eq!(nearest("", known), None);
}
