//! What each `queue` command does, and each other one that asks the running server.

mod keys;
mod webhooks;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use postrider_admin::{
    control::{self, ControlError},
    filter::{self, Bound},
    request::Request,
    shape::{HoldRuleItem, QueueItem, RetiredItem, SuppressionItem},
};
use postrider_store::{
    Change, Clock, HoldFilter, HoldRuleId, NextAttempt, Order, QueueFilter, QueueId, RetiredFilter,
    SystemClock, Time,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    cli::{self, HoldRules, Listing, OnList, Queue, Retired, Selection, Suppress, TlsPolicy, When},
    commands::{load_static, print, runtime},
};

/// Likewise an `apikey` command.
///
/// # Errors
/// A sentence for standard error.
pub(crate) fn keys(conf: &Path, command: cli::ApiKeys) -> anyhow::Result<()> {
    let server = Server {
        data_dir: load_static(conf)?.data_dir,
    };
    keys::run(&server, command)
}

/// The running server.
struct Server {
    data_dir: PathBuf,
}

/// Runs a command to its end.
///
/// # Errors
/// A sentence for standard error.
pub(crate) fn run(conf: &Path, command: Queue) -> anyhow::Result<()> {
    let server = Server {
        data_dir: load_static(conf)?.data_dir,
    };
    let hold = |hold| Change {
        hold: Some(hold),
        ..Change::default()
    };
    let at = |time| Change {
        next_attempt: Some(time),
        ..Change::default()
    };
    match command {
        Queue::List { filter, listing } => server.list_queue(&filter, listing),
        Queue::Explain { id } => server.explain(id),
        Queue::Dump { id } => server.dump(id),
        Queue::Hold(which) => server.change(&which, hold(true)),
        Queue::Release(which) => server.change(&which, hold(false)),
        Queue::Kick(which) => server.change(&which, at(NextAttempt::At(SystemClock.now()))),
        Queue::Schedule { when, which } => server.change(&which, at(next_attempt(&when)?)),
        Queue::Transport { name, which } => {
            let change = Change {
                transport: Some(name),
                ..Change::default()
            };
            server.change(&which, change)
        }
        Queue::Requiretls { policy, which } => {
            let require_tls = match policy {
                TlsPolicy::Yes => Some(true),
                TlsPolicy::No => Some(false),
                TlsPolicy::Default => None,
            };
            let change = Change {
                require_tls: Some(require_tls),
                ..Change::default()
            };
            server.change(&which, change)
        }
        Queue::Fail(which) => server.end(&which, false),
        Queue::Drop(which) => server.end(&which, true),
        Queue::Retired(Retired::List { filter, listing }) => server.list_retired(&filter, listing),
        Queue::Suppress(command) => server.suppress(command),
        Queue::HoldRules(command) => server.hold_rules(command),
        Queue::Webhook(command) => webhooks::run(&server, command),
    }
}

impl Server {
    /// Asks, and gives the items of the answer as they come.
    fn ask(
        &self,
        request: &Request,
        item: impl FnMut(Value) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        match runtime()?.block_on(control::call(&self.data_dir, request, item)) {
            // A reader such as `head` that has enough is no failure.
            Err(ControlError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => Ok(result?),
        }
    }

    /// Asks what is answered by one item, or none.
    fn ask_one(&self, request: &Request) -> anyhow::Result<Option<Value>> {
        let mut answer = None;
        self.ask(request, |value| {
            answer = Some(value);
            Ok(())
        })?;
        Ok(answer)
    }

    /// Prints records as they come: as one JSON array, or as rows.
    fn print_list<T: DeserializeOwned>(
        &self,
        request: &Request,
        json: bool,
        none: &str,
        row: impl Fn(&mut dyn Write, u64, T) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        let mut count = 0_u64;
        if json {
            out.write_all(b"[")?;
        }
        self.ask(request, |value| {
            if json {
                out.write_all(if count == 0 { b"\n" } else { b",\n" })?;
                serde_json::to_writer(&mut out, &value)?;
            } else {
                row(&mut out, count, serde_json::from_value(value)?)?;
            }
            count += 1;
            Ok(())
        })?;
        match (json, count) {
            (true, _) => out.write_all(b"\n]\n")?,
            (false, 0) => writeln!(out, "{none}")?,
            (false, _) => {}
        }
        Ok(out.flush()?)
    }

    fn list_queue(&self, filter: &cli::Filter, listing: Listing) -> anyhow::Result<()> {
        let filter = queue_filter(filter)?;
        let none = match filter == QueueFilter::default() {
            true => "nothing is queued",
            false => "no queued message matches",
        };
        let request = Request::QueueList {
            filter,
            order: if listing.reverse {
                Order::Descending
            } else {
                Order::Ascending
            },
            limit: listing.limit,
        };
        self.print_list(&request, listing.json, none, queue_row)
    }

    fn list_retired(&self, filter: &cli::RetiredFilter, listing: Listing) -> anyhow::Result<()> {
        let request = Request::RetiredList {
            filter: retired_filter(filter)?,
            order: if listing.reverse {
                Order::Ascending
            } else {
                Order::Descending
            },
            limit: listing.limit,
        };
        let none = "nothing is in the history; accounts.NAME.keep_retired_message_period says how long it is kept";
        self.print_list(&request, listing.json, none, retired_row)
    }

    fn explain(&self, id: u64) -> anyhow::Result<()> {
        let answer = self.ask_one(&Request::QueueExplain { id: QueueId(id) })?;
        let text = answer.as_ref().and_then(Value::as_str).unwrap_or_default();
        print(&format!("message {id} {text}\n"))
    }

    fn dump(&self, id: u64) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        self.ask(&Request::QueueDump { id: QueueId(id) }, |piece| {
            let text = piece.as_str().unwrap_or_default();
            let bytes = STANDARD.decode(text).map_err(io::Error::other)?;
            out.write_all(&bytes)
        })
    }

