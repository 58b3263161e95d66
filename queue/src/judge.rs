//! The meaning of a failure: whether another attempt makes sense, and whether the recipient's
//! address is to blame.

use postrider_config::{OnBlock, ReplyRule, ReplyScope};
use postrider_smtp::{
    Cause, DeliveryStatus, EnhancedCode, Stage,
    bounce::{Blame, Class, Said, blame, blame_as, classify},
};

/// The attempt at which a refusal to speak with us is final, and that no host has an address.
const REFUSALS: u32 = 3;

/// The status of an attempt, with what its number says of it: at the third attempt it is final that
/// no host of the domain has an address. `attempts` counts this attempt.
pub(crate) fn in_the_end(status: DeliveryStatus, attempts: u32) -> DeliveryStatus {
    let nowhere = status.enhanced == Some(EnhancedCode::NO_ROUTE_TRANSIENT);
    match status.cause == Cause::Dns && nowhere && attempts >= REFUSALS {
        true => DeliveryStatus {
            permanent: true,
            enhanced: Some(EnhancedCode::NO_ROUTE),
            ..status
        },
        false => status,
    }
}

/// Whether a failed attempt is the last one, though more attempts are left. `attempts` counts this
/// attempt. `known` is the class that a rule of the provider gives.
///
/// Most 5xx replies are final. Some tell of a state that passes: a rate, greylisting, a login that
/// fails. A server that refuses to speak with us often does so for a while: the third attempt is
/// final then. 521 is final at once (RFC 7504). 503 says that the commands came in the wrong order,
/// which is a matter of the connection. That our host is blocked passes too, if the configuration
/// says so.
pub(crate) fn is_final(
    status: &DeliveryStatus,
    known: Option<Class>,
    attempts: u32,
    on_block: OnBlock,
) -> bool {
    if !status.permanent || status.cause != Cause::Reply {
        return status.permanent;
    }
    if status.code == 503 || is_deferred_block(&Said::from(status), known, on_block) {
        return false;
    }
    if refuses_to_speak(status) {
        return status.code == 521 || attempts >= REFUSALS;
    }
    match known.unwrap_or_else(|| classify(&Said::from(status))) {
        // Some servers refuse messages with the codes of AUTH.
        Class::Login => status.stage() != Some(Stage::Auth),
        class => !class.waits(),
    }
}

/// Whether a final refusal may be about our address, so that an address of the other family is to
/// be tried at once: the policy of a server refuses (x.7.x) at the first attempt. `rule` is that of
/// the provider for the reply. What it says of a message or of the domain of a sender is not about
/// our address.
pub(crate) fn may_be_about_address(
    status: &DeliveryStatus,
    rule: Option<&ReplyRule>,
    attempts: u32,
    on_block: OnBlock,
) -> bool {
    let by_policy = status.enhanced.is_some_and(|code| code.subject == 7);
    let of_message = status.stage().is_some_and(|stage| {
        matches!(
            stage,
            Stage::Mail | Stage::Rcpt | Stage::Data | Stage::EndOfData
        )
    });
    let is_ours = rule.is_none_or(|rule| rule.scope == ReplyScope::Source);
    if attempts > 1 || status.cause != Cause::Reply || !by_policy || !of_message || !is_ours {
        return false;
    }
    let known = rule.map(|rule| rule.class);
    let class = known.unwrap_or_else(|| classify(&Said::from(status)));
    is_final(status, known, attempts, on_block)
        && matches!(
            class,
            Class::Policy | Class::Blocked | Class::Authentication | Class::Spam
        )
}

/// What becomes of a message that failed since the site blocks its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) on_block: OnBlock,
    /// Another source takes the message at once.
    pub(crate) other_source: bool,
}

impl Block {
    /// Nothing is known of other sources.
    pub(crate) const fn of(on_block: OnBlock) -> Self {
        Self {
            on_block,
            other_source: false,
        }
    }
}

/// Whether a reply says that our host is blocked, and the message is to wait for the end of that.
pub(crate) fn is_deferred_block(said: &Said<'_>, known: Option<Class>, on_block: OnBlock) -> bool {
    let class = known.unwrap_or_else(|| classify(said));
    on_block != OnBlock::Fail && class == Class::Blocked
}

/// Whether a server refused before it was asked for anything. Another host may be kinder.
pub(crate) fn refuses_to_speak(status: &DeliveryStatus) -> bool {
    let opening = matches!(
        status.stage(),
        Some(Stage::Greeting | Stage::Ehlo | Stage::StartTls)
    );
    opening && status.permanent && status.cause == Cause::Reply
}

