//! History and events by their pages.

use futures_util::StreamExt;
use postrider_admin::op::{
    Single,
    config::{accounts, settings::Setting},
};
use postrider_queue::EndAs;
use postrider_store::{Event, Order, QueueFilter, Urgency};

use super::{super::super::accounts::queue_to, event, failed, is_escaped, visitor};

#[tokio::test]
async fn the_history_is_searched_exported_and_sent_again() {
    let visitor = visitor().await.entering_as_admin().await;
    let empty = visitor.get("/admin/history").await;
    assert!(empty.text().contains("keep_retired_message_period"));
    let desk = &visitor.desk;
    let ann = failed(desk, "ann", "ann@a.test").await;
    let bob = failed(desk, "bob", "bob@b.test").await;
    assert!(ann < bob);

    let senders = async |query: &str| {
        let page = visitor.get(&format!("/admin/history{query}")).await;
        assert_eq!(page.status, 200, "{query}: {}", page.text());
        let rows = page.rows().into_iter();
        rows.map(|row| row[1].clone()).collect::<Vec<_>>()
    };
    let both = ["bob@b.test", "ann@a.test"];
    assert_eq!(senders("").await, both);
    assert_eq!(senders("?to=a@remote.test&success=false").await, both);
    assert_eq!(senders("?from=@a.test").await, both[1..]);
    assert_eq!(senders("?account=bob&after=1h").await, both[..1]);
    assert!(senders("?success=true").await.is_empty());
    let none = visitor.get("/admin/history?to=jo%40remote.test").await;
    let link = "href=\"/admin/queue?to=jo%40remote.test\"";
    assert!(none.html.contains(link), "{}", none.html);
    assert!(senders("?code=250").await.is_empty());
    assert!(senders("?extra=order").await.is_empty());
    let wrong = visitor.get("/admin/history?after=soon").await;
    assert_eq!(wrong.status, 422);
    assert!(wrong.text().contains("\"soon\" is not a time"));

    let page = visitor.get("/admin/history?code=550&account=ann").await;
    assert!(
        page.html
            .contains("postrider queue retired list --account ann --code 550 --limit 50"),
        "{}",
        page.html
    );
    let csv = visitor.get("/admin/history/export?account=ann").await;
    let lines: Vec<&str> = csv.html.lines().collect();
    assert_eq!(lines.len(), 2, "{}", csv.html);
    assert!(lines[0].starts_with("id,account,from,to,subject"));
    assert!(lines[1].starts_with(&format!("{ann},ann,ann@a.test,a@remote.test,")));
    let json = visitor.get("/admin/history/export?format=jsonl").await;
    assert_eq!(json.html.lines().count(), 2);
    let first: serde_json::Value = serde_json::from_str(json.html.lines().next().unwrap()).unwrap();
    assert_eq!(first["id"], bob);

    // No record has the text any more.
    let path = format!("/admin/history/{ann}/send-again");
    let list = visitor.get("/admin/history").await;
    assert!(!list.html.contains("send-again"), "{}", list.html);
    let told = visitor.get(visitor.get(&path).await.location()).await;
    assert!(told.text().contains("Its text is gone"), "{}", told.text());
    let path = format!("/admin/history/{ann}/replay");
    let ask = visitor.get(&path).await;
    let told = visitor.act(&ask, &path, &[]).await;
    assert!(told.text().contains("There are no past calls"));
    assert_eq!(visitor.get("/admin/history/999/replay").await.status, 404);
}

