//! The replies of a filter.

use bytes::Bytes;

use super::{
    super::answer::Failure,
    options::{Action, LISTS_MAX, SymbolList},
    packet::{Fields, Packet},
};

/// A reply of a filter, as it is on the wire. Addresses may have angle brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FilterReply {
    /// `O`: the options that the filter takes.
    Options {
        /// The version of the protocol.
        version: u32,
        /// The bits of the actions.
        actions: u32,
        /// The bits of the protocol.
        protocol: u32,
        /// The names of the macros that the filter wants at some stages.
        symbols: Vec<SymbolList>,
    },
    /// `l`: the names of the macros that the filter wants at one stage.
    Symbols(SymbolList),
    /// `c`: nothing against it.
    Continue,
    /// `a`: no more filtering.
    Accept,
    /// `r`: a permanent refusal.
    Reject,
    /// `t`: a refusal for now.
    Tempfail,
    /// `d`: the message is taken and dropped.
    Discard,
    /// `y`: this reply to the client.
    Code(Bytes),
    /// `s`: no more of the body.
    Skip,
    /// `p`: the filter works on, and needs more time.
    Progress,
    /// `4`: 421, and the connection closes.
    Shutdown,
    /// `f`: the connection closes.
    ConnectionFailure,
    /// `h`, `i`, `m`, `b`, `e`, `+`, `2`, `-`, `q`: a change of the message.
    Modify(Modification),
}

/// A change of the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Modification {
    /// `h`: a field at the end of the header section.
    AddHeader {
        /// The name.
        name: Bytes,
        /// The value.
        value: Bytes,
    },
    /// `i`: a field before another one.
    InsertHeader {
        /// The place, counted over all fields from 0.
        index: u32,
        /// The name.
        name: Bytes,
        /// The value.
        value: Bytes,
    },
    /// `m`: another value of a field. An empty value removes the field.
    ChangeHeader {
        /// The place among the fields of the name, counted from 1.
        index: u32,
        /// The name.
        name: Bytes,
        /// The value.
        value: Bytes,
    },
    /// `b`: a piece of another body.
    ReplaceBody(Bytes),
    /// `e`: another reverse-path.
    ChangeSender {
        /// The address.
        address: Bytes,
        /// The parameters of MAIL.
        parameters: Option<Bytes>,
    },
    /// `+`, and `2` with parameters: one more recipient.
    AddRecipient {
        /// The address.
        address: Bytes,
        /// The parameters of RCPT. None for `+`.
        parameters: Option<Bytes>,
    },
    /// `-`: the recipient with this address goes.
    DeleteRecipient(Bytes),
    /// `q`: the message is held. The text is the reason.
    Quarantine(Bytes),
}

impl Modification {
    /// The action that a filter must have negotiated for this.
    #[must_use]
    pub(super) const fn action(&self) -> Action {
        match self {
            Self::AddHeader { .. } | Self::InsertHeader { .. } => Action::AddHeaders,
            Self::ChangeHeader { .. } => Action::ChangeHeaders,
            Self::ReplaceBody(_) => Action::ChangeBody,
            Self::ChangeSender { .. } => Action::ChangeSender,
            Self::AddRecipient {
                parameters: None, ..
            } => Action::AddRecipients,
            Self::AddRecipient { .. } => Action::AddRecipientsWithParameters,
            Self::DeleteRecipient(_) => Action::DeleteRecipients,
            Self::Quarantine(_) => Action::Quarantine,
        }
    }
}

/// A packet is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReplyError {
    /// No reply has this letter.
    #[error("an unknown reply, {}", Shown(*.0))]
    Unknown(u8),
    /// The data is not that of the reply.
    #[error("wrong data with the reply {}", Shown(*.0))]
    Data(u8),
}

/// The letter of a reply in an error.
struct Shown(u8);

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.is_ascii_graphic() {
            true => write!(f, "\"{}\"", char::from(self.0)),
            false => write!(f, "0x{:02x}", self.0),
        }
    }
}

impl From<ReplyError> for Failure {
    fn from(error: ReplyError) -> Self {
        Self::invalid(format_args!("the filter sends {error}"))
    }
}

impl FilterReply {
    /// Reads a reply.
    ///
    /// # Errors
    /// If the packet is none, or has data that its reply does not have.
    pub(super) fn read(packet: Packet) -> Result<Self, ReplyError> {
        let kind = packet.kind;
        let mut data = Fields::of(packet.data);
        let reply = match kind {
            b'O' => options(&mut data),
            b'l' => symbols(&mut data).map(Self::Symbols),
            b'c' => Some(Self::Continue),
            b'a' => Some(Self::Accept),
            b'r' => Some(Self::Reject),
            b't' => Some(Self::Tempfail),
            b'd' => Some(Self::Discard),
            b'y' => data.last_string().map(Self::Code),
            b's' => Some(Self::Skip),
            b'p' => Some(Self::Progress),
            b'4' => Some(Self::Shutdown),
            b'f' => Some(Self::ConnectionFailure),
            b'h' | b'i' | b'm' | b'b' | b'e' | b'+' | b'2' | b'-' | b'q' => {
                modification(kind, &mut data).map(Self::Modify)
            }
            _ => return Err(ReplyError::Unknown(kind)),
        };
        match reply {
            Some(reply) if data.is_empty() => Ok(reply),
            _ => Err(ReplyError::Data(kind)),
        }
    }

