//! The work that goes on beside the services until the server stops: it looks at DNS, notes what
//! became of logins, and counts how the files of the configuration were read.

use std::sync::Arc;

use postrider_admin::{self as admin, op::dns};
use postrider_config::Outcome;
use postrider_dns::HickoryResolver;
use postrider_receive::SessionContext;
use tokio::{sync::watch, task::JoinSet};

use crate::loads;

/// What the work needs.
pub(crate) struct Background<'a> {
    pub(crate) shared: &'a SessionContext,
    /// The resolver whose validation is looked at.
    pub(crate) validating: Option<HickoryResolver>,
    /// The outcomes of all changes of domains.conf.
    pub(crate) outcomes: watch::Receiver<Outcome>,
    /// Looks each hour whether DNS has what it should have. None: nobody looks.
    pub(crate) records: Option<admin::Context>,
}

impl Background<'_> {
    /// Begins the work.
    pub(crate) fn spawn(self, tasks: &mut JoinSet<()>, shutdown: &watch::Sender<bool>) {
        if let Some(validating) = self.validating {
            let mut stop = shutdown.subscribe();
            tasks.spawn(async move {
                tokio::select! {
                    () = validating.watch_root() => {}
                    _ = stop.changed() => {}
                }
            });
        }
        if let Some(records) = self.records {
            tasks.spawn(dns::watch_records(records, shutdown.subscribe()));
        }
        let (logins, clock) = (
            Arc::clone(&self.shared.logins),
            Arc::clone(&self.shared.clock),
        );
        let stop = shutdown.subscribe();
        tasks.spawn(async move { logins.keep_attempts(clock, stop).await });
        let metrics = Arc::clone(&self.shared.metrics);
        loads::at_start(&metrics);
        tasks.spawn(loads::count(metrics, self.outcomes, shutdown.subscribe()));
    }
}
