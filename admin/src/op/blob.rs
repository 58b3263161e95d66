//! Names by which later calls ask for things that a list shows. Each kind of thing has a letter, so
//! that a name is for one kind only.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// The name of the thing of this kind with a number.
pub(crate) fn name_of(kind: char, number: u64) -> String {
    URL_SAFE_NO_PAD.encode(format!("{kind}{number}"))
}

/// The number of the thing of this kind that a name is for.
pub(crate) fn number_of(kind: char, name: &str) -> Option<u64> {
    let bytes = URL_SAFE_NO_PAD.decode(name).ok()?;
    let text = std::str::from_utf8(&bytes).ok()?;
    text.strip_prefix(kind)?.parse().ok()
}
