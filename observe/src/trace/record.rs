//! A trace that ended, as it is kept.

use super::{Kind, Term, reading::Events};

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
    pub(super) fn memory(&self) -> usize {
        let texts = self.owners.iter().chain(&self.domains);
        let texts: usize = texts.map(|text| text.len() + size_of::<String>()).sum();
        let numbers = (self.queues.len() + self.terms.len()) * size_of::<u64>();
        size_of::<Self>() + self.session.len() + texts + numbers + self.events.len()
    }
}
