//! Hosts that are silent, slow or gone, and faults of our own: they hold back no other delivery,
//! and cost no attempts.

use std::{sync::Arc, time::Duration};

use postrider_dns::DnsError;
use postrider_observe::{
    Metrics,
    metrics::{AttemptOutcome, Class, End, Event as Told},
};
use postrider_store::{Change, Event, NextAttempt, OutgoingEvent, QueueFilter, Queued, Time};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use super::{
    patience::patiently,
    remote::{Act, Point, Received, Remote},
    support::{Message, Setup, World},
};

const MINUTE: Duration = Duration::from_secs(60);
const EMFILE: i32 = 24;
const ENETUNREACH: i32 = 101;

/// A domain with one host.
pub(super) fn domain(world: &World, name: &str, ip: &str) {
    let host = format!("mx.{name}");
    world.mx(name, &[(10, &host)]);
    world.host(&host, ip);
}

pub(super) async fn send(world: &World, count: usize, domain: &str) {
    let to: Vec<String> = (0..count).map(|n| format!("{n}@{domain}")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    world.submit(Message::to(&to)).await;
}

/// Waits until the remote took mail for so many recipients.
pub(super) async fn taken(remote: &Remote, recipients: usize) {
    let what = format!("{recipients} recipients at the remote");
    let count = |received: &[Received]| received.iter().map(|mail| mail.rcpts.len()).sum::<usize>();
    remote
        .wait_until(&what, |received| count(received) >= recipients)
        .await;
}

/// A host whose sessions do this.
pub(super) async fn host<F: Future<Output = std::io::Result<()>> + Send>(
    session: impl Fn(TcpStream) -> F + Send + Sync + Clone + 'static,
) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let session = session.clone();
            tokio::spawn(async move {
                // The client closes the connection in the middle.
                let _ = session(stream).await;
            });
        }
    });
    address
}

/// So many sites, every tenth of them silent with so many messages. All others get their message
/// while the silent ones stay silent.
async fn deliver_beside_silent_sites(sites: usize, messages: usize, statics: &str) {
    let world = World::start(Setup {
        statics,
        ..Setup::default()
    });
    let remote = Remote::start(|_, _| None).await;
    let site = |number: usize| {
        let ip = format!("10.0.{}.{}", number / 250, number % 250 + 1);
        (format!("{number}.test"), ip)
    };
    for number in 0..sites {
        let (name, ip) = site(number);
        domain(&world, &name, &ip);
        if number % 10 == 0 {
            world.silence(&ip);
            send(&world, messages, &name).await;
        } else {
            world.lead(&ip, &remote);
        }
    }
    for number in (0..sites).filter(|number| number % 10 != 0) {
        send(&world, 1, &site(number).0).await;
    }
    taken(&remote, sites / 10 * 9).await;
    for number in (0..sites).step_by(10) {
        let (name, ip) = site(number);
        assert!(world.dialed(&ip) <= 2, "{name}: {}", world.dialed(&ip));
    }
}

#[tokio::test]
async fn a_thousand_sites_of_which_a_tenth_is_silent() {
    let statics = "[queue]\nper_destination.idle = \"0s\"\n";
    deliver_beside_silent_sites(1000, 1, statics).await;
}

/// The silent sites have messages for all connections that they may have, which would be all places
/// twice over.
#[tokio::test]
async fn silent_sites_with_many_messages_leave_room_for_the_others() {
    let statics = "[queue]\nmax_concurrency = 50\n";
    deliver_beside_silent_sites(100, 320, statics).await;
}

#[tokio::test]
async fn a_domain_with_many_silent_hosts_takes_half_of_the_places() {
    let world = World::start(Setup {
        statics: "[queue]\nmax_concurrency = 6\n",
        ..Setup::default()
    });
    let remote = Remote::start(|_, _| None).await;
    let hosts: Vec<String> = (1..=8).map(|number| format!("mx{number}.test")).collect();
    let ips: Vec<String> = (1..=8).map(|number| format!("192.0.2.{number}")).collect();
    for (host, ip) in hosts.iter().zip(&ips) {
        world.host(host, ip);
        world.silence(ip);
    }
    let mx: Vec<(u16, &str)> = hosts.iter().map(|host| (10, host.as_str())).collect();
    world.mx("silent.test", &mx);
    send(&world, 400, "silent.test").await;
    for number in 0..50 {
        let name = format!("{number}.test");
        let ip = format!("198.51.100.{number}");
        domain(&world, &name, &ip);
        world.lead(&ip, &remote);
        send(&world, 2, &name).await;
    }
    taken(&remote, 100).await;
    let dialed: usize = ips.iter().map(|ip| world.dialed(ip)).sum();
    assert!(dialed <= 3, "{dialed}");
}

