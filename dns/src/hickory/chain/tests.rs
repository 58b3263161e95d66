use hickory_resolver::{
    net::NoRecords,
    proto::{
        dnssec::{
            Algorithm,
            rdata::{RRSIG, SigInput},
        },
        op::{Message, Query},
        rr::{SerialNumber, rdata},
    },
};

use super::*;
use crate::Mx;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn record(owner: &str, ttl: u32, data: RData, proof: Proof) -> WireRecord {
    let mut record = WireRecord::from_rdata(name(owner), ttl, data);
    record.proof = proof;
    record
}

fn alias(owner: &str, target: &str, proof: Proof) -> WireRecord {
    let data = RData::CNAME(rdata::CNAME(name(target)));
    record(owner, 300, data, proof)
}

fn mx(owner: &str, host: &str, proof: Proof) -> WireRecord {
    record(owner, 600, RData::MX(rdata::MX::new(10, name(host))), proof)
}

fn text(owner: &str, strings: &[&str]) -> WireRecord {
    let strings = strings.iter().map(|text| (*text).to_owned()).collect();
    let data = RData::TXT(rdata::TXT::new(strings));
    record(owner, 60, data, Proof::Insecure)
}

fn soa(ttl: u32, proof: Proof) -> WireRecord {
    let data = rdata::SOA::new(name("ns.test."), name("x.test."), 1, 2, 3, 4, 90);
    record("test.", ttl, RData::SOA(data), proof)
}

fn message(
    code: ResponseCode,
    answers: Vec<WireRecord>,
    authorities: Vec<WireRecord>,
) -> DnsResponse {
    let mut message = Message::query().into_response();
    message.metadata.response_code = code;
    message.add_answers(answers);
    message.add_authorities(authorities);
    DnsResponse::from_message(message).unwrap()
}

fn found(answers: Vec<WireRecord>) -> Given {
    Given::Net(Ok(message(ResponseCode::NoError, answers, Vec::new())))
}

/// What the crate makes of a response.
enum Given {
    Net(Result<DnsResponse, NetError>),
    Unproven(DnsResponse, Proof),
}

fn unproven(code: ResponseCode, answers: Vec<WireRecord>, proof: Proof) -> Given {
    let authorities = vec![soa(600, Proof::Secure)];
    Given::Unproven(message(code, answers, authorities), proof)
}

/// What the responses, one after the other, say to a question about `a.test`.
fn walk(record_type: RecordType, responses: Vec<Given>) -> Result<Answer<Record>, DnsError> {
    let mut chain = Chain::new(name("a.test."), record_type);
    for response in responses {
        let response = match response {
            Given::Net(result) => Response::read(chain.name(), result)?,
            Given::Unproven(response, proof) => Response::unproven(chain.name(), &response, proof)?,
        };
        if let Some(answer) = chain.step(&response)? {
            return Ok(answer);
        }
    }
    panic!("{} is asked about next", chain.name());
}

fn aliases(answer: &Answer<Record>) -> Vec<(&str, bool)> {
    let aliases = answer.aliases.iter();
    aliases
        .map(|alias| (alias.target.as_str(), alias.authentic))
        .collect()
}

fn negative(authentic: bool, ttl: u64) -> Negative {
    Negative {
        authentic,
        ttl: Duration::from_secs(ttl),
    }
}

#[test]
fn an_answer_is_authentic_if_each_step_is() {
    use Proof::{Indeterminate, Insecure, Secure};
    for (first, second, records, expected) in [
        (Secure, Secure, Secure, [true, true, true]),
        (Insecure, Secure, Secure, [false, true, false]),
        (Secure, Insecure, Secure, [true, false, false]),
        (Secure, Secure, Insecure, [true, true, false]),
        (Secure, Secure, Indeterminate, [true, true, false]),
    ] {
        let steps = [
            alias("A.test.", "b.test.", first),
            alias("b.test.", "C.Test.", second),
            mx("c.test.", "MX.Test.", Secure),
            mx("c.test.", ".", records),
        ];
        // In one response, and in three.
        for responses in [
            vec![found(steps.to_vec())],
            vec![
                found(steps[..1].to_vec()),
                found(steps[1..2].to_vec()),
                found(steps[2..].to_vec()),
            ],
        ] {
            let answer = walk(RecordType::Mx, responses).unwrap();
            let [b, c, all] = expected;
            assert_eq!(aliases(&answer), [("b.test", b), ("c.test", c)]);
            assert_eq!(answer.authentic, all);
            assert_eq!(answer.ttl, Duration::from_secs(300));
            let hosts = ["mx.test", ""].map(|host| {
                Record::Mx(Mx {
                    preference: 10,
                    host: host.to_owned(),
                })
            });
            assert_eq!(answer.records, hosts);
        }
    }
}

