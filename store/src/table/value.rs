//! Values of the index: a byte that says their version, then their postcard encoding.
//!
//! A type that changes gets a new version, and a conversion from the shape that the old version had
//! (see [`records`]). The index names the versions of all its tables, so that an older program
//! refuses it before it reads a record.

use serde::Serialize;

use crate::error::Fault;

/// A value of a table.
pub(crate) trait Value: Clone + Send + Sync + 'static {
    /// The version in which the value is written. 0: the value has no bytes.
    const VERSION: u8;
    /// The value belongs to a sorted way to records, and is no record itself.
    const IS_WAY: bool;

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
    /// They are of a version that this program does not read any more.
    #[error("of version {0}, which this program does not read any more")]
    Older(u8),
    /// They are of no subject that this program knows.
    #[error(
        "written by a newer postrider: about something with the tag {0}, which this program does not know"
    )]
    NewerTag(u8),
    /// They are of something whose name this program does not know.
    #[error("written by a newer postrider: this program does not know that name")]
    NewerName,
    /// They are not what was written.
    #[error("bytes that make no sense")]
    Senseless,
}

impl Unreadable {
    /// Whether a newer program wrote the bytes.
    pub(crate) const fn is_newer(self) -> bool {
        matches!(
            self,
            Self::Newer { .. } | Self::NewerTag(_) | Self::NewerName
        )
    }

    /// For a record of this table.
    pub(crate) const fn in_table(self, table: &'static str) -> Fault {
        match self {
            Self::Senseless => Fault::Record {
                table,
                what: "value",
            },
            version => Fault::Version { table, version },
        }
    }
}

/// The value of a table in which only the keys count.
impl Value for () {
    const VERSION: u8 = 0;
    const IS_WAY: bool = true;

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

/// Reads a value that has exactly these bytes. Bytes behind it would be fields that this program
/// does not know.
pub(crate) fn exactly<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Unreadable> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(Unreadable::Senseless),
    }
}

/// Reads the version of a value, and gives it with the rest of the bytes. A version above `known`
/// is an error.
pub(crate) fn version(bytes: &[u8], known: u8) -> Result<(u8, &[u8]), Unreadable> {
    match bytes.split_first() {
        Some((found, _)) if *found > known => Err(Unreadable::Newer {
            found: *found,
            known,
        }),
        Some((found, rest)) => Ok((*found, rest)),
        None => Err(Unreadable::Senseless),
    }
}

/// Makes types records: values of tables. Each line names the type and the version in which it is
/// written.
///
/// A changed type gets the next version, and its old shape stays as a type of its own, from which
/// the new one is made (`From`): `Mail: version 2 [1 => MailV1],`.
macro_rules! records {
    ($($record:ty: version $version:literal $([$($older:literal => $shape:ty),*])?,)*) => {
        $($crate::table::value::value!(false, $record, $version $($(, $older => $shape)*)?);)*
    };
}
pub(crate) use records;

/// Makes types the values of sorted ways to records, as [`records`] does. Such a value is never set
/// aside: without it the ways would lead elsewhere.
macro_rules! ways {
    ($($way:ty: version $version:literal $([$($older:literal => $shape:ty),*])?,)*) => {
        $($crate::table::value::value!(true, $way, $version $($(, $older => $shape)*)?);)*
    };
}
pub(crate) use ways;

macro_rules! value {
    ($is_way:literal, $value:ty, $version:literal $(, $older:literal => $shape:ty)*) => {
        impl $crate::table::value::Value for $value {
            const VERSION: u8 = $version;
            const IS_WAY: bool = $is_way;

            fn encode(&self, out: &mut Vec<u8>) {
                out.push($version);
                $crate::table::value::append(self, out);
            }

            fn decode(bytes: &[u8]) -> Result<Self, $crate::table::value::Unreadable> {
                use $crate::table::value;
                match value::version(bytes, $version)? {
                    ($version, rest) => value::exactly(rest),
                    $(($older, rest) => value::exactly::<$shape>(rest).map(Self::from),)*
                    (found, _) => Err(value::Unreadable::Older(found)),
                }
            }
        }
    };
}
pub(crate) use value;

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// A record whose second version has one field more.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Room {
        name: String,
        seats: u32,
    }

    #[derive(Serialize, Deserialize)]
    struct RoomV2 {
        name: String,
    }

    impl From<RoomV2> for Room {
        fn from(old: RoomV2) -> Self {
            Self {
                name: old.name,
                seats: 1,
            }
        }
    }

    records! {
        Room: version 3 [2 => RoomV2],
    }

    fn room(seats: u32) -> Room {
        Room {
            name: "hall".into(),
            seats,
        }
    }

    fn bytes(version: u8, value: &impl Serialize) -> Vec<u8> {
        let mut bytes = vec![version];
        append(value, &mut bytes);
        bytes
    }

    #[test]
    fn each_known_version_is_read() {
        let mut written = Vec::new();
        room(9).encode(&mut written);
        assert_eq!(written, bytes(3, &room(9)));
        assert_eq!(Room::decode(&written), Ok(room(9)));
        let old = RoomV2 {
            name: "hall".into(),
        };
        assert_eq!(Room::decode(&bytes(2, &old)), Ok(room(1)));
    }

    #[test]
    fn a_version_is_told_apart_from_damage() {
        let newer = Unreadable::Newer { found: 4, known: 3 };
        assert_eq!(Room::decode(&bytes(4, &room(9))), Err(newer));
        assert!(newer.is_newer() && newer.to_string().contains("newer postrider"));
        assert_eq!(Room::decode(&bytes(1, &room(9))), Err(Unreadable::Older(1)));
        assert_eq!(Room::decode(&[3]), Err(Unreadable::Senseless));
        assert_eq!(Room::decode(&[]), Err(Unreadable::Senseless));
        let fault = newer.in_table("queued").to_string();
        assert!(fault.contains("newer postrider") && !fault.contains("damaged"));
    }

    /// A stricter parser makes no stored record unreadable.
    #[test]
    fn an_address_that_no_parser_takes_any_more_is_read() {
        use postrider_smtp::{Address, Domain, ReversePath};
        let stored = |text: &str| {
            let mut bytes = Vec::new();
            append(&text, &mut bytes);
            bytes
        };
        for (text, shown) in [
            ("a..b@-x-.example", "\"a..b\"@-x-.example"),
            ("\"a b\"@x..example", "\"a b\"@x..example"),
            ("a b@x.example", "\"a b\"@x.example"),
        ] {
            assert!(Address::parse(text).is_err() || text == shown, "{text}");
            let bytes = stored(text);
            let address: Address = exactly(&bytes).unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(exactly::<Address>(&stored(shown)), Ok(address.clone()));
            let path: ReversePath = exactly(&bytes).unwrap();
            assert_eq!(path.address(), Some(&address));
        }
        assert!(exactly::<Domain>(&stored("-x-.example")).is_ok());
        // Nothing that could end a line on the wire.
        for text in [
            "a\r\n@-x-.example",
            "a@-x.example\r\nRSET",
            "a@-x-.example>",
            "-",
        ] {
            assert!(exactly::<Address>(&stored(text)).is_err(), "{text:?}");
        }
    }

    #[test]
    fn further_bytes_are_not_dropped_silently() {
        let mut longer = bytes(3, &room(9));
        longer.push(7);
        assert_eq!(Room::decode(&longer), Err(Unreadable::Senseless));
    }
}
