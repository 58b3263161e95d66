//! The bytes of a client against the server's session:
//!
//! - No bytes make the session panic or loop.
//! - All that the session sends are lines of replies.
//! - A whole text has no bare CR or LF, unless it is binary.
//! - The way to cut the bytes does not matter.
//! - Each refusal has the name of its reason.
//!
//! The first byte chooses options and verdicts, the second the size of the pieces.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use postrider_smtp::{
    BodyType, EnhancedCode, Reply, ReplyCode, TlsInfo, reason,
    sasl::ScramOffer,
    server::{
        Answer, Client, Event, Output, Question, SaslConfig, Session, SessionConfig, SessionId,
    },
};

/// The reason of all refusals of the policy.
const POLICY: &str = "policy";

/// Fails where one of these does not hold.
pub(crate) fn check(data: &[u8]) {
    let Some(([options, step], bytes)) = data.split_first_chunk() else {
        return;
    };
    let cut = run(*options, bytes, usize::from(*step).max(1));
    let whole = run(*options, bytes, bytes.len().max(1));
    // Bytes in the same piece as STARTTLS end the session. Bytes in the next piece do not.
    if !cut.tls_started && !whole.tls_started {
        assert_eq!(
            String::from_utf8_lossy(&cut.output),
            String::from_utf8_lossy(&whole.output)
        );
        assert_eq!(cut.texts, whole.texts);
    }
}

#[derive(Default)]
struct Outcome {
    output: Vec<u8>,
    /// The texts that came whole.
    texts: Vec<Vec<u8>>,
    tls_started: bool,
}

fn run(options: u8, bytes: &[u8], step: usize) -> Outcome {
    let bit = |bit: u8| options & (1 << bit) != 0;
    let config = SessionConfig {
        hostname: "mx.example.org".parse().expect("a domain"),
        max_message_size: 2000,
        max_line: 1000,
        starttls: bit(0),
        auth: bit(1),
        auth_required: bit(1),
        auth_requires_tls: bit(2),
        require_tls_extension: bit(0),
        dsn: bit(4),
        submission: bit(4),
        sasl: SaslConfig {
            scram: bit(1),
            oauth_scope: bit(2).then(|| "mail".to_owned()),
        },
        binary_mime: bit(1) && bit(4),
        ask_hello: false,
        max_recipients: 3,
        max_messages: 5,
        max_errors: 10,
        command_timeout: Duration::from_secs(1),
        data_timeout: Duration::from_secs(1),
        message_timeout: Duration::from_secs(1),
    };
    let now = Instant::now();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 25));
    let mut client = Client::new(SessionId::of(1), address, address);
    client.xclient = bit(3);
    let mut session = Session::new(Arc::new(config), client, bit(5), now);
    let mut outcome = Outcome::default();
    let mut text = Vec::new();
    // Says no to every third question, or to none.
    let mut questions = 0_u32;
    let mut verdict = || {
        questions += 1;
        if bit(6) && questions.is_multiple_of(3) {
            let no = Some(EnhancedCode::NOT_AUTHORIZED);
            let reply = Reply::fixed(ReplyCode::MAILBOX_UNAVAILABLE, no, "no");
            return Err(reply.because(POLICY));
        }
        Ok(())
    };
    let mut pieces = bytes.chunks(step);
    loop {
        let answer = match session.poll_output() {
            Some(Output::Send(sent)) => {
                outcome.output.extend_from_slice(&sent);
                session.wrote(now);
                continue;
            }
            Some(Output::Ask(_, Question::End(transaction))) => {
                assert!(!transaction.recipients.is_empty());
                if transaction.mail.body != BodyType::BinaryMime {
                    check_lines(&text);
                }
                assert!(text.len() <= 2000);
                outcome.texts.push(std::mem::take(&mut text));
                Answer::Reply(Reply::ok("taken"))
            }
            Some(Output::Ask(_, Question::ScramKeys(request))) => Answer::Keys(ScramOffer {
                salt: request.user.clone().into_bytes(),
                rounds: 4096,
                keys: Vec::new(),
                nonce: "nonce".to_owned(),
            }),
            Some(Output::Ask(..)) => verdict().into(),
            Some(Output::Text(piece)) => {
                text.extend_from_slice(&piece);
                if bit(7) && text.len() > 100 {
                    let reply = Reply::fixed(ReplyCode::LOCAL_ERROR, None, "no more");
                    session.refuse_text(reply.because(POLICY));
                }
                continue;
            }
            Some(Output::Reset) => {
                text.clear();
                continue;
            }
            Some(Output::Happened(_, event)) => {
                let Event::Refused(refused) = event else {
                    continue;
                };
                let reason = refused.reply.reason().unwrap_or(reason::OTHER);
                // The session names each refusal of its own.
                let is_named = reason::ALL.contains(&reason) && reason != reason::OTHER;
                assert!(is_named || reason == POLICY, "{reason}");
                continue;
            }
            Some(Output::Restart) => {
                assert!(
                    bit(3),
                    "another client took the place of one that may not say so"
                );
                continue;
            }
            Some(Output::StartTls) => {
                outcome.tls_started = outcome.tls_started || !bit(5);
                session.tls_started(tls(), now);
                continue;
            }
            Some(Output::Closed) => break,
            None => match pieces.next() {
                Some(piece) => {
                    session.receive(piece, now);
                    continue;
                }
                None => break,
            },
        };
        session.answer(answer, now);
    }
    check_replies(&outcome.output);
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
    assert!(
        outcome.output.len() <= 2000 * (lines + 2),
        "{} bytes for {lines} lines",
        outcome.output.len()
    );
    outcome
}

fn tls() -> TlsInfo {
    TlsInfo {
        version: String::new(),
        cipher: String::new(),
    }
}

fn check_lines(text: &[u8]) {
    let mut before = 0;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'\n' => assert_eq!(before, b'\r', "a bare LF at {at}"),
            b'\r' => assert_eq!(text.get(at + 1), Some(&b'\n'), "a bare CR at {at}"),
            _ => {}
        }
        before = *byte;
    }
}

fn check_replies(output: &[u8]) {
    let text = std::str::from_utf8(output).expect("replies are text");
    assert!(text.is_empty() || text.ends_with("\r\n"));
    for line in text.split_terminator("\r\n") {
        assert!(
            line.len() <= 510 && !line.contains(['\r', '\n', '\0']),
            "{line:?}"
        );
        let (code, rest) = line.split_at_checked(3).expect("a code");
        assert!(code.bytes().all(|byte| byte.is_ascii_digit()), "{line:?}");
        assert!(rest.starts_with([' ', '-']), "{line:?}");
    }
}
