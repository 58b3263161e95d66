//! Values with parameters, such as Content-Type and Content-Disposition (RFC 2045 §5.1), and the
//! extended and continued parameters of RFC 2231.

use std::collections::BTreeMap;

use super::{
    charset::decode,
    mailbox::comment_end,
    unfolded,
    word::{hex, text},
};

/// A value with parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// The value before the parameters, in lower case.
    pub value: String,
    /// The decoded parameters. The names are in lower case.
    pub parameters: BTreeMap<String, String>,
}

impl Parameters {
    /// The parameter with this name in lower case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }
}

/// Reads a value with parameters. A parameter in the extended form (`name*=`) or in parts
/// (`name*0=`) has precedence over the plain form of the same name, and of two equal names the
/// first counts.
#[must_use]
pub fn parameters(value: &[u8]) -> Parameters {
    let value = unfolded(value);
    let (kind, mut rest) = token(&value, b";");
    let mut found: BTreeMap<String, Forms> = BTreeMap::new();
    while let Some(after) = rest.strip_prefix(b";") {
        let (name, after) = token(after, b"=;");
        let name = decode(None, &name).to_ascii_lowercase();
        let Some(after) = after.strip_prefix(b"=") else {
            // A name without a value.
            rest = after;
            continue;
        };
        let (value, after) = parameter_value(after);
        rest = after;
        let mut parts = name.splitn(3, '*');
        let (base, first, second) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        if base.is_empty() {
            continue;
        }
        let forms = found.entry(base.to_owned()).or_default();
        match (first, second) {
            (None, _) => {
                forms.plain.get_or_insert(value);
            }
            (Some(""), _) => {
                forms.extended.get_or_insert(value);
            }
            (Some(number), star) => {
                if let Ok(number) = number.parse::<u32>() {
                    forms.parts.entry(number).or_insert((star.is_some(), value));
                }
            }
        }
    }
    let parameters = found.into_iter();
    Parameters {
        value: decode(None, &kind).to_ascii_lowercase(),
        parameters: parameters
            .filter_map(|(name, forms)| Some((name, forms.decoded()?)))
            .collect(),
    }
}

/// The forms of one parameter, as written.
#[derive(Default)]
struct Forms {
    plain: Option<Vec<u8>>,
    extended: Option<Vec<u8>>,
    /// By number. True: with codes.
    parts: BTreeMap<u32, (bool, Vec<u8>)>,
}

impl Forms {
    fn decoded(self) -> Option<String> {
        if let Some(value) = self.extended {
            let (charset, content) = charset_of(&value);
            return Some(decode(charset.as_deref(), &percent_decoded(content)));
        }
        let mut whole = Vec::new();
        let (mut charset, mut coded) = (None, false);
        for (at, (with_codes, value)) in self.parts.into_values().enumerate() {
            if !with_codes {
                whole.extend_from_slice(&value);
                continue;
            }
            coded = true;
            let (named, content) = match at {
                0 => charset_of(&value),
                _ => (None, value.as_slice()),
            };
            charset = charset.or(named);
            whole.extend(percent_decoded(content));
        }
        // The parts are one text, so a character may be divided between them.
        match (coded, self.plain) {
            (true, _) => Some(decode(charset.as_deref(), &whole)),
            (false, _) if !whole.is_empty() => Some(text(&whole)),
            // Encoded words are not allowed in parameters, but common.
            (false, plain) => plain.map(|plain| text(&plain)),
        }
    }
}

/// The charset before an extended value, and the rest (RFC 2231 §4).
fn charset_of(value: &[u8]) -> (Option<String>, &[u8]) {
    let mut pieces = value.splitn(3, |byte| *byte == b'\'');
    match (pieces.next(), pieces.next(), pieces.next()) {
        (Some(charset), Some(_), Some(content)) => {
            (String::from_utf8(charset.to_vec()).ok(), content)
        }
        _ => (None, value),
    }
}

fn percent_decoded(content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(content.len());
    let mut rest = content;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high << 4 | low);
                    rest = after;
                }
                _ => bytes.push(b'%'),
            },
            (other, _) => bytes.push(*other),
        }
    }
    bytes
}

/// The bytes up to one of `ends`, without comments and without white space around them, and the
/// bytes from there.
fn token<'a>(text: &'a [u8], ends: &[u8]) -> (Vec<u8>, &'a [u8]) {
    let mut token = Vec::new();
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        if ends.contains(first) {
            break;
        }
        rest = match first {
            b'(' => rest.get(comment_end(rest)..).unwrap_or_default(),
            other => {
                token.push(*other);
                after
            }
        };
    }
    (token.trim_ascii().to_vec(), rest)
}

