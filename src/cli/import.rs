//! The arguments of `config import-...`.

use std::path::PathBuf;

use clap::Args;

/// The arguments of `config import-mox` and `config import-postfix`.
#[derive(Debug, Args)]
pub struct ImportFolder {
    /// The folder with the files of the other server. They are only read.
    #[arg(value_name = "FOLDER")]
    pub from: PathBuf,
    /// The folder for postrider.conf and domains.conf. It must not have them yet. Default: the
    /// folder of --config.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// The arguments of `config import-stalwart`.
#[derive(Debug, Args)]
pub struct ImportHooks {
    /// The TOML file of Stalwart. It is only read.
    #[arg(value_name = "FILE")]
    pub from: PathBuf,
    /// Add the hooks and milters to postrider.conf, and write the secrets of hooks to hooks/ beside
    /// it. Without this, the command only prints what it would add.
    #[arg(long)]
    pub write: bool,
}
