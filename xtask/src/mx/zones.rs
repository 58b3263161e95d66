//! Signed zones of a Knot DNS of our own, from a root with a key of its own.
//!
//! The root, `example` and `signed.example` are signed. `unsigned.example` is not, and its parent
//! proves that. `bogus.example` is signed with another key than its parent says.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::knot::spawn;
use crate::ports::{free_port, wait_for_port};
use crate::programs::{finish, program};
use crate::workspace::Kept;

/// The zones with their keys. The parent of each is before it, and the first is the root.
const SIGNED: [&str; 4] = [".", "example.", "signed.example.", "bogus.example."];
const UNSIGNED: &str = "unsigned.example.";

/// A Knot server that serves the zones. It is killed when the value is dropped.
pub(super) struct Zones {
    _dir: TempDir,
    port: u16,
    /// The key of the root, as a file for `resolver.trust_anchor_file`.
    pub(super) trust_anchor: PathBuf,
    _knotd: Kept,
}

impl Zones {
    /// Makes keys, signs the zones and serves them. `records` are lines of the zone files below
    /// `example`, with absolute names.
    pub(super) fn serve(records: &[String]) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("zones-").tempdir()?;
        let folder = dir.path();
        let port = free_port()?;
        fs::create_dir(folder.join("db"))?;
        let conf = folder.join("knot.conf");
        fs::write(&conf, knot_conf(folder, port))?;
        for zone in SIGNED {
            let key = ["generate", "algorithm=13", "ksk=yes", "zsk=yes"];
            keymgr(&conf, zone, &key)?;
        }
        let trust_anchor = folder.join("anchor");
        let key = keymgr(&conf, ".", &["dnskey"])?;
        fs::write(&trust_anchor, key.replacen(". ", ". 86400 IN ", 1))?;
        let signed_ds = keymgr(&conf, "signed.example.", &["ds"])?;
        let root = delegation("example.") + &keymgr(&conf, "example.", &["ds"])?;
        let example = [
            delegation("signed.example."),
            delegation("bogus.example."),
            delegation(UNSIGNED),
            // The records of another key.
            signed_ds.replace("signed.example.", "bogus.example."),
            signed_ds,
        ]
        .concat();
        for zone in SIGNED.into_iter().chain([UNSIGNED]) {
            let content = match zone {
                "." => root.clone(),
                "example." => example.clone(),
                zone => below(zone, records),
            };
            fs::write(folder.join(file(zone)), head(zone) + &content)?;
        }
        let knotd = spawn(&conf)?;
        wait_for_port(port)?;
        Ok(Self {
            _dir: dir,
            port,
            trust_anchor,
            _knotd: knotd,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// The TLSA records of port 25 of a host, as Knot serves them.
    pub(super) fn tlsa(&self, host: &str) -> Result<Vec<String>> {
        let (port, name) = (self.port.to_string(), format!("_25._tcp.{host}"));
        let mut kdig = program("kdig");
        kdig.args(["@127.0.0.1", "-p", &port, "+short", "+tcp", &name, "TLSA"]);
        let output = finish(&mut kdig)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.lines().map(str::to_owned).collect())
    }
}

fn keymgr(conf: &Path, zone: &str, command: &[&str]) -> Result<String> {
    let output = finish(
        program("keymgr")
            .arg("-c")
            .arg(conf)
            .arg(zone)
            .args(command),
    )?;
    String::from_utf8(output.stdout).context("keymgr printed no text")
}

fn file(zone: &str) -> String {
    match zone {
        "." => "root.zone".to_owned(),
        zone => format!("{zone}zone"),
    }
}

/// The SOA and NS records of a zone, and the address of the server where it belongs.
fn head(zone: &str) -> String {
    let address = match zone {
        "." | "example." => "ns.example. 3600 A 127.0.0.1\n",
        _ => "",
    };
    format!(
        "{zone} 3600 SOA ns.example. hostmaster.example. 1 3600 600 86400 300\n\
         {zone} 3600 NS ns.example.\n{address}"
    )
}

fn delegation(zone: &str) -> String {
    format!("{zone} 3600 NS ns.example.\n")
}

/// The records that belong to a zone.
fn below(zone: &str, records: &[String]) -> String {
    let names = format!(".{zone}");
    let belongs = |record: &&String| {
        let name = record.split_whitespace().next();
        name.is_some_and(|name| name.ends_with(&names))
    };
    let lines = records.iter().filter(belongs);
    lines.fold(String::new(), |text, line| text + line + "\n")
}

fn knot_conf(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    let mut text = format!(
        "server:\n    listen: 127.0.0.1@{port}\n    rundir: {folder}\n\
         log:\n  - target: stderr\n    any: error\n\
         database:\n    storage: {folder}/db\n\
         policy:\n  - id: nsec\n    algorithm: ecdsap256sha256\n    manual: on\n  \
         - id: nsec3\n    algorithm: ecdsap256sha256\n    manual: on\n    nsec3: on\n\
         zone:\n"
    );
    for zone in SIGNED.into_iter().chain([UNSIGNED]) {
        let signing = match zone {
            UNSIGNED => "off",
            _ => "on",
        };
        // The root has NSEC, the others have NSEC3.
        let policy = match zone {
            "." => "nsec",
            _ => "nsec3",
        };
        let file = file(zone);
        let _ = writeln!(
            text,
            "  - domain: {zone}\n    storage: {folder}\n    file: {file}\n    \
             zonefile-sync: -1\n    dnssec-signing: {signing}\n    dnssec-policy: {policy}"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_in_the_zone_of_their_name() {
        let records = ["a.signed.example. A 127.0.0.1", "unsigned.example. A x"];
        let records = records.map(str::to_owned);
        let signed = below("signed.example.", &records);
        assert_eq!(signed, "a.signed.example. A 127.0.0.1\n");
        assert_eq!(below(UNSIGNED, &records), "");
    }
}
