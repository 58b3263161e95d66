//! rspamd learns from what users say about their mail.

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, Uri},
    routing::post,
};
use serde_json::json;
use tokio::{net::TcpListener, sync::mpsc};

use super::{client, letter, world};
use crate::support::{patience::patiently, webapi};

/// The path, the password, the recipient and the body of a call.
type Lesson = (String, String, String, String);

/// A controller of rspamd that learns from everything, and tells what it was told.
async fn controller() -> (String, mpsc::UnboundedReceiver<Lesson>) {
    async fn learn(
        State(sender): State<mpsc::UnboundedSender<Lesson>>,
        uri: Uri,
        headers: HeaderMap,
        body: String,
    ) -> &'static str {
        let field = |name: &str| {
            let value = headers.get(name).map(|value| value.to_str().unwrap());
            value.unwrap_or_default().to_owned()
        };
        let path = uri.path().to_owned();
        let lesson = (path, field("password"), field("deliver-to"), body);
        sender.send(lesson).unwrap();
        "{\"success\": true}"
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, lessons) = mpsc::unbounded_channel();
    let router = Router::new()
        .route("/learnspam", post(learn))
        .route("/learnham", post(learn))
        .with_state(sender);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, lessons)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rspamd_learns_from_moves_and_flags() {
    let (url, mut lessons) = controller().await;
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "enable\n").unwrap();
    let secret = secret.display();
    // The scanner is not there, so mail goes on without it.
    let world = world(format!(
        "[hooks.rspamd]\nkind = \"rspamd\"\nurl = \"http://127.0.0.1:9/\"\nlearn = true\n\
         controller = {{ url = \"{url}\", password_file = \"{secret}\" }}\n"
    ))
    .await;
    let mut smtp = client(&world).await;
    let reply = smtp
        .submit("a@remote.test", &["app@example.org"], &letter("cheap"))
        .await;
    assert!(reply.starts_with("250"), "{reply}");
    let store = world.server.store();
    let mails = store.list_mails("app", Some("Inbox"), None, 2).await;
    let id = mails.unwrap().items[0].id.0;
    let address = world.server.address("webapi_http").unwrap();
    let call = async |method: &str, request: serde_json::Value| {
        webapi(address, "app@example.org", method, &request.to_string()).await;
    };
    // The mailbox for junk is made by the first junk.
    for (method, request, path) in [
        (
            "MessageFlagsAdd",
            json!({"MsgID": id, "Flags": ["$Junk"]}),
            "/learnspam",
        ),
        (
            "MessageFlagsAdd",
            json!({"MsgID": id, "Flags": ["\\Seen"]}),
            "",
        ),
        (
            "MessageFlagsAdd",
            json!({"MsgID": id, "Flags": ["$Junk"]}),
            "",
        ),
        (
            "MessageFlagsRemove",
            json!({"MsgID": id, "Flags": ["$Junk"]}),
            "",
        ),
        (
            "MessageFlagsAdd",
            json!({"MsgID": id, "Flags": ["$NotJunk"]}),
            "/learnham",
        ),
        (
            "MessageMove",
            json!({"MsgID": id, "DestMailboxName": "Junk"}),
            "/learnspam",
        ),
        (
            "MessageMove",
            json!({"MsgID": id, "DestMailboxName": "Inbox"}),
            "/learnham",
        ),
    ] {
        call(method, request.clone()).await;
        if path.is_empty() {
            continue;
        }
        let lesson = patiently("a lesson", lessons.recv()).await.unwrap();
        let (taught, password, recipient, body) = lesson;
        assert_eq!(taught, path, "{method} {request}");
        assert_eq!(password, "enable");
        assert_eq!(recipient, "app@example.org");
        assert!(
            body.starts_with("Return-Path: <a@remote.test>\r\n"),
            "{body}"
        );
        assert!(body.ends_with("Subject: cheap\r\n\r\nHello.\r\n"), "{body}");
    }
    assert!(lessons.try_recv().is_err());
    world.server.stop().await;
}
