//! Small configurations for the tests.

use std::{fs, path::Path};

use postrider_config::{Dynamic, Static, replace_private};
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

/// Copies the files of a folder to a new one, where only their owner can read them. Git does not
/// keep the permissions that a file with a key must have.
pub(crate) fn private_copies(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let bytes = fs::read(entry.path()).unwrap();
        replace_private(&to.join(entry.file_name()), &bytes).unwrap();
    }
}
