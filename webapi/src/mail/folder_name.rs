//! Names of mailboxes in paths and bodies.

use postrider_store::INBOX;

use super::problem::Problem;

/// The most bytes of a name.
const NAME_MAX: usize = 255;

/// How the API writes the name of the inbox.
const SHOWN_INBOX: &str = "INBOX";

/// The name of a mailbox as the API shows it.
pub(super) fn shown(name: &str) -> &str {
    match name {
        INBOX => SHOWN_INBOX,
        name => name,
    }
}

/// The mailbox that a name of the API means. `field` has the name.
///
/// # Errors
/// If no mailbox may have such a name.
pub(super) fn read(field: &str, name: &str) -> Result<String, Problem> {
    if name.eq_ignore_ascii_case(SHOWN_INBOX) {
        return Ok(INBOX.to_owned());
    }
    let wrong = |detail: &str| Err(Problem::field(field, detail));
    if name.is_empty() {
        return wrong("the name is empty");
    }
    if name.len() > NAME_MAX {
        return wrong("the name has more than 255 bytes");
    }
    if name.chars().any(char::is_control) {
        return wrong("the name has a control character");
    }
    if name.contains(['*', '%']) {
        return wrong("the name has a * or a %, which IMAP uses for patterns");
    }
    if name.split('/').any(str::is_empty) {
        return wrong("the name begins or ends with a slash, or has two together");
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inbox_has_one_name() {
        for name in ["INBOX", "inbox", "Inbox"] {
            assert_eq!(read("folder", name).unwrap(), "Inbox");
        }
        assert_eq!(shown("Inbox"), "INBOX");
        assert_eq!(shown("Work/2026"), "Work/2026");
    }

    #[test]
    fn names_that_no_mailbox_may_have() {
        let long = "\u{e4}".repeat(128);
        for name in ["", "a\0", "a\n", "a*", "50%", "/a", "a/", "a//b", &long] {
            assert!(read("folder", name).is_err(), "{name:?}");
        }
        assert_eq!(
            read("folder", "Caf\u{e9}/\u{4f60}").unwrap(),
            "Caf\u{e9}/\u{4f60}"
        );
    }
}