#[tokio::test]
async fn events_are_filtered_and_belong_to_an_account() {
    let visitor = visitor().await.entering_as("ann", "ann@a.test").await;
    let desk = &visitor.desk;
    event(desk, "ann", Event::Delivered, "x@remote.test").await;
    event(desk, "ann", Event::Failed, "y@remote.test").await;
    event(desk, "bob", Event::Failed, "x@remote.test").await;
    failed(desk, "bob", "bob@b.test").await;
    let recipients = async |query: &str| {
        let page = visitor.get(&format!("/account/events{query}")).await;
        assert_eq!(page.status, 200, "{}", page.text());
        let rows = page.rows().into_iter();
        rows.map(|row| row[2].clone()).collect::<Vec<_>>()
    };
    let both = ["y@remote.test", "x@remote.test"];
    assert_eq!(recipients("").await, both);
    // A holder does not choose the account.
    assert_eq!(recipients("?account=bob").await, both);
    assert_eq!(recipients("?event=failed").await, both[..1]);
    assert_eq!(recipients("?recipient=x@remote.test").await, both[1..]);
    assert_eq!(recipients("?code=550&extra=order=77").await, both[..1]);
    assert!(recipients("?extra=order=78").await.is_empty());
    assert_eq!(visitor.get("/account/events?event=x").await.status, 422);
    let past = visitor.get("/account/messages/past").await;
    assert!(past.rows().is_empty(), "{}", past.text());
    assert_eq!(
        visitor.get("/account/messages/past/1/replay").await.status,
        404
    );
    is_escaped(&visitor, &["/account/events", "/account/messages/past"]).await;
}

#[tokio::test]
async fn a_message_whose_text_is_there_is_sent_again() {
    let visitor = visitor().await.entering_as_admin().await;
    let desk = &visitor.desk;
    let sender = ("ann", "ann@a.test");
    let recipients = ["x@remote.test", "y@remote.test"];
    queue_to(desk, sender, &recipients, Urgency::default()).await;
    let store = &desk.context.store;
    let first = QueueFilter {
        to: Some("x@".to_owned()),
        ..QueueFilter::default()
    };
    let ended = desk
        .context
        .queue
        .end_all(store, &first, EndAs::Fail, "somebody");
    assert_eq!(ended.await.unwrap().ended, 1);
    let path = "/admin/history/1/send-again";
    let ask = visitor.get(path).await;
    let told = visitor.act(&ask, path, &[]).await;
    assert!(
        told.text()
            .contains("Message 1 is queued again as message 3."),
        "{}",
        told.text()
    );
    let all = QueueFilter::default();
    let queued = store.list(&all, None, Order::Ascending, 9).await.unwrap();
    let again = queued.items.last().unwrap();
    assert_eq!(again.recipient.to_string(), "x@remote.test");
    assert_eq!((again.attempts, again.text), (0, queued.items[0].text));
    // A message that is queued is not in the history.
    assert_eq!(visitor.get("/admin/history/2/send-again").await.status, 404);
}

#[tokio::test]
async fn a_holder_sends_again_as_a_program_of_the_account_would() {
    let visitor = visitor().await.entering_as("ann", "ann@a.test").await;
    let (desk, store) = (&visitor.desk, &visitor.desk.context.store);
    for (sender, recipients) in [
        (("ann", "ann@a.test"), ["x@remote.test", "y@remote.test"]),
        (("bob", "bob@b.test"), ["x@remote.test", "y@remote.test"]),
        // The address is not of the account any more.
        (("ann", "old@a.test"), ["x@remote.test", "y@remote.test"]),
    ] {
        queue_to(desk, sender, &recipients, Urgency::default()).await;
    }
    let first = QueueFilter {
        to: Some("x@".to_owned()),
        ..QueueFilter::default()
    };
    let ended = desk.context.queue.end_all(store, &first, EndAs::Fail, "x");
    assert_eq!(ended.await.unwrap().ended, 3);
    let page = visitor.get("/account/messages/1").await;
    let path = "/account/messages/past/1/send-again";
    assert!(page.html.contains(path), "{}", page.text());
    let ask = visitor.get(path).await;
    let told = visitor.act(&ask, path, &[]).await;
    let sent = "Message 1 is queued again as message ";
    assert!(told.text().contains(sent), "{}", told.text());
    assert!(told.html.contains("<h1>Past messages</h1>"));

    // What others sent is not there.
    let foreign = "/account/messages/past/3/send-again";
    assert_eq!(visitor.get(foreign).await.status, 404);
    let refused = visitor.send(&ask, path, &[]).await;
    assert_eq!(refused.status, 303, "the same form acts once");
    let old = "/account/messages/past/5/send-again";
    let ask = visitor.get(old).await;
    let refused = visitor.send(&ask, old, &[]).await;
    assert_eq!(refused.status, 409);
    let why = "account may not send from old@a.test any more";
    assert!(refused.text().contains(why), "{}", refused.text());

    let limit = vec![Setting {
        key: "max_outgoing_messages_per_day".to_owned(),
        value: Some("1".to_owned()),
    }];
    let account = "ann".to_owned();
    let set = accounts::Set {
        account,
        settings: limit,
    };
    set.answer(&desk.context).await.unwrap();
    let ask = visitor.get(path).await;
    let refused = visitor.send(&ask, path, &[]).await;
    assert_eq!(refused.status, 409);
    let text = refused.text();
    assert!(text.contains("max_outgoing_messages_per_day"), "{text}");
}

