//! A second try at the other family of addresses, within an attempt: for messages that a host
//! refused by its policy at their first attempt. Such a policy is often about our address.

use std::sync::Arc;

use postrider_smtp::DeliveryStatus;
use postrider_store::Queued;
use tokio::time::Instant;

use super::{OngoingAttempt, end::Trouble, hosts::ADDRESSES_MAX};
use crate::{
    deliver::{KeptConnection, counting::HostSeen, endpoint::Endpoint, transcripts::Ends},
    judge,
    next_hop::Way,
    settle::LastHop,
};

/// A message that a host refused by its policy.
pub(super) struct RefusedByPolicy {
    message: Queued,
    status: DeliveryStatus,
    hop: LastHop,
    host: String,
    /// The address that refused has this family.
    ipv6: bool,
}

/// The messages that hosts refused by their policies.
#[derive(Default)]
pub(super) struct ByPolicy {
    refused: Vec<RefusedByPolicy>,
    /// The other families are being tried. What they refuse is refused for good.
    second: bool,
}

impl ByPolicy {
    /// Whether the other families are being tried.
    pub(super) const fn is_second(&self) -> bool {
        self.second
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.refused.is_empty()
    }
}

impl<'a> OngoingAttempt<'a> {
    /// Sets a message aside that a host refused, if an address of the other family may take it.
    /// Gives the message back if the refusal stands.
    pub(in crate::deliver) fn set_aside(
        &mut self,
        message: Queued,
        status: &DeliveryStatus,
        (hop, ends): (LastHop, Ends<'_>),
    ) -> Option<Queued> {
        let on_block = self.sources.on_block;
        let rule = self.plan.rule_for(status);
        let ip = ends.peer.ip().filter(|_| {
            matches!(self.plan.way, Way::Direct(_))
                && !self.by_policy.second
                && judge::may_be_about_address(status, rule, message.attempts, on_block)
        });
        let Some(ip) = ip else {
            return Some(message);
        };
        self.begun.retain(|(id, _)| *id != message.id);
        self.by_policy.refused.push(RefusedByPolicy {
            message,
            status: status.clone(),
            hop,
            host: ends.host.to_owned(),
            ipv6: ip.is_ipv6(),
        });
        None
    }

    /// Tries the messages that were set aside at the other family of the host that refused. A
    /// message that finds no connection there has the first refusal. It is not final while a limit
    /// or a fault of ours stands in the way: the next attempt prefers the other family.
    pub(in crate::deliver) async fn try_other_families(
        &mut self,
        kept: &mut Option<KeptConnection>,
    ) {
        let mut refused = std::mem::take(&mut self.by_policy.refused);
        if refused.is_empty() {
            return;
        }
        self.by_policy.second = true;
        // What happens here says nothing of the messages that are left.
        let mut rest = std::mem::take(&mut self.pending);
        let trouble = std::mem::take(&mut self.trouble);
        while let Some(first) = refused.first() {
            let (host, ipv6) = (first.host.clone(), first.ipv6);
            let alike = |it: &mut RefusedByPolicy| it.host == host && it.ipv6 == ipv6;
            let group: Vec<_> = refused.extract_if(.., alike).collect();
            let endpoints = self.endpoints_of(&host, !ipv6).await;
            let left = self.try_other_family(group, endpoints, kept).await;
            rest.extend(left);
        }
        (self.pending, self.trouble) = (rest, trouble);
    }

    /// Tries messages at these addresses. Gives those of which a host said there that it may take
    /// them later.
    async fn try_other_family(
        &mut self,
        group: Vec<RefusedByPolicy>,
        endpoints: Vec<Endpoint<'_>>,
        kept: &mut Option<KeptConnection>,
    ) -> Vec<(Queued, DeliveryStatus)> {
        let mut refusals = Vec::with_capacity(group.len());
        for refused in group {
            refusals.push((refused.message.id, refused.status.clone(), refused.hop));
            self.pending.push((refused.message, refused.status));
        }
        self.trouble = Trouble::default();
        let has_others = !self.rests && !endpoints.is_empty();
        if has_others && Instant::now() >= self.end {
            self.be_late();
        } else if has_others {
            self.try_addresses(endpoints, kept).await;
        }
        // What was not tried for a reason of a moment has its turn at the next attempt.
        let permanent = !self.trouble.is_of_a_moment();
        let mut left = Vec::new();
        for (message, status) in std::mem::take(&mut self.pending) {
            let refusal = refusals.iter().find(|(id, ..)| *id == message.id);
            match refusal.filter(|_| !self.is_begun(message.id)) {
                Some((_, status, hop)) => {
                    let status = status.clone();
                    self.end(
                        message,
                        DeliveryStatus {
                            permanent,
                            ..status
                        },
                        *hop,
                    );
                }
                None => left.push((message, status)),
            }
        }
        left
    }

    /// The addresses of one family of a host that may be tried now.
    async fn endpoints_of(&self, host: &str, ipv6: bool) -> Vec<Endpoint<'a>> {
        let plan = self.plan;
        let hop = plan.hops.iter().find(|hop| hop.name == host);
        let (Some(hop), Way::Direct(settings)) = (hop, &plan.way) else {
            return Vec::new();
        };
        let Ok(mut found) = self.addresses_of(hop, Some(settings), ipv6).await else {
            return Vec::new();
        };
        found.addresses.retain(|ip| ip.is_ipv6() == ipv6);
        if found.addresses.is_empty() {
            return Vec::new();
        }
        let tlsa = self.tlsa(hop, &found.tlsa_bases).await;
        let seen = Arc::new(HostSeen::of(&tlsa));
        let now = self.queue.clock.moment();
        let endpoints = found.addresses.into_iter().filter_map(|ip| {
            let endpoint = self.endpoint_at(hop, ip, (&tlsa, &seen), None).ok()?;
            let is_marked = self.queue.addresses.is_marked(&endpoint.address, now);
            (!is_marked).then_some(endpoint)
        });
        endpoints.take(ADDRESSES_MAX).collect()
    }
}
