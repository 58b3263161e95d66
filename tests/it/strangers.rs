//! What becomes of mail of strangers: the users who judge them, block lists, the greylist, and mail
//! that is made to confuse the checks.

use postrider_store::MailId;
use serde_json::{Value, json};

use crate::support::{Setup, World, base64, client::Client, dns::Zone, webapi};

/// The only host that sends for sender.test.
const SENDER: &str = "192.0.2.7";
/// A host that sends for nobody.
const STRANGER: &str = "203.0.113.9";
/// A host in another network.
const OTHER: &str = "198.51.100.3";

/// The reply to a sender whose mail was called junk.
const JUNK: &str =
    "550 5.7.1 earlier mail from you was marked as junk; postmaster@example.org can help";

/// Nobody has to try again.
const NO_GREYLIST: &str = "greylist = false\n";

/// A domain that wants forgeries of its mail refused, and one that says nothing of its mail.
fn zone() -> Zone {
    let domains = ["sender.test", "open.test"];
    let zone = domains.into_iter().fold(Zone::default(), |zone, domain| {
        zone.mx(domain, 10, "mx.sender.test")
    });
    zone.host("mx.sender.test", SENDER.parse().unwrap())
        .txt("sender.test", "v=spf1 ip4:192.0.2.7 -all")
        .txt("_dmarc.sender.test", "v=DMARC1; p=reject")
}

/// The users' programs come to a listener of their own, without a proxy.
fn setup(policy: &str) -> Setup {
    Setup {
        statics: format!(
            "proxy_from = [\"127.0.0.0/8\"]\n\
             [listeners.users]\nips = [\"127.0.0.1\"]\n\
             webapi_http = {{ enabled = true, port = 0 }}\n\
             [policy]\nfirst_time_sender_delay = \"0s\"\n{policy}"
        ),
        ..Setup::default()
    }
}

/// A server behind a proxy, where no stranger has to wait for the answer to a text.
async fn start(zone: Zone, policy: &str) -> World {
    let dns = Some(zone.serve().await);
    World::start(Setup {
        dns,
        ..setup(policy)
    })
    .await
}

async fn client(world: &World, from: &str) -> Client {
    let mut client = world.proxied("smtp", from).await;
    client.expect("EHLO mx.sender.test", "250").await;
    client
}

/// Sends a text from a host. Gives the last reply.
async fn send(world: &World, host: &str, from: &str, text: &str) -> String {
    let mut client = client(world, host).await;
    client.submit(from, &["app@example.org"], text).await
}

/// A letter of this author.
fn letter(author: &str, subject: &str) -> String {
    format!("From: <{author}>\r\nTo: <app@example.org>\r\nSubject: {subject}\r\n\r\nHello.")
}

/// The subjects in a mailbox of the account app.
async fn subjects(world: &World, mailbox: &str) -> Vec<String> {
    let mails = world.mails(mailbox).await;
    let subject = |text: &String| {
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix("Subject: "));
        line.unwrap().to_owned()
    };
    mails.iter().map(subject).collect()
}

/// A letter that is taken. Gives its number.
async fn taken(world: &World, host: &str, author: &str, subject: &str) -> MailId {
    let reply = send(world, host, author, &letter(author, subject)).await;
    assert!(reply.starts_with("250 2.0.0 "), "{subject}: {reply}");
    let all = world.server.store().list_mails("app", None, None, 100);
    all.await.unwrap().items.last().unwrap().id
}

