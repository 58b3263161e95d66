//! Command lines and what they mean.

use proptest::prelude::*;

use super::*;

const ALL: Offered = Offered {
    dsn: true,
    require_tls: RequireTls::Offered,
    binary_mime: true,
    xclient: true,
    submission: true,
    smtputf8: true,
    max_size: 1000,
};

fn refused(line: &str, expected: &str) {
    let reply = parse(
        line,
        Offered {
            max_size: 1000,
            ..Offered::default()
        },
    )
    .unwrap_err()
    .to_string();
    assert!(reply.starts_with(expected), "{line}: {reply}");
}

#[test]
fn mail_with_all_its_parameters() {
    let line = "mail from:<@relay.example:\"a>b\"@example.com> size=10 BODY=8bitmime SMTPUTF8 REQUIRETLS RET=HDRS ENVID=a+2Bb AUTH=<>";
    let Ok(Command::Mail(mail)) = parse(line, ALL) else {
        panic!("{line}")
    };
    assert_eq!(mail.reverse_path.to_string(), "\"a>b\"@example.com");
    assert_eq!((mail.size, mail.body), (Some(10), BodyType::EightBitMime));
    assert!(mail.smtputf8 && mail.require_tls);
    assert_eq!(
        (mail.ret, mail.envid.as_deref()),
        (Some(Ret::Headers), Some("a+b"))
    );
}

#[test]
fn parameters_about_the_delivery() {
    let read = |parameters: &str| {
        let line = format!("MAIL FROM:<a@b.example> {parameters}");
        match parse(&line, ALL) {
            Ok(Command::Mail(mail)) => {
                let DeliveryOptions {
                    hold,
                    priority,
                    deliver_by,
                } = mail.delivery;
                let hold = hold.map(|it| it.to_string()).unwrap_or_default();
                let by = deliver_by.map(|it| it.to_string()).unwrap_or_default();
                format!("{hold} {priority} {by}")
            }
            Ok(other) => panic!("{other:?}"),
            Err(reply) => reply.to_string(),
        }
    };
    assert_eq!(
        read("HOLDFOR=60 mt-priority=-4 BY=60;RT"),
        "for;60 -4 60;RT"
    );
    assert_eq!(
        read("HOLDUNTIL=2026-12-01T09:00:00Z BY=-3;N"),
        "until;2026-12-01T09:00:00Z 0 -3;N"
    );
    for (bad, code) in [
        (
            "HOLDFOR=60 HOLDUNTIL=2026-12-01T09:00:00Z",
            "501 5.5.4 give",
        ),
        ("HOLDFOR=-1", "501 5.5.4 bad value of parameter HOLDFOR"),
        ("HOLDUNTIL=tomorrow", "501 5.5.4 bad value"),
        ("MT-PRIORITY=10", "501 5.5.4 bad value"),
        ("BY=59;R", "501 5.5.4 with BY mode R"),
        ("BY=0;R", "501 5.5.4 with BY mode R"),
        ("BY=60", "501 5.5.4 bad value"),
        ("HOLD=1", "555 5.5.4"),
    ] {
        assert!(read(bad).starts_with(code), "{bad}: {}", read(bad));
    }
    refused("MAIL FROM:<a@b.example> HOLDFOR=60", "555 5.5.4");
    refused("MAIL FROM:<a@b.example> MT-PRIORITY=1", "555 5.5.4");
    refused("MAIL FROM:<a@b.example> BY=60;R", "555 5.5.4");
}

#[test]
fn rcpt_with_all_its_parameters() {
    let line = "RCPT TO:<user@example.com> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2Bb@example.com";
    let Ok(Command::Rcpt(rcpt)) = parse(line, ALL) else {
        panic!("{line}")
    };
    assert_eq!(
        rcpt.notify,
        Some(Notify {
            success: true,
            failure: false,
            delay: true
        })
    );
    assert_eq!(rcpt.orcpt.as_deref(), Some("rfc822;a+b@example.com"));
}

#[test]
fn what_is_wrong_gets_the_right_code() {
    refused("", "500 5.5.1");
    refused("FOO bar", "500 5.5.1");
    refused("EHLO", "501 5.5.4");
    refused("EHLO  ", "501 5.5.4");
    refused(&format!("EHLO {}", "a".repeat(256)), "501 5.5.4");
    refused("DATA now", "501 5.5.4");
    refused("MAIL", "501 5.5.4");
    refused("MAIL FROM user@example.com", "501 5.5.4");
    refused("MAIL FROM:", "501 5.5.4");
    refused("MAIL FROM: SIZE=1", "501 5.1.7");
    refused("MAIL FROM:user@example.com>", "501 5.5.4");
    refused("MAIL FROM:User <user@example.com>", "501 5.1.7");
    refused("RCPT TO:user", "501 5.1.3");
    refused("MAIL FROM:<user@example.com", "501 5.5.4");
    refused("MAIL FROM:<user@example.com>SIZE=1", "501 5.5.4");
    refused("MAIL FROM:<user>", "501 5.1.7");
    refused("RCPT TO:<>", "501 5.1.3");
    refused("RCPT TO:<a@b@c@-d>", "501 5.1.3");
    refused("MAIL FROM:<> SIZE=x", "501 5.5.4");
    refused("MAIL FROM:<> SIZE=1 SIZE=1", "501 5.5.4");
    refused("MAIL FROM:<> SIZE=1001", "552 5.3.4");
    refused("MAIL FROM:<> BODY=BINARYMIME", "555 5.5.4");
    refused("MAIL FROM:<> RET=FULL", "555 5.5.4");
    refused("MAIL FROM:<j\u{f6}rg@example.com>", "553 5.6.7");
    refused("BDAT", "501 5.5.4");
    refused("BDAT 1 2", "501 5.5.4");
    refused("BDAT -1", "501 5.5.4");
    refused("AUTH", "501 5.5.4");
}

