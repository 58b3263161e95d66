//! The traces of a message as they end.

use std::collections::BTreeSet;

use postrider_observe::{metrics::TraceReader, trace::Followed};
use serde::{Deserialize, Serialize};

use super::{Stories, Story, TraceItem};
use crate::{
    AdminError, Context,
    op::{Operation, Single, Sink},
};

/// Tells the stories that a text leads to, and then each trace that ends and belongs to them. It
/// ends with the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Follow {
    /// What is followed.
    pub story: Story,
}

/// A part of what is followed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FollowItem {
    /// The stories so far. It comes first.
    Stories(Stories),
    /// A trace that ended.
    Trace(TraceItem),
    /// So many traces were left out, because they were not taken in time.
    Lost(u64),
}

impl Operation for Follow {
    type Item = FollowItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<FollowItem>,
    ) -> Result<(), AdminError> {
        let no_traces = "only a running server that keeps traces can be followed";
        let subscription = context.traces.subscribe(TraceReader::Live);
        let mut subscription = subscription.ok_or_else(|| AdminError::unavailable(no_traces))?;
        let stories = self.story.clone().answer(context).await?;
        let traces = stories.stories.iter().flat_map(|story| &story.traces);
        let told: BTreeSet<u64> = traces.map(|item| item.id).collect();
        let ids = stories.stories.iter().filter_map(|story| story.queue_id);
        let mut ids: BTreeSet<u64> = ids.collect();
        items.send(vec![FollowItem::Stories(stories)]).await?;
        let terms = self.story.terms();
        while let Some(followed) = subscription.next().await {
            let item = match followed {
                Followed::Lost(count) => FollowItem::Lost(count),
                Followed::Trace(record) => {
                    let is_named = terms.iter().any(|term| record.has(*term));
                    let is_known = record.queues.iter().any(|id| ids.contains(id));
                    let is_told = told.contains(&record.span);
                    if is_told || !(is_named || is_known) || !self.story.sees(&record) {
                        continue;
                    }
                    if is_named {
                        ids.extend(self.story.messages(&record));
                    }
                    FollowItem::Trace(TraceItem::whole(&record))
                }
            };
            items.send(vec![item]).await?;
        }
        Ok(())
    }
}
