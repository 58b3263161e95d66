//! The bytes of a server against the client's reply parser and session:
//!
//! - No bytes make them panic, loop or grow without limit.
//! - The way to cut the bytes does not matter.
//! - Every recipient gets a result.
//!
//! The first byte chooses options of the session, the second the size of the pieces.

use std::time::Instant;

use postrider_smtp::{
    Address, BodyType, ReversePath,
    client::{
        Credentials, Envelope, OutgoingResult, Output, Recorder, ReplyParser, Security, Session,
        SessionConfig, Timeouts,
    },
    sasl::{ClientLogin, Secret},
};

const TEXT: &[u8] = b"Subject: x\r\n\r\n.text\r\n";

/// Fails where one of these does not hold.
pub(crate) fn check(data: &[u8]) {
    let Some(([options, step], bytes)) = data.split_first_chunk() else {
        return;
    };
    let step = usize::from(*step).max(1);
    replies(bytes, step);
    assert_eq!(
        session(*options, bytes, step),
        session(*options, bytes, bytes.len().max(1))
    );
}

fn replies(bytes: &[u8], step: usize) {
    let mut parser = ReplyParser::new();
    for piece in bytes.chunks(step) {
        parser.push(piece);
        loop {
            match parser.next() {
                Ok(Some(reply)) => assert!(reply.text().len() <= 128 * 1024),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

/// The results of a dialog with a server that sends these bytes, whatever the client says, and then
/// closes.
///
/// Each line comes alone: the state of the client decides whether bytes are replies at all.
fn session(options: u8, bytes: &[u8], step: usize) -> Vec<OutgoingResult> {
    let now = Instant::now();
    let bit = |bit: u8| options & (1 << bit) != 0;
    let config = SessionConfig {
        helo: "client.example.org".to_owned(),
        remote: "mx.x.org [192.0.2.1]".to_owned(),
        security: if bit(0) {
            Security::Opportunistic
        } else {
            Security::Never
        },
        login: bit(1).then(|| Credentials {
            login: ClientLogin {
                user: "u".to_owned(),
                secret: match bit(4) {
                    true => Secret::Token("t".to_owned().into()),
                    false => Secret::Password("p".to_owned().into()),
                },
                mechanisms: Vec::new(),
                nonce: "n".to_owned(),
            },
            without_tls: true,
        }),
        timeouts: Timeouts::default(),
        lmtp: bit(2),
        chunking: bit(3),
        recorder: Some(Recorder::new(now)),
    };
    let mut session = Session::new(config, now);
    let mut results = Vec::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        for piece in line.chunks(step) {
            session.receive(piece, now);
        }
        drain(&mut session, now, &mut results);
    }
    session.lost("");
    drain(&mut session, now, &mut results);
    assert!(session.closed().is_some());
    assert!(
        results
            .iter()
            .all(|result: &OutgoingResult| result.recipients.len() == 2)
    );
    results
}

fn drain(session: &mut Session, now: Instant, results: &mut Vec<OutgoingResult>) {
    let mut sent = 0;
    while let Some(output) = session.poll_output() {
        match output {
            Output::Send(bytes) => {
                sent += bytes.len();
                assert!(sent < 1024 * 1024);
            }
            Output::Ask(request) => {
                let rest = usize::try_from(request.offset)
                    .ok()
                    .and_then(|offset| TEXT.get(offset..));
                session.answer(rest.and_then(|rest| rest.get(..request.max)), now);
            }
            Output::StartTls => session.tls_started(now),
            Output::Ready => session.submit((0..3).map(|_| (envelope(), TEXT.len() as u64)), now),
            Output::Done => results.extend(session.results()),
            Output::Closed => return,
        }
    }
}

fn envelope() -> Envelope {
    let recipients =
        ["a@x.org", "b@x.org"].map(|to| Address::parse(to).expect("an address").into());
    Envelope {
        reverse_path: ReversePath::Null,
        body_type: BodyType::SevenBit,
        smtputf8: false,
        require_tls: false,
        delivery: Default::default(),
        ret: None,
        envid: None,
        recipients: recipients.into(),
    }
}
