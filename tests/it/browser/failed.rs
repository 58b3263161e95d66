//! A message that failed: what the remote said, who was told, and how it is sent once more.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::{Look, browse, site::Site};
use crate::support::{
    Setup,
    remote::{Act, Point, Remote},
};

const TO: &str = "bad@remote.test";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs Chromium"]
async fn a_failed_message_is_understood_and_sent_again() {
    for look in Look::BOTH {
        let is_known = Arc::new(AtomicBool::new(false));
        let known = Arc::clone(&is_known);
        let remote = Remote::start(move |point, _| match point {
            Point::Command(line) if line.contains("RCPT TO:<bad@") => {
                let is_known = known.load(Ordering::Relaxed);
                (!is_known).then_some(Act::Say("550 5.1.1 No such user here"))
            }
            _ => None,
        })
        .await;
        let site = Site::facing_with(&remote, Setup::default()).await;
        browse(&site.base, look, async |page| {
            page.enter_as_admin().await;
            // A recipient that is held keeps the text of the message.
            page.follow("Hold rules").await;
            page.fill("Address of the recipient", "held@remote.test")
                .await;
            page.press("Hold").await;
            page.see("Rule 1 holds").await;
            site.send(&[TO, "held@remote.test"], "invoice").await;

            page.follow("History").await;
            page.see_later_in(TO, "Failed").await;
            page.see_in(TO, "550 5.1.1").await;
            page.follow_in(TO).await;
            page.see("Not taken").await;
            page.press("What was said, in clear").await;
            page.see("C: RCPT TO:<bad@remote.test>").await;
            page.see("S: 550 5.1.1 No such user here").await;
            page.see("to held@remote.test").await;

            // The sender has a DSN, and sends there no more.
            let dsn = site.mail("multipart/report").await;
            assert!(dsn.contains("Final-Recipient: rfc822; bad@remote.test"));
            assert!(dsn.contains("550 5.1.1 No such user here"));
            page.see("The recipient is suppressed").await;
            page.follow("Suppressions").await;
            page.see_in(TO, "No such user here").await;
            page.follow("Remove bad@remote.test").await;
            page.see("app can send to bad@remote.test again.").await;
            page.press("Remove it").await;
            page.see("No address is suppressed.").await;

            is_known.store(true, Ordering::Relaxed);
            page.follow("History").await;
            page.press("More for message 1").await;
            page.follow("Send again").await;
            page.see("Send message 1 again?").await;
            page.see("To bad@remote.test: invoice").await;
            page.press("Send it again").await;
            page.see("Message 1 is queued again as message").await;
            let received = remote.wait_for(1).await;
            assert!(received[0].text.contains("Subject: invoice\r\n"));
            assert!(received[0].rcpts[0].contains(TO));
            page.see_later_in(TO, "Delivered").await;
            page.see_in(TO, "Failed").await;
        })
        .await;
    }
}
