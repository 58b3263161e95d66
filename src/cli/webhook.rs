//! `queue webhook ...`

use clap::{Args, Subcommand};

use super::queue::{Listing, When};

/// What a call may tell of.
const EVENTS: [&str; 9] = [
    "delivered",
    "suppressed",
    "delayed",
    "failed",
    "relayed",
    "expanded",
    "canceled",
    "unrecognized",
    "incoming",
];

/// What can be done with the calls of webhooks.
#[derive(Debug, Subcommand)]
pub enum Webhook {
    /// List the calls that are to be made, oldest first, with the answers so far.
    List {
        /// Which ones.
        #[command(flatten)]
        filter: HookFilter,
        /// How.
        #[command(flatten)]
        listing: Listing,
    },
    /// Make calls now.
    Kick(HookSelection),
    /// Change when calls are made.
    Schedule {
        /// To when.
        #[command(flatten)]
        when: When,
        /// Which ones.
        #[command(flatten)]
        which: HookSelection,
    },
    /// End calls as failed, without making them.
    Cancel(HookSelection),
    /// Call an account's webhook once with an example, and show the answer.
    Test {
        /// Whose.
        account: String,
        /// The one for received messages, not the one for what becomes of sent ones.
        #[arg(long)]
        incoming: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make calls of the history again, to where the account's events go now.
    Replay {
        /// Which ones.
        #[command(flatten)]
        filter: RetiredHookFilter,
        /// All of the history; needed when there is no filter.
        #[arg(long)]
        all: bool,
    },
    /// The history of calls.
    #[command(subcommand)]
    Retired(RetiredHooks),
}

/// `queue webhook retired ...`
#[derive(Debug, Subcommand)]
pub enum RetiredHooks {
    /// List the history with every answer, newest first.
    List {
        /// Which ones.
        #[command(flatten)]
        filter: RetiredHookFilter,
        /// How.
        #[command(flatten)]
        listing: Listing,
    },
}

/// Which calls; all that are given must match.
#[derive(Clone, Debug, Default, Args)]
pub struct HookFilter {
    /// Only these, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    pub ids: Vec<u64>,
    /// Only of this account.
    #[arg(long)]
    pub account: Option<String>,
    /// Only of this event, or of incoming messages.
    #[arg(long, value_parser = EVENTS)]
    pub event: Option<String>,
    /// Only of events of this queued or retired message.
    #[arg(long, value_name = "ID")]
    pub message: Option<u64>,
    /// Only made before (<) or after (>) a time relative to now, as in "<-1h30m".
    #[arg(long, value_name = "<TIME", allow_hyphen_values = true)]
    pub submitted: Option<String>,
    /// Only with their next call before (<) or after (>) a time relative to now, as in "<now" or ">2h".
    #[arg(long, value_name = "<TIME", allow_hyphen_values = true)]
    pub next_attempt: Option<String>,
}

/// Which calls are changed or ended.
#[derive(Clone, Debug, Default, Args)]
pub struct HookSelection {
    /// By filter.
    #[command(flatten)]
    pub filter: HookFilter,
    /// All calls; needed when there is no filter.
    #[arg(long)]
    pub all: bool,
}

/// Which calls of the history; all that are given must match.
#[derive(Clone, Debug, Default, Args)]
pub struct RetiredHookFilter {
    /// Only these, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    pub ids: Vec<u64>,
    /// Only of this account.
    #[arg(long)]
    pub account: Option<String>,
    /// Only of this event, or of incoming messages.
    #[arg(long, value_parser = EVENTS)]
    pub event: Option<String>,
    /// Only of events of this message.
    #[arg(long, value_name = "ID")]
    pub message: Option<u64>,
    /// Only those that the receiver took (true), or only others (false).
    #[arg(long, value_name = "BOOL")]
    pub success: Option<bool>,
    /// Only made before (<) or after (>) a time relative to now.
    #[arg(long, value_name = "<TIME", allow_hyphen_values = true)]
    pub submitted: Option<String>,
    /// Only ended before (<) or after (>) a time relative to now.
    #[arg(long, value_name = "<TIME", allow_hyphen_values = true)]
    pub last_activity: Option<String>,
}
