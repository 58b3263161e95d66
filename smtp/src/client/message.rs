//! A message while it is sent, and the results for its recipients.

use super::{Envelope, Extensions};
use crate::{Address, BodyType, Cause, DeliveryOptions, DeliveryStatus, EnhancedCode, ReversePath};

/// The result of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingResult {
    /// The results of the recipients, in their order.
    pub recipients: Vec<RecipientResult>,
}

/// The result of a message for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientResult {
    /// Success or failure.
    pub status: DeliveryStatus,
    /// The place of another try at once, after a failure.
    pub again: Again,
}

/// The place where another try makes sense at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Again {
    /// None: this was the attempt.
    No,
    /// Another transaction on this connection. The server accepted other recipients, and this one
    /// was too many (452 or the old 552, RFC 5321 §4.5.3.1.10, x.5.3, or words), or LIMITS said so
    /// before (RFC 9422).
    NewTransaction,
    /// Another connection. This one ended before the server said anything of the message, or takes
    /// no further message.
    NewConnection,
    /// Another host. This one lacks an extension that the message needs, or takes no message of its
    /// size, so it was not asked. The failure is permanent if all hosts lack the same.
    AnotherHost,
}

/// A message while it is sent.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) envelope: Envelope,
    pub(crate) size: u64,
    recipients: Vec<Outcome>,
    /// The number of recipients with a result.
    decided: usize,
    accepted: usize,
    /// The end of the text is handed out to be sent. From then on the server may have the message.
    pub(crate) end_sent: bool,
    /// There is no text: the replies to the recipients are the results.
    pub(crate) is_probe: bool,
}

#[derive(Debug)]
enum Outcome {
    Unknown,
    Accepted,
    Decided(RecipientResult),
}

impl Message {
    pub(crate) fn new(envelope: Envelope, size: u64) -> Self {
        let recipients = envelope
            .recipients
            .iter()
            .map(|_| Outcome::Unknown)
            .collect();
        Self {
            envelope,
            size,
            recipients,
            decided: 0,
            accepted: 0,
            end_sent: false,
            is_probe: false,
        }
    }

    /// The question whether a recipient gets mail.
    pub(crate) fn probe(from: ReversePath, to: Address) -> Self {
        let envelope = Envelope {
            reverse_path: from,
            body_type: BodyType::SevenBit,
            smtputf8: false,
            require_tls: false,
            delivery: DeliveryOptions::default(),
            ret: None,
            envid: None,
            recipients: vec![to.into()],
        };
        Self {
            is_probe: true,
            ..Self::new(envelope, 0)
        }
    }

    /// Every recipient has a result.
    pub(crate) const fn is_decided(&self) -> bool {
        self.decided == self.recipients.len()
    }

    pub(crate) const fn accepted(&self) -> usize {
        self.accepted
    }

    fn is_open(&self, recipient: usize) -> bool {
        matches!(self.recipients.get(recipient), Some(Outcome::Unknown))
    }

    /// The reply to RCPT was positive.
    pub(crate) fn accept(&mut self, recipient: usize) {
        if let Some(state @ Outcome::Unknown) = self.recipients.get_mut(recipient) {
            *state = Outcome::Accepted;
            self.accepted += 1;
        }
    }

    /// Sets the result of a recipient. The first result stays.
    pub(crate) fn decide(&mut self, recipient: usize, status: DeliveryStatus, again: Again) {
        if let Some(state @ (Outcome::Unknown | Outcome::Accepted)) =
            self.recipients.get_mut(recipient)
        {
            *state = Outcome::Decided(RecipientResult { status, again });
            self.decided += 1;
        }
    }

    /// Sets the result of all recipients without one.
    pub(crate) fn decide_rest(&mut self, status: &DeliveryStatus, again: Again) {
        for recipient in 0..self.recipients.len() {
            if !matches!(self.recipients.get(recipient), Some(Outcome::Decided(_))) {
                self.decide(recipient, status.clone(), again);
            }
        }
    }

    /// The first accepted recipient without a result. LMTP replies in this order (RFC 2033 §4.2).
    pub(crate) fn first_accepted(&self) -> Option<usize> {
        self.recipients
            .iter()
            .position(|state| matches!(state, Outcome::Accepted))
    }

