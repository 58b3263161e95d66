//! `queue ...`

use clap::{Args, Subcommand, ValueEnum};
use postrider_smtp::{Address, Domain};

use super::{
    destinations::Destinations,
    listing::{Listing, When},
    moment::Bound,
    reports::Reports,
    webhook::Webhook,
};

/// The commands for the queue. All of them ask the running server.
#[derive(Debug, Subcommand)]
pub enum Queue {
    /// List queued messages, oldest first. Each has the reason why it waits.
    List {
        /// The messages.
        #[command(flatten)]
        filter: Filter,
        /// The form of the list.
        #[command(flatten)]
        listing: Listing,
    },
    /// Show why a message is still queued, or how it ended, and what was said in its last attempts.
    Explain {
        /// The id of the message.
        id: u64,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write a message to standard output.
    Dump {
        /// The id of the message.
        id: u64,
    },
    /// Hold messages. There are no attempts until they are released.
    Hold(Selection),
    /// Release held messages.
    Release(Selection),
    /// Attempt to deliver messages now.
    Kick(Selection),
    /// Change the time of the next attempt.
    Schedule {
        /// The new time.
        #[command(flatten)]
        when: When,
        /// The messages.
        #[command(flatten)]
        which: Selection,
    },
    /// Force messages to a transport of postrider.conf. With "", the routes decide again.
    Transport {
        /// The transport.
        name: String,
        /// The messages.
        #[command(flatten)]
        which: Selection,
    },
    /// Set whether messages need verified TLS.
    Requiretls {
        /// The new setting.
        policy: TlsPolicy,
        /// The messages.
        #[command(flatten)]
        which: Selection,
    },
    /// End messages as if their delivery had failed: with a DSN and the event "failed".
    Fail(Selection),
    /// End messages without a DSN, with the event "canceled".
    Drop(Selection),
    /// Show whether the server delivers messages and calls webhooks.
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Stop deliveries and webhook calls. Attempts that go on come to their end. The server still
    /// accepts messages. The stop lasts over restarts.
    Stop {
        /// Stop only this.
        #[arg(long)]
        only: Option<Work>,
    },
    /// Let deliveries and webhook calls go on after a stop or a restore.
    Start {
        /// Start only this.
        #[arg(long)]
        only: Option<Work>,
    },
    /// Show the sites that the queue delivers to, and pause or limit deliveries to one.
    Destinations(Destinations),
    /// Show the history of messages that left the queue.
    #[command(subcommand)]
    Retired(Retired),
    /// List, add and remove suppressed addresses. An account does not send to them.
    #[command(subcommand)]
    Suppress(Suppress),
    /// List, add and remove the rules that hold messages.
    #[command(subcommand)]
    HoldRules(HoldRules),
    /// List, show and drop the reports about TLS and DMARC to other domains that wait to be sent.
    #[command(subcommand)]
    Reports(Reports),
    /// List, change and end webhook calls, and show their history.
    #[command(subcommand)]
    Webhook(Webhook),
}

/// Work that can be stopped.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Work {
    /// Attempts to deliver messages.
    Deliveries,
    /// Webhook calls.
    Webhooks,
}

/// Which queued messages. All given options must match.
#[derive(Clone, Debug, Default, Args)]
pub struct Filter {
    /// Only messages with these ids, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    pub ids: Vec<u64>,
    /// Only messages of this account.
    #[arg(long)]
    pub account: Option<String>,
    /// Only messages with this text in the address of the sender. @example.com selects a domain.
    #[arg(long, value_name = "TEXT")]
    pub from: Option<String>,
    /// Only messages with this text in the address of the recipient. @example.com selects a domain.
    #[arg(long, value_name = "TEXT")]
    pub to: Option<String>,
    /// Only messages with this Message-ID, with or without < and >.
    #[arg(long, value_name = "ID")]
    pub message_id: Option<String>,
    /// Only messages with this text in the subject, in any case.
    #[arg(long, value_name = "TEXT")]
    pub subject: Option<String>,
    /// Only messages submitted before (<) or after (>) a time, for example "<-1h30m" or
    /// ">2026-11-28 14:00".
    #[arg(long, value_name = "<TIME", allow_hyphen_values = true)]
    pub submitted: Option<Bound>,
    /// Only messages with the next attempt before (<) or after (>) a time, for example "<now" or
    /// ">2h".
    #[arg(long, value_name = "<TIME", allow_hyphen_values = true)]
    pub next_attempt: Option<Bound>,
    /// Only held messages (true), or only others (false).
    #[arg(long, value_name = "BOOL")]
    pub hold: Option<bool>,
    /// Only messages forced to this transport.
    #[arg(long, value_name = "NAME")]
    pub transport: Option<String>,
}

/// Which queued messages to change or end.
#[derive(Clone, Debug, Default, Args)]
pub struct Selection {
    /// The filter.
    #[command(flatten)]
    pub filter: Filter,
    /// All messages. Needed when there is no filter.
    #[arg(long)]
    pub all: bool,
}

/// Whether a message needs verified TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TlsPolicy {
    /// Only over verified TLS, to hosts with REQUIRETLS. Else the message fails.
    Yes,
    /// Without TLS if there is no other way.
    No,
    /// As the policy of the remote says.
    Default,
}

/// `queue retired ...`
#[derive(Debug, Subcommand)]
pub enum Retired {
    /// List the history with all results, newest first.
    List {
        /// The messages.
        #[command(flatten)]
        filter: RetiredFilter,
        /// The form of the list.
        #[command(flatten)]
        listing: Listing,
    },
}

