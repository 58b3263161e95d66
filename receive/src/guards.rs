//! What all sessions know of clients together: how much comes from where, who came before, who is
//! listed, and how often something was refused.

use std::sync::Arc;

use postrider_config::Static;
use postrider_dns::Resolver;
use postrider_store::Clock;

use crate::{
    checks::{dnsbl::Dnsbls, greylist::Greylist},
    rates::Rates,
    refusals::RefusalCounts,
    slow::SlowAnswers,
};

/// The state that the sessions share to guard the server.
#[derive(Debug)]
pub struct Guards {
    /// How much comes from each network.
    pub rates: Rates,
    /// The answers that are late.
    pub slow: SlowAnswers,
    /// The strangers that came before.
    pub greylist: Greylist,
    /// The zones of the listeners.
    pub dnsbls: Dnsbls,
    /// How often something was refused, by reason.
    pub refusals: Arc<RefusalCounts>,
}

impl Guards {
    /// The state at the start of the server. The resolver is asked about the zones only: strangers'
    /// questions must not hold them up.
    #[must_use]
    pub fn new(statics: &Static, clock: Arc<dyn Clock>, zones: Arc<dyn Resolver>) -> Self {
        Self {
            rates: Rates::new(statics),
            slow: SlowAnswers::new(Arc::clone(&clock)),
            greylist: Greylist::default(),
            dnsbls: Dnsbls::new(zones, clock),
            refusals: Arc::default(),
        }
    }
}
