//! The names of the reasons of refusals, as the policy learns of them.

use super::{MINUTE, Peer, SECOND, TO_TEXT, config, switch, talks_early};
use crate::reason;

/// The reasons of all refusals in a session in which the client says this.
fn reasons(switches: &str, text: &str) -> Vec<&'static str> {
    let mut config = config();
    switches
        .split_ascii_whitespace()
        .for_each(|word| switch(&mut config, word));
    let mut peer = Peer::new(config);
    peer.say(b"EHLO client.test\r\n");
    peer.say(text.as_bytes());
    given(&peer)
}

fn given(peer: &Peer) -> Vec<&'static str> {
    let reasons = peer.refusals().into_iter();
    let reasons = reasons.map(|refused| refused.reply.reason());
    reasons
        .map(|reason| reason.unwrap_or(reason::OTHER))
        .collect()
}

#[test]
fn each_refusal_tells_its_reason_once() {
    let long_line = format!("DATA\r\n{}\r\n.\r\n", "x".repeat(300));
    let large = format!("DATA\r\n{}.\r\n", "Hello.\r\n".repeat(200));
    let begun = |rest: &str| format!("{TO_TEXT}{rest}");
    let message = "MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\nx\r\n.\r\n";
    for (switches, text, expected) in [
        ("", "NONSENSE\r\n", &[reason::UNKNOWN_COMMAND][..]),
        ("", "NOOP\n", &[reason::SYNTAX]),
        ("", &"x".repeat(3000), &[reason::LINE_TOO_LONG]),
        ("", "GET / HTTP/1.1\r\n", &[reason::NOT_SMTP]),
        ("", "\u{16}\u{3}\u{1}", &[reason::NOT_SMTP]),
        ("", "STARTTLS\r\nNOOP\r\n", &[reason::AFTER_STARTTLS]),
        ("", "EXPN x\r\nAUTH PLAIN\r\n", &[reason::NOT_OFFERED; 2]),
        ("", "XCLIENT ADDR=192.0.2.7\r\n", &[reason::XCLIENT]),
        ("", "DATA\r\n", &[reason::MAIL_FIRST]),
        ("", "BDAT 2\r\nab", &[reason::MAIL_FIRST]),
        (
            "",
            "MAIL FROM:<a@b.test>\r\nDATA\r\n",
            &[reason::RCPT_FIRST],
        ),
        (
            "",
            "MAIL FROM:<a@b.test>\r\nMAIL FROM:<a@b.test>\r\n",
            &[reason::SECOND_MAIL],
        ),
        (
            "",
            "VRFY\r\nMAIL FROM:<a@b.test> SIZE=x\r\n",
            &[reason::PARAMETER; 2],
        ),
        (
            "",
            "MAIL FROM:<a@b.test> RET=FULL\r\n",
            &[reason::PARAMETER_UNKNOWN],
        ),
        (
            "",
            "MAIL FROM:<a@b.test> BODY=BINARYMIME\r\n",
            &[reason::PARAMETER_UNKNOWN],
        ),
        ("", "MAIL FROM:<a@>\r\n", &[reason::ADDRESS_SYNTAX]),
        (
            "",
            "MAIL FROM:<\u{e9}@b.test>\r\n",
            &[reason::NEEDS_SMTPUTF8],
        ),
        (
            "requiretls",
            "MAIL FROM:<a@b.test> REQUIRETLS\r\n",
            &[reason::REQUIRETLS],
        ),
        ("", "MAIL FROM:<a@b.test> SIZE=1001\r\n", &[reason::SIZE]),
        ("", &begun(&large), &[reason::SIZE]),
        ("", &begun(&long_line), &[reason::TEXT_LINE_TOO_LONG]),
        ("", &begun("DATA\r\na\nb\r\n.\r\n"), &[reason::BARE_NEWLINE]),
        ("", &begun("DATA\r\na\rb\r\n.\r\n"), &[reason::BARE_NEWLINE]),
        ("", &begun("DATA\r\na\0b\r\n.\r\n"), &[reason::NUL]),
        (
            "",
            &begun("RCPT TO:<x@d.test>\r\nRCPT TO:<y@d.test>\r\n"),
            &[reason::MESSAGE_RECIPIENTS],
        ),
        ("", &message.repeat(4)[..], &[reason::CONNECTION_MESSAGES]),
        ("auth", "AUTH PLAIN\r\n", &[reason::LOGIN_WITHOUT_TLS]),
        (
            "auth",
            "MAIL FROM:<a@b.test>\r\n",
            &[reason::LOGIN_REQUIRED],
        ),
        ("auth-in-clear", "AUTH NONE\r\n", &[reason::NOT_OFFERED]),
        (
            "auth-in-clear",
            "AUTH PLAIN\r\n*\r\n",
            &[reason::LOGIN_GIVEN_UP],
        ),
        ("auth-in-clear", "AUTH PLAIN !\r\n", &[reason::LOGIN_SYNTAX]),
        (
            "auth-in-clear",
            "AUTH PLAIN YQ==\r\n",
            &[reason::LOGIN_SYNTAX],
        ),
        // \0a@b.test\0wrong
        (
            "auth-in-clear",
            "AUTH PLAIN AGFAYi50ZXN0AHdyb25n\r\n",
            &[reason::BAD_CREDENTIALS],
        ),
        // A policy that gives no name.
        ("", "MAIL FROM:<refused@b.test>\r\n", &[reason::OTHER]),
        ("", "NOOP\r\nRSET\r\nHELP\r\nVRFY x\r\nQUIT\r\n", &[]),
    ] {
        assert_eq!(reasons(switches, text), expected, "{text:?}");
    }
}

#[test]
fn a_transaction_before_ehlo_has_a_reason_of_its_own() {
    let mut peer = Peer::new(config());
    peer.say(b"MAIL FROM:<a@b.test>\r\n");
    assert_eq!(given(&peer), [reason::EHLO_FIRST]);
}

#[test]
fn the_end_by_too_many_errors_has_a_reason_of_its_own() {
    let reasons = reasons("", &"NONSENSE\r\n".repeat(9));
    let mut expected = vec![reason::UNKNOWN_COMMAND; 4];
    expected.push(reason::TOO_MANY_ERRORS);
    assert_eq!(reasons, expected);
}

#[test]
fn ends_by_time_and_by_the_server_and_early_talkers_have_reasons() {
    let mut peer = Peer::new(config());
    peer.wait(5 * MINUTE);
    assert_eq!(given(&peer), [reason::TIMEOUT]);
    let mut peer = Peer::new(config());
    peer.session.shut_down(peer.now + SECOND);
    peer.drain();
    assert_eq!(given(&peer), [reason::STOPPING]);
    for (early, expected) in [
        (&b"EHLO client.test\r\n"[..], reason::EARLY_TALKER),
        (b"GET / HTTP/1.1\r\n", reason::NOT_SMTP),
    ] {
        assert_eq!(given(&talks_early(early)), [expected]);
    }
}
