//! The methods of the account's queued messages.

use std::collections::BTreeMap;

use postrider_observe::millis;
use postrider_queue::explain_retired;
use postrider_store::{Attempt, Found, Order, QueueFilter, QueueId, Queued, Reference, Retired};

use super::{
    paging::{ROWS_MAX, limit, long, rows},
    shape::{
        AttemptResult, MessageStatus, QueueCancelRequest, QueueCancelResponse, QueueListRequest,
        QueueListResponse, QueueStatusRequest, QueueStatusResponse, State,
    },
};
use crate::{
    call::{auth::User, context::CallContext},
    error::ApiError,
};

/// The answer of QueueStatus ends after about this number of bytes.
const STATUS_MAX: usize = 4 << 20;
/// The most messages in a request of QueueCancel.
const CANCEL_MAX: usize = 10_000;

/// List the account's queued messages. Each item says what the message waits for.
#[cfg_attr(test, utoipa::path(
    post, path = "/QueueList", operation_id = "QueueList",
    request_body = QueueListRequest,
    responses((status = 200, body = QueueListResponse), (status = 400, body = super::shape::Problem, description = "The request is wrong"))
))]
pub(super) async fn list(
    context: &CallContext,
    user: &User,
    request: QueueListRequest,
) -> Result<QueueListResponse, ApiError> {
    let given = |text: &String| (!text.is_empty()).then(|| text.clone());
    let filter = QueueFilter {
        account: Some(user.account.clone()),
        from: given(&request.from),
        to: given(&request.to),
        hold: request.hold,
        ..QueueFilter::default()
    };
    let limit = limit(request.limit);
    let after = (request.after > 0).then_some(QueueId(request.after));
    let list = |after, limit| context.store.list(&filter, after, Order::Ascending, limit);
    let (found, next) = rows(limit, after, list, size).await?;
    let mut messages = Vec::with_capacity(found.len());
    for message in &found {
        messages.push(queued(context, message).await?);
    }
    Ok(QueueListResponse {
        messages,
        next: next.map(|id| id.0),
    })
}

/// Get the state of messages by number, by Message-ID, or by the application's own data.
#[cfg_attr(test, utoipa::path(
    post, path = "/QueueStatus", operation_id = "QueueStatus",
    request_body = QueueStatusRequest,
    responses((status = 200, body = QueueStatusResponse), (status = 400, body = super::shape::Problem, description = "The request is wrong"))
))]
pub(super) async fn status(
    context: &CallContext,
    user: &User,
    request: QueueStatusRequest,
) -> Result<QueueStatusResponse, ApiError> {
    let (ids, extra) = (&request.queue_msg_ids, &request.extra);
    let selected = selected(
        request.queue_msg_id,
        ids,
        &request.message_id,
        extra,
        ROWS_MAX,
    )?;
    let found = find(context, user, selected, ROWS_MAX).await?;
    let own = |message: &Queued| message.common.account == user.account;
    let mut left = STATUS_MAX;
    let shown = found.iter().take_while(|found| {
        let before = left;
        left = left.saturating_sub(size(found.message()));
        before > 0
    });
    let shown = shown.count();
    let more = shown < found.len() || found.len() >= ROWS_MAX;
    let mut messages = Vec::with_capacity(shown);
    for found in found
        .iter()
        .take(shown)
        .filter(|found| own(found.message()))
    {
        messages.push(match found {
            Found::Queued(message) => queued(context, message).await?,
            Found::Retired(message) => retired(message),
        });
    }
    Ok(QueueStatusResponse { messages, more })
}

/// The messages that a request selects.
enum Selected<'a> {
    Ids(Vec<QueueId>),
    MessageId(&'a str),
    Extra(&'a str, &'a str),
}

/// The messages that these fields of a request select. At most `max` by number.
fn selected<'a>(
    id: u64,
    ids: &[u64],
    message_id: &'a str,
    extra: &'a BTreeMap<String, String>,
    max: usize,
) -> Result<Selected<'a>, ApiError> {
    let entry = extra.iter().next();
    let given = [
        id > 0,
        !ids.is_empty(),
        !message_id.is_empty(),
        entry.is_some(),
    ];
    if given.iter().filter(|given| **given).count() != 1 || extra.len() > 1 {
        return Err(ApiError::user(
            "give one of QueueMsgID, QueueMsgIDs, MessageID, and one entry of Extra",
        ));
    }
    if ids.len() > max {
        let text = format!("QueueMsgIDs must have 1 to {max} numbers");
        return Err(ApiError::user(text));
    }
    Ok(match entry {
        Some((key, value)) => Selected::Extra(key, value),
        None if id > 0 => Selected::Ids(vec![QueueId(id)]),
        None if message_id.is_empty() => Selected::Ids(ids.iter().copied().map(QueueId).collect()),
        None => Selected::MessageId(message_id),
    })
}

