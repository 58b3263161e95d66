//! `queue destinations ...`

use clap::{Args, Subcommand};

/// Show the sites that the queue delivers to, or say what is wanted there.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Destinations {
    /// What is wanted.
    #[command(subcommand)]
    pub order: Option<DestinationOrder>,
    /// Only this site, and the sites of this domain.
    #[arg(value_name = "SITE|DOMAIN")]
    pub target: Option<String>,
    /// Print a JSON array.
    #[arg(long)]
    pub json: bool,
}

/// What is wanted for a site or a domain.
#[derive(Debug, Subcommand)]
pub enum DestinationOrder {
    /// Pause deliveries. Attempts that go on come to their end. The pause lasts over restarts, and
    /// the time of messages stands still meanwhile.
    Pause {
        /// The site or the domain.
        #[arg(value_name = "SITE|DOMAIN")]
        target: String,
        /// How long, and why.
        #[command(flatten)]
        terms: Terms,
    },
    /// Let deliveries go on after a pause, and try a site at once that rests, is down or has
    /// blocked us.
    Resume {
        /// The site or the domain.
        #[arg(value_name = "SITE|DOMAIN")]
        target: String,
    },
    /// Limit a site, or the sites of a domain. Without --connections and --rate the limit is taken
    /// back.
    Limit {
        /// The site or the domain.
        #[arg(value_name = "SITE|DOMAIN")]
        target: String,
        /// The most connections at once.
        #[arg(long, value_name = "N")]
        connections: Option<u32>,
        /// The most messages in a time, for example "100/minute" or "2000/day".
        #[arg(long, value_name = "RATE")]
        rate: Option<String>,
        /// How long, and why.
        #[command(flatten)]
        terms: Terms,
    },
    /// Forget what was learnt of a site, or of the sites of a domain: its state, how many
    /// connections it takes, what was used up of its rates. Orders stay.
    Forget {
        /// The site or the domain.
        #[arg(value_name = "SITE|DOMAIN")]
        target: String,
    },
    /// List what is wanted for sites and domains.
    Orders {
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
}

/// How long an order lasts, and why.
#[derive(Clone, Debug, Default, Args)]
pub struct Terms {
    /// For how long, for example "2h" or "3d". Without it: until it is taken back.
    #[arg(long = "for", value_name = "DURATION")]
    pub lasts: Option<String>,
    /// Why, for those who ask later.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub reason: String,
}
