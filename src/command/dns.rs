//! `dns ...`

use std::{
    io::{self, Write},
    path::Path,
};

use anyhow::bail;
use postrider_admin::op::{
    Operation,
    dns::{Check, CheckItem, Publish, Published, RecordItem, Records, Verdict},
};

use super::{
    alone::Alone,
    checks,
    desk::Desk,
    output::{List, print, print_json, until_closed},
    visible,
};
use crate::cli::Dns;

pub(super) fn run(conf: &Path, command: Dns) -> anyhow::Result<()> {
    match command {
        Dns::Lookup {
            record_type,
            name,
            json,
        } => checks::lookup(&Alone::of(conf)?, record_type, name, json),
        Dns::Records { domain, zone, json } => {
            let items = all(&Desk::of(conf)?, &Records { domain })?;
            match (json, zone) {
                (true, _) => print_items(&items, true, "", |_, _, _| Ok(())),
                (false, true) => print(&RecordItem::zone_file(&visible::value(&items)?)),
                (false, false) => print(&RecordItem::text(&visible::value(&items)?)),
            }
        }
        Dns::Check { domain, json } => {
            let items = all(&Desk::of(conf)?, &Check { domain })?;
            print_items(&items, json, "there is nothing to check", check_row)?;
            verdict(&items)
        }
        Dns::Publish {
            domain,
            dry_run,
            json,
        } => {
            let published = Desk::of(conf)?.ask(&Publish { domain, dry_run })?;
            match json {
                true => print_json(&published),
                false => print(&published_text(&visible::value(&published)?)),
            }
        }
    }
}

/// All items of an operation.
fn all<O: Operation + Clone>(desk: &Desk, operation: &O) -> anyhow::Result<Vec<O::Item>> {
    let mut items = Vec::new();
    desk.call(operation, |item| {
        items.push(item);
        Ok(())
    })??;
    Ok(items)
}

fn print_items<T: serde::Serialize + serde::de::DeserializeOwned>(
    items: &[T],
    json: bool,
    none: &str,
    row: impl Fn(&mut dyn Write, u64, &T) -> io::Result<()>,
) -> anyhow::Result<()> {
    let mut list = List::new(io::BufWriter::new(io::stdout().lock()), json, row);
    let written = items.iter().try_for_each(|item| list.add(item));
    Ok(until_closed(written.and_then(|()| list.end(none)))?)
}

/// A line for people, and the details of what is not right.
fn check_row(out: &mut dyn Write, _: u64, item: &CheckItem) -> io::Result<()> {
    let word = match (item.verdict, item.needed) {
        (Verdict::Ok, _) => "ok",
        (_, false) => "warning",
        (Verdict::Missing, true) => "missing",
        (Verdict::Differs, true) => "differs",
        (Verdict::Extra, true) => "extra",
        (Verdict::Error, true) => "error",
    };
    writeln!(
        out,
        "{word:<8} {:<14} {} {}",
        item.check, item.name, item.record_type
    )?;
    if item.verdict != Verdict::Ok {
        for found in &item.found {
            writeln!(out, "           found:  {found}")?;
        }
        if !item.wanted.is_empty() {
            writeln!(out, "           wanted: {}", item.wanted)?;
        }
    }
    match item.advice.as_str() {
        "" => Ok(()),
        advice => writeln!(out, "           {advice}"),
    }
}

/// An error, unless all that the domain needs is right.
fn verdict(items: &[CheckItem]) -> anyhow::Result<()> {
    let needed = || items.iter().filter(|item| item.needed);
    let wrong = needed().filter(|item| item.verdict != Verdict::Ok).count();
    match wrong {
        0 => Ok(()),
        wrong => bail!(
            "{wrong} of {} needed things are not right",
            needed().count()
        ),
    }
}

pub(super) fn published_text(published: &Published) -> String {
    let mut text = String::new();
    let verb = match published.written {
        true => ("removed", "added"),
        false => ("would remove", "would add"),
    };
    for change in &published.changes {
        let removed = change.removed.iter().map(|content| (verb.0, content));
        let added = change.added.iter().map(|content| (verb.1, content));
        for (verb, content) in removed.chain(added) {
            text += &format!("{verb} {} {} {content}\n", change.name, change.record_type);
        }
    }
    for left in &published.left {
        text += &format!(
            "left {} {} {}\n    {}\n",
            left.name, left.record_type, left.content, left.reason
        );
    }
    if published.changes.is_empty() {
        text += "nothing to change\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use postrider_admin::op::dns::{ChangeItem, LeftItem};

    use super::*;

    fn item(verdict: Verdict, needed: bool) -> CheckItem {
        CheckItem {
            record_type: "TXT".into(),
            name: "example.org.".into(),
            wanted: "v=spf1 mx ~all".into(),
            found: vec!["v=spf1 -all".into()],
            verdict,
            advice: "add what lacks".into(),
            check: "SPF".into(),
            needed,
        }
    }

    #[test]
    fn only_needed_things_fail_a_check() {
        assert!(verdict(&[]).is_ok());
        assert!(verdict(&[item(Verdict::Ok, true), item(Verdict::Missing, false)]).is_ok());
        let error = verdict(&[item(Verdict::Ok, true), item(Verdict::Extra, true)]);
        let error = error.unwrap_err().to_string();
        assert_eq!(error, "1 of 2 needed things are not right");
    }

    #[test]
    fn a_fault_shows_what_is_there_and_what_should_be() {
        let shown = |item: &CheckItem| {
            let mut out = Vec::new();
            check_row(&mut out, 0, item).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            shown(&item(Verdict::Differs, true)),
            "differs  SPF            example.org. TXT\n           found:  v=spf1 -all\n           \
            wanted: v=spf1 mx ~all\n           add what lacks\n"
        );
        assert!(shown(&item(Verdict::Differs, false)).starts_with("warning  SPF"));
        assert_eq!(shown(&item(Verdict::Ok, true)).lines().count(), 2);
    }

    #[test]
    fn what_was_published_is_told() {
        let change = ChangeItem {
            zone: "example.org".into(),
            name: "example.org.".into(),
            record_type: "MX".into(),
            removed: vec!["5 a.".into()],
            added: vec!["10 b.".into()],
        };
        let left = LeftItem {
            name: "x.".into(),
            record_type: "CNAME".into(),
            content: "b.".into(),
            reason: "it is an alias".into(),
        };
        let mut published = Published {
            written: true,
            changes: vec![change],
            left: vec![left],
        };
        assert_eq!(
            published_text(&published),
            "removed example.org. MX 5 a.\nadded example.org. MX 10 b.\nleft x. CNAME b.\n    it is \
            an alias\n"
        );
        published.written = false;
        assert!(published_text(&published).starts_with("would remove example.org. MX 5 a.\n"));
        assert_eq!(published_text(&Published::default()), "nothing to change\n");
    }
}
