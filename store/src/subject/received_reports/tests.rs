//! Reports that came in, on both engines.

use postrider_smtp::Address;

use super::*;
use crate::{
    Accept, QueueId, StoreError, TextSource,
    subject::Subject as _,
    tests::{
        samples::{at, inline, text},
        verbs::on_both,
    },
};

const DAY: u32 = 20_000;
const ROOM: ReportRoom = ReportRoom(1 << 20);

/// A mail that may be a report.
pub(crate) fn arrived() -> NewArrivedReport {
    let address = |text| Address::parse(text).unwrap();
    NewArrivedReport {
        text: TextSource::New,
        size: 8,
        received: at(1),
        rcpt_to: vec![address("dmarcreports@a.test")],
        for_reports: true,
        from: Some(address("noreply@reporter.test")),
        from_passed: true,
        signed_for_tls: false,
        queue_id: None,
    }
}

fn summary(report_id: &str) -> ReportSummary {
    ReportSummary {
        kind: ReceivedKind::Dmarc,
        from: "noreply@reporter.test".into(),
        to: vec!["dmarcreports@a.test".into()],
        subject: "Report Domain: a.test".into(),
        reporter: "reporter.test".into(),
        organization: "Reporter Ltd".into(),
        report_id: report_id.into(),
        domains: vec!["a.test".into()],
        begin: Some(at(0)),
        end: Some(at(86_399)),
        verified: true,
        error: String::new(),
        passed: 3,
        failed: 1,
        message: None,
    }
}

/// A report with this id, whose messages came from this many networks: one from each.
pub(crate) fn report(report_id: &str, networks: usize) -> NewReceivedReport {
    let row = |number| NewSum {
        source: format!("192.0.{number}.0/24"),
        from: "a.test".into(),
        sum: ReportSum {
            messages: 1,
            passed: 1,
            none: 1,
            ..ReportSum::default()
        },
    };
    NewReceivedReport {
        about: summary(report_id),
        keep_until: at(100),
        name: Some(format!("reporter.test {report_id}")),
        sums: Some(NewSums {
            domain: "a.test".into(),
            day: DAY,
            reporter: "reporter.test".into(),
            keep_until: at(100),
            rows: (0..networks).map(row).collect(),
        }),
    }
}

/// A mail comes in.
async fn bring(store: &Store) -> ArrivedReport {
    let accept = Accept {
        text: Some(inline("Report\r\n")),
        reports: vec![arrived()],
        ..Accept::default()
    };
    store.accept(accept).await.unwrap();
    store.checkpoint().await;
    store
        .arrived_reports(None, 99)
        .await
        .unwrap()
        .pop()
        .unwrap()
}

/// A mail comes in and is read as this report. Gives its number, and whether it is kept.
async fn keep(store: &Store, report: NewReceivedReport, room: ReportRoom) -> (ArrivedReport, bool) {
    let arrived = bring(store).await;
    let kept = store.report_read(arrived.id, Some(report), room).await;
    (arrived, kept.unwrap())
}

async fn listed(store: &Store, filter: &ReceivedFilter) -> Vec<u64> {
    let page = store
        .received_reports(filter, None, Order::Descending, 99)
        .await
        .unwrap();
    page.items.iter().map(|report| report.id.0).collect()
}

async fn sums(store: &Store, by: SumsBy) -> Vec<(SumGroup, u64)> {
    let filter = SumsFilter {
        domains: None,
        first: 0,
        last: u32::MAX,
    };
    let sums = store.report_sums(filter, by).await.unwrap();
    sums.into_iter()
        .map(|(group, sum)| (group, sum.messages))
        .collect()
}

async fn has_text(store: &Store, id: TextId) -> bool {
    !matches!(store.text(id).await, Err(StoreError::NoText(_)))
}

