//! The words of strangers' messages, as the junk filter takes them:
//!
//! - No message makes a reader panic.
//! - There are at most so many tokens, in ascending order, each once, and no more than the message
//!   has bytes for.
//! - What stands behind the bytes that are read changes nothing.
//!
//! The first byte chooses the kind of the body.

use postrider_receive::junk::tokens::{READ_MAX, TOKENS_MAX, tokens};
use postrider_smtp::mime::Limits;

const KINDS: [&str; 4] = [
    "text/plain",
    "text/html",
    "message/rfc822",
    "multipart/mixed; boundary=a",
];

/// Fails where one of these does not hold.
pub(crate) fn check(data: &[u8]) {
    let Some((kind, text)) = data.split_first() else {
        return;
    };
    let mut kinds = KINDS.iter().cycle().skip(usize::from(*kind));
    let kind = kinds.next().unwrap_or(&"text/plain");
    let mut message = format!("Content-Type: {kind}\r\n").into_bytes();
    message.extend_from_slice(text);
    let of = |message: &[u8]| tokens(message, Limits::default(), &[1; 16]);
    let found = of(&message);
    assert!(found.len() <= TOKENS_MAX);
    // A word has three bytes at least, and gives itself and a pair, for the text and for a link.
    assert!(found.len() <= 2 * message.len(), "{} tokens", found.len());
    assert!(found.is_sorted_by(|a, b| a < b));
    message.resize(message.len().max(READ_MAX), b' ');
    let full = of(&message);
    message.extend_from_slice(b" and more");
    assert_eq!(of(&message), full);
}
