//! Texts of one message that are filled in by themselves: a preview, or a message of a template
//! that is kept.

use std::mem;

use serde_json::{Map, Value};

use super::{
    Draft,
    template::{self, FILLING_MAX, HTML, SUBJECT, TEXT, Templates},
};
use crate::{
    call::{context::CallContext, data::FIELDS_MAX, run::blocking},
    error::ApiError,
};

/// Refuses variables that are too long.
pub(crate) fn check_variables(variables: &Map<String, Value>) -> Result<(), ApiError> {
    template::check_size(variables)
}

/// The names of the variables in these texts, sorted.
///
/// # Errors
/// If a text has an error, with its line, or a part of the language that is not available.
pub(crate) fn variables_of(context: &CallContext, texts: &Draft) -> Result<Vec<String>, ApiError> {
    Ok(templates(context, texts)?.variables())
}

/// Fills in subject, text and HTML of a message.
///
/// # Errors
/// If a text has an error or does not fit the variables, or if it takes too much time or memory.
pub(crate) async fn fill(
    context: &CallContext,
    mut texts: Draft,
    variables: Map<String, Value>,
) -> Result<Draft, ApiError> {
    check_variables(&variables)?;
    let mut templates = templates(context, &texts)?;
    let until = context.clock.moment().after(FILLING_MAX);
    blocking(move || {
        let mut fill = |field, name| templates.fill(field, name, &variables, until);
        for (field, name, text) in [
            ("Subject", SUBJECT, &mut texts.subject),
            ("Text", TEXT, &mut texts.text),
            ("HTML", HTML, &mut texts.html),
        ] {
            *text = fill(field, name)?;
        }
        Ok(mem::take(&mut texts))
    })
    .await
}

fn templates(context: &CallContext, texts: &Draft) -> Result<Templates, ApiError> {
    let most = context.endpoint.max_message_size.min(FIELDS_MAX);
    Templates::new(texts, most, context.clock.clone())
}
