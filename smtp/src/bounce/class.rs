//! The meaning of a server's reply, in one word.

use crate::EnhancedCode;

/// The reason why a message was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// The mailbox does not exist.
    UnknownMailbox,
    /// The mailbox takes no mail: it is closed or suspended, or has moved.
    MailboxDisabled,
    /// The mailbox is full.
    MailboxFull,
    /// The server does not accept our address or domain: block lists, reputation, or a rule for
    /// senders.
    Policy,
    /// SPF, DKIM, DMARC, reverse DNS or TLS is missing.
    Authentication,
    /// The server takes the message for spam, or does not want its content.
    Spam,
    /// Too much mail came at once, or the server uses greylisting.
    RateLimited,
    /// The message is too large.
    TooBig,
    /// The domain does not exist, or the server takes no mail for it.
    Domain,
    /// There was no connection or no reply, or the DNS failed.
    Network,
    /// The message is in a loop.
    Loop,
    /// The server did not understand an address or a command.
    Syntax,
    /// The server has a failure of its own.
    System,
    /// Another reason, or none that is known.
    Unknown,
}

impl Class {
    /// The name in logs and APIs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownMailbox => "unknown_mailbox",
            Self::MailboxDisabled => "mailbox_disabled",
            Self::MailboxFull => "mailbox_full",
            Self::Policy => "policy",
            Self::Authentication => "authentication",
            Self::Spam => "spam",
            Self::RateLimited => "rate_limited",
            Self::TooBig => "too_big",
            Self::Domain => "domain",
            Self::Network => "network",
            Self::Loop => "loop",
            Self::Syntax => "syntax",
            Self::System => "system",
            Self::Unknown => "unknown",
        }
    }
}

