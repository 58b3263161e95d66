//! The bytes of a mail filter against the conversation with it:
//!
//! - No bytes make it panic, loop or grow without limit.
//! - The way to cut the bytes does not matter to the negotiation.
//! - A refusal is a reply of class 4 or 5, and only the end of a message has changes.
//! - A field that a filter makes is one field.
//! - After a failure there are only failures.
//!
//! The first byte chooses the size of the pieces. With its highest bit the rest is all that the
//! filter sends. Without it the filter agrees, the next four bytes are the bits of the protocol
//! that it takes, and the rest comes after that.

use bytes::Bytes;
use postrider_config::HookStage;
use postrider_receive::hooks::{
    answer::{Answer, Change, Failure, Vote},
    asked::Asked,
    draft::{Draft, DraftLimits},
    edit::Section,
    milter::{MilterSession, Negotiation, Output, Question},
};
use postrider_smtp::{
    BodyType, DeliveryOptions, ForwardPath, ReversePath,
    server::{Client, MailFrom, RcptTo, SessionId},
};

const BODY_MAX: usize = 1000;
/// The bits that are offered.
const OFFERED: u32 = 0x301f_ffff;
const SECTION: &[u8] = b"From: a\r\nSubject: b\r\n c\r\nno field\r\n";
const LIMITS: DraftLimits = DraftLimits {
    section: 1_000_000,
    text: 1_000_000,
    recipients: 100,
};

/// Fails where one of these does not hold.
pub(crate) fn check(data: &[u8]) {
    let Some((options, rest)) = data.split_first() else {
        return;
    };
    let step = usize::from(options & 0x7f).max(1);
    if options & 0x80 != 0 {
        negotiation(rest, step);
        return;
    }
    let Some((bits, rest)) = rest.split_first_chunk() else {
        return;
    };
    let mut reply = b"\0\0\0\x0dO\0\0\0\x06\0\0\x01\xff".to_vec();
    reply.extend((u32::from_be_bytes(*bits) & OFFERED).to_be_bytes());
    let session = agreed(&reply, 1).expect("an agreement").1;
    conversation(session, rest, step);
}

/// The negotiation, and the conversation if there is an agreement.
fn negotiation(bytes: &[u8], step: usize) {
    let whole = agreed(bytes, bytes.len().max(1));
    let pieces = agreed(bytes, step);
    match (whole, pieces) {
        (Ok((used, session)), Ok((_, other))) => {
            assert_eq!(session.wants_rejected(), other.wants_rejected());
            conversation(session, bytes.get(used..).unwrap_or_default(), step);
        }
        (Err(one), Err(other)) => assert_eq!(one, other),
        other => panic!("the pieces matter: {other:?}"),
    }
}

/// The conversation after an agreement, and the number of bytes up to there. None as the failure:
/// there is no agreement yet.
fn agreed(bytes: &[u8], step: usize) -> Result<(usize, MilterSession), Option<Failure>> {
    let mut negotiation = Negotiation::default();
    let mut used = 0;
    for piece in bytes.chunks(step) {
        negotiation.receive(piece);
        used += piece.len();
        if let Some(agreed) = negotiation.poll().map_err(Some)? {
            return Ok((used, negotiation.into_session(agreed, BODY_MAX)));
        }
    }
    Err(None)
}

/// A client with a message.
struct World {
    client: Client,
    draft: Draft,
}

impl World {
    fn new() -> Self {
        let remote = "192.0.2.1:1025".parse().expect("an address");
        let rcpt = |path: &str| RcptTo {
            forward_path: ForwardPath::parse(path).expect("a path"),
            notify: None,
            orcpt: None,
        };
        Self {
            client: Client::new(SessionId::of(0), remote, remote),
            draft: Draft {
                mail: MailFrom {
                    reverse_path: ReversePath::Null,
                    size: None,
                    body: BodyType::SevenBit,
                    smtputf8: false,
                    require_tls: false,
                    ret: None,
                    envid: None,
                    delivery: DeliveryOptions::default(),
                },
                recipients: vec![rcpt("a@d.test"), rcpt("b@d.test")],
                section: Section::read(&Bytes::from_static(SECTION)),
                body: Bytes::from_static(b"body\r\n").into(),
                text_changed: false,
            },
        }
    }

