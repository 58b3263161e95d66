//! The greeting, EHLO, STARTTLS and AUTH.

use base64::{Engine as _, prelude::BASE64_STANDARD as STANDARD};
use postrider_smtp::sasl::{ClientLogin, Mechanism, ScramHash, Secret};

use super::*;

#[test]
fn the_greeting_refuses() {
    check_closed(
        &config(),
        "S: 554 5.7.1 not you",
        "permanent Reply: greeting: 554 5.7.1 not you",
    );
    check_closed(
        &config(),
        "S: 421 busy",
        "transient Reply: greeting: 421 busy",
    );
    check_closed(
        &config(),
        "X: lost",
        "transient Lost: greeting: 4.4.2 connection closed by the server",
    );
}

#[test]
fn a_server_without_ehlo() {
    let dialog = "S: 220 old
        C: EHLO client.example.org
        S: 502 what?
        C: HELO client.example.org
        S: 250 hi
        C: MAIL FROM:<s@example.org>
        S: 550 no";
    check(&[mail(&["a"], "x")], dialog, &["failed MAIL: 550 no"]);
    let required = SessionConfig {
        security: Security::Required,
        ..config()
    };
    let dialog = "S: 220 old
        C: EHLO client.example.org
        S: 502 what?";
    check_closed(&required, dialog, "permanent Reply: EHLO: 502 what?");
}

#[test]
fn all_that_was_said_in_clear_is_forgotten() {
    let config = SessionConfig {
        security: Security::Opportunistic,
        ..config()
    };
    let dialog = "S: 220 mx
        C: EHLO client.example.org
        S: 250-mx
        S: 250-PIPELINING
        S: 250-SIZE 1
        S: 250 STARTTLS
        C: STARTTLS
        S: 220 go
        X: tls
        C: EHLO client.example.org
        S: 250 mx
        C: MAIL FROM:<s@example.org>
        S: 550 no";
    check_with(
        &config,
        &[mail(&["a"], "more than one")],
        dialog,
        &["failed MAIL: 550 no"],
    );
}

#[test]
fn bytes_behind_the_reply_to_starttls_are_refused() {
    for security in [Security::Opportunistic, Security::Required] {
        let config = SessionConfig {
            security,
            ..config()
        };
        let session = |injected: &str| {
            let dialog = "S: 220 mx
                C: EHLO client.example.org
                S: 250-mx
                S: 250 STARTTLS
                C: STARTTLS";
            let mut run = run(&config, &[], dialog, 1000);
            run.session
                .receive(format!("220 go\r\n{injected}").as_bytes(), run.now);
            run.session
        };
        for injected in ["2", "250 mx\r\n", "\r\n"] {
            let session = session(injected);
            let status = session.closed().expect("closed");
            assert_eq!(
                (status.cause, status.permanent),
                (Cause::Tls, false),
                "{status}"
            );
        }
    }
}

#[test]
fn starttls_is_not_to_be_had() {
    let offered = "S: 220 mx
        C: EHLO client.example.org
        S: 250-mx
        S: 250 STARTTLS
        C: STARTTLS
        S: 454 4.7.0 not now";
    let required = SessionConfig {
        security: Security::Required,
        ..config()
    };
    check_closed(
        &required,
        offered,
        "transient Tls: STARTTLS: 454 4.7.0 not now",
    );
    check_closed(
        &required,
        PLAIN,
        "transient Tls: STARTTLS: 4.7.4 the server does not offer STARTTLS",
    );
    let opportunistic = SessionConfig {
        security: Security::Opportunistic,
        ..config()
    };
    let dialog = format!("{offered}\nC: MAIL FROM:<s@example.org>\nS: 550 no");
    check_with(
        &opportunistic,
        &[mail(&["a"], "x")],
        &dialog,
        &["failed MAIL: 550 no"],
    );
}

/// A login with the password `p` by one of these mechanisms.
pub(super) fn login(mechanisms: &[Mechanism]) -> Credentials {
    Credentials {
        login: ClientLogin {
            user: "u".to_owned(),
            secret: Secret::Password("p".to_owned().into()),
            mechanisms: mechanisms.to_vec(),
            nonce: "cnonce".to_owned(),
        },
        without_tls: true,
    }
}

