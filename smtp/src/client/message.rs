//! A message to be sent: its envelope, the commands made of it, and what became of each recipient.

use std::fmt;

use super::Extensions;
use crate::{
    Address, BodyType, Cause, DeliveryStatus, EnhancedCode, Notify, Ret, ReversePath,
    params::{utf8_addr_xtext, xtext},
};

/// The longest ENVID that may be sent, encoded (RFC 3461 §4.4).
const ENVID_MAX: usize = 100;
/// The longest ORCPT that may be sent, encoded (RFC 3461 §4.2).
const ORCPT_MAX: usize = 500;

/// What MAIL and RCPT say of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Where failures go.
    pub reverse_path: ReversePath,
    /// What the text is made of.
    ///
    /// With 8BITMIME and a server that does not offer it, the text is sent as it is, without the parameter. A conversion
    /// (RFC 6152 §3) would break its DKIM signatures, and no server has cut the eighth bit for decades: "just send 8" is
    /// today's practice. A [`BodyType::BinaryMime`] text fails with 5.6.3 instead: without BDAT it would be damaged.
    pub body_type: BodyType,
    /// The header section has UTF-8, so the peer must offer SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// REQUIRETLS (RFC 8689): only under TLS, and to a server that promises the same.
    pub require_tls: bool,
    /// RET (RFC 3461). Left out where DSN is not offered, as are the next three.
    pub ret: Option<Ret>,
    /// ENVID, not encoded.
    pub envid: Option<String>,
    /// Who gets it. With none, nothing is sent.
    pub recipients: Vec<Recipient>,
}

/// Who gets a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// What RCPT TO says.
    pub address: Address,
    /// NOTIFY.
    pub notify: Option<Notify>,
    /// ORCPT, as `type;address` with the address not encoded.
    pub orcpt: Option<String>,
}

impl From<Address> for Recipient {
    fn from(address: Address) -> Self {
        Self {
            address,
            notify: None,
            orcpt: None,
        }
    }
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingResult {
    /// One for each recipient, in their order.
    pub recipients: Vec<RecipientResult>,
}

/// What became of a message for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientResult {
    /// Success or failure.
    pub status: DeliveryStatus,
    /// What can be done at once about a failure.
    pub again: Again,
}

/// Whether a failure is worth another try at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Again {
    /// No: that was the attempt.
    No,
    /// In another transaction on this connection: the server took others and found this recipient one too many
    /// (452, or 552 of old: RFC 5321 §4.5.3.1.10; or it said so before with LIMITS, RFC 9422).
    NewTransaction,
    /// On another connection: this one ended before the server said anything about the message.
    NewConnection,
}

/// A message while it is sent.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) envelope: Envelope,
    pub(crate) size: u64,
    recipients: Vec<State>,
    /// How many recipients have a result.
    decided: usize,
    accepted: usize,
    /// All that makes the server responsible has been handed out to be sent.
    pub(crate) end_sent: bool,
}

#[derive(Debug)]
enum State {
    Unknown,
    Accepted,
    Decided(RecipientResult),
}

