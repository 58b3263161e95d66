//! The extensions that scripts may use, and the names that belong to each.

/// An extension of Sieve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Extension {
    /// RFC 5173.
    Body,
    /// RFC 5228 §2.7.3. Comparator of RFC 4790.
    AsciiNumeric,
    /// RFC 5228 §2.7.3. Part of the base, named all the same.
    AsciiCasemap,
    /// RFC 5228 §2.7.3. Part of the base, named all the same.
    Octet,
    /// RFC 3894.
    Copy,
    /// RFC 5260.
    Date,
    /// RFC 5228 §2.4.2.4.
    EncodedCharacter,
    /// RFC 5228 §5.4.
    Envelope,
    /// RFC 5429 §2.1.
    Ereject,
    /// RFC 5228 §4.1.
    Fileinto,
    /// RFC 5232.
    Imap4flags,
    /// RFC 5490.
    Mailbox,
    /// draft-ietf-sieve-regex.
    Regex,
    /// RFC 5429 §2.2.
    Reject,
    /// RFC 5231.
    Relational,
    /// RFC 8579.
    SpecialUse,
    /// RFC 5233.
    Subaddress,
    /// RFC 5230.
    Vacation,
    /// RFC 5229.
    Variables,
}

/// Each extension with its name in `require`.
const NAMES: &[(&str, Extension)] = &[
    ("body", Extension::Body),
    ("comparator-i;ascii-numeric", Extension::AsciiNumeric),
    ("comparator-i;ascii-casemap", Extension::AsciiCasemap),
    ("comparator-i;octet", Extension::Octet),
    ("copy", Extension::Copy),
    ("date", Extension::Date),
    ("encoded-character", Extension::EncodedCharacter),
    ("envelope", Extension::Envelope),
    ("ereject", Extension::Ereject),
    ("fileinto", Extension::Fileinto),
    ("imap4flags", Extension::Imap4flags),
    ("mailbox", Extension::Mailbox),
    ("regex", Extension::Regex),
    ("reject", Extension::Reject),
    ("relational", Extension::Relational),
    ("special-use", Extension::SpecialUse),
    ("subaddress", Extension::Subaddress),
    ("vacation", Extension::Vacation),
    ("variables", Extension::Variables),
];

impl Extension {
    /// The extension with this name in `require`.
    pub(super) fn named(name: &str) -> Option<Self> {
        let found = NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, extension)| *extension)
    }

    /// The name in `require`.
    pub(super) fn name(self) -> &'static str {
        let found = NAMES.iter().find(|(_, extension)| *extension == self);
        found.map_or("", |(name, _)| name)
    }

    /// The names of all extensions, for an error.
    pub(super) fn all() -> String {
        let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
        names.join(", ")
    }
}

/// A set of extensions.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extensions(u32);

impl Extensions {
    pub(super) const fn has(self, extension: Extension) -> bool {
        self.0 & (1 << extension as u32) != 0
    }

    /// Adds an extension. True if it was not there.
    pub(super) const fn add(&mut self, extension: Extension) -> bool {
        let is_new = !self.has(extension);
        self.0 |= 1 << extension as u32;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_extensions_belong_together() {
        let mut set = Extensions::default();
        for (name, extension) in NAMES {
            assert_eq!(Extension::named(name), Some(*extension));
            assert_eq!(extension.name(), *name);
            assert!(!set.has(*extension));
            assert!(set.add(*extension) && !set.add(*extension));
            assert!(set.has(*extension));
        }
        assert_eq!(Extension::named("include"), None);
        assert!(Extension::all().starts_with("body, comparator-"));
    }
}
