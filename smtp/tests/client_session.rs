//! Dialogs of the client session, run with every way of cutting the server's bytes.
//!
//! `C:` lines in a row are what the client must send without waiting in between, `S:` lines what the server answers. `X:` is
//! something else that happens: `tls` (the handshake is asked for, and succeeds), `lost`, `timeout`, `quit`.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is how they fail"
)]

use std::time::{Duration, Instant};

use postrider_smtp::{
    Address, BodyType, Cause, ReversePath,
    client::{
        Again, Envelope, Login, OutgoingResult, Output, Security, Session, SessionConfig, Timeouts,
    },
};

/// A message from `s@example.org`.
struct Mail {
    envelope: Envelope,
    text: String,
}

fn mail(to: &[&str], text: &str) -> Mail {
    let recipients = to
        .iter()
        .map(|to| Address::parse(&format!("{to}@x.org")).unwrap().into())
        .collect();
    Mail {
        envelope: Envelope {
            reverse_path: ReversePath::parse("s@example.org").unwrap(),
            body_type: BodyType::SevenBit,
            smtputf8: false,
            require_tls: false,
            ret: None,
            envid: None,
            recipients,
        },
        text: text.to_owned(),
    }
}

fn config() -> SessionConfig {
    SessionConfig {
        helo: "client.example.org".to_owned(),
        remote: "mx.x.org [192.0.2.1]".to_owned(),
        security: Security::Never,
        login: None,
        timeouts: Timeouts::default(),
        lmtp: false,
        chunking: true,
    }
}

/// Runs a session as a driver does.
struct Run<'a> {
    session: Session,
    mails: &'a [Mail],
    now: Instant,
    sent: String,
    handshake: bool,
    results: Option<Vec<OutgoingResult>>,
}

impl Run<'_> {
    fn drain(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Send(bytes) => {
                    self.sent.push_str(std::str::from_utf8(&bytes).unwrap());
                    self.session.wrote(self.now);
                }
                Output::Read {
                    message,
                    offset,
                    max,
                } => {
                    let start = usize::try_from(offset).unwrap();
                    // In small pieces, as a file in small blocks.
                    let text = self.mails[message].text.as_bytes();
                    self.session
                        .text(text.get(start..text.len().min(start + max.min(5))));
                }
                Output::StartTls => self.handshake = true,
                Output::Ready => {
                    let mails = self.mails.iter();
                    let messages =
                        mails.map(|mail| (mail.envelope.clone(), mail.text.len() as u64));
                    self.session.submit(messages.collect::<Vec<_>>(), self.now);
                }
                Output::Done => self.results = Some(self.session.results()),
                Output::Closed => break,
            }
        }
    }

    fn event(&mut self, what: &str) {
        match what {
            "tls" => {
                assert!(
                    std::mem::take(&mut self.handshake),
                    "no handshake asked for"
                );
                self.session.tls_started(self.now);
            }
            "lost" => self.session.lost(""),
            "timeout" => {
                self.now = self.session.deadline().expect("something is awaited");
                self.session.timeout(self.now - Duration::from_nanos(1));
                assert!(self.session.closed().is_none());
                self.session.timeout(self.now);
            }
            "quit" => self.session.quit(self.now),
            other => panic!("unknown event {other}"),
        }
        self.drain();
    }
}

/// One recipient's result, shown.
fn show(result: &OutgoingResult) -> Vec<String> {
    let shown = result.recipients.iter().map(|result| {
        let status = &result.status;
        assert_eq!(status.remote.as_deref(), Some("mx.x.org [192.0.2.1]"));
        let kind = match () {
            () if status.is_success() => "ok",
            () if status.permanent => "failed",
            () => "later",
        };
        let cause = if status.cause == Cause::Reply {
            String::new()
        } else {
            format!("{:?} ", status.cause)
        };
        let again = match result.again {
            Again::No => "",
            again => &format!(" {again:?}"),
        };
        let line = status.to_string();
        let line = line.strip_prefix("mx.x.org [192.0.2.1]: ").unwrap_or(&line);
        format!("{kind} {cause}{line}{again}")
    });
    shown.collect()
}

