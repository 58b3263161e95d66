//! A resolver that keeps answers, and joins equal questions.

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use postrider_observe::{Metrics, metrics::Cached};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    task::AbortHandle,
};

use crate::{
    DnsError, Lookup, Now, Question, Record, Resolver,
    cache::{Cache, CacheLimits, Outcome, clamped},
    places::Places,
    resolver::in_time,
};

/// Asks another resolver, keeps its answers for their TTL, and asks a question only once at a time.
///
/// A look-up begins when it is first polled, in the context of a tokio runtime. A question that
/// nobody waits for any more is given up. A limited number of questions is asked at once, and a
/// limited number waits for that. The time limit of a look-up counts from its beginning, also while
/// it waits.
///
/// Clones share these limits. [`apart`](Self::apart) makes a resolver with limits of its own.
#[derive(Clone)]
pub struct CachingResolver {
    inner: Arc<Inner>,
    places: Arc<Places>,
    metrics: Arc<Metrics>,
}

struct Inner {
    upstream: Box<dyn Resolver>,
    timeout: Duration,
    now: Now,
    state: Mutex<State>,
}

struct State {
    cache: Cache,
    /// The questions that are being asked. The look-ups that wait for them hold them.
    asked: HashMap<Question, Weak<Asked>>,
}

/// A question that is being asked, as long as a look-up waits for it.
struct Asked {
    /// Has the outcome when it is known.
    outcome: watch::Receiver<Option<Outcome>>,
    task: AbortHandle,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is known of a question.
enum Known {
    Outcome(Outcome),
    Asked(Arc<Asked>),
}

impl Inner {
    /// The lock is held for a moment, never over a wait.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn known(&mut self, question: &Question, now: Duration) -> Option<Known> {
        if let Some(outcome) = self.cache.get(question, now) {
            return Some(Known::Outcome(outcome));
        }
        let asked = self.asked.get(question)?;
        asked.upgrade().map(Known::Asked)
    }
}

impl CachingResolver {
    /// A cache before this resolver. A look-up takes at most `timeout`.
    pub fn new(
        upstream: impl Resolver + 'static,
        limits: CacheLimits,
        timeout: Duration,
        now: Now,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                upstream: Box::new(upstream),
                timeout,
                now,
                state: Mutex::new(State {
                    cache: Cache::new(limits),
                    asked: HashMap::new(),
                }),
            }),
            places: Arc::default(),
            metrics: Arc::default(),
        }
    }

    /// The same resolver, whose hits and misses count here.
    #[must_use]
    pub fn counting(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics, ..self }
    }

    /// The same resolver for other callers. It shares the cache and the questions that are being
    /// asked, and has limits of its own: however much the callers of one ask, those of the other
    /// get their answers.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            places: Arc::default(),
            metrics: Arc::clone(&self.metrics),
        }
    }

    fn known(&self, question: &Question) -> Option<Known> {
        let now = (self.inner.now)();
        self.inner.state().known(question, now)
    }

    /// The answer to a question that is not in the cache.
    async fn find(&self, question: Question) -> Outcome {
        let known = match self.known(&question) {
            Some(known) => known,
            None => {
                let place = self.places.take().await?;
                self.known_or_asked(question, place)
            }
        };
        let asked = match known {
            Known::Outcome(outcome) => return outcome,
            Known::Asked(asked) => asked,
        };
        let mut receiver = asked.outcome.clone();
        let outcome = match receiver.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            Err(_) => None,
        };
        outcome.unwrap_or_else(|| Err(DnsError::Temporary("the look-up was given up".to_owned())))
    }

    /// What has become known while the look-up waited for its place. Otherwise the question is
    /// asked from now on, and holds the place.
    fn known_or_asked(&self, question: Question, place: OwnedSemaphorePermit) -> Known {
        let now = (self.inner.now)();
        let mut state = self.inner.state();
        if let Some(known) = state.known(&question, now) {
            return known;
        }
        let asked = Arc::new_cyclic(|asked| {
            let (sender, outcome) = watch::channel(None);
            let entry = Entry {
                inner: Arc::clone(&self.inner),
                question: question.clone(),
                asked: Weak::clone(asked),
                _place: place,
            };
            let task = tokio::spawn(ask_upstream(entry, sender)).abort_handle();
            Asked { outcome, task }
        });
        state.asked.insert(question, Arc::downgrade(&asked));
        Known::Asked(asked)
    }
}

impl fmt::Debug for CachingResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachingResolver").finish_non_exhaustive()
    }
}

/// The entry of a question in `asked`, and its place. Dropped before [`finish`](Self::finish), as
/// when nobody waits any more or asking panics, it ends the entry.
struct Entry {
    inner: Arc<Inner>,
    question: Question,
    asked: Weak<Asked>,
    /// Free when the entry has ended.
    _place: OwnedSemaphorePermit,
}

