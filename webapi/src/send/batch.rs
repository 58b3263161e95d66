//! Batches: one text with variables, a message of its own for each recipient, all of them or none.

use std::{
    collections::BTreeMap,
    mem,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use futures_util::{StreamExt, stream};
use postrider_queue::{AddError, Allowance, Staged, Submitted};
use postrider_smtp::Address;
use postrider_store::{Answered, Time};
use postrider_webhook::MemoryBudget;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tracing::info;
use utoipa::ToSchema;

use super::{
    NameAddress, NewFile, Once, Request,
    once::by_another,
    prepare,
    prepare::{Check, allow},
    submission,
    template::{HTML, SUBJECT, TEXT, Templates, check_size},
};
use crate::{
    auth::User,
    context::Context,
    error::{ApiError, Code},
    form::{FIELDS_MAX, Files},
    memory::COPIES,
    request,
};

/// The most recipients.
const RECIPIENTS_MAX: usize = 10_000;
/// How many messages are written at once: their syncs are shared.
const AT_ONCE: usize = 32;
/// What an entry of a list takes besides its text.
const ROW: usize = 100;
/// What they may take of memory, in bytes.
const WRITING: u64 = 64 << 20;
/// What all its messages may have together, in bytes.
const SIZE_MAX: u64 = 1 << 30;

/// What is sent to many.
#[derive(Debug)]
pub(crate) struct Batch {
    /// What all have in common. Subject, Text and HTML are templates.
    pub(crate) common: Request,
    pub(crate) recipients: Vec<BatchRecipient>,
}

/// One of many.
#[derive(Debug)]
pub(crate) struct BatchRecipient {
    pub(crate) to: NameAddress,
    pub(crate) variables: Map<String, Value>,
    pub(crate) extra: BTreeMap<String, String>,
}

/// The answer.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct BatchResponse {
    /// In the order of the recipients.
    pub submissions: Vec<BatchSubmission>,
}

/// One message of a batch.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct BatchSubmission {
    /// As it was given.
    pub address: String,
    /// Under which its events come.
    #[serde(rename = "QueueMsgID")]
    pub queue_msg_id: u64,
    /// The unique part of its reverse-path; empty when not used.
    #[serde(rename = "FromID")]
    pub from_id: String,
    /// With `<` and `>`.
    #[serde(rename = "MessageID")]
    pub message_id: String,
}

/// What is kept of an answer, beside the first number: addresses, fromids, Message-IDs.
#[derive(Serialize, Deserialize)]
struct Kept(Vec<(String, String, String)>);

/// Sends a batch.
///
/// # Errors
/// Those of Send, and what is wrong with a template or a variable, with the place of the recipient. Nothing is queued then.
pub(crate) async fn send_all(
    context: &Context,
    user: &User,
    batch: Batch,
    once: Option<&Once>,
) -> Result<BatchResponse, ApiError> {
    let now = context.clock.now();
    if let Some(once) = once
        && let Some(answered) = once.answered(context, user, now).await?
    {
        return read(&answered);
    }
    let allowance = check(context, user, &batch, once, now).await?;
    let mut batch = batch;
    // All have the same, which are decoded once, and are written from templates.
    let files = decode_all(&mut batch.common)?;
    let texts = Request {
        subject: mem::take(&mut batch.common.subject),
        text: mem::take(&mut batch.common.text),
        html: mem::take(&mut batch.common.html),
        ..Request::default()
    };
    let given: Vec<String> = batch
        .recipients
        .iter()
        .map(|recipient| recipient.to.address.clone())
        .collect();
    let staged = stage_all(context, user, &batch, &texts, &files, now).await?;
    let (staged, message_ids): (Vec<Staged>, Vec<String>) = staged.into_iter().unzip();
    let kept = once.map(|once| {
        let (given, message_ids) = (given.clone(), message_ids.clone());
        let answer = move |from_ids: &[String]| {
            let rows = given.into_iter().zip(from_ids.iter().cloned());
            let rows = rows.zip(message_ids);
            let rows = rows.map(|((address, from_id), message_id)| (address, from_id, message_id));
            // Strings have a form in JSON.
            serde_json::to_vec(&Kept(rows.collect())).unwrap_or_default()
        };
        once.with_answer(Box::new(answer), now)
    });
    let count = staged.len();
    let added = match context.queue.add_all(&user.account, staged, kept).await {
        Ok(added) => added,
        Err(AddError::DoneBefore) => return read(&by_another(once, context, user, now).await?),
        Err(AddError::Store(error)) => return Err(error.into()),
        Err(other) => return Err(ApiError::user(other.to_string())),
    };
    drop(allowance);
    info!(account = user.account, count, "batch queued by webapi");
    let rows = given.into_iter().zip(added).zip(message_ids);
    let submissions = rows.map(|((address, added), message_id)| {
        let Submitted { id, from_id } = added;
        BatchSubmission {
            address,
            queue_msg_id: id.0,
            from_id,
            message_id,
        }
    });
    Ok(BatchResponse {
        submissions: submissions.collect(),
    })
}

fn read(answered: &Answered) -> Result<BatchResponse, ApiError> {
    let Kept(rows) = serde_json::from_slice(&answered.answer)
        .map_err(|error| ApiError::new(Code::Server, error.to_string()))?;
    let rows = rows.into_iter().zip(answered.first.0..);
    let submissions = rows.map(
        |((address, from_id, message_id), queue_msg_id)| BatchSubmission {
            address,
            queue_msg_id,
            from_id,
            message_id,
        },
    );
    Ok(BatchResponse {
        submissions: submissions.collect(),
    })
}

