//! All pages: everyone can use each of them, and each has a picture.
//!
//! Three walks go to all pages that links lead to, and to what forms lead to: in a wide window, on
//! a phone with a dark scheme, and without scripts. At the end no page of the server is left out.

mod routes;

use std::{cell::RefCell, collections::HashSet};

use super::{Look, browse, furnished::Furnished, itself, page::Page, pictures, site::APP};
use crate::{localserve::start_somewhere, support::client::Client};

/// Pages that no link leads to, or that are the same as others but for their numbers.
const OTHER_ADMIN: &[&str] = &[
    "/admin/messages/1",
    "/admin/messages/2",
    "/admin/messages/3",
    "/admin/messages/4",
    "/admin/queue?q=nobody",
    "/admin/history?to=nobody",
    "/admin/logs",
    "/admin/check/example.org",
    "/admin/sessions/end?account=app",
    "/admin/nothing",
];
const OTHER_ACCOUNT: &[&str] = &[
    "/account/messages/1",
    "/account/messages/4",
    "/account/nothing",
];
const OTHER_INBOX: &[&str] = &["/inbox/send?stage=rcptto", "/inbox/nothing"];

/// Parts of paths that give files, and of the pages of a second account.
const LEFT_OUT: &[&str] = &[
    "/accounts/other",
    "/raw",
    "zone-file",
    "/export",
    "/body",
    "/frame",
    ".eml",
    ".html",
    ".txt",
];

/// So many suppressions are imported that this takes a while.
const IMPORTED: usize = 20_000;

/// A walk over all pages.
struct Walk<V> {
    look: Look,
    visit: V,
    /// The paths of the pages that were visited.
    visited: RefCell<Vec<String>>,
}

impl<V: AsyncFn(&Page, &str)> Walk<V> {
    const fn new(look: Look, visit: V) -> Self {
        Self {
            look,
            visit,
            visited: RefCell::new(Vec::new()),
        }
    }

    /// Visits the page that is shown. `after` tells what led to it.
    async fn see(&self, page: &Page, after: &str) {
        page.settle().await;
        let path = page.path().await;
        (self.visit)(page, &format!("{path}{after}")).await;
        self.visited.borrow_mut().push(path);
    }

    async fn go(&self, page: &Page, path: &str) {
        page.go(path).await;
        self.see(page, "").await;
    }

    /// Visits the pages that the page leads to, by its menu and then by all links. Of pages whose
    /// paths differ in numbers only, one is visited.
    async fn follow_all(&self, page: &Page, others: &[&str]) {
        let mut open = page.menu().await;
        open.extend(others.iter().map(|path| (*path).to_owned()));
        let mut seen: HashSet<String> = open.iter().map(|path| kind(path)).collect();
        let mut count = 0;
        while let Some(path) = open.pop() {
            self.go(page, &path).await;
            count += 1;
            for link in page.links().await {
                let is_left_out = LEFT_OUT.iter().any(|part| link.contains(part));
                if !is_left_out && seen.insert(kind(&link)) {
                    open.push(link);
                }
            }
        }
        assert!(count > others.len() + 2, "the links lead nowhere");
    }

    /// Visits all pages of a server that has something to show on each of them.
    async fn everywhere(&self) {
        let furnished = Furnished::start().await;
        furnished.add_long().await;
        let (account, admin) = (&furnished.site.account, &furnished.site.base);
        // There are two sessions of the account.
        browse(account, self.look, async |page| page.enter_as_app().await).await;
        browse(account, self.look, async |page| {
            self.as_holder(page, &furnished).await
        })
        .await;
        browse(admin, self.look, async |page| self.as_admin(page).await).await;
        self.as_developer().await;
        let left_out = routes::left_out(&self.visited.borrow());
        assert!(left_out.is_empty(), "nobody visits {left_out:#?}");
    }

