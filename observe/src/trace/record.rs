//! A trace that ended, as it is kept.
//!
//! Its bytes: kind (u8), flags (u8), span (u64), start and end (i64), name of the session, owners,
//! domains, ids of queued messages, terms, events. A text has its length (u8) before it, a list
//! its count (u16).

use super::{
    Kind, Term,
    reading::{Events, Reader},
};

const HAS_MORE_DOMAINS: u8 = 1;

/// A trace that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is about.
    pub kind: Kind,
    /// Its number. Later traces have larger ones.
    pub span: u64,
    /// When it started, in microseconds since 1970.
    pub started: i64,
    /// When its last event was, in microseconds since 1970.
    pub ended: i64,
    /// The name of the session or the call, with the number of the first transaction; empty if none
    /// was given.
    pub session: String,
    /// The accounts that it belongs to.
    pub owners: Vec<String>,
    /// The domains of its recipients, in lower case.
    pub domains: Vec<String>,
    /// Whether there were more domains than are noted.
    pub has_more_domains: bool,
    /// The ids of the queued messages that it is about, in order.
    pub queues: Vec<u64>,
    /// The hashes of what it can be found by, in order.
    pub(super) terms: Vec<u64>,
    /// The bytes of its events.
    pub(super) events: Vec<u8>,
}

impl Record {
    pub(super) const fn new(kind: Kind, span: u64, started: i64) -> Self {
        Self {
            kind,
            span,
            started,
            ended: started,
            session: String::new(),
            owners: Vec::new(),
            domains: Vec::new(),
            has_more_domains: false,
            queues: Vec::new(),
            terms: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Its events, oldest first.
    #[must_use]
    pub const fn events(&self) -> Events<'_> {
        Events::new(self.events.as_slice())
    }

    /// Whether it can be found by a term. Two terms may be taken for each other, but hardly ever
    /// are.
    #[must_use]
    pub fn has(&self, term: Term<'_>) -> bool {
        self.terms.binary_search(&term.hash()).is_ok()
    }

    /// How much memory it takes, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        let texts = self.owners.iter().chain(&self.domains);
        let texts: usize = texts.map(|text| text.len() + size_of::<String>()).sum();
        let numbers = (self.queues.capacity() + self.terms.capacity()) * size_of::<u64>();
        size_of::<Self>() + self.session.len() + texts + numbers + self.events.capacity()
    }

    /// Adds its bytes to `out`.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let flags = if self.has_more_domains {
            HAS_MORE_DOMAINS
        } else {
            0
        };
        out.extend_from_slice(&[self.kind as u8, flags]);
        out.extend_from_slice(&self.span.to_le_bytes());
        out.extend_from_slice(&self.started.to_le_bytes());
        out.extend_from_slice(&self.ended.to_le_bytes());
        write_text(out, &self.session);
        for texts in [&self.owners, &self.domains] {
            write_count(out, texts.len());
            texts.iter().for_each(|text| write_text(out, text));
        }
        for numbers in [&self.queues, &self.terms] {
            write_count(out, numbers.len());
            let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
            out.extend(bytes);
        }
        out.extend_from_slice(&self.events);
    }

    /// The kind and the number of the record that begins with these bytes. None: they are not a
    /// record.
    pub(super) fn read_number(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        let kind = Kind::from_number(from.u8()?)?;
        from.u8()?;
        Some(Self::new(kind, from.u64()?, 0))
    }

    /// The record with these bytes. None: they are not a record.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        let kind = Kind::from_number(from.u8()?)?;
        let flags = from.u8()?;
        let mut record = Self::new(kind, from.u64()?, from.i64()?);
        record.has_more_domains = flags & HAS_MORE_DOMAINS != 0;
        record.ended = from.i64()?;
        record.session = read_text(&mut from)?;
        for texts in [&mut record.owners, &mut record.domains] {
            for _ in 0..from.u16()? {
                texts.push(read_text(&mut from)?);
            }
        }
        for numbers in [&mut record.queues, &mut record.terms] {
            for _ in 0..from.u16()? {
                numbers.push(from.u64()?);
            }
        }
        record.events = from.0.to_vec();
        Some(record)
    }
}

fn write_count(out: &mut Vec<u8>, count: usize) {
    let count = u16::try_from(count).unwrap_or(u16::MAX);
    out.extend_from_slice(&count.to_le_bytes());
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    let text = text.get(..text.floor_char_boundary(255));
    let text = text.unwrap_or_default().as_bytes();
    out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(text);
}

fn read_text(from: &mut Reader<'_>) -> Option<String> {
    let length = from.u8()?;
    let bytes = from.take(usize::from(length))?;
    Some(String::from_utf8_lossy(bytes).into_owned())
}
