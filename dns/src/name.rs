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
}
