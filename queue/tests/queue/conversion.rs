//! Messages that a host can't take as they are.

use postrider_queue::Passed;
use postrider_store::{QueueId, Retired, Top};

use crate::{
    passed::pass_text,
    remote::{Act, Point, Received, Remote},
    support::{DkimKeys, Message, Setup, World},
};

const HEAD: &str = "From: ann@example.org\r\nSubject: x\r\nMessage-Id: <1@example.org>\r\n\
                    MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n";
/// Of a PGP/MIME message whose text is 8-bit, against RFC 3156.
const SIGNED: &str = "From: ann@example.org\r\nSubject: x\r\nMIME-Version: 1.0\r\n\
                      Content-Type: multipart/signed; boundary=b\r\n\r\n\
                      --b\r\n\r\nGr\u{fc}\u{df}e\r\n--b--\r\n";

/// A remote that offers these extensions.
async fn remote(ehlo: &'static str) -> Remote {
    Remote::start(move |point, _| match point {
        Point::Command(line) if line.starts_with("EHLO") => Some(Act::Say(ehlo)),
        _ => None,
    })
    .await
}

/// A remote without 8BITMIME and SMTPUTF8.
async fn old() -> Remote {
    remote("250-old.test\r\n250-PIPELINING\r\n250 SIZE 9000000").await
}

/// A world in which each of these domains has a remote.
fn world(setup: Setup<'_>, remotes: &[(&str, &Remote)]) -> World {
    let world = World::start(setup);
    for (number, (domain, remote)) in remotes.iter().enumerate() {
        let ip = format!("192.0.2.{}", number + 1);
        world.host(domain, &ip);
        world.lead(&ip, remote);
    }
    world
}

/// A message with this text, as `send` needs it.
fn message<'a>(to: &[&'a str], text: &'a str) -> Message<'a> {
    Message {
        text,
        ..Message::to(to)
    }
}

async fn retired(world: &World, id: QueueId) -> Retired {
    world.queued_until(<[_]>::is_empty).await;
    world.store.retired(id).await.unwrap().unwrap()
}

/// The code and the text of the last result.
async fn failure(world: &World, id: QueueId) -> (String, String) {
    let last = retired(world, id).await.message.results.pop().unwrap();
    (last.enhanced.unwrap().to_string(), last.error)
}

#[tokio::test]
async fn a_host_without_8bitmime_gets_ascii_with_a_signature_over_it() {
    let keys = DkimKeys::new();
    let (old, new) = (old().await, Remote::start(|_, _| None).await);
    let setup = Setup {
        domain: &keys.config(),
        ..Setup::default()
    };
    let world = world(setup, &[("old.test", &old), ("new.test", &new)]);
    let text = format!(
        "{HEAD}Content-Transfer-Encoding: 8bit\r\n\r\nViele Gr\u{fc}\u{df}e aus der Ferne = x\r\n"
    );
    // Both share the text, and each form has its own signature.
    let to = ["a@old.test", "b@new.test", "c@old.test"];
    world.submit(message(&to, &text)).await;
    let (old, new) = (
        old.wait_for(1).await.remove(0),
        new.wait_for(1).await.remove(0),
    );
    assert_eq!(old.rcpts.len(), 2);
    assert!(!old.mail.contains("BODY"), "{old:?}");
    assert!(
        old.mail.contains(&format!("SIZE={}", old.text.len())),
        "{old:?}"
    );
    let expected = format!(
        "{HEAD}Content-Transfer-Encoding: quoted-printable\r\n\r\nViele Gr=C3=BC=C3=9Fe aus der Ferne =3D x\r\n"
    );
    assert!(old.text.ends_with(&expected), "{old:?}");
    assert!(new.mail.ends_with(" BODY=8BITMIME"), "{new:?}");
    assert!(new.text.ends_with(&text), "{new:?}");
    for Received { text, .. } in [old, new] {
        assert_eq!(keys.verify(&text).await, ["pass ed", "pass rsa"], "{text}");
    }
    world.stop().await;
}

/// A text above 256 KiB is not in memory, and its new form is not either.
#[tokio::test]
async fn large_messages_are_converted_one_after_another() {
    let keys = DkimKeys::new();
    let old = old().await;
    let setup = Setup {
        domain: &keys.config(),
        ..Setup::default()
    };
    let world = world(setup, &[("old.test", &old)]);
    for number in 0..3 {
        let text = format!(
            "{HEAD}X-Number: {number}\r\n\r\n{}",
            "Gr\u{fc}\u{df}e\r\n".repeat(40_000)
        );
        world.submit(message(&["a@old.test"], &text)).await;
    }
    for Received { mail, text, .. } in old.wait_for(3).await {
        assert!(mail.contains(&format!("SIZE={}", text.len())), "{mail}");
        assert!(text.is_ascii() && text.ends_with("\r\n"));
        assert_eq!(keys.verify(&text).await, ["pass ed", "pass rsa"]);
    }
    world.queued_until(<[_]>::is_empty).await;
    world.stop().await;
}