    /// The recipients to send.
    pub(crate) fn open_recipients(&self) -> Vec<usize> {
        (0..self.recipients.len())
            .filter(|recipient| self.is_open(*recipient))
            .collect()
    }

    /// The size of the text, and whether DATA would damage it. None: there is no text.
    pub(crate) fn text(&self) -> Option<(u64, bool)> {
        let needs_bdat = matches!(self.envelope.body_type, BodyType::BinaryMime);
        (!self.is_probe).then_some((self.size, needs_bdat))
    }

    /// The results, with this server (`name [ip]`). Every recipient has one here. If
    /// one were missing, it would count as an error of ours.
    pub(crate) fn finish(mut self, remote: &str) -> OutgoingResult {
        let missing = DeliveryStatus::transient(
            Cause::Local,
            EnhancedCode::SYSTEM_TRANSIENT,
            "not attempted",
        );
        self.decide_rest(&missing, Again::NewConnection);
        let recipients = self.recipients.into_iter().filter_map(|state| match state {
            Outcome::Decided(result) => Some(RecipientResult {
                status: result.status.with_remote(remote),
                ..result
            }),
            Outcome::Unknown | Outcome::Accepted => None,
        });
        OutgoingResult {
            recipients: recipients.collect(),
        }
    }

    /// Decides the recipients that the server cannot take, by its extensions. `lmtp`: the server
    /// has the mailboxes (RFC 2033).
    pub(crate) fn check(&mut self, extensions: &Extensions, tls: bool, lmtp: bool) {
        if !extensions.smtputf8 {
            self.check_addresses();
        }
        if let Some(status) = self.refusal(extensions, tls, lmtp) {
            self.decide_rest(&status, Again::AnotherHost);
            return;
        }
        let mut open: u32 = 0;
        for recipient in 0..self.recipients.len() {
            if !self.is_open(recipient) {
                continue;
            }
            if extensions.rcpt_max.is_some_and(|max| open >= max) {
                let text = "the server's limit of recipients is reached";
                let status = DeliveryStatus::transient(
                    Cause::Local,
                    EnhancedCode::TOO_MANY_RECIPIENTS,
                    text,
                );
                self.decide(recipient, status, Again::NewTransaction);
            } else {
                open = open.saturating_add(1);
            }
        }
    }

    /// Decides the recipients that a server without SMTPUTF8 can't take, or all if it can't take
    /// the sender.
    fn check_addresses(&mut self) {
        let sender = self.envelope.reverse_path.address();
        let sender_ascii = sender.is_none_or(Address::is_ascii);
        for recipient in 0..self.recipients.len() {
            let to = self.envelope.recipients.get(recipient);
            if !sender_ascii || to.is_some_and(|to| !to.address.is_ascii()) {
                let text =
                    "an address of the envelope needs SMTPUTF8 and the server does not offer it";
                let code = EnhancedCode::NON_ASCII_ADDRESS;
                let status = DeliveryStatus::permanent(Cause::Local, code, text);
                self.decide(recipient, status, Again::AnotherHost);
            }
        }
    }