    fn change(&self, which: &Selection, change: Change) -> anyhow::Result<()> {
        let filter = selection(which)?;
        let count = self.ask_one(&Request::QueueChange { filter, change })?;
        let count = count.and_then(|count| count.as_u64()).unwrap_or_default();
        print(&format!("{count} messages changed\n"))
    }

    fn end(&self, which: &Selection, drop: bool) -> anyhow::Result<()> {
        let filter = selection(which)?;
        let count = self.ask_one(&Request::QueueEnd { filter, drop })?;
        let field = |name: &str| -> u64 {
            let value = count.as_ref().and_then(|count| count.get(name));
            value.and_then(Value::as_u64).unwrap_or_default()
        };
        let (ended, in_delivery) = (field("ended"), field("in_delivery"));
        print(&format!(
            "{ended} messages {}\n",
            if drop { "dropped" } else { "failed" }
        ))?;
        if in_delivery > 0 {
            print(&format!(
                "{in_delivery} are being delivered at this moment, or have been meanwhile, and were left alone\n"
            ))?;
        }
        Ok(())
    }

    fn suppress(&self, command: Suppress) -> anyhow::Result<()> {
        match command {
            Suppress::List { account, json } => {
                let request = Request::SuppressionList { account };
                self.print_list(&request, json, "no address is suppressed", suppression_row)
            }
            Suppress::Add {
                account,
                address,
                reason,
            } => {
                let said = format!("{address} is suppressed for {account}\n");
                self.ask_one(&Request::SuppressionAdd {
                    account,
                    address,
                    reason,
                })?;
                print(&said)
            }
            Suppress::Remove(OnList {
                account,
                address,
                list,
            }) => {
                let said = format!("{address} is no longer suppressed for {account}\n");
                self.ask_one(&Request::SuppressionRemove {
                    account,
                    address,
                    list,
                })?;
                print(&said)
            }
            Suppress::Lookup { entry, json } => {
                let OnList {
                    account,
                    address,
                    list,
                } = entry;
                let none = format!("{address} is not suppressed for {account}");
                let request = Request::SuppressionLookup {
                    account,
                    address,
                    list,
                };
                self.print_list(&request, json, &none, suppression_row)
            }
        }
    }

    fn hold_rules(&self, command: HoldRules) -> anyhow::Result<()> {
        match command {
            HoldRules::List { json } => {
                let request = Request::HoldRulesList {};
                self.print_list(&request, json, "there are no hold rules", hold_rule_row)
            }
            HoldRules::Add {
                account,
                sender_domain,
                recipient_domain,
                sender,
                recipient,
            } => {
                let filter = HoldFilter {
                    account,
                    sender_domain: parse(sender_domain.as_deref(), "--sender-domain")?,
                    recipient_domain: parse(recipient_domain.as_deref(), "--recipient-domain")?,
                    sender: parse(sender.as_deref(), "--sender")?,
                    recipient: parse(recipient.as_deref(), "--recipient")?,
                };
                let added = self.ask_one(&Request::HoldRulesAdd { filter })?;
                let field = |name: &str| -> u64 {
                    let value = added.as_ref().and_then(|added| added.get(name));
                    value.and_then(Value::as_u64).unwrap_or_default()
                };
                let (id, held) = (field("id"), field("held"));
                print(&format!(
                    "hold rule {id} added; it holds {held} queued messages\n"
                ))
            }
            HoldRules::Remove { id } => {
                self.ask_one(&Request::HoldRulesRemove { id: HoldRuleId(id) })?;
                print(&format!(
                    "hold rule {id} removed; what it held stays held until \"queue release\"\n"
                ))
            }
        }
    }
}

fn parse<T: std::str::FromStr>(text: Option<&str>, name: &str) -> anyhow::Result<Option<T>>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let parsed = text.map(str::parse).transpose();
    parsed.with_context(|| format!("{name} {:?}", text.unwrap_or_default()))
}

