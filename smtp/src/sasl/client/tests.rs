//! The client against the server's side of this module, and against servers that are not right.

use std::num::NonZeroU32;

use super::*;
use crate::sasl::{
    ChannelBindings, Evidence, Exchange, ScramHash, ScramKeys, ScramOffer, Step, Terms, TlsProof,
    wrong_credentials,
};

const ROUNDS: NonZeroU32 = NonZeroU32::new(4096).unwrap();
const SALT: &[u8] = b"salt";
const CHANNEL: [u8; 32] = [7; 32];

fn login(secret: Secret, mechanisms: &[Mechanism]) -> ClientLogin {
    ClientLogin {
        user: "ann,=@x.org".to_owned(),
        secret,
        mechanisms: mechanisms.to_vec(),
        nonce: "clientnonce".to_owned(),
    }
}

fn password(word: &str) -> Secret {
    Secret::Password(word.to_owned().into())
}

fn token(word: &str) -> Secret {
    Secret::Token(word.to_owned().into())
}

fn names(mechanisms: &[Mechanism]) -> Vec<String> {
    let names = mechanisms.iter().map(|it| it.name().to_owned());
    names.collect()
}

/// Logs in at a server where the user has the password or the token `pass`. `channel` is that of
/// the server. Gives how the login ends at the client.
fn play(login: &ClientLogin, offered: &[Mechanism], channel: [u8; 32]) -> String {
    let (mut client, first) = match ClientExchange::begin(login, &names(offered), Some(CHANNEL)) {
        Ok(begun) => begun,
        Err(error) => return error.to_string(),
    };
    let proof = TlsProof {
        bindings: Some(ChannelBindings {
            exporter: channel,
            end_point: None,
        }),
        client_key: None,
    };
    let terms = Terms {
        scram: true,
        oauth_scope: Some("mail"),
        tls: Some(&proof),
    };
    let name = client.mechanism().name();
    let server = Exchange::new(client.mechanism());
    let first = match first {
        Some(first) => first,
        None => client.respond(server.first_challenge()).unwrap(),
    };
    let mut step = server.respond(&first, terms);
    loop {
        step = match step {
            Step::Challenge(server, challenge) => match client.respond(&challenge) {
                Ok(response) => server.respond(&response, terms),
                Err(error) => return format!("{name}: {error}"),
            },
            Step::Keys(start) => {
                let hash = start.request().hash;
                assert_eq!(start.request().user, login.user);
                start.keys(ScramOffer {
                    salt: SALT.to_vec(),
                    rounds: ROUNDS.get(),
                    keys: vec![ScramKeys::derive(hash, b"pass", SALT, ROUNDS)],
                    nonce: "servernonce".to_owned(),
                })
            }
            Step::Decide(pending) => {
                let tried = pending.login();
                assert_eq!(tried.user, login.user);
                let is_right = match &tried.evidence {
                    Evidence::Password(word) | Evidence::Token(word) => word.as_str() == "pass",
                    Evidence::Scram(keys) => keys.is_some(),
                    Evidence::Certificate(_) => false,
                };
                let user = tried.user.clone();
                pending.verdict(is_right.then_some(user).ok_or_else(wrong_credentials))
            }
            Step::Done(_) => {
                return match client.succeeded() {
                    Ok(()) => format!("{name}: in"),
                    Err(error) => format!("{name}: {error}"),
                };
            }
            Step::Refused { .. } => {
                return format!("{name}: refused {}", client.told().unwrap_or("-"));
            }
        };
    }
}

const SHA256: Mechanism = Mechanism::Scram(ScramHash::Sha256);
const SHA1: Mechanism = Mechanism::Scram(ScramHash::Sha1);
const SHA256_PLUS: Mechanism = Mechanism::ScramPlus(ScramHash::Sha256);
const SHA1_PLUS: Mechanism = Mechanism::ScramPlus(ScramHash::Sha1);

#[test]
fn each_mechanism_logs_in_at_our_server() {
    for mechanism in [
        Mechanism::Plain,
        Mechanism::Login,
        SHA1,
        SHA256,
        SHA1_PLUS,
        SHA256_PLUS,
        Mechanism::OauthBearer,
        Mechanism::Xoauth2,
    ] {
        let name = mechanism.name();
        let is_oauth = matches!(mechanism, Mechanism::OauthBearer | Mechanism::Xoauth2);
        let secret = |word| match is_oauth {
            true => token(word),
            false => password(word),
        };
        // The server offers all, and the login allows one.
        let right = login(secret("pass"), &[mechanism]);
        assert_eq!(
            play(&right, &Mechanism::ALL, CHANNEL),
            format!("{name}: in")
        );
        let wrong = play(
            &login(secret("wrong"), &[mechanism]),
            &Mechanism::ALL,
            CHANNEL,
        );
        let told = match mechanism {
            Mechanism::Plain | Mechanism::Login => "-",
            Mechanism::OauthBearer => "{\"status\":\"invalid_token\",\"scope\":\"mail\"}",
            Mechanism::Xoauth2 => "{\"status\":\"401\",\"schemes\":\"bearer\"}",
            _ => "invalid-proof",
        };
        assert_eq!(wrong, format!("{name}: refused {told}"));
    }
}

