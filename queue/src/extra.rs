//! The application's own data in the header section of a submitted message: the fields
//! `X-Postrider-Extra-KEY` and `X-Mox-Extra-KEY`. The data is stored with the message and comes
//! back in its events. The fields are not sent.

use std::collections::BTreeMap;

/// The beginnings of fields with data, in lower case.
const PREFIXES: [&str; 2] = ["x-postrider-extra-", "x-mox-extra-"];
/// The most keys of a message.
pub const KEYS_MAX: usize = 100;
/// The most bytes of all keys and values of a message together.
pub const BYTES_MAX: usize = 16 * 1024;

/// Why the data is not extracted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtraError {
    /// A field has nothing after the prefix.
    #[error("the field {0} has no key")]
    NoKey(String),
    /// Two fields have the same key.
    #[error("the key {0} is there twice")]
    Twice(String),
    /// There are too many keys or bytes.
    #[error("more than {KEYS_MAX} keys or {BYTES_MAX} bytes of extra data")]
    TooMuch,
}

/// The data, and the header section without its fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtractedExtra {
    /// The values by key. Each word of a key has a capital, as in `User-Id`.
    pub extra: BTreeMap<String, String>,
    /// None: the section has no such fields.
    pub section: Option<Vec<u8>>,
}

/// Extracts the data from a header section.
///
/// # Errors
/// If a key is missing, is there twice, or there is too much data.
pub fn extract(section: &[u8]) -> Result<ExtractedExtra, ExtraError> {
    let mut extracted = ExtractedExtra::default();
    let mut rest = Vec::new();
    let mut bytes = 0;
    for field in fields(section) {
        let Some((name, value)) = parse(field) else {
            rest.push(field);
            continue;
        };
        if name.is_empty() {
            let field = String::from_utf8_lossy(field);
            let name = field.split(':').next().unwrap_or_default();
            return Err(ExtraError::NoKey(name.trim().to_owned()));
        }
        let key = canonical(&name);
        bytes += key.len() + value.len();
        if extracted.extra.len() >= KEYS_MAX || bytes > BYTES_MAX {
            return Err(ExtraError::TooMuch);
        }
        if extracted.extra.insert(key.clone(), value).is_some() {
            return Err(ExtraError::Twice(key));
        }
    }
    if !extracted.extra.is_empty() {
        extracted.section = Some(rest.concat());
    }
    Ok(extracted)
}

/// The fields of a section, each with its folded lines and CRLFs.
fn fields(section: &[u8]) -> Vec<&[u8]> {
    let mut fields = Vec::new();
    let mut start = 0;
    for (at, _) in section
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n')
    {
        let next = at + 1;
        // A line that begins with white space belongs to the field before it.
        if !matches!(section.get(next), Some(b' ' | b'\t')) {
            fields.extend(section.get(start..next));
            start = next;
        }
    }
    fields.extend(section.get(start..).filter(|rest| !rest.is_empty()));
    fields
}

/// The key and the value of a field with data.
fn parse(field: &[u8]) -> Option<(String, String)> {
    let colon = field.iter().position(|byte| *byte == b':')?;
    let (name, value) = field.split_at_checked(colon)?;
    let name = std::str::from_utf8(name).ok()?.trim_end();
    let lower = name.to_ascii_lowercase();
    let key = PREFIXES
        .iter()
        .find_map(|prefix| lower.strip_prefix(prefix))?;
    let value = String::from_utf8_lossy(value.get(1..)?).replace(['\r', '\n'], "");
    Some((key.to_owned(), value.trim().to_owned()))
}

/// Gives each word between hyphens a capital.
fn canonical(lower: &str) -> String {
    let mut start = true;
    let spell = |c: char| {
        let spelled = if start { c.to_ascii_uppercase() } else { c };
        start = c == '-';
        spelled
    };
    lower.chars().map(spell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_taken_out() {
        let section = b"From: a@x.example\r\nx-mox-EXTRA-user-id: 7\r\nSubject: b\r\n c\r\nX-Postrider-Extra-Note:\r\n\t two\r\n lines \r\nTo: d\r\n";
        let extracted = extract(section).unwrap();
        let expected = [("User-Id", "7"), ("Note", "two lines")];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(extracted.extra, BTreeMap::from(expected));
        assert_eq!(
            extracted.section.unwrap(),
            b"From: a@x.example\r\nSubject: b\r\n c\r\nTo: d\r\n"
        );
    }

    #[test]
    fn a_section_without_stays() {
        for section in [
            "",
            "From: a@x.example\r\n",
            "X-Mox-Extr: a\r\n",
            "X-Mox-Extra-a\r\n",
        ] {
            assert_eq!(
                extract(section.as_bytes()),
                Ok(ExtractedExtra::default()),
                "{section}"
            );
        }
    }

    #[test]
    fn bad_fields_are_refused() {
        let twice = b"X-Mox-Extra-a: 1\r\nX-Postrider-Extra-A: 2\r\n";
        assert_eq!(extract(twice), Err(ExtraError::Twice("A".into())));
        let none = b"X-Mox-Extra-: 1\r\n";
        assert_eq!(extract(none), Err(ExtraError::NoKey("X-Mox-Extra-".into())));
        let large = format!("X-Mox-Extra-a: {}\r\n", "x".repeat(BYTES_MAX));
        assert_eq!(extract(large.as_bytes()), Err(ExtraError::TooMuch));
        let many: String = (0..=KEYS_MAX)
            .map(|key| format!("X-Mox-Extra-{key}: 1\r\n"))
            .collect();
        assert_eq!(extract(many.as_bytes()), Err(ExtraError::TooMuch));
    }
}