/// The user's program calls a method about a mail.
async fn call(world: &World, method: &str, mail: MailId, key: &str, value: Value) {
    let mut services = world.server.addresses().iter();
    let (_, address) = services
        .find(|(name, _)| name == "users.webapi_http")
        .unwrap();
    let request = json!({"MsgID": mail.0, key: value}).to_string();
    webapi(*address, "app@example.org", method, &request).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flags_and_moves_of_a_user_decide_about_the_next_mail_of_an_author() {
    let world = start(zone(), NO_GREYLIST).await;

    let ann = "ann@sender.test";
    let first = taken(&world, SENDER, ann, "a1").await;
    call(&world, "MessageFlagsAdd", first, "Flags", json!(["$Junk"])).await;
    let reply = send(&world, SENDER, ann, &letter(ann, "a2")).await;
    assert_eq!(reply, JUNK);
    assert_eq!(subjects(&world, "Rejects").await, ["a2"]);
    let flags = json!(["$Junk"]);
    call(&world, "MessageFlagsRemove", first, "Flags", flags).await;
    let flags = json!(["$NotJunk"]);
    call(&world, "MessageFlagsAdd", first, "Flags", flags).await;
    taken(&world, SENDER, ann, "a3").await;
    assert_eq!(subjects(&world, "Inbox").await, ["a1", "a3"]);

    let bob = "bob@sender.test";
    let first = taken(&world, SENDER, bob, "b1").await;
    let to = "DestMailboxName";
    call(&world, "MessageMove", first, to, json!("Junk")).await;
    let reply = send(&world, SENDER, bob, &letter(bob, "b2")).await;
    assert_eq!(reply, JUNK);
    assert_eq!(subjects(&world, "Junk").await, ["b1"]);
    call(&world, "MessageMove", first, to, json!("Inbox")).await;
    taken(&world, SENDER, bob, "b3").await;
    assert_eq!(subjects(&world, "Inbox").await, ["a1", "a3", "b1", "b3"]);
    assert_eq!(subjects(&world, "Rejects").await, ["a2", "b2"]);
    world.server.stop().await;
}

/// Anybody may have written that address, so its mail is kept apart and not refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_of_an_author_whom_nothing_proves_is_junk_after_junk() {
    let world = start(zone(), NO_GREYLIST).await;
    let eve = "eve@open.test";
    let first = taken(&world, STRANGER, eve, "e1").await;
    assert_eq!(subjects(&world, "Inbox").await, ["e1"]);
    call(&world, "MessageFlagsAdd", first, "Flags", json!(["$Junk"])).await;
    taken(&world, STRANGER, eve, "e2").await;
    assert_eq!(subjects(&world, "Junk").await, ["e2"]);
    let flags = json!(["$Junk"]);
    call(&world, "MessageFlagsRemove", first, "Flags", flags).await;
    let flags = json!(["$NotJunk"]);
    call(&world, "MessageFlagsAdd", first, "Flags", flags).await;
    taken(&world, STRANGER, eve, "e3").await;
    assert_eq!(subjects(&world, "Inbox").await, ["e1", "e3"]);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_in_a_block_list_is_refused_with_the_zone() {
    let listed = [127, 0, 0, 2].into();
    let zone = zone()
        .address("2.0.0.127.bl.test", listed)
        .address("9.113.0.203.bl.test", [127, 0, 0, 4].into())
        // A zone that says so of everybody.
        .address("2.0.0.127.all.test", listed)
        .address("1.0.0.127.all.test", listed)
        .address("3.100.51.198.all.test", listed)
        // A zone that says nothing of 127.0.0.2, as one out of service.
        .address("3.100.51.198.gone.test", listed);
    let setup = Setup {
        dns: Some(zone.serve().await),
        ..setup(NO_GREYLIST)
    };
    let dir = tempfile::tempdir().unwrap();
    let conf = setup.write(dir.path());
    let service = "smtp = { enabled = true, port = 0";
    let zones = "dnsbls = [\"all.test\", \"gone.test\", \"bl.test\"]";
    let text = setup
        .static_conf()
        .replace(service, &format!("{service}, {zones}"));
    std::fs::write(conf, text).unwrap();
    let world = World::start_in(dir).await;

    let eve = "eve@open.test";
    let reply = send(&world, STRANGER, eve, &letter(eve, "e1")).await;
    assert_eq!(reply, "550 5.7.1 203.0.113.9 is listed by bl.test");
    assert_eq!(subjects(&world, "Rejects").await, ["e1"]);
    taken(&world, OTHER, eve, "e2").await;
    assert_eq!(subjects(&world, "Inbox").await, ["e2"]);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_doubtful_stranger_is_taken_when_it_tries_again_after_a_minute() {
    let world = start(zone(), "").await;
    let eve = "eve@open.test";
    let later = "451 4.7.1 unknown sender, please retry in a minute";
    for _ in 0..2 {
        let reply = send(&world, STRANGER, eve, &letter(eve, "e1")).await;
        assert_eq!(reply, later);
    }
    // SPF passes, so this one does not try again.
    taken(&world, SENDER, "ann@sender.test", "a1").await;
    world.all_ended().await;
    world.clock.advance(std::time::Duration::from_secs(60));
    let reply = send(&world, OTHER, eve, &letter(eve, "e2")).await;
    assert_eq!(reply, later, "another network");
    taken(&world, STRANGER, eve, "e1").await;
    // From now on nobody waits.
    taken(&world, "203.0.113.10", eve, "e3").await;
    assert_eq!(subjects(&world, "Inbox").await, ["a1", "e1", "e3"]);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_mail_is_kept_apart_until_it_is_taken() {
    let world = start(zone(), NO_GREYLIST).await;
    let ann = "ann@sender.test";
    for subject in ["a1", "a2", "a1"] {
        let reply = send(&world, STRANGER, ann, &letter(ann, subject)).await;
        let expected = "550 5.7.1 rejected per DMARC policy of sender.test";
        assert!(reply.starts_with(expected), "{subject}: {reply}");
    }
    assert_eq!(subjects(&world, "Rejects").await, ["a1", "a2"]);
    assert!(world.mails("Inbox").await.is_empty());
    taken(&world, SENDER, ann, "a1").await;
    assert_eq!(subjects(&world, "Rejects").await, ["a2"]);
    assert_eq!(subjects(&world, "Inbox").await, ["a1"]);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_refusal_of_a_forgery_says_what_the_domain_explains() {
    let zone = zone()
        .mx("bank.test", 10, "mx.sender.test")
        .txt("bank.test", "v=spf1 -all exp=why.bank.test")
        .txt("why.bank.test", "%{i} is no host of %{d}, see %{r}")
        .txt("_dmarc.bank.test", "v=DMARC1; p=reject");
    let world = start(zone, NO_GREYLIST).await;
    let ceo = "ceo@bank.test";
    let reply = send(&world, STRANGER, ceo, &letter(ceo, "pay")).await;
    let lines = [
        "550-5.7.1 rejected per DMARC policy of bank.test: SPF fail, no aligned DKIM signature",
        "550 5.7.1 bank.test explains: 203.0.113.9 is no host of bank.test, see mail.example.org",
    ];
    assert_eq!(reply, lines.join("\n"));
    // A domain that explains nothing.
    let ann = "ann@sender.test";
    let reply = send(&world, STRANGER, ann, &letter(ann, "pay")).await;
    assert_eq!(reply.lines().count(), 1, "{reply}");
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_signatures_ten_count() {
    let world = start(zone(), NO_GREYLIST).await;
    let eve = "eve@open.test";
    let (hash, value) = (base64(&[0; 32]), base64(&[0; 64]));
    let signature = |number: usize| {
        format!(
            "DKIM-Signature: v=1; a=ed25519-sha256; d=d{number}.test; s=k; h=from:subject;\r\n\
             \tbh={hash}; b={value}\r\n"
        )
    };
    // From, To and Subject are fields, too.
    let signed = |count: usize| {
        let signatures: String = (0..count).map(signature).collect();
        format!("{signatures}{}", letter(eve, "signed"))
    };
    let reply = send(&world, STRANGER, eve, &signed(998)).await;
    assert!(reply.starts_with("554 5.6.0 "), "{reply}");
    let reply = send(&world, STRANGER, eve, &signed(997)).await;
    assert!(reply.starts_with("250 2.0.0 "), "{reply}");
    let mails = world.mails("Inbox").await;
    let (results, _) = mails[0].split_once("\r\nReceived: ").unwrap();
    assert_eq!(results.matches("\tdkim=permerror").count(), 10, "{results}");
    let more = "\tdkim=policy reason=\"too many signatures\"";
    assert_eq!(results.matches(more).count(), 1, "{results}");
    assert_eq!(results.matches("dkim=").count(), 11, "{results}");
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_has_one_author_field_of_one_domain() {
    let world = start(zone(), NO_GREYLIST).await;
    let two = "554 5.6.0 exactly one From is needed";
    for (fields, expected) in [
        (
            "From: <ann@sender.test>\r\nFrom: <ann@sender.test>\r\n",
            two,
        ),
        (
            "From: <ann@sender.test>\r\nTo: <app@example.org>\r\nfRoM :\r\n <eve@open.test>\r\n",
            two,
        ),
        (
            "From: <eve@open.test>\r\n\t,\r\n <ann@sender.test>\r\n",
            two,
        ),
        (
            "From:\r\n <ann@sender.test>,\r\n\tBob <bob@sender.test>\r\n",
            "250 2.0.0 ",
        ),
    ] {
        let text = format!("{fields}Subject: hi\r\n\r\nHello.");
        let reply = send(&world, SENDER, "ann@sender.test", &text).await;
        assert!(reply.starts_with(expected), "{fields:?}: {reply}");
    }
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_with_our_name_are_removed_in_every_form() {
    let world = start(zone(), NO_GREYLIST).await;
    let forged = [
        "Authentication-Results: mail.example.org; dmarc=pass",
        "AUTHENTICATION-results:\r\n\tMAIL.Example.ORG;\r\n dmarc=pass",
        "Authentication-Results : mail.example.org 1; dmarc=pass",
        "Authentication-Results:mail.example.org\r\n ; dmarc=pass",
        "Authentication-Results: (a (deep\r\n one) here)\r\n\t mail.example.org; dmarc=pass",
        "Authentication-Results: \"mail.example.org\"; dmarc=pass",
        "Authentication-Results: \"mail.ex\\ample.org\"; dmarc=pass",
        "Authentication-Results: \"mail.example.org; dmarc=pass",
        "Authentication-Results: (mail.example.org; dmarc=pass",
        "Return-Path: <ann@sender.test>",
        "X-Postrider-Junk: no",
        "x-postrider-any :\r\n no",
    ];
    let kept = [
        "Authentication-Results: mx.elsewhere.test; dmarc=pass (kept)",
        "Authentication-Results: mail.example.org.elsewhere.test;\r\n\tdmarc=pass (kept)",
    ];
    let eve = "eve@open.test";
    let fields = |lines: &[&str]| lines.join("\r\n") + "\r\n";
    let (above, below) = forged.split_at(6);
    let text = letter(eve, "hi").replacen("To: ", &format!("{}To: ", fields(below)), 1);
    let text = format!("{}{}{text}", fields(above), fields(&kept));
    let reply = send(&world, STRANGER, eve, &text).await;
    assert!(reply.starts_with("250 2.0.0 "), "{reply}");
    let mails = world.mails("Inbox").await;
    let (top, stored) = mails[0]
        .split_once("\r\nAuthentication-Results: mx.else")
        .unwrap();
    let expected = "Return-Path: <eve@open.test>\r\nDelivered-To: app@example.org\r\n\
                    Authentication-Results: mail.example.org; iprev=permerror";
    assert!(top.starts_with(expected), "{top}");
    assert!(!top.contains("pass"), "{top}");
    let stored = format!("Authentication-Results: mx.else{stored}");
    let expected = format!("{}{}\r\n", fields(&kept), letter(eve, "hi"));
    assert_eq!(stored, expected);
    world.server.stop().await;
}
