//! Tests of the field, and of the recognition of forged ones.

use postrider_smtp::{Domain, field};
use proptest::prelude::*;

use super::*;
use crate::checks::{
    arc::ArcOutcome,
    dkim::DkimOutcome,
    dmarc::{DmarcOutcome, DmarcPolicy, DmarcResult},
    iprev::{IprevOutcome, IprevResult},
    spf::{SpfIdentity, SpfOutcome, SpfResult},
};

const HOST: &str = "mx.example.org";

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

fn spf(outcome: SpfOutcome, identity: SpfIdentity, reason: &str) -> SpfResult {
    SpfResult::plain(outcome, identity, Some(domain("example.net")), reason)
}

fn iprev(outcome: IprevOutcome, address: &str) -> IprevResult {
    IprevResult {
        outcome,
        address: address.parse().unwrap(),
        name: None,
        names: Vec::new(),
        reason: None,
    }
}

fn dkim(outcome: DkimOutcome, signature: &str) -> DkimResult {
    DkimResult {
        outcome,
        reason: None,
        domain: Some(domain("example.net")),
        selector: Some("a".to_owned()),
        identity: None,
        algorithm: Some("rsa-sha256".to_owned()),
        signature: signature.to_owned(),
        for_tls_reports: false,
    }
}

fn dmarc(outcome: DmarcOutcome) -> DmarcResult {
    DmarcResult {
        outcome,
        from: Some(domain("example.net")),
        record_domain: Some("example.net".to_owned()),
        policy: Some(DmarcPolicy::Reject),
        published: None,
        spf_aligned: false,
        unanswered: false,
        dkim_aligned: false,
        reason: "no answer".to_owned(),
    }
}

fn check(results: &AuthenticationResults, expected: &str) {
    check_differing(results, None, expected);
}

/// Checks a field that tells why the decision differs from the DMARC policy.
fn check_differing(results: &AuthenticationResults, differs: Option<&str>, expected: &str) {
    let field = results.field(HOST, differs);
    let expected = format!("Authentication-Results: {HOST}; {expected}\r\n");
    assert_eq!(field, expected.replace('\n', "\r\n").replace("\r\r", "\r"));
    assert_eq!(
        without_forged(field.as_bytes(), &[domain(HOST)]),
        Some(Vec::new())
    );
}

#[test]
fn each_result_has_a_line() {
    check(&AuthenticationResults::default(), "none");
    let broken = DkimResult {
        reason: Some("body hash did not verify".to_owned()),
        ..dkim(DkimOutcome::Fail, "AbC/dEfGhIjK")
    };
    let all = AuthenticationResults {
        iprev: Some(iprev(IprevOutcome::Pass, "192.0.2.7")),
        spf: Some(spf(SpfOutcome::Pass, SpfIdentity::MailFrom, "x")),
        dkim: vec![broken],
        dmarc: Some(dmarc(DmarcOutcome::Pass)),
        ..AuthenticationResults::default()
    };
    check(
        &all,
        "iprev=pass policy.iprev=192.0.2.7;\n\
         \tspf=pass smtp.mailfrom=example.net;\n\
         \tdkim=fail reason=\"body hash did not verify\" header.d=example.net header.s=a \
         header.a=rsa-sha256 header.b=\"AbC/dEfG\";\n\
         \tdmarc=pass header.from=example.net policy.dmarc=reject",
    );
    let overridden = AuthenticationResults {
        dmarc: Some(dmarc(DmarcOutcome::Fail)),
        ..AuthenticationResults::default()
    };
    check_differing(
        &overridden,
        Some("junk: sent by a (list)"),
        "dmarc=fail (junk: sent by a \\(list\\)) header.from=example.net policy.dmarc=reject",
    );
}

