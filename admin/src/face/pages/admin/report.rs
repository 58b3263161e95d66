//! One report that came in: what it says, its mail, and its removal.

use std::{sync::Arc, time::Duration};

use askama::Template;
use axum::{
    http::{
        HeaderName, Method,
        header::{CONTENT_DISPOSITION, CONTENT_TYPE},
    },
    response::IntoResponse,
};
use futures_util::future;
use serde_json::Value;

use super::{
    super::{
        answer::{Answer, Trouble},
        asked::{Asked, header_value},
        command::AsCommand,
        confirm::Confirm,
        frame::Frame,
        shown::{Count, When},
    },
    bar::Bar,
    reports::{Suppressed, kind, suppressed, title},
};
use crate::op::{
    dns,
    received::{Raw, ReceivedReportItem, ReceivedSelection, ReceivedType, Remove, Show},
};

/// The most rows that are shown.
const ROWS: usize = 1000;
/// The names of so many addresses are looked up.
const NAMES: usize = 20;
/// So many recipients of a reported message are looked up.
const RECIPIENTS: usize = 5;
/// How long names are looked up.
const NAMES_TIME: Duration = Duration::from_secs(2);

#[derive(Template)]
#[template(path = "admin/watch/report.html")]
struct Page {
    frame: Frame,
    kind: &'static str,
    title: &'static str,
    item: ReceivedReportItem,
    /// What is known of the recipients that complained.
    suppressed: Vec<Suppressed>,
    received: When,
    expires: When,
    bar: Bar,
    /// The policy that a report about DMARC tells of, in words.
    policy: String,
    dmarc: Vec<DmarcRow>,
    tls: Vec<TlsPolicy>,
    /// What a report about one message says: names and values.
    facts: Vec<(String, String)>,
    /// So many rows are not shown.
    left_out: u64,
}

/// Messages of one address.
struct DmarcRow {
    ip: String,
    /// The name of the address; empty: it is not known.
    name: String,
    count: Count,
    /// DMARC passed by an aligned domain of SPF, of DKIM.
    spf_aligned: bool,
    dkim_aligned: bool,
    disposition: String,
    from: String,
    /// The results of SPF and DKIM, with their domains.
    spf: String,
    dkim: String,
    reasons: String,
}

struct TlsPolicy {
    domain: String,
    kind: String,
    hosts: String,
    bar: Bar,
    failures: Vec<TlsFailure>,
}

struct TlsFailure {
    kind: String,
    mx: String,
    receiving_ip: String,
    sending_ip: String,
    count: Count,
    more: String,
}

fn selection(kind: ReceivedType) -> ReceivedSelection {
    ReceivedSelection {
        kind: Some(kind),
        ..ReceivedSelection::default()
    }
}

/// Shows a report.
pub(in super::super) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let (kind, name) = kind(&asked)?;
    let id = asked.number(1)?;
    let filter = selection(kind);
    let shown = asked.run(Show { id, filter }).await?;
    let number = id.to_string();
    let command =
        AsCommand::cli(["report", "show", &number]).get(&format!("/api/reports/{name}/{id}"));
    let (item, report, now) = (shown.item, shown.report, asked.now());
    let suppressed = suppressed(&asked, item.message.as_ref(), RECIPIENTS).await?;
    let mut page = Page {
        frame: asked.frame(&format!("Report {id}")).with(command),
        kind: name,
        title: title(kind),
        received: When::new(&item.received, now),
        expires: When::new(&item.expires, now),
        bar: Bar::new(item.passed, item.failed),
        policy: String::new(),
        dmarc: Vec::new(),
        tls: Vec::new(),
        facts: Vec::new(),
        left_out: shown.left_out,
        suppressed,
        item,
    };
    match kind {
        ReceivedType::Dmarc => {
            page.policy = policy(at(&report, "policy_published"));
            let rows = array(at(&report, "record"));
            page.left_out += rows.len().saturating_sub(ROWS) as u64;
            page.dmarc = rows.iter().take(ROWS).map(dmarc_row).collect();
            page.dmarc.sort_by_key(|row| std::cmp::Reverse(row.count.0));
            name_sources(&asked, &mut page.dmarc).await;
        }
        ReceivedType::Tls => {
            page.tls = array(at(&report, "policies"))
                .iter()
                .map(tls_policy)
                .collect();
        }
        ReceivedType::Arf => page.facts = facts(&report),
    }
    Answer::page(&page)
}

/// A member of an object; null if it is absent.
fn at<'a>(value: &'a Value, name: &str) -> &'a Value {
    value.get(name).unwrap_or(&Value::Null)
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A value as text; empty for null.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Values that are not empty, with a blank between them.
fn joined<'a>(values: impl IntoIterator<Item = &'a Value>) -> String {
    let texts = values.into_iter().map(text);
    let texts: Vec<String> = texts.filter(|text| !text.is_empty()).collect();
    texts.join(" ")
}

fn policy(policy: &Value) -> String {
    let named = [
        ("p", "policy"),
        ("sp", "for names below it"),
        ("np", "for names that do not exist"),
        ("adkim", "DKIM alignment"),
        ("aspf", "SPF alignment"),
    ];
    let told = named.iter().filter_map(|(key, label)| {
        let value = text(at(policy, key));
        let is_told = !value.is_empty() && !value.eq_ignore_ascii_case("unspecified");
        is_told.then(|| format!("{label} {}", value.to_lowercase()))
    });
    told.collect::<Vec<_>>().join(", ")
}

