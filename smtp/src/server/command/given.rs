//! The parameters of MAIL and RCPT, written again for programs that are told of a transaction.

use super::{MailFrom, RcptTo};
use crate::{
    BodyType, Hold, Priority,
    params::{orcpt, xtext},
};

/// A parameter: its keyword in upper case, and its value as it stands in a command. None as the
/// value: the keyword stands alone.
type Parameter = (&'static str, Option<String>);

impl MailFrom {
    /// The parameters that the client gave, each as keyword and value in the form of a command. A
    /// parameter that only says what holds without it is left out.
    #[must_use]
    pub fn parameters(&self) -> Vec<Parameter> {
        let body = (self.body != BodyType::SevenBit).then(|| self.body.to_string());
        let delivery = &self.delivery;
        let hold = delivery.hold.map(|hold| match hold {
            Hold::For(seconds) => ("HOLDFOR", Some(seconds.to_string())),
            Hold::Until(time) => ("HOLDUNTIL", Some(time.to_string())),
        });
        let priority = Some(delivery.priority).filter(|it| *it != Priority::NORMAL);
        let valued = [
            ("SIZE", self.size.map(|size| size.to_string())),
            ("BODY", body),
            ("RET", self.ret.map(|ret| ret.to_string())),
            ("ENVID", self.envid.as_deref().map(xtext::encode)),
            ("MT-PRIORITY", priority.map(|it| it.to_string())),
            ("BY", delivery.deliver_by.map(|by| by.to_string())),
        ];
        let flags = [
            ("SMTPUTF8", self.smtputf8),
            ("REQUIRETLS", self.require_tls),
        ];
        let flags = flags.into_iter().filter(|(_, set)| *set);
        let valued = valued.into_iter().filter(|(_, value)| value.is_some());
        valued
            .chain(hold)
            .chain(flags.map(|(keyword, _)| (keyword, None)))
            .collect()
    }
}

impl RcptTo {
    /// The parameters that the client gave, as [`MailFrom::parameters`] has them.
    #[must_use]
    pub fn parameters(&self) -> Vec<Parameter> {
        let valued = [
            ("NOTIFY", self.notify.map(|notify| notify.to_string())),
            ("ORCPT", self.orcpt.as_deref().and_then(orcpt)),
        ];
        let valued = valued.into_iter();
        valued.filter(|(_, value)| value.is_some()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ALL_OFFERED, mail, rcpt};
    use super::*;

    fn written(parameters: Vec<Parameter>) -> String {
        let words = parameters.into_iter().map(|(keyword, value)| match value {
            Some(value) => format!("{keyword}={value}"),
            None => keyword.to_owned(),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn parameters_are_written_as_they_were_read() {
        for given in [
            "",
            "SIZE=7",
            "SIZE=7 BODY=8BITMIME RET=HDRS ENVID=a+2Bb MT-PRIORITY=-3 BY=60;RT HOLDFOR=9 SMTPUTF8 \
             REQUIRETLS",
            "HOLDUNTIL=2026-12-01T09:00:00Z",
        ] {
            let read = mail(&format!("FROM:<a@x.test> {given}"), ALL_OFFERED).unwrap();
            assert_eq!(written(read.parameters()), given);
        }
        let seven = mail("FROM:<> BODY=7BIT MT-PRIORITY=0", ALL_OFFERED).unwrap();
        assert_eq!(written(seven.parameters()), "");
        for given in [
            "",
            "NOTIFY=NEVER",
            "NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2Bb@x.test",
            "ORCPT=utf-8;j\\x{F6}rg@x.test",
        ] {
            let read = rcpt(&format!("TO:<a@x.test> {given}"), ALL_OFFERED).unwrap();
            assert_eq!(written(read.parameters()), given);
        }
    }
}
