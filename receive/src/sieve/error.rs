//! Errors of scripts, with the place in the script.

/// A place in a script. Lines and columns count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

impl Position {
    /// The beginning of a script.
    pub const START: Self = Self { line: 1, column: 1 };

    /// The place behind this text, if the text begins here.
    pub(super) fn behind(mut self, text: &str) -> Self {
        for letter in text.chars() {
            if letter == '\n' {
                self.line = self.line.saturating_add(1);
                self.column = 1;
            } else {
                self.column = self.column.saturating_add(1);
            }
        }
        self
    }

    /// An error at this place.
    pub(super) fn error(self, text: impl Into<String>) -> SieveError {
        SieveError {
            line: self.line,
            column: self.column,
            text: text.into(),
        }
    }
}

/// A fault of a script, or a warning about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {text}")]
pub struct SieveError {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// One sentence that says what is wrong and what to do.
    pub text: String,
}

/// The most characters of a script's text that an error repeats.
const SHOWN_MAX: usize = 60;

/// A text of a script in quotes, for an error. A long text is cut, control characters are escaped.
pub(super) fn shown(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN_MAX).collect();
    let dots = if cut.len() < text.len() { "..." } else { "" };
    format!("{:?}", cut + dots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters() {
        let at = Position::START.behind("a\r\nb\u{e9}");
        assert_eq!((at.line, at.column), (2, 3));
        let error = at.error("The x is wrong.");
        assert_eq!(error.to_string(), "line 2, column 3: The x is wrong.");
        assert_eq!(shown("a\"\0"), r#""a\"\0""#);
        assert_eq!(shown(&"x".repeat(61)).len(), 60 + 5);
    }
}
