//! What a change will do, before it is done. Each such page has a form that does it.

use askama::Template;

use super::{
    answer::{Answer, Trouble},
    asked::Asked,
    command::AsCommand,
    form::{Faults, Fields},
    frame::Frame,
};
use crate::AdminError;

/// The field with what has to be typed.
const TYPED: &str = "typed";

/// A page that asks before something is done.
#[derive(Template)]
#[template(path = "confirm.html")]
pub(super) struct Confirm {
    pub(super) frame: Frame,
    /// The question, as the title.
    pub(super) question: String,
    /// What will happen, and who will be told.
    pub(super) effects: Vec<String>,
    /// The first things that it will happen to.
    pub(super) examples: Vec<String>,
    /// The text on the button.
    pub(super) button: String,
    /// Where the form goes.
    pub(super) action: String,
    /// Where the safe button leads.
    pub(super) back: String,
    /// A box that can be ticked: its field and its label.
    pub(super) choice: Option<(&'static str, &'static str)>,
    /// The fields that the form repeats.
    pub(super) fields: Vec<(String, String)>,
    /// What has to be typed first; empty: nothing.
    pub(super) typed: String,
    /// The visitor has to give the password, unless that was lately.
    pub(super) proves: bool,
    pub(super) faults: Faults,
}

impl Confirm {
    /// A page with this question. The form goes to `action`, and its button says `button`.
    pub(super) fn new(asked: &Asked, question: &str, button: &str, action: &str) -> Self {
        Self {
            frame: asked.frame(question),
            question: question.to_owned(),
            effects: Vec::new(),
            examples: Vec::new(),
            button: button.to_owned(),
            action: action.to_owned(),
            back: asked.url(""),
            choice: None,
            fields: Vec::new(),
            typed: String::new(),
            proves: false,
            faults: Faults::default(),
        }
    }

    pub(super) fn effect(mut self, effect: impl Into<String>) -> Self {
        self.effects.push(effect.into());
        self
    }

    pub(super) fn examples(mut self, examples: Vec<String>) -> Self {
        self.examples = examples;
        self
    }

    /// The visitor may tick a box.
    pub(super) fn choice(mut self, field: &'static str, label: &'static str) -> Self {
        self.choice = Some((field, label));
        self
    }

    /// The page that the safe button leads to.
    pub(super) fn back(mut self, url: String) -> Self {
        self.back = url;
        self
    }

    /// The form repeats these fields.
    pub(super) fn repeating(mut self, fields: &Fields) -> Self {
        let own = ["token", "form", "proof", TYPED, "cursor", "rows", "told"];
        let kept = fields.iter().filter(|(name, _)| !own.contains(name));
        self.fields
            .extend(kept.map(|(name, value)| (name.to_owned(), value.to_owned())));
        self
    }

    /// The visitor has to type this first.
    pub(super) fn typing(mut self, text: &str) -> Self {
        text.clone_into(&mut self.typed);
        self
    }

    /// The visitor has to give the password once more. [`Asked::prove`] checks it.
    pub(super) fn proving(mut self) -> Self {
        self.proves = true;
        self
    }

    /// Asks once more, since the password or what had to be typed is missing or wrong.
    ///
    /// # Errors
    /// If the template can't be filled in.
    pub(super) fn again(mut self, error: &AdminError) -> Result<Answer, Trouble> {
        self.faults = Faults::of(error);
        Answer::again(&self)
    }

    pub(super) fn command(mut self, command: AsCommand) -> Self {
        self.frame = self.frame.with(command);
        self
    }
}

/// Checks that the visitor typed what the page asked for.
///
/// # Errors
/// If the text is another one.
pub(super) fn check_typed(form: &Fields, wanted: &str) -> Result<(), AdminError> {
    match form.text(TYPED) {
        Some(typed) if typed == wanted => Ok(()),
        _ => Err(AdminError::invalid(format!("type {wanted} to confirm")).at(TYPED)),
    }
}
