//! OpenSSH's patterns: `*`, `?`, and comma-separated lists with `!` (ssh_config(5), PATTERNS).

/// Whether `text` matches `pattern`, in which `*` is any run of characters and `?` any one character.
pub(super) fn matches(text: &str, pattern: &str) -> bool {
    let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
    let (mut t, mut p) = (0, 0);
    // Where to go on after the last `*` turned out to be too short. One such place is enough, so the time is bounded
    // by the product of the lengths.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((t, p + 1));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[t] => {
                t += 1;
                p += 1;
            }
            Some(_) | None => match retry {
                Some((from, after)) => {
                    retry = Some((from + 1, after));
                    t = from + 1;
                    p = after;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Whether `text` matches one of the patterns and none of those that begin with `!`.
pub(super) fn matches_list<'a>(text: &str, patterns: impl IntoIterator<Item = &'a str>) -> bool {
    let mut found = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(negated) if matches(text, negated) => return false,
            Some(_) => {}
            None => found |= matches(text, pattern),
        }
    }
    found
}

/// Whether it is a pattern rather than a plain name.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '!'])
}

/// Whether some text matches both, where each is a pattern or a plain name.
pub(super) fn overlap(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    // Names longer than this are nobody's; to say that they overlap is the safe answer.
    const LONGEST: usize = 1024;
    if a.len() > LONGEST || b.len() > LONGEST {
        return true;
    }
    // shared[j]: whether a[i..] and b[j..] overlap, from the ends to the beginnings.
    let stars = |rest: &[u8]| rest.iter().all(|byte| *byte == b'*');
    let mut below: Vec<bool> = (0..=b.len()).map(|j| stars(&b[j..])).collect();
    for i in (0..a.len()).rev() {
        let mut row = vec![false; b.len() + 1];
        row[b.len()] = stars(&a[i..]);
        for j in (0..b.len()).rev() {
            row[j] = match (a[i], b[j]) {
                (b'*', _) | (_, b'*') => below[j] || row[j + 1],
                (x, y) => (x == y || x == b'?' || y == b'?') && below[j + 1],
            };
        }
        below = row;
    }
    below[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_overlap_where_some_name_matches_both() {
        for (a, b, wanted) in [
            ("a@x", "a@x", true),
            ("a@x", "b@x", false),
            ("*@x", "a@x", true),
            ("*@x", "*@y", false),
            ("a*", "*b", true),
            ("a*c", "?b*", true),
            ("*", "", true),
            ("**", "*", true),
            ("a?", "a", false),
            ("a*b", "a", false),
            ("", "", true),
            ("?*@x", "@x", false),
        ] {
            assert_eq!(overlap(a, b), wanted, "{a} and {b}");
            assert_eq!(overlap(b, a), wanted, "{b} and {a}");
        }
    }

    #[test]
    fn stars_and_question_marks_match_as_in_ssh() {
        assert!(matches("alice@acme.example", "*@acme.example"));
        assert!(matches("alice@acme.example", "a*e@*.ex?mple"));
        assert!(matches("", "*"));
        assert!(matches("abcbc", "a*bc"));
        assert!(!matches("alice@acme.example", "*@acme"));
        assert!(!matches("", "?"));
        assert!(!matches("Alice", "alice"));
    }

    #[test]
    fn a_negated_pattern_wins_wherever_it_stands() {
        assert!(matches_list("a@x", ["*@x", "!b@x"]));
        assert!(!matches_list("b@x", ["*@x", "!b@x"]));
        assert!(!matches_list("b@x", ["!b@x", "*@x"]));
        assert!(!matches_list("c@y", ["!b@x"]));
    }

    #[test]
    fn a_hostile_pattern_takes_no_exponential_time() {
        let text = "a".repeat(2000);
        let pattern = format!("{}b", "*a".repeat(500));
        assert!(!matches(&text, &pattern));
    }
}
