//! `queue destinations ...`

use std::io::{self, Write};

use postrider_admin::op::destinations::{
    DestinationItem, DestinationOrder, Forget, Limit, List, ListOrders, Pause, Resume,
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
        let sources = item.sources.iter().map(|source| {
            let address = source.address.as_deref().unwrap_or("any address");
            format!("{address} as {}", source.ehlo)
        });
        let sources: Vec<String> = sources.collect();
        let from = match sources.is_empty() {
            true => String::new(),
            false => format!("; from {}", sources.join(", ")),
        };
        writeln!(
            out,
            "    provider {}, TLS {}{from}",
            item.provider, item.tls
        )?;
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

fn order_row(out: &mut dyn Write, _: u64, item: &DestinationOrder) -> io::Result<()> {
    let mut terms = vec![format!("{} since {}", item.order, item.since)];
    terms.extend(item.until.as_ref().map(|until| format!("until {until}")));
    let connections = item.connections;
    terms.extend(connections.map(|count| format!("{count} connections")));
    terms.extend(item.rate.clone());
    terms.extend(Some(item.reason.clone()).filter(|reason| !reason.is_empty()));
    writeln!(out, "{}  {}", item.target, terms.join(", "))
}
