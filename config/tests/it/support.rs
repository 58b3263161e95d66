//! Small configurations for the tests.

use postrider_config::{Dynamic, Static};
use postrider_smtp::Address;

/// The smallest valid `postrider.conf`.
pub(crate) const STATIC: &str = "\
hostname = \"mail.example.org\"
postmaster.account = \"alice\"
[listeners.local]
ips = [\"127.0.0.1\"]
";

/// The smallest valid `domains.conf` for it.
pub(crate) const DYNAMIC: &str = "\
[domains.\"example.org\"]
[accounts.alice]
domain = \"example.org\"
destinations.\"alice@example.org\" = {}
";

/// The smallest `postrider.conf` with further lines.
pub(crate) fn statics(more: &str) -> Static {
    Static::parse(&format!("{STATIC}{more}"), "postrider.conf").unwrap_or_else(|e| panic!("{e}"))
}

pub(crate) fn dynamic(text: &str, statics: &Static) -> Dynamic {
    Dynamic::parse(text, "domains.conf", statics).unwrap_or_else(|e| panic!("{e}"))
}

pub(crate) fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}
