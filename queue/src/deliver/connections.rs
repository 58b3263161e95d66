//! The counts of our connections to other hosts.

use std::{io, sync::Arc};

use postrider_observe::{
    Metrics,
    metrics::{
        Connected, Success, TlsDirection, TlsFailure, TlsPolicy, TlsUse,
        TlsVersion as VersionLabel, Usage,
    },
};
use postrider_smtp::{
    Cause, Stage,
    client::{Connection, OutgoingResult, TlsFault, TlsFaultKind, Unopened},
};

use super::happenings::TlsVersion;
use crate::tls::{Requested, Rule};

/// An open connection, as it counts.
#[derive(Debug)]
pub(super) struct OpenCount {
    metrics: Arc<Metrics>,
    usage: Usage,
}

impl OpenCount {
    /// A connection with a transaction under way, or about to begin.
    pub(super) fn busy(metrics: &Arc<Metrics>) -> Self {
        metrics.outgoing_connections.with(Usage::Busy).inc();
        Self {
            metrics: Arc::clone(metrics),
            usage: Usage::Busy,
        }
    }

    /// Says what the connection does from now on.
    pub(super) fn set(&mut self, usage: Usage) {
        let open = &self.metrics.outgoing_connections;
        open.with(self.usage).dec();
        open.with(usage).inc();
        self.usage = usage;
    }
}

impl Drop for OpenCount {
    fn drop(&mut self) {
        self.metrics.outgoing_connections.with(self.usage).dec();
    }
}

/// What an error of a dialer counts as.
pub(super) fn undialed(error: &io::Error) -> Connected {
    match error.kind() {
        io::ErrorKind::TimedOut => Connected::Timeout,
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Connected::Refused,
        _ => Connected::Unreachable,
    }
}

/// Counts a session that did not open.
pub(super) fn count_unopened(metrics: &Metrics, unopened: &Unopened) {
    let stage = unopened.status.stage();
    let result = match &unopened.tls {
        Some(_) => Connected::Tls,
        None if stage == Some(Stage::StartTls) => Connected::Tls,
        None if unopened.status.cause == Cause::Lost => Connected::Lost,
        None => Connected::Greeting,
    };
    metrics.outgoing_connections_total.with(result).inc();
    if let Some(reason) = unopened.tls.as_deref().and_then(handshake_failure) {
        let failed = (TlsDirection::Out, VersionLabel::None, Success::Failed);
        metrics.tls_handshakes_total.with(failed).inc();
        let failures = &metrics.tls_failures_total;
        failures.with((TlsDirection::Out, reason)).inc();
    }
}

/// Counts a session that is open.
pub(super) fn count_opened(metrics: &Metrics, connection: &Connection) {
    metrics.outgoing_connections_total.with(Connected::Ok).inc();
    if let Some(tls) = connection.tls() {
        let version = match TlsVersion::named(&tls.version) {
            TlsVersion::V12 => VersionLabel::Tls12,
            TlsVersion::V13 => VersionLabel::Tls13,
        };
        let done = (TlsDirection::Out, version, Success::Ok);
        metrics.tls_handshakes_total.with(done).inc();
    }
}

/// Counts a connection that was lost in transactions.
pub(super) fn count_lost(metrics: &Metrics, results: &[OutgoingResult], usable: bool) {
    let mut recipients = results.iter().flat_map(|result| &result.recipients);
    let is_lost = |cause| matches!(cause, Cause::Lost | Cause::Timeout);
    if !usable && recipients.any(|result| is_lost(result.status.cause)) {
        let lost = &metrics.outgoing_connections_total;
        lost.with(Connected::Lost).inc();
    }
}

