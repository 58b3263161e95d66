//! What happened in an attempt, step by step, for the traces of its transactions.
//!
//! A connection serves many transactions, and each has a trace of its own. So the steps of an
//! attempt are kept as facts, and each trace gets those that concern it. A step that went well
//! needs no memory but its place in the list: it names its host by the place among the hosts of the
//! plan.

use std::{
    net::IpAddr,
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use postrider_observe::trace::{Data, EventType, Key, Trace};
use postrider_smtp::{DeliveryStatus, Stage, client::TlsFault};
use postrider_store::{QueueId, Time};
use tokio::time::Instant;

use super::{addresses::Peer, attempt::hosts::ADDRESSES_MAX, endpoint::Endpoint};
use crate::{
    next_hop::{Hop, HostTlsa, LmtpPlace, Plan, Way},
    tls::{Proven, Rule},
};

/// The list of an attempt that opens a connection has about so many steps.
const USUAL: usize = 8;

/// A host of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostRef {
    /// The place among the hosts of the plan.
    Hop(usize),
    /// The socket of an LMTP server.
    Socket,
}

impl HostRef {
    pub(super) fn of(hop: &Hop, plan: &Plan) -> Self {
        let mut hops = plan.hops.iter();
        let place = hops.position(|it| it.name == hop.name && it.port == hop.port);
        place.map_or(Self::Socket, Self::Hop)
    }

    pub(super) fn name(self, plan: &Plan) -> &str {
        match (self, &plan.way) {
            (Self::Hop(place), _) => plan.hops.get(place).map_or("", |hop| hop.name.as_str()),
            (Self::Socket, Way::Lmtp(LmtpPlace::Socket(path))) => shown(path),
            (Self::Socket, _) => "",
        }
    }
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

/// What is known of the TLSA records of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TlsaFound {
    Absent,
    Usable,
    Unusable,
    Failed(String),
}

impl From<&HostTlsa> for TlsaFound {
    fn from(tlsa: &HostTlsa) -> Self {
        match tlsa {
            HostTlsa::Absent => Self::Absent,
            HostTlsa::Usable(_) => Self::Usable,
            HostTlsa::Unusable { .. } => Self::Unusable,
            HostTlsa::Failed { reason, .. } => Self::Failed(reason.clone()),
        }
    }
}

/// The version of the TLS of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TlsVersion {
    V12,
    V13,
}

impl TlsVersion {
    /// The version by its name in [`postrider_smtp::TlsInfo`].
    pub(super) fn named(name: &str) -> Self {
        match name {
            "TLSv1.2" => Self::V12,
            _ => Self::V13,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::V12 => "TLSv1.2",
            Self::V13 => "TLSv1.3",
        }
    }
}

/// A step of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Happened {
    /// A host has these addresses.
    Addresses(HostRef, [Option<IpAddr>; ADDRESSES_MAX]),
    /// The addresses of a host are not known.
    NoAddresses(HostRef, Box<DeliveryStatus>),
    /// The TLSA records of a host were looked up.
    Tlsa(HostRef, TlsaFound),
    /// The rules of TLS let no connection be made to a host.
    RefusedByRules {
        host: HostRef,
        /// The MTA-STS policy does not name it.
        by_policy: bool,
        status: Box<DeliveryStatus>,
    },
    /// A connection was made.
    Connected {
        host: HostRef,
        ip: Option<IpAddr>,
        from: Option<IpAddr>,
        took: Duration,
    },
    /// A connection that was open before is used.
    Reused { host: HostRef, ip: Option<IpAddr> },
    /// No connection could be made.
    Unconnected {
        host: HostRef,
        ip: Option<IpAddr>,
        reason: Box<str>,
        took: Duration,
    },
    /// No connection may be made now, by a limit.
    NoToken { host: HostRef, ip: Option<IpAddr> },
    /// A session is open.
    Opened {
        host: HostRef,
        ip: Option<IpAddr>,
        /// None: it is in clear.
        tls: Option<TlsVersion>,
        rule: Rule,
        proven: Proven,
        /// We logged in.
        login: bool,
        took: Duration,
    },
    /// A session did not open.
    Unopened {
        host: HostRef,
        ip: Option<IpAddr>,
        status: Box<DeliveryStatus>,
        fault: Option<Box<TlsFault>>,
        rule: Rule,
        took: Duration,
    },
    /// A host said this of a message, and it is not the result.
    Said(QueueId, Box<DeliveryStatus>),
}

