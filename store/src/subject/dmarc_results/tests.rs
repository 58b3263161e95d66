//! Results of DMARC on both engines.

use super::*;
use crate::tests::{samples::at, verbs::on_both};

const DAY: u32 = 20_000;

/// One message of the row with this number.
pub(super) fn note(day: u32, domain: &str, number: u32) -> DmarcNote {
    DmarcNote {
        day,
        domain: domain.to_owned(),
        due: at(5),
        published: DmarcPublished {
            policy: Some(DmarcAction::Reject),
            below: None,
            missing: Some(DmarcAction::None),
            dkim_strict: true,
            spf_strict: false,
            testing: false,
        },
        name: format!("{number:08}"),
        count: DmarcCount {
            row: DmarcRow {
                source: std::net::Ipv4Addr::from_bits(number).into(),
                disposition: DmarcAction::Quarantine,
                dkim_aligned: false,
                spf_aligned: false,
                overrides: vec![(DmarcOverride::MailingList, "a list".into())],
                header_from: domain.to_owned(),
                envelope_from: "bounces.test".into(),
                envelope_to: "here.test".into(),
                dkim: vec![DmarcSignature {
                    domain: domain.to_owned(),
                    selector: "s1".into(),
                    result: "fail".into(),
                }],
                spf: Some(("bounces.test".into(), "pass".into())),
            },
            count: 1,
        },
    }
}

async fn found(store: &Store, day: u32, domain: &str) -> Option<Vec<u64>> {
    let results = store.dmarc_results(day, domain).await.unwrap()?;
    let counts = results.counts.iter();
    Some(counts.map(|count| count.count).collect())
}

#[tokio::test]
async fn messages_of_a_row_are_counted_and_forgotten_with_the_report() {
    on_both(|store| async move {
        let add = async |day: u32, domain: &str, numbers: &[u32]| {
            let notes = numbers.iter().map(|number| note(day, domain, *number));
            store.note_dmarc_results(notes.collect()).await.unwrap();
            store.checkpoint().await;
        };
        add(DAY, "a.test", &[1, 2, 1]).await;
        add(DAY, "a.test", &[2, 1]).await;
        add(DAY, "b.test", &[1]).await;
        add(DAY + 1, "a.test", &[1]).await;
        assert_eq!(found(&store, DAY, "a.test").await, Some(vec![3, 2]));
        assert_eq!(found(&store, DAY, "c.test").await, None);
        let mut changed = note(DAY, "a.test", 1);
        changed.published.testing = true;
        store.note_dmarc_results(vec![changed]).await.unwrap();
        let results = store.dmarc_results(DAY, "a.test").await.unwrap().unwrap();
        assert!(results.published.testing);
        let due = store.next_reports(9).await.unwrap();
        let due: Vec<_> = due.iter().map(|it| (it.day, &*it.domain)).collect();
        assert_eq!(due, [(DAY, "a.test"), (DAY, "b.test"), (DAY + 1, "a.test")]);

        let report = store.next_reports(1).await.unwrap().remove(0);
        assert!(store.finish_report(&report).await.unwrap());
        assert_eq!(found(&store, DAY, "a.test").await, None);
        assert_eq!(found(&store, DAY, "b.test").await, Some(vec![1]));
        assert_eq!(found(&store, DAY + 1, "a.test").await, Some(vec![1]));
    })
    .await;
}

#[tokio::test]
async fn many_rows_are_read_in_portions_and_removed() {
    on_both(|store| async move {
        let many = u32::try_from(PORTION).unwrap() * 2 + 1;
        let notes = (0..many).map(|number| note(DAY, "a.test", number));
        store.note_dmarc_results(notes.collect()).await.unwrap();
        let rows = found(&store, DAY, "a.test").await.unwrap();
        assert_eq!(rows.len(), many as usize);
        let report = store.next_reports(1).await.unwrap().remove(0);
        store.finish_report(&report).await.unwrap();
        store
            .note_dmarc_results(vec![note(DAY, "a.test", 0)])
            .await
            .unwrap();
        assert_eq!(found(&store, DAY, "a.test").await, Some(vec![1]));
    })
    .await;
}

#[test]
fn a_day_has_so_many_rows_and_each_domain_a_part_of_them() {
    let mut state = State::new();
    let mut add = |domain: &str, numbers: std::ops::Range<u64>| {
        let numbers = numbers.map(|number| u32::try_from(number).unwrap());
        let notes = numbers.map(|number| note(1, domain, number)).collect();
        NoteDmarc { notes }.apply(&mut state).unwrap();
        let domains = &state.dmarc_results.domains;
        let found = domains.get(&(1, domain.into())).unwrap();
        let rows = state.dmarc_results.rows.get(&1).unwrap();
        (found.map_or(0, |found| found.rows), rows.unwrap())
    };
    let most = DMARC_DOMAIN_ROWS_MAX;
    assert_eq!(add("0.test", 0..most + 5), (most, most));
    for number in 1..DMARC_ROWS_MAX / most {
        add(&format!("{number}.test"), 0..most);
    }
    assert_eq!(add("full.test", 0..1), (0, DMARC_ROWS_MAX));
    // A row that is there is counted on.
    add("0.test", 0..1);
    let key = (1, "0.test".into(), "00000000".into());
    let count = state.dmarc_results.counts.get(&key).unwrap().unwrap();
    assert_eq!(count.count, 2);
    state.dmarc_results.forget_day(1, "0.test").unwrap();
    let rows = state.dmarc_results.rows.get(&1).unwrap();
    assert_eq!(rows, Some(DMARC_ROWS_MAX - most));
}
