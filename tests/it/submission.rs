//! Submission: mail from applications.

use crate::support::{PASSWORD, Setup, World, base64, message};

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
async fn a_network_with_too_many_wrong_logins_must_wait() {
    let world = World::start(Setup::default()).await;
    let wrong = base64(b"\0app@example.org\0wrong password");
    let mut replies = Vec::new();
    for _ in 0..11 {
        let mut client = world.client("submission").await;
        client.expect("EHLO client.test", "250").await;
        let mut client = client.starttls().await;
        client.expect("EHLO client.test", "250").await;
        replies.push(client.command(&format!("AUTH PLAIN {wrong}")).await);
    }
    assert!(
        replies[..10].iter().all(|reply| reply.starts_with("535")),
        "{replies:?}"
    );
    assert!(replies[10].starts_with("4"), "{replies:?}");
    world.server.stop().await;
}