    /// The letter of the reply.
    #[must_use]
    pub(super) const fn letter(&self) -> char {
        match self {
            Self::Options { .. } => 'O',
            Self::Symbols(_) => 'l',
            Self::Continue => 'c',
            Self::Accept => 'a',
            Self::Reject => 'r',
            Self::Tempfail => 't',
            Self::Discard => 'd',
            Self::Code(_) => 'y',
            Self::Skip => 's',
            Self::Progress => 'p',
            Self::Shutdown => '4',
            Self::ConnectionFailure => 'f',
            Self::Modify(modification) => match modification {
                Modification::AddHeader { .. } => 'h',
                Modification::InsertHeader { .. } => 'i',
                Modification::ChangeHeader { .. } => 'm',
                Modification::ReplaceBody(_) => 'b',
                Modification::ChangeSender { .. } => 'e',
                Modification::AddRecipient {
                    parameters: None, ..
                } => '+',
                Modification::AddRecipient { .. } => '2',
                Modification::DeleteRecipient(_) => '-',
                Modification::Quarantine(_) => 'q',
            },
        }
    }
}

fn options(data: &mut Fields) -> Option<FilterReply> {
    let (version, actions, protocol) = (data.number()?, data.number()?, data.number()?);
    let mut lists = Vec::new();
    while !data.is_empty() && lists.len() < LISTS_MAX {
        lists.push(symbols(data)?);
    }
    Some(FilterReply::Options {
        version,
        actions,
        protocol,
        symbols: lists,
    })
}

fn symbols(data: &mut Fields) -> Option<SymbolList> {
    Some(SymbolList {
        stage: data.number()?,
        names: data.string()?,
    })
}

fn modification(kind: u8, data: &mut Fields) -> Option<Modification> {
    Some(match kind {
        b'h' => Modification::AddHeader {
            name: data.string()?,
            value: data.string()?,
        },
        b'i' => Modification::InsertHeader {
            index: data.number()?,
            name: data.string()?,
            value: data.string()?,
        },
        b'm' => Modification::ChangeHeader {
            index: data.number()?,
            name: data.string()?,
            value: data.string()?,
        },
        b'b' => Modification::ReplaceBody(data.all()),
        b'e' => Modification::ChangeSender {
            address: data.string()?,
            parameters: given(data)?,
        },
        b'+' => Modification::AddRecipient {
            address: data.string()?,
            parameters: None,
        },
        b'2' => Modification::AddRecipient {
            address: data.string()?,
            parameters: Some(given(data)?.unwrap_or_default()),
        },
        b'-' => Modification::DeleteRecipient(data.string()?),
        _ => Modification::Quarantine(data.last_string()?),
    })
}

