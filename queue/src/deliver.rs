//! Attempts over the network.
//!
//! | file | its job |
//! |---|---|
//! | `attempt` | the hosts and addresses of one attempt, one after another |
//! | `transaction` | which messages go in which transaction, envelopes, and what the replies mean |
//! | `signing` | which messages need which signatures, and the signatures that are known |

mod attempt;
mod signing;
mod transaction;

use postrider_config::Dynamic;
use postrider_smtp::client::Connection;
use postrider_store::Queued;

pub(crate) use signing::Signatures;

use crate::{Queue, next_hop::Plan, settle::EndedAttempt};
use attempt::OngoingAttempt;

/// A connection that is kept for more messages.
pub(crate) struct KeptConnection {
    /// The transport that it was made by. A transport has its own addresses, login and rules of
    /// TLS.
    transport: String,
    /// The server proved its name by a certificate.
    verified: bool,
    connection: Connection,
    /// The messages that were sent over it.
    sent: usize,
}

impl KeptConnection {
    /// Takes leave of the server.
    pub(crate) async fn quit(self) {
        self.connection.quit().await;
    }

    /// Whether messages may go over this connection. Its site is that of the plan.
    fn fits(&self, plan: &Plan, verified: bool) -> bool {
        self.transport == plan.transport && (self.verified || !verified) && self.connection.usable()
    }
}

impl Queue {
    /// Attempts messages that share a plan. `kept` is the connection of the last attempt at the
    /// same site, and is set to the connection for the next one.
    pub(crate) async fn deliver(
        &self,
        config: &Dynamic,
        plan: &Plan,
        messages: Vec<Queued>,
        kept: &mut Option<KeptConnection>,
    ) -> Vec<EndedAttempt> {
        let mut attempt = OngoingAttempt::new(self, config, plan, messages);
        attempt.sign_or_fail().await;
        let verified = attempt.wants_verified_tls();
        if let Some(mut old) = kept.take_if(|kept| kept.fits(plan, verified)) {
            attempt.send(&mut old.connection, &mut old.sent).await;
            *kept = Some(old);
        } else if let Some(old) = kept.take() {
            tokio::spawn(old.quit());
        }
        let limit = self.statics.queue.per_destination.messages_per_connection;
        if let Some(full) = kept.take_if(|kept| kept.sent >= limit || !kept.connection.usable()) {
            tokio::spawn(full.quit());
        }
        if attempt.has_pending() {
            attempt.try_hosts(kept).await;
        }
        attempt.finish()
    }
}
