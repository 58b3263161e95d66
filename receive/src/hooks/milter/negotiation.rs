//! The first exchange of a connection, without I/O.

use bytes::{Bytes, BytesMut};

use super::{
    super::answer::Failure,
    options::{ACTIONS, Agreed, LISTS_MAX, PROTOCOL, SymbolList, VERSION},
    packet::{self, PacketReader},
    reply::FilterReply,
    session::MilterSession,
};

/// The offer of the server, and the wait for the reply of the filter.
#[derive(Debug, Default)]
pub struct Negotiation {
    reader: PacketReader,
    /// The lists of macros that came before the reply.
    symbols: Vec<SymbolList>,
    /// How often the filter asked for more time.
    progress: u32,
}

impl Negotiation {
    /// The bytes that open the connection.
    #[must_use]
    pub fn offer() -> Bytes {
        let mut out = BytesMut::new();
        let numbers = [VERSION, ACTIONS, PROTOCOL].map(u32::to_be_bytes);
        packet::write(&mut out, b'O', &[numbers.as_flattened()]);
        out.freeze()
    }

    /// Takes bytes of the filter.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.reader.push(bytes);
    }

    /// How often the filter asked for more time. Each time the wait begins anew.
    #[must_use]
    pub const fn progress(&self) -> u32 {
        self.progress
    }

    /// What is agreed. None until the reply is there.
    ///
    /// # Errors
    /// If the filter refuses, or its reply makes no sense.
    pub fn poll(&mut self) -> Result<Option<Agreed>, Failure> {
        while let Some(packet) = self.reader.next()? {
            match FilterReply::read(packet)? {
                FilterReply::Progress => self.progress = self.progress.wrapping_add(1),
                FilterReply::Symbols(list) if self.symbols.len() < LISTS_MAX => {
                    self.symbols.push(list);
                }
                reply => return Agreed::read(reply, &self.symbols).map(Some),
            }
        }
        Ok(None)
    }

    /// The conversation about a client. A new body of a message has at most `body_max` bytes.
    #[must_use]
    pub fn into_session(self, agreed: Agreed, body_max: usize) -> MilterSession {
        MilterSession::new(agreed, self.reader, body_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offer_has_all_that_is_honoured() {
        let offer = b"\0\0\0\x0dO\0\0\0\x06\0\0\x01\xff\x30\x1f\xff\xff";
        assert_eq!(Negotiation::offer(), offer.as_slice());
    }

    #[test]
    fn the_reply_may_come_late_and_in_pieces() {
        let reply = b"\0\0\0\x01p\0\0\0\x07l\0\0\0\x02j\0\0\0\0\x0dO\0\0\0\x06\0\0\0\x01\0\0\0\0";
        let mut negotiation = Negotiation::default();
        let mut agreed = None;
        for byte in reply {
            assert_eq!(agreed, None);
            negotiation.receive(&[*byte]);
            agreed = negotiation.poll().unwrap();
        }
        assert_eq!(negotiation.progress(), 1);
        let macros = agreed.unwrap();
        let macros = macros.macros(super::super::options::Stage::Mail).unwrap();
        assert_eq!(macros.len(), 1);
    }

    #[test]
    fn a_refusal_is_an_error() {
        for (bytes, text) in [
            (b"\0\0\0\x01r".as_slice(), "answers the negotiation"),
            (b"\0\0\0\x01z", "unknown reply"),
            (b"\0\0\0\x01O", "wrong data"),
            (b"\0\0\0\0", "no bytes"),
            (b"HTTP/1.1 400 Bad Request", "1213486160 bytes"),
        ] {
            let mut negotiation = Negotiation::default();
            negotiation.receive(bytes);
            let error = negotiation.poll().unwrap_err();
            assert!(matches!(error, Failure::Invalid(_)));
            assert!(error.to_string().contains(text), "{error}");
        }
        let mut negotiation = Negotiation::default();
        negotiation.receive(&b"\0\0\0\x07l\0\0\0\x02j\0".repeat(LISTS_MAX + 1));
        let error = negotiation.poll().unwrap_err();
        assert!(error.to_string().contains("with \"l\""), "{error}");
    }
}
