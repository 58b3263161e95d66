//! The time limits of a session.

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// The session after this dialog.
fn after<'a>(mails: &'a [Mail], dialog: &str) -> Run<'a> {
    run(&config(), mails, dialog, 1000)
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

#[test]
fn a_block_of_a_text_has_a_time_limit_as_a_whole() {
    let mails = [mail(&["a"], &"x".repeat(200_000))];
    let dialog = format!(
        "{PLAIN} C: MAIL FROM:<s@example.org>
        S: 250 ok
        C: RCPT TO:<a@x.org>
        S: 250 ok
        C: DATA"
    );
    let mut run = after(&mails, &dialog);
    run.session.receive(b"354 go\r\n", run.now);
    for _ in 0..2 {
        let block = loop {
            match run.session.poll_output() {
                Some(Output::Ask(request)) => {
                    run.session.answer(Some(&vec![b'x'; request.max]), run.now);
                }
                output => break output,
            }
        };
        assert!(matches!(block, Some(Output::Send(_))), "{block:?}");
        assert_eq!(run.session.deadline(), Some(run.now + 3 * MINUTE));
        run.now += 2 * MINUTE;
        run.session.wrote(run.now);
    }
    run.now += 3 * MINUTE;
    run.session.timeout(run.now);
    let status = run.session.closed().unwrap();
    assert_eq!(status.text, "the server did not take the message in time");
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
