use proptest::prelude::*;

use super::*;
use crate::field::{self, mailboxes, parameters, text};

fn encoded(section: &[u8]) -> (String, bool) {
    let result = in_ascii(section);
    let section = result.section.unwrap_or_else(|| section.to_vec());
    let shown = String::from_utf8_lossy(&section).into_owned();
    (shown, result.needs_smtputf8)
}

/// The section becomes `expected`, and needs no SMTPUTF8.
fn check(section: &[u8], expected: &str) {
    assert_eq!(
        encoded(section),
        (expected.to_owned(), false),
        "{}",
        section.escape_ascii()
    );
}

#[test]
fn texts_become_encoded_words() {
    for (section, expected) in [
        (
            "Subject: gr\u{fc}\u{df}e\r\n".as_bytes(),
            "Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\n",
        ),
        // Latin-1, and no space after the colon.
        (
            b"Subject:gr\xfc\xdfe an alle\r\n",
            "Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?= an alle\r\n",
        ),
        // Only fields with 8-bit bytes change.
        (
            b"X-A:  b\r\n\t c\r\nX-Mailer: M\xfcll 1.0\r\nno field\r\nX-B :d\r\n",
            "X-A:  b\r\n\t c\r\nX-Mailer: =?utf-8?q?M=C3=BCll?= 1.0\r\nno field\r\nX-B :d\r\n",
        ),
        // White space between words and around encoded words.
        (
            "Subject: a  \u{e4} \u{f6}  b\r\n\t\u{fc}\r\n".as_bytes(),
            "Subject: a  =?utf-8?q?=C3=A4_=C3=B6?=  b =?utf-8?q?=C3=BC?=\r\n",
        ),
        (
            "Subject: =?utf-8?q?a?= \u{e4} =?utf-8?q?b?= c\r\n".as_bytes(),
            "Subject: =?utf-8?q?a?= =?utf-8?q?_=C3=A4_?= =?utf-8?q?b?= c\r\n",
        ),
        // The charset of the body.
        (
            b"Subject: \xf0\xd2\xc9\r\nContent-Type: text/plain; charset=koi8-r\r\n",
            "Subject: =?utf-8?b?0J/RgNC4?=\r\nContent-Type: text/plain; charset=koi8-r\r\n",
        ),
        (
            b"Subject: \xfc\r\nContent-Type: text/plain; charset=utf-8\r\n",
            "Subject: =?utf-8?q?=C3=BC?=\r\nContent-Type: text/plain; charset=utf-8\r\n",
        ),
    ] {
        check(section, expected);
    }
}

#[test]
fn names_are_encoded_and_domains_become_a_labels() {
    for (value, expected) in [
        ("J\u{f6}rg <j@x.test>", "=?utf-8?q?J=C3=B6rg?= <j@x.test>"),
        ("J\u{f6}rg<j@x.test>", "=?utf-8?q?J=C3=B6rg?= <j@x.test>"),
        (
            "\"M\u{fc}ller, \\\"J\\\"\" <j@x.test>, \"A, B\" <b@x.test>",
            "=?utf-8?q?M=C3=BCller=2C_=22J=22?= <j@x.test>, \"A, B\" <b@x.test>",
        ),
        (
            "Ann \u{e4} \"\u{f6}\" Lee <a@x.test>",
            "Ann =?utf-8?q?=C3=A4_=C3=B6?= Lee <a@x.test>",
        ),
        (
            "=?utf-8?q?a?= \u{e4} =?utf-8?q?b?= <a@x.test>",
            "=?utf-8?q?a?= =?utf-8?q?_=C3=A4_?= =?utf-8?q?b?= <a@x.test>",
        ),
        (
            "a@x.test (J\u{f6}rg (x) \\) y)",
            "a@x.test (=?utf-8?q?J=C3=B6rg_=28x=29_=29_y?=)",
        ),
        (
            "Fr\u{e4}: a@x.test, b@x.test;",
            "=?utf-8?q?Fr=C3=A4?=: a@x.test, b@x.test;",
        ),
        ("<x@b\u{fc}cher.test>", "<x@xn--bcher-kva.test>"),
        (
            "x@B\u{fc}cher.test, y@x.test",
            "x@xn--bcher-kva.test, y@x.test",
        ),
        ("x @ b\u{fc}cher.test", "x @ xn--bcher-kva.test"),
        ("\"a b\"@b\u{fc}cher.test", "\"a b\"@xn--bcher-kva.test"),
        (
            "B\u{fc} <\"a@b\"@b\u{fc}cher.test>",
            "=?utf-8?q?B=C3=BC?= <\"a@b\"@xn--bcher-kva.test>",
        ),
    ] {
        check(
            format!("To: {value}\r\n").as_bytes(),
            &format!("To: {expected}\r\n"),
        );
    }
}

#[test]
fn a_local_part_in_utf8_needs_smtputf8() {
    for (value, expected) in [
        ("<j\u{f6}rg@x.test>", "<j\u{f6}rg@x.test>"),
        ("j\u{f6}rg@b\u{fc}cher.test", "j\u{f6}rg@b\u{fc}cher.test"),
        ("\"j\u{f6} rg\"@x.test", "\"j\u{f6} rg\"@x.test"),
        (
            "J\u{f6} <j\u{f6}@x.test>",
            "=?utf-8?q?J=C3=B6?= <j\u{f6}@x.test>",
        ),
        ("j\u{f6}rg @ x.test", "j\u{f6}rg @ x.test"),
        ("<x@.\u{fc}>", "<x@.\u{fc}>"),
    ] {
        let found = encoded(format!("Reply-To: {value}\r\n").as_bytes());
        assert_eq!(
            found,
            (format!("Reply-To: {expected}\r\n"), true),
            "{value}"
        );
    }
}

