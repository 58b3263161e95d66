//! A filter that refuses, drops, or does not keep to the protocol.

use super::{
    super::replies::{CLOSING, LATER},
    *,
};

fn reply(text: &str) -> Vote {
    Vote::Refuse(code::read(text.as_bytes()).unwrap())
}

/// The refusals, each as a reply of the filter and as a vote. The last ones close the connection.
fn refusals() -> Vec<(&'static [u8], Vote, bool)> {
    vec![
        (b"r", Vote::reject(), false),
        (b"t", Vote::Refuse(LATER), false),
        (
            b"y550 5.7.1 bad %% news\0",
            reply("550 5.7.1 bad % news"),
            false,
        ),
        (
            b"y451-4.7.1 a\r\n451 4.7.1 b\0",
            reply("451-4.7.1 a\r\n451 4.7.1 b"),
            false,
        ),
        (b"y421 4.7.0 gone\0", reply("421 4.7.0 gone"), true),
        (b"4", Vote::Refuse(CLOSING), true),
        (b"f", Vote::Refuse(CLOSING), true),
    ]
}

fn refused(vote: &Vote, closes: bool) -> Answer {
    Answer {
        closes,
        ..Answer::of(vote.clone())
    }
}

#[test]
fn the_connection_is_refused_for_good() {
    for (packet, vote, closes) in refusals() {
        for stage in [Connect, Ehlo] {
            let (mut filter, world) = (Filter::new(0), world());
            if stage == Ehlo {
                filter.up_to(&world, (Connect, 0));
            }
            let expected = refused(&vote, closes);
            let answer = filter.ask(&world, (stage, 0), &[packet]);
            assert_eq!(answer.as_ref(), Ok(&expected), "{stage:?}");
            filter.letters();
            for step in [(Ehlo, 0), (Mail, 0), (Rcpt, 1), (Data, 0)] {
                assert_eq!(filter.ask(&world, step, &[]).as_ref(), Ok(&expected));
            }
            assert_eq!(filter.letters(), "");
        }
    }
}

#[test]
fn a_refused_sender_ends_the_message() {
    for (packet, vote, closes) in refusals() {
        let (mut filter, mut world) = (Filter::new(0), world());
        filter.up_to(&world, (Ehlo, 0));
        let answer = filter.ask(&world, (Mail, 0), &[packet]);
        assert_eq!(answer, Ok(refused(&vote, closes)));
        assert_eq!(filter.letters(), "MA");
        world.client.transaction = 2;
        if !closes {
            let answer = filter.ask(&world, (Mail, 0), &[CONTINUE]);
            assert_eq!((answer, filter.letters()), (Ok(Answer::ACCEPT), "M".into()));
        }
    }
}

#[test]
fn a_refused_recipient_is_left_out() {
    for (packet, vote, closes) in refusals() {
        let (mut filter, mut world) = (Filter::new(0), world());
        filter.up_to(&world, (Mail, 0));
        let answer = filter.ask(&world, (Rcpt, 1), &[packet]);
        assert_eq!(answer, Ok(refused(&vote, closes)));
        if closes {
            continue;
        }
        world.recipients.remove(0);
        let answer = filter.ask(&world, (Rcpt, 1), &[CONTINUE]);
        assert_eq!(answer, Ok(Answer::ACCEPT));
        let answer = filter.ask(&world, (Data, 0), &[CONTINUE; 6]);
        assert_eq!(answer, Ok(Answer::ACCEPT));
        assert_eq!(filter.letters(), "RRTLLNBE");
    }
}

#[test]
fn a_message_may_be_refused_within_its_text() {
    for (packet, vote, closes) in refusals() {
        for (refused_at, told) in [
            (0, "TA"),
            (1, "TLA"),
            (3, "TLLNA"),
            (4, "TLLNBA"),
            (5, "TLLNBE"),
        ] {
            let (mut filter, mut world) = (Filter::new(0), world());
            filter.up_to(&world, (Rcpt, 2));
            let mut replies = vec![CONTINUE; refused_at];
            replies.push(packet);
            let answer = filter.ask(&world, (Data, 0), &replies);
            assert_eq!(answer, Ok(refused(&vote, closes)));
            assert_eq!(filter.letters(), told);
            world.client.transaction = 2;
            if !closes {
                let answer = filter.ask(&world, (Mail, 0), &[CONTINUE]);
                assert_eq!((answer, filter.letters()), (Ok(Answer::ACCEPT), "M".into()));
            }
        }
    }
}

