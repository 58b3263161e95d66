//! `serve` and `localserve`.

use std::path::Path;

use anyhow::bail;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use super::{dynamic_path, load, output::print, runtime};
use crate::{
    cli, localserve, logging,
    server::{Options, Server},
};

pub(super) fn serve(conf: &Path) -> anyhow::Result<()> {
    let (statics, dynamic) = load(conf)?;
    logging::start(&statics.log);
    let options = Options::new(statics, dynamic, dynamic_path(conf));
    runtime()?.block_on(async {
        let server = Server::start(options).await?;
        for (service, address) in server.addresses() {
            info!(service, %address, "listening");
        }
        run_until_signal(server).await
    })
}

pub(super) fn localserve(options: &cli::Localserve) -> anyhow::Result<()> {
    let place = localserve::prepare(options)?;
    let (statics, dynamic) = load(&place.conf)?;
    logging::start(&statics.log);
    let mut server_options = Options::new(statics, dynamic, dynamic_path(&place.conf));
    server_options.simulate = !options.deliver;
    runtime()?.block_on(async {
        let server = Server::start(server_options).await?;
        server
            .ensure_password(localserve::ACCOUNT, localserve::PASSWORD)
            .await?;
        let (ip, offset) = (options.ip, options.port_offset);
        print(&localserve::banner(&place, ip, offset, options.deliver))?;
        run_until_signal(server).await
    })
}

/// Runs until SIGTERM or SIGINT, then stops in good order. A second signal stops at once. If the
/// store stops, the process ends, so that its supervisor starts it again.
async fn run_until_signal(server: Server) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let store = server.store().clone();
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM: stopping"),
        _ = interrupt.recv() => info!("SIGINT: stopping"),
        error = store.stopped() => bail!(
            "the store stopped: {error}; accepted messages are safe; repair the cause, then start again"
        ),
    }
    let at_once = "stopped at once, at a second signal; accepted messages are safe";
    tokio::select! {
        () = server.stop() => Ok(()),
        _ = terminate.recv() => bail!(at_once),
        _ = interrupt.recv() => bail!(at_once),
    }
}
