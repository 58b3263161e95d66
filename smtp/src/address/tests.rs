use proptest::prelude::*;

use super::*;

fn check(text: &str, expected: &str) {
    let address = Address::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(address.to_string(), expected, "{text}");
    assert_eq!(Address::parse(expected).as_ref(), Ok(&address));
}

#[test]
fn addresses_are_read_and_written() {
    check("user@example.com", "user@example.com");
    check("User.Name+tag@EXAMPLE.com", "User.Name+tag@example.com");
    check("\"a b\"@example.com", "\"a b\"@example.com");
    check("\"plain\"@example.com", "plain@example.com");
    check("\"a@b\"@example.com", "\"a@b\"@example.com");
    check("\"q\\\"\\\\\"@example.com", "\"q\\\"\\\\\"@example.com");
    check("user@[192.0.2.1]", "user@[192.0.2.1]");
    check("user@[ipv6:2001:DB8::1]", "user@[IPv6:2001:db8::1]");
    check(
        "j\u{f6}rg@b\u{fc}cher.example",
        "j\u{f6}rg@xn--bcher-kva.example",
    );
    check("user@example.com.", "user@example.com");
    // Real addresses that RFC 5321 has no room for.
    check("a..b@remote.test", "\"a..b\"@remote.test");
    check("ab.@remote.test", "\"ab.\"@remote.test");
    check(".ab@remote.test", "\".ab\"@remote.test");
    check("joe@My_Host.remote.test", "joe@my_host.remote.test");
    check("u@_x.b\u{fc}cher_.test", "u@_x.xn--bcher_-3ya.test");
}

#[test]
fn a_strict_reader_refuses_what_only_smtp_needs() {
    let strict = |text: &str| Address::parse_strict(text).map(|address| address.to_string());
    let long = format!("{}@x.test", "l".repeat(64));
    for good in ["a..b@remote.test", "u@sub_dom.d-us.test", long.as_str()] {
        let address = strict(good).unwrap();
        assert_eq!(address, Address::parse(good).unwrap().to_string());
    }
    let longer = format!("l{long}");
    for (bad, error) in [
        (
            "u@[192.0.2.1]",
            AddressError::StrictLiteral("[192.0.2.1]".into()),
        ),
        ("u@x.test.", AddressError::StrictDot),
        (" u@x.test", AddressError::Character(' ')),
        ("u@x.test ", AddressError::Domain("x.test ".into())),
        (&longer, AddressError::StrictLocalPart),
        ("", AddressError::Empty),
    ] {
        assert_eq!(strict(bad), Err(error), "{bad:?}");
    }
}

/// Its written form is longer: it needs quotes.
#[test]
fn the_longest_local_part_is_read_back() {
    for text in [
        format!("{}..", "x".repeat(LOCAL_PART_MAX - 2)),
        format!("\"{}\"", "\\\"".repeat(LOCAL_PART_MAX)),
    ] {
        let local = LocalPart::parse(&text).unwrap();
        assert_eq!(local.as_str().len(), LOCAL_PART_MAX);
        assert_eq!(LocalPart::parse(&local.to_string()), Ok(local));
    }
}

#[test]
fn what_is_not_an_address_says_why() {
    let wrong = |text: &str| Address::parse(text).unwrap_err();
    assert_eq!(wrong(""), AddressError::Empty);
    assert_eq!(wrong("user"), AddressError::NoAt);
    assert_eq!(wrong("@example.com"), AddressError::NoLocalPart);
    assert_eq!(wrong("a b@example.com"), AddressError::Character(' '));
    assert_eq!(wrong("a\r\n@example.com"), AddressError::Control);
    assert_eq!(wrong("\"a\r\"@example.com"), AddressError::Control);
    assert_eq!(wrong("\"a@example.com"), AddressError::Quotes);
    assert_eq!(wrong("\"a\"b\"@example.com"), AddressError::Quotes);
    assert_eq!(
        wrong(&format!("{}@example.com", "x".repeat(129))),
        AddressError::LocalPartTooLong
    );
    let quoted = format!("\"{}\"@example.com", "x".repeat(129));
    assert_eq!(wrong(&quoted), AddressError::LocalPartTooLong);
    for domain in [
        "",
        "-a.example",
        "a..example",
        "ex+ample.com",
        "[192.0.2.1].",
        "a b.example",
        "1.2.3.4",
        "[1.2.3]",
        "[::1]",
    ] {
        let text = format!("user@{domain}");
        assert!(Address::parse(&text).is_err(), "{text}");
    }
}

#[test]
fn domains_compare_by_their_a_labels() {
    let unicode = Domain::parse("B\u{dc}CHER.example").unwrap();
    assert_eq!(unicode, Domain::parse("xn--bcher-kva.example").unwrap());
    assert_eq!(unicode.unicode(), "b\u{fc}cher.example");
    assert_eq!(unicode.ascii(), "xn--bcher-kva.example");
}

#[test]
fn paths_have_their_special_forms() {
    assert_eq!(ReversePath::parse(""), Ok(ReversePath::Null));
    assert_eq!(
        ForwardPath::parse("PostMaster"),
        Ok(ForwardPath::Postmaster)
    );
    assert!(ForwardPath::parse("").is_err());
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".{0,80}") {
        if let Ok(address) = Address::parse(&text) {
            prop_assert_eq!(Address::parse(&address.to_string()), Ok(address.clone()));
            prop_assert_eq!(Address::parse(&address.unicode()), Ok(address));
        }
    }

    #[test]
    fn any_decoded_local_part_survives_being_written(text in "[ -~\u{e0}-\u{ff}]{1,60}") {
        let local = LocalPart::from_decoded(&text).unwrap();
        prop_assert_eq!(LocalPart::parse(&local.to_string()), Ok(local));
    }
}
