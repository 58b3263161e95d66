//! The command line as types. Nothing here runs a command.

mod apikey;
mod apppassword;
mod audit;
mod backup;
mod checks;
mod config;
mod delivery;
mod destinations;
mod dns;
mod export;
mod hooks;
mod import;
mod junk;
mod listing;
mod log;
mod login;
mod moment;
mod queue;
mod report;
mod reports;
mod tlspubkey;
mod trace;
mod undelete;
mod webhook;

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};

pub use apikey::{ApiKey, KeyScope};
pub use apppassword::{AppPassword, Totp};
pub use audit::Audit;
pub use backup::{Backup, Restore, Verify};
pub use checks::{CheckedClient, DkimCheck, Dmarc, Spf};
pub use config::{
    Account, Address, Alias, Config, Dkim, Domain, KeyAlgorithm, Principal, PrincipalType, Route,
    Scope, Settings,
};
pub use delivery::{Delivery, DeliveryCheck};
pub use destinations::{DestinationOrder, Destinations, Terms};
pub use dns::Dns;
pub use export::{Export, ExportTarget};
pub use hooks::{Hooks, HooksTest};
pub use import::{ImportFolder, ImportHooks};
pub use junk::{Classify, Junk, Kind, Train};
pub use listing::{Listing, When};
pub use log::{LogLevel, LogLevelReset, Logs, Severity};
pub use login::Login;
pub use moment::{Bound, Moment, Offset};
pub use queue::{
    Filter, HoldRules, OnList, Queue, Retired, RetiredFilter, Selection, Suppress, TlsPolicy, Work,
};
pub use report::{By, ReceivedFilter, ReceivedType, Report};
pub use reports::{ReportFilter, ReportType, Reports};
pub use tlspubkey::TlsPubkey;
pub use trace::Trace;
pub use undelete::{Purge, Undelete};
pub use webhook::{HookFilter, HookSelection, RetiredHookFilter, RetiredHooks, Webhook};

/// A whole mail server for applications and their administrators.
#[derive(Debug, Parser)]
#[command(name = "postrider", version, propagate_version = true)]
pub struct Cli {
    /// The static configuration file. The file domains.conf must be in the same folder.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "POSTRIDER_CONF",
        default_value = "config/postrider.conf"
    )]
    pub config: PathBuf,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a complete server for development. It needs no DNS and no certificates, and no mail
    /// leaves this machine.
    Localserve(Localserve),
    /// Make the configuration, the keys and the passwords of a new server. Print the DNS records
    /// and the next steps.
    Quickstart(Quickstart),
    /// Run the server.
    Serve,
    /// Check, explain and change the configuration files. Changes go through the running server, or
    /// directly into the files if none runs.
    #[command(subcommand)]
    Config(Config),
    /// Show who changed what.
    #[command(subcommand)]
    Audit(Audit),
    /// Show how often the running server refused mail, logins and connections since its start, by
    /// reason.
    Refusals {
        /// Also the reasons for which nothing was refused.
        #[arg(long)]
        all: bool,
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Set the password of an account. It is read from the terminal, or as one line from standard
    /// input.
    Setpassword {
        /// The account, as named in domains.conf.
        account: String,
    },
    /// Set the password of the administrator. It is read from the terminal, or as one line from
    /// standard input.
    Setadminpassword,
    /// List, change and end queued messages. Show their history, suppression lists, hold rules and
    /// webhook calls.
    #[command(subcommand)]
    Queue(Queue),
    /// Make, list and remove API keys. A program calls the webapi with a key, in the name of an
    /// account.
    #[command(subcommand)]
    Apikey(ApiKey),
    /// Make, list and remove app passwords: passwords of an account for one program each.
    #[command(subcommand)]
    Apppassword(AppPassword),
    /// Make, list and remove keys of client certificates, with which programs log in to submission
    /// (AUTH EXTERNAL).
    #[command(subcommand)]
    Tlspubkey(TlsPubkey),
    /// Let the password of an account need one-time codes (TOTP), or not.
    #[command(subcommand)]
    Totp(Totp),
    /// List, check and publish the DNS records of a domain, and ask DNS. Without a running server,
    /// the commands work on the files.
    #[command(subcommand)]
    Dns(Dns),
    /// Check by SPF whether a client may send mail in the name of a domain. These checks run as
    /// those of incoming mail, in the running server. Without one, they ask the DNS servers of
    /// postrider.conf, or those of the system.
    #[command(subcommand)]
    Spf(Spf),
    /// Verify the DKIM signatures of a message. It runs as spf does.
    #[command(subcommand)]
    Dkim(DkimCheck),
    /// Check a message by SPF, DKIM, ARC and DMARC. It runs as spf does.
    #[command(subcommand)]
    Dmarc(Dmarc),
    /// Find out whether and how mail for an address would be delivered.
    #[command(subcommand)]
    Delivery(Delivery),
    /// See the hooks and milters that have a say in what is accepted, and try one.
    #[command(subcommand)]
    Hooks(Hooks),
    /// List mail that users deleted lately, and bring it back.
    #[command(subcommand)]
    Undelete(Undelete),
    /// Remove now what was deleted, not when its time is over.
    #[command(subcommand)]
    Purge(Purge),
    /// Tell step by step what happened to a message, or to all messages from or to an address: the
    /// session or the call that brought it, each attempt to deliver it, and the webhook calls. The
    /// command fails if there is no trace of it.
    Trace(Trace),
    /// Teach the junk filter, and ask it why a message is junk.
    #[command(subcommand)]
    Junk(Junk),
    /// Show the newest lines of the running server's log.
    Logs(Logs),
    /// Show which lines the running server logs, or change that until its next start.
    Loglevel(LogLevel),
    /// List, show and sum the reports about our domains that came in.
    #[command(subcommand)]
    Report(Report),
    /// Let accounts log in again that had too many failed logins.
    #[command(subcommand)]
    Login(Login),
    /// Call a method of the webapi over HTTP, as an application does, and print the answer.
    Webapi(Webapi),
    /// Print the completions of this program for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write a man page for each command into a folder.
    Man {
        /// The folder. It is made if it does not exist.
        dir: PathBuf,
    },
    /// Copy the configuration and the data to a folder, while the server runs or not.
    Backup(Backup),
    /// Write the mail of an account into a new folder, in a form that other programs read.
    #[command(subcommand)]
    Export(Export),
    /// Check a backup, or the folder of a server that does not run. Nothing is changed.
    Verify(Verify),
    /// Make the folder of a server from a backup. Deliveries and webhook calls begin stopped.
    Restore(Restore),
    /// Print the version.
    Version,
}