#[tokio::test]
async fn a_failed_connection_counts_for_one_message() {
    let world = World::start(Setup::default());
    domain(&world, "gone.test", "192.0.2.1");
    send(&world, 40, "gone.test").await;
    let queued = world.at_rest().await;
    // The first failure is on record, and nothing was tried after it.
    let counted = |queued: &[Queued]| {
        let counted = queued.iter().filter(|message| message.attempts > 0);
        counted.count()
    };
    let dialed = world.dialed("192.0.2.1");
    assert!((1..=2).contains(&dialed), "{dialed}");
    assert_eq!(counted(&queued), dialed);
    for message in &queued {
        assert_eq!(message.results.len(), usize::from(message.attempts > 0));
    }
    assert_eq!(world.events(dialed).await.len(), dialed);
    // A later message waits with the others, without a connection.
    send(&world, 1, "gone.test").await;
    world.at_rest().await;
    assert_eq!(world.dialed("192.0.2.1"), dialed);
    // The next connection is a single probe, though the address failed.
    world.clock.advance(2 * MINUTE);
    world.dialed_until("192.0.2.1", dialed + 1).await;
    let now = world.now();
    let queued = world.at_rest().await;
    assert_eq!(world.dialed("192.0.2.1"), dialed + 1);
    assert_eq!(counted(&queued), dialed + 1);
    // An administrator who wants an attempt gets one.
    let all = QueueFilter::default();
    let now_due = Change {
        next_attempt: Some(NextAttempt::At(now)),
        ..Change::default()
    };
    world
        .queue
        .change(&world.store, &all, &now_due, "ann")
        .await
        .unwrap();
    world.dialed_until("192.0.2.1", dialed + 2).await;
    world.at_rest().await;
    // The host is back. All is delivered.
    let remote = Remote::start(|_, _| None).await;
    world.lead("192.0.2.1", &remote);
    world.clock.advance(4 * MINUTE);
    taken(&remote, 40).await;
    world.clock.advance(20 * MINUTE);
    taken(&remote, 41).await;
    world.stop().await;
}

#[tokio::test]
async fn a_message_at_a_site_that_fails_for_ever_fails_in_the_end() {
    let world = World::start(Setup {
        statics: "[queue]\nretry_intervals = [\"1h\", \"2h\"]\nretry_spread = 0.0\n",
        ..Setup::default()
    });
    domain(&world, "gone.test", "192.0.2.1");
    send(&world, 100, "gone.test").await;
    let ended = |told: &[OutgoingEvent]| {
        let failed = told.iter().filter(|told| told.event == Event::Failed);
        failed.count()
    };
    let mut steps = 0;
    while ended(&world.told().await) < 100 {
        world.at_rest().await;
        world.clock.advance(MINUTE);
        steps += 1;
        assert!(steps <= 5 * 60, "the messages should have ended by now");
    }
    let told = world.told().await;
    let expired = told
        .iter()
        .filter(|told| told.error.contains("expired; last: "));
    assert!(expired.count() > 50);
    // Far fewer connections than messages were tried.
    assert!(world.dialed("192.0.2.1") < 30);
    world.stop().await;
}

#[tokio::test]
async fn faults_of_our_own_cost_no_attempt() {
    for (error, wait) in [(EMFILE, 2), (ENETUNREACH, 61)] {
        let world = World::start(Setup::default());
        domain(&world, "far.test", "192.0.2.1");
        world.break_way("192.0.2.1", error);
        send(&world, 40, "far.test").await;
        let queued = world.at_rest().await;
        for message in &queued {
            assert_eq!((message.attempts, message.results.len()), (0, 0));
        }
        assert_eq!(world.told().await.len(), 0);
        let remote = Remote::start(|_, _| None).await;
        world.lead("192.0.2.1", &remote);
        world.clock.advance(Duration::from_secs(wait));
        taken(&remote, 40).await;
        world.stop().await;
    }
}

/// The first and the second look-up of a delivery.
#[tokio::test]
async fn a_look_up_that_finds_no_descriptor_costs_no_attempt() {
    for (name, errno, wait) in [
        ("far.test", EMFILE, 2),
        ("mx.far.test", EMFILE, 2),
        ("far.test", ENETUNREACH, 61),
        ("mx.far.test", ENETUNREACH, 61),
    ] {
        let world = World::start(Setup::default());
        let remote = Remote::start(|_, _| None).await;
        domain(&world, "far.test", "192.0.2.1");
        world.lead("192.0.2.1", &remote);
        let text = "no socket".to_owned();
        let fault = DnsError::System { errno, text };
        world.resolver.fail_with(name, fault);
        // As many as are claimed at once.
        send(&world, 20, "far.test").await;
        let queued = world.at_rest().await;
        for message in &queued {
            assert_eq!((message.attempts, message.results.len()), (0, 0), "{name}");
        }
        assert_eq!(world.told().await.len(), 0);
        world.resolver.mend(name);
        world.clock.advance(Duration::from_secs(wait));
        taken(&remote, 20).await;
        world.stop().await;
    }
}

