//! The parts of the running server that operations work on.

use std::sync::Arc;

use postrider_config::{Live, Static};
use postrider_dns::Resolver;
use postrider_queue::{Dialer, Queue};
use postrider_receive::login::{LoginLimiter, Logins};
use postrider_store::{Clock, Store};
use postrider_webhook::Operator;

use crate::AdminError;

/// The parts of the running server that operations work on. A clone is cheap.
#[derive(Clone)]
pub struct Context {
    /// The store.
    pub store: Store,
    /// The queue.
    pub queue: Arc<Queue>,
    /// The remembered logins. They forget an account when its password changes.
    pub logins: Arc<Logins>,
    /// The counts of failed logins.
    pub limiter: Arc<LoginLimiter>,
    /// The static configuration, as it was at the start of the server.
    pub statics: Arc<Static>,
    /// The dynamic configuration.
    pub config: Live,
    /// Asks DNS servers past the server's own cache.
    pub resolver: Arc<dyn Resolver>,
    /// Connects to mail servers, for checks.
    pub dialer: Arc<dyn Dialer>,
    /// The calls of webhooks.
    pub webhooks: Arc<Operator>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

impl Context {
    /// Checks that an account is in `domains.conf`.
    pub(crate) fn check_account(&self, account: &str) -> Result<(), AdminError> {
        if self.config.load().accounts.contains_key(account) {
            return Ok(());
        }
        let text = format!("there is no account {account}");
        Err(AdminError::not_found(text).at("account"))
    }
}
