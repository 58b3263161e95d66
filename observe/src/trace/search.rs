//! What is searched in the traces, and what is found.

use std::{fmt, io, str::FromStr};

use super::{
    Event, Kind, Record, Term, Value,
    index::{Bounds, Lookup},
};

/// What is searched. All conditions have to hold.
pub struct Query<'a> {
    /// Each of them has to hold, by at least one of its terms.
    pub terms: Vec<Vec<Term<'a>>>,
    /// What the trace is about. None: anything.
    pub kind: Option<Kind>,
    /// The trace started at this moment or later, in microseconds since 1970.
    pub after: Option<i64>,
    /// The trace started before this moment, in microseconds since 1970.
    pub before: Option<i64>,
    /// Where the search goes on. None: at the newest trace.
    pub cursor: Option<Cursor>,
    /// So many traces that match are left out before the page.
    pub skip: u64,
    /// The most traces of a page.
    pub limit: usize,
    /// All traces that match are counted, up to one more than this. 0: none but those of the page.
    pub count: u64,
    /// Only the kinds and numbers of the traces are wanted. No more is read of those that the index
    /// finds.
    pub only_numbers: bool,
    /// Any other condition, such as what the caller may see.
    pub allows: Option<&'a dyn Fn(&Record) -> bool>,
}

impl Query<'_> {
    /// A search for any traces, at most so many.
    #[must_use]
    pub fn any(limit: usize) -> Self {
        Self {
            terms: Vec::new(),
            kind: None,
            after: None,
            before: None,
            cursor: None,
            skip: 0,
            limit,
            count: 0,
            only_numbers: false,
            allows: None,
        }
    }

    /// Whether a trace is what is searched.
    pub(super) fn matches(&self, record: &Record) -> bool {
        let mut terms = self.terms.iter();
        terms.all(|terms| terms.iter().any(|term| record.has(*term)))
            && self.kind.is_none_or(|kind| record.kind == kind)
            && self.after.is_none_or(|after| record.started >= after)
            && self.before.is_none_or(|before| record.started < before)
            && self.allows.is_none_or(|allows| allows(record))
    }

    /// Whether all traces of a segment that have the terms match, so that none of them needs to be
    /// read for that.
    pub(super) fn is_by_index(&self, bounds: &Bounds) -> bool {
        self.kind.is_none()
            && self.allows.is_none()
            && self.after.is_none_or(|after| bounds.earliest >= after)
            && self.before.is_none_or(|before| bounds.latest < before)
    }

    /// The numbers and places of the traces that have the terms by an index, in order.
    pub(super) fn candidates(&self, index: &impl Lookup) -> io::Result<Vec<(u32, u64)>> {
        let mut numbers: Option<Vec<u32>> = None;
        for terms in &self.terms {
            let mut found = Vec::new();
            let mut hashes: Vec<u64> = terms.iter().map(|term| term.hash()).collect();
            hashes.sort_unstable();
            index.find(&hashes, &mut found)?;
            found.sort_unstable();
            found.dedup();
            if let Some(before) = numbers {
                found.retain(|number| before.binary_search(number).is_ok());
            }
            numbers = Some(found);
        }
        index.places(numbers.unwrap_or_else(|| (0..index.count()).collect()))
    }
}

impl fmt::Debug for Query<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Query")
            .field("terms", &self.terms)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// Where a search goes on: the traces before this place match next. It stays right when newer
/// traces come, and when old ones go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    pub(super) segment: u32,
    pub(super) record: u32,
}

impl Cursor {
    /// The cursor for which the newest trace of this segment is the next one.
    pub(super) const fn before_segment(segment: u32) -> Self {
        Self {
            segment,
            record: u32::MAX,
        }
    }

    /// The cursor for which this trace is the next one.
    pub(super) const fn behind(self) -> Self {
        Self {
            segment: self.segment,
            record: self.record.saturating_add(1),
        }
    }
}

/// As clients get it and send it back.
impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.segment, self.record)
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (segment, record) = text.split_once('-').ok_or(())?;
        let number = |text| u32::from_str_radix(text, 16).map_err(|_| ());
        Ok(Self {
            segment: number(segment)?,
            record: number(record)?,
        })
    }
}

/// What a search found.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The traces, newest end first.
    pub records: Vec<Record>,
    /// Where the search goes on. None: it came to the end.
    pub next: Option<Cursor>,
}

/// How far a search came.
#[derive(Clone, Copy, Debug)]
pub struct Reached {
    /// Where it goes on. None: it came to the end.
    pub next: Option<Cursor>,
    /// How many traces match in all, before and behind the page too, as far as they were counted.
    pub total: u64,
    /// All were counted.
    pub is_total: bool,
}

impl Default for Reached {
    fn default() -> Self {
        Self {
            next: None,
            total: 0,
            is_total: true,
        }
    }
}