/// Parameters, which may be left out.
fn given(data: &mut Fields) -> Option<Option<Bytes>> {
    match data.is_empty() {
        true => Some(None),
        false => data.string().map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: u8, data: &'static [u8]) -> Result<FilterReply, ReplyError> {
        let data = Bytes::from_static(data);
        FilterReply::read(Packet { kind, data })
    }

    #[test]
    fn replies_without_data() {
        for (kind, reply) in [
            (b'c', FilterReply::Continue),
            (b'a', FilterReply::Accept),
            (b'r', FilterReply::Reject),
            (b't', FilterReply::Tempfail),
            (b'd', FilterReply::Discard),
            (b's', FilterReply::Skip),
            (b'p', FilterReply::Progress),
            (b'4', FilterReply::Shutdown),
            (b'f', FilterReply::ConnectionFailure),
        ] {
            assert_eq!(reply.letter(), char::from(kind));
            assert_eq!(read(kind, b""), Ok(reply));
            assert_eq!(read(kind, b"\0"), Err(ReplyError::Data(kind)));
        }
        for kind in [0, b'D', b'C', b'x', 0xff] {
            assert_eq!(read(kind, b""), Err(ReplyError::Unknown(kind)));
        }
    }

    #[test]
    fn replies_with_data() {
        use Modification::{
            AddHeader, AddRecipient, ChangeHeader, ChangeSender, DeleteRecipient, InsertHeader,
            Quarantine, ReplaceBody,
        };
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        let (name, value, address) = (bytes("A"), bytes("b"), bytes("<a@x>"));
        let parameters = |text| Some(bytes(text));
        for (kind, data, modification) in [
            (
                b'h',
                "A\0b\0",
                AddHeader {
                    name: name.clone(),
                    value: value.clone(),
                },
            ),
            (
                b'i',
                "\0\0\x01\x02A\0b\0",
                InsertHeader {
                    index: 258,
                    name: name.clone(),
                    value,
                },
            ),
            (
                b'm',
                "\0\0\0\x01A\0\0",
                ChangeHeader {
                    index: 1,
                    name,
                    value: bytes(""),
                },
            ),
            (b'b', "", ReplaceBody(bytes(""))),
            (b'b', "a\0b", ReplaceBody(bytes("a\0b"))),
            (
                b'e',
                "<a@x>\0",
                ChangeSender {
                    address: address.clone(),
                    parameters: None,
                },
            ),
            (
                b'e',
                "<a@x>\0RET=FULL\0",
                ChangeSender {
                    address: address.clone(),
                    parameters: parameters("RET=FULL"),
                },
            ),
            (
                b'+',
                "<a@x>\0",
                AddRecipient {
                    address: address.clone(),
                    parameters: None,
                },
            ),
            (
                b'2',
                "<a@x>\0",
                AddRecipient {
                    address: address.clone(),
                    parameters: parameters(""),
                },
            ),
            (
                b'2',
                "<a@x>\0NOTIFY=NEVER\0",
                AddRecipient {
                    address: address.clone(),
                    parameters: parameters("NOTIFY=NEVER"),
                },
            ),
            (b'-', "<a@x>\0", DeleteRecipient(address)),
            (b'q', "bad\0", Quarantine(bytes("bad"))),
            (b'q', "", Quarantine(bytes(""))),
        ] {
            let reply = FilterReply::Modify(modification);
            assert_eq!(reply.letter(), char::from(kind));
            assert_eq!(read(kind, data.as_bytes()), Ok(reply), "{data:?}");
        }
        let code = FilterReply::Code(bytes("550 no"));
        assert_eq!(code.letter(), 'y');
        assert_eq!(read(b'y', b"550 no\0"), Ok(code.clone()));
        assert_eq!(read(b'y', b"550 no"), Ok(code));
    }

    #[test]
    fn wrong_data_is_an_error() {
        for (kind, data) in [
            (b'h', b"".as_slice()),
            (b'h', b"A\0"),
            (b'h', b"A\0b"),
            (b'h', b"A\0b\0c"),
            (b'i', b"\0\0\0"),
            (b'i', b"\0\0\0\0A\0b"),
            (b'm', b""),
            (b'm', b"\0\0\0\0A\0"),
            (b'e', b""),
            (b'e', b"<a@x>"),
            (b'e', b"<a@x>\0RET=FULL"),
            (b'e', b"<a@x>\0A\0B\0"),
            (b'+', b"<a@x>"),
            (b'+', b"<a@x>\0NOTIFY=NEVER\0"),
            (b'2', b"<a@x>\0a\0b\0"),
            (b'-', b"<a@x>\0\0"),
            (b'q', b"a\0b\0"),
            (b'y', b"550 a\0b\0"),
            (b'O', b""),
            (b'O', b"\0\0\0\x06\0\0\0\0\0\0\0"),
            (b'O', b"\0\0\0\x06\0\0\0\0\0\0\0\0\0"),
            (b'O', b"\0\0\0\x06\0\0\0\0\0\0\0\0\0\0\0\0i"),
            (b'l', b"\0\0\0\0"),
            (b'l', b"\0\0\0\0i\0\0"),
        ] {
            assert_eq!(read(kind, data), Err(ReplyError::Data(kind)), "{data:?}");
        }
        let shown = |error: ReplyError| Failure::from(error).to_string();
        assert_eq!(
            shown(ReplyError::Data(b'h')),
            "the filter sends wrong data with the reply \"h\""
        );
        assert_eq!(
            shown(ReplyError::Unknown(0)),
            "the filter sends an unknown reply, 0x00"
        );
    }

    #[test]
    fn options_may_have_lists_of_macros() {
        let list = |stage, names: &'static str| SymbolList {
            stage,
            names: Bytes::from_static(names.as_bytes()),
        };
        let options = |symbols| FilterReply::Options {
            version: 6,
            actions: 1,
            protocol: 2,
            symbols,
        };
        let fixed = b"\0\0\0\x06\0\0\0\x01\0\0\0\x02";
        assert_eq!(read(b'O', fixed), Ok(options(Vec::new())));
        assert_eq!(
            read(
                b'O',
                b"\0\0\0\x06\0\0\0\x01\0\0\0\x02\0\0\0\0j _\0\0\0\0\x09\0"
            ),
            Ok(options(vec![list(0, "j _"), list(9, "")]))
        );
        let alone = FilterReply::Symbols(list(2, "i"));
        assert_eq!(alone.letter(), 'l');
        assert_eq!(read(b'l', b"\0\0\0\x02i\0"), Ok(alone));
    }
}
