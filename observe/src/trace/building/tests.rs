use super::*;
use crate::trace::{Event, Keep, Tracer, TracerSettings, Value};

/// The record of a trace that `fill` makes.
fn record(kind: Kind, fill: impl FnOnce(&mut Trace)) -> Record {
    let (tracer, handed_over) = Tracer::new(TracerSettings::default());
    let mut trace = tracer.start(kind, 5);
    fill(&mut trace);
    tracer.finish(trace, Keep::Always);
    handed_over.take().remove(0)
}

fn only(fill: impl FnOnce(&mut Data<'_>)) -> Event {
    let record = record(Kind::Session, |trace| {
        trace.event(7, EventType::SmtpRcptTo, fill);
    });
    let mut events = record.events();
    let event = events.next().unwrap();
    assert_eq!(events.next(), None);
    assert!(record.events.len() <= EVENT_MAX);
    event
}

#[test]
fn values_come_back_as_they_were_added() {
    let event = only(|data| {
        data.text(Key::From, "a@b.test");
        data.text_if_any(Key::Reason, "");
        data.number(Key::Size, 12);
        data.number(Key::Limit, u64::MAX);
        data.flag(Key::Tls, true);
        data.flag(Key::Strict, false);
        data.time(Key::NextRetry, -3);
        data.texts(Key::To, ["x@y.test", "z@y.test"]);
        data.display(Key::Domain, format_args!("{}.test", "b"));
    });
    let text = |text: &str| Value::Text(text.to_owned());
    let expected = [
        (Key::From, text("a@b.test")),
        (Key::Size, Value::Number(12)),
        (Key::Limit, Value::Number(NUMBER_MAX)),
        (Key::Tls, Value::Bool(true)),
        (Key::Strict, Value::Bool(false)),
        (Key::NextRetry, Value::Time(-3)),
        (
            Key::To,
            Value::List(vec![text("x@y.test"), text("z@y.test")]),
        ),
        (Key::Domain, text("b.test")),
    ];
    assert_eq!((event.micros, event.event), (7, EventType::SmtpRcptTo));
    assert_eq!(event.values, expected);
}

#[test]
fn long_values_are_cut_at_characters() {
    for long in ["x".repeat(5000), "\u{20ac}".repeat(5000)] {
        let event = only(|data| {
            data.text(Key::Contents, &long);
            data.text(Key::Reason, "no room");
            data.number(Key::Size, 1);
            data.flag(Key::Tls, true);
            data.texts(Key::To, ["no room"]);
        });
        let kept = event.text(Key::Contents).unwrap();
        assert!(long.starts_with(kept) && kept.len() > EVENT_MAX - 24, "cut");
    }
    let event = only(|data| {
        data.texts(Key::To, (0..1000).map(|at| format!("{at}@b.test")));
        data.display(
            Key::Details,
            format_args!("{}{}", "y".repeat(4000), "never"),
        );
    });
    let Some(Value::List(list)) = event.value(Key::To) else {
        panic!("a list");
    };
    assert!(list.len() > 100 && list.len() < 300, "{}", list.len());
}

/// Times of events and the number of those left out, of a trace with so many events of that size.
fn long_trace(count: i64, size: usize) -> (Record, Vec<i64>, u64) {
    let text = "x".repeat(size);
    let record = record(Kind::Attempt, |trace| {
        for micros in 0..count {
            trace.event(micros, EventType::DeliveryRawInput, |data| {
                data.text(Key::Contents, &text);
            });
        }
    });
    let events: Vec<_> = record.events().collect();
    let left_out = events.iter();
    let mut left_out = left_out.filter(|it| it.event == EventType::PostriderLeftOut);
    let left_out = left_out.next().map_or(0, |it| {
        let total = it.number(Key::Total).unwrap();
        let at = usize::try_from(it.micros).unwrap();
        assert_eq!(events[at].event, EventType::PostriderLeftOut, "in order");
        total
    });
    let kept = events.iter();
    let kept = kept.filter(|it| it.event == EventType::DeliveryRawInput);
    let kept = kept.map(|it| it.micros).collect();
    (record, kept, left_out)
}

#[test]
fn the_middle_of_a_long_trace_is_left_out() {
    for (count, size, is_whole) in [
        (100, 10, true),
        (255, 10, true),
        (510, 10, true),
        (511, 10, false),
        (100_000, 10, false),
        (30, 1000, true),
        (100, 1000, false),
        (1000, 3000, false),
    ] {
        let (record, kept, left_out) = long_trace(count, size);
        assert_eq!(left_out == 0, is_whole, "{count} of {size}");
        assert_eq!(kept.len() as u64 + left_out, count as u64);
        assert_eq!(kept.first(), Some(&0), "the beginning");
        assert_eq!(kept.last(), Some(&(count - 1)), "the end");
        assert!(kept.is_sorted());
        assert!(record.events.len() <= TRACE_MAX);
        assert!(record.events().count() <= EVENTS_MAX);
        assert_eq!(record.ended, count - 1);
        if !is_whole {
            let middle = kept.windows(2).filter(|pair| pair[1] != pair[0] + 1);
            assert_eq!(middle.count(), 1, "one gap");
        }
    }
}

#[test]
fn a_record_knows_what_it_is_about() {
    let record = record(Kind::Session, |trace| {
        trace.event(9, EventType::SmtpMailFrom, |_| {});
        for term in [
            Term::Session("7h3kq0v9x2mc.1"),
            Term::Session("7h3kq0v9x2mc.2"),
            Term::Queue(8),
            Term::Queue(7),
            Term::Queue(8),
            Term::Recipient("a@One.test"),
            Term::Recipient("b@one.TEST"),
            Term::Recipient("c@two.test"),
            Term::Account("info"),
        ] {
            trace.index(term);
        }
        trace.belongs_to("app");
        trace.belongs_to("app");
    });
    assert_eq!((record.started, record.ended), (5, 9));
    assert_eq!(record.session, "7h3kq0v9x2mc.1");
    assert_eq!(record.queues, [7, 8]);
    assert_eq!(record.domains, ["one.test", "two.test"]);
    assert_eq!(
        record.owners,
        ["app"],
        "whose mailbox it was does not matter"
    );
    for (term, is_there) in [
        (Term::Session("7h3kq0v9x2mc"), true),
        (Term::Session("7H3KQ0V9X2MC.2"), true),
        (Term::Session("7h3kq0v9x2mc.3"), false),
        (Term::Span(record.span), true),
        (Term::Queue(8), true),
        (Term::Recipient("A@one.test"), true),
        (Term::Sender("A@one.test"), false),
        (Term::Account("info"), true),
        (Term::Account("app"), true),
        (Term::Type(EventType::SmtpMailFrom), true),
        (Term::Type(EventType::SmtpRcptTo), false),
    ] {
        assert_eq!(record.has(term), is_there, "{term:?}");
    }
}

#[test]
fn accounts_own_what_is_no_session() {
    for (kind, owners) in [
        (Kind::Session, &[][..]),
        (Kind::Attempt, &["app"]),
        (Kind::Webhook, &["app"]),
        (Kind::Api, &["app"]),
    ] {
        let record = record(kind, |trace| trace.index(Term::Account("app")));
        assert_eq!(record.owners, owners, "{kind:?}");
    }
}

/// The same session, sender and host again and again do not use up the room for other terms.
#[test]
fn terms_that_are_there_take_no_room() {
    let record = record(Kind::Session, |trace| {
        for at in 0..TERMS_MAX as u64 {
            trace.index(Term::Session("7h3kq0v9x2mc.1"));
            trace.index(Term::Sender("a@b.test"));
            trace.index(Term::Recipient("c@d.test"));
            trace.index(Term::Queue(at % 50));
            trace.index(Term::Account(["one", "two"][at as usize % 2]));
        }
        trace.index(Term::Queue(7301));
        trace.index(Term::MessageId("<last@b.test>"));
    });
    for term in [
        Term::Sender("a@b.test"),
        Term::Queue(49),
        Term::Queue(7301),
        Term::MessageId("<last@b.test>"),
    ] {
        assert!(record.has(term), "{term:?}");
    }
    assert_eq!(record.queues.len(), 51);
    assert!(record.terms.len() < 64, "{}", record.terms.len());
}

#[test]
fn a_trace_says_when_it_is_long() {
    type Fill = fn(&mut Trace, u64);
    let ways: [(&str, Fill, std::ops::Range<u64>); 4] = [
        (
            "events",
            |trace, at| trace.event(at as i64, EventType::SmtpError, |_| {}),
            100..200,
        ),
        (
            "bytes",
            |trace, at| {
                trace.event(at as i64, EventType::SmtpError, |data| {
                    data.text(Key::Contents, &"x".repeat(1000));
                });
            },
            10..30,
        ),
        ("queue", |trace, at| trace.index(Term::Queue(at)), 500..600),
        ("terms", |trace, at| trace.index(Term::Hook(at)), 1000..1100),
    ];
    for (what, fill, expected) in ways {
        record(Kind::Session, |trace| {
            let mut count = 0;
            while !trace.is_long() {
                fill(trace, count);
                count += 1;
            }
            assert!(expected.contains(&count), "{what}: {count}");
        });
    }
    assert!(!Trace::off().is_long());
}

#[test]
fn names_and_lists_of_a_record_are_bounded() {
    let record = record(Kind::Session, |trace| {
        trace.index(Term::Session(&"s".repeat(1000)));
        for at in 0..10_000 {
            trace.index(Term::Queue(at));
            trace.index(Term::Recipient(&format!("a@{at}{}.test", "d".repeat(1000))));
        }
    });
    assert_eq!(record.session.len(), 255);
    assert_eq!(record.queues.len(), QUEUES_MAX);
    assert_eq!(record.domains.len(), DOMAINS_MAX);
    assert!(record.has_more_domains);
    assert!(record.domains.iter().all(|domain| domain.len() <= 255));
    assert!(record.terms.len() <= TERMS_MAX + 1);
}
