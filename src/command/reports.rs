//! `queue reports ...`: the reports to other domains that wait to be sent.

use std::io::{self, Write};

use postrider_admin::op::reports::{
    self, Drop, DropAll, List, ReportItem, ReportReceiver, Show, TlsReceiver, WaitingReport,
};

use super::{
    output::{count, print, print_json},
    running::Running,
    select::check_selection,
};
use crate::cli::{ReportFilter, ReportType, Reports};

/// The name of a selection in errors.
const REPORTS: &str = "reports, by their ids or by a filter such as --type tls";

pub(super) fn run(server: &Running, command: Reports) -> anyhow::Result<()> {
    match command {
        Reports::List { filter, json } => {
            let filter = read(filter);
            server.print_list(&List { filter }, json, "no report waits to be sent", row)
        }
        Reports::Show { id, json } => show(server, id, json),
        Reports::Drop { ids, filter, all } => drop_reports(server, ids, filter, all),
    }
}

fn read(ReportFilter { domain, kind }: ReportFilter) -> reports::ReportFilter {
    let kind = kind.map(|kind| match kind {
        ReportType::Dmarc => reports::ReportType::Dmarc,
        ReportType::Tls => reports::ReportType::Tls,
    });
    reports::ReportFilter {
        domain,
        kind,
        domains: None,
    }
}

fn row(out: &mut dyn Write, _: u64, item: &ReportItem) -> io::Result<()> {
    let failed = match item.attempts {
        0 => String::new(),
        attempts => format!("  failed {}", count(attempts.into(), "time", "times")),
    };
    writeln!(out, "{}  due {}{failed}", item.id, item.due)
}

fn show(server: &Running, id: String, json: bool) -> anyhow::Result<()> {
    let shown = server.ask(&Show { id })?;
    if json {
        return print_json(&shown);
    }
    print(&in_words(&shown)?)
}

/// A report for people.
fn in_words(shown: &WaitingReport) -> anyhow::Result<String> {
    let WaitingReport {
        item,
        report,
        rua,
        obstacle,
    } = shown;
    let kind = match item.kind {
        reports::ReportType::Dmarc => "DMARC",
        reports::ReportType::Tls => "TLS",
    };
    let addresses: Vec<&str> = rua.iter().map(receiver).collect();
    let addresses = match addresses.is_empty() {
        true => "nobody".to_owned(),
        false => addresses.join(", "),
    };
    let obstacle = match obstacle {
        Some(why) => format!("not sent as things are: {why}\n"),
        None => String::new(),
    };
    Ok(format!(
        "report about {kind} for {} from {} to {}\ndue {}\nfor {addresses}\n{obstacle}{}\n",
        item.domain,
        item.range_from,
        item.range_to,
        item.due,
        serde_json::to_string_pretty(report)?
    ))
}

fn receiver(receiver: &ReportReceiver) -> &str {
    match receiver {
        ReportReceiver::Dmarc { uri, .. } => uri,
        ReportReceiver::Tls(TlsReceiver::Mail(address) | TlsReceiver::Http(address)) => address,
    }
}

fn drop_reports(
    server: &Running,
    ids: Vec<String>,
    filter: ReportFilter,
    all: bool,
) -> anyhow::Result<()> {
    let dropped = match ids.is_empty() {
        true => {
            let filter = read(filter);
            check_selection(filter == reports::ReportFilter::default(), all, REPORTS)?;
            server.ask(&DropAll { filter })?.dropped
        }
        false => {
            let mut dropped = 0;
            for id in ids {
                server.ask(&Drop { id })?;
                dropped += 1;
            }
            dropped
        }
    };
    print(&format!(
        "{} dropped\n",
        count(dropped, "report", "reports")
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_is_shown_with_its_receivers_and_what_stands_in_its_way() {
        let mut report = json!({
            "type": "tls", "id": "t!a.test!0!1728000000!1728100000", "domain": "a.test",
            "range_from": "2024-10-04T00:00:00Z", "range_to": "2024-10-04T23:59:59Z",
            "due": "2024-10-05T03:46:40Z", "attempts": 0, "done": [], "report": {},
            "rua": [{"Mail": "x@a.test"}, {"Http": "https://a.test/x"}], "obstacle": null});
        let shown = |report: &serde_json::Value| {
            in_words(&serde_json::from_value(report.clone()).unwrap()).unwrap()
        };
        assert_eq!(
            shown(&report),
            "report about TLS for a.test from 2024-10-04T00:00:00Z to 2024-10-04T23:59:59Z\n\
             due 2024-10-05T03:46:40Z\nfor x@a.test, https://a.test/x\n{}\n"
        );
        report["rua"] = json!([]);
        report["obstacle"] = json!("nobody asks");
        let said = shown(&report);
        let expected = "for nobody\nnot sent as things are: nobody asks\n{}\n";
        assert!(said.ends_with(expected), "{said}");
    }
}
