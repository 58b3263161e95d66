//! What administrators see of deliveries: transcripts of attempts, and checks without a message.

use std::{net::IpAddr, path::PathBuf};

use postrider_dns::FakeServer;
use serde::Deserialize;
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
        statics: "admin_http = { enabled = true, port = 0 }\n".to_owned(),
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

/// The stages of a check, as a client of Stalwart 0.15 holds them: a closed set, with the members
/// that it needs.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
#[expect(dead_code, reason = "they must be there, with these types")]
enum Stage {
    MxLookupStart {
        domain: String,
    },
    MxLookupSuccess {
        mxs: Vec<Mx>,
        elapsed: u64,
    },
    MxLookupError {
        reason: String,
        elapsed: u64,
    },
    MtaStsFetchStart,
    MtaStsFetchSuccess {
        policy: Value,
        elapsed: u64,
    },
    MtaStsFetchError {
        reason: String,
        elapsed: u64,
    },
    MtaStsNotFound {
        elapsed: u64,
    },
    TlsRptLookupStart,
    TlsRptLookupSuccess {
        rua: Vec<Value>,
        elapsed: u64,
    },
    TlsRptLookupError {
        reason: String,
        elapsed: u64,
    },
    TlsRptNotFound {
        elapsed: u64,
    },
    DeliveryAttemptStart {
        hostname: String,
    },
    MtaStsVerifySuccess,
    MtaStsVerifyError {
        reason: String,
    },
    TlsaLookupStart,
    TlsaLookupSuccess {
        record: Tlsa,
        elapsed: u64,
    },
    TlsaNotFound {
        reason: String,
        elapsed: u64,
    },
    TlsaLookupError {
        reason: String,
        elapsed: u64,
    },
    IpLookupStart,
    IpLookupSuccess {
        remote_ips: Vec<IpAddr>,
        elapsed: u64,
    },
    IpLookupError {
        reason: String,
        elapsed: u64,
    },
    ConnectionStart {
        remote_ip: IpAddr,
    },
    ConnectionSuccess {
        elapsed: u64,
    },
    ConnectionError {
        reason: String,
        elapsed: u64,
    },
    ReadGreetingStart,
    ReadGreetingSuccess {
        elapsed: u64,
    },
    ReadGreetingError {
        reason: String,
        elapsed: u64,
    },
    EhloStart,
    EhloSuccess {
        elapsed: u64,
    },
    EhloError {
        reason: String,
        elapsed: u64,
    },
    StartTlsStart,
    StartTlsSuccess {
        elapsed: u64,
    },
    StartTlsError {
        reason: String,
        elapsed: u64,
    },
    DaneVerifySuccess,
    DaneVerifyError {
        reason: String,
    },
    MailFromStart,
    MailFromSuccess {
        elapsed: u64,
    },
    MailFromError {
        reason: String,
        elapsed: u64,
    },
    RcptToStart,
    RcptToSuccess {
        elapsed: u64,
    },
    RcptToError {
        reason: String,
        elapsed: u64,
    },
    QuitStart,
    QuitCompleted {
        elapsed: u64,
    },
    Completed,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "they must be there, with these types")]
struct Mx {
    exchanges: Vec<String>,
    preference: u16,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "they must be there, with these types")]
struct Tlsa {
    entries: Vec<TlsaEntry>,
    has_end_entities: bool,
    has_intermediates: bool,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "they must be there, with these types")]
struct TlsaEntry {
    is_end_entity: bool,
    is_sha256: bool,
    is_spki: bool,
    data: Vec<u8>,
}

/// Reads a stream of stages to its end, as a page in a browser does: with a token, and without
/// header fields. Gives the kinds.
async fn streamed(world: &World, token: &str, to: &str) -> Vec<String> {
    let address = world.server.address("admin_http").unwrap();
    let url = format!("http://{address}/api/troubleshoot/delivery/{to}?token={token}");
    let answer = reqwest::get(url).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let text = answer.text().await.unwrap();
    let mut kinds = Vec::new();
    for event in text.split_terminator("\n\n") {
        let data = event.strip_prefix("event: event\ndata: ");
        let data = data.unwrap_or_else(|| panic!("{event:?}"));
        let [stage]: [Value; 1] = serde_json::from_str(data).unwrap();
        let kind = stage["type"].as_str().unwrap().to_owned();
        let read = serde_json::from_value::<Stage>(stage.clone());
        read.unwrap_or_else(|error| panic!("{error}: {stage}"));
        kinds.push(kind);
    }
    kinds
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_stalwart_reads_the_stages_of_a_check() {
    let tls = RemoteTls::new(&["other.test"], "");
    let dns = zones(&certificate(&tls)).await;
    let remote = picky(tls).await;
    let (world, conf) = world(&dns, &remote).await;
    let key = program::run(&conf, &["apikey", "add", "t", "--scope", "manage-observe"]).await;
    let key = String::from_utf8(key.stdout).unwrap();
    let address = world.server.address("admin_http").unwrap();
    let request = reqwest::Client::new().get(format!("http://{address}/api/troubleshoot/token"));
    let answer = request.bearer_auth(key.trim_end()).send().await.unwrap();
    let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    let token = answer["data"].as_str().unwrap();
    let kinds = streamed(&world, token, "x@remote.test").await;
    assert_eq!(
        kinds,
        [
            "mxLookupStart",
            "mxLookupSuccess",
            "mtaStsFetchStart",
            "mtaStsNotFound",
            "tlsRptLookupStart",
            "tlsRptNotFound",
            "deliveryAttemptStart",
            "tlsaLookupStart",
            "tlsaLookupSuccess",
            "ipLookupStart",
            "ipLookupSuccess",
            "connectionStart",
            "connectionSuccess",
            "readGreetingStart",
            "readGreetingSuccess",
            "ehloStart",
            "ehloSuccess",
            "startTlsStart",
            "startTlsSuccess",
            "daneVerifySuccess",
            "ehloStart",
            "ehloSuccess",
            "mailFromStart",
            "mailFromSuccess",
            "rcptToStart",
            "rcptToSuccess",
            "quitStart",
            "quitCompleted",
            "completed",
        ]
    );
    // Nobody connects where the records are not proven.
    let kinds = streamed(&world, token, "bogus.test").await;
    let expected = ["tlsaLookupError", "connectionError", "completed"];
    for kind in expected {
        assert!(kinds.iter().any(|it| it == kind), "{kind}: {kinds:?}");
    }
    assert_eq!(kinds.last().map(String::as_str), Some("completed"));
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
