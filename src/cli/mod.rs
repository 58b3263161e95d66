//! The command line: what can be asked of `postrider`, as types.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};

mod queue;
mod webhook;

pub use queue::{
    Filter, HoldRules, Listing, OnList, Queue, Retired, RetiredFilter, Selection, Suppress,
    TlsPolicy, When,
};
pub use webhook::{HookFilter, HookSelection, RetiredHookFilter, RetiredHooks, Webhook};

/// A whole mail server for applications and their administrators.
#[derive(Debug, Parser)]
#[command(name = "postrider", version, propagate_version = true)]
pub struct Cli {
    /// The static configuration file; domains.conf lies beside it.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "POSTRIDER_CONF",
        default_value = "config/postrider.conf"
    )]
    pub config: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a complete server for development on this machine: no DNS, no certificates, nothing leaves it.
    Localserve(Localserve),
    /// Run the server.
    Serve,
    /// Check or explain the configuration files.
    #[command(subcommand)]
    Config(Config),
    /// Set the password of an account, read from the terminal or as one line from standard input.
    Setpassword {
        /// The account, as named in domains.conf.
        account: String,
    },
    /// Set the administrator's password, read from the terminal or as one line from standard input.
    Setadminpassword,
    /// Look at the messages waiting to be delivered, change or end them; their history, suppression lists, hold rules.
    #[command(subcommand)]
    Queue(Queue),
    /// The keys by which programs call the API in an account's name.
    #[command(subcommand)]
    Apikey(ApiKeys),
    /// Call a method of the webapi over HTTP, as an application would, and print the answer.
    Webapi(Webapi),
    /// Print the version.
    Version,
}

/// What `webapi` takes.
#[derive(Args)]
pub struct Webapi {
    /// The method; without it, all are listed.
    pub method: Option<String>,
    /// The request, as JSON; if not given or "-", it is read from standard input.
    pub request: Option<String>,
    /// Where the webapi is.
    #[arg(
        long,
        env = "POSTRIDER_URL",
        default_value = "http://127.0.0.1:1080/webapi/"
    )]
    pub url: String,
    /// Who calls: an address of the account, and its password (or a key) behind a colon; without that, it is asked for. If neither
    /// this nor --key is given, the environment is looked at: POSTRIDER_KEY, then POSTRIDER_USER.
    #[arg(long, value_name = "ADDRESS[:PASSWORD]")]
    pub user: Option<String>,
    /// Who calls, by a key.
    #[arg(long, conflicts_with = "user")]
    pub key: Option<String>,
    /// A file with certificates (PEM) that are trusted besides the system's, such as localserve's config/localserve.crt.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// For EventStream: begin behind the event with this ID, instead of with new ones.
    #[arg(long, value_name = "ID")]
    pub after: Option<u64>,
}

/// Hides what is secret.
impl std::fmt::Debug for Webapi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webapi")
            .field("method", &self.method)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// What `localserve` takes.
#[derive(Debug, Args)]
pub struct Localserve {
    /// Where its configuration and data live; made on first use. Without it: postrider-localserve in the user's data folder
    /// (XDG_DATA_HOME, or ~/.local/share).
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    pub ip: IpAddr,
    /// Added to each of the ports 1025, 1587, 1465, 1080 and 1443.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub port_offset: u16,
    /// Deliver for real, to the recipients' mail servers, instead of to the sender's own mailbox.
    #[arg(long)]
    pub deliver: bool,
}

/// `apikey ...`
#[derive(Debug, Subcommand)]
pub enum ApiKeys {
    /// Make a key. It is printed once, and nobody can find it out later.
    Add {
        /// What people call it.
        name: String,
        /// In whose name it may be used.
        #[arg(long)]
        account: String,
        /// What it may be used for; all of it when none is given.
        #[arg(long, value_delimiter = ',')]
        scope: Vec<KeyScope>,
        /// For how long, such as "90d"; without it, for ever.
        #[arg(long, value_name = "DURATION")]
        expires: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the keys, without their secrets.
    List {
        /// Only of this account.
        #[arg(long)]
        account: Option<String>,
        /// Print one JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Remove a key: it is of no use from then on.
    Rm {
        /// The key's number.
        id: u64,
    },
}

/// What a key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum KeyScope {
    /// Sending, and looking at and canceling what is queued.
    Send,
    /// Seeing events and their numbers.
    Events,
    /// Seeing and changing the suppression list.
    Suppression,
    /// Reading and changing the messages in the mailboxes.
    Messages,
}

/// `config ...`
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Check postrider.conf and domains.conf; every error names file, line and key.
    Test,
    /// Print every key with its type, default and meaning.
    Describe,
}
