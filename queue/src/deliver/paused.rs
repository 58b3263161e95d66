//! What an administrator pauses while its attempt is under way: no further MAIL goes out for it.

use std::sync::Arc;

use postrider_smtp::{DeliveryStatus, client::MayBegin};
use postrider_store::Queued;

use super::attempt::OngoingAttempt;
use crate::{
    run::paused,
    settle::{LastHop, Postponed},
};

impl OngoingAttempt<'_> {
    /// Says just before MAIL whether the messages of a transaction are paused by then. Each group
    /// is one transaction, and has one destination.
    pub(super) fn unless_paused(&self, groups: &[Vec<Queued>]) -> MayBegin {
        let first = groups.iter().map(|group| group.first());
        let destinations: Vec<_> = first.map(|first| first.map(Queued::destination)).collect();
        let (sites, clock) = (Arc::clone(&self.queue.sites), Arc::clone(&self.queue.clock));
        let pace = Arc::clone(&self.slot.pace);
        MayBegin::new(move |index| {
            let destination = destinations.get(index).and_then(Option::as_ref);
            let is_paused = |name: &str| sites.is_paused(name, clock.now());
            let is_paused = destination.is_some_and(|name| is_paused(name));
            !is_paused && !pace.is_paused(clock.moment())
        })
    }

    /// Gives back the messages that are paused by now. For those whose MAIL was sent before, that
    /// was an attempt.
    pub(super) fn withdraw_paused(&mut self) {
        if !self.queue.sites.has_orders() {
            return;
        }
        let until = self.queue.clock.now();
        for (message, last) in std::mem::take(&mut self.pending) {
            match (self.pause_of(&message), self.said(message.id).cloned()) {
                (None, _) => self.pending.push((message, last)),
                (Some(_), Some(said)) => self.end(message, said, LastHop::SendsNoDsns),
                (Some(status), None) => self.postponed.push(Postponed {
                    message,
                    status,
                    until,
                    failing: false,
                }),
            }
        }
    }

    /// Why a message is paused. None: it is not.
    fn pause_of(&self, message: &Queued) -> Option<DeliveryStatus> {
        let (now, destination) = (self.queue.now(), message.destination());
        if self.slot.pace.is_paused(now.moment) {
            return Some(paused(&self.plan.site));
        }
        let sites = &self.queue.sites;
        let is_paused = sites.is_paused(&destination, now.time);
        is_paused.then(|| paused(&destination))
    }
}
