//! The results of the checks of a message.

use std::time::Duration;

use postrider_config::HookStage;
use postrider_observe::{
    metrics::{Check, CheckResult, Metrics, TimedCheck},
    trace::{EventType, Key},
};
use postrider_smtp::{Address, Domain};

use super::Observer;
use crate::{
    SessionContext,
    checks::{
        dmarc::DmarcPolicy, questions::Took, results::AuthenticationResults, spf::SpfIdentity,
    },
    facts::{RecipientFacts, Target},
    hooks::{Failure, Program, Told, Vote},
    junk::{JunkVerdict, Listed, verdict::judge},
};

/// One result, as the trace shows it.
struct Shown<'a> {
    check: Check,
    timed: TimedCheck,
    /// The types of the event of a pass, and of all else.
    events: [EventType; 2],
    domain: Option<&'a str>,
    /// The word of RFC 8601.
    result: &'static str,
    reason: Option<&'a str>,
    policy: Option<&'static str>,
}

impl Observer {
    /// The checks of a message have their results, and took this time.
    pub(crate) fn checked(
        &mut self,
        context: &SessionContext,
        results: &AuthenticationResults,
        took: &Took,
    ) {
        for timed in TIMED {
            if let Some(took) = took.of(timed) {
                count_time(&context.metrics, timed, took);
            }
        }
        each(results, |shown| {
            let labels = (shown.check, result_of(shown.result));
            context.metrics.mail_checks_total.with(labels).inc();
            let [pass, fail] = shown.events;
            let event = if shown.result == "pass" { pass } else { fail };
            self.add(context, event, |data| {
                if let Some(domain) = shown.domain {
                    data.text(Key::Domain, domain);
                }
                data.text(Key::Result, shown.result);
                if let Some(policy) = shown.policy {
                    data.text(Key::Policy, policy);
                }
                if let Some(reason) = shown.reason {
                    data.text_if_any(Key::Details, reason);
                }
                if let Some(took) = took.of(shown.timed) {
                    data.elapsed(took);
                }
            });
        });
    }

    /// A client was looked up in the zones of its listener.
    pub(crate) fn looked_up(
        &mut self,
        context: &SessionContext,
        listed: Option<&Listed>,
        took: Duration,
    ) {
        count_time(&context.metrics, TimedCheck::Dnsbl, took);
        self.add(context, EventType::SpamDnsbl, |data| {
            if let Some(listed) = listed {
                data.text(Key::Domain, listed.zone.ascii());
            }
            let result = if listed.is_some() {
                "listed"
            } else {
                "not listed"
            };
            data.text(Key::Result, result);
            data.elapsed(took);
        });
    }

    /// The greylist was asked about a sender, and said this.
    pub(crate) fn greylisted(
        &mut self,
        context: &SessionContext,
        (from, to): (&Address, &Address),
        doubt: &Doubt,
        result: &'static str,
    ) {
        self.add(context, EventType::PostriderGreylist, |data| {
            data.display(Key::To, to);
            data.text(Key::Domain, &from.host.ascii());
            data.text(Key::Result, result);
            data.flag(Key::Tls, doubt.has_tls);
            let word = |result: Option<&'static str>| result.unwrap_or("without an answer");
            let (iprev, spf) = (word(doubt.iprev), word(doubt.spf));
            data.display(Key::Details, format_args!("iprev {iprev}, SPF {spf}"));
        });
    }

    /// A program was asked about a command or a message.
    pub(crate) fn asked(
        &mut self,
        context: &SessionContext,
        program: &Program,
        stage: HookStage,
        told: &Told,
    ) {
        let event = event_of(program, told);
        self.add(context, event, |data| {
            data.text(Key::Id, program.name());
            data.text(Key::Type, stage.as_str());
            match (&told.answer.vote, &told.failure) {
                (_, Some(failure)) => data.display(Key::Reason, failure),
                (Vote::Refuse(reply), None) => {
                    data.number(Key::Code, reply.code().get().into());
                    data.text(Key::Reason, reply.text());
                }
                (Vote::Quarantine(reason) | Vote::Junk(reason), None) => {
                    data.text_if_any(Key::Reason, reason.as_str());
                }
                (Vote::Accept | Vote::Discard(_), None) => {}
            }
            if let Some(took) = told.took {
                data.elapsed(took);
            }
        });
    }

    /// The answer to a message waited this long, since this recipient lets strangers wait.
    pub(crate) fn delayed(
        &mut self,
        context: &SessionContext,
        (recipient, target): (&RecipientFacts, &Target),
        waited: Duration,
    ) {
        self.add(context, EventType::PostriderDelayed, |data| {
            data.display(Key::To, &recipient.address);
            data.text(Key::AccountName, &target.account);
            data.text(Key::Rule, "first_time_delay");
            data.elapsed(waited);
        });
    }

    /// The junk filter of an account knows something of a message.
    pub(crate) fn classified(
        &mut self,
        context: &SessionContext,
        (recipient, target): (&RecipientFacts, &Target),
    ) {
        let Some(facts) = target.junk.as_deref() else {
            return;
        };
        self.add(context, EventType::SpamClassify, |data| {
            data.text(Key::AccountName, &target.account);
            data.display(Key::To, &recipient.address);
            let (result, reason) = match judge(facts) {
                JunkVerdict::Accept(_) => ("accept", None),
                JunkVerdict::Junk(reason) => ("junk", Some(reason.as_str())),
                JunkVerdict::Refuse(reason) => ("refuse", Some(reason.as_str())),
            };
            data.text(Key::Result, result);
            if let Some(reason) = reason {
                data.text(Key::Details, reason);
            }
            if let Some(content) = facts.content {
                data.display(Key::Value, format_args!("{:.3}", content.probability));
            }
        });
    }
}

