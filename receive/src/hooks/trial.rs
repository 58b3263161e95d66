//! A question to one program outside of any session, for an administrator who wants to see what the
//! program says.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use postrider_config::{HookStage, Static};
use postrider_smtp::{
    Address, BodyType, DeliveryOptions, ForwardPath, ReversePath,
    sasl::Mechanism,
    server::{Client, MailFrom, RcptTo, SessionId, Transaction},
};
use postrider_store::{Clock, NewText, Store, StoreError};

use super::{
    answer::{Answer, Change},
    asked::{Asked, KnownLogin},
    draft::{Draft, DraftLimits},
    edit::{Edit, Missing, NewField, Which},
    http::AnswerMemory,
    milter::MilterClient,
    program::{NotTold, Program, Seen},
};
use crate::memory::TextMemory;

/// The memory for the answer to a trial.
const MEMORY: u64 = 64 << 20;

/// A made-up session and its message.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The stage.
    pub stage: HookStage,
    /// The address of the client.
    pub remote: IpAddr,
    /// The name in EHLO.
    pub helo: String,
    /// The user that is logged in. None: nobody is.
    pub login: Option<String>,
    /// The reverse-path.
    pub from: ReversePath,
    /// The recipients.
    pub to: Vec<Address>,
    /// The message.
    pub text: Bytes,
}

/// What came of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Whether the program is asked this in a session, by its stages and its conditions.
    pub is_asked: bool,
    /// The body of the call. None: the program is called in another way.
    pub request: Option<String>,
    /// The body of the answer. None: there was none.
    pub response: Option<String>,
    /// What the program says, or what the configuration says in its place.
    pub answer: Answer,
    /// Why there was no answer that counts.
    pub failure: Option<String>,
    /// The time that it took, in milliseconds.
    pub took_ms: u64,
}

