//! What the name of a refusal means in metrics, in the log and in traces.

use postrider_observe::{metrics::Reason, trace::EventType};

/// What the name of a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// The reason in metrics and in the log.
    pub reason: Reason,
    /// The type of the event in a trace.
    pub event: EventType,
}

/// Makes the table of names.
macro_rules! meanings {
    ($($name:literal => $reason:ident, $event:ident;)*) => {
        impl Meaning {
            /// The meaning of a name. None: nobody refuses for that reason.
            pub(super) fn of(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self {
                        reason: Reason::$reason,
                        event: EventType::$event,
                    }),)*
                    _ => None,
                }
            }
        }
    };
}

impl Meaning {
    /// That of a refusal whose reply carries no name.
    pub(super) const OTHER: Self = Self {
        reason: Reason::Other,
        event: EventType::PostriderRefused,
    };
}

meanings! {
    // Of the protocol.
    "stopping" => Stopping, SmtpError;
    "timeout" => Other, SmtpTimeLimitExceeded;
    "early_talker" => EarlyTalker, SmtpError;
    "not_smtp" => NotSmtp, SmtpInvalidCommand;
    "after_starttls" => Sequence, SmtpError;
    "unknown_command" => Syntax, SmtpInvalidCommand;
    "syntax" => Syntax, SmtpSyntaxError;
    "line_too_long" => Syntax, SmtpRequestTooLarge;
    "ehlo_first" => Sequence, SmtpDidNotSayEhlo;
    "mail_first" => Sequence, SmtpMailFromMissing;
    "rcpt_first" => Sequence, SmtpRcptToMissing;
    "second_mail" => Sequence, SmtpMultipleMailFrom;
    "sequence" => Sequence, SmtpError;
    "not_offered" => Syntax, SmtpCommandNotImplemented;
    "xclient" => Other, SmtpError;
    "parameter" => Parameter, SmtpInvalidParameter;
    "parameter_unknown" => Parameter, SmtpUnsupportedParameter;
    "address_syntax" => Parameter, SmtpInvalidParameter;
    "needs_smtputf8" => Parameter, SmtpInvalidParameter;
    "requiretls" => RequireTls, SmtpRequireTlsDisabled;
    "size" => Size, SmtpMessageTooLarge;
    "message_recipients" => Recipients, SmtpTooManyRecipients;
    "connection_messages" => Rate, SmtpTooManyMessages;
    "too_many_errors" => Errors, SmtpError;
    "bare_newline" => BareNewline, SmtpMessageParseFailed;
    "nul" => Syntax, SmtpMessageParseFailed;
    "text_line_too_long" => Syntax, SmtpMessageParseFailed;
    "login_without_tls" => Login, SmtpAuthNotAllowed;
    "login_required" => Login, SmtpMailFromUnauthenticated;
    "login_syntax" => Login, AuthFailed;
    "login_given_up" => Login, AuthFailed;
    "no_scram_keys" => Login, AuthFailed;
    "bad_credentials" => Login, AuthFailed;
    "other" => Other, PostriderRefused;
    // Of the decision.
    "login_elsewhere" => Login, SmtpAuthNotAllowed;
    "too_many_logins" => Login, AuthTooManyAttempts;
    "too_many_failed_logins" => Login, AuthTooManyAttempts;
    "password_too_weak" => Login, AuthFailed;
    "login_disabled" => Login, AuthFailed;
    "may_not_act_as" => Login, AuthFailed;
    "sender_not_allowed" => LoginSender, SmtpMailFromUnauthorized;
    "author_unclear" => FromField, SmtpMessageParseFailed;
    "name_of_another" => LoginSender, SmtpMailFromUnauthorized;
    "sender_domain_disabled" => Disabled, SmtpMailFromNotAllowed;
    "postmaster_without_domain" => Parameter, SmtpInvalidRecipientAddress;
    "too_many_connections" => Rate, SmtpRateLimitExceeded;
    "too_many_messages" => Rate, SmtpRateLimitExceeded;
    "too_many_recipients" => Rate, SmtpRateLimitExceeded;
    "too_many_bytes" => Rate, SmtpRateLimitExceeded;
    "account_flooded" => AccountRate, SmtpRateLimitExceeded;
    "sender_literal" => SenderLiteral, SmtpInvalidSenderAddress;
    "sender_takes_no_mail" => SenderDomain, SmtpInvalidSenderAddress;
    "sender_null_mx" => SenderNullMx, SmtpInvalidSenderAddress;
    "sender_no_answer" => SenderDns, SmtpMailFromNotAllowed;
    "one_recipient_of_report" => Recipients, SmtpTooManyRecipients;
    "too_many_targets" => Recipients, SmtpTooManyRecipients;
    "tls_required" => TlsRequired, SmtpError;
    "too_many_unknown_recipients" => Unknown, SmtpTooManyInvalidRcpt;
    "greylisted" => Greylist, SmtpRcptToGreylisted;
    "listed" => Dnsbl, SecurityIpBlocked;
    "earlier_junk" => Reputation, PostriderRefused;
    "not_local" => Relay, SmtpRelayNotAllowed;
    "bad_return" => Unknown, SmtpMailboxDoesNotExist;
    "unknown_recipient" => Unknown, SmtpMailboxDoesNotExist;
    "disabled_domain" => Disabled, PostriderRefused;
    "destination_refuses" => SmtpError, PostriderRefused;
    "members_only" => AliasFrom, PostriderRefused;
    "member_no_answer" => AliasFrom, PostriderRefused;
    "no_member" => Disabled, PostriderRefused;
    "mail_loop" => Loop, SmtpLoopDetected;
    "from_unclear" => FromField, SmtpMessageParseFailed;
    "dmarc_fail" => Dmarc, PostriderRefused;
    "dmarc_no_answer" => DmarcTemp, PostriderRefused;
    "no_answer" => DmarcTemp, PostriderRefused;
    "delivered_before" => Loop, SmtpLoopDetected;
    "author_not_proved" => AuthRequired, PostriderRefused;
    "author_no_answer" => AuthRequired, PostriderRefused;
    "mailbox_full" => Quota, LimitQuota;
    "mailbox_gone" => Disabled, PostriderRefused;
    "script" => SmtpError, PostriderRefused;
    "hook" => Hook, PostriderRefused;
    "simulated" => Other, PostriderRefused;
    // Of everything else.
    "connections" => Connections, SmtpConcurrencyLimitExceeded;
    "connections_per_network" => ConnectionsNetwork, SmtpConcurrencyLimitExceeded;
    "unlisted_proxy" => Other, SmtpError;
    "proxy_header" => Other, SmtpError;
    "header_size" => Header, SmtpMessageTooLarge;
    "header_lines" => Header, SmtpMessageParseFailed;
    "header_fields" => Header, SmtpMessageParseFailed;
    "mime" => Mime, SmtpMessageParseFailed;
    "text_memory" => Storage, PostriderRefused;
    "disk_full" => DiskFull, PostriderRefused;
    "store" => Storage, PostriderRefused;
    "message_lost" => Other, PostriderRefused;
    "account_limit" => AccountLimit, LimitTooManyRequests;
    "submission" => Other, PostriderRefused;
    "extra_data" => Header, SmtpMessageParseFailed;
    "delivery_time" => Parameter, SmtpInvalidParameter;
    "token_unchecked" => Login, AuthFailed;
    "login_unchecked" => Login, AuthFailed;
}
