//! Sends messages for both versions: checks a draft in the order of the contract, composes the
//! message, and queues it.
//!
//! In reading order: `draft` is the input, `filled` fills templates in, `prepare` checks the draft,
//! `once` keeps answers for idempotency keys. `batch` sends to many, with the texts of `template`.
//! `taken` tells of what was sent.

mod batch;
mod draft;
mod filled;
mod once;
mod prepare;
mod taken;
mod template;

use std::time::Duration;

use postrider_observe::metrics::By;
use postrider_queue::{AddError, Submission, Submitted, SubmittedRecipient, header::Received};
use postrider_smtp::{Address, ReversePath, server::SessionName};
use postrider_store::{Accept, MailId, Moment, NewMail, Notify, TextSource, Time, Top};
use postrider_webhook::message::{SUMMARY_READ, summary};
use serde::{Deserialize, Serialize};
use tracing::warn;

pub use self::batch::{BatchResponse, BatchSubmission};
pub(crate) use self::{
    batch::{Batch, BatchRecipient, send_all},
    draft::{BASE64, Draft, NameAddress, NewContent, NewFile},
    filled::{check_variables, fill, variables_of},
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
pub(crate) const FUTURE_MAX: Duration = Duration::from_secs(60 * 24 * 60 * 60);
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

/// A message that is queued.
pub(crate) struct Sent {
    pub(crate) response: SendResponse,
    /// The copy in the mailbox for sent messages. None: none was wanted, or an earlier call with
    /// the same idempotency key kept it. The error says why it was not kept.
    pub(crate) copy: Result<Option<MailId>, ApiError>,
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
    let sent = send_and_keep(context, user, draft, files, once).await?;
    sent.copy.map(|_| sent.response)
}

/// Sends a message, and tells where its copy is.
///
/// # Errors
/// The errors of the contract. Nothing is queued then.
pub(crate) async fn send_and_keep(
    context: &CallContext,
    user: &User,
    draft: Draft,
    files: Files,
    once: Option<&Once>,
) -> Result<Sent, ApiError> {
    let now = context.clock.now();
    let begun = context.clock.moment();
    if let Some(once) = once
        && let Some(response) = once.earlier(context, user, now).await?
    {
        return Ok(Sent {
            response,
            copy: Ok(None),
        });
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
        let response = once::read(&once::by_another(once, context, user, now).await?)?;
        return Ok(Sent {
            response,
            copy: Ok(None),
        });
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
    let copy = match copy {
        Some(copy) => keep_copy(context, user, copy, now).await,
        None => Ok(None),
    };
    let submissions = given.into_iter().zip(added);
    let submissions = submissions.map(|(address, added)| SendSubmission {
        address,
        queue_msg_id: added.id.0,
        from_id: added.from_id,
    });
    let response = SendResponse {
        message_id,
        submissions: submissions.collect(),
    };
    Ok(Sent { response, copy })
}

/// Writes a message that is not sent yet. It may lack a recipient.
///
/// # Errors
/// If a part of it is wrong, or it is too large.
pub(crate) async fn write_draft(
    context: &CallContext,
    user: &User,
    draft: Draft,
) -> Result<FinishedText, ApiError> {
    let message = prepare::unsent(context, user, draft, context.clock.now())?;
    let bcc = message.bcc_field();
    let writer = context.store.text_writer();
    let most = context.endpoint.max_message_size;
    let mut out = Output::new(writer, &bcc, most).await?;
    message.write(&mut out).await?;
    Ok(out.finish().await?.text)
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
        top: options.track.mark(Top::EMPTY),
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

/// Whether the quota of the account has room for a mail of this size.
pub(crate) async fn has_room(
    context: &CallContext,
    user: &User,
    size: u64,
) -> Result<bool, ApiError> {
    let config = context.config.load_full();
    let account = config.accounts.get(&user.account);
    let Some(quota) = account.and_then(|account| account.quota) else {
        return Ok(true);
    };
    let usage = context.store.mail_usage(&user.account).await?;
    Ok(usage.bytes.saturating_add(size) <= quota.0)
}

/// Puts the copy into the account's mailbox for sent messages.
async fn keep_copy(
    context: &CallContext,
    user: &User,
    copy: FinishedText,
    now: Time,
) -> Result<Option<MailId>, ApiError> {
    let Some(_held) = context.queue.hold_account(&user.account).await else {
        return Ok(None);
    };
    if !has_room(context, user, copy.size).await? {
        let text =
            format!("the message is queued, but the account has no room for a copy in {SENT}");
        return Err(ApiError::new(Code::SentOverQuota, text));
    }
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
        .map(|accepted| accepted.mails.first().copied())
        .map_err(|error| {
            warn!(%error, account = user.account, "failed to keep a copy of a sent message");
            let text =
                format!("the message is queued, but its copy for {SENT} was not kept: {error}");
            ApiError::new(Code::SentOverQuota, text)
        })
}
