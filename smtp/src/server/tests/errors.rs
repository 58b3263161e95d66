//! Which refusals are errors of the client, and what errors cost.

use super::{Peer, TO_TEXT, config};

#[test]
fn unknown_recipients_beside_a_right_one_are_no_errors() {
    let mut peer = Peer::new(config());
    peer.say(TO_TEXT.as_bytes());
    for _ in 0..9 {
        peer.say(b"RCPT TO:<unknown@d.example>\r\n");
    }
    peer.say(b"RCPT TO:<refused@d.example>\r\nFOO\r\nFOO\r\nDATA\r\nHello.\r\n.\r\n");
    let taken = peer.sent.ends_with("250 2.0.0 took 8\r\n");
    assert!(taken, "{}", peer.sent);
    // A message that was taken forgives errors, and one that is refused is an error.
    peer.say(b"FOO\r\nFOO\r\n");
    peer.say(TO_TEXT.as_bytes());
    peer.say(b"DATA\r\nreject\r\n.\r\n");
    assert!(!peer.closed, "{}", peer.sent);
    peer.say(b"FOO\r\n");
    assert!(peer.closed, "{}", peer.sent);
    // Without a right one they are errors.
    let mut peer = Peer::new(config());
    peer.say(b"EHLO a.example\r\nMAIL FROM:<a@b.example>\r\n");
    for _ in 0..4 {
        peer.say(b"RCPT TO:<unknown@d.example>\r\n");
    }
    assert!(peer.closed, "{}", peer.sent);
}

#[test]
fn a_421_to_a_message_ends_the_session() {
    let mut peer = Peer::new(config());
    peer.say(TO_TEXT.as_bytes());
    peer.say(b"DATA\r\nclose\r\n.\r\n");
    assert!(peer.closed, "{}", peer.sent);
    assert!(peer.sent.ends_with("421 closing\r\n"), "{}", peer.sent);
}
