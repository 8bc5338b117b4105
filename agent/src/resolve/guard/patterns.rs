//! Patterns of paths and names: `*` stands for any letters, `?` for one; in a path, of one component.

/// Whether a text fits a pattern of `*` (any letters) and `?` (one letter).
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p).is_some_and(|c| *c == '?' || *c == text[t]) {
            p += 1;
            t += 1;
        } else if let Some((at, from)) = star {
            star = Some((at, from + 1));
            p = at + 1;
            t = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty())
}

/// Whether `path` fits `above` or is below something that does.
pub(super) fn covers(above: &str, path: &str) -> bool {
    let mut path = parts(path);
    parts(above).all(|pattern| path.next().is_some_and(|part| fits(pattern, part)))
}

/// Whether something that fits `inner` is at `path` or below it.
pub(super) fn holds(path: &str, inner: &str) -> bool {
    let mut inner = parts(inner);
    parts(path).all(|part| inner.next().is_some_and(|pattern| fits(pattern, part)))
}

/// Whether `path` itself fits, and nothing below it is meant.
pub(super) fn is(pattern: &str, path: &str) -> bool {
    parts(pattern).count() == parts(path).count() && covers(pattern, path)
}

/// Names under which one place is reached on every device that is laid out as distributions do it today.
const ALIASES: [(&str, &str); 8] = [
    ("/var/run", "/run"),
    ("/var/lock", "/run/lock"),
    ("/bin", "/usr/bin"),
    ("/sbin", "/usr/sbin"),
    ("/lib", "/usr/lib"),
    ("/lib32", "/usr/lib32"),
    ("/lib64", "/usr/lib64"),
    ("/libx32", "/usr/libx32"),
];

/// The path by the name that the tables use.
pub(super) fn canonical(path: &str) -> String {
    ALIASES
        .iter()
        .find_map(|(alias, real)| {
            let rest = path.strip_prefix(alias)?;
            (rest.is_empty() || rest.starts_with('/')).then(|| format!("{real}{rest}"))
        })
        .unwrap_or_else(|| path.to_owned())
}

/// A path as people write it, without doubled or final slashes. `None` where it is not absolute, or has `.` or `..`.
pub(super) fn plain(text: &str) -> Option<String> {
    if !text.starts_with('/') || text.split('/').any(|part| matches!(part, "." | "..")) {
        return None;
    }
    Some(parts(text).fold(String::new(), |path, part| path + "/" + part))
}
