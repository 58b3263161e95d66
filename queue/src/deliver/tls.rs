//! How a connection to a host is protected, and what is done when that fails.

use std::sync::Arc;

use postrider_config::ProviderTls;
use postrider_smtp::{
    Cause, DeliveryStatus, EnhancedCode,
    client::{Connection, Link, Recorder, Tls, TlsFault, TlsMode, Unopened},
};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::time::Instant;
use tracing::debug;

use super::{
    addresses::Peer,
    attempt::OngoingAttempt,
    connections::count_tls,
    endpoint::{Endpoint, Unconnected},
    happenings::{Happened, TlsVersion, ends_of},
};
use crate::{
    next_hop::{self, Hop, HostTlsa},
    reports::seen::SessionSeen,
    source::Via,
    tls::{
        Check, Configs, DaneCheck, Demand, Facts, KeyShares, Proven, Refusal, Requested, Rule,
        Start, TlsRule, TlsaFact, demand,
    },
};

/// The TLS of the connections to a host.
#[derive(Clone, Debug)]
pub(super) struct Protection {
    demand: Demand,
    /// The name that the host is asked by for its certificate. None: no certificate can have it, so
    /// there is no TLS.
    name: Option<ServerName<'static>>,
    /// What the certificate is checked by, if the demand is DANE.
    dane: Option<Arc<DaneCheck>>,
}

impl Protection {
    /// Plain text, for a socket of this machine.
    pub(super) const NONE: Self = Self {
        demand: Demand::PLAIN,
        name: None,
        dane: None,
    };

    /// What a demand means for the host of this name.
    ///
    /// # Errors
    /// If TLS is demanded, and no certificate can have the name.
    fn new(demand: Demand, host: &str) -> Result<Self, Refusal> {
        let name = ServerName::try_from(host.to_owned()).ok();
        if name.is_none() && demand.least() > Proven::Plain {
            let rule = demand.rule.name();
            let text = format!("{rule} demands TLS, and no certificate can have the host's name");
            let code = EnhancedCode::NO_SECURITY_FEATURE;
            let status = DeliveryStatus::transient(Cause::Tls, code, text);
            return Err(Refusal::ForNow(status));
        }
        Ok(Self {
            demand,
            name,
            dane: None,
        })
    }

    /// The rule that demands it.
    pub(super) const fn rule(&self) -> Rule {
        self.demand.rule
    }

    /// Whether an MTA-STS policy demands it.
    pub(super) const fn is_by_policy(&self) -> bool {
        matches!(self.demand.rule, Rule::MtaSts)
    }

    /// Whether it is demanded for the domain of the recipient. Other domains may have the same
    /// hosts, and demand nothing.
    pub(super) const fn is_by_domain(&self) -> bool {
        matches!(
            self.demand.rule,
            Rule::MtaSts | Rule::Dane | Rule::UnusableTlsa
        )
    }

    /// The least that a connection must prove.
    const fn least(&self) -> Proven {
        self.demand.least()
    }

    /// The records that the certificate must match.
    pub(super) fn dane(&self) -> Option<&DaneCheck> {
        self.dane.as_deref()
    }

    /// Whether a connection that proved this, with these certificates, the server's own first, is
    /// as well protected. What it proved was for another message: a match of TLSA records says
    /// nothing of trusted CAs, and what the records are may have changed.
    pub(super) fn is_met(
        &self,
        proven: Proven,
        certificates: &[CertificateDer<'_>],
        configs: &Configs,
    ) -> bool {
        match (self.least(), &self.dane, &self.name) {
            (Proven::Plain, ..) => true,
            (Proven::Encrypted, ..) => proven >= Proven::Encrypted,
            (Proven::Pkix, ..) if proven == Proven::Pkix => true,
            (Proven::Pkix, _, Some(name)) => {
                proven == Proven::Dane && configs.check_pkix(certificates, name).is_ok()
            }
            (Proven::Dane, Some(check), _) => {
                proven == Proven::Dane && configs.check_dane(check, certificates).is_ok()
            }
            (Proven::Pkix, _, None) | (Proven::Dane, None, _) => false,
        }
    }
}

impl OngoingAttempt<'_> {
    /// Whether TLSA records of the hosts count. Where the entry of a provider demands them, they do
    /// in any case.
    pub(super) fn wants_tlsa(&self) -> bool {
        let demanded = self.plan.tls == TlsRule::Provider(ProviderTls::Dane);
        (self.queue.statics.delivery.dane || demanded)
            && self.plan.secure_names.is_some()
            && self.requested != Requested::Waived
    }