fn run<'a>(config: &SessionConfig, mails: &'a [Mail], dialog: &str, step: usize) -> Run<'a> {
    let now = Instant::now();
    let session = Session::new(config.clone(), now);
    let mut run = Run {
        session,
        mails,
        now,
        sent: String::new(),
        handshake: false,
        results: None,
    };
    let lines: Vec<_> = dialog
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    for group in lines.chunk_by(|a, b| a.get(..2) == b.get(..2)) {
        let text = |line: &&str| format!("{}\r\n", line[2..].strip_prefix(' ').unwrap_or_default());
        let bytes: String = group.iter().map(text).collect();
        match &group[0][..2] {
            "C:" => assert_eq!(std::mem::take(&mut run.sent), bytes, "cut by {step}"),
            "S:" => {
                assert_eq!(run.sent, "", "sent too early, cut by {step}");
                for piece in bytes.as_bytes().chunks(step) {
                    run.session.receive(piece, now);
                    run.drain();
                }
            }
            _ => group.iter().for_each(|line| run.event(line[2..].trim())),
        }
    }
    assert_eq!(run.sent, "", "sent and not expected");
    run
}

/// The dialog goes like that, and the results are these: one line a recipient, a `--` between messages.
fn check_with(config: &SessionConfig, mails: &[Mail], dialog: &str, expected: &[&str]) -> Session {
    let mut last = None;
    for step in (1..=40).chain([1000]) {
        let mut run = run(config, mails, dialog, step);
        let results = run.results.take().expect("the messages are done");
        let shown: Vec<_> = results
            .iter()
            .map(|result| show(result).join("\n"))
            .collect();
        assert_eq!(shown.join("\n--\n"), expected.join("\n"), "cut by {step}");
        last = Some(run.session);
    }
    last.unwrap()
}

fn check(mails: &[Mail], dialog: &str, expected: &[&str]) -> Session {
    check_with(&config(), mails, dialog, expected)
}

/// The session ends before anything can be sent, and says why.
fn check_closed(config: &SessionConfig, dialog: &str, expected: &str) {
    for step in (1..=40).chain([1000]) {
        let run = run(config, &[], dialog, step);
        let status = run.session.closed().expect("closed");
        let permanent = if status.permanent {
            "permanent"
        } else {
            "transient"
        };
        let shown = format!("{permanent} {:?} {status}", status.cause);
        assert_eq!(
            shown,
            expected.replacen(": ", " mx.x.org [192.0.2.1]: ", 1),
            "cut by {step}"
        );
    }
}

const PLAIN: &str = "S: 220 mx.x.org ready
    C: EHLO client.example.org
    S: 250 mx.x.org\n";
const PIPELINING: &str = "S: 220 mx.x.org ready
    C: EHLO client.example.org
    S: 250-mx.x.org
    S: 250 PIPELINING\n";
const CHUNKING: &str = "S: 220-mx.x.org
    S: 220 ready
    C: EHLO client.example.org
    S: 250-mx.x.org
    S: 250-PIPELINING
    S: 250 CHUNKING\n";

#[test]
fn in_lock_step() {
    let dialog = format!(
        "{PLAIN} C: MAIL FROM:<s@example.org>
        S: 250 ok
        C: RCPT TO:<a@x.org>
        S: 250 ok
        C: RCPT TO:<b@x.org>
        S: 550 5.1.1 who?
        C: DATA
        S: 354 go
        C: Subject: x
        C:
        C: ..
        C: .
        S: 250 2.0.0 queued as 1"
    );
    let expected = [
        "ok end of data: 250 2.0.0 queued as 1",
        "failed RCPT: 550 5.1.1 who?",
    ];
    let session = check(
        &[mail(&["a", "b"], "Subject: x\r\n\r\n.\r\n")],
        &dialog,
        &expected,
    );
    assert!(session.usable());
}

#[test]
fn pipelined_over_several_messages() {
    let dialog = format!(
        "{PIPELINING} C: MAIL FROM:<s@example.org>
        C: RCPT TO:<a@x.org>
        C: DATA
        S: 250 ok
        S: 250 ok
        S: 354 go
        C: one
        C: .
        C: MAIL FROM:<s@example.org>
        C: RCPT TO:<b@x.org>
        C: DATA
        S: 451 not now
        S: 250 ok
        S: 250 ok
        S: 354 go
        C: two
        C: .
        S: 250 queued"
    );
    let mails = [mail(&["a"], "one\r\n"), mail(&["b"], "two")];
    check(
        &mails,
        &dialog,
        &[
            "later end of data: 451 not now",
            "--",
            "ok end of data: 250 queued",
        ],
    );
}

