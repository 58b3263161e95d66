//! Which source of ours the messages of an attempt come from.

use std::net::IpAddr;

use postrider_config::OnBlock;
use postrider_smtp::{
    DeliveryStatus,
    bounce::{Class, Said, classify},
};

use super::{
    addresses::Peer,
    attempt::{OngoingAttempt, blames_address},
    endpoint::Endpoint,
};
use crate::{
    schedule::{Barred, Tokens},
    source::{Choice, Source, Standing, Via},
};

impl OngoingAttempt<'_> {
    /// Where connections to an address come from now. `connecting`: a new one is to be made.
    pub(super) fn choose(&self, to: IpAddr, connecting: bool) -> Choice<'_> {
        let (queue, pace) = (self.queue, &self.slot.pace);
        let now = queue.now();
        self.sources.choose(to, |source| {
            let is_out = match source.via {
                Via::Ip(ip) => queue.off.is_off(ip, now.moment),
                Via::Any | Via::Proxy(_) => false,
            };
            if is_out || source.name_fault(&queue.names).is_some() {
                return Standing::Out;
            }
            // Without sources nothing is known of each.
            let bar = match queue.sites.by_source() {
                true => pace.bar(source, connecting, now),
                false => None,
            };
            bar.map_or(Standing::Free, Standing::Barred)
        })
    }

    /// Whether a connection from this source is one that the messages would have.
    pub(super) fn comes_from(&self, source: &Source, to: &Peer) -> bool {
        match to {
            Peer::Ip(address) => match self.choose(address.ip(), false) {
                Choice::Take(best) => best == source,
                Choice::Wait(_) | Choice::None => false,
            },
            Peer::Socket(_) => true,
        }
    }

    /// Chooses the sources of addresses anew, since a source may be used up or blocked by now.
    /// Addresses without a source for now are left out.
    pub(super) fn choose_anew(&mut self, open: &mut Vec<Endpoint<'_>>) {
        if !self.queue.sites.by_source() {
            return;
        }
        let mut waits: Vec<Barred> = Vec::new();
        open.retain_mut(|endpoint| {
            let Peer::Ip(address) = &endpoint.address else {
                return true;
            };
            match self.choose(address.ip(), true) {
                Choice::Take(source) => {
                    if *source != endpoint.source {
                        endpoint.source = source.clone();
                    }
                    true
                }
                Choice::Wait(barred) => {
                    waits.push(barred);
                    false
                }
                // Another one stands in for it when the connection is made, or none.
                Choice::None => true,
            }
        });
        for barred in waits {
            self.wait_for_source(barred);
        }
    }

    /// Takes tokens for the pending messages from a source. None: the source has no budget of its
    /// own.
    pub(super) fn take_from(&mut self, source: &Source, to: &Peer) -> Option<Tokens> {
        if !self.queue.sites.by_source() {
            return None;
        }
        let (count, now) = (self.pending.len(), self.queue.now());
        let (tokens, is_kept) = self.slot.pace.take_from(source, count, now)?;
        if is_kept {
            self.queue.sites.note_soon();
        }
        if tokens.count < count
            && let Peer::Ip(address) = to
            && let Choice::Wait(barred) = self.choose(address.ip(), false)
        {
            self.wait_for_source(barred);
        }
        Some(tokens)
    }

    /// Puts back all tokens of a source but these.
    pub(super) fn put_back_from(&self, source: &Source, tokens: Tokens, used: usize) {
        let unused = Tokens {
            count: tokens.count.saturating_sub(used),
            ..tokens
        };
        let (pace, now) = (&self.slot.pace, self.queue.now());
        pace.put_back_from(source, unused, now);
    }

    /// Whether a reply says that the source is blocked.
    pub(super) fn is_block(&self, status: &DeliveryStatus) -> bool {
        let known = self.plan.rule_for(status).map(|rule| rule.class);
        known.unwrap_or_else(|| classify(&Said::from(status))) == Class::Blocked
    }

    /// Whether others get far at this address neither, whatever their source is.
    pub(super) fn blames_address(&self, status: &DeliveryStatus) -> bool {
        let of_source = self.queue.sites.by_source() && self.is_block(status);
        blames_address(status) && !of_source
    }

    /// Notes for those who ask that an address is tried.
    pub(super) fn note_tried(&self, endpoint: &Endpoint<'_>) {
        if let Peer::Ip(address) = endpoint.address {
            let (host, source) = (&endpoint.hop.name, &endpoint.source);
            self.slot.pace.tried(host, address, source);
        }
    }

    /// Whether the site blocks this source, and another one takes its mail at once.
    pub(super) fn is_taken_over(&self, source: &Source, to: &Peer) -> bool {
        let Peer::Ip(address) = to else {
            return false;
        };
        self.sources.on_block == OnBlock::Switch
            && self.queue.sites.by_source()
            && self.slot.pace.is_blocked(source, self.queue.clock.moment())
            && matches!(self.choose(address.ip(), true), Choice::Take(_))
    }
}
