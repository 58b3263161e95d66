//! What a recorder has of a dialog.

use base64::{Engine as _, prelude::BASE64_STANDARD as STANDARD};
use postrider_smtp::{
    client::{Direction, Recorder},
    sasl::Secret,
};
use proptest::prelude::*;

use super::{
    opening::{logging_in, login, opened},
    *,
};

/// The lines of the recording of a message, as a dialog: `C`, `S`, and `*` for a note.
fn recorded(config: &SessionConfig, mails: &[Mail], dialog: &str, of: Option<usize>) -> String {
    let recorder = Recorder::new(Instant::now());
    let config = SessionConfig {
        recorder: Some(recorder.clone()),
        ..config.clone()
    };
    run(&config, mails, dialog, 1000);
    let lines = recorder.recording(of).lines.into_iter();
    let lines = lines.map(|line| match line.direction {
        Direction::Sent => format!("C {}", line.text),
        Direction::Received => format!("S {}", line.text),
        Direction::Note => format!("* {}", line.text),
    });
    lines.collect::<Vec<_>>().join("\n")
}

const OPENING: &str = "S 220 mx.x.org ready\nC EHLO client.example.org\nS 250 mx.x.org\n";

#[test]
fn a_text_is_its_size() {
    let dialog = format!(
        "{PLAIN}C: MAIL FROM:<s@example.org>\nS: 250 2.1.0 ok\nC: RCPT TO:<a@x.org>\n\
         S: 250-2.1.5 it is\nS: 250 2.1.5 there\nC: DATA\nS: 354 go\nC: private\nC: .\n\
         S: 554 5.7.1 no"
    );
    let expected = format!(
        "{OPENING}C MAIL FROM:<s@example.org>\nS 250 2.1.0 ok\nC RCPT TO:<a@x.org>\n\
         S 250-2.1.5 it is\nS 250 2.1.5 there\nC DATA\nS 354 go\nC (9 bytes of text)\n\
         S 554 5.7.1 no"
    );
    let mails = [mail(&["a"], "private\r\n")];
    assert_eq!(recorded(&config(), &mails, &dialog, Some(0)), expected);
}

#[test]
fn a_transcript_has_nothing_of_other_messages() {
    let mails = [mail(&["a"], "1\r\n"), mail(&["b"], "2\r\n")];
    let dialog = format!(
        "{PLAIN}C: MAIL FROM:<s@example.org>\nS: 250 ok\nC: RCPT TO:<a@x.org>\nS: 550 no\n\
         C: RSET\nS: 250 ok\nC: MAIL FROM:<s@example.org>\nS: 250 ok\nC: RCPT TO:<b@x.org>\n\
         X: lost"
    );
    let end = "* connection closed by the server";
    let first = recorded(&config(), &mails, &dialog, Some(0));
    let mail = "C MAIL FROM:<s@example.org>\nS 250 ok\n";
    let reset = "C RSET\nS 250 ok\n";
    let expected = format!("{OPENING}{mail}C RCPT TO:<a@x.org>\nS 550 no\n{reset}{end}");
    assert_eq!(first, expected);
    let second = recorded(&config(), &mails, &dialog, Some(1));
    let expected = format!("{OPENING}{reset}{mail}C RCPT TO:<b@x.org>\n{end}");
    assert_eq!(second, expected);
}

#[test]
fn what_a_login_says_is_hidden() {
    let steps = "C: AUTH LOGIN\nS: 334 VXNlcg==\nC: dQ==\nS: 334 UGFzcw==\nC: cA==\n";
    let shown = "C AUTH LOGIN\nS 334 ***\nC ***\nS 334 ***\nC ***\n";
    let plain = "C: AUTH PLAIN AHUAcA==\n";
    for (mechanism, dialog, expected) in [
        (
            "LOGIN",
            format!("{steps}S: 535 5.7.8 wrong"),
            format!("{shown}S 535 5.7.8 wrong"),
        ),
        (
            "LOGIN",
            format!("{steps}S: 535 5.7.8 what is cA==?"),
            format!("{shown}S 535 ***"),
        ),
        (
            "PLAIN",
            format!("{plain}S: 535 5.7.8 wrong"),
            "C AUTH PLAIN ***\nS 535 5.7.8 wrong".to_owned(),
        ),
    ] {
        let config = logging_in(login(&[]));
        let dialog = format!("{}{dialog}", opened(mechanism));
        let found = recorded(&config, &[], &dialog, None);
        assert!(found.ends_with(&expected), "{found}");
    }
}

proptest! {
    /// However a server answers a login, and even if it repeats what it got, no password is in the
    /// transcript.
    #[test]
    fn no_password_is_recorded(
        password in "[a-z0-9]{12,40}",
        mechanism in prop_oneof![Just("PLAIN"), Just("LOGIN")],
        code in prop_oneof![Just(235), Just(334), Just(421), Just(454), Just(535)],
        repeats: bool,
    ) {
        let mut credentials = login(&[]);
        credentials.login.secret = Secret::Password(password.clone().into());
        let recorder = Recorder::new(Instant::now());
        let config = SessionConfig {
            recorder: Some(recorder.clone()),
            ..logging_in(credentials)
        };
        let now = Instant::now();
        let mut session = Session::new(config, now);
        let mut secrets = vec![password.clone(), STANDARD.encode(&password)];
        for round in 0..6 {
            let mut last = String::new();
            while let Some(output) = session.poll_output() {
                match output {
                    Output::Send(bytes) => {
                        last = String::from_utf8_lossy(&bytes).trim().to_owned();
                        session.wrote(now);
                    }
                    Output::Closed => break,
                    _ => {}
                }
            }
            let word = last.rsplit(' ').next().unwrap_or_default();
            if last.starts_with("AUTH PLAIN") {
                secrets.push(word.to_owned());
            }
            let asks = mechanism == "LOGIN" && (2..4).contains(&round);
            let reply = match round {
                0 => "220 mx\r\n".to_owned(),
                1 => format!("250-mx\r\n250 AUTH {mechanism}\r\n"),
                _ if asks => "334 UGFzcw==\r\n".to_owned(),
                _ if repeats => format!("{code} you said {word}\r\n"),
                _ => format!("{code} \r\n"),
            };
            session.receive(reply.as_bytes(), now);
        }
        for line in recorder.recording(None).lines {
            for secret in &secrets {
                prop_assert!(!line.text.contains(secret.as_str()), "{}", line.text);
            }
        }
    }
}
