//! The account of the caller.

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::{Answer, Asked, access::Proof, parameters::body, problem::Problem};
use crate::op::{
    Single,
    credentials::{self, SecretChange},
};

impl Asked {
    /// The account that the call is about.
    fn own_account(&self) -> Result<&str, Problem> {
        self.access.account.as_deref().ok_or_else(|| {
            Problem::refused("log in with an address of an account, or with a key that has one")
        })
    }
}

pub(in super::super) async fn auth(asked: Asked) -> Result<Answer, Problem> {
    let account = asked.own_account()?.to_owned();
    let show = credentials::Show { account };
    let shown = show.answer(&asked.context).await?;
    Ok(Answer::Data(json!({
        "otpEnabled": shown.otp_enabled, "appPasswords": shown.app_passwords,
    })))
}

/// A change of the login of an account.
#[derive(Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(in super::super) struct AuthChange {
    /// `setPassword`, `enableOtpAuth`, `disableOtpAuth`, `addAppPassword` or `removeAppPassword`.
    #[serde(rename = "type")]
    kind: String,
    /// The new password, or the app password.
    #[serde(default)]
    password: Option<String>,
    /// The name of the app password. Without it, `removeAppPassword` removes all.
    #[serde(default)]
    name: Option<String>,
    /// The `otpauth://` URL. Without it, `disableOtpAuth` ends all one-time codes.
    #[serde(default)]
    url: Option<String>,
}

impl AuthChange {
    /// Only who has the main password may make this change.
    fn needs_password(&self) -> bool {
        let kinds = ["setPassword", "enableOtpAuth", "disableOtpAuth"];
        kinds.contains(&self.kind.as_str())
    }

    fn secret_change(self) -> Result<SecretChange, Problem> {
        let given = |value: Option<String>, field: &str| {
            let value = value.filter(|it| !it.is_empty());
            value.ok_or_else(|| Problem::field_missing(field))
        };
        Ok(match self.kind.as_str() {
            "setPassword" => SecretChange::SetPassword(given(self.password, "password")?),
            "enableOtpAuth" => SecretChange::EnableOtp(given(self.url, "url")?),
            "disableOtpAuth" => SecretChange::DisableOtp(self.url.filter(|it| !it.is_empty())),
            "addAppPassword" => {
                let password = given(self.password, "password")?;
                // Some clients send a hash. The server needs the text.
                if password.starts_with(['$', '{']) {
                    return Err(Problem::unsupported("an app password must not be a hash"));
                }
                SecretChange::AddAppPassword {
                    name: given(self.name, "name")?,
                    password,
                }
            }
            "removeAppPassword" => match self.name.filter(|it| !it.is_empty()) {
                Some(name) => SecretChange::RemoveAppPassword(name),
                None => SecretChange::RemoveAppPasswords(String::new()),
            },
            kind => {
                let text = format!("there is no change {kind:?}");
                return Err(Problem::unreadable(text));
            }
        })
    }
}

pub(in super::super) async fn change_auth(asked: Asked) -> Result<Answer, Problem> {
    let changes: Vec<AuthChange> = body(&asked.body)?;
    let account = asked.own_account()?.to_owned();
    match asked.access.by {
        Proof::Password => {}
        // A program that has an app password must not make itself more.
        Proof::AppPassword => {
            let text = "an app password changes no ways to log in; log in with the password";
            return Err(Problem::refused(text));
        }
        Proof::Key if changes.iter().any(AuthChange::needs_password) => {
            let text = "log in with the password to change it, or the one-time codes";
            return Err(Problem::refused(text));
        }
        Proof::Key => {}
    }
    let changes = changes.into_iter().map(AuthChange::secret_change);
    let changes = changes.collect::<Result<_, _>>()?;
    let change = credentials::Change { account, changes };
    change.answer(&asked.context).await?;
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