/// A value, quoted or not, and the bytes from the next `;`.
fn parameter_value(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let text = text.trim_ascii_start();
    let Some(mut rest) = text.strip_prefix(b"\"") else {
        // Not `token`: a file name without quotes may have parentheses.
        let end = memchr::memchr(b';', text).unwrap_or(text.len());
        let (value, rest) = text.split_at_checked(end).unwrap_or((text, &[]));
        return (value.trim_ascii().to_vec(), rest);
    };
    let mut value = Vec::new();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'"', _) => break,
            // Some browsers do not escape the backslashes of a Windows path.
            (b'\\', [next, after @ ..]) if is_special(*next) => {
                value.push(*next);
                rest = after;
            }
            (other, _) => value.push(*other),
        }
    }
    let end = memchr::memchr(b';', rest).unwrap_or(rest.len());
    (value, rest.get(end..).unwrap_or_default())
}

/// The `tspecials` of RFC 2045 §5.1, which need an escape or quotes.
const fn is_special(byte: u8) -> bool {
    matches!(
        byte,
        b'(' | b')'
            | b'<'
            | b'>'
            | b'@'
            | b','
            | b';'
            | b':'
            | b'\\'
            | b'"'
            | b'/'
            | b'['
            | b']'
            | b'?'
            | b'='
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(value: &[u8]) -> Option<String> {
        parameters(value).get("filename").map(str::to_owned)
    }

    #[test]
    fn values_and_names() {
        let read = parameters(
            b" Text/HTML (a comment; x=y) ; Charset=UTF-8;\r\n\tboundary = \"a; \\\"b\\\"\" ; flag; x=1;x=2;",
        );
        assert_eq!(read.value, "text/html");
        let parameters: Vec<_> = read.parameters.iter().map(|(a, b)| (&**a, &**b)).collect();
        assert_eq!(
            parameters,
            [("boundary", "a; \"b\""), ("charset", "UTF-8"), ("x", "1")]
        );
        assert_eq!(super::parameters(b""), Parameters::default());
    }

    #[test]
    fn file_names() {
        for (value, expected) in [
            (&b"attachment; filename=a.pdf"[..], "a.pdf"),
            (b"attachment; FILENAME=\"a b.pdf\"", "a b.pdf"),
            (b"attachment; filename=a b (1).pdf; x=y", "a b (1).pdf"),
            (b"attachment; filename=\"C:\\dir\\a.txt\"", "C:\\dir\\a.txt"),
            (b"attachment; filename=\"a\\\\b\\\"c\"", "a\\b\"c"),
            (b"attachment; filename=\"open", "open"),
            (b"attachment; filename=\"gr\xfc\xdfe\"", "grüße"),
            (b"attachment; filename=\"gr\xc3\xbc\xc3\x9fe\"", "grüße"),
            // RFC 2231.
            (b"x; filename*=utf-8''%C3%A4.pdf", "ä.pdf"),
            (b"x; filename*=\"utf-8'de'%C3%A4.pdf\"", "ä.pdf"),
            (b"x; filename*=iso-8859-1''%E4", "ä"),
            (b"x; filename*=%C3%A4%2", "ä%2"),
            (b"x; filename=a.pdf; filename*=iso-8859-1''b%2Epdf", "b.pdf"),
            (b"x; filename*=iso-8859-1''b%2Epdf; filename=a.pdf", "b.pdf"),
            (b"x; filename*0=a; filename*1=b; filename*2=\" c\"", "ab c"),
            (b"x; filename*1=b; filename*0=a; filename=x", "ab"),
            (
                b"x; filename*0*=UTF-8''%E2%98; filename*1*=%83.pdf",
                "\u{2603}.pdf",
            ),
            (
                b"x; filename*0*=ISO-8859-1''%E9; filename*1*=%E8.pdf",
                "éè.pdf",
            ),
            (
                b"x; filename*0*=ISO-8859-1''%E9; filename*1=%E8.pdf",
                "é%E8.pdf",
            ),
            // Encoded words, which RFC 2047 §5 forbids here.
            (
                b"x; filename=\"=?utf-8?Q?=E2=98?= =?utf-8?Q?=83.pdf?=\"",
                "\u{2603}.pdf",
            ),
            (b"x; filename==?utf-8?Q?=E2=98=83.pdf?=", "\u{2603}.pdf"),
            (
                b"x; filename*0=\"=?utf-8?Q?=E2=98?=\"; filename*1=\"=?utf-8?Q?=83?=\"",
                "\u{2603}",
            ),
        ] {
            assert_eq!(
                name(value).as_deref(),
                Some(expected),
                "{}",
                value.escape_ascii()
            );
        }
        for none in [
            &b"attachment"[..],
            b"x; filename",
            b"x; filename*x=y",
            b"x; =y",
        ] {
            assert_eq!(name(none), None);
        }
    }
}
