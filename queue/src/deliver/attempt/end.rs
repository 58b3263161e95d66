//! The end of an attempt: what becomes of the messages without a result.

use std::collections::HashSet;

use postrider_smtp::DeliveryStatus;
use postrider_store::{Lane, Moment, Queued, Time};
use rand::RngExt;

use super::{Delivered, OngoingAttempt, PAUSE};
use crate::{
    judge,
    next_hop::PlanKey,
    schedule::Barred,
    settle::{LastHop, Postponed},
};

/// What stood in the way of connections.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// We have no means for a connection, or our resolver is out of order. This is the moment of
    /// the next try.
    pub(super) used_up: Option<Moment>,
    /// A fault of ours stands in the way to an address.
    pub(super) no_way: bool,
    /// A host did not answer as it should.
    pub(super) failed: bool,
    /// A look-up of a host had no answer.
    pub(super) unanswered: bool,
    /// All places at an address are taken.
    pub(super) crowded: bool,
    /// An address was left out, as connections to it failed lately.
    pub(super) marked: bool,
    /// A host failed in a way that leaves no mark on its address, or an address was not tried.
    pub(super) unmarked: bool,
    /// No connection may be made before: a rate is used up.
    pub(super) no_token: Option<Moment>,
    /// No source may send now. It is the bar that ends first.
    pub(super) barred: Option<Barred>,
    /// The time of the attempt was over before an address could be tried.
    pub(super) late: bool,
    /// The TLS of a host is not what the messages or their domain demand.
    pub(super) refused: bool,
}

impl Trouble {
    /// A limit or a fault of ours stands in the way, and may not do so in a moment.
    pub(super) const fn is_of_a_moment(&self) -> bool {
        self.used_up.is_some() || self.no_token.is_some() || self.crowded || self.late
    }

    /// The rules of TLS stand in the way, and nothing that may be over in a moment.
    const fn is_refused(&self) -> bool {
        self.refused && !self.is_of_a_moment()
    }
}

