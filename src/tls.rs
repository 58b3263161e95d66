//! The certificates of the listeners: how they load, how the server name picks one, how changed
//! files reload.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use anyhow::{Context, anyhow, bail};
use arc_swap::ArcSwap;
use postrider_smtp::server::AnyClientCertificate;
use rustls::{
    ServerConfig,
    client::verify_server_name,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::{
        ClientHello, NoServerSessionStorage, ParsedCertificate, ProducesTickets, ResolvesServerCert,
    },
    sign::CertifiedKey,
};
use tracing::{error, info, warn};
use x509_parser::extensions::GeneralName;
use zeroize::Zeroizing;

mod handshakes;
mod listeners;

pub use handshakes::HandshakeFailures;
pub(crate) use listeners::ListenerCertificates;

/// The number of seconds before the end of a certificate from which on its end is told: seven days.
const EXPIRES_SOON: i64 = 7 * 24 * 3600;

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

/// Certificates that were read from their files.
pub(crate) struct Loaded {
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
        let loaded = Loaded::read(&files).map_err(first)?;
        Ok(Arc::new(Self {
            files,
            loaded: ArcSwap::from_pointee(loaded),
        }))
    }

    /// Reads the files again if one has changed. If they do not load, the old certificates stay in
    /// use.
    pub fn reload(&self) {
        if modified(&self.files) != self.loaded.load().modified {
            self.read_again();
        }
    }

    /// Reads the files again, as [`reload`](Self::reload) does after a change.
    pub fn read_again(&self) {
        match self.read() {
            Ok(loaded) => {
                self.put(loaded);
                self.warn(SystemTime::now());
            }
            Err(errors) => error!(error = format!("{:#}", first(errors)), "certificate failed"),
        }
    }

    /// Reads the files, and changes nothing. An error has the number of its pair of files, from 0.
    pub(crate) fn read(&self) -> Result<Loaded, Vec<(usize, anyhow::Error)>> {
        Loaded::read(&self.files)
    }

    /// Takes certificates that were [read](Self::read) into use.
    pub(crate) fn put(&self, loaded: Loaded) {
        self.loaded.store(Arc::new(loaded));
        let files = self
            .files
            .iter()
            .map(|pair| pair.cert.display().to_string());
        let files: Vec<String> = files.collect();
        info!(file = files.join(", "), "certificate loaded");
    }

    /// The warnings about certificates that were [read](Self::read), each with the number of its
    /// pair of files.
    pub(crate) fn warnings_of(
        &self,
        loaded: &Loaded,
        now: SystemTime,
    ) -> impl Iterator<Item = (usize, String)> {
        let pairs = self.files.iter().zip(&loaded.keys).enumerate();
        pairs.flat_map(move |(number, (files, pair))| {
            let first = pair.cert.first();
            let warning = first.and_then(|cert| date_warning(&files.cert, cert, now));
            warning.map(move |warning| (number, warning))
        })
    }

    /// Sentences about certificates that clients will not accept.
    #[must_use]
    pub fn warnings(&self, now: SystemTime) -> Vec<String> {
        let loaded = self.loaded.load();
        let warnings = self.warnings_of(&loaded, now);
        warnings.map(|(_, warning)| warning).collect()
    }

    /// Logs the warnings.
    pub fn warn(&self, now: SystemTime) {
        for warning in self.warnings(now) {
            warn!(reason = warning, "certificate needs attention");
        }
    }

    /// The names of the certificates, and when each ends in seconds since 1970.
    pub(crate) fn ends(&self) -> Vec<(String, i64)> {
        let loaded = self.loaded.load();
        let certificates = loaded.keys.iter().filter_map(|pair| pair.cert.first());
        certificates.flat_map(|cert| ends(cert)).collect()
    }

    /// The files of the certificates and keys.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let pairs = self.files.iter();
        pairs.flat_map(|pair| [pair.cert.as_path(), pair.key.as_path()])
    }
}

/// The name of submission in ALPN.
pub const SMTP_PROTOCOL: &[u8] = b"smtp";

/// Makes and reads TLS session tickets. A key makes them for 6 hours, and reads them for 12.
pub type Tickets = Arc<dyn ProducesTickets>;

/// Tickets with keys of their own.
///
/// # Errors
/// If the system gives no randomness.
pub fn tickets() -> anyhow::Result<Tickets> {
    aws_lc_rs::Ticketer::new().context("failed to make a key for TLS session tickets")
}

