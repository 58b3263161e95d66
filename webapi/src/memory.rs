//! What reading a request takes of memory.

use crate::error::ApiError;

/// What has no more bytes counts as nothing.
pub(crate) const SMALL: u64 = 16 << 10;
/// How many copies of a text there are at most while a message is made of it: the JSON, what was read of it, its lines, and
/// their transfer encoding.
pub(crate) const COPIES: u64 = 6;
/// What a value of JSON takes besides its text, at most.
const VALUE: u64 = 128;
/// The most values in a request.
const VALUES_MAX: u64 = 1_000_000;

/// Counts what reading a text of JSON will take.
#[derive(Debug, Default)]
pub(crate) struct JsonSize {
    bytes: u64,
    values: u64,
}

impl JsonSize {
    /// The next piece of the text.
    pub(crate) fn add(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        // Those within strings count too. It is an upper bound.
        let marks = piece
            .iter()
            .filter(|byte| matches!(byte, b',' | b'[' | b'{'));
        self.values += marks.count() as u64;
    }

    /// Bytes of memory.
    ///
    /// # Errors
    /// If there are more values than any request needs.
    pub(crate) fn memory(&self) -> Result<u64, ApiError> {
        if self.bytes <= SMALL {
            return Ok(0);
        }
        if self.values > VALUES_MAX {
            let text = format!("the request has more than {VALUES_MAX} values");
            return Err(ApiError::protocol(text));
        }
        Ok(self.bytes * COPIES + self.values * VALUE)
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
    fn values_count_and_there_is_an_end_of_them() {
        assert_eq!(memory("{}").unwrap(), 0);
        assert_eq!(memory(&"\"".repeat(20_000)).unwrap(), 120_000);
        let list = "0,".repeat(20_000);
        assert_eq!(memory(&list).unwrap(), 240_000 + 2_560_000);
        assert!(memory(&",".repeat(1_000_001)).is_err());
    }
}
