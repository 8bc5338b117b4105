//! Which revision a person's `rollback` means, and the pin that holds the device there.

use super::Daemon;
use super::asks::{Answer, failed};
use crate::domain::history::{GoodRevision, Ledger, Pin};
use crate::port::World;
use crate::port::clock::Clock as _;
use crate::port::journal::Journal as _;

impl<W: World> Daemon<'_, W> {
    pub(super) fn roll_back(&self, rev: Option<&str>) -> Result<(), Answer> {
        let journal = self.agent.world.journal();
        let ledger = journal.ledger();
        let target =
            rollback_target(&ledger, rev).map_err(|message| Answer::Failed { code: 2, message })?;
        let lost = journal.incomplete().map_err(|error| failed(1, &error))?;
        if lost.contains(target) {
            let message = format!(
                "what this device keeps of {} is damaged, and could not be made again: name another revision, or try once \
                 the remote answers",
                target.commit().short()
            );
            return Err(Answer::Failed { code: 1, message });
        }
        let pin = Pin {
            commit: target.commit().clone(),
            at: self.agent.world.clock().now(),
        };
        journal
            .set_pin(Some(&pin))
            .map_err(|error| failed(1, &error))
    }
}

/// The good revision that `rollback` means: the one whose id begins with `rev`, or the previous one with other content
/// than what is in force now.
///
/// # Errors
/// One sentence with the next move.
pub fn rollback_target<'l>(
    ledger: &'l Ledger,
    rev: Option<&str>,
) -> Result<&'l GoodRevision, String> {
    let list = || {
        let kept: Vec<&str> = ledger
            .good
            .iter()
            .map(|good| good.commit().short())
            .collect();
        format!("kept here: {}", kept.join(", "))
    };
    if let Some(rev) = rev {
        let rev = rev.to_ascii_lowercase();
        let mut matching = ledger
            .good
            .iter()
            .filter(|good| rev.len() >= 4 && good.commit().as_str().starts_with(&rev));
        return match (matching.next(), matching.next()) {
            (Some(one), None) => Ok(one),
            (Some(_), Some(_)) => Err(format!("`{rev}` is not one revision alone; {}", list())),
            (None, _) => Err(format!(
                "`{rev}` is not a good revision that is kept on this device (give at least 4 digits); {}",
                list()
            )),
        };
    }
    let current = match &ledger.pin {
        Some(pin) => ledger.good.iter().find(|good| *good.commit() == pin.commit),
        None => ledger.last_good(),
    };
    if let (None, Some(trial), Some(good)) = (&ledger.pin, ledger.underway(), current)
        && trial.content != *good.content()
    {
        // Something newer is being tried: back from that is where the device was before.
        return Ok(good);
    }
    let Some(current) = current else {
        return Err(
            "nothing has been good on this device yet: there is nothing to go back to".to_owned(),
        );
    };
    ledger
        .good
        .iter()
        .skip_while(|good| *good != current)
        .find(|good| good.content() != current.content())
        .ok_or_else(|| {
            format!(
                "no older good revision with other content than {} is kept on this device",
                current.commit().short()
            )
        })
}
