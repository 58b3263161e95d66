//! The one decision: facts and policy in, verdict out.
//!
//! | module | what it decides |
//! |---|---|
//! | here | each command of a session, and what concerns a message as a whole |
//! | `end` | what becomes of a message, for each recipient and each account |
//! | `dmarc` | what the check of the author's domain says about a message |
//! | `junk` | what the junk filter of an account says about a message |
//! | `list` | who may write to a mailing list, and which members get a copy |
//! | `ruleset` | which ruleset of a destination a message fulfills |
//! | `refusal` | the reasons of refusals, and their replies |
//! | `count` | the names of refusals, by which they are counted |
//!
//! [`decide`] and [`decide_end`] have no I/O, no clock and no randomness. The same facts give the
//! same verdict, so a test is a table, and the answer to "why was this mail refused" is the
//! [`Refusal`] itself.

mod count;
mod dmarc;
mod end;
mod junk;
mod list;
mod refusal;
mod ruleset;
#[cfg(test)]
mod tests;

use postrider_config::{Destination, Dynamic, Static};
use postrider_queue::simulate;
use postrider_smtp::{
    Address, ForwardPath, Host, LocalPart, Reply, ReversePath,
    server::{MailFrom, RcptTo, Transaction},
};

pub(crate) use self::count::NAMES;
pub use self::{
    end::{Delivery, EndDecision, Outcome, Skip, decide_end},
    refusal::Refusal,
};
use crate::{
    checks::{self, sender::SenderDomain},
    facts::{Facts, LoginFacts, RecipientFacts, Resolution, Target},
    hooks::answer::Vote,
    login::PasswordCheck,
    resolve::{is_disabled, reports_to},
};

/// How many targets a transaction has at most, if it has more than one recipient: each member of a
/// list is one.
const TARGETS_MAX: usize = 10_000;

/// The rules that apply to a session.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// The side that the client is on.
    pub role: Role,
    /// The static configuration.
    pub statics: &'a Static,
    /// One version of the dynamic configuration.
    pub config: &'a Dynamic,
    /// Localserve without `--deliver`: it takes any recipient, and some local-parts ask for a
    /// failure.
    pub simulate: bool,
}

impl Policy<'_> {
    /// Whether an account may send from an address. In localserve it may send from all.
    fn may_send_from(&self, account: &str, address: &Address) -> bool {
        self.simulate || self.config.may_send_from(account, address)
    }

    fn sender_not_allowed(&self, account: &str, address: &Address) -> Refusal {
        Refusal::SenderNotAllowed(self.config.sender_advice(account, address))
    }
}

/// The kind of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Another mail server sends mail for our addresses.
    Mx,
    /// An application or a person sends mail with a login.
    Submission,
}

/// The moment of a session at which something is decided.
#[derive(Clone, Copy, Debug)]
pub enum Stage<'a> {
    /// AUTH was checked.
    Login(&'a LoginFacts<'a>),
    /// MAIL names a reverse-path.
    Mail(&'a MailFrom),
    /// RCPT names a recipient.
    Rcpt(&'a RcptTo, &'a RecipientFacts),
    /// An outside program said this of a command or of the message.
    Hook(&'a Vote),
    /// The header section is complete: [`Facts::header`] is set.
    Header,
    /// The end of the text was reached. What is refused here is refused for all recipients. Then
    /// [`decide_end`] decides for each.
    End(&'a Transaction),
}

/// The result of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The session goes on; at the end of the text the message is taken.
    Accept,
    /// At the end of the text the message goes to the junk mailbox.
    Junk(Suspicion),
    /// The client gets the reply of this refusal.
    Refuse(Refusal),
    /// The client gets this reply, which is positive, and the message is dropped. Only an outside
    /// program can ask for that.
    Discard(Reply),
}

impl Verdict {
    /// The verdict as the result that a session handler returns.
    ///
    /// # Errors
    /// The reply of the refusal.
    pub(crate) fn answer(self) -> Result<(), Reply> {
        match self {
            Self::Accept | Self::Junk(_) | Self::Discard(_) => Ok(()),
            Self::Refuse(refusal) => Err(refusal.reply()),
        }
    }
}

/// Why a message goes to the junk mailboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspicion {
    /// An outside program says so.
    Hook,
    /// The message does not have exactly one From field of one domain.
    FromUnclear,
    /// The message failed the DMARC check.
    DmarcFail,
    /// The DMARC check has no answer of DNS for now.
    NoAnswer,
    /// Nothing but a name or a network is known of the sender, and SPF fails.
    SpfFails,
    /// Earlier mail of the sender was junk.
    History,
    /// The words are those of junk.
    Words,
    /// A block list has the client, and the recipient takes all mail.
    Listed,
    /// The account refuses the message, another one takes it, and the account has no mailbox for
    /// refused mail.
    Refused,
    /// The recipient takes all mail, and another one would refuse the message.
    TakesAll,
    /// The account would refuse the message, and a ruleset has a mailbox for such mail.
    RulesetTakesRejects,
}

