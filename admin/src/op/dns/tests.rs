//! The operations on DNS over a zone, servers and a primary server of the test.

#![allow(clippy::indexing_slicing, reason = "a test that fails says where")]

mod check;
mod faults;
mod publish;
mod records;
mod servers;

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use postrider_config::{Dynamic, Static, replace_private};
use postrider_dns::{FakeResolver, Record, RecordType};
use postrider_smtp::Domain;
use postrider_store::{ManualClock, Time};
use tempfile::TempDir;

use super::{HostFacts, Wanted, World, facts::TlsKey, wanted};

/// The time of the tests, in seconds since 1970.
const NOW: i64 = 1_800_000_000;

const STATICS: &str = r#"
hostname = "mail.example.org"
postmaster.account = "app"
host_tls_rpt.account = "app"
tls.ca_files = ["ca.pem"]
[acme.le]
[listeners.public]
ips = ["192.0.2.10", "2001:db8::10"]
tls = { acme = "le", host_keys = ["rsa2048.pem", "ed25519.pem"] }
smtp = { dnsbls = ["bl.example"] }
submissions = {}
autoconfig_https = {}
mta_sts_https = {}
[transports.out.direct]
local_ips = ["192.0.2.11"]
[transports.proxy.socks]
address = "127.0.0.1:1080"
remote_ips = ["198.51.100.7"]
remote_hostname = "proxy.example.net"
"#;

const DYNAMICS: &str = r#"
monitor_dnsbls = ["bl.example", "bl2.example"]
[domains."example.org"]
client_settings_domain = "smtp.example.org"
client_settings.imap = "imap.example.net:993"
dkim.sign = ["ed"]
dkim.selectors.ed.private_key_file = "ed25519.pem"
dkim.selectors.rsa.private_key_file = "rsa2048.pem"
dmarc = { account = "app", domain = "reports.example" }
tls_rpt = { account = "app" }
mta_sts = { policy_id = "20260101", max_age = "14d" }
[domains."reports.example"]
[domains."mail.example.org"]
[accounts.app]
domain = "example.org"
destinations."app@example.org" = {}
"#;

/// A folder with the configuration, and what the configuration says.
struct Files {
    _dir: TempDir,
    statics: Arc<Static>,
    config: Arc<Dynamic>,
}

impl Files {
    /// `edit` changes the texts of postrider.conf and domains.conf.
    fn new(ca: &str, edit: impl FnOnce(&mut String, &mut String)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/config/dynamic/keys");
        for key in ["rsa2048.pem", "ed25519.pem"] {
            let text = fs::read(keys.join(key)).unwrap();
            replace_private(&dir.path().join(key), &text).unwrap();
        }
        fs::write(dir.path().join("ca.pem"), ca).unwrap();
        replace_private(&dir.path().join("tsig.key"), b"YSBzZWNyZXQ=\n").unwrap();
        let (mut statics, mut dynamics) = (STATICS.to_owned(), DYNAMICS.to_owned());
        edit(&mut statics, &mut dynamics);
        let statics = Static::parse(&statics, dir.path().join("postrider.conf"));
        let statics = statics.unwrap_or_else(|errors| panic!("{errors}"));
        let config = Dynamic::parse(&dynamics, dir.path().join("domains.conf"), &statics);
        let config = config.unwrap_or_else(|errors| panic!("{errors}"));
        Self {
            _dir: dir,
            statics: Arc::new(statics),
            config: Arc::new(config),
        }
    }

    fn facts(&self) -> HostFacts {
        let (mut facts, warnings) = HostFacts::gather(&self.statics, &[]);
        assert!(warnings.is_empty(), "{warnings:?}");
        facts.dnssec = true;
        facts
    }

    fn wanted(&self, domain: &str) -> Vec<Wanted> {
        let domain: Domain = domain.parse().unwrap();
        wanted(
            &self.statics,
            &self.config.domains[&domain],
            &domain,
            &self.facts(),
        )
    }

