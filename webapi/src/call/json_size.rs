//! Estimates the memory that it takes to read JSON.

use postrider_webhook::MemoryBudget;

use crate::error::ApiError;

/// The most copies of a text in memory while a message is made of it: the JSON, its values, their
/// lines, and their transfer encoding.
pub(crate) const COPIES: u64 = 6;
/// The most bytes that a value of JSON takes besides its text.
const VALUE: u64 = 128;
/// The most bytes that an object takes besides its members: the library allocates several members
/// at once.
const OBJECT: u64 = 512;
/// The most values in a request.
const VALUES_MAX: u64 = 1_000_000;

/// Counts the bytes and values of a text of JSON.
#[derive(Debug, Default)]
pub(crate) struct JsonSize {
    bytes: u64,
    values: u64,
    objects: u64,
    in_string: bool,
    /// The byte before was a backslash that begins an escape.
    escaped: bool,
}

impl JsonSize {
    /// Counts the next piece of the text.
    pub(crate) fn add(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        for byte in piece {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                b',' | b'[' if !self.in_string => self.values += 1,
                b'{' if !self.in_string => {
                    self.values += 1;
                    self.objects += 1;
                }
                _ => {}
            }
        }
    }

    /// The bytes of memory that it takes to read the text.
    ///
    /// # Errors
    /// If the text has more values than any request needs.
    pub(crate) fn memory(&self) -> Result<u64, ApiError> {
        if self.bytes <= MemoryBudget::SMALL {
            return Ok(0);
        }
        if self.values > VALUES_MAX {
            let text = format!("the request has more than {VALUES_MAX} values");
            return Err(ApiError::protocol(text));
        }
        Ok(self.bytes * COPIES + self.values * VALUE + self.objects * OBJECT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(text: &str) -> Result<u64, ApiError> {
        let mut size = JsonSize::default();
        let (first, second) = text.as_bytes().split_at(text.len() / 2);
        size.add(first);
        size.add(second);
        size.memory()
    }

    #[test]
    fn values_count_and_are_limited() {
        assert_eq!(memory("{}").unwrap(), 0);
        let list = "0,".repeat(20_000);
        assert_eq!(memory(&list).unwrap(), 240_000 + 2_560_000);
        let objects = "{},".repeat(10_000);
        assert_eq!(memory(&objects).unwrap(), 180_000 + 2_560_000 + 5_120_000);
        assert!(memory(&",".repeat(1_000_001)).is_err());
    }

    #[test]
    fn signs_within_a_string_are_no_values() {
        let text = format!(r#"{{"Text": "{}\""}}"#, r#",[{\""#.repeat(5000));
        assert_eq!(
            memory(&text).unwrap(),
            text.len() as u64 * COPIES + VALUE + OBJECT
        );
    }
}