    /// The TLSA records of a host, at one of the `bases`. They are looked up only where they count.
    pub(super) async fn tlsa(&self, hop: &Hop, bases: &[String]) -> HostTlsa {
        let (Some(names), Some(first)) = (&self.plan.secure_names, bases.first()) else {
            return HostTlsa::Absent;
        };
        if !self.wants_tlsa() {
            return HostTlsa::Absent;
        }
        let queue = self.queue;
        let found = next_hop::host_tlsa(&*queue.resolver, hop, bases, names).await;
        if found.own_fault().is_none() {
            let answered = !matches!(found, HostTlsa::Failed { .. });
            let name = format!("_{}._tcp.{first}", hop.port);
            let now = queue.clock.moment();
            queue.faults.looked_up(&name, answered, now);
        }
        found
    }

    /// What the TLSA records of a host mean. While answers are not validated, nobody knows whether
    /// there are any.
    fn tlsa_fact<'t>(&self, tlsa: &'t HostTlsa) -> TlsaFact<'t> {
        match tlsa.fact() {
            TlsaFact::Absent
                if self.queue.statics.delivery.dane && self.queue.resolver.is_validation_out() =>
            {
                TlsaFact::Unvalidated
            }
            fact => fact,
        }
    }

    /// The TLS for the messages of this attempt at a host. `stays`: what is sent there does not
    /// leave this machine.
    ///
    /// # Errors
    /// Why there is to be no connection.
    pub(super) fn protection(
        &self,
        hop: &Hop,
        tlsa: &HostTlsa,
        stays: bool,
    ) -> Result<Protection, Refusal> {
        let facts = Facts {
            requested: match stays {
                true => Requested::Unsaid,
                false => self.requested,
            },
            rule: self.plan.tls,
            tlsa: self.tlsa_fact(tlsa),
            mta_sts: self.mta_sts(&hop.name),
        };
        let demand = demand(&facts)?;
        match (demand.check, tlsa) {
            (Check::Dane, HostTlsa::Usable(check)) => Ok(Protection {
                dane: Some(Arc::clone(check)),
                ..Protection::new(demand, &check.base)?
            }),
            _ => Protection::new(demand, &hop.name),
        }
    }

    /// Opens a session that is protected as the endpoint says, and tells what it proves. A
    /// handshake that hangs or is reset is tried again without the post-quantum key share. Then TLS
    /// that is not demanded is left out (RFC 7435 §3). What helped is remembered, unless nothing
    /// waits for the session: a check teaches nothing. The first session uses `link`, if it is
    /// given. All of them are recorded.
    pub(super) async fn connect_protected(
        &self,
        endpoint: &Endpoint<'_>,
        link: Option<Link>,
        recorder: Option<&Recorder>,
    ) -> Result<(Connection, Proven), Unconnected> {
        let began = Instant::now();
        let opened = self.try_protected(endpoint, link, recorder).await;
        let by = (endpoint.protection.rule(), self.requested);
        let metrics = &self.queue.metrics;
        match &opened {
            Ok((connection, _)) => count_tls(metrics, by, Some(connection)),
            Err(Unconnected::Theirs(Unopened { tls: Some(_), .. })) => {
                count_tls(metrics, by, None);
            }
            Err(_) => {}
        }
        if let Ok((connection, proven)) = &opened {
            self.happenings.note(|| {
                let (host, ip) = ends_of(endpoint, self.plan);
                Happened::Opened {
                    host,
                    ip,
                    tls: connection.tls().map(|tls| TlsVersion::named(&tls.version)),
                    rule: endpoint.protection.rule(),
                    proven: *proven,
                    login: endpoint.login.is_some(),
                    took: began.elapsed(),
                }
            });
        }
        opened
    }

    async fn try_protected(
        &self,
        endpoint: &Endpoint<'_>,
        link: Option<Link>,
        recorder: Option<&Recorder>,
    ) -> Result<(Connection, Proven), Unconnected> {
        let mut link = link;
        let (habits, address) = (&self.queue.habits, &endpoint.address);
        let now = || self.queue.clock.moment();
        let optional = endpoint.protection.demand.start == Start::IfOffered;
        let learns = !self.pending.is_empty();
        let from = link.as_ref().and_then(Link::local_ip);
        let from = from.filter(|_| !matches!(endpoint.source.via, Via::Proxy(_)));
        if optional && let Some(fault) = habits.plain_after(address, now()) {
            let opened = self.open_in_clear(endpoint, (&mut link, recorder)).await;
            if opened.is_ok() {
                // The receiver learns how much goes in clear by its fault.
                self.count_session(endpoint, from, SessionSeen::Failed(&fault));
            }
            return opened;
        }
        let shares = match habits.is_classical(address, now()) {
            true => KeyShares::Classical,
            false => KeyShares::PostQuantum,
        };
        let mut opened = self
            .open_with(endpoint, shares, (&mut link, recorder))
            .await;
        if let Err(Unconnected::Theirs(unopened)) = &opened
            && let Some(fault) = &unopened.tls
            && fault.kind.is_silence()
            && shares == KeyShares::PostQuantum
        {
            debug!(status = %unopened.status, "once more without a post-quantum key share");
            opened = self
                .open_with(endpoint, KeyShares::Classical, (&mut link, recorder))
                .await;
            if opened.is_ok() && learns {
                habits.was_classical(address.clone(), now());
            }
        }
        let fault = match &opened {
            Ok((_, _, fault)) => fault.as_deref(),
            Err(_) => None,
        };
        match &opened {
            // TLS was not tried: no certificate can have the name of the host.
            _ if endpoint.protection.name.is_none() => {}
            Ok((connection, ..)) if connection.tls().is_some() => {
                self.count_session(endpoint, from, SessionSeen::Encrypted(fault));
            }
            Ok(_) => self.count_session(endpoint, from, SessionSeen::Plain),
            Err(Unconnected::Theirs(Unopened {
                tls: Some(fault), ..
            })) => self.count_session(endpoint, from, SessionSeen::Failed(fault)),
            Err(_) => {}
        }
        let opened = opened.map(|(connection, proven, _)| (connection, proven));
        match opened {
            Err(Unconnected::Theirs(Unopened {
                tls: Some(fault),
                status,
            })) if optional => {
                debug!(%status, "TLS failed, once more without");
                let opened = self.open_in_clear(endpoint, (&mut link, recorder)).await;
                if opened.is_ok() && learns {
                    habits.was_plain(address.clone(), Arc::new(*fault), now());
                }
                opened
            }
            Err(Unconnected::Theirs(mut unopened)) if unopened.tls.is_some() => {
                let rule = endpoint.protection.demand.rule.name();
                let text = &unopened.status.text;
                unopened.status.text = format!("{rule} demands TLS: {text}");
                Err(Unconnected::Theirs(unopened))
            }
            opened => opened,
        }
    }

    async fn open_in_clear(
        &self,
        endpoint: &Endpoint<'_>,
        link: (&mut Option<Link>, Option<&Recorder>),
    ) -> Result<(Connection, Proven), Unconnected> {
        let connection = self.connect(endpoint, TlsMode::Never, link).await?;
        Ok((connection, Proven::Plain))
    }

    /// Opens a session. Gives what it proves, and what is wrong with a certificate that nobody
    /// demanded.
    async fn open_with(
        &self,
        endpoint: &Endpoint<'_>,
        shares: KeyShares,
        link: (&mut Option<Link>, Option<&Recorder>),
    ) -> Result<(Connection, Proven, Option<Box<TlsFault>>), Unconnected> {
        let Protection { demand, name, dane } = &endpoint.protection;
        let Some(name) = name else {
            let opened = self.open_in_clear(endpoint, link).await;
            return opened.map(|(connection, proven)| (connection, proven, None));
        };
        let tls = Tls {
            config: match dane {
                Some(dane) => self.queue.tls.of_dane(dane, shares),
                None => self.queue.tls.of(demand.check, shares),
            },
            name: name.clone(),
        };
        let mode = match demand.start {
            Start::Never => TlsMode::Never,
            Start::IfOffered => TlsMode::Opportunistic(tls),
            Start::Upgrade => TlsMode::Required(tls),
            Start::Implicit => TlsMode::Implicit(tls),
        };
        let connection = self.connect(endpoint, mode, link).await?;
        let (proven, fault) = self.proven(&connection, demand.check, name);
        Ok((connection, proven, fault))
    }

    /// What an open session proves. A certificate that nobody demanded is checked too, so that more
    /// messages may use the connection, and so that the log tells.
    fn proven(
        &self,
        connection: &Connection,
        check: Check,
        name: &ServerName<'_>,
    ) -> (Proven, Option<Box<TlsFault>>) {
        if connection.tls().is_none() {
            return (Proven::Plain, None);
        }
        match check {
            Check::Dane => (Proven::Dane, None),
            Check::Pkix => (Proven::Pkix, None),
            Check::Lenient | Check::Encrypted => {
                match self
                    .queue
                    .tls
                    .check_pkix(connection.peer_certificates(), name)
                {
                    Ok(()) => (Proven::Pkix, None),
                    Err(fault) => {
                        debug!(%fault, "encrypted, and the host is not proven");
                        (Proven::Encrypted, Some(fault))
                    }
                }
            }
        }
    }

    /// Whether what is sent to a peer does not leave this machine, and is not passed on: it needs
    /// no TLS.
    pub(super) fn stays(&self, peer: &Peer) -> bool {
        self.plan.way.is_last() && peer.is_on_this_machine()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::MtaStsFact;

    #[test]
    fn a_name_without_certificates_gives_no_plain_text_where_tls_is_demanded() {
        let demand = |rule| {
            let facts = Facts {
                requested: Requested::Unsaid,
                rule,
                tlsa: TlsaFact::Absent,
                mta_sts: MtaStsFact::Absent,
            };
            demand(&facts).unwrap()
        };
        let optional = demand(TlsRule::ByHost);
        let needed = demand(TlsRule::Smarthost {
            tls: crate::route::SmarthostTls::StartTls,
            verify: false,
            login: false,
        });
        for (host, has_name) in [
            ("mx.test", true),
            ("_mx.test", true),
            ("192.0.2.1", true),
            ("2001:db8::1", true),
            ("mx test", false),
            ("mx..test", false),
        ] {
            let protection = Protection::new(optional, host).unwrap();
            assert_eq!(protection.name.is_some(), has_name, "{host}");
            let refusal = Protection::new(needed, host).err();
            assert_eq!(refusal.is_none(), has_name, "{host}");
            if let Some(Refusal::ForNow(status)) = refusal {
                let text = "4.7.4 the transport demands TLS, and no certificate can have the \
                            host's name";
                assert_eq!(status.to_string(), text);
            }
        }
    }
}
