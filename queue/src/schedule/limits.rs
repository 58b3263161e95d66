//! The limits of a site: those of its plan, and what administrators want for a time.

use postrider_config::{QueueConfig, Rate};
use postrider_store::Moment;

use crate::next_hop::{Plan, Way};

/// The limits of a site that hold for all its plans together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SiteLimits {
    /// The most connections at once.
    pub(crate) connections: usize,
    /// The most messages in a time.
    pub(crate) rate: Option<Rate>,
    /// The most new connections in a time.
    pub(crate) connect_rate: Option<Rate>,
}

impl SiteLimits {
    /// The limits of a site of which no plan is known.
    pub(crate) const fn usual(config: &QueueConfig) -> Self {
        Self {
            connections: config.per_destination.connections,
            rate: None,
            connect_rate: None,
        }
    }

    /// The limits of the site of a plan, as its provider says. All limits of sites come from here.
    /// The hosts of a transport are the administrator's own choice: the rate of connections is for
    /// the hosts of others.
    pub(crate) fn of(plan: &Plan) -> Self {
        let provider = &plan.provider;
        let connect_rate = match plan.way {
            Way::Direct(_) => provider.connect_rate,
            Way::Smarthost(_) | Way::Lmtp(_) => None,
        };
        Self {
            connections: provider.connections,
            rate: provider.rate,
            connect_rate,
        }
    }
}

/// What an administrator wants for a site, for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LimitInForce {
    /// The site or the domain that the order names.
    pub(crate) target: String,
    /// So many connections, in place of those of the plan.
    pub(crate) connections: Option<usize>,
    /// Also this rate of messages.
    pub(crate) rate: Option<Rate>,
    /// None: until it is taken back.
    pub(crate) until: Option<Moment>,
}

impl LimitInForce {
    pub(crate) fn lasts(&self, now: Moment) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}
