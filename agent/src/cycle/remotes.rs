//! Several remotes: the first that answers is asked at each poll, the others when something moves, now and then, and when a
//! person asks. Whatever any of them says is judged like the word of a single one.

use std::cell::RefCell;
use std::collections::BTreeMap;

use tokio::time::Instant;

use super::session::{Says, chain};
use super::{Agent, CycleError};
use crate::domain::commit::{Descent, Kin};
use crate::domain::history::{Floor, Ledger};
use crate::domain::outcome::{ConditionType, RemoteState, RemoteStatus};
use crate::domain::revision::CommitId;
use crate::port::World;
use crate::port::source::{Deepened, Fetched, Reach, Source as _, Whom};
use crate::schedule::Jitter;
use crate::schedule::remotes::next_comparison;
use crate::select::remotes::{Choice, Word, among};
use crate::select::{Newest, Rejection, Urgency};
use crate::trust::policy::{Reason, Verdict};

/// The reason where two remotes contradict each other.
const SPLIT_VIEW: &str = "SplitView";

/// How often more history is fetched to find out how two tips relate.
const DEEPENINGS: usize = 4;

/// What was found when all of them were asked.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    /// What the first says.
    First,
    /// This commit of another one, or one that is here already.
    Instead(CommitId),
    /// Two of them contradict each other.
    Split(Rejection),
}

#[derive(Debug)]
struct Compared {
    remote: usize,
    tip: CommitId,
    found: Found,
    doubts: u32,
    due: Instant,
}

/// What is remembered of the remotes, in memory.
#[derive(Debug, Default)]
pub(super) struct Remotes {
    compared: RefCell<Option<Compared>>,
}

/// Who of the remotes says something now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answers {
    All,
    /// What the others have is not known.
    Some,
}

/// A tip that remotes name.
struct Candidate {
    tip: CommitId,
    remotes: Vec<usize>,
    word: Word,
}

impl<W: World> Agent<W> {
    /// What the remotes say together, where `first` is what the first that answered says.
    pub(super) async fn weigh(
        &self,
        first: Fetched,
        urgency: Urgency,
        ledger: &Ledger,
        floor: Option<&Floor>,
    ) -> Result<Newest, CycleError> {
        if self.world.source().remotes().len() < 2 {
            self.tell_remotes(None, None);
            return self.consider(Some(first.tip), None, ledger, floor).await;
        }
        let known = match &*self.session.remotes.compared.borrow() {
            Some(known)
                if urgency != Urgency::Asked
                    && known.remote == first.remote
                    && known.tip == first.tip.id
                    && Instant::now() < known.due =>
            {
                Some(known.found.clone())
            }
            Some(_) | None => None,
        };
        let found = match known {
            Some(found) => {
                self.tell_remotes(Some(first.remote), None);
                found
            }
            None => self.compare(&first, urgency, ledger, floor).await,
        };
        let tip = match found {
            Found::First => first.tip,
            Found::Instead(id) => match self.world.source().commit(&id, self.anchor(floor)).await {
                Ok(Some(tip)) => tip,
                Ok(None) => first.tip,
                Err(error) => {
                    self.session.notice(&self.world, &chain(&error));
                    first.tip
                }
            },
            Found::Split(rejection) => return Ok(self.hold_split(rejection)),
        };
        if let Err(error) = self
            .world
            .source()
            .settle_on(&tip.id, self.anchor(floor))
            .await
        {
            self.session.notice(&self.world, &chain(&error));
        }
        self.consider(Some(tip), None, ledger, floor).await
    }

    /// No remote answers.
    pub(super) fn split_before(&self) -> Option<Newest> {
        self.tell_remotes(None, None);
        self.split_known()
    }

    /// A contradiction that is known, where no remote is asked or none answers: it holds all the same.
    pub(super) fn split_known(&self) -> Option<Newest> {
        if self.world.source().remotes().len() < 2 {
            return None;
        }
        let rejection = match &*self.session.remotes.compared.borrow() {
            Some(Compared {
                found: Found::Split(rejection),
                ..
            }) => rejection.clone(),
            Some(Compared {
                found: Found::First | Found::Instead(_),
                ..
            }) => return None,
            None => self.split_told()?,
        };
        Some(self.hold_split(rejection))
    }

