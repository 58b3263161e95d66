//! Refusals, and the reply of each.

use std::{borrow::Cow, time::Duration};

use postrider_queue::simulate;
use postrider_smtp::{Address, Domain, EnhancedCode, Host, Reply, ReplyCode};

use crate::{
    facts::{AuthorFault, ReturnFault},
    junk::Listed,
    login::wait_in_words,
    network::Network,
    rates::Exceeded,
    reply::reply,
};

/// The reason of a refusal, with the facts that its reply needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// AUTH at the MX.
    LoginElsewhere,
    /// Too many wrong passwords. The next one is checked after this time.
    TooManyLogins(Duration),
    /// Too many failed logins in this session.
    TooManyFailedLogins,
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
    /// Too many new connections from this network.
    TooManyConnections(Network),
    /// Too many messages from a network.
    TooManyMessages(Exceeded),
    /// Too many recipients from a network.
    TooManyRecipients(Exceeded),
    /// Too many bytes from a network.
    TooManyBytes(Exceeded),
    /// Too much mail from a network for one account.
    AccountFlooded(Exceeded),
    /// The domain of the reverse-path is an address literal.
    SenderLiteral(Host),
    /// The domain of the reverse-path has no host for mail and no address.
    SenderTakesNoMail(Host),
    /// The domain of the reverse-path says that it takes no mail.
    SenderNullMx(Host),
    /// There is no answer of DNS about the domain of the reverse-path for now.
    SenderNoAnswer(Host),
    /// The recipients of the transaction are too many mailboxes already.
    TooManyTargets,
    /// A second recipient of a message with a null reverse-path. A report has one.
    OneRecipientOfReport,
    /// The listener takes mail over TLS only.
    TlsRequired,
    /// Too many unknown recipients in this session.
    TooManyUnknown,
    /// A doubtful stranger has to try again.
    Greylisted,
    /// The domain is not ours.
    NotLocal(Host),
    /// No such local-part in our domain.
    UnknownRecipient(Address),
    /// The domain takes no mail for now.
    DisabledDomain(Host),
    /// The address has the form of a rewritten sender, and leads nowhere.
    BadReturn(ReturnFault),
    /// The destination refuses mail with its own reply.
    DestinationRefuses {
        /// The SMTP reply code.
        code: u16,
        /// The text; empty: a default text.
        text: String,
    },
    /// The list takes mail of its members only.
    MembersOnly(Address),
    /// Whether a member of the list wrote the message has no answer of DNS for now.
    MemberNoAnswer(Address),
    /// The list has no members.
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
    /// A check refuses the message, and may not once DNS answers about who stands behind it.
    NoAnswer,
    /// The account called earlier mail of the sender junk, or mail with such words from a doubtful
    /// client. The postmaster of this host can help.
    EarlierJunk(Host),
    /// A block list has the client.
    Listed(Listed),
    /// The message was delivered to this address before, and came back.
    DeliveredBefore(Address),
    /// The destination takes mail of proved authors only, with the text that the administrator set.
    AuthorNotProved(String),
    /// The same, and whether the author is proved has no answer of DNS for now.
    AuthorNoAnswer(String),
    /// The account has as much mail as its quota allows.
    MailboxFull,
    /// All mailboxes of the recipients were removed since RCPT.
    MailboxGone,
    /// The scripts of the recipients refuse it with this text.
    Script(String),
    /// An outside program refuses it with this reply.
    Hook(Reply),
    /// An address asked localserve for this failure.
    Simulated(simulate::SimulatedFailure),
}

impl Refusal {
    /// The refusal is an opinion about the message, and it may be wrong. So the account keeps the
    /// message apart, also if nobody takes it.
    #[must_use]
    pub const fn is_opinion(&self) -> bool {
        matches!(
            self,
            Self::FromUnclear
                | Self::DmarcFail { .. }
                | Self::DmarcNoAnswer(_)
                | Self::NoAnswer
                | Self::AuthorNotProved(_)
                | Self::AuthorNoAnswer(_)
                | Self::EarlierJunk(_)
                | Self::Listed(_)
        )
    }

    /// The reply of this refusal, which carries its name.
    #[must_use]
    pub fn reply(&self) -> Reply {
        let reply = match self {
            Self::DestinationRefuses { code, text } => destination_reply(*code, text),
            Self::Simulated(failure) => failure.reply(),
            Self::Hook(reply) => reply.clone(),
            other => {
                let (code, enhanced) = other.codes();
                Reply::new(code, Some(enhanced), other.text())
            }
        };
        reply.because(self.name())
    }

