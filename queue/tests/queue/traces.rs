//! Traces and counts of attempts, suppressions and changes.

use std::time::Duration;

use postrider_observe::{
    metrics::{AttemptOutcome, Class, Connected, DsnAction, End, Event as Told, SuppressedBy},
    trace::{EventType, Heard, Key, Kind, Listening, Record, Term, Value},
};
use postrider_queue::EndAs;
use postrider_store::{Event, QueueFilter, QueueId};

use crate::{
    remote::{Act, Point, Remote, RemoteTls},
    support::{Message, Setup, World},
};

/// A world whose mail for remote.test goes to mx.test.
fn world(setup: Setup<'_>) -> World {
    let world = World::start(setup);
    world.mx("remote.test", &[(10, "mx.test")]);
    world.host("mx.test", "192.0.2.1");
    world
}

/// The traces since the last look, oldest first.
fn taken(world: &World) -> Vec<Record> {
    let mut traces = world.observed.traces.take();
    traces.sort_by_key(|trace| trace.span);
    traces
}

/// The types of the events, without what was said on the wire.
fn types(trace: &Record) -> Vec<EventType> {
    let raw = [EventType::DeliveryRawInput, EventType::DeliveryRawOutput];
    let events = trace.events().map(|event| event.event);
    events.filter(|event| !raw.contains(event)).collect()
}

/// The value of a key in the event of this type.
fn value(trace: &Record, event: EventType, key: Key) -> Option<Value> {
    let mut events = trace.events().filter(|it| it.event == event);
    events.next().and_then(|event| event.value(key).cloned())
}

#[tokio::test]
async fn a_message_that_is_deferred_and_then_fails_has_a_trace_of_each_attempt() {
    use EventType as E;
    let tls = RemoteTls::new(&["mx.test"], "");
    let remote = Remote::start_with(Some(tls), |point, before| match point {
        Point::Command(line) if line.starts_with("RCPT") => Some(Act::Say(match before {
            0 => "451 4.3.0 later",
            _ => "550 5.1.1 gone",
        })),
        _ => None,
    })
    .await;
    let world = world(Setup {
        account: "failure_dsn = \"both\"",
        ..Setup::default()
    });
    world.lead("192.0.2.1", &remote);
    let [id] = world.add(Message::to(&["gone@remote.test"])).await;
    assert_eq!(world.events(1).await, [(id, Event::Delayed)]);
    let [first] = &taken(&world)[..] else {
        panic!("one attempt");
    };
    let begin = [
        E::DeliveryAttemptStart,
        E::DeliveryMxLookup,
        E::MtaStsPolicyNotFound,
        E::DeliveryIpLookup,
        E::DaneTlsaRecordNotFound,
        E::DeliveryConnect,
        E::DeliveryEhlo,
        E::DeliveryStartTls,
        E::DeliveryMailFrom,
        E::DeliveryRcptToRejected,
    ];
    let expected = [&begin[..], &[E::QueueRescheduled, E::DeliveryAttemptEnd]].concat();
    assert_eq!(types(first), expected);
    for term in [
        Term::Queue(id.0),
        Term::Sender("ann@example.org"),
        Term::Recipient("gone@remote.test"),
        Term::MessageId("1@example.org"),
        Term::Account("ann"),
        Term::RemoteIp("192.0.2.1".parse().unwrap()),
    ] {
        assert!(first.has(term), "{term:?}");
    }
    assert_eq!((first.kind, &first.queues), (Kind::Attempt, &vec![id.0]));
    let text = |event, key| value(first, event, key);
    let hosts = Value::List(vec![Value::Text("10 mx.test".into())]);
    assert_eq!(text(E::DeliveryMxLookup, Key::Details), Some(hosts));
    let version = text(E::DeliveryStartTls, Key::Version);
    assert_eq!(version, Some(Value::Text("TLSv1.3".into())));
    let code = text(E::DeliveryRcptToRejected, Key::Code);
    assert_eq!(code, Some(Value::Number(451)));
    let [queued] = &world.at_rest().await[..] else {
        panic!("one message");
    };
    let next = text(E::QueueRescheduled, Key::NextRetry);
    assert_eq!(next, Some(Value::Time(queued.next_attempt.0)));
    // What was said is between the steps, in order.
    assert!(
        first
            .events()
            .collect::<Vec<_>>()
            .is_sorted_by_key(|event| event.micros)
    );
    let said = first
        .events()
        .filter(|event| event.event == E::DeliveryRawInput);
    let said: Vec<_> = said
        .filter_map(|event| event.text(Key::Contents).map(str::to_owned))
        .collect();
    assert!(said.contains(&"451 4.3.0 later".to_owned()), "{said:?}");

    let wait = queued.next_attempt.since(world.now());
    world.clock.advance(wait);
    assert_eq!(world.events(2).await[1], (id, Event::Failed));
    let [second] = &taken(&world)[..] else {
        panic!("one attempt");
    };
    let events = types(second);
    let end = [
        E::DeliveryRcptToRejected,
        E::DeliveryFailed,
        E::PostriderSuppressed,
        E::DeliveryDsnPermFail,
        E::DeliveryAttemptEnd,
    ];
    assert!(events.ends_with(&end), "{events:?}");
    let class = value(second, E::DeliveryFailed, Key::Class);
    assert_eq!(class, Some(Value::Text("unknown_mailbox".into())));

    // The next message to the address is not sent.
    let [again] = world.add(Message::to(&["gone@remote.test"])).await;
    assert_eq!(world.events(3).await[2], (again, Event::Suppressed));
    let [third] = &taken(&world)[..] else {
        panic!("one end");
    };
    let end = [E::PostriderSuppressed, E::DeliveryDsnPermFail];
    assert_eq!(types(third), end);

    let metrics = &world.observed.metrics;
    let attempts = |outcome, class| metrics.attempts_total.with((outcome, class)).get();
    assert_eq!(attempts(AttemptOutcome::Deferred, Class::System), 1);
    assert_eq!(attempts(AttemptOutcome::Failed, Class::UnknownMailbox), 1);
    let ended = |end| metrics.messages_ended_total.with(end).get();
    assert_eq!((ended(End::Failed), ended(End::Suppressed)), (1, 1));
    assert_eq!(ended(End::Delivered), 0);
    let listed = metrics.suppressed_total.with(SuppressedBy::Reply).get();
    assert_eq!(listed, 1);
    assert_eq!(metrics.dsns_total.with(DsnAction::Failed).get(), 2);
    let told = |event| metrics.events_total.with(event).get();
    assert_eq!((told(Told::Delayed), told(Told::Failed)), (1, 1));
    assert_eq!(told(Told::Suppressed), 1);
    let connected = metrics.outgoing_connections_total.with(Connected::Ok).get();
    assert!(connected >= 1, "{connected}");
    world.stop().await;
}