/// Each message takes nine minutes, and an attempt 15. No sleep is real here.
#[tokio::test(start_paused = true)]
async fn an_attempt_ends_when_its_time_is_over_and_costs_the_other_messages_nothing() {
    let world = World::start(Setup {
        statics: "[queue]\nper_destination.connections = 1\n",
        ..Setup::default()
    });
    let slow = host(|stream| async move {
        let (read, mut write) = stream.into_split();
        write.write_all(b"220 x\r\n").await?;
        let mut lines = BufReader::new(read).lines();
        let mut text = false;
        while let Some(line) = lines.next_line().await? {
            match line.as_str() {
                "." => {
                    text = false;
                    tokio::time::sleep(9 * MINUTE).await;
                    write.write_all(b"250 x\r\n").await?;
                }
                _ if text => {}
                "DATA" => {
                    text = true;
                    write.write_all(b"354 x\r\n").await?;
                }
                _ => write.write_all(b"250 x\r\n").await?,
            }
        }
        Ok(())
    })
    .await;
    domain(&world, "slow.test", "192.0.2.1");
    world.lead_to("192.0.2.1", slow);
    world.resolver.hang("slow.test");
    let mut ids = Vec::new();
    for _ in 0..5 {
        let [id] = world.add(Message::to(&["x@slow.test"])).await;
        ids.push(id);
    }
    let start = tokio::time::Instant::now();
    world.resolver.mend("slow.test");
    assert_eq!(world.events(2).await.len(), 2);
    // The third message did not begin.
    assert_eq!(start.elapsed().as_secs() / 60, 18);
    let events = world.events(5).await;
    assert!(events.iter().all(|(_, event)| *event == Event::Delivered));
    for id in ids {
        let retired = world.store.retired(id).await.unwrap().unwrap();
        assert_eq!(retired.message.attempts, 1);
    }
    // A connection takes no further message after five minutes.
    assert_eq!(world.dialed("192.0.2.1"), 5);
}

