//! Dialogs: files of lines with `C:` and `S:`, run with every way of splitting the client's bytes.
//!
//! In a file, `C:` is what the client sends (with CRLF; `\n`, `\r`, `\0`, `\xNN` are escapes and a final `\` leaves the CRLF out), `S:` what
//! it must be answered, and `#` a remark. `tls` stands for a handshake, `config: key` switches something on. Policy takes user `user`
//! with password `pass`, senders and recipients other than `refused@...`, and texts without the word `reject`.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use super::*;
use crate::{Domain, EnhancedCode, Reply, ReplyCode};

fn config() -> SessionConfig {
    SessionConfig {
        hostname: Domain::parse("mx.example.org").unwrap(),
        max_message_size: 1000,
        max_line: 200,
        starttls: true,
        auth: false,
        auth_requires_tls: true,
        require_tls: false,
        require_tls_extension: false,
        dsn: false,
        binary_mime: false,
        max_recipients: 2,
        max_messages: 3,
        max_errors: 3,
        command_timeout: Duration::from_secs(300),
        data_timeout: Duration::from_secs(600),
    }
}

fn switch(config: &mut SessionConfig, word: &str) {
    match word {
        "auth" => config.auth = true,
        "auth-in-clear" => (config.auth, config.auth_requires_tls) = (true, false),
        "require-tls" => config.require_tls = true,
        "dsn" => config.dsn = true,
        "binarymime" => config.binary_mime = true,
        "requiretls" => config.require_tls_extension = true,
        other => panic!("no switch {other}"),
    }
}

/// A policy for dialogs; keeps the texts that it took.
#[derive(Default)]
struct Policy {
    text: Vec<u8>,
}

fn refused() -> Reply {
    Reply::new(
        ReplyCode::new(550).unwrap(),
        Some(EnhancedCode::permanent(7, 1)),
        "refused",
    )
}

impl Policy {
    fn decide(&mut self, question: &Question, session: &mut Session) {
        let verdict = |wrong: bool| if wrong { Err(refused()) } else { Ok(()) };
        let answer = match question {
            Question::Greeting => Ok(()),
            Question::Login(login) => {
                verdict(login.user != "user" || login.password.as_str() != "pass")
            }
            Question::Mail(mail) => verdict(mail.reverse_path.to_string().starts_with("refused@")),
            Question::Rcpt(rcpt) => verdict(rcpt.forward_path.to_string().starts_with("refused@")),
            Question::Data => {
                self.text.clear();
                Ok(())
            }
            Question::End => {
                let text = String::from_utf8_lossy(&self.text).into_owned();
                let reply = if text.contains("reject") {
                    refused()
                } else {
                    Reply::ok(format!("took {}", text.len()))
                };
                session.finish(&reply);
                return;
            }
        };
        session.answer(answer);
    }
}

/// Runs a session until it wants input; gives what it sent, and whether it closed.
fn drain(session: &mut Session, policy: &mut Policy) -> (String, bool) {
    let mut sent = String::new();
    loop {
        match session.poll() {
            Step::Ask(question) => policy.decide(&question, session),
            Step::Body(chunk) => policy.text.extend_from_slice(&chunk),
            Step::Forget => policy.text.clear(),
            step @ (Step::Read | Step::StartTls | Step::Close) => {
                sent.push_str(std::str::from_utf8(&session.take_output()).unwrap());
                return (sent, matches!(step, Step::Close));
            }
        }
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.to_string().as_bytes());
            continue;
        }
        match chars.next() {
            Some('n') => bytes.push(b'\n'),
            Some('r') => bytes.push(b'\r'),
            Some('0') => bytes.push(0),
            Some('x') => {
                let digits: String = chars.by_ref().take(2).collect();
                bytes.push(u8::from_str_radix(&digits, 16).unwrap());
            }
            Some('*') => {
                // `\*300x` is 300 times x.
                let rest: String = chars.by_ref().collect();
                let digits = rest.trim_end_matches(|c: char| !c.is_ascii_digit());
                bytes.extend_from_slice(
                    rest[digits.len()..]
                        .repeat(digits.parse().unwrap())
                        .as_bytes(),
                );
            }
            // At the end of a line: no CRLF.
            None => return bytes,
            Some(c) => panic!("escape {c}"),
        }
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// Plays a dialog, feeding `split` bytes at a time; gives it back as it went.
fn play(dialog: &str, split: usize) -> String {
    let mut settings = config();
    let mut lines = dialog.lines().peekable();
    let mut out = String::new();
    while let Some(line) =
        lines.next_if(|line| line.starts_with('#') || line.starts_with("config: "))
    {
        if let Some(word) = line.strip_prefix("config: ") {
            switch(&mut settings, word);
        }
        writeln!(out, "{line}").unwrap();
    }
    let mut session = Session::new(Arc::new(settings), false);
    let mut policy = Policy::default();
    let mut closed = false;
    let mut note = |out: &mut String, (sent, close): (String, bool)| {
        for line in sent.lines() {
            writeln!(out, "S: {line}").unwrap();
        }
        if close && !std::mem::replace(&mut closed, true) {
            writeln!(out, "closed").unwrap();
        }
    };
    let greeting = drain(&mut session, &mut policy);
    note(&mut out, greeting);
    while let Some(line) = lines.next() {
        if line.starts_with("S: ") || line == "closed" {
            continue;
        }
        writeln!(out, "{line}").unwrap();
        if line == "tls" {
            session.tls_started();
        } else if let Some(text) = line.strip_prefix("C: ").or_else(|| line.strip_prefix("C:")) {
            // Lines of the client that follow each other are sent together.
            let mut bytes = unescape(text);
            while let Some(line) = lines.next_if(|line| line.starts_with("C:")) {
                writeln!(out, "{line}").unwrap();
                bytes.extend(unescape(line[2..].strip_prefix(' ').unwrap_or(&line[2..])));
            }
            let mut sent = (String::new(), false);
            for chunk in bytes.chunks(split) {
                session.input().extend_from_slice(chunk);
                let (more, close) = drain(&mut session, &mut policy);
                sent.0.push_str(&more);
                sent.1 |= close;
                if close {
                    break;
                }
            }
            note(&mut out, sent);
        }
    }
    out
}

