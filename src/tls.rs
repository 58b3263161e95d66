//! The certificates of the listeners: how they load, how the server name picks one, how changed
//! files reload.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    client::verify_server_name,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};
use tracing::{error, info};

/// The certificates of a listener. A changed file replaces all of them together.
pub struct Certificates {
    files: Vec<KeyPairFiles>,
    loaded: ArcSwap<Loaded>,
}

/// The files of a certificate chain and its key.
#[derive(Clone, Debug)]
pub struct KeyPairFiles {
    /// The chain in PEM, with the certificate of the server first.
    pub cert: PathBuf,
    /// The key in PEM: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

struct Loaded {
    keys: Vec<Arc<CertifiedKey>>,
    modified: Vec<Option<SystemTime>>,
}

impl Certificates {
    /// Reads all files.
    ///
    /// # Errors
    /// If a file can't be read or is not PEM of the right kind, or if key and certificate do not
    /// match.
    pub fn load(files: Vec<KeyPairFiles>) -> anyhow::Result<Arc<Self>> {
        if files.is_empty() {
            bail!("a listener with TLS needs at least one certificate in tls.certs");
        }
        let loaded = Loaded::read(&files)?;
        Ok(Arc::new(Self {
            files,
            loaded: ArcSwap::from_pointee(loaded),
        }))
    }

    /// Reads the files again if one has changed. If they do not load, the old certificates stay in
    /// use.
    pub fn reload(&self) {
        if modified(&self.files) == self.loaded.load().modified {
            return;
        }
        match Loaded::read(&self.files) {
            Ok(loaded) => {
                self.loaded.store(Arc::new(loaded));
                info!(?self.files, "certificates reloaded");
            }
            Err(error) => error!(
                "certificates changed but were not reloaded, the old ones stay in use: {error:#}"
            ),
        }
    }

    /// The TLS configuration that serves these certificates; `alpn` lists the protocols offered,
    /// best first.
    ///
    /// # Errors
    /// If no TLS version is left at or above the minimum.
    pub fn server_config(
        self: &Arc<Self>,
        min_tls13: bool,
        alpn: &[&[u8]],
    ) -> anyhow::Result<Arc<ServerConfig>> {
        let versions: &[&rustls::SupportedProtocolVersion] = if min_tls13 {
            &[&rustls::version::TLS13]
        } else {
            rustls::ALL_VERSIONS
        };
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_protocol_versions(versions)?
                .with_no_client_auth()
                .with_cert_resolver(Arc::<Self>::clone(self));
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Arc::new(config))
    }
}

impl Loaded {
    fn read(files: &[KeyPairFiles]) -> anyhow::Result<Self> {
        // The times are taken before the files are read, so the next check sees a change in
        // between.
        let modified = modified(files);
        let keys = files
            .iter()
            .map(read_key_pair)
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { keys, modified })
    }
}

fn modified(files: &[KeyPairFiles]) -> Vec<Option<SystemTime>> {
    let time = |path: &Path| {
        std::fs::metadata(path)
            .and_then(|meta| meta.modified())
            .ok()
    };
    files
        .iter()
        .flat_map(|pair| [time(&pair.cert), time(&pair.key)])
        .collect()
}

fn read_key_pair(files: &KeyPairFiles) -> anyhow::Result<Arc<CertifiedKey>> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect)
        .with_context(|| {
            format!(
                "failed to read the certificates in {}",
                files.cert.display()
            )
        })?;
    if chain.is_empty() {
        bail!(
            "{} holds no certificate; it must be PEM",
            files.cert.display()
        );
    }
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .with_context(|| format!("failed to read the private key in {}", files.key.display()))?;
    let key = aws_lc_rs::sign::any_supported_type(&key)
        .with_context(|| format!("the private key in {} can't be used", files.key.display()))?;
    let pair = CertifiedKey::new(chain, key);
    match pair.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(Arc::new(pair))
        }
        Err(error) => Err(error).with_context(|| {
            format!(
                "{} and {} don't belong together",
                files.cert.display(),
                files.key.display()
            )
        }),
    }
}

impl ResolvesServerCert for Certificates {
    /// The first certificate that is valid for the requested name, or else the first of all. RFC
    /// 6066 §3 leaves this to the server. Most SMTP clients do not check the name.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let loaded = self.loaded.load();
        let named = hello
            .server_name()
            .and_then(|name| ServerName::try_from(name).ok());
        named
            .and_then(|name| loaded.keys.iter().find(|pair| is_for(pair, &name)))
            .or_else(|| loaded.keys.first())
            .cloned()
    }
}

fn is_for(pair: &CertifiedKey, name: &ServerName<'_>) -> bool {
    pair.cert.first().is_some_and(|cert| {
        ParsedCertificate::try_from(cert).is_ok_and(|cert| verify_server_name(&cert, name).is_ok())
    })
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

/// Creates a self-signed certificate for `names` in `dir`, unless both files exist.
///
/// # Errors
/// If a file can't be written.
pub fn ensure_self_signed(dir: &Path, names: &[String]) -> anyhow::Result<KeyPairFiles> {
    let files = KeyPairFiles {
        cert: dir.join("localserve.crt"),
        key: dir.join("localserve.key"),
    };
    if files.cert.exists() && files.key.exists() {
        return Ok(files);
    }
    let made = rcgen::generate_simple_self_signed(names)
        .context("failed to make a self-signed certificate")?;
    crate::files::write_private(&files.key, made.signing_key.serialize_pem().as_bytes())?;
    crate::files::write_private(&files.cert, made.cert.pem().as_bytes())?;
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let good = ensure_self_signed(dir.path(), &["localhost".into()]).unwrap();
        assert!(Certificates::load(vec![good.clone()]).is_ok());
        let missing = KeyPairFiles {
            cert: dir.path().join("no.crt"),
            key: good.key.clone(),
        };
        let error = format!("{:#}", Certificates::load(vec![missing]).unwrap_err());
        assert!(error.contains("no.crt"), "{error}");
        let other = tempfile::tempdir().unwrap();
        let other = ensure_self_signed(other.path(), &["localhost".into()]).unwrap();
        let mixed = KeyPairFiles {
            cert: good.cert,
            key: other.key,
        };
        let error = format!("{:#}", Certificates::load(vec![mixed]).unwrap_err());
        assert!(error.contains("belong together"), "{error}");
    }
}