#[test]
fn parameters_are_extended() {
    for (value, expected) in [
        (
            "attachment; filename=\"\u{fc} b.txt\"; size=1",
            "attachment; filename*=utf-8''%C3%BC%20b.txt; size=1",
        ),
        (
            "attachment; filename=\u{fc}; filename*=utf-8''%C3%A4",
            "attachment; filename*=utf-8''%C3%A4",
        ),
        (
            "attachment; filename*0=\"\u{fc};\"; filename*1=b; a=b",
            "attachment; filename*=utf-8''%C3%BC%3Bb; a=b",
        ),
        // A value without a form in ASCII.
        ("t\u{fc}xt/plain; a=b", "t\u{fc}xt/plain; a=b"),
    ] {
        check(
            format!("Content-Disposition: {value}\r\n").as_bytes(),
            &format!("Content-Disposition: {expected}\r\n"),
        );
    }
    let long = format!("Content-Type: a/b; name=\"{}\"\r\n", "\u{65e5}".repeat(60));
    let (section, _) = encoded(long.as_bytes());
    assert!(
        section.is_ascii() && section.lines().all(|line| line.len() <= 78),
        "{section}"
    );
    let field = Field::read(section.as_bytes()).unwrap();
    assert_eq!(
        parameters(field.value).get("name"),
        Some(&*"\u{65e5}".repeat(60))
    );
}

#[test]
fn what_programs_read_stays() {
    for field in [
        "Message-ID: <\u{fc}@x.test>\r\n",
        "References: <\u{fc}@x.test>\r\n\t<b@x.test>\r\n",
        "Received: from b\u{fc}ro by x.test; Thu, 1 Jan 1970 00:00:00 +0000\r\n",
        "DKIM-Signature: v=1; i=\u{fc}@x.test; h=from\r\n",
        "ARC-Seal: i=1; d=b\u{fc}cher.test\r\n",
        "B\u{fc}: name\r\n",
        "no field \u{fc}\r\n",
    ] {
        check(field.as_bytes(), field);
    }
    check(
        "List-Id: B\u{fc}cher <b\u{fc}.x.test>\r\n".as_bytes(),
        "List-Id: =?utf-8?q?B=C3=BCcher?= <b\u{fc}.x.test>\r\n",
    );
}

#[test]
fn signed_fields_stay() {
    let signature = "DKIM-Signature: v=1; a=rsa-sha256; h=From : subject:\r\n\tTo; b=eA==\r\n";
    let section = format!("{signature}Subject: \u{fc}\r\nTo: \u{fc} <a@x.test>\r\nX-A: \u{fc}\r\n");
    let expected = format!(
        "{signature}Subject: \u{fc}\r\nTo: \u{fc} <a@x.test>\r\nX-A: =?utf-8?q?=C3=BC?=\r\n"
    );
    check(section.as_bytes(), &expected);
    let section = format!("{signature}To: <a@b\u{fc}cher.test>\r\n");
    assert_eq!(encoded(section.as_bytes()), (section.clone(), true));
}

proptest! {
    #[test]
    fn a_text_is_read_back(value in "[ a-z=?_(\"\u{e4}\u{65e5}\u{1f600}]{0,200}") {
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        let (section, _) = encoded(format!("Subject: {value}\r\n").as_bytes());
        prop_assert!(section.is_ascii());
        let read = field::fields(section.as_bytes()).next().unwrap();
        prop_assert_eq!(text(read.value), value, "{}", section);
    }

    #[test]
    fn names_are_read_back(
        names in prop::collection::vec("[a-z]{0,3}[\u{e4}\u{65e5}]{1,30}( [a-z\u{e4}]{1,9}){0,3}", 1..4),
    ) {
        let list: Vec<String> = names.iter().map(|name| format!("{name} <a@x.test>")).collect();
        let (section, needs) = encoded(format!("To: {}\r\n", list.join(", ")).as_bytes());
        prop_assert!(section.is_ascii() && !needs);
        let read = mailboxes(field::fields(section.as_bytes()).next().unwrap().value);
        let read: Vec<String> = read.into_iter().map(|mailbox| mailbox.name).collect();
        prop_assert_eq!(read, names, "{}", section);
    }

    #[test]
    fn any_section_stays_a_section(value in "[a@.:;,<>()\"\\\\ =?\u{e4}\r\n\t]{0,60}") {
        for name in ["Subject", "From", "Content-Type", "List-Id", "Date"] {
            let section = format!("A: b\r\n{name}: {value}\r\nC: d\r\n");
            let before = field::fields(section.as_bytes()).count();
            let after = encoded(section.as_bytes()).0;
            prop_assert_eq!(field::fields(after.as_bytes()).count(), before, "{}", after);
        }
    }
}

#[test]
fn a_charset_hides_no_line_end() {
    let section = b"Content-Type: text/plain; charset=utf-7\r\nSubject: \xe9 a+AA0ACg-Bcc: x@y\r\n";
    let (shown, _) = encoded(section);
    assert_eq!(shown.matches('\n').count(), shown.matches("\r\n").count());
    assert!(!shown.contains("\nBcc"), "{shown}");
}

#[test]
fn a_parameter_with_a_long_name_does_not_grow() {
    let section = |name: usize| {
        let (name, value) = ("n".repeat(name), "\u{e4}".repeat(5000));
        format!("Content-Type: text/plain; {name}=\"{value}\"\r\n").into_bytes()
    };
    let growth = |section: &[u8]| {
        let written = in_ascii(section).section;
        written.map_or(1, |written| written.len() / section.len())
    };
    assert_eq!(growth(&section(61)), 1);
    assert_eq!(growth(&section(5000)), 1);
    assert!((5..20).contains(&growth(&section(60))));
}
