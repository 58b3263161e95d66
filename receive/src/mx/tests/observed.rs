//! What others see of a session: lines of the log, counts, and its trace.

use std::{
    fmt::{Debug, Write as _},
    sync::Mutex,
};

use postrider_observe::{
    Metrics, Tracer,
    metrics::{
        By, Check, CheckResult, Command, Label, LoginMechanism, LoginResult, LoginService, Reason,
        ReplyClass, Service, TimedCheck, Verdict as Outcomes,
    },
    trace::{self, EVENTS_MAX, EventType, HandedOver, Key, Record, Term, TracerSettings},
};
use postrider_queue::Mailboxes as _;
use postrider_smtp::{
    reason as protocol,
    sasl::Mechanism,
    server::{Refused, RefusedLogin, SessionName},
};
use postrider_store::{Order, QueueFilter};
use tracing::{
    Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use super::{
    dialog::Dialog,
    dmarc::ann_submits,
    guards::{SECOND, STRANGER, world},
    *,
};
use crate::{LocalMailboxes, SubmissionSession, decide::NAMES, refusals};

/// Keeps the lines from level INFO on, as `message field=value ...`.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.0.insert_str(0, &format!("{value:?}")),
            name => write!(self.0, " {name}={value:?}").unwrap(),
        }
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