    /// The codes of the reply. The replies of destinations and of outside programs, and simulated
    /// ones, have codes of their own.
    const fn codes(&self) -> (ReplyCode, EnhancedCode) {
        use {EnhancedCode as Enhanced, ReplyCode as Code};
        match self {
            Self::TooManyConnections(_) | Self::TooManyFailedLogins | Self::TooManyUnknown => {
                (Code::UNAVAILABLE, Enhanced::SECURITY_TRANSIENT)
            }
            Self::TooManyMessages(_)
            | Self::TooManyRecipients(_)
            | Self::TooManyBytes(_)
            | Self::AccountFlooded(_) => (Code::LOCAL_ERROR, Enhanced::RATE_LIMITED),
            Self::SenderTakesNoMail(_) => (Code::MAILBOX_UNAVAILABLE, Enhanced::BAD_SENDER_SYSTEM),
            Self::SenderNullMx(_) => (Code::MAILBOX_UNAVAILABLE, Enhanced::SENDER_NULL_MX),
            Self::SenderNoAnswer(_) => (Code::LOCAL_ERROR, Enhanced::DIRECTORY_FAILURE),
            Self::OneRecipientOfReport | Self::TooManyTargets => {
                (Code::INSUFFICIENT_STORAGE, Enhanced::TOO_MANY_RECIPIENTS)
            }
            Self::Greylisted => (Code::LOCAL_ERROR, Enhanced::NOT_AUTHORIZED),
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
            Self::LoginRequired | Self::TlsRequired => {
                (Code::AUTHENTICATION_REQUIRED, Enhanced::SECURITY)
            }
            Self::SenderNotAllowed(_)
            | Self::SenderLiteral(_)
            | Self::NameOfAnother(_)
            | Self::NotLocal(_)
            | Self::EarlierJunk(_)
            | Self::Listed(_)
            | Self::BadReturn(_)
            | Self::Script(_)
            | Self::DmarcFail { .. } => (Code::MAILBOX_UNAVAILABLE, Enhanced::NOT_AUTHORIZED),
            Self::DmarcNoAnswer(_) | Self::MemberNoAnswer(_) | Self::NoAnswer => {
                (Code::LOCAL_ERROR, Enhanced::NOT_AUTHORIZED)
            }
            Self::AuthorNotProved(_) => (Code::MAILBOX_UNAVAILABLE, Enhanced::AUTHOR_NOT_PROVED),
            Self::AuthorNoAnswer(_) => (Code::LOCAL_ERROR, Enhanced::AUTHOR_NOT_PROVED),
            Self::FromUnclear => (Code::TRANSACTION_FAILED, Enhanced::CONTENT),
            Self::AuthorUnclear(_) => (Code::MAILBOX_UNAVAILABLE, Enhanced::CONTENT),
            Self::PostmasterWithoutDomain => {
                (Code::MAILBOX_UNAVAILABLE, Enhanced::BAD_RECIPIENT_SYNTAX)
            }
            Self::UnknownRecipient(_) => (Code::MAILBOX_UNAVAILABLE, Enhanced::UNKNOWN_MAILBOX),
            Self::MembersOnly(_) => (Code::MAILBOX_UNAVAILABLE, Enhanced::LIST_PROHIBITED),
            Self::NoMember(_) => (Code::MAILBOX_BUSY, Enhanced::LIST_PROBLEM),
            // RFC 5321 §6.3.
            Self::MailboxFull => (Code::INSUFFICIENT_STORAGE, Enhanced::MAILBOX_FULL),
            Self::MailLoop | Self::DeliveredBefore(_) => (Code::TRANSACTION_FAILED, Enhanced::LOOP),
            Self::SenderDomainDisabled(_)
            | Self::DisabledDomain(_)
            | Self::MailboxGone
            | Self::DestinationRefuses { .. }
            | Self::Hook(_)
            | Self::Simulated(_) => (Code::LOCAL_ERROR, Enhanced::SYSTEM_TRANSIENT),
        }
    }

