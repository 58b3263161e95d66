//! What the programs are told of a session.

use std::net::IpAddr;

use postrider_config::HookStage;
use postrider_smtp::{
    ReversePath,
    sasl::Mechanism,
    server::{Client, MailFrom, RcptTo},
};

use super::draft::Draft;

/// A question to the programs: what is known of the session at one of its stages.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The stage.
    pub stage: HookStage,
    /// The name of the listener in the configuration.
    pub listener: &'a str,
    /// The host name of the listener.
    pub hostname: &'a str,
    /// The client.
    pub client: &'a Client,
    /// The name in EHLO or HELO. None before that.
    pub helo: Option<&'a str>,
    /// The first name of the client that leads back to its address. None: there is none, or nobody
    /// looked.
    pub ptr: Option<&'a str>,
    /// The connections that are open from the client's address, this one included.
    pub connections: usize,
    /// The login of the client. None without one.
    pub login: Option<&'a KnownLogin>,
    /// The MAIL command. None before that.
    pub mail: Option<&'a MailFrom>,
    /// The recipients so far. At the stage rcpt the last one is the one in question.
    pub recipients: &'a [RcptTo],
    /// The message. None before its end.
    pub draft: Option<&'a Draft>,
    /// The fields that the server will put on top of the message, each with its CRLF.
    pub added: &'a [u8],
}

/// A login, as programs are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownLogin {
    /// The user, as the client named it.
    pub user: String,
    /// The mechanism.
    pub mechanism: Mechanism,
}

impl<'a> Asked<'a> {
    /// The address of the client.
    #[must_use]
    pub fn remote(&self) -> IpAddr {
        self.client.remote.ip().to_canonical()
    }

    /// The reverse-path. None before MAIL.
    #[must_use]
    pub fn sender(&self) -> Option<&'a ReversePath> {
        let draft = self.draft.map(|draft| &draft.mail);
        draft.or(self.mail).map(|mail| &mail.reverse_path)
    }

    /// The recipients as they are now.
    #[must_use]
    pub fn to(&self) -> &'a [RcptTo] {
        self.draft
            .map_or(self.recipients, |draft| &draft.recipients)
    }

    /// The id of the message, as the reply to the client and the log have it.
    #[must_use]
    pub fn id(&self) -> String {
        self.client.name().to_string()
    }
}