impl Suspicion {
    /// The name, for traces and the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hook => "hook",
            Self::FromUnclear => "from_unclear",
            Self::DmarcFail => "dmarc_fail",
            Self::NoAnswer => "no_answer",
            Self::SpfFails => "spf_fails",
            Self::History => "history",
            Self::Words => "words",
            Self::Listed => "listed",
            Self::Refused => "refused",
            Self::TakesAll => "takes_all",
            Self::RulesetTakesRejects => "ruleset_takes_rejects",
        }
    }

    /// The reason in words, for the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hook => "an outside program says so",
            Self::FromUnclear => "not exactly one From of one domain",
            Self::DmarcFail => "DMARC failed",
            Self::NoAnswer => "no answer about DMARC",
            Self::SpfFails => "SPF fails, and little is known of the sender",
            Self::History => "earlier mail of the sender was junk",
            Self::Words => "the words are those of junk",
            Self::Listed => "a block list has the client",
            Self::Refused => "refused, and another recipient takes it",
            Self::TakesAll => "the recipient takes all mail",
            Self::RulesetTakesRejects => "refused, and a ruleset takes it",
        }
    }
}

/// Decides one stage of a session.
#[must_use]
pub fn decide(stage: Stage<'_>, facts: &Facts, policy: &Policy<'_>) -> Verdict {
    let refusal = match stage {
        Stage::Login(login) => refuse_login(login, policy),
        Stage::Mail(mail) => refuse_mail(mail, facts, policy),
        Stage::Rcpt(rcpt, recipient) => refuse_rcpt(rcpt, recipient, facts, policy),
        Stage::Hook(vote) => refuse_hook(vote),
        Stage::Header => refuse_header(facts, policy),
        Stage::End(transaction) => match &facts.hooks.discard {
            Some(reply) => return Verdict::Discard(reply.clone()),
            None => refuse_end(transaction, policy),
        },
    };
    refusal.map_or(Verdict::Accept, Verdict::Refuse)
}

fn refuse_login(login: &LoginFacts<'_>, policy: &Policy<'_>) -> Option<Refusal> {
    if policy.role == Role::Mx {
        return Some(Refusal::LoginElsewhere);
    }
    match (login.check, login.account) {
        (PasswordCheck::TooMany(wait), _) => Some(Refusal::TooManyLogins(wait)),
        (PasswordCheck::Wrong, _) | (PasswordCheck::Right | PasswordCheck::TooWeak, None) => {
            Some(Refusal::BadCredentials)
        }
        (PasswordCheck::Right | PasswordCheck::TooWeak, Some(account))
            if !account.login_disabled.is_empty() =>
        {
            Some(Refusal::LoginDisabled(account.login_disabled.clone()))
        }
        (PasswordCheck::TooWeak, Some(_)) => Some(Refusal::PasswordTooWeak),
        (PasswordCheck::Right, Some(_)) => login.acts_as_other.then_some(Refusal::MayNotActAs),
    }
}

