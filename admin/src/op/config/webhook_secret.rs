//! The secrets that sign webhook calls: the first one, and its change by a second one.

use base64::{Engine, engine::general_purpose::STANDARD};
use postrider_config::{
    WebhookSecret,
    toml_edit::{Array, Value},
};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::{Edit, document};
use crate::{
    AdminError, Context,
    op::{Listed as _, Single},
};

/// The bytes of a new secret.
const LENGTH: usize = 32;

/// Makes the next step of a change of the secret that signs webhook calls. Without a secret, makes
/// the first one. With one, makes a second one: both sign, so that the receiver can learn the new
/// one at any time. With two, drops the older one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// The account.
    pub account: String,
    /// The webhook for received messages, instead of the webhook for events of sent messages.
    pub incoming: bool,
    /// How many secrets there are now, as far as the caller knows.
    pub present: usize,
}

/// The step was made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotated {
    /// How many secrets there are now.
    pub present: usize,
    /// The new secret; None: an old one was dropped.
    pub secret: Option<String>,
}

/// Hides the secret.
impl std::fmt::Debug for Rotated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("Rotated");
        out.field("present", &self.present).finish_non_exhaustive()
    }
}

impl Single for Rotate {
    type Output = Rotated;

    async fn answer(self, context: &Context) -> Result<Rotated, AdminError> {
        let account = self.account.clone();
        let mut new = [0; LENGTH];
        rand::rng().fill_bytes(&mut new);
        let change = move |edit: &mut Edit<'_>| self.change(edit, &new);
        let changed = context.edit(Self::NAME, &account, change).await?;
        Ok(changed.result)
    }
}

impl Rotate {
    fn change(&self, edit: &mut Edit<'_>, new: &[u8]) -> Result<Rotated, AdminError> {
        let account = edit.account(&self.account)?;
        let (table, present) = match self.incoming {
            false => (
                "outgoing_webhook",
                account.outgoing_webhook.as_ref().map(|hook| &hook.secret),
            ),
            true => (
                "incoming_webhook",
                account.incoming_webhook.as_ref().map(|hook| &hook.secret),
            ),
        };
        let present = present.ok_or_else(|| {
            let text = format!("the account {} has no such webhook", self.account);
            AdminError::not_found(text).at("account")
        })?;
        if present.len() != self.present {
            let text = "somebody else changed the secrets at the same time; look again";
            return Err(AdminError::conflict(text));
        }
        let new = written(new);
        let (secrets, secret) = match present.as_slice() {
            [] => (vec![new.clone()], Some(new)),
            [only] => (vec![shown(only), new.clone()], Some(new)),
            [_, rest @ ..] => (rest.iter().map(shown).collect(), None),
        };
        let value = match secrets.as_slice() {
            [only] => Value::from(only.as_str()),
            several => Value::from(several.iter().collect::<Array>()),
        };
        let path = ["accounts", self.account.as_str(), table, "secret"];
        document::set(edit.document, &path, value)?;
        Ok(Rotated {
            present: secrets.len(),
            secret,
        })
    }
}

fn shown(secret: &WebhookSecret) -> String {
    written(&secret.0)
}

/// A secret as the file has it.
fn written(bytes: &[u8]) -> String {
    format!("whsec_{}", STANDARD.encode(bytes))
}
