//! The entries of known providers: their limits hold, and connections stay with their hosts.

use std::sync::Mutex;

use postrider_config::{Dynamic, Static};

use super::*;

/// A remote that takes all mail, and how many messages came over each connection. It is for one
/// connection at a time.
async fn counting() -> (Remote, Arc<Mutex<Vec<usize>>>) {
    let sessions = Arc::new(Mutex::new(Vec::new()));
    let counter = Arc::clone(&sessions);
    let remote = Remote::start(move |point, _| {
        let mut sessions = counter.lock().unwrap();
        match point {
            Point::Command(line) if line.starts_with("EHLO") => sessions.push(0),
            Point::Command(line) if line.starts_with("MAIL") => {
                *sessions.last_mut().unwrap() += 1;
            }
            _ => {}
        }
        None
    })
    .await;
    (remote, sessions)
}

#[tokio::test]
async fn a_connection_has_no_more_messages_than_the_entry_says() {
    let world = World::start(Setup {
        dynamics: "[providers.big]\nmx = [\"big.test\"]\nconnections = 1\n\
                   messages_per_connection = 5\n",
        ..Setup::default()
    });
    let (remote, sessions) = counting().await;
    world.host("mx.big.test", "192.0.2.1");
    world.mx("a.test", &[(10, "mx.big.test")]);
    for _ in 0..12 {
        let [_] = world.add(Message::to(&["x@a.test"]).later(5)).await;
    }
    world.lead("192.0.2.1", &remote);
    world.clock.advance(Duration::from_secs(5));
    remote.wait_for(12).await;
    // Messages of a later claim go over the last connection, as far as it takes them.
    for _ in 0..4 {
        let [_] = world.add(Message::to(&["x@a.test"])).await;
    }
    remote.wait_for(16).await;
    world.stop().await;
    assert_eq!(*sessions.lock().unwrap(), [5, 5, 5, 1]);
}

#[tokio::test]
async fn mail_for_one_set_of_hosts_never_goes_to_another_set_of_the_site() {
    let world = World::start(Setup {
        dynamics: "[providers.big]\nmx = [\"big.test\"]\nconnections = 1\n",
        ..Setup::default()
    });
    let ((one, _), (other, _)) = (counted().await, counted().await);
    world.host("mx1.big.test", "192.0.2.1");
    world.host("mx2.big.test", "192.0.2.2");
    world.mx("one.test", &[(10, "mx1.big.test")]);
    world.mx("other.test", &[(10, "mx2.big.test")]);
    world.lead("192.0.2.1", &one);
    world.lead("192.0.2.2", &other);
    for _ in 0..5 {
        let [_, _] = world
            .add(Message::to(&["x@one.test", "x@other.test"]).later(5))
            .await;
    }
    world.clock.advance(Duration::from_secs(5));
    for (remote, domain) in [(&one, "one.test"), (&other, "other.test")] {
        let received = remote.wait_for(5).await;
        let mut rcpts = received.iter().flat_map(|message| &message.rcpts);
        assert!(rcpts.all(|rcpt| rcpt.contains(domain)), "{received:?}");
    }
    world.stop().await;
}

#[tokio::test]
async fn an_explanation_names_the_entry_whose_connections_are_used_up() {
    let world = World::start(Setup {
        dynamics: "[providers.big]\nmx = [\"big.test\"]\nconnections = 1\n",
        ..Setup::default()
    });
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.host("mx1.big.test", "192.0.2.1");
    world.lead_to("192.0.2.1", silent.local_addr().unwrap());
    world.mx("a.test", &[(10, "mx1.big.test")]);
    world.mx("b.test", &[(10, "mx2.big.test")]);
    let [_] = world.add(Message::to(&["x@a.test"])).await;
    patiently("the connection", silent.accept()).await.unwrap();
    // Another domain with other hosts of the same provider.
    for _ in 0..40 {
        let [_] = world.add(Message::to(&["x@b.test"])).await;
    }
    let [last] = world.add(Message::to(&["x@b.test"])).await;
    let message = world.store.queued(last).await.unwrap().unwrap();
    let explained = async {
        let wanted = "waits for one of the 1 connections to b.test (providers.big.connections)";
        while !world
            .queue
            .explain(&message)
            .await
            .unwrap()
            .contains(wanted)
        {
            tokio::task::yield_now().await;
        }
    };
    patiently("the explanation", explained).await;
    // The queue is not stopped: it would wait for the greeting.
}