#[tokio::test]
async fn a_mail_waits_with_its_text_until_it_is_read() {
    on_both(|store| async move {
        let first = bring(&store).await;
        let second = bring(&store).await;
        assert_eq!((first.id.0, second.id.0), (1, 2));
        let behind = store.arrived_reports(Some(first.id), 9).await.unwrap();
        assert_eq!(behind, std::slice::from_ref(&second));
        assert_eq!(text(&store, first.text).await.unwrap(), "Report\r\n");
        // It was no report.
        assert!(!store.report_read(first.id, None, ROOM).await.unwrap());
        assert!(!has_text(&store, first.text).await);
        let read = store.report_read(second.id, Some(report("x", 1)), ROOM);
        assert!(read.await.unwrap());
        assert!(has_text(&store, second.text).await);
        assert_eq!(store.arrived_reports(None, 9).await.unwrap(), []);
        let kept = store.received_report(second.id).await.unwrap().unwrap();
        assert_eq!((kept.text, kept.about), (second.text, summary("x")));
        // Nothing waits under the number any more.
        let again = store.report_read(second.id, Some(report("y", 1)), ROOM);
        assert!(!again.await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn a_report_of_one_name_is_kept_once_until_its_time_is_over() {
    on_both(|store| async move {
        let (first, kept) = keep(&store, report("x", 2), ROOM).await;
        assert!(kept);
        let (second, kept) = keep(&store, report("x", 2), ROOM).await;
        assert!(!kept && !has_text(&store, second.text).await);
        assert!(store.remove_received_report(first.id).await.unwrap());
        assert!(!store.remove_received_report(first.id).await.unwrap());
        assert!(!has_text(&store, first.text).await);
        // It was removed, and comes again.
        let (_, kept) = keep(&store, report("x", 2), ROOM).await;
        assert!(!kept);
        let total: u64 = sums(&store, SumsBy::Day).await.iter().map(|it| it.1).sum();
        assert_eq!(total, 2);
        store.checkpoint().await;
        // The name, and of the sums two by source, one by reporter, and the day.
        assert_eq!(store.expire(at(99), 9).await.unwrap(), 0);
        assert_eq!(store.expire(at(100), 3).await.unwrap(), 3);
        assert_eq!(sums(&store, SumsBy::Source).await, []);
        assert_eq!(sums(&store, SumsBy::Reporter).await.len(), 1);
        assert_eq!(store.expire(at(100), 9).await.unwrap(), 2);
        assert_eq!(sums(&store, SumsBy::Source).await, []);
        assert_eq!(sums(&store, SumsBy::Reporter).await, []);
        let (last, kept) = keep(&store, report("x", 2), ROOM).await;
        assert!(kept);
        assert_eq!(store.expire(at(100), 9).await.unwrap(), 5);
        assert!(!has_text(&store, last.text).await);
        assert_eq!(listed(&store, &ReceivedFilter::default()).await, [0_u64; 0]);
    })
    .await;
}

#[tokio::test]
async fn reports_without_worth_go_first() {
    on_both(|store| async move {
        // For three reports, and the sums of one day.
        let room = ReportRoom(3 * (RECORD_SIZE + 8) + 400);
        let of = |id: &str, verified, error: &str| {
            let mut report = report(id, 1);
            report.about.verified = verified;
            report.about.error = error.into();
            report
        };
        let reports = [
            of("1", true, ""),
            of("2", true, "no XML"),
            of("3", false, ""),
            of("4", true, ""),
            of("5", true, ""),
            of("6", true, ""),
        ];
        for report in reports {
            keep(&store, report, room).await;
            store.checkpoint().await;
        }
        let all = ReceivedFilter::default();
        assert_eq!(listed(&store, &all).await, [6, 5, 4]);
        // One that finds no room goes at once.
        let (_, kept) = keep(&store, of("7", false, ""), room).await;
        assert!(kept);
        assert_eq!(listed(&store, &all).await, [6, 5, 4]);
        // What has no room leaves nothing behind: neither its name nor its end.
        let (_, kept) = keep(&store, of("7", false, ""), ReportRoom(1 << 20)).await;
        assert!(kept);
        assert_eq!(listed(&store, &all).await, [8, 6, 5, 4]);
        // Four reports, and the sums: one by source, one by reporter, and the day.
        assert_eq!(store.expire(at(100), 99).await.unwrap(), 7);
    })
    .await;
}

/// The room may become much smaller, and a large report may take that of thousands.
#[tokio::test]
async fn what_goes_at_once_has_a_limit() {
    on_both(|store| async move {
        let count = TRIMMED_MAX + 6;
        let of = |number: u64| {
            let mut report = report(&number.to_string(), 1);
            report.sums = None;
            report
        };
        let accept = Accept {
            text: Some(inline("Report\r\n")),
            reports: (0..=count).map(|_| arrived()).collect(),
            ..Accept::default()
        };
        store.accept(accept).await.unwrap();
        for arrived in store.arrived_reports(None, 999).await.unwrap() {
            let room = match arrived.id.0 > count {
                true => ReportRoom(0),
                false => ROOM,
            };
            let read = store.report_read(arrived.id, Some(of(arrived.id.0)), room);
            assert!(read.await.unwrap());
        }
        let all = ReceivedFilter::default();
        let left: Vec<u64> = (TRIMMED_MAX + 1..=count + 1).rev().collect();
        assert_eq!(left.len(), 7);
        assert_eq!(listed(&store, &all).await, left);
        let room = ReportRoom(2 * (RECORD_SIZE + 8));
        assert_eq!(store.trim_reports(ROOM, 4).await.unwrap(), 0);
        assert_eq!(store.trim_reports(room, 4).await.unwrap(), 4);
        store.checkpoint().await;
        assert_eq!(store.trim_reports(room, 4).await.unwrap(), 1);
        assert_eq!(store.trim_reports(room, 4).await.unwrap(), 0);
        assert_eq!(listed(&store, &all).await, left[..2]);
    })
    .await;
}

/// Sums have their part of the room. With more, the day whose time is over first goes.
#[tokio::test]
async fn sums_have_a_part_of_the_room() {
    on_both(|store| async move {
        let of = |id: &str, day: u32, networks| {
            let mut report = report(id, networks);
            let sums = report.sums.as_mut().unwrap();
            sums.day = DAY + day;
            sums.keep_until = at(100 + i64::from(day));
            report
        };
        for (id, day) in [("1", 2), ("2", 1), ("3", 3)] {
            keep(&store, of(id, day, 5), ROOM).await;
            store.checkpoint().await;
        }
        let days = async || {
            let sums = sums(&store, SumsBy::Day).await.into_iter();
            sums.map(|(group, messages)| (group.day.unwrap() - DAY, messages))
                .collect::<Vec<_>>()
        };
        assert_eq!(days().await, [(1, 5), (2, 5), (3, 5)]);
        let by_source = sums::size("a.test", "192.0.1.0/24", "a.test");
        let by_reporter = sums::size("a.test", "reporter.test", "");
        let of_days = |days| days * (5 * by_source + by_reporter);
        let trim = async |days, max| {
            let room = ReportRoom(SUMS_SHARE * of_days(days));
            store.trim_reports(room, max).await.unwrap()
        };
        // As much room as the reports need beside the sums.
        assert_eq!(trim(3, 9).await, 0);
        // A part of a day, if that is all that may be removed at once.
        assert_eq!(trim(2, 2).await, 2);
        assert_eq!(days().await, [(1, 3), (2, 5), (3, 5)]);
        keep(&store, of("4", 1, 1), ROOM).await;
        store.checkpoint().await;
        assert_eq!(days().await, [(1, 4), (2, 5), (3, 5)]);
        // Four sums by source, one by reporter, and the day.
        assert_eq!(trim(2, 9).await, 6);
        assert_eq!(days().await, [(2, 5), (3, 5)]);
        assert_eq!(trim(2, 9).await, 0);
        // They count as a part of all, and reports go for them.
        assert_eq!(trim(1, 9).await, 7 + 2);
        assert_eq!(trim(1, 9).await, 0);
        assert_eq!(days().await, [(3, 5)]);
        assert_eq!(listed(&store, &ReceivedFilter::default()).await, [4, 3]);
    })
    .await;
}

/// A store in which nobody counted the sums yet.
#[test]
fn older_counters_are_read() {
    let mut bytes = vec![1];
    crate::table::value::append(&(7_u64, 300_u64), &mut bytes);
    let mut state = State::new();
    let older = super::super::decode_counters(&mut state.received_reports, &bytes).unwrap();
    assert!(older);
    let tables = &mut state.received_reports;
    let NewReceivedReport {
        about,
        keep_until,
        sums,
        ..
    } = report("x", 2);
    tables.add_sums(sums.unwrap()).unwrap();
    let counted = tables.counters.sum_bytes;
    tables.counters.sum_bytes = 0;
    let (id, text) = (ReceivedReportId(7), TextId(1));
    let report = ReceivedReport {
        id,
        text,
        size: 8,
        received: at(1),
        keep_until,
        about,
    };
    tables.reports.put_new(id, report);
    Tables::renew_keys(&mut state).unwrap();
    let mut counters = state.received_reports.counters;
    let found = (counters.last, counters.bytes, counters.sum_bytes);
    assert_eq!(found, (7, 300, counted));
    assert!(counted > 0);
    let (all, readable) = (1, 1);
    assert_eq!(*counters.of(ReceivedKind::Dmarc), Counted { all, readable });
}

#[tokio::test]
async fn all_that_a_list_shows_of_a_report_is_found() {
    on_both(|store| async move {
        keep(&store, report("one", 1), ROOM).await;
        let mut complaint = report("complaint", 1);
        complaint.about.kind = ReceivedKind::Arf;
        complaint.about.reporter = "isp.test".into();
        complaint.about.verified = false;
        complaint.about.message = Some(ReportedMessage {
            feedback_type: "abuse".into(),
            source: "192.0.2.10".into(),
            sender: "shop@a.test".into(),
            recipients: vec!["jane@isp.test".into()],
            queue_id: Some(QueueId(7301)),
        });
        keep(&store, complaint, ROOM).await;
        let of = |text: &str| ReceivedFilter {
            text: Some(text.to_owned()),
            ..ReceivedFilter::default()
        };
        for text in [
            "ISP.test",
            "arf",
            "abuse",
            "192.0.2.10",
            "shop@",
            "jane@isp",
            "7301",
            "2",
            "Not Verified",
        ] {
            assert_eq!(listed(&store, &of(text)).await, [2], "{text}");
        }
        let received = at(1).to_string();
        let of_date = received.get(..10).unwrap();
        for (text, expected) in [
            (received.as_str(), &[2, 1][..]),
            (of_date, &[2, 1]),
            (&of_date[2..], &[]),
            ("730", &[]),
            ("ar", &[2, 1]),
        ] {
            assert_eq!(listed(&store, &of(text)).await, expected, "{text}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_filter_looks_at_what_is_known() {
    on_both(|store| async move {
        keep(&store, report("one", 1), ROOM).await;
        let mut other = report("two", 1);
        other.about.kind = ReceivedKind::Tls;
        other.about.domains = vec!["a.test".into(), "b.test".into()];
        keep(&store, other, ROOM).await;
        let mut none = report("three", 1);
        none.about.domains.clear();
        keep(&store, none, ROOM).await;
        let of = |kind, text: &str, domains: &[&str]| ReceivedFilter {
            kind,
            text: Some(text.to_owned()).filter(|text| !text.is_empty()),
            domains: match domains {
                [] => None,
                domains => Some(domains.iter().map(ToString::to_string).collect()),
            },
            readable: false,
        };
        for (filter, expected) in [
            (of(None, "", &[]), &[3, 2, 1][..]),
            (of(Some(ReceivedKind::Tls), "", &[]), &[2]),
            (of(Some(ReceivedKind::Arf), "", &[]), &[]),
            (of(None, "TWO", &[]), &[2]),
            (of(None, "reporter ltd", &[]), &[3, 2, 1]),
            (of(None, "B.test", &[]), &[2]),
            (of(None, "", &["a.test"]), &[1]),
            (of(None, "", &["a.test", "b.test", "c.test"]), &[2, 1]),
            (of(None, "dmarcreports", &["a.test"]), &[1]),
            (of(None, "dmarcreports", &["b.test", "c.test"]), &[]),
        ] {
            assert_eq!(listed(&store, &filter).await, expected, "{filter:?}");
        }
        // A report about a domain whose mail came to the address of another one.
        let mut elsewhere = report("four", 1);
        elsewhere.about.domains = vec!["b.test".into()];
        keep(&store, elsewhere, ROOM).await;
        assert_eq!(
            listed(&store, &of(None, "DMARCREPORTS", &["b.test"])).await,
            [0_u64; 0]
        );
        // One that can be read and is not usable, and a mail in which no report was found.
        for begin in [Some(at(0)), None] {
            let mut faulty = report("five", 1);
            faulty.about.error = "no good".into();
            faulty.about.begin = begin;
            faulty.name = None;
            keep(&store, faulty, ROOM).await;
        }
        let readable = ReceivedFilter {
            readable: true,
            ..of(None, "no good", &[])
        };
        assert_eq!(listed(&store, &readable).await, [5]);
        assert_eq!(listed(&store, &of(None, "no good", &[])).await, [6, 5]);
        let to = async |domains: &[&str]| {
            let filter = of(None, "", domains);
            let page = store
                .received_reports(&filter, None, Order::Descending, 9)
                .await;
            page.unwrap().items.remove(0).about.to
        };
        assert_eq!(to(&[]).await, ["dmarcreports@a.test"]);
        assert_eq!(to(&["a.test", "b.test"]).await, ["dmarcreports@a.test"]);
        assert_eq!(to(&["b.test"]).await, [""; 0]);
        for (order, expected) in [
            (Order::Descending, [4, 3, 2, 1]),
            (Order::Ascending, [3, 4, 5, 6]),
        ] {
            let filter = of(None, "", &[]);
            let page = store.received_reports(&filter, None, order, 2).await;
            let next = page.unwrap().next;
            let page = store.received_reports(&filter, next, order, 9).await;
            let ids: Vec<u64> = page.unwrap().items.iter().map(|it| it.id.0).collect();
            assert_eq!(ids, expected);
        }
        let count = async |kind, readable| {
            let count = store.count_received_reports(kind, readable).await;
            count.unwrap()
        };
        assert_eq!(count(ReceivedKind::Dmarc, false).await, 5);
        assert_eq!(count(ReceivedKind::Dmarc, true).await, 4);
        assert_eq!(count(ReceivedKind::Tls, true).await, 1);
        assert_eq!(count(ReceivedKind::Arf, true).await, 0);
        assert!(
            store
                .remove_received_report(ReceivedReportId(6))
                .await
                .unwrap()
        );
        assert!(
            store
                .remove_received_report(ReceivedReportId(2))
                .await
                .unwrap()
        );
        assert_eq!(count(ReceivedKind::Dmarc, false).await, 4);
        assert_eq!(count(ReceivedKind::Dmarc, true).await, 4);
        assert_eq!(count(ReceivedKind::Tls, false).await, 0);
    })
    .await;
}

#[tokio::test]
async fn sums_are_told_apart_and_have_a_limit() {
    on_both(|store| async move {
        let max = usize::try_from(REPORT_SOURCES_MAX).unwrap();
        keep(&store, report("1", 2), ROOM).await;
        let mut other = report("2", max + 5);
        let rows = other.sums.as_mut().unwrap();
        rows.reporter = "second.test".into();
        keep(&store, other, ROOM).await;
        let mut next_day = report("3", 1);
        let rows = next_day.sums.as_mut().unwrap();
        rows.day += 1;
        rows.domain = "b.test".into();
        keep(&store, next_day, ROOM).await;
        let by_source = sums(&store, SumsBy::Source).await;
        let source = |name: &str| {
            let found = by_source.iter().find(|(group, _)| group.source == name);
            found.map(|(_, messages)| *messages)
        };
        assert_eq!(by_source.len(), max + 1);
        assert_eq!(source("192.0.0.0/24"), Some(3));
        assert_eq!(source("192.0.1.0/24"), Some(2));
        assert_eq!(source(OTHER_SOURCES), Some(5));
        let by_day = sums(&store, SumsBy::Day).await;
        let by_day: Vec<_> = by_day.iter().map(|(group, it)| (group.day, *it)).collect();
        let all = max as u64 + 7;
        assert_eq!(by_day, [(Some(DAY), all), (Some(DAY + 1), 1)]);
        let by_reporter = sums(&store, SumsBy::Reporter).await;
        let by_reporter: Vec<_> = by_reporter
            .iter()
            .map(|(group, messages)| (group.reporter.as_str(), *messages))
            .collect();
        let expected = [("reporter.test", 3), ("second.test", max as u64 + 5)];
        assert_eq!(by_reporter, expected);
        for (domains, first, last, expected) in [
            (Some(vec!["a.test"]), 0, u32::MAX, all),
            (Some(vec!["b.test"]), 0, u32::MAX, 1),
            (Some(vec![]), 0, u32::MAX, 0),
            (None, DAY + 1, DAY + 1, 1),
            (None, 0, DAY - 1, 0),
        ] {
            let domains = domains.map(|it| it.into_iter().map(str::to_owned).collect());
            let filter = SumsFilter {
                domains,
                first,
                last,
            };
            let sums = store.report_sums(filter, SumsBy::Source).await.unwrap();
            let messages: u64 = sums.values().map(|sum| sum.messages).sum();
            assert_eq!(messages, expected);
        }
    })
    .await;
}
