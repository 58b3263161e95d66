//! What becomes of a message at the end of its text.
//!
//! Each target has a verdict of its own: each account behind each recipient. [`STEPS`] has the
//! questions in their order, as far as they are about one target. If one target takes the message,
//! the client gets 250, and the targets that refuse it get it apart from their other mail. If all
//! refuse, the client gets a refusal.

use std::{borrow::Cow, collections::HashSet, ops::Deref};

use postrider_config::{Account, Destination, DestinationAddress, HookQuarantine, Ruleset};
use postrider_smtp::{Address, Domain, server::Transaction};
use postrider_store::DmarcOverride;

pub use super::list::Skip;
use super::{
    Policy, Refusal, Suspicion, Verdict, dmarc, in_common, junk, list, refuse_destination,
    refuse_disabled, refuse_full, ruleset,
};
use crate::{
    checks::{has_loop_when_queued, results::AuthenticationResults},
    facts::{Facts, RecipientFacts, Resolution, Target},
    junk::Acceptance,
    sieve,
};

/// The decision about a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndDecision {
    /// One for each target of each recipient, in their order.
    pub deliveries: Vec<Delivery>,
    /// The reply, if no target takes the message. None: at least one does.
    pub refusal: Option<Refusal>,
}

/// What becomes of a message for one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The place of the recipient in [`Facts::recipients`].
    pub recipient: usize,
    /// The place of the target in [`RecipientFacts::targets`].
    pub target: usize,
    /// What becomes of the message.
    pub outcome: Outcome,
    /// Why the outcome differs from the DMARC policy of the author's domain. None if it does not.
    pub differs: Option<Differs>,
    /// Another server of ours forwards the message, as a ruleset says: the domain that proves it.
    pub forwarder: Option<Domain>,
    /// How well the account knows the sender, if the message goes to a mailbox for good mail.
    pub acceptance: Acceptance,
    /// What the scripts of the account want. None: it has none, or they did not run. If they refuse
    /// the message, that is in the outcome.
    pub scripted: Option<Box<sieve::Outcome>>,
}

/// Why the outcome differs from the DMARC policy of the author's domain: in words, such as `junk:
/// sent by a list`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differs {
    /// The kind of reason, for a report to the domain.
    pub kind: DmarcOverride,
    /// The words.
    pub text: Cow<'static, str>,
}

impl Deref for Differs {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

/// What becomes of a message for a target. A new kind of outcome, such as a way to another server,
/// is a variant here, and the code that carries outcomes out handles it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The message goes to a mailbox.
    Mailbox {
        /// The name of the mailbox.
        mailbox: String,
        /// Why it goes to the junk mailbox. None if it does not.
        junk: Option<Suspicion>,
    },
    /// The message goes on to these addresses elsewhere.
    Forward(Vec<Address>),
    /// The message goes to the LMTP server of a transport, which has the mailbox.
    Lmtp {
        /// The name of the transport.
        transport: String,
        /// Why it is junk. None if it is not.
        junk: Option<Suspicion>,
    },
    /// The message waits in the queue, on hold, for somebody to release it. Then it goes to the
    /// recipient.
    Held,
    /// The message is a report about one that we forwarded. It goes to the sender of that one.
    Relay(Address),
    /// The target refuses the message, which stays apart from the account's other mail.
    Rejects {
        /// The name of the mailbox.
        mailbox: String,
        /// Why the target refuses the message.
        refusal: Refusal,
    },
    /// The target refuses the message, and keeps nothing.
    Refused(Refusal),
    /// A member of a list gets no copy through the list.
    Skipped(Skip),
}

/// One target of a message, with all that its verdict follows from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case<'a> {
    pub(super) transaction: &'a Transaction,
    pub(super) facts: &'a Facts,
    pub(super) policy: &'a Policy<'a>,
    pub(super) recipient: &'a RecipientFacts,
    pub(super) target: &'a Target,
    /// The account of the target.
    pub(super) account: &'a Account,
    /// The destination of the target. None if none is configured for it.
    pub(super) destination: Option<&'a Destination>,
    /// The ruleset of the destination that the message fulfills.
    pub(super) ruleset: Option<&'a Ruleset>,
    /// Why the list refuses the author. None also if the recipient is no list.
    pub(super) list_refusal: Option<&'a Refusal>,
    /// The results of the checks. None for a message that was not checked.
    pub(super) results: Option<&'a AuthenticationResults>,
    /// The results are those at best, and not the real ones.
    pub(super) at_best: bool,
    pub(super) common: &'a Common<'a>,
}

