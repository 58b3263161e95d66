//! What the log says when the server starts.

use std::net::SocketAddr;

use postrider_config::{Dynamic, Static, keep_good};
use postrider_store::Store;
use tracing::{info, warn};

/// Logs that the server has started, and where it listens.
pub(crate) fn started(statics: &Static, addresses: &[(String, SocketAddr)]) {
    for (service, address) in addresses {
        info!(service, %address, "listening");
    }
    info!(
        version = env!("CARGO_PKG_VERSION"),
        config = %statics.path.display(),
        data = %statics.data_dir.display(),
        hostname = %statics.hostname,
        user = statics.user,
        "started"
    );
}

/// Logs which work an administrator stopped.
pub(crate) async fn stops(store: &Store) -> anyhow::Result<()> {
    let stops = store.stops().await?;
    let all = [
        ("deliveries", stops.deliveries),
        ("webhook calls", stops.webhooks),
    ];
    for (work, since) in all {
        if let Some(since) = since {
            warn!(%since, work, "work stopped by an administrator");
        }
    }
    Ok(())
}

/// Logs the things in the configuration that somebody should look at, and keeps a copy of
/// domains.conf for a start at which it has errors.
pub(crate) fn configuration(statics: &Static, dynamic: &Dynamic) {
    for key in statics.not_yet().into_iter().chain(dynamic.not_yet()) {
        warn!(key, "key has no effect in this version");
    }
    for warning in statics.warnings().iter().chain(dynamic.warnings()) {
        warn!(reason = warning, "configuration has a warning");
    }
    if let Err(error) = keep_good(statics, dynamic) {
        warn!(%error, "domains.conf not copied for the next start");
    }
}
