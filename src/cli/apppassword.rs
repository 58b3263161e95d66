//! `apppassword ...` and `totp ...`

use clap::Subcommand;

/// `apppassword ...`
#[derive(Debug, Subcommand)]
pub enum AppPassword {
    /// Make an app password and print it. It is printed only once: the server keeps a hash.
    Add {
        /// The account.
        account: String,
        /// A name for people, for example of the program or the device.
        name: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the app passwords with their last use.
    List {
        /// Only app passwords of this account.
        #[arg(long)]
        account: Option<String>,
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Remove an app password. It is worthless from then on.
    Rm {
        /// The account.
        account: String,
        /// The name of the app password.
        name: String,
    },
}

/// `totp ...`
#[derive(Debug, Subcommand)]
pub enum Totp {
    /// Make a secret for one-time codes and print it as a URL, once. From then on the main password
    /// needs a code, and only app passwords and keys log in over SMTP and to the webapi.
    Enable {
        /// The account.
        account: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Let the main password be enough again.
    Disable {
        /// The account.
        #[arg(required_unless_present = "admin")]
        account: Option<String>,
        /// That of the administrator.
        #[arg(long, conflicts_with = "account")]
        admin: bool,
    },
}
