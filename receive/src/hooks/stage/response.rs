//! The answer of a hook.

use postrider_config::HookStage;
use postrider_smtp::{EnhancedCode, Reply, ReplyCode};
use serde::Deserialize;
use serde_json::{Map, Value};
use tracing::warn;

use crate::hooks::{
    answer::{Answer, Change, Failure, Vote, shown},
    draft::in_lines,
    edit::{Edit, Missing, NewField},
    envelope::{add_recipient, change_sender, delete_recipient},
    limits,
};

/// The most bytes of the text of a reply. What is longer is cut.
const MESSAGE_MAX: usize = 2000;
/// The most bytes of a word of the answer that a failure shows.
const SHOWN_MAX: usize = 60;
/// The reason of a quarantine if the hook gives no text.
const QUARANTINED: &str = "a hook asks for quarantine";

/// Reads the answer to a question at this stage.
///
/// Modifications count at the stage data alone, and for a message that is taken.
///
/// # Errors
/// If the answer is not one, or has a value that makes no sense.
pub fn read(stage: HookStage, body: &[u8]) -> Result<Answer, Failure> {
    limits::check_json(body)?;
    let body: Body = serde_json::from_slice(body)
        .map_err(|error| Failure::invalid(format_args!("its answer can't be read: {error}")))?;
    let response = body.response.unwrap_or_default();
    let action = Action::read(&body.action)?;
    let given = match action {
        Action::Accept => None,
        _ => response.reply(action)?,
    };
    let closes = action != Action::Accept && response.disconnect.unwrap_or_default();
    let changes = match action {
        Action::Accept | Action::Quarantine if stage == HookStage::Data => {
            changes(body.modifications.unwrap_or_default())?
        }
        _ => Vec::new(),
    };
    let (vote, reply) = match action {
        Action::Accept => (Vote::Accept, None),
        Action::Reject => (given.map_or_else(|| reject(stage), Vote::Refuse), None),
        Action::Discard => (given.map_or_else(Vote::discard, Vote::Discard), None),
        Action::Quarantine => {
            let reason = given.as_ref().map_or(QUARANTINED, Reply::text).to_owned();
            (Vote::Quarantine(reason), given)
        }
    };
    Ok(Answer {
        vote,
        changes,
        closes,
        reply,
    })
}

/// The refusal of a hook that gave no reply of its own. Before MAIL, and for a login, it is that of
/// Stalwart.
fn reject(stage: HookStage) -> Vote {
    match stage {
        HookStage::Mail | HookStage::Rcpt | HookStage::Data => Vote::reject(),
        HookStage::Connect | HookStage::Ehlo | HookStage::Auth => Vote::Refuse(Reply::fixed(
            ReplyCode::BAD_SEQUENCE,
            Some(EnhancedCode::permanent(5, 3)),
            "Message rejected.",
        )),
    }
}

/// The JSON of an answer. Other fields do not count.
#[derive(Deserialize)]
struct Body {
    action: String,
    response: Option<Response>,
    modifications: Option<Vec<Modification>>,
}

/// The reply in place of the usual one.
#[derive(Default, Deserialize)]
struct Response {
    status: Option<u32>,
    #[serde(rename = "enhancedStatus")]
    enhanced_status: Option<String>,
    /// The spelling that Stalwart reads.
    #[serde(rename = "enhanced_status")]
    enhanced_status_in_snake_case: Option<String>,
    message: Option<String>,
    disconnect: Option<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Accept,
    Discard,
    Reject,
    Quarantine,
}

impl Action {
    fn read(word: &str) -> Result<Self, Failure> {
        match word {
            "accept" => Ok(Self::Accept),
            "discard" => Ok(Self::Discard),
            "reject" => Ok(Self::Reject),
            "quarantine" => Ok(Self::Quarantine),
            word => Err(Failure::invalid(format_args!(
                "its answer has the action {:?}; it must be accept, discard, reject or quarantine",
                shown(word, SHOWN_MAX)
            ))),
        }
    }

    /// The reply code of this number, if it goes with the action.
    fn code(self, status: u32) -> Result<ReplyCode, Failure> {
        let (goes, needed) = match self {
            Self::Reject => ((400..=599).contains(&status), "400 to 599 with reject"),
            _ => (
                (200..=299).contains(&status),
                "200 to 299 with discard and quarantine",
            ),
        };
        let number = u16::try_from(status).ok().filter(|_| goes);
        number.and_then(ReplyCode::new).ok_or_else(|| {
            Failure::invalid(format_args!(
                "its answer has response.status {status}; it must be {needed}"
            ))
        })
    }
}