    fn refusal(&self, extensions: &Extensions, tls: bool, lmtp: bool) -> Option<DeliveryStatus> {
        let fail =
            |enhanced, text: String| Some(DeliveryStatus::permanent(Cause::Local, enhanced, text));
        if extensions.is_too_big(self.size) {
            let limit = extensions.size.unwrap_or(0);
            let text = format!(
                "message of {} bytes is larger than the server's limit of {limit}",
                self.size
            );
            return fail(EnhancedCode::TOO_BIG, text);
        }
        if self.envelope.require_tls && !(tls && extensions.require_tls) {
            let text = "REQUIRETLS is needed and the server does not offer it";
            return fail(EnhancedCode::REQUIRETLS_NEEDED, text.to_owned());
        }
        // A server with the mailboxes stores 8-bit bytes as they are, and few of them offer
        // SMTPUTF8. Only addresses in commands need it there.
        if self.envelope.smtputf8 && !extensions.smtputf8 && !lmtp {
            let text = "the header section has UTF-8 and the server does not offer SMTPUTF8";
            return fail(EnhancedCode::UTF8_HEADER, text.to_owned());
        }
        let is_8bit = self.envelope.body_type == BodyType::EightBitMime;
        if is_8bit && !extensions.eight_bit_mime && !lmtp {
            let text = "the message is 8-bit and the server does not offer 8BITMIME";
            return fail(EnhancedCode::CONVERSION, text.to_owned());
        }
        if self.envelope.body_type == BodyType::BinaryMime && !extensions.take_binary() {
            let text = "the message is binary and the server does not offer BINARYMIME";
            return fail(EnhancedCode::CONVERSION, text.to_owned());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ReversePath;

    fn everything() -> Extensions {
        Extensions {
            size: Some(0),
            eight_bit_mime: true,
            smtputf8: true,
            dsn: true,
            chunking: true,
            binary_mime: true,
            require_tls: true,
            ..Extensions::default()
        }
    }

    fn message(from: &str, to: &[&str]) -> Message {
        let envelope = Envelope {
            reverse_path: ReversePath::parse(from).unwrap(),
            body_type: BodyType::SevenBit,
            smtputf8: false,
            require_tls: false,
            delivery: Default::default(),
            ret: None,
            envid: None,
            recipients: to
                .iter()
                .map(|to| Address::parse(to).unwrap().into())
                .collect(),
        };
        Message::new(envelope, 1234)
    }

    /// The enhanced codes and kinds that a check decides.
    fn check(
        message: &mut Message,
        extensions: &Extensions,
        tls: bool,
    ) -> Vec<Option<(String, Again)>> {
        message.check(extensions, tls, false);
        let shown = message.recipients.iter().map(|state| match state {
            Outcome::Decided(result) => Some((result.status.status().to_string(), result.again)),
            _ => None,
        });
        shown.collect()
    }

    #[test]
    fn a_server_that_cannot_take_it_is_not_asked() {
        let all = everything();
        let none = Extensions::default();
        let one = |code: &str| vec![Some((code.to_owned(), Again::AnotherHost))];
        let small = Extensions {
            size: Some(1233),
            ..everything()
        };
        assert_eq!(
            check(&mut message("", &["a@b.org"]), &small, true),
            one("5.3.4")
        );
        let mut tls = message("", &["a@b.org"]);
        tls.envelope.require_tls = true;
        assert_eq!(check(&mut tls, &all, true), vec![None]);
        assert_eq!(check(&mut tls, &all, false), one("5.7.30"));
        let mut utf8 = message("", &["a@b.org"]);
        utf8.envelope.smtputf8 = true;
        assert_eq!(check(&mut utf8, &none, true), one("5.6.9"));
        assert_eq!(
            check(&mut message("\u{fc}@b.org", &["a@b.org"]), &none, true),
            one("5.6.7")
        );
        let mut eight_bit = message("", &["a@b.org"]);
        eight_bit.envelope.body_type = BodyType::EightBitMime;
        assert_eq!(check(&mut eight_bit, &none, true), one("5.6.3"));
        utf8 = message("", &["\u{fc}@b.org", "a@b.org"]);
        utf8.envelope.smtputf8 = true;
        let both = ["5.6.7", "5.6.9"].map(|code| Some((code.to_owned(), Again::AnotherHost)));
        assert_eq!(check(&mut utf8, &none, true), both);
        // An LMTP server stores 8-bit bytes as they are, but knows no such addresses.
        utf8 = message("", &["a@b.org"]);
        utf8.envelope.smtputf8 = true;
        utf8.envelope.body_type = BodyType::EightBitMime;
        utf8.check(&none, true, true);
        assert!(!utf8.is_decided());
        for (from, to) in [("\u{fc}@b.org", "a@b.org"), ("", "\u{fc}@b.org")] {
            let mut utf8 = message(from, &[to]);
            utf8.check(&none, true, true);
            assert!(utf8.is_decided(), "{from} {to}");
        }
        let mut binary = message("", &["a@b.org"]);
        binary.envelope.body_type = BodyType::BinaryMime;
        assert_eq!(check(&mut binary, &none, true), one("5.6.3"));
    }

    #[test]
    fn one_recipient_too_many_and_one_that_cannot_be_written() {
        let limited = Extensions {
            rcpt_max: Some(1),
            ..Extensions::default()
        };
        let mut many = message("", &["\u{fc}@b.org", "a@b.org", "c@b.org"]);
        let expected = vec![
            Some(("5.6.7".to_owned(), Again::AnotherHost)),
            None,
            Some(("4.5.3".to_owned(), Again::NewTransaction)),
        ];
        assert_eq!(check(&mut many, &limited, false), expected);
    }
}
