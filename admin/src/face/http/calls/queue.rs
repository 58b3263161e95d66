//! Queued messages, and whether deliveries run.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use postrider_store::{Change, NextAttempt, QueueFilter, QueueId, Work};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::{
    Answer, Asked,
    paging::{NAMES_MAX, OBJECTS_MAX, Paging, list_value},
    parameters::{Query, body_or_default},
    problem::Problem,
    value, without_nulls,
};
use crate::{
    AdminError,
    op::{
        Operation, Single, Sink, blob as blobs,
        messages::{
            ChangeSelected, EndSelected, Find, Found, Get, MessageItem, Portion, Selection, Stage,
        },
        queue::{AttemptItem, Ending},
        stops::{GetStatus, Start, Stop},
    },
};

/// A change of many messages is answered after this time. It goes on.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);
/// The most bytes of a text in an answer.
const BLOB_MAX: u64 = 64 << 20;

pub(in super::super) async fn status(asked: Asked) -> Result<Answer, Problem> {
    Ok(Answer::Data(json!(asked.is_running().await?)))
}

/// The work that the calls below `queue/status` stop and start.
const DELIVERIES: Option<Work> = Some(Work::Deliveries);

pub(in super::super) async fn stop(asked: Asked) -> Result<Answer, Problem> {
    let before = (Stop { only: DELIVERIES }).answer(&asked.context).await?;
    Ok(Answer::Data(json!(before.deliveries)))
}

pub(in super::super) async fn start(asked: Asked) -> Result<Answer, Problem> {
    let before = (Start { only: DELIVERIES }).answer(&asked.context).await?;
    Ok(Answer::Data(json!(before.deliveries)))
}

pub(in super::super) async fn list(asked: Asked) -> Result<Answer, Problem> {
    let whole = asked.query.flag("values");
    let max = if whole { OBJECTS_MAX } else { NAMES_MAX };
    let paging = Paging::new(&asked.query, max)?;
    let found = match asked.selection(&asked.query)? {
        None => nothing(),
        Some(which) => find(&asked, which, &paging, whole).await?,
    };
    let items = match whole {
        true => found
            .messages
            .iter()
            .map(message)
            .collect::<Result<_, _>>()?,
        false => found.ids.iter().map(|id| json!(id)).collect(),
    };
    let mut data = list_value(items, found.total, found.more, found.next);
    if let Some(data) = data.as_object_mut() {
        let running = asked.is_running().await?;
        data.insert("status".to_owned(), json!(running));
    }
    Ok(Answer::Data(data))
}

const fn nothing() -> Found {
    Found {
        ids: Vec::new(),
        messages: Vec::new(),
        total: 0,
        more: false,
        next: None,
    }
}

/// A page of the messages of a selection.
pub(super) async fn find(
    asked: &Asked,
    which: Selection,
    paging: &Paging,
    whole: bool,
) -> Result<Found, Problem> {
    let find = Find {
        which,
        order: paging.order,
        after: paging.after.map(QueueId),
        skip: paging.skip,
        limit: paging.limit,
        whole,
        count_max: paging.count_max,
    };
    Ok(find.answer(&asked.context).await?)
}

impl Asked {
    /// Whether deliveries run.
    async fn is_running(&self) -> Result<bool, Problem> {
        Ok(GetStatus {}.answer(&self.context).await?.deliveries)
    }

    /// The messages that the parameters of a query select. None: no message can match.
    pub(super) fn selection(&self, query: &Query) -> Result<Option<Selection>, Problem> {
        let text = query.text("text").map(str::to_owned);
        let address = |name: &str| {
            let given = query.text(name).filter(|_| text.is_none());
            given.map(str::to_owned)
        };
        let mut which = Selection {
            filter: QueueFilter {
                from: address("from"),
                to: address("to"),
                next_attempt_before: query.time("before")?,
                next_attempt_after: query.time("after")?,
                ..QueueFilter::default()
            },
            text,
            first: query.parsed("range-start")?,
            last: query.parsed("range-end")?,
            accounts: self.access.accounts(&self.context.config.load()),
            stage: None,
            extra: None,
        };
        match query.text("queue") {
            Some("default") => which.filter.transport = Some(String::new()),
            Some(transport) => which.filter.transport = Some(transport.to_owned()),
            None => {}
        }
        for part in query.text("filter").unwrap_or_default().split(',') {
            which.narrow(query, part.trim())?;
        }
        let none = which.accounts.as_ref().is_some_and(|it| it.is_empty());
        Ok((!none).then_some(which))
    }