#[tokio::test]
async fn a_host_that_says_later_on_an_open_connection_is_not_called_again() {
    let world = World::start(Setup {
        statics: "[queue]\nper_destination.connections = 1\n",
        ..Setup::default()
    });
    let remote = Remote::start(|point, _| match point {
        Point::Command(line) if line.starts_with("RCPT TO:<later") => {
            Some(Act::Say("451 4.7.1 later"))
        }
        _ => None,
    })
    .await;
    domain(&world, "x.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    let [_] = world.add(Message::to(&["a@x.test"])).await;
    remote.wait_for(1).await;
    world.events(1).await;
    let [later] = world.add(Message::to(&["later@x.test"])).await;
    let [after] = world.add(Message::to(&["b@x.test"])).await;
    remote.wait_for(2).await;
    let events = world.events(3).await;
    assert!(events.contains(&(later, Event::Delayed)), "{events:?}");
    assert!(events.contains(&(after, Event::Delivered)), "{events:?}");
    let told = world.told().await;
    let delayed = told.iter().find(|told| told.queue_id == later).unwrap();
    assert!(
        delayed.error.contains("RCPT: 451 4.7.1"),
        "{}",
        delayed.error
    );
    assert_eq!(world.dialed("192.0.2.1"), 1);
    world.stop().await;
}

/// The server closes the open connection, as it may. A new connection is made at once.
#[tokio::test]
async fn a_host_that_closed_an_open_connection_is_called_again() {
    let world = World::start(Setup {
        statics: "[queue]\nper_destination.connections = 1\n",
        ..Setup::default()
    });
    let remote = Remote::start(|point, count| match point {
        Point::Command(line) if line.starts_with("MAIL") && count == 1 => {
            Some(Act::Say("421 4.3.2 closing"))
        }
        _ => None,
    })
    .await;
    domain(&world, "x.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    send(&world, 1, "x.test").await;
    world.events(1).await;
    let [second] = world.add(Message::to(&["b@x.test"])).await;
    let events = patiently("both events", world.events(2)).await;
    assert!(events.contains(&(second, Event::Delivered)), "{events:?}");
    assert_eq!(world.dialed("192.0.2.1"), 2);
    let retired = world.store.retired(second).await.unwrap().unwrap();
    assert_eq!(retired.message.attempts, 1);
    world.stop().await;
}

/// The time limit is short, so that the test is. Nothing depends on how long it takes.
#[tokio::test]
async fn hosts_that_drip_or_never_end_are_left() {
    let world = World::start(Setup {
        statics: "[delivery]\nmessage_time = \"1s\"\n",
        ..Setup::default()
    });
    let dripping = host(|mut stream| async move {
        loop {
            stream.write_all(b"220-x\r\n").await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    let endless = host(|mut stream| async move {
        loop {
            stream.write_all(b"220-x\r\n").await?;
        }
    })
    .await;
    let mute = host(|stream| async move {
        let (read, mut write) = stream.into_split();
        write.write_all(b"220 x\r\n").await?;
        let mut lines = BufReader::new(read).lines();
        // After the go nothing comes.
        while let Some(line) = lines.next_line().await? {
            if line == "DATA" {
                write.write_all(b"354 go\r\n").await?;
                break;
            }
            write.write_all(b"250 x\r\n").await?;
        }
        while lines.next_line().await?.is_some() {}
        Ok(())
    })
    .await;
    let expected = [
        (
            "dripping.test",
            dripping,
            "the session did not begin within 1s",
        ),
        ("endless.test", endless, "reply of more than 512 lines"),
        ("mute.test", mute, "the message took too long as a whole"),
    ];
    for (number, (name, address, _)) in expected.iter().enumerate() {
        let ip = format!("192.0.2.{}", number + 1);
        domain(&world, name, &ip);
        world.lead_to(&ip, *address);
        send(&world, 1, name).await;
    }
    patiently("three events", world.events(3)).await;
    let told = world.told().await;
    for (name, _, error) in expected {
        let found = told.iter().any(|told| told.error.contains(error));
        assert!(found, "{name}: {told:?}");
    }
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn connections_that_wait_long_for_a_greeting_take_no_place() {
    let world = World::start(Setup {
        statics: "[queue]\nmax_concurrency = 1\n[delivery]\nslow_connections = 1\n",
        ..Setup::default()
    });
    // Nobody accepts these connections, but the system makes them.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for (name, ip) in [("a.test", "192.0.2.1"), ("b.test", "192.0.2.2")] {
        domain(&world, name, ip);
        world.lead_to(ip, silent.local_addr().unwrap());
    }
    let remote = Remote::start(|_, _| None).await;
    domain(&world, "good.test", "192.0.2.3");
    world.lead("192.0.2.3", &remote);
    send(&world, 1, "a.test").await;
    world.dialed_until("192.0.2.1", 1).await;
    send(&world, 1, "b.test").await;
    send(&world, 1, "good.test").await;
    // The first silent connection gives up its place after a minute. There is no room for a second
    // one, so that one ends.
    let mut events: Vec<Event> = world
        .events(2)
        .await
        .iter()
        .map(|(_, event)| *event)
        .collect();
    events.sort_by_key(|event| *event == Event::Delivered);
    assert_eq!(events, [Event::Delayed, Event::Delivered]);
    let told = world.told().await;
    let error = &told
        .iter()
        .find(|told| !told.error.is_empty())
        .unwrap()
        .error;
    assert!(
        error.contains("the session did not begin within 60s"),
        "{error}"
    );
    assert_eq!(world.dialed("192.0.2.1"), 1);
}

#[tokio::test]
async fn results_are_tried_until_they_are_stored() {
    let world = World::start(Setup::default());
    let remote = Remote::start(|_, _| None).await;
    domain(&world, "x.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    let mut refused = world.store.refuse_results(true);
    send(&world, 1, "x.test").await;
    remote.wait_for(1).await;
    for count in 1..=20 {
        refused.wait_for(|refused| *refused >= count).await.unwrap();
        // Claims would run out meanwhile, and the message would be sent again.
        world.clock.advance(2 * MINUTE);
        if count == 10 {
            // Whoever sets the wall clock back does not make the waits longer.
            world.clock.set(Time(0));
        }
    }
    send(&world, 1, "x.test").await;
    refused.wait_for(|refused| *refused >= 21).await.unwrap();
    assert_eq!(remote.received().len(), 1);
    // Nobody hears of a result that is not stored.
    let metrics = Arc::clone(&world.observed.metrics);
    assert_eq!(counted(&metrics), [0; 4]);
    assert!(world.observed.traces.take().is_empty());
    let _ = world.store.refuse_results(false);
    world.clock.advance(MINUTE);
    let events = world.events(2).await;
    assert!(events.iter().all(|(_, event)| *event == Event::Delivered));
    assert_eq!(remote.wait_for(2).await.len(), 2);
    world.stop().await;
    assert_eq!(counted(&metrics), [2; 4]);
}

/// How often a delivery is counted: as an attempt, its duration, an end, and an event.
fn counted(metrics: &Metrics) -> [u64; 4] {
    let delivered = AttemptOutcome::Delivered;
    let durations = &metrics.attempt_duration_seconds;
    [
        metrics.attempts_total.with((delivered, Class::None)).get(),
        durations.with(delivered).count(),
        metrics.messages_ended_total.with(End::Delivered).get(),
        metrics.events_total.with(Told::Delivered).get(),
    ]
}