/// What the verdicts about all targets have in common. A transaction may have many lists with many
/// members, so this is worked out once.
#[derive(Debug)]
pub(super) struct Common<'a> {
    /// The accounts and destinations that the transaction names themselves, and not by a list.
    pub(super) named: HashSet<(&'a str, Option<&'a DestinationAddress>)>,
    /// The addresses to which the message was delivered before, as [`Dynamic::plain`] writes them.
    ///
    /// [`Dynamic::plain`]: postrider_config::Dynamic::plain
    before: HashSet<String>,
    /// The author as [`Dynamic::canonical`] writes the address. None if nobody stands behind it, or
    /// the domain is not ours.
    ///
    /// [`Dynamic::canonical`]: postrider_config::Dynamic::canonical
    pub(super) author: Option<String>,
    /// The results of the checks at best, once DNS answers. None if all have an answer.
    at_best: Option<AuthenticationResults>,
}

impl<'a> Common<'a> {
    fn new(facts: &'a Facts, policy: &Policy<'_>) -> Self {
        let config = policy.config;
        let targets = facts.recipients.iter().flat_map(RecipientFacts::targets);
        let named = targets.filter(|target| target.member.is_none());
        let header = facts.header.as_ref();
        let before = header.map_or(&[][..], |header| header.delivered_to());
        let author = list::proved_author(facts, policy);
        let results = facts.authentication.as_deref();
        Self {
            named: named
                .map(|target| (target.account.as_str(), target.destination.as_ref()))
                .collect(),
            before: before.iter().map(|it| config.plain(it)).collect(),
            author: author.and_then(|author| config.canonical(author)),
            at_best: results.and_then(AuthenticationResults::at_best),
        }
    }
}

impl<'a> Case<'a> {
    /// The same case with the results at best. None if all results have an answer.
    fn at_best(&self) -> Option<Self> {
        let results = Some(self.common.at_best.as_ref()?);
        let mail_from = self.transaction.mail.reverse_path.address();
        let rulesets = self.destination.map_or(&[][..], |it| &it.rulesets);
        Some(Self {
            ruleset: ruleset::matching(rulesets, mail_from, self.facts, results),
            results,
            at_best: true,
            ..*self
        })
    }

    /// The mailbox that a ruleset has for mail that a check refuses. Empty: there is none.
    fn takes_rejects(&self) -> &'a str {
        self.ruleset
            .map_or("", |ruleset| &ruleset.accept_rejects_to_mailbox)
    }

    /// No opinion about the message refuses it: at worst it goes to the junk mailbox.
    pub(super) const fn takes_all(&self) -> bool {
        // The proof in a rewritten sender is all that a report needs.
        let is_return = matches!(self.recipient.resolution, Resolution::Return { .. });
        self.is_exempt() || self.recipient.may_answer_our_mail || is_return
    }

    /// The limits of the account are for other mail.
    const fn is_exempt(&self) -> bool {
        self.target.takes_all || self.recipient.answers_our_mail
    }

    /// The mail of the target goes on to another server.
    fn passes_on(&self) -> bool {
        self.destination.is_some_and(Destination::passes_on)
    }

    fn refuse_full(&self) -> Option<Refusal> {
        refuse_full(self.target, self.is_exempt(), self.facts, self.policy)
    }
}

/// The answer of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Judged {
    /// Accept: the step has nothing to say.
    pub(super) verdict: Verdict,
    /// Why the verdict differs from the DMARC policy.
    pub(super) differs: Option<Differs>,
}

impl Judged {
    pub(super) const fn plain(verdict: Verdict) -> Self {
        Self {
            verdict,
            differs: None,
        }
    }

    pub(super) const fn differing(
        verdict: Verdict,
        kind: DmarcOverride,
        why: &'static str,
    ) -> Self {
        let text = Cow::Borrowed(why);
        Self {
            verdict,
            differs: Some(Differs { kind, text }),
        }
    }

    fn refusing(refusal: Option<Refusal>) -> Self {
        Self::plain(refusal.map_or(Verdict::Accept, Verdict::Refuse))
    }
}

