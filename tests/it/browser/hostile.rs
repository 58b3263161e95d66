//! Names and subjects that would do harm, forms of other sites, and a session that somebody ends
//! elsewhere.

use axum::{Router, response::Html};
use tokio::net::TcpListener;

use super::{Look, browse, page::Page, site::Site};
use crate::support::{Setup, remote::Remote};

const SCRIPT: &str = "<script>alert(1)</script>";
/// What follows is shown from right to left (U+202E).
const BIDI: &str = "\u{202e}fdp.exe";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs Chromium"]
async fn hostile_names_and_subjects_are_text() {
    for look in [Look::default(), Look::WITHOUT_SCRIPTS, Look::DARK_PHONE] {
        let remote = Remote::start(|_, _| None).await;
        let setup = Setup {
            app: format!("full_name = \"{SCRIPT}{BIDI}\"\n"),
            dynamics: format!("[domains.\"b.test\"]\ndescription = \"{SCRIPT}{BIDI}\"\n"),
            ..Setup::default()
        };
        let site = Site::facing_with(&remote, setup).await;
        let held = ["held@remote.test"];
        let free = ["free@remote.test"];
        browse(&site.base, look, async |page| {
            page.enter_as_admin().await;
            page.go("/admin/hold-rules").await;
            page.fill("Address of the recipient", held[0]).await;
            page.press("Hold").await;
            page.see("Rule 1 holds").await;
            site.send(&held, &format!("{SCRIPT}{BIDI}")).await;
            site.send(&held, &long()).await;
            site.send(&free, &format!("{SCRIPT}{BIDI}")).await;
            site.send(&free, &long()).await;
            remote.wait_for(2).await;
            for path in [
                "/admin/messages/1",
                "/admin/messages/1?tab=headers",
                "/admin/history",
                "/admin/events",
                "/admin/accounts",
                "/admin/accounts/app",
                "/admin/domains",
                "/admin/domains/b.test",
            ] {
                page.go(path).await;
                page.see_later(SCRIPT).await;
                assert_eq!(page.overhang().await, 0, "{path} is too wide");
            }
            for path in ["/admin/messages/2", "/admin/messages/2?tab=headers"] {
                page.go(path).await;
                page.see("aaaaaaaa").await;
                assert_eq!(page.overhang().await, 0, "{path} is too wide");
            }
            let query = "subject=%3Cscript%3Ealert(1)%3C/script%3E&account=%22%3E%3Cb%3E";
            page.go(&format!("/admin/queue?{query}")).await;
            page.see("No queued message matches.").await;
            assert_eq!(page.value("Subject").await, SCRIPT);
            assert_eq!(page.value("Account").await, "\"><b>");
        })
        .await;
        browse(&site.account, look, async |page| {
            page.enter_as_app().await;
            page.see(SCRIPT).await;
            for path in ["/account/messages", "/account/messages/past"] {
                page.go(path).await;
                page.see(SCRIPT).await;
                page.see("aaaaaaaa").await;
                assert_eq!(page.overhang().await, 0, "{path} is too wide");
            }
        })
        .await;
    }
}

/// A subject of 64 KiB in lines that SMTP takes.
fn long() -> String {
    let line = "a".repeat(900);
    vec![line; 72].join("\r\n ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs Chromium"]
async fn forms_of_other_sites_are_refused() {
    for look in Look::BOTH {
        let remote = Remote::start(|_, _| None).await;
        let site = Site::facing(&remote).await;
        let foreign = foreign_site(&site.base).await;
        browse(&site.base, look, async |page| {
            page.enter_as_admin().await;
            page.leave_for(&foreign).await;
            page.press("Win a prize").await;
            page.see("another site").await;
            assert_eq!(page.status().await, 403);
            page.go("/admin/hold-rules").await;
            page.see("No rule holds anything.").await;
        })
        .await;
    }
}

/// A site of its own with a form that goes to ours. Gives its URL.
async fn foreign_site(ours: &str) -> String {
    let form = format!(
        "<!doctype html><title>Prizes</title><form method=\"post\" action=\"{ours}/admin/hold-rules\">\
         <input type=\"hidden\" name=\"recipient_domain\" value=\"remote.test\">\
         <button>Win a prize</button></form>"
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(async move || Html(form));
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}/")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs Chromium"]
async fn a_session_that_is_ended_elsewhere_leads_to_the_login_and_back() {
    for look in Look::BOTH {
        let remote = Remote::start(|_, _| None).await;
        let site = Site::facing(&remote).await;
        browse(&site.account, look, async |page| {
            // A stream that begins again is refused.
            page.expect("status 401");
            page.enter_as_app().await;
            page.follow("Events").await;
            page.see("There are no events.").await;
            browse(&site.account, look, end_other_sessions).await;
            if look.without_scripts {
                page.follow("Refresh").await;
            } else {
                // The page hears of it by itself.
                page.see("Your session is over.").await;
                page.follow("Log in again").await;
            }
            page.arrive("/account/login?to=").await;
            page.enter("app@example.org").await;
            page.see("There are no events.").await;
            page.arrive("/account/events").await;
        })
        .await;
    }
}

/// Logs in elsewhere, and ends the sessions that there are.
async fn end_other_sessions(page: &Page) {
    page.enter_as_app().await;
    page.follow("Sessions").await;
    page.see_in("this one", "127.0.0.1").await;
    page.follow("End all other sessions").await;
    page.see("1 browser has to log in again.").await;
    page.press("End them").await;
    page.see("1 session, the one used last first").await;
}