#[test]
fn a_bogus_step_makes_the_answer_bogus() {
    use Proof::{Bogus, Secure};
    for (first, records, bogus) in [(Bogus, Secure, "a.test"), (Secure, Bogus, "b.test")] {
        let answers = vec![
            alias("a.test.", "b.test.", first),
            mx("b.test.", "mx.test.", records),
        ];
        let error = walk(RecordType::Mx, vec![found(answers)]).unwrap_err();
        let name = bogus.to_owned();
        assert_eq!(error, DnsError::Bogus { name });
        assert!(error.to_string().contains("bogus"), "{error}");
    }
    // Nobody asked for this record.
    let answers = vec![
        mx("a.test.", "mx.test.", Secure),
        mx("other.test.", "mx.test.", Bogus),
    ];
    let answer = walk(RecordType::Mx, vec![found(answers)]).unwrap();
    assert!(answer.authentic && answer.records.len() == 1);
}

#[test]
fn the_strings_of_a_text_are_joined_and_texts_are_kept_apart() {
    let answers = vec![
        text("a.test.", &["v=spf1 ", "-all"]),
        text("a.test.", &["other"]),
    ];
    let answer = walk(RecordType::Txt, vec![found(answers)]).unwrap();
    let expected = [b"v=spf1 -all".to_vec(), b"other".to_vec()].map(Record::Txt);
    assert_eq!(answer.records, expected);
}

#[test]
fn eight_cnames_are_followed() {
    let steps = |number: usize| {
        let step = |at: usize| {
            let owner = if at == 0 {
                "a".to_owned()
            } else {
                at.to_string()
            };
            let (owner, target) = (format!("{owner}.test."), format!("{}.test.", at + 1));
            alias(&owner, &target, Proof::Secure)
        };
        let mut answers: Vec<WireRecord> = (0..number).map(step).collect();
        answers.push(mx(&format!("{number}.test."), "mx.test.", Proof::Secure));
        found(answers)
    };
    let answer = walk(RecordType::Mx, vec![steps(ALIASES_MAX)]).unwrap();
    assert_eq!(answer.aliases.len(), ALIASES_MAX);
    let loops = |targets: &[(&str, &str)]| {
        let aliases = targets.iter();
        let aliases = aliases.map(|(owner, target)| alias(owner, target, Proof::Secure));
        found(aliases.collect())
    };
    for response in [
        steps(ALIASES_MAX + 1),
        loops(&[("a.test.", "a.test.")]),
        loops(&[("a.test.", "b.test."), ("b.test.", "a.test.")]),
    ] {
        let error = walk(RecordType::Mx, vec![response]).unwrap_err();
        assert!(matches!(error, DnsError::Temporary(_)), "{error}");
    }
    // A question for the CNAME itself follows none.
    let own = loops(&[("a.test.", "a.test.")]);
    let answer = walk(RecordType::Cname, vec![own]).unwrap();
    assert_eq!(answer.records, [Record::Cname("a.test".to_owned())]);
}

#[test]
fn a_denial_is_authentic_if_all_of_it_and_each_cname_is_secure() {
    let denial = |code, proof| Given::Net(Ok(message(code, Vec::new(), vec![soa(600, proof)])));
    for (code, proof, expected) in [
        (
            ResponseCode::NXDomain,
            Proof::Secure,
            DnsError::NoName(negative(true, 90)),
        ),
        (
            ResponseCode::NoError,
            Proof::Insecure,
            DnsError::NoRecords(negative(false, 90)),
        ),
    ] {
        let answer = walk(RecordType::Mx, vec![denial(code, proof)]);
        assert_eq!(answer, Err(expected));
    }
    for (proof, authentic) in [(Proof::Secure, true), (Proof::Insecure, false)] {
        let responses = vec![
            found(vec![alias("a.test.", "b.test.", proof)]),
            denial(ResponseCode::NoError, Proof::Secure),
        ];
        let expected = DnsError::NoRecords(negative(authentic, 90));
        assert_eq!(walk(RecordType::Mx, responses), Err(expected));
    }
}