/// Why a handshake failed. None: there was none, since the server does not offer TLS.
const fn handshake_failure(fault: &TlsFault) -> Option<TlsFailure> {
    Some(match fault.kind {
        TlsFaultKind::NotOffered | TlsFaultKind::Refused => return None,
        TlsFaultKind::NameMismatch => TlsFailure::Name,
        TlsFaultKind::Expired
        | TlsFaultKind::NotYetValid
        | TlsFaultKind::UnknownIssuer
        | TlsFaultKind::NoTlsaMatch
        | TlsFaultKind::BadCertificate => TlsFailure::Certificate,
        TlsFaultKind::Alert => TlsFailure::Alert,
        TlsFaultKind::TimedOut => TlsFailure::Timeout,
        TlsFaultKind::Broken => TlsFailure::Eof,
        TlsFaultKind::Protocol => TlsFailure::Other,
    })
}

/// Counts the TLS of a connection, by the rule that says which TLS it needs. None: TLS failed.
pub(super) fn count_tls(
    metrics: &Metrics,
    (rule, requested): (Rule, Requested),
    opened: Option<&Connection>,
) {
    let policy = match (requested, rule) {
        (Requested::Required, _) => TlsPolicy::RequireTls,
        (_, Rule::Waived) => TlsPolicy::None,
        (_, Rule::Transport | Rule::Provider) => TlsPolicy::Configured,
        (_, Rule::Dane | Rule::UnusableTlsa) => TlsPolicy::Dane,
        (_, Rule::MtaSts) => TlsPolicy::MtaSts,
        (_, Rule::Opportunistic) => TlsPolicy::Opportunistic,
    };
    let result = match opened {
        Some(connection) if connection.tls().is_some() => TlsUse::Ok,
        Some(_) => TlsUse::Plain,
        None => TlsUse::Failed,
    };
    metrics.outgoing_tls_total.with((policy, result)).inc();
}

#[cfg(test)]
mod tests {
    use postrider_smtp::{DeliveryStatus, EnhancedCode};

    use super::*;

    #[test]
    fn a_connection_counts_while_it_is_open() {
        let metrics = Arc::<Metrics>::default();
        let open = |usage| metrics.outgoing_connections.with(usage).get();
        let mut one = OpenCount::busy(&metrics);
        let other = OpenCount::busy(&metrics);
        assert_eq!((open(Usage::Busy), open(Usage::Idle)), (2, 0));
        one.set(Usage::Idle);
        assert_eq!((open(Usage::Busy), open(Usage::Idle)), (1, 1));
        drop((one, other));
        assert_eq!((open(Usage::Busy), open(Usage::Idle)), (0, 0));
    }

    #[test]
    fn a_session_that_does_not_open_counts_by_its_reason() {
        for (command, cause, fault, result, failure) in [
            ("greeting", Cause::Timeout, None, Connected::Greeting, None),
            ("EHLO", Cause::Reply, None, Connected::Greeting, None),
            ("greeting", Cause::Lost, None, Connected::Lost, None),
            ("STARTTLS", Cause::Reply, None, Connected::Tls, None),
            (
                "STARTTLS",
                Cause::Tls,
                Some(TlsFaultKind::NotOffered),
                Connected::Tls,
                None,
            ),
            (
                "STARTTLS",
                Cause::Tls,
                Some(TlsFaultKind::NameMismatch),
                Connected::Tls,
                Some(TlsFailure::Name),
            ),
        ] {
            let metrics = Metrics::default();
            let status = DeliveryStatus::transient(cause, EnhancedCode::SYSTEM, "no");
            let unopened = Unopened {
                status: status.with_command(command),
                tls: fault.map(|kind| Box::new(TlsFault::new(kind))),
            };
            count_unopened(&metrics, &unopened);
            let counted = metrics.outgoing_connections_total.with(result).get();
            assert_eq!(counted, 1, "{command} {cause:?}");
            if let Some(reason) = failure {
                let failures = &metrics.tls_failures_total;
                assert_eq!(failures.with((TlsDirection::Out, reason)).get(), 1);
            }
            let failed = (TlsDirection::Out, VersionLabel::None, Success::Failed);
            let failed = metrics.tls_handshakes_total.with(failed).get();
            assert_eq!(failed, u64::from(failure.is_some()), "{command} {cause:?}");
        }
    }
}
