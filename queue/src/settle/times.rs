//! When something is to be told of a message that waits, and when its time is over.

use std::time::Duration;

use postrider_store::{Queued, Time};

use super::wants_delay_mail;
use crate::{Queue, deadline, schedule};

/// The times that lie before a queued message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// The sender is told of the delay then; None: the sender was told, or does not want it.
    pub delay_told: Option<Time>,
    /// The message fails then.
    pub fails: Time,
}

impl Queue {
    /// All waits between attempts together.
    pub(super) fn all_waits(&self) -> Duration {
        self.statics.queue.retry_intervals.iter().sum()
    }

    /// When the time of a message is over: as long after it was first due as all waits between
    /// attempts take together. It stands still while the site or the domain is paused. This depends
    /// on nothing that a restart forgets.
    pub(crate) fn expires(&self, message: &Queued) -> Time {
        let waits = self.all_waits() + self.stood_still(message);
        message.first_due.after(waits)
    }

    /// For how long a message stood still, since its site or its domain was paused.
    pub(super) fn stood_still(&self, message: &Queued) -> Duration {
        let site = self.site_of(message);
        let (domain, now) = (message.destination(), self.clock.now());
        let sites = &self.sites;
        sites.stood_still(site.as_ref(), &domain, message.first_due, now)
    }

    /// When the sender of a queued message will be told of the delay, and when the message will
    /// fail if every attempt fails.
    #[must_use]
    pub fn outlook(&self, message: &Queued) -> Outlook {
        let delay = self.statics.queue.delay_dsn_after;
        let config = self.config.load();
        let account = config.accounts.get(&message.common.account);
        let told = !message.delay_told && wants_delay_mail(message, account);
        Outlook {
            delay_told: told.then(|| deadline::told_at(message, delay)),
            fails: deadline::ends_at(message, self.gives_up_at(message, message.next_attempt)),
        }
    }

    /// When a message fails if all attempts fail: at the last one, or when its time is over.
    pub(super) fn gives_up_at(&self, message: &Queued, next: Time) -> Time {
        let last = schedule::gives_up_at(next, message.attempts, &self.statics.queue);
        last.min(self.expires(message)).max(next)
    }

    /// Whether a message ends whose site fails: its time is over.
    pub(crate) fn is_expired(&self, message: &Queued) -> bool {
        self.clock.now() >= self.expires(message)
    }

    /// When something is to be told of a message that waits: of its delay, or of its end.
    pub(crate) fn next_word(&self, message: &Queued, failing: bool) -> Time {
        let stood_still = self.stood_still(message);
        let delay = self.statics.queue.delay_dsn_after + stood_still;
        let told = (!message.delay_told).then(|| deadline::told_at(message, delay));
        let ends = failing.then(|| self.expires(message));
        let attempted = message.results.last().map(|last| last.start);
        let attempted = attempted
            .unwrap_or(message.first_due)
            .max(message.first_due);
        let untried = attempted.after(self.all_waits() + stood_still);
        let words = told.into_iter().chain(ends);
        deadline::ends_at(message, words.fold(untried, Time::min))
    }
}
