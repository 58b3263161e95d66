//! The form in which a message goes to a host: as it is stored, or converted for a host that lacks
//! an extension ([`postrider_smtp::convert`]).
//!
//! The server wants to know the size of a message before its text. So a converted text is made
//! before it is sent: in memory if it is small, else in a file that goes with the transaction. Only
//! a few are made at once.
//!
//! A signature of another system protects the text, but not the fields that we put in front of it.
//! Our own ARC seal is among these. It covers the text as it came, so a converted text goes without
//! it.

use postrider_smtp::{
    Address, BodyType, Cause, DeliveryStatus,
    client::{Envelope, Extensions},
    convert::{Conversion, Form, Survey, Unconvertible},
    field::{self, Field},
};
use postrider_store::{Common, Message, Queued, Scratch, TextWriter, Top};
use tokio::task::spawn_blocking;

use super::signing::{PIECE, SMALL_MAX};
use crate::Queue;

/// A message above this may be converted to a text that takes a file. A connection has one such
/// file at a time.
pub(super) const HEAVY: u64 = 64 * 1024;

/// A message in the form for a host.
#[derive(Debug)]
pub(crate) struct Formed {
    message: Message,
    form: Form,
    /// The converted text, which has to live as long as the message is read.
    scratch: Option<Scratch>,
    /// The text is that of one recipient. Others with the same stored text get another one.
    is_own: bool,
}

impl Formed {
    /// The message as it is stored.
    pub(super) const fn as_is(message: Message) -> Self {
        Self {
            message,
            form: Form::AsIs,
            scratch: None,
            is_own: false,
        }
    }

    /// A message that only one of its recipients gets so. `scratch`: its text, if it is not stored.
    pub(crate) const fn of_one(message: Message, scratch: Option<Scratch>) -> Self {
        Self {
            message,
            form: Form::AsIs,
            scratch,
            is_own: true,
        }
    }

    /// This message, made of one that only one recipient gets.
    pub(super) fn made_of(mut self, one: Self) -> Self {
        if self.scratch.is_none() {
            // The text is still that one.
            self.scratch = one.scratch;
        }
        self.is_own = one.is_own;
        self
    }

    /// Whether other recipients with the same stored text get another text.
    pub(super) const fn is_own(&self) -> bool {
        self.is_own
    }

    pub(super) const fn message(&self) -> &Message {
        &self.message
    }

    pub(super) fn into_parts(self) -> (Message, Option<Scratch>) {
        (self.message, self.scratch)
    }

    pub(super) const fn form(&self) -> Form {
        self.form
    }
}

/// The form in which the messages of a transaction go to a host. `lmtp`: the host has the
/// mailboxes. It stores 8-bit bytes and long lines as they are.
pub(super) fn form_for(group: &[Queued], extensions: &Extensions, lmtp: bool) -> Form {
    let Some(first) = group.first() else {
        return Form::AsIs;
    };
    let (needs, utf8_header) = (first.common.needs, first.common.smtputf8);
    let sender = first.reverse_path.address();
    let mut recipients = group.iter().map(|message| &message.recipient);
    let reaches = sender.is_none_or(Address::is_ascii) && recipients.any(Address::is_ascii);
    if !extensions.smtputf8 && !reaches {
        // No form helps.
        return Form::AsIs;
    }
    if !lmtp && needs.eight_bit && !extensions.eight_bit_mime {
        Form::SevenBit
    } else if !lmtp && utf8_header && !extensions.smtputf8 {
        Form::AsciiHeader
    } else if needs.binary {
        match extensions.take_binary() {
            true => Form::AsIs,
            false => Form::Lines,
        }
    } else if !lmtp && needs.long_lines {
        Form::Lines
    } else {
        Form::AsIs
    }
}

