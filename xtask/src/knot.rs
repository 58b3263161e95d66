//! Knot DNS as the primary server of a zone, to which `postrider dns publish` writes the records of
//! a domain.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::ports::{free_port, wait_for_port};
use crate::programs::{finish, program};
use crate::workspace::{Kept, Profile, build_postrider, root, write_private};

/// The secret of the key, in base64.
const SECRET: &str = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0ISE=";

/// The zone at the beginning. The last records belong to others.
const ZONE: &str = "\
example.org. 3600 SOA ns.example.org. hostmaster.example.org. 1 3600 600 86400 300
example.org. 3600 NS ns.example.org.
ns.example.org. 3600 A 127.0.0.1
mail.example.org. 3600 A 192.0.2.10
example.org. 3600 TXT \"some-verification=1\"
_dmarc.example.org. 3600 TXT \"v=DMARC1; p=none\"
autoconfig.example.org. 3600 CNAME elsewhere.example.net.
";

/// Starts knotd with a configuration.
pub(crate) fn spawn(conf: &Path) -> Result<Kept> {
    let child = program("knotd").arg("-c").arg(conf).spawn();
    Ok(Kept(child.context("failed to run knotd")?))
}

/// A Knot server. It is killed when the value is dropped.
struct Knot {
    dir: TempDir,
    port: u16,
    _knotd: Kept,
}

impl Knot {
    fn start() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("knot-").tempdir()?;
        let port = free_port()?;
        let folder = dir.path().display();
        fs::create_dir(dir.path().join("db"))?;
        fs::write(dir.path().join("example.org.zone"), ZONE)?;
        fs::write(
            dir.path().join("knot.conf"),
            format!(
                "server:\n    listen: 127.0.0.1@{port}\n    rundir: {folder}\n\
                log:\n  - target: stderr\n    any: warning\n\
                database:\n    storage: {folder}/db\n\
                key:\n  - id: postrider\n    algorithm: hmac-sha256\n    secret: {SECRET}\n\
                acl:\n  - id: postrider\n    key: postrider\n    action: update\n\
                zone:\n  - domain: example.org\n    storage: {folder}\n    \
                file: example.org.zone\n    acl: postrider\n"
            ),
        )?;
        let knotd = spawn(&dir.path().join("knot.conf"))?;
        let knot = Self {
            dir,
            port,
            _knotd: knotd,
        };
        wait_for_port(port)?;
        Ok(knot)
    }

    /// The records of a name and type, as Knot has them.
    fn ask(&self, name: &str, kind: &str) -> Result<Vec<String>> {
        let port = self.port.to_string();
        let mut kdig = program("kdig");
        kdig.args(["@127.0.0.1", "-p", &port, "+short", "+tcp", name, kind]);
        let output = finish(&mut kdig)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Writes a configuration with this secret. Gives the path of postrider.conf.
    fn configure(&self, folder: &Path, secret: &str) -> Result<std::path::PathBuf> {
        let Self { port, .. } = self;
        fs::create_dir_all(folder)?;
        let key = root().join("testdata/config/dynamic/keys/ed25519.pem");
        write_private(&folder.join("ed25519.pem"), &fs::read(key)?)?;
        write_private(&folder.join("tsig.key"), secret.as_bytes())?;
        let conf = folder.join("postrider.conf");
        fs::write(
            &conf,
            format!(
                "hostname = \"mail.example.org\"\npostmaster.account = \"app\"\nuser = \"\"\n\
                data_dir = \"data\"\n\
                resolver = {{ servers = [\"127.0.0.1:{port}\"], dnssec = false }}\n\
                [listeners.l]\nips = [\"192.0.2.10\"]\nsmtp = {{}}\n\
                [dns_update.\"example.org\"]\nserver = \"127.0.0.1:{port}\"\n\
                key_name = \"postrider\"\nkey_file = \"tsig.key\"\n"
            ),
        )?;
        fs::write(
            folder.join("domains.conf"),
            "[domains.\"example.org\"]\ndkim.sign = [\"ed\"]\n\
            dkim.selectors.ed.private_key_file = \"ed25519.pem\"\n\
            dmarc.account = \"app\"\n[accounts.app]\ndomain = \"example.org\"\n\
            destinations.\"app@example.org\" = {}\n",
        )?;
        Ok(conf)
    }
}

/// A member of a JSON object; null if there is none.
fn member<'a>(value: &'a Value, name: &str) -> &'a Value {
    value.get(name).unwrap_or(&Value::Null)
}

/// Publishes the records of a domain, and looks at the zone.
pub(crate) fn check() -> Result<()> {
    let binary = build_postrider(Profile::Dev)?;
    let knot = Knot::start()?;
    let conf = knot.configure(&knot.dir.path().join("config"), SECRET)?;
    let postrider = |conf: &Path, args: &[&str]| {
        let mut command = Command::new(&binary);
        command.arg("--config").arg(conf).args(args);
        command.stdin(Stdio::null());
        command
    };
    let publish = |args: &[&str]| -> Result<Value> {
        let args = [&["dns", "publish", "example.org", "--json"], args].concat();
        let output = finish(&mut postrider(&conf, &args))?;
        serde_json::from_slice(&output.stdout).context("dns publish printed no JSON")
    };
    let planned = publish(&["--dry-run"])?;
    ensure!(
        member(&planned, "written") == false,
        "a dry run writes: {planned}"
    );
    ensure!(knot.ask("example.org", "MX")?.is_empty(), "a dry run wrote");
    let published = publish(&[])?;
    ensure!(member(&published, "written") == true, "{published}");
    ensure!(
        member(&published, "changes") == member(&planned, "changes"),
        "{published}\n{planned}"
    );
    for (name, kind, wanted) in [
        ("example.org", "MX", &["10 mail.example.org."][..]),
        (
            "example.org",
            "TXT",
            &[
                "\"some-verification=1\"",
                "\"v=spf1 ip4:192.0.2.10 mx ~all\"",
            ],
        ),
        ("mail.example.org", "TXT", &["\"v=spf1 a -all\""]),
        (
            "_dmarc.example.org",
            "TXT",
            &["\"v=DMARC1; p=none; rua=mailto:dmarcreports@example.org!10m\""],
        ),
        ("_pop3._tcp.example.org", "SRV", &["0 0 0 ."]),
        // The alias of somebody else stays.
        (
            "autoconfig.example.org",
            "CNAME",
            &["elsewhere.example.net."],
        ),
    ] {
        let mut found = knot.ask(name, kind)?;
        found.sort();
        ensure!(found == wanted, "{name} {kind}: {found:?}, not {wanted:?}");
    }
    let again = publish(&[])?;
    ensure!(
        member(&again, "written") == false,
        "the second time writes: {again}"
    );
    ensure!(
        member(&again, "changes")
            .as_array()
            .is_some_and(Vec::is_empty),
        "{again}"
    );
    let wrong = knot.configure(&knot.dir.path().join("wrong"), "YW5vdGhlcg==")?;
    let refused = postrider(&wrong, &["dns", "publish", "example.org"]).output()?;
    let told = String::from_utf8_lossy(&refused.stderr);
    ensure!(
        refused.status.code() == Some(1) && told.contains("has another secret for the key"),
        "{told}"
    );
    Ok(())
}
