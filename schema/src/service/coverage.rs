//! Which keys of the Compose Specification are taken, as a table for people, made from the tables that the decoder reads.

use std::fmt::Write as _;

use super::keys::{COMPOSE, Key, Shape};

/// The table in Markdown.
#[must_use]
pub fn markdown() -> String {
    let (mut rows, mut taken, mut refused) = (String::new(), 0, 0);
    table(&mut rows, "", COMPOSE, &mut taken, &mut refused);
    format!(
        "# The Compose Specification in evenkeel\n\n\
         Made from the tables that read compose.yaml and `[services]`, `[networks]`, `[volumes]`, `[configs]` and \
         `[secrets]` of app.toml; a test holds this page to them. {taken} keys are taken. The {refused} others are known, and \
         are errors that say what to do instead. Keys that begin with `x-` are free, and any other is an error.\n\n\
         | key | what it does here |\n| --- | --- |\n{rows}"
    )
}

fn table(rows: &mut String, above: &str, keys: &[Key], taken: &mut u32, refused: &mut u32) {
    for key in keys {
        let path = format!("{above}{}", key.name);
        let about = match key.refused {
            Some(instead) => {
                *refused += 1;
                format!("*not taken:* {instead}")
            }
            None => {
                *taken += 1;
                match words(&key.shape) {
                    Some(words) => format!("{}: {words}", key.about),
                    None => key.about.to_owned(),
                }
            }
        };
        // What is formatted into a text cannot fail.
        let _ = writeln!(rows, "| `{path}` | {} |", about.replace('|', "\\|"));
        if key.refused.is_none() {
            below(rows, &path, &key.shape, taken, refused);
        }
    }
}

fn below(rows: &mut String, path: &str, shape: &Shape, taken: &mut u32, refused: &mut u32) {
    match shape {
        Shape::Table(keys) => table(rows, &format!("{path}."), keys, taken, refused),
        Shape::Map(inner) => below(rows, &format!("{path}.NAME"), inner, taken, refused),
        Shape::List(inner) => below(rows, &format!("{path}[]"), inner, taken, refused),
        Shape::AnyOf(shapes) => {
            for shape in *shapes {
                below(rows, path, shape, taken, refused);
            }
        }
        Shape::Text
        | Shape::Pattern(_)
        | Shape::Bool
        | Shape::Integer
        | Shape::Number
        | Shape::Duration
        | Shape::Size
        | Shape::Scalar
        | Shape::Words(_)
        | Shape::Null
        | Shape::Any => {}
    }
}

/// The words that may stand there, where only words may.
fn words(shape: &Shape) -> Option<String> {
    match shape {
        Shape::Words(words) => {
            let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
            Some(quoted.join(", "))
        }
        _ => None,
    }
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test reads and writes the page"
)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_keys_is_what_the_tables_say() {
        let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("COMPOSE.md");
        let made = markdown();
        if std::env::var_os("EVENKEEL_WRITE_PAGES").is_some() {
            std::fs::write(&page, &made).unwrap();
        }
        let written = std::fs::read_to_string(&page).unwrap_or_default();
        assert_eq!(
            written, made,
            "EVENKEEL_WRITE_PAGES=1 cargo test -p evenkeel-schema the_page_of_keys writes it anew"
        );
    }
}
