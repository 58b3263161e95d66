//! The values of labels.
//!
//! They are closed, and never an address, a domain or a text of somebody else: nobody outside can
//! make a series.

use super::family::Label;

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident = $text:literal),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
            #[allow(missing_docs, reason = "the text of a value says what it is")]
            pub enum $name { $($(#[$value_doc])* $value),* }

            impl Label for $name {
                const ALL: &'static [Self] = &[$(Self::$value),*];

                fn place(self) -> usize {
                    self as usize
                }

                fn text(self) -> &'static str {
                    match self { $(Self::$value => $text),* }
                }
            }
        )*

        /// The names and texts of all labels, for tests of the list.
        #[cfg(test)]
        pub(super) const ALL: &[(&str, fn() -> Vec<&'static str>)] = &[
            $((stringify!($name), || $name::ALL.iter().map(|value| value.text()).collect())),*
        ];
    };
}

labels! {
    /// A service with connections of its own.
    Listener {
        Smtp = "smtp", Submission = "submission", Submissions = "submissions", Http = "http",
        Https = "https",
        /// The socket of the command line.
        Control = "control",
    }
    /// What became of a new connection.
    Accepted {
        Ok = "ok",
        /// All places are taken.
        Limit = "limit",
        /// The network of the client has as many as it may.
        Network = "network",
        /// There were no file descriptors left.
        Descriptors = "descriptors",
        /// The connection could not be taken or served, for example behind a proxy.
        Failed = "failed",
    }
    /// A service that takes mail over SMTP. Submission over TLS is submission.
    Service { Smtp = "smtp", Submission = "submission" }
    /// A command of a client.
    Command {
        Helo = "helo", Ehlo = "ehlo", StartTls = "starttls", Auth = "auth", Mail = "mail",
        Rcpt = "rcpt", Data = "data", Bdat = "bdat", Rset = "rset", Noop = "noop", Vrfy = "vrfy",
        Quit = "quit", Xclient = "xclient", Other = "other",
    }
    /// A command whose answer needs work.
    TimedCommand {
        Mail = "mail", Rcpt = "rcpt", Data = "data", Bdat = "bdat", Auth = "auth",
    }
    /// The first digit of a reply.
    ReplyClass { Two = "2", Three = "3", Four = "4", Five = "5" }
    /// Why a command, a message or a connection was refused.
    Reason {
        Stopping = "stopping", Connections = "connections",
        ConnectionsNetwork = "connections_network", Rate = "rate", EarlyTalker = "early_talker",
        NotSmtp = "not_smtp", Syntax = "syntax", Parameter = "parameter", Sequence = "sequence",
        Size = "size", RequireTls = "requiretls", Errors = "errors", Login = "login",
        LoginSender = "login_sender", SenderLiteral = "sender_literal",
        SenderDomain = "sender_domain", SenderNullMx = "sender_null_mx", SenderDns = "sender_dns",
        Recipients = "recipients", TlsRequired = "tls_required", Relay = "relay",
        Disabled = "disabled", Unknown = "unknown", SmtpError = "smtp_error", Quota = "quota",
        Greylist = "greylist", BareNewline = "bare_newline", Header = "header", Mime = "mime",
        Loop = "loop", FromField = "from_field", Hook = "hook", Spf = "spf", Dmarc = "dmarc",
        DmarcTemp = "dmarc_temp", AuthRequired = "auth_required", AccountRate = "account_rate",
        AccountLimit = "account_limit", AliasFrom = "alias_from", Reputation = "reputation",
        Content = "content", Dnsbl = "dnsbl", Storage = "storage", DiskFull = "disk_full",
        Other = "other",
    }
    /// The way on which a message was taken.
    By {
        Smtp = "smtp", Submission = "submission", Webapi = "webapi",
        /// The server itself, or the command line.
        Local = "local",
    }
    /// Who began a connection: a client of ours, or we.
    TlsDirection { In = "in", Out = "out" }
    /// The version of TLS.
    TlsVersion {
        Tls12 = "tls12", Tls13 = "tls13",
        /// The handshake failed before there was one.
        None = "none",
    }
    /// Whether something worked.
    Success { Ok = "ok", Failed = "failed" }
    /// Why a handshake failed.
    TlsFailure {
        /// The other side closed the connection.
        Eof = "eof",
        NotTls = "not_tls", Version = "version", Cipher = "cipher", Certificate = "certificate",
        Name = "name",
        /// The other side sent an alert.
        Alert = "alert",
        Timeout = "timeout", Other = "other",
    }
    /// What somebody logged in to.
    LoginService {
        Submission = "submission", Webapi = "webapi", Mailbox = "mailbox", Admin = "admin",
        Account = "account",
    }
    /// What became of a login.
    LoginResult {
        Ok = "ok", Wrong = "wrong", Disabled = "disabled",
        /// The password is right, but too weak to be used.
        Weak = "weak",
        /// There were too many wrong ones.
        Limited = "limited",
        /// What has to be asked did not answer.
        Unavailable = "unavailable",
        Malformed = "malformed",
    }
    /// How somebody logged in: a mechanism of SASL, or of HTTP.
    LoginMechanism {
        Plain = "plain", Login = "login", ScramSha1 = "scram-sha-1",
        ScramSha1Plus = "scram-sha-1-plus", ScramSha256 = "scram-sha-256",
        ScramSha256Plus = "scram-sha-256-plus", External = "external",
        OauthBearer = "oauthbearer", Xoauth2 = "xoauth2", Basic = "basic", Bearer = "bearer",
    }
    /// A check of an incoming message with a result of RFC 8601.
    Check { Spf = "spf", Dkim = "dkim", Dmarc = "dmarc", Arc = "arc", Iprev = "iprev" }
    /// A check that takes time.
    TimedCheck {
        Spf = "spf", Dkim = "dkim", Dmarc = "dmarc", Arc = "arc", Iprev = "iprev",
        Content = "content", Dnsbl = "dnsbl",
    }
    /// A result of RFC 8601 §2.7.
    CheckResult {
        None = "none", Pass = "pass", Fail = "fail", SoftFail = "softfail", Neutral = "neutral",
        Policy = "policy", TempError = "temperror", PermError = "permerror",
    }
    /// What became of a message for a recipient.
    Verdict {
        Inbox = "inbox", Junk = "junk",
        /// It was refused, and a copy is kept.
        Rejects = "rejects",
        Refused = "refused", Deferred = "deferred", Discarded = "discarded", Held = "held",
    }
    /// What the greylist said.
    Greylisted {
        Deferred = "deferred",
        /// It came again after its time.
        Passed = "passed",
        /// It passed before.
        Known = "known",
    }
    /// The type of a question of DNS.
    DnsType {
        A = "A", Aaaa = "AAAA", Mx = "MX", Txt = "TXT", Ptr = "PTR", Tlsa = "TLSA",
        Cname = "CNAME", Other = "other",
    }
    /// The answer to a question of DNS.
    DnsResult {
        Ok = "ok", NxDomain = "nxdomain", NoData = "nodata", ServFail = "servfail",
        Refused = "refused", Timeout = "timeout",
        /// A signature of DNSSEC is wrong.
        Bogus = "bogus",
        /// No server could be asked, or what it said can't be read.
        Error = "error",
    }
    /// Whether a cache had the answer.
    Cached { Hit = "hit", Miss = "miss" }
    /// What a hook said.
    HookResult {
        Accept = "accept", Reject = "reject", TempFail = "tempfail", Discard = "discard",
        Quarantine = "quarantine",
        /// It could not be called.
        Error = "error",
        Timeout = "timeout",
        /// Its answer is none.
        Invalid = "invalid",
    }
    /// The state of a queued message.
    QueueState {
        /// It was not tried yet.
        Scheduled = "scheduled",
        /// It waits after a failed attempt.
        Deferred = "deferred",
        Delivering = "delivering", Held = "held",
    }
    /// What became of an attempt.
    AttemptOutcome { Delivered = "delivered", Deferred = "deferred", Failed = "failed" }
    /// Why an attempt failed, or that it did not.
    Class {
        None = "none", UnknownMailbox = "unknown_mailbox", MailboxDisabled = "mailbox_disabled",
        MailboxFull = "mailbox_full", TooBig = "too_big", Split = "split",
        RecipientRate = "recipient_rate", Greylisted = "greylisted", RateLimited = "rate_limited",
        Connections = "connections", System = "system", Blocked = "blocked", Policy = "policy",
        Authentication = "authentication", Spam = "spam", Content = "content", Sender = "sender",
        Login = "login", Protocol = "protocol", Domain = "domain", Loop = "loop",
        Network = "network", Tls = "tls", Dns = "dns", Unknown = "unknown",
    }
    /// The end of a message.
    End {
        Delivered = "delivered", Failed = "failed", Suppressed = "suppressed",
        Canceled = "canceled",
    }
    /// What an outgoing connection does.
    Usage {
        /// A transaction is under way.
        Busy = "busy",
        /// It is kept for the next one.
        Idle = "idle",
    }
    /// What became of an attempt to connect to a host.
    Connected {
        Ok = "ok", Refused = "refused", Timeout = "timeout", Unreachable = "unreachable",
        Tls = "tls",
        /// The host did not greet, or not kindly.
        Greeting = "greeting",
        /// It was lost later.
        Lost = "lost",
    }
    /// What demanded TLS of an outgoing connection.
    TlsPolicy {
        None = "none", Opportunistic = "opportunistic", MtaSts = "mta_sts", Dane = "dane",
        RequireTls = "requiretls", Configured = "configured",
    }
    /// What became of TLS on an outgoing connection.
    TlsUse { Ok = "ok", Plain = "plain", Failed = "failed" }
    /// The state of a site.
    SiteState {
        Active = "active", Limited = "limited", Resting = "resting", Down = "down",
        Blocked = "blocked", Paused = "paused",
    }
    /// What a report that we send tells of (RFC 3464 §2.3.3).
    DsnAction {
        Failed = "failed", Delayed = "delayed", Delivered = "delivered", Relayed = "relayed",
        Expanded = "expanded",
    }
    /// What put an address on the suppression list.
    SuppressedBy {
        Reply = "reply", Dsn = "dsn", Complaint = "complaint", Unsubscribe = "unsubscribe",
        Manual = "manual",
    }
    /// A limit of an account.
    AccountLimit {
        Messages = "messages",
        /// Recipients to whom the account never wrote before.
        FirstTime = "first_time",
        Quota = "quota",
    }
    /// What a webhook tells of.
    WebhookDirection { Outgoing = "outgoing", Incoming = "incoming" }
    /// What became of a call of a webhook.
    WebhookResult {
        Ok = "ok",
        /// The status was none of 2xx.
        Refused = "refused",
        Failed = "failed", Timeout = "timeout", Connect = "connect", Tls = "tls",
        /// The address may not be called.
        Forbidden = "forbidden",
    }
    /// What an event tells of a message that was sent.
    Event {
        Delivered = "delivered", Suppressed = "suppressed", Delayed = "delayed",
        Failed = "failed", Relayed = "relayed", Expanded = "expanded", Canceled = "canceled",
        Unrecognized = "unrecognized", Unsubscribed = "unsubscribed", Complained = "complained",
        Opened = "opened", Clicked = "clicked",
        /// A message came in.
        Incoming = "incoming",
    }
    /// An API or another part of the HTTP services.
    Api {
        Webapi = "webapi", Mailbox = "mailbox", Manage = "manage", Admin = "admin",
        Account = "account", Inbox = "inbox", WellKnown = "wellknown", Metrics = "metrics",
    }
    /// The class of a status.
    StatusClass {
        Two = "2xx", Three = "3xx", Four = "4xx",
        /// A fault of ours: all but 503.
        Five = "5xx",
        /// The server is full or stops, and says so.
        Unavailable = "503",
    }
    /// A method of the webapi.
    Method {
        Send = "Send", SendBatch = "SendBatch", SuppressionList = "SuppressionList",
        SuppressionAdd = "SuppressionAdd", SuppressionRemove = "SuppressionRemove",
        SuppressionPresent = "SuppressionPresent", MessageList = "MessageList",
        MessageGet = "MessageGet", MessageRawGet = "MessageRawGet",
        MessagePartGet = "MessagePartGet", MessageDelete = "MessageDelete",
        MessageFlagsAdd = "MessageFlagsAdd", MessageFlagsRemove = "MessageFlagsRemove",
        MessageMove = "MessageMove", QueueList = "QueueList", QueueStatus = "QueueStatus",
        QueueCancel = "QueueCancel", Events = "Events", EventStream = "EventStream",
        Stats = "Stats", Other = "other",
    }
    /// Whose fault it was that a call failed.
    CallResult { Ok = "ok", User = "user", Server = "server" }
    /// What a stream brings.
    StreamKind {
        Events = "events", Metrics = "metrics", Traces = "traces", Pages = "pages",
        Mailbox = "mailbox",
    }
    /// A part of the data folder.
    StorePart {
        Journal = "journal", Index = "index", Bodies = "bodies", Traces = "traces",
        Reports = "reports",
    }
    /// Work of the store on the disk.
    StoreOperation {
        Append = "append", Sync = "sync", Checkpoint = "checkpoint", Read = "read", Body = "body",
    }
    /// A file of the configuration.
    ConfigFile { Postrider = "postrider", Domains = "domains" }
    /// What became of a file that was read.
    LoadResult { Ok = "ok", Refused = "refused" }
    /// A record of DNS that our domains and hosts need, or a service that it leads to.
    RecordKind {
        Host = "host", Ptr = "ptr", Mx = "mx", Smtp = "smtp", Tlsa = "tlsa", Spf = "spf",
        Dkim = "dkim", Dmarc = "dmarc", TlsRpt = "tls_rpt", MtaSts = "mta_sts", Srv = "srv",
        Caa = "caa", Other = "other",
    }
    /// A kind of report about mail.
    ReportKind { Dmarc = "dmarc", Tls = "tls", Arf = "arf" }
    /// What became of a report.
    ReportResult {
        Ok = "ok", Unverified = "unverified", Malformed = "malformed", Duplicate = "duplicate",
        Limit = "limit",
    }
    /// What others say of DMARC for mail in our name.
    DmarcReported { Pass = "pass", Fail = "fail", Other = "other" }
    /// What others say of TLS to our hosts: that it worked, or a result type of RFC 8460 §4.3.
    TlsReported {
        Success = "success", StartTls = "starttls-not-supported",
        HostMismatch = "certificate-host-mismatch", Expired = "certificate-expired",
        NotTrusted = "certificate-not-trusted", Validation = "validation-failure",
        TlsaInvalid = "tlsa-invalid", DnssecInvalid = "dnssec-invalid",
        DaneRequired = "dane-required", PolicyFetch = "sts-policy-fetch-error",
        PolicyInvalid = "sts-policy-invalid", WebPki = "sts-webpki-invalid", Other = "other",
    }
    /// The part of the server where a panic was.
    PanicIn {
        Session = "session", Delivery = "delivery", Webhook = "webhook", Store = "store",
        Http = "http", Other = "other",
    }
    /// The level of a line of the log.
    LogLevel { Error = "error", Warn = "warn", Info = "info" }
    /// What a trace is of.
    TraceKind {
        Session = "session", Attempt = "attempt", Webhook = "webhook", Api = "api",
    }
    /// What became of a trace.
    TraceResult {
        Kept = "kept",
        /// It was ordinary, and not of the share that is kept.
        Sampled = "sampled",
        /// There was no room.
        Dropped = "dropped",
    }
    /// Who gets the traces that end.
    TraceReader {
        /// Somebody who follows the story of a message.
        Live = "live",
        /// The collector of OpenTelemetry.
        Otlp = "otlp",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_texts_of_a_label_are_distinct_and_need_no_quoting() {
        for (name, texts) in ALL {
            let texts = texts();
            let distinct: BTreeSet<_> = texts.iter().collect();
            assert_eq!(distinct.len(), texts.len(), "{name}");
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
            for text in texts {
                assert!(!text.is_empty() && text.bytes().all(fits), "{name} {text}");
            }
        }
    }

    #[test]
    fn a_place_is_that_in_the_list() {
        for (place, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(Label::place(*reason), place);
        }
    }
}
