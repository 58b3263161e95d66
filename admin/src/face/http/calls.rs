//! The calls, by subject.

pub(super) mod account;
pub(super) mod destinations;
pub(super) mod dns;
pub(super) mod events;
pub(super) mod hold_rules;
pub(super) mod hooks;
pub(super) mod logs;
pub(super) mod principals;
pub(super) mod queue;
pub(super) mod received;
pub(super) mod reports;
pub(super) mod retired;
pub(super) mod server;
pub(super) mod settings;
pub(super) mod spam;
pub(super) mod suppressions;
pub(super) mod telemetry;
pub(super) mod traces;
pub(super) mod troubleshoot;
pub(super) mod undelete;
pub(super) mod webhooks;

use serde_json::json;

use super::{Answer, Asked, problem::Problem};

impl Asked {
    /// A token that opens the call with this path, as this caller.
    fn token(&self, opens: &'static str) -> Result<Answer, Problem> {
        let context = &self.context;
        let caller = (context.caller.clone(), self.access.clone());
        let token = self.tokens.give(opens, caller, context.clock.moment());
        let token = token.ok_or_else(Problem::too_many_tokens)?;
        Ok(Answer::Data(json!(token)))
    }

    /// A variable element of the path.
    fn element(&self, index: usize) -> &str {
        self.elements.get(index).map_or("", String::as_str)
    }

    /// A variable element that is a number. Anything else names nothing.
    fn id(&self, index: usize) -> Result<u64, Problem> {
        let text = self.element(index);
        let missing = |_| Problem::missing(text, format!("there is nothing with the id {text}"));
        text.parse().map_err(missing)
    }

    /// Checks that the caller sees an account. To a tenant, an account of others is absent.
    fn check_account(&self, account: &str) -> Result<(), Problem> {
        let config = self.context.config.load();
        match self.access.sees_account(&config, account) {
            true => Ok(()),
            false => {
                let text = format!("there is no account {account}");
                Err(Problem::not_found(account, text))
            }
        }
    }

    /// Whether the caller sees an account.
    fn sees_account(&self, account: &str) -> bool {
        let config = self.context.config.load();
        self.access.sees_account(&config, account)
    }
}
