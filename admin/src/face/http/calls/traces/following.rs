//! The traces that one listener wants, as they go on.

use std::{collections::BTreeMap, mem, sync::Arc};

use postrider_observe::{
    Kind,
    trace::{Event, Going, Key, Missing, Words},
};

use super::super::super::parameters::Query;
use crate::op::traces::{Sight, Wanted, key_of_parameter};

/// The most bytes of news about traces that did not match yet. They share their memory with those
/// of other listeners.
const WAITING_MAX: usize = 4 << 20;
/// The most traces that go on of which something is known.
const OPEN_MAX: usize = 16_384;

/// Which traces a listener wants.
#[derive(Debug)]
pub(super) struct Filter {
    words: Words,
    /// Values that events of the trace have to have, each in any event.
    values: Vec<(Key, Wanted)>,
}

impl Filter {
    pub(super) fn new(query: &Query) -> Self {
        let values = query.names().filter_map(|name| {
            let wanted = Wanted::new(query.text(name)?);
            Some((key_of_parameter(name)?, wanted))
        });
        Self {
            words: Words::parse(query.text("filter").unwrap_or_default()),
            values: values.collect(),
        }
    }
}

/// A trace that goes on.
struct Open {
    /// How many of its events were sent, or left out.
    sent: u64,
    /// How many of its events were heard of.
    seen: u64,
    /// What was heard and is not sent, with the number of events that were heard of before.
    waiting: Vec<(Arc<Going>, u64)>,
    /// The bytes of that.
    bytes: usize,
    /// Nothing was heard of it since news were lost.
    is_doubtful: bool,
    /// What of the filter was not found yet: words, and places among the values.
    missing: (Missing, Vec<usize>),
}

/// Follows the traces that match.
pub(super) struct Following {
    filter: Filter,
    /// What the caller may see; None: everything.
    sight: Option<Sight>,
    open: BTreeMap<u64, Open>,
    /// The bytes of what waits.
    waiting: usize,
    /// Traces that go on were forgotten, so what is not known may be one of them.
    has_forgotten: bool,
}

impl Following {
    pub(super) fn new(filter: Filter, sight: Option<Sight>) -> Self {
        Self {
            filter,
            sight,
            open: BTreeMap::new(),
            waiting: 0,
            has_forgotten: false,
        }
    }

    /// News were lost. All traces that go on come whole with their next event. Of those that were
    /// sent it is still known how far; those that are not heard of up to the next loss may have
    /// ended.
    pub(super) fn miss(&mut self) {
        self.open.retain(|_, open| {
            open.drop_waiting();
            open.sent > 0 && !mem::replace(&mut open.is_doubtful, true)
        });
        self.waiting = 0;
        self.has_forgotten = false;
    }

    /// Takes news of a trace. Gives what is to be sent: all its events since its start, once it
    /// matches.
    pub(super) fn hear(&mut self, going: &Arc<Going>) -> Vec<Event> {
        let (span, sight) = (going.record.span, self.sight.as_ref());
        let is_seen = sight.is_none_or(|it| it.has_going(&going.record, going.has_ended));
        if !is_seen && !sight.is_some_and(|it| it.may_come_to_have(&going.record)) {
            // What is seen of it after a login goes on from here.
            if let Some(open) = self.open.get_mut(&span) {
                self.waiting -= open.drop_waiting();
                open.sent = open.sent.max(going.total);
                open.seen = open.sent;
            }
            if going.has_ended || going.record.kind != Kind::Session {
                self.forget(span);
            }
            return Vec::new();
        }
        let events = self.hear_seen(going, is_seen);
        if going.has_ended {
            self.forget(span);
        }
        self.make_room();
        events
    }

