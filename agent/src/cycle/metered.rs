//! A metered link: what was spent, what is left, and what waits for it.
//!
//! Polls are spread so that they alone use up half of git's budget at most; a fetch is never cut. An image that
//! a new revision needs is pulled while it fits into what is left, as far as its size is known: the engine tells it as the
//! pull goes on, and one that turns out too large is given up and remembered. A revision without a new image goes on.
//! Healing is never held; what it pulls is counted.
//!
//! Limits: what was spent is written down with the report, in steps of a sixteenth of the smallest budget, so an unclean end
//! forgets less than that, and what a pull that it ended had fetched. Nothing is counted while the link is not metered.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use evenkeel_schema::agent_config::{Allowance, MeteredWhen};
use evenkeel_schema::image::ImageRef;
use tokio::time::Instant;

use super::Agent;
use super::hold::Haste;
use crate::domain::hold::{HeldBy, Hold};
use crate::domain::metered::{Account, Link, MeteredReport, Spent};
use crate::domain::outcome::{AT_HAND, PullProgress};
use crate::port::World;
use crate::port::clock::Clock as _;
use crate::port::source::Source as _;
use crate::schedule::budget::{self, Renewed};

/// How long the link is what it was found to be: a device seldom goes from one network to another.
const ASKED_EVERY: Duration = Duration::from_secs(5 * 60);
/// What a pull takes beside its layers: a login, the index, the manifest, the configuration.
const PULL: u64 = 16 * 1024;

/// What a pull is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A new revision: it can wait.
    Change,
    /// What is good already, or is begun, or the first revision of all, or what a person has no time for: it cannot.
    Keeping,
}

/// What is remembered of the link, in memory.
#[derive(Debug, Default)]
pub(super) struct Metered {
    /// Of git and of images; `None`: not read from the report yet.
    spent: RefCell<Option<[Spent; 2]>>,
    /// When this process counted first.
    began: Cell<Option<Instant>>,
    /// When each one's day and month were renewed last.
    renewed: RefCell<[[Option<Instant>; 2]; 2]>,
    link: Cell<Option<(Instant, Link)>>,
    /// What the source had received when that was counted last.
    received: Cell<u64>,
    /// When the remote was asked last, and what that took.
    polled: Cell<Option<(Instant, u64)>>,
    /// What images turned out to need, at least.
    sizes: RefCell<BTreeMap<String, u64>>,
}

/// A clock that nothing has vouched for by then is all that there will be: it may move a budget's periods on after all, as
/// slowly as any clock that jumps, so that a budget does not stay used up for good.
const CLOCK_WITHIN: Duration = Duration::from_secs(12 * 60 * 60);

const GIT: usize = 0;
const IMAGES: usize = 1;

impl<W: World> Agent<W> {
    /// Whether the link is metered now.
    pub(super) async fn link(&self) -> Link {
        let metered = &self.session.metered;
        let link = match self.settings.metered.when {
            MeteredWhen::Never => return Link::Unmetered,
            MeteredWhen::Always => Link::Metered,
            MeteredWhen::Auto => match metered.link.get() {
                Some((at, link)) if at.elapsed() < ASKED_EVERY => return link,
                Some(_) | None => self.world.link().await,
            },
        };
        metered.link.set(Some((Instant::now(), link)));
        let rate = self.settings.metered.rate;
        self.world
            .source()
            .cap_rate(rate.filter(|_| link == Link::Metered));
        link
    }

    /// Whether the remote is to be asked in a pass that nobody asked for.
    pub(super) async fn is_poll_due(&self) -> bool {
        let section = &self.settings.metered;
        let Some((at, cost)) = self.session.metered.polled.get() else {
            return true;
        };
        if section.git.is_empty() || self.link().await != Link::Metered {
            return true;
        }
        let now = self.world.clock().now();
        let spent = self.spent(GIT);
        let interval = self.settings.interval;
        let pace = budget::pace(interval, &section.git, &spent, cost, now);
        // The passes' own jitter: at the pass that is next to it.
        pace <= interval || at.elapsed() + interval / 2 >= pace
    }

    /// The remote was asked: what that took.
    pub(super) async fn count_poll(&self) {
        let metered = &self.session.metered;
        let received = self.world.source().received();
        let bytes = received.saturating_sub(metered.received.replace(received));
        // A fetch is no measure of what a poll takes.
        let before = metered.polled.get().map_or(budget::POLL, |(_, cost)| cost);
        let cost = bytes.min(before.max(budget::POLL));
        metered.polled.set(Some((Instant::now(), cost)));
        if self.link().await == Link::Metered {
            self.count(GIT, bytes);
        }
        self.tell_metered();
    }

    /// A pull has ended, with so many bytes.
    pub(super) async fn count_pull(&self, bytes: u64) {
        if self.link().await == Link::Metered {
            self.count(IMAGES, bytes.saturating_add(PULL));
            self.tell_metered();
        }
    }

    /// What keeps a new revision from pulling this image now.
    pub(super) async fn holds_pull(&self, image: &ImageRef, purpose: Purpose) -> Option<Hold> {
        let allowances = &self.settings.metered.images;
        if purpose == Purpose::Keeping
            || allowances.is_empty()
            || self.link().await != Link::Metered
        {
            return None;
        }
        let spent = self.spent(IMAGES);
        let (allowance, left) = budget::tightest(allowances, &spent)?;
        let sizes = self.session.metered.sizes.borrow();
        let needs = sizes.get(image.as_str()).copied();
        (left == 0 || needs.is_some_and(|needs| needs > left))
            .then(|| self.short_of(image, allowance, left, needs))
    }

