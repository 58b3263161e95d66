//! Exchanges of SCRAM with and without channel binding, and of EXTERNAL.

use std::num::NonZeroU32;

use super::{scram::tests::ScramClient, *};

const SALT: &[u8] = b"salt of user";
const ROUNDS: NonZeroU32 = NonZeroU32::new(4096).unwrap();

fn proof() -> TlsProof {
    TlsProof {
        bindings: Some(ChannelBindings {
            exporter: [7; 32],
            end_point: Some(vec![8; 32]),
        }),
        client_key: Some("fingerprint".to_owned()),
    }
}

fn terms(tls: Option<&TlsProof>) -> Terms<'_> {
    Terms {
        scram: true,
        oauth_scope: None,
        tls,
    }
}

/// Plays an exchange of a client with the user `user` and the password `pass`. Gives the last
/// challenge, and the end.
fn play(mechanism: Mechanism, client: &ScramClient<'_>, tls: Option<&TlsProof>) -> String {
    let mut last = String::new();
    let mut step = Exchange::new(mechanism).respond(client.first().as_bytes(), terms(tls));
    loop {
        step = match step {
            Step::Keys(start) => {
                let request = start.request();
                assert_eq!(request.hash, client.hash);
                let keys = ScramKeys::derive(request.hash, b"pass", SALT, ROUNDS);
                let is_known = request.user == "user";
                start.keys(ScramOffer {
                    salt: SALT.to_vec(),
                    rounds: ROUNDS.get(),
                    keys: is_known.then_some(keys).into_iter().collect(),
                    nonce: "server".to_owned(),
                })
            }
            Step::Challenge(exchange, challenge) => {
                let challenge = String::from_utf8(challenge).unwrap();
                let response = match challenge.starts_with("r=") {
                    true => {
                        let (response, proof) = client.last(&challenge);
                        last = proof;
                        response
                    }
                    false => {
                        last = match challenge == last {
                            true => "proven".to_owned(),
                            false => challenge,
                        };
                        String::new()
                    }
                };
                exchange.respond(response.as_bytes(), terms(tls))
            }
            Step::Decide(pending) => {
                let login = pending.login().clone();
                assert_eq!(login.mechanism, mechanism);
                pending.verdict(match login.evidence {
                    Evidence::Scram(Some(0)) => Ok(login.user),
                    _ => Err(wrong_credentials()),
                })
            }
            Step::Done(user) => return format!("{last}, {user} logged in"),
            Step::Refused { reply, .. } => return format!("{last}, {}", reply.code().get()),
        };
    }
}

fn client<'a>(header: &'a str, binding: &'a [u8], password: &'a str) -> ScramClient<'a> {
    ScramClient {
        hash: ScramHash::Sha256,
        header,
        binding,
        user: "user",
        password,
        nonce: "client",
    }
}

const PLAIN: Mechanism = Mechanism::Scram(ScramHash::Sha256);
const PLUS: Mechanism = Mechanism::ScramPlus(ScramHash::Sha256);
const RIGHT: &str = "proven, user logged in";

#[test]
fn a_right_password_and_a_wrong_one() {
    let check = |client: &ScramClient<'_>, expected: &str| {
        assert_eq!(play(PLAIN, client, None), expected);
    };
    check(&client("n,,", b"", "pass"), RIGHT);
    check(&client("y,,", b"", "pass"), RIGHT);
    check(&client("n,,", b"", "wrong"), "e=invalid-proof, 535");
    let unknown = ScramClient {
        user: "nobody",
        ..client("n,,", b"", "pass")
    };
    check(&unknown, "e=invalid-proof, 535");
    let sha1 = ScramClient {
        hash: ScramHash::Sha1,
        ..client("n,,", b"", "pass")
    };
    assert_eq!(play(Mechanism::Scram(ScramHash::Sha1), &sha1, None), RIGHT);
}

#[test]
fn a_login_is_bound_to_its_channel() {
    let proof = proof();
    let check = |mechanism, header: &str, binding: &[u8], expected: &str| {
        let client = client(header, binding, "pass");
        let played = play(mechanism, &client, Some(&proof));
        assert_eq!(played, expected, "{} {header}", mechanism.name());
    };
    check(PLUS, "p=tls-exporter,,", &[7; 32], RIGHT);
    check(PLUS, "p=tls-server-end-point,,", &[8; 32], RIGHT);
    // Cyrus SASL says it so.
    check(PLAIN, "p=tls-exporter,,", &[7; 32], RIGHT);
    // A client that knows no channel binding.
    check(PLAIN, "n,,", b"", RIGHT);
    let another = "e=channel-bindings-dont-match, 535";
    check(PLUS, "p=tls-exporter,,", &[9; 32], another);
    check(PLUS, "p=tls-exporter,,", b"", another);
    check(PLUS, "p=tls-server-end-point,,", &[7; 32], another);
    check(PLUS, "n,,", b"", another);
    let hidden = "e=server-does-support-channel-binding, 535";
    check(PLAIN, "y,,", b"", hidden);
    check(PLUS, "y,,", b"", hidden);
    let unknown = "e=unsupported-channel-binding-type, 535";
    check(PLUS, "p=tls-unique,,", b"", unknown);
    check(PLAIN, "p=tls-unique,,", b"", unknown);
}

