//! The cache: answers and negative answers by name and type, each for its TTL.
//!
//! Strangers choose much of what comes in here, with its size and its TTL. So a large answer is not
//! kept, and the answers that nobody asked for lately go first. So do those whose time is over.
//!
//! It is a value without I/O. The time comes with each call.

use std::time::Duration;

use lru::LruCache;

use crate::{Alias, Answer, DnsError, Question, Record};

/// The shortest time that an answer is kept, with records or without: the checks of one message ask
/// some questions more than once, and may get answers with a TTL of zero.
const MIN: Duration = Duration::from_secs(5);
/// The longest time that an answer with records is kept.
const POSITIVE_MAX: Duration = Duration::from_secs(60 * 60);
/// The longest time that a negative answer is kept: missing records are often repaired soon.
const NEGATIVE_MAX: Duration = Duration::from_secs(5 * 60);
/// The largest size of an entry. A larger answer is not kept: a hundred of them, as many as one
/// message may ask for, would be a good part of the cache.
const ENTRY_MAX: usize = 8 << 10;
/// The memory of an entry besides names and record data: the question, the list of uses and the
/// answer itself.
const ENTRY_SIZE: usize = 192;

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
            entries: 65_536,
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
    /// By their last use.
    entries: LruCache<Question, Entry>,
    bytes: usize,
}

/// The outcome with a TTL within the limits of the cache.
pub(crate) fn clamped(outcome: Outcome) -> Outcome {
    match outcome {
        Ok(answer) => Ok(Answer {
            ttl: answer.ttl.clamp(MIN, POSITIVE_MAX),
            ..answer
        }),
        Err(error) => Err(match error.negative() {
            Some(negative) => error.with_ttl(negative.ttl.clamp(MIN, NEGATIVE_MAX)),
            None => error,
        }),
    }
}

impl Cache {
    pub(crate) fn new(limits: CacheLimits) -> Self {
        Self {
            limits,
            entries: LruCache::unbounded(),
            bytes: 0,
        }
    }

    /// The known outcome, with the rest of its TTL.
    pub(crate) fn get(&mut self, question: &Question, now: Duration) -> Option<Outcome> {
        let entry = self.entries.get(question)?;
        let left = entry.until.saturating_sub(now);
        if left.is_zero() {
            self.remove(question);
            return None;
        }
        Some(match &entry.outcome {
            Ok(answer) => Ok(Answer {
                ttl: left,
                ..answer.clone()
            }),
            Err(error) => Err(error.clone().with_ttl(left)),
        })
    }

    /// Keeps an outcome that was [`clamped`]. Failures and large answers are not kept.
    ///
    /// If that is too much, the entries go that were not used for the longest time.
    pub(crate) fn put(&mut self, question: Question, outcome: Outcome, now: Duration) {
        self.remove(&question);
        let ttl = match &outcome {
            Ok(answer) => answer.ttl,
            Err(error) => match error.negative() {
                Some(negative) => negative.ttl,
                None => return,
            },
        };
        let size = size(&question, &outcome);
        if size > self.limits.bytes.min(ENTRY_MAX) || self.limits.entries == 0 {
            return;
        }
        while self.entries.len() >= self.limits.entries || self.bytes + size > self.limits.bytes {
            let Some((_, oldest)) = self.entries.pop_lru() else {
                break;
            };
            self.bytes -= oldest.size;
        }
        let until = now.saturating_add(ttl);
        self.bytes += size;
        let entry = Entry {
            outcome,
            until,
            size,
        };
        self.entries.put(question, entry);
    }

    fn remove(&mut self, question: &Question) {
        if let Some(entry) = self.entries.pop(question) {
            self.bytes -= entry.size;
        }
    }
}

fn size(question: &Question, outcome: &Outcome) -> usize {
    let records = outcome.as_ref().map_or(0, |answer| {
        let heap: usize = answer.records.iter().map(Record::heap_size).sum();
        let aliases: usize = answer.aliases.iter().map(|alias| alias.target.len()).sum();
        let fixed = answer.records.len() * size_of::<Record>();
        heap + fixed + aliases + answer.aliases.len() * size_of::<Alias>()
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
            aliases: Vec::new(),
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
            (answer(0), answer(5)),
            (answer(30), answer(30)),
            (answer(300), answer(300)),
            (answer(86400), answer(3600)),
            (no_name(0), no_name(5)),
            (no_name(30), no_name(30)),
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
        // Those whose time was over when somebody asked are gone.
        assert_eq!((cache.entries.len(), cache.bytes), (0, 0));
    }

    #[test]
    fn failures_are_not_kept() {
        let mut cache = Cache::new(CacheLimits::default());
        let failed = Err(DnsError::Temporary("no server answers".into()));
        cache.put(question("a.test"), failed, seconds(0));
        assert_eq!(cache.entries.len(), 0);
    }

    fn text(length: usize, ttl: u64) -> Outcome {
        Ok(Answer {
            records: vec![Record::Txt(vec![0; length])],
            aliases: Vec::new(),
            authentic: false,
            ttl: seconds(ttl),
        })
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
        for name in ["large.test", "larger.test"] {
            cache.put(question(name), text(7_000, 60), seconds(1));
            assert!(cache.bytes <= 10_000 && cache.get(&question(name), seconds(1)).is_some());
        }
        assert_eq!(cache.get(&question("large.test"), seconds(1)), None);
        let size: usize = cache.entries.iter().map(|(_, entry)| entry.size).sum();
        assert_eq!(cache.bytes, size);
    }

    #[test]
    fn a_large_answer_is_not_kept_and_pushes_out_nothing() {
        let mut cache = Cache::new(CacheLimits::default());
        cache.put(question("a.test"), answer(5), seconds(0));
        let addresses = |number| {
            Ok(Answer {
                records: vec![Record::A(Ipv4Addr::LOCALHOST); number],
                aliases: Vec::new(),
                authentic: true,
                ttl: seconds(3600),
            })
        };
        for (outcome, is_kept) in [
            (text(8_000, 3600), false),
            (text(7_000, 3600), true),
            (addresses(4_000), false),
            (addresses(20), true),
        ] {
            cache.put(question("b.test"), outcome, seconds(0));
            let found = cache.get(&question("b.test"), seconds(1));
            assert_eq!(found.is_some(), is_kept);
        }
        assert!(cache.get(&question("a.test"), seconds(1)).is_some());
    }

    /// Many answers that hold for long do not push out one that is in use.
    #[test]
    fn the_answer_that_was_not_used_for_the_longest_time_goes() {
        let mut cache = Cache::new(CacheLimits {
            entries: 10,
            ..CacheLimits::default()
        });
        for name in ["used.test", "unused.test"] {
            cache.put(question(name), answer(30), seconds(0));
        }
        for number in 0..100 {
            let name = format!("{number}.test");
            cache.put(question(&name), answer(3600), seconds(1));
            assert!(cache.get(&question("used.test"), seconds(1)).is_some());
        }
        assert_eq!(cache.get(&question("unused.test"), seconds(1)), None);
        assert!(cache.get(&question("99.test"), seconds(1)).is_some());
        assert_eq!(cache.entries.len(), 10);
    }
}
