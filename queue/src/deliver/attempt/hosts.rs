//! The hosts of a plan, in their order, and their addresses.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use postrider_config::Direct;
use postrider_smtp::{Cause, DeliveryStatus, EnhancedCode};

use super::{OngoingAttempt, Visit};
use crate::{
    deliver::{
        KeptConnection,
        addresses::Peer,
        counting::HostSeen,
        endpoint::Endpoint,
        happenings::{Happened, HostRef, TlsaFound, first_ips},
        tls::Protection,
    },
    next_hop::{self, Hop, HostAddresses, HostTlsa, LmtpPlace, LookUpFailure, Way},
    private::is_private,
    route::Login,
    schedule::Barred,
    source::{Choice, Source},
    tls::Refusal,
};

/// How many hosts are tried in one attempt.
pub(in crate::deliver) const HOSTS_MAX: usize = 10;
/// How many addresses are tried in one attempt.
pub(in crate::deliver) const ADDRESSES_MAX: usize = 8;

/// Why an address of a host is not connected to.
pub(in crate::deliver) enum Unusable {
    /// The rules of TLS say so.
    Refused(Refusal),
    /// No address of ours can be used.
    NoSource(DeliveryStatus),
    /// No source may send now.
    Barred(Box<Barred>),
}

impl OngoingAttempt<'_> {
    /// Tries the hosts of the plan.
    pub(in crate::deliver) async fn try_hosts(&mut self, kept: &mut Option<KeptConnection>) {
        let plan = self.plan;
        let mut hops = plan.shuffled(&mut self.queue.fork_rng());
        let (direct, login) = match &plan.way {
            Way::Direct(settings) => (Some(settings), None),
            Way::Smarthost(login) => (None, login.as_ref()),
            Way::Lmtp(LmtpPlace::Hops) => (None, None),
            Way::Lmtp(LmtpPlace::Socket(path)) => return self.try_socket(path, kept).await,
        };
        self.preference.sort_hops(&mut hops);
        let queue = self.queue;
        let now = || queue.clock.moment();
        let first_ipv6 = queue.families.is_ipv6_first(now());
        let (mut tried, mut tried_marked, mut marked) = (0, 0, Vec::new());
        // Why hosts have no address, as the last of them says.
        let mut nowhere = None;
        let hops = hops.get(..HOSTS_MAX).unwrap_or(&hops);
        for level in hops.chunk_by(|one, other| one.preference == other.preference) {
            let better: Option<DeliveryStatus> = nowhere.clone();
            let found = self.look_up(level, (direct, first_ipv6), &mut nowhere);
            let Some(found) = found.await else {
                return;
            };
            if direct.is_some()
                && let Some(host) = self.host_of_ours(found.iter().map(|(hop, at)| (*hop, at)))
            {
                // No further host helps: those that are no better would send the mail here (RFC
                // 5321 §5.1). Better ones may be repaired.
                match next_hop::is_best(level, hops) {
                    true => self.note_circle(&host),
                    false => nowhere = better,
                }
                break;
            }
            for (hop, host) in found {
                if self.all_lack(&hop.name) {
                    continue;
                }
                let tlsa = self.tlsa(hop, &host.tlsa_bases).await;
                if self.wants_tlsa() && !host.tlsa_bases.is_empty() {
                    let host = || HostRef::of(hop, plan);
                    let found = || Happened::Tlsa(host(), TlsaFound::from(&tlsa));
                    self.happenings.note(found);
                }
                if let Some((fault, status)) = tlsa.own_fault()
                    && self.own_fault(fault, status)
                {
                    return;
                }
                if matches!(tlsa, HostTlsa::Failed { .. })
                    && let Some(until) = self.queue.faults.resolver_rests(now())
                {
                    // Our resolver is out of order: no attempt counts.
                    self.trouble.used_up = Some(until);
                    return;
                }
                self.count_refusal(hop, &tlsa);
                let seen = Arc::new(HostSeen::of(&tlsa));
                let mut open = Vec::new();
                for ip in host.addresses {
                    let address = Peer::Ip(SocketAddr::new(ip, hop.port));
                    if !self.is_worth_a_connection(&address) || self.all_lack(&hop.name) {
                        continue;
                    }
                    // Marked addresses come last. They take no turn of others.
                    let is_marked = queue.addresses.is_marked(&address, now());
                    let (count, list) = match is_marked {
                        true => (&mut tried_marked, &mut marked),
                        false => (&mut tried, &mut open),
                    };
                    if *count >= ADDRESSES_MAX {
                        self.trouble.unmarked |= !is_marked;
                        continue;
                    }
                    *count += 1;
                    list.extend(self.endpoint(hop, ip, (&tlsa, &seen), login));
                }
                if self.try_addresses(open, kept).await {
                    return;
                }
            }
        }
        if let Some(status) =
            nowhere.filter(|_| tried + tried_marked == 0 && !self.trouble.unanswered)
        {
            self.note(&status);
        }
        marked.truncate(ADDRESSES_MAX.saturating_sub(tried));
        self.try_marked(marked, kept).await;
    }

    /// How an address of a host is reached. None: it may not be, which is noted.
    fn endpoint<'h>(
        &mut self,
        hop: &'h Hop,
        ip: IpAddr,
        (tlsa, seen): (&HostTlsa, &Arc<HostSeen>),
        login: Option<&Login>,
    ) -> Option<Endpoint<'h>> {
        match self.endpoint_at(hop, ip, (tlsa, seen), login) {
            Ok(endpoint) => return Some(endpoint),
            Err(Unusable::Refused(refusal)) => self.refused(hop, refusal),
            Err(Unusable::NoSource(status)) => self.no_source(&status),
            Err(Unusable::Barred(barred)) => self.wait_for_source(*barred),
        }
        None
    }

    /// How an address of a host is reached.
    ///
    /// # Errors
    /// Why it may not be.
    pub(in crate::deliver) fn endpoint_at<'h>(
        &self,
        hop: &'h Hop,
        ip: IpAddr,
        (tlsa, seen): (&HostTlsa, &Arc<HostSeen>),
        login: Option<&Login>,
    ) -> Result<Endpoint<'h>, Unusable> {
        let address = Peer::Ip(SocketAddr::new(ip, hop.port));
        let protection = self.protection(hop, tlsa, self.stays(&address));
        let protection = protection.map_err(Unusable::Refused)?;
        let source = match self.choose(ip, true) {
            Choice::Take(source) => source.clone(),
            Choice::Wait(barred) => return Err(Unusable::Barred(Box::new(barred))),
            Choice::None => {
                let text = "no address of ours for the host can be used";
                let code = EnhancedCode::NO_ROUTE_TRANSIENT;
                let status = DeliveryStatus::transient(Cause::Local, code, text);
                return Err(Unusable::NoSource(status.with_remote(&hop.name)));
            }
        };
        Ok(Endpoint {
            hop: Cow::Borrowed(hop),
            address,
            source,
            protection,
            seen: Arc::clone(seen),
            login: login.cloned(),
        })
    }

    /// Looks up the hosts of one preference. None: no other host helps.
    async fn look_up<'h>(
        &mut self,
        level: &'h [Hop],
        (direct, first_ipv6): (Option<&Direct>, bool),
        nowhere: &mut Option<DeliveryStatus>,
    ) -> Option<Vec<(&'h Hop, HostAddresses)>> {
        let mut found = Vec::with_capacity(level.len());
        for hop in level {
            if self.all_lack(&hop.name) {
                continue;
            }
            let host = |plan| HostRef::of(hop, plan);
            match self.addresses_of(hop, direct, first_ipv6).await {
                Ok(mut found_there) => {
                    self.preference.sort_addresses(&mut found_there.addresses);
                    let ips = &found_there.addresses;
                    let addresses = || Happened::Addresses(host(self.plan), first_ips(ips));
                    self.happenings.note(addresses);
                    found.push((hop, found_there));
                }
                Err(failure) => {
                    let status = || Box::new(failure.status.clone());
                    let failed = || Happened::NoAddresses(host(self.plan), status());
                    self.happenings.note(failed);
                    if self.no_addresses(hop, &failure, nowhere) {
                        return None;
                    }
                }
            }
        }
        Some(found)
    }

    /// The addresses of a host. Those that may not be connected to do not count.
    pub(in crate::deliver) async fn addresses_of(
        &self,
        hop: &Hop,
        direct: Option<&Direct>,
        first_ipv6: bool,
    ) -> Result<HostAddresses, LookUpFailure> {
        let queue = self.queue;
        let name = &hop.name;
        let found = next_hop::addresses(&*queue.resolver, name, first_ipv6).await;
        let answered = found.as_ref().map_or_else(|it| !it.unanswered, |_| true);
        if answered && name.parse::<IpAddr>().is_err() {
            queue.faults.looked_up(name, true, queue.clock.moment());
        }
        let mut found = found?;
        let Some(settings) = direct else {
            return Ok(found);
        };
        let only_public = queue.statics.delivery.forbid_private_addresses;
        let mut reason = None;
        found.addresses.retain(|ip| {
            let excluded = exclusion(*ip, settings, only_public);
            let lacks = !self.sources.has_family_of(*ip);
            let excluded = excluded.or(lacks.then_some("of a family without an address of ours"));
            if let Some(why) = excluded {
                reason = Some(format!(
                    "{name} has no address that may be used: {ip} is {why}"
                ));
            }
            excluded.is_none()
        });
        match reason.filter(|_| found.addresses.is_empty()) {
            Some(text) => Err(LookUpFailure {
                status: next_hop::nowhere(text),
                fault: None,
                unanswered: false,
                holds: Duration::ZERO,
            }),
            None => Ok(found),
        }
    }

    /// Notes that a host is this server, and that there is no better one.
    fn note_circle(&mut self, host: &str) {
        let first = self
            .pending
            .first()
            .map(|(message, _)| message.destination());
        self.note(&next_hop::circle(first.unwrap_or_default(), host));
    }

    /// The first of these hosts that is this server, as `name [ip]`.
    pub(in crate::deliver) fn host_of_ours<'h>(
        &self,
        hosts: impl Iterator<Item = (&'h Hop, &'h HostAddresses)>,
    ) -> Option<String> {
        let ours = &self.queue.ours;
        let mut hosts =
            hosts.flat_map(|(hop, host)| host.addresses.iter().map(move |ip| (hop, ip)));
        let found = hosts.find(|(hop, ip)| ours.has_address(SocketAddr::new(**ip, hop.port)));
        found.map(|(hop, ip)| format!("{} [{ip}]", hop.name))
    }

    /// How the Unix socket of an LMTP server is reached.
    pub(in crate::deliver) fn socket(&self, path: &Arc<Path>) -> Endpoint<'static> {
        Endpoint {
            hop: Cow::Owned(Hop {
                name: path.to_string_lossy().into_owned(),
                preference: 0,
                port: 0,
            }),
            address: Peer::Socket(Arc::clone(path)),
            source: Source::any(&self.queue.statics),
            protection: Protection::NONE,
            seen: Arc::new(HostSeen::NOTHING),
            login: None,
        }
    }

    /// Tries the Unix socket of an LMTP server.
    async fn try_socket(&mut self, path: &Arc<Path>, kept: &mut Option<KeptConnection>) {
        let endpoint = self.socket(path);
        if !self.is_worth_a_connection(&endpoint.address) {
            return;
        }
        let now = self.queue.clock.moment();
        if self.queue.addresses.is_marked(&endpoint.address, now) {
            self.try_marked(vec![endpoint], kept).await;
        } else {
            self.visit(endpoint, Visit::NEW, kept).await;
        }
    }

    /// Notes why a host has no addresses. Returns true if no other host helps.
    fn no_addresses(
        &mut self,
        hop: &Hop,
        failure: &LookUpFailure,
        nowhere: &mut Option<DeliveryStatus>,
    ) -> bool {
        let status = &failure.status;
        if let Some(fault) = failure.fault {
            return self.own_fault(fault, status);
        }
        if !failure.unanswered {
            // Without an MX record, a domain without an address takes no mail.
            *nowhere = Some(match self.plan.implicit {
                true => {
                    DeliveryStatus::permanent(Cause::Dns, EnhancedCode::NO_ROUTE, &*status.text)
                }
                false => status.clone(),
            });
            return false;
        }
        self.note(status);
        let now = self.queue.clock.moment();
        // Our resolver is out of order: no other host helps, and no attempt counts.
        self.trouble.used_up = self.queue.faults.looked_up(&hop.name, false, now);
        self.trouble.unanswered = true;
        self.trouble.used_up.is_some()
    }
}