/// What a listener hears up to the event of this type, or up to the end of a trace: the news of one
/// who knows what came before.
async fn heard(listening: &mut Listening, until: Option<EventType>) -> (u64, Vec<EventType>) {
    let (mut seen, mut events) = (0, Vec::new());
    loop {
        let Some(Heard::Going(going)) = listening.next().await else {
            panic!("news were lost");
        };
        let news = going.news(seen).map(|event| event.event);
        events.extend(
            news.filter(|it| *it != EventType::DeliveryRawInput)
                .filter(|it| *it != EventType::DeliveryRawOutput),
        );
        seen = going.total;
        if going.has_ended || until.is_some_and(|until| events.contains(&until)) {
            return (going.record.span, events);
        }
    }
}

#[tokio::test]
async fn the_steps_of_an_attempt_are_heard_while_it_goes_on() {
    let remote = Remote::start(|_, _| None).await;
    let world = world(Setup::default());
    world.lead("192.0.2.1", &remote);
    world.mx("silent.test", &[(10, "mx.silent.test")]);
    world.host("mx.silent.test", "192.0.2.2");
    world.silence("192.0.2.2");
    let mut listening = world.observed.traces.listen();
    let [id] = world.add(Message::to(&["a@remote.test"])).await;
    assert_eq!(world.events(1).await, [(id, Event::Delivered)]);
    let (span, mut events) = heard(&mut listening, None).await;
    let [trace] = &taken(&world)[..] else {
        panic!("one attempt");
    };
    // Each event is told once.
    assert_eq!(
        events[..2],
        [EventType::DeliveryAttemptStart, EventType::DeliveryIpLookup]
    );
    assert_eq!(events.last(), Some(&EventType::DeliveryAttemptEnd));
    let mut expected = types(trace);
    expected.sort();
    events.sort();
    assert_eq!((span, events), (trace.span, expected));

    // This one does not end, so nobody waits for the end of the queue.
    let [_] = world.add(Message::to(&["a@silent.test"])).await;
    let (_, events) = heard(&mut listening, Some(EventType::DeliveryIpLookup)).await;
    assert_eq!(events[0], EventType::DeliveryAttemptStart);
    assert!(taken(&world).is_empty());
}

