//! Names of DNS, as the checks compare them and ask for them.

/// The longest name in characters (RFC 1035 §2.3.4).
pub(super) const NAME_MAX: usize = 253;

/// DNS can be asked for the name: each label has 1 to 63 characters of ASCII. The name of an
/// address with UTF-8 exists nowhere (RFC 8616 §4).
pub(super) fn is_name(name: &str) -> bool {
    name.is_ascii()
        && name.len() <= NAME_MAX
        && name.split('.').all(|label| (1..=63).contains(&label.len()))
}

/// The name is the domain, or is below it. Case does not matter.
pub(super) fn is_within(name: &str, domain: &str) -> bool {
    let Some(before) = name.len().checked_sub(domain.len()) else {
        return false;
    };
    let (before, end) = name.split_at_checked(before).unwrap_or((name, ""));
    end.eq_ignore_ascii_case(domain) && (before.is_empty() || before.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn names_fit_into_a_question() {
        let long = format!("{}.test", "a".repeat(63));
        assert!(is_name(&long) && is_name("a:b/c d.test") && is_name("test"));
        for name in [
            "",
            ".",
            "a..test",
            "a.test.",
            "\u{e4}.test",
            &format!("a{long}"),
        ] {
            assert!(!is_name(name), "{name}");
        }
        assert!(is_name(&format!("{}test", "a.".repeat(124))));
        assert!(!is_name(&format!("{}test", "a.".repeat(125))));
    }
}