/// The steps of an attempt, with their times in microseconds since 1970.
#[derive(Debug)]
pub(super) struct Happenings<'a> {
    /// None: there are no traces.
    list: Option<Mutex<Vec<(i64, Happened)>>>,
    /// Where steps are told at once, and the plan that they are about. None: nobody listens.
    preview: Option<(Mutex<Trace>, &'a Plan)>,
    start: Time,
    began: Instant,
}

impl<'a> Happenings<'a> {
    /// No steps yet. `on`: they are kept.
    pub(super) fn new(start: Time, on: bool) -> Self {
        Self {
            list: on.then(Mutex::default),
            preview: None,
            start,
            began: Instant::now(),
        }
    }

    /// The same, whose steps are told at once.
    pub(super) fn told(self, preview: Option<Trace>, plan: &'a Plan) -> Self {
        Self {
            preview: preview.map(|preview| (Mutex::new(preview), plan)),
            ..self
        }
    }

    /// What was told so far. Later steps are not told any more.
    pub(super) fn take_preview(&mut self) -> Option<Trace> {
        let (preview, _) = self.preview.take()?;
        Some(preview.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether steps are kept.
    pub(super) const fn is_on(&self) -> bool {
        self.list.is_some()
    }

    /// The time of a moment of the attempt, in microseconds since 1970. None: it was before.
    pub(super) fn time_of(&self, at: Instant) -> Option<i64> {
        let since = at.checked_duration_since(self.began)?;
        Some(self.start.after(since).0)
    }

    /// Notes a step that has just been. `step` is not called where no steps are kept.
    pub(super) fn note(&self, step: impl FnOnce() -> Happened) {
        let Some(list) = &self.list else {
            return;
        };
        let (now, step) = (self.now(), step());
        if let Some((preview, plan)) = &self.preview {
            let mut preview = preview.lock().unwrap_or_else(PoisonError::into_inner);
            step.tell(plan, &mut |event, fill| preview.event(now, event, fill));
        }
        // The lock is held for a moment: addresses are tried side by side.
        let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
        if list.capacity() == 0 {
            list.reserve(USUAL);
        }
        list.push((now, step));
    }

    /// The time now, in microseconds since 1970.
    pub(super) fn now(&self) -> i64 {
        self.start.after(self.began.elapsed()).0
    }

    /// Takes the steps so far.
    pub(super) fn take(&self) -> Vec<(i64, Happened)> {
        let list = self.list.as_ref().map(Mutex::lock);
        let list = list.map(|list| list.unwrap_or_else(PoisonError::into_inner));
        list.map_or_else(Vec::new, |mut list| std::mem::take(&mut *list))
    }
}

/// An address as steps have it.
pub(super) fn ip_of(peer: &Peer) -> Option<IpAddr> {
    peer.ip().map(|ip| ip.to_canonical())
}

/// The first addresses of a host.
pub(super) fn first_ips(ips: &[IpAddr]) -> [Option<IpAddr>; ADDRESSES_MAX] {
    let mut first = [None; ADDRESSES_MAX];
    first
        .iter_mut()
        .zip(ips)
        .for_each(|(to, ip)| *to = Some(ip.to_canonical()));
    first
}

/// The host of an endpoint, and its address.
pub(super) fn ends_of(endpoint: &Endpoint<'_>, plan: &Plan) -> (HostRef, Option<IpAddr>) {
    (HostRef::of(&endpoint.hop, plan), ip_of(&endpoint.address))
}

/// Writes an event: its type, and its values.
pub(crate) type Write<'w> = dyn FnMut(EventType, &dyn Fn(&mut Data<'_>)) + 'w;

impl Happened {
    /// The address of the other side, if there was a connection.
    pub(super) const fn remote(&self) -> Option<IpAddr> {
        match self {
            Self::Connected { ip, .. } | Self::Reused { ip, .. } | Self::Unopened { ip, .. } => *ip,
            _ => None,
        }
    }

    /// The message that the step is about. None: it is about the hosts or a connection.
    pub(super) const fn message(&self) -> Option<QueueId> {
        match self {
            Self::Said(id, _) => Some(*id),
            _ => None,
        }
    }