/// The words of each class in lower case, with `|` between them. The first class with a word in the
/// text counts, so clearer words come first. A reply that names a block list means it, whatever its
/// code is. And a full mailbox does exist.
const WORDS: [(Class, &str); 13] = [
    (
        Class::Policy,
        "spamhaus|barracuda|spamcop|sorbs|dnsbl|rbl|blocklist|block list|blacklist|black list|blocked using| \
         listed at|is listed in|listed on|poor reputation|bad reputation|low reputation|reputation of the sending| \
         sender reputation|senderscore|your ip|your network is on|client host blocked|banned|mail from your| \
         ip address is blocked|is blocked|blocked by",
    ),
    (
        Class::Authentication,
        "dmarc|spf|dkim|unauthenticated|not authenticated|sender authentication|reverse dns|ptr record|no rdns| \
         does not have a ptr|starttls first|must issue a starttls|requires tls|encryption required",
    ),
    (
        Class::RateLimited,
        "greylist|graylist|grey list|gray list|rate limit|ratelimit|rate-limit|too many connections| \
         too many messages|too many emails|too much mail|throttl|try again later because|sending too fast| \
         exceeded the rate|unusual rate|too frequent|temporarily deferred due to user complaints|message limit| \
         hourly limit|daily limit|quota exceeded for sending",
    ),
    (
        Class::MailboxFull,
        "mailbox full|mailbox is full|mailbox for|quota exceeded|over quota|overquota|exceeded storage| \
         exceeded his|exceeds quota|quota exceed|insufficient disk space for|out of storage|storage allocation| \
         inbox is full|mailbox quota|account is full|no space left in mailbox|recipient storage full|user is over| \
         maildir over|disk quota|\u{5bb9}\u{91cf}",
    ),
    (
        Class::UnknownMailbox,
        "user unknown|unknown user|no such user|no such recipient|no such mailbox|no such address|no mailbox here| \
         mailbox not found|mailbox does not exist|mailbox unavailable|user not found|recipient not found| \
         address not found|does not exist|doesn't exist|unknown recipient|recipient unknown|unknown address| \
         address unknown|invalid recipient|invalid mailbox|invalid address|unknown mailbox|not a valid mailbox| \
         not a known user|no account by that name|no account here|unknown local part|unknown local-part| \
         undeliverable address|recipient address rejected: undeliverable| \
         recipient address rejected: access denied|unrouteable address|unroutable address|not our customer| \
         couldn't be found|could not be found|wasn't found|was not found|not found in directory|no longer with| \
         resolver.adr.recipnotfound|recipientnotfound|unbekannt|nicht gefunden|n'existe pas|no existe| \
         \u{5b9b}\u{5148}\u{4e0d}\u{660e}|no valid recipients|not listed in|bad destination mailbox| \
         doesn't have a yahoo account|doesn't have an account|doesn't have a mailbox",
    ),
    (
        Class::MailboxDisabled,
        "account disabled|account is disabled|mailbox disabled|mailbox is disabled|user disabled|account inactive| \
         mailbox inactive|mailbox is inactive|account is inactive|inactive user|suspended|deactivated| \
         account closed|account has been closed|account expired|no longer active|no longer available| \
         no longer accept|not accepting messages|not accepting mail|has been disabled|is disabled|has moved| \
         locked",
    ),
    (
        Class::TooBig,
        "message too large|message too big|message size exceeds|size limit|exceeds size|exceeds the maximum| \
         too large|exceeds maximum message size|message file too big|larger than the|over size limit",
    ),
    (
        Class::Spam,
        "spam|unsolicited|junk mail|phishing|virus|malware|infected|bulk mail|message content rejected| \
         content rejected|content filter|message looks like|rejected by content|unacceptable content| \
         banned content|attachment",
    ),
    (
        Class::Loop,
        "mail loop|loops back|loop detected|too many hops|hop count|looping|too many received",
    ),
    (
        Class::Domain,
        "host not found|domain not found|no such domain|unknown domain|domain does not|host unknown|unknown host| \
         name server: host not found|nxdomain|no mx|null mx|name or service not known|relay not permitted| \
         relaying denied|relay access denied|unable to relay|not permitted to relay|relaying not allowed| \
         we do not relay|not allowed to relay|relay denied|couldn't find any host|no mail hosts for domain| \
         domain isn't in my list|not in my list of allowed rcpthosts|domain has expired|illegal host",
    ),
    (
        Class::Network,
        "connection timed out|connection refused|connection reset|connection dropped|timed out|timeout| \
         no route to host|network is unreachable|network unreachable|lost connection|could not connect| \
         couldn't establish|unable to connect|not reachable|host is down|retry timeout exceeded| \
         no answer from host|did not respond|temporary failure in name|dns lookup|dns error|server failure| \
         servfail|conversation with",
    ),
    (
        Class::Policy,
        "policy|not authorized|not authorised|access denied|administrative|prohibited|refused|rejected for| \
         not permitted|denied by|sender rejected|sender denied|not allowed",
    ),
    (
        Class::System,
        "local error|internal error|system error|insufficient system|system resources|temporarily unavailable| \
         service unavailable|service not available|temporary problem|temporary error|temporary failure| \
         try again later|local problem|out of disk|no space left|read only|configuration error|queue file",
    ),
];

/// The meaning of a reply. Clear words come before the enhanced code, and that before the reply
/// code. `code` is 0 without a reply code.
#[must_use]
pub fn classify(code: u16, enhanced: Option<EnhancedCode>, text: &str) -> Class {
    let lower = text.to_lowercase();
    let by_words = WORDS.iter().find_map(|(class, words)| {
        let found = any_of(&lower, words);
        found.then_some(*class)
    });
    let by_code = enhanced.and_then(by_enhanced).or_else(|| by_reply(code));
    match (by_words, by_code) {
        // A clear code comes before vague words.
        (Some(Class::System | Class::Policy | Class::Network), Some(class))
            if is_certain(enhanced) && !speaks_of_lists(&lower) =>
        {
            class
        }
        (Some(class), _) => class,
        (None, class) => class.unwrap_or(Class::Unknown),
    }
}

