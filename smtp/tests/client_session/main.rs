//! Dialogs of the client session, run with every way to cut the server's bytes.
//!
//! | line | meaning |
//! |---|---|
//! | `C: text` | the client must send this. It must not wait between such lines in a row |
//! | `S: text` | the server sends this |
//! | `X: tls` | the session asks for the handshake, which succeeds |
//! | `X: lost` | the connection breaks |
//! | `X: timeout` | the session's deadline comes |
//! | `X: quit` | the driver quits |
//! | `X: probe` | the driver asks whether `to@x.org` gets mail from `s@example.org` |

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is how they fail"
)]

mod endings;
mod limits;
mod messages;
mod opening;
mod probes;
mod recordings;

use std::time::{Duration, Instant};

use postrider_smtp::{
    Address, BodyType, Cause, ReversePath,
    client::{
        Again, Credentials, Envelope, OutgoingResult, Output, Security, Session, SessionConfig,
        Timeouts,
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
            delivery: Default::default(),
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
        recorder: None,
    }
}

/// A session with its driver.
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
                Output::Ask(request) => {
                    let start = usize::try_from(request.offset).unwrap();
                    // Small pieces, like the blocks of a file.
                    let text = self.mails[request.message].text.as_bytes();
                    let end = text.len().min(start + request.max.min(5));
                    self.session.answer(text.get(start..end), self.now);
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
            "probe" => {
                let from = ReversePath::parse("s@example.org").unwrap();
                let to = Address::parse("to@x.org").unwrap();
                self.session.probe(from, to, self.now);
            }
            other => panic!("unknown event {other}"),
        }
        self.drain();
    }
}

/// The results of a message as text, one for each recipient.
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

/// Checks a dialog and its results: one line for each recipient, and `--` between two messages.
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

/// Checks the reason of a session that ends before it is ready.
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
/// The first message of a connection with CHUNKING, which the server takes.
const TAKEN: &str = "C: MAIL FROM:<s@example.org>
    C: RCPT TO:<z@x.org>
    C: BDAT 3 LAST
    C: z
    S: 250 ok
    S: 250 ok
    S: 250 taken\n";
