//! Work that goes on while a text comes in.

use tokio::task::{JoinError, JoinHandle};
use tracing::error;

/// Work of a task of its own. It ends when this value is dropped, as by RSET.
#[derive(Debug)]
pub(super) struct Background<T> {
    task: JoinHandle<T>,
    /// The end of the work, if somebody looked at it. None within: the work broke off.
    ended: Option<Option<T>>,
}

impl<T: Send + 'static> Background<T> {
    /// Starts the work.
    pub(super) fn start(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self {
            task: tokio::spawn(work),
            ended: None,
        }
    }

    /// The result, if it comes before `late` ends. Otherwise the work goes on.
    pub(super) async fn before(&mut self, late: impl Future<Output = ()>) -> Option<&T> {
        if self.ended.is_none() {
            tokio::select! {
                biased;
                ended = &mut self.task => self.ended = Some(result(ended)),
                () = late => {}
            }
        }
        self.ended.as_ref()?.as_ref()
    }

    /// Waits for the result. None, and an error in the log, if the work broke off.
    pub(super) async fn result(mut self) -> Option<T> {
        match self.ended.take() {
            Some(ended) => ended,
            None => result((&mut self.task).await),
        }
    }
}

fn result<T>(ended: Result<T, JoinError>) -> Option<T> {
    ended
        .inspect_err(|error| error!(%error, "the checks of a message failed"))
        .ok()
}

impl<T> Drop for Background<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_result_can_be_looked_at_before_the_end() {
        let (done, work) = oneshot::channel::<u8>();
        let mut background = Background::start(async { work.await.unwrap() });
        assert_eq!(background.before(async {}).await, None);
        done.send(7).unwrap();
        assert_eq!(background.before(std::future::pending()).await, Some(&7));
        assert_eq!(background.before(async {}).await, Some(&7));
        assert_eq!(background.result().await, Some(7));
    }

    #[tokio::test]
    async fn work_that_broke_off_has_no_result() {
        let mut background = Background::start(async { panic!("a fault") });
        let none: Option<&()> = background.before(std::future::pending()).await;
        assert_eq!(none, None);
        assert_eq!(background.before(async {}).await, None);
        assert_eq!(background.result().await, None);
    }
}
