use mail_parser::{Message, MessageParser, PartType};
use proptest::prelude::*;

use super::*;

const LONG: usize = 1500;

/// The converted text. None: nothing is to be done.
fn converted(text: &[u8], form: Form, size: usize) -> Result<Option<Vec<u8>>, Unconvertible> {
    let mut survey = Survey::new(form);
    for piece in text.chunks(size) {
        survey.write(piece)?;
    }
    let Some(plan) = survey.finish()? else {
        return Ok(None);
    };
    let mut conversion = Conversion::new(plan);
    let mut all = Vec::new();
    for piece in text.chunks(size) {
        all.extend_from_slice(conversion.write(piece)?);
    }
    all.extend(conversion.finish()?);
    Ok(Some(all))
}

fn check(text: &[u8], form: Form, expected: Result<Option<&str>, Unconvertible>) {
    for size in [1, 2, 3, 7, 50, 999, 1 << 20] {
        let found = converted(text, form, size);
        let found = found.map(|text| text.map(|text| text.escape_ascii().to_string()));
        let expected =
            expected.map(|text| text.map(|text| text.as_bytes().escape_ascii().to_string()));
        assert_eq!(found, expected, "by {size}: {}", text.escape_ascii());
    }
}

fn seven_bit(text: &str, expected: &str) {
    check(text.as_bytes(), Form::SevenBit, Ok(Some(expected)));
}

fn lines(text: &str, expected: &str) {
    check(text.as_bytes(), Form::Lines, Ok(Some(expected)));
}

#[test]
fn a_text_becomes_quoted_printable_or_base64_if_that_is_smaller() {
    seven_bit(
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: 8bit\r\n\r\na \u{e4} = b \r\n.\r\n",
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: quoted-printable\r\n\r\na =C3=A4 =3D b=20\r\n.\r\n",
    );
    seven_bit(
        "MIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\r\n\u{65e5}\u{672c}\r\n",
        "MIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n5pel5pysDQo=\r\n",
    );
    seven_bit(
        "MIME-Version: 1.0\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
         abcdefghijklmnop\u{e4}",
        "MIME-Version: 1.0\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: base64\r\n\r\n\
         YWJjZGVmZ2hpamtsbW5vcMOk\r\n",
    );
}

#[test]
fn a_text_without_a_type_gets_one() {
    seven_bit(
        "Subject: x\r\n\r\nabcdefgh \u{e4}\r\n",
        "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: quoted-printable\r\n\r\nabcdefgh =C3=A4\r\n",
    );
    check(
        b"Subject: x\r\n\r\nabcdefgh \xe4\r\n",
        Form::SevenBit,
        Ok(Some(
            "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n\
             Content-Transfer-Encoding: quoted-printable\r\n\r\nabcdefgh =E4\r\n",
        )),
    );
}

#[test]
fn parts_are_converted_one_by_one() {
    seven_bit(
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=a\r\n\
         Content-Transfer-Encoding: 8bit\r\n\r\nVorspann \u{e4}\r\n\
         --a\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nplain\r\n\
         --a\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nabcdefgh \u{e4}\r\n\
         --a\r\nContent-Type: image/png; name=\"\u{e4}\"\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n\
         --a--\r\n",
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=a\r\n\
         Content-Transfer-Encoding: 7bit\r\n\r\nVorspann ??\r\n\
         --a\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nplain\r\n\
         --a\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: quoted-printable\r\n\r\nabcdefgh =C3=A4\r\n\
         --a\r\nContent-Type: image/png; name*=utf-8''%C3%A4\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n\
         --a--\r\n",
    );
}

