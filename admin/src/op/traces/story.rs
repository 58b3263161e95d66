//! The story of a message: all traces that have its queue id, by time.

use std::{collections::BTreeSet, net::IpAddr};

use postrider_observe::trace::{Event, EventType, Key, Kind, Look, Query, Record, Term, Traces};
use postrider_store::Time;
use serde::{Deserialize, Serialize};

use super::{Budget, Sight, Single, TIME, item::word, reading};
use crate::{AdminError, Context, op::traces::TraceItem};

/// The most stories of an answer, and the most traces of a story.
const STORIES_MAX: usize = 20;
const TRACES_MAX: usize = 200;
/// How many traces are looked through for the messages that they are about.
const LOOK_MAX: usize = 500;

/// Tells the stories of the messages that a text leads to: the id of a queued message, a number of
/// a trace or of a webhook call, the name of a session, the address of a sender or a recipient, a
/// Message-ID, or the IP address of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Story {
    /// The text.
    pub of: String,
    /// Traces that started at this time or later.
    #[serde(default)]
    pub since: Option<Time>,
    /// What the caller may see; None: everything.
    #[serde(default)]
    pub sight: Option<Sight>,
}

/// The stories that were found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stories {
    /// The stories, the newest last.
    pub stories: Vec<StoryItem>,
    /// There are more, older ones, or traces of these.
    pub more: bool,
    /// How far back traces go, in RFC 3339; None: there are none.
    pub earliest: Option<String>,
}

/// The story of a message. A trace that is about no queued message is a story of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoryItem {
    /// The id of the queued message; None: the trace is about none.
    pub queue_id: Option<u64>,
    /// What it is about and how it ended, in words.
    pub title: String,
    /// The traces, oldest first.
    pub traces: Vec<TraceItem>,
}

impl Single for Story {
    type Output = Stories;

    async fn answer(self, context: &Context) -> Result<Stories, AdminError> {
        if self.of.trim().is_empty() {
            return Err(AdminError::invalid("this leads to no message").at("of"));
        }
        reading(context, move |traces| self.tell(traces)).await
    }
}

impl Story {
    fn tell(&self, traces: &Traces) -> Result<Stories, AdminError> {
        let look = traces.look()?;
        // The stories of what is found take the other half of the time.
        let (looking, telling) = (Budget::of(TIME / 2), Budget::of(TIME));
        let mut found = Vec::new();
        let mut more = self.search(&look, self.terms(), LOOK_MAX, &looking, &mut |record| {
            let record = self.part(record);
            let ids = self.messages(&record);
            let alone = ids.is_empty().then(|| {
                looking.take(&record);
                StoryItem::of(None, std::slice::from_ref(&record))
            });
            found.push((record.started, ids, alone));
        })?;
        let mut told = BTreeSet::new();
        let mut stories: Vec<(i64, StoryItem)> = Vec::new();
        for (started, ids, alone) in found {
            for id in ids {
                if !told.insert(id) {
                    continue;
                }
                if stories.len() >= STORIES_MAX || telling.is_over() {
                    more = true;
                    break;
                }
                let mut of = Vec::new();
                more |= self.search(
                    &look,
                    vec![Term::Queue(id)],
                    TRACES_MAX,
                    &telling,
                    &mut |record| {
                        telling.take(&record);
                        of.push(self.part(record));
                    },
                )?;
                of.sort_by_key(|record| (record.started, record.span));
                let start = of.first().map_or(started, |first| first.started);
                stories.push((start, StoryItem::of(Some(id), &of)));
            }
            match alone {
                Some(alone) if stories.len() < STORIES_MAX => stories.push((started, alone)),
                Some(_) => more = true,
                None => {}
            }
        }
        stories.sort_by_key(|(start, story)| (*start, story.queue_id));
        let earliest = look.earliest();
        Ok(Stories {
            stories: stories.into_iter().map(|(_, story)| story).collect(),
            more,
            earliest: earliest.map(|micros| Time(micros).to_string()),
        })
    }

