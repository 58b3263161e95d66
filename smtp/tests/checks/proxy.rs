//! The first bytes of a connection against the parser of the PROXY protocol:
//!
//! - No bytes make it panic.
//! - A header is not longer than the bytes, nor than a header may be.
//! - The bytes behind a header do not change it.
//! - A part of a header asks for more. Bytes that are refused stay so, whatever comes next.

use postrider_smtp::{PROXY_HEADER_MAX, ProxyHeader};

/// Fails where one of these does not hold.
pub(crate) fn check(data: &[u8]) {
    let whole = ProxyHeader::parse(data);
    let ends = match whole {
        Ok(Some(header)) => {
            assert!(header.length <= data.len().min(PROXY_HEADER_MAX));
            let alone = ProxyHeader::parse(data.get(..header.length).unwrap_or_default());
            assert_eq!(alone, whole);
            header.length
        }
        Ok(None) => {
            assert!(data.len() < PROXY_HEADER_MAX);
            data.len()
        }
        Err(_) => data.len(),
    };
    for end in 0..ends {
        let part = ProxyHeader::parse(data.get(..end).unwrap_or_default());
        match part {
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => assert_eq!(part, whole, "{end} of {ends} bytes"),
        }
    }
}
