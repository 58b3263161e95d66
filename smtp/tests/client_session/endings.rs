//! Connections that end, at any point.

use postrider_smtp::client::PieceRequest;

use super::*;

#[test]
fn unavailable_at_any_point() {
    let bye = "421 4.3.2 shutting down";
    let mails = [mail(&["a", "b"], "x\r\n"), mail(&["c"], "x\r\n")];
    let commands = format!(
        "{PIPELINING} C: MAIL FROM:<s@example.org>
        C: RCPT TO:<a@x.org>
        C: RCPT TO:<b@x.org>
        C: DATA\n"
    );
    let both = |command: &str| {
        let first = format!("later {command}: {bye}");
        [
            first.clone(),
            first,
            "--".to_owned(),
            format!("later {command}: {bye} NewConnection"),
        ]
    };
    let check = |dialog: &str, expected: &[String]| {
        let expected: Vec<_> = expected.iter().map(String::as_str).collect();
        assert!(!check(&mails, &format!("{commands}{dialog}"), &expected).usable(Instant::now()));
    };
    check(&format!("S: {bye}"), &both("MAIL"));
    check(&format!("S: 250 ok\nS: {bye}"), &both("RCPT"));
    check(
        &format!("S: 250 ok\nS: 250 ok\nS: 250 ok\nS: {bye}"),
        &both("DATA"),
    );
    let mut refused = both("DATA");
    refused[0] = "failed RCPT: 550 no".to_owned();
    check(
        &format!("S: 250 ok\nS: 550 no\nS: 250 ok\nS: {bye}"),
        &refused,
    );
    let text = "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\nC: x\nC: .\n";
    check(&format!("{text}S: {bye}"), &both("end of data"));
    let ok = "ok end of data: 250 ok".to_owned();
    let next = [
        ok.clone(),
        ok,
        "--".to_owned(),
        format!("later MAIL: {bye} NewConnection"),
    ];
    let commands = "C: MAIL FROM:<s@example.org>\nC: RCPT TO:<c@x.org>\nC: DATA\n";
    check(&format!("{text}S: 250 ok\n{commands}S: {bye}"), &next);
}

#[test]
fn lost_at_any_point() {
    let mails = [mail(&["a"], "x\r\n"), mail(&["b"], "x\r\n")];
    let lost = "4.4.2 connection closed by the server";
    let start = format!("{PLAIN} C: MAIL FROM:<s@example.org>\n");
    let cases = [
        ("", "MAIL", ""),
        ("S: 250 ok\nC: RCPT TO:<a@x.org>\n", "RCPT", ""),
        (
            "S: 250 ok\nC: RCPT TO:<a@x.org>\nS: 250 ok\nC: DATA\n",
            "DATA",
            "",
        ),
        (
            "S: 250 ok\nC: RCPT TO:<a@x.org>\nS: 250 ok\nC: DATA\nS: 354 go\nC: x\nC: .\n",
            "end of data",
            "; the message may have been delivered",
        ),
    ];
    for (dialog, command, uncertain) in cases {
        let first = format!("later Lost {command}: {lost}{uncertain}");
        let second = format!("later Lost {command}: {lost} NewConnection");
        check(
            &mails,
            &format!("{start}{dialog}X: lost"),
            &[&first, "--", &second],
        );
    }
}

#[test]
fn lost_between_two_messages() {
    let dialog = format!(
        "{PLAIN} C: MAIL FROM:<s@example.org>
        S: 250 ok
        C: RCPT TO:<a@x.org>
        S: 250 ok
        C: DATA
        S: 354 go
        C: x
        C: .
        S: 250 ok
        C: MAIL FROM:<s@example.org>
        X: lost"
    );
    let mails = [mail(&["a"], "x\r\n"), mail(&["b"], "x\r\n")];
    let expected = [
        "ok end of data: 250 ok",
        "--",
        "later Lost MAIL: 4.4.2 connection closed by the server NewConnection",
    ];
    check(&mails, &dialog, &expected);
}

#[test]
fn lost_with_several_texts_under_way() {
    let dialog = format!(
        "{CHUNKING}{TAKEN} C: MAIL FROM:<s@example.org>
        C: RCPT TO:<a@x.org>
        C: BDAT 3 LAST
        C: x
        C: RSET
        C: MAIL FROM:<s@example.org>
        C: RCPT TO:<b@x.org>
        C: BDAT 3 LAST
        C: y
        S: 250 ok
        S: 250 ok
        X: lost"
    );
    let mails = [
        mail(&["z"], "z\r\n"),
        mail(&["a"], "x\r\n"),
        mail(&["b"], "y\r\n"),
    ];
    let lost = "later Lost BDAT: 4.4.2 connection closed by the server; the message may have been delivered";
    let expected = ["ok BDAT: 250 taken", "--", lost, "--", lost];
    check(&mails, &dialog, &expected);
}

#[test]
fn garbage_at_any_point() {
    let start = format!("{PLAIN} C: MAIL FROM:<s@example.org>\n");
    let expected = ["later Protocol MAIL: 4.5.0 not an SMTP reply: \"hello\""];
    check(&[mail(&["a"], "x")], &format!("{start}S: hello"), &expected);
    check_closed(
        &config(),
        "S: SSH-2.0-x",
        "transient Protocol: greeting: 4.5.0 not an SMTP reply: \"SSH-2.0-x\"",
    );
}