/// The TLS configuration that serves the certificates of `resolver`. With `client_auth`, clients
/// are asked for a certificate, and may have none. `alpn` lists the protocols offered, best first.
/// Without `tickets` no session is resumed.
///
/// # Errors
/// If no TLS version is left at or above the minimum.
pub fn server_config(
    resolver: Arc<dyn ResolvesServerCert>,
    min_tls13: bool,
    client_auth: bool,
    alpn: &[&[u8]],
    tickets: Option<&Tickets>,
) -> anyhow::Result<Arc<ServerConfig>> {
    let versions: &[&rustls::SupportedProtocolVersion] = if min_tls13 {
        &[&rustls::version::TLS13]
    } else {
        rustls::ALL_VERSIONS
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)?;
    let builder = match client_auth {
        true => builder.with_client_cert_verifier(AnyClientCertificate::new(provider)),
        false => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(resolver);
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    // The state of a session is in its ticket, or nowhere: it takes no memory here.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    match tickets {
        Some(tickets) => config.ticketer = Arc::clone(tickets),
        None => config.send_tls13_tickets = 0,
    }
    Ok(Arc::new(config))
}

impl Loaded {
    fn read(files: &[KeyPairFiles]) -> Result<Self, Vec<(usize, anyhow::Error)>> {
        // The times are taken before the files are read, so the next check sees a change in
        // between.
        let modified = modified(files);
        let (mut keys, mut errors) = (Vec::new(), Vec::new());
        for (number, files) in files.iter().enumerate() {
            match read_key_pair(files) {
                Ok(pair) => keys.push(pair),
                Err(error) => errors.push((number, error)),
            }
        }
        match errors.is_empty() {
            true => Ok(Self { keys, modified }),
            false => Err(errors),
        }
    }
}

/// The first of some errors.
fn first(errors: Vec<(usize, anyhow::Error)>) -> anyhow::Error {
    let first = errors.into_iter().next();
    first.map_or_else(|| anyhow!("no file could be read"), |(_, error)| error)
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
    let key = read_private_key(&files.key)?;
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

/// Reads the first private key of a PEM file: PKCS#8, PKCS#1 or SEC1. Header lines such as
/// `Note: ...` (RFC 1421) are skipped.
pub(crate) fn read_private_key(file: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    let shown = file.display();
    let text = postrider_config::read_secret_file(file)
        .map_err(|error| anyhow!("the private key {shown} {error}"))?;
    // Base64 has no colon.
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    let lines: Vec<&[u8]> = lines.filter(|line| !line.contains(&b':')).collect();
    let pem = Zeroizing::new(lines.concat());
    PrivateKeyDer::from_pem_slice(&pem)
        .with_context(|| format!("failed to read the private key in {shown}"))
}

/// The names of a certificate with its end.
fn ends(cert: &CertificateDer<'_>) -> Vec<(String, i64)> {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(cert) else {
        return Vec::new();
    };
    let end = parsed.validity().not_after.timestamp();
    let names = parsed.subject_alternative_name().ok().flatten();
    let names = names
        .into_iter()
        .flat_map(|names| &names.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(((*name).to_owned(), end)),
        _ => None,
    });
    names.collect()
}

