//! The method Send: what is asked for, checked in the order of the contract, composed, and queued.

mod batch;
mod once;
mod prepare;
mod request;
mod template;

use std::time::Duration;

use jiff::Zoned;
use postrider_queue::{
    AddError, Submission, Submitted, SubmittedRecipient,
    header::{self, Received},
};
use postrider_smtp::{Address, ReversePath};
use postrider_store::{Accept, NewMail, Notify, TextSource, Time, Top};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};
use utoipa::ToSchema;

pub(crate) use self::batch::{Batch, BatchRecipient, send_all};
pub use self::batch::{BatchResponse, BatchSubmission};
pub(crate) use self::once::Once;
use self::prepare::{Check, Ready, prepare};
pub(crate) use self::request::{BASE64, NameAddress, NewContent, NewFile, Request};
use crate::{
    auth::User,
    compose::{Composed, Message, Output, Text},
    context::Context,
    error::{ApiError, Code},
    form::Files,
};

/// The farthest that a message may be put off.
const FUTURE_MAX: Duration = Duration::from_secs(60 * 24 * 60 * 60);
/// Where copies of what is sent are kept.
const SENT: &str = "Sent";

/// The answer.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[schema(as = SendResponse)]
pub struct Response {
    /// With `<` and `>`.
    #[serde(rename = "MessageID")]
    pub message_id: String,
    /// In the order To, CC, BCC.
    pub submissions: Vec<Queued>,
}

/// One recipient in the answer.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[schema(as = Submission)]
pub struct Queued {
    /// As it was given.
    pub address: String,
    /// Under which its events come.
    #[serde(rename = "QueueMsgID")]
    pub queue_msg_id: u64,
    /// The unique part of its reverse-path; empty when not used.
    #[serde(rename = "FromID")]
    pub from_id: String,
}

/// Carries a call out.
///
/// # Errors
/// Those of the contract. Nothing is queued then, except with [`Code::SentOverQuota`].
pub(crate) async fn send(
    context: &Context,
    user: &User,
    request: Request,
    files: Files,
    once: Option<&Once>,
) -> Result<Response, ApiError> {
    let now = context.clock.now();
    if let Some(once) = once
        && let Some(response) = once.earlier(context, user, now).await?
    {
        return Ok(response);
    }
    let mut ready = prepare(context, user, request, files, Check::Limits(once), now).await?;
    let allowance = ready.allowance.take();
    let given = ready.given.clone();
    let (mut submission, copy) = submission(context, user, ready, now).await?;
    let message_id = submission.message_id.clone();
    submission.once = once.map(|once| once.for_queue(&message_id, &given, now));
    let Some(added) = queue(context, user, submission, &message_id).await? else {
        return once::read(&once::by_another(once, context, user, now).await?);
    };
    drop(allowance);
    if let Some(copy) = copy {
        keep_copy(context, user, copy, now).await?;
    }
    let submissions = given.into_iter().zip(added);
    let submissions = submissions.map(|(address, added)| Queued {
        address,
        queue_msg_id: added.id.0,
        from_id: added.from_id,
    });
    Ok(Response {
        message_id,
        submissions: submissions.collect(),
    })
}

/// Composes a message: what the queue gets, and the copy that is to be kept.
async fn submission(
    context: &Context,
    user: &User,
    ready: Ready,
    now: Time,
) -> Result<(Submission, Option<Text>), ApiError> {
    let Ready {
        message, options, ..
    } = ready;
    let recipients: Vec<Address> = [&message.to, &message.cc, &message.bcc]
        .into_iter()
        .flatten()
        .map(|mailbox| mailbox.address.clone())
        .collect();
    let composed = compose(context, &message, &recipients, options.save_sent, now).await?;
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
        eight_bit: composed.eight_bit,
        smtputf8: message.smtputf8,
        require_tls: options.require_tls,
        not_before,
        future_release: not_before
            .map(|time| format!("until;{time}"))
            .unwrap_or_default(),
        extra: options.extra,
        ret_full: None,
        envid: String::new(),
        list: options.list,
        once: None,
    };
    Ok((submission, composed.copy))
}

/// When the first attempt is, if it is put off.
fn release(wanted: Option<Zoned>, now: Time) -> Result<Option<Time>, ApiError> {
    let Some(wanted) = wanted else {
        return Ok(None);
    };
    let time = Time::from(wanted.timestamp());
    if time > now.after(FUTURE_MAX) {
        return Err(ApiError::user("FutureRelease is more than 60 days ahead"));
    }
    Ok((time > now).then_some(time))
}

/// Writes the message behind its Received field. If a copy is to be kept and the account has a mailbox for it, it is made along
/// with the message, behind a Bcc field that shows who got a blind copy.
async fn compose(
    context: &Context,
    message: &Message,
    recipients: &[Address],
    save_sent: bool,
    now: Time,
) -> Result<Composed, ApiError> {
    let received = Received {
        from: None,
        by: context.endpoint.hostname.ascii(),
        with: if context.endpoint.tls {
            "HTTPS"
        } else {
            "HTTP"
        },
        id: header::random_id(&mut rand::rng()),
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

/// None: it was done before.
async fn queue(
    context: &Context,
    user: &User,
    submission: Submission,
    message_id: &str,
) -> Result<Option<Vec<Submitted>>, ApiError> {
    let added = match context.queue.add(submission).await {
        Ok(added) => added,
        Err(AddError::DoneBefore) => return Ok(None),
        Err(AddError::Store(error)) => return Err(error.into()),
        Err(other) => return Err(ApiError::user(other.to_string())),
    };
    if let [first, .., last] | [first @ last] = added.as_slice() {
        info!(
            account = user.account,
            first = first.id.0,
            last = last.id.0,
            message_id,
            "message queued by webapi"
        );
    }
    Ok(Some(added))
}

/// Puts the copy into the account's mailbox for what was sent.
async fn keep_copy(context: &Context, user: &User, copy: Text, now: Time) -> Result<(), ApiError> {
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
