//! Keys and certificates for servers that are measured. Each run makes new ones, and nobody trusts
//! them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// A certificate for localhost and its key, as PEM files.
pub(crate) struct Certificate {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Certificate {
    /// Makes a certificate of the most frequent kind (ECDSA P-256) in this folder.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])
            .context("failed to make a certificate")?;
        let files = Self {
            certificate: folder.join("certificate.pem"),
            key: folder.join("key.pem"),
        };
        write(&files.certificate, &made.cert.pem())?;
        write(&files.key, &made.signing_key.serialize_pem())?;
        Ok(files)
    }
}

/// Makes an Ed25519 key for DKIM, as a PKCS #8 PEM file.
pub(crate) fn create_dkim_key(file: &Path) -> Result<()> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).context("failed to make a key")?;
    write(file, &key.serialize_pem())
}

fn write(file: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut opened| opened.write_all(text.as_bytes()))
        .with_context(|| format!("failed to write {file:?}"))
}