    fn asked(&self, stage: HookStage) -> Asked<'_> {
        let recipients = self.draft.recipients.as_slice();
        Asked {
            stage,
            listener: "mx",
            hostname: "mail.test",
            client: &self.client,
            helo: Some("c.test"),
            ptr: None,
            connections: 1,
            login: None,
            mail: Some(&self.draft.mail),
            recipients,
            draft: (stage == HookStage::Data).then_some(&self.draft),
            added: b"Received: here\r\n",
        }
    }
}

/// Asks at all stages of two messages. The filter sends a piece at each wait.
fn conversation(mut session: MilterSession, bytes: &[u8], step: usize) {
    let mut world = World::new();
    let mut pieces = bytes.chunks(step);
    let mut failed = None;
    for transaction in 1..3 {
        world.client.transaction = transaction;
        for stage in [
            HookStage::Connect,
            HookStage::Ehlo,
            HookStage::Auth,
            HookStage::Mail,
            HookStage::Rcpt,
            HookStage::Data,
        ] {
            let asked = world.asked(stage);
            let (asked, refused) = (&asked, None);
            let answer = answer(&mut session, &Question { asked, refused }, &mut pieces);
            sent(&session.output());
            match (answer, &failed) {
                (Err(failure), None) => failed = Some(failure),
                (answer, Some(failure)) => assert_eq!(answer.as_ref(), Err(failure)),
                (Ok(answer), None) => good(&answer, stage, &world.draft),
            }
        }
    }
}

fn answer<'a>(
    session: &mut MilterSession,
    question: &Question<'_>,
    pieces: &mut impl Iterator<Item = &'a [u8]>,
) -> Result<Answer, Failure> {
    if let Some(answer) = session.decided(question)? {
        return Ok(answer);
    }
    session.begin(question)?;
    loop {
        let output = session.poll(question)?;
        sent(&session.output());
        match output {
            Output::Wait(_) => match pieces.next() {
                Some(piece) => session.receive(piece),
                None => return Err(session.fail(Failure::Timeout)),
            },
            Output::Piece { at, max } => {
                assert!(at < 6 && max >= 65535);
                session.give(b"ody\r\n");
            }
            Output::Done(answer) => return Ok(answer),
        }
    }
}

/// What is sent is whole packets of a limited size.
fn sent(bytes: &[u8]) {
    assert!(bytes.len() < 10_000);
    let mut rest = bytes;
    while let Some((length, packet)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).expect("a length");
        assert!(length > 0);
        rest = packet.get(length..).expect("a whole packet");
    }
    assert!(rest.is_empty());
}

fn good(answer: &Answer, stage: HookStage, draft: &Draft) {
    match &answer.vote {
        Vote::Refuse(reply) => {
            assert!(reply.code().is_transient() || reply.code().is_permanent());
            assert_eq!(answer.closes, reply.code().get() == 421);
        }
        Vote::Discard(reply) => assert!(reply.code().is_positive()),
        Vote::Quarantine(_) => assert_eq!(stage, HookStage::Data),
        _ => {}
    }
    let is_kept = matches!(answer.vote, Vote::Accept | Vote::Quarantine(_));
    assert!(answer.changes.is_empty() || stage == HookStage::Data && is_kept);
    for change in &answer.changes {
        if let Change::Body(body) = change {
            // A lone line end becomes two bytes.
            assert!(body.len() <= 2 * BODY_MAX);
        }
        let mut changed = draft.clone();
        if changed.apply(std::slice::from_ref(change), &LIMITS).is_ok() {
            let written = Bytes::from(changed.section.written());
            assert_eq!(Section::read(&written), changed.section);
        }
    }
}
