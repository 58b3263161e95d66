//! The time limits of a session.

use postrider_smtp::client::MayBegin;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// The session after this dialog. Its age does not matter.
fn after<'a>(mails: &'a [Mail], dialog: &str) -> Run<'a> {
    let mut config = config();
    config.timeouts.connection = 60 * MINUTE;
    run(&config, mails, dialog, 1000)
}

/// The server sends one byte of `reply` in each minute. Gives the time until the session ends.
fn dribble(run: &mut Run<'_>, reply: &str) -> Option<Duration> {
    let start = run.now;
    for byte in reply.bytes() {
        run.session.receive(&[byte], run.now);
        run.drain();
        run.now += MINUTE;
        run.session.timeout(run.now);
        if let Some(status) = run.session.closed() {
            assert_eq!(status.cause, Cause::Timeout);
            return Some(run.now - start);
        }
    }
    None
}

#[test]
fn a_reply_has_a_time_limit_as_a_whole() {
    let slow = format!("250-{}", "x".repeat(99));
    assert_eq!(dribble(&mut after(&[], ""), &slow), Some(5 * MINUTE));
    let lines = "250-x\r\n".repeat(20);
    let greeted = "S: 220 mx\nC: EHLO client.example.org";
    assert_eq!(dribble(&mut after(&[], greeted), &lines), Some(5 * MINUTE));
    let mails = [mail(&["a"], "x\r\n")];
    let sent = format!("{PLAIN}C: MAIL FROM:<s@example.org>\n");
    assert_eq!(dribble(&mut after(&mails, &sent), &slow), Some(5 * MINUTE));
    let sent = format!("{sent}S: 250 ok\nC: RCPT TO:<a@x.org>\nS: 250 ok\nC: DATA\n");
    assert_eq!(dribble(&mut after(&mails, &sent), &slow), Some(2 * MINUTE));
    let sent = format!("{sent}S: 354 go\nC: x\nC: .\n");
    assert_eq!(dribble(&mut after(&mails, &sent), &slow), Some(10 * MINUTE));
    // Whole replies may come slowly.
    assert_eq!(dribble(&mut after(&mails, &sent), "250 ok\r\n"), None);
}

/// The session that sends a text of `mails`, after 354.
fn sending(mails: &[Mail], config: &SessionConfig) -> Run<'static> {
    let dialog = format!(
        "{PLAIN} C: MAIL FROM:<s@example.org>
        S: 250 ok
        C: RCPT TO:<a@x.org>
        S: 250 ok
        C: DATA"
    );
    let mut run = run(config, mails, &dialog, 1000);
    run.session.receive(b"354 go\r\n", run.now);
    Run { mails: &[], ..run }
}

/// The size of the next block of the text.
fn block(run: &mut Run<'_>) -> usize {
    loop {
        match run.session.poll_output() {
            Some(Output::Ask(request)) => {
                run.session.answer(Some(&vec![b'x'; request.max]), run.now);
            }
            Some(Output::Send(bytes)) => return bytes.len(),
            output => panic!("{output:?}"),
        }
    }
}

#[test]
fn a_block_of_a_text_has_a_time_limit_as_a_whole() {
    let mails = [mail(&["a"], &"x".repeat(200_000))];
    let mut config = config();
    config.timeouts.min_rate = 1;
    let mut run = sending(&mails, &config);
    for _ in 0..2 {
        block(&mut run);
        for _ in 0..4 {
            run.now += MINUTE / 2;
            run.session.wrote_some(60, run.now);
            run.session.timeout(run.now);
        }
        assert_eq!(run.session.deadline(), Some(run.now + MINUTE));
        run.session.wrote(run.now);
    }
    block(&mut run);
    for _ in 0..5 {
        run.now += MINUTE / 2;
        run.session.wrote_some(60, run.now);
    }
    assert_eq!(run.session.deadline(), Some(run.now + MINUTE / 2));
    run.now += MINUTE / 2;
    run.session.timeout(run.now);
    let status = run.session.closed().unwrap();
    assert_eq!(status.text, "the server did not take the message in time");
}