#[test]
fn chunks_need_no_waiting_at_all() {
    let dialog = format!(
        "{CHUNKING} C: MAIL FROM:<s@example.org>
        C: RCPT TO:<a@x.org>
        C: BDAT 5 LAST
        C: one
        C: RSET
        C: MAIL FROM:<s@example.org>
        C: RCPT TO:<b@x.org>
        C: BDAT 3 LAST
        C: .
        S: 250 ok
        S: 550 no
        S: 503 no recipients
        S: 250 reset
        S: 250 ok
        S: 250 ok
        S: 250 queued"
    );
    let mails = [mail(&["a"], "one\r\n"), mail(&["b"], ".\r\n")];
    check(
        &mails,
        &dialog,
        &["failed RCPT: 550 no", "--", "ok BDAT: 250 queued"],
    );
}

#[test]
fn a_large_text_waits_for_its_recipients() {
    let text = format!("{}\r\n", "x".repeat(70_000));
    let dialog = format!(
        "{CHUNKING} C: MAIL FROM:<s@example.org>
        C: RCPT TO:<a@x.org>
        S: 250 ok
        S: 550 no
        C: RSET
        C: MAIL FROM:<s@example.org>
        C: RCPT TO:<b@x.org>
        S: 250 ok
        S: 250 ok
        S: 250 ok
        C: BDAT 70002 LAST
        C: {}
        S: 250 queued",
        text.trim_end()
    );
    let mails = [mail(&["a"], &text), mail(&["b"], &text)];
    check(
        &mails,
        &dialog,
        &["failed RCPT: 550 no", "--", "ok BDAT: 250 queued"],
    );
}

#[test]
fn a_refused_sender_in_lock_step() {
    let dialog = format!(
        "{PLAIN} C: MAIL FROM:<s@example.org>
        S: 550 5.7.1 blocked
        C: MAIL FROM:<s@example.org>
        S: 450 later"
    );
    let mails = [mail(&["a", "b"], "x"), mail(&["c"], "x")];
    let expected = [
        "failed MAIL: 550 5.7.1 blocked",
        "failed MAIL: 550 5.7.1 blocked",
        "--",
        "later MAIL: 450 later",
    ];
    check(&mails, &dialog, &expected);
}

#[test]
fn a_refused_sender_pipelined() {
    let dialog = format!(
        "{PIPELINING} C: MAIL FROM:<s@example.org>
        C: RCPT TO:<a@x.org>
        C: DATA
        S: 550 5.7.1 blocked
        S: 503 need MAIL
        S: 503 need RCPT
        C: RSET
        C: MAIL FROM:<s@example.org>
        C: RCPT TO:<b@x.org>
        C: DATA
        S: 250 ok
        S: 250 ok
        S: 250 ok
        S: 354 go
        C: x
        C: .
        S: 250 ok"
    );
    let mails = [mail(&["a"], "x\r\n"), mail(&["b"], "x\r\n")];
    check(
        &mails,
        &dialog,
        &[
            "failed MAIL: 550 5.7.1 blocked",
            "--",
            "ok end of data: 250 ok",
        ],
    );
}

#[test]
fn no_recipient_left_in_lock_step() {
    let dialog = format!(
        "{PLAIN} C: MAIL FROM:<s@example.org>
        S: 250 ok
        C: RCPT TO:<a@x.org>
        S: 550 no
        C: RSET
        S: 250 ok
        C: MAIL FROM:<s@example.org>
        S: 250 ok
        C: RCPT TO:<b@x.org>
        S: 450 later"
    );
    let mails = [mail(&["a"], "x"), mail(&["b"], "x")];
    check(
        &mails,
        &dialog,
        &["failed RCPT: 550 no", "--", "later RCPT: 450 later"],
    );
}

#[test]
fn no_recipient_left_but_the_text_is_awaited() {
    let dialog = format!(
        "{PIPELINING} C: MAIL FROM:<s@example.org>
        C: RCPT TO:<a@x.org>
        C: RCPT TO:<b@x.org>
        C: DATA
        S: 250 ok
        S: 550 no
        S: 451 later
        S: 354 go
        C: .
        C: RSET
        C: MAIL FROM:<s@example.org>
        C: RCPT TO:<c@x.org>
        C: DATA
        S: 554 no valid recipients
        S: 250 reset
        S: 250 ok
        S: 250 ok
        S: 354 go
        C: x
        C: .
        S: 250 ok"
    );
    let mails = [mail(&["a", "b"], "x\r\n"), mail(&["c"], "x\r\n")];
    let expected = [
        "failed RCPT: 550 no",
        "later RCPT: 451 later",
        "--",
        "ok end of data: 250 ok",
    ];
    check(&mails, &dialog, &expected);
}