#[test]
fn without_tls_1_3_no_channel_is_bound() {
    let old = TlsProof::default();
    let bound = client("p=tls-exporter,,", &[7; 32], "pass");
    let unknown = "e=unsupported-channel-binding-type, 535";
    assert_eq!(play(PLAIN, &bound, Some(&old)), unknown);
    assert_eq!(play(PLAIN, &client("y,,", b"", "pass"), Some(&old)), RIGHT);
    assert!(!terms(Some(&old)).offers(PLUS) && terms(Some(&old)).offers(PLAIN));
    let ed25519 = TlsProof {
        bindings: Some(ChannelBindings {
            exporter: [7; 32],
            end_point: None,
        }),
        client_key: None,
    };
    let bound = client("p=tls-server-end-point,,", &[8; 32], "pass");
    assert_eq!(play(PLUS, &bound, Some(&ed25519)), unknown);
}

#[test]
fn malformed_messages_of_scram() {
    let first = |text: &str| match Exchange::new(PLAIN).respond(text.as_bytes(), terms(None)) {
        Step::Keys(start) => format!("{:?}", start.request()),
        Step::Refused { reply, .. } => reply.to_string(),
        step => panic!("{step:?}"),
    };
    let long = "r".repeat(257);
    for bad in [
        "",
        "n,,",
        "n,,n=user",
        "n,,n=,r=x",
        "n,,n=user,r=",
        "n,,n=user,r=a b",
        "n,,n=u=2Xser,r=x",
        "n,user,n=user,r=x",
        "x,,n=user,r=x",
        "n,,m=ext,n=user,r=x",
        &format!("n,,n=user,r={long}"),
        "n,,n=us\0er,r=x",
    ] {
        assert_eq!(first(bad), "501 5.5.2 not a message of SCRAM", "{bad:?}");
    }
    assert!(first("n,a=a=2Cb,n=user,r=x,ext=1").contains("\"user\""));

    let last = |text: &str| {
        let step = Exchange::new(PLAIN).respond(b"n,,n=user,r=client", terms(None));
        let Step::Keys(start) = step else {
            panic!("{step:?}");
        };
        let offer = ScramOffer {
            salt: SALT.to_vec(),
            rounds: 4096,
            keys: Vec::new(),
            nonce: "server".to_owned(),
        };
        let Step::Challenge(exchange, _) = start.keys(offer) else {
            panic!("no challenge");
        };
        match exchange.respond(text.as_bytes(), terms(None)) {
            Step::Refused { reply, .. } => reply.to_string(),
            Step::Challenge(_, challenge) => String::from_utf8(challenge).unwrap(),
            Step::Decide(pending) => match pending.login().evidence {
                Evidence::Scram(None) => "wrong".to_owned(),
                _ => panic!("right"),
            },
            step @ (Step::Keys(_) | Step::Done(_)) => panic!("{step:?}"),
        }
    };
    for (text, expected) in [
        ("c=biws,r=clientserver,p=AAAA", "wrong"),
        ("c=biws,r=clientserver,ext=1,p=", "wrong"),
        ("c=eSws,r=clientserver,p=", "e=channel-bindings-dont-match"),
        ("c=biws,r=clientserve,p=", "e=other-error"),
        ("c=biws,r=client,p=", "e=other-error"),
        ("c=!,r=clientserver,p=", "501 5.5.2 not a message of SCRAM"),
        (
            "c=biws,r=clientserver,p=!",
            "501 5.5.2 not a message of SCRAM",
        ),
        ("c=biws,r=clientserver", "501 5.5.2 not a message of SCRAM"),
        (
            "r=clientserver,c=biws,p=",
            "501 5.5.2 not a message of SCRAM",
        ),
    ] {
        assert_eq!(last(text), expected, "{text}");
    }
}

#[test]
fn external_needs_a_certificate() {
    let proof = proof();
    let step = Exchange::new(Mechanism::External).respond(b"ann@x.org", terms(Some(&proof)));
    let Step::Decide(pending) = step else {
        panic!("{step:?}");
    };
    assert_eq!(pending.login().authorization, "ann@x.org");
    let key = &pending.login().evidence;
    assert!(matches!(key, Evidence::Certificate(key) if key == "fingerprint"));
    assert!(matches!(
        pending.verdict(Ok("ann@x.org".to_owned())),
        Step::Done(_)
    ));
    let without = TlsProof {
        client_key: None,
        ..proof
    };
    assert!(!terms(Some(&without)).offers(Mechanism::External));
    for bad in [&b"a\0b"[..], b"\xff"] {
        let step = Exchange::new(Mechanism::External).respond(bad, terms(Some(&without)));
        assert!(matches!(step, Step::Refused { .. }));
    }
}

#[test]
fn names_of_mechanisms() {
    for mechanism in Mechanism::ALL {
        assert_eq!(Mechanism::of(mechanism.name()), Some(mechanism));
    }
    assert_eq!(Mechanism::of("CRAM-MD5"), None);
    let offered = Mechanism::ALL
        .into_iter()
        .filter(|it| Terms::default().offers(*it));
    assert_eq!(
        offered.collect::<Vec<_>>(),
        [Mechanism::Plain, Mechanism::Login]
    );
}