    /// Takes news of a trace that the caller may see, or may come to see.
    fn hear_seen(&mut self, going: &Arc<Going>, is_seen: bool) -> Vec<Event> {
        let (span, filter) = (going.record.span, &self.filter);
        let is_known = self.open.contains_key(&span);
        // Its beginning comes with its next event.
        if !is_known && !going.is_whole() && !self.has_forgotten {
            return Vec::new();
        }
        let open = self.open.entry(span).or_insert_with(|| Open {
            sent: going.after,
            seen: going.after,
            waiting: Vec::new(),
            bytes: 0,
            is_doubtful: false,
            missing: (filter.words.missing(), (0..filter.values.len()).collect()),
        });
        open.is_doubtful = false;
        // News between were lost: all comes again with its next event.
        if going.after > open.seen && !going.has_ended {
            return Vec::new();
        }
        let mut before = open.seen;
        filter.look(going, before, &mut open.missing);
        open.seen = before.max(going.total);
        if going.is_whole() {
            self.waiting -= open.drop_waiting();
            before = open.sent;
        }
        open.waiting.push((Arc::clone(going), before));
        let bytes = going.memory();
        open.bytes += bytes;
        self.waiting += bytes;
        let mut events = Vec::new();
        if is_seen && open.missing.0.is_empty() && open.missing.1.is_empty() {
            let waiting = mem::take(&mut open.waiting);
            self.waiting -= open.drop_waiting();
            open.sent = open.seen;
            for (going, seen) in waiting {
                events.extend(going.news(seen));
            }
        }
        events
    }

    /// Forgets the oldest of what is too much. A trace whose beginning does not wait any more comes
    /// without it, unless it comes whole.
    fn make_room(&mut self) {
        if self.waiting > WAITING_MAX {
            for open in self.open.values_mut() {
                if self.waiting <= WAITING_MAX / 4 * 3 {
                    break;
                }
                self.waiting -= open.drop_waiting();
            }
        }
        while self.open.len() > OPEN_MAX
            && let Some((oldest, _)) = self.open.first_key_value()
        {
            let oldest = *oldest;
            self.forget(oldest);
            self.has_forgotten = true;
        }
    }

    fn forget(&mut self, span: u64) {
        if let Some(mut open) = self.open.remove(&span) {
            self.waiting -= open.drop_waiting();
        }
    }
}

impl Open {
    /// Gives the bytes of what waited.
    fn drop_waiting(&mut self) -> usize {
        self.waiting.clear();
        mem::take(&mut self.bytes)
    }
}