#[test]
fn values_are_quoted_and_reasons_stand_first() {
    let silent = IprevResult {
        reason: Some("no server answers".to_owned()),
        ..iprev(IprevOutcome::TempError, "2001:db8::7")
    };
    let results = AuthenticationResults {
        iprev: Some(silent),
        spf: Some(spf(
            SpfOutcome::PermError,
            SpfIdentity::Helo,
            "\"a\tb\\\u{e4}\" is wrong",
        )),
        arc: Some(ArcResult {
            outcome: ArcOutcome::Pass,
            reason: None,
            oldest_pass: Some(0),
            remote_ip: Some("::ffff:192.0.2.7".parse().unwrap()),
        }),
        dmarc: Some(dmarc(DmarcOutcome::TempError)),
        ..AuthenticationResults::default()
    };
    check(
        &results,
        "iprev=temperror reason=\"no server answers\" policy.iprev=\"2001:db8::7\";\n\
         \tspf=permerror reason=\"\\\"a?b\\\\?\\\" is wrong\" smtp.helo=example.net;\n\
         \tarc=pass header.oldest-pass=0 smtp.remote-ip=192.0.2.7;\n\
         \tdmarc=temperror reason=\"no answer\" header.from=example.net policy.dmarc=reject",
    );
    let domainless = SpfResult::plain(SpfOutcome::None, SpfIdentity::MailFrom, None, "x");
    let results = AuthenticationResults {
        spf: Some(domainless),
        ..AuthenticationResults::default()
    };
    check(&results, "spf=none");
}

#[test]
fn identities_and_signatures_are_told_apart() {
    let identified = |identity: &str| DkimResult {
        identity: Some(identity.to_owned()),
        ..dkim(DkimOutcome::Pass, "")
    };
    let too_many = DkimResult {
        outcome: DkimOutcome::Policy,
        reason: Some("too many signatures".to_owned()),
        domain: None,
        selector: None,
        identity: None,
        algorithm: None,
        signature: String::new(),
        for_tls_reports: false,
    };
    let results = |dkim| AuthenticationResults {
        dkim,
        ..AuthenticationResults::default()
    };
    let written = |identity| {
        format!("dkim=pass header.d=example.net{identity} header.s=a header.a=rsa-sha256")
    };
    for (identity, expected) in [
        ("@b.example.net", " header.i=@b.example.net"),
        ("ann+x@example.net", " header.i=ann+x@example.net"),
        ("a=b@example.net", " header.i=\"a=b@example.net\""),
        ("a@b@example.net", " header.i=\"a@b@example.net\""),
        ("", " header.i=\"\""),
        ("\r\nX: y", " header.i=\"??X: y\""),
        (&"a".repeat(256), ""),
    ] {
        check(&results(vec![identified(identity)]), &written(expected));
    }
    check(
        &results(vec![too_many]),
        "dkim=policy reason=\"too many signatures\"",
    );
    let shown = |signatures: &[&str]| {
        let dkim = signatures.iter().map(|text| dkim(DkimOutcome::Pass, text));
        let field = results(dkim.collect()).field(HOST, None);
        let shown = field.split("header.b=").skip(1).map(|rest| {
            let end = rest.find([';', '\r']).unwrap();
            rest[..end].to_owned()
        });
        shown.collect::<Vec<_>>()
    };
    assert_eq!(
        shown(&["abcdefghij", "abcdefghik", "xbcdefghij"]),
        ["abcdefghij", "abcdefghik", "xbcdefgh"]
    );
    assert_eq!(
        shown(&["abcdefghi", "abcdefgh", "abc"]),
        ["abcdefghi", "abcdefgh", "abc"]
    );
    assert_eq!(
        shown(&["abcdefghij", "abcdefghij"]),
        ["abcdefghij", "abcdefghij"]
    );
}

/// Which of the fields stay.
fn kept(fields: &[&str]) -> Vec<String> {
    let section: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let own = [domain(HOST), domain("b\u{fc}cher.example")];
    let kept = without_forged(section.as_bytes(), &own).unwrap_or(section.into_bytes());
    let kept = field::written(&kept).map(|field| String::from_utf8(field.to_vec()).unwrap());
    kept.map(|field| field.trim_end().to_owned()).collect()
}

