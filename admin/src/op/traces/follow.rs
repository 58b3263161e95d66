//! The traces of a message as they end.

use std::collections::{BTreeMap, BTreeSet};

use postrider_observe::{metrics::TraceReader, trace::Followed};
use serde::{Deserialize, Serialize};

use super::{Stories, Story, TraceItem};
use crate::{
    AdminError, Context,
    op::{Operation, Single, Sink},
};

/// The most messages whose traces are told without being named. Those that nothing happened to for
/// the longest time go first.
const KNOWN_MAX: usize = 10_000;

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
        let mut known = Known::default();
        ids.for_each(|id| known.note(id));
        items.send(vec![FollowItem::Stories(stories)]).await?;
        let terms = self.story.terms();
        while let Some(followed) = subscription.next().await {
            let item = match followed {
                Followed::Lost(count) => FollowItem::Lost(count),
                Followed::Trace(record) => {
                    let is_named = terms.iter().any(|term| record.has(*term));
                    let is_known = known.sees(&record.queues);
                    let is_told = told.contains(&record.span);
                    if is_told || !(is_named || is_known) || !self.story.sees(&record) {
                        continue;
                    }
                    let record = self.story.part(record.as_ref().clone());
                    if is_named {
                        let ids = self.story.messages(&record);
                        ids.into_iter().for_each(|id| known.note(id));
                    }
                    FollowItem::Trace(TraceItem::whole(&record))
                }
            };
            items.send(vec![item]).await?;
        }
        Ok(())
    }
}

/// The messages that are followed, as long as something happens to them.
#[derive(Debug, Default)]
struct Known {
    /// When something happened to a message, as a number that rises.
    turns: BTreeMap<u64, u64>,
    /// The messages by their turns.
    by_turn: BTreeMap<u64, u64>,
    last: u64,
}

impl Known {
    /// Something happened to a message, which is known from now on.
    fn note(&mut self, id: u64) {
        self.last += 1;
        if let Some(before) = self.turns.insert(id, self.last) {
            self.by_turn.remove(&before);
        }
        self.by_turn.insert(self.last, id);
        if self.turns.len() > KNOWN_MAX
            && let Some((_, oldest)) = self.by_turn.pop_first()
        {
            self.turns.remove(&oldest);
        }
    }

    /// Something happened to these messages. Gives whether one of them is known.
    fn sees(&mut self, ids: &[u64]) -> bool {
        let known = ids.iter().filter(|id| self.turns.contains_key(id));
        let known: Vec<u64> = known.copied().collect();
        known.iter().for_each(|id| self.note(*id));
        !known.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_that_are_followed_are_limited() {
        let mut known = Known::default();
        let max = KNOWN_MAX as u64;
        (0..max).for_each(|id| known.note(id));
        assert!(known.sees(&[max, 0]), "something happens to the first one");
        known.note(max);
        assert!(
            !known.sees(&[1]),
            "nothing happened to it for the longest time"
        );
        assert!(known.sees(&[0]) && known.sees(&[max]));
        (0..10).for_each(|_| known.note(max));
        assert_eq!(
            (known.turns.len(), known.by_turn.len()),
            (KNOWN_MAX, KNOWN_MAX)
        );
    }
}
