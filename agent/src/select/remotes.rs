//! Which of several remotes' tips counts. Pure.
//!
//! The one that answered first does, unless another one is further on: a remote that is behind, or that is kept back on
//! purpose, holds nobody back while another one answers. Two tips that are both signed as policy asks, of which neither
//! descends from the other, are two histories of one branch: then none counts, until one of them takes in the other.

use crate::domain::commit::Kin;

/// What trust says of a tip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// The device may go there.
    Accepted,
    /// It is signed as policy asks, and does not descend from the floor.
    Signed,
    /// It is not, or that cannot be told.
    Refused,
}

/// What becomes of the tips, by their places in the order in which the remotes stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// This one counts.
    One(usize),
    /// None is accepted: what is wrong with the first is told.
    None,
    /// These two contradict each other.
    Split(usize, usize),
}

/// Chooses among distinct tips. `kin(a, b)` is how `a` relates to `b`; it is asked of those alone that are signed.
pub fn among(words: &[Word], kin: impl Fn(usize, usize) -> Kin) -> Choice {
    let signed = |at: &usize| match words[*at] {
        Word::Accepted | Word::Signed => true,
        Word::Refused => false,
    };
    // What another one has taken in says nothing more.
    let heads: Vec<usize> = (0..words.len())
        .filter(signed)
        .filter(|&at| {
            !(0..words.len())
                .filter(signed)
                .any(|other| other != at && kin(at, other) == Kin::Ancestor)
        })
        .collect();
    for (nth, &one) in heads.iter().enumerate() {
        for &other in &heads[nth + 1..] {
            if kin(one, other) == Kin::Apart {
                return Choice::Split(one, other);
            }
        }
    }
    heads
        .into_iter()
        .chain(0..words.len())
        .find(|&at| words[at] == Word::Accepted)
        .map_or(Choice::None, Choice::One)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Commits by number, each with its parents among the smaller ones.
    fn ancestors(parents: &[Vec<usize>], of: usize) -> BTreeSet<usize> {
        let mut seen = BTreeSet::new();
        let mut open = vec![of];
        while let Some(next) = open.pop() {
            if seen.insert(next) {
                open.extend(&parents[next]);
            }
        }
        seen
    }

    fn kin(parents: &[Vec<usize>], one: usize, other: usize) -> Kin {
        if one == other {
            Kin::Same
        } else if ancestors(parents, other).contains(&one) {
            Kin::Ancestor
        } else if ancestors(parents, one).contains(&other) {
            Kin::Descendant
        } else {
            Kin::Apart
        }
    }

    fn chosen(parents: &[Vec<usize>], tips: &[(usize, Word)]) -> Choice {
        let words: Vec<Word> = tips.iter().map(|(_, word)| *word).collect();
        among(&words, |a, b| kin(parents, tips[a].0, tips[b].0))
    }

    /// 0 - 1 - 2, a fork 0 - 3, and 4 that merges 2 and 3.
    fn history() -> Vec<Vec<usize>> {
        vec![vec![], vec![0], vec![1], vec![0], vec![2, 3]]
    }

    #[test]
    fn the_first_counts_and_whoever_is_behind_it_says_nothing() {
        let tips = [(2, Word::Accepted), (1, Word::Accepted)];
        assert_eq!(chosen(&history(), &tips), Choice::One(0));
        let tips = [(2, Word::Accepted), (0, Word::Signed)];
        assert_eq!(chosen(&history(), &tips), Choice::One(0));
    }

    #[test]
    fn one_that_is_further_on_counts_and_one_that_is_not_accepted_does_not() {
        let tips = [(1, Word::Accepted), (2, Word::Accepted)];
        assert_eq!(chosen(&history(), &tips), Choice::One(1));
        let tips = [(1, Word::Accepted), (2, Word::Refused)];
        assert_eq!(chosen(&history(), &tips), Choice::One(0));
        let tips = [(3, Word::Refused), (2, Word::Accepted)];
        assert_eq!(chosen(&history(), &tips), Choice::One(1));
        let tips = [(3, Word::Refused), (0, Word::Signed)];
        assert_eq!(chosen(&history(), &tips), Choice::None);
    }

    #[test]
    fn two_signed_histories_split_until_one_takes_in_the_other() {
        for other in [Word::Accepted, Word::Signed] {
            let tips = [(2, Word::Accepted), (3, other)];
            assert_eq!(chosen(&history(), &tips), Choice::Split(0, 1));
        }
        let tips = [(2, Word::Accepted), (3, Word::Refused)];
        assert_eq!(chosen(&history(), &tips), Choice::One(0));
        let tips = [
            (2, Word::Accepted),
            (3, Word::Accepted),
            (4, Word::Accepted),
        ];
        assert_eq!(chosen(&history(), &tips), Choice::One(2));
    }

    #[test]
    fn what_is_not_known_to_have_forked_is_no_split() {
        let words = [Word::Accepted, Word::Accepted];
        assert_eq!(among(&words, |_, _| Kin::Unknown), Choice::One(0));
    }

    proptest! {
        #[test]
        fn the_remotes_order_changes_nothing_but_which_of_equals_is_named(
            picks in proptest::collection::vec((proptest::collection::vec(any::<prop::sample::Index>(), 0..3), 0_u8..3), 1..9),
            take in proptest::collection::vec(any::<prop::sample::Index>(), 1..5),
            turn in 0_usize..5,
        ) {
            let parents: Vec<Vec<usize>> = picks
                .iter()
                .enumerate()
                .map(|(at, (of, _))| {
                    let mut parents: Vec<usize> = of.iter().filter(|_| at > 0).map(|of| of.index(at)).collect();
                    parents.sort_unstable();
                    parents.dedup();
                    parents
                })
                .collect();
            let mut tips: Vec<usize> = take.iter().map(|one| one.index(parents.len())).collect();
            tips.sort_unstable();
            tips.dedup();
            // What descends from an accepted one descends from the floor, as that does.
            let is_above = |at: usize| ancestors(&parents, at).iter().any(|of| picks[*of].1 == 0);
            let word = |at: usize| match picks[at].1 {
                0 => Word::Accepted,
                1 if is_above(at) => Word::Accepted,
                1 => Word::Signed,
                _ => Word::Refused,
            };
            let tips: Vec<(usize, Word)> = tips.into_iter().map(|at| (at, word(at))).collect();
            let mut turned = tips.clone();
            turned.rotate_left(turn % tips.len());
            let name = |tips: &[(usize, Word)]| match chosen(&parents, tips) {
                Choice::One(at) => Some(tips[at].0),
                Choice::None | Choice::Split(..) => None,
            };
            prop_assert_eq!(name(&tips), name(&turned));
            if let Some(commit) = name(&tips) {
                for (other, word) in &tips {
                    if *word == Word::Accepted {
                        prop_assert!(ancestors(&parents, commit).contains(other), "{other} is lost");
                    }
                }
            }
            if let Choice::Split(a, b) = chosen(&parents, &tips) {
                prop_assert_eq!(kin(&parents, tips[a].0, tips[b].0), Kin::Apart);
            }
        }
    }
}
