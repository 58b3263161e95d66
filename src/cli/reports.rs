//! `queue reports ...`

use clap::{Args, Subcommand, ValueEnum};

/// The commands for the reports to other domains that wait to be sent.
#[derive(Debug, Subcommand)]
pub enum Reports {
    /// List the reports that wait. Each has an id.
    List {
        /// The reports.
        #[command(flatten)]
        filter: ReportFilter,
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Show a report as it would be sent now, who asks for it, and why it would not be sent.
    Show {
        /// The id of the report.
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Drop reports, together with the results of their days. What is seen later on such a day
    /// makes a new one.
    Drop {
        /// The ids of the reports.
        #[arg(value_name = "ID", conflicts_with_all = ["domain", "kind"])]
        ids: Vec<String>,
        /// The reports.
        #[command(flatten)]
        filter: ReportFilter,
        /// All reports. Needed when there is no id and no filter.
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },
}

/// Which reports. All given options must match.
#[derive(Clone, Debug, Default, Args)]
pub struct ReportFilter {
    /// Only reports about domains with this text.
    #[arg(long, value_name = "TEXT")]
    pub domain: Option<String>,
    /// Only reports of this type.
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<ReportType>,
}

/// What a report is about.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ReportType {
    /// What DMARC said of mail from the domain.
    Dmarc,
    /// How TLS went with the hosts of the domain.
    Tls,
}