fn any_of(text: &str, words: &str) -> bool {
    words.split('|').any(|word| has_word(text, word))
}

/// The text has this word. A short word must not be a part of another.
fn has_word(text: &str, word: &str) -> bool {
    if word.len() > 4 {
        return text.contains(word);
    }
    text.match_indices(word).any(|(at, _)| {
        let before = text.get(..at).and_then(|text| text.chars().next_back());
        let behind = text
            .get(at + word.len()..)
            .and_then(|text| text.chars().next());
        let apart = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
        apart(before) && apart(behind)
    })
}

fn speaks_of_lists(lower: &str) -> bool {
    WORDS.first().is_some_and(|(_, words)| any_of(lower, words))
}

/// The code names one condition (RFC 3463, RFC 5248).
fn is_certain(enhanced: Option<EnhancedCode>) -> bool {
    enhanced.is_some_and(|code| matches!((code.subject, code.detail), (1, 1..=6) | (2, 1..=3)))
}

fn by_enhanced(code: EnhancedCode) -> Option<Class> {
    Some(match (code.subject, code.detail) {
        (1, 1 | 0) | (1, 4) => Class::UnknownMailbox,
        (1, 2 | 10) => Class::Domain,
        (1, 3) => Class::Syntax,
        (1, 6) | (2, 1) => Class::MailboxDisabled,
        (1, 7 | 8) => Class::Policy,
        (2, 2) => Class::MailboxFull,
        (2, 3) | (3, 4) => Class::TooBig,
        (2, 0) => Class::UnknownMailbox,
        (3, _) => Class::System,
        (4, 6) => Class::Loop,
        (4, 3 | 4) if code.class == 5 => Class::Domain,
        (4, _) => Class::Network,
        (5, 2 | 4) => Class::Syntax,
        (6, _) => Class::Spam,
        (7, 20..=29) if code.detail != 28 => Class::Authentication,
        (7, 28) => Class::RateLimited,
        (7, 8..=17) => Class::Authentication,
        (7, _) => Class::Policy,
        _ => return None,
    })
}