#[test]
fn forged_fields_are_removed() {
    for field in [
        "Authentication-Results: mx.example.org; spf=pass",
        "authentication-results:MX.Example.ORG.;spf=pass",
        "Authentication-Results : mx.example.org 1; spf=pass",
        "Authentication-Results\r\n : mx.example.org",
        "Authentication-Results\t\r\n\t:\r\n\tmx.example.org\r\n\t; spf=pass",
        "Authentication-Results: (a (b) \\) c)mx.example.org(d) 1 (e);",
        "Authentication-Results: (x\r\n y) mx.example.org",
        "Authentication-Results: \"mx.example.org\"; spf=pass",
        "Authentication-Results: \"m\\x.\r\n \\e\\xample.org\"; spf=pass",
        "Authentication-Results: \" mx.example.org \"; spf=pass",
        "Authentication-Results: \"mx.example.org\" (x) 1; spf=pass",
        "Authentication-Results: B\u{dc}CHER.example; spf=pass",
        "Authentication-Results: xn--bcher-kva.example; spf=pass",
        // What can't be read.
        "Authentication-Results:",
        "Authentication-Results: ;spf=pass",
        "Authentication-Results: \"\"; spf=pass",
        "Authentication-Results: spf=pass smtp.mailfrom=example.net",
        "Authentication-Results: (mx.example.net; spf=pass",
        "Authentication-Results: \"mx.example.net; spf=pass",
        "Authentication-Results: mx.example.net (; spf=pass",
        "Authentication-Results: mx.(x)example.org; spf=pass",
        "Authentication-Results: mx. example.org; spf=pass",
        "Authentication-Results: \"mx\".example.org; spf=pass",
        "Authentication-Results: =?utf-8?q?mx.example.org?=; spf=pass",
        "Authentication-Results: mx.example.net 1x; spf=pass",
        "Authentication-Results: mx.example.net, mx.example.org; spf=pass",
        "Authentication-Results: mx.example.net\u{0}; spf=pass",
        " Authentication-Results: mx.example.org; spf=pass",
        "Auth\u{1}entication-Results: mx.example.org; spf=pass",
        "Return-Path: <a@b.test>",
        "RETURN-PATH\t: <>",
        "X-Postrider-Anything: x",
        "x-postrider-: x",
    ] {
        assert_eq!(kept(&[field]), [""; 0], "{field:?}");
        assert_eq!(
            kept(&["A: b", field, "C: d"][usize::from(field.starts_with(' '))..])
                .last()
                .unwrap(),
            "C: d"
        );
    }
}

#[test]
fn fields_of_others_stay() {
    let others = [
        "Authentication-Results: mx.example.net; spf=pass",
        "Authentication-Results: amx.example.org; spf=pass",
        "Authentication-Results: example.org; spf=pass",
        "Authentication-Results: (mx.example.org) mx.example.net 1; spf=pass",
        "Authentication-Results: \"mx.example.org@x\"; none",
        "Authentication-Results: b\u{fc}cher.test",
        "Authentication-Results: mx_1; none",
        "ARC-Authentication-Results: i=1; mx.example.org; spf=pass",
        "X-Authentication-Results: mx.example.org; spf=pass",
        "X-Return-Path: a",
        "X-Postriderx: a",
        "Subject: Return-Path: mx.example.org",
        "no field",
    ];
    assert_eq!(kept(&others), others);
    let section = b"A: b\r\nReturn-Path: <>\r\nC: d\r\n\r\nReturn-Path: in the body\r\n";
    let expected = b"A: b\r\nC: d\r\n\r\nReturn-Path: in the body\r\n";
    assert_eq!(without_forged(section, &[]).unwrap(), expected);
    assert_eq!(without_forged(&expected[..], &[]), None);
    assert_eq!(without_forged(b"", &[]), None);
}

/// Time in proportion to the square of the length would be too long.
#[test]
fn a_long_field_is_read_once() {
    for piece in ["(", "()", "\\", "\"", "a", "1", " ", "\r\n ", "(\\", ":"] {
        let value = piece.repeat((1 << 20) / piece.len());
        let section = format!("Authentication-Results: {value}\r\nA: b\r\n");
        let _ = without_forged(section.as_bytes(), &[domain(HOST)]);
    }
    let many = "Authentication-Results: mx.example.org\r\n".repeat(10_000);
    assert_eq!(
        without_forged(many.as_bytes(), &[domain(HOST)]),
        Some(Vec::new())
    );
}

