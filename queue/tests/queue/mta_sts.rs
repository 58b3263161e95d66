//! MTA-STS (RFC 8461): what a policy of the recipient's domain changes.

use std::time::Duration;

use postrider_dns::{Question, Record, RecordType};
use postrider_store::{Attempt, Event, QueueId};
use tempfile::TempDir;

use crate::{
    https_host::{Answer, Ca, HttpsHost},
    remote::{Remote, RemoteTls},
    support::{Message, Setup, World},
};

/// The time of the first retry, and longer than a policy counts as just fetched.
const RETRY: Duration = Duration::from_secs(9 * 60);

/// A world in which a.test has a policy and the host mx.a.test at 192.0.2.1. Its policy host is
/// trusted, and so is the certificate `trusted`.
pub(crate) struct PolicyWorld {
    pub(crate) world: World,
    host: HttpsHost,
    _dir: TempDir,
}

pub(crate) fn policy(mode: &str, mx: &str) -> Answer {
    let text = format!("version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 604800\n");
    Answer::of(200, &text)
}

impl PolicyWorld {
    pub(crate) async fn new(answer: Answer, trusted: &str, remote: &Remote) -> Self {
        Self::with("", answer, trusted, remote).await
    }

    /// `delivery` is text for the table `delivery` of postrider.conf.
    async fn with(delivery: &str, answer: Answer, trusted: &str, remote: &Remote) -> Self {
        let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, format!("{}{trusted}", ca.pem())).unwrap();
        let statics = format!("[tls]\nca_files = [{file:?}]\n[delivery]\n{delivery}\n");
        let world = World::start(Setup {
            statics: &statics,
            ..Setup::default()
        });
        let host = HttpsHost::start(ca.server(&["mta-sts.a.test"]), answer).await;
        let record = Record::Txt(b"v=STSv1; id=1;".to_vec());
        world.resolver.add("_mta-sts.a.test", record);
        world.host("mta-sts.a.test", "192.0.2.50");
        world.lead_to("192.0.2.50", host.address);
        world.mx("a.test", &[(10, "mx.a.test")]);
        world.host("mx.a.test", "192.0.2.1");
        world.lead("192.0.2.1", remote);
        Self {
            world,
            host,
            _dir: dir,
        }
    }

    /// The last result of a message that waits after so many attempts.
    async fn waits(&self, id: QueueId, attempts: usize) -> Attempt {
        let queued = self.world.queued_until(|queued| {
            let mut queued = queued.iter();
            queued.any(|message| message.id == id && message.results.len() == attempts)
        });
        let queued = queued.await;
        let message = queued.iter().find(|message| message.id == id).unwrap();
        message.results.last().unwrap().clone()
    }
}

fn code(attempt: &Attempt) -> String {
    attempt.enhanced.unwrap().to_string()
}

#[tokio::test]
async fn an_enforced_policy_chooses_the_hosts_and_their_names() {
    let tls = RemoteTls::new(&["mx.a.test"], "");
    let remote = Remote::start_with(Some(tls.clone()), |_, _| None).await;
    let answer = policy("enforce", "*.a.test");
    let world = PolicyWorld::new(answer, &tls.certificate, &remote).await;
    // The first host is not in the policy, so nothing is sent there.
    let other = Remote::start_with(Some(tls), |_, _| None).await;
    let mx = [(5, "mx.b.test"), (10, "mx.a.test")];
    world.world.mx("a.test", &mx);
    world.world.host("mx.b.test", "192.0.2.2");
    world.world.lead("192.0.2.2", &other);
    let [id] = world.world.add(Message::to(&["x@a.test"])).await;
    assert_eq!(world.world.events(1).await, [(id, Event::Delivered)]);
    assert!(remote.received()[0].tls.is_some());
    assert_eq!(world.world.dialed("192.0.2.2"), 0);
    // With that host alone, the message waits.
    world.world.mx("a.test", &mx[..1]);
    world.world.clock.advance(Duration::from_secs(2 * 60 * 60));
    let [id] = world.world.add(Message::to(&["y@a.test"])).await;
    let attempt = world.waits(id, 1).await;
    assert_eq!(code(&attempt), "4.7.5");
    assert!(attempt.error.contains("MTA-STS policy"), "{attempt:?}");
    assert_eq!(world.world.dialed("192.0.2.2"), 0);
    world.world.stop().await;
}

