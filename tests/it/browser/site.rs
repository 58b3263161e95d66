//! A server with web pages, and what its visitors do on many of them.

use std::net::{IpAddr, Ipv4Addr};

use postrider_admin::op::passwords::set_admin_password;
use postrider_receive::login::{otp_code, parse_otp};
use postrider_store::{Clock, Otp};
use serde_json::Value;

use super::page::Page;
use crate::support::{
    PASSWORD, Setup, World, dns::Zone, message, patience::patiently, receiver::Receiver,
    remote::Remote, webapi,
};

/// The login of the account app.
pub const APP: &str = "app@example.org";

/// The password of the administrator.
pub const ADMIN_PASSWORD: &str = "administrator's password";

/// The address of the remote server.
const REMOTE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// A zone with the remote server.
pub fn zone() -> Zone {
    let zone = Zone::default().mx("remote.test", 10, "mx.remote.test");
    zone.address("mx.remote.test", REMOTE)
}

/// A server with the pages of administrators and of accounts, each at a port of its own.
pub struct Site {
    /// The server, its clock and its surroundings.
    pub world: World,
    /// Where the pages of administrators are, without a path.
    pub base: String,
    /// Where the pages of accounts are, without a path.
    pub account: String,
}

impl Site {
    /// Starts a server. Its mail for remote.test goes to `remote`.
    pub async fn facing(remote: &Remote) -> Self {
        Self::facing_with(remote, Setup::default()).await
    }

    /// The same, with an account app that keeps its calls of webhooks and tells this receiver.
    pub async fn telling(remote: &Remote, receiver: &Receiver) -> Self {
        let setup = Setup {
            app: format!(
                "keep_retired_webhook_period = \"7d\"\noutgoing_webhook = {{ url = {:?} }}\n",
                receiver.url()
            ),
            ..Setup::default()
        };
        Self::facing_with(remote, setup).await
    }

    /// The same with this setup. Without a DNS server of its own it has one that knows remote.test.
    pub async fn facing_with(remote: &Remote, setup: Setup) -> Self {
        let dns = match setup.dns {
            Some(dns) => dns,
            None => zone().serve().await,
        };
        let setup = Setup {
            dns: Some(dns),
            statics: format!(
                "admin_http = {{ enabled = true, port = 0 }}\n\
                 account_http = {{ enabled = true, port = 0 }}\n{}",
                setup.statics
            ),
            ..setup
        };
        let dir = tempfile::tempdir().unwrap();
        setup.write_with_admin(dir.path());
        set_admin_password(&dir.path().join("adminpasswd"), ADMIN_PASSWORD).unwrap();
        let world = World::start_in(dir).await;
        world.dialer.lead(REMOTE, remote.address);
        let url = |service: &str| format!("http://{}", world.server.address(service).unwrap());
        Self {
            base: url("admin_http"),
            account: url("account_http"),
            world,
        }
    }

    /// Submits a message of the account app with this subject. It has to be accepted.
    pub async fn send(&self, to: &[&str], subject: &str) {
        let mut client = self.world.submission().await;
        let reply = client.submit(APP, to, &message(subject)).await;
        assert!(reply.starts_with("250"), "{reply}");
    }

    /// Calls a method of the webapi as the account app.
    pub async fn webapi(&self, method: &str, request: &Value) -> Value {
        let address = self.world.server.address("webapi_http").unwrap();
        webapi(address, APP, method, &request.to_string()).await
    }

    /// Waits until the account app has a mail with this part, and gives it.
    pub async fn mail(&self, part: &str) -> String {
        let comes = async {
            loop {
                let mails = self.world.mails("Inbox").await.into_iter();
                if let Some(mail) = mails.into_iter().find(|mail| mail.contains(part)) {
                    return mail;
                }
            }
        };
        patiently(part, comes).await
    }

    /// The code that a generator shows at this moment.
    pub fn code(&self, otp: &Otp) -> String {
        let now = u64::try_from(self.world.clock.now().0).unwrap();
        otp_code(otp, now / 30_000_000).unwrap()
    }
}

/// The steps that many stories begin with.
impl Page {
    /// Logs in as the administrator.
    pub async fn enter_as_admin(&self) {
        self.go("/admin/login").await;
        self.fill("Password", ADMIN_PASSWORD).await;
        self.press("Log in").await;
        self.see("Log out").await;
    }

    /// Logs in at the pages of accounts as app.
    pub async fn enter_as_app(&self) {
        self.go("/account/login").await;
        self.enter(APP).await;
        self.see("Log out").await;
    }

    /// Fills the form of a login with this address and the password of all accounts.
    pub async fn enter(&self, login: &str) {
        self.try_password(login, PASSWORD).await;
    }

    /// Sets up a second factor, at the second try. Gives the generator of codes and the recovery
    /// codes.
    pub async fn turn_on_second_factor(&self, site: &Site) -> (Otp, Vec<String>) {
        self.follow("Second factor").await;
        self.press("Set it up").await;
        self.see("Type the code that it shows now.").await;
        let url = self.target("this link").await;
        let otp = parse_otp(&url).unwrap();
        self.fill("Code", "12").await;
        self.press("Turn it on").await;
        self.see("the code is wrong").await;
        assert_eq!(self.target("this link").await, url);
        self.fill("Code", &site.code(&otp)).await;
        self.press("Turn it on").await;
        self.see("Your recovery codes. They are shown this once only.")
            .await;
        let recovery = self.texts(".codes li").await;
        assert_eq!(recovery.len(), 10);
        (otp, recovery)
    }

    /// Fills the form of a login.
    pub async fn try_password(&self, login: &str, password: &str) {
        self.fill("Login address", login).await;
        self.fill("Password", password).await;
        self.press("Log in").await;
    }
}
