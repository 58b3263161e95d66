//! Writing texts of users into scripts.
//!
//! A generated script requires neither `variables` nor `encoded-character`, so `${...}` in a text
//! means itself.

/// A text in double quotes (RFC 5228 §2.4.2).
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        if matches!(letter, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted.push('"');
    quoted
}

/// A list of texts.
pub(super) fn list<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let texts: Vec<String> = texts.into_iter().map(quoted).collect();
    format!("[{}]", texts.join(", "))
}

/// A text that means itself in a pattern of `:matches`.
pub(super) fn literal(text: &str) -> String {
    let mut literal = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '*' | '?' | '\\') {
            literal.push('\\');
        }
        literal.push(letter);
    }
    literal
}

/// A text in one line, for a comment.
pub(super) fn comment(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_keep_their_meaning() {
        assert_eq!(quoted(r#"a"b\c"#), r#""a\"b\\c""#);
        assert_eq!(list(["a", "b"]), r#"["a", "b"]"#);
        assert_eq!(literal(r"a*b?c\"), r"a\*b\?c\\");
        assert_eq!(comment("a\r\nkeep;"), "a  keep;");
    }
}
