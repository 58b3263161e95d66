//! All pages: everyone can use each of them, and each has a picture.

use std::{cell::RefCell, collections::HashSet};

use super::{Look, browse, itself, page::Page, pictures, site::Site};
use crate::{
    localserve::start_somewhere,
    support::{
        client::Client,
        receiver::Receiver,
        remote::{Act, Point, Remote},
    },
};

/// Pages that no link leads to, or that are the same as others but for their numbers.
const OTHER_ADMIN: &[&str] = &["/admin/messages/1", "/admin/messages/2", "/admin/nothing"];
const OTHER_ACCOUNT: &[&str] = &["/account/messages/1", "/account/nothing"];
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

/// Visits the pages that the page leads to, by its menu and then by all links. Of pages whose paths
/// differ in numbers only, one is visited.
async fn walk(page: &Page, others: &[&str], visit: impl AsyncFn(&Page, &str)) {
    let mut open = page.menu().await;
    open.extend(others.iter().map(|path| (*path).to_owned()));
    let mut seen: HashSet<String> = open.iter().map(|path| kind(path)).collect();
    let mut visited = 0;
    while let Some(path) = open.pop() {
        page.go(&path).await;
        visit(page, &path).await;
        visited += 1;
        for link in page.links().await {
            let is_left_out = LEFT_OUT.iter().any(|part| link.contains(part));
            if !is_left_out && seen.insert(kind(&link)) {
                open.push(link);
            }
        }
    }
    assert!(visited > others.len() + 2, "the links lead nowhere");
}

/// What a page is, without the numbers in its path. Of its query only the tab counts.
fn kind(path: &str) -> String {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let tab = query.split('&').find(|pair| pair.starts_with("tab="));
    let letters = path.chars().filter(|letter| !letter.is_ascii_digit());
    letters.chain(tab.unwrap_or_default().chars()).collect()
}

/// Visits all pages of a server that has something to show on most of them.
async fn each_page(look: Look, visit: impl AsyncFn(&Page, &str)) {
    let remote = Remote::start(|point, _| match point {
        Point::Command(line) if line.contains("bad@") => Some(Act::Say("550 5.1.1 No such user")),
        Point::Command(line) if line.contains("slow@") => Some(Act::Say("451 4.2.1 Try later")),
        _ => None,
    })
    .await;
    let receiver = Receiver::start(|number| if number == 0 { 500 } else { 200 }).await;
    let site = Site::telling(&remote, &receiver).await;
    browse(&site.base, look, async |page| {
        page.go("/admin/login").await;
        visit(page, "/admin/login").await;
        page.enter_as_admin().await;
        page.go("/admin/hold-rules").await;
        page.fill("Address of the recipient", "held@remote.test")
            .await;
        page.press("Hold").await;
        page.see("Rule 1 holds").await;
        for recipient in ["good", "bad", "slow", "held"] {
            let to = format!("{recipient}@remote.test");
            site.send(&[&to], &format!("for {recipient}")).await;
        }
        receiver.wait_for(3).await;
        page.go("/admin/").await;
        walk(page, OTHER_ADMIN, &visit).await;
    })
    .await;
    browse(&site.account, look, async |page| {
        page.go("/account/login").await;
        visit(page, "/account/login").await;
        page.enter_as_app().await;
        walk(page, OTHER_ACCOUNT, &visit).await;
    })
    .await;
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
    browse(&base, look, async |page| {
        page.go("/inbox/").await;
        page.see_live("Welcome").await;
        walk(page, OTHER_INBOX, &visit).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs Chromium and axe-core"]
async fn everyone_can_use_each_page() {
    let barriers = RefCell::new(Vec::new());
    for look in [Look::default(), Look::DARK_PHONE] {
        each_page(look, async |page, path| {
            let found = page.barriers().await;
            let found = found.iter().map(|one| format!("{path}, {look:?}: {one}"));
            barriers.borrow_mut().extend(found);
        })
        .await;
    }
    let barriers = barriers.into_inner();
    assert!(barriers.is_empty(), "{barriers:#?}");
}

/// `cargo xtask docs` runs this.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs Chromium"]
async fn each_page_has_a_picture() {
    for (look, end) in [(Look::default(), ""), (Look::DARK_PHONE, "-phone")] {
        each_page(look, async |page, path| {
            let name = path.trim_matches('/').replace(['/', '?', '&'], "-");
            let file = pictures().join(format!("{name}{end}.png"));
            page.picture(&file).await;
            assert!(std::fs::metadata(&file).unwrap().len() > 1000, "{file:?}");
        })
        .await;
    }
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
                "px wider than the window",
                "Tab never reaches <button>One</button>",
            ] {
                assert!(found.contains(barrier), "{barrier}: {found}");
            }
        })
        .await;
    }
}