#[tokio::test]
async fn a_change_of_the_entries_counts_for_the_next_messages() {
    let world = World::start(Setup::default());
    let (remote, sessions) = counting().await;
    world.host("mx.big.test", "192.0.2.1");
    world.mx("a.test", &[(10, "mx.big.test")]);
    world.lead("192.0.2.1", &remote);
    let [_] = world.add(Message::to(&["x@a.test"])).await;
    remote.wait_for(1).await;
    let before = world.config.load_full();
    let text = format!(
        "{}\n[providers.big]\nmx = [\"big.test\"]\nconnections = 1\nmessages_per_connection = 2\n",
        before.text()
    );
    let statics = "hostname = \"mail.example.org\"\npostmaster.account = \"ann\"\n\
                   listeners.l.ips = [\"127.0.0.1\"]\n";
    let statics = Static::parse(statics, "postrider.conf").unwrap();
    let changed = Dynamic::parse(&text, "domains.conf", &statics).unwrap();
    world.config.store(Arc::new(changed));
    for _ in 0..4 {
        let [_] = world.add(Message::to(&["x@a.test"]).later(5)).await;
    }
    world.clock.advance(Duration::from_secs(5));
    remote.wait_for(5).await;
    let asked = asked(&world, "a.test");
    world.stop().await;
    // The site is another one now, so the first connection is not used again.
    assert_eq!(*sessions.lock().unwrap(), [1, 2, 2]);
    assert_eq!(asked, 1, "the plan was made anew without a look-up");
}

/// A remote that says this to EHLO, and the commands that it got.
async fn offering(extensions: &'static str) -> (Remote, Arc<Mutex<Vec<String>>>) {
    let commands = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&commands);
    let remote = Remote::start(move |point, _| match point {
        Point::Command(line) => {
            all.lock().unwrap().push(line.clone());
            line.starts_with("EHLO").then_some(Act::Say(extensions))
        }
        Point::EndOfData => None,
    })
    .await;
    (remote, commands)
}

#[tokio::test]
async fn an_entry_chooses_tls_and_chunking() {
    let world = World::start(Setup {
        dynamics: "[providers.plain]\nmx = [\"plain.test\"]\ntls = \"none\"\nchunking = false\n\
                   [providers.secret]\nmx = [\"secret.test\"]\ntls = \"encrypt\"\n",
        ..Setup::default()
    });
    let (plain, commands) = offering("250-plain.test\r\n250-STARTTLS\r\n250 CHUNKING").await;
    let (secret, refused) = offering("250 secret.test").await;
    world.host("plain.test", "192.0.2.1");
    world.lead("192.0.2.1", &plain);
    world.host("secret.test", "192.0.2.2");
    world.lead("192.0.2.2", &secret);
    let [_] = world.add(Message::to(&["x@plain.test"])).await;
    plain.wait_for(1).await;
    let [id] = world.add(Message::to(&["x@secret.test"])).await;
    let events = world.events(2).await;
    assert!(events.contains(&(id, Event::Delayed)), "{events:?}");
    let queued = world.store.queued(id).await.unwrap().unwrap();
    assert!(
        queued.results[0].error.contains("STARTTLS"),
        "{:?}",
        queued.results
    );
    world.stop().await;
    let began = |commands: &Mutex<Vec<String>>, verb: &str| {
        let commands = commands.lock().unwrap();
        commands.iter().any(|command| command.starts_with(verb))
    };
    assert!(began(&commands, "DATA"));
    assert!(!began(&commands, "BDAT") && !began(&commands, "STARTTLS"));
    assert!(!began(&refused, "MAIL"), "nothing goes in clear");
}