/// An unknown parameter, a wrong value, SIZE and REQUIRETLS are refused in this order.
#[test]
fn wrong_parameters_are_refused_in_their_order() {
    let in_clear = Offered {
        require_tls: RequireTls::NeedsTls,
        ..ALL
    };
    let said = |line: &str| match parse(line, in_clear) {
        Ok(_) => "ok".to_owned(),
        Err(reply) => reply.to_string(),
    };
    let envid = |length| format!("ENVID={}", "x".repeat(length));
    for (parameters, expected) in [
        (
            "REQUIRETLS SIZE=2000 BODY=x FOO=1",
            "555 5.5.4 parameter FOO",
        ),
        (
            "REQUIRETLS SIZE=2000 BODY=x",
            "501 5.5.4 bad value of parameter BODY",
        ),
        ("REQUIRETLS SIZE=2000", "552 5.3.4"),
        ("REQUIRETLS SIZE=1000", "523 5.7.10"),
        ("SIZE=99999999999999999999", "552 5.3.4"),
        ("SIZE=100000000000000000000", "501 5.5.4"),
        ("SIZE=+5", "501 5.5.4"),
        ("SIZE=", "501 5.5.4"),
        ("SIZE", "501 5.5.4"),
        ("BODY", "501 5.5.4"),
        ("AUTH", "501 5.5.4"),
        ("RET", "501 5.5.4"),
        ("ENVID", "501 5.5.4"),
        ("HOLDFOR", "501 5.5.4"),
        ("BY", "501 5.5.4"),
        ("SMTPUTF8=1", "501 5.5.4"),
        ("REQUIRETLS=1", "501 5.5.4"),
        (&envid(100), "ok"),
        (&envid(101), "501 5.5.4"),
    ] {
        let reply = said(&format!("MAIL FROM:<a@b.example> {parameters}"));
        assert!(reply.starts_with(expected), "{parameters}: {reply}");
    }
    for parameter in ["RET", "ENVID", "REQUIRETLS", "HOLDFOR", "FOO"] {
        refused(&format!("MAIL FROM:<> {parameter}"), "555 5.5.4");
    }
    let orcpt = |length: usize| format!("ORCPT=rfc822;{}", "x".repeat(length - 7));
    for (parameters, expected) in [
        ("NOTIFY ORCPT=x FOO", "555 5.5.4 parameter FOO"),
        ("NOTIFY", "501 5.5.4"),
        ("ORCPT", "501 5.5.4"),
        ("ORCPT=a@b.example", "501 5.5.4"),
        ("ORCPT=;a@b.example", "501 5.5.4"),
        ("ORCPT=rfc(822;a@b.example", "501 5.5.4"),
        ("ORCPT=rfc822;", "501 5.5.4"),
        ("ORCPT=rfc822;a+0Ab@b.example", "501 5.5.4"),
        (&orcpt(500), "ok"),
        (&orcpt(501), "501 5.5.4"),
    ] {
        let reply = said(&format!("RCPT TO:<a@b.example> {parameters}"));
        assert!(reply.starts_with(expected), "{parameters}: {reply}");
    }
}

/// RFC 6533 §3. In UTF-8 it needs SMTPUTF8.
#[test]
fn original_recipients_in_utf8_are_decoded() {
    for (text, smtputf8, expected) in [
        (
            "utf-8;j\u{f6}rg@x.test",
            true,
            Some("utf-8;j\u{f6}rg@x.test"),
        ),
        (
            r"UTF-8;j\x{F6}rg@x.test",
            false,
            Some("UTF-8;j\u{f6}rg@x.test"),
        ),
        (
            r"rfc822;j\x{F6}rg@x.test",
            true,
            Some(r"rfc822;j\x{F6}rg@x.test"),
        ),
        ("utf-8;j\u{f6}rg@x.test", false, None),
        ("rfc822;j\u{f6}rg@x.test", true, None),
        (r"utf-8;j\xF6rg@x.test", true, None),
        ("utf-8;a+2Bb@x.test", true, None),
    ] {
        let line = format!("RCPT TO:<a@b.example> ORCPT={text}");
        let read = match parse(&line, Offered { smtputf8, ..ALL }) {
            Ok(Command::Rcpt(rcpt)) => rcpt.orcpt,
            _ => None,
        };
        assert_eq!(read.as_deref(), expected, "{text}");
    }
}

