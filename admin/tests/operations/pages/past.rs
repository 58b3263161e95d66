//! The pages about what happened: history, events, suppressions and webhooks.

#[path = "past/history.rs"]
mod history;
#[path = "past/message.rs"]
mod message;
#[path = "past/suppressions.rs"]
mod suppressions;
#[path = "past/webhooks.rs"]
mod webhooks;

use std::{collections::HashSet, time::Duration};

use postrider_queue::EndAs;
use postrider_store::{
    Accept, ClaimHooks, Event, HookAttempt, HookFilter, HookId, NewEvent, NewHook, NewHookKind,
    Order, Outcome, OutgoingEvent, QueueFilter, QueueId, SettleHook, Time,
};

use super::{
    super::{Desk, STATICS, http::TENANTS},
    Seen, Visitor, unescaped,
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
    hook_of(desk, account, url, 7).await
}

/// The same for a message.
async fn hook_of(desk: &Desk, account: &str, url: &str, message: u64) -> u64 {
    let now = now(desk);
    let told = OutgoingEvent {
        queue_id: QueueId(message),
        ..told(Event::Failed, now)
    };
    let new = NewHook {
        account: account.to_owned(),
        url: url.to_owned(),
        authorization: "Bearer very secret".to_owned(),
        kind: NewHookKind::Outgoing(told),
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

/// Tries the oldest call, which has this number: nobody answers. It is due in an hour again.
async fn fail_once(desk: &Desk, id: u64) {
    let (store, now) = (&desk.context.store, now(desk));
    let hour = Duration::from_secs(3600);
    let claim = ClaimHooks {
        now: now.after(hour),
        max: 1,
        max_per_lane: 1,
        except: HashSet::new(),
    };
    let claimed = store.claim_hooks(claim).await.unwrap().hooks;
    assert_eq!(claimed[0].id.0, id);
    let attempt = HookAttempt {
        start: now,
        duration: Duration::from_millis(12),
        success: false,
        code: 0,
        error: "no answer".to_owned(),
        response: String::new(),
    };
    let retry = SettleHook {
        id: claimed[0].id,
        fence: claimed[0].fence,
        attempt,
        outcome: Outcome::Retry(now.after(hour)),
    };
    assert_eq!(store.settle_hooks(vec![retry]).await.unwrap(), [true]);
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

/// The commands and calls that a page shows, as a person pastes them.
fn commands(page: &Seen) -> Vec<String> {
    let lines = page.html.split("data-copy=\"").skip(1);
    let lines = lines.map(|line| unescaped(line.split('"').next().unwrap()));
    lines.collect()
}

/// The call of a command for curl.
fn called(commands: &[String]) -> &str {
    let curl = commands.iter().find(|it| it.starts_with("curl "));
    let curl = curl.unwrap_or_else(|| panic!("no call: {commands:?}"));
    curl.rsplit_once("\"$URL\"").unwrap().1.trim_matches('\'')
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
