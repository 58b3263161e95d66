//! The worker over a store.

use std::sync::{Condvar, Mutex, mpsc};

use bytes::Bytes;
use postrider_observe::metrics::{DmarcReported, ReportKind, ReportResult, TlsReported};
use postrider_observe::trace::{Tracer, TracerSettings};
use postrider_store::{
    Accept, Clock, Moment, NewArrivedReport, NewText, Order, ReceivedFilter, ReceivedReport, Sleep,
    TextSource,
};
use tokio::sync::watch;

use super::*;
use crate::reports::{Reports, find::Found};

fn sample(name: &str) -> Vec<u8> {
    let mut mails = samples::mails().into_iter();
    mails.find(|(found, _)| found == name).unwrap().1
}

async fn bring(store: &Store, mail: Vec<u8>, change: impl FnOnce(&mut NewArrivedReport)) {
    let known = arrived("dmarcreports@example.com", Some("noreply@google.com"));
    let mut report = NewArrivedReport {
        text: TextSource::New,
        size: mail.len() as u64,
        received: NOW,
        rcpt_to: known.rcpt_to,
        for_reports: true,
        from: known.from,
        from_passed: true,
        signed_for_tls: true,
        queue_id: None,
    };
    change(&mut report);
    let accept = Accept {
        text: Some(NewText::Inline(Bytes::from(mail))),
        reports: vec![report],
        ..Accept::default()
    };
    store.accept(accept).await.unwrap();
}

async fn all(store: &Store) -> Vec<ReceivedReport> {
    let filter = ReceivedFilter::default();
    store
        .received_reports(&filter, None, Order::Descending, 99)
        .await
        .unwrap()
        .items
}

#[tokio::test]
async fn what_has_arrived_is_read_once() {
    let parts = parts();
    let store = parts.store.clone();
    for name in [
        "google-dmarc",
        "google-dmarc",
        "none-letter",
        "fault-cut-off",
        "google-tls",
    ] {
        bring(&store, sample(name), |_| {}).await;
    }
    let metrics = Arc::clone(&parts.metrics);
    let reports = Reports::new(parts);
    reports.read_arrived().await.unwrap();
    for (kind, result) in [
        (ReportKind::Dmarc, ReportResult::Ok),
        (ReportKind::Dmarc, ReportResult::Duplicate),
        (ReportKind::Dmarc, ReportResult::Malformed),
        (ReportKind::Tls, ReportResult::Ok),
    ] {
        let counted = metrics.reports_received_total.with((kind, result)).get();
        assert_eq!(counted, 1, "{kind:?} {result:?}");
    }
    let messages = |result| metrics.dmarc_reported_messages_total.with(result).get();
    assert_eq!(messages(DmarcReported::Pass), 14);
    assert_eq!(messages(DmarcReported::Fail), 3);
    let sessions = |result| metrics.tls_reported_sessions_total.with(result).get();
    assert_eq!(sessions(TlsReported::Success), 41);
    assert_eq!(store.arrived_reports(None, 9).await.unwrap(), []);
    let found = all(&store).await;
    let kinds: Vec<_> = found
        .iter()
        .map(|it| (it.about.kind.as_str(), it.about.error.is_empty()))
        .collect();
    assert_eq!(kinds, [("tls", true), ("dmarc", false), ("dmarc", true)]);
    // What somebody looks at comes from the mail.
    let opened = reports.open(&found[2]).await.unwrap();
    assert!(matches!(opened, Some(Found::Dmarc(report)) if report.record.len() == 3));
    assert_eq!(reports.open(&found[1]).await.unwrap(), None);
    let year = parts_keep();
    assert_eq!(found[0].keep_until, NOW.after(year));
}

fn parts_keep() -> std::time::Duration {
    std::time::Duration::from_secs(365 * 24 * 60 * 60)
}

/// The process may end at any time: what waits is in the store. The worker goes on with it, and
/// takes what comes later.
#[tokio::test]
async fn a_start_goes_on_with_what_waits() {
    let parts = parts();
    let store = parts.store.clone();
    bring(&store, sample("google-dmarc"), |_| {}).await;
    let (stop, stopped) = watch::channel(false);
    let reports = Arc::new(Reports::new(parts));
    let running = tokio::spawn(reports.run(stopped));
    let wait_for = async |count: usize| {
        let mut changed = store.queue_changed();
        while all(&store).await.len() < count {
            changed.changed().await.unwrap();
        }
    };
    wait_for(1).await;
    bring(&store, sample("google-tls"), |_| {}).await;
    wait_for(2).await;
    stop.send(true).unwrap();
    running.await.unwrap();
}

