//! Sources of ours at a site: blocks, rates and warm-up of each, and names of IPv6 addresses.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use postrider_dns::{Question, Record};
use postrider_queue::{LimitedBy, SiteSource, SiteState, SiteView, SourceState};
use postrider_store::{Event, Queued};

use super::{
    ONE_CONNECTION,
    patience::patiently,
    remote::{Act, Point, Remote},
    support::{Setup, World},
    tarpits::{domain, send, taken},
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const BLOCKED: &str = "550 5.7.1 your address is listed at zen.spamhaus.org";

/// Two sources of one pool.
const BOTH: &str = "[sources.one]\nip = \"127.0.0.11\"\nehlo = \"one.example.org\"\n\
                    [sources.two]\nip = \"127.0.0.12\"\nehlo = \"two.example.org\"\n\
                    [pools.both.sources]\none = 1\ntwo = 1\n";
/// A pool of one source.
const ONE: &str = "[pools.alone.sources]\none = 1\n";

/// A world with these sources, and one connection to each site.
fn world(sources: &str) -> World {
    world_of("[delivery]\nsource_pool = \"both\"\n", sources)
}

fn world_of(delivery: &str, sources: &str) -> World {
    let statics = format!("{delivery}{ONE_CONNECTION}{sources}");
    World::start(Setup {
        statics: &statics,
        domain: "",
        dynamics: "",
        account: "suppress_policy_blocks = true\n",
    })
}

/// A remote that blocks a source: the first one that it sees.
struct Blocking {
    remote: Remote,
    blocks: Arc<AtomicBool>,
    /// The name in EHLO of each MAIL.
    mails: Arc<Mutex<Vec<String>>>,
}

impl Blocking {
    async fn start() -> Self {
        let blocks = Arc::new(AtomicBool::new(true));
        let mails: Arc<Mutex<Vec<String>>> = Arc::default();
        let (flag, noted, current) = (Arc::clone(&blocks), Arc::clone(&mails), Mutex::default());
        // The name in EHLO, and whether MAIL was refused.
        let current: Mutex<(String, bool)> = current;
        let remote = Remote::start(move |point, _| {
            let Point::Command(line) = point else {
                return None;
            };
            let mut current = current.lock().unwrap();
            let (name, refused) = &mut *current;
            if let Some(heard) = line.strip_prefix("EHLO ") {
                heard.clone_into(name);
            }
            if line.starts_with("MAIL") {
                let mut mails = noted.lock().unwrap();
                mails.push(name.clone());
                *refused = flag.load(Ordering::SeqCst) && mails[0] == *name;
                return refused.then_some(Act::Say(BLOCKED));
            }
            let needs_mail = line.starts_with("RCPT") || line == "DATA";
            (needs_mail && *refused).then_some(Act::Say("503 5.5.1 MAIL first"))
        })
        .await;
        Self {
            remote,
            blocks,
            mails,
        }
    }

    /// The sources of MAILs so far, each run of the same once.
    fn sources(&self) -> Vec<String> {
        let mut mails = self.mails.lock().unwrap().clone();
        mails.dedup();
        mails
    }
}

fn view(world: &World) -> SiteView {
    let mut views = world.queue.site_views(Some("x.test"));
    assert_eq!(views.len(), 1, "{views:?}");
    views.remove(0)
}

fn source(world: &World, name: &str) -> SiteSource {
    let sources = view(world).sources;
    let found = sources.iter().find(|source| source.name == name);
    found.unwrap_or_else(|| panic!("{sources:?}")).clone()
}

/// Waits until no message is due or in delivery.
async fn settled(world: &World) -> Vec<Queued> {
    let queued = world.at_rest().await;
    let none_in_flight = async {
        while view(world).in_flight > 0 {
            tokio::task::yield_now().await;
        }
    };
    patiently("the end of the attempts", none_in_flight).await;
    queued
}

/// What is learnt is noted every ten seconds.
async fn noted(world: &World, is_noted: impl Fn(&postrider_store::SourceNote) -> bool) {
    let noted = async {
        loop {
            world.clock.advance(Duration::from_secs(1));
            let notes = world.store.learnt_of_sites().await.unwrap();
            if notes.iter().flat_map(|note| &note.sources).any(&is_noted) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    patiently("the note", noted).await;
}

#[tokio::test]
async fn another_source_takes_the_mail_of_one_that_is_blocked() {
    // The pool counts more than `delivery`.
    let pool = "[pools.both]\non_block = \"switch\"\nsources = { one = 1, two = 1 }\n";
    let sources = BOTH.replace("[pools.both.sources]\none = 1\ntwo = 1\n", pool);
    let delivery = "[delivery]\nsource_pool = \"both\"\non_block = \"fail\"\n";
    let world = world_of(delivery, &sources);
    let blocking = Blocking::start().await;
    domain(&world, "x.test", "192.0.2.1");
    world.lead("192.0.2.1", &blocking.remote);
    let start = world.now();
    send(&world, 5, "x.test").await;
    taken(&blocking.remote, 5).await;
    assert_eq!(world.now(), start, "at once");
    let told = blocking.sources();
    assert_eq!(told.len(), 2, "{told:?}");
    let events = world.events(10).await;
    let delivered = events
        .iter()
        .filter(|(_, event)| *event == Event::Delivered);
    assert_eq!(delivered.count(), 5);
    assert!(events.iter().all(|(_, event)| *event != Event::Failed));
    assert_eq!(world.store.counts().await.suppressions, 0);
    let blocked = told[0].strip_suffix(".example.org").unwrap();
    let shown = source(&world, blocked);
    assert_eq!(shown.state, SourceState::Blocked);
    assert_eq!(shown.until, Some(start.after(4 * HOUR)));
    assert!(shown.reason.unwrap().contains("listed at zen.spamhaus.org"));
    let other = told[1].strip_suffix(".example.org").unwrap();
    assert_eq!(source(&world, other).state, SourceState::Active);
    assert_eq!(view(&world).state, SiteState::Active);
    // Mail that comes now goes from the other one, and back when the block is over.
    send(&world, 1, "x.test").await;
    taken(&blocking.remote, 6).await;
    assert_eq!(blocking.sources(), told);
    blocking.blocks.store(false, Ordering::SeqCst);
    world.clock.advance(4 * HOUR);
    send(&world, 1, "x.test").await;
    taken(&blocking.remote, 7).await;
    assert_eq!(
        blocking.sources(),
        [&told[0], &told[1], &told[0]].map(String::as_str)
    );
    world.stop().await;
}

/// With `defer` the mail stays with its source, and so it does if the pool has no other one. The
/// block is known after a `kill -9`.
#[tokio::test]
async fn the_mail_of_a_blocked_source_waits_for_it() {
    for (delivery, pools) in [
        ("[delivery]\nsource_pool = \"both\"\n", ""),
        (
            "[delivery]\nsource_pool = \"alone\"\non_block = \"switch\"\n",
            ONE,
        ),
    ] {
        let mut world = world_of(delivery, &format!("{BOTH}{pools}"));
        let blocking = Blocking::start().await;
        domain(&world, "x.test", "192.0.2.1");
        world.lead("192.0.2.1", &blocking.remote);
        let start = world.now();
        send(&world, 5, "x.test").await;
        settled(&world).await;
        // These wait without an attempt.
        send(&world, 40, "x.test").await;
        let queued = settled(&world).await;
        let untried = queued.iter().filter(|message| message.attempts == 0);
        assert_eq!((queued.len(), untried.count()), (45, 40));
        let blocked = view(&world);
        assert_eq!(blocked.state, SiteState::Blocked);
        assert_eq!(blocked.until, Some(start.after(4 * HOUR)));
        noted(&world, |note| note.halt.is_some()).await;
        let tried = blocking.mails.lock().unwrap().len();
        world.kill();
        send(&world, 1, "x.test").await;
        settled(&world).await;
        let after = view(&world);
        assert_eq!(
            (after.state, after.until),
            (SiteState::Blocked, blocked.until)
        );
        assert_eq!(blocking.mails.lock().unwrap().len(), tried);
        // One message finds out that it lasts. The next one finds out that it is over.
        world.clock.advance(4 * HOUR);
        settled(&world).await;
        assert_eq!(blocking.mails.lock().unwrap().len(), tried + 1);
        blocking.blocks.store(false, Ordering::SeqCst);
        world.clock.advance(8 * HOUR);
        taken(&blocking.remote, 1).await;
        settled(&world).await;
        world.clock.advance(MINUTE);
        taken(&blocking.remote, 46).await;
        assert_eq!(blocking.sources().len(), 1, "one source");
        let events = world.events(46).await;
        assert!(events.iter().all(|(_, event)| *event != Event::Failed));
        assert_eq!(world.store.counts().await.suppressions, 0);
        world.stop().await;
    }
}

/// The clock begins at 08:00 UTC of 2027-01-15.
const NEW: &str = "[sources.one]\nip = \"127.0.0.11\"\nwarm_up = 2027-01-15\n\
                   [sources.two]\nip = \"127.0.0.12\"\n";

#[tokio::test]
async fn the_rest_of_a_warm_up_waits_for_the_next_day_also_after_a_restart() {
    let mut world = world(&format!("{NEW}[pools.both.sources]\none = 1\n"));
    let remote = Remote::start(|_, _| None).await;
    domain(&world, "x.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    send(&world, 130, "x.test").await;
    taken(&remote, 100).await;
    let waiting = settled(&world).await;
    assert_eq!(waiting.len(), 30);
    let limited = view(&world);
    assert_eq!(limited.state, SiteState::Limited);
    assert_eq!(limited.limited_by, [LimitedBy::WarmUp]);
    let midnight = world.now().after(16 * HOUR);
    assert_eq!(limited.until, Some(midnight));
    let shown = source(&world, "one");
    assert_eq!(shown.warm_up, Some((100, 100)));
    assert_eq!(shown.limited_by, Some(LimitedBy::WarmUp));
    noted(&world, |note| {
        note.warm_up.is_some_and(|day| day.sent == 100)
    })
    .await;
    world.kill();
    send(&world, 1, "x.test").await;
    settled(&world).await;
    assert_eq!(source(&world, "one").warm_up, Some((100, 100)));
    let received = remote.received();
    let recipients = received.iter().map(|mail| mail.rcpts.len());
    assert_eq!(recipients.sum::<usize>(), 100);
    world.clock.advance(midnight.since(world.now()));
    taken(&remote, 131).await;
    assert_eq!(source(&world, "one").warm_up, Some((31, 150)));
    let events = world.events(131).await;
    assert!(events.iter().all(|(_, event)| *event != Event::Failed));
    world.stop().await;
}

#[tokio::test]
async fn another_source_takes_the_rest_of_a_warm_up() {
    let world = world(&format!("{NEW}[pools.both.sources]\none = 1000\ntwo = 1\n"));
    let remote = Remote::start(|_, _| None).await;
    domain(&world, "x.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    send(&world, 130, "x.test").await;
    taken(&remote, 130).await;
    settled(&world).await;
    assert_eq!(source(&world, "one").warm_up, Some((100, 100)));
    assert_eq!(source(&world, "two").state, SourceState::Active);
    assert_eq!(view(&world).state, SiteState::Active);
    world.stop().await;
}

#[tokio::test]
async fn the_rate_of_a_source_holds_its_mail_back() {
    let sources = "[sources.one]\nip = \"127.0.0.11\"\nrate = \"2/minute\"\n\
                   [sources.two]\nip = \"127.0.0.12\"\n\
                   [pools.both.sources]\none = 1000\ntwo = 1\n";
    let world = world(sources);
    let remote = Remote::start(|_, _| None).await;
    domain(&world, "x.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    send(&world, 3, "x.test").await;
    taken(&remote, 1).await;
    settled(&world).await;
    let limited = view(&world);
    assert_eq!(
        (limited.state, &*limited.limited_by),
        (SiteState::Limited, &[LimitedBy::Rate][..])
    );
    let shown = source(&world, "one");
    assert_eq!(shown.state, SourceState::Limited);
    assert_eq!(shown.rate, ["2/minute"]);
    for count in 2..4 {
        world.clock.advance(MINUTE / 2);
        taken(&remote, count).await;
    }
    assert_eq!(remote.received().len(), 3);
    assert_eq!(view(&world).sources.len(), 1, "all from one source");
    world.stop().await;
}

/// No machine of the tests has this address, so connections from it can't begin.
const SIX: &str = "2606:4700::11";

#[tokio::test]
async fn an_ipv6_address_without_a_name_sends_nothing() {
    for named in [false, true] {
        let world = world(&format!(
            "[sources.six]\nip = \"{SIX}\"\n[sources.two]\nip = \"127.0.0.12\"\n\
             [pools.both.sources]\nsix = 1\ntwo = 1\n"
        ));
        let remote = Remote::start(|_, _| None).await;
        domain(&world, "x.test", "192.0.2.1");
        world.host("mx.x.test", "2001:db8::1");
        world.lead("192.0.2.1", &remote);
        world.lead("2001:db8::1", &remote);
        if named {
            let reverse = Question::reverse(SIX.parse().unwrap());
            let name = Record::Ptr("six.example.org".into());
            world.resolver.add(reverse.name(), name);
            world.host("six.example.org", SIX);
        }
        send(&world, 1, "x.test").await;
        taken(&remote, 1).await;
        assert_eq!(world.dialed("2001:db8::1") > 0, named);
        let shown = source(&world, "six");
        match named {
            true => assert_eq!(shown.state, SourceState::Off),
            false => {
                assert_eq!(shown.state, SourceState::Nameless);
                assert_eq!(shown.reason.unwrap(), "the address has no name");
            }
        }
        world.stop().await;
    }
}

/// A host with IPv6 only, and no address of ours that may be used: that is no fault of the host.
#[tokio::test]
async fn mail_waits_if_the_only_source_has_no_name() {
    let world = world(&format!(
        "[sources.six]\nip = \"{SIX}\"\n[pools.both.sources]\nsix = 1\n"
    ));
    domain(&world, "x.test", "2001:db8::1");
    send(&world, 1, "x.test").await;
    for _ in 0..3 {
        let waiting = settled(&world).await;
        assert_eq!((waiting.len(), waiting[0].attempts), (1, 0));
        world.clock.advance(5 * MINUTE);
    }
    assert_eq!(world.dialed("2001:db8::1"), 0);
    assert_eq!(source(&world, "six").state, SourceState::Nameless);
    world.stop().await;
}
