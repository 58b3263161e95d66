//! Checks of the header section.

use postrider_queue::header::Header;
use postrider_smtp::Address;

/// The largest number of Received fields (RFC 5321 §6.3). A message with more of them is in a loop.
pub(crate) const HOPS_MAX: usize = 100;

/// The message came through so many servers that it must be in a loop.
pub(crate) fn has_loop(header: &Header) -> bool {
    header.received_count() > HOPS_MAX
}

/// The author of a submitted message: the address of the From field, or the login address of a
/// message without a From field (RFC 6409 §8.1). None: the From field has no single readable
/// address.
pub(crate) fn author<'a>(header: &'a Header, login: &'a Address) -> Option<&'a Address> {
    match header.from() {
        None if !header.has("From") => Some(login),
        from => from,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_author_is_the_from_address_or_the_login() {
        let login = Address::parse("app@example.org").unwrap();
        let check = |section: &str, expected: Option<&str>| {
            let header = Header::scan(section.as_bytes());
            let author = author(&header, &login).map(ToString::to_string);
            assert_eq!(author.as_deref(), expected, "{section:?}");
        };
        check("From: a@x.example\r\n", Some("a@x.example"));
        check("Subject: no author\r\n", Some("app@example.org"));
        check("From: a@x.example, b@x.example\r\n", None);
        check("From: nobody\r\n", None);
    }

    #[test]
    fn a_loop_has_more_than_100_received_fields() {
        let section = |count| "Received: from a by b\r\n".repeat(count);
        assert!(!has_loop(&Header::scan(section(100).as_bytes())));
        assert!(has_loop(&Header::scan(section(101).as_bytes())));
    }
}
