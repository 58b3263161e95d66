//! The one decision: facts and policy in, verdict out.
//!
//! [`decide`] has no I/O, no clock and no randomness. The same facts give the same verdict, so a
//! test is a table, and the answer to "why was this mail refused" is the [`Refusal`] itself. Each
//! refusal has one reply, in [`Refusal::reply`].

mod dmarc;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, time::Duration};

use postrider_config::{Dynamic, Static};
use postrider_queue::simulate;
use postrider_smtp::{
    Address, Domain, EnhancedCode, ForwardPath, Host, LocalPart, Reply, ReplyCode, ReversePath,
    server::{MailFrom, RcptTo, Transaction},
};

pub(crate) use self::dmarc::Judged;
use self::dmarc::judge;
use crate::{
    checks,
    facts::{AuthorFault, Facts, LoginFacts, RecipientFacts, Resolution},
    login::{PasswordCheck, wait_in_words},
    reply::reply,
};

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
    /// The header section is complete: [`Facts::header`] is set.
    Header,
    /// The end of the text was reached.
    End(&'a Transaction),
}

/// The result of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The session goes on; at the end of the text the message is stored.
    Accept,
    /// At the end of the text the message is stored in the junk mailboxes.
    Junk(Suspicion),
    /// The client gets the reply of this refusal.
    Refuse(Refusal),
}

impl Verdict {
    /// The verdict as the result that a session handler returns.
    ///
    /// # Errors
    /// The reply of the refusal.
    pub fn into_result(self) -> Result<(), Reply> {
        match self {
            Self::Accept | Self::Junk(_) => Ok(()),
            Self::Refuse(refusal) => Err(refusal.reply()),
        }
    }
}

/// Why a message goes to the junk mailboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspicion {
    /// The message does not have exactly one From field of one domain.
    FromUnclear,
    /// The message failed the DMARC check.
    DmarcFail,
    /// The DMARC check has no answer of DNS for now.
    NoAnswer,
}

impl Suspicion {
    /// The reason in words, for the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FromUnclear => "not exactly one From of one domain",
            Self::DmarcFail => "DMARC failed",
            Self::NoAnswer => "no answer about DMARC",
        }
    }
}

/// The reason of a refusal, with the facts that its reply needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// AUTH at the MX.
    LoginElsewhere,
    /// Too many wrong passwords. The next one is checked after this time.
    TooManyLogins(Duration),
    /// Wrong user or wrong password.
    BadCredentials,
    /// The main password of an account that has one-time codes.
    PasswordTooWeak,
    /// The account is disabled, with the text that the administrator set.
    LoginDisabled(String),
    /// The login may not act as another user.
    MayNotActAs,
    /// A command of a transaction before the login.
    LoginRequired,
    /// The reverse-path or the author is not an address of the account. The text says how an
    /// administrator can allow it.
    SenderNotAllowed(String),
    /// The From field does not name one author in one way.
    AuthorUnclear(AuthorFault),
    /// The name beside the author's address is an address that the account may not send from.
    NameOfAnother(Address),
    /// The domain of the reverse-path or of the author sends no mail for now.
    SenderDomainDisabled(Host),
    /// `RCPT TO:<postmaster>` without a domain at submission.
    PostmasterWithoutDomain,
    /// The domain is not ours.
    NotLocal(Host),
    /// No such local-part in our domain.
    UnknownRecipient(Address),
    /// The domain takes no mail for now.
    DisabledDomain(Host),
    /// The destination refuses mail with its own reply.
    DestinationRefuses {
        /// The SMTP reply code.
        code: u16,
        /// The text; empty: a default text.
        text: String,
    },
    /// The list takes mail of its members only.
    MembersOnly(Address),
    /// No member of the list takes mail.
    NoMember(Address),
    /// The message came through too many servers.
    MailLoop,
    /// The message does not have exactly one From field of one domain.
    FromUnclear,
    /// The message failed the DMARC check, and the owner of the author's domain wants it refused.
    DmarcFail {
        /// The domain with the policy.
        domain: String,
        /// What failed.
        reason: String,
    },
    /// The DMARC check of this author's domain has no answer of DNS for now.
    DmarcNoAnswer(Domain),
    /// All mailboxes of the recipients were removed since RCPT.
    MailboxGone,
    /// An address asked localserve for this failure.
    Simulated(simulate::SimulatedFailure),
}

