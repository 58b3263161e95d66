//! `queue destinations ...`

use std::io::{self, Write};

use postrider_admin::op::destinations::{
    DestinationItem, DestinationOrder, DestinationSource, Forget, Limit, List, ListOrders, Pause,
    Resume,
};

use super::{output::print, running::Running};
use crate::cli::{self, Destinations};

pub(super) fn run(server: &Running, command: Destinations) -> anyhow::Result<()> {
    let Destinations {
        order,
        target,
        json,
    } = command;
    let Some(order) = order else {
        let none = match target {
            Some(_) => "no site is known by this name or this domain",
            None => "no site is known: nothing was sent lately",
        };
        return server.print_list(&List { target }, json, none, row);
    };
    match order {
        cli::DestinationOrder::Pause { target, terms } => {
            server.ask(&Pause {
                target: target.clone(),
                lasts: terms.lasts.clone(),
                reason: terms.reason,
            })?;
            print(&format!("{target} is paused{}\n", lasting(terms.lasts)))
        }
        cli::DestinationOrder::Resume { target } => {
            server.ask(&Resume {
                target: target.clone(),
            })?;
            print(&format!("deliveries to {target} go on\n"))
        }
        cli::DestinationOrder::Limit {
            target,
            connections,
            rate,
            terms,
        } => {
            let is_limit = connections.is_some() || rate.is_some();
            server.ask(&Limit {
                target: target.clone(),
                connections,
                rate,
                lasts: terms.lasts.clone(),
                reason: terms.reason,
            })?;
            print(&match is_limit {
                true => format!("{target} is limited{}\n", lasting(terms.lasts)),
                false => format!("the limit of {target} is taken back\n"),
            })
        }
        cli::DestinationOrder::Forget { target } => {
            let forgotten = server.ask(&Forget { target })?;
            let sites = forgotten.sites.join("\n");
            print(&format!("forgotten:\n{sites}\n"))
        }
        cli::DestinationOrder::Orders { json } => {
            server.print_list(&ListOrders {}, json, "there are no orders", order_row)
        }
    }
}

fn lasting(lasts: Option<String>) -> String {
    lasts
        .map(|lasts| format!(" for {lasts}"))
        .unwrap_or_default()
}

fn row(out: &mut dyn Write, _: u64, item: &DestinationItem) -> io::Result<()> {
    let limited = match item.limited_by.is_empty() {
        true => String::new(),
        false => format!(" by {}", item.limited_by.join(", ")),
    };
    let until = item.until.as_deref();
    let until = until
        .map(|until| format!(" until {until}"))
        .unwrap_or_default();
    let held = match item.held {
        0 => String::new(),
        held => format!(", {held} held"),
    };
    writeln!(
        out,
        "{}  {}{limited}{until}  {} of {} connections  {} waiting, {} due{held}  {} in flight  \
         last hour: {} delivered, {} deferred, {} failed",
        item.site,
        item.state,
        item.open,
        item.cap,
        item.waiting,
        item.due,
        item.in_flight,
        item.hour.delivered,
        item.hour.deferred,
        item.hour.failed,
    )?;
    if !item.provider.is_empty() {
        writeln!(out, "    provider {}, TLS {}", item.provider, item.tls)?;
    }
    for source in &item.sources {
        writeln!(out, "    from {}", source_in_words(source))?;
    }
    if let Some(reason) = item.reason.as_deref().filter(|reason| !reason.is_empty()) {
        writeln!(out, "    reason: {reason}")?;
    }
    if let Some(error) = &item.last_error {
        let code = match error.code {
            0 => String::new(),
            code => format!("{code} "),
        };
        writeln!(
            out,
            "    last error, at {}: {} {}: {code}{} ({})",
            error.time, error.host, error.stage, error.text, error.class
        )?;
    }
    for order in &item.orders {
        write!(out, "    ")?;
        order_row(out, 0, order)?;
    }
    Ok(())
}

/// A source on one line.
fn source_in_words(source: &DestinationSource) -> String {
    let address = source.address.as_deref();
    let name = source.name.as_deref().filter(|name| Some(*name) != address);
    let mut text = match (name, address) {
        (Some(name), Some(address)) => format!("{name} ({address})"),
        (Some(name), None) => name.to_owned(),
        (None, address) => address.unwrap_or("any address").to_owned(),
    };
    if !source.ehlo.is_empty() {
        text.push_str(&format!(" as {}", source.ehlo));
    }
    if source.state != "active" {
        let by = source
            .limited_by
            .as_ref()
            .map(|limit| format!(" by {limit}"));
        let until = source.until.as_ref().map(|until| format!(" until {until}"));
        let (by, until) = (by.unwrap_or_default(), until.unwrap_or_default());
        text.push_str(&format!("  {}{by}{until}", source.state));
    }
    if let Some(day) = source.warm_up {
        text.push_str(&format!("  warm-up: {} of {} today", day.sent, day.max));
    }
    if !source.rate.is_empty() {
        text.push_str(&format!("  {}", source.rate.join(", ")));
    }
    if let Some(reason) = &source.reason {
        text.push_str(&format!("  {reason}"));
    }
    text
}

fn order_row(out: &mut dyn Write, _: u64, item: &DestinationOrder) -> io::Result<()> {
    let mut terms = vec![format!("{} since {}", item.order, item.since)];
    terms.extend(item.until.as_ref().map(|until| format!("until {until}")));
    let connections = item.connections;
    terms.extend(connections.map(|count| format!("{count} connections")));
    terms.extend(item.rate.clone());
    terms.extend(Some(item.reason.clone()).filter(|reason| !reason.is_empty()));
    writeln!(out, "{}  {}", item.target, terms.join(", "))
}
