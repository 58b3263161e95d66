//! Messages that are sent, and messages that are refused.

use super::*;

#[test]
fn in_lock_step() {
    let dialog = format!(
        "{PLAIN} C: MAIL FROM:<s@example.org>
        S: 250 ok
        C: RCPT TO:<a@x.org>
        S: 250 ok
        C: RCPT TO:<b@x.org>
        S: 550 5.1.1 who?
        C: DATA
        S: 354 go
        C: Subject: x
        C:
        C: ..
        C: .
        S: 250 2.0.0 queued as 1"
    );
    let expected = [
        "ok end of data: 250 2.0.0 queued as 1",
        "failed RCPT: 550 5.1.1 who?",
    ];
    let session = check(
        &[mail(&["a", "b"], "Subject: x\r\n\r\n.\r\n")],
        &dialog,
        &expected,
    );
    assert!(session.usable(Instant::now()));
}

#[test]
fn pipelined_over_several_messages_after_a_success() {
    let dialog = format!(
        "{PIPELINING} C: MAIL FROM:<s@example.org>
        C: RCPT TO:<a@x.org>
        C: DATA
        S: 250 ok
        S: 250 ok
        S: 354 go
        C: one
        C: .
        S: 451 not now
        C: MAIL FROM:<s@example.org>
        C: RCPT TO:<b@x.org>
        C: DATA
        S: 250 ok
        S: 250 ok
        S: 354 go
        C: two
        C: .
        S: 250 queued
        C: MAIL FROM:<s@example.org>
        C: RCPT TO:<c@x.org>
        C: DATA
        S: 250 ok
        S: 250 ok
        S: 354 go
        C: three
        C: .
        C: MAIL FROM:<s@example.org>
        C: RCPT TO:<d@x.org>
        C: DATA
        S: 452 full
        S: 450 later
        S: 503 need MAIL
        S: 503 need RCPT"
    );
    let mails = [
        mail(&["a"], "one\r\n"),
        mail(&["b"], "two"),
        mail(&["c"], "three"),
        mail(&["d"], "four"),
    ];
    check(
        &mails,
        &dialog,
        &[
            "later end of data: 451 not now",
            "--",
            "ok end of data: 250 queued",
            "--",
            "later end of data: 452 full",
            "--",
            "later MAIL: 450 later",
        ],
    );
}

#[test]
fn chunks_need_no_waiting_after_a_success() {
    let dialog = format!(
        "{CHUNKING}{TAKEN} C: MAIL FROM:<s@example.org>
        C: RCPT TO:<a@x.org>
        C: BDAT 5 LAST
        C: one
        C: RSET
        C: MAIL FROM:<s@example.org>
        C: RCPT TO:<b@x.org>
        C: BDAT 3 LAST
        C: .
        S: 250 ok
        S: 550 no
        S: 503 no recipients
        S: 250 reset
        S: 250 ok
        S: 250 ok
        S: 250 queued"
    );
    let mails = [
        mail(&["z"], "z\r\n"),
        mail(&["a"], "one\r\n"),
        mail(&["b"], ".\r\n"),
    ];
    let taken = "ok BDAT: 250 taken";
    let expected = [
        taken,
        "--",
        "failed RCPT: 550 no",
        "--",
        "ok BDAT: 250 queued",
    ];
    check(&mails, &dialog, &expected);
}

#[test]
fn chunks_in_lock_step() {
    let dialog = "S: 220 mx
        C: EHLO client.example.org
        S: 250-mx
        S: 250 CHUNKING
        C: MAIL FROM:<s@example.org>
        S: 250 ok
        C: RCPT TO:<a@x.org>
        S: 250 ok
        C: BDAT 3 LAST
        C: .
        S: 250 queued";
    check(&[mail(&["a"], ".\r\n")], dialog, &["ok BDAT: 250 queued"]);
}

/// Gives the session's bytes until it waits for the server.
fn written(session: &mut Session, now: Instant) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(output) = session.poll_output() {
        match output {
            Output::Send(bytes) => {
                all.extend_from_slice(&bytes);
                session.wrote(now);
            }
            Output::Ask(request) => session.answer(Some(&vec![b'x'; request.max]), now),
            output => panic!("{output:?}"),
        }
    }
    all
}

