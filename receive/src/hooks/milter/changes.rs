//! The changes of a message, as a filter asks for them at its end.

use bytes::{Bytes, BytesMut};
use postrider_smtp::{Address, ReversePath};

use super::{
    super::{
        answer::{Change, Failure},
        draft::in_lines,
        edit::{Edit, Missing, NewField},
    },
    options::Agreed,
    reply::Modification,
};

/// The most bytes of all changes but the body.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// The changes of a message so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    changes: Vec<Change>,
    bytes: usize,
    body: Option<BytesMut>,
    quarantine: Option<String>,
}

/// The limits and the terms of the changes of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    /// What the filter has negotiated.
    pub(super) agreed: &'a Agreed,
    /// The most bytes of a new body.
    pub(super) body_max: usize,
    /// The number of fields that stand above the header section that the filter has seen, and count
    /// in the index of an inserted field.
    pub(super) above: usize,
}

impl Changes {
    /// Adds a change.
    ///
    /// # Errors
    /// If the filter has not negotiated it, it makes no sense, or it is one too many.
    pub(super) fn add(
        &mut self,
        modification: Modification,
        terms: &Terms<'_>,
    ) -> Result<(), Failure> {
        let action = modification.action();
        if !terms.agreed.allows(action) {
            return Err(Failure::invalid(format_args!(
                "the filter changes what it has not negotiated, {action:?}"
            )));
        }
        match modification {
            Modification::ReplaceBody(piece) => return self.add_body(&piece, terms.body_max),
            Modification::Quarantine(reason) => {
                self.spend(reason.len())?;
                self.quarantine = Some(String::from_utf8_lossy(&reason).into_owned());
            }
            Modification::AddHeader { name, value } => {
                let field = self.field(&name, &value, terms)?;
                self.push(Change::Header(Edit::AtEnd(field)));
            }
            Modification::InsertHeader { index, name, value } => {
                let field = self.field(&name, &value, terms)?;
                let index = usize::try_from(index).unwrap_or(usize::MAX);
                let index = index.saturating_sub(terms.above);
                self.push(Change::Header(Edit::At(index, field)));
            }
            Modification::ChangeHeader { index, name, value } => {
                let field = self.field(&name, &value, terms)?;
                // Sendmail takes 0 for the first field.
                let nth = usize::try_from(index).unwrap_or(usize::MAX).max(1);
                let missing = Missing::AtEnd;
                let edit = Edit::Set {
                    nth,
                    field,
                    missing,
                };
                self.push(Change::Header(edit));
            }
            Modification::ChangeSender {
                address,
                parameters,
            } => {
                let parameters = self.parameters(parameters)?;
                let path = self.address(&address, ReversePath::parse)?;
                self.push(Change::Sender(path, parameters));
            }
            Modification::AddRecipient {
                address,
                parameters,
            } => {
                let parameters = self.parameters(parameters)?;
                let address = self.address(&address, Address::parse)?;
                self.push(Change::AddRecipient(address, parameters));
            }
            Modification::DeleteRecipient(address) => {
                let address = self.text(&address)?;
                self.push(Change::DeleteRecipient(unbracketed(address).to_owned()));
            }
        }
        Ok(())
    }

    /// All changes, and the reason for a quarantine.
    #[must_use]
    pub(super) fn finish(self) -> (Vec<Change>, Option<String>) {
        let mut changes = self.changes;
        changes.extend(self.body.map(|body| Change::Body(in_lines(&body))));
        (changes, self.quarantine)
    }

    fn push(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// Counts one change with so many bytes.
    fn spend(&mut self, bytes: usize) -> Result<(), Failure> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > BYTES_MAX {
            return Err(Failure::invalid(format_args!(
                "the filter makes changes of more than {BYTES_MAX} bytes"
            )));
        }
        Failure::check_changes(self.changes.len() + 1)
    }

    fn add_body(&mut self, piece: &[u8], max: usize) -> Result<(), Failure> {
        let body = self.body.get_or_insert_default();
        if body.len().saturating_add(piece.len()) > max {
            return Err(Failure::invalid(format_args!(
                "the filter makes a body of more than {max} bytes"
            )));
        }
        body.extend_from_slice(piece);
        Ok(())
    }

    /// A field of a filter. If values have no space at their beginning, one goes before them.
    fn field(&mut self, name: &[u8], value: &[u8], terms: &Terms<'_>) -> Result<NewField, Failure> {
        self.spend(name.len().saturating_add(value.len()))?;
        let field = match terms.agreed.keeps_space() {
            true => NewField::exact(name, value),
            false => NewField::exact(name, &[b" ", value].concat()),
        };
        field.map_err(|error| {
            let name = String::from_utf8_lossy(name);
            Failure::invalid(format_args!(
                "the filter makes a wrong field, {error}: {name:?}"
            ))
        })
    }

