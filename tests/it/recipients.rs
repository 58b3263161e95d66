//! Recipients that take, refuse or share mail.

use postrider_store::Mail;

use crate::support::{Setup, World, client::Client, dns::Zone};

const ACCOUNTS: &str = r#"
[accounts.strict]
domain = "example.org"
destinations."strict@example.org" = { message_auth_required_smtp_error = "sign your mail" }
[accounts.small]
domain = "example.org"
quota = 1000
destinations."small@example.org" = {}
[domains."example.org".aliases.team]
addresses = ["app@example.org", "other@example.org"]
[domains."example.org".aliases.all]
addresses = ["app@example.org", "other@example.org"]
post_public = true
"#;

const FROM: &str = "someone@elsewhere.test";
const TEXT: &str = "From: <someone@elsewhere.test>\r\nSubject: hi\r\n\r\nHello.";

async fn start() -> World {
    World::start(Setup {
        dynamics: ACCOUNTS.replace(" = { smtp_error = \"\" }", " = {}"),
        dns: Some(Zone::default().serve().await),
        ..Setup::default()
    })
    .await
}

async fn client(world: &World) -> Client {
    let mut client = world.client("smtp").await;
    client.expect("EHLO sender.elsewhere.test", "250").await;
    client
}

async fn mails(world: &World, account: &str, mailbox: &str) -> Vec<Mail> {
    let store = world.server.store();
    let page = store.list_mails(account, Some(mailbox), None, 99).await;
    page.unwrap().items
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_recipient_has_its_own_verdict() {
    let world = start().await;
    let mut client = client(&world).await;
    let refused = "550 5.7.26 sign your mail";
    for _ in 0..2 {
        let reply = client.submit(FROM, &["strict@example.org"], TEXT).await;
        assert_eq!(reply, refused);
    }
    let both = ["strict@example.org", "app@example.org"];
    let reply = client.submit(FROM, &both, TEXT).await;
    assert!(reply.starts_with("250 2.0.0 delivered as "), "{reply}");
    // A restart changes nothing.
    let world = world.restart().await;
    assert_eq!(mails(&world, "app", "Inbox").await.len(), 1);
    let rejects = mails(&world, "strict", "Rejects").await;
    assert_eq!(rejects.len(), 1, "each is kept once");
    assert_eq!(rejects[0].flags, ["\\seen"]);
    assert!(mails(&world, "strict", "Inbox").await.is_empty());
    let store = world.server.store();
    assert_eq!(store.mail_usage("strict").await.unwrap().mails, 0);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_has_its_rules_and_members_their_copies() {
    let world = start().await;
    let mut client = client(&world).await;
    let reply = client.submit(FROM, &["team@example.org"], TEXT).await;
    assert!(reply.starts_with("550 5.7.2 "), "{reply}");
    let to = ["all@example.org", "app@example.org"];
    let reply = client.submit(FROM, &to, TEXT).await;
    assert!(reply.starts_with("250 2.0.0 "), "{reply}");
    assert_eq!(mails(&world, "app", "Inbox").await.len(), 1);
    let mail = mails(&world, "other", "Inbox").await.remove(0);
    let store = world.server.store();
    let stored = store.mail_message(&mail).await.unwrap();
    let text = String::from_utf8(stored.whole().await.unwrap().to_vec()).unwrap();
    let delivered = "Delivered-To: other@example.org\r\nDelivered-To: all@example.org\r\n";
    assert!(text.contains(delivered), "{text}");
    // The copy comes back through the list, and through another way.
    let text = text.trim_end();
    let reply = client.submit(FROM, &["all@example.org"], text).await;
    assert!(reply.starts_with("554 5.4.6 "), "{reply}");
    let reply = client.submit(FROM, &["app@example.org"], text).await;
    assert!(reply.starts_with("250 2.0.0 "), "{reply}");
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_mailbox_says_so() {
    let world = start().await;
    let mut client = client(&world).await;
    let full = "452 4.2.2 the mailbox is full, try again later";
    client
        .expect(&format!("MAIL FROM:<{FROM}> SIZE=1001"), "250")
        .await;
    client.expect("RCPT TO:<small@example.org>", full).await;
    client.expect("RSET", "250").await;
    let long = format!("{TEXT}\r\n{0}\r\n{0}", "x".repeat(500));
    let small = ["small@example.org"];
    assert_eq!(client.submit(FROM, &small, &long).await, full);
    let reply = client.submit(FROM, &small, TEXT).await;
    assert!(reply.starts_with("250 2.0.0 "), "{reply}");
    // What is removed makes room.
    let mail = mails(&world, "small", "Inbox").await.remove(0);
    let room = 1000 - mail.size - TEXT.len() as u64;
    let filling = format!("{TEXT}{}", "x".repeat(usize::try_from(room).unwrap()));
    assert_eq!(client.submit(FROM, &small, &filling).await, full);
    let store = world.server.store();
    assert!(store.remove_mail("small", mail.id).await.unwrap());
    let reply = client.submit(FROM, &small, &filling).await;
    assert!(reply.starts_with("250 2.0.0 "), "{reply}");
    world.server.stop().await;
}
