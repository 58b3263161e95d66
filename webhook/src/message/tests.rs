//! Tests of descriptions.

use super::{readable::TEXT_MAX, *};

fn shown_of(text: &[u8]) -> Parsed {
    parse(text, Limits::default())
}

#[test]
fn the_number_and_depth_of_parts_is_limited() {
    let whole = shown_of(MIXED.as_bytes());
    let flat = Limits {
        depth: 1,
        ..Limits::default()
    };
    let shown = parse(MIXED.as_bytes(), flat);
    assert_eq!(shown.structure.parts.len(), whole.structure.parts.len());
    assert!(!whole.structure.parts[0].parts.is_empty());
    assert!(shown.structure.parts[0].parts.is_empty());
    let few = Limits {
        parts: 2,
        ..Limits::default()
    };
    let shown = parse(MIXED.as_bytes(), few);
    assert_eq!((shown.subject, shown.text.as_str()), (whole.subject, ""));
    assert_eq!(part(MIXED.as_bytes(), &[1], few), None);
}

const MIXED: &str = "From: =?utf-8?q?J=C3=B6rg?= <j@example.com>, b@example.com\r\nTo: c@example.org\r\nSubject: hi\r\n\
    Date: Tue, 14 Nov 2023 22:13:20 +0100\r\nMessage-ID: <1@x>\r\nIn-Reply-To: <0@x>\r\nReferences: <a@x>\r\n <0@x>\r\n\
    MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n\
    Content-Type: multipart/alternative; boundary=a\r\n\r\n--a\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\
    Content-Transfer-Encoding: quoted-printable\r\n\r\nh=E4\r\nyou\r\n--a\r\nContent-Type: text/html\r\n\r\n<p>h</p>\r\n--a--\r\n\
    --m\r\nContent-Type: image/PNG; name=\"a.png\"\r\nContent-Disposition: Attachment\r\nContent-ID: <i@x>\r\n\
    Content-Transfer-Encoding: base64\r\n\r\nAAECAwQ=\r\n--m\r\nContent-Type: text/plain\r\n\r\nfooter\r\n--m--\r\n";

#[test]
fn a_message_with_parts() {
    let parsed = shown_of(MIXED.as_bytes());
    assert_eq!(parsed.from.len(), 2);
    assert_eq!(parsed.from[0].name, "J\u{f6}rg");
    assert_eq!(parsed.from[1].address, "b@example.com");
    assert_eq!(
        (parsed.message_id.as_str(), parsed.in_reply_to.as_str()),
        ("<1@x>", "<0@x>")
    );
    assert_eq!(parsed.references, ["<a@x>", "<0@x>"]);
    assert_eq!(parsed.date.as_deref(), Some("2023-11-14T22:13:20+01:00"));
    assert_eq!(parsed.text, "h\u{e4}\nyou");
    assert_eq!(parsed.html, "<p>h</p>");
    let top = &parsed.structure;
    assert_eq!(
        (top.content_type.as_str(), top.decoded_size),
        ("multipart/mixed", 0)
    );
    assert_eq!(top.content_type_params["boundary"], "m");
    assert_eq!(top.parts.len(), 3);
    let plain = &top.parts[0].parts[0];
    assert_eq!(
        (plain.content_type.as_str(), plain.decoded_size),
        ("text/plain", 7)
    );
    let image = &top.parts[1];
    assert_eq!(image.content_type, "image/png");
    assert_eq!(
        (image.content_disposition.as_str(), image.filename.as_str()),
        ("attachment", "a.png")
    );
    assert_eq!(
        (image.content_id.as_str(), image.decoded_size),
        ("<i@x>", 5)
    );
}

#[test]
fn parts_by_path() {
    let part = |path: &[usize]| part(MIXED.as_bytes(), path, Limits::default());
    assert_eq!(part(&[0, 0]).unwrap(), b"h\xe4\r\nyou");
    assert_eq!(part(&[0, 1]).unwrap(), b"<p>h</p>");
    assert_eq!(part(&[1]).unwrap(), [0, 1, 2, 3, 4]);
    assert_eq!(part(&[2]).unwrap(), b"footer");
    assert!(part(&[]).unwrap().starts_with(b"--m\r\n"));
    assert!(part(&[0]).unwrap().starts_with(b"--a\r\n"));
    for none in [&[3][..], &[1, 0], &[0, 2], &[usize::MAX]] {
        assert_eq!(part(none), None);
    }
}

#[test]
fn a_message_without_mime_and_an_empty_message() {
    let parsed = shown_of(b"Subject: x\r\n\r\nbody\r\n");
    assert_eq!(parsed.text, "body\n");
    assert_eq!(parsed.structure.content_type, "text/plain");
    assert_eq!(parsed.structure.decoded_size, 6);
    assert_eq!(parsed.date, None);
    assert_eq!(shown_of(b"").text, "");
}

