//! What was deleted goes now, not when its time is over.

use serde::{Deserialize, Serialize};

use super::{Listed, Single};
use crate::{AdminError, Context};

/// Records that one operation of the store removes. Others go on in between.
const STEP: u64 = 200;

/// Removes deleted mail for good: of an account, or of all accounts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Account {
    /// The account; None: all accounts.
    pub account: Option<String>,
}

/// Gives back the room of texts that no record refers to any more.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Blob {}

/// Removes all records whose time is over: history, events, audit log, deleted and refused mail.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Data {}

/// What is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    /// How many records.
    pub removed: u64,
}

/// Removes in steps until a step finds less than it may remove.
async fn in_steps<F>(step: impl Fn() -> F) -> Result<Purged, AdminError>
where
    F: Future<Output = Result<u64, postrider_store::StoreError>>,
{
    let mut removed = 0;
    loop {
        let found = step().await?;
        removed += found;
        if found < STEP {
            return Ok(Purged { removed });
        }
    }
}

impl Single for Account {
    type Output = Purged;

    async fn answer(self, context: &Context) -> Result<Purged, AdminError> {
        let account = self.account.as_deref();
        let target = account.unwrap_or("all accounts");
        let context = &context.carrying(Self::NAME, target, &());
        let purged = async {
            let _held = match account {
                Some(account) => Some(context.hold_account(account).await?),
                None => None,
            };
            in_steps(|| context.store.purge_deleted(account, STEP)).await
        };
        let purged = purged.await;
        context.record(Self::NAME, target, &(), purged).await
    }
}

impl Single for Blob {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        // A checkpoint gives back what only the one before it needed, and finds what the next one
        // can give back.
        context.store.checkpoint().await;
        context.store.checkpoint().await;
        context.record(Self::NAME, "texts", &(), Ok(())).await
    }
}

impl Single for Data {
    type Output = Purged;

    async fn answer(self, context: &Context) -> Result<Purged, AdminError> {
        let context = &context.carrying(Self::NAME, "records", &());
        let now = context.clock.now();
        let purged = in_steps(|| context.store.expire(now, STEP)).await;
        context.record(Self::NAME, "records", &(), purged).await
    }
}
