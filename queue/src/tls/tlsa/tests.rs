use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls::{crypto::aws_lc_rs, pki_types::pem::PemObject};

use super::*;

/// 15 January 2027.
const NOW: u64 = 1_800_000_000;

const SHA_256: u8 = 1;
const SHA_512: u8 = 2;

fn record(usage: u8, selector: u8, matching: u8, data: Vec<u8>) -> Tlsa {
    Tlsa {
        usage,
        selector,
        matching,
        data,
    }
}

/// The record for a certificate.
fn made(usage: u8, selector: u8, matching: u8, certificate: &[u8]) -> Tlsa {
    let part = match selector {
        0 => certificate,
        _ => public_key(certificate).unwrap(),
    };
    let data = match matching {
        0 => part.to_vec(),
        1 => Sha256::digest(part).to_vec(),
        _ => Sha512::digest(part).to_vec(),
    };
    record(usage, selector, matching, data)
}

/// A root, an issuer below it, and a certificate of a server, in reverse order.
struct Chain {
    chain: Vec<CertificateDer<'static>>,
}

/// The years in which the three are valid.
struct Years {
    leaf: (i32, i32),
    issuer: (i32, i32),
    root: (i32, i32),
}

const VALID: (i32, i32) = (2020, 2040);
const OVER: (i32, i32) = (2020, 2025);
const LATER: (i32, i32) = (2030, 2040);

const YEARS: Years = Years {
    leaf: VALID,
    issuer: VALID,
    root: VALID,
};

fn params(names: &[&str], common_name: &str, (from, to): (i32, i32)) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
    params
}

impl Chain {
    fn new(names: &[&str], years: &Years) -> Self {
        Self::named(names, "mx.common.test", years)
    }

    fn named(names: &[&str], common_name: &str, years: &Years) -> Self {
        let ca = |name, years| {
            let mut params = params(&[], name, years);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params
        };
        let key = || KeyPair::generate().unwrap();
        let (root_key, issuer_key, leaf_key) = (key(), key(), key());
        let root = ca("root", years.root);
        let root_der = root.self_signed(&root_key).unwrap();
        let root = Issuer::new(root, root_key);
        let issuer = ca("issuer", years.issuer);
        let issuer_der = issuer.signed_by(&issuer_key, &root).unwrap();
        let issuer = Issuer::new(issuer, issuer_key);
        let leaf = params(names, common_name, years.leaf);
        let leaf_der = leaf.signed_by(&leaf_key, &issuer).unwrap();
        let chain = [leaf_der, issuer_der, root_der];
        Self {
            chain: chain.map(|made| made.der().clone()).into(),
        }
    }

    fn leaf(&self) -> &[u8] {
        &self.chain[0]
    }

    fn issuer(&self) -> &[u8] {
        &self.chain[1]
    }

    fn root(&self) -> &[u8] {
        &self.chain[2]
    }
}

/// Checks what a server sends by records, for `mx.test`.
fn check(records: &[Tlsa], sent: &[CertificateDer<'_>]) -> Result<(), Mismatch> {
    check_names(records, sent, &["mx.test"])
}

fn check_names(
    records: &[Tlsa],
    sent: &[CertificateDer<'_>],
    names: &[&str],
) -> Result<(), Mismatch> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(NOW));
    let provider = aws_lc_rs::default_provider();
    let algorithms = &provider.signature_verification_algorithms;
    TlsaSet::of(records).check(sent, &names, now, algorithms)
}

#[test]
fn the_records_of_a_domain_have_limits() {
    let records = |matching, length| -> Vec<Tlsa> {
        let record = |number: u8| Tlsa {
            usage: 2,
            selector: 1,
            matching,
            data: vec![number; length],
        };
        (0..200).map(record).collect()
    };
    assert_eq!(TlsaSet::of(&records(1, 32)).0.len(), RECORDS_MAX);
    assert!(TlsaSet::of(&records(0, 91)).0.len() <= FULL_MAX);
}

#[test]
fn only_so_many_ways_are_searched() {
    let chain = Chain::new(&["mx.test"], &YEARS);
    let foreign = Chain::new(&["mx.test"], &YEARS);
    // Anchors that did not issue the server's certificate, and then the one that did.
    let sent = |foreign_anchors: usize| -> Vec<CertificateDer<'static>> {
        let anchor = foreign.chain[1].clone();
        let anchors = std::iter::repeat_n(anchor, foreign_anchors);
        let (leaf, above) = chain.chain.split_first().unwrap();
        let leaf = std::iter::once(leaf.clone());
        leaf.chain(anchors).chain(above.iter().cloned()).collect()
    };
    let records = [
        made(2, 0, SHA_256, foreign.issuer()),
        made(2, 0, SHA_256, chain.issuer()),
    ];
    assert_eq!(check(&records, &sent(SEARCHES_MAX - 1)), Ok(()));
    assert_eq!(
        check(&records, &sent(SEARCHES_MAX)),
        Err(Mismatch::Chain(
            webpki::Error::MaximumPathBuildCallsExceeded
        ))
    );
}

