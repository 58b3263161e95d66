//! Certificates from Pebble, the ACME server for tests by Let's Encrypt. Pebble is strict, and
//! refuses some nonces on purpose.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use tempfile::TempDir;

use crate::keys::Certificate;
use crate::peers::install_packages;
use crate::ports::{free_port, wait_for_port};
use crate::programs::{finish, present, program};
use crate::test::{Done, Steps};
use crate::workspace::{Kept, Profile, build_postrider, serve, write_private};

/// The programs of the checks, and the packages of Debian that have them.
const PROGRAMS: &[&str] = &["pebble", "pebble-challtestsrv", "curl", "openssl"];
const PACKAGES: &[&str] = &["pebble", "curl", "openssl"];
/// The names that get certificates.
const NAMES: [&str; 4] = [
    "mail.acme.example",
    "autoconfig.d.example",
    "mail.d.example",
    "mta-sts.d.example",
];
const EAB_ID: &str = "kid-1";
const EAB_KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
/// How long the certificates may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs all checks. With `require` a missing program is a failure.
pub(crate) fn run(steps: &mut Steps, require: bool) {
    steps.step("install Pebble", || install_packages(PROGRAMS, PACKAGES));
    let checks: [(&str, Check); 2] = [
        (
            "Pebble gives certificates by tls-alpn-01, with an external account binding",
            tls_alpn,
        ),
        ("Pebble gives certificates by http-01", http),
    ];
    for (name, check) in checks {
        steps.step(name, || {
            if let Some(missing) = PROGRAMS.iter().find(|name| !present(name)) {
                ensure!(!require, "{missing} is not installed");
                return Ok(Done::Skipped(format!("{missing} is not installed")));
            }
            check()?;
            Ok(Done::Passed)
        });
    }
}

type Check = fn() -> Result<()>;

/// All names over HTTPS. The hostname has a certificate for each host key. After kill -9 the
/// certificates are there, and nothing is ordered.
fn tls_alpn() -> Result<()> {
    let ports = Ports::new()?;
    let place = Place::new(&ports, true)?;
    let services = format!(
        "tls.host_keys = [\"p256.pem\", \"rsa.pem\"]\n\
         autoconfig_https.port = {https}\nmta_sts_https.port = {https}\n",
        https = ports.https
    );
    let server = place.serve(&ports, &services)?;
    server.wait_for("certificate loaded name=", NAMES.len() + 1)?;
    let check = || {
        for name in NAMES {
            place.fetch(&ports, name, "/healthz", &[])?;
        }
        let policy = place.fetch(&ports, "mta-sts.d.example", "/.well-known/mta-sts.txt", &[])?;
        ensure!(policy.contains("mode: enforce"), "{policy}");
        for cipher in [
            "ECDHE-RSA-AES128-GCM-SHA256",
            "ECDHE-ECDSA-AES128-GCM-SHA256",
        ] {
            let options = ["--tls-max", "1.2", "--ciphers", cipher];
            place.fetch(&ports, "mail.acme.example", "/healthz", &options)?;
        }
        anyhow::Ok(())
    };
    check()?;
    drop(server);
    let server = place.serve(&ports, &services)?;
    check()?;
    let log = server.log();
    ensure!(
        !log.contains("certificate loaded name="),
        "it was ordered again: {log}"
    );
    Ok(())
}

/// Certificates of a server without HTTPS. Submission shows them.
fn http() -> Result<()> {
    let ports = Ports::new()?;
    let place = Place::new(&ports, false)?;
    let (http, submissions) = (ports.http, ports.submissions);
    let services = format!("webapi_http.port = {http}\nsubmissions.port = {submissions}\n");
    let server = place.serve(&ports, &services)?;
    // Without HTTPS no name of MTA-STS and autoconfig is served.
    server.wait_for("certificate loaded name=", 2)?;
    for name in ["mail.acme.example", "mail.d.example"] {
        let mut client = program("openssl");
        client.args(["s_client", "-verify_return_error", "-brief"]);
        client.args(["-connect", &format!("127.0.0.1:{submissions}")]);
        client.args(["-servername", name, "-verify_hostname", name]);
        client
            .arg("-CAfile")
            .arg(place.dir.path().join("roots.pem"));
        finish(&mut client)?;
    }
    Ok(())
}

/// The ports of Pebble and of our server.
struct Ports {
    directory: u16,
    management: u16,
    dns: u16,
    dns_management: u16,
    http: u16,
    https: u16,
    submissions: u16,
}

impl Ports {
    fn new() -> Result<Self> {
        Ok(Self {
            directory: free_port()?,
            management: free_port()?,
            dns: free_port()?,
            dns_management: free_port()?,
            http: free_port()?,
            https: free_port()?,
            submissions: free_port()?,
        })
    }
}

/// A Pebble that runs, with a folder for all files.
struct Place {
    dir: TempDir,
    eab: bool,
    _children: [Kept; 2],
}

