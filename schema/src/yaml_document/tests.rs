#![allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]

use super::*;

fn good(text: &str) -> Node {
    let mut out = Diagnostics::new();
    let node = parse("c.yaml", text.as_bytes(), &mut out);
    assert!(out.is_empty(), "{out}");
    node.unwrap()
}

fn bad(text: &str) -> Vec<String> {
    let mut out = Diagnostics::new();
    assert!(parse("c.yaml", text.as_bytes(), &mut out).is_none());
    out.sorted().iter().map(ToString::to_string).collect()
}

fn at(node: &Node, path: &[&str]) -> Value {
    path.iter()
        .fold(node, |node, key| node.get(key).unwrap())
        .value
        .clone()
}

#[test]
fn plain_scalars_follow_the_core_schema() {
    for (text, value) in [
        ("1", Value::Integer(1)),
        ("-12", Value::Integer(-12)),
        ("0o17", Value::Integer(15)),
        ("0x1f", Value::Integer(31)),
        ("1.5", Value::Float(1.5)),
        ("1e3", Value::Float(1000.0)),
        (".5", Value::Float(0.5)),
        ("true", Value::Bool(true)),
        ("yes", Value::String("yes".into())),
        ("22:22", Value::String("22:22".into())),
        ("0640", Value::String("0640".into())),
        ("1_000", Value::String("1_000".into())),
        ("~", Value::Null),
        ("'1'", Value::String("1".into())),
        ("!!str 1", Value::String("1".into())),
        (
            "99999999999999999999",
            Value::String("99999999999999999999".into()),
        ),
        ("e3", Value::String("e3".into())),
        (".", Value::String(".".into())),
    ] {
        assert_eq!(at(&good(&format!("a: {text}\n")), &["a"]), value, "{text}");
    }
}

#[test]
fn values_know_their_place() {
    let node = good("services:\n  broker:\n    image: x\n    ports:\n      - \"1:1\"\n");
    let image = node
        .get("services")
        .unwrap()
        .get("broker")
        .unwrap()
        .get("image")
        .unwrap();
    assert_eq!((image.at.line, image.at.column), (3, 12));
    let entry = &node.get("services").unwrap().entries()[0];
    assert_eq!((entry.key_at.line, entry.key_at.column), (2, 3));
}

#[test]
fn aliases_and_merge_keys_are_expanded_and_own_keys_win() {
    let node = good(
        "x-a: &a {k: 1, l: 2}\nx-b: &b {l: 3, m: 4}\none:\n  <<: *a\n  k: 9\ntwo:\n  <<: [*a, *b]\nthree: *b\n",
    );
    assert_eq!(at(&node, &["one", "k"]), Value::Integer(9));
    assert_eq!(at(&node, &["one", "l"]), Value::Integer(2));
    assert_eq!(at(&node, &["two", "l"]), Value::Integer(2));
    assert_eq!(at(&node, &["two", "m"]), Value::Integer(4));
    assert_eq!(at(&node, &["three", "m"]), Value::Integer(4));
}

#[test]
fn bad_documents_are_refused_at_their_place() {
    for (text, start) in [
        ("a: 1\nb: 2\na: 3\n", "c.yaml:3:1: duplicate key `a`"),
        ("a: 1\n---\nb: 2\n", "c.yaml:2:"),
        ("a: [1\nb: 2\n", "c.yaml:"),
        ("a: !reset 1\n", "c.yaml:1:"),
        ("? [a]\n: 1\n", "c.yaml:1:3: a key must be plain text"),
        ("a: *nope\n", "c.yaml:1:"),
        ("<<: 1\n", "c.yaml:1:5: `<<` merges"),
        ("a: &x [*x]\n", "c.yaml:1:"),
    ] {
        let problems = bad(text);
        assert!(problems[0].starts_with(start), "{text}: {problems:?}");
    }
}

#[test]
fn hostile_documents_are_an_error_and_no_crash() {
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (name, last) in ["b", "c", "d", "e", "f", "g"]
        .iter()
        .zip(["a", "b", "c", "d", "e", "f"])
    {
        let aliases = vec![format!("*{last}"); 10].join(", ");
        bomb.push_str(&format!("{name}: &{name} [{aliases}]\n"));
    }
    assert!(bad(&bomb)[0].contains("too large"));
    let mut deep = "a0: &a0 [x]\n".to_owned();
    for level in 1..80 {
        deep.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    assert!(bad(&deep)[0].contains("nested"));
    assert!(!bad(&format!("a: {}{}", "[".repeat(20_000), "]".repeat(20_000))).is_empty());
}

#[test]
fn an_empty_document_is_null() {
    assert_eq!(good("").value, Value::Null);
    assert_eq!(good("# nothing\n").value, Value::Null);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "([a-c:\\[\\]{}='\"#,\n \\-&*<!|>0-9ä]){0,60}") {
        let _ = parse("c.yaml", text.as_bytes(), &mut Diagnostics::new());
    }
}
