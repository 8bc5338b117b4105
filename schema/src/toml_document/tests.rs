#![allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]

use super::*;

fn good(text: &str) -> Node {
    let mut out = Diagnostics::new();
    let node = parse("a.toml", text.as_bytes(), &mut out);
    assert!(out.is_empty(), "{out}");
    node.unwrap()
}

fn bad(bytes: &[u8]) -> Vec<String> {
    let mut out = Diagnostics::new();
    assert!(parse("a.toml", bytes, &mut out).is_none());
    out.sorted().iter().map(ToString::to_string).collect()
}

fn place(node: &Node) -> (u32, u32) {
    (node.at.line, node.at.column)
}

#[test]
fn every_value_knows_its_place() {
    let node = good(
        "# x\nname = \"ä\"\n[values]\nmqtt.port = 1883\nlist = [\n  1,\n  \"ü\", true]\n[[files]]\npath = 1.5\n[[files]]\n[a.b]\nc = 1979-05-27\n",
    );
    assert_eq!(place(node.get("name").unwrap()), (2, 8));
    let values = node.get("values").unwrap();
    assert_eq!(place(values), (3, 1));
    assert_eq!(place(values.get("mqtt").unwrap()), (4, 1));
    assert_eq!(
        place(values.get("mqtt").unwrap().get("port").unwrap()),
        (4, 13)
    );
    let Value::List(items) = &values.get("list").unwrap().value else {
        unreachable!()
    };
    assert_eq!(
        items.iter().map(place).collect::<Vec<_>>(),
        [(6, 3), (7, 3), (7, 8)]
    );
    let Value::List(files) = &node.get("files").unwrap().value else {
        unreachable!()
    };
    assert_eq!(
        files.iter().map(place).collect::<Vec<_>>(),
        [(8, 1), (10, 1)]
    );
    assert_eq!(place(node.get("a").unwrap()), (11, 2));
    assert_eq!(
        node.get("a")
            .unwrap()
            .get("b")
            .unwrap()
            .get("c")
            .unwrap()
            .value,
        Value::String("1979-05-27".to_owned())
    );
    let keys: Vec<&str> = node
        .entries()
        .iter()
        .map(|entry| entry.key.as_str())
        .collect();
    assert_eq!(keys, ["name", "values", "files", "a"]);
}

#[test]
fn all_syntax_errors_come_out_at_once() {
    let problems = bad(b"a = \nb = 1\nc = [1, \nd = 'x'\nb = 2\n");
    assert!(problems.len() >= 2, "{problems:?}");
    assert!(problems[0].starts_with("a.toml:1:"), "{problems:?}");
}

#[test]
fn a_duplicate_key_is_an_error_at_the_second() {
    let problems = bad(b"a = 1\nb = 2\na = 3\n");
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with("a.toml:3:1: "), "{problems:?}");
    assert!(problems[0].contains("duplicate"), "{problems:?}");
}

#[test]
fn bytes_that_are_not_text_are_named_with_their_place() {
    assert_eq!(
        bad(b"a = 1\nb = \"\xc3\xa4\xff\"\n"),
        ["a.toml:2:7: this is not UTF-8 text"]
    );
}

#[test]
fn numbers_too_large_are_an_error() {
    let problems = bad(b"a = 99999999999999999999\n");
    assert_eq!(problems.len(), 1);
    assert!(problems[0].starts_with("a.toml:1:5: "), "{problems:?}");
}

#[test]
fn a_byte_order_mark_and_crlf_do_no_harm() {
    let node = good("\u{feff}a = 1\r\nb = 2\r\n");
    assert_eq!(place(node.get("b").unwrap()), (2, 5));
}

#[test]
fn hostile_nesting_is_an_error_and_no_crash() {
    for text in [
        format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("a = {}1{}", "{a=".repeat(50_000), "}".repeat(50_000)),
        format!("a{} = 1", ".a".repeat(200_000)),
        format!("[a{}]\n", ".a".repeat(200_000)),
        format!("x = {{ a{} = 1 }}", ".'a'".repeat(100_000)),
        format!(
            "x = \"\"\"\n\"{} = 1 \"\"\"\na{} = 1",
            ".a".repeat(20),
            ".a".repeat(100_000)
        ),
        format!("a = 'it''s'\nb{} = 1", ".\"a\\\"b\"".repeat(50_000)),
        format!("x = [{}]", "{a=".repeat(90)),
    ] {
        assert!(!bad(text.as_bytes()).is_empty());
    }
    let long = vec![b'#'; crate::source_text::LONGEST_DOCUMENT + 1];
    assert_eq!(bad(&long).len(), 1);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "([a-c.\\[\\]{}='\"#,\n 0-9ä]){0,60}") {
        let _ = parse("a.toml", text.as_bytes(), &mut Diagnostics::new());
    }
}
