//! The MX hosts: a Postfix with one service for each case, postgrey, and the host of the policies.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::unistd::User;

use super::cases::{Answer, CASES, Case, POLICY_HOST, Tlsa};
use super::certificates::{Certificates, Issued, Named, tlsa};
use crate::compare::Work;
use crate::events::PATIENCE;
use crate::keys::Certificate;
use crate::ports::{free_port, wait_for_address, wait_for_port};
use crate::postfix::Postfix;
use crate::programs::program;
use crate::workspace::{Kept, root};

/// The user of postgrey, which Debian's package makes.
const POSTGREY_USER: &str = "postgrey";
/// How long postgrey refuses a message, in seconds. It counts whole seconds.
pub(super) const GREYLIST_SECONDS: u64 = 1;

/// The hosts that run. They end when the value is dropped.
pub(super) struct Hosts {
    postfix: Postfix,
    log: PathBuf,
    _postgrey: Kept,
    _policies: Kept,
}

impl Hosts {
    /// Starts the hosts. `folder` gets their files.
    pub(super) fn start(
        folder: &Path,
        certificates: &Certificates,
        issued: &BTreeMap<&'static str, Certificate>,
    ) -> Result<Self> {
        let (postgrey, greylist) = start_postgrey(folder)?;
        let policies = start_policies(folder, certificates)?;
        let log = folder.join("mail.log");
        let settings = [
            format!("maillog_file = {}", log.display()),
            format!("maillog_file_prefixes = {}", folder.display()),
            "smtpd_tls_security_level = may".to_owned(),
            "smtpd_tls_received_header = yes".to_owned(),
        ];
        let mut services = "postlog unix-dgram n - n - 1 postlogd\n".to_owned();
        for case in CASES {
            services.push_str(&service(case, issued.get(case.name), greylist));
        }
        let parent = std::env::temp_dir();
        let postfix = Postfix::start_with(&parent, Work::Accept, 9, false, &settings, &services)?;
        for case in CASES {
            wait_for_address((case.address(), 25).into())?;
        }
        Ok(Self {
            postfix,
            log,
            _postgrey: postgrey,
            _policies: policies,
        })
    }

    /// The lines of Postfix's log about a case.
    pub(super) fn log(&self, case: &Case) -> Vec<String> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let service = format!(" {}/smtpd[", case.name);
        let lines = text.lines().filter(|line| line.contains(&service));
        lines.map(str::to_owned).collect()
    }

    /// Waits until the log of a case has so many lines with a text. Gives those lines.
    pub(super) fn wait_for_log(&self, case: &Case, text: &str, n: usize) -> Result<Vec<String>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log(case);
            let mut found = log.clone();
            found.retain(|line| line.contains(text));
            if found.len() >= n {
                return Ok(found);
            }
            if Instant::now() > deadline {
                bail!(
                    "the log of {} has not {n} times {text:?}: {log:?}",
                    case.name
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The messages that Postfix holds for a recipient.
    pub(super) fn held(&self, recipient: &str) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.postfix.held())? {
            let file = fs::read(entry?.path())?;
            let text = String::from_utf8_lossy(&file).into_owned();
            if text.contains(recipient) {
                found.push(text);
            }
        }
        Ok(found)
    }
}

/// The lines of master.cf for the MX host of a case.
fn service(case: &Case, certificate: Option<&Certificate>, greylist: u16) -> String {
    let mut text = format!("{}:25 inet n - n - - smtpd\n", case.address());
    let mut set = |name: &str, value: &str| {
        let _ = writeln!(text, "    -o {{ {name} = {value} }}");
    };
    set("syslog_name", case.name);
    set("myhostname", &case.host());
    match certificate {
        Some(files) => {
            set("smtpd_tls_cert_file", &files.certificate.to_string_lossy());
            set("smtpd_tls_key_file", &files.key.to_string_lossy());
        }
        None => set("smtpd_tls_security_level", "none"),
    }
    let refuse = |reply: &str| format!("check_recipient_access static:{{{reply}}}");
    let restriction = match case.answer {
        Answer::Accept => return text,
        Answer::Refuse => refuse("550 5.1.1 nobody is here"),
        Answer::Defer => refuse("450 4.2.1 the mailbox is full"),
        Answer::Greylist => format!("check_policy_service inet:127.0.0.1:{greylist}"),
    };
    set("smtpd_recipient_restrictions", &restriction);
    text
}

