//! The names of the reasons for which a session refuses by itself, without its policy.
//!
//! A [`Reply`](crate::Reply) carries such a name beside what the client sees, for counters and the
//! log. The policy has names of its own.

/// Makes a constant of the name of each reason, and the list of all.
#[macro_export]
macro_rules! reasons {
    ($($(#[$doc:meta])* $constant:ident = $name:literal;)*) => {
        $($(#[$doc])* pub const $constant: &str = $name;)*

        /// All names of this list. A name never changes.
        pub const ALL: &[&str] = &[$($constant,)*];
    };
}

reasons! {
    /// The server stops.
    STOPPING = "stopping";
    /// The client took too long.
    TIMEOUT = "timeout";
    /// The client did not wait for the greeting.
    EARLY_TALKER = "early_talker";
    /// The client speaks HTTP, or TLS where SMTP begins in clear.
    NOT_SMTP = "not_smtp";
    /// Bytes in clear stood behind STARTTLS.
    AFTER_STARTTLS = "after_starttls";
    /// A command that nobody knows.
    UNKNOWN_COMMAND = "unknown_command";
    /// A line that is none.
    SYNTAX = "syntax";
    /// A command line that is too long.
    LINE_TOO_LONG = "line_too_long";
    /// A command before EHLO that comes behind it.
    EHLO_FIRST = "ehlo_first";
    /// A command before MAIL that comes behind it.
    MAIL_FIRST = "mail_first";
    /// A text before a recipient was taken.
    RCPT_FIRST = "rcpt_first";
    /// MAIL in a transaction.
    SECOND_MAIL = "second_mail";
    /// Any other command at the wrong time.
    SEQUENCE = "sequence";
    /// A command or a mechanism that is not offered.
    NOT_OFFERED = "not_offered";
    /// XCLIENT of a peer that may not use it.
    XCLIENT = "xclient";
    /// The arguments of a command are wrong, or a parameter has a wrong value.
    PARAMETER = "parameter";
    /// A parameter that is not known or not offered.
    PARAMETER_UNKNOWN = "parameter_unknown";
    /// An address that is none.
    ADDRESS_SYNTAX = "address_syntax";
    /// An address in UTF-8 without SMTPUTF8.
    NEEDS_SMTPUTF8 = "needs_smtputf8";
    /// REQUIRETLS without TLS.
    REQUIRETLS = "requiretls";
    /// A message that is larger than the limit.
    SIZE = "size";
    /// More recipients than a message may have.
    MESSAGE_RECIPIENTS = "message_recipients";
    /// More messages than a connection may bring.
    CONNECTION_MESSAGES = "connection_messages";
    /// More errors than a client may make.
    TOO_MANY_ERRORS = "too_many_errors";
    /// A text with a CR or an LF alone.
    BARE_NEWLINE = "bare_newline";
    /// A text with a NUL.
    NUL = "nul";
    /// A text with a line that is too long.
    TEXT_LINE_TOO_LONG = "text_line_too_long";
    /// A login without TLS.
    LOGIN_WITHOUT_TLS = "login_without_tls";
    /// A message without a login.
    LOGIN_REQUIRED = "login_required";
    /// An exchange of a login that is not what its mechanism defines.
    LOGIN_SYNTAX = "login_syntax";
    /// The client gave up its login.
    LOGIN_GIVEN_UP = "login_given_up";
    /// Nobody has SCRAM keys for a login.
    NO_SCRAM_KEYS = "no_scram_keys";
    /// A wrong user or password.
    BAD_CREDENTIALS = "bad_credentials";
    /// A reply that carries no name.
    OTHER = "other";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_distinct_and_fit_into_metrics() {
        let distinct: BTreeSet<_> = ALL.iter().collect();
        assert_eq!(distinct.len(), ALL.len());
        for name in ALL {
            let fits =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
            assert!(!name.is_empty() && name.bytes().all(fits), "{name}");
        }
    }
}
