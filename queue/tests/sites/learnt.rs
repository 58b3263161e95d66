//! What was learnt of sites and senders, and what becomes of the messages that wait for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use postrider_queue::SiteState;

use super::{
    ONE_CONNECTION,
    patience::patiently,
    remote::{Act, Point, Remote},
    support::{Message, Setup, World},
    tarpits::{domain, send, taken},
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const BLOCKED: &str = "550 5.7.1 192.0.2.9 is listed at zen.spamhaus.org";

/// A remote that says this to MAIL commands with a text while the flag is set, and how many of them
/// came.
async fn remote_that_says(
    text: &'static str,
    reply: &'static str,
) -> (Remote, Arc<AtomicBool>, Arc<AtomicUsize>) {
    let (says, mails) = (
        Arc::new(AtomicBool::new(true)),
        Arc::new(AtomicUsize::new(0)),
    );
    let (flag, count) = (Arc::clone(&says), Arc::clone(&mails));
    let remote = Remote::start(move |point, _| match point {
        Point::Command(line) if line.starts_with("MAIL") && line.contains(text) => {
            count.fetch_add(1, Ordering::SeqCst);
            flag.load(Ordering::SeqCst).then_some(Act::Say(reply))
        }
        _ => None,
    })
    .await;
    (remote, says, mails)
}

/// The state of the only site, and its reason.
fn state(world: &World) -> (SiteState, String) {
    let view = world.queue.site_views(None).remove(0);
    (view.state, view.reason.unwrap_or_default())
}

async fn patiently_so(what: &str, is_so: impl AsyncFn() -> bool) {
    let waits = async {
        while !is_so().await {
            tokio::task::yield_now().await;
        }
    };
    patiently(what, waits).await;
}

#[tokio::test]
async fn the_end_of_a_block_outlasts_a_crash() {
    let mut world = World::start(Setup {
        statics: ONE_CONNECTION,
        ..Setup::default()
    });
    let (remote, says, _) = remote_that_says("", BLOCKED).await;
    domain(&world, "x.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    send(&world, 5, "x.test").await;
    world.at_rest().await;
    assert_eq!(state(&world).0, SiteState::Blocked);
    let noted = async || world.store.learnt_of_sites().await.unwrap().len();
    patiently_so("the note", async || noted().await == 1).await;
    says.store(false, Ordering::SeqCst);
    send(&world, 1, "x.test").await;
    let resumed = world.queue.resume_site(&world.store, "x.test").await;
    resumed.unwrap();
    taken(&remote, 1).await;
    patiently_so("the end of the block", async || {
        state(&world).0 == SiteState::Active
    })
    .await;
    world.clock.advance(Duration::from_secs(10));
    patiently_so("the note of the end", async || noted().await == 0).await;
    world.kill();
    send(&world, 1, "x.test").await;
    taken(&remote, 2).await;
    world.stop().await;
}

/// Its sender is told of the delay. It stays where it is in its lane.
#[tokio::test]
async fn a_message_that_is_told_of_keeps_its_turn() {
    let world = World::start(Setup {
        statics: "[queue]\nper_destination.connections = 1\ndelay_dsn_after = \"1h\"\n",
        ..Setup::default()
    });
    let (remote, _, _) = remote_that_says("", BLOCKED).await;
    domain(&world, "x.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    send(&world, 5, "x.test").await;
    world.at_rest().await;
    assert_eq!(state(&world).0, SiteState::Blocked);
    let [waiting] = world.add(Message::to(&["a@x.test"])).await;
    world.at_rest().await;
    let message = async || world.store.queued(waiting).await.unwrap().unwrap();
    let before = message().await;
    assert_eq!((before.attempts, before.delay_told), (0, false));
    for _ in 0..70 {
        world.clock.advance(MINUTE);
        world.at_rest().await;
    }
    patiently_so("the news", async || message().await.delay_told).await;
    let after = message().await;
    assert_eq!(
        (after.attempts, after.next_attempt),
        (0, before.next_attempt)
    );
    world.stop().await;
}

/// The site says that too much comes of one domain. Mail of that domain waits without an attempt,
/// and other mail goes on.
#[tokio::test]
async fn mail_of_a_domain_that_sends_too_much_waits_and_other_mail_goes_on() {
    let world = World::start(Setup {
        statics: ONE_CONNECTION,
        dynamics: "[providers.big]\nmx = [\"mx.x.test\"]\n\
                   [[providers.big.reply]]\nmatch = '4\\.7\\.28 .*domain'\n\
                   class = \"rate_limited\"\nscope = \"domain\"\n",
        ..Setup::default()
    });
    let reply = "450 4.7.28 too much mail from your DKIM domain";
    let (remote, says, mails) = remote_that_says("@loud.test", reply).await;
    domain(&world, "x.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    let loud = || Message {
        reverse_path: "a@loud.test"
            .parse()
            .map(postrider_smtp::ReversePath::Mailbox)
            .unwrap(),
        text: "From: a@loud.test\r\n\r\nx\r\n",
        ..Message::to(&["b@x.test"])
    };
    let [_] = world.add(loud()).await;
    world.at_rest().await;
    assert_eq!(mails.load(Ordering::SeqCst), 1);
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let [id] = world.add(loud()).await;
        waiting.push(id);
    }
    send(&world, 2, "x.test").await;
    taken(&remote, 2).await;
    world.at_rest().await;
    assert_eq!(mails.load(Ordering::SeqCst), 1, "none of them was sent");
    for id in &waiting {
        assert_eq!(world.store.queued(*id).await.unwrap().unwrap().attempts, 0);
    }
    let (state, reason) = state(&world);
    assert_eq!(state, SiteState::Active);
    assert!(reason.contains("mail from loud.test waits"), "{reason}");
    says.store(false, Ordering::SeqCst);
    world.clock.advance(MINUTE);
    taken(&remote, 5).await;
    world.clock.advance(HOUR);
    taken(&remote, 6).await;
    world.stop().await;
}