impl OngoingAttempt<'_> {
    /// Ends the attempt. A message whose MAIL was sent gets the last thing that a host said of it,
    /// and a message that a host can't take gets what the host lacks. If no connection could be
    /// made, that counts for one of the others. The rest is postponed.
    pub(in crate::deliver) fn finish(mut self) -> Delivered {
        let mut rest = std::mem::take(&mut self.pending);
        let hops = &self.plan.hops;
        let lacking: Vec<_> = rest
            .extract_if(.., |(message, status)| {
                let lack = self.lacks.status(message.id, hops);
                let counts = |lack: &DeliveryStatus| lack.permanent || !self.is_begun(message.id);
                let lack = lack.filter(counts);
                lack.is_some_and(|lack| {
                    *status = lack;
                    true
                })
            })
            .collect();
        for (message, status) in lacking {
            self.end(message, status, LastHop::SendsNoDsns);
        }
        let tried = rest.extract_if(.., |(message, _)| self.is_begun(message.id));
        self.pending = tried.collect();
        self.end_pending();
        self.note_acceptance();
        let refused = self.trouble.is_refused();
        let mut connects = self.reached || rest.is_empty() || refused;
        let mut held = Vec::new();
        if let Some((_, status)) = rest.first() {
            let status = status.clone();
            match self.verdict(&status, &rest) {
                None => {
                    connects = true;
                    self.pending = rest;
                    self.end_pending();
                }
                Some((until, failing)) => {
                    held = self.hold(&rest);
                    let first = rest.first();
                    let expired =
                        first.is_none_or(|(first, _)| failing && self.queue.is_expired(first));
                    let trouble = &self.trouble;
                    let failed = trouble.failed || trouble.unanswered;
                    // Without a token, not all addresses were tried.
                    let failed = failed && trouble.no_token.is_none() || refused;
                    let counts = failed && !self.reached && !expired && held.is_empty();
                    if counts && self.ended.is_empty() {
                        let (message, status) = rest.remove(0);
                        self.end(message, status, LastHop::SendsNoDsns);
                    }
                    let rest = rest.into_iter().map(|(message, status)| Postponed {
                        message,
                        status,
                        until,
                        failing,
                    });
                    self.postponed.extend(rest);
                }
            }
        }
        let traces = self.open_traces();
        Delivered {
            traces,
            ended: self.ended,
            postponed: self.postponed,
            held,
            given_back: self.given_back,
            transcripts: self.transcripts.into_kept(),
            connects: connects && !self.rests,
        }
    }

    /// When these messages are due again, which were not attempted, and whether their site fails.
    /// None: the attempt counts for all of them.
    fn verdict(
        &self,
        status: &DeliveryStatus,
        rest: &[(Queued, DeliveryStatus)],
    ) -> Option<(Time, bool)> {
        let clock = &self.queue.clock;
        let (now, moment) = (clock.now(), clock.moment());
        let (pace, trouble) = (&self.slot.pace, &self.trouble);
        if let Some(until) = trouble.used_up.or(trouble.no_token) {
            return Some((now.after(until.since(moment)), false));
        }
        if let Some(barred) = self.bar() {
            let until = now.after(barred.until.since(moment));
            return Some((until, barred.failing()));
        }
        if self.reached {
            // The connection ended before their turn. Each connection does away with a message.
            let until = match self.ended.is_empty() {
                true => now.after(PAUSE),
                false => now,
            };
            return Some((until, false));
        }
        if status.permanent && self.is_final(status) {
            // The host never takes mail.
            return None;
        }
        if trouble.is_refused() {
            // What a domain demands of TLS is not the affair of the other domains of the site.
            let until = self.put_off(rest, status);
            return Some((now.after(until.since(moment)), true));
        }
        let unanswered = trouble.unanswered && !trouble.crowded && !trouble.no_way;
        if trouble.failed || trouble.marked || (unanswered && !trouble.late) {
            if !trouble.unmarked && !trouble.crowded && !trouble.late {
                pace.unreachable(status, moment);
                self.queue.sites.note_soon();
            }
        } else if trouble.late {
            return Some((now.after(PAUSE), false));
        } else if trouble.crowded || trouble.no_way {
            let pause = PAUSE.mul_f64(self.queue.rng().random_range(0.5..=1.0));
            pace.wait(status, pause, moment);
        } else {
            return None;
        }
        Some(match pace.halt(moment) {
            Some(halt) => (now.after(halt.until.since(moment)), halt.failing),
            None => (now.after(PAUSE), false),
        })
    }

    /// Whether a failure is final at the first attempt.
    fn is_final(&self, status: &DeliveryStatus) -> bool {
        let known = self.plan.rule_for(status).map(|rule| rule.class);
        judge::is_final(status, known, 1, self.sources.on_block)
    }

    /// Why the messages wait for a source of ours. None: they do not, or a host failed too.
    fn bar(&self) -> Option<&Barred> {
        let trouble = &self.trouble;
        let failed = trouble.failed || trouble.unanswered || trouble.marked;
        let barred = trouble.barred.as_ref();
        barred.filter(|_| self.reached || !failed)
    }

    /// The lanes of these messages, until a source may send them, if that is why they wait.
    fn hold(&self, rest: &[(Queued, DeliveryStatus)]) -> Vec<(Lane, Moment)> {
        let Some(barred) = self.bar() else {
            return Vec::new();
        };
        self.slot.pace.hold(barred);
        let lanes = rest.iter().map(|(message, _)| message.lane());
        let mut held: Vec<_> = lanes.map(|lane| (lane, barred.until)).collect();
        held.dedup();
        held
    }

    /// Notes that no source may send messages to an address now.
    pub(in crate::deliver) fn wait_for_source(&mut self, barred: Barred) {
        self.note(&barred.status);
        self.trouble.barred = Some(barred.sooner(self.trouble.barred.take()));
    }

    /// Puts off the next attempts for the destinations of these messages. Gives when the last of
    /// them is.
    fn put_off(&self, rest: &[(Queued, DeliveryStatus)], status: &DeliveryStatus) -> Moment {
        let now = self.queue.clock.moment();
        let max = self.queue.longest_retry_interval();
        let keys: HashSet<PlanKey> = rest
            .iter()
            .map(|(message, _)| PlanKey::of(message, &self.plan.transport))
            .collect();
        let mut plans = self.queue.plans();
        let untils = keys
            .into_iter()
            .map(|key| plans.refused(key, self.requested, status, max, now));
        untils.max().unwrap_or(now)
    }

    /// Notes for the destinations of messages with a result that the rules of TLS let them come to
    /// a host.
    fn note_acceptance(&self) {
        if !self.reached {
            return;
        }
        let mut plans = self.queue.plans();
        if plans.has_refusals() {
            for ended in &self.ended {
                let key = PlanKey::of(&ended.message, &self.plan.transport);
                plans.accepted(key, self.requested);
            }
        }
    }
}
