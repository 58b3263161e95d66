//! Policies of a host on loopback, under a clock of the test.

use std::net::{IpAddr, SocketAddr};

use futures_util::FutureExt;
use postrider_config::{MtaStsMode, Static};
use postrider_dns::{FakeResolver, Record};
use postrider_store::ManualClock;
use tokio::{net::TcpStream, task::JoinHandle};

use super::*;
use crate::{
    Dialing, https,
    https_host::{Answer, Ca, HttpsHost},
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Leads all connections to one host.
struct Leading(SocketAddr);

impl Dialer for Leading {
    fn dial(&self, _: SocketAddr, _: Option<IpAddr>) -> Dialing {
        let target = self.0;
        Box::pin(async move { Ok(TcpStream::connect(target).await?.into()) })
    }
}

/// The domain a.test with a policy host.
struct World {
    policies: Arc<Policies>,
    store: Store,
    clock: ManualClock,
    resolver: FakeResolver,
    host: HttpsHost,
}

/// A policy in this mode for this host, which holds for three days.
fn text(mode: &str, mx: &str) -> String {
    format!("version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 259200\n")
}

impl World {
    async fn new(answer: Answer) -> Self {
        let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
        std::fs::write(dir.path().join("ca.pem"), ca.pem()).unwrap();
        let statics = "hostname = \"mail.example.org\"\npostmaster.account = \"app\"\n\
            tls.ca_files = [\"ca.pem\"]\n[listeners.l]\nips = [\"127.0.0.1\"]\n";
        let statics = Static::parse(statics, dir.path().join("postrider.conf")).unwrap();
        let host = HttpsHost::start(ca.server(&["mta-sts.a.test"]), answer).await;
        let (store, resolver) = (Store::memory(), FakeResolver::default());
        let clock = ManualClock::new(Time(1_800_000_000_000_000));
        resolver.add_address("mta-sts.a.test", "192.0.2.1");
        let policies = Policies::new(Parts {
            store: store.clone(),
            clock: Arc::new(clock.clone()),
            resolver: Arc::new(resolver.clone()),
            dialer: Arc::new(Leading(host.address)),
            tls: Arc::new(https::tls_config(&statics).unwrap()),
            only_public: false,
        });
        let world = Self {
            policies,
            store,
            clock,
            resolver,
            host,
        };
        world.announce("1");
        world
    }

    /// From now on, the record has this id.
    fn announce(&self, id: &str) {
        self.resolver.remove("_mta-sts.a.test");
        let record = Record::Txt(format!("v=STSv1; id={id};").into_bytes());
        self.resolver.add("_mta-sts.a.test", record);
    }

    /// The mode and the first host of the policy that holds for a plan, and how long it holds.
    async fn find(&self) -> (Option<(MtaStsMode, String)>, u64) {
        let Known { policy, holds, .. } = self.policies.find("a.test").await.unwrap();
        let policy = policy.map(|applied| (applied.policy.mode, applied.policy.mx[0].clone()));
        (policy, holds.as_secs())
    }

    async fn kept(&self) -> Option<StsPolicy> {
        self.store.sts_policy("a.test").await.unwrap()
    }

    /// Waits until the store has a policy that `enough` takes.
    async fn kept_until(&self, enough: impl Fn(&StsPolicy) -> bool) -> StsPolicy {
        let mut kept = self.policies.kept.subscribe();
        loop {
            if let Some(policy) = self.kept().await.filter(&enough) {
                return policy;
            }
            kept.changed().await.unwrap();
        }
    }

    /// The policy after more failures than so many. None: it is gone.
    async fn kept_after(&self, failures: u32) -> Option<StsPolicy> {
        loop {
            match self.kept().await {
                Some(kept) if kept.failures <= failures => tokio::task::yield_now().await,
                kept => return kept,
            }
        }
    }

    fn run(&self) -> (watch::Sender<bool>, JoinHandle<()>) {
        let (stop, stopped) = watch::channel(false);
        let policies = Arc::clone(&self.policies);
        (stop, tokio::spawn(policies.run(stopped)))
    }
}

fn enforce(mx: &str) -> Option<(MtaStsMode, String)> {
    Some((MtaStsMode::Enforce, mx.to_owned()))
}

#[tokio::test]
async fn a_policy_is_fetched_once_and_again_with_a_new_id() {
    let world = World::new(Answer::of(200, &text("enforce", "mx.a.test"))).await;
    let finds: Vec<_> = (0..20)
        .map(|_| {
            let policies = Arc::clone(&world.policies);
            tokio::spawn(async move { policies.find("a.test").await.unwrap() })
        })
        .collect();
    for find in finds {
        let applied = find.await.unwrap().policy.unwrap();
        assert_eq!(applied.policy.to_string(), text("enforce", "mx.a.test"));
    }
    assert_eq!(world.host.requests(1).await.len(), 1);
    assert_eq!(world.find().await, (enforce("mx.a.test"), 60));
    assert_eq!(world.host.requests(1).await.len(), 1);
    let kept = world.kept().await.unwrap();
    let now = world.clock.now();
    assert_eq!(
        (kept.id.as_str(), kept.fetched, kept.ends, kept.refresh),
        ("1", now, now.after(3 * DAY), now.after(DAY))
    );

    // The old policy holds while the new one is on its way.
    world.announce("2");
    world.host.answer(Answer::Silence);
    assert_eq!(world.find().await, (enforce("mx.a.test"), 0));
    world.host.requests(2).await;
    assert_eq!(world.find().await, (enforce("mx.a.test"), 0));
    world
        .host
        .answer(Answer::of(200, &text("testing", "mx2.a.test")));
    world.kept_until(|kept| kept.id == "2").await;
    let expected = Some((MtaStsMode::Testing, "mx2.a.test".to_owned()));
    assert_eq!(world.find().await, (expected, 60));
    assert_eq!(world.host.requests(2).await.len(), 2);
}

#[tokio::test]
async fn a_domain_without_a_record_has_no_policy_and_an_old_one_holds_without_it() {
    let world = World::new(Answer::of(200, &text("enforce", "mx.a.test"))).await;
    world.resolver.remove("_mta-sts.a.test");
    assert_eq!(world.find().await, (None, 60));
    world.announce("1;id=2");
    world.announce("bad-id");
    assert_eq!(world.find().await, (None, 60));
    world.announce("1");
    assert_eq!(world.find().await, (enforce("mx.a.test"), 60));
    world.resolver.remove("_mta-sts.a.test");
    assert_eq!(world.find().await, (enforce("mx.a.test"), 60));
    assert_eq!(world.host.requests(1).await.len(), 1);
}

#[tokio::test]
async fn the_first_delivery_waits_ten_seconds_for_a_policy() {
    let world = World::new(Answer::Silence).await;
    let policies = Arc::clone(&world.policies);
    let finding = tokio::spawn(async move { policies.find("a.test").await.unwrap() });
    world.host.requests(1).await;
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let known = finding.await.unwrap();
    assert_eq!(known.policy, None);
    assert_eq!(known.holds, Duration::ZERO);
    assert!(began.elapsed() <= FIRST_WAIT + Duration::from_secs(1));
    // The answer that comes later is for the next delivery.
    tokio::time::resume();
    world
        .host
        .answer(Answer::of(200, &text("enforce", "mx.a.test")));
    world.kept_until(|_| true).await;
    assert_eq!(world.find().await, (enforce("mx.a.test"), 60));
}

#[tokio::test]
async fn after_a_failure_the_domain_rests() {
    let world = World::new(Answer::of(404, "")).await;
    for (requests, pause) in [(1, 5), (2, 10), (3, 20)] {
        for _ in 0..2 {
            assert_eq!(world.find().await, (None, 0));
            assert_eq!(world.host.requests(requests).await.len(), requests);
        }
        world.clock.advance(MINUTE * pause);
    }
    world.host.answer(Answer::of(200, "no policy"));
    assert_eq!(world.find().await, (None, 0));
    world.clock.advance(HOUR);
    world
        .host
        .answer(Answer::of(200, &text("enforce", "mx.a.test")));
    assert_eq!(world.find().await, (enforce("mx.a.test"), 60));
    assert_eq!(world.host.requests(5).await.len(), 5);
}

#[tokio::test]
async fn an_old_policy_holds_to_its_end_when_the_new_one_fails() {
    let world = World::new(Answer::of(200, &text("enforce", "mx.a.test"))).await;
    assert_eq!(world.find().await, (enforce("mx.a.test"), 60));
    world.host.answer(Answer::of(500, ""));
    world.announce("2");
    assert_eq!(world.find().await.0, enforce("mx.a.test"));
    // The look goes on in the background.
    world.host.requests(2).await;
    let kept = world.kept_after(0).await.unwrap();
    assert_eq!(kept.refresh, world.clock.now().after(5 * MINUTE));
    assert_eq!(world.find().await, (enforce("mx.a.test"), 0));
    assert_eq!(world.host.requests(2).await.len(), 2);
    world.clock.advance(3 * DAY - MINUTE);
    assert_eq!(world.find().await.0, enforce("mx.a.test"));
    world.clock.advance(MINUTE);
    assert_eq!(world.find().await, (None, 0));
}

#[tokio::test]
async fn policies_are_fetched_again_each_day_and_go_at_their_end() {
    let world = World::new(Answer::of(200, &text("enforce", "mx.a.test"))).await;
    let (stop, running) = world.run();
    assert_eq!(world.find().await.0, enforce("mx.a.test"));
    let first = world.kept().await.unwrap();
    world.clock.advance(DAY);
    let second = world.kept_until(|kept| kept.fetched > first.fetched).await;
    assert_eq!(second.fetched, first.fetched.after(DAY));
    assert_eq!(second.used, first.used);
    // From now on it fails: the next try is 5 min later, then 10, 20 and 40, and then an hour.
    world.host.answer(Answer::of(404, ""));
    world.clock.advance(DAY);
    let mut failures = 0;
    while let Some(kept) = world.kept_after(failures).await {
        failures = kept.failures;
        assert_eq!(kept.ends, second.ends);
        world.clock.advance(kept.refresh.since(world.clock.now()));
    }
    // 48 hours later the policy ends.
    assert_eq!(failures, 51);
    assert_eq!(world.host.requests(54).await.len(), 54);
    stop.send_replace(true);
    running.await.unwrap();
}

#[tokio::test]
async fn a_use_is_noted_once_a_day() {
    let world = World::new(Answer::of(200, &text("enforce", "mx.a.test"))).await;
    assert_eq!(world.find().await.0, enforce("mx.a.test"));
    let first = world.clock.now();
    world.clock.advance(DAY - MINUTE);
    assert_eq!(world.find().await.0, enforce("mx.a.test"));
    assert_eq!(world.kept().await.unwrap().used, first);
    world.clock.advance(MINUTE);
    assert_eq!(world.find().await.0, enforce("mx.a.test"));
    assert_eq!(world.kept().await.unwrap().used, world.clock.now());
}

#[tokio::test]
async fn a_policy_is_fetched_again_before_a_message_fails_by_it() {
    let world = World::new(Answer::of(200, &text("enforce", "mx.a.test"))).await;
    let used = world.policies.find("a.test").await.unwrap().policy.unwrap();
    world
        .host
        .answer(Answer::of(200, &text("none", "mx.a.test")));
    // It was fetched just now.
    assert!(!world.policies.is_outdated(&used).await);
    world.clock.advance(5 * MINUTE);
    assert!(world.policies.is_outdated(&used).await);
    let used = world.policies.find("a.test").await.unwrap().policy.unwrap();
    assert_eq!(used.policy.mode, MtaStsMode::None);
    world.clock.advance(5 * MINUTE);
    assert!(!world.policies.is_outdated(&used).await);
    assert_eq!(world.host.requests(3).await.len(), 3);
    // Another plan has seen a newer policy already, or its end is over.
    let older = Applied {
        policy: Policy::parse(text("enforce", "mx.a.test").as_bytes()).unwrap(),
        ..Applied::clone(&used)
    };
    assert!(world.policies.is_outdated(&older).await);
    world.clock.advance(3 * DAY);
    assert!(world.policies.is_outdated(&used).await);
}

#[tokio::test]
async fn looks_end_with_the_queue() {
    let world = World::new(Answer::Silence).await;
    let (stop, running) = world.run();
    let policies = Arc::clone(&world.policies);
    let finding = tokio::spawn(async move { policies.find("a.test").await.unwrap() });
    world.host.requests(1).await;
    stop.send_replace(true);
    running.await.unwrap();
    assert_eq!(finding.await.unwrap().policy, None);
    assert_eq!(world.find().await, (None, 0));
}

/// Its policy may be enforced, so that there is none is no answer.
#[tokio::test]
async fn a_store_that_fails_gives_no_answer() {
    let world = World::new(Answer::of(200, &text("enforce", "mx.a.test"))).await;
    let known = world.policies.find("a.test").await.unwrap();
    let used = known.policy.unwrap();
    world.store.clone().close().await;
    assert!(world.policies.find("a.test").await.is_err());
    world.clock.advance(HOUR);
    assert!(!world.policies.is_outdated(&used).await);
}

/// The places for texts are shared by organisations, so that one can't take all of them.
#[tokio::test]
async fn a_domain_with_silent_hosts_leaves_places_to_others() {
    let world = World::new(Answer::of(200, "")).await;
    let place = |domain: &'static str, reason| world.policies.place(domain, reason);
    let mut held = Vec::new();
    for domain in ["a.test", "b.a.test", "c.a.test", "d.c.a.test"] {
        held.push(place(domain, Reason::Plan).await);
    }
    assert!(place("e.a.test", Reason::Plan).now_or_never().is_none());
    assert!(place("e.a.test", Reason::Refresh).now_or_never().is_some());
    assert!(place("b.test", Reason::Plan).now_or_never().is_some());
    held.pop();
    assert!(place("e.a.test", Reason::Plan).now_or_never().is_some());
    drop(held);
    let known = world.policies.organisations.lock().unwrap().len();
    assert!(known <= 2, "{known}");
}