#[test]
fn a_text_has_a_least_rate() {
    let mails = [mail(&["a"], &"x".repeat(200_000))];
    // 500 bytes per second are 30,000 in a minute. The rate is that of the text, not of a block.
    let mut fast = sending(&mails, &config());
    for _ in 0..3 {
        let size = block(&mut fast);
        for _ in 0..2 {
            fast.now += MINUTE - Duration::from_millis(1);
            fast.session.wrote_some(30_000, fast.now);
            fast.session.timeout(fast.now);
            assert!(fast.session.closed().is_none());
        }
        assert!(size > 60_000);
        fast.session.wrote(fast.now);
    }
    let mut slow = sending(&mails, &config());
    block(&mut slow);
    slow.now += MINUTE - Duration::from_millis(1);
    slow.session.wrote_some(29_999, slow.now);
    slow.session.timeout(slow.now);
    assert!(slow.session.closed().is_none());
    slow.now += Duration::from_millis(1);
    slow.session.timeout(slow.now);
    let status = slow.session.closed().unwrap();
    assert_eq!(status.cause, Cause::Timeout);
    assert_eq!(status.text, "the server did not take the message in time");
}

#[test]
fn the_last_block_of_a_text_has_the_least_rate_too() {
    let mails = [mail(&["a"], &"x".repeat(50_000))];
    let mut run = sending(&mails, &config());
    block(&mut run);
    assert_eq!(run.session.deadline(), Some(run.now + MINUTE));
    run.session.wrote(run.now);
    assert_eq!(run.session.deadline(), Some(run.now + 10 * MINUTE));
}

