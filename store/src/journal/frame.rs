//! The bytes of segment headers and entries.

/// Batches begin at multiples of this many bytes, so that no acknowledged byte lies in a block that
/// is written again.
pub(super) const BLOCK: u64 = 4096;
/// Entries begin at multiples of this many bytes.
pub(super) const ALIGN: usize = 8;
/// The bytes of an entry before its payload.
pub(super) const ENTRY_HEADER: usize = 32;
/// The bytes of the payload of a [`Kind::Start`] entry.
pub(super) const START_PAYLOAD: usize = 24;
/// The bytes of a [`Kind::Start`] entry.
pub(super) const START_ENTRY: usize = ENTRY_HEADER + START_PAYLOAD;
/// The offset of the first entry of a segment.
pub(super) const FIRST: u64 = BLOCK;
/// The bytes of a segment's header, at the beginning of its first block. The header fits in one
/// sector.
pub(super) const SEGMENT_HEADER: usize = 64;
/// The version of the format that this program writes. The program reads this version and all
/// earlier ones.
pub(crate) const FORMAT: u32 = 1;

const MAGIC: [u8; 8] = *b"postrJNL";
const LAST: u8 = 1;

/// The kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The first entry of a segment. It says where the segment before ended.
    Start,
    /// An op of the caller.
    Op,
    /// A kind that this program does not know.
    Unknown(u8),
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Start => 1,
            Self::Op => 2,
            Self::Unknown(code) => code,
        }
    }

    /// The kind of a code. Zero is not a kind, so that a run of zeros is not an entry.
    const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => None,
            1 => Some(Self::Start),
            2 => Some(Self::Op),
            code => Some(Self::Unknown(code)),
        }
    }
}

/// The start value of the checksums of a segment's entries. It follows from the segment's
/// generation and its random salt. So neither bytes of the segment's earlier lives nor bytes that
/// the author of a message chose can validate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seed(u32);

/// The header of a segment. It is written and synced before the segment is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) generation: u64,
    pub(super) salt: u64,
    /// The bytes of the file.
    pub(super) size: u64,
}

/// Why a segment's header cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// The header does not validate.
    Invalid,
    /// The header has this later version.
    Newer(u32),
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|chunk| u32::from_le_bytes(*chunk))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|chunk| u64::from_le_bytes(*chunk))
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER);
        bytes.extend(MAGIC);
        bytes.extend(FORMAT.to_le_bytes());
        let mut rest = Vec::with_capacity(SEGMENT_HEADER);
        rest.extend(self.generation.to_le_bytes());
        rest.extend(self.salt.to_le_bytes());
        rest.extend(self.size.to_le_bytes());
        rest.resize(SEGMENT_HEADER - 16, 0);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes), &rest);
        bytes.extend(crc.to_le_bytes());
        bytes.extend(rest);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let bytes = bytes.get(..SEGMENT_HEADER).ok_or(BadHeader::Invalid)?;
        let (head, rest) = bytes.split_at(16);
        if !head.starts_with(&MAGIC) {
            return Err(BadHeader::Invalid);
        }
        // The version comes first. A later version may change everything behind it, the checksum
        // included.
        let version = u32_at(head, 8).unwrap_or_default();
        if version > FORMAT {
            return Err(BadHeader::Newer(version));
        }
        let crc = crc32c::crc32c_append(crc32c::crc32c(head.get(..12).unwrap_or_default()), rest);
        if version == 0 || u32_at(head, 12) != Some(crc) {
            return Err(BadHeader::Invalid);
        }
        let field = |at| u64_at(rest, at).ok_or(BadHeader::Invalid);
        Ok(Self {
            generation: field(0)?,
            salt: field(8)?,
            size: field(16)?,
        })
    }

    pub(super) fn seed(&self) -> Seed {
        Seed(crc32c::crc32c_append(
            crc32c::crc32c(&self.salt.to_le_bytes()),
            &self.generation.to_le_bytes(),
        ))
    }
}

/// The header of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryHeader {
    pub(super) kind: Kind,
    /// The caller's version of the op.
    pub(super) version: u8,
    /// Whether the entry is the last of its batch.
    pub(super) last: bool,
    pub(super) batch: u64,
    pub(super) op_len: u32,
    pub(super) text_len: u32,
    pub(super) op_crc: u32,
    pub(super) text_crc: u32,
}

impl EntryHeader {
    /// The offset of the number of the batch in the header.
    pub(super) const BATCH: u64 = 8;