#[test]
fn data_is_refused() {
    let dialog = format!(
        "{PIPELINING} C: MAIL FROM:<s@example.org>
        C: RCPT TO:<a@x.org>
        C: RCPT TO:<b@x.org>
        C: DATA
        S: 250 ok
        S: 250 ok
        S: 550 no
        S: 451 4.3.0 try later"
    );
    let session = check(
        &[mail(&["a", "b"], "x")],
        &dialog,
        &["later DATA: 451 4.3.0 try later", "failed RCPT: 550 no"],
    );
    assert!(session.usable());
}

#[test]
fn data_is_answered_with_nonsense() {
    let dialog = format!(
        "{PIPELINING} C: MAIL FROM:<s@example.org>
        C: RCPT TO:<a@x.org>
        C: DATA
        S: 250 ok
        S: 250 ok
        S: 250 what data?"
    );
    let expected = ["later Protocol DATA: 4.5.0 unexpected reply: 250 what data?"];
    check(&[mail(&["a"], "x")], &dialog, &expected);
}

#[test]
fn one_recipient_too_many() {
    let dialog = |code: &str| {
        format!(
            "{PIPELINING} C: MAIL FROM:<s@example.org>
            C: RCPT TO:<a@x.org>
            C: RCPT TO:<b@x.org>
            C: DATA
            S: 250 ok
            S: 250 ok
            S: {code}
            S: 354 go
            C: x
            C: .
            S: 250 ok"
        )
    };
    let mails = [mail(&["a", "b"], "x\r\n")];
    let ok = "ok end of data: 250 ok";
    check(
        &mails,
        &dialog("452 4.5.3 too many"),
        &[ok, "later RCPT: 452 4.5.3 too many NewTransaction"],
    );
    check(
        &mails,
        &dialog("552 too many"),
        &[ok, "later RCPT: 552 too many NewTransaction"],
    );
    check(
        &mails,
        &dialog("552 5.2.2 over quota"),
        &[ok, "failed RCPT: 552 5.2.2 over quota"],
    );
    check(
        &mails,
        &dialog("452 4.3.1 disk full"),
        &[ok, "later RCPT: 452 4.3.1 disk full"],
    );
}

#[test]
fn the_first_recipient_is_never_one_too_many() {
    let dialog = format!(
        "{PLAIN} C: MAIL FROM:<s@example.org>
        S: 250 ok
        C: RCPT TO:<a@x.org>
        S: 452 too many"
    );
    check(&[mail(&["a"], "x")], &dialog, &["later RCPT: 452 too many"]);
}

#[test]
fn limits_are_kept() {
    let dialog = "S: 220 mx
        C: EHLO client.example.org
        S: 250-mx
        S: 250 LIMITS RCPTMAX=1 MAILMAX=1
        C: MAIL FROM:<s@example.org>
        S: 250 ok
        C: RCPT TO:<a@x.org>
        S: 250 ok
        C: DATA
        S: 354 go
        C: x
        C: .
        S: 250 ok";
    let mails = [mail(&["a", "b"], "x\r\n"), mail(&["c"], "x")];
    let expected = [
        "ok end of data: 250 ok",
        "later Local 4.5.3 the server's limit of recipients is reached NewTransaction",
        "--",
        "later Local 4.5.3 the server's limit of messages on a connection is reached NewConnection",
    ];
    assert!(!check(&mails, dialog, &expected).usable());
}

#[test]
fn extensions_decide_what_is_sent() {
    let dialog = "S: 220 mx
        C: EHLO client.example.org
        S: 250-mx
        S: 250-SIZE 10
        S: 250 8BITMIME
        C: MAIL FROM:<s@example.org> SIZE=3 BODY=8BITMIME
        S: 250 ok
        C: RCPT TO:<a@x.org>
        S: 250 ok
        C: DATA
        S: 354 go
        C: x
        C: .
        S: 250 ok";
    let mut eight = mail(&["a"], "x\r\n");
    eight.envelope.body_type = BodyType::EightBitMime;
    let mut utf8 = mail(&["a"], "x");
    utf8.envelope.smtputf8 = true;
    let mut tls = mail(&["a"], "x");
    tls.envelope.require_tls = true;
    let mails = [mail(&["a"], "more than ten"), utf8, eight, tls];
    let expected = [
        "failed Local 5.3.4 message of 13 bytes is larger than the server's limit of 10",
        "--",
        "failed Local 5.6.7 the message needs SMTPUTF8 and the server does not offer it",
        "--",
        "ok end of data: 250 ok",
        "--",
        "failed Local 5.7.30 REQUIRETLS is needed and the server does not offer it",
    ];
    check(&mails, dialog, &expected);
}