/// A message with this type and these lines, which end with `\n`.
fn mime(content_type: &str, rest: &str) -> String {
    format!("MIME-Version: 1.0\nContent-Type: {content_type}\n{rest}").replace('\n', "\r\n")
}

#[test]
fn structures_as_json() {
    let table = [
        (
            mime("Text/HTML; Charset=UTF-8; format=Flowed", "\n<p>\n"),
            r#"{"ContentType":"text/html","ContentTypeParams":{"charset":"UTF-8","format":"Flowed"},"ContentID":"","ContentDisposition":"","Filename":"","DecodedSize":5,"Parts":[]}"#,
        ),
        (
            // The name in the disposition wins. Encoded words and the extended form are
            // decoded.
            mime(
                "application/pdf; name=\"b.pdf\"",
                "Content-Disposition: INLINE; filename*=utf-8''%C3%A4.pdf\nContent-ID: <1@x>\nContent-Transfer-Encoding: base64\n\nAAEC\nAw==\n",
            ),
            r#"{"ContentType":"application/pdf","ContentTypeParams":{"name":"b.pdf"},"ContentID":"\u003c1@x\u003e","ContentDisposition":"inline","Filename":"ä.pdf","DecodedSize":4,"Parts":[]}"#,
        ),
        (
            mime(
                "image/png; name=\"=?utf-8?q?=C3=B6?=.png\"",
                "Content-Transfer-Encoding: base64\n\nAAEC\n",
            ),
            r#"{"ContentType":"image/png","ContentTypeParams":{"name":"ö.png"},"ContentID":"","ContentDisposition":"","Filename":"ö.png","DecodedSize":3,"Parts":[]}"#,
        ),
        (
            // The parts of an attached message are not listed.
            mime(
                "multipart/mixed; boundary=m",
                "\n--m\nContent-Type: message/rfc822\nContent-Disposition: attachment\n\nSubject: in\n\nHi\n\n--m--\n",
            ),
            r#"{"ContentType":"multipart/mixed","ContentTypeParams":{"boundary":"m"},"ContentID":"","ContentDisposition":"","Filename":"","DecodedSize":0,"Parts":[{"ContentType":"message/rfc822","ContentTypeParams":{},"ContentID":"","ContentDisposition":"attachment","Filename":"","DecodedSize":19,"Parts":[]}]}"#,
        ),
    ];
    for (text, json) in table {
        let found = crate::json::to_vec(&shown_of(text.as_bytes()).structure).unwrap();
        assert_eq!(String::from_utf8(found).unwrap(), json, "{text}");
    }
}

#[test]
fn the_readable_texts() {
    let plain = |text: &str| format!("Content-Type: text/plain\n\n{text}\n");
    let html = |text: &str| format!("Content-Type: text/html\n\n{text}\n");
    let multi = |kind: &str, parts: &[String]| {
        let parts: String = parts
            .iter()
            .map(|part| format!("--{kind}\n{part}"))
            .collect();
        format!("Content-Type: multipart/{kind}; boundary={kind}\n\n{parts}--{kind}--\n")
    };
    let attached = "Content-Type: text/plain\nContent-Disposition: attachment\n\nfile\n".to_owned();
    let file = "Content-Type: text/html; name=a.html\n\nfile\n".to_owned();
    let message = format!("Content-Type: message/rfc822\n\n{}", plain("inner"));
    let table = [
        (plain("a"), "a\n", ""),
        (html("a"), "", "a\n"),
        ("Content-Type: text/calendar\n\na\n".to_owned(), "", ""),
        (multi("alternative", &[plain("a"), html("b")]), "a", "b"),
        (multi("alternative", &[html("b"), plain("a")]), "a", "b"),
        (
            multi("alternative", &[plain("a"), plain("b"), html("c")]),
            "a",
            "c",
        ),
        // In other multiparts the first of each kind counts, and later texts are something else.
        (multi("mixed", &[plain("a"), html("b")]), "a", "b"),
        (multi("mixed", &[plain("a"), plain("b")]), "a", ""),
        (multi("mixed", &[plain("a"), file]), "a", ""),
        (
            multi("mixed", &[plain("a"), multi("related", &[html("b")])]),
            "a",
            "b",
        ),
        (
            multi(
                "mixed",
                &[
                    plain("banner"),
                    multi("alternative", &[plain("a"), html("b")]),
                ],
            ),
            "banner\na",
            "b",
        ),
        (
            multi(
                "mixed",
                &[
                    plain("banner"),
                    multi("related", &[multi("alternative", &[plain("a"), html("b")])]),
                ],
            ),
            "banner\na",
            "b",
        ),
        (
            multi("mixed", &[attached.clone(), html("b"), plain("a")]),
            "a",
            "b",
        ),
        (multi("mixed", &[message, plain("a")]), "a", ""),
        (
            multi(
                "mixed",
                &[multi("alternative", &[plain("a"), html("b")]), plain("c")],
            ),
            "a",
            "b",
        ),
        (
            multi(
                "alternative",
                &[plain("a"), multi("related", &[html("b"), attached])],
            ),
            "a",
            "b",
        ),
    ];
    for (text, plain, html) in table {
        let parsed = shown_of(text.replace('\n', "\r\n").as_bytes());
        assert_eq!(
            (parsed.text.as_str(), parsed.html.as_str()),
            (plain, html),
            "{text}"
        );
    }
}

