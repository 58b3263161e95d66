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

/// Lists the reasons that were given since the start of the server, in the order of their names.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct List {
    /// Those that were never given are listed too.
    pub all: bool,
}

impl Operation for List {
    type Item = RefusalItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<RefusalItem>,
    ) -> Result<(), AdminError> {
        let counts = context.refusals.all();
        let counts = counts.filter(|(_, count)| self.all || *count > 0);
        let counts = counts.map(|(reason, count)| RefusalItem {
            reason: reason.to_owned(),
            count,
        });
        items.send(counts.collect()).await
    }
}
