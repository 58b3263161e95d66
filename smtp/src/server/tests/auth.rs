//! Lines of AUTH that are too long, and what STARTTLS leaves of a login.

use super::{Peer, SessionConfig, config, switch, tls};

#[test]
fn an_auth_line_that_is_too_long_has_a_code_of_its_own() {
    let long = format!("AUTH PLAIN {}\r\n", "A".repeat(12_400));
    let endless = format!("AUTH PLAIN {}", "A".repeat(20_000));
    let response = format!("AUTH PLAIN\r\n{}\r\n", "A".repeat(12_400));
    let in_clear = |config: &mut SessionConfig| switch(config, "auth-in-clear");
    let offered: &dyn Fn(&mut SessionConfig) = &in_clear;
    for (lines, offer, expected, closed) in [
        (&long, offered, "500 5.5.6 ", false),
        (&endless, offered, "500 5.5.6 ", true),
        (&response, offered, "500 5.5.6 ", false),
        // Where no login is possible it is a line like others.
        (&long, &|_: &mut SessionConfig| (), "500 5.5.2 ", false),
    ] {
        let mut config = config();
        offer(&mut config);
        let mut peer = Peer::new(config);
        peer.say(b"EHLO a.example\r\n");
        peer.say(lines.as_bytes());
        let last = peer.sent.lines().last().unwrap();
        assert!(last.starts_with(expected), "{last}");
        assert_eq!(peer.closed, closed, "{last}");
    }
}

#[test]
fn the_policy_forgets_a_login_in_clear_at_starttls() {
    for (auth, restarts) in [("AUTH PLAIN AHVzZXIAcGFzcw==\r\n", 1), ("", 0)] {
        let mut config = config();
        switch(&mut config, "auth-in-clear");
        let mut peer = Peer::new(config);
        peer.say(format!("EHLO a.example\r\n{auth}").as_bytes());
        peer.say(b"STARTTLS\r\n");
        peer.session.tls_started(tls(), peer.now);
        peer.drain();
        assert_eq!(peer.restarts, restarts, "{}", peer.sent);
        peer.say(b"EHLO a.example\r\nMAIL FROM:<a@b.test>\r\n");
        assert!(
            peer.sent.ends_with("530 5.7.0 log in first\r\n"),
            "{}",
            peer.sent
        );
    }
}
