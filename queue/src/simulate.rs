//! Failures that a local-part asks for, in localserve. So an application can see each failure
//! without a remote.
//!
//! The end of the local-part says what happens. Its beginning says at which stage.

use postrider_smtp::{EnhancedCode, Reply, ReplyCode};

/// A failure to simulate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimulatedFailure {
    /// The stage.
    pub stage: FailureStage,
    /// The kind.
    pub kind: FailureKind,
}

/// The stage at which a failure shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureStage {
    /// MAIL FROM. The sender's local-part asks for it.
    MailFrom,
    /// RCPT TO.
    RcptTo,
    /// The end of the data.
    Data,
    /// Delivery: the session takes the message, and it fails in the queue.
    Queue,
}

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// This reply code, 400 to 599, with the enhanced code X.0.0.
    Code(u16),
    /// No answer.
    Timeout,
}

/// The failure that this local-part asks for. Ordinary local-parts ask for none.
#[must_use]
pub fn failure(local: &str) -> Option<SimulatedFailure> {
    let kind = if local.ends_with("temperror") {
        FailureKind::Code(451)
    } else if local.ends_with("permerror") {
        FailureKind::Code(550)
    } else if local.ends_with("timeout") {
        FailureKind::Timeout
    } else {
        let digits = local.len().checked_sub(3).and_then(|at| local.get(at..))?;
        let code = digits
            .parse()
            .ok()
            .filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
        FailureKind::Code(code.filter(|code| (400..600).contains(code))?)
    };
    let stage = if local.starts_with("mailfrom") {
        FailureStage::MailFrom
    } else if local.starts_with("rcptto") {
        FailureStage::RcptTo
    } else if local.starts_with("queue") {
        FailureStage::Queue
    } else {
        FailureStage::Data
    };
    Some(SimulatedFailure { stage, kind })
}

impl SimulatedFailure {
    /// The reply of a session that shows the failure. In place of a time-out it says 451 at once.
    #[must_use]
    pub fn reply(self) -> Reply {
        let code = match self.kind {
            FailureKind::Code(code) => ReplyCode::new(code).unwrap_or(ReplyCode::LOCAL_ERROR),
            FailureKind::Timeout => ReplyCode::LOCAL_ERROR,
        };
        Reply::new(
            code,
            Some(EnhancedCode::TRANSIENT),
            "failure as asked for by the address",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_parts() {
        let check = |local: &str, expected: Option<(FailureStage, FailureKind)>| {
            assert_eq!(
                failure(local).map(|failure| (failure.stage, failure.kind)),
                expected,
                "{local}"
            );
        };
        check("user", None);
        check(
            "user+550",
            Some((FailureStage::Data, FailureKind::Code(550))),
        );
        check(
            "x.temperror",
            Some((FailureStage::Data, FailureKind::Code(451))),
        );
        check(
            "permerror",
            Some((FailureStage::Data, FailureKind::Code(550))),
        );
        check(
            "x-timeout",
            Some((FailureStage::Data, FailureKind::Timeout)),
        );
        check(
            "rcptto-451",
            Some((FailureStage::RcptTo, FailureKind::Code(451))),
        );
        check(
            "mailfrompermerror",
            Some((FailureStage::MailFrom, FailureKind::Code(550))),
        );
        check(
            "queue+499",
            Some((FailureStage::Queue, FailureKind::Code(499))),
        );
        check("user399", None);
        check("user600", None);
        check("PERMERROR", None);
        check("+55", None);
        check("\u{e4}\u{e4}5", None);
        check("", None);
        assert_eq!(
            failure("x550").unwrap().reply().to_string(),
            "550 5.0.0 failure as asked for by the address"
        );
    }
}
