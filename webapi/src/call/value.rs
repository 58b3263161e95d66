//! Values in requests: addresses and times.

use jiff::{Timestamp, Zoned, fmt::temporal::Pieces, tz::TimeZone};
use postrider_smtp::Address;

use crate::error::{ApiError, Code};

/// Reads an address.
pub(crate) fn address(text: &str) -> Result<Address, ApiError> {
    Address::parse(text.trim()).map_err(|error| {
        ApiError::new(
            Code::BadAddress,
            format!("parsing address {text:?}: {error}"),
        )
    })
}

/// The number of bytes in pairs of texts.
pub(crate) fn lengths<'a>(pairs: impl IntoIterator<Item = (&'a String, &'a String)>) -> usize {
    let pairs = pairs.into_iter();
    pairs.map(|(name, value)| name.len() + value.len()).sum()
}

/// Reads a time (RFC 3339 §5.6) with its offset. `jiff` alone reads more forms, which other servers
/// refuse.
///
/// # Errors
/// A text that says what is wrong.
pub(crate) fn rfc3339(text: &str) -> Result<Zoned, String> {
    let wrong = |what: &str| format!("{text:?} is not an RFC 3339 time: {what}");
    if !has_form(text.as_bytes()) {
        return Err(wrong("one looks like 2026-12-24T18:00:00Z"));
    }
    let time: Timestamp = text
        .parse()
        .map_err(|error: jiff::Error| wrong(&error.to_string()))?;
    let offset = Pieces::parse(text)
        .ok()
        .and_then(|pieces| pieces.to_numeric_offset());
    Ok(time.to_zoned(offset.map_or(TimeZone::UTC, TimeZone::fixed)))
}

fn has_form(text: &[u8]) -> bool {
    let Some((time, rest)) = text.split_at_checked(19) else {
        return false;
    };
    let rest = match rest.strip_prefix(b".") {
        None => rest,
        Some(rest) => {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            match rest.split_at_checked(digits) {
                Some((_, rest)) if digits > 0 => rest,
                _ => return false,
            }
        }
    };
    let zone = match rest {
        [b'+' | b'-', offset @ ..] => is_like(offset, b"00:00"),
        zone => zone == b"Z",
    };
    zone && is_like(time, b"0000-00-00T00:00:00")
}

/// Whether `text` has a digit for each 0 of `form`, and all other bytes are the same.
fn is_like(text: &[u8], form: &[u8]) -> bool {
    let same = |(byte, form): (&u8, &u8)| match form {
        b'0' => byte.is_ascii_digit(),
        form => byte == form,
    };
    text.len() == form.len() && text.iter().zip(form).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_offset() {
        let time = rfc3339("2023-11-14T22:13:20.5+01:00").unwrap();
        assert_eq!(time.offset().seconds(), 3600);
        assert_eq!(time.timestamp().as_second(), 1_699_996_400);
        assert!(rfc3339("2023-11-14T22:13:20Z").is_ok());
    }

    #[test]
    fn other_forms_of_times_are_refused() {
        for text in [
            "yesterday",
            "",
            "2023-11-14",
            "2023-11-14 22:13:20Z",
            "2023-11-14t22:13:20z",
            "2023-11-14T22:13Z",
            "2023-11-14T22:13:20",
            "2023-11-14T22:13:20.Z",
            "2023-11-14T22:13:20+01",
            "2023-11-14T22:13:20Z[UTC]",
            "20231114T221320Z",
            "-002023-11-14T22:13:20Z",
            "2023-02-29T22:13:20Z",
            "2023-11-14T25:13:20Z",
        ] {
            assert!(rfc3339(text).is_err(), "{text}");
        }
    }
}
