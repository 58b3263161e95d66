//! `undelete ...`, `purge ...`

use clap::Subcommand;

/// `undelete ...`
#[derive(Debug, Subcommand)]
pub enum Undelete {
    /// List the mail that an account deleted lately, oldest first.
    List {
        /// The account.
        account: String,
        /// At most N mails.
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Put deleted mail of an account into its inbox again. The command fails unless all of it is
    /// there.
    Restore {
        /// The account.
        account: String,
        /// The mails by their names, as the list has them.
        #[arg(value_name = "NAME", required_unless_present = "all")]
        names: Vec<String>,
        /// All deleted mail of the account.
        #[arg(long, conflicts_with = "names")]
        all: bool,
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
}

/// `purge ...`
#[derive(Debug, Subcommand)]
pub enum Purge {
    /// Remove deleted mail for good.
    Account {
        /// The account.
        #[arg(required_unless_present = "all")]
        account: Option<String>,
        /// All accounts.
        #[arg(long, conflicts_with = "account")]
        all: bool,
    },
    /// Give back the room of texts that no record needs any more.
    Blob,
    /// Remove all records whose time is over: history, events, audit log, deleted mail.
    Data,
}
