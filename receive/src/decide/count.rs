//! The names of refusals. Counters and the log use these names.

use super::Refusal;

/// Gives each kind of refusal a name. A kind that is missing does not compile.
macro_rules! names {
    ($($kind:ident: $name:literal,)*) => {
        /// The names of all kinds.
        pub(crate) const NAMES: &[&str] = &[$($name,)*];

        impl Refusal {
            /// The name of the kind, for counters and the log. It never changes.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$kind { .. } => $name,)*
                }
            }
        }
    };
}

names! {
    LoginElsewhere: "login_elsewhere",
    TooManyLogins: "too_many_logins",
    TooManyFailedLogins: "too_many_failed_logins",
    BadCredentials: "bad_credentials",
    PasswordTooWeak: "password_too_weak",
    LoginDisabled: "login_disabled",
    MayNotActAs: "may_not_act_as",
    LoginRequired: "login_required",
    SenderNotAllowed: "sender_not_allowed",
    AuthorUnclear: "author_unclear",
    NameOfAnother: "name_of_another",
    SenderDomainDisabled: "sender_domain_disabled",
    PostmasterWithoutDomain: "postmaster_without_domain",
    TooManyConnections: "too_many_connections",
    TooManyMessages: "too_many_messages",
    TooManyRecipients: "too_many_recipients",
    TooManyBytes: "too_many_bytes",
    AccountFlooded: "account_flooded",
    SenderLiteral: "sender_literal",
    SenderTakesNoMail: "sender_takes_no_mail",
    SenderNullMx: "sender_null_mx",
    SenderNoAnswer: "sender_no_answer",
    OneRecipientOfReport: "one_recipient_of_report",
    TooManyTargets: "too_many_targets",
    TlsRequired: "tls_required",
    TooManyUnknown: "too_many_unknown_recipients",
    Greylisted: "greylisted",
    Listed: "listed",
    EarlierJunk: "earlier_junk",
    NotLocal: "not_local",
    BadReturn: "bad_return",
    UnknownRecipient: "unknown_recipient",
    DisabledDomain: "disabled_domain",
    DestinationRefuses: "destination_refuses",
    MembersOnly: "members_only",
    MemberNoAnswer: "member_no_answer",
    NoMember: "no_member",
    MailLoop: "mail_loop",
    FromUnclear: "from_unclear",
    DmarcFail: "dmarc_fail",
    DmarcNoAnswer: "dmarc_no_answer",
    NoAnswer: "no_answer",
    DeliveredBefore: "delivered_before",
    AuthorNotProved: "author_not_proved",
    AuthorNoAnswer: "author_no_answer",
    MailboxFull: "mailbox_full",
    MailboxGone: "mailbox_gone",
    Script: "script",
    Hook: "hook",
    Simulated: "simulated",
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_distinct_and_fit_into_metrics() {
        let distinct: BTreeSet<_> = NAMES.iter().collect();
        assert_eq!(distinct.len(), NAMES.len());
        for name in NAMES {
            let fits = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
            assert!(!name.is_empty() && name.bytes().all(fits), "{name}");
        }
    }

    #[test]
    fn the_reply_of_a_refusal_has_its_name() {
        for refusal in [
            Refusal::Greylisted,
            Refusal::MailLoop,
            Refusal::DestinationRefuses {
                code: 550,
                text: "no".to_owned(),
            },
        ] {
            assert_eq!(refusal.reply().reason(), Some(refusal.name()));
        }
    }
}
