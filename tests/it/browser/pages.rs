//! All pages: everyone can use each of them, and each has a picture.

use std::cell::RefCell;

use super::{Look, browse, itself, page::Page, pictures, site::Site};
use crate::support::{
    message,
    remote::{Act, Point, Remote},
};

/// Pages that no menu leads to, by their paths.
const OTHER_ADMIN: &[&str] = &["/admin/hold-rules/1/remove", "/admin/nothing"];
const OTHER_ACCOUNT: &[&str] = &["/account/nothing"];

/// Visits all pages of a server that has something to show on most of them.
async fn each_page(look: Look, visit: impl AsyncFn(&Page, &str)) {
    let remote = Remote::start(|point, _| match point {
        Point::Command(line) if line.contains("bad@") => Some(Act::Say("550 5.1.1 No such user")),
        Point::Command(line) if line.contains("slow@") => Some(Act::Say("451 4.2.1 Try later")),
        _ => None,
    })
    .await;
    let site = Site::facing(&remote).await;
    let visited = RefCell::new(0);
    let visit_all = async |page: &Page, others: &[&str]| {
        let menu = page.menu().await;
        for path in menu
            .iter()
            .map(String::as_str)
            .chain(others.iter().copied())
        {
            page.go(path).await;
            visit(page, path).await;
            *visited.borrow_mut() += 1;
        }
    };
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
            let mut client = site.world.submission().await;
            let text = message(&format!("for {recipient}"));
            client.submit("app@example.org", &[&to], &text).await;
        }
        remote.wait_for(1).await;
        page.go("/admin/").await;
        visit_all(page, OTHER_ADMIN).await;
    })
    .await;
    browse(&site.account, look, async |page| {
        page.go("/account/login").await;
        visit(page, "/account/login").await;
        page.enter("app@example.org").await;
        page.see("Log out").await;
        visit_all(page, OTHER_ACCOUNT).await;
    })
    .await;
    assert!(visited.take() > 3, "the menus lead nowhere");
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
            let name = path.trim_matches('/').replace('/', "-");
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
