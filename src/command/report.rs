//! `report ...`: the reports that came in.

use std::{
    fmt::{self, Write as _},
    io::{self, Write},
};

use postrider_admin::op::received::{
    self, List, ReceivedReportItem, ReceivedSelection, Remove, RemoveAll, ReportSumItem, Show,
    ShownReport, Sums, SumsBy,
};
use postrider_smtp::Domain;
use serde_json::Value;

use super::{
    Usage,
    output::{count, print, print_json},
    running::Running,
    select::{check_selection, time_of},
    visible,
};
use crate::cli::{By, ReceivedFilter, ReceivedType, Report};

/// The name of a selection in errors.
const REPORTS: &str = "reports, by their numbers or by a filter such as --type tls";

pub(super) fn run(server: &Running, command: Report) -> anyhow::Result<()> {
    match command {
        Report::List {
            filter,
            limit,
            json,
        } => {
            let filter = read(filter);
            let list = List {
                filter,
                limit,
                ..List::default()
            };
            server.print_list(&list, json, "no report came in", row)
        }
        Report::Show { id, json } => show(server, id, json),
        Report::Rm { ids, filter, all } => remove(server, ids, filter, all),
        Report::Sums {
            domain,
            by,
            after,
            before,
            json,
        } => {
            let domain = domain.map(|domain| ascii(&domain)).transpose()?;
            let sums = Sums {
                domain,
                domains: None,
                since: after.map(time_of),
                before: before.map(time_of),
                by: match by {
                    By::Source => SumsBy::Source,
                    By::Day => SumsBy::Day,
                    By::Reporter => SumsBy::Reporter,
                },
            };
            server.print_list(&sums, json, "no verified report tells of messages", sum_row)
        }
    }
}

fn ascii(domain: &str) -> anyhow::Result<String> {
    let parsed = Domain::parse(domain);
    let parsed = parsed.map_err(|_| Usage::new(format!("{domain} is no domain")))?;
    Ok(parsed.ascii().to_owned())
}

fn read(ReceivedFilter { text, kind }: ReceivedFilter) -> ReceivedSelection {
    let kind = kind.map(|kind| match kind {
        ReceivedType::Dmarc => received::ReceivedType::Dmarc,
        ReceivedType::Tls => received::ReceivedType::Tls,
        ReceivedType::Arf => received::ReceivedType::Arf,
    });
    ReceivedSelection {
        kind,
        text,
        domains: None,
        readable: false,
    }
}

const fn kind(item: &ReceivedReportItem) -> &'static str {
    match item.kind {
        received::ReceivedType::Dmarc => "dmarc",
        received::ReceivedType::Tls => "tls",
        received::ReceivedType::Arf => "arf",
    }
}

/// What a report comes to, in a few words.
fn outcome(item: &ReceivedReportItem) -> String {
    if let Some(error) = &item.error {
        return error.clone();
    }
    let what = match (&item.message, item.kind) {
        (Some(message), _) => {
            let to = message.recipients.join(", ");
            let queued = message.queue_id.map(|id| format!(", message {id}"));
            let queued = queued.unwrap_or_default();
            format!("{} {to}{queued}", message.feedback_type)
        }
        (None, received::ReceivedType::Tls) => {
            format!("{} sessions passed, {} failed", item.passed, item.failed)
        }
        (None, _) => format!("{} messages passed, {} failed", item.passed, item.failed),
    };
    match item.verified {
        true => what,
        false => format!("not verified: {what}"),
    }
}

fn row(out: &mut dyn Write, _: u64, item: &ReceivedReportItem) -> io::Result<()> {
    writeln!(
        out,
        "{:>6}  {}  {:<5}  {} about {}: {}",
        item.id,
        item.received,
        kind(item),
        item.reporter,
        item.domains.join(", "),
        outcome(item)
    )
}

fn sum_row(out: &mut dyn Write, place: u64, item: &ReportSumItem) -> io::Result<()> {
    if place == 0 {
        writeln!(
            out,
            "{:>10} {:>10} {:>10} {:>10} {:>10}",
            "messages", "passed", "failed", "suspicious", "refused"
        )?;
    }
    let names = [&item.day, &item.source, &item.from, &item.reporter];
    let names: Vec<&str> = names.into_iter().flatten().map(String::as_str).collect();
    writeln!(
        out,
        "{:>10} {:>10} {:>10} {:>10} {:>10}  {}",
        item.messages,
        item.passed,
        item.failed,
        item.quarantined,
        item.rejected,
        names.join("  ").trim_end()
    )
}

fn show(server: &Running, id: u64, json: bool) -> anyhow::Result<()> {
    let filter = ReceivedSelection::default();
    let shown = server.ask(&Show { id, filter })?;
    match json {
        true => print_json(&shown),
        // A line end in a value would look like a line of ours.
        false => print(&in_words(&visible::value(&shown)?)?),
    }
}

