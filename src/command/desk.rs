//! Operations through the running server or, if none runs, directly on the files and the store.

use std::{
    fs::{File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use nix::unistd::{User, geteuid, getuid};
use postrider_admin::{
    AdminError, Caller, Context,
    face::client::{self, CallError},
    op::{Gone, Operation, Single, Sink},
};
use postrider_config::{DomainsFile, Live, Static};
use postrider_observe::{Tracer, log::Log, trace::Traces};
use postrider_queue::{DeliveryMode, Queue, QueueParts, TcpDialer};
use postrider_receive::{
    Reports, ReportsParts,
    login::{LoginLimiter, Logins},
};
use postrider_store::{Actor, Clock, OpenError, Store, SystemClock};
use postrider_webhook::{Runner, WebhookParts};
use rand::{SeedableRng, rngs::StdRng};

use super::{
    dynamic_path, load, load_static,
    output::{List, until_closed},
    runtime,
};
use crate::{
    files::DATA_LOCK, privileges, resolvers::resolvers, services::store_options, traces::TRACES,
};

/// How long a server may take from opening its store to answering commands.
const SERVER_STARTS: Duration = Duration::from_secs(10);
/// The pause between two attempts to reach a server that starts.
const PAUSE: Duration = Duration::from_millis(50);

/// The place where operations run: the running server, or this process.
pub(super) struct Desk {
    conf: PathBuf,
    statics: Static,
}

impl Desk {
    /// The desk of this configuration.
    pub(super) fn of(conf: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            conf: conf.to_owned(),
            statics: load_static(conf)?,
        })
    }

    /// Runs an operation with one output.
    pub(super) fn ask<S: Single + Clone>(&self, operation: &S) -> anyhow::Result<S::Output> {
        let mut output = None;
        self.call(operation, |item| {
            output = Some(item);
            Ok(())
        })??;
        output.context("the operation gave no answer")
    }

    /// Runs an operation, and hands over its items as they come. An `each` that fails ends the
    /// operation.
    pub(super) fn call<O: Operation + Clone>(
        &self,
        operation: &O,
        mut each: impl FnMut(O::Item) -> io::Result<()> + Send,
    ) -> anyhow::Result<io::Result<()>> {
        runtime()?.block_on(async {
            let begun = Instant::now();
            loop {
                match client::call(&self.statics.data_dir, operation).await {
                    Err(CallError::NotRunning { .. }) => {}
                    Err(error) => return Err(error.into()),
                    Ok(mut answer) => {
                        while let Some(item) = answer.next().await? {
                            if let Err(error) = each(item) {
                                return Ok(Err(error));
                            }
                        }
                        return Ok(Ok(()));
                    }
                }
                // Root becomes the user of the server to work here, and has another name in the
                // audit log from then on. So root looks before whether a server starts.
                if geteuid().is_root()
                    && is_in_use(&self.statics.data_dir)
                    && begun.elapsed() < SERVER_STARTS
                {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                match self.run_here(operation.clone(), &mut each).await {
                    // Another process has the store: a server that starts, and will answer soon.
                    Err(error)
                        if matches!(error.downcast_ref(), Some(OpenError::Locked { .. }))
                            && begun.elapsed() < SERVER_STARTS =>
                    {
                        tokio::time::sleep(PAUSE).await;
                    }
                    done => return done,
                }
            }
        })
    }

    /// Prints the items of an operation as they come: as a JSON array, or as rows. Without items,
    /// prints `none`.
    pub(super) fn print_list<O: Operation + Clone>(
        &self,
        operation: &O,
        json: bool,
        none: &str,
        row: impl Fn(&mut dyn Write, u64, &O::Item) -> io::Result<()> + Send,
    ) -> anyhow::Result<()> {
        let mut list = List::new(io::BufWriter::new(io::stdout()), json, row);
        let written = self.call(operation, |item| list.add(&item))?;
        let written = written.and_then(|()| list.end(none));
        Ok(until_closed(written)?)
    }

    /// Runs an operation in this process, while no server runs.
    async fn run_here<O: Operation>(
        &self,
        operation: O,
        each: impl FnMut(O::Item) -> io::Result<()> + Send,
    ) -> anyhow::Result<io::Result<()>> {
        let context = context(&self.conf)?;
        let store = context.store.clone();
        let mut items = Items { each, failed: None };
        let result = operation.run(&context, &mut items).await;
        store.close().await;
        match (items.failed, result) {
            (Some(error), _) => Ok(Err(error)),
            (None, Ok(())) => Ok(Ok(())),
            (None, Err(error)) => Err(CallError::Refused(error).into()),
        }
    }
}

/// Whether another process has the store.
fn is_in_use(data_dir: &Path) -> bool {
    let lock = File::open(data_dir.join(DATA_LOCK));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// The parts that operations work on, in this process. Nothing is delivered and nobody is called.
fn context(conf: &Path) -> anyhow::Result<Context> {
    // Who it is, before the process changes its user.
    let caller = Caller {
        actor: Actor::Socket,
        name: match User::from_uid(getuid()) {
            Ok(Some(user)) => user.name,
            _ => format!("uid {}", getuid()),
        },
        from: None,
    };
    let (statics, dynamic) = load(conf)?;
    // The files that are made must belong to the user of the server.
    privileges::drop_to(&statics.user, &statics.data_dir)?;
    let store = Store::open(store_options(&statics))?;
    let statics = Arc::new(statics);
    let config: Live = Arc::new(ArcSwap::from_pointee(dynamic));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let resolvers = resolvers(&statics.resolver, &clock, None, &Arc::default())?;
    let (resolver, checks) = (resolvers.fresh, resolvers.checks);
    let dialer = Arc::new(TcpDialer);
    let traces = Traces::in_folder(&statics.data_dir.join(TRACES));
    let queue = Queue::new(QueueParts {
        metrics: Arc::default(),
        store: store.clone(),
        tracer: Tracer::off(),
        config: Arc::clone(&config),
        statics: Arc::clone(&statics),
        clock: Arc::clone(&clock),
        resolver: Arc::clone(&resolver),
        dialer: dialer.clone(),
        delivery: DeliveryMode::Remote,
        rng: StdRng::from_rng(&mut rand::rng()),
    })?;
    let webhooks = Runner::new(WebhookParts {
        metrics: Arc::default(),
        store: store.clone(),
        tracer: Tracer::off(),
        config: Arc::clone(&config),
        statics: Arc::clone(&statics),
        clock: Arc::clone(&clock),
    })?;
    let reports = Arc::new(Reports::new(ReportsParts {
        store: store.clone(),
        config: Arc::clone(&config),
        statics: Arc::clone(&statics),
        clock: Arc::clone(&clock),
        metrics: Arc::default(),
        tracer: Tracer::off(),
    }));
    Ok(Context {
        metrics: Arc::default(),
        queue: Arc::new(queue),
        logins: Arc::new(Logins::new(store.clone())),
        limiter: Arc::<LoginLimiter>::default(),
        domains: Arc::new(DomainsFile::new(
            dynamic_path(conf),
            Arc::clone(&statics),
            Arc::clone(&config),
        )),
        statics,
        config,
        resolver,
        checks,
        dialer,
        reports,
        webhooks: Arc::new(webhooks.operator()),
        traces,
        // They are the running server's.
        hooks: Arc::default(),
        logs: Log::default(),
        figures: Arc::default(),
        verdicts: Arc::default(),
        refusals: Arc::default(),
        certificates: Arc::new(()),
        clock,
        caller,
        store,
    })
}

/// Hands over the items of an operation one by one.
struct Items<F> {
    each: F,
    /// Why no more items are wanted.
    failed: Option<io::Error>,
}

impl<T: Send, F: FnMut(T) -> io::Result<()> + Send> Sink<T> for Items<F> {
    async fn send(&mut self, items: Vec<T>) -> Result<(), AdminError> {
        for item in items {
            if let Err(error) = (self.each)(item) {
                self.failed = Some(error);
                return Err(Gone.into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_store_that_another_process_has_is_known() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_in_use(dir.path()));
        let store = Store::open(postrider_store::Options::new(dir.path())).unwrap();
        assert!(is_in_use(dir.path()));
        store.close().await;
        assert!(!is_in_use(dir.path()));
    }
}
