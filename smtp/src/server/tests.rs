//! Dialogs as text, run with every way to split the client's bytes, and the session's time limits.
//!
//! | line of a dialog | meaning |
//! |---|---|
//! | `C: text` | the client sends this text and CRLF. `\n`, `\r`, `\0` and `\xNN` are escapes. A final `\` leaves the CRLF out |
//! | `S: text` | the server answers this line |
//! | `tls` | the TLS handshake |
//! | `tls proved` | the same, with a channel binding and a certificate of the client |
//! | `closed` | the server closes the connection |
//! | `config: key` | a setting is on |
//! | `# text` | a remark |
//!
//! The policy accepts the user `user` with the password `pass`, all senders and recipients but
//! `refused@...` and `unknown@...`, and all texts without the words `reject` and `close`.

mod auth;
mod errors;
mod events;
mod reasons;

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use super::*;
use crate::{
    Domain, EnhancedCode, Reply, ReplyCode, TlsInfo,
    sasl::{
        ChannelBindings, Evidence, Login, ScramKeys, ScramOffer, TlsProof, Verdict,
        wrong_credentials,
    },
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn config() -> SessionConfig {
    SessionConfig {
        hostname: Domain::parse("mx.example.org").unwrap(),
        max_message_size: 1000,
        max_line: 200,
        starttls: true,
        auth: false,
        auth_required: false,
        auth_requires_tls: true,
        sasl: SaslConfig::default(),
        require_tls_extension: false,
        dsn: false,
        submission: false,
        binary_mime: false,
        ask_hello: false,
        max_recipients: 2,
        max_messages: 3,
        max_errors: 3,
        command_timeout: 5 * MINUTE,
        data_timeout: 10 * MINUTE,
        message_timeout: 30 * MINUTE,
    }
}

fn switch(config: &mut SessionConfig, word: &str) {
    match word {
        "auth" => (config.auth, config.auth_required) = (true, true),
        "auth-in-clear" => {
            (config.auth, config.auth_required, config.auth_requires_tls) = (true, true, false);
        }
        "auth-optional" => (config.auth, config.auth_requires_tls) = (true, false),
        "scram" => config.sasl.scram = true,
        "oauth" => config.sasl.oauth_scope = Some("mail".to_owned()),
        "many-errors" => config.max_errors = 20,
        "submission" => config.submission = true,
        "dsn" => config.dsn = true,
        "binarymime" => config.binary_mime = true,
        "ask-hello" => config.ask_hello = true,
        "requiretls" => config.require_tls_extension = true,
        other => panic!("no switch {other}"),
    }
}

fn client() -> Client {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 25));
    Client::new(SessionId::of(1), address, address)
}

fn tls() -> TlsInfo {
    TlsInfo {
        version: "TLSv1.3".to_owned(),
        cipher: "TLS_AES_256_GCM_SHA384".to_owned(),
    }
}

fn proof() -> TlsProof {
    TlsProof {
        bindings: Some(ChannelBindings {
            exporter: [b'x'; 32],
            end_point: None,
        }),
        client_key: Some("known".to_owned()),
    }
}

fn refused() -> Reply {
    Reply::fixed(
        ReplyCode::MAILBOX_UNAVAILABLE,
        Some(EnhancedCode::NOT_AUTHORIZED),
        "refused",
    )
}

/// A session with its policy and a clock.
struct Peer {
    session: Session,
    now: Instant,
    /// The text that comes.
    text: Vec<u8>,
    /// The number of clients that took the place of another.
    restarts: usize,
    /// What happened.
    events: Vec<Event>,
    /// All that the server sent, without the name of the session.
    sent: String,
    closed: bool,
}

impl Peer {
    fn new(config: SessionConfig) -> Self {
        Self::of(client(), config)
    }

    fn of(client: Client, config: SessionConfig) -> Self {
        let now = Instant::now();
        let mut peer = Self {
            session: Session::new(Arc::new(config), client, false, now),
            now,
            text: Vec::new(),
            restarts: 0,
            events: Vec::new(),
            sent: String::new(),
            closed: false,
        };
        peer.drain();
        peer
    }

