//! `queue webhook ...`

use clap::{Args, Subcommand};

use super::{
    listing::{Listing, When},
    moment::Bound,
};

/// The events that calls report.
const EVENTS: [&str; 11] = [
    "delivered",
    "suppressed",
    "delayed",
    "failed",
    "relayed",
    "expanded",
    "canceled",
    "unrecognized",
    "unsubscribed",
    "complained",
    "incoming",
];

/// The commands for webhook calls. All of them ask the running server.
#[derive(Debug, Subcommand)]
pub enum Webhook {
    /// List the calls to be made, oldest first, with the answers so far.
    List {
        /// The calls.
        #[command(flatten)]
        filter: HookFilter,
        /// The form of the list.
        #[command(flatten)]
        listing: Listing,
    },
    /// Make calls now.
    Kick(HookSelection),
    /// Change the time of the next attempt.
    Schedule {
        /// The new time.
        #[command(flatten)]
        when: When,
        /// The calls.
        #[command(flatten)]
        which: HookSelection,
    },
    /// End calls as failed, without making them.
    Cancel(HookSelection),
    /// Call the webhook of an account once with an example, and show the answer.
    Test {
        /// The account.
        account: String,
        /// Call the webhook for received messages, instead of the webhook for events of sent
        /// messages.
        #[arg(long)]
        incoming: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make calls of the history again, to the URL that is configured now.
    Replay {
        /// The calls.
        #[command(flatten)]
        filter: RetiredHookFilter,
        /// All calls of the history. Needed when there is no filter.
        #[arg(long)]
        all: bool,
    },
    /// Show the history of calls.
    #[command(subcommand)]
    Retired(RetiredHooks),
}

/// `queue webhook retired ...`
#[derive(Debug, Subcommand)]
pub enum RetiredHooks {
    /// List the history with all answers, newest first.
    List {
        /// The calls.
        #[command(flatten)]
        filter: RetiredHookFilter,
        /// The form of the list.
        #[command(flatten)]
        listing: Listing,
    },
}

/// Which calls. All given options must match.
#[derive(Clone, Debug, Default, Args)]
pub struct HookFilter {
    /// Only calls with these ids, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    pub ids: Vec<u64>,
    /// Only calls of this account.
    #[arg(long)]
    pub account: Option<String>,
    /// Only calls for this event. "incoming" is a received message.
    #[arg(long, value_parser = EVENTS)]
    pub event: Option<String>,
    /// Only calls for events of this queued or retired message.
    #[arg(long, value_name = "ID")]
    pub message: Option<u64>,
    /// Only calls added before (<) or after (>) a time, for example "<-1h30m".
    #[arg(long, value_name = "<TIME", allow_hyphen_values = true)]
    pub submitted: Option<Bound>,
    /// Only calls with the next attempt before (<) or after (>) a time, for example "<now" or
    /// ">2h".
    #[arg(long, value_name = "<TIME", allow_hyphen_values = true)]
    pub next_attempt: Option<Bound>,
    /// Only calls of which an attempt failed (true), or only others (false).
    #[arg(long, value_name = "BOOL")]
    pub failed: Option<bool>,
}

/// Which calls to change or end.
#[derive(Clone, Debug, Default, Args)]
pub struct HookSelection {
    /// The filter.
    #[command(flatten)]
    pub filter: HookFilter,
    /// All calls. Needed when there is no filter.
    #[arg(long)]
    pub all: bool,
}

/// Which calls of the history. All given options must match.
#[derive(Clone, Debug, Default, Args)]
pub struct RetiredHookFilter {
    /// Only calls with these ids, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    pub ids: Vec<u64>,
    /// Only calls of this account.
    #[arg(long)]
    pub account: Option<String>,
    /// Only calls for this event. "incoming" is a received message.
    #[arg(long, value_parser = EVENTS)]
    pub event: Option<String>,
    /// Only calls for events of this message.
    #[arg(long, value_name = "ID")]
    pub message: Option<u64>,
    /// Only calls that the receiver accepted (true), or only others (false).
    #[arg(long, value_name = "BOOL")]
    pub success: Option<bool>,
    /// Only calls added before (<) or after (>) a time.
    #[arg(long, value_name = "<TIME", allow_hyphen_values = true)]
    pub submitted: Option<Bound>,
    /// Only calls that ended before (<) or after (>) a time.
    #[arg(long, value_name = "<TIME", allow_hyphen_values = true)]
    pub last_activity: Option<Bound>,
}