/// Sets what the form of a message means for its envelope.
pub(super) fn set_form(envelope: &mut Envelope, common: &Common, form: Form) {
    envelope.body_type = match (common.needs.binary, common.needs.eight_bit) {
        (true, _) if form == Form::AsIs => BodyType::BinaryMime,
        (_, true) if form < Form::SevenBit => BodyType::EightBitMime,
        _ => BodyType::SevenBit,
    };
    envelope.smtputf8 = common.smtputf8 && form < Form::AsciiHeader;
}

/// Whether a message may go as it is if it has no such form. That a line is too long is no reason
/// to fail.
pub(super) fn may_stay(common: &Common, form: Form) -> bool {
    form == Form::Lines && !common.needs.binary
}

/// What a host lacks for a message that has no form for it.
pub(super) fn lack(host: &str, form: Form, reason: Unconvertible) -> DeliveryStatus {
    let extension = match form {
        Form::AsIs | Form::Lines => "BINARYMIME",
        Form::AsciiHeader => "SMTPUTF8",
        Form::SevenBit => "8BITMIME",
    };
    let text = format!(
        "the message needs {extension}, which the server does not offer, and it can't be \
         converted: {reason}"
    );
    DeliveryStatus::permanent(Cause::Local, reason.enhanced(form), text).with_remote(host)
}

impl Queue {
    /// The message in this form. The outer error is ours.
    pub(super) async fn formed(
        &self,
        stored: Message,
        form: Form,
    ) -> Result<Result<Formed, Unconvertible>, String> {
        let (text, writer) = (stored.text().clone(), self.store.text_writer());
        let is_small = text.len() <= SMALL_MAX;
        let text = Message::from(text);
        let converted = if is_small {
            convert(&text, form, writer)?
        } else {
            let _place = self.signatures.place(is_small).await?;
            let converting = spawn_blocking(move || convert(&text, form, writer));
            converting.await.map_err(|error| error.to_string())??
        };
        Ok(converted.map(|scratch| {
            let top = top(stored.top(), form, scratch.is_some());
            let text = scratch.as_ref().map_or(stored.text(), Scratch::text);
            Formed {
                message: Message::new(top, text.clone()),
                form,
                scratch,
                is_own: false,
            }
        }))
    }
}

/// The text in this form. None: it has this form already.
fn convert(
    text: &Message,
    form: Form,
    mut writer: TextWriter,
) -> Result<Result<Option<Scratch>, Unconvertible>, String> {
    let pieces = || text.clone().into_pieces().blocking(PIECE);
    let mut survey = Survey::new(form);
    for piece in pieces() {
        let piece = piece.map_err(|error| error.to_string())?;
        if let Err(reason) = survey.write(&piece) {
            return Ok(Err(reason));
        }
    }
    let plan = match survey.finish() {
        Ok(Some(plan)) => plan,
        Ok(None) => return Ok(Ok(None)),
        Err(reason) => return Ok(Err(reason)),
    };
    let mut conversion = Conversion::new(plan);
    for piece in pieces() {
        let piece = piece.map_err(|error| error.to_string())?;
        let converted = match conversion.write(&piece) {
            Ok(converted) => converted,
            Err(reason) => return Ok(Err(reason)),
        };
        let written = writer.write_blocking(converted);
        written.map_err(|error| error.to_string())?;
    }
    match conversion.finish() {
        Ok(last) => {
            let written = writer.write_blocking(&last);
            let scratch = written.and_then(|()| writer.into_scratch_blocking());
            scratch
                .map(|it| Ok(Some(it)))
                .map_err(|error| error.to_string())
        }
        Err(reason) => Ok(Err(reason)),
    }
}

