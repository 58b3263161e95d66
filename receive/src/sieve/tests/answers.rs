//! Automatic answers: who gets one, and the answer itself.

use jiff::Zoned;
use postrider_smtp::{Address, ReversePath};

use super::{Case, Script, named};
use crate::sieve::vacation::{Answer, Audience, Circumstances, NoAnswer, Reply, Request, decide};

/// The request that a script makes.
fn request(script: &str) -> Request {
    let script = Script::compile(script.as_bytes()).unwrap();
    Case::default()
        .run(&[named("vacation", script)])
        .vacation
        .unwrap()
}

const HEADER: &str = "From: Ann <ann@example.com>\r\nTo: me@example.org\r\nSubject: Lunch\r\n\
    Message-ID: <m1@example.com>\r\nReferences: <m0@example.com> no <a b@c>\r\n";

struct Mail {
    sender: &'static str,
    recipient: &'static str,
    header: String,
}

impl Default for Mail {
    fn default() -> Self {
        Self {
            sender: "ann@example.com",
            recipient: "me@example.org",
            header: HEADER.to_owned(),
        }
    }
}

impl Mail {
    /// Decides about an answer. `change` changes the circumstances.
    fn decide(
        &self,
        request: &Request,
        change: impl Fn(&mut Circumstances<'_>),
    ) -> Result<Reply, NoAnswer> {
        let sender = ReversePath::parse(self.sender).unwrap();
        let recipient = Address::parse(self.recipient).unwrap();
        let own =
            ["me@example.org", "also.me@example.net"].map(|text| Address::parse(text).unwrap());
        let mut circumstances = Circumstances {
            sender: &sender,
            recipient: &recipient,
            header: self.header.as_bytes(),
            own: &own,
            is_suppressed: false,
            is_junk: false,
            is_verified: true,
            audience: Audience::All,
            is_contact: false,
            is_internal: false,
        };
        change(&mut circumstances);
        decide(request, &circumstances)
    }

    fn refusal(&self) -> Option<NoAnswer> {
        self.decide(&request("vacation \"x\";"), |_| {}).err()
    }
}

#[test]
fn programs_and_lists_get_no_answer() {
    for (sender, expected) in [
        ("", Some(NoAnswer::NullReversePath)),
        ("MAILER-DAEMON@example.com", Some(NoAnswer::Program)),
        ("noreply@example.com", Some(NoAnswer::Program)),
        ("no-reply+x1@example.com", Some(NoAnswer::Program)),
        ("no_reply@example.com", Some(NoAnswer::Program)),
        ("do-not-reply@example.com", Some(NoAnswer::Program)),
        ("owner-list@example.com", Some(NoAnswer::Program)),
        ("list-request@example.com", Some(NoAnswer::Program)),
        ("majordomo@example.com", Some(NoAnswer::Program)),
        ("noreplyson@example.com", None),
        ("request@example.com", None),
        ("me@EXAMPLE.org", Some(NoAnswer::Own)),
        ("ALSO.ME@example.net", Some(NoAnswer::Own)),
        ("ann@example.com", None),
    ] {
        let mail = Mail {
            sender,
            ..Mail::default()
        };
        assert_eq!(mail.refusal(), expected, "{sender}");
    }
    for (field, expected) in [
        (
            "Auto-Submitted: auto-generated",
            Some(NoAnswer::AutoSubmitted),
        ),
        (
            "auto-submitted:auto-replied; x=y",
            Some(NoAnswer::AutoSubmitted),
        ),
        ("Auto-Submitted: no", None),
        ("Auto-Submitted: No (by hand)", None),
        ("List-Id: <a.example.com>", Some(NoAnswer::List)),
        ("list-unsubscribe: <https://a.test/>", Some(NoAnswer::List)),
        ("Listed: yes", None),
        ("Precedence: Bulk", Some(NoAnswer::Precedence)),
        ("Precedence: list", Some(NoAnswer::Precedence)),
        ("Precedence: junk", Some(NoAnswer::Precedence)),
        ("Precedence: first-class", None),
    ] {
        let mail = Mail {
            header: format!("{field}\r\n{HEADER}"),
            ..Mail::default()
        };
        assert_eq!(mail.refusal(), expected, "{field}");
    }
}

#[test]
fn an_address_of_the_user_must_be_among_the_recipients() {
    for (field, expected) in [
        ("To: me@example.org", None),
        ("To: Me <ME@example.org>, b@c.test", None),
        ("Cc: also.me@example.net", None),
        ("Resent-To: me@example.org", None),
        ("Bcc: me@example.org", None),
        ("To: all@example.org", Some(NoAnswer::NotAddressed)),
        ("X-To: me@example.org", Some(NoAnswer::NotAddressed)),
        ("To: undisclosed-recipients:;", Some(NoAnswer::NotAddressed)),
    ] {
        let mail = Mail {
            header: format!("{field}\r\n"),
            ..Mail::default()
        };
        assert_eq!(mail.refusal(), expected, "{field}");
    }
    let mail = Mail {
        header: "To: all@example.org\r\n".to_owned(),
        ..Mail::default()
    };
    let named = request("vacation :addresses [\"x\", \"all@example.org\"] \"x\";");
    assert!(mail.decide(&named, |_| {}).is_ok());
}

#[test]
fn circumstances_speak_against_an_answer() {
    type Change = fn(&mut Circumstances<'_>);
    let cases: [(Change, Option<NoAnswer>); 8] = [
        (|_| {}, None),
        (|it| it.is_suppressed = true, Some(NoAnswer::Suppressed)),
        (|it| it.is_junk = true, Some(NoAnswer::Junk)),
        (|it| it.is_verified = false, Some(NoAnswer::Unverified)),
        (
            |it| it.audience = Audience::Contacts,
            Some(NoAnswer::Audience),
        ),
        (
            |it| (it.audience, it.is_contact) = (Audience::Contacts, true),
            None,
        ),
        (
            |it| it.audience = Audience::Internal,
            Some(NoAnswer::Audience),
        ),
        (
            |it| (it.audience, it.is_internal) = (Audience::Internal, true),
            None,
        ),
    ];
    for (change, expected) in cases {
        let found = Mail::default().decide(&request("vacation \"x\";"), change);
        assert_eq!(found.err(), expected);
    }
    assert!(NoAnswer::Unverified.to_string().contains("SPF"));
}

#[test]
fn requests_have_handles_and_days() {
    let handle = |script: &str| request(script).handle;
    let plain = handle("vacation \"x\";");
    assert_eq!(plain.len(), 64);
    assert_eq!(
        plain,
        handle("vacation :days 3 :addresses \"a@b.test\" \"x\";")
    );
    for other in [
        "vacation \"y\";",
        "vacation :mime \"x\";",
        "vacation :subject \"x\" \"\";",
        "vacation :from \"x\" \"\";",
        "vacation :handle \"x\" \"x\";",
    ] {
        assert_ne!(plain, handle(other), "{other}");
    }
    assert_eq!(
        handle("vacation :handle \"h\" \"x\";"),
        handle("vacation :handle \"h\" \"y\";")
    );
    for (days, expected) in [
        ("", 7),
        (":days 0", 1),
        (":days 1", 1),
        (":days 30", 30),
        (":days 9999", 30),
    ] {
        assert_eq!(request(&format!("vacation {days} \"x\";")).days, expected);
    }
}

#[test]
fn an_answer_goes_to_the_sender_from_the_address_written_to() {
    let reply = |script: &str| Mail::default().decide(&request(script), |_| {}).unwrap();
    let plain = reply("vacation \"x\";");
    assert_eq!(plain.to.to_string(), "ann@example.com");
    assert_eq!(plain.from.to_string(), "me@example.org");
    assert_eq!(plain.subject, "Auto: Lunch");
    assert_eq!(plain.in_reply_to.as_deref(), Some("<m1@example.com>"));
    assert_eq!(plain.references, ["<m0@example.com>", "<m1@example.com>"]);
    assert_eq!(plain.answer, Answer::Text("x".to_owned()));

    for (from, name, address) in [
        ("Me <also.me@example.net>", "Me", "also.me@example.net"),
        ("me@example.org", "", "me@example.org"),
        ("Boss <boss@example.org>", "", "me@example.org"),
        ("nobody", "", "me@example.org"),
    ] {
        let reply = reply(&format!("vacation :from \"{from}\" \"x\";"));
        assert_eq!(
            (reply.name.as_str(), reply.from.to_string().as_str()),
            (name, address)
        );
    }
    let subject = reply("vacation :subject \"a\nBcc: b\" \"x\";").subject;
    assert_eq!(subject, "a  Bcc: b");
}

#[test]
fn an_answer_is_written_as_a_message() {
    let date: Zoned = "2024-06-15T12:30:00+02:00[Europe/Berlin]".parse().unwrap();
    let message = |script: &str| {
        let reply = Mail::default().decide(&request(script), |_| {}).unwrap();
        String::from_utf8(reply.message("<r1@example.org>", &date)).unwrap()
    };
    let expected = "From: \"Me \\\"M\\\"\" <me@example.org>\r\nTo: ann@example.com\r\n\
        Subject: =?utf-8?q?Ol=C3=A9?=\r\nDate: Sat, 15 Jun 2024 12:30:00 +0200\r\n\
        Message-ID: <r1@example.org>\r\nIn-Reply-To: <m1@example.com>\r\n\
        References: <m0@example.com>\r\n <m1@example.com>\r\nAuto-Submitted: auto-replied\r\n\
        MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
        Content-Transfer-Encoding: base64\r\n\r\nR29uZS4=\r\n";
    let script = "vacation :from \"\\\"Me \\\\\\\"M\\\\\\\"\\\" <me@example.org>\" \
        :subject \"Ol\u{e9}\" \"Gone.\";";
    assert_eq!(message(script), expected);

    // Only what describes the content stays of the header of an entity.
    let mime = "vacation :mime text:\nBcc: x@y.test\nContent-Type: text/html\nX: y\n\n<p>\n.\n;";
    let written = message(mime);
    assert!(
        written.ends_with("MIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n<p>\r\n"),
        "{written}"
    );
    assert!(!written.contains("Bcc"));
    assert!(message("vacation :mime \"just text\";").contains("Content-Type: text/plain"));
}
