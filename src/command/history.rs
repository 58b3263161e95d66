//! `queue retired ...`: the history of messages.

use std::io::{self, Write};

use postrider_admin::op::history::{Also, List, RetiredItem};
use postrider_store::{QueueId, RetiredFilter};

use super::{
    output::{code, or_null},
    running::Running,
    select::{bounds, bracketed, newest_first},
};
use crate::cli::{self, Listing, Retired};

/// The text for an empty history.
const NONE: &str =
    "nothing is in the history; accounts.NAME.keep_retired_message_period says how long it is kept";

pub(super) fn run(server: &Running, command: Retired) -> anyhow::Result<()> {
    match command {
        Retired::List { filter, listing } => list(server, &filter, listing),
    }
}

fn list(server: &Running, options: &cli::RetiredFilter, listing: Listing) -> anyhow::Result<()> {
    let list = List {
        filter: filter(options),
        also: Also {
            code: options.code,
            enhanced_code: options.enhanced_code.clone(),
            host: options.host.clone(),
            extra: options.extra.clone(),
        },
        order: newest_first(listing),
        limit: listing.limit,
    };
    server.print_list(&list, listing.json, NONE, row)
}

fn filter(options: &cli::RetiredFilter) -> RetiredFilter {
    let (submitted_before, submitted_after) = bounds(options.submitted);
    let (last_activity_before, last_activity_after) = bounds(options.last_activity);
    RetiredFilter {
        ids: options.ids.iter().copied().map(QueueId).collect(),
        account: options.account.clone(),
        from: options.from.clone(),
        to: options.to.clone(),
        message_id: options.message_id.as_deref().map(bracketed),
        subject: options.subject.clone(),
        recipient: options.recipient.clone(),
        transport: options.transport.clone(),
        success: options.success,
        submitted_before,
        submitted_after,
        last_activity_before,
        last_activity_after,
    }
}

fn row(out: &mut dyn Write, _: u64, item: &RetiredItem) -> io::Result<()> {
    let how = if item.success {
        "delivered"
    } else {
        "undelivered"
    };
    writeln!(
        out,
        "{:>8}  {how:<11}  {}  {} -> {}",
        item.id,
        item.last_activity,
        or_null(&item.from),
        item.to
    )?;
    for result in &item.results {
        let line = format!(
            "          {}{} {} {} {}",
            result.start,
            code(result.code),
            result.enhanced_code,
            result.remote,
            result.text
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}
