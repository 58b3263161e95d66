//! The framing of the protocol: a length of four bytes, a byte for the kind, and data.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::super::answer::Failure;

/// The longest packet that is read. It has room for the largest data size that is offered.
pub(super) const PACKET_MAX: usize = (1 << 20) + (1 << 16);

/// A packet without its length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    /// The command or the reply.
    pub(super) kind: u8,
    /// The bytes behind it.
    pub(super) data: Bytes,
}

/// Reads packets from bytes that come in pieces.
#[derive(Debug, Default)]
pub(super) struct PacketReader {
    buffer: BytesMut,
}

/// The bytes are not a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PacketError {
    /// The length is zero, so that there is no kind.
    #[error("a packet of no bytes")]
    Empty,
    /// The length is beyond the limit.
    #[error("a packet of {0} bytes, which is more than {1}")]
    TooLong(usize, usize),
}

impl PacketReader {
    /// Takes bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The number of bytes that wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.buffer.len()
    }

    /// The next packet. None if it is not there as a whole. The length of a packet is checked
    /// before its bytes come.
    ///
    /// # Errors
    /// If the packet is empty or too long. From there on nothing can be read.
    pub(super) fn next(&mut self) -> Result<Option<Packet>, PacketError> {
        let Some(length) = self.buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        // A length that does not fit is beyond all limits.
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length == 0 {
            return Err(PacketError::Empty);
        }
        if length > PACKET_MAX {
            return Err(PacketError::TooLong(length, PACKET_MAX));
        }
        if self.buffer.len() - 4 < length {
            return Ok(None);
        }
        self.buffer.advance(4);
        let mut packet = self.buffer.split_to(length);
        let kind = packet.get_u8();
        let data = packet.freeze();
        Ok(Some(Packet { kind, data }))
    }
}

/// Appends a packet whose data is these parts.
pub(super) fn write(out: &mut BytesMut, kind: u8, parts: &[&[u8]]) {
    let length: usize = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
    // All parts are within limits far below this one.
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    out.put_u8(kind);
    for part in parts {
        out.put_slice(part);
    }
}

/// The data of a packet that is being read.
#[derive(Debug)]
pub(super) struct Fields {
    rest: Bytes,
}

impl Fields {
    /// The fields in this data.
    #[must_use]
    pub(super) const fn of(data: Bytes) -> Self {
        Self { rest: data }
    }

    /// Whether all is read.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// A number of four bytes. None if there are fewer bytes.
    pub(super) fn number(&mut self) -> Option<u32> {
        self.rest.try_get_u32().ok()
    }

    /// A string up to its NUL. None if there is no NUL.
    pub(super) fn string(&mut self) -> Option<Bytes> {
        let end = memchr::memchr(0, &self.rest)?;
        let string = self.rest.split_to(end);
        self.rest.advance(1);
        Some(string)
    }

    /// All that is left.
    pub(super) fn all(&mut self) -> Bytes {
        std::mem::take(&mut self.rest)
    }

    /// All that is left, without a NUL at the end. None if there is another NUL in it.
    pub(super) fn last_string(&mut self) -> Option<Bytes> {
        let mut string = self.all();
        if string.last() == Some(&0) {
            string.truncate(string.len() - 1);
        }
        memchr::memchr(0, &string).is_none().then_some(string)
    }
}

impl From<PacketError> for Failure {
    fn from(error: PacketError) -> Self {
        Self::invalid(format_args!("the filter sends {error}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(kind: u8, data: &'static [u8]) -> Packet {
        let data = Bytes::from_static(data);
        Packet { kind, data }
    }

    #[test]
    fn a_packet_has_its_length_before_it() {
        let mut out = BytesMut::new();
        write(&mut out, b'c', &[]);
        write(&mut out, b'h', &[b"A", b"\0", b"b\0"]);
        assert_eq!(out, b"\0\0\0\x01c\0\0\0\x05hA\0b\0".as_slice());
        let mut reader = PacketReader::default();
        reader.push(&out);
        assert_eq!(reader.next(), Ok(Some(packet(b'c', b""))));
        assert_eq!(reader.next(), Ok(Some(packet(b'h', b"A\0b\0"))));
        assert_eq!((reader.next(), reader.waiting()), (Ok(None), 0));
    }

    #[test]
    fn a_length_is_checked_before_its_bytes_come() {
        let max = u32::try_from(PACKET_MAX).unwrap();
        for (length, expected) in [
            (0, Err(PacketError::Empty)),
            (1, Ok(None)),
            (max, Ok(None)),
            (
                max + 1,
                Err(PacketError::TooLong(PACKET_MAX + 1, PACKET_MAX)),
            ),
            (
                u32::MAX,
                Err(PacketError::TooLong(u32::MAX as usize, PACKET_MAX)),
            ),
        ] {
            let mut reader = PacketReader::default();
            for byte in length.to_be_bytes() {
                assert_eq!(reader.next(), Ok(None), "{length}");
                reader.push(&[byte]);
            }
            assert_eq!(reader.next(), expected, "{length}");
            assert_eq!(reader.next(), expected, "{length}");
        }
    }

    #[test]
    fn fields_are_numbers_and_strings() {
        let of = |data: &'static [u8]| Fields::of(Bytes::from_static(data));
        let text = |string: Option<Bytes>| string.map(|it| String::from_utf8_lossy(&it).into());
        let read = |mut fields: Fields| -> (Option<u32>, Option<String>, Option<String>) {
            let number = fields.number();
            (number, text(fields.string()), text(fields.last_string()))
        };
        let some = |text: &str| Some(text.to_owned());
        for (data, expected) in [
            (
                b"\0\0\0\x07a\0b\0".as_slice(),
                (Some(7), some("a"), some("b")),
            ),
            (b"\0\0\0\x07\0b", (Some(7), some(""), some("b"))),
            (b"\0\0\0\x07a\0", (Some(7), some("a"), some(""))),
            (b"\0\0\0\x07a", (Some(7), None, some("a"))),
            (b"\0\0\0\x07a\0b\0c\0", (Some(7), some("a"), None)),
            (b"\0\0\x07", (None, some(""), None)),
            (b"", (None, None, some(""))),
        ] {
            assert_eq!(read(of(data)), expected, "{data:?}");
        }
        assert!(of(b"").is_empty() && !of(b"\0").is_empty());
    }

    proptest! {
        #[test]
        fn packets_come_through_in_any_pieces(
            packets in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..8),
            step in 1..20_usize,
        ) {
            let mut out = BytesMut::new();
            for (kind, data) in &packets {
                write(&mut out, *kind, &[data]);
            }
            let (mut reader, mut read) = (PacketReader::default(), Vec::new());
            for piece in out.chunks(step) {
                reader.push(piece);
                while let Some(packet) = reader.next().unwrap() {
                    read.push((packet.kind, packet.data.to_vec()));
                }
            }
            prop_assert_eq!(read, packets);
        }
    }
}
