//! A filter that accepts, works on, or changes the message.

use super::*;

#[test]
fn an_acceptance_ends_the_questions() {
    let accept: &[u8] = b"a";
    // Of the connection, for good.
    for stage in [Connect, Ehlo] {
        let (mut filter, mut world) = (Filter::new(0), world());
        if stage == Ehlo {
            filter.up_to(&world, (Connect, 0));
        }
        assert_eq!(
            filter.ask(&world, (stage, 0), &[accept]),
            Ok(Answer::ACCEPT)
        );
        filter.letters();
        for step in [(Ehlo, 0), (Mail, 0), (Rcpt, 1), (Data, 0), (Mail, 0)] {
            world.client.transaction += 1;
            assert_eq!(filter.ask(&world, step, &[]), Ok(Answer::ACCEPT));
        }
        assert_eq!(filter.letters(), "");
    }
    // Of the message. The next one is asked about.
    for step in [(Mail, 0), (Rcpt, 1)] {
        let (mut filter, mut world) = (Filter::new(0), world());
        let before = match step.0 {
            Mail => (Ehlo, 0),
            _ => (Mail, 0),
        };
        filter.up_to(&world, before);
        assert_eq!(filter.ask(&world, step, &[accept]), Ok(Answer::ACCEPT));
        filter.letters();
        for later in [(Rcpt, 1), (Rcpt, 2)] {
            assert_eq!(filter.ask(&world, later, &[]), Ok(Answer::ACCEPT));
        }
        assert_eq!(filter.letters(), "");
        assert_eq!(filter.ask(&world, (Data, 0), &[]), Ok(Answer::ACCEPT));
        world.client.transaction = 2;
        filter.ask(&world, (Mail, 0), &[CONTINUE]).unwrap();
        assert_eq!(filter.letters(), "AM");
    }
}

#[test]
fn a_message_may_be_accepted_within_its_text() {
    for (accepted_at, told) in [
        (0, "TA"),
        (1, "TLA"),
        (2, "TLLA"),
        (3, "TLLNA"),
        (4, "TLLNBA"),
        (5, "TLLNBE"),
    ] {
        let (mut filter, world) = (Filter::new(0), world());
        filter.up_to(&world, (Rcpt, 2));
        let mut replies = vec![CONTINUE; accepted_at];
        replies.push(b"a");
        let answer = filter.ask(&world, (Data, 0), &replies);
        assert_eq!(answer, Ok(Answer::ACCEPT));
        assert_eq!(filter.letters(), told);
    }
}

#[test]
fn a_filter_that_works_on_gets_more_time() {
    let (mut filter, world) = (Filter::new(0), world());
    filter.up_to(&world, (Rcpt, 2));
    let asked = world.asked(Data, 0);
    let (asked, refused) = (&asked, None);
    let question = Question { asked, refused };
    let session = &mut filter.session;
    session.begin(&question).unwrap();
    let mut wait = |bytes: &[u8]| {
        session.receive(bytes);
        match session.poll(&question).unwrap() {
            Output::Wait(wait) => wait,
            other => panic!("{other:?}"),
        }
    };
    let first = wait(b"");
    assert_eq!(wait(b""), first);
    // Half a packet is no progress.
    assert_eq!(wait(b"\0\0\0"), first);
    let second = wait(b"\x01p");
    assert_eq!((second.content, second.number), (false, first.number + 1));
    let third = wait(&framed(b"c"));
    assert_eq!((third.content, third.number), (false, second.number + 1));
}

#[test]
fn the_body_and_the_end_have_more_time() {
    let (mut filter, world) = (Filter::new(0xf_f080 & !0x8_0000), world());
    let asked = world.asked(Data, 0);
    let (asked, refused) = (&asked, None);
    let question = Question { asked, refused };
    let session = &mut filter.session;
    session.begin(&question).unwrap();
    let piece = session.poll(&question).unwrap();
    assert!(matches!(piece, Output::Piece { at: 0, max: 65535 }));
    session.give(BODY.as_bytes());
    for reply in ["c", "p", "hA\0b\0"] {
        let output = session.poll(&question).unwrap();
        assert!(matches!(output, Output::Wait(Wait { content: true, .. })));
        session.receive(&framed(reply.as_bytes()));
    }
}

#[test]
fn changes_come_with_the_end() {
    let (mut filter, mut world) = (Filter::new(0), world());
    world.added = b"Received: here\r\n".to_vec();
    filter.up_to(&world, (Rcpt, 2));
    let mut replies = vec![CONTINUE; 5];
    let ends: [&[u8]; 5] = [b"hA\0b\0", b"p", b"i\0\0\0\x01B\0c\0", b"bnew", b"c"];
    replies.extend(ends);
    let answer = filter.ask(&world, (Data, 0), &replies).unwrap();
    let field = |name: &[u8], value: &[u8]| NewField::exact(name, value).unwrap();
    let expected = [
        Change::Header(Edit::AtEnd(field(b"A", b" b"))),
        Change::Header(Edit::At(0, field(b"B", b" c"))),
        Change::Body("new".into()),
    ];
    assert_eq!(
        (answer.vote, answer.changes.as_slice()),
        (Vote::Accept, &expected[..])
    );
    // The next message begins without them.
    filter.ask(&world, (Mail, 0), &[CONTINUE]).unwrap();
    let answer = filter.ask(&world, (Data, 0), &[CONTINUE; 6]);
    assert_eq!(answer, Ok(Answer::ACCEPT));
}

#[test]
fn a_quarantine_goes_with_an_acceptance() {
    let changes: [&[u8]; 2] = [b"qbad news\0", b"hA\0b\0"];
    for (last, vote, kept) in [
        (b"c".as_slice(), Vote::Quarantine("bad news".into()), 1),
        (b"a", Vote::Quarantine("bad news".into()), 1),
        (b"r", Vote::reject(), 0),
        (b"d", Vote::discard(), 0),
    ] {
        let (mut filter, world) = (Filter::new(SILENT), world());
        let replies = [changes[0], changes[1], last];
        let answer = filter.ask(&world, (Data, 0), &replies).unwrap();
        assert_eq!((answer.vote, answer.changes.len()), (vote, kept));
    }
}

#[test]
fn refused_recipients_are_told_of_to_a_filter_that_wants_them() {
    let (mut filter, world) = (Filter::new(0x800), world());
    assert!(filter.session.wants_rejected());
    assert!(!Filter::new(0).session.wants_rejected());
    filter.up_to(&world, (Connect, 0));
    let reply = Reply::fixed(
        ReplyCode::MAILBOX_UNAVAILABLE,
        Some(EnhancedCode::UNKNOWN_MAILBOX),
        "no such user",
    );
    let asked = world.asked(Rcpt, 2);
    let question = Question {
        asked: &asked,
        refused: Some(&reply),
    };
    let replies: [&[u8]; 4] = [b"c", b"c", b"c", b"r"];
    let answer = filter.question(&question, &replies).unwrap();
    assert_eq!(answer.vote, Vote::reject());
    let told = filter.told();
    let macros: Vec<_> = told.iter().filter(|line| line.starts_with("D R")).collect();
    assert_eq!(
        macros,
        [
            "D Ri|000000000000.1|{rcpt_addr}|b@d.test|{rcpt_host}|d.test|{rcpt_mailer}|smtp|",
            "D Ri|000000000000.1|{rcpt_addr}|no such user|{rcpt_host}|5.1.1|{rcpt_mailer}|error|",
        ]
    );
    // The message goes on.
    assert_eq!(
        filter.ask(&world, (Rcpt, 2), &[CONTINUE]),
        Ok(Answer::ACCEPT)
    );
}