/// Which messages of the history. All given options must match.
#[derive(Clone, Debug, Default, Args)]
pub struct RetiredFilter {
    /// Only messages with these ids, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    pub ids: Vec<u64>,
    /// Only messages of this account.
    #[arg(long)]
    pub account: Option<String>,
    /// Only messages with this text in the address of the sender. @example.com selects a domain.
    #[arg(long, value_name = "TEXT")]
    pub from: Option<String>,
    /// Only messages with this text in the address of the recipient. @example.com selects a domain.
    #[arg(long, value_name = "TEXT")]
    pub to: Option<String>,
    /// Only messages to exactly this address.
    #[arg(long, value_name = "ADDRESS")]
    pub recipient: Option<String>,
    /// Only messages with this Message-ID, with or without < and >.
    #[arg(long, value_name = "ID")]
    pub message_id: Option<String>,
    /// Only messages with this text in the subject, in any case.
    #[arg(long, value_name = "TEXT")]
    pub subject: Option<String>,
    /// Only messages submitted before (<) or after (>) a time.
    #[arg(long, value_name = "<TIME", allow_hyphen_values = true)]
    pub submitted: Option<Bound>,
    /// Only messages with the last activity before (<) or after (>) a time.
    #[arg(long, value_name = "<TIME", allow_hyphen_values = true)]
    pub last_activity: Option<Bound>,
    /// Only delivered messages (true), or only others (false).
    #[arg(long, value_name = "BOOL")]
    pub success: Option<bool>,
    /// Only messages forced to this transport.
    #[arg(long, value_name = "NAME")]
    pub transport: Option<String>,
    /// Only messages whose last reply has this code.
    #[arg(long, value_name = "CODE")]
    pub code: Option<u16>,
    /// Only messages whose last reply has this enhanced code, for example 5.1.1.
    #[arg(long, value_name = "CODE")]
    pub enhanced_code: Option<String>,
    /// Only messages whose last attempt was at a host with this text in its name or address.
    #[arg(long, value_name = "TEXT")]
    pub host: Option<String>,
    /// Only messages with this entry in the application's own data. Without a value, any value.
    #[arg(long, value_name = "NAME=VALUE", value_parser = extra)]
    pub extra: Option<(String, String)>,
}

/// Reads `NAME=VALUE`, or a name alone.
fn extra(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    match name {
        "" => Err("a name is missing before the equals sign".to_owned()),
        name => Ok((name.to_owned(), value.to_owned())),
    }
}

/// `queue suppress ...`
#[derive(Debug, Subcommand)]
pub enum Suppress {
    /// List suppressed addresses.
    List {
        /// Only entries of this account.
        #[arg(long)]
        account: Option<String>,
        /// Only entries of this address and its variants; or those with this text in the address or
        /// in the reason.
        #[arg(long, value_name = "TEXT")]
        text: Option<String>,
        /// Only entries about this mailing list.
        #[arg(long, value_name = "NAME")]
        list: Option<String>,
        /// Only entries that a person added (true), or only others (false).
        #[arg(long, value_name = "BOOL")]
        manual: Option<bool>,
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Suppress an address, with all its variants, for an account.
    Add {
        /// The account.
        account: String,
        /// The address.
        #[arg(value_parser = address)]
        address: String,
        /// The reason.
        #[arg(long, default_value = "added by an administrator")]
        reason: String,
    },
    /// Allow an address for an account again.
    Remove(OnList),
    /// Show whether an address is suppressed for an account.
    Lookup {
        /// The entry.
        #[command(flatten)]
        entry: OnList,
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
}

/// An entry of a suppression list.
#[derive(Debug, Args)]
pub struct OnList {
    /// The account.
    pub account: String,
    /// The address or a variant of it.
    #[arg(value_parser = address)]
    pub address: String,
    /// The mailing list that the recipient unsubscribed from. Without it: the entry for all mail.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    pub list: String,
}

/// `queue hold-rules ...`
#[derive(Debug, Subcommand)]
pub enum HoldRules {
    /// List the rules.
    List {
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Hold the queued and the new messages that match all given options. Without options, hold
    /// everything.
    Add {
        /// Messages of this account.
        #[arg(long)]
        account: Option<String>,
        /// Messages with a reverse-path in this domain.
        #[arg(long, value_name = "DOMAIN", value_parser = domain)]
        sender_domain: Option<String>,
        /// Messages with a recipient in this domain.
        #[arg(long, value_name = "DOMAIN", value_parser = domain)]
        recipient_domain: Option<String>,
        /// Messages with this reverse-path.
        #[arg(long, value_name = "ADDRESS", value_parser = address)]
        sender: Option<String>,
        /// Messages to this recipient.
        #[arg(long, value_name = "ADDRESS", value_parser = address)]
        recipient: Option<String>,
    },
    /// Remove a rule. The messages that it held stay held until they are released.
    Remove {
        /// The id of the rule.
        id: u64,
        /// Release the messages that it held. Those that another rule holds too stay held.
        #[arg(long)]
        release: bool,
    },
}

/// An address as it was typed, if it is one.
fn address(typed: &str) -> Result<String, String> {
    let parsed = Address::parse(typed);
    parsed.map_err(|error| error.to_string())?;
    Ok(typed.to_owned())
}

/// A domain as it was typed, if it is one.
fn domain(typed: &str) -> Result<String, String> {
    let parsed = typed.parse::<Domain>();
    parsed.map_err(|error| error.to_string())?;
    Ok(typed.to_owned())
}
