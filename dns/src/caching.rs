//! A resolver that keeps answers, and joins equal questions.

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Semaphore, watch};

use crate::{
    DnsError, Lookup, Now, Question, Record, Resolver,
    cache::{Cache, CacheLimits, Outcome, clamped},
};

/// How many questions are asked at once. Each may need a socket. Further questions wait.
const ASKED_MAX: usize = 256;

/// Asks another resolver, keeps its answers for their TTL, and asks a question only once at a time.
///
/// A question goes on when its caller is gone, so that the answer is known to the next caller. A
/// question must be asked in the context of a tokio runtime.
#[derive(Clone)]
pub struct CachingResolver {
    inner: Arc<Inner>,
}

struct Inner {
    upstream: Box<dyn Resolver>,
    now: Now,
    state: Mutex<State>,
    places: Semaphore,
}

struct State {
    cache: Cache,
    /// The questions that are being asked. The channel has the outcome when it is known.
    asked: HashMap<Question, watch::Receiver<Option<Outcome>>>,
}

impl Inner {
    /// The lock is held for a moment, never over a wait.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CachingResolver {
    /// A cache before this resolver.
    pub fn new(upstream: impl Resolver + 'static, limits: CacheLimits, now: Now) -> Self {
        Self {
            inner: Arc::new(Inner {
                upstream: Box::new(upstream),
                now,
                state: Mutex::new(State {
                    cache: Cache::new(limits),
                    asked: HashMap::new(),
                }),
                places: Semaphore::new(ASKED_MAX),
            }),
        }
    }
}

impl fmt::Debug for CachingResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachingResolver").finish_non_exhaustive()
    }
}

/// The entry of a question in `asked`. Dropped before [`finish`](Self::finish), as when asking
/// panics, it ends the entry.
struct Asked {
    inner: Arc<Inner>,
    question: Question,
    finished: bool,
}

impl Asked {
    /// Moves the question from `asked` to the cache, in one step, so that no caller misses both.
    fn finish(&mut self, outcome: Outcome) {
        let now = (self.inner.now)();
        let mut state = self.inner.state();
        state.cache.put(self.question.clone(), outcome, now);
        state.asked.remove(&self.question);
        self.finished = true;
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.finished {
            self.inner.state().asked.remove(&self.question);
        }
    }
}

async fn ask_upstream(mut asked: Asked, sender: watch::Sender<Option<Outcome>>) {
    let outcome = {
        let Ok(_place) = asked.inner.places.acquire().await else {
            return;
        };
        clamped(asked.inner.upstream.ask(asked.question.clone()).await)
    };
    asked.finish(outcome.clone());
    sender.send_replace(Some(outcome));
}

impl Resolver for CachingResolver {
    fn directly(&self, servers: &[SocketAddr]) -> Option<Arc<dyn Resolver>> {
        self.inner.upstream.directly(servers)
    }

    fn ask(&self, question: Question) -> Lookup<Record> {
        let now = (self.inner.now)();
        let mut state = self.inner.state();
        if let Some(known) = state.cache.get(&question, now) {
            return Box::pin(std::future::ready(known));
        }
        let mut receiver = match state.asked.get(&question) {
            Some(receiver) => receiver.clone(),
            None => {
                let (sender, receiver) = watch::channel(None);
                state.asked.insert(question.clone(), receiver.clone());
                let inner = Arc::clone(&self.inner);
                let asked = Asked {
                    inner,
                    question,
                    finished: false,
                };
                tokio::spawn(ask_upstream(asked, sender));
                receiver
            }
        };
        drop(state);
        Box::pin(async move {
            let outcome = match receiver.wait_for(Option::is_some).await {
                Ok(outcome) => outcome.clone(),
                Err(_) => None,
            };
            outcome
                .unwrap_or_else(|| Err(DnsError::Temporary("the look-up was given up".to_owned())))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU64, Ordering},
        time::Duration,
    };

    use super::*;
    use crate::{FakeResolver, RecordType};

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
            resolver: CachingResolver::new(fake.clone(), CacheLimits::default(), now),
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

    #[tokio::test]
    async fn equal_questions_are_joined_and_go_on_without_their_callers() {
        let world = world();
        world.fake.set_mx("a.test", &[(10, "mx.test")]);
        world.fake.hang("a.test");
        let lost = world.resolver.mx("a.test");
        let waiting = [world.resolver.mx("a.test"), world.resolver.mx("A.test.")];
        drop(lost);
        world.fake.mend("a.test");
        for lookup in waiting {
            assert_eq!(lookup.await.unwrap().records.len(), 1);
        }
        assert_eq!(world.asked("a.test"), 1);
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
        let resolver = CachingResolver::new(Broken, CacheLimits::default(), now);
        for _ in 0..2 {
            let error = resolver.mx("a.test").await.unwrap_err();
            assert!(matches!(error, DnsError::Temporary(_)));
            assert!(resolver.inner.state().asked.is_empty());
        }
    }
}