#[tokio::test]
async fn a_self_signed_host_waits_until_the_policy_is_none_and_delays_no_other_domain() {
    let tls = RemoteTls::new(&["mx.a.test"], "");
    let remote = Remote::start_with(Some(tls), |_, _| None).await;
    let world = PolicyWorld::new(policy("enforce", "mx.a.test"), "", &remote).await;
    let [id] = world.world.add(Message::to(&["x@a.test"])).await;
    let attempt = world.waits(id, 1).await;
    assert_eq!(code(&attempt), "4.7.5");
    assert!(attempt.error.contains("MTA-STS demands TLS"), "{attempt:?}");
    // Another domain at the same host.
    world.world.mx("b.test", &[(10, "mx.a.test")]);
    world.world.add::<1>(Message::to(&["y@b.test"])).await;
    let received = remote.wait_for(1).await;
    assert_eq!(received[0].rcpts, ["RCPT TO:<y@b.test>"]);
    // The policy is fetched again before the next attempt fails, though its id is the same.
    world.host.answer(policy("none", "mx.a.test"));
    world.world.clock.advance(RETRY);
    let received = remote.wait_for(2).await;
    assert_eq!(received[1].rcpts, ["RCPT TO:<x@a.test>"]);
    world.world.stop().await;
}

#[tokio::test]
async fn a_host_without_starttls_waits_and_without_a_policy_gets_plain_text() {
    let remote = Remote::start(|_, _| None).await;
    let world = PolicyWorld::new(policy("enforce", "mx.a.test"), "", &remote).await;
    let [id] = world.world.add(Message::to(&["x@a.test"])).await;
    let attempt = world.waits(id, 1).await;
    assert_eq!(code(&attempt), "4.7.4");
    assert!(attempt.error.contains("MTA-STS demands TLS"), "{attempt:?}");
    world.world.mx("b.test", &[(10, "mx.a.test")]);
    world.world.add::<1>(Message::to(&["y@b.test"])).await;
    let received = remote.wait_for(1).await;
    assert_eq!(received[0].rcpts, ["RCPT TO:<y@b.test>"]);
    assert_eq!(received[0].tls, None);
    world.world.stop().await;
}

#[tokio::test]
async fn a_policy_of_testing_delays_nothing() {
    let remote = Remote::start(|_, _| None).await;
    let world = PolicyWorld::new(policy("testing", "other.test"), "", &remote).await;
    let [id] = world.world.add(Message::to(&["x@a.test"])).await;
    assert_eq!(world.world.events(1).await, [(id, Event::Delivered)]);
    world.host.requests(1).await;
    world.world.stop().await;
}

#[tokio::test]
async fn a_restart_keeps_the_policy() {
    let remote = Remote::start(|_, _| None).await;
    let mut world = PolicyWorld::new(policy("enforce", "mx.a.test"), "", &remote).await;
    let [first] = world.world.add(Message::to(&["x@a.test"])).await;
    world.waits(first, 1).await;
    // Somebody hides the policy, and strips STARTTLS.
    world.world.resolver.remove("_mta-sts.a.test");
    world.world.break_way("192.0.2.50", 111);
    world.world.restart().await;
    let [second] = world.world.add(Message::to(&["y@a.test"])).await;
    assert_eq!(code(&world.waits(second, 1).await), "4.7.4");
    assert!(remote.received().is_empty());
    world.world.stop().await;
}

#[tokio::test]
async fn the_key_turns_policies_off() {
    let remote = Remote::start(|_, _| None).await;
    let answer = policy("enforce", "mx.a.test");
    let world = PolicyWorld::with("mta_sts = false", answer, "", &remote).await;
    let [id] = world.world.add(Message::to(&["x@a.test"])).await;
    assert_eq!(world.world.events(1).await, [(id, Event::Delivered)]);
    let question = Question::new("_mta-sts.a.test", RecordType::Txt);
    assert_eq!(world.world.resolver.asked(&question), 0);
    world.world.stop().await;
}