    /// Runs the session until it waits for the client.
    fn drain(&mut self) {
        loop {
            let answer = match self.session.poll_output() {
                Some(Output::Ask(_, question)) => decide(question, &mut self.text),
                Some(Output::Text(piece)) => {
                    self.text.extend_from_slice(&piece);
                    continue;
                }
                Some(Output::Reset) => {
                    self.text.clear();
                    continue;
                }
                Some(Output::Restart) => {
                    self.restarts += 1;
                    continue;
                }
                Some(Output::Happened(_, event)) => {
                    self.events.push(event);
                    continue;
                }
                Some(Output::Send(bytes)) => {
                    self.sent.push_str(&events::without_names(&bytes));
                    self.session.wrote(self.now);
                    continue;
                }
                Some(Output::StartTls) | None => return,
                Some(Output::Closed) => {
                    self.closed = true;
                    return;
                }
            };
            self.session.answer(answer, self.now);
        }
    }

    /// All refusals, in their order.
    fn refusals(&self) -> Vec<&Refused> {
        let refused = self.events.iter().filter_map(|event| match event {
            Event::Refused(refused) => Some(&**refused),
            _ => None,
        });
        refused.collect()
    }

    fn say(&mut self, bytes: &[u8]) {
        if !self.closed {
            self.session.receive(bytes, self.now);
            self.drain();
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.session.timeout(self.now);
        self.drain();
    }

    /// Says the bytes one by one, with this time between them. Gives the time until the server
    /// closes.
    fn dribble(&mut self, bytes: &[u8], pause: Duration) -> Option<Duration> {
        let start = self.now;
        for byte in bytes {
            self.say(&[*byte]);
            self.wait(pause);
            if self.closed {
                return Some(self.now - start);
            }
        }
        None
    }
}

/// The verdict on a login. The user `disabled` may not log in, and the user `busy` not now.
fn login_verdict(login: &Login) -> Verdict {
    let is_right = match &login.evidence {
        Evidence::Password(password) => login.user == "user" && password.as_str() == "pass",
        Evidence::Scram(matched) => *matched == Some(0),
        Evidence::Token(token) => token.as_str() == "good",
        Evidence::Certificate(key) => key == "known",
    };
    let fixed = |code, enhanced, text| Reply::fixed(code, Some(enhanced), text);
    match login.user.as_str() {
        "disabled" => Err(fixed(
            ReplyCode::ACCOUNT_DISABLED,
            EnhancedCode::ACCOUNT_DISABLED,
            "disabled",
        )),
        "busy" => Err(fixed(
            ReplyCode::TEMPORARY_FAILURE,
            EnhancedCode::SECURITY_TRANSIENT,
            "later",
        )),
        _ if is_right => Ok("user".to_owned()),
        _ => Err(wrong_credentials()),
    }
}

fn decide(question: Question<'_>, text: &mut Vec<u8>) -> Answer {
    let verdict = |wrong: bool| if wrong { Err(refused()) } else { Ok(()) };
    match question {
        Question::Greeting => Answer::Accept,
        Question::Hello(name) => verdict(name.starts_with("refused")).into(),
        Question::ScramKeys(request) => Answer::Keys(ScramOffer {
            salt: b"salt".to_vec(),
            rounds: 4096,
            keys: match request.user.as_str() {
                "user" => vec![ScramKeys::derive(
                    request.hash,
                    b"pass",
                    b"salt",
                    4096.try_into().unwrap(),
                )],
                _ => Vec::new(),
            },
            nonce: "server".to_owned(),
        }),
        Question::Login(login) => login_verdict(login).into(),
        Question::Mail(mail) if mail.reverse_path.to_string().starts_with("closed@") => {
            Answer::Reply(refused().closing())
        }
        Question::Mail(mail) => {
            verdict(mail.reverse_path.to_string().starts_with("refused@")).into()
        }
        Question::Rcpt(_, rcpt) if rcpt.forward_path.to_string().starts_with("unknown@") => {
            let code = Some(EnhancedCode::UNKNOWN_MAILBOX);
            Answer::Reply(Reply::fixed(
                ReplyCode::MAILBOX_UNAVAILABLE,
                code,
                "unknown",
            ))
        }
        Question::Rcpt(_, rcpt) => {
            verdict(rcpt.forward_path.to_string().starts_with("refused@")).into()
        }
        Question::Data(_) => {
            text.clear();
            Answer::Accept
        }
        Question::End(_) => {
            let text = String::from_utf8_lossy(text);
            Answer::Reply(if text.contains("reject") {
                refused()
            } else if text.contains("close") {
                Reply::fixed(ReplyCode::UNAVAILABLE, None, "closing")
            } else if text.contains("part") {
                Reply::ok("took the last one").closing()
            } else {
                Reply::ok(format!("took {}", text.len()))
            })
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

/// Plays a dialog with `split` bytes at a time. Gives the dialog as it really went.
fn play(dialog: &str, split: usize) -> String {
    let (mut settings, mut client) = (config(), client());
    let mut lines = dialog.lines().peekable();
    let mut out = String::new();
    while let Some(line) =
        lines.next_if(|line| line.starts_with('#') || line.starts_with("config: "))
    {
        match line.strip_prefix("config: ") {
            Some("xclient") => client.xclient = true,
            Some(word) => switch(&mut settings, word),
            None => {}
        }
        writeln!(out, "{line}").unwrap();
    }
    let mut peer = Peer::of(client, settings);
    let mut closed = false;
    let mut note = |out: &mut String, peer: &mut Peer| {
        for line in std::mem::take(&mut peer.sent).lines() {
            writeln!(out, "S: {line}").unwrap();
        }
        if peer.closed && !std::mem::replace(&mut closed, true) {
            writeln!(out, "closed").unwrap();
        }
    };
    note(&mut out, &mut peer);
    while let Some(line) = lines.next() {
        if line.starts_with("S: ") || line == "closed" {
            continue;
        }
        writeln!(out, "{line}").unwrap();
        if let "tls" | "tls proved" = line {
            peer.session.tls_started(tls(), peer.now);
            if line == "tls proved" {
                peer.session.tls_proved(proof());
            }
        } else if let Some(text) = line.strip_prefix("C: ").or_else(|| line.strip_prefix("C:")) {
            // The client sends lines in a row together.
            let mut bytes = unescape(text);
            while let Some(line) = lines.next_if(|line| line.starts_with("C:")) {
                writeln!(out, "{line}").unwrap();
                bytes.extend(unescape(line[2..].strip_prefix(' ').unwrap_or(&line[2..])));
            }
            bytes.chunks(split).for_each(|chunk| peer.say(chunk));
            note(&mut out, &mut peer);
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

/// A server must never obey commands that were injected in clear (RFC 3207 §4.2).
#[test]
fn what_was_injected_before_tls_is_dropped() {
    let mut peer = Peer::new(config());
    peer.say(b"EHLO a.example\r\nSTARTTLS\r\nMAIL FROM:<evil@example.com>\r\n");
    let end = "554 5.5.1 nothing may follow STARTTLS, closing\r\n";
    assert!(peer.closed && peer.sent.ends_with(end), "{}", peer.sent);
}

#[test]
fn tls_from_the_first_byte_comes_before_the_greeting() {
    let now = Instant::now();
    let mut session = Session::new(Arc::new(config()), client(), true, now);
    assert!(matches!(session.poll_output(), Some(Output::StartTls)));
    assert_eq!(session.deadline(), Some(now + 5 * MINUTE));
    session.tls_started(tls(), now);
    let told = session.poll_output();
    assert!(matches!(
        told,
        Some(Output::Happened(_, Event::Secured { .. }))
    ));
    let asked = session.poll_output();
    assert!(matches!(asked, Some(Output::Ask(client, Question::Greeting)) if client.tls.is_some()));
}

/// Only a session over a driver hears a client before it greets.
fn talks_early(bytes: &[u8]) -> Peer {
    let now = Instant::now();
    let mut session = Session::new(Arc::new(config()), client(), false, now);
    let asked = session.poll_output();
    assert!(matches!(asked, Some(Output::Ask(_, Question::Greeting))));
    session.receive(bytes, now);
    session.answer(Answer::Accept, now);
    let mut peer = Peer {
        session,
        ..Peer::new(config())
    };
    peer.sent.clear();
    peer.drain();
    peer
}

#[test]
fn a_client_that_does_not_wait_for_the_greeting_is_sent_away() {
    for (bytes, reply) in [
        (
            &b"EHLO a.example\r\n"[..],
            "554 5.5.1 you must wait for the greeting, closing\r\n",
        ),
        (
            b"E",
            "554 5.5.1 you must wait for the greeting, closing\r\n",
        ),
        (
            b"\0\xff",
            "554 5.5.1 you must wait for the greeting, closing\r\n",
        ),
        (b"\x16\x03\x01\x02\0\x01", FOREIGN),
        (b"GET / HTTP/1.1\r\nHost: mx.example.org\r\n\r\n", FOREIGN),
        (b"POST /x HTTP/1.0", FOREIGN),
        (b"DELETE /x HTTP/1.1\r\n", FOREIGN),
        (b"PATCH /x HTTP/1.1\r\n", FOREIGN),
        (b"TRACE /x HTTP/1.1\r\n", FOREIGN),
    ] {
        let peer = talks_early(bytes);
        let shown = bytes.escape_ascii();
        assert!(peer.closed, "{shown}");
        assert_eq!(peer.sent, reply, "{shown}");
    }
    assert!(!talks_early(b"").closed);
}

const FOREIGN: &str = "500 5.5.2 this is a mail server, and it speaks SMTP in clear here\r\n";

#[test]
fn tls_without_starttls_is_told_at_its_first_bytes() {
    let mut peer = Peer::new(config());
    peer.sent.clear();
    peer.say(b"\x16");
    assert!(!peer.closed);
    peer.say(b"\x03");
    assert!(peer.closed);
    assert_eq!(peer.sent, FOREIGN);
}

#[test]
fn another_client_takes_the_place_of_the_one_before() {
    let mut config = config();
    (config.auth, config.auth_requires_tls) = (true, false);
    let listed = Client {
        xclient: true,
        ..client()
    };
    let mut peer = Peer::of(listed, config);
    peer.say(b"EHLO proxy.example\r\nAUTH PLAIN AHVzZXIAcGFzcw==\r\n");
    assert!(
        peer.sent.ends_with("235 2.7.0 logged in\r\n"),
        "{}",
        peer.sent
    );
    // Errors of the client before do not count.
    peer.say(b"X\r\nX\r\nX\r\n");
    peer.say(b"XCLIENT ADDR=192.0.2.7 PORT=4711 LOGIN=user HELO=a.example PROTO=ESMTP\r\n");
    assert!(
        peer.sent
            .ends_with("220 mx.example.org ESMTP postrider\r\n")
    );
    assert_eq!(peer.restarts, 1);
    let client = &peer.session.client;
    assert_eq!(client.remote.to_string(), "192.0.2.7:4711");
    assert_eq!(client.helo.as_deref(), Some("a.example"));
    assert!(client.esmtp && client.xclient && client.login.is_none());
    peer.say(b"X\r\nX\r\nX\r\n");
    assert!(!peer.closed);
}

#[test]
fn a_line_without_end_is_not_gathered_forever() {
    let mut peer = Peer::new(config());
    peer.sent.clear();
    peer.say(&[b'x'; 3000]);
    let closed = peer.closed && peer.sent.starts_with("500 5.5.2");
    assert!(closed, "{}", peer.sent);
}

const TOO_SLOW: &str = "421 4.4.2 you took too long, closing\r\n";

fn check_too_slow(peer: &Peer) {
    let closed = peer.closed && peer.sent.ends_with(TOO_SLOW);
    assert!(closed, "{}", peer.sent);
    assert!(peer.text.is_empty(), "the policy keeps a text");
}

/// A client that says `before`, and then one byte of `slow` in each pause, is cut off after this
/// time.
fn cut_off(config: &SessionConfig, before: &str, slow: &str, pause: Duration) -> Duration {
    let mut peer = Peer::new(config.clone());
    peer.say(before.as_bytes());
    let time = peer.dribble(slow.as_bytes(), pause);
    check_too_slow(&peer);
    time.unwrap()
}

const TO_TEXT: &str = "EHLO a.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n";

#[test]
fn a_silent_client_is_cut_off() {
    let mut peer = Peer::new(config());
    peer.wait(5 * MINUTE - SECOND);
    assert!(!peer.closed);
    peer.wait(SECOND);
    check_too_slow(&peer);
}

#[test]
fn a_command_has_a_time_limit_as_a_whole() {
    let slow = "x".repeat(99);
    assert_eq!(cut_off(&config(), "", &slow, MINUTE), 5 * MINUTE);
    let begun = "EHLO a.example\r\nNOOP\r\nMAIL";
    assert_eq!(cut_off(&config(), begun, &slow, MINUTE), 5 * MINUTE);
    // Whole commands may come slowly for ever.
    let mut peer = Peer::new(config());
    for _ in 0..100 {
        peer.wait(4 * MINUTE);
        peer.say(b"NOOP\r\n");
    }
    assert!(!peer.closed);
}

#[test]
fn an_exchange_has_a_time_limit_as_a_whole() {
    let mut config = config();
    (config.auth, config.auth_requires_tls) = (true, false);
    let begun = "EHLO a.example\r\nAUTH LOGIN\r\n";
    assert_eq!(cut_off(&config, begun, &"x".repeat(99), MINUTE), 5 * MINUTE);
    // The line in the middle gives no more time.
    let mut peer = Peer::new(config);
    peer.say(begun.as_bytes());
    peer.wait(4 * MINUTE);
    peer.say(b"dXNlcg==\r\n");
    peer.wait(MINUTE - SECOND);
    assert!(!peer.closed);
    peer.wait(SECOND);
    check_too_slow(&peer);
}

#[test]
fn a_text_has_a_time_limit_as_a_whole_and_one_for_each_read() {
    let data = format!("{TO_TEXT}DATA\r\n");
    let slow = "x".repeat(99);
    assert_eq!(cut_off(&config(), &data, &slow, MINUTE), 30 * MINUTE);
    assert_eq!(cut_off(&config(), &data, "x", 10 * MINUTE), 10 * MINUTE);
    let mut peer = Peer::new(config());
    peer.say(data.as_bytes());
    assert_eq!(peer.dribble(&[b'x'; 29], MINUTE), None);
    peer.say(b"\r\n.\r\n");
    let taken = peer.sent.ends_with("250 2.0.0 took 31\r\n");
    assert!(taken, "{}", peer.sent);
    // The command after the text has the time of a command.
    peer.wait(5 * MINUTE - SECOND);
    assert!(!peer.closed);
}

#[test]
fn chunks_have_the_time_limit_of_one_text() {
    let chunk = format!("{TO_TEXT}BDAT 99\r\n");
    let slow = "x".repeat(98);
    assert_eq!(cut_off(&config(), &chunk, &slow, MINUTE), 30 * MINUTE);
    let mut peer = Peer::new(config());
    peer.say(TO_TEXT.as_bytes());
    for _ in 0..8 {
        peer.say(b"BDAT 1\r\nx");
        peer.wait(4 * MINUTE);
    }
    check_too_slow(&peer);
    assert_eq!(peer.sent.matches("chunk taken").count(), 8);
    // A refused chunk is read to its end. Each piece has the time of a read.
    let refused = "EHLO a.example\r\nBDAT 99\r\n";
    assert_eq!(cut_off(&config(), refused, "x", 10 * MINUTE), 10 * MINUTE);
    assert_eq!(cut_off(&config(), refused, &slow, MINUTE), 30 * MINUTE);
}

#[test]
fn a_chunk_without_a_right_size_ends_the_session() {
    for line in [
        &b"BDAT +5"[..],
        b"BDAT",
        b"bdat -1 LAST",
        b"BDAT 5 FIRST",
        b"BDAT 5 LAST x",
        b"BDAT 99999999999999999999",
        b"BDAT\t5",
        b" BDAT 5",
        b"BDAT 5\xff",
        b"BDAT 5\0",
    ] {
        let mut peer = Peer::new(config());
        peer.say(TO_TEXT.as_bytes());
        let before = peer.sent.len();
        peer.say(&[line, b"\r\nNOOP\r\n"].concat());
        let shown = line.escape_ascii();
        assert!(peer.closed, "{shown}");
        let said = &peer.sent[before..];
        assert!(
            said.starts_with("50") && said.lines().count() == 1,
            "{shown}: {said}"
        );
    }
}

#[test]
fn the_policy_has_all_the_time_it_needs() {
    let now = Instant::now();
    let mut session = Session::new(Arc::new(config()), client(), false, now);
    assert!(matches!(session.poll_output(), Some(Output::Ask(..))));
    assert_eq!(session.deadline(), None);
    let later = now + 60 * MINUTE;
    session.timeout(later);
    session.answer(Answer::Accept, later);
    assert!(matches!(session.poll_output(), Some(Output::Send(_))));
    assert_eq!(session.deadline(), Some(later + 5 * MINUTE));
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_answered(
        bytes in proptest::collection::vec(proptest::sample::select(
            vec!["EHLO a\r\n", "MAIL FROM:<a@b.c>\r\n", "RCPT TO:<a@b.c>\r\n", "DATA\r\n", "BDAT 5\r\n", "BDAT 3 LAST\r\n", "RSET\r\n",
                 "AUTH LOGIN\r\n", "AUTH SCRAM-SHA-256 bixhPXgsbj11c2VyLHI9eA==\r\n", "=\r\n", "*\r\n", ".\r\n", "\n", "\r", "\0", "abc", "STARTTLS\r\n", "NOOP\r\n"]), 0..40),
        split in 1_usize..20,
    ) {
        let wire = bytes.concat();
        let run = |split: usize| {
            let mut config = config();
            config.auth_requires_tls = false;
            config.starttls = false;
            let mut peer = Peer::new(config);
            wire.as_bytes().chunks(split).for_each(|chunk| peer.say(chunk));
            peer.sent
        };
        proptest::prop_assert_eq!(run(split), run(usize::MAX));
    }
}