/// The description of a message with this header field, another field behind it, and a body.
fn with_field(field: &[u8]) -> Parsed {
    let parsed = shown_of(&[field, b"\r\nMessage-ID: <after@x>\r\n\r\nbody\r\n"].concat());
    assert_eq!(
        (&*parsed.message_id, &*parsed.text),
        ("<after@x>", "body\n")
    );
    // Also as the last field.
    let last = shown_of(&[b"Message-ID: <after@x>\r\n", field, b"\r\n\r\nbody\r\n"].concat());
    assert_eq!(last, parsed);
    parsed
}

#[test]
fn a_date_ends_with_its_line() {
    for (value, expected) in [
        (
            "Tue, 14 Nov 2023 22:13:20 +0100",
            Some("2023-11-14T22:13:20+01:00"),
        ),
        ("Mon, 1 Jan 2024 22:13:20 Z", Some("2024-01-01T22:13:20Z")),
        ("Mon, 1 Jan 2024 22:13:20 A", Some("2024-01-01T22:13:20Z")),
        ("Wed, 29 Feb 2023 10:00:00 +0000", None),
        ("yesterday", None),
    ] {
        let parsed = with_field(format!("Date: {value}").as_bytes());
        assert_eq!(parsed.date.as_deref(), expected, "{value}");
    }
    for field in [
        "Resent-Date: 1 Jan 2024 1:2:3 Z",
        "Received: x; 1 Jan 2024 1:2:3 Z",
    ] {
        with_field(field.as_bytes());
    }
}

#[test]
fn subjects() {
    for (value, expected) in [
        (
            &b"=?UTF-8?Q?pasi=C5=BEad=C4?=\r\n =?UTF-8?Q?=97jim=C5=B3?="[..],
            "pasižadėjimų",
        ),
        (b"=?utf-8?B?QmVow?=\r\n =?utf-8?B?tnJkZW4=?=", "Behörden"),
        (b"=?gb2312?B?xOO6?=\r\n =?gb2312?B?ww==?=", "你好"),
        (b"=?utf-8?B?SGVsbG8?=", "Hello"),
        (b"gr\xfc\xdfe", "grüße"),
        (b"=?cp932?B?g24=?=", "ハ"),
    ] {
        let parsed = with_field(&[b"Subject: ", value].concat());
        assert_eq!(parsed.subject, expected);
    }
    let parsed = with_field(b"Subject: one\r\nSubject: two");
    assert_eq!(parsed.subject, "one");
}

#[test]
fn repeated_fields_of_addresses_and_references_are_merged() {
    let parsed = with_field(
        b"To: a@x.test\r\nTo: b@XN--74H.example\r\nCc: c@x.test\r\ncc: Doe, Joe <d@x.test>\r\n\
        References: <1@x>\r\nReferences: <2@x>\r\nIn-Reply-To: Yours of today <2@x>",
    );
    let addresses = |list: &[NameAddress]| -> Vec<String> {
        list.iter().map(|person| person.address.clone()).collect()
    };
    assert_eq!(addresses(&parsed.to), ["a@x.test", "b@\u{263a}.example"]);
    assert_eq!(addresses(&parsed.cc), ["c@x.test", "d@x.test"]);
    assert_eq!(parsed.cc[1].name, "Doe, Joe");
    assert_eq!(parsed.references, ["<1@x>", "<2@x>"]);
    assert_eq!(parsed.in_reply_to, "<2@x>");
    let parsed = with_field(b"References: a@x\r\n\tweird\r\nIn-Reply-To: weird");
    assert_eq!(parsed.references, ["a@x", "weird"]);
    assert_eq!(parsed.in_reply_to, "weird");
}