/// Who may see the trace of one account's message may not see the steps of both.
#[tokio::test]
async fn what_was_told_of_two_accounts_goes_on_for_neither() {
    let remote = Remote::start(|_, _| None).await;
    let world = world(Setup {
        dynamics: "[accounts.bob]\ndomain = \"example.org\"\n\
                   destinations.\"bob@example.org\" = {}\n",
        ..Setup::default()
    });
    world.lead("192.0.2.1", &remote);
    let mut listening = world.observed.traces.listen();
    let of_ann = Message::to(&["a@remote.test"]).later(5);
    let [_] = world.add(of_ann).await;
    let of_bob = Message {
        account: "bob",
        login: "bob@example.org",
        ..Message::to(&["b@remote.test"]).later(5)
    };
    let [_] = world.add(of_bob).await;
    world.clock.advance(Duration::from_secs(5));
    // What was heard: whose it is, its number, and its end.
    let mut told: Vec<(Vec<String>, u64, bool)> = Vec::new();
    while told.iter().filter(|(_, _, has_ended)| *has_ended).count() < 3 {
        let Some(Heard::Going(going)) = listening.next().await else {
            panic!("news were lost");
        };
        let mut owners = going.record.owners.clone();
        owners.sort();
        told.push((owners, going.record.span, going.has_ended));
    }
    assert_eq!(told[0].0, ["ann", "bob"], "they share an attempt");
    let of_both = told[0].1;
    let is_right = told.iter().all(|(owners, span, _)| match owners.len() {
        2 => *span == of_both,
        _ => *span != of_both,
    });
    assert!(is_right, "{told:?}");
    let mut owners: Vec<_> = taken(&world).into_iter().map(|it| it.owners).collect();
    owners.sort();
    assert_eq!(owners, [["ann"], ["bob"]]);
    world.stop().await;
}

/// The messages of one connection are in different traces, if they are in different transactions.
#[tokio::test]
async fn each_transaction_has_its_own_trace() {
    let remote = Remote::start(|_, _| None).await;
    let world = world(Setup::default());
    world.lead("192.0.2.1", &remote);
    let both: [QueueId; 2] = world
        .add(Message::to(&["a@remote.test", "b@remote.test"]))
        .await;
    let other: [QueueId; 1] = world.add(Message::to(&["c@remote.test"])).await;
    world.events(3).await;
    let mut queues: Vec<Vec<u64>> = taken(&world).into_iter().map(|it| it.queues).collect();
    queues.sort();
    let ids = |ids: &[QueueId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
    let one_by_one = queues.concat();
    assert_eq!(one_by_one, [ids(&both), ids(&other)].concat());
    assert!(
        queues.iter().all(|queue| *queue != one_by_one),
        "{queues:?}"
    );
    world.stop().await;
}

#[tokio::test]
async fn what_ends_without_a_host_and_what_somebody_changes_is_traced_too() {
    use EventType as E;
    let world = world(Setup::default());
    // Nobody has this name.
    let [lost] = world.add(Message::to(&["x@nowhere.test"])).await;
    assert_eq!(world.events(1).await, [(lost, Event::Failed)]);
    let [trace] = &taken(&world)[..] else {
        panic!("one attempt");
    };
    let events = types(trace);
    assert_eq!(
        events[..2],
        [E::DeliveryAttemptStart, E::DeliveryMxLookupFailed]
    );
    assert!(events.contains(&E::DeliveryFailed), "{events:?}");

    let [dropped] = world.add(Message::to(&["x@remote.test"]).later(3600)).await;
    let only = QueueFilter {
        ids: vec![dropped],
        ..QueueFilter::default()
    };
    let ended = world.queue.end_all(&world.store, &only, EndAs::Drop, "ann");
    ended.await.unwrap();
    let [trace] = &taken(&world)[..] else {
        panic!("one change");
    };
    assert_eq!(
        (trace.kind, types(trace)),
        (Kind::Api, vec![E::PostriderChanged])
    );
    let who = value(trace, E::PostriderChanged, Key::Source);
    assert_eq!(who, Some(Value::Text("ann".into())));
    let canceled = world
        .observed
        .metrics
        .messages_ended_total
        .with(End::Canceled);
    assert_eq!(canceled.get(), 1);
    world.stop().await;
}