/// The client was told that the earlier commands are accepted. So the message as a whole is
/// refused.
#[test]
fn a_refusal_of_the_past_refuses_the_message() {
    for (replies, is_connection) in [
        (&[b"r".as_slice()] as &[&[u8]], true),
        (&[b"c", b"r"], true),
        (&[b"c", b"c", b"r"], false),
        (&[b"c", b"c", b"c", b"r"], false),
    ] {
        let expected = Ok(Answer::of(Vote::reject()));
        let (mut filter, mut world) = (Filter::new(0), world());
        assert_eq!(filter.ask(&world, (Rcpt, 2), replies), expected);
        assert_eq!(filter.ask(&world, (Rcpt, 2), &[]), expected);
        assert_eq!(filter.ask(&world, (Data, 0), &[]), expected);
        // It may all happen at the end.
        let mut other = Filter::new(0);
        assert_eq!(other.ask(&world, (Data, 0), replies), expected);
        // Only a refusal of the connection concerns the next message.
        world.client.transaction = 2;
        for filter in [&mut filter, &mut other] {
            match is_connection {
                true => assert_eq!(filter.ask(&world, (Mail, 0), &[]), expected),
                false => assert_eq!(
                    filter.ask(&world, (Mail, 0), &[CONTINUE]),
                    Ok(Answer::ACCEPT)
                ),
            }
        }
    }
}

#[test]
fn a_dropped_message_is_dropped_at_its_end() {
    let discard = || Ok(Answer::of(Vote::discard()));
    for (before, step) in [((Ehlo, 0), (Mail, 0)), ((Mail, 0), (Rcpt, 1))] {
        let (mut filter, mut world) = (Filter::new(0), world());
        filter.up_to(&world, before);
        assert_eq!(filter.ask(&world, step, &[b"d"]), discard());
        filter.letters();
        assert_eq!(filter.ask(&world, (Rcpt, 2), &[]), Ok(Answer::ACCEPT));
        assert_eq!(filter.ask(&world, (Data, 0), &[]), discard());
        assert_eq!(filter.letters(), "A");
        world.client.transaction = 2;
        let answer = filter.ask(&world, (Mail, 0), &[CONTINUE]);
        assert_eq!(answer, Ok(Answer::ACCEPT));
    }
    for (dropped_at, told) in [(0, "TA"), (2, "TLLA"), (4, "TLLNBA"), (5, "TLLNBE")] {
        let (mut filter, world) = (Filter::new(0), world());
        filter.up_to(&world, (Rcpt, 2));
        let mut replies = vec![CONTINUE; dropped_at];
        replies.push(b"d");
        assert_eq!(filter.ask(&world, (Data, 0), &replies), discard());
        assert_eq!(filter.letters(), told);
    }
}

#[test]
fn a_filter_that_speaks_out_of_turn_fails() {
    let at_end = |packet: &'static [u8]| -> Vec<&'static [u8]> {
        let mut replies = vec![CONTINUE; 5];
        replies.push(packet);
        replies
    };
    for (last, step, replies, text) in [
        (
            (Connect, 0),
            (Ehlo, 0),
            vec![b"d".as_slice()],
            "\"d\" to \"H\"",
        ),
        ((Connect, 0), (Ehlo, 0), vec![b"s"], "\"s\" to \"H\""),
        ((Connect, 0), (Ehlo, 0), vec![b"hA\0b\0"], "\"h\" to \"H\""),
        ((Ehlo, 0), (Mail, 0), vec![b"+a@b\0"], "\"+\" to \"M\""),
        ((Ehlo, 0), (Mail, 0), vec![b"qx\0"], "\"q\" to \"M\""),
        ((Mail, 0), (Rcpt, 1), vec![b"s"], "\"s\" to \"R\""),
        (
            (Mail, 0),
            (Rcpt, 1),
            vec![b"O\0\0\0\x06\0\0\0\0\0\0\0\0"],
            "\"O\" to \"R\"",
        ),
        (
            (Mail, 0),
            (Rcpt, 1),
            vec![b"l\0\0\0\0i\0"],
            "\"l\" to \"R\"",
        ),
        ((Rcpt, 2), (Data, 0), vec![b"s"], "\"s\" to \"T\""),
        ((Rcpt, 2), (Data, 0), vec![b"c", b"s"], "\"s\" to \"L\""),
        ((Rcpt, 2), (Data, 0), vec![b"c", b"bx"], "\"b\" to \"L\""),
        (
            (Rcpt, 2),
            (Data, 0),
            vec![b"c", b"c", b"c", b"c", b"-a\0"],
            "\"-\" to \"B\"",
        ),
        ((Rcpt, 2), (Data, 0), at_end(b"s"), "\"s\" to \"E\""),
        (
            (Rcpt, 2),
            (Data, 0),
            at_end(b"z"),
            "an unknown reply, \"z\"",
        ),
        (
            (Rcpt, 2),
            (Data, 0),
            at_end(b"h"),
            "wrong data with the reply",
        ),
        (
            (Rcpt, 2),
            (Data, 0),
            at_end(b"cx"),
            "wrong data with the reply",
        ),
        ((Rcpt, 2), (Data, 0), at_end(b"y250 ok\0"), "no refusal"),
        (
            (Rcpt, 2),
            (Data, 0),
            at_end(b"ha b\0c\0"),
            "is not one: \"a b\"",
        ),
    ] {
        let (mut filter, world) = (Filter::new(0x400), world());
        filter.up_to(&world, last);
        let failure = filter.ask(&world, step, &replies).unwrap_err();
        assert!(matches!(failure, Failure::Invalid(_)));
        assert!(failure.to_string().contains(text), "{failure}");
        // All that comes later fails too.
        for stage in [Connect, Ehlo, Mail, Rcpt, Data] {
            let again = filter.ask(&world, (stage, 1), &[]);
            assert_eq!(again, Err(failure.clone()));
        }
    }
}

