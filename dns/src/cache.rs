//! The cache: answers and negative answers by name and type, each for its TTL.
//!
//! It is a value without I/O. The time comes with each call.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use crate::{Answer, DnsError, Question, Record};

/// The shortest time that an answer with records is kept: mail to a domain comes in bursts.
const POSITIVE_MIN: Duration = Duration::from_secs(60);
/// The longest time that an answer with records is kept.
const POSITIVE_MAX: Duration = Duration::from_secs(60 * 60);
/// The longest time that a negative answer is kept: missing records are often repaired soon.
const NEGATIVE_MAX: Duration = Duration::from_secs(5 * 60);
/// The memory of an entry besides names and record data: two keys, the maps and the answer itself.
const ENTRY_SIZE: usize = 256;

/// A result of a question.
pub(crate) type Outcome = Result<Answer<Record>, DnsError>;

/// How much the cache may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLimits {
    /// Entries.
    pub entries: usize,
    /// Bytes, as an estimate.
    pub bytes: usize,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self {
            entries: 100_000,
            bytes: 32 << 20,
        }
    }
}

#[derive(Debug)]
struct Entry {
    outcome: Outcome,
    until: Duration,
    size: usize,
}

/// Answers, for as long as they hold.
#[derive(Debug)]
pub(crate) struct Cache {
    limits: CacheLimits,
    entries: HashMap<Question, Entry>,
    /// The entries by the time at which they end.
    ends: BTreeSet<(Duration, Question)>,
    bytes: usize,
}

/// The outcome with a TTL within the limits of the cache.
pub(crate) fn clamped(outcome: Outcome) -> Outcome {
    match outcome {
        Ok(answer) => Ok(Answer {
            ttl: answer.ttl.clamp(POSITIVE_MIN, POSITIVE_MAX),
            ..answer
        }),
        Err(error) => Err(match error.negative() {
            Some(negative) => error.with_ttl(negative.ttl.min(NEGATIVE_MAX)),
            None => error,
        }),
    }
}

impl Cache {
    pub(crate) fn new(limits: CacheLimits) -> Self {
        Self {
            limits,
            entries: HashMap::new(),
            ends: BTreeSet::new(),
            bytes: 0,
        }
    }

    /// The known outcome, with the rest of its TTL.
    pub(crate) fn get(&self, question: &Question, now: Duration) -> Option<Outcome> {
        let entry = self.entries.get(question)?;
        let left = entry
            .until
            .checked_sub(now)
            .filter(|left| !left.is_zero())?;
        Some(match &entry.outcome {
            Ok(answer) => Ok(Answer {
                ttl: left,
                ..answer.clone()
            }),
            Err(error) => Err(error.clone().with_ttl(left)),
        })
    }

    /// Keeps an outcome that was [`clamped`]. Failures, and answers with a TTL of zero, are not
    /// kept.
    ///
    /// If that is too much, the entries that end first go.
    pub(crate) fn put(&mut self, question: Question, outcome: Outcome, now: Duration) {
        self.remove(&question);
        while let Some(first) = self.ends.first().filter(|(end, _)| *end <= now) {
            let question = first.1.clone();
            self.remove(&question);
        }
        let ttl = match &outcome {
            Ok(answer) => answer.ttl,
            Err(error) => error
                .negative()
                .map_or(Duration::ZERO, |negative| negative.ttl),
        };
        if ttl.is_zero() {
            return;
        }
        let size = size(&question, &outcome);
        if size > self.limits.bytes || self.limits.entries == 0 {
            return;
        }
        while self.entries.len() >= self.limits.entries || self.bytes + size > self.limits.bytes {
            let Some((_, first)) = self.ends.first() else {
                break;
            };
            let first = first.clone();
            self.remove(&first);
        }
        let until = now.saturating_add(ttl);
        self.bytes += size;
        self.ends.insert((until, question.clone()));
        let entry = Entry {
            outcome,
            until,
            size,
        };
        self.entries.insert(question, entry);
    }

