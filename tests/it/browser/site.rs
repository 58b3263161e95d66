//! A server with web pages, and what its visitors do on many of them.

use postrider_admin::op::passwords::set_admin_password;

use super::page::Page;
use crate::support::{PASSWORD, Setup, World, dns::Zone, remote::Remote};

/// The password of the administrator.
pub const ADMIN_PASSWORD: &str = "administrator's password";

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
        let ip = [127, 0, 0, 2].into();
        let zone = Zone::default().mx("remote.test", 10, "mx.remote.test");
        let setup = Setup {
            dns: Some(zone.address("mx.remote.test", ip).serve().await),
            statics: "admin_http = { enabled = true, port = 0 }\n\
                      account_http = { enabled = true, port = 0 }\n"
                .to_owned(),
            ..Setup::default()
        };
        let dir = tempfile::tempdir().unwrap();
        let conf = setup.write(dir.path());
        let text = std::fs::read_to_string(&conf).unwrap();
        let text = format!("admin_password_file = \"adminpasswd\"\n{text}");
        std::fs::write(&conf, text).unwrap();
        set_admin_password(&dir.path().join("adminpasswd"), ADMIN_PASSWORD).unwrap();
        let world = World::start_in(dir).await;
        world.dialer.lead(ip, remote.address);
        let url = |service: &str| format!("http://{}", world.server.address(service).unwrap());
        Self {
            base: url("admin_http"),
            account: url("account_http"),
            world,
        }
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

    /// Fills the form of a login with this address and the password of all accounts.
    pub async fn enter(&self, login: &str) {
        self.try_password(login, PASSWORD).await;
    }

    /// Fills the form of a login.
    pub async fn try_password(&self, login: &str, password: &str) {
        self.fill("Login address", login).await;
        self.fill("Password", password).await;
        self.press("Log in").await;
    }
}
