//! The log: its newest lines, and which lines are written.

use postrider_store::Order;
use serde_json::json;

use super::super::{
    Answer, Asked,
    paging::{NAMES_MAX, OBJECTS_MAX, Paging, collect},
    parameters::body,
    problem::Problem,
    value,
};
use crate::op::{
    Single,
    logs::{LevelItem, List, ListLevels, LogItem, ResetLevels, SetLevel},
};

/// The newest lines. Who asks for some of them costs no more than a look at those. So `total` is
/// too low if there are more that have the text.
pub(in super::super) async fn list(asked: Asked) -> Result<Answer, Problem> {
    let query = &asked.query;
    let paging = Paging::newest_first(query, OBJECTS_MAX)?;
    let filter = query.text("filter").map(str::to_owned);
    let is_filtered = filter.is_some();
    let is_newest_first = paging.order == Order::Descending;
    // One more shows that the list goes on.
    let enough = usize::try_from(paging.skip).unwrap_or(usize::MAX);
    let enough = enough.saturating_add(paging.limit).saturating_add(1);
    let list = List {
        filter,
        level: None,
        module: None,
        queue: None,
        before: paging.after.filter(|_| is_newest_first),
        after: None,
        limit: is_newest_first.then_some(enough.min(NAMES_MAX)),
    };
    let mut found = collect(&asked.context, list, NAMES_MAX, &|_: &LogItem| true).await?;
    let is_all = !is_newest_first || found.items.len() < enough;
    // The operation gives the newest first.
    found.items.reverse();
    let list = found.items.into_iter().map(|line| {
        let shown = json!({
            "timestamp": line.timestamp,
            "level": line.level,
            "event": line.event,
            "event_id": line.event_id,
            "details": line.details,
        });
        (line.id, shown)
    });
    let total = (!is_filtered).then(|| asked.context.logs.len() as u64);
    let more = found.more || is_filtered && !is_all;
    Ok(paging.answer_of(list.collect(), total, more))
}

pub(in super::super) async fn levels(asked: Asked) -> Result<Answer, Problem> {
    let paging = Paging::new(&asked.query, OBJECTS_MAX)?;
    let all = |_: &LevelItem| true;
    let levels = collect(&asked.context, ListLevels {}, NAMES_MAX, &all).await?;
    let list = (1..).zip(&levels.items);
    let list = list.map(|(at, level)| Ok((at, value(level)?)));
    let list = list.collect::<Result<_, Problem>>()?;
    Ok(paging.answer_with(list, levels.more))
}

pub(in super::super) async fn set_level(asked: Asked) -> Result<Answer, Problem> {
    let set: SetLevel = body(&asked.body)?;
    set.answer(&asked.context).await?;
    Ok(Answer::null())
}

pub(in super::super) async fn reset_levels(asked: Asked) -> Result<Answer, Problem> {
    let reset = ResetLevels {}.answer(&asked.context).await?;
    Ok(Answer::Data(value(&reset)?))
}

/// The shapes of the answers, for the description.
#[cfg(test)]
pub(in super::super) mod shapes {
    use utoipa::ToSchema;

    /// A line of the log.
    #[derive(ToSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    pub(in super::super::super) struct LogEntry {
        /// RFC 3339.
        timestamp: String,
        level: crate::op::logs::Level,
        /// What happened, in words.
        event: String,
        /// The name of what happened, for example `delivery.delivered`: a type of events of traces,
        /// or one that is made of the words.
        event_id: String,
        /// `key = value, ...`
        details: String,
    }
}