/// A sentence about the dates of a certificate, if something is wrong with them.
fn date_warning(file: &Path, cert: &CertificateDer<'_>, now: SystemTime) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(cert).ok()?;
    let now = now.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let now = i64::try_from(now.as_secs()).ok()?;
    let validity = parsed.validity();
    let day = |seconds: i64| {
        let time = jiff::Timestamp::from_second(seconds);
        time.map_or_else(|_| seconds.to_string(), |time| time.to_string())
    };
    let (begin, end) = (
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
    );
    let problem = if now > end {
        format!("expired at {}", day(end))
    } else if now < begin {
        format!("is not valid before {}", day(begin))
    } else if now > end.saturating_sub(EXPIRES_SOON) {
        format!("expires at {}", day(end))
    } else {
        return None;
    };
    Some(format!("{}: the certificate {problem}", file.display()))
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

/// Creates a self-signed certificate for `names` in `dir`, unless there is one for all of them.
///
/// # Errors
/// If a file can't be written.
pub fn ensure_self_signed(dir: &Path, names: &[String]) -> anyhow::Result<KeyPairFiles> {
    let files = KeyPairFiles {
        cert: dir.join("localserve.crt"),
        key: dir.join("localserve.key"),
    };
    if files.cert.exists() && files.key.exists() && (names.is_empty() || covers(&files, names)) {
        return Ok(files);
    }
    let made = rcgen::generate_simple_self_signed(names)
        .context("failed to make a self-signed certificate")?;
    crate::files::write_private(&files.key, made.signing_key.serialize_pem().as_bytes())?;
    crate::files::write_private(&files.cert, made.cert.pem().as_bytes())?;
    Ok(files)
}

/// Whether a certificate is for all these names. One that can't be read is left to its reader.
fn covers(files: &KeyPairFiles, names: &[String]) -> bool {
    let Ok(pair) = read_key_pair(files) else {
        return true;
    };
    names
        .iter()
        .all(|name| ServerName::try_from(name.as_str()).is_ok_and(|name| is_for(&pair, &name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_modes_are_looked_at() {
        use std::time::Duration;

        const DAY: Duration = Duration::from_secs(24 * 3600);
        let dir = tempfile::tempdir().unwrap();
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 4, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let files = KeyPairFiles {
            cert: dir.path().join("crt"),
            key: dir.path().join("key"),
        };
        let cert = params.self_signed(&key).unwrap();
        std::fs::write(&files.cert, cert.pem()).unwrap();
        crate::files::write_private(&files.key, key.serialize_pem().as_bytes()).unwrap();
        let loaded = Certificates::load(vec![files]).unwrap();
        let january = SystemTime::UNIX_EPOCH + 20_454 * DAY;
        for (now, expected) in [
            (january - DAY, "is not valid before 2026-01-01T00:00:00Z"),
            (january + DAY, ""),
            (january + 82 * DAY, ""),
            (january + 84 * DAY, "expires at 2026-04-01T00:00:00Z"),
            (january + 91 * DAY, "expired at 2026-04-01T00:00:00Z"),
        ] {
            let warnings = loaded.warnings(now).join(" ");
            assert!(warnings.ends_with(expected), "{warnings}");
            assert_eq!(warnings.is_empty(), expected.is_empty(), "{warnings}");
        }
    }

    #[test]
    fn a_key_that_every_user_can_open_is_not_taken_and_the_old_one_stays() {
        use std::os::unix::fs::PermissionsExt;

        let dir = tempfile::tempdir().unwrap();
        let files = ensure_self_signed(dir.path(), &["localhost".into()]).unwrap();
        let loaded = Certificates::load(vec![files.clone()]).unwrap();
        let old = loaded.loaded.load().keys.first().unwrap().cert.clone();
        let newer = tempfile::tempdir().unwrap();
        let newer = ensure_self_signed(newer.path(), &["localhost".into()]).unwrap();
        std::fs::copy(newer.cert, &files.cert).unwrap();
        std::fs::copy(newer.key, &files.key).unwrap();
        std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o644)).unwrap();
        loaded.read_again();
        assert_eq!(loaded.loaded.load().keys.first().unwrap().cert, old);
        std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o600)).unwrap();
        loaded.read_again();
        assert_ne!(loaded.loaded.load().keys.first().unwrap().cert, old);
    }

    #[test]
    fn a_self_signed_certificate_is_for_all_names() {
        let dir = tempfile::tempdir().unwrap();
        let names = |names: &[&str]| -> Vec<String> {
            let names = names.iter().map(|&name| name.to_owned());
            names.collect()
        };
        let made = |wanted: &[&str]| {
            let files = ensure_self_signed(dir.path(), &names(wanted)).unwrap();
            assert!(covers(&files, &names(wanted)), "{wanted:?}");
            std::fs::read(files.cert).unwrap()
        };
        let first = made(&["localhost", "127.0.0.1"]);
        assert_eq!(made(&["localhost"]), first, "it is kept");
        assert_ne!(made(&["localhost", "mail_1"]), first);
    }

    #[test]
    fn files_are_read_again_when_they_change() {
        use std::time::Duration;

        let dir = tempfile::tempdir().unwrap();
        let files = ensure_self_signed(dir.path(), &["one.test".into()]).unwrap();
        let certificates = Certificates::load(vec![files.clone()]).unwrap();
        let shown = || certificates.loaded.load().keys[0].cert[0].to_vec();
        let first = shown();
        // The same times: nobody looks into the files.
        certificates.reload();
        assert_eq!(shown(), first);
        let other = tempfile::tempdir().unwrap();
        let other = ensure_self_signed(other.path(), &["two.test".into()]).unwrap();
        for (from, to) in [(&other.cert, &files.cert), (&other.key, &files.key)] {
            let before = std::fs::metadata(to).unwrap().modified().unwrap();
            std::fs::copy(from, to).unwrap();
            let file = std::fs::File::options().write(true).open(to).unwrap();
            file.set_modified(before + Duration::from_secs(2)).unwrap();
            // Half of a pair is not taken.
            certificates.reload();
            let is_whole = to == &files.key;
            assert_eq!(shown() != first, is_whole, "{}", to.display());
        }
    }

    #[test]
    fn a_key_may_have_header_lines() {
        let dir = tempfile::tempdir().unwrap();
        let files = ensure_self_signed(dir.path(), &["localhost".into()]).unwrap();
        let key = std::fs::read_to_string(&files.key).unwrap();
        let (begin, rest) = key.split_once('\n').unwrap();
        let noted = format!("# mine: all\n{begin}\nNote: made by hand\n\n{rest}");
        std::fs::write(&files.key, noted).unwrap();
        Certificates::load(vec![files]).unwrap();
    }

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