/// Whether a final failure blames the recipient's address. With `policy_blocks`, the refusal of a
/// message by policy and the block of our host do too. `known` is the class that a rule of the
/// provider gives.
pub(crate) fn blames(said: &Said<'_>, known: Option<Class>, policy_blocks: bool) -> Blame {
    let blame = match known {
        Some(class) => blame_as(said, class),
        None => blame(said),
    };
    if blame != Blame::No || !policy_blocks || said.code < 500 {
        return blame;
    }
    let stage = said.stage.or_else(|| Stage::in_text(said.text));
    let early = stage.is_some_and(Stage::is_without_recipient);
    match known.unwrap_or_else(|| classify(said)) {
        Class::Policy | Class::Blocked if !early => Blame::Yes,
        _ => Blame::No,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use postrider_smtp::{Reply, ReplyCode};

    use super::*;

    /// A reply in one line: the code, the enhanced code if there is one, the text.
    pub(crate) fn status(command: &'static str, line: &str) -> DeliveryStatus {
        let (code, rest) = line.split_at_checked(3).unwrap();
        let rest = rest.trim_start();
        let (first, text) = rest.split_once(' ').unwrap_or((rest, ""));
        let enhanced: Option<EnhancedCode> = first.parse().ok();
        let text = if enhanced.is_some() { text } else { rest };
        let code = ReplyCode::new(code.parse().unwrap()).unwrap();
        DeliveryStatus::from_reply(&Reply::new(code, enhanced, text.to_owned()), command)
    }

    fn rule(class: Class, scope: ReplyScope) -> ReplyRule {
        ReplyRule {
            pattern: "x".to_owned(),
            class,
            scope,
            rest: None,
        }
    }

    #[test]
    fn some_refusals_pass() {
        for (command, line, last) in [
            ("RCPT", "550 5.1.1 no such user", Some(1)),
            ("RCPT", "451 4.7.1 later", None),
            ("RCPT", "550 5.2.2 Mailbox full", Some(1)),
            ("end of data", "554 5.7.1 spam", Some(1)),
            ("RCPT", "550 Ip frequency limited", None),
            (
                "RCPT",
                "550 5.2.1 The user you are trying to contact is receiving mail at a rate that prevents more",
                None,
            ),
            ("MAIL", "550 5.7.28 too many messages from you", None),
            ("RCPT", "550 5.7.1 greylisted, try again later", None),
            ("AUTH", "535 5.7.8 wrong password", None),
            ("end of data", "535 5.0.0 as asked for", Some(1)),
            ("greeting", "554 no", Some(3)),
            ("EHLO", "550 not you", Some(3)),
            ("RCPT", "503 5.5.1 MAIL first", None),
            ("EHLO", "503 bad sequence", None),
            ("greeting", "521 no mail here", Some(1)),
            ("MAIL", "550 5.1.8 Domain not found", Some(1)),
        ] {
            let status = status(command, line);
            for on_block in OnBlock::ALL.iter().copied() {
                let found = (1..9).find(|attempt| is_final(&status, None, *attempt, on_block));
                assert_eq!(found, last, "{command}: {line}");
            }
        }
        let ours = DeliveryStatus::permanent(Cause::Tls, EnhancedCode::SYSTEM, "no REQUIRETLS");
        assert!(
            is_final(&ours, None, 1, OnBlock::Defer),
            "we know what we say"
        );
    }

    #[test]
    fn a_block_of_our_host_waits_for_its_end_or_fails_as_configured() {
        for (command, line, last) in [
            (
                "MAIL",
                "550 5.7.1 192.0.2.1 is listed at zen.spamhaus.org",
                Some(1),
            ),
            (
                "end of data",
                "554 5.7.1 your IP is blocked using a block list",
                Some(1),
            ),
            (
                "greeting",
                "554 5.7.1 your IP is blocked using a block list",
                Some(3),
            ),
            (
                "greeting",
                "521 your IP is blocked using a block list",
                Some(1),
            ),
        ] {
            let status = status(command, line);
            let found =
                |on_block| (1..9).find(|attempt| is_final(&status, None, *attempt, on_block));
            assert_eq!(found(OnBlock::Defer), None, "{command}: {line}");
            assert_eq!(found(OnBlock::Switch), None, "{command}: {line}");
            assert_eq!(found(OnBlock::Fail), last, "{command}: {line}");
        }
    }

    #[test]
    fn a_policy_may_be_about_our_address_and_nothing_else_is() {
        for (command, line, expected) in [
            ("RCPT", "550 5.7.1 relay denied", true),
            ("MAIL", "550 5.7.1 not from here", true),
            ("end of data", "550 5.7.25 no PTR record", true),
            ("end of data", "550 5.7.26 unauthenticated mail", true),
            ("end of data", "554 5.7.1 looks like spam", true),
            // The address, the sender or the content is refused, by words or by another code.
            ("RCPT", "550 5.7.1 user unknown", false),
            ("RCPT", "550 5.1.1 no such user", false),
            ("RCPT", "550 5.7.13 account disabled", false),
            ("MAIL", "550 5.7.27 sender has a null MX", false),
            ("end of data", "554 5.7.1 virus found", false),
            ("end of data", "554 5.6.0 bad header", false),
            ("RCPT", "550 relay denied", false),
            // It is tried again in any case, or the host does not speak with us.
            ("RCPT", "451 4.7.1 not now", false),
            ("RCPT", "550 5.7.1 greylisted, try again later", false),
            ("RCPT", "550 5.7.28 too much mail", false),
            ("greeting", "554 5.7.1 no", false),
            ("EHLO", "550 5.7.1 no", false),
        ] {
            let status = status(command, line);
            for (attempts, expected) in [(1, expected), (2, false)] {
                let found = may_be_about_address(&status, None, attempts, OnBlock::Fail);
                assert_eq!(found, expected, "{command}: {line}, attempt {attempts}");
            }
        }
        // A message that waits for the end of a block has the other family at its next attempt.
        let blocked = status("RCPT", "550 5.7.1 192.0.2.1 is listed at zen.spamhaus.org");
        for (on_block, expected) in [(OnBlock::Defer, false), (OnBlock::Fail, true)] {
            let found = may_be_about_address(&blocked, None, 1, on_block);
            assert_eq!(found, expected, "{on_block:?}");
        }
        let refused = status("end of data", "550 5.7.26 unauthenticated mail");
        for (scope, expected) in [(ReplyScope::Source, true), (ReplyScope::Domain, false)] {
            let rule = rule(Class::Authentication, scope);
            let found = may_be_about_address(&refused, Some(&rule), 1, OnBlock::Fail);
            assert_eq!(found, expected, "{scope:?}");
        }
    }

    #[test]
    fn replies_blame_the_recipient_only_for_what_they_say_of_it() {
        use Blame::{No, OnThird, Yes};
        for (command, line, expected) in [
            (
                "MAIL",
                "550 5.1.8 <app@sender.test>: Sender address rejected: Domain not found",
                No,
            ),
            (
                "MAIL",
                "553 5.1.8 Domain of sender address does not exist",
                No,
            ),
            ("MAIL", "550 Sender verify failed", No),
            ("MAIL", "550 rejected", No),
            (
                "MAIL",
                "553 sorry, your envelope sender is in my badmailfrom list",
                No,
            ),
            ("MAIL", "550 5.1.1 no such user", No),
            ("greeting", "550 5.1.1 no such user", No),
            ("EHLO", "550 5.1.1 no such user", No),
            ("STARTTLS", "550 5.1.1 no such user", No),
            ("AUTH", "550 5.1.1 no such user", No),
            (
                "RCPT",
                "550 5.1.8 <app@sender.test>: Sender address rejected: Domain not found",
                No,
            ),
            ("RCPT", "550 Sender verify failed", No),
            ("RCPT", "550 Verification failed for <app@sender.test>", No),
            ("RCPT", "550 Relay not permitted", No),
            ("RCPT", "550 relaying denied", No),
            ("RCPT", "550 authentication required", No),
            ("RCPT", "550 Ip frequency limited", No),
            ("RCPT", "550 Connection frequency limited", No),
            ("RCPT", "550 Protocol violation", No),
            ("RCPT", "550 HELO should be a FQDN", No),
            ("RCPT", "550 Too many invalid recipients", No),
            ("RCPT", "550 5.5.3 too many recipients", No),
            ("RCPT", "550 5.2.2 Mailbox full", OnThird),
            ("RCPT", "550 mailbox is full", OnThird),
            ("RCPT", "550 Mailbox quota exceeded", OnThird),
            (
                "RCPT",
                "550 5.2.1 The user you are trying to contact is receiving mail at a rate that",
                No,
            ),
            (
                "RCPT",
                "550 5.2.3 message too large for this recipient",
                OnThird,
            ),
            (
                "RCPT",
                "550 account is temporarily locked, please try again later",
                OnThird,
            ),
            ("DATA", "550 bad sequence", No),
            (
                "end of data",
                "550 5.2.0 Mail rejete. Mail rejected. ofr_506",
                No,
            ),
            ("end of data", "550 5.3.4 message too big", OnThird),
            ("end of data", "550 Message headers fail syntax check", No),
            ("end of data", "550 Rejected", OnThird),
            (
                "RCPT",
                "554 delivery error: dd This user doesn't have a yahoo.com account",
                Yes,
            ),
            ("RCPT", "550 5.1.1 no such user", Yes),
            ("RCPT", "550 5.1.2 no such host", Yes),
            ("RCPT", "553 5.1.3 bad address", Yes),
            ("RCPT", "550 5.1.6 moved", Yes),
            ("RCPT", "556 5.1.10 null MX", Yes),
            ("RCPT", "550 5.2.1 disabled", Yes),
            ("RCPT", "550 no", Yes),
            ("end of data", "551 no", Yes),
            ("RCPT", "553 no", Yes),
            ("RCPT", "550 5.7.1 user unknown", Yes),
            ("RCPT", "450 4.1.1 unverified address", OnThird),
            (
                "end of data",
                "550 5.0.0 failure as asked for by the address",
                Yes,
            ),
            ("MAIL", "550 5.0.0 failure as asked for by the address", No),
        ] {
            let status = status(command, line);
            assert_eq!(
                blames(&Said::from(&status), None, false),
                expected,
                "{command}: {line}"
            );
        }
    }

    #[test]
    fn reports_are_judged_by_the_same_rules() {
        use Blame::{No, OnThird, Yes};
        for (code, enhanced, text, expected) in [
            (500, "5.1.8", "", No),
            (500, "5.2.2", "", OnThird),
            (
                550,
                "5.2.1",
                "receiving mail at a rate that prevents additional messages",
                No,
            ),
            (500, "5.2.3", "", OnThird),
            (500, "5.4.316", "Message expired, connection refused", No),
            (500, "5.4.312", "", No),
            (500, "5.4.7", "", No),
            (500, "5.7.54", "", No),
            (553, "5.0.0", "sorry (in reply to MAIL FROM command)", No),
            (500, "5.1.1", "", Yes),
            (550, "5.1.1", "no such user", Yes),
            (0, "5.1.1", "", No),
        ] {
            let said = Said {
                stage: None,
                code,
                enhanced: enhanced.parse().ok(),
                text,
            };
            assert!(said.enhanced.is_some());
            assert_eq!(
                blames(&said, None, false),
                expected,
                "{code} {enhanced} {text}"
            );
        }
    }

    #[test]
    fn blocks_of_our_host_blame_the_recipient_on_request_only() {
        for (command, line, blamed) in [
            ("RCPT", "550 5.7.1 192.0.2.1 is on our block list", true),
            ("end of data", "554 5.7.1 blocked by our policy", true),
            ("greeting", "554 5.7.1 blocked", false),
            ("MAIL", "550 5.7.1 blocked", false),
            ("RCPT", "451 4.7.1 blocked by our policy", false),
            ("RCPT", "550 5.7.26 unauthenticated mail", false),
        ] {
            let status = status(command, line);
            let said = Said::from(&status);
            assert_eq!(blames(&said, None, false), Blame::No, "{line}");
            let expected = if blamed { Blame::Yes } else { Blame::No };
            assert_eq!(blames(&said, None, true), expected, "{command}: {line}");
        }
    }

    #[test]
    fn the_rule_of_a_provider_counts_more_than_all_else() {
        use Blame::{No, OnThird, Yes};
        for (command, line, class, last, expected) in [
            (
                "RCPT",
                "550 5.4.1 Access denied",
                Class::UnknownMailbox,
                Some(1),
                Yes,
            ),
            (
                "RCPT",
                "550 5.1.1 no such user",
                Class::RateLimited,
                None,
                No,
            ),
            (
                "RCPT",
                "550 5.1.1 no such user",
                Class::Connections,
                None,
                No,
            ),
            ("end of data", "554 5.7.1 no", Class::Spam, Some(1), No),
            (
                "end of data",
                "554 no",
                Class::MailboxFull,
                Some(1),
                OnThird,
            ),
            // Nothing that a server says before RCPT is about the recipient.
            ("greeting", "554 no", Class::UnknownMailbox, Some(3), No),
            ("MAIL", "550 no", Class::UnknownMailbox, Some(1), No),
            ("RCPT", "450 no", Class::UnknownMailbox, None, OnThird),
        ] {
            let (status, known) = (status(command, line), Some(class));
            let found = (1..9).find(|attempt| is_final(&status, known, *attempt, OnBlock::Fail));
            assert_eq!(found, last, "{command}: {line}");
            let blamed = blames(&Said::from(&status), known, false);
            assert_eq!(blamed, expected, "{command}: {line}");
        }
        let status = status("RCPT", "550 5.1.1 no such user");
        let blocked = blames(&Said::from(&status), Some(Class::Blocked), true);
        assert_eq!(blocked, Yes, "with suppress_policy_blocks");
    }

    #[test]
    fn no_address_is_final_at_the_third_attempt() {
        let nowhere = crate::next_hop::nowhere("no address".to_owned());
        assert_eq!(in_the_end(nowhere.clone(), 2), nowhere);
        let last = in_the_end(nowhere, 3);
        assert!(is_final(&last, None, 3, OnBlock::Defer));
        assert_eq!(last.to_string(), "5.4.4 no address");
        let code = EnhancedCode::DIRECTORY_FAILURE;
        let unknown = DeliveryStatus::transient(Cause::Dns, code, "no answer");
        assert_eq!(in_the_end(unknown.clone(), 9), unknown);
    }
}
