//! Work that goes on while a text comes in.

use tokio::task::JoinHandle;
use tracing::error;

/// Work of a task of its own. It ends when this value is dropped, as by RSET.
#[derive(Debug)]
pub(super) struct Background<T> {
    task: JoinHandle<T>,
}

impl<T: Send + 'static> Background<T> {
    /// Starts the work.
    pub(super) fn start(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self {
            task: tokio::spawn(work),
        }
    }

    /// Waits for the result. None, and an error in the log, if the work broke off.
    pub(super) async fn result(mut self) -> Option<T> {
        match (&mut self.task).await {
            Ok(result) => Some(result),
            Err(error) => {
                error!(%error, "the checks of a message failed");
                None
            }
        }
    }
}

impl<T> Drop for Background<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}
