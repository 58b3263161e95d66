//! What a site shows of itself: the meaning of a result for the pace of the site.

use postrider_config::{ReplyRule, ReplyScope};
use postrider_smtp::{
    Cause, DeliveryStatus, Stage,
    bounce::{Class, Said, classify},
    client::Again,
};

/// What a result says of the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Observation {
    /// The site speaks as it should. The result is about the message.
    Answered,
    /// The site has too many connections of ours.
    TooMany,
    /// The site is busy, or gets too much of us at once.
    Busy,
    /// A connection failed, or ended in the middle: silence, an error of TLS, garbage.
    Failed,
    /// The site has blocked us.
    Blocked {
        /// With a 5xx reply.
        permanent: bool,
    },
    /// The site refused our login.
    LoginRefused,
}

/// The words of a limit of connections at once.
const TOO_MANY: [&str; 8] = [
    "too many connections",
    "too many concurrent",
    "too many simultaneous",
    "too many sessions",
    "too many open connections",
    "concurrent connections",
    "simultaneous connections",
    "connection limit",
];
/// The words of a limit in a time.
const IN_A_TIME: [&str; 7] = [
    "rate",
    "frequen",
    "per second",
    "per minute",
    "per hour",
    "per day",
    "in the last",
];

impl Observation {
    /// What a failure says of the site, and its class. No observation: it says nothing, since it is
    /// a decision or a fault of ours, or of the DNS. `rule` is that of the provider for the reply.
    /// What it says of a message or of the domain of a sender says nothing of the site.
    pub(crate) fn of(status: &DeliveryStatus, rule: Option<&ReplyRule>) -> (Option<Self>, Class) {
        let class = rule.map_or_else(|| classify(&Said::from(status)), |rule| rule.class);
        let is_ours = rule.is_none_or(|rule| rule.scope == ReplyScope::Source);
        let seen = match status.cause {
            // We and the server have no way of logging in that both take.
            Cause::Local if status.stage() == Some(Stage::Auth) => Some(Self::LoginRefused),
            Cause::Local | Cause::Dns => None,
            Cause::Connect | Cause::Tls | Cause::Timeout | Cause::Lost | Cause::Protocol => {
                Some(Self::Failed)
            }
            Cause::Reply if !is_ours => Some(Self::Answered),
            Cause::Reply => Some(Self::of_reply(status, class)),
        };
        (seen, class)
    }

    /// The same for a message of a transaction. A server may end a connection between two messages,
    /// and that is no failure. But it may say then that it gets too much.
    pub(crate) fn of_transaction(
        status: &DeliveryStatus,
        rule: Option<&ReplyRule>,
        again: Again,
    ) -> (Option<Self>, Class) {
        let (seen, class) = Self::of(status, rule);
        let seen = seen.filter(|seen| match again {
            Again::No => true,
            Again::NewTransaction | Again::AnotherHost => false,
            Again::NewConnection => {
                *seen == Self::TooMany || (*seen == Self::Busy && class == Class::RateLimited)
            }
        });
        (seen, class)
    }

    fn of_reply(status: &DeliveryStatus, class: Class) -> Self {
        let text = status.text.to_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        let temporary = !status.permanent || matches!(class, Class::RateLimited);
        if class == Class::Blocked {
            return Self::Blocked {
                permanent: status.permanent,
            };
        }
        if class == Class::Login && status.stage() == Some(Stage::Auth) {
            return Self::LoginRefused;
        }
        let by_words = temporary && says(&TOO_MANY) && !says(&IN_A_TIME);
        if by_words || class == Class::Connections {
            return Self::TooMany;
        }
        if status.code == 421 || class == Class::RateLimited {
            return Self::Busy;
        }
        match status.stage() {
            // The server does not speak with us, and does not say that it is busy.
            Some(
                Stage::Connect | Stage::Greeting | Stage::Ehlo | Stage::StartTls | Stage::Auth,
            ) => Self::Failed,
            _ => Self::Answered,
        }
    }
}

#[cfg(test)]
mod tests {
    use postrider_smtp::EnhancedCode;

    use super::*;
    use crate::judge::tests::status;