impl Program {
    /// Asks the program about a made-up session. Nothing is counted, and a program that is down is
    /// asked too.
    ///
    /// # Errors
    /// If our own store fails.
    pub async fn try_out(
        &self,
        (store, statics, clock): (&Store, &Static, &dyn Clock),
        trial: &Trial,
    ) -> Result<Tried, StoreError> {
        let transaction = trial.transaction();
        let text = store.new_text(&NewText::Inline(trial.text.clone())).await?;
        let section_max = statics.limits.header_size.0;
        let draft = Draft::open(&transaction, text, section_max).await?;
        let client = trial.client();
        let login = trial.login.clone().map(|user| KnownLogin {
            user,
            mechanism: Mechanism::Plain,
        });
        let listener = self.some_listener(statics);
        let (is_later, is_in_mail) = stages_of(trial.stage);
        let asked = Asked {
            stage: trial.stage,
            listener: &listener,
            hostname: statics.hostname.ascii(),
            client: &client,
            helo: is_later.then_some(trial.helo.as_str()),
            ptr: None,
            connections: 1,
            login: login.as_ref().filter(|_| is_later),
            mail: Some(&transaction.mail).filter(|_| is_in_mail),
            recipients: match trial.stage {
                HookStage::Rcpt => &transaction.recipients,
                _ => &[],
            },
            draft: Some(&draft).filter(|_| trial.stage == HookStage::Data),
            added: &[],
        };
        let begun = clock.moment();
        let mut seen = Seen {
            wanted: true,
            ..Seen::default()
        };
        let asking = async {
            match self.milter() {
                Some(milter) => {
                    let mut client = MilterClient::new(milter, statics);
                    client.ask(&asked).await.map_err(NotTold::Failed)
                }
                None => {
                    let memory = TextMemory::new(MEMORY).share(trial.remote);
                    let mut memory = AnswerMemory::new(memory);
                    self.call(store, &asked, &mut memory, &mut seen).await
                }
            }
        };
        let (answer, failure) = match asking.await {
            Ok(answer) => {
                let limits = DraftLimits {
                    section: section_max,
                    text: u64::MAX,
                    recipients: statics.limits.recipients_per_message,
                };
                match draft.clone().apply(&answer.changes, &limits) {
                    Ok(()) => (answer, None),
                    Err(failure) => (self.fate_of(&failure), Some(failure.to_string())),
                }
            }
            Err(NotTold::Failed(failure)) => (self.fate_of(&failure), Some(failure.to_string())),
            Err(NotTold::Store(error)) => return Err(error),
        };
        let took = clock.moment().since(begun);
        let readable = |bytes: Bytes| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Tried {
            is_asked: self.is_asked(&asked),
            request: seen.request.map(readable),
            response: seen.response.map(readable),
            answer,
            failure,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

/// Whether a stage comes after EHLO, and whether it comes after MAIL.
const fn stages_of(stage: HookStage) -> (bool, bool) {
    match stage {
        HookStage::Connect => (false, false),
        HookStage::Ehlo | HookStage::Auth => (true, false),
        HookStage::Mail | HookStage::Rcpt | HookStage::Data => (true, true),
    }
}

impl Trial {
    fn client(&self) -> Client {
        let remote = SocketAddr::new(self.remote, 49152);
        let local = SocketAddr::new([127, 0, 0, 1].into(), 25);
        Client {
            helo: Some(self.helo.clone()),
            esmtp: true,
            login: self.login.clone(),
            ..Client::new(SessionId::default(), remote, local)
        }
    }

    fn transaction(&self) -> Transaction {
        Transaction {
            mail: MailFrom {
                reverse_path: self.from.clone(),
                size: None,
                body: BodyType::EightBitMime,
                smtputf8: false,
                require_tls: false,
                ret: None,
                envid: None,
                delivery: DeliveryOptions::default(),
            },
            recipients: self.to.iter().cloned().map(to).collect(),
        }
    }
}

const fn to(address: Address) -> RcptTo {
    RcptTo {
        forward_path: ForwardPath::Mailbox(address),
        notify: None,
        orcpt: None,
    }
}

/// A change in one line, for people.
#[must_use]
pub fn in_words(change: &Change) -> String {
    match change {
        Change::Sender(path, _) => format!("the reverse-path becomes <{path}>"),
        Change::AddRecipient(address, _) => format!("<{address}> becomes a recipient"),
        Change::DeleteRecipient(address) => format!("<{address}> is no recipient any more"),
        Change::Body(body) => format!("the body becomes {} other bytes", body.len()),
        Change::Header(edit) => match edit {
            Edit::OnTop(field) => format!("on top: {}", shown(field)),
            Edit::AtEnd(field) => format!("at the end of the header section: {}", shown(field)),
            Edit::At(at, field) => format!("before field {at}, counted from 0: {}", shown(field)),
            Edit::FromEnd(behind, field) => {
                format!("before the last {behind} fields: {}", shown(field))
            }
            Edit::Before(nth, field) => {
                format!("before field {nth} of the same name: {}", shown(field))
            }
            Edit::Set {
                nth,
                field,
                missing,
            } => {
                let else_added = match missing {
                    Missing::OnTopIfNone => "on top if there is none",
                    Missing::AtEnd => "at the end if there are fewer",
                };
                let shown = shown(field);
                match field.value().trim_ascii().is_empty() {
                    true => format!("field {nth} of this name goes: {shown}"),
                    false => format!("field {nth} of this name becomes, {else_added}: {shown}"),
                }
            }
            Edit::Remove(name, which) => {
                let name = String::from_utf8_lossy(name);
                match which {
                    Which::All => format!("all fields {name} go"),
                    Which::FromTop(nth) => format!("field {nth} of {name} goes"),
                    Which::FromBottom(nth) => format!("field {nth} of {name} from the end goes"),
                }
            }
        },
    }
}

fn shown(field: &NewField) -> String {
    let name = String::from_utf8_lossy(field.name());
    let value = String::from_utf8_lossy(field.value());
    let value = value.replace("\r\n", "");
    format!("{name}: {}", value.trim_start())
}
