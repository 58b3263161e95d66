//! Any bytes of a filter.

use proptest::prelude::*;

use super::{
    super::super::{negotiation::Negotiation, support::BODY_MAX},
    *,
};

/// A packet that a filter may send, right or wrong.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    let letter = prop::sample::select(b"cccccccarty4fdsphimbe+2-qOlz".as_slice());
    let data = prop_oneof![
        4 => Just(Vec::new()),
        1 => prop::collection::vec(any::<u8>(), 0..20),
        1 => "[A-C]\\x00[a-c \n]{0,4}\\x00".prop_map(String::into_bytes),
        1 => "\\x00\\x00\\x00[\\x00-\\x03][A-C]\\x00[a-c]{0,4}\\x00".prop_map(String::into_bytes),
        1 => "(550|451|421) [45]\\.7\\.1 [a-z%]{0,9}\\x00".prop_map(String::into_bytes),
        1 => "<[a-c]@d\\.test>\\x00".prop_map(String::into_bytes),
    ];
    (letter, data).prop_map(|(letter, mut data)| {
        data.insert(0, letter);
        framed(&data)
    })
}

/// All bytes that a filter sends.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let packets = prop::collection::vec(packet(), 0..60).prop_map(|packets| packets.concat());
    prop_oneof![
        9 => packets,
        1 => prop::collection::vec(any::<u8>(), 0..100),
    ]
}

/// Asks at all stages of two messages. The filter sends these bytes, so many at each wait, and then
/// nothing more.
fn outcome(session: MilterSession, bytes: &[u8], step: usize) -> Vec<Result<Answer, Failure>> {
    let mut filter = Filter::of(session);
    let mut pieces = bytes.chunks(step);
    let (mut world, mut answers) = (world(), Vec::new());
    for transaction in 1..3 {
        world.client.transaction = transaction;
        for (stage, recipient) in [(Ehlo, 0), (Mail, 0), (Rcpt, 1), (Rcpt, 2), (Data, 0)] {
            let asked = world.asked(stage, recipient);
            let (asked, refused) = (&asked, None);
            let question = Question { asked, refused };
            answers.push(answer(&mut filter, &question, &mut pieces));
        }
    }
    // What the filter was sent is whole packets.
    filter.told();
    answers
}

fn answer<'a>(
    filter: &mut Filter,
    question: &Question<'_>,
    pieces: &mut impl Iterator<Item = &'a [u8]>,
) -> Result<Answer, Failure> {
    if let Some(answer) = filter.session.decided(question)? {
        return Ok(answer);
    }
    filter.session.begin(question)?;
    loop {
        match filter.session.poll(question)? {
            Output::Wait(_) => match pieces.next() {
                Some(piece) => filter.session.receive(piece),
                None => return Err(filter.session.fail(Failure::Timeout)),
            },
            Output::Piece { .. } => filter.session.give(b""),
            Output::Done(answer) => return Ok(answer),
        }
    }
}

/// The body of all changes is within its limit.
fn check(answers: &[Result<Answer, Failure>]) {
    for answer in answers.iter().flatten() {
        for change in &answer.changes {
            if let Change::Body(body) = change {
                // Each lone line end may become two bytes.
                assert!(body.len() <= 2 * BODY_MAX);
            }
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_break_a_session(
        protocol in any::<u32>().prop_map(|bits| bits & 0x301f_ffff),
        bytes in bytes(),
        step in 1..30_usize,
    ) {
        check(&outcome(negotiated(6, ACTIONS, protocol), &bytes, step));
    }

    #[test]
    fn no_bytes_break_a_negotiation(bytes in bytes(), step in 1..30_usize) {
        let mut negotiation = Negotiation::default();
        let mut result = Ok(None);
        for piece in bytes.chunks(step) {
            negotiation.receive(piece);
            result = negotiation.poll();
            if !matches!(result, Ok(None)) {
                break;
            }
        }
        if let Ok(Some(agreed)) = result {
            let session = negotiation.into_session(agreed, BODY_MAX);
            check(&outcome(session, &bytes, step));
        }
    }
}
