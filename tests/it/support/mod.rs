//! The surroundings of the server in tests.

pub mod acme;
pub mod client;
pub mod dkim;
pub mod dkim_records;
pub mod dns;
#[allow(dead_code, reason = "the tests of the queue use more of it")]
pub mod https;
#[allow(dead_code, reason = "the tests of the queue use more of it")]
pub mod lmtp;
pub mod patience;
pub mod program;
pub mod receiver;
pub mod remote;
pub mod socks;
pub mod strict;
pub mod tls;

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use base64::Engine;
use postrider::server::{Options, Server};
use postrider_config::{Dynamic, Static};
use postrider_queue::{Dialer, Dialing};
use postrider_store::{ManualClock, Time};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;

/// Base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Connects to the remotes of a test. A remote has a port from the system, so connections to port
/// 25 of an address go to that port instead.
#[derive(Debug, Default)]
pub struct TestDialer(Mutex<HashMap<IpAddr, SocketAddr>>);

impl TestDialer {
    /// From now on, connections to `ip` go to the remote at `address`.
    pub fn lead(&self, ip: IpAddr, address: SocketAddr) {
        self.0.lock().unwrap().insert(ip, address);
    }
}

impl Dialer for TestDialer {
    fn dial(&self, address: SocketAddr, _from: Option<IpAddr>) -> Dialing {
        let to = self.0.lock().unwrap().get(&address.ip()).copied();
        Box::pin(async move {
            match to {
                Some(to) => Ok(TcpStream::connect(to).await?.into()),
                None => Err(std::io::ErrorKind::ConnectionRefused.into()),
            }
        })
    }
}

/// A server with its surroundings.
pub struct World {
    /// The folder of the server.
    pub dir: TempDir,
    /// The clock of the server.
    pub clock: ManualClock,
    /// The connections to the remotes.
    pub dialer: Arc<TestDialer>,
    /// The server.
    pub server: Server,
}

/// The password of every account in these tests.
pub const PASSWORD: &str = "test password";

/// The options of `World::start`.
#[derive(Debug, Default)]
pub struct Setup {
    /// The DNS server.
    pub dns: Option<SocketAddr>,
    /// The keys that validation of its answers trusts, in the format of a zone file. None: those of
    /// the root of the internet.
    pub trust_anchor: Option<String>,
    /// Lines for the end of postrider.conf.
    pub statics: String,
    /// Lines for the end of domains.conf.
    pub dynamics: String,
    /// Lines for `[accounts.app]`.
    pub app: String,
}

impl Setup {
    /// The text of postrider.conf.
    pub fn static_conf(&self) -> String {
        let resolver = match self.dns {
            Some(dns) => format!("resolver.servers = [\"{dns}\"]\n"),
            // Nobody answers there.
            None => "resolver = { servers = [\"127.0.0.1:9\"], timeout = \"100ms\" }\n".to_owned(),
        };
        let trust_anchor = match self.trust_anchor {
            Some(_) => "resolver.trust_anchor_file = \"root.key\"\n",
            None => "",
        };
        format!(
            r#"hostname = "mail.example.org"
user = ""
data_dir = "data"
{resolver}{trust_anchor}
[postmaster]
account = "app"

[webhook]
allow_private_addresses = true

[listeners.test]
ips = ["127.0.0.1"]
max_message_size = "1MB"
tls.certs = [{{ cert_file = "localserve.crt", key_file = "localserve.key" }}]
smtp = {{ enabled = true, port = 0 }}
submission = {{ enabled = true, port = 0 }}
submissions = {{ enabled = true, port = 0 }}
webapi_http = {{ enabled = true, port = 0 }}
{}"#,
            self.statics
        )
    }

    /// The text of domains.conf.
    pub fn dynamic_conf(&self) -> String {
        format!(
            r#"[domains."example.org"]
localpart_catchall_separators = ["+"]

[accounts.app]
domain = "example.org"
destinations."app@example.org" = {{}}
destinations."info@example.org" = {{ mailbox = "Info" }}
keep_retired_message_period = "168h"
max_outgoing_messages_per_day = 1000000
{}
[accounts.other]
domain = "example.org"
destinations."other@example.org" = {{}}
{}"#,
            self.app, self.dynamics
        )
    }

    /// Writes both files and a certificate. Returns the path of postrider.conf.
    pub fn write(&self, dir: &Path) -> PathBuf {
        postrider::tls::ensure_self_signed(dir, &["localhost".into()]).unwrap();
        let conf = dir.join("postrider.conf");
        std::fs::write(&conf, self.static_conf()).unwrap();
        if let Some(keys) = &self.trust_anchor {
            std::fs::write(dir.join("root.key"), keys).unwrap();
        }
        std::fs::write(dir.join("domains.conf"), self.dynamic_conf()).unwrap();
        conf
    }

