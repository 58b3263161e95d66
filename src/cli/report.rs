//! `report ...`

use clap::{Args, Subcommand, ValueEnum};

use super::moment::Moment;

/// The commands for reports that came in.
#[derive(Debug, Subcommand)]
pub enum Report {
    /// List the reports that came in, newest first: about DMARC, about TLS, and about single
    /// messages.
    List {
        /// The reports.
        #[command(flatten)]
        filter: ReceivedFilter,
        /// At most N reports.
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Show what a report says.
    Show {
        /// The number of the report.
        id: u64,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove reports. The mails stay in their mailboxes, and the sums stay as they are.
    Rm {
        /// The numbers of the reports.
        #[arg(value_name = "ID", conflicts_with_all = ["text", "kind"])]
        ids: Vec<u64>,
        /// The reports.
        #[command(flatten)]
        filter: ReceivedFilter,
        /// All reports. Needed when there is no number and no filter.
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },
    /// Sum the verified reports about DMARC: how many messages came in the name of a domain, from
    /// where, and for how many DMARC passed.
    Sums {
        /// The domain. By default all domains of this server.
        domain: Option<String>,
        /// What the sums are told apart by.
        #[arg(long, value_name = "WHAT", default_value = "source")]
        by: By,
        /// From the day with this time on, for example "-30d" or "2026-11-28".
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        after: Option<Moment>,
        /// Only days that begin before this time.
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        before: Option<Moment>,
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
}

/// Which reports. All given options must match.
#[derive(Clone, Debug, Default, Args)]
pub struct ReceivedFilter {
    /// Only reports with this text in their addresses, subject, names, id, domains or error. Their
    /// number and type are found as a whole, and their time by its beginning.
    #[arg(long)]
    pub text: Option<String>,
    /// Only reports of this type.
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<ReceivedType>,
}

/// What a report is about.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ReceivedType {
    /// What DMARC said of mail from a domain.
    Dmarc,
    /// How TLS went with the hosts of a domain.
    Tls,
    /// One message, for example a complaint about it.
    Arf,
}

/// What sums are told apart by.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum By {
    /// The network that messages came from (/24 or /64), and the domain of their author.
    Source,
    /// The day.
    Day,
    /// Who reports.
    Reporter,
}