    fn remove(&mut self, question: &Question) {
        if let Some(entry) = self.entries.remove(question) {
            self.ends.remove(&(entry.until, question.clone()));
            self.bytes -= entry.size;
        }
    }
}

fn size(question: &Question, outcome: &Outcome) -> usize {
    let records = outcome.as_ref().map_or(0, |answer| {
        let heap: usize = answer.records.iter().map(Record::heap_size).sum();
        heap + answer.records.len() * size_of::<Record>()
    });
    ENTRY_SIZE + question.name().len() + records
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::{Negative, RecordType};

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn question(name: &str) -> Question {
        Question::new(name, RecordType::A)
    }

    fn answer(ttl: u64) -> Outcome {
        Ok(Answer {
            records: vec![Record::A(Ipv4Addr::LOCALHOST)],
            authentic: true,
            ttl: seconds(ttl),
        })
    }

    fn no_name(ttl: u64) -> Outcome {
        Err(DnsError::NoName(Negative {
            authentic: false,
            ttl: seconds(ttl),
        }))
    }

    #[test]
    fn ttls_are_clamped() {
        for (outcome, expected) in [
            (answer(0), answer(60)),
            (answer(300), answer(300)),
            (answer(86400), answer(3600)),
            (no_name(0), no_name(0)),
            (no_name(3600), no_name(300)),
        ] {
            assert_eq!(clamped(outcome), expected);
        }
    }

    #[test]
    fn answers_end_with_their_ttl() {
        let mut cache = Cache::new(CacheLimits::default());
        cache.put(question("a.test"), answer(60), seconds(100));
        cache.put(question("b.test"), no_name(10), seconds(100));
        assert_eq!(
            cache.get(&question("A.test."), seconds(120)),
            Some(answer(40))
        );
        assert_eq!(
            cache.get(&question("b.test"), seconds(109)),
            Some(no_name(1))
        );
        assert_eq!(cache.get(&question("b.test"), seconds(110)), None);
        assert_eq!(cache.get(&question("a.test"), seconds(160)), None);
        assert_eq!(
            cache.get(&Question::new("a.test", RecordType::Aaaa), seconds(120)),
            None
        );
        // Entries that ended go when the next entry comes.
        cache.put(question("c.test"), answer(60), seconds(160));
        assert_eq!((cache.entries.len(), cache.ends.len()), (1, 1));
    }

    #[test]
    fn failures_are_not_kept() {
        let mut cache = Cache::new(CacheLimits::default());
        let failed = Err(DnsError::Temporary("no server answers".into()));
        cache.put(question("a.test"), failed, seconds(0));
        cache.put(question("b.test"), no_name(0), seconds(0));
        assert_eq!(cache.entries.len(), 0);
    }

    #[test]
    fn entries_and_bytes_are_bounded() {
        let mut cache = Cache::new(CacheLimits {
            entries: 3,
            bytes: 10_000,
        });
        for (at, name) in ["a.test", "b.test", "c.test", "d.test"].iter().enumerate() {
            cache.put(question(name), answer(60 + at as u64), seconds(0));
        }
        assert_eq!(cache.get(&question("a.test"), seconds(1)), None);
        assert!(cache.get(&question("d.test"), seconds(1)).is_some());
        let text = |length| {
            Ok(Answer {
                records: vec![Record::Txt(vec![0; length])],
                authentic: false,
                ttl: seconds(60),
            })
        };
        cache.put(question("large.test"), text(9_000), seconds(1));
        assert!(cache.bytes <= 10_000 && cache.get(&question("large.test"), seconds(1)).is_some());
        cache.put(question("larger.test"), text(10_000), seconds(1));
        assert_eq!(cache.get(&question("larger.test"), seconds(1)), None);
        let size: usize = cache.entries.values().map(|entry| entry.size).sum();
        assert_eq!(cache.bytes, size);
    }
}