#[test]
fn dialogs() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/smtp");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let dialog = std::fs::read_to_string(&path).unwrap();
        if std::env::var_os("UPDATE_DIALOGS").is_some() {
            std::fs::write(&path, play(&dialog, usize::MAX)).unwrap();
            continue;
        }
        for split in [1, 2, 3, 5, 7, 11, 64, usize::MAX] {
            assert_eq!(
                play(&dialog, split),
                dialog,
                "{} by {split}",
                path.display()
            );
        }
        count += 1;
    }
    assert!(
        count >= 8 || std::env::var_os("UPDATE_DIALOGS").is_some(),
        "only {count} dialogs in {folder}"
    );
}

/// The test that STARTTLS was written for (RFC 3207 §4.2): what was injected in clear is never obeyed under TLS.
#[test]
fn what_was_injected_before_tls_is_dropped() {
    let mut session = Session::new(Arc::new(config()), false);
    let mut policy = Policy::default();
    drain(&mut session, &mut policy);
    session
        .input()
        .extend_from_slice(b"EHLO a.example\r\nSTARTTLS\r\nMAIL FROM:<evil@example.com>\r\n");
    let (sent, closed) = drain(&mut session, &mut policy);
    assert!(
        closed && sent.ends_with("503 5.5.1 nothing may follow STARTTLS, closing\r\n"),
        "{sent}"
    );
}

#[test]
fn a_silent_client_is_told_and_dropped() {
    let mut session = Session::new(Arc::new(config()), false);
    drain(&mut session, &mut Policy::default());
    session.timed_out();
    let (sent, closed) = drain(&mut session, &mut Policy::default());
    assert!(closed && sent.starts_with("421 4.4.2"), "{sent}");
}

#[test]
fn a_line_without_end_is_not_gathered_forever() {
    let mut session = Session::new(Arc::new(config()), false);
    drain(&mut session, &mut Policy::default());
    session.input().extend_from_slice(&[b'x'; 3000]);
    let (sent, closed) = drain(&mut session, &mut Policy::default());
    assert!(closed && sent.starts_with("500 5.5.2"), "{sent}");
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_answered(
        bytes in proptest::collection::vec(proptest::sample::select(
            vec!["EHLO a\r\n", "MAIL FROM:<a@b.c>\r\n", "RCPT TO:<a@b.c>\r\n", "DATA\r\n", "BDAT 5\r\n", "BDAT 3 LAST\r\n", "RSET\r\n",
                 "AUTH LOGIN\r\n", "*\r\n", ".\r\n", "\n", "\r", "\0", "abc", "STARTTLS\r\n", "NOOP\r\n"]), 0..40),
        split in 1_usize..20,
    ) {
        let wire = bytes.concat();
        let run = |split: usize| {
            let mut config = config();
            config.auth_requires_tls = false;
            config.starttls = false;
            let mut session = Session::new(Arc::new(config), false);
            let mut policy = Policy::default();
            let (mut all, mut closed) = drain(&mut session, &mut policy);
            for chunk in wire.as_bytes().chunks(split) {
                if closed {
                    break;
                }
                session.input().extend_from_slice(chunk);
                let (sent, close) = drain(&mut session, &mut policy);
                all.push_str(&sent);
                closed = close;
            }
            all
        };
        proptest::prop_assert_eq!(run(split), run(usize::MAX));
    }
}
