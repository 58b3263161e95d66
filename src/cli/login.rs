//! `login ...`

use std::net::IpAddr;

use clap::Subcommand;

/// `login ...`
#[derive(Debug, Subcommand)]
pub enum Login {
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
