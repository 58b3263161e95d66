//! Whose turn it is: who comes in the middle of a batch has its turn soon, and so has a site that
//! waits for a place.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use postrider_store::{Event, QueueId, Urgency};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    sync::Notify,
};

use super::{
    ONE_CONNECTION,
    patience::patiently,
    support::{Message, Setup, World},
    tarpits::{domain, host, send},
};

const BOB: &str = "[accounts.bob]\ndomain = \"example.org\"\n\
                   destinations.\"bob@example.org\" = {}\n";
const NORMAL: Urgency = Urgency {
    priority: 0,
    deadline: None,
    bulk: false,
};
const URGENT: Urgency = Urgency {
    priority: 4,
    ..NORMAL
};
const BULK: Urgency = Urgency {
    bulk: true,
    ..NORMAL
};
/// The message of the first batch at which the host waits.
const STOP: usize = 3;

/// A host that takes all mail, and waits at one message until it may go on.
struct Gate {
    address: SocketAddr,
    reached: Arc<Notify>,
    go_on: Arc<Notify>,
    /// The recipients of all transactions, in their order.
    recipients: Arc<Mutex<Vec<String>>>,
}

impl Gate {
    async fn start() -> Self {
        let (reached, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let recipients = Arc::new(Mutex::new(Vec::new()));
        let dots = Arc::new(AtomicUsize::new(0));
        let parts = (
            Arc::clone(&reached),
            Arc::clone(&go_on),
            Arc::clone(&recipients),
        );
        let address = host(move |stream| {
            let (reached, go_on, recipients) = parts.clone();
            let dots = Arc::clone(&dots);
            async move {
                let (read, mut write) = stream.into_split();
                write.write_all(b"220 x\r\n").await?;
                let mut lines = BufReader::new(read).lines();
                let mut text = false;
                while let Some(line) = lines.next_line().await? {
                    let reply = match line.as_str() {
                        "." => {
                            text = false;
                            if dots.fetch_add(1, Ordering::Relaxed) + 1 == STOP {
                                reached.notify_one();
                                go_on.notified().await;
                            }
                            "250 x\r\n"
                        }
                        _ if text => continue,
                        "DATA" => {
                            text = true;
                            "354 x\r\n"
                        }
                        _ => "250 x\r\n",
                    };
                    if let Some(to) = line.strip_prefix("RCPT TO:") {
                        recipients.lock().unwrap().push(to.to_owned());
                    }
                    write.write_all(reply.as_bytes()).await?;
                }
                Ok(())
            }
        })
        .await;
        Self {
            address,
            reached,
            go_on,
            recipients,
        }
    }

    /// How many transactions came before that for this recipient.
    fn before(&self, recipient: &str) -> usize {
        let recipients = self.recipients.lock().unwrap();
        let mut all = recipients.iter();
        all.position(|to| to.contains(recipient)).unwrap()
    }
}

/// Lets all tasks do what they can do now.
async fn settle() {
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
}

fn message<'a>(account: &'a str, to: &'a [&'a str]) -> Message<'a> {
    let login = match account {
        "ann" => "ann@example.org",
        _ => "bob@example.org",
    };
    Message {
        account,
        login,
        ..Message::to(to)
    }
}

/// 60 messages of one account and urgency are on their way over the only connection when another
/// one comes. Gives how many go before it.
async fn gone_before(many: (&str, Urgency), one: (&str, Urgency)) -> usize {
    let world = World::start(Setup {
        statics: ONE_CONNECTION,
        dynamics: BOB,
        ..Setup::default()
    });
    let gate = Gate::start().await;
    domain(&world, "x.test", "192.0.2.1");
    world.lead_to("192.0.2.1", gate.address);
    for _ in 0..60 {
        let message = message(many.0, &["many@x.test"]).later(5);
        world.submit_urgently(message, many.1).await;
    }
    world.clock.advance(Duration::from_secs(5));
    patiently("the third message", gate.reached.notified()).await;
    world
        .submit_urgently(message(one.0, &["one@x.test"]), one.1)
        .await;
    settle().await;
    gate.go_on.notify_one();
    let all = patiently("all messages", async {
        while world.store.counts().await.queued > 0 {
            tokio::task::yield_now().await;
        }
    });
    all.await;
    assert_eq!(gate.recipients.lock().unwrap().len(), 61, "each once");
    let before = gate.before("one@x.test");
    world.stop().await;
    before
}