    /// Searches, newest first. Gives whether there may be more.
    fn search(
        &self,
        look: &Look,
        terms: Vec<Term<'_>>,
        limit: usize,
        budget: &Budget,
        found: &mut dyn FnMut(Record),
    ) -> Result<bool, AdminError> {
        let query = Query {
            terms: vec![terms],
            after: self.since.map(|time| time.0),
            allows: Some(&|record| self.sees(record)),
            ..Query::any(limit)
        };
        let next = look.find(&query, &mut || budget.is_over(), found)?.next;
        Ok(next.is_some())
    }

    /// Whether the caller may see a trace.
    pub(super) fn sees(&self, record: &Record) -> bool {
        self.sight.as_ref().is_none_or(|sight| sight.has(record))
    }

    /// The part of a trace that the text is about: one transaction, if it names one.
    pub(super) fn part(&self, record: Record) -> Record {
        part(record, self.of.trim())
    }

    /// The messages of a trace that the text is about.
    pub(super) fn messages(&self, record: &Record) -> Vec<u64> {
        messages(record, &self.terms())
    }

    /// All that the text may mean.
    pub(super) fn terms(&self) -> Vec<Term<'_>> {
        let text = self.of.trim();
        if text.starts_with('<') {
            return vec![Term::MessageId(text)];
        }
        if text.contains('@') {
            let (sender, recipient) = (Term::Sender(text), Term::Recipient(text));
            return vec![sender, recipient, Term::MessageId(text)];
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return vec![Term::RemoteIp(address)];
        }
        let mut terms = vec![Term::Session(text)];
        if let Ok(number) = text.parse() {
            terms.extend([Term::Queue(number), Term::Span(number), Term::Hook(number)]);
        }
        terms
    }
}

/// The part of a trace that is about a transaction, if the text is the name of one in it.
pub(super) fn part(record: Record, name: &str) -> Record {
    match name.contains('.') && record.has(Term::Session(name)) {
        true => record.transaction(name),
        false => record,
    }
}

