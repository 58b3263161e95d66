//! The page of one message, as the administrator and the holder of the account see it.

use std::time::Duration;

use futures_util::StreamExt;
use postrider_admin::op::audit;
use postrider_observe::{EventType, Keep, Key, Kind, Term};
use postrider_queue::EndAs;
use postrider_store::{
    Attempt, Event, NewEvent, NewHook, NewHookKind, NewSuppression, Outcome, OutgoingEvent, Party,
    QueueFilter, QueueId, Settle, Speaker, Time, Transcript, TranscriptLine, Urgency,
};

use super::{
    super::{super::accounts::queue_to, Desk, Visitor},
    HOSTILE, is_escaped, now, told, visitor,
};

const PAGE: &str = "/account/messages/1";
const TABS: [&str; 5] = [
    "",
    "?tab=headers",
    "?tab=structure",
    "?tab=text",
    "?tab=source",
];

/// The holder of the account `ann` before a server with message 1 of ann and message 2 of bob.
async fn holder() -> Visitor {
    let visitor = visitor().await.entering_as("ann", "ann@a.test").await;
    for sender in [("ann", "ann@a.test"), ("bob", "bob@b.test")] {
        queue_to(
            &visitor.desk,
            sender,
            &["x@remote.test"],
            Urgency::default(),
        )
        .await;
    }
    visitor
}

/// An attempt to deliver message 1 fails, with all that follows from that.
async fn fail_once(desk: &Desk) {
    let (store, now, id) = (&desk.context.store, now(desk), QueueId(1));
    let told = OutgoingEvent {
        queue_id: id,
        ..told(Event::Delayed, now)
    };
    let settle = Settle {
        id,
        fence: store.queued(id).await.unwrap().unwrap().fence,
        party: Party::Administrator,
        attempt: Some(Attempt {
            start: now,
            duration: Duration::from_millis(12),
            success: false,
            code: 450,
            enhanced: None,
            remote: "mx.remote.test [192.0.2.1]".to_owned(),
            error: HOSTILE.to_owned(),
            blames: false,
        }),
        outcome: Outcome::Retry(now.after(Duration::from_secs(900))),
        route: None,
        delay_told: false,
        text: None,
        queue: Vec::new(),
        mails: Vec::new(),
        hooks: vec![NewHook {
            account: "ann".to_owned(),
            url: "https://hook.test/<script>alert(1)".to_owned(),
            authorization: "Bearer very secret".to_owned(),
            kind: NewHookKind::Outgoing(told.clone()),
            submitted: now,
            next_attempt: now.after(Duration::from_secs(3600)),
        }],
        suppress: vec![NewSuppression {
            account: "ann".to_owned(),
            base: "x@remote.test".to_owned(),
            list: String::new(),
            original: "x@remote.test".to_owned(),
            created: now,
            manual: false,
            reason: HOSTILE.to_owned(),
            reply: None,
            until: None,
        }],
        events: vec![NewEvent {
            account: "ann".to_owned(),
            recipient: "x@remote.test".to_owned(),
            told,
            keep_until: Time(i64::MAX),
        }],
        reports: Vec::new(),
    };
    assert_eq!(store.settle(vec![settle]).await.unwrap(), [true]);
    let line = |by, text: &str| TranscriptLine {
        ms: 7,
        by,
        text: text.to_owned(),
    };
    let transcript = Transcript {
        start: now,
        remote: "mx.remote.test [192.0.2.1]".into(),
        lines: vec![
            line(Speaker::Client, "RCPT TO:<x@remote.test>"),
            line(Speaker::Server, HOSTILE),
        ],
        ..Transcript::default()
    };
    store
        .keep_transcripts(vec![(id, transcript)])
        .await
        .unwrap();
}

/// A trace about message 1, of these accounts.
fn trace(desk: &Desk, kind: Kind, accounts: &[&str], to: &str) {
    let (tracer, start) = (desk.recorder.tracer(), now(desk).0);
    let mut trace = tracer.start(kind, start);
    for account in accounts {
        trace.index(Term::Account(account));
    }
    trace.index(Term::Queue(1));
    trace.event(start, EventType::DeliveryFailed, |data| {
        data.number(Key::QueueId, 1);
        data.text(Key::To, to);
    });
    tracer.finish(trace, Keep::Always);
}

