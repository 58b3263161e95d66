//! The trace of a report that came in. The session that brought the mail is over by then, so the
//! report has a trace of its own.

use postrider_observe::{
    Tracer,
    trace::{EventType, Keep, Key, Kind, Term},
};
use postrider_smtp::Address;
use postrider_store::{ArrivedReport, ReceivedKind, ReportSummary, Time};

use super::{
    fault::ReportFault,
    find::{Found, MailReading},
};

/// What happened.
fn event_type(about: &ReportSummary, reading: &MailReading) -> EventType {
    use EventType as T;
    match &reading.report {
        Some(Err(faulty)) if is_packing(&faulty.fault) => return T::IncomingReportDecompressError,
        Some(Ok(Found::Arf(report))) if about.error.is_empty() => {
            return match report.feedback_type.as_str() {
                "abuse" => T::IncomingReportAbuseReport,
                "auth-failure" => T::IncomingReportAuthFailureReport,
                "fraud" => T::IncomingReportFraudReport,
                "not-spam" => T::IncomingReportNotSpamReport,
                "virus" => T::IncomingReportVirusReport,
                _ => T::IncomingReportOtherReport,
            };
        }
        _ => {}
    }
    match (about.kind, about.error.is_empty()) {
        (ReceivedKind::Dmarc, true) => T::IncomingReportDmarcReport,
        (ReceivedKind::Dmarc, false) => T::IncomingReportDmarcParseFailed,
        (ReceivedKind::Tls, true) => T::IncomingReportTlsReport,
        (ReceivedKind::Tls, false) => T::IncomingReportTlsRpcParseFailed,
        (ReceivedKind::Arf, _) => T::IncomingReportArfParseFailed,
    }
}

const fn is_packing(fault: &ReportFault) -> bool {
    use super::fault::Limit;
    matches!(
        fault,
        ReportFault::Packed(_)
            | ReportFault::PackedTwice
            | ReportFault::Limit(Limit::PackedSize | Limit::UnpackedSize | Limit::Entries)
    )
}

/// Hands over the trace of a report. One that is not usable is always kept.
pub(super) fn trace(
    tracer: &Tracer,
    now: Time,
    arrived: &ArrivedReport,
    reading: &MailReading,
    about: &ReportSummary,
) {
    let mut trace = tracer.start(Kind::Session, now.0);
    let from = arrived.from.as_ref().map(Address::unicode);
    let from = from.unwrap_or_default();
    trace.event(now.0, event_type(about, reading), |data| {
        data.text_if_any(Key::From, &from);
        data.texts(Key::To, &about.to);
        data.texts(Key::Domain, &about.domains);
        data.number(Key::Size, arrived.size);
        data.number(Key::Total, about.passed.saturating_add(about.failed));
        let result = if about.verified {
            "verified"
        } else {
            "not verified"
        };
        data.text(Key::Result, result);
        data.text_if_any(Key::Reason, &about.error);
    });
    trace.index(Term::Sender(&from));
    for to in &about.to {
        trace.index(Term::Recipient(to));
    }
    if let Some(id) = arrived.queue_id {
        trace.index(Term::Queue(id.0));
    }
    let keep = match about.error.is_empty() {
        true => Keep::Sampled,
        false => Keep::Always,
    };
    tracer.finish(trace, keep);
}
