//! The connections of an attempt, counted for reports about TLS (RFC 8460).
//!
//! A connection counts for each recipient's domain whose messages it is for. Under DANE it also
//! counts for the name that has the TLSA records: the host may ask for reports too (RFC 8460 §3).
//!
//! Not counted are connections that are not to the MX hosts of the domain, those whose messages
//! waive TLS, and the deliveries of reports about TLS themselves.

use std::{collections::BTreeSet, net::IpAddr};

use postrider_config::{MtaStsMode, ProviderTls};
use postrider_smtp::Host;
use postrider_store::{Origin, ReportKind, TlsCounts, TlsFailure, TlsPolicy, TlsPolicyKind};

use super::{attempt::OngoingAttempt, endpoint::Endpoint};
use crate::{
    next_hop::{Hop, HostTlsa, Way},
    reports::seen::{self, Failed, Seen, SessionSeen, StsSeen, TlsaSeen},
    tls::{Requested, TlsRule},
};

/// The longest text about a failure, in bytes.
const TEXT_MAX: usize = 300;
/// How many lines of a policy are kept, and how long each may be.
const LINES_MAX: usize = 32;
const LINE_MAX: usize = 300;

/// The TLSA records of a host, as reports show them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostSeen {
    tlsa: TlsaSeen,
    /// The name of the records without port and protocol; empty without records.
    base: String,
    lines: Vec<String>,
}

impl HostSeen {
    pub(super) const NOTHING: Self = Self {
        tlsa: TlsaSeen::Absent,
        base: String::new(),
        lines: Vec::new(),
    };

    pub(super) fn of(tlsa: &HostTlsa) -> Self {
        let nothing = |tlsa| Self {
            tlsa,
            ..Self::NOTHING
        };
        match tlsa {
            HostTlsa::Absent => Self::NOTHING,
            HostTlsa::Failed { bogus: true, .. } => nothing(TlsaSeen::Bogus),
            HostTlsa::Failed { bogus: false, .. } => nothing(TlsaSeen::Unknown),
            HostTlsa::Unusable { base, lines } => Self {
                tlsa: TlsaSeen::Unusable,
                base: base.clone(),
                lines: bounded(lines.iter().map(String::as_str)),
            },
            HostTlsa::Usable(check) => Self {
                tlsa: TlsaSeen::Usable,
                base: check.base.clone(),
                lines: bounded(check.records.lines().iter().map(String::as_str)),
            },
        }
    }
}

/// The first lines, each up to its limit.
fn bounded<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let lines = lines.take(LINES_MAX);
    lines.map(|line| cut(line, LINE_MAX).to_owned()).collect()
}

/// The beginning of a text.
fn cut(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}

