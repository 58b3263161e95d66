//! The configurations of rustls for connections to hosts.
//!
//! A resumed session skips the check of the certificate. So rustls resumes a session only under the
//! same verifier object, and each check has one verifier for as long as the queue lives. There is
//! no early data: a copy of it could be sent again.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lru::LruCache;
use postrider_config::Static;
use postrider_smtp::client::{AnyCertificate, TlsFault, TlsFaultKind};
use postrider_store::Clock;
use rustls::{
    ClientConfig, NamedGroup,
    client::{Resumption, danger::ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    time_provider::TimeProvider,
};

use super::{
    Check,
    dane::{DaneCheck, DaneVerifier},
    verifiers::{certificate_verifier, provider},
};
use crate::QueueSetupError;

/// How many tickets of sessions a check keeps. A host has up to eight.
const TICKETS_MAX: usize = 2048;

/// How many sets of TLSA records have a configuration that is kept.
const DANE_MAX: usize = 1024;
/// A larger set is not kept, in bytes: its sessions are not resumed.
const DANE_SIZE_MAX: usize = 4 << 10;
/// The tickets for one set: it is mostly that of one host.
const DANE_TICKETS: usize = 8;

/// What the client offers for the exchange of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyShares {
    /// A post-quantum one too. The first message of the client then fills two segments, which some
    /// hosts and firewalls can't take.
    PostQuantum,
    /// Only those of old.
    Classical,
}

/// The configurations, and the check of certificates after a handshake.
pub(crate) struct Configs {
    lenient: Configured,
    encrypted: Configured,
    pkix: Configured,
    verifier: Arc<dyn ServerCertVerifier>,
    /// By the records, the last used ones.
    dane: Mutex<LruCache<Arc<DaneCheck>, Arc<Configured>>>,
    clock: Arc<dyn Clock>,
}

/// A check with either choice of key shares. They share sessions.
struct Configured {
    post_quantum: Arc<ClientConfig>,
    classical: Arc<ClientConfig>,
}

impl Configs {
    /// # Errors
    /// If the trusted CAs can't be loaded.
    pub(crate) fn new(statics: &Static, clock: Arc<dyn Clock>) -> Result<Self, QueueSetupError> {
        let verifier = certificate_verifier(statics)?;
        let any = AnyCertificate::new(provider());
        let lenient = AnyCertificate::lenient(provider());
        Ok(Self {
            lenient: Configured::new(Arc::new(lenient), &clock)?,
            encrypted: Configured::new(Arc::new(any), &clock)?,
            pkix: Configured::new(Arc::clone(&verifier), &clock)?,
            verifier,
            dane: Mutex::new(LruCache::unbounded()),
            clock,
        })
    }

    /// The configuration for a check. [`of_dane`](Self::of_dane) has those for TLSA records.
    pub(crate) fn of(&self, check: Check, shares: KeyShares) -> Arc<ClientConfig> {
        let configured = match check {
            Check::Lenient => &self.lenient,
            Check::Encrypted => &self.encrypted,
            Check::Pkix | Check::Dane => &self.pkix,
        };
        configured.with(shares)
    }

    /// The configuration for a check by TLSA records.
    pub(crate) fn of_dane(&self, check: &Arc<DaneCheck>, shares: KeyShares) -> Arc<ClientConfig> {
        let mut kept = self.kept();
        if let Some(configured) = kept.get(check) {
            return configured.with(shares);
        }
        let verifier = Arc::new(DaneVerifier {
            check: DaneCheck::clone(check),
            provider: provider(),
        });
        let configured = Arc::new(self.encrypted.checked_by(verifier));
        let config = configured.with(shares);
        if check.records.size() <= DANE_SIZE_MAX {
            while kept.len() >= DANE_MAX {
                kept.pop_lru();
            }
            kept.put(Arc::clone(check), configured);
        }
        config
    }

