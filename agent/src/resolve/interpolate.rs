//! `${VAR}` in compose.yaml, by the Compose Specification's section on interpolation.
//!
//! `$VAR`, `${VAR}`, and with the operators `:-`, `-`, `:?`, `?`, `:+`, `+`, whose words are interpolated too; `$$` is a
//! dollar sign. One difference from Compose: a variable that nothing sets and that has no default is an error, not an
//! empty text, since a device would run it.

/// How deep a default may hold another default.
const DEEPEST: usize = 16;
/// How long a result may get: names are short, and values can be used many times.
const LONGEST: usize = 1024 * 1024;

/// What a variable is.
pub(super) enum Lookup {
    /// It has this text.
    Set(String),
    /// Nothing sets it.
    Unset,
    /// It cannot be used, for this reason.
    Wrong(String),
}

/// The text with every variable in its place.
///
/// # Errors
/// What is wrong, in one sentence.
pub(super) fn interpolate(text: &str, lookup: &dyn Fn(&str) -> Lookup) -> Result<String, String> {
    expand(text, lookup, DEEPEST)
}

fn expand(text: &str, lookup: &dyn Fn(&str) -> Lookup, depth: usize) -> Result<String, String> {
    if depth == 0 {
        return Err(format!(
            "defaults are nested more than {DEEPEST} levels deep"
        ));
    }
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(index) = rest.find('$') {
        done.push_str(&rest[..index]);
        let after = &rest[index + 1..];
        if let Some(after) = after.strip_prefix('$') {
            done.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let end = closing(after).ok_or("`${` without its `}`")?;
            done.push_str(&braced(&after[..end], lookup, depth)?);
            rest = &after[end + 1..];
        } else {
            let length = name_length(after);
            if length == 0 {
                return Err(
                    "a `$` that begins no variable: write `$$` for a dollar sign".to_owned(),
                );
            }
            done.push_str(&plain(&after[..length], lookup)?);
            rest = &after[length..];
        }
        if done.len() > LONGEST {
            return Err(format!("the text gets longer than {LONGEST} bytes"));
        }
    }
    done.push_str(rest);
    Ok(done)
}

/// Where the brace closes that was opened before `text`.
fn closing(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut open = 1_usize;
    let mut index = 0;
    while index < bytes.len() {
        match bytes[index] {
            b'$' if bytes.get(index + 1) == Some(&b'$') => index += 1,
            b'$' if bytes.get(index + 1) == Some(&b'{') => {
                open += 1;
                index += 1;
            }
            b'}' => {
                open -= 1;
                if open == 0 {
                    return Some(index);
                }
            }
            _ => {}
        }
        index += 1;
    }
    None
}

/// How many bytes of `text` are a variable's name.
fn name_length(text: &str) -> usize {
    let mut bytes = text.bytes();
    if !bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
    {
        return 0;
    }
    1 + bytes
        .take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        .count()
}

fn get(name: &str, lookup: &dyn Fn(&str) -> Lookup) -> Result<Option<String>, String> {
    match lookup(name) {
        Lookup::Set(text) => Ok(Some(text)),
        Lookup::Unset => Ok(None),
        Lookup::Wrong(why) => Err(why),
    }
}

fn plain(name: &str, lookup: &dyn Fn(&str) -> Lookup) -> Result<String, String> {
    get(name, lookup)?.ok_or_else(|| {
        format!("`${{{name}}}` is not set by any value: add the value, or write a default: `${{{name}:-default}}`")
    })
}

fn braced(inside: &str, lookup: &dyn Fn(&str) -> Lookup, depth: usize) -> Result<String, String> {
    let length = name_length(inside);
    let (name, operation) = inside.split_at(length);
    if length == 0 {
        return Err(format!(
            "`${{{}}}` names no variable",
            inside.escape_debug()
        ));
    }
    if operation.is_empty() {
        return plain(name, lookup);
    }
    let (empty_counts_as_unset, operation) = match operation.strip_prefix(':') {
        Some(operation) => (true, operation),
        None => (false, operation),
    };
    let mut parts = operation.chars();
    let operator = parts.next();
    let word = parts.as_str();
    let value = get(name, lookup)?.filter(|text| !(empty_counts_as_unset && text.is_empty()));
    match (operator, value) {
        (Some('-' | '?'), Some(value)) => Ok(value),
        (Some('-'), None) => expand(word, lookup, depth - 1),
        (Some('?'), None) => {
            let why = expand(word, lookup, depth - 1)?;
            let why = if why.is_empty() {
                "no value sets it"
            } else {
                &why
            };
            Err(format!("`${{{name}}}` is required: {why}"))
        }
        (Some('+'), Some(_)) => expand(word, lookup, depth - 1),
        (Some('+'), None) => Ok(String::new()),
        (Some(_) | None, _) => Err(format!(
            "`${{{}}}` has an operator that Compose does not know",
            inside.escape_debug()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Result<String, String> {
        interpolate(text, &|name| match name {
            "A" => Lookup::Set("a".to_owned()),
            "EMPTY" => Lookup::Set(String::new()),
            "LIST" => Lookup::Wrong("a list".to_owned()),
            _ => Lookup::Unset,
        })
    }

    #[test]
    fn every_operator_means_what_compose_says() {
        for (text, result) in [
            ("plain", "plain"),
            ("$A-${A}", "a-a"),
            ("$$A $${A}", "$A ${A}"),
            ("${A:-x}", "a"),
            ("${EMPTY:-x}", "x"),
            ("${EMPTY-x}", ""),
            ("${NO-x}", "x"),
            ("${NO:-x:y}", "x:y"),
            ("${NO:-${A}}", "a"),
            ("${NO:-${NO2:-${A}b}}c", "abc"),
            ("${NO-}", ""),
            ("${A:?why}", "a"),
            ("${EMPTY?why}", ""),
            ("${A:+x}", "x"),
            ("${EMPTY:+x}", ""),
            ("${EMPTY+x}", "x"),
            ("${NO+x}", ""),
            ("${NO:-$$}", "$"),
            ("$A$A", "aa"),
        ] {
            assert_eq!(run(text).as_deref(), Ok(result), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_filled_in_is_an_error() {
        for text in [
            "$",
            "a $ b",
            "${",
            "${A",
            "${}",
            "${NO}",
            "$NO",
            "${NO:?why}",
            "${EMPTY:?}",
            "${A!x}",
            "${A:}",
            "$1",
            "${LIST}",
            "${NO:-${NO}}",
            "${1}",
        ] {
            assert!(run(text).is_err(), "{text}");
        }
        assert_eq!(
            run("${NO:?set NO}"),
            Err("`${NO}` is required: set NO".to_owned())
        );
        let deep = format!("{}x{}", "${NO:-".repeat(40), "}".repeat(40));
        assert!(run(&deep).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[$A{}:?+\\-äx]{0,40}") {
            let _ = run(&text);
        }
    }
}