#[tokio::test]
async fn a_holder_reads_all_that_happened_to_an_own_message() {
    let visitor = holder().await.entering_as_admin().await;
    let desk = &visitor.desk;
    desk.clock.advance(Duration::from_secs(120));
    fail_once(desk).await;
    trace(desk, Kind::Attempt, &["ann"], "own@remote.test");
    trace(desk, Kind::Session, &["ann", "bob"], "foreign@b.test");
    let page = visitor.get(PAGE).await;
    let text = page.text();
    for part in [
        "Accepted",
        "sent by the account",
        "Not taken",
        "by mx.remote.test [192.0.2.1]: 450",
        "What was said, in clear",
        "7 ms C: RCPT TO:<x@remote.test>",
        "Event delayed",
        "450",
        "Waits: https://hook.test/<script>alert(1), 0 tries",
        "The recipient is suppressed",
        "Attempt, step by step",
        "own@remote.test",
        "Next attempt in 15 min",
        "postrider webapi QueueStatus '{\"QueueMsgID\":1}'",
        "--json '{\"QueueMsgID\":1}' \"$URL\"/webapi/v1/QueueStatus",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // What is about others too, and what only administrators do, is not there.
    for part in [
        "foreign@b.test",
        "Let fail",
        "Hold",
        "Account ann",
        "queue explain",
    ] {
        assert!(!text.contains(part), "{part}: {text}");
    }
    // The administrator sees the same, and more.
    let all = visitor.get("/admin/messages/1").await.text();
    for part in [
        "by mx.remote.test [192.0.2.1]: 450",
        "Event delayed",
        "SMTP session",
        "foreign@b.test",
        "Let fail",
        "postrider queue explain 1",
    ] {
        assert!(all.contains(part), "{part}: {all}");
    }
    let tabs = TABS.map(|tab| format!("{PAGE}{tab}"));
    is_escaped(&visitor, &tabs.each_ref().map(String::as_str)).await;
    let remove = page.html.split("suppressions/remove?").nth(1).unwrap();
    let remove = remove.split('"').next().unwrap().replace("&#38;", "&");
    let ask = format!("/account/suppressions/remove?{remove}");
    let ask = visitor.get(&ask).await;
    assert!(
        ask.text().contains("postrider webapi SuppressionRemove"),
        "{}",
        ask.text()
    );
    visitor.act(&ask, "/account/suppressions/remove", &[]).await;
    let page = visitor.get(PAGE).await;
    assert!(!page.text().contains("The recipient is suppressed"));
}

#[tokio::test]
async fn a_holder_reads_the_text_of_own_mail_and_nobody_notes_it() {
    let visitor = holder().await.entering_as_admin().await;
    for tab in ["text", "source"] {
        let shown = visitor.get(&format!("{PAGE}?tab={tab}")).await;
        assert_eq!(shown.status, 200);
        let pre = shown.html.split("<pre>").nth(1).unwrap();
        assert!(pre.split("</pre>").next().unwrap().contains("Hi"), "{pre}");
    }
    let structure = visitor.get(&format!("{PAGE}?tab=structure")).await;
    assert_eq!(structure.rows().len(), 1);
    let noted = async || {
        let noted = audit::List {
            operation: Some("queue.look".to_owned()),
            ..audit::List::default()
        };
        visitor.desk.list(noted).await.len()
    };
    assert_eq!(noted().await, 0);
    let page = visitor.get("/admin/messages/1?tab=text").await;
    visitor.send(&page, "/admin/messages/1/text", &[]).await;
    assert_eq!(noted().await, 1);
}

#[tokio::test]
async fn messages_of_others_are_as_those_that_never_were() {
    let visitor = holder().await;
    let page = visitor.get(PAGE).await;
    let missing = visitor.get("/account/messages/999").await;
    assert_eq!(missing.status, 404);
    let form = page.form("/account/messages/1/try");
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(&form)
        .append_pair("when", "2h")
        .append_pair("tab", "text")
        .finish();
    let is_hidden = async || {
        let tabs = TABS.into_iter();
        let parts = ["?tab=x", "?part=1", "?live=0", "/cancel"];
        for rest in tabs.chain(parts) {
            let seen = visitor.get(&format!("/account/messages/2{rest}")).await;
            assert_eq!((seen.status, seen.text()), (404, missing.text()), "{rest}");
        }
        for path in ["past/2/replay", "past/2/send-again"] {
            let seen = visitor.get(&format!("/account/messages/{path}")).await;
            assert_eq!(seen.status, 404, "{path}");
        }
        for path in [
            "2/try",
            "2/schedule",
            "2/cancel",
            "2/text",
            "1/text",
            "past/2/replay",
        ] {
            let path = format!("/account/messages/{path}");
            let sent = visitor.request("POST", &path, &[], body.clone()).await;
            assert_eq!(sent.status, 404, "{path}");
        }
    };
    is_hidden().await;
    let (store, queue) = (&visitor.desk.context.store, &visitor.desk.context.queue);
    let filter = QueueFilter {
        ids: vec![QueueId(2)],
        ..QueueFilter::default()
    };
    let ended = queue.end_all(store, &filter, EndAs::Fail, "somebody").await;
    assert_eq!(ended.unwrap().ended, 1);
    is_hidden().await;
}

#[tokio::test]
async fn the_page_of_a_message_is_live_until_it_ends() {
    let visitor = holder().await;
    let page = visitor.get(PAGE).await;
    let stream = page.html.split("hx-sse:connect=\"").nth(1).unwrap();
    let stream = stream.split('"').next().unwrap().replace("&#38;", "&");
    let mut news = visitor.stream(&stream, None).await;
    let wrong = [("when", "<script>alert(1)")];
    let again = visitor
        .send(&page, "/account/messages/1/schedule", &wrong)
        .await;
    assert_eq!(again.status, 422);
    assert!(again.html.contains("aria-describedby=\"e-when\""));
    assert!(!again.html.contains("<script>alert"), "{}", again.html);
    fail_once(&visitor.desk).await;
    let piece = news.next().await.unwrap().unwrap();
    let piece = String::from_utf8(piece.to_vec()).unwrap();
    assert!(piece.contains("Event delayed"), "{piece}");
    assert!(
        !piece.contains("name=\"token\"") && !piece.contains("<script>alert"),
        "{piece}"
    );
    let cancel = "/account/messages/1/cancel";
    let ask = visitor.get(cancel).await;
    assert!(ask.text().contains("postrider webapi QueueCancel"));
    visitor.act(&ask, cancel, &[]).await;
    let past = visitor.get(PAGE).await;
    let text = past.text();
    assert!(text.contains("Tell its events again"), "{text}");
    assert!(!text.contains("Send again") && !text.contains("Reschedule"));
    let told = "Retired: it left the queue now What is known of it is removed in 7 d";
    assert!(text.contains(told), "{text}");
    let gone = visitor.get(&format!("{PAGE}?tab=source")).await;
    assert!(gone.text().contains("left the queue"), "{}", gone.text());
    let replay = past.html.split("messages/past/1/replay").count();
    assert_eq!(replay, 2);
}

#[tokio::test]
async fn lists_of_a_holder_tell_the_calls_that_list_the_same() {
    let visitor = holder().await;
    for (path, command) in [
        (
            "messages?to=@remote.test",
            "postrider webapi QueueList '{\"Limit\":50,\"To\":\"@remote.test\"}'",
        ),
        (
            "events?event=failed",
            "postrider webapi Events '{\"Descending\":true,\"Events\":[\"failed\"],\"Limit\":50}'",
        ),
        ("suppressions", "postrider webapi SuppressionList '{}'"),
        (
            "suppressions/add?address=a@b.test",
            "postrider webapi SuppressionAdd '{\"EmailAddress\":\"a@b.test\"",
        ),
        (
            "app-passwords",
            "curl -u ann@a.test \"$URL\"/api/account/auth",
        ),
        ("2fa", "curl -u ann@a.test \"$URL\"/api/account/auth"),
    ] {
        let page = visitor.get(&format!("/account/{path}")).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(page.text().contains(command), "{path}: {}", page.text());
    }
    // No call does the same.
    for path in [
        "messages?subject=a",
        "events?code=550",
        "suppressions?text=a",
        "webhooks",
        "sessions",
    ] {
        let page = visitor.get(&format!("/account/{path}")).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(!page.text().contains("As command"), "{path}");
    }
}
