//! Lines of Postfix's files: comments, and continuations that begin with white space.

/// A line with its continuations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Logical {
    /// The number of its first line, from 1.
    pub(super) line: usize,
    /// The text, with one space before each continuation.
    pub(super) text: String,
}

/// The lines of a file. Empty lines and comments are left out, also those within a continued line.
pub(super) fn logical(text: &str) -> Vec<Logical> {
    let mut lines: Vec<Logical> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let content = line.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let continued = line.starts_with([' ', '\t']);
        match lines.last_mut().filter(|_| continued) {
            Some(last) => {
                last.text.push(' ');
                last.text.push_str(content);
            }
            None => lines.push(Logical {
                line: index + 1,
                text: content.to_owned(),
            }),
        }
    }
    lines
}

/// Splits a text at white space and at these characters, but not within braces. Braces around a
/// whole word stay.
pub(super) fn words<'a>(text: &'a str, separators: &[char]) -> Vec<&'a str> {
    let mut words = Vec::new();
    let mut depth = 0_usize;
    let mut start = None;
    for (at, c) in text.char_indices() {
        let ends = depth == 0 && (c.is_whitespace() || separators.contains(&c));
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        match (ends, start) {
            (true, Some(from)) => {
                words.extend(text.get(from..at));
                start = None;
            }
            (false, None) => start = Some(at),
            _ => {}
        }
    }
    words.extend(start.and_then(|from| text.get(from..)));
    words
}

/// The text within the braces around a word.
pub(super) fn unbraced(word: &str) -> Option<&str> {
    let inner = word.strip_prefix('{')?.strip_suffix('}')?;
    Some(inner.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continuations_and_comments() {
        let text = "  # c\nA = 1,\n# c\n\n\t2\r\n   \n 3\nB\n";
        let lines = logical(text);
        let shown: Vec<(usize, &str)> = lines.iter().map(|l| (l.line, l.text.as_str())).collect();
        assert_eq!(shown, [(2, "A = 1, 2 3"), (8, "B")]);
    }

    #[test]
    fn words_with_braces() {
        assert_eq!(
            words("a, b  {c, {d e}},f:{ g h }", &[',']),
            ["a", "b", "{c, {d e}}", "f:{ g h }"]
        );
        assert_eq!(words(" , ", &[',']), Vec::<&str>::new());
        assert_eq!(words("a}b {c", &[]), ["a}b", "{c"]);
        assert_eq!(unbraced("{ a = b }"), Some("a = b"));
        assert_eq!(unbraced("a"), None);
    }
}