#[test]
fn nothing_to_send() {
    check(&[mail(&[], "x")], PLAIN, &[""]);
    check(&[], PLAIN, &[]);
}

#[test]
fn unavailable_at_any_point() {
    let bye = "421 4.3.2 shutting down";
    let mails = [mail(&["a", "b"], "x\r\n"), mail(&["c"], "x\r\n")];
    let commands = format!(
        "{PIPELINING} C: MAIL FROM:<s@example.org>
        C: RCPT TO:<a@x.org>
        C: RCPT TO:<b@x.org>
        C: DATA\n"
    );
    let both = |command: &str| {
        let first = format!("later {command}: {bye}");
        [
            first.clone(),
            first,
            "--".to_owned(),
            format!("later {command}: {bye} NewConnection"),
        ]
    };
    let check = |dialog: &str, expected: &[String]| {
        let expected: Vec<_> = expected.iter().map(String::as_str).collect();
        assert!(!check(&mails, &format!("{commands}{dialog}"), &expected).usable());
    };
    check(&format!("S: {bye}"), &both("MAIL"));
    check(&format!("S: 250 ok\nS: {bye}"), &both("RCPT"));
    check(
        &format!("S: 250 ok\nS: 250 ok\nS: 250 ok\nS: {bye}"),
        &both("DATA"),
    );
    let mut refused = both("DATA");
    refused[0] = "failed RCPT: 550 no".to_owned();
    check(
        &format!("S: 250 ok\nS: 550 no\nS: 250 ok\nS: {bye}"),
        &refused,
    );
    let text = "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\nC: x\nC: .\n\
        C: MAIL FROM:<s@example.org>\nC: RCPT TO:<c@x.org>\nC: DATA\n";
    check(&format!("{text}S: {bye}"), &both("end of data"));
    let ok = "ok end of data: 250 ok".to_owned();
    let next = [
        ok.clone(),
        ok,
        "--".to_owned(),
        format!("later MAIL: {bye} NewConnection"),
    ];
    check(&format!("{text}S: 250 ok\nS: {bye}"), &next);
}

#[test]
fn lost_at_any_point() {
    let mails = [mail(&["a"], "x\r\n"), mail(&["b"], "x\r\n")];
    let lost = "4.4.2 connection closed by the server";
    let start = format!("{PLAIN} C: MAIL FROM:<s@example.org>\n");
    let cases = [
        ("", "MAIL", ""),
        ("S: 250 ok\nC: RCPT TO:<a@x.org>\n", "RCPT", ""),
        (
            "S: 250 ok\nC: RCPT TO:<a@x.org>\nS: 250 ok\nC: DATA\n",
            "DATA",
            "",
        ),
        (
            "S: 250 ok\nC: RCPT TO:<a@x.org>\nS: 250 ok\nC: DATA\nS: 354 go\nC: x\nC: .\n",
            "end of data",
            "; the message may have been delivered",
        ),
    ];
    for (dialog, command, uncertain) in cases {
        let first = format!("later Lost {command}: {lost}{uncertain}");
        let second = format!("later Lost {command}: {lost} NewConnection");
        check(
            &mails,
            &format!("{start}{dialog}X: lost"),
            &[&first, "--", &second],
        );
    }
}

#[test]
fn lost_between_two_messages() {
    let dialog = format!(
        "{PLAIN} C: MAIL FROM:<s@example.org>
        S: 250 ok
        C: RCPT TO:<a@x.org>
        S: 250 ok
        C: DATA
        S: 354 go
        C: x
        C: .
        S: 250 ok
        C: MAIL FROM:<s@example.org>
        X: lost"
    );
    let mails = [mail(&["a"], "x\r\n"), mail(&["b"], "x\r\n")];
    let expected = [
        "ok end of data: 250 ok",
        "--",
        "later Lost MAIL: 4.4.2 connection closed by the server NewConnection",
    ];
    check(&mails, &dialog, &expected);
}

