//! Messages are found by what people have of them, and pages of a list stay as they are while new
//! messages come.

use serde_json::json;

use super::{Look, browse, page::Page, site::Site};
use crate::support::{Setup, remote::Remote};

const QUEUE: &str = "Queued messages";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs Chromium"]
async fn a_message_is_found_and_pages_stay_while_new_ones_come() {
    for look in Look::BOTH {
        let remote = Remote::start(|_, _| None).await;
        let site = Site::facing_with(&remote, Setup::default()).await;
        browse(&site.base, look, async |page| {
            page.enter_as_admin().await;
            page.follow("Hold rules").await;
            page.press("Hold").await;
            page.see("Hold everything?").await;
            page.press("Hold everything").await;
            page.see("Type everything to confirm").await;
            page.fill("Type everything to confirm", "everything").await;
            page.press("Hold everything").await;
            page.see("Rule 1 holds 0 queued messages").await;

            let to: Vec<String> = (0..59).map(|n| format!("hay{n}@remote.test")).collect();
            let to: Vec<&str> = to.iter().map(String::as_str).collect();
            site.send(&to, "hay").await;
            let needle = json!({
                "To": [{"Address": "needle@remote.test"}],
                "Subject": "needle",
                "Text": "Hello.",
                "Extra": {"order": "77"},
            });
            let sent = site.webapi("Send", &needle).await;
            let message_id = sent["MessageID"].as_str().unwrap();

            page.follow("Queue").await;
            for search in [message_id, "order=77", "needle@remote.test"] {
                page.fill("Search", search).await;
                page.press("Search").await;
                page.see_in("needle@remote.test", "held").await;
                page.see_no("hay").await;
                assert_eq!(page.rows(QUEUE).await.len(), 1, "{search}");
                assert_eq!(page.value("Search").await, search);
            }
            page.fill("Search", "order=78").await;
            page.press("Search").await;
            page.see("No queued message matches.").await;
            page.fill("Search", "app@example.org").await;
            page.press("Search").await;
            page.follow("Look for this sender").await;
            page.see("hay0@remote.test").await;
            page.follow("Clear all filters").await;

            walk(page, &site).await;
        })
        .await;
    }
}

/// Goes through all pages of the queue, newest first, while new messages come.
async fn walk(page: &Page, site: &Site) {
    page.press("More filters").await;
    page.choose("Order", "Newest first").await;
    page.press("Search").await;
    page.see("needle@remote.test").await;
    page.follow("25").await;
    page.arrive("/admin/queue?").await;
    page.see_no("hay0@").await;
    let first = numbers(page).await;
    site.send(
        &["new1@remote.test", "new2@remote.test", "new3@remote.test"],
        "new",
    )
    .await;
    page.follow("Next page").await;
    page.see("Page before").await;
    let second = numbers(page).await;
    page.follow("Next page").await;
    page.see("hay0@remote.test").await;
    let third = numbers(page).await;
    let all = [first.clone(), second.clone(), third].concat();
    let expected: Vec<u64> = (1..=60).rev().collect();
    assert_eq!(all, expected);

    // The way back leads to the same rows, and then to the new ones.
    page.follow("Page before").await;
    page.see_no("hay0@").await;
    assert_eq!(numbers(page).await, second);
    page.follow("Page before").await;
    page.see("needle@remote.test").await;
    assert_eq!(numbers(page).await, first);
    page.follow("First page").await;
    page.see("new3@remote.test").await;
    let newest = numbers(page).await;
    assert_eq!(newest[..4], [63, 62, 61, 60]);
}

/// The numbers of the messages on the page.
async fn numbers(page: &Page) -> Vec<u64> {
    let rows = page.rows(QUEUE).await.into_iter();
    let number = |cell: &str| cell.split_whitespace().last().unwrap().parse().unwrap();
    rows.map(|row| number(&row[1])).collect()
}