/// The crate judges a denial by the name of the question, also if it is about the name that a CNAME
/// leads to.
#[test]
fn a_denial_behind_a_cname_is_asked_for_again() {
    let signature = |labels: u8| {
        let input = SigInput {
            type_covered: WireType::CNAME,
            algorithm: Algorithm::ED25519,
            num_labels: labels,
            original_ttl: 300,
            sig_expiration: SerialNumber::new(1),
            sig_inception: SerialNumber::new(0),
            key_tag: 1,
            signer_name: name("test."),
        };
        let data = DNSSECRData::RRSIG(RRSIG::from_sig(input, vec![0]));
        record("a.test.", 300, RData::DNSSEC(data), Proof::Indeterminate)
    };
    for (proof, labels, is_bogus) in [
        (Proof::Secure, 2, false),
        (Proof::Secure, 1, true),
        (Proof::Insecure, 1, false),
        (Proof::Bogus, 2, true),
    ] {
        let answers = vec![alias("a.test.", "b.test.", proof), signature(labels)];
        let responses = vec![
            unproven(ResponseCode::NoError, answers, Proof::Bogus),
            found(vec![mx("b.test.", "mx.test.", Proof::Secure)]),
        ];
        match walk(RecordType::Mx, responses) {
            Ok(answer) => {
                assert!(!is_bogus);
                assert_eq!(aliases(&answer), [("b.test", proof == Proof::Secure)]);
            }
            Err(error) => {
                assert!(is_bogus && matches!(error, DnsError::Bogus { .. }));
            }
        }
    }
}

#[test]
fn a_denial_that_is_not_secure_is_read_by_its_code() {
    use Proof::{Bogus, Insecure, Secure};
    let error = |code, proof| walk(RecordType::Mx, vec![unproven(code, Vec::new(), proof)]);
    assert_eq!(
        error(ResponseCode::NXDomain, Insecure),
        Err(DnsError::NoName(negative(false, 90)))
    );
    assert_eq!(
        error(ResponseCode::NoError, Insecure),
        Err(DnsError::NoRecords(negative(false, 90)))
    );
    let bogus = error(ResponseCode::NXDomain, Bogus);
    assert!(matches!(bogus, Err(DnsError::Bogus { .. })));
    // The records of a wildcard, without a proof that the name itself does not exist.
    let records = vec![mx("a.test.", "mx.test.", Secure)];
    let insecure = unproven(ResponseCode::NoError, records, Insecure);
    let answer = walk(RecordType::Mx, vec![insecure]).unwrap();
    assert!(!answer.authentic && answer.records.len() == 1);
}

#[test]
fn what_is_no_answer() {
    let error = |error: NetError| walk(RecordType::Mx, vec![Given::Net(Err(error))]).unwrap_err();
    let refused = NetDnsError::ResponseCode(ResponseCode::Refused);
    for temporary in [NetError::Timeout, refused.into()] {
        assert!(matches!(error(temporary), DnsError::Temporary(_)));
    }
    let bogus = NetDnsError::DnssecBogus.into();
    assert!(matches!(error(bogus), DnsError::Bogus { .. }));
    let no_socket = std::io::Error::from_raw_os_error(24).into();
    assert!(matches!(
        error(no_socket),
        DnsError::System { errno: 24, .. }
    ));
}

#[test]
fn a_denial_holds_for_the_ttl_of_its_soa_or_a_minute() {
    for (ttl, expected) in [(Some(600), 90), (Some(30), 30), (None, 60)] {
        let soas = ttl.map(|ttl| soa(ttl, Proof::Secure)).into_iter();
        let denial = message(ResponseCode::NXDomain, Vec::new(), soas.collect());
        let answer = walk(RecordType::Mx, vec![Given::Net(Ok(denial))]);
        let ttl = answer.unwrap_err().negative().unwrap().ttl;
        assert_eq!(ttl, Duration::from_secs(expected));
    }
    // As the crate gives it without validation.
    for (ttl, expected) in [(Some(30), 30), (None, 60)] {
        let query = Query::query(name("a.test."), WireType::MX);
        let mut none = NoRecords::new(query, ResponseCode::NXDomain);
        none.negative_ttl = ttl;
        let answer = walk(RecordType::Mx, vec![Given::Net(Err(none.into()))]);
        assert_eq!(answer, Err(DnsError::NoName(negative(false, expected))));
    }
}

#[test]
fn only_an_answer_that_did_not_come_in_time_is_a_timeout() {
    let io = |kind: ErrorKind| NetError::from(std::io::Error::from(kind));
    for (error, expected) in [
        (NetError::Timeout, DnsResult::Timeout),
        (io(ErrorKind::TimedOut), DnsResult::Timeout),
        (io(ErrorKind::ConnectionRefused), DnsResult::Error),
        (NetError::NoConnections, DnsResult::Error),
        (NetError::Message("odd"), DnsResult::Error),
        (
            NetError::Dns(NetDnsError::ResponseCode(ResponseCode::ServFail)),
            DnsResult::ServFail,
        ),
        (
            NetError::Dns(NetDnsError::ResponseCode(ResponseCode::Refused)),
            DnsResult::Refused,
        ),
        (NetError::Dns(NetDnsError::DnssecBogus), DnsResult::Bogus),
    ] {
        assert_eq!(failure(&error), expected, "{error}");
    }
}
