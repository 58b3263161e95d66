//! What the contract says of answers, row by row, where one program or one stage meets another.

use serde_json::{Value, json};

use super::{HookServer, client, letter, sender, world};
use crate::support::{client::Client, message};

/// How often a mail has the field by which it shows that it was in quarantine.
fn marks(mail: &str) -> usize {
    mail.matches("\r\nX-Quarantine: true\r\n").count()
}

/// A message in quarantine has its mark once, whichever stage wanted it there, and with a reply and
/// an end of the connection if the hook says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quarantine_at_any_stage_marks_the_message_once() {
    let stages = ["connect", "ehlo", "mail", "rcpt", "data"];
    for stage in stages {
        let hook = HookServer::saying(move |call| {
            let wants = call["context"]["stage"] == stage && sender(call) != "good";
            match wants || call["context"]["stage"] == "data" && sender(call) == "late" {
                true => json!({"action": "quarantine"}),
                false => json!({"action": "accept"}),
            }
        })
        .await;
        let keys = match stage {
            "data" => "stages = [\"data\"]".to_owned(),
            stage => format!("stages = [{stage:?}, \"data\"]"),
        };
        let world = world(hook.conf("scan", &keys)).await;
        let mut client = client(&world).await;
        // The last one is wanted there by two stages.
        for from in ["a@remote.test", "late@remote.test"] {
            let reply = client
                .submit(from, &["app@example.org"], &letter(stage))
                .await;
            assert!(reply.starts_with("250 2.0.0 delivered as "), "{reply}");
        }
        let junk = world.mails("Junk").await;
        let marks: Vec<usize> = junk.iter().map(|mail| marks(mail)).collect();
        assert_eq!(marks, [1, 1], "{stage}: {junk:#?}");
        world.server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_needs_no_question_about_the_message() {
    let hook = HookServer::saying(|_| json!({"action": "quarantine"})).await;
    let world = world(hook.conf("scan", "stages = [\"mail\"]")).await;
    let mut client = client(&world).await;
    let reply = client
        .submit("a@remote.test", &["app@example.org"], &letter("marked"))
        .await;
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(marks(&world.mails("Junk").await[0]), 1);
    assert_eq!(hook.stages(), ["mail"]);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connection_closes_behind_each_reply_that_says_so() {
    let hook = HookServer::saying(|call| {
        let (action, status, message) = match sender(call).as_str() {
            "reject" => ("reject", 550, Some("Go.")),
            "discard" => ("discard", 250, Some("Gone.")),
            "quarantine" => ("quarantine", 250, Some("Kept.")),
            _ => ("quarantine", 250, None),
        };
        json!({"action": action, "response": {
            "status": status, "message": message, "disconnect": true,
        }})
    })
    .await;
    for stages in ["[\"mail\"]", "[\"data\"]"] {
        let world = world(hook.conf("scan", &format!("stages = {stages}"))).await;
        for (from, expected) in [
            ("reject", "550 Go."),
            ("discard", "250 Gone."),
            ("quarantine", "250 Kept."),
            ("usual", "250 2.0.0 delivered as "),
        ] {
            let mut client = client(&world).await;
            let from_path = format!("MAIL FROM:<{from}@remote.test>");
            let mut reply = client.command(&from_path).await;
            if reply.starts_with("250") {
                client.expect("RCPT TO:<app@example.org>", "250").await;
                client.expect("DATA", "354").await;
                reply = client.command(&format!("{}\r\n.", letter("last"))).await;
            }
            assert!(reply.starts_with(expected), "{from} at {stages}: {reply}");
            assert_eq!(client.rest().await, "", "{from} at {stages}");
        }
        world.server.stop().await;
    }
}

/// A stage hook sees the text as it came, not as others have changed it, and the envelope as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hook_sees_the_message_that_came_in() {
    let first = HookServer::saying(|_| {
        json!({"action": "accept", "modifications": [
            {"type": "addHeader", "name": "X-First", "value": "1"},
            {"type": "changeHeader", "index": 1, "name": "Subject", "value": "changed"},
            {"type": "replaceContents", "value": "Other."},
            {"type": "addRecipient", "value": "info@example.org"},
        ]})
    })
    .await;
    let second = HookServer::saying(|_| {
        json!({"action": "accept", "modifications": [
            {"type": "addHeader", "name": "X-Second", "value": "2"},
            {"type": "changeHeader", "index": 1, "name": "Subject", "value": "again"},
        ]})
    })
    .await;
    let world = world(first.conf("a", "") + &second.conf("b", "")).await;
    let mut client = client(&world).await;
    let reply = client
        .submit("x@remote.test", &["app@example.org"], &letter("first"))
        .await;
    assert!(reply.starts_with("250"), "{reply}");
    let seen = |hook: &HookServer| hook.calls().swap_remove(0)["message"].clone();
    assert_eq!(seen(&second), seen(&first));
    let call: Value = second.calls().swap_remove(0);
    assert_eq!(call["message"]["contents"], "Hello.\r\n");
    assert_eq!(
        call["envelope"]["to"],
        json!([{"address": "app@example.org"}, {"address": "info@example.org"}])
    );
    // The changes come one behind the other.
    let mail = world.mails("Inbox").await.swap_remove(0);
    let text = "X-Second: 2\r\nX-First: 1\r\nFrom: <x@remote.test>\r\nTo: <app@example.org>\r\n\
                Subject: again\r\n\r\nOther.";
    assert!(mail.contains(text), "{mail}");
    world.server.stop().await;
}

/// What a hook said of a transaction that did not begin is forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_sender_takes_nothing_along() {
    let hook = HookServer::saying(|call| match sender(call).as_str() {
        "stranger" => json!({"action": "discard"}),
        _ => json!({"action": "accept"}),
    })
    .await;
    let world = world(hook.conf("scan", "stages = [\"mail\"]")).await;
    let mut client: Client = world.submission().await;
    client.expect("MAIL FROM:<stranger@example.org>", "5").await;
    let reply = client
        .submit("app@example.org", &["info@example.org"], &message("kept"))
        .await;
    assert!(reply.starts_with("250 2.0.0 queued as "), "{reply}");
    world.server.stop().await;
}
