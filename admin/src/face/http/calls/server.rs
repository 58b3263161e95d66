//! The server itself: the configuration read again, the audit log, and events.

use postrider_config::Dynamic;
use postrider_store::{Event, EventFilter, EventId, LoggedEvent, Order};
use serde_json::{Map, Value, json};

use super::super::{
    Answer, Asked,
    paging::{NAMES_MAX, OBJECTS_MAX, Paging, collect, list_value},
    problem::Problem,
    value,
};
use crate::op::audit::{AuditItem, List};

pub(in super::super) async fn reload(asked: Asked) -> Result<Answer, Problem> {
    let context = &asked.context;
    let (path, statics) = (context.domains.path().to_owned(), context.statics.clone());
    let read = tokio::task::spawn_blocking(move || Dynamic::load(&path, &statics)).await;
    let mut errors = Map::new();
    match read.map_err(Problem::internal)? {
        Err(found) => {
            for error in &found {
                let kind = match error.key.as_str() {
                    "" => "parse",
                    _ => "build",
                };
                let fault = json!({"type": kind, "error": error.to_string()});
                errors.insert(error.key.clone(), fault);
            }
        }
        Ok(_) if asked.query.flag("dry-run") => {}
        Ok(_) => {
            let put = context.change_domains("server.reload", "domains.conf", |_| Ok(()));
            if let Err(error) = put.await {
                let fault = json!({"type": "build", "error": error.text});
                errors.insert(error.field.unwrap_or_default(), fault);
            }
        }
    }
    Ok(Answer::Data(json!({"warnings": {}, "errors": errors})))
}

pub(in super::super) async fn audit(asked: Asked) -> Result<Answer, Problem> {
    let query = &asked.query;
    let given = |name: &str| query.text(name).map(str::to_owned);
    let list = List {
        who: given("who"),
        operation: given("operation"),
        target: given("target"),
        since: query.time("after")?,
        before: query.time("before")?,
        limit: None,
    };
    let paging = Paging::new(query, OBJECTS_MAX)?;
    let mut found = collect(&asked.context, list, NAMES_MAX, &|_: &AuditItem| true).await?;
    // The operation gives the newest first.
    found.items.reverse();
    let list = found
        .items
        .iter()
        .map(|entry| Ok((entry.id, value(entry)?)));
    let list = list.collect::<Result<_, Problem>>()?;
    Ok(paging.answer_with(list, found.more))
}

pub(in super::super) async fn events(asked: Asked) -> Result<Answer, Problem> {
    let query = &asked.query;
    let paging = Paging::new(query, OBJECTS_MAX)?;
    let config = asked.context.config.load_full();
    let accounts: Vec<String> = match query.text("account") {
        Some(account) => {
            asked.check_account(account)?;
            vec![account.to_owned()]
        }
        None => {
            let accounts = config.accounts.iter();
            let seen = accounts.filter(|(_, account)| asked.access.sees(account));
            seen.map(|(name, _)| name.clone()).collect()
        }
    };
    let mut events = Vec::new();
    for name in query.list("event") {
        match Event::from_name(name) {
            Some(event) => events.push(event),
            None => return Ok(Answer::Data(list_value(Vec::new(), 0, false, None))),
        }
    }
    let (after, before) = (query.time("after")?, query.time("before")?);
    let mut found: Vec<LoggedEvent> = Vec::new();
    let wanted = OBJECTS_MAX.max(usize::try_from(paging.skip).unwrap_or(NAMES_MAX)) + paging.limit;
    let mut more = false;
    for account in accounts {
        let filter = EventFilter {
            account,
            events: events.clone(),
            recipient: query.text("recipient").map(str::to_owned),
            message_id: query.text("message_id").map(str::to_owned),
            since: after,
            before,
        };
        let cursor = paging.after.map(EventId);
        let limit = wanted.min(NAMES_MAX) + 1;
        let page = asked
            .context
            .store
            .list_events(&filter, cursor, paging.order, limit);
        let page = page.await?;
        more |= page.next.is_some();
        found.extend(page.items);
    }
    found.sort_by_key(|event| event.id);
    if paging.order == Order::Descending {
        found.reverse();
    }
    let total = found.len() as u64;
    let skip = usize::try_from(paging.skip).unwrap_or(usize::MAX);
    let mut rest = found.iter().skip(skip);
    let page: Vec<&LoggedEvent> = rest.by_ref().take(paging.limit).collect();
    let last = page.last().map(|event| event.id.0);
    let next = rest.next().and(last);
    let items = page.into_iter().map(shown).collect();
    Ok(Answer::Data(list_value(items, total, more, next)))
}

/// An event as a webhook tells it.
fn shown(event: &LoggedEvent) -> Value {
    let told = &event.told;
    json!({
        "id": event.id.0.to_string(),
        "account": event.account,
        "time": told.queued.to_string(),
        "event": told.event.name(),
        "dsn": told.dsn,
        "suppressing": told.suppressing,
        "recipient": event.recipient,
        "queue_msg_id": told.queue_id.0,
        "from_id": told.from_id,
        "message_id": told.message_id,
        "subject": told.subject,
        "smtp_code": told.code,
        "smtp_enhanced_code": told.enhanced.map(|code| code.to_string()).unwrap_or_default(),
        "error": told.error,
        "extra": told.extra,
    })
}

/// The shapes of the answers, for the description.
#[cfg(test)]
pub(in super::super) mod shapes {
    use std::collections::BTreeMap;

    use utoipa::ToSchema;

    /// The outcome of reading the configuration again.
    #[derive(ToSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    pub(in super::super::super) struct Reloaded {
        warnings: BTreeMap<String, Fault>,
        /// By key. With errors nothing changes.
        errors: BTreeMap<String, Fault>,
    }

    #[derive(ToSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Fault {
        /// `parse` or `build`.
        #[serde(rename = "type")]
        kind: String,
        error: String,
    }
}