    /// A message of the caller; None: it is absent.
    async fn message(&self) -> Result<MessageItem, Problem> {
        let id = self.id(0)?;
        self.message_with(id).await
    }

    async fn message_with(&self, id: u64) -> Result<MessageItem, Problem> {
        let missing = || Problem::missing(id.to_string(), format!("there is no message {id}"));
        let message = match (Get { id: QueueId(id) }).answer(&self.context).await {
            Err(error) if error.code == crate::Code::NotFound => return Err(missing()),
            message => message?,
        };
        match self.sees_account(&message.message.account) {
            true => Ok(message),
            false => Err(missing()),
        }
    }

    /// A queued message of the caller.
    async fn queued(&self) -> Result<MessageItem, Problem> {
        let message = self.message().await?;
        if message.stage.is_end() {
            let id = message.message.id;
            let text = format!("the message {id} is not in the queue any more");
            return Err(Problem::missing(id.to_string(), text));
        }
        Ok(message)
    }
}

impl Selection {
    /// Narrows the selection by one part of the parameter `filter`: `KEY:VALUE`, or a text.
    fn narrow(&mut self, query: &Query, part: &str) -> Result<(), Problem> {
        if part.is_empty() {
            return Ok(());
        }
        let Some((key, value)) = part.split_once(':') else {
            self.text = Some(part.to_owned());
            return Ok(());
        };
        let given = || Some(value.to_owned());
        match key {
            "account" => self.filter.account = given(),
            "from" => self.filter.from = given(),
            "to" => self.filter.to = given(),
            "domain" => self.filter.to = Some(format!("@{value}")),
            "transport" if value == "default" => self.filter.transport = Some(String::new()),
            "transport" => self.filter.transport = given(),
            "message_id" if value.starts_with('<') => self.filter.message_id = given(),
            "message_id" => self.filter.message_id = Some(format!("<{value}>")),
            "text" => self.text = given(),
            "status" => match Stage::ALL.into_iter().find(|it| it.name() == value) {
                Some(stage) => self.stage = Some(stage),
                None => {
                    query.wrong::<()>(format!("there is no status {value:?}"))?;
                }
            },
            _ => {
                query.wrong::<()>(format!("the filter has no key {key:?}"))?;
            }
        }
        Ok(())
    }
}