/// The steps of a verdict. The first refusal wins. The first suspicion counts if no step refuses.
const STEPS: [fn(&Case<'_>) -> Judged; 9] = [
    |case| Judged::refusing(refuse_loop(case)),
    judge_hooks,
    dmarc::judge,
    |case| Judged::refusing(refuse_unproved(case)),
    |case| Judged::refusing(list::refuse_author(case)),
    |case| Judged::refusing(refuse_disabled(case.target, case.policy)),
    |case| Judged::refusing(refuse_destination(case.destination)),
    |case| Judged::refusing(case.refuse_full().filter(|_| !case.passes_on())),
    junk::judge,
];

impl EndDecision {
    /// A target takes the message without knowing its sender. So a block list may still change the
    /// decision.
    #[must_use]
    pub fn is_unsure(&self) -> bool {
        let mut good = self.deliveries.iter().filter(|delivery| delivery.is_good());
        good.any(|delivery| delivery.acceptance != Acceptance::Known)
    }

    /// Decides anew after the scripts of accounts have refused the message. If the client may not
    /// hear of it, or somebody takes the message, the accounts that refuse it get it apart from
    /// their other mail.
    pub(crate) fn refused_by_scripts(
        &mut self,
        facts: &Facts,
        policy: &Policy<'_>,
        may_refuse: bool,
    ) {
        self.refusal = common_refusal(&self.deliveries).filter(|_| may_refuse);
        if self.refusal.is_none() {
            for delivery in &mut self.deliveries {
                keep_refused(delivery, facts, policy);
            }
        }
    }

    /// A target that takes the message of a stranger, and whose account lets strangers wait.
    #[must_use]
    pub fn lets_wait(&self, facts: &Facts, policy: &Policy<'_>) -> Option<&Delivery> {
        self.deliveries.iter().find(|delivery| {
            delivery.is_good()
                && delivery.acceptance == Acceptance::Stranger
                && delivery
                    .account(facts, policy)
                    .is_some_and(|account| account.first_time_delay)
        })
    }
}

impl Delivery {
    /// The message goes to a mailbox for good mail, or on.
    const fn is_good(&self) -> bool {
        matches!(
            self.outcome,
            Outcome::Mailbox { junk: None, .. }
                | Outcome::Lmtp { junk: None, .. }
                | Outcome::Forward(_)
        )
    }

    /// The message goes to a mailbox for junk.
    pub(crate) const fn is_junk(&self) -> bool {
        matches!(
            self.outcome,
            Outcome::Mailbox { junk: Some(_), .. } | Outcome::Lmtp { junk: Some(_), .. }
        )
    }

    /// What the scripts want with the message. None: there are none, or they refuse it.
    pub(crate) fn scripted(&self) -> Option<&sieve::Outcome> {
        let is_taken = matches!(self.outcome, Outcome::Mailbox { junk: None, .. });
        self.scripted.as_deref().filter(|_| is_taken)
    }

    /// The addresses that scripts redirect the message to.
    pub(crate) fn redirects(&self) -> &[Address] {
        self.scripted().map_or(&[], |scripted| &scripted.redirects)
    }

    /// The junk filter of the account may change what becomes of the message. Without its answer
    /// the account takes the message, and not only because another one does.
    pub(crate) const fn asks_the_filter(&self) -> bool {
        match self.outcome {
            Outcome::Mailbox { junk, .. } => !matches!(
                junk,
                Some(Suspicion::Refused | Suspicion::RulesetTakesRejects)
            ),
            Outcome::Forward(_) | Outcome::Lmtp { .. } => true,
            Outcome::Relay(_)
            | Outcome::Held
            | Outcome::Rejects { .. }
            | Outcome::Refused(_)
            | Outcome::Skipped(_) => false,
        }
    }

    /// The target, to add facts to it.
    pub(crate) fn target_mut<'a>(&self, facts: &'a mut Facts) -> Option<&'a mut Target> {
        let recipient = facts.recipients.get_mut(self.recipient)?;
        recipient.targets_mut().get_mut(self.target)
    }

    /// The recipient and the target.
    pub(crate) fn target<'a>(&self, facts: &'a Facts) -> Option<(&'a RecipientFacts, &'a Target)> {
        let recipient = facts.recipients.get(self.recipient)?;
        Some((recipient, recipient.targets().get(self.target)?))
    }

    /// The account of the target. None if it was removed.
    fn account<'a>(&self, facts: &Facts, policy: &Policy<'a>) -> Option<&'a Account> {
        let (_, target) = self.target(facts)?;
        policy.config.accounts.get(&target.account)
    }
}

