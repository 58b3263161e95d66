//! What the metrics have of reports that come in.

use postrider_observe::{
    Metrics,
    metrics::{DmarcReported, Label as _, ReportKind, ReportResult, TlsReported},
};
use postrider_store::{ReceivedKind, ReportSummary};

use super::{
    dmarc::{self, DmarcResult},
    find::Found,
    tls,
};

/// Counts a report that was read. A report that is known already counts as that, and one that
/// nobody stands behind tells nothing of messages and sessions.
pub(super) fn count(
    metrics: &Metrics,
    about: &ReportSummary,
    found: Option<&Found>,
    (is_new, is_over_limit): (bool, bool),
) {
    let kind = match about.kind {
        ReceivedKind::Dmarc => ReportKind::Dmarc,
        ReceivedKind::Tls => ReportKind::Tls,
        ReceivedKind::Arf => ReportKind::Arf,
    };
    let result = match is_new {
        false => ReportResult::Duplicate,
        true if is_over_limit => ReportResult::Limit,
        true if !about.error.is_empty() => ReportResult::Malformed,
        true if !about.verified => ReportResult::Unverified,
        true => ReportResult::Ok,
    };
    metrics.reports_received_total.with((kind, result)).inc();
    match found.filter(|_| result == ReportResult::Ok) {
        Some(Found::Dmarc(report)) => count_messages(metrics, report),
        Some(Found::Tls(report)) => count_sessions(metrics, report),
        Some(Found::Arf(_)) | None => {}
    }
}

fn count_messages(metrics: &Metrics, report: &dmarc::Report) {
    for record in &report.record {
        let evaluated = &record.row.policy_evaluated;
        let results = [evaluated.dkim, evaluated.spf];
        let result = match evaluated.passed() {
            true => DmarcReported::Pass,
            false if results == [DmarcResult::Unspecified; 2] => DmarcReported::Other,
            false => DmarcReported::Fail,
        };
        let reported = metrics.dmarc_reported_messages_total.with(result);
        reported.add(record.row.count.into());
    }
}

fn count_sessions(metrics: &Metrics, report: &tls::Report) {
    let add = |result, sessions| {
        metrics
            .tls_reported_sessions_total
            .with(result)
            .add(sessions)
    };
    for policy in &report.policies {
        let summary = policy.summary;
        add(TlsReported::Success, summary.total_successful_session_count);
        let mut rest = summary.total_failure_session_count;
        for failure in &policy.failure_details {
            let sessions = failure.failed_session_count.min(rest);
            rest -= sessions;
            let mut results = TlsReported::ALL.iter().copied();
            let result = results.find(|it| it.text() == failure.result_type);
            add(result.unwrap_or(TlsReported::Other), sessions);
        }
        // The details need not tell of all.
        add(TlsReported::Other, rest);
    }
}
