//! The parameters of MAIL and RCPT as words again, for programs that are told of a transaction.

use super::{MailFrom, RcptTo};
use crate::{
    BodyType, Hold, Priority,
    params::{orcpt, xtext},
};

/// The keyword of a parameter in upper case, and its value as a client writes it. The value is
/// empty if the parameter has none.
pub type Parameter = (&'static str, String);

/// The parameter, unless there is no value for it.
fn with(keyword: &'static str, value: Option<impl ToString>) -> Option<Parameter> {
    Some((keyword, value?.to_string()))
}

/// A parameter without a value, if it is there.
fn flag(keyword: &'static str, is_there: bool) -> Option<Parameter> {
    is_there.then(|| (keyword, String::new()))
}

impl MailFrom {
    /// The parameters. A parameter that says the same as none at all is left out: BODY=7BIT,
    /// MT-PRIORITY=0.
    #[must_use]
    pub fn parameters(&self) -> Vec<Parameter> {
        let envid = self.envid.as_deref().filter(|envid| !envid.is_empty());
        let body = Some(self.body).filter(|body| *body != BodyType::SevenBit);
        let priority = Some(self.delivery.priority);
        let hold = self.delivery.hold.map(|hold| match hold {
            Hold::For(seconds) => ("HOLDFOR", seconds.to_string()),
            Hold::Until(time) => ("HOLDUNTIL", time.to_string()),
        });
        let parameters = [
            with("SIZE", self.size),
            with("BODY", body),
            flag("SMTPUTF8", self.smtputf8),
            flag("REQUIRETLS", self.require_tls),
            with("RET", self.ret),
            with("ENVID", envid.map(xtext::encode)),
            hold,
            with(
                "MT-PRIORITY",
                priority.filter(|number| *number != Priority::NORMAL),
            ),
            with("BY", self.delivery.deliver_by),
        ];
        parameters.into_iter().flatten().collect()
    }
}

impl RcptTo {
    /// The parameters.
    #[must_use]
    pub fn parameters(&self) -> Vec<Parameter> {
        let parameters = [
            with("NOTIFY", self.notify),
            with("ORCPT", self.orcpt.as_deref().and_then(orcpt)),
        ];
        parameters.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ForwardPath, ReversePath,
        server::command::{ALL_OFFERED, mail, rcpt},
    };

    fn words(parameters: &[Parameter]) -> String {
        let words = parameters
            .iter()
            .map(|(keyword, value)| match value.as_str() {
                "" => format!(" {keyword}"),
                value => format!(" {keyword}={value}"),
            });
        words.collect()
    }

    #[test]
    fn parameters_of_mail_are_those_of_the_client() {
        for (given, expected) in [
            ("", ""),
            (" size=7 body=7bit mt-priority=0", " SIZE=7"),
            (" RET=FULL", " RET=FULL"),
            (
                " SIZE=7 BODY=8BITMIME SMTPUTF8 REQUIRETLS RET=HDRS ENVID=a+2Bb HOLDFOR=60 MT-PRIORITY=-3 BY=120;RT",
                " SIZE=7 BODY=8BITMIME SMTPUTF8 REQUIRETLS RET=HDRS ENVID=a+2Bb HOLDFOR=60 MT-PRIORITY=-3 BY=120;RT",
            ),
            (
                " holduntil=2026-12-01T10:00:00+01:00",
                " HOLDUNTIL=2026-12-01T09:00:00Z",
            ),
        ] {
            let read = mail(&format!("FROM:<>{given}"), ALL_OFFERED).unwrap();
            assert_eq!(read.reverse_path, ReversePath::Null);
            assert_eq!(words(&read.parameters()), expected);
            let again = mail(&format!("FROM:<>{expected}"), ALL_OFFERED).unwrap();
            assert_eq!(again, read);
        }
    }

    #[test]
    fn parameters_of_rcpt_are_those_of_the_client() {
        for (given, expected) in [
            ("", ""),
            (
                " notify=success,delay orcpt=rfc822;a+2Bb@x.test",
                " NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2Bb@x.test",
            ),
            (
                r" ORCPT=utf-8;j\x{F6}rg@x.test",
                r" ORCPT=utf-8;j\x{F6}rg@x.test",
            ),
        ] {
            let read = rcpt(&format!("TO:<postmaster>{given}"), ALL_OFFERED).unwrap();
            assert_eq!(read.forward_path, ForwardPath::Postmaster);
            assert_eq!(words(&read.parameters()), expected);
        }
    }
}
