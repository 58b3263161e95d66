//! The questions to DNS that the checks of one message ask, and their limits.
//!
//! A sender chooses the names that we look up. So the questions of a message have a limit in
//! number, a limit of those that run at once, and a deadline. Behind a limit each question fails
//! for now, and the check that asked ends as `temperror`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use postrider_dns::{Answer, DnsError, Lookup, Resolver};
use postrider_observe::metrics::{Label, TimedCheck};
use postrider_store::{Clock, Moment, Sleep};
use tokio::sync::Semaphore;

/// How many questions the checks of one message may ask.
pub const MAX_QUESTIONS: u32 = 100;

/// How many questions of one message may run at once.
const MAX_IN_FLIGHT: usize = 8;

/// How long the checks of one message may take that start together.
pub const TIME_LIMIT: Duration = Duration::from_secs(20);

/// The questions of one message. Clones share the limits and the deadline.
#[derive(Clone)]
pub struct Questions {
    resolver: Arc<dyn Resolver>,
    clock: Arc<dyn Clock>,
    deadline: Moment,
    shared: Arc<Limits>,
}

struct Limits {
    left: AtomicU32,
    in_flight: Semaphore,
    /// The microseconds that each check took so far, and one more, so that zero stands for none.
    took: [AtomicU64; TimedCheck::ALL.len()],
}

/// How long the checks of a message took.
#[derive(Debug, Default)]
pub struct Took([Option<Duration>; TimedCheck::ALL.len()]);

impl Took {
    /// The time of a check. None: it was not made.
    #[must_use]
    pub fn of(&self, check: TimedCheck) -> Option<Duration> {
        self.0.get(check.place()).copied().flatten()
    }
}

impl Questions {
    /// The questions of a new message. Its time begins now.
    #[must_use]
    pub fn new(resolver: Arc<dyn Resolver>, clock: Arc<dyn Clock>) -> Self {
        let deadline = clock.moment().after(TIME_LIMIT);
        Self {
            resolver,
            clock,
            deadline,
            shared: Arc::new(Limits {
                left: AtomicU32::new(MAX_QUESTIONS),
                in_flight: Semaphore::new(MAX_IN_FLIGHT),
                took: Default::default(),
            }),
        }
    }

    /// The questions of checks that start now: their time begins now, and they share the limits in
    /// number with all others of the message. The time that a text takes to come is no time of the
    /// checks that need it.
    #[must_use]
    pub fn renewed(&self) -> Self {
        self.within(TIME_LIMIT)
    }

    /// As [`Self::renewed`], for checks that have so much time.
    #[must_use]
    pub fn within(&self, time: Duration) -> Self {
        Self {
            deadline: self.clock.moment().after(time),
            ..self.clone()
        }
    }

    /// Asks one question, for example `questions.ask(|dns| dns.txt("example.org"))`.
    ///
    /// # Errors
    /// Those of the resolver. [`DnsError::Temporary`] also if the message has asked too much, or
    /// its time is over.
    pub async fn ask<T>(
        &self,
        lookup: impl FnOnce(&dyn Resolver) -> Lookup<T>,
    ) -> Result<Answer<T>, DnsError> {
        let take = |left: u32| left.checked_sub(1);
        let left = &self.shared.left;
        if left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_err()
        {
            return Err(refused("the message needs too many DNS questions"));
        }
        let answer = async {
            let _place = self.shared.in_flight.acquire().await;
            lookup(self.resolver.as_ref()).await
        };
        tokio::select! {
            biased;
            answer = answer => answer,
            () = self.clock.sleep_until_moment(self.deadline) => {
                Err(refused("the time for the checks of the message is over"))
            }
        }
    }

    /// Does a part of a check, and notes how long it took.
    pub async fn timed<T>(&self, check: TimedCheck, work: impl Future<Output = T>) -> T {
        let begun = self.clock.moment();
        let result = work.await;
        self.note(check, self.clock.moment().since(begun));
        result
    }

    /// Notes how long a part of a check took.
    pub fn note(&self, check: TimedCheck, took: Duration) {
        let Some(sum) = self.shared.took.get(check.place()) else {
            return;
        };
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX - 1);
        let add = |sum: u64| Some(sum.max(1).saturating_add(micros));
        // It gives a sum always.
        let _ = sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// How long the checks took so far.
    #[must_use]
    pub fn took(&self) -> Took {
        Took(std::array::from_fn(|at| {
            let sum = self.shared.took.get(at)?.load(Ordering::Relaxed);
            sum.checked_sub(1).map(Duration::from_micros)
        }))
    }

    /// The moment of the clock.
    pub(super) fn moment(&self) -> Moment {
        self.clock.moment()
    }