#[test]
fn two_chunks_of_a_text_are_open() {
    const KIB: usize = 1024;
    let mut run = run(&config(), &[], CHUNKING, 1000);
    let (now, session) = (run.now, &mut run.session);
    session.submit([(mail(&["a"], "").envelope, 700 * KIB as u64)], now);
    written(session, now);
    session.receive(b"250 ok\r\n250 ok\r\n", now);
    let line = "BDAT 262144\r\n".len();
    assert_eq!(written(session, now).len(), 2 * (line + 256 * KIB));
    session.receive(b"250 ok\r\n", now);
    let last = written(session, now);
    assert!(last.starts_with(b"BDAT 192512 LAST\r\n"));
    assert_eq!(last.len(), 18 + 188 * KIB);
    session.receive(b"250 ok\r\n", now);
    assert_eq!(written(session, now).len(), 0);
    session.receive(b"250 queued\r\n", now);
    assert_eq!(session.poll_output(), Some(Output::Done));
    assert_eq!(show(&session.results()[0]), ["ok BDAT: 250 queued"]);
}

#[test]
fn commands_that_await_replies_are_limited() {
    let count = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes).unwrap();
        let ends = text.ends_with("DATA\r\n");
        (text.matches("RCPT").count(), ends)
    };
    let names: Vec<String> = (0..130).map(|number| format!("r{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut many = run(&config(), &[], PIPELINING, 1000);
    let (now, session) = (many.now, &mut many.session);
    session.submit([(mail(&names, "").envelope, 1)], now);
    assert_eq!(count(&written(session, now)), (100, false));
    session.receive("250 ok\r\n".repeat(21).as_bytes(), now);
    assert_eq!(count(&written(session, now)), (20, false));
    session.receive("250 ok\r\n".repeat(40).as_bytes(), now);
    assert_eq!(count(&written(session, now)), (10, true));

    let names: Vec<String> = (10..90)
        .map(|number| format!("{number}{}", "r".repeat(62)))
        .collect();
    let mut long = mail(&[], "x");
    let domain = ["x".repeat(63), "y".repeat(63), "z".repeat(60)].join(".");
    let address = |name| Address::parse(&format!("{name}@{domain}")).unwrap();
    long.envelope.recipients = names.iter().map(|name| address(name).into()).collect();
    let mut long_run = run(&config(), &[], PIPELINING, 1000);
    let (now, session) = (long_run.now, &mut long_run.session);
    session.submit([(long.envelope, 1)], now);
    // "RCPT TO:<" and ">" with the end of the line.
    let (first, line) = ("MAIL FROM:<s@example.org>\r\n".len(), 9 + 64 + 1 + 188 + 3);
    let fit = (16 * 1024 - first) / line;
    assert_eq!(written(session, now).len(), first + fit * line);
    session.receive("250 ok\r\n".repeat(fit + 1).as_bytes(), now);
    assert_eq!(count(&written(session, now)), (80 - fit, true));
}

#[test]
fn a_large_text_waits_for_its_recipients() {
    let text = format!("{}\r\n", "x".repeat(70_000));
    let dialog = format!(
        "{CHUNKING} C: MAIL FROM:<s@example.org>
        C: RCPT TO:<a@x.org>
        S: 250 ok
        S: 550 no
        C: RSET
        C: MAIL FROM:<s@example.org>
        C: RCPT TO:<b@x.org>
        S: 250 ok
        S: 250 ok
        S: 250 ok
        C: BDAT 70002 LAST
        C: {}
        S: 250 queued",
        text.trim_end()
    );
    let mails = [mail(&["a"], &text), mail(&["b"], &text)];
    check(
        &mails,
        &dialog,
        &["failed RCPT: 550 no", "--", "ok BDAT: 250 queued"],
    );
}

#[test]
fn a_refused_sender_in_lock_step() {
    let dialog = format!(
        "{PLAIN} C: MAIL FROM:<s@example.org>
        S: 550 5.7.1 blocked
        C: MAIL FROM:<s@example.org>
        S: 450 later"
    );
    let mails = [mail(&["a", "b"], "x"), mail(&["c"], "x")];
    let expected = [
        "failed MAIL: 550 5.7.1 blocked",
        "failed MAIL: 550 5.7.1 blocked",
        "--",
        "later MAIL: 450 later",
    ];
    check(&mails, &dialog, &expected);
}

#[test]
fn a_refused_sender_pipelined() {
    let dialog = format!(
        "{PIPELINING} C: MAIL FROM:<s@example.org>
        C: RCPT TO:<a@x.org>
        C: DATA
        S: 550 5.7.1 blocked
        S: 503 need MAIL
        S: 503 need RCPT
        C: RSET
        C: MAIL FROM:<s@example.org>
        C: RCPT TO:<b@x.org>
        C: DATA
        S: 250 ok
        S: 250 ok
        S: 250 ok
        S: 354 go
        C: x
        C: .
        S: 250 ok"
    );
    let mails = [mail(&["a"], "x\r\n"), mail(&["b"], "x\r\n")];
    check(
        &mails,
        &dialog,
        &[
            "failed MAIL: 550 5.7.1 blocked",
            "--",
            "ok end of data: 250 ok",
        ],
    );
}

#[test]
fn no_recipient_left_in_lock_step() {
    let dialog = format!(
        "{PLAIN} C: MAIL FROM:<s@example.org>
        S: 250 ok
        C: RCPT TO:<a@x.org>
        S: 550 no
        C: RSET
        S: 250 ok
        C: MAIL FROM:<s@example.org>
        S: 250 ok
        C: RCPT TO:<b@x.org>
        S: 450 later"
    );
    let mails = [mail(&["a"], "x"), mail(&["b"], "x")];
    check(
        &mails,
        &dialog,
        &["failed RCPT: 550 no", "--", "later RCPT: 450 later"],
    );
}

#[test]
fn no_recipient_left_but_the_text_is_awaited() {
    let dialog = format!(
        "{PIPELINING} C: MAIL FROM:<s@example.org>
        C: RCPT TO:<a@x.org>
        C: RCPT TO:<b@x.org>
        C: DATA
        S: 250 ok
        S: 550 no
        S: 451 later
        S: 354 go
        C: .
        S: 554 no valid recipients
        C: RSET
        C: MAIL FROM:<s@example.org>
        C: RCPT TO:<c@x.org>
        C: DATA
        S: 250 reset
        S: 250 ok
        S: 250 ok
        S: 354 go
        C: x
        C: .
        S: 250 ok"
    );
    let mails = [mail(&["a", "b"], "x\r\n"), mail(&["c"], "x\r\n")];
    let expected = [
        "failed RCPT: 550 no",
        "later RCPT: 451 later",
        "--",
        "ok end of data: 250 ok",
    ];
    check(&mails, &dialog, &expected);
}

#[test]
fn data_is_refused() {
    let dialog = format!(
        "{PIPELINING} C: MAIL FROM:<s@example.org>
        C: RCPT TO:<a@x.org>
        C: RCPT TO:<b@x.org>
        C: DATA
        S: 250 ok
        S: 250 ok
        S: 550 no
        S: 451 4.3.0 try later"
    );
    let session = check(
        &[mail(&["a", "b"], "x")],
        &dialog,
        &["later DATA: 451 4.3.0 try later", "failed RCPT: 550 no"],
    );
    assert!(session.usable(Instant::now()));
}

#[test]
fn data_is_answered_with_nonsense() {
    let dialog = format!(
        "{PIPELINING} C: MAIL FROM:<s@example.org>
        C: RCPT TO:<a@x.org>
        C: DATA
        S: 250 ok
        S: 250 ok
        S: 250 what data?"
    );
    let expected = ["later Protocol DATA: 4.5.0 unexpected reply: 250 what data?"];
    check(&[mail(&["a"], "x")], &dialog, &expected);
}

#[test]
fn one_recipient_too_many() {
    let dialog = |code: &str| {
        format!(
            "{PIPELINING} C: MAIL FROM:<s@example.org>
            C: RCPT TO:<a@x.org>
            C: RCPT TO:<b@x.org>
            C: DATA
            S: 250 ok
            S: 250 ok
            S: {code}
            S: 354 go
            C: x
            C: .
            S: 250 ok"
        )
    };
    let mails = [mail(&["a", "b"], "x\r\n")];
    let ok = "ok end of data: 250 ok";
    check(
        &mails,
        &dialog("452 4.5.3 too many"),
        &[ok, "later RCPT: 452 4.5.3 too many NewTransaction"],
    );
    check(
        &mails,
        &dialog("552 too many"),
        &[ok, "later RCPT: 552 too many NewTransaction"],
    );
    for (code, said) in [
        (
            "550 5.5.3 too many",
            "later RCPT: 550 5.5.3 too many NewTransaction",
        ),
        (
            "451 4.5.3 too many",
            "later RCPT: 451 4.5.3 too many NewTransaction",
        ),
        (
            "550 too many recipients",
            "later RCPT: 550 too many recipients NewTransaction",
        ),
        (
            "554 5.5.3 too many",
            "later RCPT: 554 5.5.3 too many NewTransaction",
        ),
    ] {
        check(&mails, &dialog(code), &[ok, said]);
    }
    check(
        &mails,
        &dialog("550 5.7.1 too many"),
        &[ok, "failed RCPT: 550 5.7.1 too many"],
    );
    check(
        &mails,
        &dialog("552 5.2.2 over quota"),
        &[ok, "failed RCPT: 552 5.2.2 over quota"],
    );
    check(
        &mails,
        &dialog("452 4.3.1 disk full"),
        &[ok, "later RCPT: 452 4.3.1 disk full"],
    );
}

#[test]
fn the_first_recipient_is_never_one_too_many() {
    let dialog = format!(
        "{PLAIN} C: MAIL FROM:<s@example.org>
        S: 250 ok
        C: RCPT TO:<a@x.org>
        S: 452 too many"
    );
    check(&[mail(&["a"], "x")], &dialog, &["later RCPT: 452 too many"]);
    let dialog = dialog.replace("452 too many", "550 5.5.3 too many");
    check(
        &[mail(&["a"], "x")],
        &dialog,
        &["failed RCPT: 550 5.5.3 too many"],
    );
}

/// The limit is one of the connection.
#[test]
fn a_first_recipient_of_a_later_message_may_be_one_too_many() {
    let dialog = |code: &str| {
        format!(
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
            S: 250 ok
            C: RCPT TO:<b@x.org>
            S: {code}"
        )
    };
    let mails = [mail(&["a"], "x\r\n"), mail(&["b"], "y\r\n")];
    for (code, said) in [
        ("550 5.5.3 too many", "later RCPT: 550 5.5.3 too many"),
        ("550 5.1.1 unknown", "failed RCPT: 550 5.1.1 unknown"),
    ] {
        check(
            &mails,
            &dialog(code),
            &["ok end of data: 250 ok", "--", said],
        );
    }
}

#[test]
fn limits_are_kept() {
    let dialog = "S: 220 mx
        C: EHLO client.example.org
        S: 250-mx
        S: 250 LIMITS RCPTMAX=1 MAILMAX=1
        C: MAIL FROM:<s@example.org>
        S: 250 ok
        C: RCPT TO:<a@x.org>
        S: 250 ok
        C: DATA
        S: 354 go
        C: x
        C: .
        S: 250 ok";
    let mails = [mail(&["a", "b"], "x\r\n"), mail(&["c"], "x")];
    let expected = [
        "ok end of data: 250 ok",
        "later Local 4.5.3 the server's limit of recipients is reached NewTransaction",
        "--",
        "later Local 4.5.3 the server's limit of messages on a connection is reached NewConnection",
    ];
    assert!(!check(&mails, dialog, &expected).usable(Instant::now()));
}

#[test]
fn extensions_decide_what_is_sent() {
    let dialog = "S: 220 mx
        C: EHLO client.example.org
        S: 250-mx
        S: 250-SIZE 10
        S: 250 8BITMIME
        C: MAIL FROM:<s@example.org> SIZE=3 BODY=8BITMIME
        S: 250 ok
        C: RCPT TO:<a@x.org>
        S: 250 ok
        C: DATA
        S: 354 go
        C: x
        C: .
        S: 250 ok";
    let mut eight = mail(&["a"], "x\r\n");
    eight.envelope.body_type = BodyType::EightBitMime;
    let mut utf8 = mail(&["a"], "x");
    utf8.envelope.smtputf8 = true;
    let mut tls = mail(&["a"], "x");
    tls.envelope.require_tls = true;
    let mails = [mail(&["a"], "more than ten"), utf8, eight, tls];
    let expected = [
        "failed Local 5.3.4 message of 13 bytes is larger than the server's limit of 10 AnotherHost",
        "--",
        "failed Local 5.6.9 the header section has UTF-8 and the server does not offer SMTPUTF8 AnotherHost",
        "--",
        "ok end of data: 250 ok",
        "--",
        "failed Local 5.7.30 REQUIRETLS is needed and the server does not offer it AnotherHost",
    ];
    check(&mails, dialog, &expected);
}

#[test]
fn nothing_to_send() {
    check(&[mail(&[], "x")], PLAIN, &[""]);
    check(&[], PLAIN, &[]);
}

#[test]
fn lmtp_answers_for_each_recipient() {
    let config = SessionConfig {
        lmtp: true,
        ..config()
    };
    let dialog = "S: 220 mx
        C: LHLO client.example.org
        S: 250-mx
        S: 250-CHUNKING
        S: 250 PIPELINING
        C: MAIL FROM:<s@example.org>
        C: RCPT TO:<a@x.org>
        C: RCPT TO:<b@x.org>
        C: RCPT TO:<c@x.org>
        C: DATA
        S: 250 ok
        S: 250 ok
        S: 550 no
        S: 250 ok
        S: 354 go
        C: x
        C: .
        S: 250 a has it
        S: 452 4.2.2 c is full";
    let expected = [
        "ok end of data: 250 a has it",
        "failed RCPT: 550 no",
        "later end of data: 452 4.2.2 c is full",
    ];
    check_with(
        &config,
        &[mail(&["a", "b", "c"], "x\r\n")],
        dialog,
        &expected,
    );
}