/// A message as JSON: the fields of Stalwart, and those of our lists.
fn message(item: &MessageItem) -> Result<Value, Problem> {
    let ours = value(&item.message)?;
    let mut members = match ours {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    let message = &item.message;
    members.insert("return_path".to_owned(), json!(message.from));
    members.insert("blob_hash".to_owned(), json!(blob_name(message.id)));
    if item.priority != 0 {
        members.insert("priority".to_owned(), json!(item.priority));
    }
    if !item.env_id.is_empty() {
        members.insert("env_id".to_owned(), json!(item.env_id));
    }
    let transport = match message.transport.as_str() {
        "" => "default",
        transport => transport,
    };
    let orcpt = (!item.orcpt.is_empty()).then_some(&item.orcpt);
    let recipient = json!({
        "address": message.to,
        "queue": transport,
        "status": delivery_status(item),
        "orcpt": orcpt,
        "retry_num": message.attempts,
        "next_retry": item.next_retry,
        "next_notify": item.next_notify,
        "expires": item.expires,
    });
    members.insert("recipients".to_owned(), json!([without_nulls(recipient)]));
    Ok(Value::Object(members))
}

/// A message alone has the results of all attempts too, and what was said in the last ones.
fn message_with_results(item: &MessageItem) -> Result<Value, Problem> {
    let mut message = message(item)?;
    if let Some(members) = message.as_object_mut() {
        members.insert("results".to_owned(), value(&item.results)?);
        members.insert("transcripts".to_owned(), value(&item.transcripts)?);
    }
    Ok(message)
}

/// The status of a recipient, in Stalwart's form.
fn delivery_status(item: &MessageItem) -> Value {
    let text = item
        .results
        .last()
        .map(AttemptItem::reply)
        .unwrap_or_default();
    match item.stage {
        Stage::Delivered => json!({ "completed": text }),
        Stage::Failed => json!({ "perm_fail": text }),
        _ if item.results.last().is_some_and(|last| !last.success) => {
            json!({ "temp_fail": text })
        }
        _ => json!("scheduled"),
    }
}

pub(in super::super) async fn get(asked: Asked) -> Result<Answer, Problem> {
    let item = asked.message().await?;
    Ok(Answer::Data(message_with_results(&item)?))
}

/// The changes that a body may ask for. A member that is not there leaves a message as it is.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub(in super::super) struct Changes {
    /// Hold the message, or release it.
    hold: Option<bool>,
    /// The forced transport; empty: the routes decide.
    transport: Option<String>,
    /// Whether the message needs verified TLS; null: as the policy of the remote says.
    #[serde(deserialize_with = "given")]
    #[cfg_attr(test, schema(value_type = Option<bool>))]
    require_tls: Option<Option<bool>>,
}

/// Tells a value that is null from one that is not there.
#[expect(clippy::option_option, reason = "the inner one is null")]
fn given<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<bool>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl Asked {
    /// The change that a request asks for. Without a body, the messages are due now or at a time.
    fn change(&self, query: &Query) -> Result<Change, Problem> {
        let has_body = !self.body.trim_ascii().is_empty();
        let changes: Changes = body_or_default(&self.body)?;
        let at = query.time("at")?;
        let now = (!has_body).then(|| self.context.clock.now());
        Ok(Change {
            hold: changes.hold,
            next_attempt: at.or(now).map(NextAttempt::At),
            transport: changes.transport,
            require_tls: changes.require_tls,
        })
    }

    /// One message, if its recipient has the text of `filter`.
    fn one(&self, id: u64) -> Selection {
        let mut which = Selection::one(QueueId(id));
        which.filter.to = self.query.text("filter").map(str::to_owned);
        which
    }
}

pub(in super::super) async fn change(asked: Asked) -> Result<Answer, Problem> {
    let message = asked.queued().await?;
    let operation = ChangeSelected {
        which: asked.one(message.message.id),
        change: asked.change(&asked.query)?,
    };
    let portion = to_end(asked, operation, Arc::default()).await?;
    Ok(Answer::Data(json!(portion.done > 0)))
}

pub(in super::super) async fn end(asked: Asked) -> Result<Answer, Problem> {
    let message = asked.queued().await?;
    let operation = EndSelected {
        which: asked.one(message.message.id),
        ending: ending(&asked.query),
    };
    let portion = to_end(asked, operation, Arc::default()).await?;
    Ok(Answer::Data(json!(portion.done > 0)))
}

fn ending(query: &Query) -> Ending {
    match query.flag("fail") {
        true => Ending::Failed,
        false => Ending::Canceled,
    }
}

pub(in super::super) async fn change_all(asked: Asked) -> Result<Answer, Problem> {
    let query = bulk_query(&asked, &["at"])?;
    let change = asked.change(&query)?;
    match asked.queue_selection(&query)? {
        None => Ok(counted(Portion::default(), true)),
        Some(which) => in_bulk(asked, ChangeSelected { which, change }).await,
    }
}

pub(in super::super) async fn end_all(asked: Asked) -> Result<Answer, Problem> {
    let query = bulk_query(&asked, &["fail"])?;
    let ending = ending(&query);
    match asked.queue_selection(&query)? {
        None => Ok(counted(Portion::default(), true)),
        Some(which) => in_bulk(asked, EndSelected { which, ending }).await,
    }
}

