//! The arguments of a command or a test, taken one by one.

use std::collections::VecDeque;

use crate::sieve::{
    error::{Position, SieveError, shown},
    parse::{Argument, Value},
};

/// A text of a script with its place.
pub(super) type TextAt = (Position, String);

/// The arguments that are left.
pub(super) struct Arguments {
    /// The command or test, for errors.
    of: String,
    /// The place of the command or test.
    pub(super) at: Position,
    rest: VecDeque<Argument>,
    /// The tags that were taken.
    seen: Vec<String>,
}

impl Arguments {
    /// The arguments of a command or test, whose `kind` is "command" or "test".
    pub(super) fn new(kind: &str, name: &str, at: Position, arguments: Vec<Argument>) -> Self {
        Self {
            of: format!("The {kind} {}", shown(name)),
            at,
            rest: arguments.into(),
            seen: Vec::new(),
        }
    }

    /// How many arguments are left.
    pub(super) fn count(&self) -> usize {
        self.rest.len()
    }

    /// The next argument, if it is a tag. Each tag may stand once.
    pub(super) fn tag(&mut self) -> Result<Option<TextAt>, SieveError> {
        let Some(Argument {
            at,
            value: Value::Tag(name),
        }) = self.rest.front()
        else {
            return Ok(None);
        };
        let tag = (*at, name.clone());
        if self.seen.contains(name) {
            return Err(at.error(format!("The tag :{name} stands twice. Remove one of them.")));
        }
        self.seen.push(name.clone());
        self.rest.pop_front();
        Ok(Some(tag))
    }

    /// The error about a tag that does not belong here.
    pub(super) fn unknown_tag(&self, (at, name): &TextAt) -> SieveError {
        at.error(format!(
            "{} has no tag {}. Remove it.",
            self.of,
            shown(&format!(":{name}"))
        ))
    }

    /// The next argument as one text. `what` names the text.
    pub(super) fn text(&mut self, what: &str) -> Result<TextAt, SieveError> {
        match self.rest.pop_front() {
            Some(Argument {
                at,
                value: Value::Text(text),
            }) => Ok((at, text)),
            other => Err(self.expected(other, &format!("a text with {what}"))),
        }
    }

    /// The next argument as one text or a list of texts. `what` names the texts.
    pub(super) fn texts(&mut self, what: &str) -> Result<Vec<TextAt>, SieveError> {
        match self.rest.pop_front() {
            Some(Argument {
                at,
                value: Value::Text(text),
            }) => Ok(vec![(at, text)]),
            Some(Argument {
                value: Value::List(texts),
                ..
            }) => Ok(texts),
            other => Err(self.expected(other, &format!("a text or a list of texts with {what}"))),
        }
    }

    /// The next argument as a number. `what` names the number.
    pub(super) fn number(&mut self, what: &str) -> Result<u64, SieveError> {
        match self.rest.pop_front() {
            Some(Argument {
                value: Value::Number(number),
                ..
            }) => Ok(number),
            other => Err(self.expected(other, &format!("a number with {what}"))),
        }
    }

    fn expected(&self, found: Option<Argument>, wanted: &str) -> SieveError {
        let (at, found) = match found {
            None => (self.at, "nothing".to_owned()),
            Some(Argument { at, value }) => match value {
                Value::Tag(name) => {
                    let tag = shown(&format!(":{name}"));
                    (
                        at,
                        format!("the tag {tag}, which must stand before other arguments"),
                    )
                }
                Value::Number(number) => (at, format!("the number {number}")),
                Value::Text(text) => (at, format!("the text {}", shown(&text))),
                Value::List(_) => (at, "a list".to_owned()),
            },
        };
        at.error(format!("{} needs {wanted} here, and has {found}.", self.of))
    }

    /// Fails if an argument is left.
    pub(super) fn end(&self) -> Result<(), SieveError> {
        let Some(argument) = self.rest.front() else {
            return Ok(());
        };
        let hint = match argument.value {
            Value::Tag(_) => "Tags must stand before other arguments.",
            _ => "Remove it.",
        };
        let text = format!("{} has an argument too many. {hint}", self.of);
        Err(argument.at.error(text))
    }
}
