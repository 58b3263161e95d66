//! The reply to the client that a filter gives.

use std::fmt;

use postrider_smtp::{EnhancedCode, Reply, ReplyCode};

use super::super::answer::Failure;

/// The longest text of a reply, and the most lines. Filters with the library of Sendmail have 32
/// lines of 980 bytes at most.
const TEXT_MAX: usize = 32 * 1024;
const LINES_MAX: usize = 64;

/// Reads a reply in the form of SMTP: `550 5.7.1 text`, in several lines if need be. `%%` stands
/// for `%`. A `%` alone stands for itself: some filters do not double it.
///
/// The enhanced status code is that of the first line. Without one it is 4.7.1 or 5.7.1.
///
/// # Errors
/// If the code is none of 400 to 599, a line has another code, the class of the enhanced status
/// code is another one, or the text is too long.
pub(super) fn read(code: &[u8]) -> Result<Reply, Failure> {
    if code.len() > TEXT_MAX {
        return Err(wrong(format_args!("of more than {TEXT_MAX} bytes")));
    }
    let text = String::from_utf8_lossy(code);
    let text = text.strip_suffix("\r\n").unwrap_or(&text);
    let lines: Vec<&str> = text.split("\r\n").collect();
    if lines.len() > LINES_MAX {
        return Err(wrong(format_args!("of more than {LINES_MAX} lines")));
    }
    let mut first: Option<(ReplyCode, Option<EnhancedCode>)> = None;
    let mut texts = Vec::with_capacity(lines.len());
    for (at, line) in lines.iter().enumerate() {
        let (code, text) = split(line, at + 1 == lines.len())?;
        let (enhanced, text) = match enhanced(text) {
            Some((enhanced, text)) => (Some(enhanced), text),
            None => (None, text),
        };
        if enhanced.is_some_and(|enhanced| enhanced.class != code.class()) {
            return Err(wrong(format_args!("with codes of two classes: {line:?}")));
        }
        let (known, _) = *first.get_or_insert((code, enhanced));
        if known != code {
            return Err(wrong(format_args!("with two codes, {known} and {code}")));
        }
        texts.push(text.replace("%%", "%"));
    }
    let (code, enhanced) = first.ok_or_else(|| wrong(format_args!("without a line")))?;
    let enhanced = enhanced.unwrap_or(EnhancedCode::NOT_AUTHORIZED);
    // A lone CR or LF would be a line break of the reply.
    let texts = texts.iter().map(|text| text.replace(['\r', '\n'], " "));
    let text = texts.collect::<Vec<_>>().join("\n");
    Ok(Reply::new(code, Some(enhanced), text))
}

fn wrong(what: fmt::Arguments<'_>) -> Failure {
    Failure::invalid(format_args!("the filter gives a reply {what}"))
}

/// Splits a line into its code and its text.
fn split(line: &str, is_last: bool) -> Result<(ReplyCode, &str), Failure> {
    let bad = || {
        wrong(format_args!(
            "that is not such as \"550 5.7.1 text\": {line:?}"
        ))
    };
    let (digits, rest) = line.split_at_checked(3).ok_or_else(bad)?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let code = digits.parse().ok().filter(|_| is_number);
    let code = code.and_then(ReplyCode::new).ok_or_else(bad)?;
    if !code.is_transient() && !code.is_permanent() {
        return Err(wrong(format_args!("that is no refusal: {line:?}")));
    }
    // The last line may have a hyphen too: the text ends there in any case.
    let text = match (rest.chars().next(), is_last) {
        (None, true) => Some(""),
        (Some(' '), _) | (Some('-'), _) => rest.get(1..),
        _ => None,
    };
    Ok((code, text.ok_or_else(bad)?))
}

/// Splits an enhanced status code from the beginning of a text. None if there is none.
fn enhanced(text: &str) -> Option<(EnhancedCode, &str)> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    Some((word.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_written_as_they_were_meant() {
        for (code, expected) in [
            ("550 5.7.1 no", "550 5.7.1 no\r\n"),
            ("550 no", "550 5.7.1 no\r\n"),
            ("451 no", "451 4.7.1 no\r\n"),
            ("550", "550 5.7.1 \r\n"),
            ("550 5.1.1", "550 5.1.1 \r\n"),
            ("550 5.7.1 no\r\n", "550 5.7.1 no\r\n"),
            ("550-5.7.1 no", "550 5.7.1 no\r\n"),
            ("550-no\r\n", "550 5.7.1 no\r\n"),
            ("421 4.3.2 later", "421 4.3.2 later\r\n"),
            ("550 100%% of 50% %%%%", "550 5.7.1 100% of 50% %%\r\n"),
            (
                "550-5.7.1 a\r\n550-5.7.1 b\r\n550 5.7.1 c",
                "550-5.7.1 a\r\n550-5.7.1 b\r\n550 5.7.1 c\r\n",
            ),
            (
                "451 4.7.1 a\r\n451 4.7.1 b",
                "451-4.7.1 a\r\n451 4.7.1 b\r\n",
            ),
            ("550-a\r\n550 b", "550-5.7.1 a\r\n550 5.7.1 b\r\n"),
            ("550 a\nb\rc", "550 5.7.1 a b c\r\n"),
            ("550 5 words", "550 5.7.1 5 words\r\n"),
            ("550 n\u{f6}", "550 5.7.1 n?\r\n"),
        ] {
            let reply = read(code.as_bytes()).unwrap();
            assert_eq!(reply.to_bytes(), expected, "{code:?}");
        }
        let reply = read(b"550 n\xf6").unwrap();
        assert_eq!(reply.text(), "n\u{fffd}");
    }

    #[test]
    fn wrong_replies_are_errors() {
        let long = format!("550 {}", "x".repeat(TEXT_MAX));
        let many = "550-a\r\n".repeat(LINES_MAX + 1);
        for (code, text) in [
            ("", "not such as"),
            ("no", "not such as"),
            ("5500 no", "not such as"),
            ("55x no", "not such as"),
            ("+50 no", "not such as"),
            ("600 no", "not such as"),
            ("199 no", "not such as"),
            ("250 2.0.0 ok", "no refusal"),
            ("354 go", "no refusal"),
            ("550_no", "not such as"),
            ("\u{e9}50 no", "not such as"),
            ("550-a\r\n551 b", "with two codes, 550 and 551"),
            ("550-a\r\nb", "not such as"),
            ("550\r\n550 b", "not such as"),
            ("550 4.7.1 no", "codes of two classes"),
            ("451 5.7.1 no", "codes of two classes"),
            ("550-5.7.1 a\r\n550 4.7.1 b", "codes of two classes"),
            (&long, "more than 32768 bytes"),
            (&many, "more than 64 lines"),
        ] {
            let error = read(code.as_bytes()).unwrap_err();
            assert!(matches!(error, Failure::Invalid(_)));
            assert!(error.to_string().contains(text), "{code:?}: {error}");
        }
    }
}