impl OngoingAttempt<'_> {
    /// Counts a session at an endpoint. `from` is the address of ours that it came from.
    pub(super) fn count_session(
        &self,
        endpoint: &Endpoint<'_>,
        from: Option<IpAddr>,
        session: SessionSeen<'_>,
    ) {
        let host = (endpoint.hop.name.as_str(), endpoint.address.ip());
        self.count(host, from, &endpoint.seen, session);
    }

    /// Counts that no connection is made to a host, if that is by its policies.
    pub(super) fn count_refusal(&self, hop: &Hop, tlsa: &HostTlsa) {
        if self.protection(hop, tlsa, false).is_err() {
            let host = (hop.name.as_str(), None);
            self.count(host, None, &HostSeen::of(tlsa), SessionSeen::NotMade);
        }
    }

    /// Whether connections of this attempt count.
    fn is_counted(&self) -> bool {
        let queue = self.queue;
        queue.sends_reports(ReportKind::Tls)
            && matches!(self.plan.way, Way::Direct(_))
            && self.plan.tls != TlsRule::Provider(ProviderTls::None)
            && self.requested != Requested::Waived
    }

    /// The domains whose messages wait, but for reports about TLS.
    fn counted_domains(&self) -> BTreeSet<String> {
        let messages = self.pending.iter().map(|(message, _)| message);
        let counted =
            messages.filter(|message| message.common.origin != Origin::Report(ReportKind::Tls));
        let domains = counted.filter_map(|message| match &message.recipient.host {
            Host::Domain(domain) => Some(domain.ascii().to_owned()),
            Host::Literal(_) => None,
        });
        domains.collect()
    }

    /// What the MTA-STS policy of the destination says of a host.
    fn sts_seen(&self, host: &str) -> StsSeen {
        match (&self.plan.mta_sts, self.plan.mta_sts_fault) {
            (Some(applied), _) if applied.policy.mode == MtaStsMode::None => StsSeen::Absent,
            (Some(applied), _) => StsSeen::Policy {
                listed: applied.policy.allows(host),
            },
            (None, Some(fault)) => StsSeen::Unfetched(fault),
            (None, None) => StsSeen::Absent,
        }
    }

    fn count(
        &self,
        (host, to): (&str, Option<IpAddr>),
        from: Option<IpAddr>,
        seen: &HostSeen,
        session: SessionSeen<'_>,
    ) {
        if !self.is_counted() {
            return;
        }
        let results = seen::results(&Seen {
            tlsa: seen.tlsa,
            dane_required: self.plan.tls == TlsRule::Provider(ProviderTls::Dane),
            sts: self.sts_seen(host),
            session,
        });
        let domains = self.counted_domains();
        if results.is_empty() || domains.is_empty() {
            return;
        }
        let detail = |failed: &Failed| TlsFailure {
            result: failed.result,
            reason: failed.reason.to_owned(),
            text: cut(&failed.text, TEXT_MAX).to_owned(),
            from: from.map(|ip| ip.to_canonical()),
            host: host.to_owned(),
            to: to.map(|ip| ip.to_canonical()),
        };
        let counts = |kind: TlsPolicyKind, failed: &[Failed], domain: &str| TlsCounts {
            policy: self.policy(kind, domain, seen),
            successes: u64::from(failed.is_empty()),
            failures: u64::from(!failed.is_empty()),
            details: failed.iter().map(|failed| (detail(failed), 1)).collect(),
        };
        let day = self.queue.clock.now().day();
        for domain in &domains {
            let all = results.iter();
            let all = all.map(|(kind, failed)| counts(*kind, failed, domain));
            self.queue.gathered.add_tls(day, domain, all.collect());
        }
        if seen.base.is_empty() || domains.contains(&seen.base) {
            return;
        }
        let of_host = results
            .iter()
            .filter(|(kind, _)| *kind == TlsPolicyKind::Tlsa);
        let of_host = of_host.map(|(kind, failed)| counts(*kind, failed, &seen.base));
        let of_host: Vec<TlsCounts> = of_host.collect();
        self.queue.gathered.add_tls(day, &seen.base, of_host);
    }

    fn policy(&self, kind: TlsPolicyKind, domain: &str, seen: &HostSeen) -> TlsPolicy {
        let (base, lines, hosts) = match (kind, &self.plan.mta_sts) {
            (TlsPolicyKind::Tlsa, _) => (seen.base.as_str(), seen.lines.clone(), Vec::new()),
            (TlsPolicyKind::Sts, Some(applied)) => {
                let text = applied.policy.to_string();
                let hosts = applied.policy.mx.iter().map(String::as_str);
                (
                    applied.domain.as_str(),
                    bounded(text.lines()),
                    bounded(hosts),
                )
            }
            (TlsPolicyKind::Sts, None) | (TlsPolicyKind::NoPolicyFound, _) => {
                (domain, Vec::new(), Vec::new())
            }
        };
        TlsPolicy {
            kind,
            domain: if base.is_empty() { domain } else { base }.to_owned(),
            lines,
            hosts,
        }
    }
}
