//! `logs` and `loglevel`.

use clap::{Args, Subcommand, ValueEnum};

/// The arguments of `logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// Only lines that have this text somewhere, in lower or upper case.
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Only lines that are at least so severe.
    #[arg(long, value_name = "LEVEL")]
    pub level: Option<Severity>,
    /// Only lines of this module and those within it, for example queue or smtp::server.
    #[arg(long)]
    pub module: Option<String>,
    /// Only lines about the queued message with this id.
    #[arg(long, value_name = "ID")]
    pub queue: Option<u64>,
    /// At most N lines that are there already.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,
    /// Go on with new lines as they come.
    #[arg(long)]
    pub follow: bool,
    /// Print a JSON array; with --follow, one JSON object per line.
    #[arg(long)]
    pub json: bool,
}

/// How severe a line is, the worst first.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Severity {
    /// A person is needed.
    Error,
    /// Unexpected.
    Warn,
    /// What happens to mail, and the state of the server.
    Info,
    /// Decisions.
    Debug,
    /// The protocols, line by line.
    Trace,
}

/// The arguments of `loglevel`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct LogLevel {
    /// Take back what was changed.
    #[command(subcommand)]
    pub reset: Option<LogLevelReset>,
    /// The level of a module, for example queue=debug or smtp::server=trace. With --remote, a level
    /// alone. A level alone is that of all modules without one of their own. Levels are off, error,
    /// warn, info, debug and trace.
    #[arg(value_name = "[MODULE=]LEVEL")]
    pub level: Option<String>,
    /// Lines about these remote hosts only: an address, or a network such as 192.0.2.0/24.
    #[arg(long, value_name = "NET", requires = "level")]
    pub remote: Option<String>,
    /// For how long, for example 10m. Without it, until the server starts again.
    #[arg(long = "for", value_name = "TIME", requires = "level")]
    pub lasts: Option<String>,
    /// Print a JSON array.
    #[arg(long)]
    pub json: bool,
}

/// What `loglevel` takes back.
#[derive(Debug, Subcommand)]
pub enum LogLevelReset {
    /// Take back all levels that were set since the start of the server.
    Reset,
}
