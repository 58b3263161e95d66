//! Waits with an end.

use std::{future::Future, time::Duration};

/// The longest wait. It is far longer than any step of these tests takes on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits for something that must come. If it never comes, the test fails and names it, instead of
/// hanging.
pub async fn patiently<T>(what: &str, comes: impl Future<Output = T>) -> T {
    let Ok(came) = tokio::time::timeout(PATIENCE, comes).await else {
        panic!("waited {PATIENCE:?} in vain for {what}");
    };
    came
}
