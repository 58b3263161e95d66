//! What each `queue webhook` command does.

use std::io::{self, Write};

use anyhow::{Context, bail};
use postrider_admin::{
    request::Request,
    shape::{HookAttemptItem, HookItem, RetiredHookItem},
};
use postrider_store::{
    Clock, HookFilter, HookId, NextAttempt, Order, QueueId, RetiredHookFilter, SystemClock,
};
use serde_json::Value;

use super::{Server, bounds, next_attempt, refuse_by_mistake};
use crate::{
    cli::{self, HookSelection, Listing, RetiredHooks, Webhook},
    commands::print,
};

/// What a filter of calls is called in errors.
const CALLS: &str = "calls, by a filter such as --ids 7 or --account app";

pub(super) fn run(server: &Server, command: Webhook) -> anyhow::Result<()> {
    match command {
        Webhook::List { filter, listing } => list(server, &filter, listing),
        Webhook::Kick(which) => schedule(server, &which, NextAttempt::At(SystemClock.now())),
        Webhook::Schedule { when, which } => schedule(server, &which, next_attempt(&when)?),
        Webhook::Cancel(which) => {
            let filter = selection(&which)?;
            let count = server.ask_one(&Request::WebhookCancel { filter })?;
            let (canceled, being_made) = (
                number(count.as_ref(), "canceled"),
                number(count.as_ref(), "being_made"),
            );
            print(&format!("{canceled} calls canceled\n"))?;
            if being_made > 0 {
                print(&format!(
                    "{being_made} are being made at this moment, and were left alone\n"
                ))?;
            }
            Ok(())
        }
        Webhook::Test {
            account,
            incoming,
            json,
        } => test(server, account, incoming, json),
        Webhook::Replay { filter, all } => {
            let filter = retired_filter(&filter)?;
            refuse_by_mistake(filter == RetiredHookFilter::default(), all, CALLS)?;
            let count = server.ask_one(&Request::WebhookReplay { filter })?;
            let (replayed, impossible) = (
                number(count.as_ref(), "replayed"),
                number(count.as_ref(), "impossible"),
            );
            print(&format!("{replayed} calls are made again\n"))?;
            if impossible > 0 {
                print(&format!(
                    "{impossible} can't be: their account has no such webhook any more, or the received message is gone\n"
                ))?;
            }
            Ok(())
        }
        Webhook::Retired(RetiredHooks::List { filter, listing }) => {
            list_retired(server, &filter, listing)
        }
    }
}

fn number(count: Option<&Value>, name: &str) -> u64 {
    let value = count.and_then(|count| count.get(name));
    value.and_then(Value::as_u64).unwrap_or_default()
}

fn list(server: &Server, filter: &cli::HookFilter, listing: Listing) -> anyhow::Result<()> {
    let request = Request::WebhookList {
        filter: hook_filter(filter)?,
        order: if listing.reverse {
            Order::Descending
        } else {
            Order::Ascending
        },
        limit: listing.limit,
    };
    server.print_list(&request, listing.json, "no call is to be made", row)
}

fn list_retired(
    server: &Server,
    filter: &cli::RetiredHookFilter,
    listing: Listing,
) -> anyhow::Result<()> {
    let request = Request::WebhookRetiredList {
        filter: retired_filter(filter)?,
        order: if listing.reverse {
            Order::Ascending
        } else {
            Order::Descending
        },
        limit: listing.limit,
    };
    let none = "no call is in the history; accounts.NAME.keep_retired_webhook_period says how long they are kept";
    server.print_list(&request, listing.json, none, retired_row)
}

fn schedule(server: &Server, which: &HookSelection, next: NextAttempt) -> anyhow::Result<()> {
    let filter = selection(which)?;
    let count = server.ask_one(&Request::WebhookSchedule { filter, next })?;
    let count = count.and_then(|count| count.as_u64()).unwrap_or_default();
    print(&format!("{count} calls moved\n"))
}

