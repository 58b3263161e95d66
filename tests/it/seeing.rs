//! What administrators see of deliveries: transcripts of attempts, and checks without a message.

use std::path::PathBuf;

use postrider_dns::FakeServer;
use serde_json::Value;

use crate::{
    dane::{HOST, certificate, zones},
    support::{
        Setup, World, message,
        patience::patiently,
        program,
        remote::{Act, Point, Remote, RemoteTls},
    },
};

async fn world(dns: &FakeServer, remote: &Remote) -> (World, PathBuf) {
    let world = World::start(Setup {
        dns: Some(dns.address()),
        trust_anchor: Some(dns.trust_anchor()),
        ..Setup::default()
    })
    .await;
    world.dialer.lead(HOST.into(), remote.address);
    let conf = world.dir.path().join("postrider.conf");
    (world, conf)
}

/// A remote that does not know `no@`.
async fn picky(tls: RemoteTls) -> Remote {
    Remote::start_with(Some(tls), |point, _| match point {
        Point::Command(line) if line.starts_with("RCPT TO:<no@") => {
            Some(Act::Say("550 5.1.1 nobody here"))
        }
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delivery_check_walks_the_way_and_says_what_it_found() {
    let tls = RemoteTls::new(&["other.test"], "");
    let dns = zones(&certificate(&tls)).await;
    let remote = picky(tls).await;
    let (world, conf) = world(&dns, &remote).await;
    let checked = program::run(&conf, &["delivery", "check", "x@remote.test", "--json"]).await;
    let errors = String::from_utf8_lossy(&checked.stderr);
    assert_eq!(checked.status.code(), Some(0), "{errors}");
    let stages: Vec<Value> = serde_json::from_slice(&checked.stdout).unwrap();
    let find = |kind: &str| {
        let found = stages.iter().find(|stage| stage["type"] == kind);
        found.unwrap_or_else(|| panic!("{kind}: {stages:#?}"))
    };
    assert_eq!(find("mxLookupSuccess")["secure"], true);
    assert_eq!(find("plan")["plan"]["provider"], "default");
    let record = &find("tlsaLookupSuccess")["record"];
    assert_eq!(record["entries"][0]["is_end_entity"], true);
    find("daneVerifySuccess");
    let session = &find("session")["session"];
    assert_eq!(session["proven"], "dane");
    assert_eq!(session["certificate"]["names"][0], "other.test");
    assert_eq!(find("completed")["result"]["ok"], true);
    // The same site, at once.
    let again = program::run(&conf, &["delivery", "check", "no@remote.test"]).await;
    assert_eq!(again.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&again.stderr);
    assert!(
        errors.contains("was checked less than a minute ago"),
        "{errors}"
    );
    // Nobody connects where the records are not proven.
    let bogus = program::run(&conf, &["delivery", "check", "x@bogus.test"]).await;
    assert_eq!(bogus.status.code(), Some(1));
    let said = String::from_utf8_lossy(&bogus.stdout);
    assert!(said.contains("TLSA               error"), "{said}");
    let errors = String::from_utf8_lossy(&bogus.stderr);
    assert!(
        errors.contains("mail for x@bogus.test is not taken"),
        "{errors}"
    );
    assert!(remote.received().is_empty());
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_shows_what_was_said_in_a_failed_attempt() {
    let tls = RemoteTls::new(&["other.test"], "");
    let dns = zones(&certificate(&tls)).await;
    let remote = picky(tls).await;
    let (world, conf) = world(&dns, &remote).await;
    let mut client = world.submission().await;
    let reply = client
        .submit("app@example.org", &["no@remote.test"], &message("secret"))
        .await;
    assert!(reply.starts_with("250 "), "{reply}");
    let retired = async {
        loop {
            let listed = program::run(&conf, &["queue", "retired", "list", "--json"]).await;
            let listed: Vec<Value> = serde_json::from_slice(&listed.stdout).unwrap();
            if let Some(item) = listed.first() {
                return item["id"].as_u64().unwrap();
            }
            tokio::task::yield_now().await;
        }
    };
    let id = patiently("the end of the message", retired).await;
    let id = id.to_string();
    let explained = program::run(&conf, &["queue", "explain", &id]).await;
    let said = String::from_utf8(explained.stdout).unwrap();
    for part in [
        "left the queue, not delivered",
        "with mx.remote.test [127.0.0.2] from 127.0.0.1 as ",
        "TLS: TLSv1.3 TLS_",
        "by the rule DANE",
        "names other.test, valid ",
        "C: RCPT TO:<no@remote.test>",
        "S: 550 5.1.1 nobody here",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("secret"), "{said}");
    let explained = program::run(&conf, &["queue", "explain", &id, "--json"]).await;
    let explained: Value = serde_json::from_slice(&explained.stdout).unwrap();
    let transcript = &explained["transcripts"][0];
    assert_eq!(transcript["tls_rule"], "DANE");
    assert_eq!(transcript["certificate"]["names"][0], "other.test");
    world.server.stop().await;
}
