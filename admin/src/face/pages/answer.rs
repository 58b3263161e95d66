//! What a page answers, and what it says when it can't.

use std::time::Duration;

use askama::Template;
use axum::{
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{CONTENT_TYPE, LOCATION, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
};
use rand::Rng;
use tracing::error;

use crate::{AdminError, Code};

/// What a page answers.
pub(super) enum Answer {
    /// HTML. A form with a fault is shown again with status 422.
    Html(StatusCode, String),
    /// The browser goes there by GET.
    SeeOther(String),
    /// Anything else: a download, a stream.
    Other(Response),
}

impl Answer {
    /// A page, or a part of one.
    ///
    /// # Errors
    /// If the template can't be filled in.
    pub(super) fn page(template: &impl Template) -> Result<Self, Trouble> {
        Self::with(StatusCode::OK, template)
    }

    /// A form that is shown again, since a field is wrong.
    ///
    /// # Errors
    /// If the template can't be filled in.
    pub(super) fn again(template: &impl Template) -> Result<Self, Trouble> {
        Self::with(StatusCode::UNPROCESSABLE_ENTITY, template)
    }

    pub(super) fn with(status: StatusCode, template: &impl Template) -> Result<Self, Trouble> {
        let html = template.render().map_err(AdminError::internal)?;
        Ok(Self::Html(status, html))
    }

    /// The answer for a browser, or for htmx. htmx can't tell a page from a part of one when it
    /// follows a redirect, so it is told to load the page.
    pub(super) fn into_response(self, htmx: bool) -> Response {
        match self {
            Self::Html(status, html) => {
                let kind = HeaderValue::from_static("text/html; charset=utf-8");
                (status, [(CONTENT_TYPE, kind)], html).into_response()
            }
            Self::SeeOther(location) if htmx => {
                let name = HeaderName::from_static("hx-redirect");
                (StatusCode::OK, [(name, value(&location))]).into_response()
            }
            Self::SeeOther(location) => see_other(&location),
            Self::Other(response) => response,
        }
    }
}

/// Sends a browser to another page.
pub(super) fn see_other(location: &str) -> Response {
    (StatusCode::SEE_OTHER, [(LOCATION, value(location))]).into_response()
}

fn value(location: &str) -> HeaderValue {
    HeaderValue::from_str(location).unwrap_or_else(|_| HeaderValue::from_static("/"))
}

/// Why a page can't be shown, or a form does not act.
#[derive(Debug)]
pub(super) enum Trouble {
    /// There is no such page, or it is not the visitor's.
    NoPage,
    /// The form has no valid token.
    Forged,
    /// The operation failed.
    Failed(AdminError),
    /// Too much at once; for this time.
    Busy(Duration),
}

impl From<AdminError> for Trouble {
    fn from(error: AdminError) -> Self {
        Self::Failed(error)
    }
}

impl Trouble {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::NoPage => StatusCode::NOT_FOUND,
            Self::Forged => StatusCode::FORBIDDEN,
            Self::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Failed(error) => match error.code {
                Code::NotFound => StatusCode::NOT_FOUND,
                Code::Conflict => StatusCode::CONFLICT,
                Code::Invalid | Code::Unsupported => StatusCode::UNPROCESSABLE_ENTITY,
                Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
                Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            },
        }
    }

    /// One sentence for people. A fault of ours gets a number, which the log has too.
    pub(super) fn text(&self) -> String {
        match self {
            Self::NoPage => "There is no such page.".to_owned(),
            Self::Forged => "This form is too old, or another site made it. Load the page again, \
                and repeat what you did."
                .to_owned(),
            Self::Busy(wait) => {
                format!(
                    "The server is busy. Try again in {} s.",
                    wait.as_secs().max(1)
                )
            }
            Self::Failed(failed) if failed.code == Code::Internal => {
                let number: u32 = rand::rng().next_u32();
                error!(error = failed.text, number, "page failed");
                format!("The server failed. Its log says more at number {number}.")
            }
            Self::Failed(failed) => sentence(&failed.text),
        }
    }

    /// After this time the same may succeed.
    pub(super) fn retry_after(&self) -> Option<HeaderValue> {
        let Self::Busy(wait) = self else {
            return None;
        };
        HeaderValue::from_str(&wait.as_secs().max(1).to_string()).ok()
    }
}

/// The header field that says when to try again.
pub(super) const RETRY: HeaderName = RETRY_AFTER;

/// A text as a sentence: it begins with a capital letter, and has a full stop.
pub(super) fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let Some(first) = letters.next() else {
        return String::new();
    };
    let mut sentence: String = first.to_uppercase().chain(letters).collect();
    if !sentence.ends_with(['.', '!', '?']) {
        sentence.push('.');
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_has_a_status_and_a_sentence() {
        for (trouble, status, text) in [
            (Trouble::NoPage, 404, "There is no such page."),
            (
                Trouble::Failed(AdminError::not_found("there is no account bob")),
                404,
                "There is no account bob.",
            ),
            (
                Trouble::Failed(AdminError::conflict("bob exists")),
                409,
                "Bob exists.",
            ),
            (Trouble::Failed(AdminError::invalid("no")), 422, "No."),
            (
                Trouble::Busy(Duration::from_millis(10)),
                503,
                "The server is busy. Try again in 1 s.",
            ),
        ] {
            assert_eq!(trouble.status().as_u16(), status);
            assert_eq!(trouble.text(), text);
        }
    }
}
