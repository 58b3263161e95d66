//! Lists of flags (RFC 5232 §2): system flags and keywords, each once whatever its case.

/// The most flags of a list.
pub(super) const FLAGS_MAX: usize = 100;
/// The most bytes of a flag.
const FLAG_MAX: usize = 100;

/// The flags with a backslash that a message may have (RFC 9051 §2.3.2).
const SYSTEM: [&str; 5] = ["\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft"];

/// What a command does with the flags of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// `setflag`.
    Set,
    /// `addflag`.
    Add,
    /// `removeflag`.
    Remove,
}

/// The flag in the form in which a mailbox has it. None for a text that is no flag, and for a
/// system flag that no message may get.
pub(super) fn canonical(flag: &str) -> Option<&str> {
    if flag.starts_with('\\') {
        let mut system = SYSTEM.iter();
        return system
            .find(|known| known.eq_ignore_ascii_case(flag))
            .copied();
    }
    let is_atom = !flag.is_empty()
        && flag.len() <= FLAG_MAX
        && flag
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"(){%*\"\\]".contains(&byte));
    is_atom.then_some(flag)
}

/// A list of flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags(Vec<String>);

impl Flags {
    /// The flags in these texts. White space separates the flags of a text. What is no flag is left
    /// out (RFC 5232 §2).
    pub(super) fn read<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut flags = Self::default();
        for text in texts {
            text.split_ascii_whitespace()
                .for_each(|flag| flags.add(flag));
        }
        flags
    }

    fn add(&mut self, flag: &str) {
        if let Some(flag) = canonical(flag)
            && self.0.len() < FLAGS_MAX
            && !self.has(flag)
        {
            self.0.push(flag.to_owned());
        }
    }

    fn has(&self, flag: &str) -> bool {
        self.0.iter().any(|other| other.eq_ignore_ascii_case(flag))
    }

    /// Changes the list by the flags of another.
    pub(super) fn change(&mut self, change: Change, by: Self) {
        match change {
            Change::Set => *self = by,
            Change::Add => by.0.iter().for_each(|flag| self.add(flag)),
            Change::Remove => self.0.retain(|flag| !by.has(flag)),
        }
    }

    pub(super) fn list(&self) -> &[String] {
        &self.0
    }

    /// The flags with a space between them, as a variable holds them.
    pub(super) fn joined(&self) -> String {
        self.0.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_each_flag_once_in_its_form() {
        for (texts, expected) in [
            (&["\\SEEN  \\flagged", "\\Seen"][..], "\\Seen \\Flagged"),
            (&["a A b", "", " "], "a b"),
            (&["$Label1 NonJunk"], "$Label1 NonJunk"),
            (&["\\Recent \\X a(b c\"d \u{e9} a*b x]"], ""),
        ] {
            let flags = Flags::read(texts.iter().copied());
            assert_eq!(flags.joined(), expected);
        }
        let many: String = (0..200).map(|number| format!("k{number} ")).collect();
        assert_eq!(Flags::read([many.as_str()]).list().len(), FLAGS_MAX);
        assert_eq!(canonical(&"x".repeat(101)), None);
    }

    #[test]
    fn lists_change() {
        let changed = |change, by| {
            let mut flags = Flags::read(["\\Seen a"]);
            flags.change(change, Flags::read([by]));
            flags.joined()
        };
        assert_eq!(changed(Change::Set, "b"), "b");
        assert_eq!(changed(Change::Add, "A b"), "\\Seen a b");
        assert_eq!(changed(Change::Remove, "A b \\seen"), "");
        assert_eq!(changed(Change::Set, ""), "");
    }
}
