//! `audit ...`

use clap::Subcommand;

use super::moment::Moment;

/// `audit ...`
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// List the changes that administrators and programs made or tried to make, newest first.
    List {
        /// Only changes by this system user, login or key.
        #[arg(long, value_name = "NAME")]
        who: Option<String>,
        /// Only changes by this operation, for example account.add, or account for all whose names
        /// begin so.
        #[arg(long)]
        operation: Option<String>,
        /// Only changes of this account, domain or other thing.
        #[arg(long)]
        target: Option<String>,
        /// Only changes at this time or later, for example "-2h" or "2026-11-28 14:00".
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        after: Option<Moment>,
        /// Only changes before this time.
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        before: Option<Moment>,
        /// At most N entries.
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
}
