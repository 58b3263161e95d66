//! Due reports on both engines.

use super::{super::tls_results::tests::note, *};
use crate::tests::{samples::at, verbs::on_both};

const DAY: u32 = 20_000;

async fn due(store: &Store) -> Vec<(String, u32)> {
    let next = store.next_reports(9).await.unwrap();
    next.into_iter()
        .map(|report| (report.domain, report.attempts))
        .collect()
}

#[tokio::test]
async fn a_report_is_due_until_it_is_finished_with_its_results() {
    on_both(|store| async move {
        for (domain, seconds) in [("b.test", 5), ("a.test", 7), ("b.test", 1)] {
            let note = note(DAY, domain, at(seconds));
            store.note_tls_results(vec![note]).await.unwrap();
            store.checkpoint().await;
        }
        let both = [("b.test".to_owned(), 0), ("a.test".to_owned(), 0)];
        assert_eq!(due(&store).await, both);
        let first = store.next_reports(1).await.unwrap().remove(0);
        assert_eq!(first.due, at(5));
        let later = DueReport {
            due: at(9),
            attempts: 1,
            done: vec!["mailto:x@b.test".into()],
            ..first.clone()
        };
        assert!(store.put_off_report(later.clone()).await.unwrap());
        assert_eq!(store.next_reports(2).await.unwrap()[1], later);
        assert!(store.finish_report(&later).await.unwrap());
        assert!(!store.finish_report(&later).await.unwrap());
        assert!(!store.put_off_report(later).await.unwrap());
        assert_eq!(due(&store).await, [("a.test".to_owned(), 0)]);
        let results = async |domain| store.tls_results(DAY, domain).await.unwrap();
        assert!(results("b.test").await.is_none());
        assert!(results("a.test").await.is_some());
    })
    .await;
}

#[tokio::test]
async fn reports_are_listed_page_by_page_and_found() {
    on_both(|store| async move {
        for (day, domain, seconds) in [
            (DAY + 1, "a.test", 1),
            (DAY, "b.test", 9),
            (DAY, "a.test", 5),
        ] {
            let note = note(day, domain, at(seconds));
            store.note_tls_results(vec![note]).await.unwrap();
        }
        store.checkpoint().await;
        let (mut pages, mut after) = (Vec::new(), None);
        loop {
            let page = store.list_reports(after.as_ref(), 2).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.clone());
            let page = page.into_iter().map(|report| (report.day, report.domain));
            pages.push(page.collect::<Vec<_>>());
        }
        let name = str::to_owned;
        let first = vec![(DAY, name("a.test")), (DAY, name("b.test"))];
        assert_eq!(pages, [first, vec![(DAY + 1, name("a.test"))]]);
        let find = async |kind, day, domain| store.due_report(kind, day, domain).await.unwrap();
        let found = find(ReportKind::Tls, DAY, "b.test").await.unwrap();
        assert_eq!((found.domain.as_str(), found.due), ("b.test", at(9)));
        assert!(find(ReportKind::Dmarc, DAY, "b.test").await.is_none());
        assert!(find(ReportKind::Tls, DAY + 1, "b.test").await.is_none());
    })
    .await;
}

#[tokio::test]
async fn an_address_rests_for_a_time() {
    on_both(|store| async move {
        for (address, seconds) in [("a@x.test", 9), ("b@x.test", 5), ("a@x.test", 7)] {
            let until = at(seconds);
            store.rest_report_address(address, until).await.unwrap();
        }
        let rests = async |address| store.report_address_rests(address).await.unwrap();
        assert_eq!(rests("a@x.test").await, Some(at(7)));
        assert_eq!(rests("c@x.test").await, None);
        assert_eq!(store.expire(at(4), 9).await.unwrap(), 0);
        assert_eq!(store.expire(at(5), 9).await.unwrap(), 1);
        assert_eq!(rests("b@x.test").await, None);
        assert_eq!(rests("a@x.test").await, Some(at(7)));
    })
    .await;
}

#[test]
fn the_rest_that_ends_first_makes_room() {
    let mut state = State::new();
    for number in 0..=RESTING_MAX.cast_signed() {
        let rests = Rests {
            address: format!("{number}@x.test"),
            until: at(if number == 0 { 1_000_000 } else { number }),
        };
        rests.apply(&mut state).unwrap();
    }
    let tables = &state.reports;
    assert_eq!(tables.counters.resting, RESTING_MAX);
    assert!(tables.resting.contains(&"0@x.test".into()).unwrap());
    assert!(!tables.resting.contains(&"1@x.test".into()).unwrap());
}