/// Why an address of an MX host is never connected to, in words.
fn exclusion(ip: IpAddr, settings: &Direct, only_public: bool) -> Option<&'static str> {
    let ip = ip.to_canonical();
    let disabled = match ip {
        IpAddr::V4(_) => settings.disable_ipv4,
        IpAddr::V6(_) => settings.disable_ipv6,
    };
    if ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        Some("not the address of a host")
    } else if disabled {
        Some("of a family that the transport disables")
    } else if only_public && is_private(ip) {
        Some("private, which delivery.forbid_private_addresses excludes")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_addresses_are_never_connected_to_and_private_ones_on_request() {
        let check = |address: &str, always: bool, on_request: bool| {
            let (ip, settings) = (address.parse().unwrap(), Direct::default());
            assert_eq!(
                exclusion(ip, &settings, false).is_some(),
                always,
                "{address}"
            );
            assert_eq!(
                exclusion(ip, &settings, true).is_some(),
                on_request,
                "{address}"
            );
        };
        for address in [
            "0.0.0.0",
            "::",
            "::ffff:0.0.0.0",
            "224.0.0.1",
            "239.255.255.255",
            "255.255.255.255",
            "ff02::1",
        ] {
            check(address, true, true);
        }
        for address in [
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.1.1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "::ffff:10.0.0.1",
        ] {
            check(address, false, true);
        }
        for address in [
            "192.0.2.1",
            "100.63.255.255",
            "100.128.0.0",
            "172.32.0.1",
            "2001:db8::1",
        ] {
            check(address, false, false);
        }
        let only_v6 = Direct {
            disable_ipv4: true,
            ..Direct::default()
        };
        for (address, excluded) in [
            ("192.0.2.1", true),
            ("::ffff:192.0.2.1", true),
            ("2001:db8::1", false),
        ] {
            let found = exclusion(address.parse().unwrap(), &only_v6, false);
            assert_eq!(found.is_some(), excluded, "{address}");
        }
    }
}