/// What outside programs said of the message. Each of their refusals ended the transaction.
fn judge_hooks(case: &Case<'_>) -> Judged {
    Judged::plain(match case.facts.hooks.quarantine {
        Some(HookQuarantine::Junk) => Verdict::Junk(Suspicion::Hook),
        Some(HookQuarantine::Hold) | None => Verdict::Accept,
    })
}

/// Refuses a message that this server delivered to the same address before (RFC 5321 §6.3), and one
/// that has come too far to go on.
fn refuse_loop(case: &Case<'_>) -> Option<Refusal> {
    let is_return = matches!(case.recipient.resolution, Resolution::Return { .. });
    let header = case.facts.header.as_ref();
    if (is_return || case.passes_on()) && header.is_some_and(has_loop_when_queued) {
        return Some(Refusal::MailLoop);
    }
    let before = &case.common.before;
    if before.is_empty() {
        return None;
    }
    let own = [Some(&case.recipient.address), case.target.member.as_ref()];
    let mut own = own.into_iter().flatten();
    own.find(|own| before.contains(&case.policy.config.plain(own)))
        .map(|own| Refusal::DeliveredBefore(own.clone()))
}

/// Refuses an author behind whom neither SPF nor DKIM stands, where the destination asks for that.
fn refuse_unproved(case: &Case<'_>) -> Option<Refusal> {
    let text = case.destination?.message_auth_required_smtp_error.as_str();
    let is_proved = case.facts.is_ours
        || case
            .results
            .is_some_and(|results| results.validated_from().is_some());
    if text.is_empty() || is_proved || case.policy.simulate {
        return None;
    }
    let text = text.to_owned();
    Some(match list::has_no_answer(case.facts) {
        true => Refusal::AuthorNoAnswer(text),
        false => Refusal::AuthorNotProved(text),
    })
}

/// Decides what becomes of a message whose results are all known.
#[must_use]
pub fn decide_end(transaction: &Transaction, facts: &Facts, policy: &Policy<'_>) -> EndDecision {
    let common = Common::new(facts, policy);
    let recipients = facts.recipients.iter();
    let list_refusals = recipients.map(|recipient| list::refusal(recipient, facts, policy));
    let list_refusals: Vec<Option<Refusal>> = list_refusals.collect();
    let decide = |members: Members| -> Vec<Delivery> {
        let recipients = facts.recipients.iter().enumerate();
        let targets = recipients.flat_map(|(at, recipient)| {
            let targets = recipient.targets().iter().enumerate();
            targets.map(move |(target_at, target)| (at, recipient, target_at, target))
        });
        let decided = targets.map(|(at, recipient, target_at, target)| {
            let account = policy.config.accounts.get(&target.account);
            let mut forwarder = None;
            let ((outcome, differs), acceptance) = match account {
                Some(account) => {
                    let destination = target.destination_in(policy.config);
                    let rulesets = destination.map_or(&[][..], |it| &it.rulesets);
                    let mail_from = transaction.mail.reverse_path.address();
                    let results = facts.authentication.as_deref();
                    let case = Case {
                        transaction,
                        facts,
                        policy,
                        recipient,
                        target,
                        account,
                        destination,
                        ruleset: ruleset::matching(rulesets, mail_from, facts, results),
                        list_refusal: list_refusals.get(at).and_then(Option::as_ref),
                        results,
                        at_best: false,
                        common: &common,
                    };
                    let forwarding = case.ruleset.filter(|ruleset| ruleset.is_forward);
                    forwarder = forwarding.and_then(|ruleset| ruleset.verified_domain.clone());
                    (decide_target(&case, members), junk::acceptance(&case))
                }
                // It was removed since RCPT.
                None => {
                    let gone = Outcome::Refused(Refusal::MailboxGone);
                    ((gone, None), Acceptance::Known)
                }
            };
            Delivery {
                recipient: at,
                target: target_at,
                outcome,
                differs,
                forwarder,
                acceptance,
                scripted: None,
            }
        });
        decided.collect()
    };
    let mut deliveries = decide(Members::SomeAreSkipped);
    let is_skipped = |delivery: &Delivery| matches!(delivery.outcome, Outcome::Skipped(_));
    // Somebody has to get it.
    if !deliveries.is_empty() && deliveries.iter().all(is_skipped) {
        deliveries = decide(Members::All);
    }
    // The client was told that the address takes mail. It has to hear of the removal from here.
    if lost_recipient(&deliveries, facts) {
        for delivery in &mut deliveries {
            delivery.outcome = Outcome::Refused(Refusal::MailboxGone);
        }
    }
    let refusal = common_refusal(&deliveries);
    if refusal.is_none() {
        for delivery in &mut deliveries {
            keep_refused(delivery, facts, policy);
        }
    }
    EndDecision {
        deliveries,
        refusal,
    }
}