/// The session is over when a report is read, so the report has a trace of its own.
#[tokio::test]
async fn a_report_has_a_trace() {
    let (tracer, handed_over) = Tracer::new(TracerSettings::default());
    let parts = ReportsParts { tracer, ..parts() };
    let store = parts.store.clone();
    for name in [
        "google-dmarc",
        "fault-damaged-gzip",
        "fault-cut-off",
        "google-tls",
        "arf-abuse",
        "fault-tls-syntax",
    ] {
        bring(&store, sample(name), |_| {}).await;
    }
    let reports = Reports::new(parts);
    reports.read_arrived().await.unwrap();
    let mut seen = Vec::new();
    for record in handed_over.take() {
        seen.extend(record.events().map(|event| event.event.name()));
    }
    seen.sort_unstable();
    let expected = [
        "incoming-report.abuse-report",
        "incoming-report.decompress-error",
        "incoming-report.dmarc-parse-failed",
        "incoming-report.dmarc-report",
        "incoming-report.tls-report",
        "incoming-report.tls-rpc-parse-failed",
    ];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_mail_that_is_too_large_is_listed_by_its_header() {
    let parts = parts();
    let store = parts.store.clone();
    bring(&store, sample("google-dmarc"), |report| {
        report.size = 25 << 20
    })
    .await;
    Reports::new(parts).read_arrived().await.unwrap();
    let [report] = all(&store).await.try_into().unwrap();
    assert_eq!(
        report.about.error,
        "the report is over a limit: 24 MiB of mail"
    );
    assert!(
        report
            .about
            .subject
            .starts_with("Report domain: example.com")
    );
    assert!(report.about.verified);
}

/// A clock that stands still for all threads but one, until it is let go.
struct Gate {
    clock: ManualClock,
    free: std::thread::ThreadId,
    asked: mpsc::Sender<()>,
    is_open: (Mutex<bool>, Condvar),
}

impl Gate {
    fn open(&self) {
        *self.is_open.0.lock().unwrap() = true;
        self.is_open.1.notify_all();
    }
}

impl Clock for Gate {
    fn now(&self) -> Time {
        self.clock.now()
    }

    fn moment(&self) -> Moment {
        if std::thread::current().id() != self.free {
            self.asked.send(()).unwrap();
            let is_open = self.is_open.0.lock().unwrap();
            drop(self.is_open.1.wait_while(is_open, |is_open| !*is_open));
        }
        self.clock.moment()
    }

    fn sleep_until(&self, time: Time) -> Sleep {
        self.clock.sleep_until(time)
    }

    fn sleep_until_moment(&self, moment: Moment) -> Sleep {
        self.clock.sleep_until_moment(moment)
    }
}

/// Whoever looks at a report does not wait for those that come in.
#[tokio::test]
async fn looking_at_a_report_needs_no_place_of_the_worker() {
    let parts = parts();
    let store = parts.store.clone();
    bring(&store, sample("google-tls"), |_| {}).await;
    let reports = Reports::new(parts);
    reports.read_arrived().await.unwrap();
    let [report] = all(&store).await.try_into().unwrap();
    let places = Arc::clone(&reports.places);
    let count = u32::try_from(places.available_permits()).unwrap();
    let _busy = places.acquire_many_owned(count).await.unwrap();
    assert!(reports.open(&report).await.unwrap().is_some());
}

/// A client that goes away and comes again has not more than its places.
#[tokio::test]
async fn a_place_is_taken_until_the_reader_is_done() {
    let (asked, told) = mpsc::channel();
    let gate = Arc::new(Gate {
        clock: ManualClock::new(NOW),
        free: std::thread::current().id(),
        asked,
        is_open: (Mutex::new(false), Condvar::new()),
    });
    let parts = ReportsParts {
        clock: Arc::clone(&gate) as Arc<dyn Clock>,
        ..parts()
    };
    let store = parts.store.clone();
    bring(&store, sample("google-tls"), |_| {}).await;
    let [arrived] = store
        .arrived_reports(None, 9)
        .await
        .unwrap()
        .try_into()
        .unwrap();
    let report = ReceivedReport {
        id: arrived.id,
        text: arrived.text,
        size: arrived.size,
        received: NOW,
        keep_until: NOW,
        about: kept(&sample("google-tls"), |_| {}).unwrap().about,
    };
    let reports = Reports::new(parts);
    let places = Arc::clone(&reports.places_to_look);
    let all = places.available_permits();
    let mut opening = Box::pin(reports.open(&report));
    while told.try_recv().is_err() {
        tokio::select! {
            biased;
            _ = &mut opening => panic!("the reader waits for the clock"),
            () = tokio::task::yield_now() => {}
        }
    }
    drop(opening);
    assert_eq!(places.available_permits(), all - 1);
    gate.open();
    while places.available_permits() < all {
        tokio::task::yield_now().await;
    }
}