#[test]
fn a_message_in_a_message_is_converted_inside() {
    seven_bit(
        "MIME-Version: 1.0\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
         Subject: \u{e4}\r\nFrom: <\u{e4}@x.test>\r\n\r\nabcdefgh \u{e4}\r\n",
        "MIME-Version: 1.0\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 7bit\r\n\r\n\
         Subject: =?utf-8?q?=C3=A4?=\r\nDowngraded-From: =?utf-8?q?=3C=C3=A4=40x=2Etest=3E?=\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: quoted-printable\r\n\r\nabcdefgh =C3=A4\r\n",
    );
    // The parts of a digest are messages.
    seven_bit(
        "Content-Type: multipart/digest; boundary=a\r\n\r\n--a\r\n\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nabcdefgh \u{e4}\r\n--a--",
        "Content-Type: multipart/digest; boundary=a\r\n\r\n--a\r\n\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: quoted-printable\r\n\r\nabcdefgh =C3=A4\r\n--a--",
    );
}

#[test]
fn long_lines_are_encoded_and_header_lines_folded() {
    let long = "x".repeat(LONG);
    let soft: String = format!("{}=\r\n", "x".repeat(75)).repeat(20);
    lines(
        &format!("MIME-Version: 1.0\r\n\r\n{long}\u{e4}\r\n"),
        &format!(
            "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: quoted-printable\r\n\r\n{soft}=C3=A4\r\n"
        ),
    );
    let words = "word ".repeat(300);
    let text = format!("References: {words}end\r\nX-Long: {long}\r\n\r\n");
    let found = converted(text.as_bytes(), Form::Lines, 50)
        .unwrap()
        .unwrap();
    let found = String::from_utf8(found).unwrap();
    assert_eq!(found.replace("\r\n ", " "), text);
    let longest = found.lines().filter(|line| !line.contains("xx"));
    assert_eq!(longest.map(str::len).max(), Some(76));
    // Nothing can be done for a line without white space.
    check(
        format!("X-Long: {long}").replace(": ", ":").as_bytes(),
        Form::Lines,
        Ok(None),
    );
}

#[test]
fn what_is_encoded_already_is_mended() {
    let long = "QUJD".repeat(300);
    let base64: Vec<&str> = long
        .as_bytes()
        .chunks(76)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    let head = "MIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n\r\n";
    lines(
        &format!("{head}{long}\r\n"),
        &format!("{head}{}\r\n", base64.join("\r\n")),
    );
    let head = "MIME-Version: 1.0\r\nContent-Transfer-Encoding: Quoted-Printable\r\n\r\n";
    seven_bit(
        &format!("{head}a=20\u{e4}\r\n"),
        &format!("{head}a=20=C3=A4\r\n"),
    );
    lines(
        &format!("{head}{}=3D{}\r\n", "x".repeat(899), "x".repeat(500)),
        &format!("{head}{}=3D=\r\n{}\r\n", "x".repeat(899), "x".repeat(500)),
    );
}

#[test]
fn binary_contents_become_base64_and_odd_line_ends_go() {
    lines(
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=a\r\n\
         Content-Transfer-Encoding: binary\r\n\r\n\
         --a\nContent-Type: application/x\nContent-Transfer-Encoding: binary\n\na\0\nb\r\n--a\r\n\
         Content-Type: text/plain\r\nContent-Transfer-Encoding: binary\r\n\r\n\u{e4}\r\n--a--\r\n",
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=a\r\n\
         Content-Transfer-Encoding: 8bit\r\n\r\n\
         --a\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: base64\r\n\r\nYQAKYg==\r\n--a\r\n\
         Content-Type: text/plain\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\u{e4}\r\n--a--\r\n",
    );
}

#[test]
fn only_the_header_changes_for_a_server_without_smtputf8() {
    check(
        "Subject: \u{e4}\r\nTo: <x@b\u{fc}cher.test>\r\n\r\n\u{e4}\r\n".as_bytes(),
        Form::AsciiHeader,
        Ok(Some(
            "Subject: =?utf-8?q?=C3=A4?=\r\nTo: <x@xn--bcher-kva.test>\r\n\r\n\u{e4}\r\n",
        )),
    );
    let local = "To: <\u{fc}@x.test>\r\n\r\n".as_bytes();
    check(local, Form::AsciiHeader, Err(Unconvertible::Address));
    check(local, Form::Lines, Ok(None));
}