impl Response {
    /// The reply. None if the status or the message is missing.
    fn reply(&self, action: Action) -> Result<Option<Reply>, Failure> {
        let code = self.status.map(|status| action.code(status)).transpose()?;
        let message = self.message.as_deref();
        if message.is_some_and(|message| message.contains(['\r', '\n', '\0'])) {
            return Err(Failure::invalid(
                "its answer has a response.message with a line break or a NUL",
            ));
        }
        let spellings = [&self.enhanced_status, &self.enhanced_status_in_snake_case];
        let enhanced = spellings.into_iter().flatten().next().map(|text| {
            text.parse::<EnhancedCode>().map_err(|_| {
                Failure::invalid(format_args!(
                    "its answer has response.enhancedStatus {:?}; it must be like 5.7.1",
                    shown(text, SHOWN_MAX)
                ))
            })
        });
        let enhanced = enhanced.transpose()?;
        let reply = code.zip(message).map(|(code, message)| {
            let end = message.floor_char_boundary(MESSAGE_MAX);
            let text = message.get(..end).unwrap_or_default().to_owned();
            Reply::new(code, enhanced, text)
        });
        Ok(reply)
    }
}

/// A change of a message, by its type.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
enum Modification {
    ChangeFrom {
        value: String,
        parameters: Option<Map<String, Value>>,
    },
    AddRecipient {
        value: String,
        parameters: Option<Map<String, Value>>,
    },
    DeleteRecipient {
        value: String,
    },
    ReplaceContents {
        value: String,
    },
    AddHeader {
        name: String,
        value: String,
    },
    InsertHeader {
        index: u32,
        name: String,
        value: String,
    },
    ChangeHeader {
        index: u32,
        name: String,
        value: String,
    },
    DeleteHeader {
        index: u32,
        name: String,
    },
}

/// The changes of these modifications. Those that change nothing are left out.
fn changes(modifications: Vec<Modification>) -> Result<Vec<Change>, Failure> {
    Failure::check_changes(modifications.len())?;
    let mut contents = String::new();
    let mut changes = Vec::with_capacity(modifications.len());
    for (at, modification) in modifications.into_iter().enumerate() {
        changes.extend(modification.change(at, &mut contents)?);
    }
    if !contents.is_empty() {
        changes.push(Change::Body(in_lines(contents.as_bytes())));
    }
    Ok(changes)
}

impl Modification {
    /// The change of a modification, which stands at this place of the answer. New contents are
    /// appended to `contents`.
    fn change(self, at: usize, contents: &mut String) -> Result<Option<Change>, Failure> {
        let field = |name: &str, value: &str| {
            NewField::new(name.as_bytes(), value.as_bytes()).map_err(|error| {
                let name = shown(name, SHOWN_MAX);
                Failure::invalid(format_args!(
                    "its answer has modifications[{at}] with the header field {name:?}: {error}"
                ))
            })
        };
        let nth = |index: u32| usize::try_from(index).unwrap_or(usize::MAX);
        let set = |index, field| Edit::Set {
            nth: nth(index),
            field,
            missing: Missing::OnTopIfNone,
        };
        let edit = match self {
            Self::ChangeFrom { value, parameters } => {
                return change_sender(&value, words(parameters, at)?).map(Some);
            }
            Self::AddRecipient { value, parameters } => {
                return add_recipient(&value, words(parameters, at)?);
            }
            Self::DeleteRecipient { value } => return Ok(Some(delete_recipient(&value))),
            Self::ReplaceContents { value } => {
                contents.push_str(&value);
                return Ok(None);
            }
            Self::AddHeader { name, value } => Edit::OnTop(field(&name, &value)?),
            Self::InsertHeader { index, name, value } => {
                Edit::Before(nth(index), field(&name, &value)?)
            }
            Self::ChangeHeader { index, name, value } => set(index, field(&name, &value)?),
            Self::DeleteHeader { index, name } => set(index, field(&name, "")?),
        };
        Ok(Some(Change::Header(edit)))
    }
}

/// ESMTP parameters as the words of a command. None without any, and for a value that no word can
/// have: the command goes on without the parameters.
fn words(parameters: Option<Map<String, Value>>, at: usize) -> Result<Option<String>, Failure> {
    let mut words = Vec::new();
    for (keyword, value) in parameters.unwrap_or_default() {
        words.push(match value {
            Value::Null => keyword,
            Value::String(value) => format!("{keyword}={value}"),
            _ => {
                return Err(Failure::invalid(format_args!(
                    "its answer has modifications[{at}].parameters with a value that is neither a \
                     string nor null"
                )));
            }
        });
    }
    let is_wrong = |c: char| c.is_whitespace() || c.is_control();
    if let Some(word) = words.iter().find(|word| word.contains(is_wrong)) {
        let word = shown(word, SHOWN_MAX);
        warn!(at, word, "parameters of a modification ignored");
        return Ok(None);
    }
    Ok(Some(words.join(" ")).filter(|words| !words.is_empty()))
}

#[cfg(test)]
mod tests;
