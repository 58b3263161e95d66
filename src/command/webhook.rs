//! `queue webhook ...`: the calls of webhooks.

use std::io::{self, Write};

use anyhow::bail;
use postrider_admin::op::webhook::{
    Cancel, History, HookAttemptItem, HookItem, List, Replay, RetiredHookItem, Schedule, Test,
};
use postrider_store::{HookFilter, HookId, NextAttempt, QueueId, RetiredHookFilter};

use super::{
    output::{code, count, print, print_json},
    running::Running,
    select::{bounds, check_selection, newest_first, next_attempt, now, oldest_first},
};
use crate::cli::{self, HookSelection, Listing, RetiredHooks, Webhook};

/// The name of a selection in errors.
const CALLS: &str = "calls, by a filter such as --ids 7 or --account app";
/// The text for an empty history.
const NONE_RETIRED: &str = "no call is in the history; accounts.NAME.keep_retired_webhook_period says how long they are kept";

pub(super) fn run(server: &Running, command: Webhook) -> anyhow::Result<()> {
    match command {
        Webhook::List { filter, listing } => list(server, &filter, listing),
        Webhook::Kick(which) => schedule(server, &which, now()),
        Webhook::Schedule { when, which } => schedule(server, &which, next_attempt(&when)),
        Webhook::Cancel(which) => cancel(server, &which),
        Webhook::Test {
            account,
            incoming,
            json,
        } => test(
            server,
            &Test {
                account,
                incoming,
                ..Test::default()
            },
            json,
        ),
        Webhook::Replay { filter, all } => replay(server, &filter, all),
        Webhook::Retired(RetiredHooks::List { filter, listing }) => {
            list_retired(server, &filter, listing)
        }
    }
}

fn list(server: &Running, options: &cli::HookFilter, listing: Listing) -> anyhow::Result<()> {
    let list = List {
        filter: filter(options),
        order: oldest_first(listing),
        limit: listing.limit,
    };
    server.print_list(&list, listing.json, "no call is to be made", row)
}

fn list_retired(
    server: &Running,
    options: &cli::RetiredHookFilter,
    listing: Listing,
) -> anyhow::Result<()> {
    let history = History {
        filter: retired_filter(options),
        order: newest_first(listing),
        limit: listing.limit,
    };
    server.print_list(&history, listing.json, NONE_RETIRED, retired_row)
}

fn schedule(server: &Running, which: &HookSelection, next: NextAttempt) -> anyhow::Result<()> {
    let filter = selection(which)?;
    let moved = server.ask(&Schedule { filter, next })?;
    print(&format!("{} moved\n", calls(moved.scheduled)))
}

fn cancel(server: &Running, which: &HookSelection) -> anyhow::Result<()> {
    let filter = selection(which)?;
    let canceled = server.ask(&Cancel { filter })?;
    print(&format!("{} canceled\n", calls(canceled.canceled)))?;
    match canceled.being_made {
        0 => Ok(()),
        left => print(&format!(
            "left alone because it was in progress: {}\n",
            calls(left)
        )),
    }
}

fn replay(server: &Running, options: &cli::RetiredHookFilter, all: bool) -> anyhow::Result<()> {
    let filter = retired_filter(options);
    check_selection(filter == RetiredHookFilter::default(), all, CALLS)?;
    let count = server.ask(&Replay { filter })?;
    print(&format!("{} to be made again\n", calls(count.replayed)))?;
    match count.impossible {
        0 => Ok(()),
        left => print(&format!(
            "not to be made again, because the account has no such webhook now, or the received message was removed: {}\n",
            calls(left)
        )),
    }
}

fn calls(number: u64) -> String {
    count(number, "call", "calls")
}

fn test(server: &Running, test: &Test, json: bool) -> anyhow::Result<()> {
    let tested = server.ask(test)?;
    if json {
        print_json(&tested)?;
    }
    let (url, attempt) = (tested.url, tested.attempt);
    if !attempt.success {
        bail!("{url}: {}{}", attempt.error, response(&attempt));
    }
    if json {
        return Ok(());
    }
    print(&format!(
        "{url} answered {} after {} ms{}\n",
        attempt.code,
        attempt.duration_ms,
        response(&attempt)
    ))
}

fn selection(which: &HookSelection) -> anyhow::Result<HookFilter> {
    let filter = filter(&which.filter);
    check_selection(filter == HookFilter::default(), which.all, CALLS)?;
    Ok(filter)
}

fn filter(options: &cli::HookFilter) -> HookFilter {
    let (submitted_before, submitted_after) = bounds(options.submitted);
    let (next_attempt_before, next_attempt_after) = bounds(options.next_attempt);
    HookFilter {
        ids: options.ids.iter().copied().map(HookId).collect(),
        account: options.account.clone(),
        event: options.event.clone(),
        message: options.message.map(QueueId),
        submitted_before,
        submitted_after,
        next_attempt_before,
        next_attempt_after,
        failed: options.failed,
    }
}

fn retired_filter(options: &cli::RetiredHookFilter) -> RetiredHookFilter {
    let (submitted_before, submitted_after) = bounds(options.submitted);
    let (last_activity_before, last_activity_after) = bounds(options.last_activity);
    RetiredHookFilter {
        ids: options.ids.iter().copied().map(HookId).collect(),
        account: options.account.clone(),
        event: options.event.clone(),
        message: options.message.map(QueueId),
        success: options.success,
        submitted_before,
        submitted_after,
        last_activity_before,
        last_activity_after,
    }
}

fn row(out: &mut dyn Write, _: u64, item: &HookItem) -> io::Result<()> {
    writeln!(
        out,
        "{:>8}  {:<12}  {}  next call {}  {}",
        item.id,
        item.event,
        about(item),
        item.next_attempt,
        item.url
    )?;
    results(out, item)
}

fn retired_row(out: &mut dyn Write, _: u64, item: &RetiredHookItem) -> io::Result<()> {
    let how = if item.success { "accepted" } else { "given up" };
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

/// The account, and the message if there is one.
fn about(item: &HookItem) -> String {
    match item.queue_msg_id {
        0 => item.account.clone(),
        id => format!("{}, message {id}", item.account),
    }
}

fn results(out: &mut dyn Write, item: &HookItem) -> io::Result<()> {
    for result in &item.results {
        let line = format!(
            "          {} {} ms{} {}{}",
            result.start,
            result.duration_ms,
            code(result.code),
            result.error,
            response(result)
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// The text of the answer, if there is one.
fn response(attempt: &HookAttemptItem) -> String {
    match attempt.response.trim() {
        "" => String::new(),
        response => format!(": {response}"),
    }
}