#[test]
fn lost_with_several_texts_under_way() {
    let dialog = format!(
        "{CHUNKING} C: MAIL FROM:<s@example.org>
        C: RCPT TO:<a@x.org>
        C: BDAT 3 LAST
        C: x
        C: RSET
        C: MAIL FROM:<s@example.org>
        C: RCPT TO:<b@x.org>
        C: BDAT 3 LAST
        C: y
        S: 250 ok
        S: 250 ok
        X: lost"
    );
    let mails = [mail(&["a"], "x\r\n"), mail(&["b"], "y\r\n")];
    let lost = "later Lost BDAT: 4.4.2 connection closed by the server; the message may have been delivered";
    check(&mails, &dialog, &[lost, "--", lost]);
}

#[test]
fn too_slow_at_any_point() {
    let mails = [mail(&["a"], "x\r\n")];
    let start = format!("{PLAIN} C: MAIL FROM:<s@example.org>\n");
    let slow =
        |command: &str| format!("later Timeout {command}: 4.4.2 the server did not reply in time");
    check(&mails, &format!("{start} X: timeout"), &[&slow("MAIL")]);
    let dialog = format!("{start} S: 250 ok\nC: RCPT TO:<a@x.org>\nX: timeout");
    check(&mails, &dialog, &[&slow("RCPT")]);
    let dialog = format!(
        "{start} S: 250 ok\nC: RCPT TO:<a@x.org>\nS: 250 ok\nC: DATA\nS: 354 go\nC: x\nC: .\nX: timeout"
    );
    check(
        &mails,
        &dialog,
        &[&format!(
            "{}; the message may have been delivered",
            slow("end of data")
        )],
    );
    check_closed(
        &config(),
        "X: timeout",
        "transient Timeout: greeting: 4.4.2 the server did not reply in time",
    );
}

#[test]
fn garbage_at_any_point() {
    let start = format!("{PLAIN} C: MAIL FROM:<s@example.org>\n");
    let expected = ["later Protocol MAIL: 4.5.0 not an SMTP reply: \"hello\""];
    check(&[mail(&["a"], "x")], &format!("{start}S: hello"), &expected);
    check_closed(
        &config(),
        "S: SSH-2.0-x",
        "transient Protocol: greeting: 4.5.0 not an SMTP reply: \"SSH-2.0-x\"",
    );
}

#[test]
fn more_replies_than_commands() {
    let dialog =
        format!("{PLAIN} C: MAIL FROM:<s@example.org>\nS: 250 ok\nS: 250 ok\nC: RCPT TO:<a@x.org>");
    // The second reply is taken for RCPT's when it comes in time, and for nothing when it comes before RCPT is sent.
    let mails = [mail(&["a"], "x")];
    let run = run(
        &config(),
        &mails,
        &dialog.replace("\nC: RCPT TO:<a@x.org>", ""),
        1000,
    );
    let results = run.results.expect("done");
    assert_eq!(
        show(&results[0]),
        ["later Protocol RCPT: 4.5.0 unexpected reply: 250 ok"]
    );
}

#[test]
fn a_server_that_gives_up_in_the_middle_of_a_text() {
    let mails = [mail(&["a"], "abcdefghij\r\n")];
    let mut run = Run {
        session: Session::new(config(), Instant::now()),
        mails: &mails,
        now: Instant::now(),
        sent: String::new(),
        handshake: false,
        results: None,
    };
    for reply in ["220 mx\r\n", "250 mx\r\n", "250 ok\r\n", "250 ok\r\n"] {
        run.session.receive(reply.as_bytes(), run.now);
        run.drain();
    }
    run.session.receive(b"354 go\r\n", run.now);
    assert!(matches!(
        run.session.poll_output(),
        Some(Output::Read {
            message: 0,
            offset: 0,
            max: 12
        })
    ));
    run.session.text(Some(b"abc"));
    run.session.receive(b"552 5.3.4 too big\r\n", run.now);
    run.drain();
    assert_eq!(
        show(&run.results.unwrap()[0]),
        ["failed end of data: 552 5.3.4 too big"]
    );
    assert!(!run.session.usable());
}

