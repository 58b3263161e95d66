//! Changes of the envelope, as programs over HTTP write them: a path in angle brackets or without.

use postrider_smtp::{Address, ReversePath};

use super::answer::{Change, Failure, shown};

/// The most bytes of an address that a failure shows.
const SHOWN_MAX: usize = 100;

/// The text between the angle brackets, if there are any.
fn unbracketed(path: &str) -> &str {
    let path = path.trim();
    let inner = path.strip_prefix('<').and_then(|it| it.strip_suffix('>'));
    inner.unwrap_or(path).trim()
}

/// Another reverse-path, which may be null.
///
/// # Errors
/// If it is no path.
pub(super) fn change_sender(path: &str, parameters: Option<String>) -> Result<Change, Failure> {
    let path = unbracketed(path);
    let sender = ReversePath::parse(path).map_err(|error| wrong("sender", path, &error))?;
    Ok(Change::Sender(sender, parameters))
}

/// One more recipient. None for a text without `@`, which stands for no recipient.
///
/// # Errors
/// If it is no address.
pub(super) fn add_recipient(
    path: &str,
    parameters: Option<String>,
) -> Result<Option<Change>, Failure> {
    let path = unbracketed(path);
    if !path.contains('@') {
        return Ok(None);
    }
    let address = Address::parse(path).map_err(|error| wrong("recipient", path, &error))?;
    Ok(Some(Change::AddRecipient(address, parameters)))
}

/// One recipient less.
pub(super) fn delete_recipient(path: &str) -> Change {
    let path = unbracketed(path);
    // The written form has the domain in A-labels, and no needless quotes.
    let address = Address::parse(path).map(|address| address.to_string());
    Change::DeleteRecipient(address.unwrap_or_else(|_| path.to_owned()))
}

fn wrong(role: &str, path: &str, error: &postrider_smtp::AddressError) -> Failure {
    let path = shown(path, SHOWN_MAX);
    Failure::invalid(format_args!(
        "its answer has {path:?} as a {role}, which is no address: {error}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders() {
        for (path, expected) in [
            ("", Ok("")),
            ("<>", Ok("")),
            ("a@x.test", Ok("a@x.test")),
            (" <a@X.test> ", Ok("a@x.test")),
            ("<a@x.test", Err("no address")),
            ("a", Err("\"a\" as a sender")),
            ("a b@x.test", Err("' '")),
            ("a@x.test\r\nRCPT TO:<b@x.test>", Err("no address")),
        ] {
            match (change_sender(path, Some("RET=FULL".into())), expected) {
                (Ok(Change::Sender(sender, parameters)), Ok(expected)) => {
                    assert_eq!(sender.to_string(), expected);
                    assert_eq!(parameters.as_deref(), Some("RET=FULL"));
                }
                (Err(failure), Err(part)) => {
                    let text = failure.to_string();
                    assert!(text.contains(part), "{text}");
                }
                other => panic!("{path:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn recipients_that_come() {
        let added = |path: &str| add_recipient(path, None);
        let address = |text: &str| {
            let address = Address::parse(text).unwrap();
            Ok(Some(Change::AddRecipient(address, None)))
        };
        assert_eq!(added("<a@x.test>"), address("a@x.test"));
        assert_eq!(added("\u{fc}@x.test"), address("\u{fc}@x.test"));
        assert_eq!(added("<postmaster>"), Ok(None));
        assert_eq!(added(""), Ok(None));
        let failure = added("a@").unwrap_err().to_string();
        assert!(failure.contains("\"a@\" as a recipient"), "{failure}");
    }

    #[test]
    fn recipients_that_go() {
        for (path, expected) in [
            ("<A@X.test>", "A@x.test"),
            ("a@b\u{fc}cher.test", "a@xn--bcher-kva.test"),
            ("postmaster", "postmaster"),
            ("", ""),
        ] {
            let expected = Change::DeleteRecipient(expected.to_owned());
            assert_eq!(delete_recipient(path), expected);
        }
    }
}
