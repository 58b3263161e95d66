//! MTA-STS: the server follows the policy of a recipient's domain, also after a restart.

use std::{net::IpAddr, time::Duration};

use postrider_store::{Order, QueueFilter, Queued};

use crate::support::{
    Setup, World, dns,
    https::{Answer, Ca, HttpsHost},
    message,
    remote::{Remote, RemoteTls},
};

const MX: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));
const POLICY_HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 3));

fn policy(mode: &str) -> Answer {
    let text =
        format!("version: STSv1\r\nmode: {mode}\r\nmx: *.remote.test\r\nmax_age: 604800\r\n");
    Answer::of(200, &text)
}

/// The only message in the queue, after so many attempts.
async fn waiting(world: &World, attempts: usize) -> Queued {
    let store = world.server.store();
    let mut changed = store.queue_changed();
    loop {
        changed.mark_unchanged();
        let filter = QueueFilter::default();
        let page = store
            .list(&filter, None, Order::Ascending, 9)
            .await
            .unwrap();
        let mut items = page.items.into_iter();
        if let Some(message) = items.find(|message| message.results.len() == attempts) {
            return message;
        }
        changed.changed().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_waits_while_the_host_does_not_meet_the_policy() {
    // The remote issued its certificate itself.
    let tls = RemoteTls::new(&["mx.remote.test"], "");
    let remote = Remote::start_with(Some(tls), |_, _| None).await;
    let ca = Ca::new();
    let host = HttpsHost::start(ca.server(&["mta-sts.remote.test"]), policy("enforce")).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, ca.pem()).unwrap();
    let zone = dns::Zone::default()
        .mx("remote.test", 10, "mx.remote.test")
        .address("mx.remote.test", MX)
        .txt("_mta-sts.remote.test", "v=STSv1; id=20270101T000000;")
        .address("mta-sts.remote.test", POLICY_HOST);
    let world = World::start(Setup {
        dns: Some(zone.serve().await),
        statics: format!("[tls]\nca_files = [{file:?}]\n"),
        ..Setup::default()
    })
    .await;
    world.dialer.lead(MX, remote.address);
    world.dialer.lead(POLICY_HOST, host.address);
    let to = ["rcpt@remote.test"];
    let mut submission = world.submission().await;
    let reply = submission
        .submit("app@example.org", &to, &message("policy"))
        .await;
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
    let message = waiting(&world, 1).await;
    let error = &message.results[0].error;
    assert!(error.contains("MTA-STS demands TLS"), "{error}");
    assert_eq!(host.requests(1).await.len(), 1);

    // The policy survives a restart. It is not fetched again for the next attempt, but before that
    // one fails.
    drop(submission);
    let world = world.restart().await;
    world.clock.advance(Duration::from_secs(9 * 60));
    waiting(&world, 2).await;
    assert_eq!(host.requests(2).await.len(), 2);
    assert!(remote.received().is_empty());

    host.answer(policy("none"));
    world.clock.advance(Duration::from_secs(20 * 60));
    let received = remote.wait_for(1).await;
    assert!(received[0].tls.is_some());
    world.server.stop().await;
}
