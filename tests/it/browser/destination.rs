//! A destination that takes nothing: the board shows it, a message says why it waits, and another
//! way delivers.

use super::{Look, browse, site::Site};
use crate::support::{
    Setup,
    remote::{Act, Point, Remote},
};

const RELAY: [u8; 4] = [127, 0, 0, 3];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs Chromium"]
async fn mail_to_a_failing_destination_goes_another_way() {
    for look in Look::BOTH {
        let remote = Remote::start(|point, _| match point {
            Point::Command(line) if line.starts_with("RCPT") => {
                Some(Act::Say("451 4.7.1 Our disk is full"))
            }
            _ => None,
        })
        .await;
        let relay = Remote::start(|_, _| None).await;
        let setup = Setup {
            statics: "[transports.relay.smtp]\nhost = \"127.0.0.3\"\nno_starttls = true\n"
                .to_owned(),
            ..Setup::default()
        };
        let site = Site::facing_with(&remote, setup).await;
        site.world.dialer.lead(RELAY.into(), relay.address);
        browse(&site.base, look, async |page| {
            page.enter_as_admin().await;
            page.follow("Destinations").await;
            page.see("Nothing was sent since the start.").await;
            for recipient in ["ann", "bob"] {
                let to = format!("{recipient}@remote.test");
                site.send(&[&to], &format!("for {recipient}")).await;
            }
            page.see_live_in("remote.test", "451 Our disk is full")
                .await;
            page.see_live_in("remote.test", "100 % of 2").await;

            // Why does it wait?
            page.see_live("2 messages to remote.test").await;
            page.follow("2 messages to remote.test").await;
            page.see_in("ann@remote.test", "Our disk is full").await;
            page.follow_in("ann@remote.test").await;
            page.see("waits for its next attempt").await;
            page.see("directly to the hosts of the destination").await;
            page.see("Not taken").await;
            page.press("What was said, in clear").await;
            page.see("S: 451 4.7.1 Our disk is full").await;

            page.follow("Destinations").await;
            page.follow("remote.test").await;
            page.choose("Transport", "relay").await;
            page.press("Set the transport to remote.test").await;
            page.see("Set the transport 2 messages?").await;
            page.see("They are sent by the transport relay, whatever the routes say.")
                .await;
            page.press("Set the transport 2 messages").await;
            page.see("2 messages given the transport.").await;
            page.see_in("bob@remote.test", "relay").await;
            assert!(relay.received().is_empty());

            page.follow("Destinations").await;
            page.follow("remote.test").await;
            page.press("Try all now to remote.test").await;
            page.see("Try now 2 messages?").await;
            page.press("Try now 2 messages").await;
            page.see("2 messages due now.").await;
            let received = relay.wait_for(2).await;
            let for_ann = |text: &str| text.contains("Subject: for ann\r\n");
            assert!(received.iter().any(|received| for_ann(&received.text)));

            page.follow("History").await;
            page.see_later_in("bob@remote.test", "Delivered").await;
            page.see_later_in("ann@remote.test", "Delivered").await;
            page.follow("Queue").await;
            page.see("Nothing is queued.").await;
            // The clock of the browser is far behind that of the server.
            let text = page.text().await;
            assert!(!text.contains("in 45 d"), "{text}");
        })
        .await;
    }
}
