//! Whatever comes by mail, reading it as a report ends, and a report that is found is usable.

use postrider_receive::reports::{
    arf, dmarc,
    fault::Patience,
    find::{self, Found},
    tls,
};
use postrider_smtp::mime::Limits;

pub(crate) fn check(data: &[u8]) {
    let never = || false;
    let patience = Patience::until(&never);
    let reading = find::read(data, data.len() as u64, Limits::default(), patience);
    match reading.report {
        Some(Ok(Found::Dmarc(report))) => check_dmarc(&report),
        Some(Ok(Found::Tls(report))) => check_tls(&report),
        _ => {}
    }
    for is_text in [false, true] {
        if let Ok(report) = dmarc::parse(data, is_text, patience) {
            check_dmarc(&report);
        }
    }
    if let Ok(report) = tls::parse(data, patience) {
        check_tls(&report);
    }
    let _ = arf::parse(data);
}

fn check_dmarc(report: &dmarc::Report) {
    let range = report.report_metadata.date_range;
    assert!(range.begin > 0 && range.end > 0);
    assert!(!report.policy_published.domain.is_empty());
    assert!(report.record.len() <= 100_000);
}

fn check_tls(report: &tls::Report) {
    assert!(!report.policies.is_empty() && report.policies.len() <= 100_000);
    let written = serde_json::to_vec(report).unwrap();
    let never = || false;
    let again = tls::parse(&written, Patience::until(&never)).unwrap();
    assert_eq!(again, *report);
}