    /// The contradiction that was told before this process began, where those remotes are still asked.
    fn split_told(&self) -> Option<Rejection> {
        let said = self.said_before();
        let (_, commit) = said.first()?;
        if said.iter().all(|(_, tip)| tip == commit) {
            return None;
        }
        let report = self.session.report();
        let told = report
            .conditions
            .iter()
            .find(|condition| condition.kind == ConditionType::Verified)?;
        Some(Rejection {
            commit: commit.clone(),
            reason: SPLIT_VIEW.to_owned(),
            message: told.message.clone(),
        })
    }

    fn hold_split(&self, rejection: Rejection) -> Newest {
        self.session.accepted.replace(None);
        let says = Says::no(SPLIT_VIEW, &rejection.message);
        self.session
            .says(&self.world, ConditionType::Verified, says);
        Newest::Rejected(rejection)
    }

    /// What remotes said that do not answer now, while they contradicted another one: their silence ends no contradiction,
    /// nor does a restart.
    fn said_before(&self) -> Vec<(usize, CommitId)> {
        let report = self.session.report();
        let is_split = report.conditions.iter().any(|condition| {
            condition.kind == ConditionType::Verified && condition.reason == SPLIT_VIEW
        });
        if !is_split {
            return Vec::new();
        }
        let remotes = self.world.source().remotes();
        let at = |url: &str| remotes.iter().position(|remote| remote.name == url);
        report
            .poll
            .remotes
            .into_iter()
            .filter_map(|before| Some((at(&before.url)?, before.tip?)))
            .collect()
    }

    /// Asks the others, too.
    async fn compare(
        &self,
        first: &Fetched,
        urgency: Urgency,
        ledger: &Ledger,
        floor: Option<&Floor>,
    ) -> Found {
        let whom = match urgency {
            Urgency::Asked => Whom::Each,
            Urgency::Scheduled | Urgency::Stirred | Urgency::Boot => Whom::Ready,
        };
        let mut said: BTreeMap<usize, CommitId> = self.said_before().into_iter().collect();
        said.insert(first.remote, first.tip.id.clone());
        let mut heard = 1;
        for seen in self.world.source().others(first.remote, whom).await {
            if let Some(tip) = seen.tip {
                said.insert(seen.remote, tip);
                heard += 1;
            }
        }
        let answers = if heard < self.world.source().remotes().len() {
            Answers::Some
        } else {
            Answers::All
        };
        let mut candidates: Vec<Candidate> = Vec::new();
        for (remote, tip) in said {
            match candidates.iter_mut().find(|one| one.tip == tip) {
                Some(same) => same.remotes.push(remote),
                None => candidates.push(Candidate {
                    tip,
                    remotes: vec![remote],
                    word: Word::Refused,
                }),
            }
        }
        let found = if candidates.len() > 1 || first.tip.descent == Descent::NotDescendant {
            self.choose_tip(&mut candidates, first, answers, ledger, floor)
                .await
        } else {
            let found = self
                .unless_behind(Found::First, &first.tip.id, answers, ledger, floor)
                .await;
            self.tell_tips(first.remote, &candidates, |_| match &found {
                Found::First | Found::Split(_) => RemoteState::Current,
                Found::Instead(_) => RemoteState::Behind,
            });
            found
        };
        let mut compared = self.session.remotes.compared.borrow_mut();
        let doubts = match &found {
            Found::First if candidates.iter().all(|one| one.word != Word::Refused) => 0,
            Found::First if candidates.len() == 1 => 0,
            Found::First | Found::Instead(_) | Found::Split(_) => compared
                .as_ref()
                .map_or(1, |before| before.doubts.saturating_add(1)),
        };
        let wait = next_comparison(self.settings.interval, doubts, Jitter::random());
        *compared = Some(Compared {
            remote: first.remote,
            tip: first.tip.id.clone(),
            found: found.clone(),
            doubts,
            due: Instant::now() + wait,
        });
        found
    }

