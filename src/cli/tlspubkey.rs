//! `tlspubkey ...`

use std::path::PathBuf;

use clap::Subcommand;

/// `tlspubkey ...`
#[derive(Debug, Subcommand)]
pub enum TlsPubkey {
    /// Let the key of a certificate log in to the account of an address. The issuer and the dates
    /// of the certificate do not matter.
    Add {
        /// The login address.
        address: String,
        /// The file with the certificate in PEM. "-" means standard input.
        file: PathBuf,
        /// A name for people. Default: the common name in the certificate.
        #[arg(long)]
        name: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make an Ed25519 key and a certificate for a client, in three files that begin with STEM: the
    /// key, the certificate, and both. Print the fingerprint, and the seed of the key.
    Gen {
        /// The beginning of the names of the files.
        stem: PathBuf,
    },
    /// List the keys with their last use.
    List {
        /// Only keys of this account.
        #[arg(long)]
        account: Option<String>,
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Remove a key. Its certificates log in no more.
    Rm {
        /// The fingerprint of the key.
        // Base64 for URLs: it may begin with a hyphen.
        #[arg(allow_hyphen_values = true)]
        fingerprint: String,
    },
}