fn next_attempt(when: &When) -> anyhow::Result<NextAttempt> {
    let now = SystemClock.now();
    if let Some(at) = &when.at {
        let time = filter::relative(at, now);
        return time.map(NextAttempt::At).with_context(|| {
            format!("--at {at:?} is not \"now\" or a duration such as \"1h30m\"")
        });
    }
    let by = when.by.as_deref().unwrap_or_default();
    let moved = filter::relative(by, now);
    let moved = moved
        .with_context(|| format!("--by {by:?} is not a duration such as \"1h30m\" or \"-10m\""))?;
    Ok(NextAttempt::Shift(moved.0.saturating_sub(now.0)))
}

/// Without a filter nothing is changed by mistake.
fn selection(which: &Selection) -> anyhow::Result<QueueFilter> {
    let filter = queue_filter(&which.filter)?;
    let any = serde_json::to_value(&filter)? == serde_json::to_value(QueueFilter::default())?;
    refuse_by_mistake(
        any,
        which.all,
        "messages, by a filter such as --ids 7 or --to @example.com",
    )?;
    Ok(filter)
}

/// Without a filter (`any`), `all` must be said.
fn refuse_by_mistake(any: bool, all: bool, what: &str) -> anyhow::Result<()> {
    if any && !all {
        bail!("say which {what}, or --all for every one");
    }
    if !any && all {
        bail!("--all and a filter exclude each other");
    }
    Ok(())
}

fn queue_filter(filter: &cli::Filter) -> anyhow::Result<QueueFilter> {
    let (submitted_before, submitted_after) = bounds(filter.submitted.as_deref(), "--submitted")?;
    let (next_attempt_before, next_attempt_after) =
        bounds(filter.next_attempt.as_deref(), "--next-attempt")?;
    Ok(QueueFilter {
        ids: filter.ids.iter().copied().map(QueueId).collect(),
        account: filter.account.clone(),
        from: filter.from.clone(),
        to: filter.to.clone(),
        hold: filter.hold,
        transport: filter.transport.clone(),
        submitted_before,
        submitted_after,
        next_attempt_before,
        next_attempt_after,
    })
}

fn retired_filter(filter: &cli::RetiredFilter) -> anyhow::Result<RetiredFilter> {
    let (submitted_before, submitted_after) = bounds(filter.submitted.as_deref(), "--submitted")?;
    let (last_activity_before, last_activity_after) =
        bounds(filter.last_activity.as_deref(), "--last-activity")?;
    Ok(RetiredFilter {
        ids: filter.ids.iter().copied().map(QueueId).collect(),
        account: filter.account.clone(),
        from: filter.from.clone(),
        to: filter.to.clone(),
        recipient: filter.recipient.clone(),
        transport: filter.transport.clone(),
        success: filter.success,
        submitted_before,
        submitted_after,
        last_activity_before,
        last_activity_after,
    })
}

/// Before and after, of which at most one is given.
fn bounds(text: Option<&str>, name: &'static str) -> anyhow::Result<(Option<Time>, Option<Time>)> {
    let Some(text) = text else {
        return Ok((None, None));
    };
    Ok(
        match filter::bound(text, SystemClock.now()).context(name)? {
            Bound::Before(time) => (Some(time), None),
            Bound::After(time) => (None, Some(time)),
        },
    )
}

fn or_null(address: &str) -> &str {
    if address.is_empty() { "<>" } else { address }
}

fn queue_row(out: &mut dyn Write, row: u64, item: QueueItem) -> io::Result<()> {
    if row == 0 {
        writeln!(
            out,
            "{:>8}  {:<30}  {:<30}  {:>8}  {:>3}",
            "id", "from", "to", "size", "try"
        )?;
    }
    writeln!(
        out,
        "{:>8}  {:<30}  {:<30}  {:>8}  {:>3}",
        item.id,
        or_null(&item.from),
        item.to,
        item.size,
        item.attempts
    )?;
    writeln!(out, "          {}", item.state)
}

fn retired_row(out: &mut dyn Write, _: u64, item: RetiredItem) -> io::Result<()> {
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
    for result in item.results {
        let code = match result.code {
            0 => String::new(),
            code => format!(" {code}"),
        };
        let line = format!(
            "          {}{code} {} {} {}",
            result.start, result.enhanced_code, result.remote, result.text
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn suppression_row(out: &mut dyn Write, _: u64, item: SuppressionItem) -> io::Result<()> {
    let list = match item.list.as_str() {
        "" => String::new(),
        list => format!(" (list {list})"),
    };
    writeln!(
        out,
        "{}  {:<40}  {}  {}{list}",
        item.account, item.base_address, item.created, item.reason
    )
}

fn hold_rule_row(out: &mut dyn Write, _: u64, item: HoldRuleItem) -> io::Result<()> {
    writeln!(out, "{:>6}  {}  {}", item.id, item.created, item.holds)
}