#[test]
fn groups_and_comments_are_no_addresses() {
    let parsed = with_field(
        b"To: A Group(Some people):a@x.test; (the end of the group)\r\n\
        Cc: Hidden recipients:(nobody(that I know));\r\nFrom: Doe, Joe <joe@remote.test>",
    );
    assert_eq!((parsed.to.len(), &*parsed.to[0].address), (1, "a@x.test"));
    assert_eq!((parsed.cc.len(), parsed.from.len()), (0, 1));
    assert_eq!(
        (&*parsed.from[0].name, &*parsed.from[0].address),
        ("Doe, Joe", "joe@remote.test")
    );
}

#[test]
fn file_names() {
    for (disposition, expected) in [
        (
            "filename*0*=UTF-8''%E2%98; filename*1*=%83.pdf",
            "\u{2603}.pdf",
        ),
        ("filename*0*=ISO-8859-1''%E9; filename*1*=%E8.pdf", "éè.pdf"),
        (
            "filename=\"=?utf-8?Q?=E2=98?= =?utf-8?Q?=83.pdf?=\"",
            "\u{2603}.pdf",
        ),
        ("filename=a.pdf; filename*=iso-8859-1''b%2Epdf", "b.pdf"),
    ] {
        let text = format!(
            "Content-Type: application/pdf\r\nContent-Disposition: attachment; {disposition}\r\n\r\nx"
        );
        assert_eq!(
            shown_of(text.as_bytes()).structure.filename,
            expected,
            "{disposition}"
        );
    }
}

#[test]
fn charsets_of_texts() {
    for (kind, body, expected) in [
        ("", &b"\xe4"[..], "ä"),
        ("text/plain", b"\xe4 \x80", "ä €"),
        ("text/plain", b"\xc3\xa4", "ä"),
        ("text/plain; charset=default", b"\xe4", "ä"),
        ("text/plain; charset=x-no-such", b"\xe4", "ä"),
        ("text/plain; charset=us-ascii", b"\xc3\xa4", "ä"),
        ("text/plain; charset=ascii", b"\xe4", "ä"),
        ("text/plain; charset=cp932", b"\x83n", "ハ"),
        (
            "text/plain; charset=iso-2022-jp-ms",
            b"\x1b$B%O\x1b(B",
            "ハ",
        ),
        ("text/plain; charset=unicode-1-1-utf-7", b"+ZYeB9A-", "文致"),
        ("text/plain; charset=ibm437", b"\x84", "ä"),
    ] {
        let text = [format!("Content-Type: {kind}\r\n\r\n").as_bytes(), body].concat();
        assert_eq!(shown_of(&text).text, expected, "{kind}");
    }
    let html = shown_of(b"Content-Type: text/html\r\n\r\n<meta charset=iso-8859-1>\xe4").html;
    assert_eq!(html, "<meta charset=iso-8859-1>ä");
}

#[test]
fn text_behind_base64_is_not_part_of_it() {
    let text =
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n\
        SGVsbG8sIHdvcmxkCg==\r\n\r\n_______\r\nA mailing list!\r\n";
    let parsed = shown_of(text);
    assert_eq!(
        (&*parsed.text, parsed.structure.decoded_size),
        ("Hello, world\n", 13)
    );
    assert_eq!(
        part(text, &[], Limits::default()).unwrap(),
        b"Hello, world\n"
    );
    let mixed = [
        b"Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n",
        &text[..],
        b"--m\r\nContent-Type: text/html\r\n\r\nb\r\n--m--\r\n",
    ];
    let parsed = shown_of(&mixed.concat());
    assert_eq!((&*parsed.text, &*parsed.html), ("Hello, world\n", "b"));
}

#[test]
fn a_long_text_is_cut_between_characters() {
    let text = format!(
        "Subject: x\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nx{}",
        "\u{e4}".repeat(600_000)
    );
    let parsed = shown_of(text.as_bytes());
    assert_eq!(parsed.text.len(), TEXT_MAX - 1);
}

#[test]
fn automatic_messages_are_recognized() {
    for field in [
        "List-Id: <l.example.org>",
        "List-Unsubscribe: <mailto:x@example.org>",
        "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
        "Precedence: bulk",
        "Auto-Submitted: auto-replied",
        "Content-Type: multipart/report; report-type=delivery-status; boundary=x",
    ] {
        assert!(
            is_automated(format!("{field}\r\n\r\n").as_bytes()),
            "{field}"
        );
    }
    for field in [
        "Subject: x",
        "Auto-Submitted: no",
        "Auto-Submitted: No; x=y",
        "Precedence:",
    ] {
        assert!(
            !is_automated(format!("{field}\r\n\r\n").as_bytes()),
            "{field}"
        );
    }
}