#[test]
fn only_some_records_can_be_used() {
    let chain = Chain::new(&["mx.test"], &YEARS);
    let (leaf, key) = (chain.leaf(), public_key(chain.leaf()).unwrap());
    for (usage, selector, matching, data, usable) in [
        (3, 1, 1, vec![0; 32], true),
        (3, 0, 1, vec![0; 32], true),
        (2, 0, 2, vec![0; 64], true),
        (2, 1, 2, vec![0; 64], true),
        (3, 0, 0, leaf.to_vec(), true),
        (2, 1, 0, key.to_vec(), true),
        // Usages that need a list of CAs, and unknown values.
        (0, 1, 1, vec![0; 32], false),
        (1, 1, 1, vec![0; 32], false),
        (4, 1, 1, vec![0; 32], false),
        (255, 1, 1, vec![0; 32], false),
        (3, 2, 1, vec![0; 32], false),
        (3, 1, 3, vec![0; 32], false),
        // Wrong lengths and other bytes.
        (3, 1, 1, vec![0; 31], false),
        (3, 1, 1, vec![0; 64], false),
        (3, 1, 2, vec![0; 32], false),
        (3, 1, 1, Vec::new(), false),
        (3, 0, 0, key.to_vec(), false),
        (3, 1, 0, leaf.to_vec(), false),
        (3, 0, 0, [leaf, &[0]].concat(), false),
        (3, 0, 0, Vec::new(), false),
    ] {
        let set = TlsaSet::of(&[record(usage, selector, matching, data)]);
        assert_eq!(!set.is_empty(), usable, "{usage} {selector} {matching}");
    }
}

#[test]
fn of_two_digests_the_stronger_one_counts() {
    let chain = Chain::new(&["mx.test"], &YEARS);
    let weak = made(3, 1, SHA_256, chain.leaf());
    let wrong = record(3, 1, SHA_512, vec![0; 64]);
    assert_eq!(check(std::slice::from_ref(&weak), &chain.chain), Ok(()));
    let both = [weak.clone(), wrong.clone()];
    assert_eq!(check(&both, &chain.chain), Err(Mismatch::NoMatch));
    // One of another selector, another usage, or no digest is not weaker.
    for other in [
        made(3, 0, SHA_256, chain.leaf()),
        made(2, 1, SHA_256, chain.issuer()),
        made(3, 1, 0, chain.leaf()),
    ] {
        assert_eq!(check(&[other, wrong.clone()], &chain.chain), Ok(()));
    }
    // The order of the records, and the same one twice, make no difference.
    let set = |records: &[&Tlsa]| {
        let records: Vec<Tlsa> = records.iter().map(|record| (*record).clone()).collect();
        TlsaSet::of(&records)
    };
    assert_eq!(set(&[&weak, &wrong]), set(&[&wrong, &weak, &wrong]));
}

#[test]
fn a_certificate_of_the_server_matches_whatever_else_it_says() {
    let over = Years {
        leaf: OVER,
        ..YEARS
    };
    let chain = Chain::new(&["other.test"], &over);
    for (selector, matching) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)] {
        let right = made(3, selector, matching, chain.leaf());
        assert_eq!(check(std::slice::from_ref(&right), &chain.chain), Ok(()));
        // Alone, without its issuers.
        assert_eq!(
            check(std::slice::from_ref(&right), &chain.chain[..1]),
            Ok(())
        );
        // One match is enough.
        let wrong = made(3, selector, matching, chain.issuer());
        assert_eq!(check(&[wrong.clone(), right], &chain.chain), Ok(()));
        assert_eq!(check(&[wrong], &chain.chain), Err(Mismatch::NoMatch));
    }
    assert_eq!(
        check(&[made(3, 1, 1, chain.leaf())], &[]),
        Err(Mismatch::NoMatch)
    );
}

#[test]
fn a_certificate_of_version_1_matches_too() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/tls/version-1.crt");
    let old = CertificateDer::from_pem_file(file).unwrap();
    for (selector, matching) in [(0, 0), (0, 1), (1, 1), (1, 2)] {
        let right = made(3, selector, matching, &old);
        assert_eq!(check(&[right], std::slice::from_ref(&old)), Ok(()));
    }
}

#[test]
fn an_issuer_matches_in_the_chain_or_in_the_record() {
    let chain = Chain::new(&["mx.test"], &YEARS);
    let sent = &chain.chain;
    for (selector, matching) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)] {
        for anchor in [chain.issuer(), chain.root()] {
            let record = made(2, selector, matching, anchor);
            assert_eq!(check(&[record], sent), Ok(()), "{selector} {matching}");
        }
        // The server's own certificate is no issuer.
        let record = made(2, selector, matching, chain.leaf());
        assert!(check(&[record], sent).is_err(), "{selector} {matching}");
        // A digest does not help if the server leaves out the root. The whole does.
        let record = made(2, selector, matching, chain.root());
        let without = check(&[record], &sent[..2]);
        assert_eq!(without.is_ok(), matching == 0, "{selector} {matching}");
    }
    // An issuer that is sent, and did not issue this certificate.
    let other = Chain::new(&["mx.test"], &YEARS);
    let mixed = [
        sent[0].clone(),
        other.chain[1].clone(),
        other.chain[2].clone(),
    ];
    let record = made(2, 0, SHA_256, other.issuer());
    assert!(matches!(check(&[record], &mixed), Err(Mismatch::Chain(_))));
}

