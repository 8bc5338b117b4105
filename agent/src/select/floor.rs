//! Which of the floor's copies counts. Pure.
//!
//! The floor is kept in a file, in a ref and in the journal, written in that order, each change with a rising
//! generation. After a power cut they may differ; after damage some may be missing.

use crate::domain::history::Floor;

/// Where a copy of the floor was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Copy {
    /// The floor file.
    File,
    /// The ref in the git repository.
    GitRef,
    /// The journal.
    Journal,
}

impl std::fmt::Display for Copy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::File => "the floor file",
            Self::GitRef => "the ref in the git store",
            Self::Journal => "the journal",
        })
    }
}

/// What the copies say together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FloorVerdict {
    /// There is no copy.
    None,
    /// The floor is here.
    At(Floor),
    /// Copies of the same generation name different commits: somebody changed one. Hold.
    Conflict {
        /// The copy that was looked at first.
        one: (Copy, Floor),
        /// The one that contradicts it.
        other: (Copy, Floor),
    },
}

/// Compares the copies: the highest generation wins; among equal ones, equal commits agree (with the later time), and
/// different commits are a conflict.
#[must_use]
pub fn reconcile(
    file: Option<Floor>,
    git_ref: Option<Floor>,
    journal: Option<Floor>,
) -> FloorVerdict {
    let copies = [
        (Copy::File, file),
        (Copy::GitRef, git_ref),
        (Copy::Journal, journal),
    ];
    let mut best: Option<(Copy, Floor)> = None;
    // A conflict counts only among the highest generation: an older pair has been overruled.
    let mut conflict: Option<(Copy, Floor)> = None;
    for (copy, floor) in copies {
        let Some(floor) = floor else { continue };
        match &mut best {
            None => best = Some((copy, floor)),
            Some((_, highest)) if floor.generation > highest.generation => {
                best = Some((copy, floor));
                conflict = None;
            }
            Some((_, highest)) if floor.generation < highest.generation => {}
            Some((_, highest)) if floor.commit == highest.commit => {
                highest.time = highest.time.max(floor.time);
            }
            Some(_) => conflict = Some((copy, floor)),
        }
    }
    match (best, conflict) {
        (None, _) => FloorVerdict::None,
        (Some((_, floor)), None) => FloorVerdict::At(floor),
        (Some(one), Some(other)) => FloorVerdict::Conflict { one, other },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::revision::Timestamp;

    fn floor(generation: u64, digit: char, time: i64) -> Floor {
        Floor {
            generation,
            commit: digit.to_string().repeat(40).parse().unwrap(),
            time: Timestamp(time),
        }
    }

    /// `g:c:t` or `-`.
    fn parse(text: &str) -> Option<Floor> {
        let mut parts = text.split(':');
        let generation = parts.next()?.parse().ok()?;
        let digit = parts.next()?.chars().next()?;
        let time = parts.next()?.parse().ok()?;
        Some(floor(generation, digit, time))
    }

    #[test]
    fn the_highest_generation_wins_and_a_contradiction_is_told() {
        let table = [
            ("-", "-", "-", "none"),
            ("1:a:5", "-", "-", "1:a:5"),
            ("-", "1:a:5", "-", "1:a:5"),
            ("-", "-", "1:a:5", "1:a:5"),
            ("1:a:5", "1:a:5", "1:a:5", "1:a:5"),
            // A power cut after the file, and after the ref.
            ("2:b:6", "1:a:5", "1:a:5", "2:b:6"),
            ("2:b:6", "2:b:6", "1:a:5", "2:b:6"),
            // A journal or a file that went back in time.
            ("3:c:7", "3:c:7", "1:a:5", "3:c:7"),
            ("1:a:5", "3:c:7", "3:c:7", "3:c:7"),
            // The later time of two that agree.
            ("2:b:6", "2:b:9", "2:b:7", "2:b:9"),
            // A reset to an older commit is a higher generation.
            ("4:a:5", "3:c:7", "3:c:7", "4:a:5"),
            ("2:b:6", "2:c:6", "-", "conflict"),
            ("2:b:6", "-", "2:c:6", "conflict"),
            ("-", "2:b:6", "2:c:6", "conflict"),
            ("2:b:6", "2:b:6", "2:c:6", "conflict"),
            // A contradiction that something newer overruled is none.
            ("2:b:6", "2:c:6", "3:d:8", "3:d:8"),
        ];
        for (file, git_ref, journal, expected) in table {
            let verdict = reconcile(parse(file), parse(git_ref), parse(journal));
            let right = match (&verdict, expected) {
                (FloorVerdict::None, "none") | (FloorVerdict::Conflict { .. }, "conflict") => true,
                (FloorVerdict::At(found), text) => Some(found) == parse(text).as_ref(),
                (FloorVerdict::None | FloorVerdict::Conflict { .. }, _) => false,
            };
            assert!(
                right,
                "{file} {git_ref} {journal}: {verdict:?}, not {expected}"
            );
        }
    }

    fn copies() -> impl Strategy<Value = Option<Floor>> {
        proptest::option::of(
            (0u64..4, proptest::sample::select(vec!['a', 'b']), 0i64..3)
                .prop_map(|(generation, digit, time)| floor(generation, digit, time)),
        )
    }

    proptest! {
        #[test]
        fn no_copy_is_ever_newer_than_the_verdict(a in copies(), b in copies(), c in copies()) {
            let given = [a.clone(), b.clone(), c.clone()];
            let highest = given.iter().flatten().map(|floor| floor.generation).max();
            match reconcile(a, b, c) {
                FloorVerdict::None => prop_assert!(given.iter().all(Option::is_none)),
                FloorVerdict::At(found) => {
                    prop_assert_eq!(Some(found.generation), highest);
                    for copy in given.iter().flatten() {
                        prop_assert!(copy.generation < found.generation || copy.commit == found.commit);
                    }
                }
                FloorVerdict::Conflict { one, other } => {
                    prop_assert_eq!(Some(one.1.generation), highest);
                    prop_assert_eq!(Some(other.1.generation), highest);
                    prop_assert_ne!(one.1.commit, other.1.commit);
                }
            }
        }

        #[test]
        fn the_order_of_the_copies_does_not_matter(a in copies(), b in copies(), c in copies()) {
            let kind = |verdict: FloorVerdict| match verdict {
                FloorVerdict::None => None,
                FloorVerdict::At(floor) => Some(Some(floor)),
                FloorVerdict::Conflict { .. } => Some(None),
            };
            let first = kind(reconcile(a.clone(), b.clone(), c.clone()));
            prop_assert_eq!(&first, &kind(reconcile(c.clone(), a.clone(), b.clone())));
            prop_assert_eq!(&first, &kind(reconcile(b, c, a)));
        }
    }
}