#[test]
fn addresses_are_taken_as_real_programs_write_them() {
    for (line, expected) in [
        ("MAIL FROM:joe@remote.test SIZE=10", "joe@remote.test"),
        ("MAIL FROM: joe@remote.test", "joe@remote.test"),
        ("MAIL FROM: < joe@remote.test >", "joe@remote.test"),
        (
            "MAIL FROM:\"a b>\"@remote.test RET=FULL",
            "\"a b>\"@remote.test",
        ),
        ("MAIL FROM:<a..b@remote.test>", "\"a..b\"@remote.test"),
        (
            "MAIL FROM:<joe@my_host.remote.test>",
            "joe@my_host.remote.test",
        ),
        ("MAIL FROM:< >", ""),
    ] {
        let Ok(Command::Mail(mail)) = parse(line, ALL) else {
            panic!("{line}")
        };
        assert_eq!(mail.reverse_path.to_string(), expected, "{line}");
    }
    for (line, expected) in [
        ("RCPT TO:app@sender.test NOTIFY=NEVER", "app@sender.test"),
        ("RCPT TO:<ab.@remote.test>", "\"ab.\"@remote.test"),
        ("RCPT TO:postmaster", "postmaster"),
    ] {
        let Ok(Command::Rcpt(rcpt)) = parse(line, ALL) else {
            panic!("{line}")
        };
        assert_eq!(rcpt.forward_path.to_string(), expected, "{line}");
    }
}

#[test]
fn a_mail_filter_changes_the_sender_and_adds_recipients() {
    let Ok(Command::Mail(before)) = parse(
        "MAIL FROM:<a@example.com> SIZE=9 RET=FULL ENVID=old BODY=8BITMIME",
        ALL_OFFERED,
    ) else {
        panic!("a right command");
    };
    let path = |text: &str| ReversePath::parse(text).unwrap();
    let expected = |reverse_path, smtputf8, ret, envid: Option<&str>| MailFrom {
        reverse_path,
        smtputf8,
        ret,
        envid: envid.map(str::to_owned),
        ..before.clone()
    };
    for (to, parameters, after) in [
        (
            "b@example.com",
            "",
            expected(path("b@example.com"), false, None, None),
        ),
        (
            "b@example.com",
            "RET=HDRS ENVID=new+20x SIZE=1 HOLDFOR=9",
            expected(
                path("b@example.com"),
                false,
                Some(Ret::Headers),
                Some("new x"),
            ),
        ),
        ("", "", expected(ReversePath::Null, false, None, None)),
        (
            "ü@example.com",
            "",
            expected(path("ü@example.com"), true, None, None),
        ),
    ] {
        assert_eq!(before.changed(path(to), parameters), Ok(after), "{to:?}");
    }
    assert!(before.changed(ReversePath::Null, "RET=NO").is_err());
    assert!(before.changed(ReversePath::Null, "NOTIFY=NEVER").is_err());
    let address = |text: &str| Address::parse(text).unwrap();
    let added = RcptTo::added(
        address("ü@example.org"),
        "NOTIFY=SUCCESS ORCPT=rfc822;a+2Bb",
    );
    let added = added.unwrap();
    assert_eq!(
        added.forward_path,
        ForwardPath::Mailbox(address("ü@example.org"))
    );
    assert_eq!(added.notify.unwrap().to_string(), "SUCCESS");
    assert_eq!(added.orcpt.as_deref(), Some("rfc822;a+b"));
    assert!(RcptTo::added(address("a@example.org"), "SIZE=1").is_err());
}

#[test]
fn names_of_clients_are_made_safe() {
    for (line, expected) in [
        (&b"EHLO mail.example.org"[..], "mail.example.org"),
        (b"HELO my_host", "my_host"),
        (b"EHLO [IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"),
        (b"EHLO Johns PC", "Johns?PC"),
        (b"ehlo b\xc3\xbcro-pc", "b?ro-pc"),
        (b"ehlo b\xfcro-pc", "b?ro-pc"),
        (b"EHLO a(b);<c>\x01", "a?b???c??"),
    ] {
        let read = std::str::from_utf8(line).map(|line| parse(line, ALL));
        let read = read.unwrap_or_else(|_| parse_bytes(line, ALL).unwrap());
        match read {
            Ok(Command::Ehlo(name) | Command::Helo(name)) => assert_eq!(name, expected),
            other => panic!("{other:?}"),
        }
    }
    assert!(parse_bytes(b"MAIL FROM:<\xfc@x.test>", ALL).is_none());
    assert!(parse_bytes(b"EHLO", ALL).is_none());
}

proptest! {
    #[test]
    fn any_line_is_read_or_refused(line in "(MAIL FROM:|RCPT TO:|AUTH |BDAT )?[ -~\u{e0}]{0,60}") {
        let _ = parse(&line, ALL);
    }
}
