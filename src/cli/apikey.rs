//! `apikey ...`

use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use postrider_config::parse_duration;

/// `apikey ...`
#[derive(Debug, Subcommand)]
pub enum ApiKey {
    /// Make a key and print it. The key is printed only once: the server keeps a hash.
    Add {
        /// A name for people.
        name: String,
        /// The account that the key acts for. The scopes of the webapi need one.
        #[arg(long, required_unless_present = "scope")]
        account: Option<String>,
        /// The things that the key may do, separated by commas. Default: all of the webapi.
        #[arg(long, value_delimiter = ',')]
        scope: Vec<KeyScope>,
        /// A domain of a tenant. The management API shows the key only things in its domains. May
        /// be given several times. Default: all domains.
        #[arg(long, value_name = "DOMAIN")]
        domain: Vec<String>,
        /// A tenant: the key has all domains whose `tenant` in domains.conf is this one, later ones
        /// too.
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
        /// Answer errors of the management API with status 200, for clients made for Stalwart.
        #[arg(long)]
        legacy_status: bool,
        /// The lifetime of the key, for example "90d". Default: no end.
        #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
        expires: Option<Duration>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the keys without their secrets.
    List {
        /// Only keys of this account.
        #[arg(long)]
        account: Option<String>,
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Remove a key. It is worthless from then on.
    Rm {
        /// The id of the key.
        id: u64,
    },
}

/// Something that a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KeyScope {
    /// Send messages, and list and cancel queued messages.
    Send,
    /// Read events and statistics.
    Events,
    /// Read and change the suppression list.
    Suppression,
    /// Read and change the messages in the mailboxes.
    Messages,
    /// Make every call of the management API.
    Manage,
    /// Make the calls of the management API that change nothing.
    ManageRead,
    /// See and change the queue by the management API.
    ManageQueue,
    /// See and change accounts, lists and domains by the management API.
    ManageAccounts,
    /// Read logs, events and reports by the management API.
    ManageObserve,
    /// Read and change the mail of people by the mailbox API, and send in their names.
    ManageMail,
}
