//! Each refusal is one line of the log, with its facts.

use std::{
    fmt::{Debug, Write as _},
    sync::{Arc, Mutex},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use super::{MINUTE, Peer, TO_TEXT, config};

/// Keeps the lines from level INFO on, as `message field=value ...`.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.0.insert_str(0, &format!("{value:?}")),
            name => write!(self.0, " {name}={value:?}").unwrap(),
        }
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// The lines of the log, of a session in which the client does this.
fn logged(client: impl FnOnce(&mut Peer)) -> Vec<String> {
    // The line is known to the library before a subscriber asks for it. A test in another thread,
    // which has no subscriber, would switch it off otherwise.
    Peer::new(config()).say(b"NONSENSE\r\n");
    let lines = Lines::default();
    tracing::subscriber::with_default(lines.clone(), || client(&mut Peer::new(config())));
    let lines = lines.0.lock().unwrap();
    lines.clone()
}

#[test]
fn each_refusal_is_logged_once_with_its_facts() {
    let says = |text: &'static str| {
        logged(move |peer| {
            peer.say(b"EHLO client.test\r\n");
            peer.say(text.as_bytes());
        })
    };
    for (text, reply) in [
        ("BDAT +5\r\n", "501 "),
        ("STARTTLS\r\nNOOP\r\n", "554 5.5.1 nothing may follow"),
        ("GET / HTTP/1.1\r\nHost: x\r\n", "500 5.5.2 this is a mail"),
        ("NONSENSE\r\n", "500 "),
        ("EXPN x\r\n", "502 "),
        ("RCPT TO:<a@b.test>\r\n", "503 "),
        ("BDAT 2\r\nab", "503 "),
        ("NOOP\n", "500 "),
        ("MAIL FROM:<refused@b.test>\r\n", "550 "),
        ("AUTH PLAIN\r\n", "502 "),
        ("VRFY\r\n", "501 "),
    ] {
        let lines = says(text);
        let [line] = lines.as_slice() else {
            panic!("{text:?}: {lines:?}")
        };
        for part in ["refused", "session=", "remote=127.0.0.1:25", "client.test"] {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert!(line.contains(&format!("reply={reply}")), "{line}");
    }
    assert_eq!(says("NOOP\r\nRSET\r\nHELP\r\nVRFY x\r\nQUIT\r\n"), [""; 0]);
}

#[test]
fn an_end_by_time_is_logged_with_the_sender() {
    let late = |text: &'static str| {
        logged(move |peer| {
            peer.say(b"EHLO client.test\r\n");
            peer.say(text.as_bytes());
            peer.wait(5 * MINUTE);
            peer.wait(5 * MINUTE);
            assert!(peer.closed, "{text}");
        })
    };
    for (text, address) in [
        ("", "\"\""),
        (TO_TEXT, "\"a@b.example\""),
        (
            "MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\nbegun",
            "\"a@b.test\"",
        ),
        ("MAIL FROM:<a@b.test>\r\n", "\"a@b.test\""),
    ] {
        let lines = late(text);
        let [line] = lines.as_slice() else {
            panic!("{text:?}: {lines:?}")
        };
        assert!(line.contains("reply=421 4.4.2 you took too long"), "{line}");
        assert!(line.contains(&format!("address={address}")), "{line}");
    }
}

#[test]
fn the_end_by_too_many_errors_is_a_refusal_of_its_own() {
    let lines = logged(|peer| peer.say(&b"NONSENSE\r\n".repeat(9)));
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(lines.last().unwrap().contains("421 4.7.0 too many errors"));
}

#[test]
fn a_key_in_the_place_of_a_user_is_not_logged() {
    use base64::{Engine, engine::general_purpose::STANDARD};

    for (user, shown) in [("prk_7_secret", false), ("ann@example.org", true)] {
        let response = STANDARD.encode(format!("\0{user}\0guessed"));
        let lines = logged(|peer| {
            peer.session = Peer::new(with_auth()).session;
            peer.say(b"EHLO client.test\r\n");
            peer.say(format!("AUTH PLAIN {response}\r\n").as_bytes());
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(lines[0].contains(user), shown, "{lines:?}");
        assert!(!lines[0].contains("guessed"), "{lines:?}");
    }
}

#[test]
fn a_wrong_proof_is_logged_once_however_the_client_goes_on() {
    let error = "ZT1pbnZhbGlkLXByb29m";
    // The client leaves, gives up, or acknowledges the error.
    for end in ["", "*\r\n", "\r\n"] {
        let lines = logged(|peer| {
            let mut config = with_auth();
            config.sasl.scram = true;
            peer.session = Peer::new(config).session;
            peer.say(b"EHLO client.test\r\n");
            // `n,,n=a@b.test,r=client` and `c=biws,r=clientserver,p=AAAA`.
            peer.say(b"AUTH SCRAM-SHA-256 biwsbj1hQGIudGVzdCxyPWNsaWVudA==\r\n");
            peer.say(b"Yz1iaXdzLHI9Y2xpZW50c2VydmVyLHA9QUFBQQ==\r\n");
            assert!(peer.sent.ends_with(&format!("334 {error}\r\n")));
            peer.say(end.as_bytes());
        });
        let [line] = lines.as_slice() else {
            panic!("{end:?}: {lines:?}")
        };
        for part in ["refused", "a@b.test", "reply=535 5.7.8"] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
}

fn with_auth() -> super::SessionConfig {
    super::SessionConfig {
        auth: true,
        auth_requires_tls: false,
        ..config()
    }
}
