//! Values of the index: a byte that says their version, then their postcard encoding.
//!
//! A type that changes gets a new version, and a branch that reads the old one.

use serde::Serialize;

use crate::error::Fault;

/// A value of a table.
pub(crate) trait Value: Clone + Send + Sync + 'static {
    /// Appends the bytes of the value.
    fn encode(&self, out: &mut Vec<u8>);
    /// The value of these bytes.
    fn decode(bytes: &[u8]) -> Result<Self, Unreadable>;
}

/// Why bytes can't be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    /// A newer program wrote them.
    #[error(
        "written by a newer postrider: version {found}, and this program knows versions up to {known}"
    )]
    Newer {
        /// Their version.
        found: u8,
        /// The latest that this program reads.
        known: u8,
    },
    /// They are of no subject that this program knows.
    #[error(
        "written by a newer postrider: about something with the tag {0}, which this program does not know"
    )]
    NewerTag(u8),
    /// They are of a subject whose name this program does not know.
    #[error("written by a newer postrider: this program does not know that subject")]
    NewerSubject,
    /// They are not what was written.
    #[error("bytes that make no sense")]
    Senseless,
}

impl Unreadable {
    /// For a record of this table.
    pub(crate) const fn in_table(self, table: &'static str) -> Fault {
        match self {
            Self::Senseless => Fault::Record {
                table,
                what: "value",
            },
            newer => Fault::Newer { table, newer },
        }
    }
}

/// The value of a table in which only the keys count.
impl Value for () {
    fn encode(&self, _: &mut Vec<u8>) {}

    fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        match bytes.is_empty() {
            true => Ok(()),
            false => Err(Unreadable::Senseless),
        }
    }
}

/// Appends the postcard encoding.
pub(crate) fn append(value: &impl Serialize, out: &mut Vec<u8>) {
    let buffer = std::mem::take(out);
    // Writing to memory fails only for types that postcard has no form for. There are none here.
    *out = postcard::to_extend(value, buffer).unwrap_or_default();
}

/// Reads what was encoded in version `found`, if this program's version is the same.
pub(crate) fn read<T: serde::de::DeserializeOwned>(
    found: u8,
    known: u8,
    bytes: &[u8],
) -> Result<T, Unreadable> {
    if found == known {
        return postcard::from_bytes(bytes).map_err(|_| Unreadable::Senseless);
    }
    Err(match found > known {
        true => Unreadable::Newer { found, known },
        false => Unreadable::Senseless,
    })
}

/// Makes types values of tables, each in this version.
macro_rules! records {
    ($($record:ty: version $version:literal,)*) => {$(
        impl $crate::table::value::Value for $record {
            fn encode(&self, out: &mut Vec<u8>) {
                out.push($version);
                $crate::table::value::append(self, out);
            }

            fn decode(bytes: &[u8]) -> Result<Self, $crate::table::value::Unreadable> {
                match bytes.split_first() {
                    Some((found, rest)) => $crate::table::value::read(*found, $version, rest),
                    None => Err($crate::table::value::Unreadable::Senseless),
                }
            }
        }
    )*};
}
pub(crate) use records;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_told_apart_from_damage() {
        assert_eq!(read::<u8>(2, 2, &[7]), Ok(7));
        let newer = Unreadable::Newer { found: 3, known: 2 };
        assert_eq!(read::<u8>(3, 2, &[7]), Err(newer));
        assert!(newer.to_string().contains("newer postrider"));
        assert_eq!(read::<u8>(1, 2, &[7]), Err(Unreadable::Senseless));
        assert_eq!(read::<u8>(2, 2, &[]), Err(Unreadable::Senseless));
        let fault = newer.in_table("queued").to_string();
        assert!(fault.contains("newer postrider") && !fault.contains("damaged"));
    }
}
