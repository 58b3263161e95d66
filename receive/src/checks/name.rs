//! Names of DNS, as the checks ask for them.

/// The longest name in characters (RFC 1035 §2.3.4).
pub(super) const NAME_MAX: usize = 253;

/// DNS can be asked for the name: each label has 1 to 63 characters of ASCII. The name of an
/// address with UTF-8 exists nowhere (RFC 8616 §4).
pub(super) fn is_name(name: &str) -> bool {
    name.is_ascii()
        && name.len() <= NAME_MAX
        && name.split('.').all(|label| (1..=63).contains(&label.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

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
