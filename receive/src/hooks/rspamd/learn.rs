//! Telling the controller of rspamd that a message is junk, or that it is not.
//!
//! The body of the request is the raw message, as for a scan.

use postrider_smtp::Address;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::request::Fields;
use crate::hooks::{
    answer::{Failure, shown},
    limits,
};

/// The most bytes of a reason of rspamd that are kept.
const REASON_MAX: usize = 200;

/// The kind of a message that rspamd learns from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lesson {
    /// It is junk.
    Spam,
    /// It is not junk.
    Ham,
}

impl Lesson {
    /// The path of the request.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Spam => "/learnspam",
            Self::Ham => "/learnham",
        }
    }
}

/// The outcome of a lesson.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Learned {
    /// rspamd learned from the message.
    Yes,
    /// rspamd did not, for this reason: it knows the message already, or learns nothing from it.
    No(String),
}

/// The fields of a request. The recipient is the user whose statistics learn, where rspamd keeps
/// them by user.
///
/// # Errors
/// If the password can't stand in a field of HTTP.
pub fn fields(password: Option<&str>, recipient: Option<&Address>) -> Result<HeaderMap, Failure> {
    let mut fields = Fields::default();
    let recipient = recipient.map(Address::to_string);
    fields.add("deliver-to", recipient.as_deref());
    if let Some(password) = password {
        let mut value = HeaderValue::from_bytes(password.as_bytes()).map_err(|_| {
            Failure::unavailable("the password of the controller has a control character")
        })?;
        value.set_sensitive(true);
        fields.0.insert(HeaderName::from_static("password"), value);
    }
    Ok(fields.0)
}

/// Reads the answer, which came with a status of 2xx, or with 404 if rspamd knows the message. It
/// is empty with 204.
///
/// # Errors
/// If the answer is not one.
pub fn read(body: &[u8]) -> Result<Learned, Failure> {
    if body.trim_ascii().is_empty() {
        return Ok(Learned::No("rspamd learns nothing from it".into()));
    }
    limits::check_json(body)?;
    let body: Value = serde_json::from_slice(body)
        .map_err(|error| Failure::invalid(format_args!("its answer can't be read: {error}")))?;
    let error = body.get("error").and_then(Value::as_str);
    match (body.get("success").and_then(Value::as_bool), error) {
        (Some(true), _) => Ok(Learned::Yes),
        (_, Some(error)) => Ok(Learned::No(shown(error, REASON_MAX))),
        _ => Err(Failure::invalid(
            "its answer has neither \"success\": true nor an \"error\"",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lesson_has_its_path_and_its_fields() {
        assert_eq!(Lesson::Spam.path(), "/learnspam");
        assert_eq!(Lesson::Ham.path(), "/learnham");
        assert_eq!(fields(None, None).unwrap(), HeaderMap::new());
        let user = Address::parse("a@x.test").unwrap();
        let with = fields(Some("secret"), Some(&user)).unwrap();
        assert_eq!(with["password"], "secret");
        assert!(!format!("{with:?}").contains("secret"));
        assert_eq!(with["deliver-to"], "a@x.test");
        let failure = fields(Some("se\ncret"), None).unwrap_err();
        assert!(failure.to_string().contains("control character"));
    }

    #[test]
    fn an_answer_says_whether_rspamd_learned() {
        let no = |reason: &str| Ok(Learned::No(reason.to_owned()));
        for (body, expected) in [
            (r#"{"success":true}"#, Ok(Learned::Yes)),
            ("", no("rspamd learns nothing from it")),
            (
                r#"{"error":"<1@x> has been already learned as spam, ignore it"}"#,
                no("<1@x> has been already learned as spam, ignore it"),
            ),
            (r#"{"error":"a\nb"}"#, no("a b")),
            (r#"{"success":false}"#, Err("neither")),
            ("[]", Err("neither")),
            ("pong", Err("can't be read")),
        ] {
            match (read(body.as_bytes()), expected) {
                (Ok(learned), Ok(expected)) => assert_eq!(learned, expected),
                (Err(Failure::Invalid(text)), Err(part)) => assert!(text.contains(part), "{text}"),
                other => panic!("{body}: {other:?}"),
            }
        }
    }
}
