//! Messages of the history.

use std::collections::BTreeSet;

use postrider_store::{QueueId, RetiredFilter};
use serde_json::json;

use super::{
    super::{
        Answer, Asked,
        paging::{OBJECTS_MAX, Paging, collect, list_value},
        problem::Problem,
        value,
    },
    queue::find,
};
use crate::op::{
    history::{Also, List, RetiredItem},
    messages::{Selection, Stage},
};

pub(in super::super) async fn list(asked: Asked) -> Result<Answer, Problem> {
    let paging = Paging::new(&asked.query, OBJECTS_MAX)?;
    let Some(which) = asked.selection(&asked.query)? else {
        return Ok(Answer::Data(json!({"items": [], "total": 0})));
    };
    let mut ids = Vec::new();
    let (mut total, mut more, mut next) = (0, false, false);
    // The history has both kinds of ends in one order of numbers.
    for stage in [Stage::Failed, Stage::Delivered] {
        if which.stage.is_some_and(|wanted| wanted != stage) {
            continue;
        }
        let which = Selection {
            stage: Some(stage),
            ..which.clone()
        };
        let mut wide = paging.clone();
        wide.limit = paging
            .limit
            .saturating_add(usize::try_from(paging.skip).unwrap_or(usize::MAX));
        wide.skip = 0;
        let found = find(&asked, which, &wide, false).await?;
        total += found.total;
        more |= found.more;
        next |= found.next.is_some();
        ids.extend(found.ids);
    }
    ids.sort_unstable();
    if paging.order == postrider_store::Order::Descending {
        ids.reverse();
    }
    let skip = usize::try_from(paging.skip).unwrap_or(usize::MAX);
    let mut rest = ids.into_iter().skip(skip);
    let page: Vec<u64> = rest.by_ref().take(paging.limit).collect();
    let next = (next || rest.next().is_some())
        .then(|| page.last().copied())
        .flatten();
    let items = items(&asked, &page).await?;
    let items = items.iter().map(value).collect::<Result<_, _>>()?;
    Ok(Answer::Data(list_value(items, total, more, next)))
}

/// The items with these numbers, in the same order.
async fn items(asked: &Asked, ids: &[u64]) -> Result<Vec<RetiredItem>, Problem> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let wanted: BTreeSet<u64> = ids.iter().copied().collect();
    let list = List {
        filter: RetiredFilter {
            ids: ids.iter().copied().map(QueueId).collect(),
            ..RetiredFilter::default()
        },
        also: Also::default(),
        order: postrider_store::Order::Ascending,
        limit: None,
    };
    let is_wanted = |item: &RetiredItem| wanted.contains(&item.id);
    let mut items = collect(&asked.context, list, OBJECTS_MAX, &is_wanted)
        .await?
        .items;
    items.sort_by_key(|item| ids.iter().position(|id| *id == item.id));
    Ok(items)
}

pub(in super::super) async fn get(asked: Asked) -> Result<Answer, Problem> {
    let id = asked.id(0)?;
    let missing = || {
        let text = format!("there is no message {id} in the history");
        Problem::missing(id.to_string(), text)
    };
    let item = items(&asked, &[id]).await?.pop().ok_or_else(missing)?;
    match asked.sees_account(&item.account) {
        true => Ok(Answer::Data(value(&item)?)),
        false => Err(missing()),
    }
}
