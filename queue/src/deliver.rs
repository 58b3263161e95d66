//! Attempts over the network.
//!
//! | file | its job |
//! |---|---|
//! | `addresses` | the connections of each address, and the addresses that failed lately |
//! | `endpoint` | one connection, until its session is open |
//! | `attempt` | the hosts and addresses of one attempt, one after another |
//! | `transaction` | which messages go in which transaction, envelopes, and what the replies mean |
//! | `signing` | which messages need which signatures, and the signatures that are known |

mod addresses;
mod attempt;
mod endpoint;
mod signing;
mod tls;
mod transaction;

use postrider_config::Dynamic;
use postrider_smtp::client::Connection;
use postrider_store::Queued;

pub(crate) use addresses::Addresses;
pub(crate) use signing::Signatures;

use crate::{
    Queue,
    next_hop::Plan,
    run::Slot,
    schedule::Connected,
    settle::{EndedAttempt, Postponed},
};
use addresses::Place;
use attempt::OngoingAttempt;

/// A connection that is kept for more messages.
pub(crate) struct KeptConnection {
    /// The transport that it was made by. A transport has its own addresses, login and rules of
    /// TLS.
    transport: String,
    /// The server proved its name by a certificate.
    verified: bool,
    connection: Connection,
    place: Place,
    _connected: Connected,
    /// The messages that were sent over it.
    sent: usize,
}

impl KeptConnection {
    /// Takes leave of the server.
    pub(crate) async fn quit(self) {
        self.connection.quit().await;
    }

    /// Ends when the address is full and another connection waits for a place.
    pub(crate) async fn is_wanted_elsewhere(&self) {
        self.place.wanted().await;
    }

    /// Whether messages may go over this connection. Its site is that of the plan.
    fn fits(&self, plan: &Plan, verified: bool) -> bool {
        self.transport == plan.transport && (self.verified || !verified) && self.connection.usable()
    }
}

/// What became of messages.
#[derive(Debug, Default)]
pub(crate) struct Delivered {
    pub(crate) ended: Vec<EndedAttempt>,
    /// The messages that were not attempted.
    pub(crate) postponed: Vec<Postponed>,
    /// False: no connection to the site can be made now.
    pub(crate) connects: bool,
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
        slot: &Slot,
    ) -> Delivered {
        let began = self.clock.moment();
        let mut attempt = OngoingAttempt::new(self, config, plan, messages, slot);
        attempt.sign_or_postpone().await;
        let verified = attempt.wants_verified_tls();
        if let Some(mut old) = kept.take_if(|kept| kept.fits(plan, verified)) {
            attempt.send_again(&mut old).await;
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
        let (answered, now) = (attempt.answered(), self.clock.moment());
        let took = now.since(began);
        if answered > 0 {
            if slot.health.answered(answered, took, now) {
                slot.answers().await;
            }
        } else if attempt.reached() {
            slot.health.unanswered(took, now);
        }
        attempt.finish()
    }
}