/// Whether all accounts of a recipient were removed since RCPT. Of a list one account is enough.
fn lost_recipient(deliveries: &[Delivery], facts: &Facts) -> bool {
    let is_gone =
        |delivery: &Delivery| matches!(delivery.outcome, Outcome::Refused(Refusal::MailboxGone));
    (0..facts.recipients.len()).any(|at| {
        let mut of_recipient = deliveries.iter().filter(|it| it.recipient == at).peekable();
        of_recipient.peek().is_some() && of_recipient.all(is_gone)
    })
}

/// Which members of lists get a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Members {
    All,
    /// Some are left out, as [`Skip`] says.
    SomeAreSkipped,
}

/// The client gets 250, since another target takes the message. So nobody tells the sender that
/// this one refuses it, and it must not get lost. An LMTP server gets it as junk: nobody looks for
/// mail of its mailboxes here.
fn keep_refused(delivery: &mut Delivery, facts: &Facts, policy: &Policy<'_>) {
    let (Outcome::Refused(refusal) | Outcome::Rejects { refusal, .. }) = &delivery.outcome else {
        return;
    };
    let target = delivery.target(facts);
    let destination = target.and_then(|(_, target)| target.destination_in(policy.config));
    // What must not go on stays here.
    let may_go_on = !matches!(refusal, Refusal::DeliveredBefore(_) | Refusal::MailLoop);
    if let Some(transport) = destination.and_then(lmtp).filter(|_| may_go_on) {
        delivery.outcome = Outcome::Lmtp {
            transport: transport.to_owned(),
            junk: Some(Suspicion::Refused),
        };
        return;
    }
    let Outcome::Refused(refusal) = &delivery.outcome else {
        return;
    };
    // Without an account there is no place to keep it.
    let Some(account) = delivery.account(facts, policy) else {
        return;
    };
    delivery.outcome = match account.rejects_mailbox.as_str() {
        "" => Outcome::Mailbox {
            mailbox: account.junk_mailbox.clone(),
            junk: Some(Suspicion::Refused),
        },
        mailbox => Outcome::Rejects {
            mailbox: mailbox.to_owned(),
            refusal: refusal.clone(),
        },
    };
}

/// The transport to the LMTP server that has the mailbox. None if the mailbox is not at one.
fn lmtp(destination: &Destination) -> Option<&str> {
    Some(destination.forward_lmtp.as_str()).filter(|transport| !transport.is_empty())
}

fn decide_target(case: &Case<'_>, members: Members) -> (Outcome, Option<Differs>) {
    let skip = Skip::of(case).filter(|_| members == Members::SomeAreSkipped);
    if let Some(skip) = skip {
        return (Outcome::Skipped(skip), None);
    }
    let judged = judge(case);
    match not_yet(case, &judged).map_or(judged, Err) {
        Ok((junk, differs)) => (taken(case, junk), differs),
        Err(refusal) => refused(case, refusal),
    }
}

/// What all steps say together: why the message is junk, and why that differs from the DMARC
/// policy. Or the refusal.
type AllJudged = Result<(Option<Suspicion>, Option<Differs>), Refusal>;

fn judge(case: &Case<'_>) -> AllJudged {
    let (mut junk, mut differs) = (None, None);
    for step in STEPS {
        let judged = step(case);
        match judged.verdict {
            // No step drops a message.
            Verdict::Accept | Verdict::Discard(_) => {}
            Verdict::Junk(suspicion) => junk = junk.or(Some(suspicion)),
            Verdict::Refuse(refusal) if refusal.is_opinion() && case.takes_all() => {
                junk = junk.or(Some(Suspicion::TakesAll));
            }
            Verdict::Refuse(refusal) => return Err(refusal),
        }
        differs = differs.or(judged.differs);
    }
    Ok((junk, differs))
}

