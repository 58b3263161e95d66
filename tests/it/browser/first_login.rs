//! The first visit to the pages of an account: a password of one's own, and a second factor that
//! gets lost.

use std::time::Duration;

use super::{
    Look, browse,
    page::Page,
    site::{APP, Site},
};
use crate::support::{PASSWORD, remote::Remote};

const OWN_PASSWORD: &str = "a password of my own";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs Chromium"]
async fn a_holder_sets_a_password_and_a_second_factor_and_loses_it() {
    for look in Look::BOTH {
        let remote = Remote::start(|_, _| None).await;
        let site = Site::facing(&remote).await;
        browse(&site.account, look, async |page| {
            page.enter_as_app().await;
            page.see("The second factor is off").await;
            set_password(page).await;

            // The new password is enough for now.
            page.press("Log out").await;
            page.enter(APP).await;
            page.see("Wrong name or password.").await;
            page.try_password(APP, OWN_PASSWORD).await;
            page.see("Log out").await;

            let (otp, recovery) = page.turn_on_second_factor(&site).await;
            page.follow("Second factor").await;
            page.see("10 recovery codes are left.").await;
            page.see_no(&recovery[0]).await;

            // Each code opens the pages once.
            page.press("Log out").await;
            site.world.clock.advance(Duration::from_secs(60));
            ask_for_code(page).await;
            page.fill("Code", "000000").await;
            page.press("Log in").await;
            page.see("The code is wrong, or was used before").await;
            let code = site.code(&otp);
            page.fill("Code", &code).await;
            page.press("Log in").await;
            page.see("The second factor is on.").await;
            page.press("Log out").await;
            ask_for_code(page).await;
            page.fill("Code", &code).await;
            page.press("Log in").await;
            page.see("The code is wrong, or was used before").await;

            // The device is lost.
            page.fill("Code", &recovery[3]).await;
            page.press("Log in").await;
            page.see("That was a recovery code. 9 recovery codes are left.")
                .await;
            page.press("Log out").await;
            ask_for_code(page).await;
            page.fill("Code", &recovery[3]).await;
            page.press("Log in").await;
            page.see("The code is wrong, or was used before").await;
        })
        .await;
    }
}

/// Sets a password, at the second try.
async fn set_password(page: &Page) {
    page.follow("Password").await;
    page.fill("New password", OWN_PASSWORD).await;
    page.fill("The same again", PASSWORD).await;
    page.press("Set the password").await;
    page.see("the two passwords differ").await;
    page.fill("New password", OWN_PASSWORD).await;
    page.fill("The same again", OWN_PASSWORD).await;
    page.press("Set the password").await;
    page.see("The password is set.").await;
}

/// Logs in as far as the page that asks for a code. The password alone opens nothing.
async fn ask_for_code(page: &Page) {
    page.try_password(APP, OWN_PASSWORD).await;
    page.see("The password of app@example.org is right.").await;
    page.go("/account/messages").await;
    page.arrive("/account/login?").await;
    page.go("/account/login/code").await;
}
