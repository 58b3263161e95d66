//! Rules and the auto-responder of an account. They become scripts, which run when mail comes.

use axum::{http::StatusCode, response::Response};
use postrider_receive::sieve::{
    auto_responder::AutoResponder,
    kept::{Kept, KeptError, KeptRule},
};
use serde_json::{Value, json};

use super::{asked::Asked, problem::Problem};
use crate::http::answer::{json as answer, ok};

impl From<KeptError> for Problem {
    fn from(error: KeptError) -> Self {
        match error {
            KeptError::Store(error) => error.into(),
            KeptError::NoRule(_) => Self::not_found(error),
            KeptError::TooManyRules | KeptError::TooManyScripts => Self::conflict("tooMany", error),
            KeptError::Fields(errors) => Self::fields(
                errors
                    .iter()
                    .map(|it| (it.field.as_str(), it.detail.as_str())),
            ),
            error => Self::refused("invalid", error),
        }
    }
}

fn kept(asked: &Asked) -> Kept<'_> {
    Kept {
        store: &asked.context.store,
    }
}

/// The number of the rule in the path.
fn number(asked: &Asked) -> Result<u64, Problem> {
    let text = asked.element(0);
    text.parse()
        .map_err(|_| Problem::not_found(format!("there is no rule {text:?}")))
}

/// Lists the rules of the account, in the order in which they run.
pub(super) async fn list(asked: Asked) -> Result<Response, Problem> {
    let rules = kept(&asked).rules(asked.account()).await?;
    let items = rules.iter().map(KeptRule::json).collect();
    Ok(ok(&super::whole_list(items)))
}

/// Adds a rule.
pub(super) async fn add(asked: Asked) -> Result<Response, Problem> {
    let rule: Value = asked.json().await?;
    let kept = kept(&asked);
    let added = kept.add_rule(asked.account(), &rule, asked.now()).await?;
    Ok(answer(StatusCode::CREATED, &added.json()))
}

/// Gets a rule.
pub(super) async fn get(asked: Asked) -> Result<Response, Problem> {
    let id = number(&asked)?;
    let rule = kept(&asked).rule(asked.account(), id).await?;
    Ok(ok(&rule.json()))
}

/// Changes a rule. Absent fields stay.
pub(super) async fn change(asked: Asked) -> Result<Response, Problem> {
    let id = number(&asked)?;
    let kept = kept(&asked);
    let mut rule = kept.rule(asked.account(), id).await?.json();
    let change: Value = asked.json().await?;
    if let (Some(rule), Value::Object(change)) = (rule.as_object_mut(), change) {
        rule.extend(change);
    }
    let changed = kept.change_rule(asked.account(), id, &rule, asked.now());
    Ok(ok(&changed.await?.json()))
}

/// Removes a rule.
pub(super) async fn remove(asked: Asked) -> Result<Response, Problem> {
    let id = number(&asked)?;
    kept(&asked).remove_rule(asked.account(), id).await?;
    Ok(ok(&json!({"removed": id})))
}

/// Gets the auto-responder. An account without one has one that does nothing.
pub(super) async fn responder(asked: Asked) -> Result<Response, Problem> {
    let responder = kept(&asked).responder(asked.account()).await?;
    Ok(ok(&shown(responder.as_ref())))
}

fn shown(responder: Option<&AutoResponder>) -> Value {
    responder.map_or_else(
        || {
            json!({
                "enabled": false, "subject": "", "plain": "", "html": "", "start": null,
                "end": null, "days": 7, "only": "all", "exclude": [],
            })
        },
        AutoResponder::json,
    )
}

/// Sets the auto-responder.
pub(super) async fn set_responder(asked: Asked) -> Result<Response, Problem> {
    let responder: Value = asked.json().await?;
    let kept = kept(&asked);
    let set = kept.set_responder(asked.account(), &responder, asked.now());
    Ok(ok(&shown(Some(&set.await?))))
}

/// Removes the auto-responder.
pub(super) async fn remove_responder(asked: Asked) -> Result<Response, Problem> {
    kept(&asked).remove_responder(asked.account()).await?;
    Ok(ok(&shown(None)))
}