    fn address<T, E>(
        &mut self,
        address: &[u8],
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, Failure> {
        let address = self.text(address)?;
        parse(unbracketed(address)).map_err(|_| {
            Failure::invalid(format_args!(
                "the filter gives an address that is none: {address:?}"
            ))
        })
    }

    fn parameters(&mut self, parameters: Option<Bytes>) -> Result<Option<String>, Failure> {
        let Some(parameters) = parameters else {
            return Ok(None);
        };
        let parameters = self.text(&parameters)?.to_owned();
        Ok(Some(parameters).filter(|it| !it.trim().is_empty()))
    }

    /// A text that must be UTF-8.
    fn text<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a str, Failure> {
        self.spend(bytes.len())?;
        match str::from_utf8(bytes) {
            Ok(text) => Ok(text),
            Err(_) => {
                let text = String::from_utf8_lossy(bytes);
                Err(Failure::invalid(format_args!(
                    "the filter gives a text that is not UTF-8: {text:?}"
                )))
            }
        }
    }
}

fn unbracketed(address: &str) -> &str {
    let address = address.trim();
    let inner = address.strip_prefix('<');
    inner
        .and_then(|inner| inner.strip_suffix('>'))
        .unwrap_or(address)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            super::answer::CHANGES_MAX,
            options::{ACTIONS, PROTOCOL},
            packet::Packet,
            reply::FilterReply,
        },
        *,
    };

    const BODY_MAX: usize = 20;

    fn agreed(actions: u32, protocol: u32) -> Agreed {
        let reply = FilterReply::Options {
            version: 6,
            actions,
            protocol,
            symbols: Vec::new(),
        };
        Agreed::read(reply, &[]).unwrap()
    }

    fn modification(packet: &[u8]) -> Modification {
        let (kind, data) = packet.split_first().unwrap();
        let data = Bytes::copy_from_slice(data);
        match FilterReply::read(Packet { kind: *kind, data }) {
            Ok(FilterReply::Modify(modification)) => modification,
            other => panic!("{other:?}"),
        }
    }

    fn made(packets: &[&[u8]], protocol: u32, above: usize) -> Result<Changes, Failure> {
        let agreed = agreed(ACTIONS, protocol);
        let terms = Terms {
            agreed: &agreed,
            body_max: BODY_MAX,
            above,
        };
        let mut changes = Changes::default();
        for packet in packets {
            changes.add(modification(packet), &terms)?;
        }
        Ok(changes)
    }

    fn field(name: &str, value: &str) -> NewField {
        NewField::exact(name.as_bytes(), value.as_bytes()).unwrap()
    }

    fn set(nth: usize, name: &str, value: &str) -> Change {
        Change::Header(Edit::Set {
            nth,
            field: field(name, value),
            missing: Missing::AtEnd,
        })
    }

    #[test]
    fn each_modification_is_a_change() {
        let at = |at| Change::Header(Edit::At(at, field("A", " b")));
        let at_end = |value: &str| Change::Header(Edit::AtEnd(field("A", value)));
        let address = |text: &str| Address::parse(text).unwrap();
        let path = |text: &str| ReversePath::parse(text).unwrap();
        let parameters = |text: &str| Some(text.to_owned());
        for (packet, protocol, above, change) in [
            (b"hA\0b\0".as_slice(), 0, 0, at_end(" b")),
            (b"hA\0 b\0", 0, 0, at_end("  b")),
            (b"hA\0b\0", PROTOCOL, 0, at_end("b")),
            (b"hA\0 b\0", PROTOCOL, 0, at_end(" b")),
            (b"hA\0b\n c\r\n\td\0", 0, 0, at_end(" b\r\n c\r\n\td")),
            (b"i\0\0\0\0A\0b\0", 0, 0, at(0)),
            (b"i\0\0\0\x02A\0b\0", 0, 0, at(2)),
            (b"i\0\0\0\0A\0b\0", 0, 1, at(0)),
            (b"i\0\0\0\x01A\0b\0", 0, 1, at(0)),
            (b"i\0\0\0\x02A\0b\0", 0, 1, at(1)),
            (b"i\xff\xff\xff\xffA\0b\0", 0, 0, at(u32::MAX as usize)),
            (b"m\0\0\0\x02A\0b\0", 0, 0, set(2, "A", " b")),
            (b"m\0\0\0\0A\0b\0", 0, 0, set(1, "A", " b")),
            (b"m\0\0\0\x01A\0\0", 0, 0, set(1, "A", " ")),
            (b"m\0\0\0\x01A\0\0", PROTOCOL, 0, set(1, "A", "")),
            (b"bnew\nbody", 0, 0, Change::Body("new\r\nbody".into())),
            (b"b", 0, 0, Change::Body(Bytes::new())),
            (b"e<a@b>\0", 0, 0, Change::Sender(path("a@b"), None)),
            (b"ea@b\0", 0, 0, Change::Sender(path("a@b"), None)),
            (b"e<>\0", 0, 0, Change::Sender(ReversePath::Null, None)),
            (b"e<>\0 \0", 0, 0, Change::Sender(ReversePath::Null, None)),
            (
                b"e<a@b>\0RET=FULL\0",
                0,
                0,
                Change::Sender(path("a@b"), parameters("RET=FULL")),
            ),
            (
                b"+<a@b>\0",
                0,
                0,
                Change::AddRecipient(address("a@b"), None),
            ),
            (b"2a@b\0", 0, 0, Change::AddRecipient(address("a@b"), None)),
            (
                b"2<a@b>\0NOTIFY=NEVER\0",
                0,
                0,
                Change::AddRecipient(address("a@b"), parameters("NOTIFY=NEVER")),
            ),
            (b"-<a@b>\0", 0, 0, Change::DeleteRecipient("a@b".into())),
            (b"-a\0", 0, 0, Change::DeleteRecipient("a".into())),
        ] {
            let (changes, quarantine) = made(&[packet], protocol, above).unwrap().finish();
            assert_eq!(changes, [change], "{packet:?}");
            assert_eq!(quarantine, None);
        }
    }

    #[test]
    fn the_body_comes_in_pieces_and_goes_last() {
        let changes = made(
            &[b"bnew", b"-a\0", b"qfirst\0", b"b\nbody", b"qbad\0"],
            0,
            0,
        );
        let (changes, quarantine) = changes.unwrap().finish();
        let deleted = Change::DeleteRecipient("a".into());
        assert_eq!(changes, [deleted, Change::Body("new\r\nbody".into())]);
        assert_eq!(quarantine.as_deref(), Some("bad"));
    }

    #[test]
    fn wrong_changes_are_errors() {
        let long = [b"b".as_slice(), &[b'x'; BODY_MAX + 1]].concat();
        for (packets, text) in [
            (
                &[b"h\0b\0".as_slice()] as &[&[u8]],
                "the name of a header field is not one: \"\"",
            ),
            (&[b"hA B\0b\0"], "the name of a header field is not one"),
            (&[b"hA\0b\nc\0"], "a line break that is no folding"),
            (&[b"hA\0b\rc\0"], "a line break that is no folding"),
            (&[b"i\0\0\0\0A:\0b\0"], "is not one: \"A:\""),
            (
                &[b"m\0\0\0\x01\0\0"],
                "the name of a header field is not one: \"\"",
            ),
            (&[b"ea\0"], "an address that is none: \"a\""),
            (&[b"e<a@b\0"], "an address that is none"),
            (&[b"+\0"], "an address that is none"),
            (&[b"+<>\0"], "an address that is none"),
            (&[b"2<a b@c>\0\0"], "an address that is none"),
            (&[b"+<\xff@b>\0"], "not UTF-8"),
            (&[b"-\xff\0"], "not UTF-8"),
            (&[b"e<>\0\xff\0"], "not UTF-8"),
            (&[&long], "a body of more than 20 bytes"),
            (&[b"b0123456789", b"b01234567890"], "a body of more than 20"),
        ] {
            let error = made(packets, 0, 0).unwrap_err();
            assert!(matches!(error, Failure::Invalid(_)));
            assert!(error.to_string().contains(text), "{error}");
        }
        assert!(made(&[b"b0123456789", b"b0123456789"], 0, 0).is_ok());
    }

    #[test]
    fn a_filter_does_what_it_negotiated_and_no_more() {
        for (packet, bit) in [
            (b"hA\0b\0".as_slice(), 0x01),
            (b"i\0\0\0\0A\0b\0", 0x01),
            (b"bx", 0x02),
            (b"+a@b\0", 0x04),
            (b"-a@b\0", 0x08),
            (b"m\0\0\0\x01A\0b\0", 0x10),
            (b"qbad\0", 0x20),
            (b"ea@b\0", 0x40),
            (b"2a@b\0", 0x80),
        ] {
            for (actions, allowed) in [(bit, true), (ACTIONS & !bit, false)] {
                let agreed = agreed(actions, 0);
                let terms = Terms {
                    agreed: &agreed,
                    body_max: BODY_MAX,
                    above: 0,
                };
                let result = Changes::default().add(modification(packet), &terms);
                assert_eq!(result.is_ok(), allowed, "{packet:?}");
                if let Err(error) = result {
                    let text = "the filter changes what it has not negotiated";
                    assert!(error.to_string().contains(text), "{error}");
                }
            }
        }
    }

    #[test]
    fn changes_do_not_grow_without_limit() {
        let value = vec![b'x'; 100_000];
        let large = [b"hA\0".as_slice(), &value, b"\0"].concat();
        let reason = [b"q".as_slice(), &value].concat();
        for (packet, most, text) in [
            (b"hA\0b\0".as_slice(), CHANGES_MAX, "and may have 5000"),
            (&large, BYTES_MAX / 100_000, "more than 4194304 bytes"),
            (&reason, BYTES_MAX / 100_000, "more than 4194304 bytes"),
        ] {
            assert!(made(&vec![packet; most], 0, 0).is_ok());
            let error = made(&vec![packet; most + 1], 0, 0).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