/// The query of a change of many messages.
fn bulk_query(asked: &Asked, more: &[&str]) -> Result<Query, Problem> {
    let filters = [
        "text",
        "from",
        "to",
        "queue",
        "range-start",
        "range-end",
        "before",
        "after",
        "filter",
    ];
    asked.query.bulk(&[&filters, more].concat())
}

impl Asked {
    /// The queued messages that the parameters of a query select.
    fn queue_selection(&self, query: &Query) -> Result<Option<Selection>, Problem> {
        let which = self.selection(query)?;
        let stage = which.as_ref().and_then(|which| which.stage);
        match stage.filter(|stage| stage.is_end()) {
            Some(stage) => Err(Problem::unreadable(format!(
                "messages with the status {} are not in the queue",
                stage.name()
            ))),
            None => Ok(which),
        }
    }
}

/// What was done so far.
#[derive(Debug, Default)]
struct Progress {
    done: AtomicU64,
    in_delivery: AtomicU64,
}

impl Progress {
    fn portion(&self) -> Portion {
        Portion {
            done: self.done.load(Ordering::Relaxed),
            in_delivery: self.in_delivery.load(Ordering::Relaxed),
        }
    }
}

struct Counter(Arc<Progress>);

impl Sink<Portion> for Counter {
    async fn send(&mut self, items: Vec<Portion>) -> Result<(), AdminError> {
        for portion in items {
            self.0.done.fetch_add(portion.done, Ordering::Relaxed);
            let in_delivery = &self.0.in_delivery;
            in_delivery.fetch_add(portion.in_delivery, Ordering::Relaxed);
        }
        Ok(())
    }
}

async fn to_end(
    asked: Asked,
    operation: impl Operation<Item = Portion>,
    progress: Arc<Progress>,
) -> Result<Portion, Problem> {
    let mut counter = Counter(Arc::clone(&progress));
    operation.run(&asked.context, &mut counter).await?;
    Ok(progress.portion())
}

/// Changes many messages. If that takes long, the answer comes before its end.
async fn in_bulk(
    asked: Asked,
    operation: impl Operation<Item = Portion> + 'static,
) -> Result<Answer, Problem> {
    let progress = Arc::new(Progress::default());
    let work = tokio::spawn(to_end(asked, operation, Arc::clone(&progress)));
    match tokio::time::timeout(ANSWERED_WITHIN, work).await {
        Ok(ended) => {
            let portion = ended.map_err(Problem::internal)??;
            Ok(counted(portion, true))
        }
        Err(_) => Ok(counted(progress.portion(), false)),
    }
}

fn counted(portion: Portion, done: bool) -> Answer {
    let mut beside = Map::new();
    beside.insert("count".to_owned(), json!(portion.done));
    beside.insert("in_delivery".to_owned(), json!(portion.in_delivery));
    beside.insert("done".to_owned(), json!(done));
    let any = portion.done + portion.in_delivery > 0;
    Answer::Beside(json!(any), beside)
}

/// The letter of texts of queued messages in names.
const LETTER: char = 'm';

/// The name of the text of a queued message, for a later call.
fn blob_name(id: u64) -> String {
    blobs::name_of(LETTER, id)
}

/// The message that a name is for.
fn blob_id(name: &str) -> Option<u64> {
    blobs::number_of(LETTER, name)
}

pub(in super::super) async fn blob(asked: Asked) -> Result<Answer, Problem> {
    let name = asked.element(0);
    let missing = || Problem::missing(name, format!("there is no text {name}"));
    let id = blob_id(name).ok_or_else(missing)?;
    let item = asked.message_with(id).await.map_err(|_| missing())?;
    let store = &asked.context.store;
    let queued = store.queued(QueueId(item.message.id)).await?;
    let queued = queued.ok_or_else(missing)?;
    let pieces = store.queued_message(&queued).await?.into_pieces();
    let length = pieces.message().len();
    let offset = asked.query.parsed("offset")?.unwrap_or(0_u64).min(length);
    let limit = asked.query.parsed("limit")?.unwrap_or(BLOB_MAX);
    let end = offset.saturating_add(limit.min(BLOB_MAX)).min(length);
    let mut bytes = Vec::new();
    let mut at = offset;
    while at < end {
        let piece = pieces.piece(at, (end - at).min(256 * 1024)).await?;
        if piece.is_empty() {
            break;
        }
        at += piece.len() as u64;
        bytes.extend_from_slice(&piece);
    }
    Ok(Answer::Bytes(bytes))
}

