//! Keys and certificates for servers that are measured. Each run makes new ones, and nobody trusts
//! them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rcgen::KeyPair;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::TlsAcceptor;

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

/// TLS for a server, with a new certificate of the most frequent kind (ECDSA P-256).
pub(crate) fn acceptor() -> Result<TlsAcceptor> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])
        .context("failed to make a certificate")?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Makes a key for DKIM, as a PKCS #8 PEM file: Ed25519, or RSA of 2048 bits.
pub(crate) fn create_dkim_key(file: &Path, rsa: bool) -> Result<()> {
    let key = match rsa {
        true => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048),
        false => KeyPair::generate_for(&rcgen::PKCS_ED25519),
    };
    write(file, &key.context("failed to make a key")?.serialize_pem())
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
