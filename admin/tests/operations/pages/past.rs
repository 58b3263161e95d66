//! The pages about what happened: history, events, suppressions and webhooks.

#[path = "past/history.rs"]
mod history;
#[path = "past/message.rs"]
mod message;
#[path = "past/suppressions.rs"]
mod suppressions;
#[path = "past/webhooks.rs"]
mod webhooks;

use std::time::Duration;

use postrider_queue::EndAs;
use postrider_store::{
    Accept, Event, HookAttempt, HookFilter, HookId, NewEvent, NewHook, NewHookKind, Order,
    OutgoingEvent, QueueFilter, QueueId, Time,
};

use super::{
    super::{Desk, STATICS, http::TENANTS},
    Visitor,
};

/// What no page may show as HTML.
pub(super) const HOSTILE: &str = "<script>alert(1)</script>\u{202e}";

/// A browser before a server with the webapi, whose accounts keep their history.
async fn visitor() -> Visitor {
    let ports = "webapi_http.enabled = true
admin_http.enabled = true
";
    let statics = format!("{STATICS}{ports}");
    let dynamics = TENANTS.replace(
        "\"\ndestinations.",
        "\"\nkeep_retired_message_period = \"7d\"\nkeep_retired_webhook_period = \"7d\"\n\
         destinations.",
    );
    Visitor::of(Desk::with_admin(&statics, &dynamics)).await
}

fn now(desk: &Desk) -> Time {
    desk.context.clock.now()
}

/// Puts a message that an account sent to `a@remote.test` into the history, as failed. Gives its
/// number.
async fn failed(desk: &Desk, account: &str, sender: &str) -> u64 {
    super::super::accounts::queue(desk, account, sender).await;
    let (store, all) = (&desk.context.store, QueueFilter::default());
    let queued = store.list(&all, None, Order::Descending, 1).await.unwrap();
    let id = queued.items[0].id;
    let filter = QueueFilter {
        ids: vec![id],
        ..all
    };
    let queue = &desk.context.queue;
    queue
        .end_all(store, &filter, EndAs::Fail, "somebody")
        .await
        .unwrap();
    id.0
}

/// An event of a message of an account.
async fn event(desk: &Desk, account: &str, event: Event, recipient: &str) {
    let now = now(desk);
    let new = NewEvent {
        account: account.to_owned(),
        recipient: recipient.to_owned(),
        told: told(event, now),
        keep_until: Time(i64::MAX),
    };
    let accept = Accept {
        events: vec![new],
        ..Accept::default()
    };
    desk.context.store.accept(accept).await.unwrap();
}

fn told(event: Event, now: Time) -> OutgoingEvent {
    OutgoingEvent {
        event,
        dsn: false,
        suppressing: false,
        queue_id: QueueId(7),
        from_id: String::new(),
        message_id: "<1@a.test>".to_owned(),
        subject: HOSTILE.to_owned(),
        queued: now,
        code: 550,
        enhanced: None,
        error: "no such user".to_owned(),
        extra: [("order".to_owned(), "77".to_owned())].into(),
    }
}

/// A call of an account that is due in an hour. Gives its number.
async fn hook(desk: &Desk, account: &str, url: &str) -> u64 {
    let now = now(desk);
    let new = NewHook {
        account: account.to_owned(),
        url: url.to_owned(),
        authorization: "Bearer very secret".to_owned(),
        kind: NewHookKind::Outgoing(told(Event::Failed, now)),
        submitted: now,
        next_attempt: now.after(Duration::from_secs(3600)),
    };
    let accept = Accept {
        hooks: vec![new],
        ..Accept::default()
    };
    let store = &desk.context.store;
    store.accept(accept).await.unwrap();
    let all = HookFilter::default();
    let page = store.list_hooks(&all, None, Order::Descending, 1).await;
    page.unwrap().items[0].id.0
}

/// Ends a call as failed.
async fn end_hook(desk: &Desk, id: u64) {
    let now = now(desk);
    let result = HookAttempt {
        start: now,
        duration: Duration::from_millis(12),
        success: false,
        code: 500,
        error: "the receiver answered 500".to_owned(),
        response: HOSTILE.to_owned(),
    };
    let until = now.after(Duration::from_secs(86_400));
    let ends = vec![(HookId(id), Some(until))];
    let ended = desk.context.store.end_hooks(ends, &result).await;
    assert_eq!(ended.unwrap(), 1);
}

/// No hostile text is HTML, on any of these pages.
async fn is_escaped(visitor: &Visitor, paths: &[&str]) {
    for path in paths {
        let page = visitor.get(path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.text());
        assert!(!page.html.contains("<script>alert"), "{path}");
        assert!(!page.html.contains(" style="), "{path}");
    }
}