fn refuse_mail(mail: &MailFrom, facts: &Facts, policy: &Policy<'_>) -> Option<Refusal> {
    let sender = match &mail.reverse_path {
        ReversePath::Mailbox(address) => Some(address),
        ReversePath::Null => None,
    };
    if policy.role == Role::Submission {
        let Some(login) = &facts.login else {
            return Some(Refusal::LoginRequired);
        };
        // The null reverse-path is for notifications about the account's own mail.
        let refusal = sender.and_then(|sender| refuse_sender(sender, &login.account, policy));
        if refusal.is_some() {
            return refusal;
        }
    }
    let sender = sender?;
    simulated(&sender.local, simulate::FailureStage::MailFrom, policy)
        .or_else(|| refuse_sender_domain(&sender.host, facts.sender?))
}

/// Refuses a sender whose domain nobody could answer to.
fn refuse_sender_domain(host: &Host, domain: SenderDomain) -> Option<Refusal> {
    let host = host.clone();
    match domain {
        SenderDomain::TakesMail => None,
        SenderDomain::Literal => Some(Refusal::SenderLiteral(host)),
        SenderDomain::Nothing => Some(Refusal::SenderTakesNoMail(host)),
        SenderDomain::NullMx => Some(Refusal::SenderNullMx(host)),
        SenderDomain::NoAnswer => Some(Refusal::SenderNoAnswer(host)),
    }
}

/// Refuses a reverse-path or an author that the account may not use.
fn refuse_sender(sender: &Address, account: &str, policy: &Policy<'_>) -> Option<Refusal> {
    let domain = sender.host.domain();
    let domain = domain.and_then(|domain| policy.config.domains.get(domain));
    if domain.is_some_and(|domain| domain.disabled) {
        return Some(Refusal::SenderDomainDisabled(sender.host.clone()));
    }
    (!policy.may_send_from(account, sender)).then(|| policy.sender_not_allowed(account, sender))
}

fn refuse_rcpt(
    rcpt: &RcptTo,
    recipient: &RecipientFacts,
    facts: &Facts,
    policy: &Policy<'_>,
) -> Option<Refusal> {
    if policy.role == Role::Mx && facts.has_null_path && !facts.recipients.is_empty() {
        return Some(Refusal::OneRecipientOfReport);
    }
    if facts.needs_tls && !reports_to(&recipient.address, policy).tls {
        return Some(Refusal::TlsRequired);
    }
    let address = match &rcpt.forward_path {
        ForwardPath::Mailbox(address) => address,
        ForwardPath::Postmaster if policy.role == Role::Submission => {
            return Some(Refusal::PostmasterWithoutDomain);
        }
        ForwardPath::Postmaster => return None,
    };
    let simulated = simulated(&address.local, simulate::FailureStage::RcptTo, policy);
    if simulated.is_some() {
        return simulated;
    }
    if policy.role == Role::Submission {
        // A submission may go anywhere. Its DSN would tell of an unknown recipient of ours later.
        let is_unknown = recipient.resolution == Resolution::UnknownLocalPart;
        return is_unknown.then(|| Refusal::UnknownRecipient(address.clone()));
    }
    if recipient.same_as.is_some() {
        // The earlier recipient was taken.
        return None;
    }
    let earlier: usize = facts.recipients.iter().map(|it| it.targets().len()).sum();
    if earlier > 0 && earlier.saturating_add(recipient.targets().len()) > TARGETS_MAX {
        return Some(Refusal::TooManyTargets);
    }
    // Whether a report is about mail of the account is known at its end.
    let is_exempt = |target: &Target| target.takes_all || facts.has_null_path;
    let refuse = |target: &Target| {
        let destination = target.destination_in(policy.config);
        let full = || refuse_full(target, is_exempt(target), facts, policy);
        let is_kept = !destination.is_some_and(Destination::passes_on);
        refuse_disabled(target, policy)
            .or_else(|| refuse_destination(destination))
            .or_else(|| full().filter(|_| is_kept))
    };
    match &recipient.resolution {
        Resolution::Account(target) => refuse(target),
        Resolution::List(members) if members.is_empty() => Some(Refusal::NoMember(address.clone())),
        // One member that takes the message is enough. Who may write to a list is known at the end.
        Resolution::List(members) => {
            let refusals: Option<Vec<Refusal>> = members.iter().map(refuse).collect();
            refusals.and_then(|refusals| in_common(&refusals).cloned())
        }
        Resolution::Return { .. } => None,
        Resolution::BadReturn(fault) => Some(Refusal::BadReturn(*fault)),
        Resolution::DisabledDomain => Some(Refusal::DisabledDomain(address.host.clone())),
        Resolution::UnknownLocalPart => Some(Refusal::UnknownRecipient(address.clone())),
        Resolution::NotLocal => Some(Refusal::NotLocal(address.host.clone())),
    }
}