    /// What keeps the agent's own next version from being fetched now.
    pub(super) async fn holds_binary(&self) -> Option<Hold> {
        if self.session.haste.get() == Haste::Now || self.link().await != Link::Metered {
            return None;
        }
        let spent = self.spent(GIT);
        let (allowance, left) = budget::tightest(&self.settings.metered.git, &spent)?;
        let message = format!(
            "what metered.git allows this {} is used up",
            allowance.per.word()
        );
        let end = budget::end(self.world.clock().now(), allowance.per);
        (left == 0).then(|| Hold::until(HeldBy::Metered, message, end))
    }

    /// What is left for a pull of a new revision; `None`: anything.
    pub(super) async fn left_for(&self, purpose: Purpose) -> Option<u64> {
        if purpose == Purpose::Keeping || self.link().await != Link::Metered {
            return None;
        }
        let spent = self.spent(IMAGES);
        budget::tightest(&self.settings.metered.images, &spent).map(|(_, left)| left)
    }

    /// A pull turned out to need more than is left.
    pub(super) fn too_large(&self, image: &ImageRef, progress: &PullProgress) -> Option<Hold> {
        let needs = total(progress);
        self.session
            .metered
            .sizes
            .borrow_mut()
            .insert(image.to_string(), needs);
        let spent = self.spent(IMAGES);
        let (allowance, left) = budget::tightest(&self.settings.metered.images, &spent)?;
        Some(self.short_of(image, allowance, left, Some(needs)))
    }

    fn short_of(
        &self,
        image: &ImageRef,
        allowance: &Allowance,
        left: u64,
        needs: Option<u64>,
    ) -> Hold {
        let per = allowance.per.word();
        let needs_text = needs.map_or_else(String::new, |needs| {
            format!(", needs {} or more", shown(needs))
        });
        let message = format!(
            "the image {image} is not on this device{needs_text}, and of the {} a {per} that metered.images allows {} are left; a \
             revision without a new image goes on",
            shown(allowance.bytes),
            shown(left)
        );
        if needs.is_some_and(|needs| needs > allowance.bytes) {
            let message = format!("{message}; it never fits: raise metered.images");
            return Hold::open(HeldBy::Metered, message);
        }
        let end = budget::end(self.world.clock().now(), allowance.per);
        Hold::until(HeldBy::Metered, message, end)
    }

    fn spent(&self, kind: usize) -> Spent {
        self.with_spent(|spent| spent[kind])
    }

    fn count(&self, kind: usize, bytes: u64) {
        self.with_spent(|spent| budget::spend(&mut spent[kind], bytes));
    }

    /// What was spent, in the present periods. A clock that shows less than is known to have passed says nothing of them, for
    /// [`CLOCK_WITHIN`].
    fn with_spent<T>(&self, change: impl FnOnce(&mut [Spent; 2]) -> T) -> T {
        let metered = &self.session.metered;
        let mut kept = metered.spent.borrow_mut();
        let spent = kept.get_or_insert_with(|| {
            let before = self.session.report().metered.unwrap_or_default();
            [before.git.counted, before.images.counted]
        });
        let clock = self.world.clock();
        let began = metered.began.get().unwrap_or_else(Instant::now);
        metered.began.set(Some(began));
        let is_known = clock.now() >= clock.build_time() && !clock.awaits_time();
        if is_known || began.elapsed() >= CLOCK_WITHIN {
            let mut renewed = metered.renewed.borrow_mut();
            for (spent, at) in spent.iter_mut().zip(renewed.iter_mut()) {
                let since = Renewed {
                    day: at[0].map(|at| at.elapsed()),
                    month: at[1].map(|at| at.elapsed()),
                };
                let anew = budget::roll(spent, clock.now(), since);
                if anew.day {
                    at[0] = Some(Instant::now());
                }
                if anew.month {
                    at[1] = Some(Instant::now());
                }
            }
        }
        change(spent)
    }

    /// What `status` shows.
    pub(super) fn tell_metered(&self) {
        let section = &self.settings.metered;
        let told = (section.when != MeteredWhen::Never).then(|| {
            let account = |kind: usize, allowances: &[Allowance]| {
                let counted = self.spent(kind);
                Account {
                    counted,
                    budgets: budget::told(allowances, &counted),
                }
            };
            MeteredReport {
                link: self
                    .session
                    .metered
                    .link
                    .get()
                    .map_or(Link::Unknown, |(_, link)| link),
                git: account(GIT, &section.git),
                images: account(IMAGES, &section.images),
            }
        });
        self.session
            .update(&self.world, |report| report.metered = told);
    }
}

/// What was read on this machine is not counted.
fn over_a_network(progress: &PullProgress) -> impl Iterator<Item = &(u64, u64)> {
    let parts = progress.iter().filter(|(part, _)| part.as_str() != AT_HAND);
    parts.map(|(_, bytes)| bytes)
}

/// Bytes that came.
pub(super) fn fetched(progress: &PullProgress) -> u64 {
    over_a_network(progress).map(|(now, _)| now).sum()
}

/// Bytes that have to come, as far as it was told.
pub(super) fn total(progress: &PullProgress) -> u64 {
    over_a_network(progress)
        .map(|(now, all)| now.max(all))
        .sum()
}

/// A size for people.
fn shown(bytes: u64) -> String {
    crate::domain::text::size(bytes)
}
