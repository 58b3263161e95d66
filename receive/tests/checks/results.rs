//! Authentication-Results (RFC 8601), ours and those that a message came with:
//!
//! - Our field is printable ASCII in folded lines of at most 998 bytes, whatever strangers put into
//!   its values. A reader finds our name in it, and no result of a stranger's.
//! - What remains of a header section has no field that pretends to be ours, and every other field
//!   as it was.
//! - No ARC set makes the reader of its results panic.
//!
//! The first byte chooses outcomes. The rest is a header section. Its lines are also the values of
//! our field.

use std::{hint::black_box, net::IpAddr, sync::Arc};

use bytes::Bytes;
use postrider_receive::checks::{
    arc::{ArcChain, ArcOutcome, ArcResult},
    dkim::{DkimOutcome, DkimResult, HeaderFields},
    dmarc::{DmarcOutcome, DmarcPolicy, DmarcResult},
    iprev::{IprevOutcome, IprevResult},
    results::{AuthenticationResults, without_forged},
};
use postrider_smtp::{Domain, field};

const OURS: &str = "mx.example.org";

/// Fails where one of these does not hold.
pub(crate) fn check(data: &[u8]) {
    let Some((options, section)) = data.split_first() else {
        return;
    };
    let ours = [Domain::parse(OURS).expect("a domain")];
    check_written(*options, section, &ours);
    check_removed(section, &ours);
    check_reported(section);
}

/// Our own field.
fn check_written(options: u8, section: &[u8], ours: &[Domain]) {
    let written = results(options, section).field(OURS, line(section, 0).as_deref());
    let body = written.strip_suffix("\r\n").expect("the end of a line");
    for (at, line) in body.split("\r\n").enumerate() {
        assert!(line.len() <= 998, "a line of {} bytes", line.len());
        let folds = line.starts_with('\t') && !line.trim().is_empty();
        assert!(at == 0 || folds, "a line that ends the field: {line:?}");
        let printable = |byte: u8| byte.is_ascii_graphic() || byte == b' ' || byte == b'\t';
        assert!(line.bytes().all(printable), "{line:?}");
    }
    let mut methods: Vec<&str> = body.split("\r\n\t").filter_map(method).collect();
    methods.retain(|method| !["iprev", "dkim", "arc", "dmarc"].contains(method));
    assert!(methods.is_empty(), "{methods:?} in {written:?}");
    let rest = without_forged(written.as_bytes(), ours);
    assert_eq!(
        rest.as_deref(),
        Some(b"".as_slice()),
        "not found as ours: {written:?}"
    );
}

/// The method at the beginning of a line of our field, if a result begins there.
fn method(line: &str) -> Option<&str> {
    let line = line
        .strip_prefix("Authentication-Results: mx.example.org; ")
        .unwrap_or(line);
    let (method, _) = line.split_once('=')?;
    let is_property = method.contains(['.', '"', '(', ' ']) || method == "reason";
    (!is_property && method != "none").then_some(method)
}

/// Results with the lines of a stranger in them.
fn results(options: u8, section: &[u8]) -> AuthenticationResults {
    let text = |at| line(section, at);
    let domain = |at| Domain::parse(&line(section, at)?).ok();
    let dkim = |at: usize| DkimResult {
        outcome: if options & 1 == 0 {
            DkimOutcome::Pass
        } else {
            DkimOutcome::Fail
        },
        reason: text(at),
        domain: domain(at + 1),
        selector: text(at + 2),
        identity: text(at + 3),
        algorithm: text(at + 4),
        signature: text(at + 5).unwrap_or_default(),
        for_tls_reports: false,
    };
    let iprev = IprevResult {
        outcome: if options & 2 == 0 {
            IprevOutcome::Pass
        } else {
            IprevOutcome::Fail
        },
        address: IpAddr::from([192, 0, 2, 1]),
        name: text(1),
        names: Vec::new(),
        reason: text(2),
    };
    let dmarc = DmarcResult {
        outcome: if options & 4 == 0 {
            DmarcOutcome::PermError
        } else {
            DmarcOutcome::Pass
        },
        from: domain(1),
        record_domain: text(2),
        policy: Some(DmarcPolicy::Reject),
        published: None,
        spf_aligned: false,
        dkim_aligned: false,
        unanswered: false,
        reason: text(3).unwrap_or_default(),
    };
    AuthenticationResults {
        iprev: Some(iprev),
        spf: None,
        dkim: vec![dkim(0), dkim(1)],
        arc: Some(passed(text(4))),
        dmarc: Some(dmarc),
        arc_vouches: None,
        arc_may_vouch: None,
    }
}

fn passed(reason: Option<String>) -> ArcResult {
    ArcResult {
        outcome: ArcOutcome::Pass,
        reason,
        oldest_pass: Some(0),
        remote_ip: None,
    }
}

/// A line of the section, with its last character.
fn line(section: &[u8], at: usize) -> Option<String> {
    let line = section.split(|byte| *byte == b'\n').nth(at)?;
    Some(String::from_utf8_lossy(line).into_owned())
}

fn check_removed(section: &[u8], ours: &[Domain]) {
    let Some(kept) = without_forged(section, ours) else {
        return;
    };
    assert!(kept.len() < section.len());
    assert_eq!(
        without_forged(&kept, ours),
        None,
        "something forged is left"
    );
    let mut before = field::written(section);
    for field in field::written(&kept) {
        assert!(before.any(|one| one == field), "a field changed");
        let name = field.split(|byte| *byte == b':').next().unwrap_or_default();
        let name = name.trim_ascii().to_ascii_lowercase();
        assert!(name != b"return-path" || !field.contains(&b':'));
        // A reader that takes the plainest form of our name finds nothing.
        let value = field.get(name.len() + 1..).unwrap_or_default().trim_ascii();
        let is_results = name == b"authentication-results";
        assert!(!is_results || !value.starts_with(b"mx.example.org;"));
    }
}

fn check_reported(section: &[u8]) {
    let fields = HeaderFields::new(Bytes::copy_from_slice(section));
    let chain = ArcChain::new(Arc::new(fields));
    let from = Domain::parse("a.example").expect("a domain");
    let is_ours = |_, domain: &Domain| *domain == from;
    black_box(chain.vouching_set(&passed(None), &from, &|_| true, &is_ours));
}