#[test]
fn what_needs_nothing_stays() {
    for text in [
        "",
        "\r\n",
        "Subject: x\r\n",
        "Subject: x\r\n\r\nbody",
        "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n--a--",
        "Content-Transfer-Encoding: 8bit\r\n\r\nascii\r\n",
    ] {
        check(text.as_bytes(), Form::SevenBit, Ok(None));
    }
    check(
        "Subject: x\r\n\r\n\u{e4}\r\n".as_bytes(),
        Form::AsciiHeader,
        Ok(None),
    );
}

#[test]
fn what_is_protected_stays_or_fails() {
    let signed = |content: &str| {
        format!(
            "MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=a\r\n\r\n\
             --a\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n{content}\r\n--b--\r\n\
             --a\r\nContent-Type: application/pgp-signature\r\n\r\nx\r\n--a--\r\n"
        )
    };
    let long = "x".repeat(LONG);
    let check = |text: &str, form, expected| check(text.as_bytes(), form, expected);
    check(
        &signed("\u{e4}"),
        Form::SevenBit,
        Err(Unconvertible::Protected),
    );
    check(&signed("a\0"), Form::Lines, Err(Unconvertible::Protected));
    check(&signed("plain"), Form::SevenBit, Ok(None));
    check(&signed(&long), Form::Lines, Ok(None));
    check(
        &signed("plain")
            .replace("signed", "encrypted")
            .replace("x\r\n", "\u{e4}\r\n"),
        Form::SevenBit,
        Err(Unconvertible::Protected),
    );
    for field in ["DKIM-Signature", "arc-seal", "ARC-Message-Signature"] {
        let text = format!("{field}: x\r\nSubject: \u{e4}\r\n\r\nbody\r\n");
        check(&text, Form::SevenBit, Err(Unconvertible::Signed));
        check(&text, Form::Lines, Ok(None));
    }
    // Of other signatures nobody cares.
    let inner = "Content-Type: message/rfc822\r\n\r\nDKIM-Signature: x\r\n\r\nabcdefgh\r\n";
    check(inner, Form::SevenBit, Ok(None));
}

#[test]
fn some_parts_can_not_be_encoded() {
    for head in [
        "Content-Type: message/partial; id=x",
        "Content-Type: multipart/mixed",
        "Content-Type: multipart/mixed; boundary=never-seen",
        "Content-Transfer-Encoding: x-uuencode",
    ] {
        let text = format!("{head}\r\n\r\n\u{e4}\r\n");
        check(text.as_bytes(), Form::SevenBit, Err(Unconvertible::Part));
        check(text.as_bytes(), Form::AsciiHeader, Ok(None));
    }
    let nested = "Content-Type: message/rfc822\r\n\r\n".repeat(60);
    check(
        nested.as_bytes(),
        Form::SevenBit,
        Err(Unconvertible::TooMuch),
    );
    let many = format!(
        "Content-Type: multipart/mixed; boundary=a\r\n\r\n{}",
        "--a\r\n\r\n".repeat(5001)
    );
    assert_eq!(
        converted(many.as_bytes(), Form::SevenBit, 1 << 16),
        Err(Unconvertible::TooMuch)
    );
    let header = vec![b'x'; (1 << 20) + 10];
    assert_eq!(
        converted(&header, Form::SevenBit, 1 << 16),
        Err(Unconvertible::TooMuch)
    );
}

/// A line of the encoded text must not look like a delimiter.
#[test]
fn no_line_becomes_a_delimiter() {
    let content = format!("{}--a--\u{e4}", "x".repeat(75));
    let text = format!(
        "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n\r\n{content}\r\n--a--\r\n"
    );
    let found = converted(text.as_bytes(), Form::SevenBit, 50)
        .unwrap()
        .unwrap();
    let found = String::from_utf8(found).unwrap();
    assert!(found.contains("=\r\n=2D-a--=C3=A4\r\n--a--"), "{found}");
}