/// The number of results in a value: the semicolons outside of quotes and comments.
fn count_results(value: &str) -> usize {
    let (mut quoted, mut depth, mut escaped, mut count) = (false, 0, false, 0);
    for c in value.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted || depth > 0 => escaped = true,
            '"' if depth == 0 => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            ';' if !quoted && depth == 0 => count += 1,
            _ => {}
        }
    }
    assert!(!quoted && depth == 0 && !escaped, "{value:?}");
    count
}

/// White space, comments and folds.
const SPACE: &str = "( |\t|\r\n |\r\n\t|\\(c\\)|\\(a \\(b\\) \\\\\\) ;\r\n c\\)){0,4}";

proptest! {
    #[test]
    fn any_values_make_a_whole_field(
        texts in prop::collection::vec(prop::option::of("[ -~\u{e4}\r\n\t\\\\\"();=]{0,300}"), 7),
    ) {
        let text = |at: usize| texts.get(at).cloned().flatten();
        let result = DkimResult {
            outcome: DkimOutcome::Fail,
            reason: text(0),
            domain: None,
            selector: text(1),
            identity: text(2),
            algorithm: text(3),
            signature: text(4).unwrap_or_default(),
            for_tls_reports: false,
        };
        let results = AuthenticationResults {
            spf: Some(spf(SpfOutcome::Fail, SpfIdentity::MailFrom, &text(5).unwrap_or_default())),
            dkim: vec![result.clone(), result],
            dmarc: Some(dmarc(DmarcOutcome::Fail)),
            ..AuthenticationResults::default()
        };
        let written = results.field(HOST, text(6).as_deref());
        prop_assert_eq!(field::written(written.as_bytes()).count(), 1);
        for line in written.strip_suffix("\r\n").unwrap().split("\r\n") {
            prop_assert!(line.len() <= 998);
            prop_assert!(line.bytes().all(|byte| byte.is_ascii_graphic() || b" \t".contains(&byte)));
            prop_assert!(!line.trim().is_empty());
        }
        prop_assert_eq!(count_results(&written), 4);
        prop_assert_eq!(without_forged(written.as_bytes(), &[domain(HOST)]), Some(Vec::new()));
        let stays = without_forged(written.as_bytes(), &[domain("mx.example.net")]);
        prop_assert_eq!(stays, None);
    }

    #[test]
    fn our_name_is_found_in_any_dress(
        before in SPACE,
        after in SPACE,
        version in "(1|22)?",
        end in SPACE,
        escapes in prop::collection::vec(any::<bool>(), HOST.len()),
        upper in prop::collection::vec(any::<bool>(), HOST.len()),
        is_quoted in any::<bool>(),
        rest in "(;[ -~]{0,20})?",
    ) {
        let dress = |host: &str| {
            let mut id = String::new();
            for (at, c) in host.chars().enumerate() {
                if is_quoted && escapes[at] {
                    id.push('\\');
                }
                id.push(if upper[at] { c.to_ascii_uppercase() } else { c });
            }
            let id = if is_quoted { format!("\"{id}\"") } else { id };
            let space = if version.is_empty() { "" } else { " " };
            format!("Authentication-Results:{before}{id}{space}{after}{version}{end}{rest}\r\n")
        };
        let own = [domain(HOST)];
        let forged = dress(HOST);
        prop_assert_eq!(without_forged(forged.as_bytes(), &own), Some(Vec::new()), "{:?}", forged);
        let other = dress("mx.example.net");
        prop_assert_eq!(without_forged(other.as_bytes(), &own), None, "{:?}", other);
    }

    #[test]
    fn any_section_is_read(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        lines in "((Authentication-Results|Return-Path|X-Postrider-A|A)[ \r\n]{0,3}:[ -~\r\n\t]{0,40}\r\n){0,6}",
    ) {
        let own = [domain(HOST)];
        for section in [bytes.as_slice(), lines.as_bytes(), &[lines.as_bytes(), &bytes].concat()] {
            if let Some(kept) = without_forged(section, &own) {
                prop_assert!(kept.len() < section.len());
                prop_assert_eq!(without_forged(&kept, &own), None);
            }
        }
    }
}
