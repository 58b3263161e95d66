//! The inbox of localserve: a failure that is simulated, and HTML that would do harm elsewhere.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::Router;
use serde_json::json;
use tokio::net::TcpListener;

use super::{Look, browse, page::Page};
use crate::{localserve::start_somewhere, support::client::Client};

/// The base of a port: localserve adds its offset.
const HTTP: u16 = 1080;
const SMTP: u16 = 1025;

/// A pixel as GIF, in base64.
const PIXEL: &str = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs Chromium"]
async fn a_developer_sees_failures_and_harmless_html() {
    for look in Look::BOTH {
        let dir = tempfile::tempdir().unwrap();
        let (_program, _, offset) = start_somewhere(dir.path());
        let base = format!("http://127.0.0.1:{}", HTTP + offset);
        browse(&base, look, async |page| {
            page.go("/").await;
            page.arrive("/inbox/").await;
            page.see("Nothing came in yet.").await;
            simulate(page).await;
            show_html(page, SMTP + offset).await;
        })
        .await;
    }
}

/// Sends a message that fails as it was foreseen.
async fn simulate(page: &Page) {
    page.follow("Send a test message").await;
    page.choose("Failure", "at RCPT TO").await;
    page.choose("Kind", "a code of your choice").await;
    page.fill("Code, from 400 to 599", "700").await;
    page.press("Show what will happen").await;
    page.see("599").await;
    assert_eq!(page.status().await, 422);
    page.fill("Code, from 400 to 599", "550").await;
    page.press("Show what will happen").await;
    page.see("Submission refuses at once: 550 5.0.0").await;
    page.see("it puts the recipient on the suppression list")
        .await;
    page.fill("Subject", "simulated").await;
    page.press("Send").await;
    page.see("The message to rcptto.550@example.com is on its way.")
        .await;
    page.see("Accepted for delivery").await;
    page.see_live("Attempt: 550").await;
    page.see("Event failed").await;
    page.see("The recipient is on the suppression list now.")
        .await;
    page.follow("Back to the inbox").await;
    page.see_live_in("simulated", "failed").await;
}

/// Receives a message, and shows its HTML. Nothing in it acts, and nothing is fetched.
async fn show_html(page: &Page, smtp: u16) {
    let asked = Arc::new(AtomicUsize::new(0));
    let remote = listen(&asked).await;
    let text = format!(
        "From: <shop@elsewhere.example>\r\nTo: <you@localhost>\r\nSubject: the newsletter\r\n\
         MIME-Version: 1.0\r\nContent-Type: multipart/related; boundary=b\r\n\r\n\
         --b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n\
         <h1>The news</h1><p id=\"ran\">No script ran</p>\
         <script>document.querySelector('#ran').textContent = 'It ran'</script>\
         <form action=\"{remote}/form\"><button>Win</button></form>\
         <img src=\"{remote}/pixel.gif\" alt=\"the remote one\">\
         <img src=\"cid:logo\" alt=\"the own one\" id=\"own\">\
         <a href=\"{remote}/link\">The shop</a>\r\n\
         --b\r\nContent-Type: image/gif\r\nContent-Transfer-Encoding: base64\r\n\
         Content-ID: <logo>\r\n\r\n{PIXEL}\r\n--b--"
    );
    let mut client = Client::connect(([127, 0, 0, 1], smtp).into()).await;
    client.expect("EHLO elsewhere.example", "250").await;
    let to = ["postrider@localhost"];
    let reply = client.submit("shop@elsewhere.example", &to, &text).await;
    assert!(reply.starts_with("250 "), "{reply}");

    // The log tells what the policy of the preview blocked.
    page.expect("sandboxed");
    page.expect("Content Security Policy");
    page.see_live("the newsletter").await;
    page.follow("the newsletter").await;
    page.follow("HTML").await;
    page.enter_frame("The HTML of the message").await;
    page.see("The news").await;
    page.see("No script ran").await;
    let is_shown = "const image = document.querySelector('#own'); \
                    return image.complete && image.naturalWidth === 1";
    assert_eq!(page.driver.script(is_shown, json!([])).await, true);
    page.press("Win").await;
    page.see("The news").await;
    page.leave_frame().await;
    page.see("nothing is fetched").await;

    page.follow("Links 1").await;
    page.see_in("The shop", "HTML").await;
    page.follow("Files 1").await;
    page.see_in("image/gif", "in the HTML as cid:logo").await;
    page.see("They are always saved, and never opened as a page.")
        .await;
    assert_eq!(asked.load(Ordering::Relaxed), 0, "something was fetched");

    page.go("/inbox/latest?q=subject:newsletter").await;
    page.see("the newsletter").await;
    page.follow("Remove").await;
    page.see("Remove this message?").await;
    page.answer("Remove").await;
    page.see_live_in("simulated", "failed").await;
    page.see_no("the newsletter").await;
}

/// A server that counts its requests. Gives its URL.
async fn listen(asked: &Arc<AtomicUsize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::clone(asked);
    let count = async move || {
        asked.fetch_add(1, Ordering::Relaxed);
        "asked"
    };
    let router = Router::new().fallback(count);
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}
