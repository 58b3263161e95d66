//! The lines of a signature's field (RFC 6376 §3.5).
//!
//! White space stands only where the relaxed form has one space. So a server that folds the field
//! anew changes nothing.

/// The longest line of a field, as far as its parts allow.
const LINE: usize = 76;

/// Tags of a signature's field, each behind a line end or one space.
#[derive(Clone, Debug, Default)]
pub struct TagLines(String);

impl TagLines {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Adds a tag, with its semicolon if another one follows.
    pub fn tag(&mut self, tag: &str) {
        let used = self.0.rsplit('\t').next().unwrap_or_default().len();
        let begins = self.0.is_empty() || used + 1 + tag.len() > LINE - 1;
        self.0.push_str(if begins { "\r\n\t" } else { " " });
        self.0.push_str(tag);
    }

    /// Adds `h=`, with line ends behind its colons.
    pub fn names(&mut self, names: &[String]) {
        let mut part = String::from("h=");
        let names = names.join(":").to_ascii_lowercase() + ";";
        for name in names.split_inclusive(':') {
            if part.len() + name.len() > LINE - 1 {
                self.tag(&part);
                part.clear();
            }
            part.push_str(name);
        }
        self.tag(&part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_stand_in_lines() {
        let mut lines = TagLines::default();
        lines.tag("d=example.org;");
        lines.tag("s=k;");
        let names: Vec<_> = std::iter::repeat_n("Message-ID".to_owned(), 10).collect();
        lines.names(&names);
        let text = lines.as_str();
        assert!(text.starts_with("\r\n\td=example.org; s=k;"), "{text}");
        assert!(text.ends_with(":message-id;"));
        assert!(text.split("\r\n").all(|line| line.len() <= LINE));
        let names: String = text.split(['\r', '\n', '\t', ' ']).collect();
        assert_eq!(names.matches("message-id").count(), 10);
    }
}
