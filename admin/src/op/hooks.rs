//! The outside programs that have a say in what is accepted: how they are, and what one of them
//! says to a message.

use std::net::IpAddr;

use bytes::Bytes;
use postrider_config::HookStage;
use postrider_receive::hooks::{
    Program,
    answer::{Answer, Vote},
    trial::{Trial, in_words},
};
use postrider_smtp::{Address, Reply};
use serde::{Deserialize, Serialize};

use super::{Operation, Single, Sink, delivery::reverse_path, queue::Piece};
use crate::{AdminError, Context};

/// The message of a test that brings none.
const SAMPLE: &str = "From: Sender <sender@example.net>\r\nTo: recipient@example.org\r\n\
    Subject: A test of a hook\r\nDate: Thu, 1 Jan 2026 12:00:00 +0000\r\n\
    Message-ID: <hook-test@example.net>\r\n\r\nThis is a test of a hook.\r\n";
/// The largest message of a test.
const MESSAGE_MAX: usize = 256 * 1024;
/// The most recipients of a test.
const RECIPIENTS_MAX: usize = 100;

/// A program, and how it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[cfg_attr(test, schema(as = HookProgramItem))]
pub struct ProgramItem {
    /// The name in the configuration.
    pub name: String,
    /// `milter`, `rspamd` or `stage`.
    pub kind: String,
    /// Where it is asked: a URL, or the socket of a milter.
    pub place: String,
    /// The stages at which it is asked: `connect`, `ehlo`, `auth`, `mail`, `rcpt` and `data`.
    pub stages: Vec<String>,
    /// `up`, `slow` or `down`.
    pub state: String,
    /// When the state began, as RFC 3339. None: it never changed since the start of the server.
    pub since: Option<String>,
    /// Why it is slow or down. Empty if it is up.
    pub reason: String,
}

impl ProgramItem {
    fn of(program: &Program) -> Self {
        let health = program.health();
        let stages = program.stages().iter();
        Self {
            name: program.name().to_owned(),
            kind: program.kind().to_owned(),
            place: program.place(),
            stages: stages.map(|stage| stage.as_str().to_owned()).collect(),
            state: health.condition.as_str().to_owned(),
            since: health.since.map(|since| since.to_string()),
            reason: health.reason,
        }
    }
}

/// Lists the programs, in the order in which they are asked. Those that are switched off are left
/// out.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {}

impl Operation for List {
    type Item = ProgramItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<ProgramItem>,
    ) -> Result<(), AdminError> {
        let programs = context.hooks.programs().iter();
        items
            .send(programs.map(|program| ProgramItem::of(program)).collect())
            .await
    }
}

/// Asks a program about a message that nobody sent. Nothing is queued or delivered, and nothing is
/// counted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[cfg_attr(test, schema(as = HookTest))]
#[serde(default, deny_unknown_fields)]
pub struct Test {
    /// The name of the program.
    #[cfg_attr(test, schema(ignore))]
    pub name: String,
    /// The stage. None: `data`.
    pub stage: Option<String>,
    /// The address of the client. None: `192.0.2.1`.
    #[cfg_attr(test, schema(value_type = Option<String>))]
    pub ip: Option<IpAddr>,
    /// The name in EHLO. None: `client.example.net`.
    pub helo: Option<String>,
    /// The user that is logged in. None: nobody is.
    pub login: Option<String>,
    /// The reverse-path. Empty: the null one. None: `sender@example.net`.
    pub from: Option<String>,
    /// The recipients. Empty: `recipient@example.org`.
    pub to: Vec<String>,
    /// The message in base64. None: a short sample.
    #[cfg_attr(test, schema(value_type = Option<String>))]
    pub message: Option<Piece>,
}