/// Each reply comes just in time. The limit of the message ends that.
#[test]
fn a_message_has_a_time_limit_as_a_whole() {
    let recipients: Vec<String> = (0..20).map(|number| format!("r{number}")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    for (size, seconds) in [(10, 15 * 60), (1_000_000, 15 * 60 + 2000)] {
        let mails = [mail(&recipients, &"x".repeat(size))];
        let dialog = format!("{PLAIN} C: MAIL FROM:<s@example.org>\n");
        let mut run = after(&mails, &dialog);
        let start = run.now;
        let status = loop {
            run.now += 4 * MINUTE;
            run.session.timeout(run.now);
            if let Some(status) = run.session.closed() {
                break status.clone();
            }
            run.session.receive(b"250 ok\r\n", run.now);
            run.drain();
        };
        assert_eq!(status.text, "the message took too long as a whole");
        let took = (run.now - start).as_secs();
        assert!((seconds..seconds + 240).contains(&took), "{took}");
    }
}

/// The next message has its own time.
#[test]
fn the_time_of_a_message_begins_with_its_mail() {
    let mails = [mail(&["a"], "x\r\n"), mail(&["b"], "x\r\n")];
    let mut run = after(&mails, &format!("{PLAIN} C: MAIL FROM:<s@example.org>\n"));
    for reply in ["250 ok\r\n", "250 ok\r\n", "354 go\r\n", "250 ok\r\n"].repeat(2) {
        run.now += 2 * MINUTE - Duration::from_secs(1);
        run.session.timeout(run.now);
        run.session.receive(reply.as_bytes(), run.now);
        run.drain();
    }
    assert!(run.session.usable(Instant::now()));
    assert_eq!(run.results.map(|results| results.len()), Some(2));
}

#[test]
fn a_reply_without_end_is_none() {
    let line = format!("220-{}\r\n", "x".repeat(100));
    let mut run = after(&[], "");
    for _ in 0..1000 {
        run.session.receive(line.as_bytes(), run.now);
    }
    let status = run.session.closed().unwrap();
    assert_eq!(status.cause, Cause::Protocol);
    assert!(status.text.contains("512 lines"), "{}", status.text);
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

/// Three messages, of which the first was sent and has no reply yet.
fn first_of_three_sent() -> ([Mail; 3], String) {
    let mails = [
        mail(&["a"], "x\r\n"),
        mail(&["b"], "y\r\n"),
        mail(&["c"], "z\r\n"),
    ];
    let sent = format!(
        "{PLAIN}C: MAIL FROM:<s@example.org>
        S: 250 ok
        C: RCPT TO:<a@x.org>
        S: 250 ok
        C: DATA
        S: 354 go
        C: x
        C: ."
    );
    (mails, sent)
}

#[test]
fn no_message_begins_when_the_time_for_messages_is_over() {
    let (mails, sent) = first_of_three_sent();
    for (over, expected) in [(false, Some("MAIL FROM:<s@example.org>\r\n")), (true, None)] {
        let mut run = after(&mails, &sent);
        run.session.begin_none_after(run.now + 14 * MINUTE);
        run.now += if over { 15 } else { 13 } * MINUTE;
        run.session.receive(b"250 taken\r\n", run.now);
        match (run.session.poll_output(), expected) {
            (Some(Output::Send(bytes)), Some(expected)) => assert_eq!(bytes, expected),
            (Some(Output::Done), None) => {
                let results = run.session.results();
                let again = results.iter().map(|result| result.recipients[0].again);
                let expected = [Again::No, Again::NewConnection, Again::NewConnection];
                assert_eq!(again.collect::<Vec<_>>(), expected);
                assert!(results[0].recipients[0].status.is_success());
                assert!(
                    run.session.usable(Instant::now()),
                    "it takes messages of a later attempt"
                );
            }
            (output, _) => panic!("{output:?}"),
        }
    }
}

#[test]
fn a_message_begins_if_it_may_by_then() {
    let (mails, sent) = first_of_three_sent();
    let mut run = after(&mails, &sent);
    run.session.begin_if(MayBegin::new(|index| index == 2));
    run.session.receive(b"250 taken\r\n", run.now);
    let Some(Output::Send(bytes)) = run.session.poll_output() else {
        panic!("the third message begins");
    };
    assert_eq!(bytes, "MAIL FROM:<s@example.org>\r\n");
    run.session.wrote(run.now);
    run.session.receive(b"550 5.7.1 no\r\n", run.now);
    while !matches!(run.session.poll_output(), Some(Output::Done)) {
        run.session.wrote(run.now);
        run.session.receive(b"250 ok\r\n", run.now);
    }
    let results = run.session.results();
    let again: Vec<Again> = results.iter().map(|it| it.recipients[0].again).collect();
    assert_eq!(again, [Again::No, Again::NewConnection, Again::No]);
    assert!(results[0].recipients[0].status.is_success());
    assert_eq!(results[2].recipients[0].status.code, 550);
}

#[test]
fn a_connection_takes_mail_for_five_minutes() {
    let mut run = run(&config(), &[], PLAIN, 1000);
    let (ready, session) = (run.now, &mut run.session);
    let almost = ready + 5 * MINUTE - Duration::from_nanos(1);
    assert!(session.usable(almost));
    assert!(!session.usable(ready + 5 * MINUTE));
    let envelope = mail(&["a"], "x").envelope;
    session.submit([(envelope.clone(), 1), (envelope, 1)], almost);
    let begun = Output::Send("MAIL FROM:<s@example.org>\r\n".into());
    assert_eq!(session.poll_output(), Some(begun));
    // A message that began may end later. The next one does not begin.
    session.receive(b"450 later\r\n", ready + 6 * MINUTE);
    assert_eq!(session.poll_output(), Some(Output::Done));
    let again = session.results();
    let again: Vec<_> = again.iter().map(|it| it.recipients[0].again).collect();
    assert_eq!(again, [Again::No, Again::NewConnection]);
}