    async fn as_holder(&self, page: &Page, furnished: &Furnished) {
        self.go(page, "/account/login").await;
        page.enter_as_app().await;
        self.follow_all(page, OTHER_ACCOUNT).await;

        page.go("/account/messages/4").await;
        page.fill("Next attempt", "soon").await;
        page.press("Reschedule").await;
        page.see("\"soon\"").await;
        self.see(page, ", wrong").await;
        page.go("/account/keys").await;
        page.fill("Name", "another program").await;
        page.tick("send messages, list and cancel queued ones")
            .await;
        page.press("Make the key").await;
        page.see("It is shown this once only.").await;
        self.see(page, ", made").await;
        self.import(page).await;

        page.follow("Second factor").await;
        page.press("Set it up").await;
        page.see("Type the code that it shows now.").await;
        self.see(page, "").await;
        page.go("/account/").await;
        page.turn_on_second_factor(&furnished.site).await;
        self.see(page, ", on").await;
        for path in ["/account/2fa", "/account/2fa/renew", "/account/2fa/off"] {
            self.go(page, path).await;
        }
        page.press("Log out").await;
        page.go("/account/login").await;
        page.enter(APP).await;
        page.see("Code").await;
        self.see(page, "").await;
    }

    /// Imports a table with wrong rows, and one with many rows.
    async fn import(&self, page: &Page) {
        let folder = tempfile::tempdir().unwrap();
        let table = folder.path().join("table.csv");
        std::fs::write(&table, "jo@many.test,,,\nno address,,,\n").unwrap();
        let check = async || {
            page.go("/account/suppressions/import").await;
            page.upload("File", &table).await;
            page.press("Check the table").await;
            page.see("The table for app has:").await;
        };
        check().await;
        self.see(page, ", checked").await;
        let rows = (0..IMPORTED).map(|number| format!("{number}@many.test,,,\n"));
        std::fs::write(&table, rows.collect::<String>()).unwrap();
        check().await;
        page.press("Add 20\u{202f}000 addresses").await;
        page.arrive("/account/work/").await;
        self.see(page, "").await;
        page.see_live("Done.").await;
        self.see(page, ", done").await;
    }

    async fn as_admin(&self, page: &Page) {
        self.go(page, "/admin/login").await;
        page.fill("Password", "a guess").await;
        page.press("Log in").await;
        page.see("Wrong name or password.").await;
        self.see(page, ", wrong").await;
        page.enter_as_admin().await;
        page.go("/admin/domains/example.org/mta-sts").await;
        page.choose("Mode", "testing: problems are reported, mail goes on")
            .await;
        page.press("Save as a new policy").await;
        page.see("Remove the policy").await;
        page.go("/admin/domains/example.org/dkim").await;
        page.press("Make the next keys").await;
        page.see("Records of the next keys").await;
        page.go("/admin/").await;
        self.follow_all(page, OTHER_ADMIN).await;

        page.go("/admin/domains/@new").await;
        page.fill("Domain", "no domain").await;
        page.fill("Account", "ann").await;
        page.press("Add the domain").await;
        page.see("no domain").await;
        self.see(page, ", wrong").await;
        page.go("/admin/queue").await;
        page.tick_row("held@remote.test").await;
        page.press("Drop").await;
        page.see("The senders are not told.").await;
        self.see(page, ", asked").await;
        page.go("/admin/messages/3?tab=text").await;
        page.press("Show the text").await;
        page.see("Hello.").await;
        self.see(page, ", shown").await;
        self.try_out(page).await;
        self.edit(page).await;
    }

    /// Lets the server try a delivery, and check a message.
    async fn try_out(&self, page: &Page) {
        page.go("/admin/troubleshoot/delivery").await;
        page.fill("Recipient, or a domain", "jo@remote.test").await;
        page.press("Check the way").await;
        page.see("The way to").await;
        self.see(page, ", tried").await;
        page.go("/admin/troubleshoot/dmarc").await;
        page.fill("Address of the client", "192.0.2.7").await;
        page.fill("MAIL FROM", "jo@reporter.test").await;
        page.press("Check the message").await;
        page.see("DMARC does not pass").await;
        self.see(page, ", checked").await;
    }

