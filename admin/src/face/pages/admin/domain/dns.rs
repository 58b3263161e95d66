//! The records of a domain: what should be in DNS, and what is there.

use std::sync::Arc;

use askama::Template;
use axum::{
    http::header::{CONTENT_DISPOSITION, CONTENT_TYPE},
    response::IntoResponse,
};

use super::Head;
use crate::{
    Code,
    face::{
        pages::{
            answer::{Answer, Trouble, sentence},
            asked::{Asked, header_value},
            command::AsCommand,
            confirm::Confirm,
            frame::Frame,
            shown::counted,
        },
        path::segment,
    },
    op::dns::{CanPublish, Check, CheckItem, Publish, Published, RecordItem, Records, Verdict},
};

#[derive(Template)]
#[template(path = "admin/domain_dns.html")]
struct Dns {
    frame: Frame,
    domain: Head,
    rows: Vec<Row>,
    /// The rows have a verdict.
    checked: bool,
    /// What the check says in one sentence.
    summary: String,
    /// All is right, or what the domain needs is right, or not.
    summary_state: &'static str,
    zone: String,
    /// The server can write the records itself.
    can_publish: bool,
}

/// What stands in DNS under one name and type, or what a service does.
struct Row {
    /// What it is about: `SPF`, `DKIM`.
    subject: String,
    record_type: String,
    /// The name without the dot at its end.
    name: String,
    /// The records to paste.
    records: Vec<Paste>,
    /// What should be there, where it is no record to paste.
    wanted: String,
    found: Vec<String>,
    verdict: Option<Said>,
    /// What to do, and what the record is for.
    advice: Vec<String>,
}

/// A record in the parts that forms of DNS providers ask for.
struct Paste {
    /// Empty: the type has none.
    priority: String,
    content: String,
    /// The record as a line of a zone file.
    line: String,
    /// When the record is not needed, or not yet.
    note: &'static str,
}

/// A verdict in words.
struct Said {
    class: &'static str,
    word: &'static str,
}

impl Said {
    const fn of(item: &CheckItem) -> Self {
        let (word, bad) = match item.verdict {
            Verdict::Ok => {
                return Self {
                    class: "good",
                    word: "right",
                };
            }
            Verdict::Missing => ("missing", "bad"),
            Verdict::Differs => ("differs", "bad"),
            Verdict::Extra => ("extra", "bad"),
            Verdict::Error => ("not known", "warn"),
        };
        let class = if item.needed { bad } else { "warn" };
        Self { class, word }
    }
}

impl Paste {
    fn new(record: &RecordItem) -> Self {
        let (priority, content) = match record.record_type.as_str() {
            "MX" | "SRV" => record.content.split_once(' ').unwrap_or_default(),
            _ => ("", record.content.as_str()),
        };
        // In a zone file a record that is needed later is a comment.
        let bare = RecordItem {
            comment: String::new(),
            later: false,
            ..record.clone()
        };
        Self {
            priority: priority.to_owned(),
            content: content.to_owned(),
            line: RecordItem::zone_file(&[bare]).trim().to_owned(),
            note: match (record.later, record.optional) {
                (true, _) => "not yet",
                (false, true) => "optional",
                (false, false) => "",
            },
        }
    }
}

fn bare(name: &str) -> String {
    name.trim_end_matches('.').to_owned()
}

/// The rows of what should be there. Records of one name and type stand together.
fn rows_of(records: &[RecordItem]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for record in records {
        let name = bare(&record.name);
        let is_same = |row: &&mut Row| row.record_type == record.record_type && row.name == name;
        let row = match rows.iter_mut().find(is_same) {
            Some(row) => row,
            None => {
                rows.push(Row {
                    subject: String::new(),
                    record_type: record.record_type.clone(),
                    name,
                    records: Vec::new(),
                    wanted: String::new(),
                    found: Vec::new(),
                    verdict: None,
                    advice: Vec::new(),
                });
                match rows.last_mut() {
                    Some(row) => row,
                    None => continue,
                }
            }
        };
        row.records.push(Paste::new(record));
        if !row.advice.contains(&record.comment) {
            row.advice.push(record.comment.clone());
        }
    }
    rows
}

