//! `serve` and `localserve`.

use std::path::Path;

use anyhow::bail;
use postrider_admin::op::logs::Logs;
use postrider_config::{Dynamic, Errors, LastGood, Loaded, Static, last_good};
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
    let prepared = Prepared::new(Options {
        watch_records: true,
        ..load_to_start(conf)?
    })?;
    prepared.confine()?;
    runtime()?.block_on(async {
        let signals = Signals::new()?;
        let server = Server::start_prepared(prepared).await?;
        for (service, address) in server.addresses() {
            info!(service, %address, "listening");
        }
        run_until_signal(server, signals).await
    })
}

pub(super) fn localserve(options: &cli::Localserve) -> anyhow::Result<()> {
    let place = localserve::prepare(options)?;
    let mut server_options = load_to_start(&place.conf)?;
    for mended in &place.mended {
        warn!("{mended}");
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
fn load_to_start(conf: &Path) -> anyhow::Result<Options> {
    let loaded = Loaded::read(conf);
    let logs = match &loaded.statics {
        Ok(statics) => logging::start(&statics.log),
        Err(_) => Logs::default(),
    };
    let (statics, dynamic) = good(loaded, conf)?;
    Ok(Options {
        logs,
        ..Options::new(statics, dynamic, dynamic_path(conf))
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
        error!("{problem}");
    }
    let saved = good.saved.map(|saved| Time::from(saved).to_string());
    error!(
        file = %good.config.path.display(),
        saved = saved.unwrap_or_default(),
        "THE FILE HAS ERRORS: the server runs with the last good copy of it, and takes the file when \
         it is mended and saved"
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
    service_manager::tell_ready();
    loop {
        tokio::select! {
            _ = hangup.recv() => {
                info!("SIGHUP: reading the files again");
                server.read_again();
                continue;
            }
            _ = terminate.recv() => info!("SIGTERM: stopping"),
            _ = interrupt.recv() => info!("SIGINT: stopping"),
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