    /// The text of the reply.
    fn text(&self) -> Cow<'static, str> {
        match self {
            Self::TooManyLogins(wait) => {
                let wait = wait_in_words(*wait);
                format!("too many failed logins from your network, try again in {wait}").into()
            }
            Self::LoginDisabled(text)
            | Self::SenderNotAllowed(text)
            | Self::AuthorNotProved(text)
            | Self::AuthorNoAnswer(text)
            | Self::Script(text)
            | Self::DestinationRefuses { text, .. } => text.clone().into(),
            Self::AuthorUnclear(fault) => fault.to_string().into(),
            Self::NameOfAnother(address) => format!(
                "the name in the From field has the address {address}, and your account may \
                     not send from it"
            )
            .into(),
            Self::SenderDomainDisabled(host) => {
                format!("{host} sends no mail for now, try again later").into()
            }
            Self::TooManyConnections(network) => {
                format!("too many connections from {network}").into()
            }
            Self::TooManyMessages(exceeded) => too_much("many messages", exceeded, "").into(),
            Self::TooManyRecipients(exceeded) => too_much("many recipients", exceeded, "").into(),
            Self::TooManyBytes(exceeded) => too_much("much mail", exceeded, "").into(),
            Self::AccountFlooded(exceeded) => {
                too_much("much mail", exceeded, " for this recipient").into()
            }
            Self::SenderLiteral(host) => {
                format!("the sender's address needs a domain in the place of {host}").into()
            }
            Self::SenderTakesNoMail(host) => {
                format!("the sender's domain {host} has no MX and no address in DNS").into()
            }
            Self::SenderNullMx(host) => {
                format!("the sender's domain {host} takes no mail, as its MX says").into()
            }
            Self::SenderNoAnswer(host) => format!(
                "there is no answer about the sender's domain {host} just now, try again later"
            )
            .into(),
            Self::NotLocal(host) => format!("mail for {host} is not taken here").into(),
            Self::UnknownRecipient(address) => format!("there is no {address} here").into(),
            Self::DisabledDomain(host) => {
                format!("{host} takes no mail for now, try again later").into()
            }
            Self::DeliveredBefore(address) => {
                format!("the message is in a mail loop: {address} had it before").into()
            }
            Self::MembersOnly(address) => format!("only its members may write to {address}").into(),
            Self::MemberNoAnswer(address) => format!(
                "there is no answer just now about whether a member of {address} wrote this, \
                     try again later"
            )
            .into(),
            Self::NoMember(address) => format!("no member of {address} takes mail now").into(),
            Self::EarlierJunk(host) => {
                format!("earlier mail from you was marked as junk; postmaster@{host} can help")
                    .into()
            }
            Self::Listed(Listed { zone, address }) => {
                format!("{address} is listed by {zone}").into()
            }
            Self::DmarcFail { domain, reason } => {
                format!("rejected per DMARC policy of {domain}: {reason}").into()
            }
            Self::DmarcNoAnswer(domain) => format!(
                "there is no answer about the DMARC policy of {domain} just now, try again later"
            )
            .into(),
            Self::BadReturn(ReturnFault::NoReport) => {
                "only reports are taken for this address".into()
            }
            Self::BadReturn(ReturnFault::Forged) => "this server did not write that address".into(),
            Self::BadReturn(ReturnFault::Old) => "the time of this address is over".into(),
            Self::NoAnswer => {
                "there is no answer just now about who stands behind this mail, try again later"
                    .into()
            }
            Self::FromUnclear => "exactly one From is needed".into(),
            Self::TooManyFailedLogins => "too many failed logins, closing".into(),
            Self::OneRecipientOfReport => {
                "a report has one recipient, send the others in transactions of their own".into()
            }
            Self::TooManyTargets => {
                "too many mailboxes, send the others in transactions of their own".into()
            }
            Self::TlsRequired => "use STARTTLS first".into(),
            Self::TooManyUnknown => "too many unknown recipients, closing".into(),
            Self::Greylisted => "unknown sender, please retry in a minute".into(),
            Self::LoginElsewhere => "logins are for submission, on another port".into(),
            // A text of its own would tell that the password was right.
            Self::BadCredentials | Self::MayNotActAs => "wrong user or password".into(),
            Self::PasswordTooWeak => {
                "the account has one-time codes, so programs log in with an app password".into()
            }
            Self::LoginRequired => "log in first".into(),
            Self::PostmasterWithoutDomain => "name the postmaster's domain".into(),
            Self::MailLoop => "too many Received fields: the message is in a mail loop".into(),
            Self::MailboxFull => "the mailbox is full, try again later".into(),
            Self::MailboxGone => "the mailbox is gone for now, try again later".into(),
            Self::Hook(reply) => reply.text().to_owned().into(),
            Self::Simulated(_) => "as asked for".into(),
        }
    }
}

/// The text of a refusal because of what a network brings. `of_it` stands behind the network.
fn too_much(what: &str, Exceeded { network, wait }: &Exceeded, of_it: &str) -> String {
    let wait = wait_in_words(*wait);
    format!("too {what} from {network}{of_it}, try again in {wait}")
}

/// The reply that an administrator configured for a destination.
fn destination_reply(code: u16, text: &str) -> Reply {
    let text = match text {
        "" => "this address takes no mail".to_owned(),
        text => text.to_owned(),
    };
    reply(code, EnhancedCode::MAILBOX_DISABLED, text)
}
