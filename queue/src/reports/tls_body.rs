//! The body of a report about TLS (RFC 8460 §4.4): JSON.

use std::net::IpAddr;

use jiff::Timestamp;
use postrider_store::{Time, TlsCounts, TlsFailure, TlsResults};
use serde_json::{Map, Value, json};

use super::{Sender, schedule};

/// Writes a report.
pub(super) fn write(results: &TlsResults, sender: &Sender, id: &str) -> Vec<u8> {
    report(results, sender, id).to_string().into_bytes()
}

/// A report.
pub(super) fn report(results: &TlsResults, sender: &Sender, id: &str) -> Value {
    let policies: Vec<Value> = results.counts.iter().map(policy).collect();
    json!({
        "organization-name": sender.domain,
        "date-range": {
            "start-datetime": date(schedule::begin(results.day)),
            "end-datetime": date(schedule::last_second(results.day)),
        },
        "contact-info": sender.from.to_string(),
        "report-id": id,
        "policies": policies,
    })
}

/// A date of RFC 3339, to the second.
fn date(time: Time) -> String {
    let seconds = Timestamp::from_second(time.timestamp().as_second());
    seconds.map(|time| time.to_string()).unwrap_or_default()
}

fn policy(counts: &TlsCounts) -> Value {
    let policy = &counts.policy;
    let mut about = Map::new();
    about.insert("policy-type".into(), policy.kind.name().into());
    if !policy.lines.is_empty() {
        about.insert("policy-string".into(), json!(policy.lines));
    }
    about.insert("policy-domain".into(), json!(policy.domain));
    if !policy.hosts.is_empty() {
        about.insert("mx-host".into(), json!(policy.hosts));
    }
    let mut object = Map::new();
    object.insert("policy".into(), about.into());
    object.insert(
        "summary".into(),
        json!({
            "total-successful-session-count": counts.successes,
            "total-failure-session-count": counts.failures,
        }),
    );
    if !counts.details.is_empty() {
        let details = counts.details.iter();
        let details: Vec<Value> = details.map(|(it, count)| detail(it, *count)).collect();
        object.insert("failure-details".into(), details.into());
    }
    object.into()
}

fn detail(failure: &TlsFailure, count: u64) -> Value {
    let ip = |ip: Option<IpAddr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
    let mut detail = Map::new();
    detail.insert("result-type".into(), failure.result.name().into());
    for (name, value) in [
        ("sending-mta-ip", ip(failure.from)),
        ("receiving-mx-hostname", failure.host.clone()),
        ("receiving-ip", ip(failure.to)),
    ] {
        if !value.is_empty() {
            detail.insert(name.into(), value.into());
        }
    }
    detail.insert("failed-session-count".into(), count.into());
    for (name, value) in [
        ("additional-information", &failure.text),
        ("failure-reason-code", &failure.reason),
    ] {
        if !value.is_empty() {
            detail.insert(name.into(), value.as_str().into());
        }
    }
    detail.into()
}

#[cfg(test)]
mod tests {
    use mail_auth::report::tlsrpt::{PolicyType, ResultType, TlsReport};
    use postrider_store::{TlsPolicy, TlsPolicyKind, TlsResultType};

    use super::*;

    #[test]
    fn a_report_is_what_another_program_reads() {
        let failure = |result, to: Option<[u8; 4]>| TlsFailure {
            result,
            reason: "a reason".into(),
            text: "what \"happened\"".into(),
            from: Some([192, 0, 2, 1].into()),
            host: "mx.a.test".into(),
            to: to.map(IpAddr::from),
        };
        let counts = |kind, lines: &[&str], details: Vec<(TlsFailure, u64)>| TlsCounts {
            policy: TlsPolicy {
                kind,
                domain: "a.test".into(),
                lines: lines.iter().map(|line| (*line).to_owned()).collect(),
                hosts: vec!["*.a.test".into()],
            },
            successes: 5,
            failures: details.iter().map(|(_, count)| count).sum(),
            details,
        };
        let expired = failure(TlsResultType::CertificateExpired, Some([192, 0, 2, 2]));
        let unlisted = failure(TlsResultType::ValidationFailure, None);
        let results = TlsResults {
            day: 20_000,
            domain: "a.test".into(),
            counts: vec![
                counts(
                    TlsPolicyKind::Sts,
                    &["version: STSv1", "mode: enforce"],
                    vec![(expired, 2), (unlisted, 1)],
                ),
                counts(TlsPolicyKind::NoPolicyFound, &[], Vec::new()),
            ],
        };
        let sender = Sender {
            domain: "here.test".into(),
            from: "postmaster@here.test".parse().unwrap(),
        };
        let body = write(&results, &sender, "id1");
        let report = TlsReport::parse_json(&body).unwrap();
        assert_eq!(report.organization_name.as_deref(), Some("here.test"));
        assert_eq!(report.contact_info.as_deref(), Some("postmaster@here.test"));
        assert_eq!(report.report_id, "id1");
        let dates = [
            &report.date_range.start_datetime,
            &report.date_range.end_datetime,
        ];
        let dates = dates.map(|date| date.to_rfc3339());
        assert_eq!(dates, ["2024-10-04T00:00:00Z", "2024-10-04T23:59:59Z"]);
        let [sts, none] = report.policies.as_slice() else {
            panic!("{report:?}");
        };
        assert_eq!(sts.policy.policy_type, PolicyType::Sts);
        assert_eq!(sts.policy.policy_domain, "a.test");
        assert_eq!(sts.policy.policy_string.len(), 2);
        assert_eq!(sts.policy.mx_host, ["*.a.test"]);
        assert_eq!(
            (sts.summary.total_success, sts.summary.total_failure),
            (5, 3)
        );
        let [first, second] = sts.failure_details.as_slice() else {
            panic!("{sts:?}");
        };
        assert_eq!(first.result_type, ResultType::CertificateExpired);
        assert_eq!(first.failed_session_count, 2);
        assert_eq!(first.receiving_ip, Some([192, 0, 2, 2].into()));
        assert_eq!(first.sending_mta_ip, Some([192, 0, 2, 1].into()));
        assert_eq!(first.receiving_mx_hostname.as_deref(), Some("mx.a.test"));
        assert_eq!(first.failure_reason_code.as_deref(), Some("a reason"));
        let text = first.additional_information.as_deref();
        assert_eq!(text, Some("what \"happened\""));
        assert_eq!(second.result_type, ResultType::ValidationFailure);
        assert_eq!(second.receiving_ip, None);
        assert_eq!(none.policy.policy_type, PolicyType::NoPolicyFound);
        assert!(none.failure_details.is_empty());
    }
}
