//! Names, and the names below them.

/// The name is the domain, or is below it. Case does not matter.
#[must_use]
pub fn is_within(name: &str, domain: &str) -> bool {
    let Some(before) = name.len().checked_sub(domain.len()) else {
        return false;
    };
    let (before, end) = name.split_at_checked(before).unwrap_or((name, ""));
    end.eq_ignore_ascii_case(domain) && (before.is_empty() || before.ends_with('.'))
}

/// The part of a name that one organisation has: the public suffix and one label more, by the
/// public suffix list. A public suffix is its own organisation. The name is in ASCII, in lower case
/// and without a dot at its end.
#[must_use]
pub fn organisation(name: &str) -> &str {
    psl::domain_str(name).unwrap_or(name)
}

/// Whether a name is a public suffix, such as `co.uk`, below which others register domains.
#[must_use]
pub fn is_public_suffix(name: &str) -> bool {
    psl::domain_str(name).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_suffix_is_no_domain_of_one_owner() {
        for (name, expected) in [
            ("co.uk", true),
            ("com", true),
            ("example.com", false),
            ("a.example.co.uk", false),
            ("sender.test", false),
            ("test", true),
        ] {
            assert_eq!(is_public_suffix(name), expected, "{name}");
        }
    }

    #[test]
    fn names_belong_to_organisations() {
        for (name, expected) in [
            ("a.b.example.com", "example.com"),
            ("x.example.co.uk", "example.co.uk"),
            ("co.uk", "co.uk"),
            ("mx.a.test", "a.test"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(organisation(name), expected, "{name}");
        }
    }

    #[test]
    fn names_are_within_domains() {
        for (name, domain, expected) in [
            ("a.test", "a.test", true),
            ("B.A.test", "a.Test", true),
            ("ba.test", "a.test", false),
            ("test", "a.test", false),
            (".a.test", "a.test", true),
            ("\u{e4}a.test", "a.test", false),
            ("\u{e4}", "a", false),
        ] {
            assert_eq!(is_within(name, domain), expected, "{name} {domain}");
        }
    }
}