impl Message {
    pub(crate) fn new(envelope: Envelope, size: u64) -> Self {
        let recipients = envelope.recipients.iter().map(|_| State::Unknown).collect();
        Self {
            envelope,
            size,
            recipients,
            decided: 0,
            accepted: 0,
            end_sent: false,
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
        matches!(self.recipients.get(recipient), Some(State::Unknown))
    }

    /// The reply to RCPT was positive.
    pub(crate) fn accept(&mut self, recipient: usize) {
        if let Some(state @ State::Unknown) = self.recipients.get_mut(recipient) {
            *state = State::Accepted;
            self.accepted += 1;
        }
    }

    /// The result of one recipient; the first one stays.
    pub(crate) fn decide(&mut self, recipient: usize, status: DeliveryStatus, again: Again) {
        if let Some(state @ (State::Unknown | State::Accepted)) = self.recipients.get_mut(recipient)
        {
            *state = State::Decided(RecipientResult { status, again });
            self.decided += 1;
        }
    }

    /// The result of all that have none.
    pub(crate) fn decide_rest(&mut self, status: &DeliveryStatus, again: Again) {
        for recipient in 0..self.recipients.len() {
            if !matches!(self.recipients.get(recipient), Some(State::Decided(_))) {
                self.decide(recipient, status.clone(), again);
            }
        }
    }

    /// The first recipient that was accepted and has no result; LMTP replies in that order (RFC 2033 §4.2).
    pub(crate) fn first_accepted(&self) -> Option<usize> {
        self.recipients
            .iter()
            .position(|state| matches!(state, State::Accepted))
    }

    /// The recipients to be sent.
    pub(crate) fn open_recipients(&self) -> Vec<usize> {
        (0..self.recipients.len())
            .filter(|recipient| self.is_open(*recipient))
            .collect()
    }

    /// DATA would damage it.
    pub(crate) const fn needs_bdat(&self) -> bool {
        matches!(self.envelope.body_type, BodyType::BinaryMime)
    }

    /// The results, all of this host (`name [ip]`); those still missing are said to be an error of ours, which never happens.
    pub(crate) fn finish(mut self, remote: &str) -> OutgoingResult {
        let missing = DeliveryStatus::transient(
            Cause::Local,
            EnhancedCode::SYSTEM_TRANSIENT,
            "not attempted",
        );
        self.decide_rest(&missing, Again::NewConnection);
        let recipients = self.recipients.into_iter().filter_map(|state| match state {
            State::Decided(result) => Some(RecipientResult {
                status: result.status.with_remote(remote),
                ..result
            }),
            State::Unknown | State::Accepted => None,
        });
        OutgoingResult {
            recipients: recipients.collect(),
        }
    }

    /// Decides what needs no server: what it does not offer and what is too much for it.
    pub(crate) fn check(&mut self, extensions: &Extensions, tls: bool) {
        if let Some(status) = self.refusal(extensions, tls) {
            self.decide_rest(&status, Again::No);
            return;
        }
        let mut open: u32 = 0;
        for recipient in 0..self.recipients.len() {
            let ascii = self
                .envelope
                .recipients
                .get(recipient)
                .is_none_or(|to| to.address.is_ascii());
            if !ascii && !extensions.smtputf8 {
                self.decide(recipient, no_smtputf8(), Again::No);
            } else if extensions.rcpt_max.is_some_and(|max| open >= max) {
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

    fn refusal(&self, extensions: &Extensions, tls: bool) -> Option<DeliveryStatus> {
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
        let sender_ascii = self
            .envelope
            .reverse_path
            .address()
            .is_none_or(Address::is_ascii);
        if (self.envelope.smtputf8 || !sender_ascii) && !extensions.smtputf8 {
            return Some(no_smtputf8());
        }
        let binary = extensions.binary_mime && extensions.chunking;
        if self.envelope.body_type == BodyType::BinaryMime && !binary {
            let text = "the message is binary and the server does not offer BINARYMIME";
            return fail(EnhancedCode::CONVERSION, text.to_owned());
        }
        None
    }

    /// Writes the MAIL command.
    pub(crate) fn write_mail(
        &self,
        extensions: &Extensions,
        out: &mut impl fmt::Write,
    ) -> fmt::Result {
        let envelope = &self.envelope;
        write!(out, "MAIL FROM:<{}>", envelope.reverse_path)?;
        if extensions.size.is_some() {
            write!(out, " SIZE={}", self.size)?;
        }
        match envelope.body_type {
            BodyType::EightBitMime if extensions.eight_bit_mime => {
                out.write_str(" BODY=8BITMIME")?
            }
            BodyType::BinaryMime => out.write_str(" BODY=BINARYMIME")?,
            BodyType::SevenBit | BodyType::EightBitMime => {}
        }
        if extensions.smtputf8 && self.needs_smtputf8() {
            out.write_str(" SMTPUTF8")?;
        }
        if envelope.require_tls {
            out.write_str(" REQUIRETLS")?;
        }
        if extensions.dsn {
            if let Some(ret) = envelope.ret {
                write!(out, " RET={ret}")?;
            }
            let envid = envelope.envid.as_deref().map(xtext::encode);
            if let Some(envid) = envid.filter(|envid| !envid.is_empty() && envid.len() <= ENVID_MAX)
            {
                write!(out, " ENVID={envid}")?;
            }
        }
        out.write_str("\r\n")
    }

    /// RFC 6531 §3.4: for what is in the header section or in an address.
    fn needs_smtputf8(&self) -> bool {
        let sender = self.envelope.reverse_path.address();
        let recipients = self.envelope.recipients.iter().map(|to| &to.address);
        self.envelope.smtputf8
            || sender
                .into_iter()
                .chain(recipients)
                .any(|address| !address.is_ascii())
    }

    /// Writes the RCPT command of a recipient.
    pub(crate) fn write_rcpt(
        &self,
        recipient: usize,
        extensions: &Extensions,
        out: &mut impl fmt::Write,
    ) -> fmt::Result {
        let Some(to) = self.envelope.recipients.get(recipient) else {
            return Ok(());
        };
        write!(out, "RCPT TO:<{}>", to.address)?;
        if extensions.dsn {
            if let Some(notify) = to.notify {
                write!(out, " NOTIFY={notify}")?;
            }
            let orcpt = to.orcpt.as_deref().and_then(orcpt);
            if let Some(orcpt) = orcpt.filter(|orcpt| orcpt.len() <= ORCPT_MAX) {
                write!(out, " ORCPT={orcpt}")?;
            }
        }
        out.write_str("\r\n")
    }
}

fn no_smtputf8() -> DeliveryStatus {
    let text = "the message needs SMTPUTF8 and the server does not offer it";
    DeliveryStatus::permanent(Cause::Local, EnhancedCode::NON_ASCII_ADDRESS, text)
}

/// ORCPT's value; None if the type is not an atom or there is no address.
fn orcpt(text: &str) -> Option<String> {
    let (kind, address) = text.split_once(';')?;
    let atom = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if kind.is_empty() || !kind.bytes().all(atom) || address.is_empty() {
        return None;
    }
    let encoded = if kind.eq_ignore_ascii_case("utf-8") {
        utf8_addr_xtext(address)
    } else {
        xtext::encode(address)
    };
    Some(format!("{kind};{encoded}"))
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ret: None,
            envid: None,
            recipients: to
                .iter()
                .map(|to| Address::parse(to).unwrap().into())
                .collect(),
        };
        Message::new(envelope, 1234)
    }

    fn commands(message: &Message, extensions: &Extensions) -> String {
        let mut out = String::new();
        message.write_mail(extensions, &mut out).unwrap();
        for recipient in 0..message.envelope.recipients.len() {
            message.write_rcpt(recipient, extensions, &mut out).unwrap();
        }
        out
    }

    #[test]
    fn plain_commands() {
        let plain = message("", &["a@example.com"]);
        let expected = "MAIL FROM:<>\r\nRCPT TO:<a@example.com>\r\n";
        assert_eq!(commands(&plain, &Extensions::default()), expected);
    }

    #[test]
    fn all_parameters() {
        let mut full = message("s@example.org", &["a@example.com", "\u{fc}@example.com"]);
        full.envelope.body_type = BodyType::EightBitMime;
        full.envelope.require_tls = true;
        full.envelope.ret = Some(Ret::Headers);
        full.envelope.envid = Some("id+1".to_owned());
        for (to, orcpt) in full
            .envelope
            .recipients
            .iter_mut()
            .zip(["rfc822;a+b@x.org", "utf-8;\u{fc}+@x.org"])
        {
            to.notify = Some(Notify {
                success: true,
                failure: true,
                delay: false,
            });
            to.orcpt = Some(orcpt.to_owned());
        }
        let expected = "MAIL FROM:<s@example.org> SIZE=1234 BODY=8BITMIME SMTPUTF8 REQUIRETLS RET=HDRS ENVID=id+2B1\r\n\
            RCPT TO:<a@example.com> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+2Bb@x.org\r\n\
            RCPT TO:<\u{fc}@example.com> NOTIFY=SUCCESS,FAILURE ORCPT=utf-8;\\x{FC}\\x{2B}@x.org\r\n";
        assert_eq!(commands(&full, &everything()), expected);
    }

    #[test]
    fn what_may_not_be_sent_is_left_out() {
        let mut odd = message("s@example.org", &["a@example.com"]);
        odd.envelope.envid = Some("x".repeat(101));
        odd.envelope.recipients[0].orcpt = Some("no type".to_owned());
        let expected = "MAIL FROM:<s@example.org> SIZE=1234\r\nRCPT TO:<a@example.com>\r\n";
        assert_eq!(commands(&odd, &everything()), expected);
    }

    /// The enhanced codes and kinds that a check decides.
    fn check(
        message: &mut Message,
        extensions: &Extensions,
        tls: bool,
    ) -> Vec<Option<(String, Again)>> {
        message.check(extensions, tls);
        let shown = message.recipients.iter().map(|state| match state {
            State::Decided(result) => Some((result.status.status().to_string(), result.again)),
            _ => None,
        });
        shown.collect()
    }

    #[test]
    fn a_server_that_cannot_take_it_is_not_asked() {
        let all = everything();
        let none = Extensions::default();
        let one = |code: &str| vec![Some((code.to_owned(), Again::No))];
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
        assert_eq!(check(&mut utf8, &none, true), one("5.6.7"));
        assert_eq!(
            check(&mut message("\u{fc}@b.org", &["a@b.org"]), &none, true),
            one("5.6.7")
        );
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
            Some(("5.6.7".to_owned(), Again::No)),
            None,
            Some(("4.5.3".to_owned(), Again::NewTransaction)),
        ];
        assert_eq!(check(&mut many, &limited, false), expected);
    }
}
