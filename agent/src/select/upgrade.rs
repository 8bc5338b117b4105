//! What the agent does about its own version. Pure.
//!
//! **The rule.** The version follows the newest commit that trust accepts, whether that revision becomes good here or is refused:
//! it is no part of what is rolled back, so that a rollback of the apps, by the gate or by hand, never moves the agent to and
//! fro. What is not declared (any more) stays as it is. A generation that spent its starts is not tried again until another
//! one is declared. A lower version is one like any other: it is signed, too.
//!
//! A switch waits until the device is calm: the remote answered in this pass, nothing is being tried, put off or held by a
//! person, and what runs is healthy. So does the beginning of a download; one that is under way goes on beside all else.

use evenkeel_schema::agent_config::Managed;

use crate::domain::agent::{Declared, Generation, Release};

/// The agent that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Its version.
    pub version: String,
    /// Its generation; `None`: the binary of the package.
    pub generation: Option<Generation>,
}

/// The generation that has not proven itself yet, as its link and its directory say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    /// Which.
    pub generation: Generation,
    /// What became of its starts.
    pub starts: NextStarts,
}

/// What became of the starts of a generation that has not proven itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStarts {
    /// It has some left.
    Left,
    /// It has some left, and was passed over once before.
    LeftAgain,
    /// It ended in each of them.
    Spent,
    /// It ran, and had no healthy pass within its deadline.
    Late,
}

/// Everything that the decision depends on.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'s> {
    /// Who says which version runs.
    pub managed: Managed,
    /// Why there is nobody who would put the old agent back, where that is so.
    pub starter: Result<(), &'s str>,
    /// What runs.
    pub running: &'s Running,
    /// What has not proven itself.
    pub next: Option<&'s Next>,
    /// What was refused last, and why.
    pub refused: Option<(&'s Generation, &'s str)>,
    /// What is declared.
    pub declared: &'s Declared,
    /// Whether that is here, ready to be started.
    pub staged: Staged,
    /// Why this is no moment for a change.
    pub calm: Result<(), &'s str>,
}

/// Whether what is declared is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Staged {
    /// It is.
    Yes,
    /// It is not.
    No,
    /// It is on its way.
    OnItsWay,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing; why what runs is not what is declared, where it is not.
    Rest(Option<String>),
    /// Get it.
    Fetch(Release),
    /// Start it.
    Switch(Generation),
    /// Start the package's own again.
    HandBack,
}

/// The next step.
#[must_use]
pub fn decide(scene: &Scene<'_>) -> Step {
    let because = |why: &str| Step::Rest(Some(why.to_owned()));
    if scene.managed == Managed::Package {
        return by_package(scene);
    }
    if is_on_trial(scene.running, scene.next) {
        return because("it is on trial: it has had no healthy pass yet");
    }
    let release = match scene.declared {
        Declared::Nothing => return Step::Rest(None),
        Declared::Unknown(why) => return because(why),
        Declared::Release(release) => release,
    };
    let wanted = release.generation();
    if is_running(scene.running, release) {
        return Step::Rest(None);
    }
    if let Some((refused, why)) = scene.refused
        && *refused == wanted
    {
        return because(&format!(
            "{why}; it is not tried again until another binary is declared"
        ));
    }
    if let Err(why) = scene.starter {
        return because(why);
    }
    if let Some(next) = scene.next {
        return because(&format!(
            "{} is being judged: this pass says why it did not stay",
            next.generation
        ));
    }
    match (scene.staged, scene.calm) {
        (Staged::OnItsWay, _) => because("it is being downloaded"),
        (Staged::No, Ok(())) => Step::Fetch(release.clone()),
        (Staged::Yes, Ok(())) => Step::Switch(wanted),
        (Staged::No, Err(why)) => because(&format!("its download waits: {why}")),
        (Staged::Yes, Err(why)) => because(&format!("it is here, and waits: {why}")),
    }
}

fn by_package(scene: &Scene<'_>) -> Step {
    match (&scene.running.generation, scene.starter, scene.calm) {
        (Some(_), Ok(()), Ok(())) => Step::HandBack,
        (Some(_), Err(why), _) => Step::Rest(Some(why.to_owned())),
        (Some(_), Ok(()), Err(why)) => {
            Step::Rest(Some(format!("the package's own binary waits: {why}")))
        }
        (None, _, _) => match scene.declared {
            Declared::Release(release) if !is_running(scene.running, release) => Step::Rest(Some(
                "agent.managed is `package`: the package manager alone says which version runs"
                    .to_owned(),
            )),
            Declared::Release(_) | Declared::Nothing | Declared::Unknown(_) => Step::Rest(None),
        },
    }
}

/// Whether what runs is what is declared. The package's own binary of that version is as good as a generation of it.
fn is_running(running: &Running, release: &Release) -> bool {
    match &running.generation {
        Some(generation) => *generation == release.generation(),
        None => running.version == release.version.as_str(),
    }
}

/// Whether what runs has not proven itself yet.
#[must_use]
pub fn is_on_trial(running: &Running, next: Option<&Next>) -> bool {
    next.is_some_and(|next| Some(&next.generation) == running.generation.as_ref())
}

/// Whether the remote answered in the first pass of the agent that is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// It did.
    Yes,
    /// It did not.
    No,
}

/// What an agent that is back says of the one that did not stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is not tried again, and why.
    Refuse(String),
    /// It is tried again, and why.
    Forgive(String),
}

/// Judges a generation that did not prove itself, in the first pass of the one that runs instead.
#[must_use]
pub fn judge(next: &Next, reached: Reached) -> Verdict {
    match (next.starts, reached) {
        (NextStarts::Spent, _) => Verdict::Refuse(
            "it ended in each of its starts before a healthy pass, and the agent before it is back"
                .to_owned(),
        ),
        (NextStarts::Late, Reached::Yes) => Verdict::Refuse(
            "it had no healthy pass within its deadline, and the agent before it is back"
                .to_owned(),
        ),
        (NextStarts::Late, Reached::No) => Verdict::Forgive(
            "it had no healthy pass within its deadline; the remote does not answer this agent either, so it is not blamed"
                .to_owned(),
        ),
        (NextStarts::Left, _) => Verdict::Forgive(
            "it was passed over at its start (the log of the start says why); it is staged again"
                .to_owned(),
        ),
        (NextStarts::LeftAgain, _) => Verdict::Refuse(
            "it was passed over at its start, twice: the log of the start says why".to_owned(),
        ),
    }
}

#[cfg(test)]
#[path = "upgrade/tests.rs"]
mod tests;
