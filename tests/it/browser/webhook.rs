//! A webhook that is down: its calls wait, are tried, signed with other secrets, and made again.

use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering},
};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Look, browse, page::Page, site::Site};
use crate::support::{
    receiver::{Call, Receiver},
    remote::Remote,
};

const HOOK: &str = "Events of sent messages";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs Chromium"]
async fn a_webhook_is_down_and_hears_of_all_events_later() {
    for look in Look::BOTH {
        let remote = Remote::start(|_, _| None).await;
        let status = Arc::new(AtomicU16::new(503));
        let answered = Arc::clone(&status);
        let receiver = Receiver::start(move |_| answered.load(Ordering::Relaxed)).await;
        let site = Site::telling(&remote, &receiver).await;
        browse(&site.base, look, async |page| {
            page.enter_as_admin().await;
            site.send(&["ann@remote.test"], "first").await;
            site.send(&["bob@remote.test"], "second").await;
            receiver.wait_for(2).await;
            page.follow("Calls").await;
            page.see_later_in(&receiver.url(), "Failing").await;
            page.see_later_in("first", "503").await;
            page.see_later_in("second", "503").await;

            page.follow("Test the webhook of app").await;
            page.press("Call").await;
            page.see("The call failed. Status 503").await;
            receiver.wait_for(3).await;
            status.store(200, Ordering::Relaxed);
            page.press("Call").await;
            page.see("The receiver took it. Status 200").await;
            receiver.wait_for(4).await;

            // One call is made now. The other is canceled, and made again.
            page.follow("Back to the calls").await;
            page.see_in("first", "delivered").await;
            page.follow_in("first").await;
            page.press("Call now").await;
            let calls = receiver.wait_for(5).await;
            assert_eq!(calls[4].payload["Subject"], "first");
            page.see_later("The receiver took it").await;
            page.follow("Calls").await;
            page.tick_row("second").await;
            page.press("Cancel the ticked calls").await;
            page.see("Cancel these calls?").await;
            page.press("Cancel them").await;
            page.see("1 call is canceled.").await;
            page.see("No call waits.").await;

            let secrets = rotate(page, &receiver).await;

            page.follow("Past calls").await;
            page.see_in("second", "Failed").await;
            page.see_in("first", "Taken").await;
            page.press("Make them again").await;
            page.see("Make these calls again?").await;
            page.see("1 call will be made again").await;
            page.answer("Make them again").await;
            page.see("1 call is to be made again.").await;
            let calls = receiver.wait_for(9).await;
            assert_eq!(calls[8].payload["Subject"], "second");
            assert_eq!(signatures(&calls[8]), [signed(&secrets[1], &calls[8])]);
        })
        .await;
    }
}

/// Changes the secret that signs calls, with a test after each step. Gives both secrets.
async fn rotate(page: &Page, receiver: &Receiver) -> [String; 2] {
    page.follow("Accounts").await;
    page.follow("app").await;
    page.follow("Webhooks").await;
    page.see("Calls are not signed.").await;
    page.follow(&format!("Make a secret for: {HOOK}")).await;
    page.press("Make it").await;
    page.see("Calls are signed with it.").await;
    let first = secret(page).await;
    let call = test(page, receiver, 6).await;
    assert_eq!(signatures(&call), [signed(&first, &call)]);

    page.follow(&format!("Make a second secret for: {HOOK}"))
        .await;
    page.press("Make it").await;
    page.see("Calls are signed with both.").await;
    let second = secret(page).await;
    let call = test(page, receiver, 7).await;
    let mut both = [signed(&first, &call), signed(&second, &call)];
    let mut found = signatures(&call);
    both.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, both);

    page.follow("Drop the older secret").await;
    page.press("Drop it").await;
    page.see("The older secret is dropped.").await;
    let call = test(page, receiver, 8).await;
    assert_eq!(signatures(&call), [signed(&second, &call)]);
    [first, second]
}

/// The secret that the page shows this once.
async fn secret(page: &Page) -> String {
    page.see("It is shown this once only.").await;
    page.texts(".notice .line code").await.remove(0)
}

/// Sends an example. Gives the call that came, the n-th.
async fn test(page: &Page, receiver: &Receiver, number: usize) -> Call {
    page.press(&format!("Test the webhook for: {HOOK}")).await;
    page.see("The receiver took the example.").await;
    receiver.wait_for(number).await.remove(number - 1)
}

/// The signatures of a call.
fn signatures(call: &Call) -> Vec<String> {
    let signatures = call.headers["webhook-signature"].to_str().unwrap();
    signatures.split(' ').map(str::to_owned).collect()
}

/// The signature of a call by a secret (Standard Webhooks, version 1).
fn signed(secret: &str, call: &Call) -> String {
    let key = STANDARD.decode(secret.trim_start_matches("whsec_"));
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key.unwrap());
    let field = |name: &str| call.headers[name].to_str().unwrap();
    let head = format!("{}.{}.", field("webhook-id"), field("webhook-timestamp"));
    let signed = [head.as_bytes(), &call.body].concat();
    format!("v1,{}", STANDARD.encode(hmac::sign(&key, &signed)))
}
