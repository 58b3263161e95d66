//! Outside programs that are asked over HTTP, from the first connection to the mailbox or the next
//! server.

mod answers;
mod learning;
mod many;
mod milters;

use std::sync::{Arc, Mutex};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::post};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{Setup, World, client::Client, message, program, remote::Remote};

type Answer = dyn Fn(&Value) -> (u16, Value) + Send + Sync;

/// A hook server. It records its calls.
#[derive(Clone)]
struct HookServer {
    url: String,
    calls: Arc<Mutex<Vec<Value>>>,
}

struct Shared {
    calls: Arc<Mutex<Vec<Value>>>,
    answer: Box<Answer>,
}

async fn take(State(shared): State<Arc<Shared>>, body: String) -> impl IntoResponse {
    let call: Value = serde_json::from_str(&body).unwrap();
    shared.calls.lock().unwrap().push(call.clone());
    let (status, answer) = (shared.answer)(&call);
    (StatusCode::from_u16(status).unwrap(), answer.to_string())
}

impl HookServer {
    async fn start(answer: impl Fn(&Value) -> (u16, Value) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let calls = Arc::<Mutex<Vec<Value>>>::default();
        let shared = Arc::new(Shared {
            calls: Arc::clone(&calls),
            answer: Box::new(answer),
        });
        let router = Router::new().route("/hook", post(take)).with_state(shared);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, calls }
    }

    /// A server that answers 200.
    async fn saying(answer: impl Fn(&Value) -> Value + Send + Sync + 'static) -> Self {
        Self::start(move |call| (200, answer(call))).await
    }

    /// The lines of postrider.conf for it.
    fn conf(&self, name: &str, keys: &str) -> String {
        format!("[hooks.{name}]\nurl = \"{}\"\n{keys}\n", self.url)
    }

    fn calls(&self) -> Vec<Value> {
        self.calls.lock().unwrap().clone()
    }

    fn stages(&self) -> Vec<String> {
        let calls = self.calls();
        let stages = calls.iter().map(|call| call["context"]["stage"].clone());
        stages
            .map(|stage| stage.as_str().unwrap().to_owned())
            .collect()
    }
}

async fn world(statics: String) -> World {
    World::start(Setup {
        statics,
        ..Setup::default()
    })
    .await
}

/// A client of the MX that has said EHLO.
async fn client(world: &World) -> Client {
    let mut client = world.client("smtp").await;
    client.expect("EHLO client.test", "250").await;
    client
}

fn letter(subject: &str) -> String {
    format!("From: <x@remote.test>\r\nTo: <app@example.org>\r\nSubject: {subject}\r\n\r\nHello.")
}

/// The localpart of the sender of a call.
fn sender(call: &Value) -> String {
    let address = call["envelope"]["from"]["address"]
        .as_str()
        .unwrap_or_default();
    address.split('@').next().unwrap_or_default().to_owned()
}

