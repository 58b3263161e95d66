use super::*;
use crate::trace::{EventType, Key, TRACE_MAX, Term};

fn tracer(sample: f64) -> (Tracer, HandedOver) {
    Tracer::new(TracerSettings {
        sample,
        first_span: 100,
    })
}

fn end(tracer: &Tracer, keep: Keep, took: i64, size: usize) {
    let mut trace = tracer.start(Kind::Session, 0);
    trace.event(0, EventType::SmtpConnectionStart, |_| {});
    if size > 0 {
        trace.event(took, EventType::SmtpConnectionEnd, |data| {
            data.text(Key::Contents, &"x".repeat(size));
        });
    }
    trace.event(took, EventType::SmtpConnectionEnd, |_| {});
    tracer.finish(trace, keep);
}

/// How many were handed over, left out, and dropped.
fn counts(tracer: &Tracer) -> (u64, u64, u64) {
    let shared = tracer.shared.as_ref();
    let handed_over = shared.map_or(0, |shared| shared.waiting().handed_over);
    let count = |result| {
        let counter = (TraceKind::Session, result);
        shared.map_or(0, |it| it.metrics.traces_total.with(counter).get())
    };
    let (sampled, dropped) = (count(TraceResult::Sampled), count(TraceResult::Dropped));
    (handed_over, sampled, dropped)
}

#[test]
fn spans_rise() {
    let (tracer, _handed_over) = tracer(1.0);
    let spans = [(); 3].map(|()| tracer.start(Kind::Api, 0).span());
    assert_eq!(spans, [100, 101, 102]);
}

#[test]
fn no_traces_keep_nothing() {
    let tracer = Tracer::off();
    let mut trace = tracer.start(Kind::Session, 0);
    assert_eq!((trace.span(), trace.is_on()), (0, false));
    trace.event(0, EventType::SmtpEhlo, |_| panic!("nobody needs values"));
    trace.index(Term::Queue(1));
    tracer.finish(trace, Keep::Always);
    assert_eq!(counts(&tracer), (0, 0, 0));
}

#[test]
fn the_share_is_of_ordinary_ones_only() {
    for (sample, lowest, highest) in [
        (0.0, 0, 0),
        (0.25, 950, 1050),
        (0.5, 1950, 2050),
        (1.0, 4000, 4000),
    ] {
        let (tracer, handed_over) = tracer(sample);
        for _ in 0..4000 {
            end(&tracer, Keep::Sampled, 1, 0);
        }
        let kept = handed_over.take().len();
        assert!((lowest..=highest).contains(&kept), "{sample}: {kept}");
        assert_eq!(counts(&tracer), (kept as u64, 4000 - kept as u64, 0));
        for (keep, took) in [(Keep::Always, 1), (Keep::Sampled, SLOW + 1)] {
            for _ in 0..1000 {
                end(&tracer, keep, took, 0);
            }
            assert_eq!(handed_over.take().len(), 1000, "{sample} {keep:?}");
        }
    }
}

/// Hands over until nothing of `keep` is taken any more. How many were taken.
fn until_refused(tracer: &Tracer, keep: Keep, size: usize) -> u64 {
    let before = counts(tracer).0;
    loop {
        let kept = counts(tracer).0;
        end(tracer, keep, 1, size);
        if counts(tracer).0 == kept {
            return kept - before;
        }
    }
}

#[test]
fn when_half_full_ordinary_ones_go_and_when_full_all() {
    let (tracer, handed_over) = tracer(1.0);
    assert_eq!(until_refused(&tracer, Keep::Sampled, 0), 4096);
    assert_eq!(counts(&tracer), (4096, 1, 0));
    assert_eq!(until_refused(&tracer, Keep::Always, 0), 4096);
    assert_eq!(counts(&tracer), (8192, 1, 1));
    end(&tracer, Keep::Sampled, 1, 0);
    assert_eq!(counts(&tracer), (8192, 1, 2), "full: all are dropped");
    assert_eq!(handed_over.take().len(), 8192);
    end(&tracer, Keep::Sampled, 1, 0);
    assert_eq!(counts(&tracer), (8193, 1, 2), "there is room again");
}