/// The selected messages. Some may be another account's.
async fn find(
    context: &CallContext,
    user: &User,
    selected: Selected<'_>,
    max: usize,
) -> Result<Vec<Found>, ApiError> {
    let account = user.account.as_str();
    let (reference, of) = match selected {
        Selected::Ids(ids) => {
            let mut all = Vec::with_capacity(ids.len());
            for id in ids {
                let queued = context.store.queued(id).await?.map(Found::Queued);
                all.extend(match queued {
                    Some(found) => Some(found),
                    None => context.store.retired(id).await?.map(Found::Retired),
                });
            }
            return Ok(all);
        }
        Selected::MessageId(id) => (Reference::MessageId(id), Some(account)),
        Selected::Extra(key, value) => {
            let reference = Reference::Extra {
                account,
                key,
                value,
            };
            (reference, None)
        }
    };
    Ok(context.store.find(reference, None, of, max).await?)
}

/// Cancel queued messages, for example scheduled ones.
#[cfg_attr(test, utoipa::path(
    post, path = "/QueueCancel", operation_id = "QueueCancel",
    request_body = QueueCancelRequest,
    responses((status = 200, body = QueueCancelResponse), (status = 400, body = super::shape::Problem, description = "The request is wrong"))
))]
pub(super) async fn cancel(
    context: &CallContext,
    user: &User,
    request: QueueCancelRequest,
) -> Result<QueueCancelResponse, ApiError> {
    let QueueCancelRequest {
        queue_msg_id: id,
        queue_msg_ids: ids,
        message_id,
        extra,
    } = &request;
    let mut filter = QueueFilter {
        account: Some(user.account.clone()),
        ..QueueFilter::default()
    };
    match selected(*id, ids, message_id, extra, CANCEL_MAX)? {
        Selected::Ids(ids) => filter.ids = ids,
        Selected::MessageId(id) => filter.message_id = Some(id.to_owned()),
        by_extra @ Selected::Extra(..) => {
            let found = find(context, user, by_extra, CANCEL_MAX).await?;
            filter.ids = found.iter().map(|found| found.message().id).collect();
            if filter.ids.is_empty() {
                // Without numbers the filter would match all messages.
                return Ok(QueueCancelResponse {
                    canceled: 0,
                    in_delivery: 0,
                });
            }
        }
    }
    let count = context.queue.cancel_all(&filter, &user.login).await?;
    Ok(QueueCancelResponse {
        canceled: count.ended,
        in_delivery: count.in_delivery,
    })
}

fn size(message: &Queued) -> usize {
    long(&message.common.subject, &message.common.extra)
}

async fn queued(context: &CallContext, message: &Queued) -> Result<MessageStatus, ApiError> {
    let mut status = shown(message);
    status.explanation = context.queue.explain(message).await?;
    status.next_attempt = Some(message.next_attempt.to_string());
    status.hold = message.hold;
    Ok(status)
}

fn retired(retired: &Retired) -> MessageStatus {
    let mut status = shown(&retired.message);
    status.explanation = explain_retired(retired);
    status.state = if retired.success {
        State::Delivered
    } else {
        State::Undelivered
    };
    status
}

fn shown(message: &Queued) -> MessageStatus {
    let sender = message.reverse_path.address();
    MessageStatus {
        queue_msg_id: message.id.0,
        message_id: message.common.message_id.clone(),
        from_id: message.from_id.clone(),
        from: sender.map(|sender| sender.unicode()).unwrap_or_default(),
        to: message.recipient.unicode(),
        subject: message.common.subject.clone(),
        queued: message.common.queued.to_string(),
        state: State::Queued,
        explanation: String::new(),
        next_attempt: None,
        hold: false,
        extra: message.common.extra.clone(),
        results: message.results.iter().map(AttemptResult::from).collect(),
    }
}

impl From<&Attempt> for AttemptResult {
    fn from(attempt: &Attempt) -> Self {
        let enhanced = attempt.enhanced.map(|code| code.to_string());
        Self {
            start: attempt.start.to_string(),
            duration_ms: millis(attempt.duration),
            success: attempt.success,
            code: attempt.code,
            enhanced_code: enhanced.unwrap_or_default(),
            remote: attempt.remote.clone(),
            error: attempt.error.clone(),
        }
    }
}