    /// The events of the step.
    pub(super) fn tell(&self, plan: &Plan, write: &mut Write<'_>) {
        let at = |data: &mut Data<'_>, host: HostRef, ip: Option<IpAddr>| {
            data.text(Key::Hostname, host.name(plan));
            if let Some(ip) = ip {
                data.display(Key::RemoteIp, ip);
            }
        };
        match self {
            Self::Addresses(host, ips) => write(EventType::DeliveryIpLookup, &|data| {
                data.text(Key::Hostname, host.name(plan));
                data.texts(Key::Details, ips.iter().flatten());
            }),
            Self::NoAddresses(host, status) => {
                write(EventType::DeliveryIpLookupFailed, &|data| {
                    data.text(Key::Hostname, host.name(plan));
                    data.text(Key::Reason, &status.text);
                });
            }
            Self::Tlsa(host, found) => {
                let event = match found {
                    TlsaFound::Absent => EventType::DaneTlsaRecordNotFound,
                    TlsaFound::Usable => EventType::DaneTlsaRecordFetch,
                    TlsaFound::Unusable => EventType::DaneTlsaRecordInvalid,
                    TlsaFound::Failed(_) => EventType::DaneTlsaRecordFetchError,
                };
                write(event, &|data| {
                    data.text(Key::Hostname, host.name(plan));
                    if let TlsaFound::Failed(reason) = found {
                        data.text(Key::Reason, reason);
                    }
                });
            }
            Self::RefusedByRules {
                host,
                by_policy,
                status,
            } => {
                let event = match by_policy {
                    true => EventType::MtaStsNotAuthorized,
                    false => EventType::DeliveryStartTlsError,
                };
                write(event, &|data| {
                    data.text(Key::Hostname, host.name(plan));
                    data.text(Key::Reason, &status.text);
                });
            }
            Self::Connected {
                host,
                ip,
                from,
                took,
            } => write(EventType::DeliveryConnect, &|data| {
                at(data, *host, *ip);
                if let Some(from) = from {
                    data.display(Key::LocalIp, from);
                }
                data.elapsed(*took);
            }),
            Self::Reused { host, ip } => write(EventType::DeliveryConnect, &|data| {
                at(data, *host, *ip);
                data.text(Key::Details, "the connection was open before");
            }),
            Self::Unconnected {
                host,
                ip,
                reason,
                took,
            } => write(EventType::DeliveryConnectError, &|data| {
                at(data, *host, *ip);
                data.text(Key::Reason, reason);
                data.elapsed(*took);
            }),
            Self::NoToken { host, ip } => {
                write(EventType::DeliveryRateLimitExceeded, &|data| {
                    at(data, *host, *ip);
                });
            }
            Self::Opened { .. } => self.tell_opened(plan, write),
            Self::Unopened { .. } => self.tell_unopened(plan, write),
            Self::Said(id, status) => tell_said(*id, status, write),
        }
    }

    fn tell_opened(&self, plan: &Plan, write: &mut Write<'_>) {
        let Self::Opened {
            host,
            ip,
            tls,
            rule,
            proven,
            login,
            took,
        } = self
        else {
            return;
        };
        let host = host.name(plan);
        write(EventType::DeliveryEhlo, &|data| {
            data.text(Key::Hostname, host);
            if let Some(ip) = ip {
                data.display(Key::RemoteIp, ip);
            }
            data.elapsed(*took);
        });
        match tls {
            Some(version) => write(EventType::DeliveryStartTls, &|data| {
                data.text(Key::Hostname, host);
                data.text(Key::Version, version.name());
                data.text(Key::Policy, rule.name());
                data.text(Key::Result, proven.name());
            }),
            None if *rule == Rule::Opportunistic => {
                write(EventType::DeliveryStartTlsUnavailable, &|data| {
                    data.text(Key::Hostname, host);
                });
            }
            None => write(EventType::DeliveryStartTlsDisabled, &|data| {
                data.text(Key::Hostname, host);
                data.text(Key::Policy, rule.name());
            }),
        }
        let proof = match (rule, proven) {
            (Rule::Dane, Proven::Dane) => Some(EventType::DaneAuthenticationSuccess),
            (Rule::MtaSts, Proven::Pkix | Proven::Dane) => Some(EventType::MtaStsAuthorized),
            _ => None,
        };
        if let Some(proof) = proof {
            write(proof, &|data| data.text(Key::Hostname, host));
        }
        if *login {
            write(EventType::DeliveryAuth, &|data| {
                data.text(Key::Hostname, host);
            });
        }
    }

    fn tell_unopened(&self, plan: &Plan, write: &mut Write<'_>) {
        let Self::Unopened {
            host,
            ip,
            status,
            fault,
            rule,
            took,
        } = self
        else {
            return;
        };
        let event = match (fault, status.stage()) {
            (Some(_), _) if *rule == Rule::Dane => EventType::DaneAuthenticationFailure,
            (Some(_), _) | (None, Some(Stage::StartTls)) => EventType::DeliveryStartTlsError,
            (None, Some(Stage::Greeting)) => EventType::DeliveryGreetingFailed,
            (None, Some(Stage::Ehlo)) => EventType::DeliveryEhloRejected,
            (None, Some(Stage::Auth)) => EventType::DeliveryAuthFailed,
            (None, _) => EventType::DeliveryConnectError,
        };
        write(event, &|data| {
            data.text(Key::Hostname, host.name(plan));
            if let Some(ip) = ip {
                data.display(Key::RemoteIp, ip);
            }
            said(data, status);
            if fault.is_some() {
                data.text(Key::Policy, rule.name());
            }
            data.elapsed(*took);
        });
    }
}

