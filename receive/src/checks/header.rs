//! The check for mail loops, and header fields for rulesets.

use postrider_queue::header::Header;
use postrider_smtp::field;

use crate::facts::PlainField;

/// The largest number of Received fields (RFC 5321 §6.3). A message with more of them is in a loop.
pub(crate) const HOPS_MAX: usize = 100;

/// The message came through so many servers that it must be in a loop.
pub(crate) fn has_loop(header: &Header) -> bool {
    header.received_count() > HOPS_MAX
}

/// With our own Received field the message has too many to be queued.
pub(crate) fn has_loop_when_queued(header: &Header) -> bool {
    header.received_count() >= HOPS_MAX
}

/// The fields of a header section, in their order, as rulesets look at them.
pub(crate) fn plain_fields(section: &[u8]) -> Vec<PlainField> {
    let fields = field::fields(section);
    fields
        .map(|field| PlainField {
            name: String::from_utf8_lossy(field.name).to_lowercase(),
            value: field::text(field.value).trim().to_lowercase(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_has_more_than_100_received_fields() {
        let section = |count| "Received: from a by b\r\n".repeat(count);
        assert!(!has_loop(&Header::scan(section(100).as_bytes())));
        assert!(has_loop(&Header::scan(section(101).as_bytes())));
        assert!(!has_loop_when_queued(&Header::scan(section(99).as_bytes())));
        assert!(has_loop_when_queued(&Header::scan(section(100).as_bytes())));
    }

    #[test]
    fn fields_are_plain() {
        let section = "List-ID : My  List\r\n\t<A.b>  \r\nX: =?utf-8?q?=C3=84b?=\r\n\
                       no field\r\nX:\r\n";
        let found = plain_fields(section.as_bytes());
        let found: Vec<_> = found.iter().map(|it| (&*it.name, &*it.value)).collect();
        let expected = [("list-id", "my  list <a.b>"), ("x", "\u{e4}b"), ("x", "")];
        assert_eq!(found, expected);
    }
}
