//! What the policy is told of, with its facts.

use std::time::Duration;

use super::{Event, MINUTE, Peer, Refused, SECOND, Session, TO_TEXT, Verb, config, tls};
use crate::{ReplyCode, sasl::Mechanism, sasl::ScramHash};

/// What is refused in a session in which the client does this.
fn refused(client: impl FnOnce(&mut Peer)) -> Vec<Refused> {
    let mut peer = Peer::new(config());
    client(&mut peer);
    peer.refusals().into_iter().cloned().collect()
}

#[test]
fn each_refusal_is_told_once_with_its_facts() {
    let says = |text: &'static str| {
        refused(move |peer| {
            peer.say(b"EHLO client.test\r\n");
            peer.say(text.as_bytes());
        })
    };
    for (text, reply, from, to) in [
        ("BDAT +5\r\n", "501 ", "", ""),
        (
            "STARTTLS\r\nNOOP\r\n",
            "554 5.5.1 nothing may follow",
            "",
            "",
        ),
        (
            "GET / HTTP/1.1\r\nHost: x\r\n",
            "500 5.5.2 this is a mail",
            "",
            "",
        ),
        ("NONSENSE\r\n", "500 ", "", ""),
        ("EXPN x\r\n", "502 ", "", ""),
        ("RCPT TO:<a@b.test>\r\n", "503 ", "", "a@b.test"),
        ("BDAT 2\r\nab", "503 ", "", ""),
        ("NOOP\n", "500 ", "", ""),
        (
            "MAIL FROM:<refused@b.test>\r\n",
            "550 ",
            "refused@b.test",
            "",
        ),
        (
            "MAIL FROM:<a@b.test>\r\nRCPT TO:<refused@d.test>\r\n",
            "550 ",
            "a@b.test",
            "refused@d.test",
        ),
        (
            "MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nRCPT TO:<e@d.test>\r\nDATA\r\nreject\r\n.\r\n",
            "550 ",
            "a@b.test",
            "c@d.test e@d.test",
        ),
        (
            "MAIL FROM:<>\r\nRCPT TO:<c@d.test>\r\nDATA\r\na\nb\r\n.\r\n",
            "554 5.5.2 ",
            "",
            "c@d.test",
        ),
        ("AUTH PLAIN\r\n", "502 ", "", ""),
        ("VRFY\r\n", "501 ", "", ""),
    ] {
        let refused = says(text);
        let [refused] = refused.as_slice() else {
            panic!("{text:?}: {refused:?}")
        };
        let said = refused.reply.to_string();
        assert!(said.starts_with(reply), "{said}");
        assert_eq!((&*refused.from, &*refused.to), (from, to), "{text}");
        assert_eq!(refused.login, None);
        let has_number = refused.name.to_string() == "000000000001.1";
        assert_eq!(has_number, text.starts_with("MAIL"), "{text}");
    }
    assert!(says("NOOP\r\nRSET\r\nHELP\r\nVRFY x\r\nQUIT\r\n").is_empty());
}

#[test]
fn an_end_by_time_is_told_with_the_sender() {
    let late = |text: &'static str| {
        refused(move |peer| {
            peer.say(b"EHLO client.test\r\n");
            peer.say(text.as_bytes());
            peer.wait(5 * MINUTE);
            peer.wait(5 * MINUTE);
            assert!(peer.closed, "{text}");
        })
    };
    for (text, from) in [
        ("", ""),
        (TO_TEXT, "a@b.example"),
        (
            "MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\nbegun",
            "a@b.test",
        ),
        ("MAIL FROM:<a@b.test>\r\n", "a@b.test"),
    ] {
        let refused = late(text);
        let [refused] = refused.as_slice() else {
            panic!("{text:?}: {refused:?}")
        };
        let said = refused.reply.to_string();
        assert!(said.starts_with("421 4.4.2 you took too long"), "{said}");
        assert_eq!(refused.from, from);
    }
}

#[test]
fn the_end_by_too_many_errors_is_a_refusal_of_its_own() {
    let refused = refused(|peer| peer.say(&b"NONSENSE\r\n".repeat(9)));
    assert_eq!(refused.len(), 5, "{refused:?}");
    let last = refused.last().unwrap().reply.to_string();
    assert!(last.contains("421 4.7.0 too many errors"), "{last}");
}

#[test]
fn a_key_in_the_place_of_a_user_is_not_told() {
    use base64::{Engine, engine::general_purpose::STANDARD};

    for (user, shown) in [
        ("prk_7_secret", "(not an address)"),
        ("ann@example.org", "ann@example.org"),
    ] {
        let response = STANDARD.encode(format!("\0{user}\0guessed"));
        let refused = refused(|peer| {
            *peer = Peer::new(with_auth());
            peer.say(b"EHLO client.test\r\n");
            peer.say(format!("AUTH PLAIN {response}\r\n").as_bytes());
        });
        let [refused] = refused.as_slice() else {
            panic!("{refused:?}")
        };
        let login = refused.login.as_ref().unwrap();
        assert_eq!((login.mechanism, &*login.user), (Mechanism::Plain, shown));
        assert!(!format!("{refused:?}").contains("guessed"), "{refused:?}");
    }
}