fn test(server: &Server, account: String, incoming: bool, json: bool) -> anyhow::Result<()> {
    let answer = server.ask_one(&Request::WebhookTest { account, incoming })?;
    let answer = answer.context("the server gave no answer")?;
    let url = answer.get("url").and_then(Value::as_str);
    let url = url.unwrap_or_default().to_owned();
    let attempt = answer.get("attempt").cloned().unwrap_or_default();
    let attempt: HookAttemptItem = serde_json::from_value(attempt)?;
    if json {
        print(&format!("{answer}\n"))?;
    }
    if !attempt.success {
        bail!("{url}: {}{}", attempt.error, said(&attempt));
    }
    if json {
        return Ok(());
    }
    print(&format!(
        "{url} answered {} after {} ms{}\n",
        attempt.code,
        attempt.duration_ms,
        said(&attempt)
    ))
}

/// What a receiver said besides its status.
fn said(attempt: &HookAttemptItem) -> String {
    match attempt.response.trim() {
        "" => String::new(),
        response => format!(": {response}"),
    }
}

fn selection(which: &HookSelection) -> anyhow::Result<HookFilter> {
    let filter = hook_filter(&which.filter)?;
    refuse_by_mistake(filter == HookFilter::default(), which.all, CALLS)?;
    Ok(filter)
}

fn hook_filter(filter: &cli::HookFilter) -> anyhow::Result<HookFilter> {
    let (submitted_before, submitted_after) = bounds(filter.submitted.as_deref(), "--submitted")?;
    let (next_attempt_before, next_attempt_after) =
        bounds(filter.next_attempt.as_deref(), "--next-attempt")?;
    Ok(HookFilter {
        ids: filter.ids.iter().copied().map(HookId).collect(),
        account: filter.account.clone(),
        event: filter.event.clone(),
        message: filter.message.map(QueueId),
        submitted_before,
        submitted_after,
        next_attempt_before,
        next_attempt_after,
    })
}

fn retired_filter(filter: &cli::RetiredHookFilter) -> anyhow::Result<RetiredHookFilter> {
    let (submitted_before, submitted_after) = bounds(filter.submitted.as_deref(), "--submitted")?;
    let (last_activity_before, last_activity_after) =
        bounds(filter.last_activity.as_deref(), "--last-activity")?;
    Ok(RetiredHookFilter {
        ids: filter.ids.iter().copied().map(HookId).collect(),
        account: filter.account.clone(),
        event: filter.event.clone(),
        message: filter.message.map(QueueId),
        success: filter.success,
        submitted_before,
        submitted_after,
        last_activity_before,
        last_activity_after,
    })
}

fn row(out: &mut dyn Write, _: u64, item: HookItem) -> io::Result<()> {
    writeln!(
        out,
        "{:>8}  {:<12}  {}  next call {}  {}",
        item.id,
        item.event,
        about(&item),
        item.next_attempt,
        item.url
    )?;
    results(out, &item)
}

fn retired_row(out: &mut dyn Write, _: u64, item: RetiredHookItem) -> io::Result<()> {
    let how = if item.success { "taken" } else { "given up" };
    let call = &item.call;
    writeln!(
        out,
        "{:>8}  {:<12}  {}  {how} {}  {}",
        call.id,
        call.event,
        about(call),
        item.last_activity,
        call.url
    )?;
    results(out, call)
}

fn about(item: &HookItem) -> String {
    match item.queue_msg_id {
        0 => item.account.clone(),
        id => format!("{}, message {id}", item.account),
    }
}

fn results(out: &mut dyn Write, item: &HookItem) -> io::Result<()> {
    for result in &item.results {
        let code = match result.code {
            0 => String::new(),
            code => format!(" {code}"),
        };
        let line = format!(
            "          {} {} ms{code} {}{}",
            result.start,
            result.duration_ms,
            result.error,
            said(result)
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}
