//! A list of suppressed addresses goes in and out as a table, and comes back as it was.

use std::path::Path;

use serde_json::json;

use super::{Look, browse, page::Page, site::Site};
use crate::support::remote::Remote;

/// A table with three right rows and two wrong ones. One reason is a formula for spreadsheets.
const TABLE: &str = "address,reason,list,created\n\
    ann@remote.test,asked for it,,2026-01-02T03:04:05Z\n\
    no address,typed by hand,,\n\
    bob@remote.test,\"angry, and loud\",news,\n\
    ,nobody,,\n\
    eve@remote.test,'=HYPERLINK(1),,\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs Chromium"]
async fn a_table_with_wrong_rows_is_imported_and_its_export_has_nothing_new() {
    for look in Look::BOTH {
        let remote = Remote::start(|_, _| None).await;
        let site = Site::facing(&remote).await;
        let folder = tempfile::tempdir().unwrap();
        let table = folder.path().join("table.csv");
        std::fs::write(&table, TABLE).unwrap();
        browse(&site.account, look, async |page| {
            page.enter_as_app().await;
            page.follow("Suppressions").await;
            page.see("No address is suppressed.").await;
            check(page, &table).await;
            page.see("3 new addresses").await;
            page.see("2 wrong rows").await;
            let rows = page.rows("What is wrong").await;
            let lines: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
            assert_eq!(lines, ["3", "5"], "{rows:?}");

            // Wrong rows are left out only by who says so.
            page.press("Add 3 addresses").await;
            page.see("wrong rows").await;
            assert!(!is_suppressed(&site, "ann@remote.test").await);
            page.tick("Leave out 2 wrong rows").await;
            page.press("Add 3 addresses").await;
            page.see_live("3 addresses are suppressed for app.").await;
            page.see_in("bob@remote.test", "angry, and loud").await;
            page.see_in("bob@remote.test", "news").await;
            page.see_in("eve@remote.test", "=HYPERLINK(1)").await;
            assert!(is_suppressed(&site, "ann@remote.test").await);

            page.save_into(folder.path()).await;
            page.follow("Export the list").await;
            let exported = page.saved(folder.path(), "suppressions.csv").await;
            let text = std::fs::read_to_string(&exported).unwrap();
            assert!(text.starts_with("address,reason,list,created"), "{text}");
            assert!(text.contains("eve@remote.test,'=HYPERLINK(1),,"), "{text}");
            check(page, &exported).await;
            page.see("0 new addresses").await;
            page.see("3 that are on the list already").await;
            page.see("0 wrong rows").await;
            page.see("There is nothing to add.").await;
        })
        .await;
    }
}

/// Gives a file to the import, as far as the page that says what it has.
async fn check(page: &Page, file: &Path) {
    page.follow("Import").await;
    page.upload("File", file).await;
    page.press("Check the table").await;
    page.see("The table for app has:").await;
}

/// Whether the server sends nothing of the account app to an address.
async fn is_suppressed(site: &Site, address: &str) -> bool {
    let request = json!({"EmailAddress": address});
    let answer = site.webapi("SuppressionPresent", &request).await;
    answer["Present"] == true
}
