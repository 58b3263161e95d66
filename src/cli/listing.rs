//! Options that several commands share.

use clap::Args;

use super::moment::{Moment, Offset};

/// The new time of the next attempt.
#[derive(Clone, Debug, Args)]
pub struct When {
    /// At a time: "now", "30m" from now, "2026-11-28T14:00:00Z", or a local time such as
    /// "2026-11-28 14:00" or "14:00", which is today or else tomorrow.
    #[arg(
        long,
        value_name = "TIME",
        required_unless_present = "by",
        conflicts_with = "by"
    )]
    pub at: Option<Moment>,
    /// Later or earlier than before, for example "1h30m" or "-10m".
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub by: Option<Offset>,
}

/// How a list is printed.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Listing {
    /// Reverse the order.
    #[arg(long)]
    pub reverse: bool,
    /// At most N entries.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Print a JSON array.
    #[arg(long)]
    pub json: bool,
}