/// The arguments of `webapi`.
#[derive(Args)]
pub struct Webapi {
    /// The method. Without it, the command lists all methods.
    pub method: Option<String>,
    /// The request as JSON. Without it, or with "-", the command reads standard input.
    pub request: Option<String>,
    /// The URL of the webapi.
    #[arg(
        long,
        env = "POSTRIDER_URL",
        default_value = "http://127.0.0.1:1080/webapi/"
    )]
    pub url: String,
    /// Log in with an address of the account and its password or a key, separated by a colon.
    /// Without the second part, the command takes it from --password-file or asks for it. Without
    /// --user and a key, the command uses the environment: POSTRIDER_KEY, then POSTRIDER_USER.
    /// Other users of this machine may see the arguments of a command; they can't see its
    /// environment and its files.
    #[arg(long, value_name = "ADDRESS[:PASSWORD]")]
    pub user: Option<String>,
    /// The file with the password for --user, as its first line.
    #[arg(
        long,
        value_name = "FILE",
        requires = "user",
        env = "POSTRIDER_PASSWORD_FILE"
    )]
    pub password_file: Option<PathBuf>,
    /// Log in with an API key.
    #[arg(long, conflicts_with = "user")]
    pub key: Option<String>,
    /// Log in with the API key in the first line of a file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["user", "key"], env = "POSTRIDER_KEY_FILE")]
    pub key_file: Option<PathBuf>,
    /// A file with certificates (PEM) to trust, in addition to those of the system. For example:
    /// config/localserve.crt of localserve.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// For EventStream: start after the event with this ID. Without it, only new events are shown.
    #[arg(long, value_name = "ID")]
    pub after: Option<u64>,
}

/// Hides the secrets.
impl std::fmt::Debug for Webapi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webapi")
            .field("method", &self.method)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// The arguments of `localserve`.
#[derive(Debug, Args)]
pub struct Localserve {
    /// The folder for configuration and data. It is made on first use. Default:
    /// postrider-localserve in the data folder of the user (XDG_DATA_HOME, or ~/.local/share).
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    pub ip: IpAddr,
    /// A name by which HTTP clients reach the server, for example the name of a container. May be
    /// given several times. localhost and IP addresses always work. With an --ip that stands for
    /// all addresses (0.0.0.0, ::), names without a dot work too.
    #[arg(long = "host", value_name = "NAME")]
    pub hosts: Vec<String>,
    /// A number that is added to each of the ports 1025, 1587, 1465, 1080 and 1443.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub port_offset: u16,
    /// Deliver messages to the mail servers of the recipients, instead of to the mailbox of the
    /// sender.
    #[arg(long)]
    pub deliver: bool,
}

/// The arguments of `quickstart`.
#[derive(Debug, Args)]
pub struct Quickstart {
    /// The address of the first account, at the domain of the server's mail.
    #[arg(value_name = "USER@DOMAIN")]
    pub address: String,
    /// The folder for configuration and data. It is made if it does not exist.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// The host name of the server. Default: the name of the system, or the reverse name of its
    /// address.
    #[arg(long, value_name = "HOST", value_parser = hostname)]
    pub hostname: Option<postrider_smtp::Domain>,
    /// Ask nobody: use no network.
    #[arg(long)]
    pub skip_dns: bool,
}

fn hostname(text: &str) -> Result<postrider_smtp::Domain, String> {
    let domain = postrider_smtp::Domain::parse(text).map_err(|error| error.to_string())?;
    match domain.ascii().contains('.') {
        true => Ok(domain),
        false => Err("a host name needs a dot, as in mail.example.org".to_owned()),
    }
}
#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn fingerprints_may_begin_with_a_hyphen() {
        for fingerprint in ["-vE6265pBIMD6KS2", "--", "vE6265pBIMD6KS2"] {
            let words = ["postrider", "tlspubkey", "rm", fingerprint];
            let read = Cli::try_parse_from(words);
            assert_eq!(read.is_ok(), fingerprint != "--", "{fingerprint}");
        }
    }
}
