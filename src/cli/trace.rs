//! `trace ...`

use clap::Args;

use super::moment::Moment;

/// The arguments of `trace`.
#[derive(Debug, Args)]
pub struct Trace {
    /// The id of a queued message, the name of a session, the address of a sender or a recipient, a
    /// Message-ID in angle brackets, the number of a trace or of a webhook call, or the IP address
    /// of a client.
    #[arg(value_name = "ID|ADDRESS|<MESSAGE-ID>")]
    pub of: String,
    /// Only what started at this time or later, for example "-2h" or "2026-11-28 14:00".
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<Moment>,
    /// Print a JSON array of the stories. With --follow, print a line of JSON for each trace that
    /// ends.
    #[arg(long)]
    pub json: bool,
    /// Then go on with what happens, until the command is interrupted. This needs a running server.
    #[arg(long)]
    pub follow: bool,
}