/// What must be right for all of them together.
async fn check(
    context: &Context,
    user: &User,
    batch: &Batch,
    once: Option<&Once>,
    now: Time,
) -> Result<Option<Allowance>, ApiError> {
    if batch.recipients.is_empty() {
        return Err(ApiError::new(
            Code::NoRecipients,
            "a batch needs a recipient in Recipients",
        ));
    }
    if batch.recipients.len() > RECIPIENTS_MAX {
        return Err(ApiError::user(format!(
            "a batch has {RECIPIENTS_MAX} recipients at most, not {}",
            batch.recipients.len()
        )));
    }
    let addresses: Result<Vec<Address>, ApiError> = batch
        .recipients
        .iter()
        .enumerate()
        .map(|(at, recipient)| {
            request::address(&recipient.to.address).map_err(|error| placed(at, error))
        })
        .collect();
    allow(context, user, addresses?, once, now).await
}

/// Takes the files out of a request.
fn decode_all(request: &mut Request) -> Result<Files, ApiError> {
    let decode = |list: &mut Vec<NewFile>| {
        let list = mem::take(list).into_iter();
        list.map(NewFile::decode).collect::<Result<_, _>>()
    };
    Ok(Files {
        alternative: decode(&mut request.alternative)?,
        inline: decode(&mut request.inline)?,
        attached: decode(&mut request.attached)?,
    })
}

/// Names the recipient that an error is about.
fn placed(at: usize, error: ApiError) -> ApiError {
    ApiError::new(error.code, format!("Recipients[{at}]: {}", error.message))
}

/// What each message takes of memory besides its texts, about.
fn size(common: &Request, files: &Files) -> u64 {
    let headers = common.headers.iter().map(|(name, value)| (name, value));
    let references = common.references.iter().map(String::len).sum::<usize>();
    let files = [&files.alternative, &files.inline, &files.attached];
    let files = || files.into_iter().flatten();
    let names =
        files().map(|file| file.name.len() + file.content_type.len() + file.content_id.len());
    let texts = request::lengths(headers) + references + request::lengths(&common.extra);
    let rows =
        common.headers.len() + common.references.len() + common.extra.len() + files().count();
    (texts + names.sum::<usize>() + rows * ROW) as u64
}

/// The message for one recipient.
fn fill(
    templates: &Templates<'_>,
    common: &Request,
    recipient: &BatchRecipient,
) -> Result<Request, ApiError> {
    let mut extra = common.extra.clone();
    let own = recipient.extra.iter();
    extra.extend(own.map(|(key, value)| (key.clone(), value.clone())));
    let variables = &recipient.variables;
    Ok(Request {
        to: vec![recipient.to.clone()],
        subject: templates.fill("Subject", SUBJECT, variables)?,
        text: templates.fill("Text", TEXT, variables)?,
        html: templates.fill("HTML", HTML, variables)?,
        extra,
        ..common.clone()
    })
}

/// Composes the messages and keeps their texts; lets all go when one is not right.
async fn stage_all(
    context: &Context,
    user: &User,
    batch: &Batch,
    texts: &Request,
    files: &Files,
    now: Time,
) -> Result<Vec<(Staged, String)>, ApiError> {
    let common = &batch.common;
    let templates = Templates::new(texts, context.endpoint.max_message_size.min(FIELDS_MAX))?;
    // Those that are large are not all in memory at the same time: only one is filled in before it has its share.
    let (filling, writing) = (Mutex::new(()), MemoryBudget::new(2 * WRITING));
    let in_common = size(common, files);
    let (failed, total) = (AtomicBool::new(false), AtomicU64::new(0));
    let stage = async |at: usize| {
        let recipient = batch.recipients.get(at);
        let recipient = recipient.filter(|_| !failed.load(Ordering::Relaxed));
        let Some(recipient) = recipient else {
            return Ok(None);
        };
        let one = async || {
            check_size(&recipient.variables)?;
            let turn = filling.lock().await;
            let request = fill(&templates, common, recipient)?;
            let texts = request.subject.len() + request.text.len() + request.html.len();
            let size = (texts as u64 + in_common) * COPIES;
            let _share = writing.take(&user.account, size).await;
            drop(turn);
            let ready =
                prepare(context, user, request, files.clone(), Check::NoLimits, now).await?;
            let (submission, _) = submission(context, user, ready, now).await?;
            let message_id = submission.message_id.clone();
            if total.fetch_add(submission.size, Ordering::Relaxed) > SIZE_MAX {
                return Err(ApiError::new(
                    Code::MessageTooLarge,
                    format!("the messages of the batch have more than {SIZE_MAX} bytes together"),
                ));
            }
            match context.queue.stage(submission).await {
                Ok(staged) => Ok((staged, message_id)),
                Err(AddError::Store(error)) => Err(error.into()),
                Err(other) => Err(ApiError::user(other.to_string())),
            }
        };
        let staged = one().await.map(Some);
        staged.map_err(|error: ApiError| {
            failed.store(true, Ordering::Relaxed);
            placed(at, error)
        })
    };
    let results = stream::iter(0..batch.recipients.len()).map(stage);
    // To the end, so that nothing stays that was begun beside one that failed.
    let results: Vec<_> = results.buffered(AT_ONCE).collect().await;
    let (mut done, mut error) = (Vec::with_capacity(results.len()), None);
    for result in results {
        match result {
            Ok(staged) => done.extend(staged),
            Err(wrong) => error = error.or(Some(wrong)),
        }
    }
    match error {
        None => Ok(done),
        Some(error) => {
            let staged = done.into_iter().map(|(staged, _)| staged).collect();
            context.queue.unstage(staged).await;
            Err(error)
        }
    }
}