#[test]
fn more_replies_than_commands() {
    let dialog =
        format!("{PLAIN} C: MAIL FROM:<s@example.org>\nS: 250 ok\nS: 250 ok\nC: RCPT TO:<a@x.org>");
    // A second reply after RCPT counts as its reply. Before RCPT it is unexpected.
    let mails = [mail(&["a"], "x")];
    let run = run(
        &config(),
        &mails,
        &dialog.replace("\nC: RCPT TO:<a@x.org>", ""),
        1000,
    );
    let results = run.results.expect("done");
    assert_eq!(
        show(&results[0]),
        ["later Protocol RCPT: 4.5.0 unexpected reply: 250 ok"]
    );
}

#[test]
fn a_server_that_gives_up_in_the_middle_of_a_text() {
    let mails = [mail(&["a"], "abcdefghij\r\n")];
    let mut run = Run {
        session: Session::new(config(), Instant::now()),
        mails: &mails,
        now: Instant::now(),
        sent: String::new(),
        handshake: false,
        results: None,
    };
    for reply in ["220 mx\r\n", "250 mx\r\n", "250 ok\r\n", "250 ok\r\n"] {
        run.session.receive(reply.as_bytes(), run.now);
        run.drain();
    }
    run.session.receive(b"354 go\r\n", run.now);
    assert!(matches!(
        run.session.poll_output(),
        Some(Output::Ask(PieceRequest {
            message: 0,
            offset: 0,
            max: 12
        }))
    ));
    run.session.answer(Some(b"abc"), run.now);
    run.session.receive(b"552 5.3.4 too big\r\n", run.now);
    run.drain();
    assert_eq!(
        show(&run.results.unwrap()[0]),
        ["failed end of data: 552 5.3.4 too big"]
    );
    assert!(!run.session.usable(Instant::now()));
}

#[test]
fn a_text_that_cannot_be_read_ends_the_connection() {
    let mut broken = mail(&["a"], "x\r\n");
    let dialog = format!(
        "{PLAIN} C: MAIL FROM:<s@example.org>
        S: 250 ok
        C: RCPT TO:<a@x.org>
        S: 250 ok
        C: DATA
        S: 354 go"
    );
    // The size of the message is more than the text has.
    broken.text.truncate(3);
    let mails = [broken];
    let mut run = run(
        &config(),
        &mails,
        dialog.trim_end_matches("S: 354 go"),
        1000,
    );
    run.session.receive(b"354 go\r\n", run.now);
    assert!(matches!(run.session.poll_output(), Some(Output::Ask(_))));
    run.session.answer(None, run.now);
    run.drain();
    assert_eq!(
        show(&run.results.unwrap()[0]),
        ["later Local 4.3.0 the message could not be read"]
    );
    assert_eq!(run.sent, "");
}

#[test]
fn a_rset_that_is_refused_ends_the_connection() {
    let dialog = format!(
        "{PLAIN} C: MAIL FROM:<s@example.org>
        S: 250 ok
        C: RCPT TO:<a@x.org>
        S: 550 no
        C: RSET
        S: 500 no such thing"
    );
    let mails = [mail(&["a"], "x"), mail(&["b"], "x")];
    let expected = [
        "failed RCPT: 550 no",
        "--",
        "later RSET: 500 no such thing NewConnection",
    ];
    check(&mails, &dialog, &expected);
}

#[test]
fn quit_and_after() {
    let dialog = format!("{PLAIN} X: quit\nC: QUIT\nS: 221 bye");
    let mut run = run(&config(), &[], &dialog, 1000);
    assert!(run.session.closed().is_some());
    let envelope = mail(&["a"], "x").envelope;
    run.session.submit([(envelope, 1)], run.now);
    assert_eq!(run.session.poll_output(), Some(Output::Done));
    assert_eq!(
        run.session.results()[0].recipients[0].again,
        Again::NewConnection
    );
}

#[test]
fn a_server_that_closed_while_nothing_was_asked() {
    let mut run = run(&config(), &[], PLAIN, 1000);
    run.session
        .receive(b"421 4.4.2 idle for too long\r\n", run.now);
    assert!(!run.session.usable(Instant::now()));
    run.session
        .submit([(mail(&["a"], "x").envelope, 1)], run.now);
    run.drain();
    let results = run.results.unwrap();
    assert_eq!(results[0].recipients[0].again, Again::NewConnection);
}

/// The server says go and no at once, before any byte of the text.
#[test]
fn refused_in_the_packet_of_the_go() {
    let mails = [mail(&["a", "b"], "x\r\n"), mail(&["c"], "x\r\n")];
    let commands = "C: MAIL FROM:<s@example.org>
        S: 250 ok
        C: RCPT TO:<a@x.org>
        S: 250 ok
        C: RCPT TO:<b@x.org>
        S: 250 ok
        C: DATA\n";
    for (reply, kind) in [
        ("554 5.7.1 blocked", "failed"),
        ("451 4.7.1 later", "later"),
        ("421 4.7.0 bye", "later"),
    ] {
        let dialog = format!("{PLAIN}{commands}S: 354 go\nS: {reply}\nX: lost");
        let mut run = run(&config(), &mails, &dialog, 1000);
        let results = run.results.take().unwrap();
        let shown = format!("{kind} end of data: {reply}");
        assert_eq!(show(&results[0]), [shown.clone(), shown]);
        assert_eq!(
            show(&results[1]),
            [format!("later end of data: {reply} NewConnection")]
        );
        assert!(!run.session.usable(Instant::now()));
    }
    // A success that nobody asked for is none.
    let dialog = format!("{PLAIN}{commands}S: 354 go\nS: 250 2.0.0 taken");
    let mut run = run(&config(), &mails, &dialog, 1000);
    let results = run.results.take().unwrap();
    let shown = show(&results[0]).join("; ");
    assert!(
        shown.contains("unexpected reply: 250 2.0.0 taken"),
        "{shown}"
    );
}