fn dmarc_row(record: &Value) -> DmarcRow {
    let (row, results) = (at(record, "row"), at(record, "auth_results"));
    let evaluated = at(row, "policy_evaluated");
    let passes = |value: &Value| text(value).eq_ignore_ascii_case("pass");
    let told = |results: &Value, keys: &[&str]| {
        let told = array(results).iter();
        let told = told.map(|result| joined(keys.iter().map(|key| at(result, key))));
        told.collect::<Vec<_>>().join("; ")
    };
    DmarcRow {
        ip: text(at(row, "source_ip")),
        name: String::new(),
        count: Count(at(row, "count").as_u64().unwrap_or(0)),
        spf_aligned: passes(at(evaluated, "spf")),
        dkim_aligned: passes(at(evaluated, "dkim")),
        disposition: text(at(evaluated, "disposition")).to_lowercase(),
        from: text(at(at(record, "identifiers"), "header_from")),
        spf: told(at(results, "spf"), &["result", "domain"]),
        dkim: told(at(results, "dkim"), &["result", "domain", "selector"]),
        reasons: told(at(evaluated, "reason"), &["type_", "comment"]),
    }
}

/// Looks up the names of the first addresses, as far as DNS answers soon.
async fn name_sources(asked: &Asked, rows: &mut [DmarcRow]) {
    let named = rows.iter_mut().take(NAMES).map(|row| async {
        let lookup = dns::Lookup {
            record_type: "PTR".to_owned(),
            name: row.ip.clone(),
        };
        if let Ok(Ok(found)) = tokio::time::timeout(NAMES_TIME, asked.run(lookup)).await {
            let name = found.records.into_iter().next().unwrap_or_default();
            name.trim_end_matches('.').clone_into(&mut row.name);
        }
    });
    future::join_all(named).await;
}

fn tls_policy(policy: &Value) -> TlsPolicy {
    let (details, summary) = (at(policy, "policy"), at(policy, "summary"));
    let count = |key: &str| summary[key].as_u64().unwrap_or(0);
    TlsPolicy {
        domain: text(&details["policy-domain"]),
        kind: text(&details["policy-type"]),
        hosts: text(&details["mx-host"]),
        bar: Bar::new(
            count("total-successful-session-count"),
            count("total-failure-session-count"),
        ),
        failures: array(&policy["failure-details"])
            .iter()
            .take(ROWS)
            .map(tls_failure)
            .collect(),
    }
}

fn tls_failure(failure: &Value) -> TlsFailure {
    TlsFailure {
        kind: text(&failure["result-type"]),
        mx: text(&failure["receiving-mx-hostname"]),
        receiving_ip: text(&failure["receiving-ip"]),
        sending_ip: text(&failure["sending-mta-ip"]),
        count: Count(failure["failed-session-count"].as_u64().unwrap_or(0)),
        more: joined([
            &failure["failure-reason-code"],
            &failure["additional-information"],
        ]),
    }
}

/// The fields of a report about one message that say something.
fn facts(report: &Value) -> Vec<(String, String)> {
    let Some(fields) = report.as_object() else {
        return Vec::new();
    };
    let fact = |(key, value): (&String, &Value)| {
        let value = text(value);
        (!value.is_empty()).then(|| (key.replace('_', " "), value))
    };
    fields.iter().filter_map(fact).collect()
}

/// The mail of a report, as a file.
pub(in super::super) async fn raw(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let (kind, name) = kind(&asked)?;
    let id = asked.number(1)?;
    let filter = selection(kind);
    let pieces = asked.list(Raw { id, filter }).await?;
    let mail: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.0).collect();
    let file = format!("attachment; filename=\"{name}-report-{id}.eml\"");
    let headers: [(HeaderName, _); 2] = [
        (CONTENT_TYPE, header_value("message/rfc822")),
        (CONTENT_DISPOSITION, header_value(&file)),
    ];
    Ok(Answer::Other((headers, mail).into_response()))
}

/// Asks before a report is removed.
pub(in super::super) async fn ask_remove(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let (kind, name) = kind(&asked)?;
    let id = asked.number(1)?;
    let filter = selection(kind);
    let item = asked.run(Show { id, filter }).await?.item;
    let number = id.to_string();
    let command = AsCommand::cli(["report", "rm", &number]).call(
        &Method::DELETE,
        &format!("/api/reports/{name}/{id}"),
        None,
    );
    let action = asked.url(&format!("reports/{name}/{id}/remove"));
    let question = format!("Remove report {id}?");
    let confirm = Confirm::new(&asked, &question, "Remove the report", &action)
        .effect(format!("It came from {}: {}", item.from, item.subject))
        .effect("The mail stays in its mailbox, and the sums stay as they are.")
        .back(asked.url(&format!("reports/{name}/{id}")))
        .command(command);
    Answer::page(&confirm)
}

/// Removes a report.
pub(in super::super) async fn remove(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let (kind, name) = kind(&asked)?;
    let id = asked.number(1)?;
    let filter = selection(kind);
    asked.run(Remove { id, filter }).await?;
    Ok(asked.done(
        format!("Report {id} is removed."),
        &format!("reports/{name}"),
    ))
}
