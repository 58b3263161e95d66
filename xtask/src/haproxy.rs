//! HAProxy in front of a postrider, with both versions of the PROXY protocol. swaks is the client:
//! through HAProxy, in the place of HAProxy, and as a peer that uses XCLIENT. An incoming webhook
//! tells which address the server saw.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::events::Events;
use crate::lab::dns::{self, Record, Zone};
use crate::ports::{free_port, wait_for_port};
use crate::programs::{finish, present, program};
use crate::workspace::{Kept, Profile, build_postrider, serve, set_password};

const RECIPIENT: &str = "app@app.example";
const PASSWORD: &str = "a password behind a proxy";
/// The address of the client. It differs from that of HAProxy, 127.0.0.1.
const CLIENT: &str = "127.0.0.5";

/// The ports of postrider.
struct Ports {
    /// Of the listener behind the proxy.
    smtp: u16,
    submissions: u16,
    http: u16,
    /// Of the listener for XCLIENT.
    direct: u16,
}

/// The ways through HAProxy: the words behind `server` in its configuration.
const WAYS: [(&str, &str); 3] = [
    ("version 1", "send-proxy"),
    ("version 2", "send-proxy-v2"),
    (
        "version 2 with a checksum",
        "send-proxy-v2 proxy-v2-options crc32c,unique-id",
    ),
];

/// A postrider behind HAProxy.
struct Place {
    events: Events,
    ports: Ports,
    /// HAProxy's ports for SMTP, one for each of [`WAYS`].
    ways: [u16; WAYS.len()],
    /// HAProxy's ports for submission over TLS and for HTTP.
    submissions: u16,
    http: u16,
    _haproxy: Kept,
    _postrider: Kept,
    _dir: TempDir,
}

impl Place {
    fn start() -> Result<Self> {
        let dns = serve_dns()?;
        let binary = build_postrider(Profile::Dev)?;
        let dir = tempfile::Builder::new().prefix("haproxy-").tempdir()?;
        let events = Events::listen()?;
        let ports = Ports {
            smtp: free_port()?,
            submissions: free_port()?,
            http: free_port()?,
            direct: free_port()?,
        };
        let conf = dir.path().join("postrider.conf");
        crate::keys::Certificate::create(dir.path())?;
        fs::write(&conf, postrider_conf(&ports, dns))?;
        fs::write(dir.path().join("domains.conf"), domains_conf(&events.url))?;
        set_password(&binary, &conf, "app", PASSWORD)?;
        let child = serve(&binary, &conf)
            .spawn()
            .with_context(|| format!("failed to run {binary:?}"))?;
        let postrider = Kept(child);
        wait_for_port(ports.direct)?;

        let ways = [free_port()?, free_port()?, free_port()?];
        let (submissions, http) = (free_port()?, free_port()?);
        let mut text = "global\n  maxconn 100\n\
            defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 60s\n  timeout server 60s\n"
            .to_owned();
        let smtp = WAYS
            .iter()
            .zip(ways)
            .map(|((_, words), port)| (port, ports.smtp, *words));
        let others = [
            (submissions, ports.submissions, "send-proxy-v2"),
            (http, ports.http, "send-proxy"),
        ];
        for (port, to, words) in smtp.chain(others) {
            text.push_str(&format!(
                "listen port{port}\n  bind 127.0.0.1:{port}\n  unique-id-format %rt\n  \
                 server postrider 127.0.0.1:{to} {words}\n"
            ));
        }
        let haproxy = dir.path().join("haproxy.cfg");
        fs::write(&haproxy, text)?;
        let child = program("haproxy")
            .arg("-db")
            .arg("-f")
            .arg(&haproxy)
            .spawn()
            .context("failed to run haproxy")?;
        let haproxy = Kept(child);
        wait_for_port(http)?;
        Ok(Self {
            events,
            ports,
            ways,
            submissions,
            http,
            _haproxy: haproxy,
            _postrider: postrider,
            _dir: dir,
        })
    }

    /// Sends a message with swaks. The server must have seen a client with this address.
    fn send(&mut self, what: &str, port: u16, args: &[&str], seen: &str) -> Result<()> {
        finish(
            swaks(port)
                .args(["--from", "joe@elsewhere.example", "--to", RECIPIENT])
                .args(["--h-Subject", what, "--body", "hello"])
                .args(args),
        )?;
        let told = self.events.wait_for(what, |event| {
            event.get("Subject").and_then(Value::as_str) == Some(what)
        })?;
        let remote = told.pointer("/Meta/RemoteIP").and_then(Value::as_str);
        ensure!(
            remote == Some(seen),
            "{what}: the server saw {remote:?}, not {seen}"
        );
        Ok(())
    }

