//! `/healthz`: whether the server takes mail.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use postrider_store::{Accept, Store, StoreError};
use tokio::{sync::Mutex, time::Instant};

/// Where the answer is.
pub(crate) const PATH: &str = "/healthz";
/// The time for which an answer is given again. So many questions cost no more than one write in
/// this time.
const FRESH: Duration = Duration::from_secs(1);
/// The time that the store has for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The last answer. Who asks while the store is tried waits for its answer.
type Last = Mutex<Option<(Instant, Result<(), String>)>>;

/// `/healthz`: 200 while the store can be written. A request tries a write, unless the last try is
/// fresh.
pub fn router(store: Store) -> Router {
    checked_by(move || {
        let store = store.clone();
        async move { store.accept(Accept::default()).await.map(drop) }
    })
}

fn checked_by<F>(check: impl Fn() -> F + Clone + Send + Sync + 'static) -> Router
where
    F: Future<Output = Result<(), StoreError>> + Send,
{
    let last: Arc<Last> = Arc::default();
    Router::new().route(PATH, get(move || answer(Arc::clone(&last), check())))
}

async fn answer(
    last: Arc<Last>,
    check: impl Future<Output = Result<(), StoreError>> + Send,
) -> Response {
    let mut last = last.lock().await;
    let found = match &*last {
        Some((at, found)) if at.elapsed() < FRESH => found.clone(),
        _ => {
            let found = match tokio::time::timeout(PATIENCE, check).await {
                Ok(checked) => checked.map_err(|error| error.to_string()),
                Err(_) => Err("the store does not answer".to_owned()),
            };
            *last = Some((Instant::now(), found.clone()));
            found
        }
    };
    match found {
        Ok(()) => "ok\n".into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use axum::{body::Body, http::Request};
    use tower::ServiceExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_store_that_does_not_answer_is_not_waited_for() {
        let router = checked_by(std::future::pending);
        let request = Request::get("/healthz").body(Body::empty()).unwrap();
        let answer = router.oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test(start_paused = true)]
    async fn the_store_is_tried_once_in_a_while() {
        let tries = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&tries);
        let router = checked_by(move || {
            let counted = Arc::clone(&counted);
            async move {
                match counted.fetch_add(1, Ordering::Relaxed) {
                    0 => Ok(()),
                    _ => Err(StoreError::Full),
                }
            }
        });
        let ask = async || {
            let request = Request::get("/healthz").body(Body::empty()).unwrap();
            router.clone().oneshot(request).await.unwrap().status()
        };
        for _ in 0..10 {
            assert_eq!(ask().await, 200);
        }
        assert_eq!(tries.load(Ordering::Relaxed), 1);
        tokio::time::advance(FRESH).await;
        for _ in 0..10 {
            assert_eq!(ask().await, 503);
        }
        assert_eq!(tries.load(Ordering::Relaxed), 2);
    }
}