#[test]
fn what_was_not_negotiated_is_not_taken() {
    let (mut filter, world) = (Filter::new(0), world());
    filter.up_to(&world, (Rcpt, 2));
    let replies: [&[u8]; 5] = [b"c", b"c", b"c", b"c", b"s"];
    let failure = filter.ask(&world, (Data, 0), &replies).unwrap_err();
    assert!(failure.to_string().contains("\"s\" to \"B\""), "{failure}");
    let mut filter = Filter::of(negotiated(6, 0, SILENT));
    let failure = filter.ask(&world, (Data, 0), &[b"hA\0b\0"]).unwrap_err();
    assert!(failure.to_string().contains("AddHeaders"), "{failure}");
}

#[test]
fn a_filter_that_speaks_unasked_fails() {
    for (bytes, text) in [
        (framed(b"c"), Some("\"c\" without being asked")),
        (framed(b"hA\0b\0"), Some("\"h\" without being asked")),
        (framed(b"z"), Some("an unknown reply")),
        (vec![0; 4], Some("a packet of no bytes")),
        (vec![0xff; 4], Some("a packet of 4294967295 bytes")),
        (framed(b"p").repeat(3), None),
    ] {
        let (mut filter, world) = (Filter::new(0), world());
        filter.up_to(&world, (Connect, 0));
        filter.session.receive(&bytes);
        let answer = filter.ask(&world, (Ehlo, 0), &[CONTINUE]);
        match text {
            None => assert_eq!(answer, Ok(Answer::ACCEPT)),
            Some(text) => {
                let failure = answer.unwrap_err();
                assert!(matches!(failure, Failure::Invalid(_)));
                assert!(failure.to_string().contains(text), "{failure}");
            }
        }
    }
    // Two replies to one command.
    let (mut filter, world) = (Filter::new(0), world());
    let asked = world.asked(Ehlo, 0);
    let (asked, refused) = (&asked, None);
    let question = Question { asked, refused };
    filter.session.begin(&question).unwrap();
    filter.session.receive(&framed(b"c").repeat(2));
    let failure = filter.session.poll(&question).unwrap_err();
    assert!(failure.to_string().contains("without being asked"));
}

#[test]
fn a_question_that_was_broken_off_ends_the_conversation() {
    let (mut filter, world) = (Filter::new(0), world());
    let asked = world.asked(Connect, 0);
    let (asked, refused) = (&asked, None);
    let question = Question { asked, refused };
    filter.session.begin(&question).unwrap();
    assert!(!filter.session.is_waiting());
    filter.session.poll(&question).unwrap();
    assert!(filter.session.is_waiting());
    let failure = filter.ask(&world, (Ehlo, 0), &[]).unwrap_err();
    assert!(matches!(failure, Failure::Unavailable(_)));
    assert!(failure.to_string().contains("broken off"), "{failure}");
}