#[test]
fn a_text_that_cannot_be_read_ends_the_connection() {
    let mut broken = mail(&["a"], "x\r\n");
    let dialog = format!(
        "{PLAIN} C: MAIL FROM:<s@example.org>
        S: 250 ok
        C: RCPT TO:<a@x.org>
        S: 250 ok
        C: DATA
        S: 354 go"
    );
    // Its length says more than there is.
    broken.text.truncate(3);
    let mails = [broken];
    let mut run = run(
        &config(),
        &mails,
        dialog.trim_end_matches("S: 354 go"),
        1000,
    );
    run.session.receive(b"354 go\r\n", run.now);
    assert!(matches!(
        run.session.poll_output(),
        Some(Output::Read { .. })
    ));
    run.session.text(None);
    run.drain();
    assert_eq!(
        show(&run.results.unwrap()[0]),
        ["later Local 4.3.0 the message could not be read"]
    );
    assert_eq!(run.sent, "");
}

#[test]
fn the_greeting_refuses() {
    check_closed(
        &config(),
        "S: 554 5.7.1 not you",
        "permanent Reply: greeting: 554 5.7.1 not you",
    );
    check_closed(
        &config(),
        "S: 421 busy",
        "transient Reply: greeting: 421 busy",
    );
    check_closed(
        &config(),
        "X: lost",
        "transient Lost: greeting: 4.4.2 connection closed by the server",
    );
}

#[test]
fn a_server_without_ehlo() {
    let dialog = "S: 220 old
        C: EHLO client.example.org
        S: 502 what?
        C: HELO client.example.org
        S: 250 hi
        C: MAIL FROM:<s@example.org>
        S: 550 no";
    check(&[mail(&["a"], "x")], dialog, &["failed MAIL: 550 no"]);
    let required = SessionConfig {
        security: Security::Required,
        ..config()
    };
    let dialog = "S: 220 old
        C: EHLO client.example.org
        S: 502 what?";
    check_closed(&required, dialog, "permanent Reply: EHLO: 502 what?");
}

#[test]
fn all_that_was_said_in_clear_is_forgotten() {
    let config = SessionConfig {
        security: Security::Opportunistic,
        ..config()
    };
    let dialog = "S: 220 mx
        C: EHLO client.example.org
        S: 250-mx
        S: 250-PIPELINING
        S: 250-SIZE 1
        S: 250 STARTTLS
        C: STARTTLS
        S: 220 go
        X: tls
        C: EHLO client.example.org
        S: 250 mx
        C: MAIL FROM:<s@example.org>
        S: 550 no";
    check_with(
        &config,
        &[mail(&["a"], "more than one")],
        dialog,
        &["failed MAIL: 550 no"],
    );
}

#[test]
fn bytes_behind_the_reply_to_starttls_are_refused() {
    for security in [Security::Opportunistic, Security::Required] {
        let config = SessionConfig {
            security,
            ..config()
        };
        let session = |injected: &str| {
            let dialog = "S: 220 mx
                C: EHLO client.example.org
                S: 250-mx
                S: 250 STARTTLS
                C: STARTTLS";
            let mut run = run(&config, &[], dialog, 1000);
            run.session
                .receive(format!("220 go\r\n{injected}").as_bytes(), run.now);
            run.session
        };
        for injected in ["2", "250 mx\r\n", "\r\n"] {
            let session = session(injected);
            let status = session.closed().expect("closed");
            assert_eq!(
                (status.cause, status.permanent),
                (Cause::Tls, false),
                "{status}"
            );
        }
    }
}

#[test]
fn starttls_is_not_to_be_had() {
    let offered = "S: 220 mx
        C: EHLO client.example.org
        S: 250-mx
        S: 250 STARTTLS
        C: STARTTLS
        S: 454 4.7.0 not now";
    let required = SessionConfig {
        security: Security::Required,
        ..config()
    };
    check_closed(
        &required,
        offered,
        "transient Tls: STARTTLS: 454 4.7.0 not now",
    );
    check_closed(
        &required,
        PLAIN,
        "transient Tls: STARTTLS: 4.7.10 the server does not offer STARTTLS",
    );
    let opportunistic = SessionConfig {
        security: Security::Opportunistic,
        ..config()
    };
    let dialog = format!("{offered}\nC: MAIL FROM:<s@example.org>\nS: 550 no");
    check_with(
        &opportunistic,
        &[mail(&["a"], "x")],
        &dialog,
        &["failed MAIL: 550 no"],
    );
}