    /// The same, with a file `adminpasswd` for the password of the administrator.
    pub fn write_with_admin(&self, dir: &Path) -> PathBuf {
        let conf = self.write(dir);
        let text = self.static_conf();
        let text = format!("admin_password_file = \"adminpasswd\"\n{text}");
        std::fs::write(&conf, text).unwrap();
        conf
    }
}

impl World {
    /// Starts a server in a new folder.
    pub async fn start(setup: Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        setup.write(dir.path());
        Self::start_in(dir).await
    }

    /// Starts a server in a new folder. Its mail for remote.test and bücher.test goes to
    /// `remote`. `app` has lines
    /// for `[accounts.app]`.
    pub async fn facing(remote: &remote::Remote, app: String) -> Self {
        let setup = Setup {
            app,
            ..Setup::default()
        };
        Self::facing_with(remote, setup).await
    }

    /// As [`Self::facing`], with this setup.
    pub async fn facing_with(remote: &remote::Remote, setup: Setup) -> Self {
        let ip: IpAddr = [127, 0, 0, 2].into();
        let dns = dns::Zone::default()
            .mx("remote.test", 10, "mx.remote.test")
            .mx("xn--bcher-kva.test", 10, "mx.remote.test")
            .address("mx.remote.test", ip)
            .serve()
            .await;
        let setup = Setup {
            dns: Some(dns),
            ..setup
        };
        let world = Self::start(setup).await;
        world.dialer.lead(ip, remote.address);
        world
    }

    /// Starts a server in a folder with configuration files.
    pub async fn start_in(dir: TempDir) -> Self {
        Self::start_at(dir, clock()).await
    }

    /// Starts a server with this clock in a folder with configuration files.
    pub async fn start_at(dir: TempDir, clock: ManualClock) -> Self {
        let dialer = Arc::new(TestDialer::default());
        let server = start_server(dir.path(), &clock, &dialer).await;
        Self {
            dir,
            clock,
            dialer,
            server,
        }
    }

    /// Stops the server and starts it again on the same folder.
    pub async fn restart(self) -> Self {
        self.server.stop().await;
        let server = start_server(self.dir.path(), &self.clock, &self.dialer).await;
        Self { server, ..self }
    }

    /// A session with a service that greets without TLS.
    pub async fn client(&self, service: &str) -> client::Client {
        client::Client::connect(self.server.address(service).unwrap()).await
    }

    /// A session with a service behind a proxy, for a client at this address.
    pub async fn proxied(&self, service: &str, from: &str) -> client::Client {
        let address = self.server.address(service).unwrap();
        let client = client::Client::open(address, &client::proxy_header(from)).await;
        client.greeted().await
    }

    /// Waits until no connection is open.
    pub async fn all_ended(&self) {
        let ended = async {
            while self.server.connections() > 0 {
                tokio::task::yield_now().await;
            }
        };
        patience::patiently("the end of all connections", ended).await;
    }

    /// The mails in a mailbox of the account app, as they are stored.
    pub async fn mails(&self, mailbox: &str) -> Vec<String> {
        let store = self.server.store();
        let found = store.list_mails("app", Some(mailbox), None, 100).await;
        let mut texts = Vec::new();
        for mail in found.unwrap().items {
            let stored = store.mail_message(&mail).await.unwrap();
            texts.push(String::from_utf8(stored.whole().await.unwrap().to_vec()).unwrap());
        }
        texts
    }

    /// A session with the submission service, logged in as app.
    pub async fn submission(&self) -> client::Client {
        self.client("submission")
            .await
            .login("app@example.org", PASSWORD)
            .await
    }
}

/// A clock that shows a time in 2027.
pub fn clock() -> ManualClock {
    ManualClock::new(Time(1_800_000_000_000_000))
}

async fn start_server(dir: &Path, clock: &ManualClock, dialer: &Arc<TestDialer>) -> Server {
    let conf = dir.join("postrider.conf");
    let statics = Static::load(&conf).unwrap();
    let dynamic_path = dir.join("domains.conf");
    let dynamic = Dynamic::load(&dynamic_path, &statics).unwrap();
    let mut options = Options::new(statics, dynamic, dynamic_path);
    options.clock = Arc::new(clock.clone());
    options.dialer = Arc::<TestDialer>::clone(dialer);
    let server = Server::start(options).await.unwrap();
    for account in ["app", "other"] {
        server.ensure_password(account, PASSWORD).await.unwrap();
    }
    server
}

/// Calls a method of the webapi. The call must succeed. Returns the answer.
pub async fn webapi(address: SocketAddr, login: &str, method: &str, request: &str) -> Value {
    let answer = reqwest::Client::new()
        .post(format!("http://{address}/webapi/v0/{method}"))
        .basic_auth(login, Some(PASSWORD))
        .form(&[("request", request)])
        .send()
        .await
        .unwrap();
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// A small message.
pub fn message(subject: &str) -> String {
    format!("From: <app@example.org>\r\nTo: <rcpt@remote.test>\r\nSubject: {subject}\r\n\r\nHello.")
}
