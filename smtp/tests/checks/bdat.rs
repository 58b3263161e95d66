//! A text in chunks (RFC 3030) against the server's session, also with sizes that lie:
//!
//! - The session takes exactly the bytes that a plain reading of the sizes gives.
//! - It takes no text whose last chunk is not whole.
//! - The way to cut the bytes does not matter.
//!
//! The first byte is the size of the pieces. Then each chunk has a byte with its length, a byte
//! that says how far its announced size is off, and its bytes.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use postrider_smtp::{
    Reply,
    server::{Answer, Client, Output, Question, SaslConfig, Session, SessionConfig, SessionId},
};

const SIZE_MAX: usize = 1000;

/// Fails where one of these does not hold.
pub(crate) fn check(data: &[u8]) {
    let Some((step, rest)) = data.split_first() else {
        return;
    };
    let mut bytes =
        b"EHLO a.example\r\nMAIL FROM:<> BODY=BINARYMIME\r\nRCPT TO:<a@b.example>\r\n".to_vec();
    let begin = bytes.len();
    bytes.extend(chunks(rest));
    let expected = read(bytes.get(begin..).unwrap_or_default());
    let cut = texts(&bytes, usize::from(*step).max(1));
    assert_eq!(cut, texts(&bytes, bytes.len()));
    match expected {
        Reading::Whole(text) if text.len() <= SIZE_MAX => assert_eq!(cut.first(), Some(&text)),
        Reading::Whole(_) | Reading::Waits => assert!(cut.is_empty()),
        // Other commands came between the chunks.
        Reading::Unclear => {}
    }
}

/// The commands with their bytes, the last of them with LAST.
fn chunks(data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = data;
    while let Some(([length, off], after)) = rest.split_first_chunk() {
        let (chunk, after) = after
            .split_at_checked((*length).into())
            .unwrap_or((after, &[]));
        rest = after;
        // Most sizes are true, some lie a little, and some lie boldly.
        let size = match off {
            0..200 => chunk.len() as u64,
            200..240 => (chunk.len() as u64 + u64::from(*off)).saturating_sub(220),
            240..250 => chunk.len() as u64 * u64::from(*off),
            _ => u64::MAX - u64::from(*off),
        };
        let last = if rest.len() < 2 { " LAST" } else { "" };
        bytes.extend_from_slice(format!("BDAT {size}{last}\r\n").as_bytes());
        bytes.extend_from_slice(chunk);
    }
    bytes
}

enum Reading {
    /// The text that ends with the last chunk.
    Whole(Vec<u8>),
    /// The last chunk is not whole.
    Waits,
    /// A line is no announcement of a chunk.
    Unclear,
}

/// A plain reading of chunks.
fn read(bytes: &[u8]) -> Reading {
    let mut text = Vec::new();
    let mut rest = bytes;
    loop {
        let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else {
            return if rest.is_empty() {
                Reading::Waits
            } else {
                Reading::Unclear
            };
        };
        let (line, after) = rest.split_at(end);
        let line = str::from_utf8(line).unwrap_or_default();
        let (size, is_last) = match line.strip_suffix(" LAST") {
            Some(line) => (line, true),
            None => (line, false),
        };
        let size = size
            .strip_prefix("BDAT ")
            .and_then(|size| size.parse::<usize>().ok());
        let Some(size) = size else {
            return Reading::Unclear;
        };
        let Some((chunk, after)) = after
            .get(2..)
            .and_then(|after| after.split_at_checked(size))
        else {
            return Reading::Waits;
        };
        text.extend_from_slice(chunk);
        if is_last {
            return Reading::Whole(text);
        }
        rest = after;
    }
}

/// The texts that a session takes whole.
fn texts(bytes: &[u8], step: usize) -> Vec<Vec<u8>> {
    let config = SessionConfig {
        hostname: "mx.example.org".parse().expect("a domain"),
        max_message_size: SIZE_MAX as u64,
        max_line: 1000,
        starttls: false,
        auth: false,
        auth_required: false,
        auth_requires_tls: true,
        require_tls_extension: false,
        dsn: true,
        submission: false,
        sasl: SaslConfig {
            scram: false,
            oauth_scope: None,
        },
        binary_mime: true,
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
    let client = Client::new(SessionId::of(1), address, address);
    let mut session = Session::new(Arc::new(config), client, false, now);
    let (mut whole, mut text) = (Vec::new(), Vec::new());
    let mut pieces = bytes.chunks(step.max(1));
    loop {
        match session.poll_output() {
            Some(Output::Send(_)) => session.wrote(now),
            Some(Output::Ask(_, Question::End(_))) => {
                whole.push(std::mem::take(&mut text));
                session.answer(Answer::Reply(Reply::ok("taken")), now);
            }
            Some(Output::Ask(..)) => session.answer(Ok(()).into(), now),
            Some(Output::Text(piece)) => {
                text.extend_from_slice(&piece);
                assert!(text.len() <= SIZE_MAX);
            }
            Some(Output::Reset) => text.clear(),
            Some(Output::Happened(..)) => {}
            Some(Output::Restart | Output::StartTls) => panic!("nobody may ask for that"),
            Some(Output::Closed) => return whole,
            None => match pieces.next() {
                Some(piece) => session.receive(piece, now),
                None => return whole,
            },
        }
    }
}
