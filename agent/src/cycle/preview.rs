//! What a pass would do, without doing it: for `plan`.

use super::Agent;
use super::keep::why_text;
use super::prepare::{Obstacle, as_before, images_here};
use super::session::chain;
use crate::domain::desired::{Contents, Resolved};
use crate::domain::history::{GoodRevision, Ledger};
use crate::domain::hold::Hold;
use crate::domain::observed::ObservedState;
use crate::domain::outcome::Outcome;
use crate::domain::revision::{CommitId, ContentId};
use crate::plan::{self, Action, Blocked, Mode, Plan};
use crate::port::World;
use crate::port::clock::Clock as _;
use crate::port::files::Files as _;
use crate::port::journal::Journal as _;
use crate::select::{self, Admission, Rejection, Target, Urgency, Why};
use crate::trust::verified::VerifiedCommit;

/// Files beyond this many bytes are not read for a diff.
const LONGEST_DIFFED: u64 = 256 * 1024;

/// What a pass would do.
#[derive(Debug)]
pub struct Preview {
    /// `advance`, `keep` or `hold`.
    pub target: &'static str,
    /// The revision it would be at.
    pub revision: Option<CommitId>,
    /// What holds the tip back on purpose.
    pub held: Option<Hold>,
    /// Why it would not advance, where it would not.
    pub why: Option<String>,
    /// The exit code that fits: 0, or 3 where the tip is refused, or 1 where it cannot be told now.
    pub code: u8,
    /// The steps.
    pub plan: Plan,
    /// What was seen.
    pub observed: ObservedState,
    /// Old and new contents of files, for the diff; none that a secret went into.
    pub contents: Contents,
}

impl<W: World> Agent<W> {
    /// What a pass would do now. It fetches and verifies as a pass does, and changes nothing on the device.
    ///
    /// # Errors
    /// The outcome that a pass would have at once.
    pub async fn preview(&self) -> Result<Preview, Outcome> {
        let failed = |error: &(dyn std::error::Error + 'static)| Outcome::Deferred {
            reason: "journal".to_owned(),
            message: chain(error),
        };
        let ledger = self.world.journal().ledger();
        let floor = self.floor(&ledger).await?;
        let newest = self
            .look(&ledger, floor.as_ref(), Urgency::Scheduled)
            .await
            .map_err(|error| failed(&error))?;
        let ledger = self.world.journal().ledger();
        let now = self.world.clock().now();
        let waits = self.session.waits(ledger.deferred.as_ref(), now);
        match select::choose(newest, &ledger, waits, Urgency::Asked) {
            Target::Hold(why) => Ok(hold(&why)),
            Target::Keep(good, why) => self.preview_keep(&good, &ledger, &why).await,
            Target::Advance(commit) => {
                let resolved = match self.resolve(&commit).await {
                    Ok(resolved) => resolved,
                    Err(Obstacle::Rejected(rejection)) => {
                        return self.preview_refused(&ledger, rejection).await;
                    }
                    Err(Obstacle::Waiting(waiting)) => {
                        return Err(Outcome::Deferred {
                            reason: waiting.reason.to_owned(),
                            message: waiting.message,
                        });
                    }
                };
                let admission = select::admit(&resolved.state.content_id(), &ledger);
                match &admission {
                    Admission::Refused(refusal) => {
                        let why = Why::Refused(as_before(commit.id(), refusal.clone()));
                        return match ledger.last_good() {
                            Some(good) => self.preview_keep(good, &ledger, &why).await,
                            None => Ok(hold(&why)),
                        };
                    }
                    Admission::SameAsLastGood | Admission::Try => {}
                }
                let hold = self.foreseen_hold(&commit, &resolved, &ledger).await;
                if let (Some(hold), Some(good), Admission::Try) =
                    (hold, ledger.last_good(), &admission)
                    && self.allow(&commit, &resolved).is_ok()
                {
                    let why = Why::Held(commit.id().clone(), hold);
                    return self.preview_keep(good, &ledger, &why).await;
                }
                match self.allow(&commit, &resolved) {
                    Ok(()) => {
                        let revision = commit.id().clone();
                        Ok(self
                            .preview_of("advance", revision, resolved, &ledger, Mode::Advance)
                            .await)
                    }
                    Err(rejection) => self.preview_refused(&ledger, rejection).await,
                }
            }
        }
    }