#[tokio::test]
async fn what_is_protected_goes_to_a_host_that_takes_it_or_fails() {
    let (old, new) = (old().await, Remote::start(|_, _| None).await);
    let world = world(Setup::default(), &[("a.test", &old), ("b.test", &new)]);
    world.mx("both.test", &[(10, "a.test"), (20, "b.test")]);
    world.mx("only.test", &[(10, "a.test")]);
    let [both, only] = world
        .add(message(&["x@both.test", "x@only.test"], SIGNED))
        .await;
    let got = new.wait_for(1).await.remove(0);
    assert!(
        got.mail.ends_with(" BODY=8BITMIME") && got.text == SIGNED,
        "{got:?}"
    );
    assert!(retired(&world, both).await.success);
    let (code, text) = failure(&world, only).await;
    assert_eq!(code, "5.6.3", "{text}");
    assert!(
        text.contains("needs 8BITMIME") && text.contains("signed or encrypted"),
        "{text}"
    );
    assert!(old.received().is_empty());
    world.stop().await;
}

#[tokio::test]
async fn no_host_gets_long_lines_unless_they_are_signed() {
    let new = Remote::start(|_, _| None).await;
    let world = world(Setup::default(), &[("new.test", &new)]);
    let long = "x".repeat(2000);
    let text = format!("{HEAD}\r\n{long}\r\n");
    world.submit(message(&["a@new.test"], &text)).await;
    let got = new.wait_for(1).await.remove(0);
    assert!(got.text.lines().all(|line| line.len() <= 76), "{got:?}");
    assert_eq!(got.text.replace("=\r\n", "").matches(&long).count(), 1);
    let signed = format!("DKIM-Signature: v=1; d=example.net\r\n{text}");
    world.submit(message(&["a@new.test"], &signed)).await;
    assert_eq!(new.wait_for(2).await[1].text, signed);
    world.stop().await;
}

#[tokio::test]
async fn a_header_in_utf8_is_encoded_for_a_host_without_smtputf8() {
    let (old, new) = (
        remote("250-old.test\r\n250 8BITMIME").await,
        remote("250-new.test\r\n250-8BITMIME\r\n250 SMTPUTF8").await,
    );
    let world = world(
        Setup::default(),
        &[("remote.test", &old), ("new.test", &new)],
    );
    let text =
        "From: J\u{f6}rg <ann@b\u{fc}cher.test>\r\nSubject: Gr\u{fc}\u{df}e\r\n\r\nsch\u{f6}n\r\n";
    let seal = "ARC-Seal: i=1; cv=none; d=example.org\r\nReceived: from somewhere\r\n";
    let sealed = |passed: &mut Passed| passed.top = Top::new(seal).unwrap();
    pass_text(&world, text, sealed).await;
    let got = old.wait_for(1).await.remove(0);
    assert_eq!(
        got.text,
        "Received: from somewhere\r\nFrom: =?utf-8?q?J=C3=B6rg?= <ann@xn--bcher-kva.test>\r\n\
         Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\nsch\u{f6}n\r\n"
    );
    assert!(got.mail.ends_with(" BODY=8BITMIME"), "{got:?}");
    let to_new = |passed: &mut Passed| {
        sealed(passed);
        passed.recipients[0].address = "x@new.test".parse().unwrap();
    };
    pass_text(&world, text, to_new).await;
    let got = new.wait_for(1).await.remove(0);
    assert_eq!(got.text, format!("{seal}{text}"));
    assert!(got.mail.ends_with(" BODY=8BITMIME SMTPUTF8"), "{got:?}");
    world.stop().await;
}

#[tokio::test]
async fn what_has_no_form_in_ascii_fails_with_the_code_that_says_what() {
    let old = remote("250-old.test\r\n250 8BITMIME").await;
    let world = world(Setup::default(), &[("remote.test", &old)]);
    let check = async |text: &'static str, sender: Option<&str>, code: &str, reason: &str| {
        let change = |passed: &mut Passed| {
            if let Some(sender) = sender {
                passed.reverse_path = sender.parse().unwrap();
            }
            passed.reports = false;
        };
        let id = pass_text(&world, text, change).await;
        let (found, error) = failure(&world, id).await;
        assert_eq!(found, code, "{error}");
        assert!(error.contains(reason), "{error}");
    };
    let signed = "DKIM-Signature: v=1\r\nSubject: \u{fc}\r\n\r\nx\r\n";
    check(signed, None, "5.6.9", "a signature of another system").await;
    let address = "From: <\u{fc}@example.org>\r\n\r\nx\r\n";
    check(address, None, "5.6.9", "an address in its header section").await;
    let sender = "\u{fc}@example.org";
    check(address, Some(sender), "5.6.7", "an address of the envelope").await;
    assert!(old.received().is_empty());
    world.stop().await;
}

#[tokio::test]
async fn binary_mail_goes_on_as_base64() {
    let new = Remote::start(|_, _| None).await;
    let world = world(Setup::default(), &[("remote.test", &new)]);
    let text = "MIME-Version: 1.0\r\nContent-Type: application/x\r\n\
                Content-Transfer-Encoding: binary\r\n\r\na\0\nb";
    pass_text(&world, text, |_| {}).await;
    let got = new.wait_for(1).await.remove(0);
    assert_eq!(
        got.text,
        "Received: from somewhere\r\nMIME-Version: 1.0\r\nContent-Type: application/x\r\n\
         Content-Transfer-Encoding: base64\r\n\r\nYQAKYg==\r\n"
    );
    assert!(!got.mail.contains("BODY"), "{got:?}");
    let signed = "DKIM-Signature: v=1\r\nMIME-Version: 1.0\r\n\r\na\0b\r\n";
    let id = pass_text(&world, signed, |passed| passed.reports = false).await;
    let (code, error) = failure(&world, id).await;
    assert_eq!(code, "5.6.3", "{error}");
    assert!(error.contains("needs BINARYMIME"), "{error}");
    world.stop().await;
}