/// What came of [`Test`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct HookTested {
    /// Whether a session would ask the program this, by its stages and its conditions.
    pub asked: bool,
    /// The body of the call. None for a milter.
    pub request: Option<String>,
    /// The body of the answer. None: there was none.
    pub response: Option<String>,
    /// `accept`, `reject`, `tempfail`, `discard`, `quarantine` or `junk`.
    pub result: String,
    /// The reply to the client, if the program or the configuration gives one.
    pub reply: Option<String>,
    /// The changes of the message, a sentence each.
    pub changes: Vec<String>,
    /// Why there was no answer that counts. Then the configuration gives the result.
    pub error: Option<String>,
    /// The time that it took, in milliseconds.
    pub elapsed_ms: u64,
}

impl Test {
    fn trial(&self) -> Result<Trial, AdminError> {
        let stage = self.stage.as_deref().unwrap_or("data");
        let stage = HookStage::ALL.iter().find(|known| known.as_str() == stage);
        let stage = *stage.ok_or_else(|| {
            let text = "must be connect, ehlo, auth, mail, rcpt or data";
            AdminError::invalid(text).at("stage")
        })?;
        let text = match &self.message {
            Some(Piece(text)) if text.len() > MESSAGE_MAX => {
                let text = format!("the message of a test may have {MESSAGE_MAX} bytes");
                return Err(AdminError::invalid(text).at("message"));
            }
            Some(Piece(text)) => with_crlf(text),
            None => Bytes::from_static(SAMPLE.as_bytes()),
        };
        if self.to.len() > RECIPIENTS_MAX {
            let text = format!("a test may have {RECIPIENTS_MAX} recipients");
            return Err(AdminError::invalid(text).at("to"));
        }
        let given = match self.to.as_slice() {
            [] => &["recipient@example.org".to_owned()],
            given => given,
        };
        let to = given.iter().map(|to| {
            let wrong = |_| AdminError::invalid(format!("{to:?} is no address")).at("to");
            Address::parse(to).map_err(wrong)
        });
        Ok(Trial {
            stage,
            remote: self.ip.unwrap_or([192, 0, 2, 1].into()),
            helo: self.helo.clone().unwrap_or("client.example.net".into()),
            login: self.login.clone(),
            from: reverse_path(self.from.as_deref().unwrap_or("sender@example.net"))?,
            to: to.collect::<Result<_, _>>()?,
            text,
        })
    }
}

impl Single for Test {
    type Output = HookTested;

    async fn answer(self, context: &Context) -> Result<HookTested, AdminError> {
        let mut programs = context.hooks.programs().iter();
        let program = programs.find(|program| program.name() == self.name);
        let program = program.ok_or_else(|| {
            let name = &self.name;
            let text = format!("no hook and no milter named {name} is in use");
            AdminError::not_found(text).at("name")
        })?;
        let trial = self.trial()?;
        let parts = (&context.store, &*context.statics, &*context.clock);
        let tried = program.try_out(parts, &trial).await?;
        let Answer { vote, changes, .. } = &tried.answer;
        Ok(HookTested {
            asked: tried.is_asked,
            result: word(vote).to_owned(),
            reply: reply(vote).map(ToString::to_string),
            changes: changes.iter().map(in_words).collect(),
            request: tried.request,
            response: tried.response,
            error: tried.failure,
            elapsed_ms: tried.took_ms,
        })
    }
}

/// A text whose lines end in CRLF. Files often have LF alone.
fn with_crlf(text: &[u8]) -> Bytes {
    postrider_receive::hooks::draft::in_lines(text)
}

fn word(vote: &Vote) -> &'static str {
    match vote {
        Vote::Accept => "accept",
        Vote::Refuse(reply) if reply.code().is_transient() => "tempfail",
        Vote::Refuse(_) => "reject",
        Vote::Discard(_) => "discard",
        Vote::Quarantine(_) => "quarantine",
        Vote::Junk(_) => "junk",
    }
}

const fn reply(vote: &Vote) -> Option<&Reply> {
    match vote {
        Vote::Refuse(reply) | Vote::Discard(reply) => Some(reply),
        Vote::Accept | Vote::Quarantine(_) | Vote::Junk(_) => None,
    }
}
