//! Policies of MTA-STS (RFC 8461 §3.2):
//!
//! - A policy that is read can be written, and is the same when it is read again, also with CRLF.
//! - It has at least one host unless its mode is none, and is for the hosts that it names.
//! - What stands on line ends is one line: no host has a control character in it.

use postrider_config::MtaStsMode;
use postrider_queue::mta_sts::Policy;

/// Fails where one of these does not hold.
pub(crate) fn check(data: &[u8]) {
    let Ok(policy) = Policy::parse(data) else {
        return;
    };
    let text = policy.to_string();
    assert_eq!(Policy::parse(text.as_bytes()).as_ref(), Ok(&policy));
    let crlf = text.replace('\n', "\r\n");
    assert_eq!(Policy::parse(crlf.as_bytes()).as_ref(), Ok(&policy));
    assert!(policy.mode == MtaStsMode::None || !policy.mx.is_empty());
    for pattern in &policy.mx {
        assert!(
            pattern.bytes().all(|byte| byte.is_ascii_graphic()),
            "{pattern:?}"
        );
        let host = pattern.replacen('*', "mx", 1);
        assert!(policy.allows(&host), "{host:?}");
        assert!(!policy.allows(&format!("a.b.{host}")) || policy.mx.len() > 1);
    }
}
