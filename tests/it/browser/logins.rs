//! Logins at the pages.

use std::time::Duration;

use super::{
    Look, browse,
    site::{ADMIN_PASSWORD, Site},
};
use crate::support::remote::Remote;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs Chromium"]
async fn a_login_leads_to_the_page_that_was_asked_for_and_ends_in_time() {
    for look in Look::BOTH {
        let remote = Remote::start(|_, _| None).await;
        let site = Site::facing(&remote).await;
        browse(&site.base, look, async |page| {
            page.go("/admin/hold-rules?rows=25").await;
            assert!(page.path().await.starts_with("/admin/login?to="));
            page.fill("Password", "wrong").await;
            page.press("Log in").await;
            page.see("Wrong name or password.").await;
            page.fill("Password", ADMIN_PASSWORD).await;
            page.press("Log in").await;
            page.see("A new rule").await;
            assert_eq!(page.path().await, "/admin/hold-rules?rows=25");

            // A session ends after half a day without a request.
            site.world.clock.advance(Duration::from_secs(13 * 60 * 60));
            page.follow("Overview").await;
            page.see("Log in").await;
            page.enter_as_admin().await;

            page.press("Log out").await;
            page.see("Log in").await;
            page.go("/admin/hold-rules").await;
            page.see("Log in").await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs Chromium"]
async fn wrong_passwords_of_one_account_keep_no_other_out() {
    for look in Look::BOTH {
        let remote = Remote::start(|_, _| None).await;
        let site = Site::facing(&remote).await;
        browse(&site.account, look, async |page| {
            page.go("/account/").await;
            for _ in 0..10 {
                page.try_password("app@example.org", "guess").await;
                page.see("Wrong name or password.").await;
            }
            // The right password is not even looked at.
            page.enter("app@example.org").await;
            page.see("Too many failed logins").await;
            assert_eq!(page.status().await, 429);
            page.enter("other@example.org").await;
            page.see("Log out").await;
            assert_eq!(page.path().await, "/account/");

            page.press("Log out").await;
            site.world.clock.advance(Duration::from_secs(60));
            page.enter("app@example.org").await;
            page.see("Log out").await;
        })
        .await;
    }
}