/// The rows of a check, with the records to paste; then the records that no check is about.
fn rows_checked(records: &[RecordItem], checks: Vec<CheckItem>) -> Vec<Row> {
    let mut wanted = rows_of(records);
    let mut rows = Vec::new();
    for check in checks {
        let name = bare(&check.name);
        let is_same = |row: &Row| row.record_type == check.record_type && row.name == name;
        let of_records = wanted.iter().position(is_same).map(|at| wanted.remove(at));
        let verdict = Some(Said::of(&check));
        let mut row = Row {
            subject: check.check,
            record_type: check.record_type,
            name,
            records: Vec::new(),
            wanted: check.wanted,
            found: check.found,
            verdict,
            advice: Vec::new(),
        };
        row.advice
            .extend(Some(check.advice).filter(|it| !it.is_empty()));
        if let Some(of_records) = of_records {
            row.records = of_records.records;
            row.wanted = String::new();
            if check.verdict != Verdict::Ok {
                row.advice.extend(of_records.advice);
            }
        }
        rows.push(row);
    }
    rows.extend(wanted);
    rows
}

/// What a check says in one sentence, and how it looks.
fn summary(checks: &[CheckItem]) -> (String, &'static str) {
    let count = |is_meant: fn(&&CheckItem) -> bool| checks.iter().filter(is_meant).count() as u64;
    let right = count(|check| check.verdict == Verdict::Ok);
    let wrong =
        count(|check| check.needed && !matches!(check.verdict, Verdict::Ok | Verdict::Error));
    let unknown = count(|check| check.verdict == Verdict::Error);
    let warnings = checks.len() as u64 - right - wrong - unknown;
    let mut parts = vec![format!("{right} of {} right", checks.len())];
    if wrong > 0 {
        parts.push(format!("{wrong} to mend"));
    }
    if warnings > 0 {
        parts.push(counted(warnings, "warning", "warnings"));
    }
    if unknown > 0 {
        parts.push(format!("{unknown} not known"));
    }
    let state = match (wrong, warnings + unknown) {
        (0, 0) => "good",
        (0, _) => "warn",
        _ => "bad",
    };
    (format!("{}.", parts.join(", ")), state)
}

fn records(domain: &Head) -> Records {
    Records {
        domain: domain.name().to_owned(),
    }
}

/// The records. With `check=1` DNS and the services are asked; scripts ask for that by themselves.
pub(in crate::face::pages) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    let checked = asked.query.flag("check");
    let records = asked.list(records(&domain)).await?;
    let zone = RecordItem::zone_file(&records);
    let (mut told, mut state) = (String::new(), "");
    let rows = match checked {
        false => rows_of(&records),
        true => {
            let check = Check {
                domain: domain.name().to_owned(),
            };
            match asked.list(check).await {
                Ok(checks) => {
                    (told, state) = summary(&checks);
                    rows_checked(&records, checks)
                }
                Err(error) => {
                    (told, state) = (sentence(&error.text), "bad");
                    rows_of(&records)
                }
            }
        }
    };
    let can_publish = CanPublish {
        domain: domain.name().to_owned(),
    };
    let can_publish = asked.run(can_publish).await?;
    let word = if checked { "check" } else { "records" };
    let call = format!("/api/dns/{word}/{}", segment(domain.name()));
    let command = AsCommand::cli(["dns", word, domain.name()]).get(&call);
    Answer::page(&Dns {
        frame: domain.frame(&asked, "DNS").with(command),
        domain,
        rows,
        checked,
        summary: told,
        summary_state: state,
        zone,
        can_publish,
    })
}

/// The records as a zone file.
pub(in crate::face::pages) async fn zone_file(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    let zone = RecordItem::zone_file(&asked.list(records(&domain)).await?);
    let name: String = asked.element(0).chars().filter(char::is_ascii).collect();
    let name = name.replace(['"', '\\', '/'], "");
    let file = format!("attachment; filename=\"{name}.zone\"");
    let fields = [
        (CONTENT_TYPE, header_value("text/plain; charset=utf-8")),
        (CONTENT_DISPOSITION, header_value(&file)),
    ];
    Ok(Answer::Other((fields, zone).into_response()))
}

fn publish(domain: &Head, dry_run: bool) -> Publish {
    Publish {
        domain: domain.name().to_owned(),
        dry_run,
    }
}