/// A report for people.
fn in_words(shown: &ShownReport) -> Result<String, fmt::Error> {
    let item = &shown.item;
    let mut out = String::new();
    let given = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".to_owned());
    writeln!(
        out,
        "report {} about {} for {}",
        item.id,
        kind(item).to_uppercase(),
        item.domains.join(", ")
    )?;
    writeln!(out, "from {}, received {}", item.from, item.received)?;
    if item.begin.is_some() {
        writeln!(out, "about {} to {}", given(&item.begin), given(&item.end))?;
    }
    if !item.report_id.is_empty() {
        writeln!(out, "{}, id {}", item.organization, item.report_id)?;
    }
    writeln!(out, "{}", outcome(item))?;
    let report = &shown.report;
    for record in list(&report["record"]) {
        record_in_words(&mut out, record)?;
    }
    for policy in list(&report["policies"]) {
        policy_in_words(&mut out, policy)?;
    }
    if item.message.is_some() {
        writeln!(out, "{report:#}")?;
    }
    if shown.left_out > 0 {
        let rows = count(shown.left_out, "row", "rows");
        writeln!(out, "{rows} left out")?;
    }
    Ok(out)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A value in lower case, as it stands in the report.
fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.to_lowercase(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

fn record_in_words(out: &mut String, record: &Value) -> fmt::Result {
    let row = &record["row"];
    let evaluated = &row["policy_evaluated"];
    let from = record.pointer("/identifiers/header_from");
    let from = from.unwrap_or(&Value::Null);
    write!(
        out,
        "{:>8}  {}  dkim {}  spf {}  {}  from {}",
        word(&row["count"]),
        word(&row["source_ip"]),
        word(&evaluated["dkim"]),
        word(&evaluated["spf"]),
        word(&evaluated["disposition"]),
        word(from),
    )?;
    for reason in list(&evaluated["reason"]) {
        let comment = reason["comment"].as_str();
        let comment = comment.map(|comment| format!(" ({comment})"));
        let comment = comment.unwrap_or_default();
        write!(out, "  {}{comment}", word(&reason["type_"]))?;
    }
    writeln!(out)
}

fn policy_in_words(out: &mut String, policy: &Value) -> fmt::Result {
    let (details, summary) = (&policy["policy"], &policy["summary"]);
    writeln!(
        out,
        "{} {}: {} sessions passed, {} failed",
        word(&details["policy-type"]),
        word(&details["policy-domain"]),
        word(&summary["total-successful-session-count"]),
        word(&summary["total-failure-session-count"]),
    )?;
    for failure in list(&policy["failure-details"]) {
        writeln!(
            out,
            "{:>8}  {}  at {}  from {}  {}",
            word(&failure["failed-session-count"]),
            word(&failure["result-type"]),
            word(&failure["receiving-mx-hostname"]),
            word(&failure["sending-mta-ip"]),
            word(&failure["failure-reason-code"]),
        )?;
    }
    Ok(())
}

fn remove(
    server: &Running,
    ids: Vec<u64>,
    filter: ReceivedFilter,
    all: bool,
) -> anyhow::Result<()> {
    let removed = match ids.is_empty() {
        true => {
            let filter = read(filter);
            check_selection(filter == ReceivedSelection::default(), all, REPORTS)?;
            server.ask(&RemoveAll { filter })?.removed
        }
        false => {
            let mut removed = 0;
            for id in ids {
                let filter = ReceivedSelection::default();
                server.ask(&Remove { id, filter })?;
                removed += 1;
            }
            removed
        }
    };
    print(&format!(
        "{} removed\n",
        count(removed, "report", "reports")
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(kind: &str, more: Value, report: Value) -> String {
        let mut shown = json!({
            "id": 7, "type": kind, "received": "2023-11-16T03:00:00Z",
            "expires": "2024-11-15T03:00:00Z", "from": "a@reporter.test", "to": ["d@a.test"],
            "subject": "x", "reporter": "reporter.test", "organization": "Reporter Ltd",
            "report_id": "r1", "domains": ["a.test"], "begin": "2023-11-15T00:00:00Z",
            "end": "2023-11-15T23:59:59Z", "verified": true, "error": null, "passed": 3,
            "failed": 1, "message": null, "report": report, "left_out": 0});
        for (name, value) in more.as_object().unwrap() {
            shown[name] = value.clone();
        }
        in_words(&serde_json::from_value(shown).unwrap()).unwrap()
    }

    const HEAD: &str = "from a@reporter.test, received 2023-11-16T03:00:00Z\n\
        about 2023-11-15T00:00:00Z to 2023-11-15T23:59:59Z\nReporter Ltd, id r1\n";

    #[test]
    fn a_report_about_dmarc_has_a_line_for_each_row() {
        let record = json!({
            "row": {"source_ip": "192.0.2.1", "count": 3, "policy_evaluated": {
                "disposition": "None", "dkim": "Pass", "spf": "Fail",
                "reason": [{"type_": "LocalPolicy", "comment": "arc=pass"}]}},
            "identifiers": {"header_from": "a.test"}});
        let text = shown("dmarc", json!({"left_out": 1}), json!({"record": [record]}));
        assert_eq!(
            text,
            format!(
                "report 7 about DMARC for a.test\n{HEAD}3 messages passed, 1 failed\n       \
                 3  192.0.2.1  dkim pass  spf fail  none  from a.test  localpolicy (arc=pass)\n\
                 1 row left out\n"
            )
        );
    }

    #[test]
    fn a_report_about_tls_has_its_policies_and_failures() {
        let policy = json!({
            "policy": {"policy-type": "sts", "policy-domain": "a.test"},
            "summary": {"total-successful-session-count": 3, "total-failure-session-count": 1},
            "failure-details": [{"result-type": "certificate-expired",
                "receiving-mx-hostname": "mx.a.test", "failed-session-count": 1}]});
        let text = shown(
            "tls",
            json!({"verified": false}),
            json!({"policies": [policy]}),
        );
        assert_eq!(
            text,
            format!(
                "report 7 about TLS for a.test\n{HEAD}\
                 not verified: 3 sessions passed, 1 failed\n\
                 sts a.test: 3 sessions passed, 1 failed\n       \
                 1  certificate-expired  at mx.a.test  from -  -\n"
            )
        );
    }

    #[test]
    fn a_report_that_can_not_be_read_says_why() {
        let text = shown(
            "dmarc",
            json!({"error": "the report is packed twice"}),
            json!(null),
        );
        let expected =
            format!("report 7 about DMARC for a.test\n{HEAD}the report is packed twice\n");
        assert_eq!(text, expected);
    }
}