/// Decides one stage of a session.
#[must_use]
pub fn decide(stage: Stage<'_>, facts: &Facts, policy: &Policy<'_>) -> Verdict {
    let refusal = match stage {
        Stage::Login(login) => refuse_login(login, policy),
        Stage::Mail(mail) => refuse_mail(mail, facts, policy),
        Stage::Rcpt(rcpt, recipient) => refuse_rcpt(rcpt, recipient, policy),
        Stage::Header => refuse_header(facts, policy),
        Stage::End(transaction) => return decide_end(transaction, facts, policy).verdict,
    };
    refusal.map_or(Verdict::Accept, Verdict::Refuse)
}

/// [`decide`] at the end of the text, with the reason if the verdict differs from the DMARC policy.
pub(crate) fn decide_end(transaction: &Transaction, facts: &Facts, policy: &Policy<'_>) -> Judged {
    match refuse_end(transaction, facts, policy) {
        Some(refusal) => Judged::plain(Verdict::Refuse(refusal)),
        None => judge(transaction, facts, policy),
    }
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
    simulated(&sender?.local, simulate::FailureStage::MailFrom, policy)
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

fn refuse_rcpt(rcpt: &RcptTo, recipient: &RecipientFacts, policy: &Policy<'_>) -> Option<Refusal> {
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
    match &recipient.resolution {
        Resolution::Mailboxes(_) => None,
        Resolution::List {
            sender_may_post: false,
            ..
        } => Some(Refusal::MembersOnly(address.clone())),
        Resolution::List { mailboxes, .. } => mailboxes
            .is_empty()
            .then(|| Refusal::NoMember(address.clone())),
        Resolution::Refusing { code, text } => Some(Refusal::DestinationRefuses {
            code: *code,
            text: text.clone(),
        }),
        Resolution::DisabledDomain => Some(Refusal::DisabledDomain(address.host.clone())),
        Resolution::UnknownLocalPart => Some(Refusal::UnknownRecipient(address.clone())),
        Resolution::NotLocal => Some(Refusal::NotLocal(address.host.clone())),
    }
}

fn refuse_header(facts: &Facts, policy: &Policy<'_>) -> Option<Refusal> {
    let header = facts.header.as_ref()?;
    if checks::has_loop(header) {
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

fn refuse_end(transaction: &Transaction, facts: &Facts, policy: &Policy<'_>) -> Option<Refusal> {
    let simulated = transaction
        .recipients
        .iter()
        .filter_map(|rcpt| rcpt.forward_path.address())
        .find_map(|address| simulated(&address.local, simulate::FailureStage::Data, policy));
    if simulated.is_some() || policy.role == Role::Submission {
        return simulated;
    }
    // An account may have been removed since RCPT.
    let accounts = &policy.config.accounts;
    let one_left = facts
        .recipients
        .iter()
        .flat_map(RecipientFacts::mailboxes)
        .any(|mailbox| accounts.contains_key(&mailbox.account));
    (!one_left).then_some(Refusal::MailboxGone)
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

impl Refusal {
    /// The reply of this refusal.
    #[must_use]
    pub fn reply(&self) -> Reply {
        match self {
            Self::DestinationRefuses { code, text } => destination_reply(*code, text),
            Self::Simulated(failure) => failure.reply(),
            other => {
                let (code, enhanced) = other.codes();
                Reply::new(code, Some(enhanced), other.text())
            }
        }
    }

    /// The codes of the reply. A destination's own reply and a simulated one have codes of their
    /// own.
    const fn codes(&self) -> (ReplyCode, EnhancedCode) {
        use {EnhancedCode as Enhanced, ReplyCode as Code};
        match self {
            Self::LoginElsewhere => (Code::NOT_IMPLEMENTED, Enhanced::INVALID_COMMAND),
            Self::TooManyLogins(_) => (Code::TEMPORARY_FAILURE, Enhanced::SECURITY_TRANSIENT),
            Self::BadCredentials | Self::MayNotActAs => {
                (Code::AUTHENTICATION_FAILED, Enhanced::BAD_CREDENTIALS)
            }
            Self::PasswordTooWeak => (
                Code::AUTHENTICATION_TOO_WEAK,
                Enhanced::AUTHENTICATION_TOO_WEAK,
            ),
            Self::LoginDisabled(_) => (Code::ACCOUNT_DISABLED, Enhanced::ACCOUNT_DISABLED),
            Self::LoginRequired => (Code::AUTHENTICATION_REQUIRED, Enhanced::SECURITY),
            Self::SenderNotAllowed(_)
            | Self::NameOfAnother(_)
            | Self::NotLocal(_)
            | Self::DmarcFail { .. } => (Code::MAILBOX_UNAVAILABLE, Enhanced::NOT_AUTHORIZED),
            Self::DmarcNoAnswer(_) => (Code::LOCAL_ERROR, Enhanced::NOT_AUTHORIZED),
            Self::FromUnclear => (Code::TRANSACTION_FAILED, Enhanced::CONTENT),
            Self::AuthorUnclear(_) => (Code::MAILBOX_UNAVAILABLE, Enhanced::CONTENT),
            Self::PostmasterWithoutDomain => {
                (Code::MAILBOX_UNAVAILABLE, Enhanced::BAD_RECIPIENT_SYNTAX)
            }
            Self::UnknownRecipient(_) => (Code::MAILBOX_UNAVAILABLE, Enhanced::UNKNOWN_MAILBOX),
            Self::MembersOnly(_) => (Code::MAILBOX_UNAVAILABLE, Enhanced::LIST_PROHIBITED),
            Self::NoMember(_) => (Code::MAILBOX_BUSY, Enhanced::LIST_PROBLEM),
            // RFC 5321 §6.3.
            Self::MailLoop => (Code::TRANSACTION_FAILED, Enhanced::LOOP),
            Self::SenderDomainDisabled(_)
            | Self::DisabledDomain(_)
            | Self::MailboxGone
            | Self::DestinationRefuses { .. }
            | Self::Simulated(_) => (Code::LOCAL_ERROR, Enhanced::SYSTEM_TRANSIENT),
        }
    }

    /// The text of the reply.
    fn text(&self) -> Cow<'static, str> {
        let fixed = match self {
            Self::TooManyLogins(wait) => {
                let wait = wait_in_words(*wait);
                return format!("too many failed logins from your network, try again in {wait}")
                    .into();
            }
            Self::LoginDisabled(text)
            | Self::SenderNotAllowed(text)
            | Self::DestinationRefuses { text, .. } => return text.clone().into(),
            Self::AuthorUnclear(fault) => return fault.to_string().into(),
            Self::NameOfAnother(address) => {
                return format!(
                    "the name in the From field has the address {address}, and your account may \
                     not send from it"
                )
                .into();
            }
            Self::SenderDomainDisabled(host) => {
                return format!("{host} sends no mail for now, try again later").into();
            }
            Self::NotLocal(host) => return format!("mail for {host} is not taken here").into(),
            Self::UnknownRecipient(address) => return format!("there is no {address} here").into(),
            Self::DisabledDomain(host) => {
                return format!("{host} takes no mail for now, try again later").into();
            }
            Self::MembersOnly(address) => {
                return format!("only its members may write to {address}").into();
            }
            Self::NoMember(address) => {
                return format!("no member of {address} takes mail now").into();
            }
            Self::DmarcFail { domain, reason } => {
                return format!("rejected per DMARC policy of {domain}: {reason}").into();
            }
            Self::DmarcNoAnswer(domain) => {
                return format!(
                    "there is no answer about the DMARC policy of {domain} just now, try again later"
                )
                .into();
            }
            Self::FromUnclear => "exactly one From is needed",
            Self::LoginElsewhere => "logins are for submission, on another port",
            Self::BadCredentials => "wrong user or password",
            Self::PasswordTooWeak => {
                "the account has one-time codes, so programs log in with an app password"
            }
            Self::MayNotActAs => "you may not act for that other user",
            Self::LoginRequired => "log in first",
            Self::PostmasterWithoutDomain => "name the postmaster's domain",
            Self::MailLoop => "too many Received fields: the message is in a mail loop",
            Self::MailboxGone => "the mailbox is gone for now, try again later",
            Self::Simulated(_) => "as asked for",
        };
        fixed.into()
    }
}

/// The reply that an administrator configured for a destination.
fn destination_reply(code: u16, text: &str) -> Reply {
    let text = match text {
        "" => "this address takes no mail".to_owned(),
        text => text.to_owned(),
    };
    reply(code, EnhancedCode::MAILBOX_DISABLED, text)
}
