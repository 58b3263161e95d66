//! The types of the events of traces.
//!
//! The names are Stalwart's where it has the same event (`crates/trc` of 0.15), so that its clients
//! find what they know; what only we have begins with `postrider.`. The numbers are part of the
//! format of the files of traces: a number never changes, and is never used again.

use std::fmt;

macro_rules! event_types {
    ($($number:literal $variant:ident $name:literal $text:literal,)*) => {
        /// What happened: the type of an event of a trace.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum EventType {
            $(
                #[doc = concat!("`", $name, "`: ", $text, ".")]
                $variant = $number,
            )*
        }

        impl EventType {
            /// All types, by number.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name in the management API, such as `smtp.mail-from`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// A short text about it, for people.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The type with a number. None: a newer program wrote it.
            pub(super) const fn from_number(number: u16) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The type with a name. None: there is no such type.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

event_types! {
    // Sessions.
    1 SmtpConnectionStart "smtp.connection-start" "an SMTP session starts",
    2 SmtpConnectionEnd "smtp.connection-end" "the SMTP session ends",
    3 SmtpEhlo "smtp.ehlo" "EHLO or HELO",
    4 SmtpStartTls "smtp.start-tls" "STARTTLS",
    5 TlsHandshake "tls.handshake" "TLS is in use",
    6 TlsHandshakeError "tls.handshake-error" "the TLS handshake failed",
    7 AuthSuccess "auth.success" "a login",
    8 AuthFailed "auth.failed" "a login was refused",
    9 AuthTooManyAttempts "auth.too-many-attempts" "too many logins failed",
    10 SmtpQuit "smtp.quit" "QUIT",
    11 SmtpRset "smtp.rset" "RSET",
    // Checks.
    20 SmtpIprevPass "smtp.iprev-pass" "the address of the client has a name that leads back to it",
    21 SmtpIprevFail "smtp.iprev-fail" "the address of the client has no name that leads back to it",
    22 SmtpSpfEhloPass "smtp.spf-ehlo-pass" "SPF allows the client for the name in EHLO",
    23 SmtpSpfEhloFail "smtp.spf-ehlo-fail" "SPF does not allow the client for the name in EHLO",
    24 SmtpSpfFromPass "smtp.spf-from-pass" "SPF allows the client for the sender",
    25 SmtpSpfFromFail "smtp.spf-from-fail" "SPF does not allow the client for the sender",
    26 SmtpDkimPass "smtp.dkim-pass" "a DKIM signature is right",
    27 SmtpDkimFail "smtp.dkim-fail" "no DKIM signature is right",
    28 SmtpArcPass "smtp.arc-pass" "the ARC chain is right",
    29 SmtpArcFail "smtp.arc-fail" "the ARC chain is broken",
    30 SmtpDmarcPass "smtp.dmarc-pass" "DMARC passes",
    31 SmtpDmarcFail "smtp.dmarc-fail" "DMARC fails",
    32 SpamClassify "spam.classify" "the junk filter has a verdict",
    33 SpamDnsbl "spam.dnsbl" "a DNSBL was asked",
    34 SpamDnsblError "spam.dnsbl-error" "a DNSBL gave no answer",
    // Commands.
    40 SmtpMailFrom "smtp.mail-from" "MAIL FROM",
    41 SmtpRcptTo "smtp.rcpt-to" "RCPT TO",
    // Refusals.
    50 SmtpError "smtp.error" "refused",
    51 SmtpConcurrencyLimitExceeded "smtp.concurrency-limit-exceeded" "too many connections",
    52 SmtpRateLimitExceeded "smtp.rate-limit-exceeded" "too much in too short a time",
    53 SmtpCommandNotImplemented "smtp.command-not-implemented" "the command is not offered",
    54 SmtpInvalidCommand "smtp.invalid-command" "the command is unknown",
    55 SmtpSyntaxError "smtp.syntax-error" "the command has a syntax error",
    56 SmtpInvalidParameter "smtp.invalid-parameter" "a parameter is wrong",
    57 SmtpUnsupportedParameter "smtp.unsupported-parameter" "a parameter is not offered",
    58 SmtpInvalidEhlo "smtp.invalid-ehlo" "the name in EHLO is wrong",
    59 SmtpDidNotSayEhlo "smtp.did-not-say-ehlo" "a command before EHLO",
    60 SmtpMailFromMissing "smtp.mail-from-missing" "a command before MAIL FROM",
    61 SmtpRcptToMissing "smtp.rcpt-to-missing" "a command before RCPT TO",
    62 SmtpMultipleMailFrom "smtp.multiple-mail-from" "a second MAIL FROM",
    63 SmtpRequestTooLarge "smtp.request-too-large" "the line is too long",
    64 SmtpMessageTooLarge "smtp.message-too-large" "the message is too large",
    65 SmtpMessageParseFailed "smtp.message-parse-failed" "the message is malformed",
    66 SmtpLoopDetected "smtp.loop-detected" "the message goes in circles",
    67 SmtpRequireTlsDisabled "smtp.require-tls-disabled" "REQUIRETLS can't be kept",
    68 SmtpStartTlsUnavailable "smtp.start-tls-unavailable" "TLS can't begin",
    69 SmtpTimeLimitExceeded "smtp.time-limit-exceeded" "the session took too long",
    70 SmtpTransferLimitExceeded "smtp.transfer-limit-exceeded" "the session had too many bytes",
    71 SmtpTooManyMessages "smtp.too-many-messages" "the session had too many messages",
    72 SmtpTooManyRecipients "smtp.too-many-recipients" "the transaction has too many recipients",
    73 SmtpTooManyInvalidRcpt "smtp.too-many-invalid-rcpt" "too many recipients were refused",
    74 SmtpMailFromUnauthenticated "smtp.mail-from-unauthenticated" "the sender needs a login",
    75 SmtpMailFromUnauthorized "smtp.mail-from-unauthorized" "the login may not use the sender",
    76 SmtpMailFromNotAllowed "smtp.mail-from-not-allowed" "the sender is refused",
    77 SmtpInvalidSenderAddress "smtp.invalid-sender-address" "the sender's domain takes no mail",
    78 SmtpInvalidRecipientAddress "smtp.invalid-recipient-address" "the recipient is no address",
    79 SmtpMailboxDoesNotExist "smtp.mailbox-does-not-exist" "no such mailbox",
    80 SmtpRelayNotAllowed "smtp.relay-not-allowed" "the recipient is elsewhere",
    81 SmtpRcptToGreylisted "smtp.rcpt-to-greylisted" "the sender has to come again",
    82 SmtpAuthNotAllowed "smtp.auth-not-allowed" "logins are not taken here",
    83 SmtpAuthMechanismNotSupported "smtp.auth-mechanism-not-supported" "the mechanism is not offered",
    84 SecurityIpBlocked "security.ip-blocked" "the address of the client is blocked",
    85 LimitQuota "limit.quota" "the mailbox is full",
    86 LimitTooManyRequests "limit.too-many-requests" "the account sends too much",
    // Hooks.
    100 MtaHookActionAccept "mta-hook.action-accept" "the hook accepts",
    101 MtaHookActionDiscard "mta-hook.action-discard" "the hook discards",
    102 MtaHookActionQuarantine "mta-hook.action-quarantine" "the hook takes the message for junk",
    103 MtaHookActionReject "mta-hook.action-reject" "the hook rejects",
    104 MtaHookError "mta-hook.error" "the hook gave no answer",
    105 MilterActionAccept "milter.action-accept" "the milter accepts",
    106 MilterActionDiscard "milter.action-discard" "the milter discards",
    107 MilterActionReject "milter.action-reject" "the milter rejects",
    108 MilterActionTempFail "milter.action-temp-fail" "the milter rejects for now",
    109 MilterActionReplyCode "milter.action-reply-code" "the milter rejects with its own reply",
    110 MilterActionShutdown "milter.action-shutdown" "the milter ends the session",
    111 MilterActionConnectionFailure "milter.action-connection-failure" "the milter breaks the connection",
    112 MilterIoError "milter.io-error" "the milter gave no answer",
    113 MilterTimeout "milter.timeout" "the milter took too long",
    // Decision.
    120 PostriderDecision "postrider.decision" "what becomes of the message",
    121 PostriderRefused "postrider.refused" "refused",
    122 PostriderScript "postrider.script" "a script of the account ran",
    // Taken.
    130 QueueQueueMessage "queue.queue-message" "queued",
    131 QueueQueueMessageAuthenticated "queue.queue-message-authenticated" "queued for an account",
    132 QueueQueueDsn "queue.queue-dsn" "a report about delivery is queued",
    133 QueueQueueReport "queue.queue-report" "a report to another domain is queued",
    134 QueueQueueAutogenerated "queue.queue-autogenerated" "a message of the server is queued",
    135 MessageIngestHam "message-ingest.ham" "kept in a mailbox",
    136 MessageIngestSpam "message-ingest.spam" "kept in a mailbox as junk",
    137 MessageIngestDuplicate "message-ingest.duplicate" "the mailbox has it already",
    138 MessageIngestError "message-ingest.error" "the mailbox did not take it",
    139 IncomingReportDmarcReport "incoming-report.dmarc-report" "a DMARC report came",
    140 IncomingReportTlsReport "incoming-report.tls-report" "a TLS report came",
    141 IncomingReportAbuseReport "incoming-report.abuse-report" "a complaint came",
    142 IncomingReportDmarcParseFailed "incoming-report.dmarc-parse-failed" "a DMARC report can't be read",
    143 IncomingReportTlsRpcParseFailed "incoming-report.tls-rpc-parse-failed" "a TLS report can't be read",
    144 IncomingReportArfParseFailed "incoming-report.arf-parse-failed" "a complaint can't be read",
    145 IncomingReportDecompressError "incoming-report.decompress-error" "a report can't be unpacked",
    146 IncomingReportAuthFailureReport "incoming-report.auth-failure-report" "a report about one failure came",
    147 IncomingReportFraudReport "incoming-report.fraud-report" "a report about fraud came",
    148 IncomingReportNotSpamReport "incoming-report.not-spam-report" "a report that mail is no junk came",
    149 IncomingReportVirusReport "incoming-report.virus-report" "a report about a virus came",
    150 IncomingReportOtherReport "incoming-report.other-report" "a report of another kind came",
    // Attempts.
    160 DeliveryAttemptStart "delivery.attempt-start" "an attempt starts",
    161 DeliveryAttemptEnd "delivery.attempt-end" "the attempt ends",
    162 DeliveryMxLookup "delivery.mx-lookup" "the MX hosts",
    163 DeliveryMxLookupFailed "delivery.mx-lookup-failed" "the MX hosts could not be found",
    164 DeliveryNullMx "delivery.null-mx" "the domain takes no mail",
    165 DeliveryIpLookup "delivery.ip-lookup" "the addresses of a host",
    166 DeliveryIpLookupFailed "delivery.ip-lookup-failed" "the addresses of a host could not be found",
    167 DeliveryConnect "delivery.connect" "connected",
    168 DeliveryConnectError "delivery.connect-error" "the connection failed",
    169 DeliveryGreetingFailed "delivery.greeting-failed" "the greeting refuses",
    170 DeliveryEhlo "delivery.ehlo" "EHLO",
    171 DeliveryEhloRejected "delivery.ehlo-rejected" "EHLO was refused",
    172 DeliveryStartTls "delivery.start-tls" "TLS is in use",
    173 DeliveryStartTlsUnavailable "delivery.start-tls-unavailable" "the host offers no STARTTLS",
    174 DeliveryStartTlsError "delivery.start-tls-error" "STARTTLS failed",
    175 DeliveryStartTlsDisabled "delivery.start-tls-disabled" "TLS is not to be used",
    176 DeliveryImplicitTlsError "delivery.implicit-tls-error" "TLS failed",
    177 DeliveryAuth "delivery.auth" "logged in at the host",
    178 DeliveryAuthFailed "delivery.auth-failed" "the host refused the login",
    179 DeliveryMailFrom "delivery.mail-from" "the host took MAIL FROM",
    180 DeliveryMailFromRejected "delivery.mail-from-rejected" "the host refused MAIL FROM",
    181 DeliveryRcptTo "delivery.rcpt-to" "the host took the recipient",
    182 DeliveryRcptToRejected "delivery.rcpt-to-rejected" "the host refused the recipient",
    183 DeliveryRcptToFailed "delivery.rcpt-to-failed" "the host did not answer to the recipient",
    184 DeliveryMessageRejected "delivery.message-rejected" "the host refused the message",
    185 DeliveryRateLimitExceeded "delivery.rate-limit-exceeded" "a limit of the site holds the attempt up",
    186 DeliveryConcurrencyLimitExceeded "delivery.concurrency-limit-exceeded" "the site has too many connections",
    187 DeliveryRawOutput "delivery.raw-output" "sent to the host",
    188 DeliveryRawInput "delivery.raw-input" "received from the host",
    190 MtaStsPolicyFetch "mta-sts.policy-fetch" "the MTA-STS policy",
    191 MtaStsPolicyFetchError "mta-sts.policy-fetch-error" "the MTA-STS policy could not be fetched",
    192 MtaStsPolicyNotFound "mta-sts.policy-not-found" "no MTA-STS policy",
    193 MtaStsInvalidPolicy "mta-sts.invalid-policy" "the MTA-STS policy is malformed",
    194 MtaStsAuthorized "mta-sts.authorized" "the MTA-STS policy names the host",
    195 MtaStsNotAuthorized "mta-sts.not-authorized" "the MTA-STS policy does not name the host",
    200 DaneTlsaRecordFetch "dane.tlsa-record-fetch" "the TLSA records",
    201 DaneTlsaRecordFetchError "dane.tlsa-record-fetch-error" "the TLSA records could not be found",
    202 DaneTlsaRecordNotFound "dane.tlsa-record-not-found" "no TLSA records",
    203 DaneTlsaRecordNotDnssecSigned "dane.tlsa-record-not-dnssec-signed" "the TLSA records are not signed",
    204 DaneTlsaRecordInvalid "dane.tlsa-record-invalid" "a TLSA record can't be used",
    205 DaneTlsaRecordMatch "dane.tlsa-record-match" "a TLSA record matches the certificate",
    206 DaneAuthenticationSuccess "dane.authentication-success" "DANE proves the host",
    207 DaneAuthenticationFailure "dane.authentication-failure" "DANE does not prove the host",
    208 DaneNoCertificatesFound "dane.no-certificates-found" "the host showed no certificate",
    210 TlsRptRecordFetch "tls-rpt.record-fetch" "the domain wants TLS reports",
    211 TlsRptRecordFetchError "tls-rpt.record-fetch-error" "the wish for TLS reports could not be found",
    212 TlsRptRecordNotFound "tls-rpt.record-not-found" "the domain wants no TLS reports",
    // Ends.
    220 DeliveryDelivered "delivery.delivered" "delivered",
    221 DeliveryFailed "delivery.failed" "not delivered",
    222 DeliveryCompleted "delivery.completed" "all recipients of the message have an end",
    223 DeliveryDsnSuccess "delivery.dsn-success" "a report about success",
    224 DeliveryDsnTempFail "delivery.dsn-temp-fail" "a report about a delay",
    225 DeliveryDsnPermFail "delivery.dsn-perm-fail" "a report about a failure",
    226 DeliveryDoubleBounce "delivery.double-bounce" "a failure that nobody is told of",
    227 QueueRescheduled "queue.rescheduled" "tried again later",
    228 QueueRateLimitExceeded "queue.rate-limit-exceeded" "a limit of the queue",
    // Rest.
    240 PostriderWebhookStart "postrider.webhook-start" "a webhook is called",
    241 PostriderWebhookEnd "postrider.webhook-end" "the webhook call ends",
    242 PostriderApiStart "postrider.api-start" "an API call starts",
    243 PostriderApiEnd "postrider.api-end" "the API call ends",
    244 PostriderChanged "postrider.changed" "a message was changed",
    245 PostriderSuppressed "postrider.suppressed" "a recipient is suppressed",
    246 PostriderLeftOut "postrider.left-out" "events were left out",
    247 PostriderPostponed "postrider.postponed" "put off without an attempt",
    248 PostriderGreylist "postrider.greylist" "the greylist was asked about a doubtful sender",
    249 PostriderDelayed "postrider.delayed" "the answer waited, since the sender is a stranger",
}

impl EventType {
    /// The number in files.
    pub(super) const fn number(self) -> u16 {
        self as u16
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_lead_back() {
        let mut last = 0;
        for event in EventType::ALL {
            assert_eq!(EventType::from_name(event.name()), Some(*event));
            assert_eq!(EventType::from_number(event.number()), Some(*event));
            assert!(
                event.number() > last,
                "{event} is in order, and is there once"
            );
            last = event.number();
        }
        assert_eq!(EventType::from_name("smtp.unknown"), None);
        assert_eq!(EventType::from_number(0), None);
    }
}
