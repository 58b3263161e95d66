//! Calls of webhooks: those to be made, and their history.

use postrider_store::{HookFilter, HookId, NextAttempt, Order, QueueId, RetiredHookFilter};
use serde_json::json;

use super::super::{
    Answer, Asked,
    paging::{NAMES_MAX, OBJECTS_MAX, Paging, collect},
    parameters::Query,
    problem::Problem,
    value,
};
use crate::op::{
    Single,
    webhook::{Cancel, History, HookItem, List, Replay, RetiredHookItem, Schedule},
};

/// The parameters that select calls to be made.
const FILTER: [&str; 6] = ["account", "event", "message", "before", "after", "failed"];

fn hook_filter(query: &Query) -> Result<HookFilter, Problem> {
    Ok(HookFilter {
        account: query.text("account").map(str::to_owned),
        event: query.text("event").map(str::to_owned),
        message: query.parsed("message")?.map(QueueId),
        submitted_before: query.time("before")?,
        submitted_after: query.time("after")?,
        failed: query.parsed("failed")?,
        ..HookFilter::default()
    })
}

fn retired_filter(query: &Query) -> Result<RetiredHookFilter, Problem> {
    Ok(RetiredHookFilter {
        account: query.text("account").map(str::to_owned),
        event: query.text("event").map(str::to_owned),
        message: query.parsed("message")?.map(QueueId),
        success: query.parsed("success")?,
        last_activity_before: query.time("before")?,
        last_activity_after: query.time("after")?,
        ..RetiredHookFilter::default()
    })
}

impl Asked {
    /// The calls of the caller that a query selects: one filter for each account of a tenant.
    fn hook_filters(&self, query: &Query) -> Result<Vec<HookFilter>, Problem> {
        let filter = hook_filter(query)?;
        let Some(seen) = self.access.accounts(&self.context.config.load()) else {
            return Ok(vec![filter]);
        };
        let wanted = |account: &String| filter.account.as_ref().is_none_or(|it| it == account);
        let of_account = |account| HookFilter {
            account: Some(account),
            ..filter.clone()
        };
        Ok(seen.into_iter().filter(wanted).map(of_account).collect())
    }

    /// The webhook call with the id of the path.
    async fn hook(&self) -> Result<HookItem, Problem> {
        let id = self.id(0)?;
        let list = List {
            filter: one(id),
            order: Order::Ascending,
            limit: Some(1),
        };
        let seen = |hook: &HookItem| self.sees_account(&hook.account);
        let found = collect(&self.context, list, 1, &seen).await?.items.pop();
        found.ok_or_else(|| missing(id))
    }
}

fn one(id: u64) -> HookFilter {
    HookFilter {
        ids: vec![HookId(id)],
        ..HookFilter::default()
    }
}

fn missing(id: u64) -> Problem {
    Problem::missing(id.to_string(), format!("there is no webhook call {id}"))
}

pub(in super::super) async fn list(asked: Asked) -> Result<Answer, Problem> {
    let paging = Paging::new(&asked.query, OBJECTS_MAX)?;
    let list = List {
        filter: hook_filter(&asked.query)?,
        order: Order::Ascending,
        limit: None,
    };
    let seen = |hook: &HookItem| asked.sees_account(&hook.account);
    let hooks = collect(&asked.context, list, NAMES_MAX, &seen).await?;
    let list = hooks.items.iter().map(|hook| Ok((hook.id, value(hook)?)));
    let list = list.collect::<Result<_, Problem>>()?;
    Ok(paging.answer_with(list, hooks.more))
}

pub(in super::super) async fn retired(asked: Asked) -> Result<Answer, Problem> {
    let paging = Paging::new(&asked.query, OBJECTS_MAX)?;
    let list = History {
        filter: retired_filter(&asked.query)?,
        order: Order::Ascending,
        limit: None,
    };
    let seen = |hook: &RetiredHookItem| asked.sees_account(&hook.call.account);
    let hooks = collect(&asked.context, list, NAMES_MAX, &seen).await?;
    let list = hooks.items.iter();
    let list = list.map(|hook| Ok((hook.call.id, value(hook)?)));
    let list = list.collect::<Result<_, Problem>>()?;
    Ok(paging.answer_with(list, hooks.more))
}

pub(in super::super) async fn get(asked: Asked) -> Result<Answer, Problem> {
    Ok(Answer::Data(value(&asked.hook().await?)?))
}

pub(in super::super) async fn schedule(asked: Asked) -> Result<Answer, Problem> {
    let hook = asked.hook().await?;
    let at = asked.query.time("at")?;
    let schedule = Schedule {
        filter: one(hook.id),
        next: NextAttempt::At(at.unwrap_or_else(|| asked.context.clock.now())),
    };
    let done = schedule.answer(&asked.context).await?;
    Ok(Answer::Data(json!(done.scheduled > 0)))
}

pub(in super::super) async fn cancel(asked: Asked) -> Result<Answer, Problem> {
    let hook = asked.hook().await?;
    let cancel = Cancel {
        filter: one(hook.id),
    };
    let done = cancel.answer(&asked.context).await?;
    Ok(Answer::Data(json!(done.canceled > 0)))
}

pub(in super::super) async fn schedule_all(asked: Asked) -> Result<Answer, Problem> {
    let known = [&["at"], FILTER.as_slice()].concat();
    let query = asked.query.bulk(&known)?;
    let at = query.time("at")?;
    let next = NextAttempt::At(at.unwrap_or_else(|| asked.context.clock.now()));
    let mut scheduled = 0;
    for filter in asked.hook_filters(&query)? {
        let schedule = Schedule { filter, next };
        scheduled += schedule.answer(&asked.context).await?.scheduled;
    }
    Ok(Answer::Data(json!(scheduled > 0)))
}

pub(in super::super) async fn cancel_all(asked: Asked) -> Result<Answer, Problem> {
    let query = asked.query.bulk(&FILTER)?;
    let mut canceled = 0;
    for filter in asked.hook_filters(&query)? {
        canceled += Cancel { filter }.answer(&asked.context).await?.canceled;
    }
    Ok(Answer::Data(json!(canceled > 0)))
}

pub(in super::super) async fn replay(asked: Asked) -> Result<Answer, Problem> {
    let id = asked.id(0)?;
    let filter = RetiredHookFilter {
        ids: vec![HookId(id)],
        ..RetiredHookFilter::default()
    };
    let list = History {
        filter: filter.clone(),
        order: Order::Ascending,
        limit: Some(1),
    };
    let seen = |hook: &RetiredHookItem| asked.sees_account(&hook.call.account);
    let found = collect(&asked.context, list, 1, &seen).await?;
    if found.items.is_empty() {
        return Err(missing(id));
    }
    let done = Replay { filter }.answer(&asked.context).await?;
    Ok(Answer::Data(json!(done.replayed > 0)))
}