/// Starts postgrey on a port of loopback. Each address is a client of its own.
fn start_postgrey(folder: &Path) -> Result<(Kept, u16)> {
    let user = User::from_name(POSTGREY_USER)?;
    let user = user.with_context(|| format!("there is no user {POSTGREY_USER}"))?;
    let database = folder.join("postgrey");
    fs::create_dir(&database)?;
    chown(&database, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    let port = free_port()?;
    let mut postgrey = program("postgrey");
    postgrey
        .arg(format!("--inet=127.0.0.1:{port}"))
        .arg(format!("--dbdir={}", database.display()))
        .arg(format!("--delay={GREYLIST_SECONDS}"))
        .arg("--lookup-by-host");
    let child = start(&mut postgrey, &folder.join("postgrey.log"))?;
    wait_for_port(port)?;
    Ok((child, port))
}

/// Starts the host of the MTA-STS policies: Python's HTTP server, with TLS. All policies are the
/// same, and name the hosts of all domains that have one.
fn start_policies(folder: &Path, certificates: &Certificates) -> Result<Kept> {
    let cases = || CASES.iter().filter(|case| case.mta_sts);
    let names: Vec<String> = cases()
        .map(|case| format!("mta-sts.{}", case.domain()))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let files = certificates.issue("policies", &names, Issued::ByCa)?;
    let mut policy = "version: STSv1\nmode: enforce\nmax_age: 604800\n".to_owned();
    for case in cases() {
        let _ = writeln!(policy, "mx: {}", case.host());
    }
    let folder = folder.join("policies");
    fs::create_dir_all(folder.join(".well-known"))?;
    fs::write(folder.join(".well-known/mta-sts.txt"), policy)?;
    let mut server = program("python3");
    server.arg(root().join("xtask/peers/https.py"));
    server.arg(POLICY_HOST.to_string()).arg(&folder);
    server.arg(&files.certificate).arg(&files.key);
    let child = start(&mut server, &folder.join("log"))?;
    wait_for_address((POLICY_HOST, 443).into())?;
    Ok(child)
}

/// Starts a program whose output goes to a file.
fn start(command: &mut Command, log: &Path) -> Result<Kept> {
    let file = fs::File::create(log)?;
    let child = command.stdout(file.try_clone()?).stderr(file).spawn();
    let child = child.with_context(|| format!("failed to run {:?}", command.get_program()))?;
    Ok(Kept(child))
}

/// What DNS says of all cases: lines of zone files.
pub(super) fn records(
    certificates: &Certificates,
    issued: &BTreeMap<&'static str, Certificate>,
) -> Result<Vec<String>> {
    let other = certificates.issue("other", &["other.example"], Issued::Own)?;
    let mut records = Vec::new();
    for case in CASES {
        let (domain, host) = (case.domain(), case.host());
        let address = |name: &str, address: Ipv4Addr| format!("{name}. 60 A {address}");
        records.push(format!("{domain}. 60 MX 10 {host}."));
        records.push(address(&host, case.address()));
        if case.mta_sts {
            records.push(format!("_mta-sts.{domain}. 60 TXT \"v=STSv1; id=1\""));
            records.push(address(&format!("mta-sts.{domain}"), POLICY_HOST));
        }
        // A host without TLS has the records of another one.
        let own = issued.get(case.name).unwrap_or(&other);
        let right = || tlsa(&host, &own.certificate, Named::Host);
        let wrong = || tlsa(&host, &other.certificate, Named::Host);
        match case.tlsa {
            Tlsa::None => {}
            Tlsa::Right => records.push(right()?),
            Tlsa::Wrong => records.push(wrong()?),
            Tlsa::WrongAndRight => records.extend([wrong()?, right()?]),
            Tlsa::Ca => {
                let ca = match case.certificate {
                    Some(Issued::ByExpiredCa) => &certificates.expired_ca,
                    _ => &certificates.ca,
                };
                records.push(tlsa(&host, &ca.file, Named::Ca)?);
            }
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_its_settings_in_lines_of_their_own() {
        let case = CASES.iter().find(|case| case.name == "refuses").unwrap();
        let files = Certificate {
            certificate: "/c.pem".into(),
            key: "/k.pem".into(),
        };
        let text = service(case, Some(&files), 0);
        assert!(text.starts_with("127.91.1."), "{text}");
        assert!(
            text.contains(
                "\n    -o { smtpd_recipient_restrictions = \
                 check_recipient_access static:{550 5.1.1 nobody is here} }\n"
            ),
            "{text}"
        );
    }
}
