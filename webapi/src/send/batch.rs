//! Batches: a message of its own for each of many recipients, from one text with variables. All
//! messages are queued, or none.

use std::{
    collections::BTreeMap,
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream};
use postrider_queue::{AddError, Allowance, MakeAnswer, Named, Staged, Submitted};
use postrider_smtp::Address;
use postrider_store::{Answered, Clock, Moment, Time};
use postrider_webhook::{MemoryBudget, Share};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    task::spawn_blocking,
};

use super::{
    Draft, NameAddress, NewFile, Once, count_accepted,
    once::{by_another, saved},
    prepare,
    prepare::{LimitCheck, allow},
    submission,
    taken::{self, TakenMessage},
    template::{FILLING_MAX, HTML, SUBJECT, TEXT, Templates, check_size},
};
use crate::{
    call::{
        auth::User,
        context::CallContext,
        data::FIELDS_MAX,
        json_size::COPIES,
        value::{address, lengths},
    },
    compose::Files,
    error::{ApiError, Code},
};

/// The most recipients of a batch.
const RECIPIENTS_MAX: usize = 10_000;
/// The number of messages that are written at once. They share syncs.
const AT_ONCE: usize = 32;
/// The bytes of memory that an entry of a list takes besides its text.
const ROW: usize = 100;
/// The bytes of memory for the messages of a batch that are written at once.
const WRITING: u64 = 64 << 20;
/// The most bytes of all messages of a batch together.
const SIZE_MAX: u64 = 1 << 30;

/// A message to many.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The common part. Subject, Text and HTML are templates.
    pub(crate) common: Draft,
    pub(crate) recipients: Vec<BatchRecipient>,
}

/// A recipient of a batch.
#[derive(Debug)]
pub(crate) struct BatchRecipient {
    pub(crate) to: NameAddress,
    pub(crate) variables: Map<String, Value>,
    pub(crate) extra: BTreeMap<String, String>,
}

/// The answer of SendBatch.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "PascalCase")]
pub struct BatchResponse {
    /// In the order of the recipients.
    pub submissions: Vec<BatchSubmission>,
}

/// One message of a batch.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "PascalCase")]
pub struct BatchSubmission {
    /// The address as it was given.
    pub address: String,
    /// The number of the queued message. Its events have the same number.
    #[serde(rename = "QueueMsgID")]
    pub queue_msg_id: u64,
    /// The unique part of the reverse-path. Empty when not used.
    #[serde(rename = "FromID")]
    pub from_id: String,
    /// With `<` and `>`.
    #[serde(rename = "MessageID")]
    pub message_id: String,
}

/// The answer of SendBatch as the store keeps it: addresses, fromids, Message-IDs. The store keeps
/// the first number besides.
#[derive(Serialize, Deserialize)]
struct SavedBatch(Vec<(String, String, String)>);

