//! domains.conf in the browser: an error, two who edit at once, and an earlier version.

use super::{
    Look, browse,
    page::Page,
    site::{APP, Site},
};
use crate::support::remote::Remote;

const NEW: &str = "new@example.org";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs Chromium"]
async fn two_edit_domains_conf_at_once_and_restore_a_version() {
    for look in Look::BOTH {
        let remote = Remote::start(|_, _| None).await;
        let site = Site::facing(&remote).await;
        let file = site.world.dir.path().join("domains.conf");
        let saved = || std::fs::read_to_string(&file).unwrap();
        let before = saved();
        browse(&site.base, look, async |page| {
            open(page).await;
            assert_eq!(page.value("The text").await, before);
            let wrong = format!("{before}[accounts.app.nothing]\n");
            page.fill("The text", &wrong).await;
            page.press("Check").await;
            page.see("The text can't be saved:").await;
            page.see(&format!("Line {}", before.lines().count() + 1))
                .await;
            assert_eq!(page.value("The text").await, wrong);

            let address = format!("destinations.\"{APP}\" = {{}}\n");
            let more = format!("{address}destinations.\"{NEW}\" = {{}}\n");
            let mine = before.replace(&address, &more);
            assert_ne!(mine, before);
            page.fill("The text", &mine).await;
            page.press("Check").await;
            page.see("The text is right").await;

            // Somebody else is faster.
            let theirs = format!("# This file is edited by hand.\n{before}");
            browse(&site.base, look, async |other| {
                open(other).await;
                other.fill("The text", &theirs).await;
                save(other).await;
            })
            .await;
            assert_eq!(saved(), theirs);
            page.press("See the difference, then save").await;
            page.see("The file was changed since you read it.").await;
            assert_eq!(page.status().await, 409);
            page.see("# This file is edited by hand.").await;
            assert_eq!(page.value("The text").await, mine);
            assert!(!takes(&site, NEW).await);
            save(page).await;
            assert_eq!(saved(), mine);
            assert!(takes(&site, NEW).await);

            page.follow_in("by hand").await;
            page.see("From the file as it is now to the version").await;
            page.see(&format!("destinations.\"{NEW}\"")).await;
            let version = page.path().await;
            let version = version.rsplit('/').next().unwrap().to_owned();
            page.press(&format!("Restore version {version}")).await;
            page.see(&format!("Version {version} is in force")).await;
            assert_eq!(saved(), before);
            assert!(!takes(&site, NEW).await);
        })
        .await;
    }
}

/// Logs in, and opens the editor.
async fn open(page: &Page) {
    page.enter_as_admin().await;
    page.follow("Configuration").await;
    page.follow("Edit domains.conf").await;
    page.see("The text").await;
}

/// Saves what is in the editor.
async fn save(page: &Page) {
    page.press("See the difference, then save").await;
    page.see("Save domains.conf?").await;
    page.press("Save, and put it in force").await;
    page.see("domains.conf is saved and in force").await;
}

/// Whether the server takes mail for an address.
async fn takes(site: &Site, address: &str) -> bool {
    let mut client = site.world.client("smtp").await;
    client.expect("EHLO sender.test", "250").await;
    client.expect("MAIL FROM:<x@sender.test>", "250").await;
    let reply = client.command(&format!("RCPT TO:<{address}>")).await;
    reply.starts_with("250")
}