/// The fields in front of a text, for this form of it. Without our ARC set, if the text is not what
/// it covers.
fn top(top: &Top, form: Form, is_converted: bool) -> Top {
    let is_seal = |written: &&[u8]| {
        let name = Field::read(written).and_then(|field| field.name.get(..4));
        name.is_some_and(|name| name.eq_ignore_ascii_case(b"ARC-"))
    };
    let fields = field::written(top.bytes());
    let kept = fields.filter(|field| !(is_converted && is_seal(field)));
    let mut section: Vec<u8> = kept.flatten().copied().collect();
    if form >= Form::AsciiHeader && !section.is_ascii() {
        section = field::downgraded(&section).section;
    }
    Top::new(section).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use postrider_smtp::convert::TextNeeds;

    use super::*;
    use crate::schedule::test_message;

    fn queued(needs: TextNeeds, smtputf8: bool, (from, to): (&str, &str)) -> Queued {
        let mut message = test_message(1, to);
        let common = Arc::make_mut(&mut message.common);
        (common.needs, common.smtputf8) = (needs, smtputf8);
        message.reverse_path = from.parse().unwrap();
        message
    }

    #[test]
    fn the_form_follows_from_what_the_host_offers() {
        let none = Extensions::default();
        let eight = Extensions {
            eight_bit_mime: true,
            ..Extensions::default()
        };
        let utf8 = Extensions {
            smtputf8: true,
            ..eight.clone()
        };
        let binary = Extensions {
            binary_mime: true,
            chunking: true,
            ..eight.clone()
        };
        let no_chunking = Extensions {
            chunking: false,
            ..binary.clone()
        };
        let needs = |bits: u8| TextNeeds::from(bits);
        let (plain, eight_bit, long, any) = (needs(0), needs(1), needs(2), needs(7));
        let check = |needs, smtputf8, extensions: &Extensions, lmtp, expected| {
            let group = [queued(needs, smtputf8, ("a@x.test", "b@y.test"))];
            let form = form_for(&group, extensions, lmtp);
            assert_eq!(form, expected, "{needs:?} {smtputf8} {lmtp} {extensions:?}");
        };
        for (needs, smtputf8, extensions, smtp, lmtp) in [
            (plain, false, &none, Form::AsIs, Form::AsIs),
            (eight_bit, false, &none, Form::SevenBit, Form::AsIs),
            (eight_bit, false, &eight, Form::AsIs, Form::AsIs),
            (eight_bit, true, &eight, Form::AsciiHeader, Form::AsIs),
            (eight_bit, true, &none, Form::SevenBit, Form::AsIs),
            (eight_bit, true, &utf8, Form::AsIs, Form::AsIs),
            (long, false, &utf8, Form::Lines, Form::AsIs),
            (any, false, &binary, Form::AsIs, Form::AsIs),
            (any, true, &binary, Form::AsciiHeader, Form::AsIs),
            // DATA would damage it.
            (any, false, &no_chunking, Form::Lines, Form::Lines),
            (any, false, &none, Form::SevenBit, Form::Lines),
        ] {
            check(needs, smtputf8, extensions, false, smtp);
            check(needs, smtputf8, extensions, true, lmtp);
        }
        for addresses in [("\u{e4}@x.test", "b@y.test"), ("a@x.test", "\u{e4}@y.test")] {
            let group = [queued(eight_bit, true, addresses)];
            assert_eq!(form_for(&group, &none, false), Form::AsIs);
        }
    }

    #[test]
    fn our_seal_goes_with_the_text_that_it_covers() {
        let check = |fields: &str, form, is_converted, expected: &str| {
            let made = top(&Top::new(fields.to_owned()).unwrap(), form, is_converted);
            assert_eq!(made.bytes(), expected);
        };
        let fields = "ARC-Seal: i=1;\r\n\ta=b\r\nDelivered-To: \u{e4}@x.test\r\nA: b\r\n";
        let rest = "Delivered-To: \u{e4}@x.test\r\nA: b\r\n";
        check(fields, Form::Lines, false, fields);
        check(fields, Form::Lines, true, rest);
        check(
            fields,
            Form::AsciiHeader,
            true,
            "Downgraded-Delivered-To: =?utf-8?q?=C3=A4=40x=2Etest?=\r\nA: b\r\n",
        );
    }
}
