//! Sends messages for both versions: checks a draft in the order of the contract, composes the
//! message, and queues it.
//!
//! In reading order: `draft` is the input, `prepare` checks it, `once` keeps answers for
//! idempotency keys. `batch` sends to many, with the texts of `template`. `taken` tells of what was
//! sent.

mod batch;
mod draft;
mod once;
mod prepare;
mod taken;
mod template;

use std::time::Duration;

use postrider_observe::metrics::By;
use postrider_queue::{AddError, Submission, Submitted, SubmittedRecipient, header::Received};
use postrider_smtp::{Address, ReversePath, server::SessionName};
use postrider_store::{Accept, Moment, NewMail, Notify, TextSource, Time, Top};
use postrider_webhook::message::{SUMMARY_READ, summary};
use serde::{Deserialize, Serialize};
use tracing::warn;

pub use self::batch::{BatchResponse, BatchSubmission};
pub(crate) use self::{
    batch::{Batch, BatchRecipient, send_all},
    draft::{BASE64, Draft, NameAddress, NewContent, NewFile},
    once::Once,
};
use self::{
    prepare::{LimitCheck, Prepared, prepare},
    taken::TakenMessage,
};
use crate::{
    call::{auth::User, context::CallContext, value::OffsetTime},
    compose::{Composed, Files, FinishedText, MessageContent, Output},
    error::{ApiError, Code},
};

/// The longest time by which a message may be delayed.
const FUTURE_MAX: Duration = Duration::from_secs(60 * 24 * 60 * 60);
/// The mailbox for copies of sent messages.
const SENT: &str = "Sent";

/// The answer of Send.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "PascalCase")]
pub struct SendResponse {
    /// With `<` and `>`.
    #[serde(rename = "MessageID")]
    pub message_id: String,
    /// In the order of To, CC and BCC.
    pub submissions: Vec<SendSubmission>,
}

/// A recipient of a sent message.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "PascalCase")]
#[cfg_attr(test, schema(as = Submission))]
pub struct SendSubmission {
    /// The address as it was given.
    pub address: String,
    /// The number of the queued message. Its events have the same number.
    #[serde(rename = "QueueMsgID")]
    pub queue_msg_id: u64,
    /// The unique part of the reverse-path. Empty when not used.
    #[serde(rename = "FromID")]
    pub from_id: String,
}

/// Sends a message.
///
/// # Errors
/// The errors of the contract. Nothing is queued then, except with [`Code::SentOverQuota`].
pub(crate) async fn send(
    context: &CallContext,
    user: &User,
    draft: Draft,
    files: Files,
    once: Option<&Once>,
) -> Result<SendResponse, ApiError> {
    let now = context.clock.now();
    let begun = context.clock.moment();
    if let Some(once) = once
        && let Some(response) = once.earlier(context, user, now).await?
    {
        return Ok(response);
    }
    let mut prepared = prepare(context, user, draft, files, LimitCheck::Now(once), now).await?;
    let allowance = prepared.allowance.take();
    let given = prepared.given.clone();
    let name = user.transaction(0);
    let (mut submission, copy) = submission(context, user, prepared, name, now).await?;
    let message_id = submission.message_id.clone();
    let (from, size) = (submission.reverse_path.to_string(), submission.size);
    submission.once = once.map(|once| once.for_queue(&message_id, &given, now));
    let Some(added) = queue(context, submission).await? else {
        return once::read(&once::by_another(once, context, user, now).await?);
    };
    drop(allowance);
    let ids = added.iter().map(|added| added.id);
    let taken = TakenMessage {
        from: &from,
        message_id: &message_id,
        size,
        to: given.iter().map(String::as_str).zip(ids).collect(),
    };
    count_accepted(context, (1, added.len()), size, begun);
    taken::tell(context, user, "Send", now, &[taken]);
    if let Some(copy) = copy {
        keep_copy(context, user, copy, now).await?;
    }
    let submissions = given.into_iter().zip(added);
    let submissions = submissions.map(|(address, added)| SendSubmission {
        address,
        queue_msg_id: added.id.0,
        from_id: added.from_id,
    });
    Ok(SendResponse {
        message_id,
        submissions: submissions.collect(),
    })
}

/// Counts what was queued, and how long that took since the call was there.
fn count_accepted(
    context: &CallContext,
    messages_and_recipients: (usize, usize),
    bytes: u64,
    begun: Moment,
) {
    let took = Some(context.clock.moment().since(begun));
    let metrics = &context.metrics;
    metrics.count_accepted(By::Webapi, messages_and_recipients, bytes, took);
}