/// The shapes of the answers, for the description.
#[cfg(test)]
pub(in super::super) mod shapes {
    use utoipa::ToSchema;

    pub(in super::super::super) use super::Changes;
    use crate::op::{
        queue::{AttemptItem, QueueItem},
        transcripts::TranscriptItem,
    };

    /// A message of the queue or of the history.
    #[derive(ToSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    pub(in super::super::super) struct Message {
        #[schema(inline)]
        #[serde(flatten)]
        message: QueueItem,
        /// The reverse-path; empty for the null reverse-path.
        return_path: String,
        /// A name for the text.
        blob_hash: String,
        /// The priority from -9 to 9. It is left out when it is 0, which is normal.
        #[schema(nullable = false)]
        priority: Option<i8>,
        /// The ENVID of the submitter.
        #[schema(nullable = false)]
        env_id: Option<String>,
        /// One recipient.
        recipients: Vec<Recipient>,
        /// The results of all attempts, in the answer for one message.
        #[schema(nullable = false)]
        results: Option<Vec<AttemptItem>>,
        /// What was said in the last attempts. Only a message alone has them.
        #[schema(nullable = false)]
        transcripts: Option<Vec<TranscriptItem>>,
    }

    /// The recipient of a message.
    #[derive(ToSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Recipient {
        address: String,
        /// The forced transport, or `default`.
        queue: String,
        /// `scheduled`, or an object with one of `completed`, `temp_fail` and `perm_fail`.
        #[schema(inline)]
        status: Status,
        #[schema(nullable = false)]
        orcpt: Option<String>,
        retry_num: u32,
        #[schema(nullable = false)]
        next_retry: Option<String>,
        #[schema(nullable = false)]
        next_notify: Option<String>,
        #[schema(nullable = false)]
        expires: Option<String>,
    }

    #[derive(ToSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    #[serde(untagged)]
    enum Status {
        Word(String),
        Ended(std::collections::BTreeMap<String, String>),
    }

    /// A page of messages.
    #[derive(ToSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    pub(in super::super::super) struct MessageList {
        /// Numbers, or with `values` messages.
        items: Vec<Item>,
        total: u64,
        #[schema(nullable = false)]
        more: Option<bool>,
        #[schema(nullable = false)]
        next: Option<String>,
        /// Whether deliveries run.
        status: bool,
    }

    #[derive(ToSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    #[serde(untagged)]
    enum Item {
        Id(u64),
        Message(Box<Message>),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_text_leads_back() {
        assert_eq!(blob_id(&blob_name(7301)), Some(7301));
        for none in ["", "x", "Yk0", "bTc3eA"] {
            assert_eq!(blob_id(none), None, "{none}");
        }
    }

    #[test]
    fn a_filter_has_keys_or_is_a_text() {
        let read = |filter: &str| {
            let mut which = Selection::default();
            let query = Query::default();
            for part in filter.split(',') {
                which.narrow(&query, part).unwrap();
            }
            which
        };
        assert_eq!(read("jane").text.as_deref(), Some("jane"));
        let which = read("status:failed,domain:a.test,message_id:x@y,account:info");
        assert_eq!(which.stage, Some(Stage::Failed));
        assert_eq!(which.filter.to.as_deref(), Some("@a.test"));
        assert_eq!(which.filter.message_id.as_deref(), Some("<x@y>"));
        assert_eq!(which.filter.account.as_deref(), Some("info"));
        assert_eq!(read("nothing:x"), Selection::default());
        let strict = Query::default().strict();
        assert!(Selection::default().narrow(&strict, "nothing:x").is_err());
        assert!(Selection::default().narrow(&strict, "status:x").is_err());
    }
}