const fn by_reply(code: u16) -> Option<Class> {
    Some(match code {
        552 => Class::MailboxFull,
        550 | 551 | 553 => Class::UnknownMailbox,
        521 | 556 => Class::Domain,
        // 500 also stands for a status without a reply.
        501..=504 | 555 => Class::Syntax,
        421 | 431 | 432 | 451 | 452 | 454 => Class::System,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_the_world() {
        use Class::*;
        for (code, enhanced, text, class) in [
            (
                550,
                "5.1.1",
                "The email account that you tried to reach does not exist.",
                UnknownMailbox,
            ),
            (
                550,
                "5.1.1",
                "<x@y.example>: Recipient address rejected: User unknown in virtual mailbox table",
                UnknownMailbox,
            ),
            (550, "", "No such user here", UnknownMailbox),
            (550, "", "Unrouteable address", UnknownMailbox),
            (550, "5.7.1", "user unknown", UnknownMailbox),
            (
                550,
                "5.1.10",
                "RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup",
                UnknownMailbox,
            ),
            (
                554,
                "",
                "delivery error: dd This user doesn't have a yahoo account",
                UnknownMailbox,
            ),
            (550, "", "", UnknownMailbox),
            (500, "5.1.1", "", UnknownMailbox),
            (
                550,
                "5.2.1",
                "The email account that you tried to reach is disabled.",
                MailboxDisabled,
            ),
            (
                550,
                "5.2.1",
                "mailbox unavailable for now, inactive user",
                UnknownMailbox,
            ),
            (554, "5.7.1", "account suspended", MailboxDisabled),
            (
                552,
                "5.2.2",
                "The email account that you tried to reach is over quota.",
                MailboxFull,
            ),
            (452, "4.2.2", "mailbox full", MailboxFull),
            (552, "", "", MailboxFull),
            (422, "4.2.2", "", MailboxFull),
            (
                550,
                "5.1.1",
                "Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org",
                Policy,
            ),
            (550, "5.7.1", "blocked by our policy", Policy),
            (554, "5.7.1", "Your IP has a poor reputation", Policy),
            (
                421,
                "4.7.0",
                "IP not in whitelist for RCPT domain, closing connection",
                Policy,
            ),
            (
                550,
                "5.7.606",
                "Access denied, banned sending IP [192.0.2.1]",
                Policy,
            ),
            (
                550,
                "5.7.26",
                "This mail has been blocked because the sender is unauthenticated.",
                Authentication,
            ),
            (
                550,
                "5.7.1",
                "Unauthenticated email from x.example is not accepted due to domain's DMARC policy",
                Authentication,
            ),
            (550, "", "SPF check failed", Authentication),
            (
                450,
                "4.7.1",
                "Client host rejected: cannot find your reverse DNS",
                Authentication,
            ),
            (
                530,
                "5.7.0",
                "Must issue a STARTTLS command first",
                Authentication,
            ),
            (
                550,
                "5.7.1",
                "Message rejected as spam by Content Filtering.",
                Spam,
            ),
            (554, "5.6.0", "", Spam),
            (550, "", "virus detected in message", Spam),
            (
                451,
                "4.7.1",
                "Greylisting in action, please come back later",
                RateLimited,
            ),
            (
                421,
                "4.7.28",
                "unusual rate of unsolicited mail",
                RateLimited,
            ),
            (
                421,
                "4.7.0",
                "[TSS04] Messages temporarily deferred due to user complaints",
                RateLimited,
            ),
            (
                452,
                "4.3.1",
                "too many connections from your host",
                RateLimited,
            ),
            (552, "5.3.4", "Message size exceeds fixed limit", TooBig),
            (552, "5.2.3", "", TooBig),
            (550, "5.4.1", "Relay access denied", Domain),
            (550, "5.1.2", "", Domain),
            (
                0,
                "5.4.4",
                "Host or domain name not found. Name service error for name=x.example",
                Domain,
            ),
            (
                553,
                "",
                "sorry, that domain isn't in my list of allowed rcpthosts",
                Domain,
            ),
            (
                0,
                "4.4.1",
                "connect to mx.x.example[192.0.2.1]:25: Connection timed out",
                Network,
            ),
            (
                0,
                "4.4.2",
                "lost connection with mx.x.example while sending RCPT TO",
                Network,
            ),
            (0, "5.0.0", "retry timeout exceeded", Network),
            (554, "5.4.6", "Too many hops", Loop),
            (0, "5.4.6", "mail for x loops back to myself", Loop),
            (501, "5.1.3", "Bad recipient address syntax", Syntax),
            (501, "", "", Syntax),
            (
                451,
                "4.3.0",
                "Temporary lookup failure, try again later",
                System,
            ),
            (421, "4.3.2", "Service not available", System),
            (554, "5.3.0", "", System),
            (550, "5.1.1", "refused", UnknownMailbox),
            (550, "5.2.2", "service unavailable", MailboxFull),
            (554, "", "Transaction failed", Unknown),
            (0, "", "", Unknown),
            (550, "", "\u{5b9b}\u{5148}\u{4e0d}\u{660e}", UnknownMailbox),
            (554, "5.7.1", "", Policy),
            (550, "5.7.1", "Sender rejected", Policy),
            (
                550,
                "5.7.1",
                "user turbulent is unknown user",
                UnknownMailbox,
            ),
        ] {
            let parsed = super::super::codes::status(enhanced);
            assert_eq!(
                classify(code, parsed, text),
                class,
                "{code} {enhanced} {text}"
            );
        }
    }
}
