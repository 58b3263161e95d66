//! Hold rules: mail waits as long as one matches it.

use super::{Look, browse, site::Site};
use crate::support::{message, remote::Remote};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs Chromium"]
async fn a_rule_holds_mail_until_it_is_removed() {
    for look in Look::BOTH {
        let remote = Remote::start(|_, _| None).await;
        let site = Site::facing(&remote).await;
        let send = async |subject: &str| {
            let mut client = site.world.submission().await;
            let to = ["rcpt@remote.test"];
            client
                .submit("app@example.org", &to, &message(subject))
                .await;
        };
        browse(&site.base, look, async |page| {
            page.enter_as_admin().await;
            page.follow("Hold rules").await;
            page.see("No rule holds anything.").await;

            // What was typed comes back as text.
            let hostile = "\"><script>alert(1)</script>";
            page.fill("Address of the sender", hostile).await;
            page.fill("Domain of the recipient", "remote.test").await;
            page.press("Hold").await;
            page.see("alert(1)").await;
            assert_eq!(page.value("Address of the sender").await, hostile);
            page.fill("Address of the sender", "").await;
            page.press("Hold").await;
            page.see("Rule 1 holds 0 queued messages, and new ones.")
                .await;
            send("held").await;

            page.follow("Remove rule 1").await;
            page.see("Remove hold rule 1?").await;
            page.follow("Leave it as it is").await;
            page.see("A new rule").await;
            page.follow("Queue").await;
            page.see("hold rule 1 is for recipients at remote.test")
                .await;
            page.follow("Hold rules").await;
            page.follow("Remove rule 1").await;
            page.press("Remove the rule").await;
            page.see("Rule 1 is removed. Messages that it held stay held")
                .await;
            page.see("no hold rule matches it").await;
            page.follow("Overview").await;
            page.see("1 message is held, and no hold rule is in force.")
                .await;
            page.follow("Hold rules").await;
            send("free").await;
            let received = remote.wait_for(1).await;
            assert!(received[0].text.contains("Subject: free"));

            // Another rule takes what it held along when it goes.
            page.fill("Domain of the recipient", "remote.test").await;
            page.press("Hold").await;
            page.see("Rule 2 holds 0 queued messages, and new ones.")
                .await;
            page.follow("Remove rule 2").await;
            page.tick("Release the messages that it held, unless another rule holds them too")
                .await;
            page.press("Remove the rule").await;
            page.see("Rule 2 is removed. 1 message is released.").await;
            let received = remote.wait_for(2).await;
            assert!(received[1].text.contains("Subject: held"));
        })
        .await;
    }
}
