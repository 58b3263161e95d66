//! Names of mailboxes, and the mailboxes of an account as far as scripts may ask for them.

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use super::error::shown;

/// The most bytes of a name.
const NAME_MAX: usize = 255;
/// The name of the mailbox that every account has.
const INBOX: &str = "Inbox";

/// A mailbox of the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownMailbox {
    /// The name.
    pub name: String,
    /// The special use with its backslash, such as `\Junk` (RFC 6154 §2).
    pub special_use: Option<String>,
}

impl KnownMailbox {
    pub(super) fn has_use(&self, special_use: &str) -> bool {
        let own = self.special_use.as_deref();
        own.is_some_and(|own| own.eq_ignore_ascii_case(special_use))
    }
}

/// The name of a mailbox in the form in which the store has it. The error is a sentence.
pub(super) fn name(written: &str) -> Result<String, String> {
    if written.eq_ignore_ascii_case(INBOX) {
        return Ok(INBOX.to_owned());
    }
    let name = match is_nfc_quick(written.chars()) {
        IsNormalized::Yes => Cow::Borrowed(written),
        _ => Cow::Owned(written.nfc().collect()),
    };
    let fault = if name.is_empty() {
        "is empty"
    } else if name.len() > NAME_MAX {
        "has more than 255 bytes"
    } else if name.contains(|letter: char| letter.is_control() || "*%".contains(letter)) {
        "has a control character, \"*\" or \"%\""
    } else {
        return Ok(name.into_owned());
    };
    Err(format!(
        "The name {} of a mailbox {fault}. Use another name.",
        shown(written)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_form() {
        for (written, expected) in [
            ("INBOX", Ok("Inbox")),
            ("inbox", Ok("Inbox")),
            ("Lists/rust", Ok("Lists/rust")),
            ("e\u{301}", Ok("\u{e9}")),
            ("", Err("is empty")),
            ("a\nb", Err("control character")),
            ("a%", Err("control character")),
        ] {
            match (name(written), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                (found, _) => panic!("{written}: {found:?}"),
            }
        }
        assert!(name(&"x".repeat(255)).is_ok() && name(&"x".repeat(256)).is_err());
    }
}
