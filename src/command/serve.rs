//! `serve` and `localserve`.

use std::{path::Path, sync::Arc};

use anyhow::bail;
use postrider_config::{Dynamic, Errors, LastGood, Loaded, Static, last_good};
use postrider_observe::{log::Log, panics};
use postrider_store::Time;
use postrider_webapi::HostNames;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use super::{both, dynamic_path, output::print, runtime};
use crate::{
    cli, localserve, logging,
    prepared::Prepared,
    server::{Local, Options, Server},
    service_manager,
};

pub(super) fn serve(conf: &Path) -> anyhow::Result<()> {
    logged(|log| serve_with(conf, log))
}

pub(super) fn localserve(options: &cli::Localserve) -> anyhow::Result<()> {
    logged(|log| localserve_with(options, log))
}

/// Runs a server that may start a log. The last lines of the log are out when this ends, also if
/// the server fails or panics.
fn logged(run: impl FnOnce(&mut Log) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut log = Ending(Log::default());
    run(&mut log.0)
}

/// Writes out the last lines of a log when it goes.
struct Ending(Log);

impl Drop for Ending {
    fn drop(&mut self) {
        logging::end(&self.0);
    }
}

fn serve_with(conf: &Path, log: &mut Log) -> anyhow::Result<()> {
    let prepared = Prepared::new(Options {
        watch_records: true,
        ..load_to_start(conf, log)?
    })?;
    prepared.confine()?;
    log.start_writing()?;
    runtime()?.block_on(async {
        let signals = Signals::new()?;
        let server = Server::start_prepared(prepared).await?;
        run_until_signal(server, signals).await
    })
}

fn localserve_with(options: &cli::Localserve, log: &mut Log) -> anyhow::Result<()> {
    let place = localserve::prepare(options)?;
    let mut server_options = load_to_start(&place.conf, log)?;
    for mended in &place.mended {
        warn!(reason = %mended, "files not private");
    }
    server_options.local = Some(Local {
        deliver: options.deliver,
        hosts: HostNames {
            names: options.hosts.clone(),
            without_dot: options.ip.is_unspecified(),
        },
    });
    let prepared = Prepared::new(server_options)?;
    prepared.confine()?;
    log.start_writing()?;
    runtime()?.block_on(async {
        let signals = Signals::new()?;
        let server = Server::start_prepared(prepared).await?;
        server
            .ensure_password(localserve::ACCOUNT, localserve::PASSWORD)
            .await?;
        let (ip, offset) = (options.ip, options.port_offset);
        print(&localserve::banner(&place, ip, offset, options.deliver))?;
        run_until_signal(server, signals).await
    })
}

/// Reads both files and starts the log. If only domains.conf has errors, the last good copy of it
/// takes its place: a server that restarts while somebody edits the file must not stay down.
fn load_to_start(conf: &Path, log: &mut Log) -> anyhow::Result<Options> {
    let loaded = Loaded::read(conf);
    if let Ok(statics) = &loaded.statics {
        *log = logging::start(&statics.log);
    }
    let (statics, dynamic) = good(loaded, conf)?;
    let options = Options::new(statics, dynamic, dynamic_path(conf));
    panics::watch(Arc::clone(&options.metrics));
    Ok(Options {
        logs: log.clone(),
        ..options
    })
}

/// The configuration to start with.
fn good(loaded: Loaded, conf: &Path) -> anyhow::Result<(Static, Dynamic)> {
    match loaded {
        Loaded {
            statics: Ok(statics),
            dynamic: Err(errors),
        } => match last_good(&statics, &dynamic_path(conf)) {
            Some(good) => {
                tell_of_copy(&good, &errors);
                Ok((statics, good.config))
            }
            None => both(Loaded {
                statics: Ok(statics),
                dynamic: Err(errors),
            }),
        },
        loaded => both(loaded),
    }
}

fn tell_of_copy(good: &LastGood, errors: &Errors) {
    for problem in errors {
        error!(
            file = %problem.file.display(), line = problem.line, key = problem.key,
            error = problem.message, "configuration refused"
        );
    }
    let saved = good.saved.map(|saved| Time::from(saved).to_string());
    error!(
        file = %good.config.path.display(),
        saved = saved.unwrap_or_default(),
        "started with the last good copy of a file that has errors"
    );
}

/// The signals that the server handles. It handles them from the start on, so that none ends it
/// while it starts.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// Runs until SIGTERM or SIGINT, then stops in good order. A second signal stops at once. SIGHUP
/// reads the files again. If the store stops, the process ends, so that its supervisor starts it
/// again.
async fn run_until_signal(server: Server, signals: Signals) -> anyhow::Result<()> {
    let Signals {
        mut terminate,
        mut interrupt,
        mut hangup,
    } = signals;
    let store = server.store().clone();
    server.tell_started();
    service_manager::tell_ready();
    loop {
        tokio::select! {
            _ = hangup.recv() => {
                info!(signal = "SIGHUP", "configuration read again");
                server.read_again();
                continue;
            }
            _ = terminate.recv() => info!(signal = "SIGTERM", "stopping"),
            _ = interrupt.recv() => info!(signal = "SIGINT", "stopping"),
            error = store.stopped() => bail!(
                "the store stopped: {error}; accepted messages are safe; repair the cause, then start again"
            ),
        }
        break;
    }
    service_manager::tell_stopping();
    let at_once = "stopped at once, at a second signal; accepted messages are safe";
    tokio::select! {
        () = server.stop() => Ok(()),
        _ = terminate.recv() => bail!(at_once),
        _ = interrupt.recv() => bail!(at_once),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        panic::{AssertUnwindSafe, catch_unwind},
        sync::Mutex,
    };

    use postrider_observe::log::{Form, Level, Levels, Line};

    use super::*;

    /// Keeps what is written.
    #[derive(Clone, Default)]
    struct Out(Arc<Mutex<Vec<u8>>>);

    impl Write for Out {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_last_lines_are_out_also_after_a_panic() {
        let out = Out::default();
        let ended = catch_unwind(AssertUnwindSafe(|| {
            logged(|log| {
                *log = Log::new(Levels::new(Some(Level::Info)), Arc::new(|| 5));
                log.write_to(Form::default(), Box::new(out.clone()));
                log.add(Line {
                    micros: 5,
                    level: Level::Error,
                    target: "postrider_observe::panics".into(),
                    message: "panicked".to_owned(),
                    event: None,
                    fields: Vec::new(),
                });
                panic!("the main thread")
            })
        }));
        assert!(ended.is_err());
        let written = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        assert!(written.contains("ERROR panicked"), "{written:?}");
    }
}
