//! The TLS handshakes that failed.

use std::{
    io,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use postrider_smtp::HandshakeFailure;
use tracing::info;

/// Counts the handshakes that failed since the start of the server, by kind.
#[derive(Debug, Default)]
pub struct HandshakeFailures([AtomicU64; HandshakeFailure::ALL.len()]);

impl HandshakeFailures {
    /// Counts a failure, and logs it with the number of its kind so far. That number tells a fault
    /// of ours, which all clients meet, from the few that scanners leave.
    pub(crate) fn tell(&self, remote: SocketAddr, error: &io::Error) {
        let kind = HandshakeFailure::of(error);
        if let Some(counter) = self.counter(kind) {
            let count = counter.fetch_add(1, Ordering::Relaxed).saturating_add(1);
            info!(%remote, kind = kind.as_str(), count, %error, "TLS handshake failed");
        }
    }

    /// The number of failures of this kind.
    #[must_use]
    pub fn count(&self, kind: HandshakeFailure) -> u64 {
        let counter = self.counter(kind);
        counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    fn counter(&self, kind: HandshakeFailure) -> Option<&AtomicU64> {
        let place = HandshakeFailure::ALL.iter().position(|it| *it == kind)?;
        self.0.get(place)
    }
}
