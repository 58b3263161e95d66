//! Deliveries to the MX hosts of a small internet of real programs: Knot DNS signs the zones,
//! Postfix takes the mail, postgrey greylists, and Python serves the policies of MTA-STS. All of
//! them are on addresses of loopback. The hosts are at port 25, so this needs root.
//!
//! postrider has the key of this internet's root, and one of its CAs. [`cases`] lists what DNS says
//! of each recipient domain, what its host is like, and what becomes of a message.

mod cases;
mod certificates;
mod hosts;
mod server;
mod zones;

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use cases::{Answer, CASES, Case, Tlsa, Wanted, Zone};
use certificates::Certificates;
use hosts::{GREYLIST_SECONDS, Hosts};
use server::{SOURCES, Server};
use zones::Zones;

use crate::peers::install_packages;
use crate::postfix;
use crate::programs::{finish, present, program};
use crate::test::{Done, Steps};

/// The programs of the checks, and the packages of Debian that have them.
const PROGRAMS: &[&str] = &[
    "postfix", "postgrey", "knotd", "keymgr", "kdig", "danetool", "openssl", "python3",
];
const PACKAGES: &[&str] = &[
    "postfix",
    "postgrey",
    "knot",
    "knot-dnsutils",
    "gnutls-bin",
    "openssl",
    "python3",
];

/// Runs all checks. With `require` a missing program is a failure.
pub(crate) fn run(steps: &mut Steps, require: bool) {
    steps.step("install Postfix, postgrey, Knot DNS and danetool", || {
        install_packages(PROGRAMS, PACKAGES)
    });
    let mut world = None;
    let started = steps.step("start the MX hosts and the signed zones", || {
        let absent = PROGRAMS.iter().find(|name| !present(name));
        let absent = absent.map(|name| format!("{name} is not installed"));
        let unusable = absent.or_else(|| postfix::check().err().map(|error| format!("{error:#}")));
        if let Some(unusable) = unusable {
            ensure!(!require, "{unusable}");
            return Ok(Done::Skipped(unusable));
        }
        world = Some(World::start()?);
        Ok(Done::Passed)
    });
    let Some(mut world) = world.filter(|_| started) else {
        return;
    };
    let checks: [(&str, Check); 5] = [
        (
            "OpenSSL accepts the hosts that DANE accepts",
            second_opinion,
        ),
        (
            "Postfix takes our mail with TLS, DANE and MTA-STS, or it waits",
            first_attempts,
        ),
        ("Postfix refuses a recipient, who is suppressed", refused),
        ("Postfix defers a recipient, who is tried again", deferred),
        ("postgrey lets the second attempt through", greylisted),
    ];
    for (name, check) in checks {
        steps.step(name, || check(&mut world).map(|()| Done::Passed));
    }
}

type Check = fn(&mut World) -> Result<()>;

/// Everything that runs. The fields are dropped in this order.
struct World {
    server: Server,
    hosts: Hosts,
    zones: Zones,
    _dir: TempDir,
}

impl World {
    fn start() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("mx-").tempdir()?;
        // postgrey's own user must be able to enter the folder.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        let certificates = Certificates::create(dir.path())?;
        let mut issued = BTreeMap::new();
        for case in CASES {
            if let Some(kind) = case.certificate {
                let files = certificates.issue(case.name, &[&case.host()], kind)?;
                issued.insert(case.name, files);
            }
        }
        let zones = Zones::serve(&hosts::records(&certificates, &issued)?)?;
        let hosts = Hosts::start(dir.path(), &certificates, &issued)?;
        let server = Server::start(dir.path(), &zones, &certificates.ca.file)?;
        Ok(Self {
            server,
            hosts,
            zones,
            _dir: dir,
        })
    }
}

/// Looks at each host with TLSA records, as Knot serves them, with OpenSSL.
fn second_opinion(world: &mut World) -> Result<()> {
    for case in CASES {
        if case.tlsa == Tlsa::None || case.zone != Zone::Signed {
            continue;
        }
        let host = case.host();
        let records = world.zones.tlsa(&host)?;
        ensure!(!records.is_empty(), "{host} has no TLSA record");
        let mut client = program("openssl");
        client.args(["s_client", "-starttls", "smtp", "-brief"]);
        client.args(["-connect", &format!("{}:25", case.address())]);
        client.args(["-verify_return_error", "-dane_tlsa_domain", &host]);
        for record in &records {
            client.args(["-dane_tlsa_rrdata", record]);
        }
        let accepted = finish(&mut client);
        let wanted = case.wanted == Wanted::Delivered;
        ensure!(
            accepted.is_ok() == wanted,
            "OpenSSL differs about {host}: {accepted:?}"
        );
    }
    Ok(())
}

/// Sends a message to each case, and looks at the end of the first attempt.
fn first_attempts(world: &mut World) -> Result<()> {
    for case in CASES {
        world.server.submit(&case.recipient())?;
    }
    for case in CASES {
        let event = world.server.next_event(&case.recipient())?;
        first_attempt(world, case, &event).with_context(|| format!("{}: {event}", case.name))?;
    }
    Ok(())
}