    /// What TLSA records say of the certificates of a connection, the server's own first.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(crate) fn check_dane(
        &self,
        check: &DaneCheck,
        certificates: &[CertificateDer<'_>],
    ) -> Result<(), Box<TlsFault>> {
        check.check(certificates, unix_time(&*self.clock), &provider())
    }

    /// The lock is held for a moment, never over a wait.
    fn kept(&self) -> MutexGuard<'_, LruCache<Arc<DaneCheck>, Arc<Configured>>> {
        self.dane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the check by the trusted CAs says of the certificates of a connection, the server's own
    /// first.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(crate) fn check_pkix(
        &self,
        certificates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
    ) -> Result<(), Box<TlsFault>> {
        let [leaf, others @ ..] = certificates else {
            return Err(TlsFault::new(TlsFaultKind::BadCertificate).into());
        };
        let now = unix_time(&*self.clock);
        let checked = self
            .verifier
            .verify_server_cert(leaf, others, name, &[], now);
        checked
            .map(drop)
            .map_err(|error| TlsFault::of_check(&error, leaf).into())
    }
}

impl Configured {
    fn with(&self, shares: KeyShares) -> Arc<ClientConfig> {
        Arc::clone(match shares {
            KeyShares::PostQuantum => &self.post_quantum,
            KeyShares::Classical => &self.classical,
        })
    }

    /// The same with another check, and with sessions of its own.
    fn checked_by(&self, verifier: Arc<dyn ServerCertVerifier>) -> Self {
        let resumption = Resumption::in_memory_sessions(DANE_TICKETS);
        let made = |config: &ClientConfig| {
            let mut config = config.clone();
            let verifier = Arc::clone(&verifier);
            config.dangerous().set_certificate_verifier(verifier);
            config.resumption = resumption.clone();
            Arc::new(config)
        };
        Self {
            post_quantum: made(&self.post_quantum),
            classical: made(&self.classical),
        }
    }

    fn new(
        verifier: Arc<dyn ServerCertVerifier>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, rustls::Error> {
        let resumption = Resumption::in_memory_sessions(TICKETS_MAX);
        let made = |provider: Arc<CryptoProvider>| -> Result<ClientConfig, rustls::Error> {
            let time = Arc::new(QueueTime(Arc::clone(clock)));
            let builder = ClientConfig::builder_with_details(provider, time);
            let mut config = builder
                .with_protocol_versions(rustls::ALL_VERSIONS)?
                .dangerous()
                .with_custom_certificate_verifier(Arc::clone(&verifier))
                .with_no_client_auth();
            config.resumption = resumption.clone();
            Ok(config)
        };
        let mut few = CryptoProvider::clone(&provider());
        few.kx_groups.retain(|group| {
            matches!(
                group.name(),
                NamedGroup::X25519 | NamedGroup::secp256r1 | NamedGroup::secp384r1
            )
        });
        let (post_quantum, mut classical) = (made(provider())?, made(Arc::new(few))?);
        // rustls resumes sessions only under the same object for logins by certificate, too. There
        // is none.
        classical.client_auth_cert_resolver = Arc::clone(&post_quantum.client_auth_cert_resolver);
        Ok(Self {
            post_quantum: Arc::new(post_quantum),
            classical: Arc::new(classical),
        })
    }
}

/// The clock of the queue, for rustls.
struct QueueTime(Arc<dyn Clock>);

impl TimeProvider for QueueTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(&*self.0))
    }
}

impl fmt::Debug for QueueTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QueueTime")
    }
}