/// The refusal that stands for all of them: the first one with a 4xx, so that the client tries
/// again, else the first one.
fn in_common<'a>(refusals: impl IntoIterator<Item = &'a Refusal>) -> Option<&'a Refusal> {
    let mut first = None;
    for refusal in refusals {
        if refusal.reply().code().is_transient() {
            return Some(refusal);
        }
        first = first.or(Some(refusal));
    }
    first
}

/// Refuses mail for a member of a list whose domain takes no mail for now.
fn refuse_disabled(target: &Target, policy: &Policy<'_>) -> Option<Refusal> {
    let host = &target.member.as_ref()?.host;
    is_disabled(policy.config, host).then(|| Refusal::DisabledDomain(host.clone()))
}

/// Refuses what a destination takes from nobody.
fn refuse_destination(destination: Option<&Destination>) -> Option<Refusal> {
    let error = destination?.smtp_error.as_ref()?;
    Some(Refusal::DestinationRefuses {
        code: error.code,
        text: error.text.clone(),
    })
}

/// Refuses a message for which the account has no room: the quota is used up, or the message would
/// go beyond it. Some addresses take all mail.
fn refuse_full(
    target: &Target,
    is_exempt: bool,
    facts: &Facts,
    policy: &Policy<'_>,
) -> Option<Refusal> {
    let quota = policy.config.accounts.get(&target.account)?.quota?.0;
    let used = target.used?;
    let is_full = match facts.size {
        Some(size) => used.saturating_add(size) > quota,
        None => used >= quota,
    };
    (is_full && !is_exempt).then_some(Refusal::MailboxFull)
}

fn refuse_header(facts: &Facts, policy: &Policy<'_>) -> Option<Refusal> {
    let header = facts.header.as_ref()?;
    let is_loop = match policy.role {
        Role::Mx => checks::has_loop(header),
        Role::Submission => checks::has_loop_when_queued(header),
    };
    if is_loop {
        return Some(Refusal::MailLoop);
    }
    if policy.role == Role::Mx {
        return None;
    }
    let Some(login) = &facts.login else {
        return Some(Refusal::LoginRequired);
    };
    let account = &login.account;
    match &facts.author {
        // A message without a From field gets the login as its author.
        None => refuse_sender(&login.address, account, policy),
        Some(Err(fault)) => Some(Refusal::AuthorUnclear(*fault)),
        Some(Ok(author)) => refuse_sender(&author.address, account, policy).or_else(|| {
            let mut named = author.named.iter();
            let other = named.find(|named| !policy.may_send_from(account, named));
            other.map(|other| Refusal::NameOfAnother(other.clone()))
        }),
    }
}

/// Refuses what an outside program refuses.
fn refuse_hook(vote: &Vote) -> Option<Refusal> {
    match vote {
        Vote::Refuse(reply) => Some(Refusal::Hook(reply.clone())),
        Vote::Accept | Vote::Discard(_) | Vote::Quarantine(_) | Vote::Junk(_) => None,
    }
}

fn refuse_end(transaction: &Transaction, policy: &Policy<'_>) -> Option<Refusal> {
    transaction
        .recipients
        .iter()
        .filter_map(|rcpt| rcpt.forward_path.address())
        .find_map(|address| simulated(&address.local, simulate::FailureStage::Data, policy))
}

/// The failure that a local-part asks localserve for at this stage.
fn simulated(
    local: &LocalPart,
    stage: simulate::FailureStage,
    policy: &Policy<'_>,
) -> Option<Refusal> {
    if !policy.simulate {
        return None;
    }
    simulate::failure(local.as_str())
        .filter(|failure| failure.stage == stage)
        .map(Refusal::Simulated)
}