impl Entry {
    /// Moves the question from `asked` to the cache, in one step, so that no caller misses both.
    fn finish(&self, outcome: Outcome) {
        let now = (self.inner.now)();
        let mut state = self.inner.state();
        state.cache.put(self.question.clone(), outcome, now);
        self.end(&mut state);
    }

    fn end(&self, state: &mut State) {
        // An equal question may be asked anew already.
        let current = state.asked.get(&self.question);
        if current.is_some_and(|asked| asked.ptr_eq(&self.asked)) {
            state.asked.remove(&self.question);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.end(&mut self.inner.state());
    }
}

async fn ask_upstream(entry: Entry, sender: watch::Sender<Option<Outcome>>) {
    let lookup = entry.inner.upstream.ask(entry.question.clone());
    let outcome = clamped(in_time(entry.inner.timeout, lookup).await);
    entry.finish(outcome.clone());
    sender.send_replace(Some(outcome));
}

impl Resolver for CachingResolver {
    fn directly(&self, servers: &[SocketAddr]) -> Option<Arc<dyn Resolver>> {
        self.inner.upstream.directly(servers)
    }

    fn is_validation_out(&self) -> bool {
        self.inner.upstream.is_validation_out()
    }

    fn ask(&self, question: Question) -> Lookup<Record> {
        let resolver = self.clone();
        Box::pin(async move {
            // What is in the cache needs no timer.
            let cache = &resolver.metrics.dns_cache_total;
            if let Some(Known::Outcome(outcome)) = resolver.known(&question) {
                cache.with(Cached::Hit).inc();
                return outcome;
            }
            cache.with(Cached::Miss).inc();
            in_time(resolver.inner.timeout, resolver.find(question)).await
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU64, Ordering},
        task::Poll,
    };

    use super::*;
    use crate::{FakeResolver, RecordType, places::ASKED_MAX};

    const LIMIT: Duration = Duration::from_secs(5);

    struct World {
        fake: FakeResolver,
        resolver: CachingResolver,
        seconds: Arc<AtomicU64>,
    }

    fn world() -> World {
        let fake = FakeResolver::default();
        let seconds = Arc::new(AtomicU64::new(0));
        let time = Arc::clone(&seconds);
        let now: Now = Arc::new(move || Duration::from_secs(time.load(Ordering::Relaxed)));
        World {
            resolver: CachingResolver::new(fake.clone(), CacheLimits::default(), LIMIT, now),
            fake,
            seconds,
        }
    }

    impl World {
        fn asked(&self, name: &str) -> usize {
            self.fake.asked(&Question::new(name, RecordType::Mx))
        }
    }

    #[tokio::test]
    async fn an_answer_is_asked_for_once_in_its_ttl() {
        let world = world();
        world.fake.set_mx("a.test", &[(10, "mx.test")]);
        for (second, ttl, asked) in [(0, 60, 1), (59, 1, 1), (60, 60, 2)] {
            world.seconds.store(second, Ordering::Relaxed);
            let answer = world.resolver.mx("a.test").await.unwrap();
            assert_eq!(answer.ttl, Duration::from_secs(ttl));
            assert_eq!(world.asked("a.test"), asked);
        }
        for asked in [1, 1] {
            let error = world.resolver.mx("none.test").await.unwrap_err();
            assert!(matches!(error, DnsError::NoName(_)));
            assert_eq!(world.asked("none.test"), asked);
        }
    }

    #[tokio::test]
    async fn a_failure_is_not_kept() {
        let world = world();
        world.fake.set_mx("a.test", &[(10, "mx.test")]);
        world.fake.fail("a.test");
        assert!(world.resolver.mx("a.test").await.is_err());
        world.fake.mend("a.test");
        assert!(world.resolver.mx("a.test").await.is_ok());
    }

    /// Polls a look-up that has no answer yet.
    async fn begin(lookup: &mut Lookup<crate::Mx>) {
        let polled = std::future::poll_fn(|cx| Poll::Ready(lookup.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
    }

    /// Takes all places by questions without an answer.
    async fn fill(world: &World, resolver: &CachingResolver) -> Vec<Lookup<crate::Mx>> {
        let mut lookups = Vec::new();
        for index in 0..ASKED_MAX {
            let name = format!("{index}.silent.test");
            world.fake.hang(&name);
            let mut lookup = resolver.mx(&name);
            begin(&mut lookup).await;
            lookups.push(lookup);
        }
        assert_eq!(resolver.places.free_and_waiting(), (0, 0));
        lookups
    }

    #[tokio::test]
    async fn equal_questions_are_joined_and_go_on_without_one_of_their_callers() {
        let world = world();
        world.fake.set_mx("a.test", &[(10, "mx.test")]);
        world.fake.hang("a.test");
        let mut lost = world.resolver.mx("a.test");
        let mut waiting = [
            world.resolver.mx("a.test"),
            world.resolver.mx("A.test."),
            world.resolver.apart().mx("a.test"),
        ];
        begin(&mut lost).await;
        for lookup in &mut waiting {
            begin(lookup).await;
        }
        drop(lost);
        world.fake.mend("a.test");
        for lookup in waiting {
            assert_eq!(lookup.await.unwrap().records.len(), 1);
        }
        assert_eq!(world.asked("a.test"), 1);
        assert_eq!(world.resolver.places.free_and_waiting(), (ASKED_MAX, 0));
        assert!(world.resolver.inner.state().asked.is_empty());
    }

    #[tokio::test]
    async fn a_question_ends_when_nobody_waits_for_it() {
        let world = world();
        let places = || world.resolver.places.free_and_waiting();
        let lookups = fill(&world, &world.resolver).await;
        let mut next = world.resolver.mx("next.test");
        let mut left = world.resolver.mx("left.test");
        begin(&mut next).await;
        begin(&mut left).await;
        assert_eq!(places(), (0, 2));
        drop(left);
        assert_eq!(places(), (0, 1));
        drop(lookups);
        assert!(matches!(next.await, Err(DnsError::NoName(_))));
        assert_eq!(world.asked("left.test"), 0);
        while places() != (ASKED_MAX, 0) {
            tokio::task::yield_now().await;
        }
        assert!(world.resolver.inner.state().asked.is_empty());
    }

    /// A question that is asked again while the task of the one that was given up still ends.
    #[tokio::test]
    async fn a_question_that_was_given_up_is_asked_again() {
        let world = world();
        world.fake.set_mx("a.test", &[(10, "mx.test")]);
        world.fake.hang("a.test");
        let mut lost = world.resolver.mx("a.test");
        begin(&mut lost).await;
        tokio::task::yield_now().await;
        drop(lost);
        let mut again = world.resolver.mx("a.test");
        begin(&mut again).await;
        tokio::task::yield_now().await;
        let mut joined = world.resolver.mx("a.test");
        begin(&mut joined).await;
        world.fake.mend("a.test");
        assert!(again.await.is_ok() && joined.await.is_ok());
        assert_eq!(world.asked("a.test"), 2);
    }

    #[tokio::test]
    async fn other_callers_have_places_of_their_own() {
        let world = world();
        world.fake.set_mx("a.test", &[(10, "mx.test")]);
        let (strangers, own) = (&world.resolver, world.resolver.apart());
        let _lookups = fill(&world, strangers).await;
        // The question of a stranger waits for its place, and nobody else waits for the stranger.
        let mut stranger = strangers.mx("a.test");
        begin(&mut stranger).await;
        assert_eq!(own.mx("a.test").await.unwrap().records.len(), 1);
        // What one of them knows, all know.
        assert!(strangers.mx("a.test").await.is_ok());
        assert_eq!(world.asked("a.test"), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_up_has_a_time_limit_also_while_it_waits() {
        let world = world();
        let start = tokio::time::Instant::now();
        let mut lookups = fill(&world, &world.resolver).await;
        // The tasks begin.
        tokio::task::yield_now().await;
        tokio::time::advance(LIMIT / 2).await;
        let mut waiting = world.resolver.mx("waiting.test");
        begin(&mut waiting).await;
        // Who joins late waits no longer than the question is asked.
        let mut joined = world.resolver.mx("0.silent.test");
        begin(&mut joined).await;
        lookups.push(joined);
        for lookup in lookups {
            assert!(matches!(lookup.await, Err(DnsError::Temporary(_))));
        }
        assert_eq!(start.elapsed(), LIMIT);
        assert!(matches!(waiting.await, Err(DnsError::NoName(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_up_without_a_place_ends_in_time() {
        let world = world();
        let places = world.resolver.places.clone();
        let mut taken = Vec::new();
        for _ in 0..ASKED_MAX {
            taken.push(places.take().await.unwrap());
        }
        let start = tokio::time::Instant::now();
        let late = world.resolver.mx("late.test").await;
        assert!(matches!(late, Err(DnsError::Temporary(_))));
        assert_eq!((start.elapsed(), world.asked("late.test")), (LIMIT, 0));
        assert_eq!(places.free_and_waiting(), (0, 0));
    }

    #[tokio::test]
    async fn a_question_that_panics_is_asked_again() {
        struct Broken;
        impl Resolver for Broken {
            fn ask(&self, _: Question) -> Lookup<Record> {
                Box::pin(async { panic!("a fault of the resolver") })
            }
        }
        let now: Now = Arc::new(|| Duration::ZERO);
        let resolver = CachingResolver::new(Broken, CacheLimits::default(), LIMIT, now);
        for _ in 0..2 {
            let error = resolver.mx("a.test").await.unwrap_err();
            assert!(matches!(error, DnsError::Temporary(_)));
            assert!(resolver.inner.state().asked.is_empty());
        }
    }
}