#[test]
fn a_wrong_proof_is_told_once_however_the_client_goes_on() {
    let error = "ZT1pbnZhbGlkLXByb29m";
    // The client leaves, gives up, or acknowledges the error.
    for end in ["", "*\r\n", "\r\n"] {
        let refused = refused(|peer| {
            let mut config = with_auth();
            config.sasl.scram = true;
            *peer = Peer::new(config);
            peer.say(b"EHLO client.test\r\n");
            // `n,,n=a@b.test,r=client` and `c=biws,r=clientserver,p=AAAA`.
            peer.say(b"AUTH SCRAM-SHA-256 biwsbj1hQGIudGVzdCxyPWNsaWVudA==\r\n");
            peer.say(b"Yz1iaXdzLHI9Y2xpZW50c2VydmVyLHA9QUFBQQ==\r\n");
            assert!(peer.sent.ends_with(&format!("334 {error}\r\n")));
            peer.say(end.as_bytes());
        });
        let [refused] = refused.as_slice() else {
            panic!("{end:?}: {refused:?}")
        };
        assert!(refused.reply.to_string().starts_with("535 5.7.8"));
        let login = refused.login.as_ref().unwrap();
        assert_eq!(login.mechanism, Mechanism::Scram(ScramHash::Sha256));
        assert_eq!(login.user, "a@b.test");
    }
}

#[test]
fn each_command_is_told_with_its_reply_and_its_time() {
    let mut peer = Peer::new(config());
    peer.say(b"EHLO client.test\r\nNONSENSE\r\n");
    peer.say(b"MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nRCPT TO:<refused@d.test>\r\n");
    peer.say(b"DATA\r\nHello");
    // The time in which the text comes is not that of the server.
    peer.wait(SECOND);
    peer.say(b".\r\n.\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nBDAT 2\r\n\r\n");
    peer.say(b"BDAT 2 LAST\r\n\r\nSTARTTLS\r\n");
    peer.session.tls_started(tls(), peer.now + SECOND);
    peer.drain();
    let told = peer.events.iter().filter_map(|event| match event {
        Event::Hello => Some("hello".to_owned()),
        Event::Secured { took } => Some(format!("secured after {took:?}")),
        Event::Replied { verb, code, took } => {
            assert!(took.is_zero());
            Some(format!("{verb:?} {code}"))
        }
        _ => None,
    });
    let expected = "hello, Ehlo 250, Other 500, Mail 250, Rcpt 250, Rcpt 550, Data 354, Data 250, \
                    Mail 250, Rcpt 250, Bdat 250, Bdat 250, StartTls 220, secured after 1s";
    assert_eq!(told.collect::<Vec<_>>().join(", "), expected);
}

#[test]
fn the_time_of_a_command_is_that_of_the_policy() {
    let mut peer = Peer::new(config());
    peer.say(b"EHLO client.test\r\n");
    peer.session
        .receive(b"MAIL FROM:<a@b.test>\r\nNOOP\r\n", peer.now);
    while !matches!(peer.session.poll_output(), Some(super::Output::Ask(..))) {}
    peer.now += SECOND;
    peer.session.answer(super::Answer::Accept, peer.now);
    peer.drain();
    let took = peer.events.iter().rev().filter_map(|event| match event {
        Event::Replied { verb, code, took } => Some((*verb, *code, *took)),
        _ => None,
    });
    let took: Vec<_> = took.take(2).collect();
    let ok = ReplyCode::OK;
    let expected = [(Verb::Noop, ok, Duration::ZERO), (Verb::Mail, ok, SECOND)];
    assert_eq!(took, expected);
}

#[test]
fn transactions_are_numbered() {
    let mut peer = Peer::new(config());
    peer.say(b"EHLO client.test\r\nMAIL FROM:<refused@b.test>\r\nMAIL FROM:<a@b.test>\r\nRSET\r\n");
    peer.say(b"NONSENSE\r\nMAIL FROM:<a@b.test>\r\nNONSENSE\r\n");
    let names = peer.refusals().into_iter().map(|it| it.name.transaction);
    assert_eq!(names.collect::<Vec<_>>(), [1, 0, 3]);
}

fn with_auth() -> super::SessionConfig {
    super::SessionConfig {
        auth: true,
        auth_requires_tls: false,
        ..config()
    }
}

/// A server holds ten thousand idle sessions, so each field costs memory.
#[test]
fn a_session_is_small() {
    let size = size_of::<Session>();
    assert!(size <= 640, "{size} bytes");
}

/// The replies without the name of the session or the transaction, which each refusal has at its
/// end, and each reply to a message that is taken. So a dialog tells what is said.
pub(super) fn without_names(bytes: &[u8]) -> String {
    let mut sent = String::new();
    for line in std::str::from_utf8(bytes).unwrap().split_inclusive("\r\n") {
        let named = line
            .strip_suffix(")\r\n")
            .and_then(|it| it.rsplit_once(" (000000000001"));
        let is_refusal = line.starts_with(['4', '5']) && line.get(3..4) == Some(" ");
        let is_taken = line.starts_with("250 2.0.0 took ");
        assert_eq!(named.is_some(), is_refusal || is_taken, "{line}");
        match named {
            Some((text, number)) => {
                assert!(
                    !is_taken || number.starts_with(".") && number != ".0",
                    "{line}"
                );
                sent.push_str(text);
                sent.push_str("\r\n");
            }
            None => sent.push_str(line),
        }
    }
    sent
}
