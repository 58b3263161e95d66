//! What a client may send to the server: no bytes make the session panic or loop; what it answers are lines of replies; a text that
//! it hands on as whole has no bare CR or LF, unless it is binary; and the way the bytes are cut does not matter.
//!
//! The first byte chooses options and verdicts, the second the size of the pieces.

use std::{sync::Arc, time::Duration};

use postrider_smtp::{
    BodyType, EnhancedCode, Reply, ReplyCode,
    server::{Question, Session, SessionConfig, Step},
};

/// Fails where one of that does not hold.
pub(crate) fn check(data: &[u8]) {
    let Some(([options, step], bytes)) = data.split_first_chunk() else {
        return;
    };
    let cut = run(*options, bytes, usize::from(*step).max(1));
    let whole = run(*options, bytes, bytes.len().max(1));
    // What comes behind STARTTLS in one piece is not what comes behind it in the next.
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
    /// Those that came whole.
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
        auth_requires_tls: bit(2),
        require_tls: bit(3),
        require_tls_extension: bit(0),
        dsn: bit(4),
        binary_mime: bit(1) && bit(4),
        max_recipients: 3,
        max_messages: 5,
        max_errors: 10,
        command_timeout: Duration::from_secs(1),
        data_timeout: Duration::from_secs(1),
    };
    let mut session = Session::new(Arc::new(config), bit(5));
    let mut outcome = Outcome::default();
    let mut text = Vec::new();
    // Says no to every third question, or to none.
    let mut questions = 0_u32;
    let mut verdict = || {
        questions += 1;
        if bit(6) && questions.is_multiple_of(3) {
            let no = Some(EnhancedCode::permanent(7, 1));
            return Err(Reply::fixed(ReplyCode::MAILBOX_UNAVAILABLE, no, "no"));
        }
        Ok(())
    };
    let mut pieces = bytes.chunks(step);
    loop {
        match session.poll() {
            Step::Read => {
                outcome.output.extend_from_slice(&session.take_output());
                match pieces.next() {
                    Some(piece) => session.input().extend_from_slice(piece),
                    None => break,
                }
            }
            Step::Ask(Question::End) => {
                let transaction = session.transaction().expect("a transaction");
                assert!(!transaction.recipients.is_empty());
                if transaction.mail.body != BodyType::BinaryMime {
                    check_lines(&text);
                }
                assert!(text.len() <= 2000);
                outcome.texts.push(std::mem::take(&mut text));
                session.finish(&Reply::ok("taken"));
            }
            Step::Ask(_) => session.answer(verdict()),
            Step::Body(piece) => {
                text.extend_from_slice(&piece);
                if bit(7) && text.len() > 100 {
                    session.refuse_text(Reply::fixed(ReplyCode::LOCAL_ERROR, None, "no more"));
                }
            }
            Step::Forget => text.clear(),
            Step::StartTls => {
                outcome.tls_started = true;
                session.tls_started();
            }
            Step::Close => break,
        }
    }
    outcome.output.extend_from_slice(&session.take_output());
    check_replies(&outcome.output);
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
    assert!(
        outcome.output.len() <= 2000 * (lines + 2),
        "{} bytes for {lines} lines",
        outcome.output.len()
    );
    outcome
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
