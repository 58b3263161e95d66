//! Keys of the index: their bytes sort as the values do.

use std::sync::Arc;

use crate::Time;

/// A name: of a destination, a URL, an account or a mailbox.
pub(crate) type Name = Arc<str>;

/// The key of a table.
pub(crate) trait Key: Ord + Clone + Send + Sync + 'static {
    /// Appends the bytes of the key. No key's bytes are the beginning of another key's.
    fn encode(&self, out: &mut Vec<u8>);
    /// Takes a key off the front of the bytes. None if they are of no such key.
    fn decode(bytes: &mut &[u8]) -> Option<Self>;
}

/// The key that takes up all of `bytes`.
pub(crate) fn decode<K: Key>(mut bytes: &[u8]) -> Option<K> {
    let key = K::decode(&mut bytes)?;
    bytes.is_empty().then_some(key)
}

fn split<'a>(bytes: &mut &'a [u8], at: usize) -> Option<&'a [u8]> {
    let (front, rest) = bytes.split_at_checked(at)?;
    *bytes = rest;
    Some(front)
}

impl Key for u64 {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.to_be_bytes());
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        Some(Self::from_be_bytes(*split(bytes, 8)?.first_chunk()?))
    }
}

impl Key for u32 {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.to_be_bytes());
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        Some(Self::from_be_bytes(*split(bytes, 4)?.first_chunk()?))
    }
}

impl Key for u8 {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self);
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        split(bytes, 1)?.first().copied()
    }
}

impl<const N: usize> Key for [u8; N] {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self);
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        split(bytes, N)?.first_chunk().copied()
    }
}

/// With the sign bit turned, so that times before 1970 sort first.
impl Key for Time {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.0.cast_unsigned() ^ (1 << 63)).encode(out);
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        Some(Self((u64::decode(bytes)? ^ (1 << 63)).cast_signed()))
    }
}

/// The bytes of the name, each 0 followed by 255, and two zeros at the end.
impl Key for Name {
    fn encode(&self, out: &mut Vec<u8>) {
        for byte in self.bytes() {
            out.push(byte);
            if byte == 0 {
                out.push(0xff);
            }
        }
        out.extend([0, 0]);
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let mut text = Vec::new();
        loop {
            let zero = bytes.iter().position(|byte| *byte == 0)?;
            text.extend(split(bytes, zero)?);
            match split(bytes, 2)? {
                [_, 0xff] => text.push(0),
                [_, 0] => return String::from_utf8(text).ok().map(Into::into),
                _ => return None,
            }
        }
    }
}

impl<A: Key, B: Key> Key for (A, B) {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        Some((A::decode(bytes)?, B::decode(bytes)?))
    }
}

impl<A: Key, B: Key, C: Key> Key for (A, B, C) {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
        self.2.encode(out);
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        Some((A::decode(bytes)?, B::decode(bytes)?, C::decode(bytes)?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::QueueId;

    fn bytes(key: &impl Key) -> Vec<u8> {
        let mut out = Vec::new();
        key.encode(&mut out);
        out
    }

    fn keys() -> impl Strategy<Value = (Name, Time, QueueId)> {
        // Few letters, so that one name is often the beginning of the other.
        ("[\0\u{1}a\u{ff}]{0,4}", any::<i64>(), any::<u64>())
            .prop_map(|(name, time, id)| (name.into(), Time(time), QueueId(id)))
    }

    /// These are stored bytes: other forms need another format of the index.
    #[test]
    fn the_bytes_of_keys_are_fixed() {
        assert_eq!(bytes(&7_u64), [0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(bytes(&258_u32), [0, 0, 1, 2]);
        assert_eq!(bytes(&Time(-1)), [0x7f, 255, 255, 255, 255, 255, 255, 255]);
        assert_eq!(bytes(&Time(1)), [0x80, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(bytes(&Name::from("a\0b")), *b"a\0\xffb\0\0");
        assert_eq!(bytes(&(1_u8, Name::from(""))), [1, 0, 0]);
        assert_eq!(bytes(&([3, 0], 1_u8)), [3, 0, 1]);
        assert_eq!(decode::<[u8; 2]>(&[3, 0]), Some([3, 0]));
        assert_eq!(decode::<[u8; 2]>(&[3]), None);
    }

    proptest! {
        #[test]
        fn bytes_sort_as_keys_and_come_back(a in keys(), b in keys()) {
            prop_assert_eq!(bytes(&a).cmp(&bytes(&b)), a.cmp(&b));
            prop_assert_eq!(decode(&bytes(&a)), Some(a));
        }

        #[test]
        fn other_bytes_are_no_key(junk in any::<Vec<u8>>()) {
            if let Some(key) = decode::<(Name, Time, QueueId)>(&junk) {
                prop_assert_eq!(bytes(&key), junk);
            }
        }
    }
}
