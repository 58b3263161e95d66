//! The answer to a scan.

use postrider_smtp::{EnhancedCode, Reply, ReplyCode};
use serde_json::Value;
use tracing::info;

use super::milter;
use crate::hooks::{
    answer::{Answer, Change, Failure, Vote, shown},
    edit::{Edit, Missing},
    limits,
};

/// The most symbols that are kept, and the most options of each.
const SYMBOLS_MAX: usize = 200;
const OPTIONS_MAX: usize = 10;
/// The most bytes of a name or an option of a symbol.
const SYMBOL_MAX: usize = 100;
/// The most bytes of the text of a reply.
const MESSAGE_MAX: usize = 1000;

/// What rspamd thinks of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct RspamdAnswer {
    /// The score. Higher is worse.
    pub score: f64,
    /// The score of a message that is refused.
    pub required_score: f64,
    /// The action, as rspamd names it. It may have actions of its own configuration.
    pub action: String,
    /// The rules that the message met, in the order of the answer. At most 200.
    pub symbols: Vec<Symbol>,
    /// What becomes of the message.
    pub answer: Answer,
}

/// A rule of rspamd that a message met.
#[derive(Clone, Debug, PartialEq)]
pub struct Symbol {
    /// The name.
    pub name: String,
    /// Its part of the score.
    pub score: f64,
    /// Details, such as the domain of a signature. At most ten.
    pub options: Vec<String>,
}

/// Reads the answer to a scan.
///
/// # Errors
/// If the scan failed, or the answer is not one.
pub fn read(body: &[u8]) -> Result<RspamdAnswer, Failure> {
    limits::check_json(body)?;
    let body: Value = serde_json::from_slice(body)
        .map_err(|error| Failure::invalid(format_args!("its answer can't be read: {error}")))?;
    if let Some(error) = body.get("error").filter(|error| !error.is_null()) {
        let error = error.as_str().unwrap_or("an error without a text");
        return Err(Failure::unavailable(format_args!("rspamd says: {error}")));
    }
    let action =
        text(&body, "action").ok_or_else(|| Failure::invalid("its answer has no action"))?;
    let number = |name: &str| body.get(name).and_then(Value::as_f64).unwrap_or_default();
    let scan = Scan {
        body: &body,
        milter: body.get("milter").unwrap_or(&Value::Null),
        reason: format!(
            "rspamd: {}, score {:.2} of {:.2}",
            shown(action, SYMBOL_MAX),
            number("score"),
            number("required_score")
        ),
    };
    Ok(RspamdAnswer {
        score: number("score"),
        required_score: number("required_score"),
        action: shown(action, SYMBOL_MAX),
        symbols: symbols(&body),
        answer: scan.answer(action)?,
    })
}

/// A text of an object.
fn text<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str)
}

fn symbols(body: &Value) -> Vec<Symbol> {
    let symbols = body.get("symbols").and_then(Value::as_object);
    let symbols = symbols.into_iter().flatten().take(SYMBOLS_MAX);
    let symbol = |(name, symbol): (&String, &Value)| {
        let options = symbol.get("options").and_then(Value::as_array);
        let options = options.into_iter().flatten().filter_map(Value::as_str);
        let options = options.take(OPTIONS_MAX);
        Symbol {
            name: shown(name, SYMBOL_MAX),
            score: symbol
                .get("score")
                .and_then(Value::as_f64)
                .unwrap_or_default(),
            options: options.map(|option| shown(option, SYMBOL_MAX)).collect(),
        }
    };
    symbols.map(symbol).collect()
}

/// An answer that has an action.
struct Scan<'a> {
    body: &'a Value,
    milter: &'a Value,
    /// The score in words.
    reason: String,
}

impl Scan<'_> {
    /// What becomes of the message. A message that is not taken has no changes.
    fn answer(self, action: &str) -> Result<Answer, Failure> {
        let (vote, marks) = match self.milter.get("no_action").and_then(Value::as_bool) {
            Some(true) => (Vote::Accept, milter::marked("X-Rspamd-Action", action)?),
            _ => self.vote(action)?,
        };
        let changes = match vote {
            Vote::Refuse(_) | Vote::Discard(_) => Vec::new(),
            Vote::Accept | Vote::Quarantine(_) | Vote::Junk(_) => self.changes(marks)?,
        };
        Failure::check_changes(changes.len())?;
        Ok(Answer {
            changes,
            ..Answer::of(vote)
        })
    }

    /// The vote for an action, and the changes that come with it.
    fn vote(&self, action: &str) -> Result<(Vote, Vec<Change>), Failure> {
        let reason = || self.reason.clone();
        let vote = match action {
            "no action" | "greylist" => Vote::Accept,
            "add header" => {
                return Ok((Vote::Junk(reason()), milter::spam_marks(self.milter)?));
            }
            "rewrite subject" => return Ok((Vote::Accept, self.subject()?)),
            "soft reject" => self.refusal(ReplyCode::LOCAL_ERROR, "Try again later"),
            "reject" => match self.in_place_of_refusal() {
                Some("discard") => Vote::discard(),
                Some("quarantine") => Vote::Quarantine(reason()),
                _ => self.refusal(ReplyCode::TRANSACTION_FAILED, "Spam message rejected"),
            },
            "discard" => Vote::discard(),
            "quarantine" => Vote::Quarantine(reason()),
            action => {
                let action = shown(action, SYMBOL_MAX);
                info!(action, "action of rspamd not known; the message is taken");
                Vote::Accept
            }
        };
        Ok((vote, Vec::new()))
    }

    /// `discard` or `quarantine`, which an answer may want in the place of a refusal.
    fn in_place_of_refusal(&self) -> Option<&str> {
        text(self.milter, "reject").or_else(|| text(self.body, "reject"))
    }

    /// A refusal with the text of rspamd, if it has one.
    fn refusal(&self, code: ReplyCode, usual: &'static str) -> Vote {
        let messages = self.body.get("messages");
        let given = messages.and_then(|messages| text(messages, "smtp_message"));
        let given = given.map(|text| shown(text.trim(), MESSAGE_MAX));
        let given = given.filter(|text| !text.is_empty());
        Vote::Refuse(Reply::new(
            code,
            Some(EnhancedCode::NOT_AUTHORIZED),
            given.unwrap_or_else(|| usual.to_owned()),
        ))
    }

    /// The new subject, if the answer has one.
    fn subject(&self) -> Result<Vec<Change>, Failure> {
        let given = text(self.body, "subject").filter(|text| !text.trim().is_empty());
        let Some(given) = given else {
            return Ok(Vec::new());
        };
        let edit = Edit::Set {
            nth: 1,
            field: milter::field("Subject", &milter::subject(given))?,
            missing: Missing::AtEnd,
        };
        Ok(vec![Change::Header(edit)])
    }

    /// All changes, in the order of rspamd's own milter.
    fn changes(&self, marks: Vec<Change>) -> Result<Vec<Change>, Failure> {
        let mut changes = milter::changes(self.milter)?;
        let signatures = self.body.get("dkim-signature").unwrap_or(&Value::Null);
        let signatures = match signatures {
            Value::Array(signatures) => signatures.as_slice(),
            one => std::slice::from_ref(one),
        };
        for signature in signatures.iter().filter_map(Value::as_str) {
            let field = milter::field("DKIM-Signature", signature)?;
            changes.push(Change::Header(Edit::OnTop(field)));
        }
        changes.extend(marks);
        Ok(changes)
    }
}

#[cfg(test)]
mod tests;