#[test]
fn the_best_mechanism_that_both_know_is_used() {
    let check = |login: &ClientLogin, offered: &[Mechanism], expected: &str| {
        assert_eq!(play(login, offered, CHANNEL), expected);
    };
    let any = login(password("pass"), &[]);
    check(&any, &Mechanism::ALL, "SCRAM-SHA-256-PLUS: in");
    check(
        &any,
        &[SHA1, Mechanism::Plain],
        "SCRAM-SHA-1: refused server-does-support-channel-binding",
    );
    check(&any, &[Mechanism::Login, Mechanism::Plain], "PLAIN: in");
    check(&any, &[Mechanism::Login], "LOGIN: in");
    let some = login(password("pass"), &[Mechanism::Plain, SHA1]);
    check(&some, &Mechanism::ALL, "SCRAM-SHA-1: in");
    let none = "the server offers no AUTH mechanism that the login can use: it offers ";
    check(&some, &[Mechanism::Login], &format!("{none}LOGIN"));
    check(&any, &[], &format!("{none}none"));
    check(
        &any,
        &[Mechanism::External, Mechanism::OauthBearer],
        &format!("{none}EXTERNAL OAUTHBEARER"),
    );
    let bearer = login(token("pass"), &[]);
    check(&bearer, &Mechanism::ALL, "OAUTHBEARER: in");
    check(&bearer, &[Mechanism::Plain], &format!("{none}PLAIN"));
}

#[test]
fn a_login_by_plus_is_bound_to_its_connection() {
    let any = login(password("pass"), &[]);
    // Somebody is in the middle, with a connection of his own to the server.
    let relayed = play(&any, &Mechanism::ALL, [8; 32]);
    assert_eq!(
        relayed,
        "SCRAM-SHA-256-PLUS: refused channel-bindings-dont-match"
    );
    // He hides -PLUS from us, and the server notices by our word.
    let hidden = play(&any, &[SHA256], [8; 32]);
    assert_eq!(
        hidden,
        "SCRAM-SHA-256: refused server-does-support-channel-binding"
    );
    // Without TLS 1.3 there is nothing to bind to.
    let offered = names(&[SHA256_PLUS, SHA256]);
    let (unbound, first) = ClientExchange::begin(&any, &offered, None).unwrap();
    assert_eq!(unbound.mechanism(), SHA256);
    assert!(first.unwrap().starts_with(b"n,,n=ann=2C=3D@x.org,r="));
}

/// The client's responses to these messages, one after another.
fn dialog(challenges: &[&str]) -> Result<ClientExchange, ClientError> {
    let mut user = login(password("pencil"), &[SHA256]);
    user.user = "user".to_owned();
    user.nonce = "rOprNGfwEbeRWgbNEkqO".to_owned();
    let (mut client, first) = ClientExchange::begin(&user, &names(&[SHA256]), None)?;
    assert_eq!(
        first.unwrap().as_slice(),
        b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    );
    for challenge in challenges {
        client.respond(challenge.as_bytes())?;
    }
    Ok(client)
}

const FIRST: &str =
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const PROOF: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

/// The messages of RFC 7677 §3.
#[test]
fn the_exchange_of_rfc_7677() {
    let mut client = dialog(&[]).unwrap();
    let last = client.respond(FIRST.as_bytes()).unwrap();
    assert_eq!(
        std::str::from_utf8(&last).unwrap(),
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
         p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    );
    assert_eq!(client.succeeded(), Err(ClientError::Unproven));
    assert!(client.respond(PROOF.as_bytes()).unwrap().is_empty());
    assert_eq!(client.succeeded(), Ok(()));
}

#[test]
fn a_server_that_proves_nothing_is_not_believed() {
    let error = |challenges: &[&str]| dialog(challenges).map(|_| ()).unwrap_err();
    let malformed = ClientError::Malformed("SCRAM-SHA-256");
    for bad in [
        "",
        "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        "m=x,r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=4096",
        "r=rOprNGfwEbeRWgbNEkqOx,s=!,i=4096",
        "r=rOprNGfwEbeRWgbNEkqOx,s=,i=4096",
        "r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=x",
        "r=rOprNGfwEbeRWgbNEkqO x,s=AAAA,i=4096",
        "r=rOprNGfwEbeRWgbNEkqOx,s=AAAA",
    ] {
        assert_eq!(error(&[bad]), malformed, "{bad}");
    }
    for nonce in ["rOprNGfwEbeRWgbNEkqO", "another", ""] {
        let first = format!("r={nonce},s=AAAA,i=4096");
        assert_eq!(error(&[&first]), ClientError::Nonce, "{nonce}");
    }
    for rounds in [0, 1, 4095, 200_001, u64::from(u32::MAX) + 4097] {
        let first = format!("r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i={rounds}");
        assert_eq!(error(&[&first]), ClientError::Rounds(rounds));
    }
    for wrong in ["v=AAAA", "v=", "v=!"] {
        assert_eq!(error(&[FIRST, wrong]), ClientError::Unproven, "{wrong}");
    }
    assert_eq!(error(&[FIRST, "ok"]), malformed);
    assert_eq!(error(&[FIRST, PROOF, PROOF]), malformed);
    let refused = dialog(&[FIRST, "e=other-error\r\n"]).unwrap();
    assert_eq!(refused.told(), Some("other-error??"));
    assert_eq!(refused.succeeded(), Err(ClientError::Unproven));
}

#[test]
fn a_server_that_goes_on_asking_gets_nothing() {
    let plain = login(password("pass"), &[Mechanism::Plain]);
    let (mut client, first) = ClientExchange::begin(&plain, &names(&Mechanism::ALL), None).unwrap();
    assert_eq!(first.unwrap().as_slice(), b"\0ann,=@x.org\0pass");
    assert_eq!(client.respond(b""), Err(ClientError::Malformed("PLAIN")));
    let bearer = login(token("pass"), &[]);
    let (mut client, _) = ClientExchange::begin(&bearer, &names(&Mechanism::ALL), None).unwrap();
    assert_eq!(client.respond(b"{}").unwrap().as_slice(), b"\x01");
    assert!(client.respond(b"{}").is_err());
    assert!(!format!("{bearer:?}{client:?}").contains("pass"));
}