/// The messages of a trace that the terms are about. A trace of one call with many recipients has
/// many messages: those of other recipients, and other messages than a number names, are left out.
fn messages(record: &Record, terms: &[Term<'_>]) -> Vec<u64> {
    for term in terms {
        match term {
            Term::Queue(id) if record.queues.contains(id) => return vec![*id],
            Term::Recipient(address) => {
                let to: Vec<u64> = record
                    .events()
                    .filter_map(|it| is_for(&it, address))
                    .collect();
                if !to.is_empty() {
                    return to;
                }
            }
            _ => {}
        }
    }
    record.queues.clone()
}

/// The message that an event is about, if it is for this recipient alone.
fn is_for(event: &Event, address: &str) -> Option<u64> {
    let to = event.text(Key::To)?;
    let is_same = to.to_lowercase() == address.to_lowercase();
    event.number(Key::QueueId).filter(|_| is_same)
}

impl StoryItem {
    fn of(queue_id: Option<u64>, records: &[Record]) -> Self {
        Self {
            queue_id,
            title: title(queue_id, records),
            traces: records.iter().map(TraceItem::whole).collect(),
        }
    }
}

/// An address that a story is about. Events of the message itself know it best: a session may have
/// several senders and recipients.
#[derive(Default)]
struct Named {
    exact: Option<String>,
    any: Option<String>,
}

impl Named {
    fn learn(&mut self, event: &Event, key: Key, is_exact: bool) {
        let Some(text) = event.text(key) else { return };
        let place = match is_exact {
            true => &mut self.exact,
            false => &mut self.any,
        };
        place.get_or_insert_with(|| text.to_owned());
    }

    fn best(self) -> Option<String> {
        self.exact.or(self.any)
    }
}

/// What a story is about and how it ended.
fn title(queue_id: Option<u64>, records: &[Record]) -> String {
    let (mut sender, mut recipient) = (Named::default(), Named::default());
    let mut account = None;
    let (mut end, mut attempts) = ("queued", 0_u64);
    for record in records {
        account = account.or_else(|| record.owners.first().cloned());
        for event in record.events() {
            let id = event.number(Key::QueueId);
            if event.event == EventType::DeliveryAttemptStart {
                // It has the numbers of the first message of the transaction.
                let number = event.number(Key::Attempt).filter(|_| id == queue_id);
                attempts = number.unwrap_or(attempts + 1);
            }
            if id.is_some() && id != queue_id {
                continue;
            }
            sender.learn(&event, Key::From, id.is_some());
            recipient.learn(&event, Key::To, id.is_some());
            // The address is suppressed because the message failed.
            let follows = event.event == EventType::PostriderSuppressed && end == "failed";
            end = ended(event.event).filter(|_| !follows).unwrap_or(end);
        }
    }
    let mut title = match (queue_id, records.first()) {
        (Some(id), _) => format!("message {id}"),
        (None, Some(record)) if !record.session.is_empty() => {
            format!("{} {}", word(record.kind), record.session)
        }
        (None, Some(record)) => format!("{} {}", word(record.kind), record.span),
        (None, None) => return String::new(),
    };
    if let Some(account) = account {
        title.push_str(&format!(" of account {account}"));
    }
    if let Some(sender) = sender.best() {
        title.push_str(&format!(", from {}", or_null(&sender)));
    }
    if let Some(recipient) = recipient.best() {
        title.push_str(&format!(", to {recipient}"));
    }
    if queue_id.is_some() {
        title.push_str(&format!(": {end}"));
        let has_attempts = records.iter().any(|record| record.kind == Kind::Attempt);
        if has_attempts && attempts > 0 {
            title.push_str(&format!(" at attempt {attempts}"));
        }
    }
    title
}

const fn or_null(address: &str) -> &str {
    if address.is_empty() { "<>" } else { address }
}

/// How a message stands after an event. None: the event changes nothing of that.
const fn ended(event: EventType) -> Option<&'static str> {
    match event {
        EventType::DeliveryDelivered => Some("delivered"),
        EventType::DeliveryFailed => Some("failed"),
        EventType::QueueRescheduled => Some("deferred"),
        EventType::MessageIngestHam => Some("kept"),
        EventType::MessageIngestSpam => Some("kept as junk"),
        EventType::PostriderSuppressed => Some("suppressed"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use postrider_observe::{
        Keep, Trace, Tracer,
        trace::{HandedOver, TracerSettings},
    };

    use super::{super::tests::recorder, *};

    fn ended_trace(
        (tracer, handed_over): &(Tracer, HandedOver),
        kind: Kind,
        fill: impl FnOnce(&mut Trace),
    ) -> Record {
        let mut trace = tracer.start(kind, 0);
        fill(&mut trace);
        tracer.finish(trace, Keep::Always);
        handed_over.take().remove(0)
    }

    /// A call that queued two messages.
    fn call(of: &(Tracer, HandedOver)) -> Record {
        ended_trace(of, Kind::Api, |trace| {
            trace.index(Term::Account("app"));
            trace.event(1, EventType::PostriderApiStart, |data| {
                data.text(Key::Type, "Send");
                data.text(Key::From, "app@sender.test");
            });
            for (id, to) in [(1, "a@b.test"), (2, "C@d.test")] {
                trace.index(Term::Queue(id));
                trace.index(Term::Recipient(to));
                trace.event(2, EventType::QueueQueueMessage, |data| {
                    data.number(Key::QueueId, id);
                    data.text(Key::To, to);
                });
            }
        })
    }

    #[test]
    fn a_text_leads_to_all_that_it_may_mean() {
        for (text, expected) in [
            ("<i@b.test>", vec![Term::MessageId("<i@b.test>")]),
            (
                " a@b.test ",
                vec![
                    Term::Sender("a@b.test"),
                    Term::Recipient("a@b.test"),
                    Term::MessageId("a@b.test"),
                ],
            ),
            (
                "7301",
                vec![
                    Term::Session("7301"),
                    Term::Queue(7301),
                    Term::Span(7301),
                    Term::Hook(7301),
                ],
            ),
            ("7h3kq0v9x2mc.1", vec![Term::Session("7h3kq0v9x2mc.1")]),
            ("::1", vec![Term::RemoteIp("::1".parse().unwrap())]),
        ] {
            let story = Story {
                of: text.to_owned(),
                ..Story::default()
            };
            assert_eq!(story.terms(), expected);
        }
    }

    #[test]
    fn only_the_messages_that_were_asked_for_are_told() {
        let of = Tracer::new(TracerSettings::default());
        let record = call(&of);
        for (term, expected) in [
            (Term::Recipient("c@d.test"), vec![2]),
            (Term::Sender("app@sender.test"), vec![1, 2]),
            (Term::Queue(1), vec![1]),
            (Term::Queue(3), vec![1, 2]),
        ] {
            assert_eq!(messages(&record, &[term]), expected, "{term:?}");
        }
    }

    #[test]
    fn one_transaction_of_a_session_is_told_alone() {
        use EventType as Type;
        let dir = tempfile::tempdir().unwrap();
        let recorder = recorder(dir.path());
        let mut trace = recorder.tracer().start(Kind::Session, 1_000_000);
        for (event, name, id) in [
            (Type::SmtpConnectionStart, Some("7h3kq0v9x2mc"), None),
            (Type::SmtpMailFrom, Some("7h3kq0v9x2mc.1"), None),
            (Type::QueueQueueMessage, None, Some(7)),
            (Type::SmtpMailFrom, Some("7h3kq0v9x2mc.2"), None),
            (Type::SmtpMailboxDoesNotExist, None, None),
            (Type::SmtpMailFrom, Some("7h3kq0v9x2mc.3"), None),
            (Type::QueueQueueMessage, None, Some(8)),
        ] {
            name.into_iter()
                .for_each(|name| trace.index(Term::Session(name)));
            id.into_iter().for_each(|id| trace.index(Term::Queue(id)));
            trace.event(1_000_000, event, |data| {
                name.into_iter()
                    .for_each(|name| data.text(Key::Session, name));
                id.into_iter().for_each(|id| data.number(Key::QueueId, id));
            });
        }
        recorder.tracer().finish(trace, Keep::Always);
        let mut attempt = recorder.tracer().start(Kind::Attempt, 2_000_000);
        attempt.index(Term::Queue(8));
        attempt.event(2_000_000, Type::DeliveryDelivered, |data| {
            data.number(Key::QueueId, 8);
        });
        recorder.tracer().finish(attempt, Keep::Always);
        let (begin, mail) = ("smtp.connection-start", "smtp.mail-from");
        let queued = "queue.queue-message";
        let unknown = "smtp.mailbox-does-not-exist";
        let whole = [begin, mail, queued, mail, unknown, mail, queued];
        for (of, expected) in [
            (
                "7h3kq0v9x2mc.1",
                vec![("message 7: queued", vec![vec![begin, mail, queued]])],
            ),
            (
                "7H3KQ0V9X2MC.2",
                vec![("session 7h3kq0v9x2mc.2", vec![vec![begin, mail, unknown]])],
            ),
            (
                "7h3kq0v9x2mc.3",
                vec![(
                    "message 8: delivered",
                    vec![vec![begin, mail, queued], vec!["delivery.delivered"]],
                )],
            ),
            (
                "7h3kq0v9x2mc",
                vec![
                    ("message 7: queued", vec![whole.to_vec()]),
                    (
                        "message 8: delivered",
                        vec![whole.to_vec(), vec!["delivery.delivered"]],
                    ),
                ],
            ),
            ("7h3kq0v9x2mc.4", vec![]),
        ] {
            let story = Story {
                of: of.to_owned(),
                ..Story::default()
            };
            let told = story.tell(recorder.traces()).unwrap().stories;
            let told: Vec<_> = told
                .iter()
                .map(|story| {
                    let types = |item: &TraceItem| -> Vec<_> {
                        item.events.iter().map(|it| it.kind.clone()).collect()
                    };
                    (
                        story.title.as_str(),
                        story.traces.iter().map(types).collect::<Vec<_>>(),
                    )
                })
                .collect();
            let expected: Vec<_> = expected
                .into_iter()
                .map(|(title, traces)| {
                    let traces = traces.into_iter();
                    let traces = traces.map(|it| it.into_iter().map(str::to_owned).collect());
                    (title, traces.collect::<Vec<Vec<String>>>())
                })
                .collect();
            assert_eq!(told, expected, "{of}");
        }
        // So does a list.
        let find = super::super::Find {
            session: Some("7h3kq0v9x2mc.2".to_owned()),
            ..Default::default()
        };
        let found = find.search(recorder.traces()).unwrap().traces;
        assert_eq!((found.len(), found[0].events.len()), (1, 3));
        assert!(found[0].queue_ids.is_empty());
    }

    #[test]
    fn a_story_that_is_not_told_to_its_beginning_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let recorder = recorder(dir.path());
        for (id, count) in [(1, TRACES_MAX), (2, TRACES_MAX + 1)] {
            for _ in 0..count {
                let mut trace = recorder.tracer().start(Kind::Attempt, 1_000_000);
                trace.index(Term::Queue(id));
                trace.event(1_000_000, EventType::DeliveryFailed, |_| {});
                recorder.tracer().finish(trace, Keep::Always);
            }
        }
        for (of, more) in [("1", false), ("2", true)] {
            let story = Story {
                of: of.to_owned(),
                ..Story::default()
            };
            let told = story.tell(recorder.traces()).unwrap();
            let [story] = told.stories.as_slice() else {
                panic!("{of}: {told:?}");
            };
            assert_eq!((story.traces.len(), told.more), (TRACES_MAX, more), "{of}");
        }
    }

    #[test]
    fn a_title_says_what_it_is_and_how_it_ended() {
        let of = Tracer::new(TracerSettings::default());
        let mut records = vec![call(&of)];
        let told = |records: &[Record]| title(Some(2), records);
        let begin = "message 2 of account app, from app@sender.test, to C@d.test";
        assert_eq!(told(&records), format!("{begin}: queued"));
        for (attempt, end, expected) in [
            (1, EventType::QueueRescheduled, "deferred at attempt 1"),
            (2, EventType::DeliveryFailed, "failed at attempt 2"),
        ] {
            let record = ended_trace(&of, Kind::Attempt, |trace| {
                trace.event(5, EventType::DeliveryAttemptStart, |data| {
                    data.number(Key::Attempt, attempt);
                });
                // Another message of the same transaction.
                trace.event(6, EventType::DeliveryDelivered, |data| {
                    data.number(Key::QueueId, 9);
                });
                trace.event(6, end, |data| data.number(Key::QueueId, 2));
                if end == EventType::DeliveryFailed {
                    let suppressed = EventType::PostriderSuppressed;
                    trace.event(6, suppressed, |data| data.number(Key::QueueId, 2));
                }
                trace.event(7, EventType::DeliveryDelivered, |data| {
                    data.number(Key::QueueId, 9);
                });
            });
            records.push(record);
            assert_eq!(told(&records), format!("{begin}: {expected}"));
        }
        let alone = ended_trace(&of, Kind::Session, |trace| {
            trace.index(Term::Session("7h3kq0v9x2mc"));
            trace.event(1, EventType::SmtpMailFrom, |data| data.text(Key::From, ""));
        });
        assert_eq!(title(None, &[alone]), "session 7h3kq0v9x2mc, from <>");
    }
}
