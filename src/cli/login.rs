//! `login ...`

use std::net::IpAddr;

use clap::Subcommand;

use super::moment::Moment;

/// `login ...`
#[derive(Debug, Subcommand)]
pub enum Login {
    /// List what became of logins in the last 30 days, the newest first. Logins of one day that are
    /// alike are one line with a count.
    List {
        /// Only logins of this account.
        #[arg(long, value_name = "ACCOUNT", conflicts_with_all = ["admin", "nobody"])]
        account: Option<String>,
        /// Only logins of the administrator, and of keys that manage the server.
        #[arg(long, conflicts_with = "nobody")]
        admin: bool,
        /// Only logins whose name belongs to nobody.
        #[arg(long)]
        nobody: bool,
        /// Only logins with this result: ok, wrong, disabled, weak, limited, unavailable or
        /// malformed.
        #[arg(long)]
        result: Option<String>,
        /// Only logins here: submission, webapi, admin or account.
        #[arg(long)]
        service: Option<String>,
        /// Only logins at this time or later, for example "-2h" or "2026-11-28 14:00".
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        after: Option<Moment>,
        /// At most N lines.
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Forget failed logins, so that the next login is checked. Nothing else changes.
    Unlock {
        /// The account that may log in again: its name, or one of its login addresses. Without
        /// --network it may log in again from everywhere.
        #[arg(required_unless_present = "network")]
        account: Option<String>,
        /// The address of a client. Its networks may log in again: with the account, or with all
        /// accounts.
        #[arg(long, value_name = "IP")]
        network: Option<IpAddr>,
    },
}
