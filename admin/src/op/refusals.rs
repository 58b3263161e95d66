//! How often the running server refused mail, logins and connections, by reason.

use serde::{Deserialize, Serialize};

use super::{Operation, Sink};
use crate::{AdminError, Context};

/// A reason, and how often it was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct RefusalItem {
    /// The name of the reason. It never changes.
    pub reason: String,
    /// The number of refusals since the start of the server.
    pub count: u64,
}

/// Lists all reasons in the order of their names, also those that were never given.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {}

impl Operation for List {
    type Item = RefusalItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<RefusalItem>,
    ) -> Result<(), AdminError> {
        let counts = context.refusals.all().map(|(reason, count)| RefusalItem {
            reason: reason.to_owned(),
            count,
        });
        items.send(counts.collect()).await
    }
}