fn first_attempt(world: &World, case: &Case, event: &Value) -> Result<()> {
    let says = |member: &str| {
        event
            .get(member)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let held = world.hosts.held(&case.recipient())?;
    let error = says("Error");
    let told = |status: &str, words: &str| error.contains(status) && error.contains(words);
    match case.wanted {
        Wanted::Delivered | Wanted::InClear => {
            ensure!(says("Event") == "delivered", "it is not delivered");
            let with_tls = case.wanted == Wanted::Delivered;
            let [message] = held.as_slice() else {
                bail!("Postfix has {} messages", held.len());
            };
            ensure!(
                message.contains("(using TLSv1.3 with cipher") == with_tls,
                "TLS in {message}"
            );
        }
        Wanted::Waits(status, words) => {
            ensure!(says("Event") == "delayed", "it does not wait");
            ensure!(told(status, words), "not {status} and {words:?}");
            ensure!(held.is_empty(), "Postfix has the message");
            // The first connection waited until Postfix was there.
            let connections = match case.zone {
                Zone::Bogus => 1,
                Zone::Signed | Zone::Unsigned => 2,
            };
            let log = world
                .hosts
                .wait_for_log(case, "disconnect from", connections)?;
            // Postfix tells which commands it got.
            let heard = log.iter().find(|line| line.contains(" mail="));
            ensure!(heard.is_none(), "Postfix got MAIL: {heard:?}");
        }
        Wanted::Deferred(status, words) => {
            ensure!(says("Event") == "delayed", "it does not wait");
            ensure!(told(status, words), "not {status} and {words:?}");
            ensure!(held.is_empty(), "Postfix has the message");
        }
        Wanted::Failed => {
            ensure!(says("Event") == "failed", "it does not fail");
            ensure!(says("SMTPEnhancedCode") == "5.1.1", "another code");
            let suppressing = event.get("Suppressing").and_then(Value::as_bool);
            ensure!(suppressing == Some(true), "it is not suppressed");
        }
    }
    Ok(())
}

/// The case with an answer to RCPT.
fn case(answer: Answer) -> Result<&'static Case> {
    let case = CASES.iter().find(|case| case.answer == answer);
    case.context("no case has this answer")
}

/// Sends a second message to the recipient who was refused. It fails without a connection.
fn refused(world: &mut World) -> Result<()> {
    let case = case(Answer::Refuse)?;
    let recipient = case.recipient();
    let list = world.server.queue(&["suppress", "list", "--json"])?;
    ensure!(list.contains(&recipient), "{recipient} is not in {list}");
    world.server.submit(&recipient)?;
    let event = world.server.next_event(&recipient)?;
    let name = event.get("Event").and_then(Value::as_str);
    ensure!(name == Some("suppressed"), "{event}");
    let rejects = world.hosts.wait_for_log(case, "NOQUEUE: reject: RCPT", 1)?;
    ensure!(rejects.len() == 1, "{rejects:?}");
    Ok(())
}

/// Attempts again to deliver the message that was deferred. It still waits.
fn deferred(world: &mut World) -> Result<()> {
    let case = case(Answer::Defer)?;
    let recipient = case.recipient();
    world.server.queue(&["kick", "--to", &recipient])?;
    let event = world.server.next_event(&recipient)?;
    let name = event.get("Event").and_then(Value::as_str);
    ensure!(name == Some("delayed"), "{event}");
    world.hosts.wait_for_log(case, "NOQUEUE: reject: RCPT", 2)?;
    let list = world.server.queue(&["list", "--json"])?;
    ensure!(list.contains(&recipient), "{recipient} is not in {list}");
    Ok(())
}

/// Attempts again to deliver the message that was greylisted. postgrey knows a message by the
/// address of the client, so both attempts must come from the same one.
fn greylisted(world: &mut World) -> Result<()> {
    let case = case(Answer::Greylist)?;
    let recipient = case.recipient();
    // So the second attempt makes a connection of its own. The first one of all waited until
    // Postfix was there.
    world.hosts.wait_for_log(case, "disconnect from", 2)?;
    // postgrey rounds its times down to seconds.
    std::thread::sleep(Duration::from_secs(GREYLIST_SECONDS + 1));
    world.server.queue(&["kick", "--to", &recipient])?;
    let event = world.server.next_event(&recipient)?;
    let name = event.get("Event").and_then(Value::as_str);
    ensure!(name == Some("delivered"), "{event}");
    let log = world.hosts.wait_for_log(case, ": connect from ", 3)?;
    let from = |ip: &Ipv4Addr| {
        log.iter()
            .filter(|line| line.ends_with(&format!("[{ip}]")))
            .count()
    };
    ensure!(
        SOURCES.iter().map(from).any(|connections| connections == 2),
        "the attempts have no source in common: {log:?}"
    );
    let held = world.hosts.held(&recipient)?;
    ensure!(held.len() == 1, "Postfix has {} messages", held.len());
    Ok(())
}
