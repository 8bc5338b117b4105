//! Files of variables as Compose reads them: `.env`, `env_file`, `label_file`.
//!
//! `NAME=value` a line, `#` begins a comment, `export` before a name is left out. Single quotes take what is between them
//! as it is, double quotes know `\n`, `\r`, `\t`, `\"`, `\\` and `\$`; both may span lines. `${VAR}` is filled in outside of
//! single quotes, from what stands above in the file, then from the values of the device.

use super::super::interpolate::{self, Lookup};

/// How a file is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// As above.
    Usual,
    /// What stands behind the `=`, to the end of the line.
    Raw,
}

/// What is wrong, and in which line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) line: u32,
    pub(super) message: String,
}

/// The names with their values, in the file's order; a name alone has none.
pub(super) fn parse(
    text: &str,
    format: Format,
    outside: &dyn Fn(&str) -> Lookup,
) -> Result<Vec<(String, Option<String>)>, Wrong> {
    let mut found: Vec<(String, Option<String>)> = Vec::new();
    let mut lines = text.lines().zip(1_u32..);
    while let Some((line, number)) = lines.next() {
        let wrong = |message: String| Wrong {
            line: number,
            message,
        };
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").map_or(line, str::trim_start);
        let (name, rest) = match line.split_once('=') {
            Some((name, rest)) => (name.trim(), Some(rest)),
            None => (line.split(" #").next().unwrap_or(line).trim(), None),
        };
        let good = !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
        if !good {
            return Err(wrong(format!("`{}` is not a name", name.escape_debug())));
        }
        let Some(rest) = rest else {
            found.push((name.to_owned(), None));
            continue;
        };
        if format == Format::Raw {
            found.push((name.to_owned(), Some(rest.to_owned())));
            continue;
        }
        let mut rest = rest.trim_start().to_owned();
        let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"'));
        let value = match quote {
            None => {
                let end = rest.find(" #").unwrap_or(rest.len());
                let plain = if rest.starts_with('#') {
                    ""
                } else {
                    rest[..end].trim_end()
                };
                fill(plain, &found, outside)
            }
            Some(quote) => {
                let inside = loop {
                    if let Some(inside) = quoted(&rest, quote) {
                        break inside;
                    }
                    let Some((more, _)) = lines.next() else {
                        return Err(wrong("a quote is not closed".to_owned()));
                    };
                    rest.push('\n');
                    rest.push_str(more);
                };
                if quote == '\'' {
                    Ok(inside.to_owned())
                } else {
                    fill(&unescaped(inside), &found, outside)
                }
            }
        };
        found.push((name.to_owned(), Some(value.map_err(wrong)?)));
    }
    Ok(found)
}

fn fill(
    text: &str,
    above: &[(String, Option<String>)],
    outside: &dyn Fn(&str) -> Lookup,
) -> Result<String, String> {
    interpolate::interpolate(text, &|name| {
        let here = above.iter().rev().find(|(known, _)| known == name);
        match here {
            Some((_, Some(value))) => Lookup::Set(value.clone()),
            Some((_, None)) | None => outside(name),
        }
    })
}

/// What stands between two quotes, the first of which begins the text; `None` where the second is missing.
fn quoted(text: &str, quote: char) -> Option<&str> {
    let mut escaped = false;
    for (index, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' && quote == '"' {
            escaped = true;
        } else if c == quote {
            return text.get(1..index);
        }
    }
    None
}

fn unescaped(text: &str) -> String {
    let mut done = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            done.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => done.push('\n'),
            Some('r') => done.push('\r'),
            Some('t') => done.push('\t'),
            // Interpolation makes one of the two again.
            Some('$') => done.push_str("$$"),
            Some(other @ ('"' | '\\')) => done.push(other),
            Some(other) => {
                done.push('\\');
                done.push(other);
            }
            None => done.push('\\'),
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str, format: Format) -> Result<Vec<(String, Option<String>)>, Wrong> {
        parse(text, format, &|name| match name {
            "TZ" => Lookup::Set("UTC".to_owned()),
            _ => Lookup::Unset,
        })
    }

    #[test]
    fn values_are_read_as_compose_reads_them() {
        let text = "# a comment\n\nA=1\nexport B = two words # said\nC='$TZ #'\nD=\"x\\n$TZ\\$\"\nE=\nF=${A}-${TZ:-no}\n\
                    G=\"one\ntwo\"\nH\nI=a#b\nJ=${NO:-d}\n";
        let expected = [
            ("A", Some("1")),
            ("B", Some("two words")),
            ("C", Some("$TZ #")),
            ("D", Some("x\nUTC$")),
            ("E", Some("")),
            ("F", Some("1-UTC")),
            ("G", Some("one\ntwo")),
            ("H", None),
            ("I", Some("a#b")),
            ("J", Some("d")),
        ]
        .map(|(name, value)| (name.to_owned(), value.map(str::to_owned)));
        assert_eq!(run(text, Format::Usual), Ok(expected.to_vec()));
    }

    #[test]
    fn raw_values_are_taken_as_they_stand() {
        let expected = vec![("A".to_owned(), Some(" '$x' # y".to_owned()))];
        assert_eq!(run("A= '$x' # y\n", Format::Raw), Ok(expected));
    }

    #[test]
    fn what_cannot_be_read_names_its_line() {
        for (text, line) in [
            ("A=1\nB='x\n", 2),
            ("a b=1\n", 1),
            ("\n=1\n", 2),
            ("A=$NO\n", 1),
        ] {
            assert_eq!(
                run(text, Format::Usual).map_err(|wrong| wrong.line),
                Err(line),
                "{text}"
            );
        }
    }
}
