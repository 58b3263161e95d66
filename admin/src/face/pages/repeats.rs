//! A form that was sent twice acts once. Each form has a number of its own.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use super::{
    answer::{Answer, Trouble},
    recent::Recent,
};

/// The most forms that are remembered.
const KEPT: usize = 4096;

/// Where the answer to a form led; empty until it is known.
type Outcome = Arc<OnceCell<String>>;

/// The forms that acted lately.
#[derive(Default)]
pub(super) struct Repeats {
    known: Mutex<Recent<Outcome, KEPT>>,
}

impl Repeats {
    /// Runs the work of a form with this number of this visitor, if it did not run yet. A repeated
    /// form waits for the first one, and leads where that led. Work that led nowhere, since a field
    /// was wrong, may run again.
    pub(super) async fn once(
        &self,
        key: String,
        work: impl Future<Output = Result<Answer, Trouble>>,
    ) -> Result<Answer, Trouble> {
        let outcome = self.outcome(key);
        let led = outcome.get_or_try_init(|| async {
            match work.await {
                Ok(Answer::SeeOther(location)) => Ok(location),
                other => Err(other),
            }
        });
        match led.await {
            Ok(location) => Ok(Answer::SeeOther(location.clone())),
            Err(other) => other,
        }
    }

    fn outcome(&self, key: String) -> Outcome {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outcome) = known.get(&key) {
            return Arc::clone(outcome);
        }
        let outcome = Outcome::default();
        known.add(key, Arc::clone(&outcome));
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_form_acts_once() {
        let (repeats, ran) = (Repeats::default(), AtomicU32::new(0));
        let act = |key: &str| {
            repeats.once(key.to_owned(), async {
                let count = ran.fetch_add(1, Ordering::Relaxed);
                Ok(Answer::SeeOther(format!("/done/{count}")))
            })
        };
        let led = |answer: Result<Answer, Trouble>| match answer {
            Ok(Answer::SeeOther(location)) => location,
            _ => String::new(),
        };
        let (first, second) = tokio::join!(act("a"), act("a"));
        assert_eq!(
            (led(first).as_str(), led(second).as_str()),
            ("/done/0", "/done/0")
        );
        assert_eq!(led(act("b").await), "/done/1");
    }

    #[tokio::test]
    async fn a_form_with_a_fault_may_come_again() {
        let repeats = Repeats::default();
        let wrong = repeats.once("a".to_owned(), async { Err(Trouble::NoPage) });
        assert!(wrong.await.is_err());
        let right = repeats.once("a".to_owned(), async {
            Ok(Answer::SeeOther("/".to_owned()))
        });
        assert!(matches!(right.await, Ok(Answer::SeeOther(_))));
    }
}
