//! The protocol of systemd for services: sockets that it passes, and what the server tells it.
//!
//! Without systemd all of it does nothing.

use std::{collections::BTreeMap, net::TcpListener, time::Duration};

use anyhow::{Context, bail};
use listenfd::ListenFd;
use postrider_store::Store;
use sd_notify::NotifyState;
use tokio::sync::watch;
use tracing::{debug, error};

/// The name of a socket to which nobody gave a name.
const UNKNOWN: &str = "unknown";

/// Sockets that the service manager bound, by their names (`FileDescriptorName=` of the socket
/// unit): `LISTENER.SERVICE`, for example `public.smtp`. Several sockets may have one name.
#[derive(Debug, Default)]
pub struct GivenSockets {
    by_name: BTreeMap<String, Vec<TcpListener>>,
}

impl GivenSockets {
    /// Takes the sockets from the environment (`LISTEN_FDS`, `LISTEN_PID`, `LISTEN_FDNAMES`).
    ///
    /// # Errors
    /// If one is no listening TCP socket.
    pub fn take() -> anyhow::Result<Self> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut given = ListenFd::from_env();
        let sockets = (0..given.len()).map(|index| {
            let socket = given.take_tcp_listener(index);
            let socket = socket.with_context(|| {
                format!("socket {index} of the service manager is no listening TCP socket")
            })?;
            socket.context("the service manager gave a socket twice")
        });
        Ok(Self::named(
            &names,
            sockets.collect::<anyhow::Result<Vec<_>>>()?,
        ))
    }

    /// Sockets with their names, which colons separate.
    fn named(names: &str, sockets: Vec<TcpListener>) -> Self {
        let mut given = Self::default();
        let mut names = names.split(':');
        for socket in sockets {
            let name = names.next().filter(|name| !name.is_empty());
            let name = name.unwrap_or(UNKNOWN).to_owned();
            given.by_name.entry(name).or_default().push(socket);
        }
        given
    }

    /// The sockets with a name. They are given once.
    pub fn of(&mut self, name: &str) -> Vec<TcpListener> {
        self.by_name.remove(name).unwrap_or_default()
    }

    /// Checks that all sockets were used. Clients would wait for ever at one that was not.
    ///
    /// # Errors
    /// A sentence with the names that are left.
    pub fn all_used(&self) -> anyhow::Result<()> {
        if self.by_name.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
        bail!(
            "the service manager passed sockets that no listener has: {}; name them \
             LISTENER.SERVICE (FileDescriptorName=), as in public.smtp",
            names.join(", ")
        );
    }
}

/// Tells that the server takes connections.
pub fn tell_ready() {
    tell(&[NotifyState::Ready]);
}

/// Tells that the server stops.
pub fn tell_stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        debug!(%error, "service manager not told");
    }
}

/// Tells the service manager again and again that the server works, if it asks for that
/// (`WatchdogSec=`). It stops telling when the store does not answer, so the service manager
/// starts the server again.
pub async fn watchdog(store: Store, mut stop: watch::Receiver<bool>) {
    let Some(period) = sd_notify::watchdog_enabled() else {
        return;
    };
    watch_over(period, &store, || tell(&[NotifyState::Watchdog]), &mut stop).await;
}

async fn watch_over(
    period: Duration,
    store: &Store,
    mut tell: impl FnMut(),
    stop: &mut watch::Receiver<bool>,
) {
    // Half of the period is the advice of systemd.
    let pause = period / 2;
    loop {
        match tokio::time::timeout(pause, store.hold_rules()).await {
            Ok(_) => tell(),
            Err(_) => error!("store does not answer"),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    #[test]
    fn sockets_are_found_by_their_names() {
        let mut given =
            GivenSockets::named("a.smtp:b.smtp:a.smtp", vec![socket(), socket(), socket()]);
        assert_eq!(given.of("a.smtp").len(), 2);
        assert_eq!(given.of("a.smtp").len(), 0);
        let error = given.all_used().unwrap_err().to_string();
        assert!(
            error.contains("no listener has: b.smtp; name them"),
            "{error}"
        );
        assert_eq!(given.of("b.smtp").len(), 1);
        given.all_used().unwrap();
    }

    #[test]
    fn a_socket_without_a_name_is_told() {
        let given = GivenSockets::named("", vec![socket()]);
        assert!(
            given
                .all_used()
                .unwrap_err()
                .to_string()
                .contains("unknown")
        );
    }
}