#[tokio::test]
async fn a_site_rests_as_the_rule_for_a_reply_says() {
    let world = World::start(Setup {
        dynamics: "[providers.big]\nmx = [\"big.test\"]\nconnections = 1\n\
                   [[providers.big.reply]]\nmatch = '^421 .*\\[TS01\\]'\nclass = \"blocked\"\n\
                   rest = \"2h\"\n",
        ..Setup::default()
    });
    let remote = Remote::start(|point, seen| {
        let first = matches!(point, Point::Command(line) if line.starts_with("MAIL")) && seen == 0;
        first.then_some(Act::Say(
            "421 4.7.0 [TS01] Messages from 192.0.2.9 deferred",
        ))
    })
    .await;
    let (backup, _) = counted().await;
    world.host("mx1.big.test", "192.0.2.1");
    world.host("mx2.big.test", "192.0.2.2");
    world.mx("a.test", &[(10, "mx1.big.test"), (20, "mx2.big.test")]);
    world.lead("192.0.2.1", &remote);
    world.lead("192.0.2.2", &backup);
    let [first] = world.add(Message::to(&["x@a.test"])).await;
    assert_eq!(world.events(1).await, [(first, Event::Delayed)]);
    let begin = world.now();
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    let [second] = world.add(Message::to(&["y@a.test"])).await;
    let queued = world.at_rest().await;
    let second = queued.iter().find(|message| message.id == second).unwrap();
    assert_eq!(second.attempts, 0, "it waits, and no attempt counts");
    world.clock.advance(hours(1));
    let queued = world.at_rest().await;
    let last = queued.iter().map(|it| it.last_attempt).max().flatten();
    assert!(last <= Some(begin), "nothing was tried since");
    assert_eq!(
        (world.dialed("192.0.2.1"), world.dialed("192.0.2.2")),
        (1, 0)
    );
    world.clock.advance(hours(1));
    remote.wait_for(2).await;
    world.stop().await;
}

#[tokio::test]
async fn the_rule_of_a_provider_decides_what_a_reply_means() {
    let world = World::start(Setup {
        dynamics: "[providers.big]\nmx = [\"big.test\"]\n\
                   [[providers.big.reply]]\nmatch = 'slow'\nclass = \"rate_limited\"\n\
                   [[providers.big.reply]]\nmatch = '^554 .*gone'\nclass = \"unknown_mailbox\"\n",
        ..Setup::default()
    });
    let remote = Remote::start(|point, _| match point {
        Point::Command(line) if line.contains("slow@") => Some(Act::Say("550 5.1.1 You are SLOW")),
        Point::Command(line) if line.contains("gone@") => Some(Act::Say("554 5.3.0 gone")),
        _ => None,
    })
    .await;
    world.host("mx.big.test", "192.0.2.1");
    world.mx("a.test", &[(10, "mx.big.test")]);
    world.lead("192.0.2.1", &remote);
    let [slow] = world.add(Message::to(&["slow@a.test"])).await;
    let [gone] = world.add(Message::to(&["gone@a.test"])).await;
    world.events(2).await;
    let told = world.told().await;
    let of = |id: QueueId| told.iter().find(|event| event.queue_id == id).unwrap();
    assert_eq!(of(slow).event, Event::Delayed);
    assert!(!of(slow).suppressing);
    assert_eq!(of(gone).event, Event::Failed);
    assert!(of(gone).suppressing);
    world.stop().await;
}

/// A host takes two recipients a transaction, and says so in words of its own.
#[tokio::test]
async fn a_rule_tells_that_a_recipient_was_one_too_many() {
    let world = World::start(Setup {
        dynamics: "[providers.big]\nmx = [\"big.test\"]\n\
                   [[providers.big.reply]]\nmatch = \"no more of them\"\nclass = \"split\"\n\
                   scope = \"message\"\n",
        ..Setup::default()
    });
    let taken = Mutex::new(0);
    let remote = Remote::start(move |point, _| {
        let mut taken = taken.lock().unwrap();
        match point {
            Point::Command(line) if line.starts_with("MAIL") => *taken = 0,
            Point::Command(line) if line.starts_with("RCPT") => {
                *taken += 1;
                return (*taken > 2).then_some(Act::Say("550 5.7.1 no more of them"));
            }
            _ => {}
        }
        None
    })
    .await;
    world.host("mx.big.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    world.mx("a.test", &[(10, "mx.big.test")]);
    let to = ["a@a.test", "b@a.test", "c@a.test", "d@a.test", "e@a.test"];
    let _: [QueueId; 5] = world.add(Message::to(&to)).await;
    let received = remote.wait_for(3).await;
    let recipients: Vec<usize> = received.iter().map(|mail| mail.rcpts.len()).collect();
    assert_eq!(recipients, [2, 2, 1]);
    let delivered = |(_, event): &(QueueId, Event)| *event == Event::Delivered;
    assert!(world.events(5).await.iter().all(delivered));
    world.stop().await;
}
