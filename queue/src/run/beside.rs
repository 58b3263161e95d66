//! The work beside the loop: it keeps what is known of sites, counts for reports to other domains
//! and sends them, and follows routes and the policies of domains.

use std::sync::Arc;

use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};
use tracing::error;

use crate::Queue;

/// The work that is under way.
pub(super) struct Beside {
    /// It notes what is known of sites, until the last attempt has ended.
    keeper: JoinHandle<()>,
    counter: JoinHandle<()>,
    /// What ends when the queue is to stop.
    others: Vec<JoinHandle<()>>,
    end: watch::Sender<bool>,
}

impl Beside {
    /// Begins the work. The receiver gets word when what was known of sites before is there again.
    pub(super) fn begin(
        queue: &Arc<Queue>,
        shutdown: &watch::Receiver<bool>,
    ) -> (Self, oneshot::Receiver<()>) {
        let refreshing = queue.policies.as_ref().map(|policies| {
            let policies = Arc::clone(policies);
            tokio::spawn(policies.run(shutdown.clone()))
        });
        let (known, restored) = oneshot::channel();
        let (end, ended) = watch::channel(false);
        let keeper = Arc::clone(queue);
        let keeper = tokio::spawn(async move { keeper.keep_sites(known, ended).await });
        let counter = Arc::clone(queue);
        let counter = tokio::spawn(async move { counter.keep_counts().await });
        let reporting = (!queue.is_local())
            .then(|| tokio::spawn(Arc::clone(queue).send_reports(shutdown.clone())));
        let rerouting = tokio::spawn(Arc::clone(queue).keep_routes(shutdown.clone()));
        let others = refreshing.into_iter().chain(reporting).chain([rerouting]);
        let beside = Self {
            keeper,
            counter,
            others: others.collect(),
            end,
        };
        (beside, restored)
    }

    /// Waits until all of it has ended. The last attempts have, so that what they showed is noted
    /// too.
    pub(super) async fn end(self) {
        for worker in self.others {
            // It fails only if it panicked.
            let _ = worker.await;
        }
        self.end.send_replace(true);
        if self.keeper.await.is_err() {
            error!("noting what is known of sites failed");
        }
        if self.counter.await.is_err() {
            error!("noting counts for reports failed");
        }
    }
}