/// Composes a message, which is the transaction of this name. Gives the submission for the queue,
/// and the copy for the sender if one is wanted.
async fn submission(
    context: &CallContext,
    user: &User,
    prepared: Prepared,
    name: SessionName,
    now: Time,
) -> Result<(Submission, Option<FinishedText>), ApiError> {
    let Prepared {
        message, options, ..
    } = prepared;
    let recipients: Vec<Address> = [&message.to, &message.cc, &message.bcc]
        .into_iter()
        .flatten()
        .map(|mailbox| mailbox.address.clone())
        .collect();
    let save_sent = options.save_sent;
    let composed = compose(context, (name, &message), &recipients, save_sent, now).await?;
    let not_before = release(options.future_release, now)?;
    let submission = Submission {
        account: user.account.clone(),
        login: Some(user.login.clone()),
        reverse_path: ReversePath::Mailbox(message.from.address.clone()),
        own_from_id: false,
        recipients: recipients
            .into_iter()
            .map(|address| SubmittedRecipient {
                address,
                notify: Notify::default(),
                orcpt: String::new(),
            })
            .collect(),
        top: Top::EMPTY,
        text: composed.text.body,
        size: composed.text.size,
        message_id: message.message_id,
        subject: message.subject,
        from: Some(message.from.address),
        needs: composed.needs,
        smtputf8: message.smtputf8,
        require_tls: options.require_tls,
        not_before,
        hold: false,
        future_release: not_before
            .map(|time| format!("until;{time}"))
            .unwrap_or_default(),
        extra: options.extra,
        ret_full: None,
        envid: String::new(),
        list: options.list,
        urgency: Default::default(),
        once: None,
    };
    Ok((submission, composed.copy))
}

/// The time of the first attempt, if it is later than now.
fn release(wanted: Option<OffsetTime>, now: Time) -> Result<Option<Time>, ApiError> {
    let Some(wanted) = wanted else {
        return Ok(None);
    };
    let time = Time::from(wanted.timestamp());
    if time > now.after(FUTURE_MAX) {
        return Err(ApiError::user("FutureRelease is more than 60 days ahead"));
    }
    Ok((time > now).then_some(time))
}

/// Writes the message after its Received field. A copy for the sender is written at the same time,
/// if one is wanted and accounts have a mailbox for it. A Bcc field in front of the copy names the
/// recipients of blind copies.
async fn compose(
    context: &CallContext,
    (name, message): (SessionName, &MessageContent),
    recipients: &[Address],
    save_sent: bool,
    now: Time,
) -> Result<Composed, ApiError> {
    let received = Received {
        from: None,
        by: context.statics.hostname.ascii(),
        with: if context.endpoint.tls {
            "HTTPS"
        } else {
            "HTTP"
        },
        id: name.to_string(),
        tls: None,
        recipient: match recipients {
            [only] => Some(only),
            _ => None,
        },
        time: now,
    };
    let prefix = received.to_string();
    let writer = context.store.text_writer();
    let mut out = Output::new(writer, prefix.as_bytes(), context.endpoint.max_message_size).await?;
    let mailboxes = &context.statics.default_mailboxes;
    if save_sent && mailboxes.iter().any(|name| name == SENT) {
        out.copy_to(context.store.text_writer(), &message.bcc_field())
            .await?;
    }
    message.write(&mut out).await?;
    out.finish().await
}

/// Adds a message to the queue. None if an earlier call with the same idempotency key did so.
async fn queue(
    context: &CallContext,
    submission: Submission,
) -> Result<Option<Vec<Submitted>>, ApiError> {
    match context.queue.add(submission).await {
        Ok(added) => Ok(Some(added)),
        Err(AddError::DoneBefore) => Ok(None),
        Err(AddError::Store(error)) => Err(error.into()),
        Err(other) => Err(ApiError::user(other.to_string())),
    }
}

/// Puts the copy into the account's mailbox for sent messages.
async fn keep_copy(
    context: &CallContext,
    user: &User,
    copy: FinishedText,
    now: Time,
) -> Result<(), ApiError> {
    let Some(_held) = context.queue.hold_account(&user.account).await else {
        return Ok(());
    };
    let beginning = context.store.beginning(&copy.body, SUMMARY_READ).await;
    let shown = beginning.map(|text| summary(&text, context.statics.limits.mime()));
    let accept = Accept {
        text: Some(copy.body),
        mails: vec![NewMail {
            account: user.account.clone(),
            mailbox: SENT.to_owned(),
            top: Top::EMPTY,
            text: TextSource::New,
            size: copy.size,
            received: now,
            flags: vec!["$notjunk".to_owned(), "\\seen".to_owned()],
            dsn: false,
            smtp: None,
            summary: shown.ok().map(Box::new),
        }],
        ..Accept::default()
    };
    context
        .store
        .accept(accept)
        .await
        .map(drop)
        .map_err(|error| {
            warn!(%error, account = user.account, "failed to keep a copy of a sent message");
            let text =
                format!("the message is queued, but its copy for {SENT} was not kept: {error}");
            ApiError::new(Code::SentOverQuota, text)
        })
}