/// Why a sender is doubtful: what was known of its client.
#[derive(Debug)]
pub(crate) struct Doubt {
    /// The results in words of RFC 8601. None: there was none in time.
    pub(crate) iprev: Option<&'static str>,
    pub(crate) spf: Option<&'static str>,
    pub(crate) has_tls: bool,
}

/// Counts how long a check took.
pub(crate) fn count_time(metrics: &Metrics, check: TimedCheck, took: Duration) {
    metrics.check_duration_seconds.with(check).observe(took);
}

/// The checks whose time is known with their results.
const TIMED: [TimedCheck; 5] = [
    TimedCheck::Iprev,
    TimedCheck::Spf,
    TimedCheck::Dkim,
    TimedCheck::Dmarc,
    TimedCheck::Arc,
];

/// Shows each result.
fn each(results: &AuthenticationResults, mut show: impl FnMut(Shown<'_>)) {
    use EventType as Type;
    if let Some(iprev) = &results.iprev {
        show(Shown {
            check: Check::Iprev,
            timed: TimedCheck::Iprev,
            events: [Type::SmtpIprevPass, Type::SmtpIprevFail],
            domain: iprev.name.as_deref(),
            result: iprev.outcome.as_str(),
            reason: iprev.reason.as_deref(),
            policy: None,
        });
    }
    if let Some(spf) = &results.spf {
        show(Shown {
            check: Check::Spf,
            timed: TimedCheck::Spf,
            events: match spf.identity {
                SpfIdentity::MailFrom => [Type::SmtpSpfFromPass, Type::SmtpSpfFromFail],
                SpfIdentity::Helo => [Type::SmtpSpfEhloPass, Type::SmtpSpfEhloFail],
            },
            domain: spf.domain.as_ref().map(Domain::ascii),
            result: spf.outcome.as_str(),
            reason: Some(&spf.reason),
            policy: None,
        });
    }
    for dkim in &results.dkim {
        show(Shown {
            check: Check::Dkim,
            timed: TimedCheck::Dkim,
            events: [Type::SmtpDkimPass, Type::SmtpDkimFail],
            domain: dkim.domain.as_ref().map(Domain::ascii),
            result: dkim.outcome.as_str(),
            reason: dkim.reason.as_deref(),
            policy: None,
        });
    }
    if let Some(arc) = &results.arc {
        show(Shown {
            check: Check::Arc,
            timed: TimedCheck::Arc,
            events: [Type::SmtpArcPass, Type::SmtpArcFail],
            domain: results.arc_vouches.as_ref().map(Domain::ascii),
            result: arc.outcome.as_str(),
            reason: arc.reason.as_deref(),
            policy: None,
        });
    }
    if let Some(dmarc) = &results.dmarc {
        show(Shown {
            check: Check::Dmarc,
            timed: TimedCheck::Dmarc,
            events: [Type::SmtpDmarcPass, Type::SmtpDmarcFail],
            domain: dmarc.from.as_ref().map(Domain::ascii),
            result: dmarc.outcome.as_str(),
            reason: Some(&dmarc.reason),
            policy: dmarc.policy.map(DmarcPolicy::as_str),
        });
    }
}

/// The result that a word of RFC 8601 stands for.
fn result_of(word: &str) -> CheckResult {
    match word {
        "pass" => CheckResult::Pass,
        "fail" => CheckResult::Fail,
        "softfail" => CheckResult::SoftFail,
        "neutral" => CheckResult::Neutral,
        "policy" => CheckResult::Policy,
        "temperror" => CheckResult::TempError,
        "permerror" => CheckResult::PermError,
        _ => CheckResult::None,
    }
}

/// The type of the event of a program that was asked.
fn event_of(program: &Program, told: &Told) -> EventType {
    use EventType as Type;
    let is_milter = program.kind() == "milter";
    match (&told.failure, &told.answer.vote) {
        (Some(Failure::Timeout), _) if is_milter => Type::MilterTimeout,
        (Some(_), _) if is_milter => Type::MilterIoError,
        (Some(_), _) => Type::MtaHookError,
        (None, Vote::Accept) if is_milter => Type::MilterActionAccept,
        (None, Vote::Accept) => Type::MtaHookActionAccept,
        (None, Vote::Discard(_)) if is_milter => Type::MilterActionDiscard,
        (None, Vote::Discard(_)) => Type::MtaHookActionDiscard,
        (None, Vote::Refuse(reply)) if is_milter && reply.code().is_transient() => {
            Type::MilterActionTempFail
        }
        (None, Vote::Refuse(_)) if is_milter => Type::MilterActionReject,
        (None, Vote::Refuse(_)) => Type::MtaHookActionReject,
        (None, Vote::Quarantine(_) | Vote::Junk(_)) => Type::MtaHookActionQuarantine,
    }
}

#[cfg(test)]
mod tests {
    use postrider_observe::metrics::Label;

    use super::*;
    use crate::checks::{
        arc::ArcOutcome, dkim::DkimOutcome, dmarc::DmarcOutcome, iprev::IprevOutcome,
        spf::SpfOutcome,
    };

    #[test]
    fn each_word_counts_as_itself() {
        for word in [
            IprevOutcome::PermError.as_str(),
            IprevOutcome::Fail.as_str(),
            SpfOutcome::None.as_str(),
            SpfOutcome::Neutral.as_str(),
            SpfOutcome::SoftFail.as_str(),
            SpfOutcome::TempError.as_str(),
            DkimOutcome::Policy.as_str(),
            DkimOutcome::Pass.as_str(),
            DmarcOutcome::None.as_str(),
            DmarcOutcome::TempError.as_str(),
            ArcOutcome::Fail.as_str(),
        ] {
            assert_eq!(result_of(word).text(), word);
        }
    }
}
