//! The end of every wait.

use std::{future::Future, time::Duration};

/// Far longer than anything in these tests takes on the slowest machine: what has not come by then never will.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits for what must come; if it never does, the test fails and says what was missing, instead of hanging.
pub async fn patiently<T>(what: &str, comes: impl Future<Output = T>) -> T {
    let Ok(came) = tokio::time::timeout(PATIENCE, comes).await else {
        panic!("waited {PATIENCE:?} in vain for {what}");
    };
    came
}