    fn world(&self, resolver: FakeResolver, dialer: Arc<dyn postrider_queue::Dialer>) -> World {
        World {
            statics: Arc::clone(&self.statics),
            config: Arc::clone(&self.config),
            resolver: Arc::new(resolver),
            dialer,
            clock: Arc::new(ManualClock::new(Time(NOW * 1_000_000))),
            ca_accounts: BTreeMap::new(),
        }
    }
}

/// What DNS says, by name.
#[derive(Clone, Default)]
struct Zone {
    records: BTreeMap<String, Vec<Record>>,
    not_authentic: Vec<String>,
    failing: Vec<String>,
}

impl Zone {
    /// A zone in which all is right.
    fn right(files: &Files) -> Self {
        let mut zone = Self::default();
        let host = ["192.0.2.10", "2001:db8::10"];
        for address in host {
            zone.add_address("mail.example.org", address);
            zone.add_address("smtp.example.org", address);
        }
        for wanted in files.wanted("example.org") {
            match wanted.record {
                // The resolver follows the alias.
                Record::Cname(_) => {
                    for address in host {
                        if wanted.name != "smtp.example.org" {
                            zone.add_address(&wanted.name, address);
                        }
                    }
                }
                record => zone.add(&wanted.name, record),
            }
        }
        for (address, name) in [
            ("192.0.2.10", "mail.example.org"),
            ("2001:db8::10", "mail.example.org"),
            ("192.0.2.11", "out.example.org"),
            ("198.51.100.7", "proxy.example.net"),
        ] {
            zone.set_reverse(address, &[name]);
        }
        zone.add_address("out.example.org", "192.0.2.11");
        zone.add_address("proxy.example.net", "198.51.100.7");
        zone.add("com", Record::Ns("a.gtld-servers.net".into()));
        zone
    }

    fn add(&mut self, name: &str, record: Record) {
        self.records
            .entry(name.to_owned())
            .or_default()
            .push(record);
    }

    fn add_text(&mut self, name: &str, text: &str) {
        self.add(name, Record::Txt(text.as_bytes().to_vec()));
    }

    fn add_address(&mut self, name: &str, address: &str) {
        let record = match address.parse().unwrap() {
            std::net::IpAddr::V4(address) => Record::A(address),
            std::net::IpAddr::V6(address) => Record::Aaaa(address),
        };
        self.add(name, record);
    }

    fn remove(&mut self, name: &str, record_type: RecordType) {
        let records = self.records.get_mut(name).unwrap();
        let before = records.len();
        records.retain(|record| record.record_type() != record_type);
        assert_ne!(records.len(), before, "{name} has no {record_type:?}");
    }

    /// Replaces the texts of a name by one.
    fn set_text(&mut self, name: &str, text: &str) {
        self.remove(name, RecordType::Txt);
        self.add_text(name, text);
    }

    /// The first text of a name.
    fn text(&self, name: &str) -> String {
        let texts = self.records[name].iter();
        let mut texts = texts.filter_map(|record| match record {
            Record::Txt(text) => Some(String::from_utf8(text.clone()).unwrap()),
            _ => None,
        });
        texts.next().unwrap()
    }

    fn set_reverse(&mut self, address: &str, names: &[&str]) {
        let question = postrider_dns::Question::reverse(address.parse().unwrap());
        let names = names.iter().map(|name| Record::Ptr((*name).to_owned()));
        self.records
            .insert(question.name().to_owned(), names.collect());
    }

    fn resolver(&self) -> FakeResolver {
        let fake = FakeResolver::default();
        for (name, records) in &self.records {
            for record in records {
                fake.add(name, record.clone());
            }
        }
        self.not_authentic
            .iter()
            .for_each(|name| fake.distrust(name));
        self.failing.iter().for_each(|name| fake.fail(name));
        fake
    }
}

/// The digest of a key in the file.
fn digests(facts: &HostFacts) -> Vec<String> {
    let hex = |key: &TlsKey| {
        key.digest
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    };
    facts.tls_keys.iter().map(hex).collect()
}
