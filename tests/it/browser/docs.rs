//! The pictures of the documentation. `cargo xtask docs` makes them.

use super::{Look, browse, furnished::Furnished, new_domain, page::Page, pictures};
use crate::{localserve::start_somewhere, support::client::Client};

/// The mails of the inbox: sender, subject, and type with body.
const MAILS: &[(&str, &str, &str)] = &[
    (
        "\"The shop\" <shop@example.com>",
        "Your order 1041 has left",
        "text/plain\r\n\r\nHello,\r\n\r\nyour order 1041 is on its way.\r\n\r\nThe shop\r\n",
    ),
    (
        "\"The bank\" <info@bank.example.com>",
        "New terms of your account",
        "text/plain\r\n\r\nPlease read our new terms: https://bank.example.com/terms\r\n",
    ),
    (
        "\"The shop\" <shop@example.com>",
        "Confirm your address",
        "text/html\r\n\r\n<h1>Welcome to the shop</h1><p>Confirm that this address is yours, and \
         we send you news of your orders.</p>\
         <p><a href=\"https://shop.example.com/confirm/7f3a\">Confirm the address</a></p>\
         <p>Did somebody else use your address? Then you need not do anything.</p>\r\n",
    ),
];

/// Makes a picture of what the browser shows. It is as high as what is in it, up to a limit. No
/// column of a table is outside of it.
async fn take(page: &Page, name: &str) {
    page.settle().await;
    assert_eq!(page.cut_tables().await, [""; 0], "{name}");
    page.picture_of_top(&pictures().join(format!("{name}.png")))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs Chromium"]
async fn the_docs_have_pictures() {
    let furnished = Furnished::start().await;
    browse(&furnished.site.base, Look::default(), async |page| {
        page.enter_as_admin().await;
        for (name, path) in [
            ("overview", "/admin/"),
            ("queue", "/admin/queue"),
            ("message", "/admin/messages/4"),
            ("history", "/admin/history"),
            ("webhooks", "/admin/webhooks"),
            ("account", "/admin/accounts/app"),
        ] {
            page.go(path).await;
            take(page, name).await;
        }
        page.go("/admin/domains/example.org/dkim").await;
        page.press("Make the next keys").await;
        page.see("Records of the next keys").await;
        take(page, "dkim").await;
        page.go("/admin/domains/example.org/dns").await;
        page.see("Check again").await;
        let records = page.texts("details > pre").await.pop().unwrap();
        let is_added = |part| {
            furnished
                .zone
                .change(|zone| new_domain::add(zone, &records, part))
        };
        for part in ["MX", "v=spf1", "_domainkey"] {
            is_added(part);
        }
        page.follow("Check again").await;
        page.see_in("SPF", "right").await;
        take(page, "dns").await;
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let (_program, _, offset) = start_somewhere(dir.path());
    for (from, subject, content) in MAILS {
        let mut client = Client::connect(([127, 0, 0, 1], 1025 + offset).into()).await;
        client.expect("EHLO shop.example.com", "250").await;
        let text = format!(
            "From: {from}\r\nTo: <you@localhost>\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n\
             Content-Type: {content}"
        );
        client
            .submit("shop@example.com", &["postrider@localhost"], &text)
            .await;
    }
    let base = format!("http://127.0.0.1:{}", 1080 + offset);
    browse(&base, Look::default(), async |page| {
        page.go("/inbox/").await;
        for (_, subject, _) in MAILS {
            page.see_later(subject).await;
        }
        take(page, "inbox").await;
        page.follow_in("Confirm your address").await;
        page.see("From").await;
        take(page, "inbox-message").await;
    })
    .await;
}
