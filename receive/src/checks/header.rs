//! The check for mail loops.

use postrider_queue::header::Header;

/// The largest number of Received fields (RFC 5321 §6.3). A message with more of them is in a loop.
pub(crate) const HOPS_MAX: usize = 100;

/// The message came through so many servers that it must be in a loop.
pub(crate) fn has_loop(header: &Header) -> bool {
    header.received_count() > HOPS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_has_more_than_100_received_fields() {
        let section = |count| "Received: from a by b\r\n".repeat(count);
        assert!(!has_loop(&Header::scan(section(100).as_bytes())));
        assert!(has_loop(&Header::scan(section(101).as_bytes())));
    }
}