    /// The header for an entry at `offset` of a segment.
    pub(super) fn encode(&self, seed: Seed, offset: u32) -> [u8; ENTRY_HEADER] {
        let mut bytes = [0; ENTRY_HEADER];
        let fields: [&[u8]; 8] = [
            &[0; 4],
            &[
                self.kind.code(),
                self.version,
                if self.last { LAST } else { 0 },
                0,
            ],
            &self.batch.to_le_bytes(),
            &self.op_len.to_le_bytes(),
            &self.text_len.to_le_bytes(),
            &self.op_crc.to_le_bytes(),
            &self.text_crc.to_le_bytes(),
            &[],
        ];
        let mut rest = bytes.as_mut_slice();
        for field in fields {
            let (place, after) = rest.split_at_mut(field.len());
            place.copy_from_slice(field);
            rest = after;
        }
        let crc = header_crc(seed, offset, &bytes).to_le_bytes();
        if let Some(place) = bytes.first_chunk_mut() {
            *place = crc;
        }
        bytes
    }

    /// The header in the first bytes of `bytes`, which were read at `offset`. None if it does not
    /// validate.
    pub(super) fn decode(bytes: &[u8], seed: Seed, offset: u32) -> Option<Self> {
        let bytes: &[u8; ENTRY_HEADER] = bytes.first_chunk()?;
        let kind = Kind::from_code(bytes[4])?;
        if bytes[6] & !LAST != 0
            || bytes[7] != 0
            || u32_at(bytes, 0)? != header_crc(seed, offset, bytes)
        {
            return None;
        }
        Some(Self {
            kind,
            version: bytes[5],
            last: bytes[6] == LAST,
            batch: u64_at(bytes, 8)?,
            op_len: u32_at(bytes, 16)?,
            text_len: u32_at(bytes, 20)?,
            op_crc: u32_at(bytes, 24)?,
            text_crc: u32_at(bytes, 28)?,
        })
    }

    /// The bytes of the whole entry without the padding behind it.
    pub(super) fn entry_len(&self) -> u64 {
        ENTRY_HEADER as u64 + u64::from(self.op_len) + u64::from(self.text_len)
    }

    /// Whether `payload` (op and text) is the payload that the header was made for.
    pub(super) fn fits(&self, payload: &[u8]) -> bool {
        let Some((op, text)) = payload.split_at_checked(self.op_len as usize) else {
            return false;
        };
        text.len() == self.text_len as usize
            && crc32c::crc32c(op) == self.op_crc
            && crc32c::crc32c(text) == self.text_crc
    }
}

/// The checksum of a header. It covers the offset too, so that a copy of an entry at another place,
/// for example in a mailed copy of a segment, is not an entry.
fn header_crc(seed: Seed, offset: u32, bytes: &[u8; ENTRY_HEADER]) -> u32 {
    let (_, rest) = bytes.split_at(4);
    crc32c::crc32c_append(crc32c::crc32c_append(seed.0, &offset.to_le_bytes()), rest)
}

/// The end of a journal at the beginning of a later segment. It is the payload of a [`Kind::Start`]
/// entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// The generation of the segment before. 0 if there was none.
    pub(super) generation: u64,
    /// The first byte behind its last valid entry. The bytes from there on were never acknowledged.
    pub(super) end: u32,
    /// The last batch that counts. 0 if there was none.
    pub(super) batch: u64,
}

impl Link {
    pub(super) const NONE: Self = Self {
        generation: 0,
        end: 0,
        batch: 0,
    };

    pub(super) fn encode(&self) -> [u8; START_PAYLOAD] {
        let mut bytes = [0; START_PAYLOAD];
        let [generation, end, batch] =
            [self.generation, u64::from(self.end), self.batch].map(u64::to_le_bytes);
        for (place, field) in bytes.chunks_exact_mut(8).zip([generation, end, batch]) {
            place.copy_from_slice(&field);
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != START_PAYLOAD {
            return None;
        }
        let end = u32::try_from(u64_at(bytes, 8)?).ok()?;
        Some(Self {
            generation: u64_at(bytes, 0)?,
            end,
            batch: u64_at(bytes, 16)?,
        })
    }
}

/// The next multiple of [`ALIGN`].
pub(super) const fn align(len: usize) -> usize {
    len.next_multiple_of(ALIGN)
}

/// The next multiple of [`BLOCK`].
pub(super) const fn align_block(offset: u64) -> u64 {
    offset.next_multiple_of(BLOCK)
}
