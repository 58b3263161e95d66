//! Logins at smarthosts.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use postrider_store::Event;

use crate::{
    remote::{Act, Point, Remote},
    support::{Message, Setup, World},
};

/// The token is renewed while the server runs. Without a token the mail waits.
#[tokio::test]
async fn a_token_is_read_for_each_login() {
    let response = STANDARD.encode("n,a=user,\u{1}auth=Bearer fresh\u{1}\u{1}");
    let right = format!("AUTH OAUTHBEARER {response}");
    let remote = Remote::start(move |point, _| match point {
        Point::Command(line) if line.starts_with("EHLO") => {
            Some(Act::Say("250-smart.test\r\n250 AUTH PLAIN OAUTHBEARER"))
        }
        Point::Command(line) if *line == right => Some(Act::Say("235 2.7.0 welcome")),
        Point::Command(line) if line.starts_with("AUTH") => Some(Act::Say("535 5.7.8 no")),
        _ => None,
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let statics = format!(
        "[transports.smart.submission]\nhost = \"127.0.0.1\"\nno_starttls = true\n\
         auth = {{ username = \"user\", token_file = {file:?} }}\n"
    );
    let world = World::start(Setup {
        statics: &statics,
        dynamics: "[[routes]]\ntransport = \"smart\"\n",
        ..Setup::default()
    });
    world.lead("127.0.0.1", &remote);
    let start = world.now();
    let [id] = world.add(Message::to(&["x@any.test"])).await;
    let waiting = world
        .queued_until(|queued| queued[0].next_attempt > start)
        .await;
    assert_eq!(waiting[0].attempts, 0, "a missing file is no attempt");

    let write = |token: &str| {
        fs::write(&file, token).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("stale\n");
    world.clock.advance(Duration::from_secs(120));
    let waiting = world.queued_until(|queued| queued[0].attempts == 1).await;
    let error = &waiting[0].results[0].error;
    assert!(error.contains("535 5.7.8 no") || error == "no", "{error}");
    write("fresh\n");
    world.clock.advance(Duration::from_secs(3600));
    let events = world.events(2).await;
    assert_eq!(events, [(id, Event::Delayed), (id, Event::Delivered)]);
    world.stop().await;
}