impl Place {
    fn new(ports: &Ports, eab: bool) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("pebble-").tempdir()?;
        let certificate = Certificate::create(dir.path())?;
        let config = json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{}", ports.directory),
            "managementListenAddress": format!("127.0.0.1:{}", ports.management),
            "certificate": certificate.certificate,
            "privateKey": certificate.key,
            "httpPort": ports.http,
            "tlsPort": ports.https,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": eab,
            "externalAccountMACKeys": {EAB_ID: EAB_KEY},
        }});
        let file = dir.path().join("pebble.json");
        fs::write(&file, config.to_string())?;
        write_private(&dir.path().join("eab.key"), EAB_KEY.as_bytes())?;
        let p256 = rcgen::KeyPair::generate()?;
        write_private(
            &dir.path().join("p256.pem"),
            p256.serialize_pem().as_bytes(),
        )?;
        finish(
            program("openssl")
                .args(["genpkey", "-algorithm", "RSA", "-out"])
                .arg(dir.path().join("rsa.pem")),
        )?;
        let dns = format!("127.0.0.1:{}", ports.dns);
        let mut names = program("pebble-challtestsrv");
        names.args([
            "-dns01",
            &dns,
            "-defaultIPv4",
            "127.0.0.1",
            "-defaultIPv6",
            "",
        ]);
        names.args([
            "-management",
            &format!("127.0.0.1:{}", ports.dns_management),
        ]);
        names.args(["-http01", "", "-https01", "", "-tlsalpn01", ""]);
        let names = start(&mut names, dir.path())?;
        let mut pebble = program("pebble");
        pebble.args(["-dnsserver", &dns, "-config"]).arg(&file);
        pebble
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_WFE_NONCEREJECT", "20");
        let pebble = start(&mut pebble, dir.path())?;
        wait_for_port(ports.directory)?;
        let place = Self {
            dir,
            eab,
            _children: [names, pebble],
        };
        let roots = format!("https://localhost:{}/roots/0", ports.management);
        wait_for_port(ports.management)?;
        let roots = finish(program("curl").args(["--silent", "--insecure", "--fail", &roots]))?;
        fs::write(place.dir.path().join("roots.pem"), roots.stdout)?;
        Ok(place)
    }

    fn serve(&self, ports: &Ports, services: &str) -> Result<Server> {
        let dir = self.dir.path();
        let eab = match self.eab {
            true => format!("eab = {{ key_id = \"{EAB_ID}\", key_file = \"eab.key\" }}"),
            false => String::new(),
        };
        let conf = format!(
            r#"hostname = "mail.acme.example"
user = ""
data_dir = "data"
postmaster.account = "app"
resolver = {{ servers = ["127.0.0.1:{dns}"], dnssec = false }}

[acme.pebble]
directory_url = "https://localhost:{directory}/dir"
ca_file = "certificate.pem"
contact_email = "admin@acme.example"
{eab}

[listeners.test]
ips = ["127.0.0.1"]
tls.acme = "pebble"
{services}"#,
            dns = ports.dns,
            directory = ports.directory,
        );
        fs::write(dir.join("postrider.conf"), conf)?;
        fs::write(dir.join("domains.conf"), DOMAINS)?;
        let log = dir.join("log");
        let file = fs::File::create(&log)?;
        let binary = build_postrider(Profile::Dev)?;
        let child = serve(&binary, &dir.join("postrider.conf"))
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()?;
        let mut server = Server {
            child: Kept(child),
            log,
        };
        server.wait_for("listening", 1)?;
        let ended = server.child.0.try_wait()?;
        ensure!(ended.is_none(), "the server ended: {}", server.log());
        Ok(server)
    }

    /// Fetches a page over HTTPS. The certificate must be right for the name.
    fn fetch(&self, ports: &Ports, name: &str, path: &str, options: &[&str]) -> Result<String> {
        let https = ports.https;
        let mut curl = program("curl");
        curl.args(["--silent", "--show-error", "--fail"])
            .args(options);
        curl.arg("--cacert").arg(self.dir.path().join("roots.pem"));
        curl.args(["--resolve", &format!("{name}:{https}:127.0.0.1")]);
        curl.arg(format!("https://{name}:{https}{path}"));
        let output = finish(&mut curl).with_context(|| format!("{name}{path} {options:?}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Starts a program whose output goes to a file in the folder.
fn start(command: &mut Command, dir: &Path) -> Result<Kept> {
    let name = Path::new(command.get_program())
        .file_name()
        .unwrap_or_default()
        .to_owned();
    let file = fs::File::create(dir.join(&name).with_extension("log"))?;
    let child = command.stdout(file.try_clone()?).stderr(file).spawn();
    let child = child.with_context(|| format!("failed to run {name:?}"))?;
    Ok(Kept(child))
}

/// A postrider that runs. It is killed when the value is dropped.
struct Server {
    child: Kept,
    log: std::path::PathBuf,
}

impl Server {
    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until the log has a text so many times.
    fn wait_for(&self, text: &str, times: usize) -> Result<()> {
        let begun = Instant::now();
        while self.log().matches(text).count() < times {
            if begun.elapsed() > PATIENCE {
                bail!("the log has not {times} times {text:?}: {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

const DOMAINS: &str = r#"[domains."d.example"]
mta_sts.policy_id = "1"

[accounts.app]
domain = "d.example"
destinations."app@d.example" = {}
"#;