    async fn choose_tip(
        &self,
        candidates: &mut [Candidate],
        first: &Fetched,
        answers: Answers,
        ledger: &Ledger,
        floor: Option<&Floor>,
    ) -> Found {
        for one in candidates.iter_mut() {
            one.word = self.word_on(&one.tip, ledger, floor).await;
        }
        let mut kin = vec![vec![Kin::Unknown; candidates.len()]; candidates.len()];
        for one in 0..candidates.len() {
            for other in 0..candidates.len() {
                kin[one][other] = self
                    .related(&candidates[one].tip, &candidates[other].tip)
                    .await;
            }
        }
        let words: Vec<Word> = candidates.iter().map(|one| one.word).collect();
        let choice = among(&words, |one, other| kin[one][other]);
        let (found, beside) = match choice {
            Choice::One(at) => {
                let tip = &candidates[at].tip;
                let chosen = if *tip == first.tip.id {
                    Found::First
                } else {
                    Found::Instead(tip.clone())
                };
                let found = self
                    .unless_behind(chosen.clone(), tip, answers, ledger, floor)
                    .await;
                let beside = (found == chosen).then_some(at);
                (found, beside)
            }
            Choice::Split(one, other) => (
                Found::Split(self.split(&candidates[one], &candidates[other])),
                Some(one),
            ),
            // Each of them was set back below the floor: as with a single one.
            Choice::None
                if answers == Answers::All && words.iter().all(|word| *word == Word::Signed) =>
            {
                (Found::First, None)
            }
            Choice::None => match self.ahead_of(&first.tip.id, ledger, floor).await {
                Some(here) => (Found::Instead(here), None),
                None => (Found::First, None),
            },
        };
        self.tell_tips(first.remote, candidates, |one| match (&found, beside) {
            _ if candidates[one].word == Word::Refused => RemoteState::Refused,
            (Found::Instead(_), None) => RemoteState::Behind,
            (Found::First | Found::Split(_), None) => RemoteState::Refused,
            (Found::First | Found::Instead(_) | Found::Split(_), Some(beside)) => {
                match kin[one][beside] {
                    Kin::Same => RemoteState::Current,
                    Kin::Ancestor => RemoteState::Behind,
                    Kin::Apart => RemoteState::Apart,
                    Kin::Descendant | Kin::Unknown => RemoteState::Unknown,
                }
            }
        });
        found
    }

    /// What trust says of a tip. Nothing is adopted, and nothing told.
    async fn word_on(&self, tip: &CommitId, ledger: &Ledger, floor: Option<&Floor>) -> Word {
        let (Ok(policy), Ok(Some(raw))) = (
            self.world.policy(),
            self.world.source().commit(tip, self.anchor(floor)).await,
        ) else {
            return Word::Refused;
        };
        match self.decide(&policy, &raw, ledger, floor).await {
            Ok(decision) => match decision.verdict {
                Verdict::Trusted(_) => Word::Accepted,
                // Descent is asked about last: the rest was found good.
                Verdict::Refused(refused) if refused.reason == Reason::NotDescendant => {
                    Word::Signed
                }
                Verdict::Refused(_) | Verdict::Undecided(_) => Word::Refused,
            },
            Err(error) => {
                self.session.notice(&self.world, &chain(&error));
                Word::Refused
            }
        }
    }

    /// How two tips relate, with more of the history where that can tell.
    async fn related(&self, one: &CommitId, other: &CommitId) -> Kin {
        for _ in 0..DEEPENINGS {
            match self.world.source().kin(one, other).await {
                Ok(Kin::Unknown) => {}
                Ok(kin) => return kin,
                Err(error) => {
                    self.session.notice(&self.world, &chain(&error));
                    return Kin::Unknown;
                }
            }
            match self.world.source().deepen().await {
                Ok(Deepened::More) => self.session.forget_history(),
                Ok(Deepened::Nothing) | Err(_) => return Kin::Unknown,
            }
        }
        Kin::Unknown
    }