/// The refusal for now of a message about which DNS lacks an answer, if the answer may change that
/// an opinion refuses the message, or that DMARC makes it junk.
fn not_yet(case: &Case<'_>, judged: &AllJudged) -> Option<Refusal> {
    let is_junk = |judged: &AllJudged| matches!(judged, Ok((Some(Suspicion::DmarcFail), _)));
    let is_final = |refusal: &Refusal| !refusal.reply().code().is_transient();
    let may_change = match judged {
        Ok(_) => is_junk(judged) && !case.takes_all(),
        Err(refusal) => refusal.is_opinion() && is_final(refusal),
    };
    let best = case.at_best().filter(|_| may_change)?;
    let changes = match (judge(&best), judged) {
        (at_best @ Ok(_), Ok(_)) => !is_junk(&at_best),
        (Ok(_), Err(_)) => true,
        (Err(_), Ok(_)) => false,
        (Err(refusal), Err(_)) => {
            !is_final(&refusal) || refusal.is_opinion() && !best.takes_rejects().is_empty()
        }
    };
    changes.then_some(Refusal::NoAnswer)
}

/// The way of a message that the target takes.
fn taken(case: &Case<'_>, junk: Option<Suspicion>) -> Outcome {
    // The proof in the address says that it answers a message of ours, also if it looks like junk.
    if let Resolution::Return { to, .. } = &case.recipient.resolution {
        return Outcome::Relay(to.clone());
    }
    if case.facts.hooks.quarantine == Some(HookQuarantine::Hold) {
        return Outcome::Held;
    }
    let destination = case.destination;
    if let Some(transport) = destination.and_then(lmtp) {
        let transport = transport.to_owned();
        return Outcome::Lmtp { transport, junk };
    }
    // Other servers would take us for the source of the junk.
    let forward = destination.map_or(&[][..], |destination| &destination.forward);
    if !forward.is_empty() && junk.is_none() {
        return Outcome::Forward(forward.to_vec());
    }
    // The junk of such an address has a mailbox.
    if let Some(full) = case.refuse_full().filter(|_| case.passes_on()) {
        return Outcome::Refused(full);
    }
    let by_ruleset = case.ruleset.map(|ruleset| &ruleset.mailbox);
    let by_ruleset = by_ruleset.filter(|mailbox| !mailbox.is_empty());
    let mailbox = match junk {
        Some(_) => &case.account.junk_mailbox,
        None => by_ruleset.unwrap_or(&case.target.mailbox),
    };
    let mailbox = mailbox.clone();
    Outcome::Mailbox { mailbox, junk }
}

/// What becomes of a message that a step refuses. An opinion may be wrong: so a ruleset may have a
/// mailbox for such mail, and the account keeps it apart.
fn refused(case: &Case<'_>, refusal: Refusal) -> (Outcome, Option<Differs>) {
    if !refusal.is_opinion() {
        return (Outcome::Refused(refusal), None);
    }
    let mailbox = case.takes_rejects();
    if !mailbox.is_empty() {
        let junk = Some(Suspicion::RulesetTakesRejects);
        let outcome = match (case.destination.and_then(lmtp), case.refuse_full()) {
            (Some(transport), _) => Outcome::Lmtp {
                transport: transport.to_owned(),
                junk,
            },
            (None, Some(full)) => return (Outcome::Refused(full), None),
            (None, None) => Outcome::Mailbox {
                mailbox: mailbox.to_owned(),
                junk,
            },
        };
        let differs = Differs {
            kind: DmarcOverride::LocalPolicy,
            text: Cow::Borrowed("none: a ruleset takes it"),
        };
        return (outcome, Some(differs));
    }
    match case.account.rejects_mailbox.as_str() {
        "" => (Outcome::Refused(refusal), None),
        mailbox => {
            let mailbox = mailbox.to_owned();
            (Outcome::Rejects { mailbox, refusal }, None)
        }
    }
}

/// The refusal of all targets: the first one with a 4xx, so that the client tries again, else the
/// first one. None if a target takes the message.
fn common_refusal(deliveries: &[Delivery]) -> Option<Refusal> {
    let mut refusals = Vec::new();
    for delivery in deliveries {
        match &delivery.outcome {
            Outcome::Mailbox { .. }
            | Outcome::Forward(_)
            | Outcome::Lmtp { .. }
            | Outcome::Held
            | Outcome::Relay(_) => return None,
            Outcome::Refused(refusal) => refusals.push(refusal),
            Outcome::Rejects { refusal, .. } => refusals.push(refusal),
            Outcome::Skipped(_) => {}
        }
    }
    let chosen = in_common(refusals).cloned();
    Some(chosen.unwrap_or(Refusal::MailboxGone))
}