impl Lines {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// A server whose traces are handed over to the test.
fn traced(sample: f64) -> (World, HandedOver) {
    let (tracer, handed_over) = Tracer::new(TracerSettings {
        sample,
        first_span: 1,
    });
    let mut world = World::new();
    world.context.tracer = tracer;
    (world, handed_over)
}

fn types(record: &Record) -> String {
    let types: Vec<_> = record.events().map(|event| event.event.name()).collect();
    types.join(" ")
}

/// The refusals that were counted, with their reasons.
fn refusals_of(metrics: &Metrics) -> Vec<(Service, Reason, u64)> {
    let mut counted = Vec::new();
    for service in Service::ALL {
        for reason in Reason::ALL {
            let count = metrics.refusals_total.with((*service, *reason)).get();
            if count > 0 {
                counted.push((*service, *reason, count));
            }
        }
    }
    counted
}

/// The refusal of a session for the reason with this name.
fn refusal(name: &'static str) -> Refused {
    let session = SessionName {
        session: SessionId::of(1),
        transaction: 1,
    };
    Refused {
        from: "x@remote.test".to_owned(),
        to: "ann@example.org".to_owned(),
        ..Refused::of_session(session, Reply::ok("no").because(name))
    }
}

#[test]
fn each_refusal_is_one_line_one_count_and_one_event() {
    let (mut world, handed_over) = traced(0.0);
    let lines = Lines::default();
    let client = client(REMOTE);
    let all = [protocol::ALL, NAMES, refusals::reason::ALL];
    for name in all.into_iter().flatten() {
        world.context.metrics = Arc::default();
        let refused = Event::Refused(Box::new(refusal(name)));
        let events = [Event::Connected, refused, Event::Ended];
        tracing::subscriber::with_default(lines.clone(), || {
            let mut session = world.session();
            events
                .iter()
                .for_each(|event| session.happened(&client, event));
        });
        let counted = refusals_of(&world.context.metrics);
        let [(Service::Smtp, reason, 1)] = counted.as_slice() else {
            panic!("{name}: {counted:?}")
        };
        let shown = lines.take();
        let [line] = shown.as_slice() else {
            panic!("{name}: {shown:?}")
        };
        assert!(
            line.starts_with("refused session=000000000001.1 remote=192.0.2.7 "),
            "{line}"
        );
        for part in [
            "helo=\"mail.remote.test\"",
            "from=\"x@remote.test\"",
            "to=\"ann@example.org\"",
            &format!("reason={:?}", reason.text()),
            "code=250",
            "enhanced=2.0.0",
            "text=no",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
        let records = handed_over.take();
        let [record] = records.as_slice() else {
            panic!("{name}: {records:?}")
        };
        let events: Vec<_> = record.events().collect();
        let [_, event, _] = events.as_slice() else {
            panic!("{name}: {events:?}")
        };
        let same = format!("trace.event={:?}", event.event.name());
        assert!(line.contains(&same), "{same}: {line}");
        assert_eq!(event.text(Key::Rule), Some(reason.text()), "{name}");
        assert_eq!(event.number(Key::Code), Some(250), "{name}");
        let transaction = event.text(Key::Session);
        assert_eq!(
            transaction,
            Some("000000000001.1"),
            "{name}: no other event has it"
        );
        assert_eq!(event.text(Key::To), Some("ann@example.org"), "{name}");
        assert!(record.has(Term::Sender("x@remote.test")), "{name}");
        assert!(record.has(Term::Recipient("ann@example.org")), "{name}");
        assert!(record.has(Term::Session("000000000001.1")), "{name}");
    }
}

#[test]
fn each_refused_login_is_one_line_one_count_and_one_event() {
    let (mut world, handed_over) = traced(0.0);
    let lines = Lines::default();
    let client = client(REMOTE);
    for (name, line, result) in [
        ("bad_credentials", "login refused", LoginResult::Wrong),
        ("login_disabled", "login refused", LoginResult::Disabled),
        ("too_many_logins", "logins limited", LoginResult::Limited),
        ("login_given_up", "login refused", LoginResult::Malformed),
        ("token_unchecked", "login refused", LoginResult::Unavailable),
    ] {
        world.context.metrics = Arc::default();
        let login = RefusedLogin {
            mechanism: Mechanism::Plain,
            user: "ann@example.org".to_owned(),
        };
        let refused = Event::Refused(Box::new(Refused {
            login: Some(login),
            ..refusal(name)
        }));
        let events = [Event::Connected, refused, Event::Ended];
        tracing::subscriber::with_default(lines.clone(), || {
            let mut session =
                SubmissionSession::new(world.context.clone(), "mx.example.org".to_owned());
            events
                .iter()
                .for_each(|event| session.happened(&client, event));
        });
        let shown = lines.take();
        let [shown] = shown.as_slice() else {
            panic!("{name}: {shown:?}")
        };
        assert!(shown.starts_with(line), "{shown}");
        let parts = [
            "service=\"submission\"",
            "account=\"ann\"",
            "mechanism=\"PLAIN\"",
        ];
        for part in parts {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        let metrics = &world.context.metrics;
        let labels = (LoginService::Submission, result);
        assert_eq!(
            metrics.authentications_total.with(labels).get(),
            1,
            "{name}"
        );
        let counted = refusals_of(metrics);
        assert_eq!(counted, [(Service::Submission, Reason::Login, 1)], "{name}");
        let records = handed_over.take();
        let [record] = records.as_slice() else {
            panic!("{name}: {records:?}")
        };
        assert_eq!(record.events().count(), 3, "{name}");
        let event = record.events().nth(1).unwrap();
        let same = format!("trace.event={:?}", event.event.name());
        assert!(shown.contains(&same), "{same}: {shown}");
        assert!(record.has(Term::Account("ann")), "{name}");
    }
    let plain = &world.context.metrics.authentication_mechanisms_total;
    assert_eq!(plain.with(LoginMechanism::Plain).get(), 0);
}

const MESSAGE: &str = "From: x@remote.test\r\nTo: ann@example.org\r\nSubject: a secret\r\n\
                       Message-ID: <1@remote.test>\r\n\r\nbody of the message\r\n.\r\n";

/// A session that brings a message from this client, and its end.
async fn deliver(world: &World, remote: &str) -> String {
    let (mut dialog, _) = Dialog::new(world, remote).await;
    let mut heard = String::new();
    for lines in [
        "EHLO mail.remote.test\r\n",
        "MAIL FROM:<x@remote.test>\r\nRCPT TO:<ann@example.org>\r\n",
        "RCPT TO:<nobody@example.org>\r\n",
        "DATA\r\n",
        MESSAGE,
        "QUIT\r\n",
    ] {
        heard.push_str(&dialog.say(lines).await);
    }
    dialog.handler.happened(&client(remote), &Event::Ended);
    heard
}

#[tokio::test]
async fn the_story_of_a_message_is_in_its_trace_line_and_counts() {
    let (world, handed_over) = traced(1.0);
    let lines = Lines::default();
    let heard = {
        let _guard = tracing::subscriber::set_default(lines.clone());
        deliver(&world, REMOTE).await
    };
    assert!(heard.contains("250 2.0.0 delivered as 1\r\n"), "{heard}");
    let shown = lines.take();
    let [refused, accepted] = shown.as_slice() else {
        panic!("{shown:?}")
    };
    assert!(refused.starts_with("refused "), "{refused}");
    for part in [
        "accepted session=000000000001.1 by=\"smtp\" remote=192.0.2.7 ",
        "helo=\"mail.remote.test\"",
        "account=\"ann\"",
        "from=x@remote.test",
        "to=\"ann@example.org\"",
        "mail=1 ",
        "message_id=\"<1@remote.test>\"",
        "verdict=\"inbox\"",
        "elapsed_ms=0",
    ] {
        assert!(accepted.contains(part), "{part}: {accepted}");
    }
    let records = handed_over.take();
    let [record] = records.as_slice() else {
        panic!("{records:?}")
    };
    let expected = "smtp.connection-start smtp.ehlo smtp.mail-from smtp.rcpt-to \
                    smtp.mailbox-does-not-exist smtp.iprev-pass smtp.spf-from-pass \
                    smtp.dmarc-fail spam.classify postrider.decision message-ingest.ham \
                    smtp.connection-end";
    assert_eq!(types(record), expected);
    for term in [
        Term::Session("000000000001"),
        Term::Session("000000000001.1"),
        Term::Sender("x@remote.test"),
        Term::Recipient("ann@example.org"),
        Term::Recipient("nobody@example.org"),
        Term::RemoteIp([192, 0, 2, 7].into()),
        Term::MessageId("<1@remote.test>"),
        Term::Account("ann"),
    ] {
        assert!(record.has(term), "{term:?}");
    }
    let all = format!("{:?} {shown:?}", record.events().collect::<Vec<_>>());
    assert!(!all.contains("secret") && !all.contains("body of"), "{all}");
    let metrics = &world.context.metrics;
    assert_eq!(metrics.accepted_messages_total.with(By::Smtp).get(), 1);
    assert_eq!(metrics.accepted_recipients_total.with(By::Smtp).get(), 1);
    assert!(metrics.accepted_bytes_total.with(By::Smtp).get() > 100);
    assert_eq!(metrics.verdicts_total.with(Outcomes::Inbox).get(), 1);
    for (command, class, count) in [
        (Command::Ehlo, ReplyClass::Two, 1),
        (Command::Rcpt, ReplyClass::Two, 1),
        (Command::Rcpt, ReplyClass::Five, 1),
        (Command::Data, ReplyClass::Three, 1),
        (Command::Data, ReplyClass::Two, 1),
        (Command::Quit, ReplyClass::Two, 1),
    ] {
        let counted = metrics.commands_total.with((Service::Smtp, command, class));
        assert_eq!(counted.get(), count, "{command:?} {class:?}");
    }
    for (check, result) in [
        (Check::Iprev, CheckResult::Pass),
        (Check::Spf, CheckResult::Pass),
        (Check::Dmarc, CheckResult::None),
    ] {
        let counted = metrics.mail_checks_total.with((check, result));
        assert_eq!(counted.get(), 1, "{check:?}");
    }
    for check in [TimedCheck::Iprev, TimedCheck::Spf, TimedCheck::Dmarc] {
        let observed = metrics.check_duration_seconds.with(check);
        assert_eq!(observed.count(), 1, "{check:?}");
    }
}

/// A session may bring thousands of messages. Each of them is found with all that happened to it.
#[tokio::test]
async fn each_message_of_a_long_session_keeps_its_story() {
    let (world, handed_over) = traced(1.0);
    let (mut dialog, _) = Dialog::new(&world, REMOTE).await;
    dialog.say("EHLO mail.remote.test\r\n").await;
    const COUNT: usize = 120;
    for number in 1..=COUNT {
        let mail = format!("MAIL FROM:<x{number}@remote.test>\r\nRCPT TO:<ann@example.org>\r\n");
        dialog.say(&mail).await;
        dialog.say("DATA\r\n").await;
        assert!(dialog.say(MESSAGE).await.contains("250 2.0.0 delivered"));
    }
    dialog.handler.happened(&client(REMOTE), &Event::Ended);
    let records = handed_over.take();
    let count: usize = records.iter().map(|record| record.events().count()).sum();
    assert!(
        count > EVENTS_MAX,
        "one trace has no room for {count} events"
    );
    for number in 1..=COUNT {
        let sender = format!("x{number}@remote.test");
        let session = format!("000000000001.{number}");
        let is_of = |record: &&Record| record.has(Term::Sender(&sender));
        let of: Vec<_> = records.iter().filter(is_of).collect();
        let [record] = of.as_slice() else {
            panic!("{number}: {} traces", of.len())
        };
        for term in [
            Term::Session("000000000001"),
            Term::Session(&session),
            Term::RemoteIp([192, 0, 2, 7].into()),
            Term::Account("ann"),
        ] {
            assert!(record.has(term), "{number}: {term:?}");
        }
        let events: Vec<_> = record.events().collect();
        assert_eq!(events[0].event, EventType::SmtpConnectionStart);
        assert_eq!(events[0].text(Key::RemoteIp), Some("192.0.2.7"));
        let from = |event: &trace::Event| event.text(Key::From) == Some(sender.as_str());
        let begin = events.iter().position(from).unwrap();
        let story: Vec<_> = events[begin..].iter().map(|event| event.event).collect();
        let end = story
            .iter()
            .position(|it| *it == EventType::MessageIngestHam);
        let story = &story[..=end.unwrap()];
        assert!(!story[1..].contains(&EventType::SmtpMailFrom), "{number}");
        assert!(story.contains(&EventType::PostriderDecision), "{number}");
    }
    let ends = { records.iter() }
        .filter(|record| record.has(Term::Type(EventType::SmtpConnectionEnd)))
        .count();
    assert_eq!(ends, 1);
}

#[tokio::test]
async fn ordinary_sessions_are_sampled_and_failures_are_kept() {
    for (sample, rcpt, kept) in [
        (0.0, "RCPT TO:<ann@example.org>\r\n", 0),
        (1.0, "RCPT TO:<ann@example.org>\r\n", 1),
        (0.0, "RCPT TO:<nobody@example.org>\r\n", 1),
    ] {
        let (world, handed_over) = traced(sample);
        let (mut dialog, _) = Dialog::new(&world, REMOTE).await;
        dialog
            .say("EHLO mail.remote.test\r\nMAIL FROM:<x@remote.test>\r\n")
            .await;
        dialog.say(rcpt).await;
        dialog.handler.happened(&client(REMOTE), &Event::Ended);
        assert_eq!(handed_over.take().len(), kept, "{sample} {rcpt}");
        // What is cut off is kept.
        drop(Dialog::new(&world, REMOTE).await);
        assert_eq!(handed_over.take().len(), 1);
    }
}

#[tokio::test]
async fn the_greylist_counts_what_it_says() {
    let mut world = world();
    let (tracer, handed_over) = Tracer::new(TracerSettings {
        sample: 1.0,
        first_span: 1,
    });
    world.context.tracer = tracer;
    let rcpt = async || {
        let (mut dialog, _) = Dialog::new(&world, STRANGER).await;
        let begin = "EHLO x.test\r\nMAIL FROM:<x@remote.test>\r\nRCPT TO:<ann@example.org>\r\n";
        let heard = dialog.say(begin).await;
        dialog.handler.happened(&client(STRANGER), &Event::Ended);
        // The trace has what was said, and what it was said for.
        let records = handed_over.take();
        let events = records.iter().flat_map(Record::events);
        let mut asked = events.filter(|it| it.event == EventType::PostriderGreylist);
        let asked = asked.next().unwrap();
        let of = |key| asked.text(key).unwrap().to_owned();
        assert_eq!(of(Key::To), "ann@example.org");
        assert_eq!(of(Key::Domain), "remote.test");
        assert!(of(Key::Details).starts_with("iprev "), "{asked:?}");
        assert_eq!(asked.value(Key::Tls), Some(&trace::Value::Bool(false)));
        (heard, of(Key::Result))
    };
    let (heard, result) = rcpt().await;
    assert!(heard.contains("451 4.7.1 "), "{heard}");
    assert_eq!(result, "deferred");
    world.clock.advance(61 * SECOND);
    assert_eq!(rcpt().await.1, "passed");
    world.clock.advance(61 * SECOND);
    assert_eq!(rcpt().await.1, "known");
    use postrider_observe::metrics::Greylisted;
    for greylisted in Greylisted::ALL {
        let counted = world.context.metrics.greylist_total.with(*greylisted).get();
        assert_eq!(counted, 1, "{greylisted:?}");
    }
}

/// The queue may ask again for the same message: if the result is not stored, it comes once more.
#[tokio::test]
async fn mail_of_our_own_queue_is_told_of_once_when_it_is_stored() {
    let world = World::new();
    ann_submits(&world, "ann@example.org", "letter8").await;
    let (context, config) = (&world.context, world.context.dynamic());
    let all = QueueFilter::default();
    let list = context.store.list(&all, None, Order::Ascending, 1);
    let mut message = list.await.unwrap().items.remove(0);
    message.recipient = "ann@example.org".parse().unwrap();
    let mailboxes = LocalMailboxes::new(context.clone());
    let counted = || {
        let (accepted, verdicts) = (
            &context.metrics.accepted_messages_total,
            &context.metrics.verdicts_total,
        );
        (
            accepted.with(By::Local).get(),
            verdicts.with(Outcomes::Inbox).get(),
        )
    };
    let lines = Lines::default();
    let again = mailboxes.take(&config, &message).await.unwrap();
    let taken = mailboxes.take(&config, &message).await.unwrap();
    drop(again);
    assert_eq!(counted(), (0, 0));
    let telling = taken.told.unwrap();
    tracing::subscriber::with_default(lines.clone(), || telling.tell());
    assert_eq!(counted(), (1, 1));
    let shown = lines.take();
    assert!(
        matches!(shown.as_slice(), [line] if line.starts_with("accepted by=\"local\"")),
        "{shown:?}"
    );
}