    /// Edits domains.conf, without saving.
    async fn edit(&self, page: &Page) {
        page.go("/admin/config/domains").await;
        let text = page.value("The text").await;
        page.fill("The text", &format!("{text}[accounts.app.nothing]\n"))
            .await;
        page.press("Check").await;
        page.see("The text can't be saved:").await;
        self.see(page, ", wrong").await;
        page.fill("The text", &format!("# By hand\n{text}")).await;
        page.press("See the difference, then save").await;
        page.see("Save domains.conf?").await;
        self.see(page, ", difference").await;
    }

    /// Visits the inbox of localserve.
    async fn as_developer(&self) {
        let dir = tempfile::tempdir().unwrap();
        let (_program, _, offset) = start_somewhere(dir.path());
        let mut client = Client::connect(([127, 0, 0, 1], 1025 + offset).into()).await;
        client.expect("EHLO elsewhere.example", "250").await;
        let text = "From: <shop@elsewhere.example>\r\nTo: <you@localhost>\r\nSubject: Welcome\r\n\
                    MIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n\
                    <h1>Welcome</h1><a href=\"https://shop.example/\">The shop</a>";
        let to = ["postrider@localhost"];
        client.submit("shop@elsewhere.example", &to, text).await;
        let base = format!("http://127.0.0.1:{}", 1080 + offset);
        browse(&base, self.look, async |page| {
            page.go("/inbox/").await;
            page.see_live("Welcome").await;
            self.follow_all(page, OTHER_INBOX).await;
            page.go("/inbox/send?stage=rcptto").await;
            page.fill("Subject", "It fails").await;
            page.press("Send").await;
            page.see("It fails").await;
            self.see(page, ", sent").await;
        })
        .await;
    }
}

/// What a page is, without the numbers in its path. Of its query only the tab counts.
fn kind(path: &str) -> String {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let tab = query.split('&').find(|pair| pair.starts_with("tab="));
    let letters = path.chars().filter(|letter| !letter.is_ascii_digit());
    letters.chain(tab.unwrap_or_default().chars()).collect()
}

/// Looks for what keeps people from using any page, and makes a picture of each.
async fn everyone_can_use_each_page(look: Look) {
    let barriers = RefCell::new(Vec::new());
    let end = if look.narrow { "-phone" } else { "" };
    let walk = Walk::new(look, async |page: &Page, path: &str| {
        let found = page.barriers().await;
        let found = found.iter().map(|one| format!("{path}: {one}"));
        let found: Vec<String> = found.inspect(|one| eprintln!("{one}")).collect();
        barriers.borrow_mut().extend(found);
        if !look.without_scripts {
            let name = path.trim_matches('/').replace(['/', '?', '&', ' '], "-");
            let name: String = name.chars().take(100).collect();
            page.picture(&pictures().join(format!("pages/{name}{end}.png")))
                .await;
        }
    });
    walk.everywhere().await;
    let barriers = barriers.into_inner();
    assert!(barriers.is_empty(), "{barriers:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs Chromium and axe-core"]
async fn everyone_can_use_each_page_in_a_wide_window() {
    everyone_can_use_each_page(Look::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs Chromium and axe-core"]
async fn everyone_can_use_each_page_on_a_dark_phone() {
    everyone_can_use_each_page(Look::DARK_PHONE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs Chromium"]
async fn everyone_can_use_each_page_without_scripts() {
    let look = Look {
        narrow: true,
        ..Look::WITHOUT_SCRIPTS
    };
    everyone_can_use_each_page(look).await;
}

#[tokio::test]
#[ignore = "it needs Chromium and axe-core"]
async fn barriers_are_found() {
    let base = itself::serve().await;
    for look in [Look::default(), Look::DARK_PHONE] {
        browse(&base, look, async |page| {
            page.go("/good").await;
            let none = page.barriers().await;
            assert!(none.is_empty(), "{none:#?}");
            page.go("/barriers").await;
            let found = page.barriers().await.join("\n");
            for barrier in [
                "label (critical): Form elements must have labels at [\"#nameless\"]",
                "px wider than ",
                "Tab never reaches <button>One</button>",
            ] {
                assert!(found.contains(barrier), "{barrier}: {found}");
            }
        })
        .await;
    }
}
