//! The log as a whole: events in, lines out.

use std::sync::{
    Condvar, Mutex,
    atomic::{AtomicI64, Ordering::Relaxed},
};

use tracing::{debug, error, info, info_span, subscriber::with_default, trace, warn};
use tracing_subscriber::layer::SubscriberExt;

use super::*;
use crate::metrics::LogLevel;

/// A clock that stands still until it is moved.
#[derive(Clone, Default)]
struct Clock(Arc<AtomicI64>);

impl Clock {
    fn now(&self) -> Now {
        let clock = Arc::clone(&self.0);
        Arc::new(move || clock.load(Relaxed))
    }

    fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1_000_000, Relaxed);
    }
}

fn log(level: &str) -> (Log, Clock) {
    let clock = Clock::default();
    (Log::new(Levels::parse(level).unwrap(), clock.now()), clock)
}

/// The metrics with all lines so far.
fn counted(log: &Log) -> Arc<Metrics> {
    let metrics = Arc::<Metrics>::default();
    log.count_in(Arc::clone(&metrics));
    metrics
}

/// How many lines a slow reader did not get.
fn dropped(log: &Log) -> u64 {
    counted(log).log_lines_dropped_total.with(()).get()
}

/// The lines that `work` makes, as the text form has them.
fn lines(log: &Log, work: impl FnOnce()) -> Vec<String> {
    let before = log.0.newest(None).first().map_or(0, |(number, _)| *number);
    with_default(tracing_subscriber::registry().with(log.layer()), work);
    let mut lines = log.newest(None);
    lines.retain(|(number, _)| *number > before);
    lines.reverse();
    let lines = lines.iter().map(|(_, line)| {
        let mut out = Vec::new();
        Form::default().write(line, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let (_, text) = text.trim_end().split_once(' ').unwrap();
        text.to_owned()
    });
    lines.collect()
}

#[test]
fn a_line_has_the_name_of_the_event_that_it_says() {
    let (log, _) = log("info");
    let written = lines(&log, || {
        let event = crate::trace::EventType::SmtpRelayNotAllowed.name();
        info!(reason = "relay", trace.event = event, "refused");
        info!(trace.event = "no.such-event", "refused");
    });
    assert_eq!(written, ["INFO refused reason=relay", "INFO refused"]);
    let lines = log.newest(None);
    let names: Vec<_> = lines.iter().map(|(_, line)| line.name()).collect();
    assert_eq!(names, ["postrider.refused", "smtp.relay-not-allowed"]);
}

#[test]
fn an_event_becomes_a_line() {
    let (log, _) = log("info");
    let written = lines(&log, || {
        let remote = std::net::Ipv4Addr::LOCALHOST;
        info!(%remote, to = "a@b.test", n = 1, left = -1_i64, none = None::<u64>, "sent {}", 2);
        warn!(list = ?["a\n"], on = true, "odd");
        error!("bare");
        debug!("not wanted");
    });
    assert_eq!(
        written,
        [
            "INFO sent 2 remote=127.0.0.1 to=a@b.test n=1 left=-1",
            "WARN odd list=\"[\\\"a\\\\n\\\"]\" on=true",
            "ERROR bare",
        ]
    );
    let metrics = counted(&log);
    for (level, count) in [
        (LogLevel::Error, 1),
        (LogLevel::Warn, 1),
        (LogLevel::Info, 1),
    ] {
        assert_eq!(
            metrics.log_lines_total.with(level).get(),
            count,
            "{level:?}"
        );
    }
}

#[test]
fn a_line_has_the_fields_of_its_spans() {
    let (log, _) = log("warn");
    let written = lines(&log, || {
        let session = info_span!(
            "session",
            session = "s",
            remote = "192.0.2.1:25",
            helo = tracing::field::Empty
        );
        let _in = session.enter();
        session.record("helo", "a.test");
        let message = info_span!("message", session = "s.1");
        let _in = message.enter();
        warn!(remote = "192.0.2.2:25", "inside");
        info!("below the level");
    });
    assert_eq!(
        written,
        ["WARN inside session=s.1 remote=192.0.2.2:25 helo=a.test"]
    );
}

#[test]
fn lines_of_the_crate_log_have_their_own_target() {
    let (log, _) = log("info");
    let written = lines(&log, || {
        // As tracing-log makes them.
        tracing::event!(target: "log", tracing::Level::WARN, { log.target = "rustls::msgs", log.file = "x.rs", log.line = 7_u64 }, "odd");
    });
    assert_eq!(written, ["WARN odd module=rustls.msgs"]);
}

#[test]
fn levels_change_while_the_process_runs() {
    let (log, clock) = log("info");
    let work = || {
        debug!(target: "postrider_queue::run", "decided");
        trace!(target: "postrider_smtp", "C: QUIT");
        trace!(target: "hyper::proto", "authorization: secret");
    };
    assert_eq!(lines(&log, work), Vec::<String>::new());
    let order = |module: &str, level, until| Order {
        about: About::Module(module.to_owned()),
        level: Some(level),
        until,
    };
    log.order(order("queue", Level::Debug, Some(600_000_000)))
        .unwrap();
    let debug = "DEBUG decided module=postrider.queue.run";
    assert_eq!(lines(&log, work), [debug]);
    log.order(order("", Level::Trace, None)).unwrap();
    let trace = "TRACE C: QUIT module=postrider.smtp";
    assert_eq!(lines(&log, work), [debug, trace]);
    clock.advance(600);
    assert_eq!(log.orders().len(), 1, "the first is over");
    // The general level is still trace.
    assert_eq!(lines(&log, work), [debug, trace]);
    assert_eq!(log.reset(), 1);
    assert_eq!(lines(&log, work), Vec::<String>::new());
}

#[test]
fn one_remote_host_is_looked_at_closely() {
    let (log, _) = log("info");
    let work = || {
        for remote in ["192.0.2.1:25", "192.0.2.2:25"] {
            let session = info_span!("session", remote);
            let _in = session.enter();
            trace!(target: "postrider_smtp", "C: QUIT");
        }
        trace!(target: "postrider_smtp", remote = "192.0.2.1", "state");
        trace!(target: "postrider_smtp", remote = "192.0.2.3", "state");
        trace!(target: "postrider_smtp", "about nobody");
    };
    let remotes = Remotes {
        name: "192.0.2.1".to_owned(),
        contains: Arc::new(|ip| ip == std::net::IpAddr::from([192, 0, 2, 1])),
    };
    log.order(Order {
        about: About::Remotes(remotes),
        level: Some(Level::Trace),
        until: None,
    })
    .unwrap();
    assert_eq!(
        lines(&log, work),
        [
            "TRACE C: QUIT remote=192.0.2.1:25 module=postrider.smtp",
            "TRACE state remote=192.0.2.1 module=postrider.smtp",
        ]
    );
    log.reset();
    assert_eq!(lines(&log, work), Vec::<String>::new());
}

#[test]
fn floods_are_joined_in_all_that_has_lines() {
    let (log, clock) = log("info");
    let mut further = log.subscribe(100);
    let written = lines(&log, || {
        for _ in 0..20 {
            warn!(hook = 7, "webhook failed");
        }
        clock.advance(60);
        log.0.tick();
    });
    let one = "WARN webhook failed hook=7".to_owned();
    let mut expected = vec![one.clone(); 5];
    expected.push(format!("{one} repeated=15"));
    assert_eq!(written, expected);
    assert_eq!(counted(&log).log_lines_total.with(LogLevel::Warn).get(), 6);
    assert_eq!(std::iter::from_fn(|| further.try_recv().ok()).count(), 6);
}

/// An output whose reader takes nothing until it is told to.
#[derive(Clone, Default)]
struct Slow(Arc<Pipe>);

#[derive(Default)]
struct Pipe {
    is_open: Mutex<bool>,
    opened: Condvar,
    taken: Mutex<Vec<u8>>,
}

impl Slow {
    fn open(&self) {
        *self.0.is_open.lock().unwrap() = true;
        self.0.opened.notify_all();
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.taken.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let is_open = self.0.is_open.lock().unwrap();
        drop(
            self.0
                .opened
                .wait_while(is_open, |is_open| !*is_open)
                .unwrap(),
        );
        self.0.taken.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_slow_reader_delays_nobody_and_is_told_what_it_missed() {
    let (log, _) = log("info");
    let out = Slow::default();
    log.write_to(Form::default(), Box::new(out.clone()));
    log.start_writing().unwrap();
    let text = "x".repeat(512);
    let count = 60_000;
    // That so many lines are made while nothing is read is the test: none of them waits.
    with_default(tracing_subscriber::registry().with(log.layer()), || {
        for number in 0..count {
            info!(number, text, "accepted");
        }
    });
    let dropped = dropped(&log);
    assert!(dropped > 0, "no line was dropped");
    out.open();
    log.flush(Duration::from_secs(60));
    let text = out.text();
    let told: Vec<u64> = {
        text.lines()
            .filter_map(|line| line.split_once("WARN log lines dropped count="))
    }
    .map(|(_, count)| count.parse().unwrap())
    .collect();
    assert_eq!(told.iter().sum::<u64>(), dropped);
    assert_eq!(
        text.matches("INFO accepted number=").count() as u64,
        count - dropped
    );
}

#[test]
fn the_end_of_the_process_loses_no_line() {
    for has_thread in [true, false] {
        last_lines(has_thread);
    }
}

fn last_lines(has_thread: bool) {
    let (log, _) = log("info");
    let out = Slow::default();
    out.open();
    let form = Form {
        journal: true,
        ..Form::default()
    };
    log.write_to(form, Box::new(out.clone()));
    // The thread may also never have started.
    if has_thread {
        log.start_writing().unwrap();
    }
    lines(&log, || {
        for _ in 0..7 {
            warn!("odd");
        }
        info!("stopped");
    });
    log.flush(Duration::from_secs(60));
    let expected = format!(
        "{}<6>INFO stopped\n<4>WARN odd repeated=2\n",
        "<4>WARN odd\n".repeat(5)
    );
    assert_eq!(out.text(), expected);
}

/// The lines of a subscriber that takes none are counted.
#[test]
fn a_subscription_is_bounded() {
    let (log, _) = log("info");
    let _further = log.subscribe(3);
    lines(&log, || {
        for _ in 0..5 {
            info!("accepted");
        }
    });
    assert_eq!((dropped(&log), log.len()), (2, 5));
}
