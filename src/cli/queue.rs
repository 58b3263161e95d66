//! `queue ...`

use clap::{Args, Subcommand, ValueEnum};

use super::webhook::Webhook;

/// What can be done with the queue. Everything goes through the running server.
#[derive(Debug, Subcommand)]
pub enum Queue {
    /// List queued messages and what each waits for, oldest first.
    List {
        /// Which ones.
        #[command(flatten)]
        filter: Filter,
        /// How.
        #[command(flatten)]
        listing: Listing,
    },
    /// Say why a message is still there.
    Explain {
        /// The message.
        id: u64,
    },
    /// Write the text of a message to standard output.
    Dump {
        /// The message.
        id: u64,
    },
    /// Hold messages: no attempts until they are released.
    Hold(Selection),
    /// Release held messages.
    Release(Selection),
    /// Attempt messages now.
    Kick(Selection),
    /// Change when messages are attempted next.
    Schedule {
        /// To when.
        #[command(flatten)]
        when: When,
        /// Which ones.
        #[command(flatten)]
        which: Selection,
    },
    /// Force messages to a transport of postrider.conf; "" goes back to the routes.
    Transport {
        /// The transport.
        name: String,
        /// Which ones.
        #[command(flatten)]
        which: Selection,
    },
    /// Set whether messages may only go over verified TLS.
    Requiretls {
        /// What to set.
        policy: TlsPolicy,
        /// Which ones.
        #[command(flatten)]
        which: Selection,
    },
    /// End messages as if their delivery had failed: with DSN and event "failed".
    Fail(Selection),
    /// End messages without a DSN: event "canceled".
    Drop(Selection),
    /// The history of messages that left the queue.
    #[command(subcommand)]
    Retired(Retired),
    /// Addresses that accounts do not mail to any more.
    #[command(subcommand)]
    Suppress(Suppress),
    /// Rules that hold new messages.
    #[command(subcommand)]
    HoldRules(HoldRules),
    /// The calls of webhooks: those that are to be made, and their history.
    #[command(subcommand)]
    Webhook(Webhook),
}

/// A new time for the next attempt.
#[derive(Clone, Debug, Args)]
pub struct When {
    /// At this time relative to now, such as "30m" or "now".
    #[arg(
        long,
        value_name = "TIME",
        required_unless_present = "by",
        conflicts_with = "by"
    )]
    pub at: Option<String>,
    /// Later by this, or earlier: "1h30m", "-10m".
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub by: Option<String>,
}

/// How records are listed.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Listing {
    /// The other way round.
    #[arg(long)]
    pub reverse: bool,
    /// At most so many.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Print one JSON array.
    #[arg(long)]
    pub json: bool,
}

/// Which queued messages; all that are given must match.
#[derive(Clone, Debug, Default, Args)]
pub struct Filter {
    /// Only these, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    pub ids: Vec<u64>,
    /// Only of this account.
    #[arg(long)]
    pub account: Option<String>,
    /// Only with this text in the sender's address; @example.com for a domain.
    #[arg(long, value_name = "TEXT")]
    pub from: Option<String>,
    /// Only with this text in the recipient's address; @example.com for a domain.
    #[arg(long, value_name = "TEXT")]
    pub to: Option<String>,
    /// Only submitted before (<) or after (>) a time relative to now, as in "<-1h30m".
    #[arg(long, value_name = "<TIME", allow_hyphen_values = true)]
    pub submitted: Option<String>,
    /// Only with their next attempt before (<) or after (>) a time relative to now, as in "<now" or ">2h".
    #[arg(long, value_name = "<TIME", allow_hyphen_values = true)]
    pub next_attempt: Option<String>,
    /// Only held ones (true), or only others (false).
    #[arg(long, value_name = "BOOL")]
    pub hold: Option<bool>,
    /// Only those forced to this transport.
    #[arg(long, value_name = "NAME")]
    pub transport: Option<String>,
}

