//! Work on thousands of messages: it shows how far it is, can be stopped, and a form that is sent
//! twice acts once.

use super::{Look, browse, page::Page, site::Site};
use crate::support::{Setup, patience::patiently, remote::Remote};

/// The recipients of one message.
const AT_ONCE: usize = 100;
/// A portion of the work. It is stopped between two of them.
const PORTION: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs Chromium"]
async fn thousands_of_messages_are_dropped_by_a_filter() {
    for look in Look::BOTH {
        let remote = Remote::start(|_, _| None).await;
        let setup = Setup {
            app: "max_first_time_recipients_per_day = 1000000\n".to_owned(),
            ..Setup::default()
        };
        let site = Site::facing_with(&remote, setup).await;
        browse(&site.base, look, async |page| {
            page.enter_as_admin().await;
            page.follow("Hold rules").await;
            page.fill("Domain of the recipient", "remote.test").await;
            page.press("Hold").await;
            page.see("Rule 1 holds 0 queued messages").await;
            queue(&site, "keep", 1).await;

            // A fast machine may be done before anybody can stop it. Then it gets more to do.
            let (mut count, mut ends) = (2000, 0);
            let dropped = loop {
                queue(&site, "drop", count / AT_ONCE).await;
                let button = ask(page).await;
                page.answer(&button).await;
                ends += 1;
                match stop(page).await {
                    Some(dropped) if dropped < count => break dropped,
                    _ => count *= 3,
                }
            };
            assert_eq!(dropped % PORTION, 0, "{dropped}");

            // The others go by a form that is sent twice.
            let left = counted(count - dropped);
            let button = ask(page).await;
            page.press_twice(&button).await;
            page.see_live(&format!("{left} dropped.")).await;
            page.go("/admin/queue").await;
            page.see("100 messages in the queue, 100 held").await;
            page.go("/admin/audit?operation=queue.end").await;
            // Work that was stopped has an entry for what it did, and one for its end.
            assert_eq!(page.rows("Newest first").await.len(), ends + 2);
        })
        .await;
    }
}

/// Queues messages with this subject, each to a hundred recipients.
async fn queue(site: &Site, subject: &str, messages: usize) {
    for message in 0..messages {
        let to: Vec<String> = (0..AT_ONCE)
            .map(|number| format!("{subject}-{message}-{number}@remote.test"))
            .collect();
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        site.send(&to, subject).await;
    }
}

/// Filters the queue, and goes as far as the question. Gives the button that answers it: a slow
/// machine does not count all messages in time, and says "or more".
async fn ask(page: &Page) -> String {
    page.go("/admin/queue?to=drop-").await;
    page.tick("All messages that match").await;
    page.press("Drop").await;
    page.see("The senders are not told.").await;
    page.see("to drop-").await;
    let button = page.texts("#confirm button.danger").await.remove(0);
    assert!(button.contains("00 messages"), "{button}");
    button
}

/// Stops the work that the page shows. Gives how many messages it dropped. None: all.
async fn stop(page: &Page) -> Option<usize> {
    page.see("messages").await;
    let path = page.path().await;
    if !path.starts_with("/admin/work/") {
        return None;
    }
    page.see("Done so far").await;
    if !page.press_unless("Stop", "Done.").await {
        return None;
    }
    page.arrive(&format!("{path}?told=")).await;
    let ends = async {
        loop {
            page.go(&path).await;
            let text = page.text().await;
            if text.contains("Done.") {
                return None;
            }
            if text.contains("Did not come to its end.") {
                assert!(text.contains("Stopped by its caller after"), "{text}");
                return Some(dropped(page).await);
            }
        }
    };
    patiently("the end of the work", ends).await
}

/// How many messages the page says were dropped.
async fn dropped(page: &Page) -> usize {
    let texts = page.texts("#live .facts dd").await;
    texts
        .last()
        .unwrap()
        .replace('\u{202f}', "")
        .parse()
        .unwrap()
}

/// A number of messages as pages write it, with a thin space.
fn counted(count: usize) -> String {
    match (count / 1000, count % 1000) {
        (0, _) => format!("{count} messages"),
        (thousands, rest) => format!("{thousands}\u{202f}{rest:03} messages"),
    }
}