#[tokio::test]
async fn a_worker_makes_way_in_the_middle_of_its_batch() {
    for (many, one) in [
        (("ann", NORMAL), ("bob", NORMAL)),
        (("ann", NORMAL), ("ann", URGENT)),
        (("ann", BULK), ("ann", NORMAL)),
        (("ann", BULK), ("bob", URGENT)),
    ] {
        assert_eq!(gone_before(many, one).await, STOP, "{many:?} {one:?}");
    }
    // These wait for the end of the batch.
    for (many, one) in [
        (("ann", NORMAL), ("bob", BULK)),
        (("ann", URGENT), ("ann", NORMAL)),
    ] {
        assert!(gone_before(many, one).await >= 32, "{many:?} {one:?}");
    }
}

#[tokio::test]
async fn messages_that_make_way_have_no_attempt_more() {
    let world = World::start(Setup {
        statics: ONE_CONNECTION,
        dynamics: BOB,
        ..Setup::default()
    });
    let gate = Gate::start().await;
    domain(&world, "x.test", "192.0.2.1");
    world.lead_to("192.0.2.1", gate.address);
    let mut ids = Vec::new();
    for _ in 0..20 {
        let [id]: [QueueId; 1] = world.add(message("ann", &["many@x.test"]).later(5)).await;
        ids.push(id);
    }
    world.clock.advance(Duration::from_secs(5));
    patiently("the third message", gate.reached.notified()).await;
    world.submit(message("bob", &["one@x.test"])).await;
    settle().await;
    gate.go_on.notify_one();
    let events = patiently("all messages", world.events(20)).await;
    assert!(events.iter().all(|(_, event)| *event == Event::Delivered));
    for id in ids {
        let retired = world.store.retired(id).await.unwrap().unwrap();
        assert_eq!(retired.message.attempts, 1);
    }
    assert_eq!(gate.before("one@x.test"), STOP);
    world.stop().await;
}

/// A site with much mail has the only place when mail for another site comes. Gives how many
/// messages of it go before that.
async fn gone_before_other_site(text: &str) -> usize {
    let world = World::start(Setup {
        statics: "[queue]\nmax_concurrency = 1\n",
        ..Setup::default()
    });
    let gate = Gate::start().await;
    domain(&world, "many.test", "192.0.2.1");
    domain(&world, "one.test", "192.0.2.2");
    world.lead_to("192.0.2.1", gate.address);
    world.lead_to("192.0.2.2", gate.address);
    for _ in 0..300 {
        let message = Message {
            text,
            ..Message::to(&["many@many.test"]).later(5)
        };
        world.submit(message).await;
    }
    world.clock.advance(Duration::from_secs(5));
    patiently("the third message", gate.reached.notified()).await;
    send(&world, 1, "one.test").await;
    settle().await;
    gate.go_on.notify_one();
    let one = async {
        let is_there = |to: &String| to.contains("@one.test");
        while !gate.recipients.lock().unwrap().iter().any(is_there) {
            tokio::task::yield_now().await;
        }
    };
    patiently("the other site", one).await;
    let before = gate.before("@one.test");
    world.stop().await;
    before
}

#[tokio::test]
async fn a_site_has_its_place_until_its_messages_cost_a_turn_while_others_wait() {
    let small = gone_before_other_site("Subject: x\r\n\r\nHi.\r\n").await;
    assert!((100..200).contains(&small), "{small}");
    // Each costs 13.
    let line = format!("{}\r\n", "x".repeat(62));
    let text = format!("Subject: x\r\n\r\n{}", line.repeat(3 * 16 * 1024));
    let large = gone_before_other_site(&text).await;
    assert!((STOP..20).contains(&large), "{large}");
}