    /// Submits messages through HAProxy, logged in. They are for the account itself.
    fn submit(&mut self) -> Result<()> {
        for mechanism in ["PLAIN", "LOGIN"] {
            let what = format!("submitted through HAProxy with {mechanism}");
            finish(
                swaks(self.submissions)
                    .args(["--tls-on-connect", "--local-interface", CLIENT])
                    .args(["--auth", mechanism])
                    .args(["--auth-user", RECIPIENT, "--auth-password", PASSWORD])
                    .args(["--from", RECIPIENT, "--to", RECIPIENT])
                    .args(["--h-Subject", &what, "--body", "hello"]),
            )?;
            self.events.wait_for(&what, |event| {
                event.get("Subject").and_then(Value::as_str) == Some(&what)
                    && event.get("Event").and_then(Value::as_str) == Some("delivered")
            })?;
        }
        Ok(())
    }
}

fn swaks(port: u16) -> Command {
    let mut swaks = program("swaks");
    swaks.args(["--server", "127.0.0.1", "--port", &port.to_string()]);
    swaks
}

/// Sends mail in all ways, and looks at the addresses that the server saw.
pub(crate) fn check() -> Result<()> {
    let mut place = Place::start()?;
    for ((name, _), port) in WAYS.iter().zip(place.ways) {
        let name = format!("through HAProxy, {name}");
        place.send(&name, port, &["--local-interface", CLIENT], CLIENT)?;
    }
    // TLS from the first byte comes behind the header.
    let submissions = swaks(place.submissions)
        .args(["--tls-on-connect", "--quit-after", "EHLO"])
        .output()?;
    let told = String::from_utf8_lossy(&submissions.stdout);
    ensure!(
        submissions.status.success() && told.contains("AUTH"),
        "submission over TLS: {told}{}",
        String::from_utf8_lossy(&submissions.stderr)
    );
    place.submit()?;
    if present("curl") {
        let url = format!("http://127.0.0.1:{}/healthz", place.http);
        finish(program("curl").args(["--silent", "--show-error", "--fail", &url]))?;
    }

    let smtp = place.ports.smtp;
    let v1 = "TCP4 192.0.2.7 198.51.100.1 4711 25";
    let parts = [
        "--proxy-source",
        "2001:db8::7",
        "--proxy-source-port",
        "4711",
        "--proxy-dest",
        "2001:db8::25",
        "--proxy-dest-port",
        "25",
    ];
    let v2 = [
        &["--proxy-version", "2", "--proxy-family", "AF_INET6"],
        &parts[..],
    ]
    .concat();
    place.send(
        "swaks as a proxy, version 1",
        smtp,
        &["--proxy", v1],
        "192.0.2.7",
    )?;
    place.send("swaks as a proxy, version 2", smtp, &v2, "2001:db8::7")?;
    // A client that is no proxy gets no greeting.
    let refused = swaks(smtp).args(["--quit-after", "EHLO"]).output()?;
    ensure!(
        !refused.status.success(),
        "a client without a PROXY header was served"
    );

    let direct = place.ports.direct;
    let xclient = [
        "--xclient-addr",
        "192.0.2.8",
        "--xclient-name",
        "mail.elsewhere.example",
        "--xclient-helo",
        "mail.elsewhere.example",
        "--xclient-proto",
        "ESMTP",
    ];
    place.send("swaks with XCLIENT", direct, &xclient, "192.0.2.8")
}

/// Serves the DNS of the sender. SPF passes for all its addresses.
fn serve_dns() -> Result<SocketAddr> {
    let mut zone = Zone::default();
    let host = "mail.elsewhere.example";
    zone.add("elsewhere.example", Record::Mx(10, host.to_owned()));
    zone.add(host, Record::A(Ipv4Addr::new(192, 0, 2, 7)));
    let spf = "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all";
    zone.add("elsewhere.example", Record::Txt(spf.to_owned()));
    dns::serve_aside(SocketAddr::from(([127, 0, 0, 1], 0)), zone)
}

fn postrider_conf(ports: &Ports, dns: SocketAddr) -> String {
    let Ports {
        smtp,
        submissions,
        http,
        direct,
    } = ports;
    format!(
        r#"hostname = "mail.app.example"
user = ""
data_dir = "data"
log.level = "warn"
postmaster.account = "app"
webhook.allow_private_addresses = true
policy = {{ greylist = false, first_time_sender_delay = "0s" }}
resolver = {{ servers = ["{dns}"], dnssec = false }}

[listeners.proxied]
ips = ["127.0.0.1"]
proxy_from = ["127.0.0.1"]
tls.certs = [{{ cert_file = "certificate.pem", key_file = "key.pem" }}]
smtp = {{ port = {smtp} }}
submissions = {{ port = {submissions} }}
webapi_http = {{ port = {http} }}

[listeners.direct]
ips = ["127.0.0.1"]
xclient_from = ["127.0.0.1"]
smtp = {{ port = {direct} }}

[transports.direct.smtp]
host = "127.0.0.1"
port = {direct}
no_starttls = true
"#
    )
}

fn domains_conf(webhook: &str) -> String {
    format!(
        r#"[domains."app.example"]

[accounts.app]
domain = "app.example"
destinations."{RECIPIENT}" = {{}}
incoming_webhook = {{ url = "{webhook}" }}
outgoing_webhook = {{ url = "{webhook}" }}
routes = [{{ transport = "direct" }}]
"#
    )
}