impl Filter {
    /// Strikes out what the new events have.
    fn look(&self, going: &Going, seen: u64, missing: &mut (Missing, Vec<usize>)) {
        let (words, values) = missing;
        if words.is_empty() && values.is_empty() {
            return;
        }
        self.words.strike_trace(words, &going.record);
        for event in going.news(seen) {
            self.words.strike_event(words, &event);
            values.retain(|at| {
                let wanted = self.values.get(*at);
                wanted.is_some_and(|(key, wanted)| !wanted.is_in(&event, *key))
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use postrider_observe::{EventType, Keep, Kind, Trace, Tracer, trace::Heard};

    use super::*;
    use crate::op::traces::tests::recorder;

    fn following(query: &str) -> Following {
        Following::new(Filter::new(&Query::new(query)), None)
    }

    /// What the tenant of ann@a.test follows.
    fn following_as_tenant() -> Following {
        let sight = Sight {
            accounts: ["ann".to_owned()].into(),
            domains: ["a.test".to_owned()].into(),
        };
        Following::new(Filter::new(&Query::new("")), Some(sight))
    }

    fn add(trace: &mut Trace, at: i64, key: Key, text: &str) {
        trace.event(at, EventType::SmtpRcptTo, |data| data.text(key, text));
    }

    /// What is sent to the listener now.
    async fn sent(
        following: &mut Following,
        listening: &mut postrider_observe::trace::Listening,
        news: usize,
    ) -> Vec<i64> {
        let mut all = Vec::new();
        for _ in 0..news {
            let Some(Heard::Going(going)) = listening.next().await else {
                panic!("news were lost");
            };
            all.extend(following.hear(&going).iter().map(|event| event.micros));
        }
        all
    }

    #[tokio::test]
    async fn once_all_of_a_filter_is_somewhere_all_of_the_trace_is_sent() {
        let dir = tempfile::tempdir().unwrap();
        let recorder = recorder(dir.path());
        for query in [
            "",
            "remote-ip=192.0.2.1&to=ann@a.test",
            "filter=192.0.2.1%20ann",
            "to=ann&filter=192.0",
        ] {
            let mut listening = recorder.traces().listen().unwrap();
            let mut following = following(query);
            let tracer: &Tracer = recorder.tracer();
            let mut other = tracer.start(Kind::Session, 0);
            let mut trace = tracer.start(Kind::Session, 0);
            add(&mut other, 10, Key::RemoteIp, "192.0.2.10");
            add(&mut other, 11, Key::To, "joann@a.test");
            add(&mut trace, 1, Key::RemoteIp, "192.0.2.1");
            let first = sent(&mut following, &mut listening, 3).await;
            add(&mut trace, 2, Key::To, "Ann@a.test");
            let second = sent(&mut following, &mut listening, 1).await;
            add(&mut trace, 3, Key::To, "bob@a.test");
            let third = sent(&mut following, &mut listening, 1).await;
            match query {
                "" => assert_eq!((first, second), (vec![10, 11, 1], vec![2])),
                // Words and parts of addresses are in both.
                "filter=192.0.2.1%20ann" | "to=ann&filter=192.0" => {
                    assert_eq!((first, second), (vec![10, 11], vec![1, 2]), "{query}");
                }
                _ => assert_eq!((first, second), (vec![], vec![1, 2]), "{query}"),
            }
            assert_eq!(third, [3], "and what follows: {query}");
            tracer.finish(trace, Keep::Always);
            tracer.finish(other, Keep::Always);
            assert!(sent(&mut following, &mut listening, 2).await.is_empty());
            assert!(following.open.is_empty() && following.waiting == 0);
        }
    }

    #[tokio::test]
    async fn a_tenant_hears_of_a_session_when_all_its_recipients_are_known() {
        let dir = tempfile::tempdir().unwrap();
        let recorder = recorder(dir.path());
        let tracer = recorder.tracer();
        let mut listening = recorder.traces().listen().unwrap();
        let mut following = following_as_tenant();
        let to = |trace: &mut Trace, to: &str| {
            trace.index(postrider_observe::Term::Recipient(to));
            add(trace, 1, Key::To, to);
        };
        let mut own = tracer.start(Kind::Session, 0);
        to(&mut own, "ann@a.test");
        let mut shared = tracer.start(Kind::Session, 0);
        to(&mut shared, "ann@a.test");
        to(&mut shared, "bob@b.test");
        assert!(sent(&mut following, &mut listening, 3).await.is_empty());
        tracer.finish(shared, Keep::Always);
        assert!(sent(&mut following, &mut listening, 1).await.is_empty());
        tracer.finish(own, Keep::Always);
        assert_eq!(sent(&mut following, &mut listening, 1).await, [1]);
        // After a login it is known whose session it is.
        let mut login = tracer.start(Kind::Session, 0);
        add(&mut login, 2, Key::Domain, "client");
        login.belongs_to("ann");
        add(&mut login, 3, Key::AccountName, "ann");
        assert_eq!(sent(&mut following, &mut listening, 2).await, [2, 3]);
    }

    #[tokio::test]
    async fn a_tenant_hears_nothing_of_what_is_of_others_too() {
        let dir = tempfile::tempdir().unwrap();
        let recorder = recorder(dir.path());
        let tracer = recorder.tracer();
        let mut listening = recorder.traces().listen().unwrap();
        let mut following = following_as_tenant();
        let mut both = tracer.preview(Kind::Attempt, 0).unwrap();
        both.belongs_to("ann");
        both.belongs_to("bob");
        add(&mut both, 1, Key::To, "bob@a.test");
        let mut shared = tracer.start(Kind::Session, 0);
        add(&mut shared, 1, Key::To, "ann@a.test");
        shared.index(postrider_observe::Term::Recipient("bob@b.test"));
        add(&mut shared, 2, Key::To, "bob@b.test");
        assert!(sent(&mut following, &mut listening, 3).await.is_empty());
        assert_eq!(following.waiting, 0, "what is not seen does not wait");
        // Even if another trace goes on with its number.
        let mut own = tracer.start_after(Kind::Attempt, 0, Some(both));
        own.belongs_to("ann");
        add(&mut own, 2, Key::To, "ann@a.test");
        tracer.finish(own, Keep::Always);
        assert!(sent(&mut following, &mut listening, 2).await.is_empty());
    }

    #[tokio::test]
    async fn after_a_loss_each_trace_is_sent_whole_and_each_event_once() {
        let dir = tempfile::tempdir().unwrap();
        let recorder = recorder(dir.path());
        let tracer = recorder.tracer();
        let mut listening = recorder.traces().listen().unwrap();
        let mut following = following("to=ann");
        let mut first = tracer.start(Kind::Session, 0);
        add(&mut first, 1, Key::To, "ann@a.test");
        assert_eq!(sent(&mut following, &mut listening, 1).await, [1]);
        let mut second = tracer.start(Kind::Session, 0);
        add(&mut first, 2, Key::From, "joe@a.test");
        add(&mut second, 3, Key::To, "ann@a.test");
        let mut other = tracer.start(Kind::Session, 0);
        for at in 0..1024 {
            add(&mut other, at, Key::To, "bob@a.test");
        }
        let Some(Heard::Lost(2)) = listening.next().await else {
            panic!("two were lost");
        };
        following.miss();
        assert!(sent(&mut following, &mut listening, 1024).await.is_empty());
        add(&mut second, 4, Key::From, "joe@a.test");
        add(&mut first, 5, Key::From, "joe@a.test");
        add(&mut first, 6, Key::From, "joe@a.test");
        let news = sent(&mut following, &mut listening, 3).await;
        assert_eq!(news, [3, 4, 2, 5, 6]);
    }

    #[tokio::test]
    async fn a_whole_message_takes_the_place_of_what_waits() {
        let dir = tempfile::tempdir().unwrap();
        let recorder = recorder(dir.path());
        let mut listening = recorder.traces().listen().unwrap();
        let mut following = following("to=ann");
        let mut trace = recorder.tracer().start(Kind::Session, 0);
        for at in 1..=10 {
            add(&mut trace, at, Key::To, "bob@a.test");
            assert!(sent(&mut following, &mut listening, 1).await.is_empty());
        }
        let _another = recorder.traces().listen().unwrap();
        add(&mut trace, 11, Key::To, "bob@a.test");
        assert!(sent(&mut following, &mut listening, 1).await.is_empty());
        let open = following.open.values().next().unwrap();
        assert_eq!((open.waiting.len(), open.bytes), (1, following.waiting));
        add(&mut trace, 12, Key::To, "ann@a.test");
        let all = sent(&mut following, &mut listening, 1).await;
        assert_eq!(all, (1..=12).collect::<Vec<_>>());
        assert_eq!(following.waiting, 0);
    }

    #[tokio::test]
    async fn what_does_not_match_takes_bounded_room() {
        let dir = tempfile::tempdir().unwrap();
        let recorder = recorder(dir.path());
        let mut listening = recorder.traces().listen().unwrap();
        let mut following = following("to=nobody");
        let mut open = Vec::new();
        let long = "x".repeat(1900);
        let count = 2 * WAITING_MAX / long.len();
        for _ in 0..count {
            let mut trace = recorder.tracer().start(Kind::Session, 0);
            add(&mut trace, 1, Key::To, &long);
            open.push(trace);
            assert!(sent(&mut following, &mut listening, 1).await.is_empty());
            assert!(following.waiting <= WAITING_MAX);
        }
        assert!(following.waiting > WAITING_MAX / 2);
        let bytes: usize = following.open.values().map(|open| open.bytes).sum();
        assert_eq!((following.waiting, following.open.len()), (bytes, count));
        // One whose beginning is not there any more goes on from here.
        let first = open.first_mut().unwrap();
        add(first, 2, Key::To, "nobody@a.test");
        assert_eq!(sent(&mut following, &mut listening, 1).await, [2]);
    }
}
