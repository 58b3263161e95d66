//! Messages that wait for the time at which they are to be sent. They are in the queue, and this is
//! another view of it.

use axum::response::Response;
use jiff::Timestamp;
use postrider_store::{Change, NextAttempt, Order, QueueFilter, QueueId, Queued, Time};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{asked::Asked, problem::Problem};
use crate::{call::value::rfc3339, http::answer::ok, send::FUTURE_MAX};

/// The usual number of messages of a page, and the most.
const PAGE: (usize, usize) = (50, 200);
/// How many queued messages are read at once.
const ROWS: usize = 500;
/// After this many queued messages the answer comes, with a cursor for the rest.
const LOOKED_AT: usize = 20_000;

/// A message for all its recipients. Its number is that of its first recipient.
struct Scheduled {
    /// The present record of each recipient.
    rows: Vec<Queued>,
}

impl Scheduled {
    fn shown(&self) -> Option<Value> {
        let first = self.rows.first()?;
        let from = first.common.from.as_ref();
        let recipients = self.rows.iter().map(|row| row.recipient.unicode());
        Some(json!({
            "id": first.base.0,
            "message_id": first.common.message_id,
            "from": from.map(|from| from.unicode()),
            "to": recipients.collect::<Vec<_>>(),
            "subject": first.common.subject,
            "submitted": first.common.queued.to_string(),
            "send_at": first.next_attempt.to_string(),
            "held": first.hold,
        }))
    }

    fn ids(&self) -> Vec<QueueId> {
        self.rows.iter().map(|row| row.id).collect()
    }
}

/// Whether a message still waits for the time at which its sender wanted it sent.
fn waits(row: &Queued, now: Time) -> bool {
    !row.common.future_release.is_empty() && row.attempts == 0 && row.next_attempt > now
}

/// Lists the messages of the account that wait, the oldest first.
pub(super) async fn list(asked: Asked) -> Result<Response, Problem> {
    let most = asked.query.within("per_page", PAGE.0, 1, PAGE.1)?;
    let mut after = asked.query.number("cursor")?.map(QueueId);
    let filter = QueueFilter {
        account: Some(asked.account().to_owned()),
        next_attempt_after: Some(asked.now()),
        ..QueueFilter::default()
    };
    let _place = asked
        .context
        .bounds
        .questions
        .take(asked.account(), 1)
        .await;
    let mut all: Vec<Scheduled> = Vec::new();
    let mut looked_at = 0;
    let store = &asked.context.store;
    let next = loop {
        let page = store.list(&filter, after, Order::Ascending, ROWS).await?;
        looked_at += page.items.len();
        for row in page.items {
            let same = all.last().and_then(|last| last.rows.first());
            let continues = same.is_some_and(|it| it.base == row.base);
            if !continues && all.len() == most {
                // The page ends before this message.
                return Ok(answer(all, after));
            }
            after = Some(row.id);
            match all.last_mut().filter(|_| continues) {
                Some(last) if waits(&row, asked.now()) => last.rows.push(row),
                None if waits(&row, asked.now()) => all.push(Scheduled { rows: vec![row] }),
                _ => {}
            }
        }
        match page.next {
            None => break None,
            Some(_) if looked_at >= LOOKED_AT => break after,
            next => after = next,
        }
    };
    Ok(answer(all, next))
}

fn answer(all: Vec<Scheduled>, next: Option<QueueId>) -> Response {
    let items: Vec<Value> = all.iter().filter_map(Scheduled::shown).collect();
    ok(&json!({"items": items, "next": next.map(|id| id.0.to_string())}))
}

/// The message that the path names.
async fn find(asked: &Asked) -> Result<Scheduled, Problem> {
    let number = asked.element(0);
    let missing = || Problem::not_found(format!("no message {number:?} waits for its time"));
    let base = QueueId(number.parse().map_err(|_| missing())?);
    let store = &asked.context.store;
    let of_account = |row: &Queued| row.common.account == asked.account();
    let first = match store.queued(base).await? {
        Some(first) => Some(first),
        // The first recipient may be done with, and the others not.
        None => store.retired(base).await?.map(|retired| retired.message),
    };
    let first = first.filter(of_account).ok_or_else(missing)?;
    let filter = QueueFilter {
        account: Some(asked.account().to_owned()),
        message_id: Some(first.common.message_id.clone()),
        ..QueueFilter::default()
    };
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let page = store.list(&filter, after, Order::Ascending, ROWS).await?;
        let own = page.items.into_iter().filter(|row| row.base == base);
        rows.extend(own.filter(|row| waits(row, asked.now())));
        match page.next {
            None => break,
            next => after = next,
        }
    }
    match rows.is_empty() {
        false => Ok(Scheduled { rows }),
        true if first.attempts > 0 => Err(in_delivery()),
        true => Err(missing()),
    }
}

