//! A look over JSON from outside, before a parser makes a value of each part. The parser has no
//! other limit than the size.

/// The parts of a JSON text that was read so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Parts {
    /// The most levels of objects and lists.
    pub(crate) levels: usize,
    /// The objects.
    pub(crate) objects: usize,
    /// The commas. Lists and objects have at most one value more than commas each.
    pub(crate) commas: usize,
    depth: usize,
    in_text: bool,
    is_escaped: bool,
}

impl Parts {
    /// The parts of a whole text.
    pub(crate) fn of(json: &[u8]) -> Self {
        let mut parts = Self::default();
        parts.read(json);
        parts
    }

    /// Reads the next piece of the text.
    pub(crate) fn read(&mut self, piece: &[u8]) {
        for byte in piece {
            if self.in_text {
                match (self.is_escaped, byte) {
                    (true, _) => self.is_escaped = false,
                    (false, b'\\') => self.is_escaped = true,
                    (false, b'"') => self.in_text = false,
                    (false, _) => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_text = true,
                b'{' | b'[' => {
                    self.depth += 1;
                    self.levels = self.levels.max(self.depth);
                    self.objects += usize::from(*byte == b'{');
                }
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                b',' => self.commas += 1,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_counted_outside_of_texts() {
        for (json, levels, objects, commas) in [
            ("", 0, 0, 0),
            ("1", 0, 0, 0),
            (r#"{"a":[{},{}],"b":1}"#, 3, 3, 2),
            (r#"["{,[\"{,[", "\\"]"#, 1, 0, 1),
            ("]}[", 1, 0, 0),
        ] {
            let parts = Parts::of(json.as_bytes());
            assert_eq!(
                (parts.levels, parts.objects, parts.commas),
                (levels, objects, commas),
                "{json}"
            );
            // A text may come in any pieces.
            let mut pieces = Parts::default();
            json.as_bytes().chunks(1).for_each(|byte| pieces.read(byte));
            assert_eq!(
                (pieces.levels, pieces.objects, pieces.commas),
                (levels, objects, commas)
            );
        }
    }
}