#[test]
fn the_dates_of_a_chain_up_to_the_issuer_count() {
    let check_years = |years: &Years, anchor: usize| {
        let chain = Chain::new(&["mx.test"], years);
        check(&[made(2, 0, SHA_256, &chain.chain[anchor])], &chain.chain)
    };
    assert_eq!(check_years(&YEARS, 1), Ok(()));
    for leaf in [OVER, LATER] {
        let years = Years { leaf, ..YEARS };
        assert!(matches!(check_years(&years, 1), Err(Mismatch::Chain(_))));
    }
    for issuer in [OVER, LATER] {
        let years = Years { issuer, ..YEARS };
        assert_eq!(check_years(&years, 1), Err(Mismatch::AnchorDates));
        assert!(matches!(check_years(&years, 2), Err(Mismatch::Chain(_))));
    }
    // What is above the anchor does not count.
    let years = Years {
        root: OVER,
        ..YEARS
    };
    assert_eq!(check_years(&years, 1), Ok(()));
    assert_eq!(check_years(&years, 2), Err(Mismatch::AnchorDates));
}

#[test]
fn a_certificate_below_an_issuer_needs_a_name() {
    let check_name = |certified: &[&str], common: &str, names: &[&str]| {
        let chain = Chain::named(certified, common, &YEARS);
        let record = made(2, 1, SHA_256, chain.issuer());
        check_names(&[record], &chain.chain, names).is_ok()
    };
    for (certified, common, names, fits) in [
        (&["mx.test"][..], "x", &["mx.test"][..], true),
        (&["a.test", "MX.Test"], "x", &["b.test", "mx.test"], true),
        (&["*.test"], "x", &["mx.test"], true),
        (&["*.test"], "x", &["a.mx.test", "test"], false),
        (&["m*.test"], "x", &["mx.test"], false),
        (&["other.test"], "mx.test", &["mx.test"], false),
        (&[], "mx.test", &["mx.test"], true),
        (&[], "*.test", &["mx.test"], true),
        (&[], "other.test", &["mx.test"], false),
        // An address is no name of a host, so the common name counts.
        (&["192.0.2.1"], "mx.test", &["mx.test"], true),
    ] {
        let what = format!("{certified:?} {common} {names:?}");
        assert_eq!(check_name(certified, common, names), fits, "{what}");
    }
}

proptest! {
    /// Strangers write records and certificates.
    #[test]
    fn any_records_and_certificates_are_read(
        records in prop::collection::vec(
            (0..5_u8, 0..3_u8, 0..4_u8, prop::collection::vec(any::<u8>(), 0..70)),
            0..8,
        ),
        sent in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..70), 0..4),
    ) {
        let records: Vec<Tlsa> = records
            .into_iter()
            .map(|(usage, selector, matching, data)| record(usage, selector, matching, data))
            .collect();
        let set = TlsaSet::of(&records);
        prop_assert!(set.0.len() <= records.len());
        let whole = records.iter().any(|it| {
            it.usage == 3 && it.selector == 0 && sent.first().is_some_and(|leaf| *leaf == it.data)
        });
        let sent: Vec<CertificateDer<'_>> = sent.into_iter().map(CertificateDer::from).collect();
        let checked = check(&records, &sent);
        prop_assert!(checked.is_err() || whole);
    }

    /// A changed byte of the certificate matches no digest of it.
    #[test]
    fn no_other_bytes_match(at in 0..200_usize, bit in 0..8_u32) {
        let leaf: Vec<u8> = (0..200_u8).collect();
        let record = record(3, 0, SHA_256, Sha256::digest(&leaf).to_vec());
        let mut other = leaf.clone();
        other[at] ^= 1 << bit;
        let matched = |leaf| check(std::slice::from_ref(&record), &[CertificateDer::from(leaf)]);
        prop_assert_eq!(matched(other), Err(Mismatch::NoMatch));
        prop_assert_eq!(matched(leaf), Ok(()));
    }
}

#[test]
fn records_are_shown_as_in_zone_files() {
    let records = [
        record(3, 1, SHA_256, vec![0xab; 32]),
        record(2, 0, 2, vec![1; 64]),
    ];
    let expected = [
        format!("2 0 2 {}", "01".repeat(64)),
        format!("3 1 1 {}", "ab".repeat(32)),
    ];
    assert_eq!(TlsaSet::of(&records).lines(), expected);
}