/// The verdicts of a mock hook server, chosen by the sender.
fn verdict(call: &Value) -> Value {
    let reject = |status: u16, enhanced: &str, message: &str, disconnect: bool| {
        json!({"action": "reject", "response": {
            "status": status, "enhancedStatus": enhanced, "message": message,
            "disconnect": disconnect,
        }})
    };
    match sender(call).as_str() {
        "reject" => json!({"action": "reject"}),
        "discard" => json!({"action": "discard"}),
        "quarantine" => json!({"action": "quarantine"}),
        "temp_fail" => reject(451, "4.3.5", "Not now.", false),
        "shutdown" => reject(421, "4.3.0", "Server shutting down", false),
        "close" => reject(550, "5.7.1", "Go away.", true),
        "invalid" => reject(321, "3.2.1", "What?", false),
        "nonsense" => json!({"verdict": "accept"}),
        "changed" => json!({"action": "accept", "modifications": [
            {"type": "addHeader", "name": "X-Seen", "value": "yes"},
            {"type": "changeHeader", "index": 1, "name": "Subject", "value": "[x] changed"},
            {"type": "replaceContents", "value": "Another text.\nOf two lines.\n"},
            {"type": "changeFrom", "value": "<other@remote.test>"},
            {"type": "addRecipient", "value": "info@example.org"},
        ]}),
        _ => json!({"action": "accept"}),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hook_at_data_decides_about_incoming_mail() {
    let hook = HookServer::saying(verdict).await;
    let world = world(hook.conf("scan", "")).await;
    for (from, expected) in [
        ("good", "250 2.0.0 delivered as "),
        ("reject", "550 5.7.1 Message rejected."),
        ("discard", "250 2.0.0 Message queued for delivery."),
        ("temp_fail", "451 4.3.5 Not now."),
        ("shutdown", "421 4.3.0 Server shutting down"),
        ("close", "550 5.7.1 Go away."),
        // The default of `on_invalid` is a temporary error.
        (
            "invalid",
            "451 4.3.5 Unable to accept message at this time.",
        ),
        (
            "nonsense",
            "451 4.3.5 Unable to accept message at this time.",
        ),
        ("quarantine", "250 2.0.0 delivered as "),
        ("changed", "250 2.0.0 delivered as "),
    ] {
        let mut client = client(&world).await;
        let from = format!("{from}@remote.test");
        let reply = client
            .submit(&from, &["app@example.org"], &letter(&from))
            .await;
        assert!(reply.starts_with(expected), "{from}: {reply}");
        let closes = ["shutdown", "close"].iter().any(|it| from.starts_with(it));
        match closes {
            true => assert_eq!(client.rest().await, ""),
            false => _ = client.expect("QUIT", "221").await,
        }
    }
    let inbox = world.mails("Inbox").await;
    assert_eq!(inbox.len(), 2, "{inbox:#?}");
    let changed = &inbox[1];
    assert!(
        changed.starts_with("Return-Path: <other@remote.test>\r\n"),
        "{changed}"
    );
    let text = "X-Seen: yes\r\nFrom: <x@remote.test>\r\nTo: <app@example.org>\r\n\
                Subject: [x] changed\r\n\r\nAnother text.\r\nOf two lines.\r\n";
    assert!(changed.ends_with(text), "{changed}");
    assert_eq!(world.mails("Info").await.len(), 1, "a recipient was added");
    let junk = world.mails("Junk").await;
    assert_eq!(junk.len(), 1, "{junk:#?}");
    assert!(
        junk[0].contains("\r\nX-Quarantine: true\r\n"),
        "{}",
        junk[0]
    );

    let call = hook.calls().swap_remove(0);
    assert_eq!(call["context"]["client"]["helo"], "client.test");
    assert_eq!(call["context"]["client"]["ip"], "127.0.0.1");
    assert_eq!(call["context"]["client"]["activeConnections"], 1);
    assert_eq!(call["context"]["server"]["name"], "mail.example.org");
    assert_eq!(
        call["envelope"]["to"],
        json!([{"address": "app@example.org"}])
    );
    assert_eq!(call["message"]["contents"], "Hello.\r\n");
    assert_eq!(
        call["message"]["headers"][2],
        json!(["Subject", " good@remote.test\r\n"])
    );
    let added = call["message"]["serverHeaders"].to_string();
    assert!(added.contains("Received"), "{added}");
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_stage_may_refuse() {
    let hook = HookServer::saying(|call| {
        let stage = call["context"]["stage"].as_str().unwrap();
        let refused = match stage {
            "ehlo" => call["context"]["client"]["helo"] == "bad.test",
            "auth" => call["context"]["sasl"]["login"] == "other@example.org",
            "mail" => sender(call) == "bad",
            "rcpt" => {
                let to = call["envelope"]["to"].as_array().unwrap();
                to.last().unwrap()["address"] == "info@example.org"
            }
            _ => false,
        };
        let message = format!("not at {stage}");
        match refused {
            true => json!({"action": "reject", "response": {
                "status": 550, "enhanced_status": "5.7.1", "message": message,
            }}),
            false => json!({"action": "accept"}),
        }
    })
    .await;
    let all = "stages = [\"connect\", \"ehlo\", \"auth\", \"mail\", \"rcpt\", \"data\"]";
    let world = world(hook.conf("all", all)).await;
    let mut mx = world.client("smtp").await;
    mx.expect("EHLO bad.test", "550 5.7.1 not at ehlo").await;
    mx.expect("MAIL FROM:<a@remote.test>", "503").await;
    mx.expect("EHLO good.test", "250").await;
    mx.expect("MAIL FROM:<bad@remote.test>", "550 5.7.1 not at mail")
        .await;
    mx.expect("MAIL FROM:<a@remote.test>", "250").await;
    mx.expect("RCPT TO:<info@example.org>", "550 5.7.1 not at rcpt")
        .await;
    mx.expect("RCPT TO:<app@example.org>", "250").await;
    mx.expect("DATA", "354").await;
    mx.expect(&format!("{}\r\n.", letter("one")), "250").await;
    assert_eq!(
        hook.stages(),
        [
            "connect", "ehlo", "ehlo", "mail", "mail", "rcpt", "rcpt", "data"
        ]
    );
    // A login that a hook refuses is none.
    let mut client = world.client("submission").await;
    client.expect("EHLO client.test", "250").await;
    let mut client = client.starttls().await;
    client.expect("EHLO client.test", "250").await;
    let plain = |user: &str| {
        let secret = format!("\0{user}\0{}", crate::support::PASSWORD);
        format!("AUTH PLAIN {}", crate::support::base64(secret.as_bytes()))
    };
    client
        .expect(&plain("other@example.org"), "550 5.7.1 not at auth")
        .await;
    client.expect("MAIL FROM:<other@example.org>", "530").await;
    client.expect(&plain("app@example.org"), "235").await;
    client.expect("MAIL FROM:<app@example.org>", "250").await;
    let calls = hook.calls();
    let last = calls.last().unwrap();
    assert_eq!(
        last["context"]["sasl"],
        json!({"login": "app@example.org", "method": "PLAIN"})
    );
    assert!(last["context"]["tls"]["version"].is_string());
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_at_connect_takes_the_place_of_the_greeting() {
    let hook = HookServer::saying(|_| {
        json!({"action": "reject", "response": {
        "status": 554, "message": "no service"}})
    })
    .await;
    let world = world(hook.conf("door", "stages = [\"connect\"]")).await;
    let address = world.server.address("smtp").unwrap();
    let said = Client::refused(address).await;
    assert!(said.starts_with("554 no service"), "{said}");
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_hook_changes_of_a_submission_is_signed_and_delivered() {
    let hook = HookServer::saying(|call| match sender(call).as_str() {
        "app" => json!({"action": "accept", "modifications": [
            {"type": "addHeader", "name": "X-Company", "value": "Example"},
            {"type": "replaceContents", "value": "Hello.\r\n--\r\nExample\r\n"},
        ]}),
        _ => json!({"action": "quarantine"}),
    })
    .await;
    let remote = Remote::start(|_, _| None).await;
    let world = World::facing_with(
        &remote,
        Setup {
            statics: hook.conf("footer", "authenticated = true"),
            ..Setup::default()
        },
    )
    .await;
    let mut client = world.submission().await;
    let text = message("changed");
    let reply = client
        .submit("app@example.org", &["rcpt@remote.test"], &text)
        .await;
    assert!(reply.starts_with("250"), "{reply}");
    let received = remote.wait_for(1).await;
    let text = &received[0].text;
    assert!(text.contains("\r\nX-Company: Example\r\n"), "{text}");
    assert!(
        text.ends_with("\r\n\r\nHello.\r\n--\r\nExample\r\n"),
        "{text}"
    );
    // What leaves has no junk mailbox, so it waits.
    let reply = client
        .submit("info@example.org", &["rcpt@remote.test"], text)
        .await;
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(world.server.store().counts().await.held, 1);
    // The MX asks for sessions without a login only.
    let mut mx = client_of_mx(&world).await;
    mx.submit("a@remote.test", &["app@example.org"], &letter("plain"))
        .await;
    assert_eq!(hook.calls().len(), 2);
    world.server.stop().await;
}

async fn client_of_mx(world: &World) -> Client {
    client(world).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_on_hold_reaches_its_mailbox_when_it_is_released() {
    let hook = HookServer::saying(verdict).await;
    let world = world(hook.conf("scan", "quarantine = \"hold\"")).await;
    let conf = world.dir.path().join("postrider.conf");
    let mut client = client(&world).await;
    let reply = client
        .submit(
            "quarantine@remote.test",
            &["app@example.org"],
            &letter("held"),
        )
        .await;
    assert!(reply.starts_with("250 2.0.0 queued as "), "{reply}");
    assert!(world.mails("Inbox").await.is_empty());
    let listed = program::run(&conf, &["queue", "list", "--hold", "true", "--json"]).await;
    let listed: Vec<Value> = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    let released = program::run(&conf, &["queue", "release", "--all"]).await;
    assert_eq!(released.status.code(), Some(0), "{released:?}");
    let arrived = async {
        while world.mails("Inbox").await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    crate::support::patience::patiently("the mail that was held", arrived).await;
    let mail = world.mails("Inbox").await.swap_remove(0);
    for field in [
        "Return-Path: <quarantine@remote.test>\r\nDelivered-To: app@example.org\r\n",
        "\r\nX-Quarantine: true\r\n",
        "\r\nSubject: held\r\n\r\nHello.\r\n",
    ] {
        assert!(mail.contains(field), "{field} in {mail}");
    }
    world.server.stop().await;
}

/// A program that is not there is left out after some calls. Then mail goes its way at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_answer_the_configuration_decides() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", free.local_addr().unwrap());
    drop(free);
    for (fate, expected, mailbox) in [
        ("tempfail", "451 4.3.5", None),
        ("reject", "550 5.7.1", None),
        ("accept", "250", Some("Inbox")),
        ("quarantine", "250", Some("Junk")),
    ] {
        let world = world(format!(
            "[hooks.gone]\nurl = \"{url}\"\non_error = \"{fate}\"\nbreaker.failures = 2\n"
        ))
        .await;
        let mut client = client(&world).await;
        for _ in 0..3 {
            let reply = client
                .submit("a@remote.test", &["app@example.org"], &letter(fate))
                .await;
            assert!(reply.starts_with(expected), "{fate}: {reply}");
        }
        for known in ["Inbox", "Junk"] {
            let count = if mailbox == Some(known) { 3 } else { 0 };
            assert_eq!(world.mails(known).await.len(), count, "{fate}: {known}");
        }
        world.server.stop().await;
    }
}

/// An administrator lists the programs, tries one without sending mail, and finds its answer in the
/// trace of a message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_sees_and_tries_the_programs() {
    let hook = HookServer::saying(verdict).await;
    let world = world(hook.conf("scan", "sender_domains = [\"remote.test\"]")).await;
    let conf = world.dir.path().join("postrider.conf");
    let run = async |arguments: &[&str]| {
        let ran = program::run(&conf, arguments).await;
        let said = String::from_utf8(ran.stdout).unwrap();
        (
            ran.status.code(),
            said + &String::from_utf8_lossy(&ran.stderr),
        )
    };
    let (code, listed) = run(&["hooks", "list", "--json"]).await;
    assert_eq!(code, Some(0), "{listed}");
    let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
    assert_eq!(
        listed,
        [
            json!({"name": "scan", "kind": "stage", "place": hook.url, "stages": ["data"],
            "state": "up", "since": null, "reason": ""})
        ]
    );
    for (from, result, changes, is_asked) in [
        ("changed@remote.test", "accept", 5, true),
        ("reject@remote.test", "reject", 0, true),
        ("temp_fail@elsewhere.test", "tempfail", 0, false),
    ] {
        let (code, said) = run(&["hooks", "test", "scan", "--from", from, "--json"]).await;
        assert_eq!(code, Some(0), "{said}");
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["result"], result, "{said:#}");
        assert_eq!(
            said["changes"].as_array().unwrap().len(),
            changes,
            "{said:#}"
        );
        assert_eq!(said["asked"], is_asked, "{said:#}");
    }
    let (code, said) = run(&["hooks", "test", "scan", "--from", "invalid@remote.test"]).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("result: tempfail after "), "{said}");
    assert!(said.contains("scan gave no answer that counts: "), "{said}");
    let (code, said) = run(&["hooks", "test", "other"]).await;
    assert_eq!(code, Some(1));
    assert!(
        said.contains("no hook and no milter named other is in use"),
        "{said}"
    );
    let (code, said) = run(&["config", "test", "--hooks"]).await;
    assert_eq!(code, Some(0), "{said}");
    let expected = format!("stage scan at {} takes connections\nconfig OK\n", hook.url);
    assert!(said.ends_with(&expected), "{said}");

    let mut client = client(&world).await;
    let reply = client
        .submit(
            "reject@remote.test",
            &["app@example.org"],
            &letter("traced"),
        )
        .await;
    assert!(reply.starts_with("550"), "{reply}");
    client.expect("QUIT", "221").await;
    let traced = async {
        loop {
            let (_, said) = run(&["trace", "reject@remote.test"]).await;
            if said.contains("scan") {
                return said;
            }
        }
    };
    let said = crate::support::patience::patiently("the trace of the refusal", traced).await;
    assert!(said.contains("the hook rejects"), "{said}");
    world.server.stop().await;
}