impl Reached {
    /// The search ends early. It goes on here, unless the page was full before.
    pub(super) const fn cut(self, here: Cursor) -> Self {
        Self {
            next: match self.next {
                None => Some(here),
                next => next,
            },
            total: self.total,
            is_total: false,
        }
    }
}

/// Words that a trace has to have, anywhere in its values. Words in quotes belong together. Letters
/// are compared without their case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words(Vec<String>);

impl Words {
    /// The words of a text that somebody typed.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut words = Vec::new();
        // The parts at odd places were between quotes.
        for (at, part) in text.split('"').enumerate() {
            match at % 2 {
                0 => words.extend(part.split_whitespace().map(str::to_lowercase)),
                _ => words.extend(Some(part.trim().to_lowercase()).filter(|it| !it.is_empty())),
            }
        }
        Self(words)
    }

    /// Whether all words are in a trace. If there are none, they are.
    #[must_use]
    pub fn are_in(&self, record: &Record) -> bool {
        let mut missing = self.missing();
        self.strike_trace(&mut missing, record);
        for event in record.events() {
            if missing.is_empty() {
                return true;
            }
            self.strike_event(&mut missing, &event);
        }
        missing.is_empty()
    }

    /// All words, of a trace of which nothing was looked at yet.
    #[must_use]
    pub fn missing(&self) -> Missing {
        Missing((0..self.0.len()).collect())
    }

    /// Strikes out the words that are in a trace beside its events.
    pub fn strike_trace(&self, missing: &mut Missing, record: &Record) {
        if missing.is_empty() {
            return;
        }
        self.strike(missing, &record.session);
        for id in &record.queues {
            self.strike(missing, &id.to_string());
        }
        self.strike(missing, &record.span.to_string());
    }

    /// Strikes out the words that are in an event.
    pub fn strike_event(&self, missing: &mut Missing, event: &Event) {
        self.strike(missing, event.event.name());
        for (_, value) in &event.values {
            self.strike_value(missing, value);
        }
    }

    fn strike_value(&self, missing: &mut Missing, value: &Value) {
        match value {
            Value::Text(text) => self.strike(missing, text),
            Value::Number(number) => self.strike(missing, &number.to_string()),
            Value::List(list) => {
                let values = list.iter();
                values.for_each(|value| self.strike_value(missing, value));
            }
            Value::Bool(_) | Value::Time(_) => {}
        }
    }

    fn strike(&self, missing: &mut Missing, text: &str) {
        if !missing.is_empty() && !text.is_empty() {
            let text = text.to_lowercase();
            let is_missing = |at: &usize| self.0.get(*at).is_some_and(|word| !text.contains(word));
            missing.0.retain(is_missing);
        }
    }
}

/// The words that were not found in a trace so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing(Vec<usize>);

impl Missing {
    /// Whether all words were found.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{EventType, Key, Trace, Tracer, TracerSettings};

    fn record(fill: impl FnOnce(&mut Trace)) -> Record {
        let (tracer, handed_over) = Tracer::new(TracerSettings::default());
        let mut trace = tracer.start(Kind::Session, 5);
        fill(&mut trace);
        tracer.finish(trace, crate::trace::Keep::Always);
        handed_over.take().remove(0)
    }

    #[test]
    fn words_are_parsed_as_people_type_them() {
        for (text, words) in [
            ("", &[][..]),
            (" \t ", &[]),
            ("One two", &["one", "two"]),
            ("a \"b  C\" d", &["a", "b  c", "d"]),
            ("\"\" x", &["x"]),
            ("x \"to the end", &["x", "to the end"]),
        ] {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(Words::parse(text), Words(words), "{text}");
        }
    }

    #[test]
    fn all_words_have_to_be_somewhere() {
        let record = record(|trace| {
            trace.index(Term::Session("7h3kq0v9x2mc.1"));
            trace.index(Term::Queue(7301));
            trace.event(6, EventType::SmtpRcptTo, |data| {
                data.texts(Key::To, ["Gone@Remote.test"]);
                data.number(Key::Code, 550);
                data.text(Key::Details, "not this client");
            });
        });
        for (text, is_found) in [
            ("", true),
            ("gone@remote.test", true),
            ("GONE 550", true),
            ("smtp.rcpt-to", true),
            ("\"this client\"", true),
            ("client this", true),
            ("\"client this\"", false),
            ("7h3kq0v9x2mc", true),
            ("7301 gone", true),
            ("7302", false),
            ("gone 551", false),
        ] {
            assert_eq!(Words::parse(text).are_in(&record), is_found, "{text}");
        }
    }

    #[test]
    fn cursors_lead_back() {
        let cursor = Cursor {
            segment: 0xab,
            record: 17,
        };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for text in ["", "-", "1", "1-", "x-1", "1-1-1", "100000000-1"] {
            assert_eq!(text.parse::<Cursor>(), Err(()), "{text}");
        }
    }
}