fn unix_time(clock: &dyn Clock) -> UnixTime {
    let micros = u64::try_from(clock.now().0).unwrap_or(0);
    UnixTime::since_unix_epoch(std::time::Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use postrider_store::{ManualClock, Time};
    use rustls::{
        ClientConnection, HandshakeKind, ServerConfig, ServerConnection, pki_types::PrivateKeyDer,
    };

    use sha2::Digest;

    use super::*;
    use crate::tls::TlsaSet;

    /// 2027, when certificates of rcgen are valid.
    const NOW: Time = Time(1_800_000_000_000_000);

    /// A server with a certificate for `mx.test`, and configurations that trust it.
    struct Table {
        server: Arc<ServerConfig>,
        configs: Configs,
        clock: ManualClock,
    }

    impl Table {
        fn new() -> Self {
            let mut params = rcgen::CertificateParams::new(["mx.test".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(2030, 1, 1);
            let key = rcgen::KeyPair::generate().unwrap();
            let made = params.self_signed(&key).unwrap();
            let dir = tempfile::tempdir().unwrap();
            let ca = dir.path().join("ca.pem");
            std::fs::File::create(&ca)
                .unwrap()
                .write_all(made.pem().as_bytes())
                .unwrap();
            let config = format!(
                "hostname = \"mail.test\"\n[postmaster]\naccount = \"ann\"\n\
                 [listeners.l]\nips = [\"127.0.0.1\"]\n[tls]\nca_files = [{ca:?}]\n"
            );
            let statics = Static::parse(&config, "postrider.conf").unwrap();
            let clock = ManualClock::new(NOW);
            let server = ServerConfig::builder_with_provider(provider())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(
                    vec![made.der().clone()],
                    PrivateKeyDer::Pkcs8(key.serialize_der().into()),
                );
            Self {
                server: Arc::new(server.unwrap()),
                configs: Configs::new(&statics, Arc::new(clock.clone())).unwrap(),
                clock,
            }
        }

        /// A handshake with the server.
        fn shake(
            &self,
            check: Check,
            shares: KeyShares,
            name: &str,
        ) -> Result<ClientConnection, rustls::Error> {
            self.shake_with(self.configs.of(check, shares), name)
        }

        /// A handshake under this configuration.
        fn shake_with(
            &self,
            config: Arc<ClientConfig>,
            name: &str,
        ) -> Result<ClientConnection, rustls::Error> {
            let name = ServerName::try_from(name.to_owned()).unwrap();
            let mut client = ClientConnection::new(config, name).unwrap();
            let mut server = ServerConnection::new(Arc::clone(&self.server)).unwrap();
            // The last of these has the tickets.
            for _ in 0..4 {
                let mut bytes = Vec::new();
                while client.wants_write() {
                    client.write_tls(&mut bytes).unwrap();
                }
                while !bytes.is_empty() {
                    let mut rest = bytes.as_slice();
                    server.read_tls(&mut rest).unwrap();
                    bytes = rest.to_vec();
                    server.process_new_packets().unwrap();
                }
                while server.wants_write() {
                    server.write_tls(&mut bytes).unwrap();
                }
                while !bytes.is_empty() {
                    let mut rest = bytes.as_slice();
                    client.read_tls(&mut rest).unwrap();
                    bytes = rest.to_vec();
                    client.process_new_packets()?;
                }
            }
            Ok(client)
        }

        fn kind(&self, check: Check, shares: KeyShares) -> HandshakeKind {
            let client = self.shake(check, shares, "mx.test").unwrap();
            assert_eq!(client.peer_certificates().unwrap().len(), 1);
            client.handshake_kind().unwrap()
        }
    }

    #[test]
    fn a_session_resumes_only_under_the_check_that_it_began_with() {
        use KeyShares::{Classical, PostQuantum};
        let table = Table::new();
        for check in [Check::Lenient, Check::Encrypted, Check::Pkix] {
            assert_eq!(table.kind(check, PostQuantum), HandshakeKind::Full);
            assert_eq!(table.kind(check, PostQuantum), HandshakeKind::Resumed);
            assert_eq!(table.kind(check, Classical), HandshakeKind::Resumed);
        }
    }

    /// Records for the server's certificate, and as many for others.
    fn dane(table: &Table, others: u8) -> Arc<DaneCheck> {
        let client = table.shake(Check::Lenient, KeyShares::PostQuantum, "mx.test");
        let client = client.unwrap();
        let leaf = client.peer_certificates().unwrap().first().unwrap();
        let right = sha2::Sha256::digest(leaf).to_vec();
        let wrong = (0..others).map(|other| vec![other; 32]);
        let records = std::iter::once(right).chain(wrong);
        let records: Vec<postrider_dns::Tlsa> = records
            .map(|data| postrider_dns::Tlsa {
                usage: 3,
                selector: 0,
                matching: 1,
                data,
            })
            .collect();
        Arc::new(DaneCheck {
            records: TlsaSet::of(&records),
            base: "mx.test".to_owned(),
            names: vec!["mx.test".to_owned()],
        })
    }

    #[test]
    fn a_session_resumes_only_under_the_same_records() {
        let table = Table::new();
        let kind = |check: &Arc<DaneCheck>| {
            let config = table.configs.of_dane(check, KeyShares::PostQuantum);
            let client = table.shake_with(config, "mx.test").unwrap();
            client.handshake_kind().unwrap()
        };
        let (one, two) = (dane(&table, 0), dane(&table, 1));
        assert_eq!(kind(&one), HandshakeKind::Full);
        assert_eq!(kind(&two), HandshakeKind::Full);
        for check in [&one, &two, &dane(&table, 0)] {
            assert_eq!(kind(check), HandshakeKind::Resumed);
        }
        // A set that would take much memory is not kept.
        let large = dane(&table, 63);
        assert!(large.records.size() > DANE_SIZE_MAX);
        for _ in 0..2 {
            assert_eq!(kind(&large), HandshakeKind::Full);
        }
        assert_eq!(table.configs.kept().len(), 2);
    }

    #[test]
    fn the_number_of_sets_is_bounded() {
        let table = Table::new();
        let one = dane(&table, 0);
        for number in 0..=DANE_MAX {
            let check = DaneCheck {
                base: format!("{number}.test"),
                ..DaneCheck::clone(&one)
            };
            table
                .configs
                .of_dane(&Arc::new(check), KeyShares::Classical);
        }
        assert_eq!(table.configs.kept().len(), DANE_MAX);
    }

    #[test]
    fn the_key_shares_are_those_asked_for() {
        let table = Table::new();
        for (shares, expected) in [
            (KeyShares::PostQuantum, NamedGroup::X25519MLKEM768),
            (KeyShares::Classical, NamedGroup::X25519),
        ] {
            let client = table.shake(Check::Lenient, shares, "mx.test").unwrap();
            let group = client.negotiated_key_exchange_group().unwrap();
            assert_eq!(group.name(), expected);
        }
    }

    #[test]
    fn each_check_refuses_what_it_should() {
        let table = Table::new();
        let shake = |check, name: &str| table.shake(check, KeyShares::PostQuantum, name);
        let refused =
            |check, name: &str| TlsFault::of_check(&shake(check, name).unwrap_err(), &[]).kind;
        assert!(shake(Check::Pkix, "mx.test").is_ok());
        assert_eq!(
            refused(Check::Pkix, "other.test"),
            TlsFaultKind::NameMismatch
        );
        // What was let in is judged afterwards.
        let judged = |name: &str| {
            let client = shake(Check::Encrypted, name).unwrap();
            let name = ServerName::try_from(name.to_owned()).unwrap();
            let certificates = client.peer_certificates().unwrap();
            let judged = table.configs.check_pkix(certificates, &name);
            judged.map_err(|fault| fault.kind)
        };
        assert_eq!(judged("mx.test"), Ok(()));
        assert_eq!(judged("other.test"), Err(TlsFaultKind::NameMismatch));
        // The certificate ends in 2030. Sessions that resume are too old by then.
        table
            .clock
            .advance(std::time::Duration::from_secs(4 * 366 * 24 * 3600));
        assert_eq!(refused(Check::Pkix, "mx.test"), TlsFaultKind::Expired);
        assert_eq!(judged("mx.test"), Err(TlsFaultKind::Expired));
    }
}