/// The code and the text of a status.
pub(crate) fn said(data: &mut Data<'_>, status: &DeliveryStatus) {
    if status.code != 0 {
        data.number(Key::Code, u64::from(status.code));
    }
    match status.enhanced {
        Some(code) => data.display(Key::Reason, format_args!("{code} {}", status.text)),
        None => data.text(Key::Reason, &status.text),
    }
}

/// The events of what a host said of a message: the commands that it took, and the one that it
/// refused.
pub(crate) fn tell_said(id: QueueId, status: &DeliveryStatus, write: &mut Write<'_>) {
    let stage = status.stage();
    let refused = !status.is_success();
    let replied = status.code != 0;
    let of = |data: &mut Data<'_>| data.number(Key::QueueId, id.0);
    let took = |at: Stage| !refused || stage.is_some_and(|stage| stage > at);
    if took(Stage::Mail) {
        write(EventType::DeliveryMailFrom, &of);
    }
    if took(Stage::Rcpt) {
        write(EventType::DeliveryRcptTo, &of);
    }
    let event = match stage {
        _ if !refused => return,
        Some(Stage::Mail) => EventType::DeliveryMailFromRejected,
        Some(Stage::Rcpt) if replied => EventType::DeliveryRcptToRejected,
        Some(Stage::Rcpt) => EventType::DeliveryRcptToFailed,
        Some(Stage::Data | Stage::EndOfData) => EventType::DeliveryMessageRejected,
        // What went wrong before is a step of the connection.
        _ => return,
    };
    write(event, &|data| {
        of(data);
        said(data, status);
    });
}

#[cfg(test)]
mod tests {
    use postrider_smtp::{Cause, EnhancedCode};

    use super::*;

    /// The events of what a host said of a message.
    fn told(status: &DeliveryStatus) -> Vec<EventType> {
        let mut events = Vec::new();
        tell_said(QueueId(7), status, &mut |event, _| events.push(event));
        events
    }

    #[test]
    fn the_commands_before_a_refusal_were_taken() {
        use EventType::{
            DeliveryMailFrom as Mail, DeliveryMailFromRejected, DeliveryMessageRejected,
            DeliveryRcptTo as Rcpt, DeliveryRcptToFailed, DeliveryRcptToRejected,
        };
        for (command, code, expected) in [
            ("end of data", 250, &[Mail, Rcpt][..]),
            ("end of data", 554, &[Mail, Rcpt, DeliveryMessageRejected]),
            ("DATA", 451, &[Mail, Rcpt, DeliveryMessageRejected]),
            ("RCPT", 550, &[Mail, DeliveryRcptToRejected]),
            ("RCPT", 0, &[Mail, DeliveryRcptToFailed]),
            ("MAIL", 550, &[DeliveryMailFromRejected]),
            ("greeting", 554, &[]),
            ("connect", 0, &[]),
        ] {
            let status = DeliveryStatus::transient(Cause::Reply, EnhancedCode::SYSTEM, "x");
            let status = DeliveryStatus { code, ..status }.with_command(command);
            assert_eq!(told(&status), expected, "{command} {code}");
        }
    }

    #[test]
    fn steps_are_kept_in_order_or_not_at_all() {
        let host = HostRef::Hop(0);
        for on in [true, false] {
            let happenings = Happenings::new(Time(1_000), on);
            let mut made = 0;
            for _ in 0..3 {
                happenings.note(|| {
                    made += 1;
                    Happened::NoToken { host, ip: None }
                });
            }
            let steps = happenings.take();
            let count = if on { 3 } else { 0 };
            assert_eq!((steps.len(), made), (count, count));
            assert!(steps.is_sorted_by_key(|(at, _)| *at));
            assert!(steps.iter().all(|(at, _)| *at >= 1_000));
        }
    }
}