    /// What was found; but a remote that is silent may be the one that has the tip that is here already, and one that is merely
    /// behind it takes nothing back.
    async fn unless_behind(
        &self,
        found: Found,
        tip: &CommitId,
        answers: Answers,
        ledger: &Ledger,
        floor: Option<&Floor>,
    ) -> Found {
        let here = match answers {
            Answers::All => None,
            Answers::Some => self.ahead_of(tip, ledger, floor).await,
        };
        here.map_or(found, Found::Instead)
    }

    /// The tip that is here already, where what the remotes say is merely behind it.
    async fn ahead_of(
        &self,
        tip: &CommitId,
        ledger: &Ledger,
        floor: Option<&Floor>,
    ) -> Option<CommitId> {
        let here = self.local_tip(floor).await?.id;
        let is_behind = here != *tip && self.related(tip, &here).await == Kin::Ancestor;
        (is_behind && self.word_on(&here, ledger, floor).await == Word::Accepted).then_some(here)
    }

    fn split(&self, one: &Candidate, other: &Candidate) -> Rejection {
        let remotes = self.world.source().remotes();
        let names = |of: &Candidate| {
            let names: Vec<&str> = of
                .remotes
                .iter()
                .filter_map(|at| Some(remotes.get(*at)?.name.as_str()))
                .collect();
            names.join(" and ")
        };
        Rejection {
            commit: one.tip.clone(),
            reason: SPLIT_VIEW.to_owned(),
            message: format!(
                "the remotes contradict each other: {} has {}, {} has {}; both are signed, and neither descends from the other. \
                 Nothing new is taken until one of them takes in the other, or the remote that is wrong is taken out of source.url",
                names(one),
                one.tip,
                names(other),
                other.tip
            ),
        }
    }

    /// What each remote that answered said.
    fn tell_tips(
        &self,
        answered: usize,
        candidates: &[Candidate],
        state: impl Fn(usize) -> RemoteState,
    ) {
        let mut told = BTreeMap::new();
        for (at, one) in candidates.iter().enumerate() {
            for remote in &one.remotes {
                told.insert(*remote, (state(at), one.tip.clone()));
            }
        }
        self.tell_remotes(Some(answered), Some(&told));
    }

    /// Who answered, who does not, and what is known of the tip that each one named.
    fn tell_remotes(
        &self,
        answered: Option<usize>,
        told: Option<&BTreeMap<usize, (RemoteState, CommitId)>>,
    ) {
        let remotes = self.world.source().remotes();
        self.session.update(&self.world, |report| {
            let before = std::mem::take(&mut report.poll.remotes);
            report.poll.remote = None;
            if remotes.len() < 2 {
                return;
            }
            report.poll.remote = answered.map(|at| remotes[at].name.clone());
            for (at, remote) in remotes.iter().enumerate() {
                let before = before.iter().find(|before| before.url == remote.name);
                let now = told.and_then(|told| told.get(&at));
                let tip = match now {
                    Some((_, tip)) => Some(tip.clone()),
                    None => before.and_then(|before| before.tip.clone()),
                };
                let (state, error) = match (&remote.last, now, before) {
                    (Some(Err(why)), ..) => (RemoteState::Silent, Some(why.clone())),
                    (Some(Ok(())) | None, Some((state, _)), _) => (*state, None),
                    (Some(Ok(())), None, Some(before)) if before.state != RemoteState::Silent => {
                        (before.state, None)
                    }
                    (Some(Ok(())), None, _) => (RemoteState::Unknown, None),
                    (None, None, _) => (RemoteState::NotAsked, None),
                };
                report.poll.remotes.push(RemoteStatus {
                    url: remote.name.clone(),
                    state,
                    tip,
                    error,
                });
            }
        });
    }

    /// By what kind of remote the branch is reached now: over a network as soon as one of those answered when it was asked
    /// last.
    pub(super) fn reached_by(&self) -> Reach {
        let answers =
            self.world.source().remotes().into_iter().any(|remote| {
                remote.reach == Reach::Network && matches!(remote.last, Some(Ok(())))
            });
        if answers {
            Reach::Network
        } else {
            Reach::Local
        }
    }
}
