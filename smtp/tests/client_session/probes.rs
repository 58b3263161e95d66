//! Questions whether a recipient gets mail.

use super::*;

/// No message is sent, whatever the server says, and the connection is of use afterwards.
#[test]
fn a_probe_ends_before_the_text() {
    let config = config();
    let mail = "X: probe\nC: MAIL FROM:<s@example.org>\n";
    let rcpt = "C: RCPT TO:<to@x.org>\n";
    let end = "C: RSET\nS: 250 ok\nX: quit\nC: QUIT\nS: 221 bye\n";
    for (dialog, expected) in [
        (
            format!("{PLAIN}{mail}S: 250 ok\n{rcpt}S: 250 2.1.5 yes\n{end}"),
            "ok RCPT: 250 2.1.5 yes",
        ),
        (
            format!("{PLAIN}{mail}S: 250 ok\n{rcpt}S: 550 5.1.1 nobody\n{end}"),
            "failed RCPT: 550 5.1.1 nobody",
        ),
        (
            format!("{PLAIN}{mail}S: 451 4.7.1 later\nX: quit\nC: QUIT\nS: 221 bye\n"),
            "later MAIL: 451 4.7.1 later",
        ),
        (
            format!("{PIPELINING}{mail}{rcpt}S: 250 ok\nS: 452 4.2.2 full\n{end}"),
            "later RCPT: 452 4.2.2 full",
        ),
        (
            format!("{PIPELINING}{mail}{rcpt}S: 550 no\nS: 503 no\n{end}"),
            "failed MAIL: 550 no",
        ),
        (
            format!("{CHUNKING}{mail}{rcpt}S: 250 ok\nS: 250 ok\n{end}"),
            "ok RCPT: 250 ok",
        ),
        (
            format!("{PLAIN}{mail}S: 421 4.3.2 stopping\n"),
            "later MAIL: 421 4.3.2 stopping",
        ),
        (
            format!("{PLAIN}{mail}S: 250 ok\n{rcpt}X: lost\n"),
            "later Lost RCPT: 4.4.2 connection closed by the server",
        ),
        (
            format!("{PLAIN}{mail}X: timeout\n"),
            "later Timeout MAIL: 4.4.2 the server did not reply in time",
        ),
    ] {
        check_with(&config, &[], &dialog, &[expected]);
    }
}

#[test]
fn a_probe_names_no_size() {
    let sized = PLAIN.replace("S: 250 mx.x.org", "S: 250-mx.x.org\nS: 250 SIZE 1000");
    let dialog = format!(
        "{sized}X: probe\nC: MAIL FROM:<s@example.org>\nS: 250 ok\nC: RCPT TO:<to@x.org>\n\
         S: 250 ok\nC: RSET\nS: 250 ok\n"
    );
    check_with(&config(), &[], &dialog, &["ok RCPT: 250 ok"]);
}
