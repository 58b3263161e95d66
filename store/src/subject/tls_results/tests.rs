//! Results about TLS on both engines.

use super::*;
use crate::tests::{samples::at, verbs::on_both};

const DAY: u32 = 20_000;

pub(crate) fn counts(domain: &str, successes: u64, failed: &str) -> TlsCounts {
    let policy = TlsPolicy {
        kind: TlsPolicyKind::Sts,
        domain: domain.to_owned(),
        lines: vec!["version: STSv1".into(), "mode: enforce".into()],
        hosts: vec!["*.test".into()],
    };
    let failure = TlsFailure {
        result: TlsResultType::CertificateExpired,
        reason: failed.to_owned(),
        text: "it has expired".into(),
        from: Some([192, 0, 2, 1].into()),
        host: "mx.test".into(),
        to: Some([192, 0, 2, 2].into()),
    };
    let details = match failed {
        "" => Vec::new(),
        _ => vec![(failure, 1)],
    };
    TlsCounts {
        policy,
        successes,
        failures: details.len() as u64,
        details,
    }
}

/// A note for a domain of one success and one failure.
pub(crate) fn note(day: u32, domain: &str, due: Time) -> TlsNote {
    TlsNote {
        results: TlsResults {
            day,
            domain: domain.to_owned(),
            counts: vec![counts(domain, 1, "x")],
        },
        due,
    }
}

#[tokio::test]
async fn counts_of_a_policy_are_added_up() {
    on_both(|store| async move {
        let add = async |counts: Vec<TlsCounts>| {
            let mut note = note(DAY, "a.test", at(1));
            note.results.counts = counts;
            store.note_tls_results(vec![note]).await.unwrap();
            store.checkpoint().await;
        };
        add(vec![counts("a.test", 2, "x"), counts("b.test", 1, "")]).await;
        add(vec![counts("a.test", 3, "x")]).await;
        add(vec![counts("a.test", 0, "y")]).await;
        let results = store.tls_results(DAY, "a.test").await.unwrap().unwrap();
        let [one, other] = results.counts.as_slice() else {
            panic!("{results:?}");
        };
        assert_eq!((one.successes, one.failures), (5, 3));
        let details: Vec<_> = one
            .details
            .iter()
            .map(|(it, n)| (&*it.reason, *n))
            .collect();
        assert_eq!(details, [("x", 2), ("y", 1)]);
        assert_eq!(*other, counts("b.test", 1, ""));
        assert_eq!(store.tls_results(DAY + 1, "a.test").await.unwrap(), None);
        assert_eq!(store.tls_results(DAY, "b.test").await.unwrap(), None);
    })
    .await;
}

#[test]
fn a_policy_has_so_many_details_and_all_failures_in_its_sum() {
    let mut sum = TlsCounts::none(counts("a.test", 0, "").policy);
    for number in 0..150 {
        sum.add(counts("a.test", 0, &number.to_string()));
    }
    sum.add(counts("a.test", 0, "149"));
    sum.add(counts("a.test", 0, "0"));
    assert_eq!((sum.failures, sum.details.len()), (152, TLS_DETAILS_MAX));
    assert_eq!(sum.details[0].1, 2);
}

#[test]
fn a_day_has_so_many_rows_and_each_domain_a_part_of_them() {
    let mut state = State::new();
    let mut add = |day: u32, domain: &str, policies: std::ops::Range<usize>| {
        let policies = policies.map(|number| counts(&format!("{number}.mx.test"), 1, ""));
        let mut note = note(day, domain, Time(1));
        note.results.counts = policies.collect();
        let notes = vec![note];
        NoteTls { notes }.apply(&mut state).unwrap();
        let key = (u64::from(day), Name::from(domain));
        let found = state.tls_results.results.get(&key).unwrap();
        let rows = state.tls_results.rows.get(&key.0).unwrap();
        (found.map_or(0, |found| found.counts.len()), rows.unwrap())
    };
    assert_eq!(add(1, "a.test", 0..150), (TLS_POLICIES_MAX, 100));
    let all = TLS_ROWS_MAX / TLS_POLICIES_MAX as u64;
    for number in 1..all {
        add(1, &format!("{number}.test"), 0..TLS_POLICIES_MAX);
    }
    assert_eq!(add(1, "full.test", 0..1), (0, TLS_ROWS_MAX));
    assert_eq!(add(1, "a.test", 0..1), (TLS_POLICIES_MAX, TLS_ROWS_MAX));
    assert_eq!(add(2, "full.test", 0..1), (1, 1));
    state.tls_results.forget_day(1, "a.test").unwrap();
    let rows = state.tls_results.rows.get(&1).unwrap();
    assert_eq!(rows, Some(TLS_ROWS_MAX - 100));
}