#[test]
fn the_bytes_that_wait_are_limited_too() {
    let (tracer, handed_over) = tracer(1.0);
    let ordinary = until_refused(&tracer, Keep::Sampled, 2000);
    let all = ordinary + until_refused(&tracer, Keep::Always, 2000);
    assert!(ordinary < 4096 && all < 8192, "{ordinary} {all}");
    let records = handed_over.take();
    let bytes: usize = records.iter().map(Record::memory).sum();
    assert!(bytes > WAITING_BYTES_MAX && bytes < WAITING_BYTES_MAX + 8192);
}

#[test]
fn what_is_cut_off_is_kept_and_what_nobody_takes_is_counted() {
    let (tracer, handed_over) = tracer(0.0);
    let mut trace = tracer.start(Kind::Session, 0);
    trace.event(0, EventType::SmtpConnectionStart, |_| {});
    drop(trace);
    drop(tracer.start(Kind::Session, 0));
    assert_eq!(handed_over.take().len(), 1, "an empty one tells nothing");
    end(&tracer, Keep::Always, 1, 0);
    drop(handed_over);
    end(&tracer, Keep::Always, 1, 0);
    assert_eq!(counts(&tracer).2, 2);
}

#[test]
fn many_long_traces_keep_less_of_their_end() {
    let (tracer, _handed_over) = tracer(1.0);
    let shared = tracer.shared.clone().unwrap();
    let grow = |trace: &mut Trace| {
        for micros in 0..60 {
            trace.event(micros, EventType::SmtpError, |data| {
                data.text(Key::Contents, &"x".repeat(2000));
            });
        }
    };
    let mut first = tracer.start(Kind::Session, 0);
    grow(&mut first);
    let whole = shared.going_on.load(Relaxed);
    assert!(whole > 60_000, "{whole}");
    shared.count_memory(0, GOING_ON_MAX);
    let mut second = tracer.start(Kind::Session, 0);
    grow(&mut second);
    let less = shared.going_on.load(Relaxed) - GOING_ON_MAX - whole;
    assert!(less < whole, "{less}");
    shared.count_memory(GOING_ON_MAX, 0);
    drop((first, second));
    assert_eq!(shared.going_on.load(Relaxed), 0);
}

/// However many traces go on, and whatever they have: events, terms, ids and names.
#[test]
fn the_memory_of_traces_that_go_on_is_limited() {
    let (tracer, handed_over) = tracer(1.0);
    let shared = tracer.shared.clone().unwrap();
    const COUNT: usize = 4000;
    let mut traces: Vec<_> = (0..COUNT).map(|_| tracer.start(Kind::Session, 0)).collect();
    for round in 0..25 {
        for trace in &mut traces {
            trace.event(round, EventType::SmtpError, |data| {
                data.text(Key::Contents, &"x".repeat(1800));
            });
            for at in 0..5 {
                let number = round as u64 * 5 + at;
                trace.index(Term::Queue(number));
                let recipient = format!("a@{number}{}.test", "d".repeat(200));
                trace.index(Term::Recipient(&recipient));
            }
        }
    }
    let most = GOING_ON_MAX + COUNT * SMALL + TRACE_MAX;
    let used = shared.going_on.load(Relaxed);
    assert!(used > GOING_ON_MAX && used <= most, "{used} of {most}");
    let last = traces.pop().unwrap();
    tracer.finish(last, Keep::Always);
    let record = handed_over.take().remove(0);
    let freed = used - shared.going_on.load(Relaxed);
    let numbers = (record.terms.len() + record.queues.len()) * size_of::<u64>();
    let names: usize = record.domains.iter().map(String::len).sum();
    assert!(freed > record.events.len() + numbers + names, "{freed}");
    let events: Vec<_> = record.events().collect();
    assert_eq!(events[0].micros, 0, "the beginning is there");
    let total: u64 = { events.iter() }
        .map(|event| event.number(Key::Total).unwrap_or(1))
        .sum();
    assert_eq!(total, 25, "and how much is missing");
    assert!(record.has_more_domains, "nobody sees it who should not");
    drop(traces);
    assert_eq!(shared.going_on.load(Relaxed), 0);
}
