//! Postfix with the SASL of Dovecot as a smarthost: postrider logs in there by each mechanism.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::compare::Work;
use crate::dovecot::{Dovecot, LOGIN, PASSWORD};
use crate::ports::{free_port, wait_for_port};
use crate::postfix::Postfix;
use crate::programs::{finish, program};
use crate::workspace::{Kept, Profile, build_postrider, root, serve};

/// How long a message may take to the smarthost.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// The mechanisms of Dovecot that postrider knows. Each has a domain `mNUMBER.example`.
const MECHANISMS: [&str; 4] = ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "LOGIN"];

/// Sends a message by each mechanism. Postfix takes it only after a login, and holds it.
pub(crate) fn check() -> Result<()> {
    let dovecot = Dovecot::start(false)?;
    let dir = tempfile::Builder::new().prefix("smarthost-").tempdir()?;
    let settings = [
        "smtpd_sasl_auth_enable = yes".to_owned(),
        "smtpd_sasl_type = dovecot".to_owned(),
        format!("smtpd_sasl_path = {}", dovecot.auth_socket().display()),
        "smtpd_relay_restrictions = permit_sasl_authenticated, reject".to_owned(),
        "smtpd_recipient_restrictions = permit_sasl_authenticated, reject".to_owned(),
        // Nobody is trusted for an address.
        "mynetworks = 192.0.2.0/24".to_owned(),
    ];
    let postfix = Postfix::start(dir.path(), Work::Accept, 9, false, &settings)?;
    let mx = free_port()?;
    let _server = start(dir.path(), mx, postfix.port())?;
    for (number, mechanism) in MECHANISMS.iter().enumerate() {
        finish(
            program("python3")
                .arg(root().join("xtask/peers/deliver.py"))
                .args([&mx.to_string(), &format!("m{number}@app.example")]),
        )?;
        held(&postfix, &format!("x@m{number}.example"))
            .with_context(|| format!("by {mechanism}"))?;
    }
    Ok(())
}

/// A postrider that passes the mail of its addresses on to the smarthost.
fn start(dir: &Path, mx: u16, smarthost: u16) -> Result<Kept> {
    let binary = build_postrider(Profile::Dev)?;
    let mut statics = format!(
        "hostname = \"mail.app.example\"\nuser = \"\"\ndata_dir = \"data\"\nlog.level = \"warn\"\n\
         resolver = {{ servers = [\"127.0.0.1:9\"], timeout = \"100ms\" }}\n\
         postmaster.account = \"app\"\n\
         [listeners.test]\nips = [\"127.0.0.1\"]\n\
         smtp = {{ enabled = true, port = {mx} }}\n"
    );
    let mut routes = String::new();
    let mut destinations = String::new();
    for (number, mechanism) in MECHANISMS.iter().enumerate() {
        statics.push_str(&format!(
            "[transports.m{number}.submission]\nhost = \"127.0.0.1\"\nport = {smarthost}\n\
             no_starttls = true\nauth = {{ username = \"{LOGIN}\", password = \"{PASSWORD}\", \
             mechanisms = [\"{mechanism}\"] }}\n"
        ));
        routes.push_str(&format!(
            "[[routes]]\nto_domain = [\"m{number}.example\"]\ntransport = \"m{number}\"\n"
        ));
        destinations.push_str(&format!(
            "destinations.\"m{number}@app.example\" = {{ forward = [\"x@m{number}.example\"] }}\n"
        ));
    }
    let folder = dir.join("postrider");
    fs::create_dir(&folder)?;
    let config = folder.join("postrider.conf");
    fs::write(&config, statics)?;
    fs::write(
        folder.join("domains.conf"),
        format!(
            "{routes}[domains.\"app.example\"]\n[accounts.app]\ndomain = \"app.example\"\n\
             {destinations}"
        ),
    )?;
    let child = serve(&binary, &config)
        .spawn()
        .with_context(|| format!("failed to run {binary:?}"))?;
    let server = Kept(child);
    wait_for_port(mx)?;
    Ok(server)
}

/// Waits until Postfix holds a message for a recipient.
fn held(postfix: &Postfix, recipient: &str) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        for entry in fs::read_dir(postfix.held())? {
            let file = fs::read(entry?.path()).unwrap_or_default();
            if String::from_utf8_lossy(&file).contains(recipient) {
                return Ok(());
            }
        }
        std::thread::sleep(PAUSE);
    }
    bail!("the smarthost got no message for {recipient}")
}