pub(super) fn logging_in(login: Credentials) -> SessionConfig {
    SessionConfig {
        login: Some(login),
        ..config()
    }
}

pub(super) fn opened(auth: &str) -> String {
    format!("S: 220 mx\nC: EHLO client.example.org\nS: 250-mx\nS: 250 AUTH {auth}\n")
}

/// The dialog logs in, so that a message begins.
fn check_in(config: &SessionConfig, dialog: &str) {
    let dialog = format!("{dialog}C: MAIL FROM:<s@example.org>\nS: 550 no");
    let mails = [mail(&["a"], "x")];
    check_with(config, &mails, &dialog, &["failed MAIL: 550 no"]);
}

#[test]
fn logins() {
    let config = logging_in(login(&[]));
    let plain = format!(
        "{}C: AUTH PLAIN AHUAcA==\nS: 235 ok\n",
        opened("LOGIN PLAIN")
    );
    check_in(&config, &plain);
    let steps = "C: AUTH LOGIN\nS: 334 VXNlcg==\nC: dQ==\nS: 334 UGFzcw==\nC: cA==\n";
    check_in(&config, &format!("{}{steps}S: 235 ok\n", opened("LOGIN")));
    let dialog = format!("{}{steps}S: 535 5.7.8 wrong", opened("LOGIN"));
    check_closed(&config, &dialog, "transient Reply: AUTH: 535 5.7.8 wrong");
    let none = "transient Local: AUTH: 4.7.0 the server offers no AUTH mechanism that the login can use: it offers GSSAPI";
    check_closed(&config, &opened("GSSAPI"), none);
    let careful = logging_in(Credentials {
        without_tls: false,
        ..login(&[])
    });
    let text = "transient Local: AUTH: 4.7.11 no TLS, so the login is not sent";
    check_closed(&careful, &opened("PLAIN"), text);
}

#[test]
fn a_server_that_does_not_know_the_password_gets_no_mail() {
    let config = logging_in(login(&[Mechanism::Scram(ScramHash::Sha256)]));
    let begin = format!(
        "{}C: AUTH SCRAM-SHA-256 {}\n",
        opened("PLAIN SCRAM-SHA-256"),
        STANDARD.encode("n,,n=u,r=cnonce")
    );
    let text = "transient Local: AUTH: 4.7.0 the server did not prove that it knows the password";
    check_closed(&config, &format!("{begin}S: 235 welcome"), text);
    let text = "transient Local: AUTH: 4.7.0 the server's message is not one of SCRAM-SHA-256";
    check_closed(&config, &format!("{begin}S: 334 !"), text);
    let few = STANDARD.encode("r=cnoncesnonce,s=c2FsdA==,i=1");
    let text = "transient Local: AUTH: 4.7.0 the server asks for 1 rounds of the hash function; 4096 to 200000 are done";
    check_closed(&config, &format!("{begin}S: 334 {few}"), text);
}

#[test]
fn tokens() {
    let bearer = |token: &str| {
        let mut bearer = login(&[]);
        bearer.login.secret = Secret::Token(token.to_owned().into());
        logging_in(bearer)
    };
    let response =
        |token: &str| STANDARD.encode(format!("n,a=u,\u{1}auth=Bearer {token}\u{1}\u{1}"));
    let begin = opened("PLAIN OAUTHBEARER");
    let short = format!("{begin}C: AUTH OAUTHBEARER {}\n", response("t"));
    check_in(&bearer("t"), &format!("{short}S: 235 ok\n"));
    // A line of a command has 512 bytes at most.
    let long = "t".repeat(400);
    let asked = format!(
        "{begin}C: AUTH OAUTHBEARER\nS: 334 \nC: {}\n",
        response(&long)
    );
    check_in(&bearer(&long), &format!("{asked}S: 235 ok\n"));
    let error = STANDARD.encode("{\"status\":\"invalid_token\"}");
    check_closed(
        &bearer("t"),
        &format!("{short}S: 334 {error}\nC: AQ==\nS: 535 5.7.8 no"),
        "transient Reply: AUTH: 535 5.7.8 no ({\"status\":\"invalid_token\"})",
    );
}
