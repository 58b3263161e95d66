//! Submission: mail from applications.

use std::time::Duration;

use crate::support::{PASSWORD, Setup, World, base64, message, program};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_is_required_and_possible_only_under_tls() {
    let world = World::start(Setup::default()).await;
    let mut client = world.client("submission").await;
    let ehlo = client.command("EHLO client.test").await;
    assert!(!ehlo.contains("AUTH"), "{ehlo}");
    client
        .expect("MAIL FROM:<app@example.org>", "530 5.7.0")
        .await;
    let plain = base64(format!("\0app@example.org\0{PASSWORD}").as_bytes());
    client.expect(&format!("AUTH PLAIN {plain}"), "5").await;
    let mut client = client.starttls().await;
    let ehlo = client.command("EHLO client.test").await;
    assert!(
        ehlo.contains("AUTH PLAIN LOGIN") || ehlo.contains("AUTH LOGIN PLAIN"),
        "{ehlo}"
    );
    let wrong = base64(b"\0app@example.org\0wrong password");
    client
        .expect(&format!("AUTH PLAIN {wrong}"), "535 5.7.8")
        .await;
    client.expect("AUTH LOGIN", "334").await;
    client.expect(&base64(b"app@example.org"), "334").await;
    client
        .expect(&base64(PASSWORD.as_bytes()), "235 2.7.0")
        .await;
    client
        .expect("MAIL FROM:<other@example.org>", "550 5.7.1")
        .await;
    client.expect("MAIL FROM:<app@example.org>", "250").await;
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_from_field_must_have_an_address_of_the_account() {
    let world = World::start(Setup::default()).await;
    let mut client = world.submission().await;
    let text = message("x").replace("app@example.org", "other@example.org");
    let reply = client
        .submit("app@example.org", &["rcpt@remote.test"], &text)
        .await;
    assert!(reply.starts_with("550 5.7.1"), "{reply}");
    assert_eq!(world.server.store().counts().await.queued, 0);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_with_too_many_wrong_logins_must_wait_or_be_unlocked() {
    let world = World::start(Setup::default()).await;
    let mut client = world.client("submission").await;
    client.expect("EHLO client.test", "250").await;
    let mut client = client.starttls().await;
    client.expect("EHLO client.test", "250").await;
    let login = |user: &str, password: &str| {
        let secret = base64(format!("\0{user}@example.org\0{password}").as_bytes());
        format!("AUTH PLAIN {secret}")
    };
    for _ in 0..10 {
        client.expect(&login("app", "wrong"), "535 5.7.8").await;
    }
    world.clock.advance(Duration::from_secs(18));
    let reply = client.command(&login("info", PASSWORD)).await;
    assert!(reply.starts_with("454 4.7.0"), "{reply}");
    assert!(reply.ends_with("try again in 42 seconds"), "{reply}");
    // All protocols count together.
    let url = world.server.address("webapi_http").unwrap();
    let call = reqwest::Client::new().post(format!("http://{url}/webapi/v0/Send"));
    let answer = call.basic_auth("app@example.org", Some(PASSWORD)).send();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["retry-after"], "42");
    // Other accounts at the same address are not concerned.
    client.expect(&login("other", PASSWORD), "235").await;

    let conf = world.dir.path().join("postrider.conf");
    let unlock = program::run(&conf, &["login", "unlock", "app@example.org"]).await;
    assert_eq!(String::from_utf8_lossy(&unlock.stdout), "unlocked\n");
    world.submission().await;
    let nobody = program::run(&conf, &["login", "unlock"]).await;
    assert_eq!(nobody.status.code(), Some(2));
    world.server.stop().await;
}