fn in_delivery() -> Problem {
    Problem::conflict("inDelivery", "the message is being delivered already")
}

#[derive(Debug, Deserialize)]
struct Reschedule {
    send_at: String,
}

/// Gives a message another time.
pub(super) async fn change(asked: Asked) -> Result<Response, Problem> {
    let scheduled = find(&asked).await?;
    let Reschedule { send_at } = asked.json().await?;
    let wrong = |text: String| Problem::field("send_at", text);
    let time: Timestamp = rfc3339(&send_at).map_err(wrong)?.timestamp();
    let time = Time::from(time);
    if time > asked.now().after(FUTURE_MAX) {
        return Err(wrong("give a time of the next 60 days".to_owned()));
    }
    let filter = QueueFilter {
        ids: scheduled.ids(),
        ..QueueFilter::default()
    };
    let change = Change {
        next_attempt: Some(NextAttempt::At(time.max(asked.now()))),
        ..Change::default()
    };
    let context = &asked.context;
    let who = asked.user.login.unicode();
    let changed = context.queue.change(&context.store, &filter, &change, &who);
    let changed = changed.await.map_err(Problem::internal)?;
    if changed.changed == 0 {
        return Err(in_delivery());
    }
    let rows = scheduled.rows.into_iter();
    let rows = rows.map(|row| Queued {
        next_attempt: time.max(asked.now()),
        ..row
    });
    let scheduled = Scheduled {
        rows: rows.collect(),
    };
    Ok(ok(&scheduled.shown()))
}

/// Cancels a message.
pub(super) async fn cancel(asked: Asked) -> Result<Response, Problem> {
    let scheduled = find(&asked).await?;
    let filter = QueueFilter {
        ids: scheduled.ids(),
        ..QueueFilter::default()
    };
    let queue = &asked.context.queue;
    let count = queue.cancel_all(&filter, &asked.user.login).await?;
    match count.ended {
        0 => Err(in_delivery()),
        canceled => Ok(ok(&json!({"canceled": canceled}))),
    }
}

#[cfg(test)]
mod tests {
    use postrider_store::{Common, Notify, Top};

    use super::*;

    #[test]
    fn a_message_waits_until_its_time_or_its_first_attempt() {
        let row = |future: &str, attempts, next| Queued {
            common: std::sync::Arc::new(Common {
                future_release: future.into(),
                ..common()
            }),
            attempts,
            next_attempt: Time(next),
            ..queued()
        };
        assert!(waits(&row("until;x", 0, 11), Time(10)));
        assert!(!waits(&row("until;x", 0, 10), Time(10)));
        assert!(!waits(&row("until;x", 1, 11), Time(10)));
        assert!(!waits(&row("", 0, 11), Time(10)));
    }

    fn common() -> Common {
        Common {
            account: "ann".into(),
            queued: Time(1),
            from: None,
            message_id: "<1@x.example>".into(),
            subject: String::new(),
            size: 1,
            needs: Default::default(),
            smtputf8: false,
            require_tls: None,
            future_release: String::new(),
            ret_full: None,
            envid: String::new(),
            list: String::new(),
            extra: Default::default(),
            origin: Default::default(),
            urgency: Default::default(),
        }
    }

    fn queued() -> Queued {
        Queued {
            id: QueueId(1),
            base: QueueId(1),
            top: Top::EMPTY,
            text: Default::default(),
            common: std::sync::Arc::new(common()),
            reverse_path: postrider_smtp::ReversePath::Null,
            from_id: String::new(),
            recipient: "b@x.example".parse().unwrap(),
            notify: Notify::default(),
            orcpt: String::new(),
            transport: String::new(),
            route: String::new(),
            hold: false,
            held_since: None,
            first_due: Time(1),
            attempts: 0,
            last_attempt: None,
            next_attempt: Time(1),
            delay_told: false,
            fence: 0,
            results: Vec::new(),
            envids: Vec::new(),
        }
    }
}