/// A piece of a generated message.
#[derive(Clone, Debug)]
enum Piece {
    Text(String, &'static str),
    File(Vec<u8>),
    Message(String, Box<Self>),
    Multipart(Vec<Self>),
}

fn pieces() -> impl Strategy<Value = Piece> {
    let line = prop_oneof![
        8 => "[ -~\u{e4}\u{65e5}]{0,90}",
        1 => "[a-z]{990,1300}",
        1 => "[a \u{e4}=-]{990,1300}",
    ];
    let text = prop::collection::vec(line, 0..6).prop_map(|lines| lines.join("\r\n"));
    let label = prop::sample::select(&["", "7bit", "8bit", "binary"][..]);
    let leaf = prop_oneof![
        3 => (text, label).prop_map(|(text, label)| Piece::Text(text, label)),
        1 => prop::collection::vec(any::<u8>(), 0..300).prop_map(Piece::File),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            ("[a-z\u{e4}]{1,20}", inner.clone())
                .prop_map(|(subject, piece)| Piece::Message(subject, Box::new(piece))),
            prop::collection::vec(inner, 1..4).prop_map(Piece::Multipart),
        ]
    })
}

/// Writes a header section and a content. Each multipart has a boundary of its own.
fn write(piece: &Piece, boundaries: &mut usize, out: &mut Vec<u8>) {
    match piece {
        Piece::Text(text, label) => {
            out.extend(b"Content-Type: text/plain; charset=utf-8\r\n");
            if !label.is_empty() {
                out.extend(format!("Content-Transfer-Encoding: {label}\r\n").bytes());
            }
            out.extend(format!("\r\n{text}").bytes());
        }
        Piece::File(bytes) => {
            out.extend(b"Content-Type: application/octet-stream\r\n");
            out.extend(b"Content-Transfer-Encoding: binary\r\n\r\n");
            out.extend(bytes);
        }
        Piece::Message(subject, inner) => {
            out.extend(
                b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: binary\r\n\r\n",
            );
            out.extend(format!("Subject: {subject}\r\nMIME-Version: 1.0\r\n").bytes());
            write(inner, boundaries, out);
        }
        Piece::Multipart(parts) => {
            *boundaries += 1;
            let boundary = format!("=_{boundaries}_");
            out.extend(
                format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\r\n\r\n").bytes(),
            );
            for part in parts {
                out.extend(format!("--{boundary}\r\n").bytes());
                write(part, boundaries, out);
                out.extend(b"\r\n");
            }
            out.extend(format!("--{boundary}--\r\n").bytes());
        }
    }
}

/// What another parser reads: each part with its kind, its subject and its decoded content.
fn read(message: &Message<'_>, found: &mut Vec<String>) {
    found.push(format!("message {:?}", message.subject()));
    for part in &message.parts {
        match &part.body {
            PartType::Text(text) | PartType::Html(text) => found.push(format!("text {text:?}")),
            PartType::Binary(bytes) | PartType::InlineBinary(bytes) => {
                found.push(format!("file {}", bytes.escape_ascii()));
            }
            PartType::Message(message) => read(message, found),
            PartType::Multipart(parts) => found.push(format!("parts {parts:?}")),
        }
    }
}

fn parts_of(text: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    read(&MessageParser::new().parse(text).unwrap(), &mut found);
    found
}

proptest! {
    #[test]
    fn readers_find_the_same_parts(piece in pieces(), size in 1_usize..2000) {
        let mut text = b"From: a@x.test\r\nSubject: \xc3\xa4\r\nMIME-Version: 1.0\r\n".to_vec();
        write(&piece, &mut 0, &mut text);
        text.extend(b"\r\n");
        for form in [Form::Lines, Form::AsciiHeader, Form::SevenBit] {
            let found = converted(&text, form, size).unwrap();
            let found = found.as_deref().unwrap_or(&text);
            prop_assert_eq!(parts_of(found), parts_of(&text), "{:?}: {}", form, found.escape_ascii());
            let needs = NeedsScan::of_binary();
            let needs = { let mut needs = needs; needs.write(found); needs.finish() };
            prop_assert!(!needs.long_lines && !needs.binary, "{}", found.escape_ascii());
            prop_assert!(form < Form::SevenBit || !needs.eight_bit, "{}", found.escape_ascii());
            // What has the form stays as it is.
            prop_assert_eq!(converted(found, form, size), Ok(None));
        }
    }
}