/// Which queued messages are changed or ended.
#[derive(Clone, Debug, Default, Args)]
pub struct Selection {
    /// By filter.
    #[command(flatten)]
    pub filter: Filter,
    /// All messages; needed when there is no filter.
    #[arg(long)]
    pub all: bool,
}

/// Whether a message may only go over verified TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TlsPolicy {
    /// REQUIRETLS, or fail.
    Yes,
    /// Without TLS if need be.
    No,
    /// As the remote's policy says.
    Default,
}

/// `queue retired ...`
#[derive(Debug, Subcommand)]
pub enum Retired {
    /// List the history with every result, newest first.
    List {
        /// Which ones.
        #[command(flatten)]
        filter: RetiredFilter,
        /// How.
        #[command(flatten)]
        listing: Listing,
    },
}

/// Which messages of the history; all that are given must match.
#[derive(Clone, Debug, Default, Args)]
pub struct RetiredFilter {
    /// Only these, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    pub ids: Vec<u64>,
    /// Only of this account.
    #[arg(long)]
    pub account: Option<String>,
    /// Only with this text in the sender's address; @example.com for a domain.
    #[arg(long, value_name = "TEXT")]
    pub from: Option<String>,
    /// Only with this text in the recipient's address; @example.com for a domain.
    #[arg(long, value_name = "TEXT")]
    pub to: Option<String>,
    /// Only to exactly this address.
    #[arg(long, value_name = "ADDRESS")]
    pub recipient: Option<String>,
    /// Only submitted before (<) or after (>) a time relative to now.
    #[arg(long, value_name = "<TIME", allow_hyphen_values = true)]
    pub submitted: Option<String>,
    /// Only with their last activity before (<) or after (>) a time relative to now.
    #[arg(long, value_name = "<TIME", allow_hyphen_values = true)]
    pub last_activity: Option<String>,
    /// Only delivered ones (true), or only others (false).
    #[arg(long, value_name = "BOOL")]
    pub success: Option<bool>,
    /// Only those forced to this transport.
    #[arg(long, value_name = "NAME")]
    pub transport: Option<String>,
}

/// `queue suppress ...`
#[derive(Debug, Subcommand)]
pub enum Suppress {
    /// List suppressed addresses.
    List {
        /// Only of this account.
        #[arg(long)]
        account: Option<String>,
        /// Print one JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Put an address, and so all its variants, on an account's list.
    Add {
        /// Whose list.
        account: String,
        /// The address.
        address: String,
        /// Why.
        #[arg(long, default_value = "added by an administrator")]
        reason: String,
    },
    /// Take an address off an account's list.
    Remove(OnList),
    /// Look whether an address is on an account's list.
    Lookup {
        /// Which.
        #[command(flatten)]
        entry: OnList,
        /// Print one JSON array.
        #[arg(long)]
        json: bool,
    },
}

/// An address on a suppression list.
#[derive(Debug, Args)]
pub struct OnList {
    /// Whose list.
    pub account: String,
    /// The address or a variant of it.
    pub address: String,
    /// For mail of this list only, as who unsubscribed by a link is; without it, for all mail.
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
        /// Print one JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Hold new messages, and those that are queued, that match all that is given; everything when nothing is.
    Add {
        /// Of this account.
        #[arg(long)]
        account: Option<String>,
        /// With a reverse-path in this domain.
        #[arg(long, value_name = "DOMAIN")]
        sender_domain: Option<String>,
        /// With a recipient in this domain.
        #[arg(long, value_name = "DOMAIN")]
        recipient_domain: Option<String>,
        /// With this reverse-path.
        #[arg(long, value_name = "ADDRESS")]
        sender: Option<String>,
        /// To this recipient.
        #[arg(long, value_name = "ADDRESS")]
        recipient: Option<String>,
    },
    /// Remove a rule. What it holds stays held until it is released.
    Remove {
        /// The rule.
        id: u64,
    },
}
