//! What is not to be sent by now, while its attempt is under way: an administrator pauses it, or
//! the site takes no more of its sender's domain for a while. No further MAIL goes out for it.

use std::{collections::HashSet, sync::Arc};

use postrider_smtp::{DeliveryStatus, client::MayBegin};
use postrider_store::Queued;

use super::attempt::OngoingAttempt;
use crate::{
    run::paused,
    schedule::Share,
    settle::{LastHop, Postponed},
};

impl OngoingAttempt<'_> {
    /// Says just before MAIL whether the messages of a transaction may begin: they are not paused
    /// by then, and make no way for others. Each group is one transaction, and has one destination.
    pub(super) fn may_begin(&self, groups: &[Vec<Queued>]) -> MayBegin {
        let first = groups.iter().map(|group| group.first());
        let destinations: Vec<_> = first.map(|first| first.map(Queued::destination)).collect();
        let (sites, clock) = (Arc::clone(&self.queue.sites), Arc::clone(&self.queue.clock));
        let pace = Arc::clone(&self.slot.pace);
        let shares: Vec<_> = groups.iter().map(Share::of).collect();
        // What was begun at another host goes on.
        let begun = |group: &Vec<Queued>| group.iter().any(|it| self.is_begun(it.id));
        let goes_on: HashSet<usize> = (0..)
            .zip(groups)
            .filter(|(_, it)| begun(it))
            .map(|(at, _)| at)
            .collect();
        let hand = self
            .slot
            .hand
            .as_ref()
            .map(Arc::downgrade)
            .unwrap_or_default();
        MayBegin::new(move |index| {
            let destination = destinations.get(index).and_then(Option::as_ref);
            let is_paused = |name: &str| sites.is_paused(name, clock.now());
            let is_paused = destination.is_some_and(|name| is_paused(name));
            if is_paused || pace.is_paused(clock.moment()) {
                return false;
            }
            let share = shares.get(index).and_then(|shares| shares.first());
            match (hand.upgrade(), share) {
                (Some(hand), Some(share)) => hand.begin(share, goes_on.contains(&index)),
                _ => true,
            }
        })
    }

    /// Gives back the messages that are paused by now, and those whose sender's domain waits. For
    /// those whose MAIL was sent before, that was an attempt.
    pub(super) fn withdraw(&mut self) {
        let now = self.queue.now();
        let ordered = self.queue.sites.has_orders();
        if !ordered && !self.slot.pace.any_sender_waits(now.moment) {
            return;
        }
        for (message, last) in std::mem::take(&mut self.pending) {
            let paused = match ordered {
                true => self.pause_of(&message),
                false => None,
            };
            let (status, until, failing) = match (paused, sender_domain(&message)) {
                (Some(status), _) => (status, now.time, false),
                (None, domain) => match self.slot.pace.sender_waits(&domain, now.moment) {
                    Some(wait) => (wait.status, now.time_of(wait.until), wait.failing),
                    None => {
                        self.pending.push((message, last));
                        continue;
                    }
                },
            };
            match self.said(message.id).cloned() {
                Some(said) => self.end(message, said, LastHop::SendsNoDsns),
                None => self.postponed.push(Postponed {
                    message,
                    status,
                    until,
                    failing,
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

/// The domain of the author, or else of the reverse-path. Empty: there is none.
pub(super) fn sender_domain(message: &Queued) -> String {
    let author = message.common.from.as_ref();
    let author = author.or(message.reverse_path.address());
    author.map_or_else(String::new, |address| address.host.ascii())
}
