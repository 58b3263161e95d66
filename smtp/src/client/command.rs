//! The MAIL and RCPT commands, with the parameters that the server offers.

use std::fmt;

use super::{Envelope, Extensions};
use crate::{
    BodyType, ByMode, DeliveryOptions, Priority,
    params::{orcpt, xtext},
};

/// The longest ENVID, encoded (RFC 3461 §4.4).
const ENVID_MAX: usize = 100;
/// The longest ORCPT, encoded (RFC 3461 §4.2).
const ORCPT_MAX: usize = 500;

impl Envelope {
    /// Writes the MAIL command of a message of this size.
    pub(super) fn write_mail(
        &self,
        size: u64,
        extensions: &Extensions,
        out: &mut impl fmt::Write,
    ) -> fmt::Result {
        write!(out, "MAIL FROM:<{}>", self.reverse_path)?;
        // A probe has no text, and so no size.
        if extensions.size.is_some() && size > 0 {
            write!(out, " SIZE={}", size)?;
        }
        match self.body_type {
            BodyType::EightBitMime if extensions.eight_bit_mime => {
                out.write_str(" BODY=8BITMIME")?
            }
            BodyType::BinaryMime => out.write_str(" BODY=BINARYMIME")?,
            BodyType::SevenBit | BodyType::EightBitMime => {}
        }
        if extensions.smtputf8 && self.needs_smtputf8() {
            out.write_str(" SMTPUTF8")?;
        }
        if self.require_tls {
            out.write_str(" REQUIRETLS")?;
        }
        self.write_delivery(extensions, out)?;
        if extensions.dsn {
            if let Some(ret) = self.ret {
                write!(out, " RET={ret}")?;
            }
            let envid = self.envid.as_deref().map(xtext::encode);
            if let Some(envid) = envid.filter(|envid| !envid.is_empty() && envid.len() <= ENVID_MAX)
            {
                write!(out, " ENVID={envid}")?;
            }
        }
        out.write_str("\r\n")
    }

    /// Writes MT-PRIORITY and BY. A server that needs more time than is left before the message
    /// fails gets the message without BY. We keep the time as long as the message is here.
    fn write_delivery(&self, extensions: &Extensions, out: &mut impl fmt::Write) -> fmt::Result {
        let DeliveryOptions {
            priority,
            deliver_by,
            ..
        } = self.delivery;
        if extensions.mt_priority && priority != Priority::NORMAL {
            write!(out, " MT-PRIORITY={priority}")?;
        }
        if let (Some(least), Some(by)) = (extensions.deliver_by, deliver_by)
            && (by.mode == ByMode::Notify || by.seconds >= i64::from(least.max(1)))
        {
            write!(out, " BY={by}")?;
        }
        Ok(())
    }

    /// SMTPUTF8 is for UTF-8 in the header section or in an address (RFC 6531 §3.4).
    fn needs_smtputf8(&self) -> bool {
        let sender = self.reverse_path.address();
        let recipients = self.recipients.iter().map(|to| &to.address);
        self.smtputf8
            || sender
                .into_iter()
                .chain(recipients)
                .any(|address| !address.is_ascii())
    }

    /// Writes the RCPT command of a recipient.
    pub(super) fn write_rcpt(
        &self,
        recipient: usize,
        extensions: &Extensions,
        out: &mut impl fmt::Write,
    ) -> fmt::Result {
        let Some(to) = self.recipients.get(recipient) else {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Address, Notify, Ret, ReversePath};

    fn everything() -> Extensions {
        Extensions {
            size: Some(0),
            eight_bit_mime: true,
            smtputf8: true,
            dsn: true,
            chunking: true,
            binary_mime: true,
            require_tls: true,
            mt_priority: true,
            deliver_by: Some(60),
            ..Extensions::default()
        }
    }

    fn envelope(from: &str, to: &[&str]) -> Envelope {
        Envelope {
            reverse_path: ReversePath::parse(from).unwrap(),
            body_type: BodyType::SevenBit,
            smtputf8: false,
            require_tls: false,
            delivery: DeliveryOptions::default(),
            ret: None,
            envid: None,
            recipients: to
                .iter()
                .map(|to| Address::parse(to).unwrap().into())
                .collect(),
        }
    }

    fn commands(envelope: &Envelope, extensions: &Extensions) -> String {
        let mut out = String::new();
        envelope.write_mail(1234, extensions, &mut out).unwrap();
        for recipient in 0..envelope.recipients.len() {
            envelope
                .write_rcpt(recipient, extensions, &mut out)
                .unwrap();
        }
        out
    }

    #[test]
    fn plain_commands() {
        let plain = envelope("", &["a@example.com"]);
        let expected = "MAIL FROM:<>\r\nRCPT TO:<a@example.com>\r\n";
        assert_eq!(commands(&plain, &Extensions::default()), expected);
    }

    #[test]
    fn all_parameters() {
        let mut full = envelope("s@example.org", &["a@example.com", "\u{fc}@example.com"]);
        full.body_type = BodyType::EightBitMime;
        full.require_tls = true;
        full.ret = Some(Ret::Headers);
        full.envid = Some("id+1".to_owned());
        for (to, orcpt) in full
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
    fn priority_and_deadline_go_along_where_they_are_offered() {
        let mail = |priority, by: Option<&str>, extensions: &Extensions| {
            let mut envelope = envelope("s@example.org", &[]);
            envelope.delivery = DeliveryOptions {
                hold: None,
                priority: Priority::new(priority),
                deliver_by: by.map(|by| by.parse().unwrap()),
            };
            commands(&envelope, extensions)
        };
        let everything = &everything();
        let start = "MAIL FROM:<s@example.org> SIZE=1234";
        let with = |rest: &str| format!("{start}{rest}\r\n");
        assert_eq!(
            mail(-4, Some("60;R"), everything),
            with(" MT-PRIORITY=-4 BY=60;R")
        );
        assert_eq!(mail(0, Some("-3;NT"), everything), with(" BY=-3;NT"));
        assert_eq!(mail(0, Some("59;R"), everything), with(""));
        let none = &Extensions::default();
        assert_eq!(mail(9, Some("60;R"), none), "MAIL FROM:<s@example.org>\r\n");
    }

    #[test]
    fn what_may_not_be_sent_is_left_out() {
        let mut odd = envelope("s@example.org", &["a@example.com"]);
        odd.envid = Some("x".repeat(101));
        odd.recipients[0].orcpt = Some("no type".to_owned());
        let expected = "MAIL FROM:<s@example.org> SIZE=1234\r\nRCPT TO:<a@example.com>\r\n";
        assert_eq!(commands(&odd, &everything()), expected);
    }
}
