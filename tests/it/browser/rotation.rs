//! The rotation of DKIM keys: it is left and taken up, and the mail tells which key signs.

use std::time::Duration;

use super::{
    Look, browse,
    page::Page,
    site::{Site, zone},
};
use crate::support::{
    Setup,
    dns::ServedZone,
    remote::{Received, Remote},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs Chromium"]
async fn a_rotation_is_left_and_taken_up() {
    for look in Look::BOTH {
        let remote = Remote::start(|_, _| None).await;
        let served = zone().serve_changing().await;
        let setup = Setup {
            dns: Some(served.address),
            ..Setup::default()
        };
        let site = Site::facing_with(&remote, setup).await;
        let enter = async |page: &Page| {
            page.enter_as_admin().await;
            page.follow("Domains").await;
            page.follow("example.org").await;
            page.follow("DKIM").await;
        };
        browse(&site.base, look, async |page| {
            enter(page).await;
            page.see("The domain has no keys").await;
            page.press("Make the next keys").await;
            page.see("Next: publish their records.").await;
            page.see("Publish their records now").await;
            page.press("Sign with these keys").await;
            page.see("has no TXT record").await;

            // It is left here, and somebody goes on an hour later.
            page.press("Log out").await;
            site.world.clock.advance(Duration::from_secs(60 * 60));
            enter(page).await;
            page.see("Publish their records now").await;
            let first = publish(page, &served).await;
            page.follow("Look in DNS").await;
            page.see("Sign with them now").await;
            page.press("Sign with these keys").await;
            page.see("sign now.").await;
            site.send(&["rcpt@remote.test"], "first").await;
            assert_eq!(signed_by(&remote.wait_for(1).await), first);

            // The next turn. The old keys stay until their mail has arrived.
            let second = publish(page, &served).await;
            assert!(second.iter().all(|selector| !first.contains(selector)));
            site.world.clock.advance(Duration::from_secs(60 * 60));
            page.follow("Look in DNS").await;
            page.see("Sign with them now").await;
            page.press("Sign with these keys").await;
            page.see("until mail that they signed has arrived.").await;
            site.send(&["rcpt@remote.test"], "second").await;
            assert_eq!(signed_by(&remote.wait_for(2).await), second);
            page.see("Wait now").await;
            for selector in &first {
                page.see_in(selector, "does not sign").await;
            }

            site.world.clock.advance(8 * DAY);
            enter(page).await;
            page.see("Remove the old keys now").await;
            for selector in &first {
                page.see_in(selector, "may go").await;
                page.follow(&format!("Remove the key {selector}")).await;
                page.see("from DNS yourself.").await;
                page.press("Remove the key").await;
                page.see(&format!("The key {selector} is removed.")).await;
            }
            let keys = page.rows("4 keys").await;
            assert!(keys.iter().all(|row| !first.contains(&row[0])), "{keys:?}");
        })
        .await;
    }
}

/// Adds the records that the page shows for the next keys to the zone. Gives the selectors.
async fn publish(page: &Page, served: &ServedZone) -> Vec<String> {
    page.see("Records of the next keys").await;
    let texts = page.texts(".facts .copies code").await;
    let mut selectors = Vec::new();
    for record in texts.chunks(2) {
        let (name, content) = (&record[0], &record[1]);
        served.change(|zone| zone.txt(name, content));
        let selector = name.split("._domainkey").next().unwrap();
        selectors.push(selector.to_owned());
    }
    assert_eq!(selectors.len(), 2);
    selectors.sort_unstable();
    selectors
}

/// The selectors of the signatures of the last message.
fn signed_by(received: &[Received]) -> Vec<String> {
    let text = &received.last().unwrap().text;
    let head = text.split("\r\n\r\n").next().unwrap();
    let head = head.replace("\r\n\t", " ").replace("\r\n ", " ");
    let signatures = head
        .lines()
        .filter(|line| line.starts_with("DKIM-Signature:"));
    let selectors = signatures.map(|line| {
        let tags = line.split(';').map(str::trim);
        let selector = tags.filter_map(|tag| tag.strip_prefix("s=")).next();
        selector.unwrap().to_owned()
    });
    let mut selectors: Vec<String> = selectors.collect();
    selectors.sort_unstable();
    selectors
}
