//! The work that goes on beside the services until the server stops: it looks at DNS, counts how
//! the files of the configuration were read, and sends the log and traces to a collector.

use std::sync::Arc;

use postrider_admin::{self as admin, op::dns};
use postrider_config::Outcome;
use postrider_dns::HickoryResolver;
use postrider_observe::log::Log;
use postrider_receive::SessionContext;
use tokio::{sync::watch, task::JoinSet};

use crate::{loads, otlp, traces::Tracing};

/// What the work needs.
pub(crate) struct Background<'a> {
    pub(crate) shared: &'a SessionContext,
    pub(crate) logs: &'a Log,
    pub(crate) tracing: &'a Tracing,
    /// The resolver whose validation is looked at.
    pub(crate) validating: Option<HickoryResolver>,
    /// The outcomes of all changes of domains.conf.
    pub(crate) outcomes: watch::Receiver<Outcome>,
    /// Looks each hour whether DNS has what it should have. None: nobody looks.
    pub(crate) records: Option<admin::Context>,
}

impl Background<'_> {
    /// Begins the work.
    ///
    /// # Errors
    /// If a file of the configuration can't be used.
    pub(crate) fn spawn(
        self,
        tasks: &mut JoinSet<()>,
        shutdown: &watch::Sender<bool>,
    ) -> anyhow::Result<()> {
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
        let (statics, metrics) = (&self.shared.statics, &self.shared.metrics);
        loads::at_start(metrics, statics);
        let metrics = Arc::clone(metrics);
        tasks.spawn(loads::count(metrics, self.outcomes, shutdown.subscribe()));
        let traces = &self.tracing.traces;
        let (log, traces) = otlp::exporters(statics, self.logs, traces, &self.shared.clock)?;
        if let Some(log) = log {
            tasks.spawn(log.run(shutdown.subscribe()));
        }
        if let Some(traces) = traces {
            tasks.spawn(traces.run(shutdown.subscribe()));
        }
        Ok(())
    }
}