    /// What would hold this commit now.
    async fn foreseen_hold(
        &self,
        commit: &VerifiedCommit,
        resolved: &Resolved,
        ledger: &Ledger,
    ) -> Option<Hold> {
        let state = &resolved.state;
        let observed = self
            .observe_for(state, &ledger.inventory, Mode::Advance)
            .await;
        let images = images_here(state, &observed);
        if let Some(hold) = self.held(commit, resolved, ledger, images) {
            return Some(hold);
        }
        let plan = plan::plan(state, &observed, &ledger.inventory, Mode::Advance);
        self.locked(commit.id(), resolved, &plan, &observed, ledger)
            .await
    }

    async fn preview_refused(
        &self,
        ledger: &Ledger,
        rejection: Rejection,
    ) -> Result<Preview, Outcome> {
        let why = Why::Rejected(rejection);
        match ledger.last_good() {
            Some(good) => self.preview_keep(good, ledger, &why).await,
            None => Ok(hold(&why)),
        }
    }

    async fn preview_keep(
        &self,
        good: &GoodRevision,
        ledger: &Ledger,
        why: &Why,
    ) -> Result<Preview, Outcome> {
        let kept = self
            .world
            .journal()
            .kept(good)
            .map_err(|error| Outcome::Deferred {
                reason: "journal".to_owned(),
                message: chain(&error),
            })?;
        let observed = self.observe(&kept.state, &ledger.inventory).await;
        let excluded = self.excluded(good, &kept.state, why);
        let (mut plan, left) =
            self.plan_keep(&kept.state, &observed, &ledger.inventory, &excluded.left);
        if excluded.all {
            plan = Plan::default();
        }
        plan.blocked.extend(left.iter().map(|step| Blocked {
            resource: step.resource.clone(),
            why: format!("{step}: the guard of this device excludes it"),
        }));
        let excluded = excluded.why(good, &[]);
        let why_not = match why {
            Why::AtTip => None,
            _ => Some(why_text(why)),
        };
        let held = match why {
            Why::Held(_, hold) => Some(hold.clone()),
            _ => None,
        };
        Ok(Preview {
            target: if held.is_some() { "hold" } else { "keep" },
            held,
            revision: Some(good.commit().clone()),
            code: if excluded.is_some() { 3 } else { code_of(why) },
            why: match (why_not, excluded) {
                (Some(why), Some(excluded)) => Some(format!("{why}; {excluded}")),
                (why, excluded) => why.or(excluded),
            },
            contents: self.shown(&plan, kept.contents),
            plan,
            observed,
        })
    }

    async fn preview_of(
        &self,
        target: &'static str,
        revision: CommitId,
        resolved: Resolved,
        ledger: &Ledger,
        mode: Mode,
    ) -> Preview {
        let observed = self
            .observe_for(&resolved.state, &ledger.inventory, mode)
            .await;
        let plan = plan::plan(&resolved.state, &observed, &ledger.inventory, mode);
        Preview {
            target,
            held: None,
            revision: Some(revision),
            why: None,
            code: 0,
            contents: self.shown(&plan, resolved.contents),
            plan,
            observed,
        }
    }

    /// The contents that a diff may show: new ones without secrets, and what stands there now.
    fn shown(&self, plan: &Plan, mut contents: Contents) -> Contents {
        for step in &plan.steps {
            match &step.action {
                Action::WriteFile { file, .. } if file.secret => {
                    contents.remove(&file.content);
                }
                Action::WriteFile { path, .. }
                | Action::RemoveFile { path, .. }
                | Action::RestoreFile { path, .. } => {
                    if let Some(old) = self.world.files().read(path, LONGEST_DIFFED) {
                        contents.insert(ContentId::of(&old), old);
                    }
                }
                _ => {}
            }
        }
        contents
    }
}

fn code_of(why: &Why) -> u8 {
    match why {
        Why::Rejected(_) => 3,
        Why::Unknown(_) | Why::HeldBack(_) => 1,
        Why::AtTip
        | Why::Pinned(_)
        | Why::Paused
        | Why::Refused(_)
        | Why::TriesSpent(..)
        | Why::Held(..)
        | Why::Deferred { .. } => 0,
    }
}

fn hold(why: &Why) -> Preview {
    Preview {
        target: "hold",
        held: None,
        revision: None,
        why: Some(why_text(why)),
        code: code_of(why),
        plan: Plan::default(),
        observed: ObservedState {
            files: std::collections::BTreeMap::new(),
            engine: crate::domain::observed::Seen::Absent,
        },
        contents: Contents::new(),
    }
}