    /// Waits so long.
    pub fn sleep(&self, time: Duration) -> Sleep {
        let until = self.clock.moment().after(time);
        self.clock.sleep_until_moment(until)
    }

    /// How many questions were asked so far.
    #[must_use]
    pub fn asked(&self) -> u32 {
        MAX_QUESTIONS.saturating_sub(self.shared.left.load(Ordering::Relaxed))
    }
}

impl std::fmt::Debug for Questions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Questions")
            .field("asked", &self.asked())
            .finish_non_exhaustive()
    }
}

fn refused(why: &str) -> DnsError {
    DnsError::Temporary(why.to_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use futures_util::future::join_all;
    use postrider_dns::{FakeResolver, Question, RecordType};
    use postrider_store::{ManualClock, Time};

    use super::*;

    /// The questions of a message that the fake answers, and their clock.
    pub(crate) fn questions(fake: &FakeResolver) -> (Questions, ManualClock) {
        let clock = ManualClock::new(Time::default());
        let questions = Questions::new(Arc::new(fake.clone()), Arc::new(clock.clone()));
        (questions, clock)
    }

    #[tokio::test]
    async fn the_number_of_questions_has_a_limit() {
        let fake = FakeResolver::default();
        fake.add_address("a.test", "192.0.2.1");
        let (questions, _clock) = questions(&fake);
        for _ in 0..MAX_QUESTIONS {
            questions.ask(|dns| dns.a("a.test")).await.unwrap();
        }
        let clone = questions.clone();
        let refused = clone.ask(|dns| dns.a("a.test")).await;
        assert!(matches!(refused, Err(DnsError::Temporary(_))));
        let asked = fake.asked(&Question::new("a.test", RecordType::A));
        assert_eq!(asked, MAX_QUESTIONS as usize);
        assert_eq!(questions.asked(), MAX_QUESTIONS);
    }

    #[tokio::test]
    async fn so_many_questions_run_at_once() {
        let fake = FakeResolver::default();
        let names: Vec<_> = (0..MAX_IN_FLIGHT + 2)
            .map(|it| format!("{it}.test"))
            .collect();
        for name in &names {
            fake.hang(name);
        }
        let (questions, _clock) = questions(&fake);
        let asked = names.iter().map(|name| {
            let questions = questions.clone();
            async move { questions.ask(|dns| dns.a(name)).await.is_err() }
        });
        let check = async {
            assert_eq!(fake.asked_in_all(), MAX_IN_FLIGHT);
            fake.mend(&names[0]);
            while fake.asked_in_all() == MAX_IN_FLIGHT {
                tokio::task::yield_now().await;
            }
            assert_eq!(fake.asked_in_all(), MAX_IN_FLIGHT + 1);
            for name in &names {
                fake.mend(name);
            }
        };
        let (answers, ()) = tokio::join!(join_all(asked), check);
        assert_eq!(answers, vec![true; names.len()]);
        assert_eq!(fake.asked_in_all(), names.len());
    }

    #[tokio::test]
    async fn a_question_ends_at_the_deadline_of_the_message() {
        let fake = FakeResolver::default();
        fake.hang("slow.test");
        let (questions, clock) = questions(&fake);
        let asked = questions.ask(|dns| dns.a("slow.test"));
        let later = async { clock.advance(TIME_LIMIT) };
        let (answer, ()) = tokio::join!(asked, later);
        assert!(matches!(answer, Err(DnsError::Temporary(_))));
        let answer = questions.ask(|dns| dns.a("slow.test")).await;
        assert!(matches!(answer, Err(DnsError::Temporary(_))));
    }

    #[tokio::test]
    async fn a_renewed_deadline_gives_time_but_no_more_questions() {
        let fake = FakeResolver::default();
        fake.hang("slow.test");
        let (early, clock) = questions(&fake);
        clock.advance(TIME_LIMIT / 2);
        let late = early.renewed();
        clock.advance(TIME_LIMIT / 2);
        let answer = early.ask(|dns| dns.a("slow.test")).await;
        assert!(matches!(answer, Err(DnsError::Temporary(_))));
        fake.mend("slow.test");
        fake.add_address("slow.test", "192.0.2.1");
        for _ in 1..MAX_QUESTIONS {
            late.ask(|dns| dns.a("slow.test")).await.unwrap();
        }
        for questions in [&early, &late, &late.renewed()] {
            let refused = questions.ask(|dns| dns.a("slow.test")).await;
            assert!(matches!(refused, Err(DnsError::Temporary(_))));
            assert_eq!(questions.asked(), MAX_QUESTIONS);
        }
    }
}