/// Sends a batch.
///
/// # Errors
/// The errors of Send, and errors in templates and variables. They name the recipient. Nothing is
/// queued then.
pub(crate) async fn send_all(
    context: &CallContext,
    user: &User,
    batch: Batch,
    once: Option<&Once>,
) -> Result<BatchResponse, ApiError> {
    let now = context.clock.now();
    let begun = context.clock.moment();
    if let Some(once) = once
        && let Some(answered) = once.answered(context, user, now).await?
    {
        return read(&answered);
    }
    let allowance = check(context, user, &batch, once, now).await?;
    let mut batch = batch;
    // All messages have the same files, which are decoded once, and the same templates.
    let files = decode_all(&mut batch.common)?;
    let texts = Draft {
        subject: mem::take(&mut batch.common.subject),
        text: mem::take(&mut batch.common.text),
        html: mem::take(&mut batch.common.html),
        ..Draft::default()
    };
    let given: Vec<String> = batch
        .recipients
        .iter()
        .map(|recipient| recipient.to.address.clone())
        .collect();
    let size_max = context.endpoint.max_message_size.min(FIELDS_MAX);
    let stager = Stager {
        context,
        user,
        files: &files,
        now,
        common_size: size(&batch.common, &files),
        filling: Arc::new(Mutex::new(Filler::new(&texts, size_max, &context.clock)?)),
        batch: Arc::new(batch),
        writing: MemoryBudget::new(2 * WRITING),
        total: AtomicU64::new(0),
        failed: AtomicBool::new(false),
    };
    let staged = stager.stage_all().await?;
    let (mut taken, mut message_ids) = (Vec::new(), Vec::new());
    let staged = staged.into_iter().map(|message| {
        message_ids.push(message.message_id);
        taken.push((message.from, message.size));
        message.staged
    });
    let staged: Vec<Staged> = staged.collect();
    let saved = once.map(|once| once.with_answer(saved_answer(&given, &message_ids), now));
    let added = match context.queue.add_all(&user.account, staged, saved).await {
        Ok(added) => added,
        Err(AddError::DoneBefore) => return read(&by_another(once, context, user, now).await?),
        Err(AddError::Store(error)) => return Err(error.into()),
        Err(other) => return Err(ApiError::user(other.to_string())),
    };
    drop(allowance);
    let bytes = stager.total.load(Ordering::Relaxed);
    count_accepted(context, (added.len(), added.len()), bytes, begun);
    let facts = taken.iter().zip(&message_ids).zip(given.iter().zip(&added));
    let taken = facts.map(|(((from, size), message_id), (to, added))| TakenMessage {
        from,
        message_id,
        size: *size,
        to: vec![(to.as_str(), added.id)],
    });
    let taken: Vec<TakenMessage<'_>> = taken.collect();
    taken::tell(context, user, "SendBatch", now, &taken);
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

/// Makes the answer that the store keeps, once the fromids are known.
fn saved_answer(given: &[String], message_ids: &[String]) -> MakeAnswer {
    let (given, message_ids) = (given.to_vec(), message_ids.to_vec());
    // Each message of a batch has one recipient, so their numbers follow each other.
    Box::new(move |named: &[Named]| {
        let from_ids = named.iter().map(|named| named.from_id.clone());
        let rows = given.into_iter().zip(from_ids);
        let rows = rows.zip(message_ids);
        let rows = rows.map(|((address, from_id), message_id)| (address, from_id, message_id));
        // JSON can express all strings.
        serde_json::to_vec(&SavedBatch(rows.collect())).unwrap_or_default()
    })
}

fn read(answered: &Answered) -> Result<BatchResponse, ApiError> {
    let SavedBatch(rows) = saved(answered)?;
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

/// Checks the recipients and the limits, for all messages together.
async fn check(
    context: &CallContext,
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
        .map(|(at, recipient)| address(&recipient.to.address).map_err(|error| placed(at, error)))
        .collect();
    allow(context, user, addresses?, once, now).await
}

/// Takes the files out of a draft.
fn decode_all(draft: &mut Draft) -> Result<Files, ApiError> {
    let decode = |list: &mut Vec<NewFile>| {
        let list = mem::take(list).into_iter();
        list.map(NewFile::decode).collect::<Result<_, _>>()
    };
    Ok(Files {
        alternative: decode(&mut draft.alternative)?,
        inline: decode(&mut draft.inline)?,
        attached: decode(&mut draft.attached)?,
    })
}

/// An error that names its recipient.
fn placed(at: usize, error: ApiError) -> ApiError {
    ApiError::new(error.code, format!("Recipients[{at}]: {}", error.message))
}

/// About the bytes of memory that each message takes besides its texts.
fn size(common: &Draft, files: &Files) -> u64 {
    let headers = common.headers.iter().map(|(name, value)| (name, value));
    let references = common.references.iter().map(String::len).sum::<usize>();
    let files = [&files.alternative, &files.inline, &files.attached];
    let files = || files.into_iter().flatten();
    let names =
        files().map(|file| file.name.len() + file.content_type.len() + file.content_id.len());
    let texts = lengths(headers) + references + lengths(&common.extra);
    let rows =
        common.headers.len() + common.references.len() + common.extra.len() + files().count();
    (texts + names.sum::<usize>() + rows * ROW) as u64
}

/// Fills in the texts of a batch, one recipient after the other, within a limit of time.
struct Filler {
    templates: Templates,
    clock: Arc<dyn Clock>,
    left: Duration,
}

impl Filler {
    fn new(texts: &Draft, size_max: u64, clock: &Arc<dyn Clock>) -> Result<Self, ApiError> {
        Ok(Self {
            templates: Templates::new(texts, size_max, Arc::clone(clock))?,
            clock: Arc::clone(clock),
            left: FILLING_MAX,
        })
    }

    /// The message for one recipient. It computes for up to the time that is left.
    fn fill(&mut self, common: &Draft, recipient: &BatchRecipient) -> Result<Draft, ApiError> {
        let begun = self.clock.moment();
        let filled = self.filled(common, recipient, begun.after(self.left));
        let took = self.clock.moment().since(begun);
        self.left = self.left.saturating_sub(took);
        filled
    }

    fn filled(
        &mut self,
        common: &Draft,
        recipient: &BatchRecipient,
        until: Moment,
    ) -> Result<Draft, ApiError> {
        let mut extra = common.extra.clone();
        let own = recipient.extra.iter();
        extra.extend(own.map(|(key, value)| (key.clone(), value.clone())));
        let variables = &recipient.variables;
        let mut fill = |field, name| self.templates.fill(field, name, variables, until);
        Ok(Draft {
            to: vec![recipient.to.clone()],
            subject: fill("Subject", SUBJECT)?,
            text: fill("Text", TEXT)?,
            html: fill("HTML", HTML)?,
            extra,
            ..common.clone()
        })
    }
}

/// The message for one recipient. It is filled in on a thread of its own, which may compute for
/// long. The place is taken until the work is done, even if nobody waits for it any more.
async fn fill(
    mut turn: OwnedMutexGuard<Filler>,
    place: Share,
    batch: Arc<Batch>,
    at: usize,
) -> Result<(OwnedMutexGuard<Filler>, Draft), ApiError> {
    let filled = spawn_blocking(move || {
        let recipient = batch.recipients.get(at);
        let filled = recipient.map(|recipient| turn.fill(&batch.common, recipient));
        drop(place);
        (turn, filled)
    });
    let failed = |why: &str| ApiError::new(Code::Server, format!("failed to fill in: {why}"));
    let (turn, filled) = filled.await.map_err(|error| failed(&error.to_string()))?;
    let draft = filled.ok_or_else(|| failed("no such recipient"))??;
    Ok((turn, draft))
}

/// A message that the queue holds ready.
struct StagedMessage {
    staged: Staged,
    message_id: String,
    /// The reverse-path, before a fromid is added.
    from: String,
    /// Bytes of the text.
    size: u64,
}

/// Composes the messages of a batch and stores their texts.
struct Stager<'a> {
    context: &'a CallContext,
    user: &'a User,
    batch: Arc<Batch>,
    files: &'a Files,
    now: Time,
    /// About the bytes of memory of the common part.
    common_size: u64,
    /// Large messages are not all in memory at once: only one at a time is filled in without a
    /// share of `writing`.
    filling: Arc<Mutex<Filler>>,
    writing: MemoryBudget,
    /// The bytes of all messages so far.
    total: AtomicU64,
    failed: AtomicBool,
}

impl Stager<'_> {
    /// Composes one message. None if another one has failed.
    async fn stage(&self, at: usize) -> Result<Option<StagedMessage>, ApiError> {
        let recipient = self.batch.recipients.get(at);
        let recipient = recipient.filter(|_| !self.failed.load(Ordering::Relaxed));
        let Some(recipient) = recipient else {
            return Ok(None);
        };
        let staged = self.compose(at, recipient).await.map(Some);
        staged.map_err(|error| {
            self.failed.store(true, Ordering::Relaxed);
            placed(at, error)
        })
    }

    async fn compose(
        &self,
        at: usize,
        recipient: &BatchRecipient,
    ) -> Result<StagedMessage, ApiError> {
        let (context, user, now) = (self.context, self.user, self.now);
        check_size(&recipient.variables)?;
        let turn = Arc::clone(&self.filling).lock_owned().await;
        let place = context.bounds.filling.take(&user.account, 1).await;
        let (turn, draft) = fill(turn, place, Arc::clone(&self.batch), at).await?;
        let texts = draft.subject.len() + draft.text.len() + draft.html.len();
        let size = (texts as u64 + self.common_size) * COPIES;
        let _share = self.writing.take(&user.account, size).await;
        drop(turn);
        let files = self.files.clone();
        let prepared = prepare(context, user, draft, files, LimitCheck::Before, now).await?;
        let name = user.transaction(at);
        let (mut submission, _) = submission(context, user, prepared, name, now).await?;
        submission.urgency.bulk = true;
        let message_id = submission.message_id.clone();
        let (from, size) = (submission.reverse_path.to_string(), submission.size);
        if self.total.fetch_add(size, Ordering::Relaxed) > SIZE_MAX {
            return Err(ApiError::new(
                Code::MessageTooLarge,
                format!("the messages of the batch have more than {SIZE_MAX} bytes together"),
            ));
        }
        match context.queue.stage(submission).await {
            Ok(staged) => Ok(StagedMessage {
                staged,
                message_id,
                from,
                size,
            }),
            Err(AddError::Store(error)) => Err(error.into()),
            Err(other) => Err(ApiError::user(other.to_string())),
        }
    }

    /// Composes all messages. If one is wrong, all texts are removed again.
    async fn stage_all(&self) -> Result<Vec<StagedMessage>, ApiError> {
        let all = 0..self.batch.recipients.len();
        let results = stream::iter(all).map(|at| self.stage(at));
        // All end, also after one failed, so that no text stays.
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
                let staged = done.into_iter().map(|done| done.staged).collect();
                self.context.queue.unstage(staged).await;
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, RecvTimeoutError};

    use postrider_store::Sleep;
    use serde_json::json;

    use super::*;

    /// Each look at this clock takes a second.
    #[derive(Default)]
    struct Ticking(AtomicU64);

    impl Ticking {
        fn looks(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    impl Clock for Ticking {
        fn now(&self) -> Time {
            Time(0)
        }

        fn moment(&self) -> Moment {
            let seconds = self.0.fetch_add(1, Ordering::Relaxed);
            Moment::default().after(Duration::from_secs(seconds))
        }

        fn sleep_until(&self, _: Time) -> Sleep {
            Box::pin(std::future::pending())
        }

        fn sleep_until_moment(&self, _: Moment) -> Sleep {
            Box::pin(std::future::pending())
        }
    }

    fn filler(text: &str, clock: &Arc<dyn Clock>) -> Filler {
        let texts = Draft {
            text: text.into(),
            ..Draft::default()
        };
        Filler::new(&texts, 1000, clock).unwrap()
    }

    fn recipient(variables: Value) -> BatchRecipient {
        BatchRecipient {
            to: NameAddress {
                name: String::new(),
                address: "a@x.test".into(),
            },
            variables: serde_json::from_value(variables).unwrap(),
            extra: BTreeMap::new(),
        }
    }

    #[test]
    fn filling_in_a_batch_has_a_time_limit() {
        let clock: Arc<dyn Clock> = Arc::new(Ticking::default());
        let mut filler = filler("Dear {{ name }}", &clock);
        let ann = recipient(json!({"name": "Ann"}));
        let mut count = 0;
        let error = loop {
            match filler.fill(&Draft::default(), &ann) {
                Ok(draft) => assert_eq!(draft.text, "Dear Ann"),
                Err(error) => break error,
            }
            count += 1;
            assert!(count < FILLING_MAX.as_secs());
        };
        assert!(count > 3, "{count}");
        assert_eq!(error.code, Code::User);
        assert!(error.message.contains("30 seconds"), "{error}");
    }

    #[test]
    fn filling_in_for_one_recipient_ends_when_the_time_is_over() {
        let many = json!({"many": vec!["x"; 1000], "text": "abc".repeat(10)});
        for text in [
            "{% for item in many %}{% endfor %}",
            "{% for c in text %}{{ c }}{% endfor %}",
            "{% for a in text %}{% for b in text %}{% if b|title == a %}{% endif %}{% endfor %}{% endfor %}",
            "{% for a in text %}{% for b in text %}{% if b|trim(a) %}{% endif %}{% endfor %}{% endfor %}",
        ] {
            let ticking = Arc::new(Ticking::default());
            let clock: Arc<dyn Clock> = Arc::<Ticking>::clone(&ticking);
            let mut filler = filler(text, &clock);
            let filled = filler.fill(&Draft::default(), &recipient(many.clone()));
            let error = filled.unwrap_err();
            assert!(error.message.contains("30 seconds"), "{text}: {error}");
            assert!(ticking.looks() < 50, "{text}: {}", ticking.looks());
        }
    }

    /// The first look at this clock lasts until a task of the test gives the word.
    struct Waiting(std::sync::Mutex<mpsc::Receiver<()>>);

    impl Clock for Waiting {
        fn now(&self) -> Time {
            Time(0)
        }

        fn moment(&self) -> Moment {
            let word = self.0.lock().unwrap();
            match word.recv_timeout(Duration::from_secs(60)) {
                Ok(()) | Err(RecvTimeoutError::Disconnected) => Moment::default(),
                Err(RecvTimeoutError::Timeout) => panic!("the task did not run"),
            }
        }

        fn sleep_until(&self, _: Time) -> Sleep {
            Box::pin(std::future::pending())
        }

        fn sleep_until_moment(&self, _: Moment) -> Sleep {
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test]
    async fn other_tasks_run_while_a_text_is_filled_in() {
        let (word, waiting) = mpsc::channel();
        let clock: Arc<dyn Clock> = Arc::new(Waiting(std::sync::Mutex::new(waiting)));
        let filling = Arc::new(Mutex::new(filler("Dear {{ name }}", &clock)));
        let batch = Arc::new(Batch {
            common: Draft::default(),
            recipients: vec![recipient(json!({"name": "Ann"}))],
        });
        let filled = fill(filling.lock_owned().await, Share::default(), batch, 0);
        // All tasks of this test share one thread. join! polls the first future first.
        let (filled, ()) = tokio::join!(filled, async move { drop(word) });
        assert_eq!(filled.unwrap().1.text, "Dear Ann");
    }
}