#[test]
fn logins() {
    let login = Login {
        user: "u".to_owned(),
        password: "p".to_owned(),
        without_tls: true,
    };
    let config = SessionConfig {
        login: Some(login.clone()),
        ..config()
    };
    let opening = |auth: &str| {
        format!("S: 220 mx\nC: EHLO client.example.org\nS: 250-mx\nS: 250 AUTH {auth}\n")
    };
    let ends = "C: MAIL FROM:<s@example.org>\nS: 550 no";
    let mails = [mail(&["a"], "x")];
    let plain = format!(
        "{}C: AUTH PLAIN AHUAcA==\nS: 235 ok\n{ends}",
        opening("LOGIN PLAIN")
    );
    check_with(&config, &mails, &plain, &["failed MAIL: 550 no"]);
    let steps = "C: AUTH LOGIN\nS: 334 VXNlcg==\nC: dQ==\nS: 334 UGFzcw==\nC: cA==\n";
    let dialog = format!("{}{steps}S: 235 ok\n{ends}", opening("LOGIN"));
    check_with(&config, &mails, &dialog, &["failed MAIL: 550 no"]);
    let dialog = format!("{}{steps}S: 535 5.7.8 wrong", opening("LOGIN"));
    check_closed(&config, &dialog, "transient Reply: AUTH: 535 5.7.8 wrong");
    let text = "transient Local: AUTH: 4.7.0 the server offers neither AUTH PLAIN nor AUTH LOGIN";
    check_closed(&config, &opening("GSSAPI"), text);
    let careful = SessionConfig {
        login: Some(Login {
            without_tls: false,
            ..login
        }),
        ..config
    };
    let text = "transient Local: AUTH: 4.7.11 no TLS, so the login is not sent";
    check_closed(&careful, &opening("PLAIN"), text);
}

#[test]
fn lmtp_answers_for_each_recipient() {
    let config = SessionConfig {
        lmtp: true,
        ..config()
    };
    let dialog = "S: 220 mx
        C: LHLO client.example.org
        S: 250-mx
        S: 250-CHUNKING
        S: 250 PIPELINING
        C: MAIL FROM:<s@example.org>
        C: RCPT TO:<a@x.org>
        C: RCPT TO:<b@x.org>
        C: RCPT TO:<c@x.org>
        C: DATA
        S: 250 ok
        S: 250 ok
        S: 550 no
        S: 250 ok
        S: 354 go
        C: x
        C: .
        S: 250 a has it
        S: 452 4.2.2 c is full";
    let expected = [
        "ok end of data: 250 a has it",
        "failed RCPT: 550 no",
        "later end of data: 452 4.2.2 c is full",
    ];
    check_with(
        &config,
        &[mail(&["a", "b", "c"], "x\r\n")],
        dialog,
        &expected,
    );
}

#[test]
fn a_rset_that_is_refused_ends_the_connection() {
    let dialog = format!(
        "{PLAIN} C: MAIL FROM:<s@example.org>
        S: 250 ok
        C: RCPT TO:<a@x.org>
        S: 550 no
        C: RSET
        S: 500 no such thing"
    );
    let mails = [mail(&["a"], "x"), mail(&["b"], "x")];
    let expected = [
        "failed RCPT: 550 no",
        "--",
        "later RSET: 500 no such thing NewConnection",
    ];
    check(&mails, &dialog, &expected);
}

#[test]
fn quit_and_after() {
    let dialog = format!("{PLAIN} X: quit\nC: QUIT\nS: 221 bye");
    let mut run = run(&config(), &[], &dialog, 1000);
    assert!(run.session.closed().is_some());
    let envelope = mail(&["a"], "x").envelope;
    run.session.submit([(envelope, 1)], run.now);
    assert_eq!(run.session.poll_output(), Some(Output::Done));
    assert_eq!(
        run.session.results()[0].recipients[0].again,
        Again::NewConnection
    );
}

#[test]
fn a_server_that_closed_while_nothing_was_asked() {
    let mut run = run(&config(), &[], PLAIN, 1000);
    run.session
        .receive(b"421 4.4.2 idle for too long\r\n", run.now);
    assert!(!run.session.usable());
    run.session
        .submit([(mail(&["a"], "x").envelope, 1)], run.now);
    run.drain();
    let results = run.results.unwrap();
    assert_eq!(results[0].recipients[0].again, Again::NewConnection);
}