    #[test]
    fn replies() {
        use Observation::{Answered, Blocked, Busy, Failed, LoginRefused, TooMany};
        let (soft, hard) = (Blocked { permanent: false }, Blocked { permanent: true });
        for (command, line, expected) in [
            ("RCPT", "550 5.1.1 no such user", Answered),
            ("RCPT", "451 4.3.0 try later", Answered),
            ("RCPT", "450 4.7.1 greylisted, try again later", Answered),
            ("end of data", "554 5.7.1 spam", Answered),
            (
                "greeting",
                "421 4.7.0 too many connections from your host",
                TooMany,
            ),
            (
                "greeting",
                "421 Too many concurrent SMTP connections from this IP address",
                TooMany,
            ),
            ("MAIL", "452 4.3.2 Connection limit reached", TooMany),
            (
                "greeting",
                "421 too many connections in the last hour",
                Busy,
            ),
            ("EHLO", "421 4.7.0 connection rate limit exceeded", Busy),
            ("greeting", "421 4.3.2 service not available", Busy),
            ("MAIL", "421 4.4.2 closing", Busy),
            ("RCPT", "450 4.7.28 too many messages", Busy),
            ("RCPT", "550 Ip frequency limited", Busy),
            (
                "MAIL",
                "550 5.7.1 192.0.2.1 is listed at zen.spamhaus.org",
                hard,
            ),
            (
                "greeting",
                "554 5.7.1 your IP is blocked using a block list",
                hard,
            ),
            (
                "RCPT",
                "450 4.7.1 192.0.2.1 is listed at zen.spamhaus.org",
                soft,
            ),
            ("AUTH", "535 5.7.8 wrong password", LoginRefused),
            ("RCPT", "530 5.7.0 authentication required", Answered),
            ("greeting", "554 no mail service here", Failed),
            ("EHLO", "502 5.5.1 what", Failed),
        ] {
            let status = status(command, line);
            assert_eq!(
                Observation::of(&status, None).0,
                Some(expected),
                "{command}: {line}"
            );
        }
    }

    #[test]
    fn a_rule_tells_what_a_reply_is_about() {
        use Observation::{Answered, Blocked, Busy, TooMany};
        let reply = status("RCPT", "421 4.7.28 x");
        for (class, scope, expected) in [
            (Class::RateLimited, ReplyScope::Source, Busy),
            (Class::RateLimited, ReplyScope::Domain, Answered),
            (Class::RateLimited, ReplyScope::Message, Answered),
            (Class::Connections, ReplyScope::Source, TooMany),
            (
                Class::Blocked,
                ReplyScope::Source,
                Blocked { permanent: false },
            ),
            (Class::Blocked, ReplyScope::Domain, Answered),
        ] {
            let rule = ReplyRule {
                pattern: "x".to_owned(),
                class,
                scope,
                rest: None,
            };
            let seen = Observation::of(&reply, Some(&rule));
            assert_eq!(seen, (Some(expected), class), "{scope}");
        }
    }

    /// A server that takes no login of ours is not asked for each message.
    #[test]
    fn a_login_that_we_give_up_is_one_that_is_refused() {
        let status = DeliveryStatus::transient(Cause::Local, EnhancedCode::SECURITY_TRANSIENT, "x");
        let seen = Observation::of(&status.with_command("AUTH"), None).0;
        assert_eq!(seen, Some(Observation::LoginRefused));
    }

    #[test]
    fn failures_without_a_reply() {
        for (cause, expected) in [
            (Cause::Local, None),
            (Cause::Dns, None),
            (Cause::Connect, Some(Observation::Failed)),
            (Cause::Tls, Some(Observation::Failed)),
            (Cause::Timeout, Some(Observation::Failed)),
            (Cause::Lost, Some(Observation::Failed)),
            (Cause::Protocol, Some(Observation::Failed)),
        ] {
            let status = DeliveryStatus::transient(cause, EnhancedCode::NO_ANSWER, "x");
            assert_eq!(Observation::of(&status, None).0, expected, "{cause:?}");
            let (between, _) = Observation::of_transaction(&status, None, Again::NewConnection);
            assert_eq!(between, None, "{cause:?}");
            assert_eq!(
                Observation::of_transaction(&status, None, Again::No).0,
                expected
            );
        }
    }

    #[test]
    fn a_connection_that_ends_between_messages_is_no_failure() {
        for (line, expected) in [
            ("421 4.4.2 idle for too long", None),
            (
                "421 4.7.28 too many messages, slow down",
                Some(Observation::Busy),
            ),
        ] {
            let status = status("MAIL", line);
            let (seen, _) = Observation::of_transaction(&status, None, Again::NewConnection);
            assert_eq!(seen, expected, "{line}");
        }
        let full = status("RCPT", "452 4.5.3 too many recipients");
        assert_eq!(
            Observation::of_transaction(&full, None, Again::NewTransaction).0,
            None
        );
    }
}
