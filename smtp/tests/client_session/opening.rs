//! The greeting, EHLO, STARTTLS and AUTH.

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

#[test]
fn logins() {
    let login = Credentials {
        user: "u".to_owned(),
        password: "p".to_owned(),
        without_tls: true,
    };
    let config = SessionConfig {
        login: Some(login.clone()),
        ..config()
    };
    let opening = |auth: &str| {
        format!("S: 220 mx\nC: EHLO client.example.org\nS: 250-mx\nS: 250 AUTH {auth}\n")
    };
    let ends = "C: MAIL FROM:<s@example.org>\nS: 550 no";
    let mails = [mail(&["a"], "x")];
    let plain = format!(
        "{}C: AUTH PLAIN AHUAcA==\nS: 235 ok\n{ends}",
        opening("LOGIN PLAIN")
    );
    check_with(&config, &mails, &plain, &["failed MAIL: 550 no"]);
    let steps = "C: AUTH LOGIN\nS: 334 VXNlcg==\nC: dQ==\nS: 334 UGFzcw==\nC: cA==\n";
    let dialog = format!("{}{steps}S: 235 ok\n{ends}", opening("LOGIN"));
    check_with(&config, &mails, &dialog, &["failed MAIL: 550 no"]);
    let dialog = format!("{}{steps}S: 535 5.7.8 wrong", opening("LOGIN"));
    check_closed(&config, &dialog, "transient Reply: AUTH: 535 5.7.8 wrong");
    let text = "transient Local: AUTH: 4.7.0 the server offers neither AUTH PLAIN nor AUTH LOGIN";
    check_closed(&config, &opening("GSSAPI"), text);
    let careful = SessionConfig {
        login: Some(Credentials {
            without_tls: false,
            ..login
        }),
        ..config
    };
    let text = "transient Local: AUTH: 4.7.11 no TLS, so the login is not sent";
    check_closed(&careful, &opening("PLAIN"), text);
}
