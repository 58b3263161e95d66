//! The account of the caller.

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::{Answer, Asked, parameters::body, problem::Problem};
use crate::op::{Single, passwords};

impl Asked {
    /// The account that the call is about.
    fn own_account(&self) -> Result<&str, Problem> {
        self.access.account.as_deref().ok_or_else(|| {
            Problem::refused("log in with an address of an account, or with a key that has one")
        })
    }
}

pub(in super::super) async fn auth(asked: Asked) -> Result<Answer, Problem> {
    asked.own_account()?;
    Ok(Answer::Data(
        json!({"otpEnabled": false, "appPasswords": []}),
    ))
}

/// A change of the login of an account.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(in super::super) struct AuthChange {
    /// `setPassword`. The others of Stalwart are not offered yet.
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    password: Option<String>,
}

pub(in super::super) async fn change_auth(asked: Asked) -> Result<Answer, Problem> {
    let changes: Vec<AuthChange> = body(&asked.body)?;
    let account = asked.own_account()?.to_owned();
    let mut password = None;
    for change in changes {
        match change.kind.as_str() {
            "setPassword" if !asked.access.by_password => {
                let text = "log in with the password to change it";
                return Err(Problem::refused(text));
            }
            "setPassword" => {
                let given = change.password.filter(|password| !password.is_empty());
                password = Some(given.ok_or_else(|| Problem::field_missing("password"))?);
            }
            "enableOtpAuth" | "disableOtpAuth" | "addAppPassword" | "removeAppPassword" => {
                let text = format!("{} is not offered", change.kind);
                return Err(Problem::unsupported(text));
            }
            kind => {
                let text = format!("there is no change {kind:?}");
                return Err(Problem::unreadable(text));
            }
        }
    }
    if let Some(password) = password {
        let set = passwords::Set { account, password };
        set.answer(&asked.context).await?;
    }
    Ok(Answer::null())
}

pub(in super::super) async fn crypto(asked: Asked) -> Result<Answer, Problem> {
    asked.own_account()?;
    Ok(Answer::Data(json!({"type": "disabled"})))
}

pub(in super::super) async fn change_crypto(asked: Asked) -> Result<Answer, Problem> {
    asked.own_account()?;
    let wanted: Value = body(&asked.body)?;
    match wanted.get("type").and_then(Value::as_str) {
        Some("disabled") => Ok(Answer::null()),
        Some("pGP" | "sMIME") => Err(Problem::unsupported("encryption at rest is not offered")),
        _ => Err(Problem::unreadable("the type is disabled, pGP or sMIME")),
    }
}