#[tokio::test]
async fn a_holder_tries_moves_and_cancels_the_own_messages() {
    let visitor = visitor().await.entering_as("ann", "ann@a.test").await;
    let desk = &visitor.desk;
    for sender in [("ann", "ann@a.test"), ("bob", "bob@b.test")] {
        queue_to(desk, sender, &["x@remote.test"], Urgency::default()).await;
    }
    let list = visitor.get("/account/messages").await;
    assert_eq!(list.rows().len(), 1, "{}", list.text());
    assert!(
        visitor
            .get("/account/messages?to=y@")
            .await
            .rows()
            .is_empty()
    );
    assert_eq!(visitor.get("/account/messages/2").await.status, 404);
    assert_eq!(visitor.get("/account/messages/2/cancel").await.status, 404);
    let page = visitor.get("/account/messages/1").await;
    assert!(page.text().contains("sent by the account"));
    let tried = visitor.act(&page, "/account/messages/1/try", &[]).await;
    assert!(
        tried
            .text()
            .contains("Message 1 is tried as soon as there is room.")
    );
    let path = "/account/messages/1/schedule";
    assert_eq!(
        visitor.send(&page, path, &[("when", "x")]).await.status,
        422
    );
    let moved = visitor.act(&page, path, &[("when", "2h")]).await;
    assert!(moved.text().contains("Message 1 is tried next at"));
    let path = "/account/messages/1/cancel";
    let ask = visitor.get(path).await;
    let canceled = visitor.act(&ask, path, &[]).await;
    assert!(canceled.text().contains("Message 1 is canceled."));
    assert_eq!(visitor.get(path).await.status, 409);
    let past = visitor.get("/account/messages/past").await;
    assert_eq!(past.rows().len(), 1, "{}", past.text());
    is_escaped(&visitor, &["/account/messages", "/account/messages/1"]).await;
}

#[tokio::test]
async fn new_events_come_to_an_open_page() {
    let visitor = visitor().await.entering_as("ann", "ann@a.test").await;
    let desk = &visitor.desk;
    event(desk, "ann", Event::Delayed, "first@remote.test").await;
    let page = visitor.get("/account/events").await;
    let stream = page.html.split("hx-sse:connect=\"").nth(1).unwrap();
    let stream = stream.split('"').next().unwrap().replace("&#38;", "&");
    let mut news = visitor.stream(&stream, None).await;
    event(desk, "bob", Event::Delivered, "foreign@remote.test").await;
    event(desk, "ann", Event::Delivered, "second@remote.test").await;
    let piece = news.next().await.unwrap().unwrap();
    let piece = String::from_utf8(piece.to_vec()).unwrap();
    assert!(piece.starts_with("id: "), "{piece}");
    assert!(piece.contains("second@remote.test"), "{piece}");
    assert!(
        !piece.contains("first@") && !piece.contains("foreign@"),
        "{piece}"
    );
    assert!(!piece.contains("<script>alert"), "{piece}");
}