/// A change of records in one line.
fn changes(published: &Published) -> Vec<String> {
    let added = |name: &str, kind: &str, sign: char, contents: &[String]| {
        let lines = contents.iter();
        lines
            .map(|content| format!("{sign} {name} {kind} {content}"))
            .collect::<Vec<_>>()
    };
    let changes = published.changes.iter().flat_map(|change| {
        let (name, kind) = (&change.name, &change.record_type);
        let mut lines = added(name, kind, '-', &change.removed);
        lines.extend(added(name, kind, '+', &change.added));
        lines
    });
    let left = published.left.iter().map(|left| {
        let (name, kind) = (&left.name, &left.record_type);
        format!("{name} {kind} stays as it is: {}", left.reason)
    });
    changes.chain(left).collect()
}

/// Asks before records are written at the server of their zone.
pub(in crate::face::pages) async fn ask_publish(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    let planned = asked.run(publish(&domain, true)).await?;
    let back = domain.path("dns");
    if planned.changes.is_empty() && planned.left.is_empty() {
        return Ok(asked.done("The zone has all records already.", &back));
    }
    let action = asked.url(&domain.path("dns/publish"));
    let question = format!("Publish the records of {}?", domain.name());
    let count = counted(planned.changes.len() as u64, "name changes", "names change");
    let command = AsCommand::cli(["dns", "publish", domain.name()]);
    let confirm = Confirm::new(&asked, &question, "Publish", &action)
        .effect(format!("The records of {count} at the server of the zone."))
        .effect("Records of others stay.")
        .examples(changes(&planned))
        .back(asked.url(&back))
        .command(command);
    Answer::page(&confirm)
}

/// Writes the records at the server of their zone.
pub(in crate::face::pages) async fn do_publish(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    let published = asked.run(publish(&domain, false)).await.map_err(|error| {
        match error.code {
            // The server of the zone is not ours.
            Code::Internal => crate::AdminError::unavailable(error.text),
            _ => error,
        }
    })?;
    let names = counted(published.changes.len() as u64, "name", "names");
    let mut told = format!("The records of {names} are published.");
    if !published.left.is_empty() {
        let left = counted(published.left.len() as u64, "record is", "records are");
        told.push_str(&format!(" {left} left to you."));
    }
    Ok(asked.done(told, &domain.path("dns")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(record_type: &str, name: &str, content: &str) -> RecordItem {
        RecordItem {
            record_type: record_type.to_owned(),
            name: name.to_owned(),
            content: content.to_owned(),
            ttl: 300,
            optional: false,
            later: false,
            comment: "For mail.".to_owned(),
        }
    }

    #[test]
    fn records_are_taken_apart_for_forms_of_providers() {
        let rows = rows_of(&[
            record("MX", "a.test.", "10 mail.a.test."),
            record("MX", "a.test.", "20 other.a.test."),
            record("TXT", "a.test.", "v=spf1 mx -all"),
        ]);
        assert_eq!(rows.len(), 2);
        let mx: Vec<_> = rows[0]
            .records
            .iter()
            .map(|it| (&*it.priority, &*it.content))
            .collect();
        assert_eq!(mx, [("10", "mail.a.test."), ("20", "other.a.test.")]);
        assert_eq!(
            rows[1].records[0].line,
            "a.test. 300 IN TXT \"v=spf1 mx -all\""
        );
        assert_eq!(rows[0].advice, ["For mail."]);
    }

    #[test]
    fn a_check_has_the_records_to_paste() {
        let check = |record_type: &str, name: &str, verdict, needed| CheckItem {
            record_type: record_type.to_owned(),
            name: name.to_owned(),
            wanted: "wanted".to_owned(),
            found: Vec::new(),
            verdict,
            advice: String::new(),
            check: "SPF".to_owned(),
            needed,
        };
        let checks = vec![
            check("TXT", "a.test.", Verdict::Missing, true),
            check("SMTP", "mail.a.test.", Verdict::Error, true),
            check("TLSA", "a.test.", Verdict::Missing, false),
            check("A", "a.test.", Verdict::Ok, true),
        ];
        assert_eq!(
            summary(&checks),
            (
                "1 of 4 right, 1 to mend, 1 warning, 1 not known.".to_owned(),
                "bad"
            )
        );
        let records = [
            record("TXT", "a.test.", "v=spf1"),
            record("CAA", "a.test.", "x"),
        ];
        let rows = rows_checked(&records, checks);
        assert_eq!(rows.len(), 5);
        assert_eq!((rows[0].records.len(), &*rows[0].wanted), (1, ""));
        assert_eq!((rows[1].records.len(), &*rows[1].wanted), (0, "wanted"));
        assert!(rows[4].verdict.is_none());
    }
}
