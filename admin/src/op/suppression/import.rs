//! Entries from a table of comma-separated values: `address,reason,list,created`.

use std::collections::HashSet;

use postrider_queue::base_address;
use postrider_store::{Accept, NewSuppression, Time, base_in_list};
use serde::{Deserialize, Serialize};
use tracing::debug;

use super::{
    super::{Operation, Single, Sink, time_or_date},
    parse,
};
use crate::{
    AdminError, Context,
    csv::{self, Reader},
};

/// The most rows of a table.
pub const ROWS_MAX: usize = 100_000;
/// How many entries are added at once.
const STEP: usize = 200;
/// How many wrong rows are told.
const WRONG_TOLD: usize = 100;
/// The columns in their usual order.
pub const COLUMNS: [&str; 4] = ["address", "reason", "list", "created"];
/// The reason of a row without one.
const REASON: &str = "imported";

/// Tells what [`Import`] would do with a table.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// The account.
    pub account: String,
    /// The table (RFC 4180), with at most 100,000 rows.
    pub table: String,
}

impl Single for Check {
    type Output = Imported;

    async fn answer(self, context: &Context) -> Result<Imported, AdminError> {
        context.check_account(&self.account)?;
        Ok(sort(context, &self.account, &self.table).await?.0)
    }
}

/// Adds the addresses of a table to the list of an account, 200 at a time. The first row may name
/// the columns, in any order. An address that is on the list keeps its entry. The output has first
/// what is left out, and then an item for each step. A caller that goes away ends it after a step.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Import {
    /// The account.
    pub account: String,
    /// The table (RFC 4180), with at most 100,000 rows.
    pub table: String,
    /// Leave out rows that are wrong. Otherwise a wrong row keeps all others from being added.
    #[serde(default)]
    pub leave_out_wrong: bool,
}

/// What a table has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// Rows with addresses that are not on the list, or were not.
    pub new: u64,
    /// Rows with addresses that are on the list, or that stand in the table before.
    pub known: u64,
    /// Rows that are wrong.
    pub wrong: u64,
    /// The first wrong rows.
    pub told: Vec<WrongRow>,
}

/// A row that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrongRow {
    /// Its first line, from 1.
    pub line: u64,
    /// What is wrong.
    pub error: String,
}

/// What the audit log keeps of an import.
#[derive(Serialize)]
struct Summary {
    rows: u64,
    new: u64,
}

impl Operation for Import {
    type Item = Imported;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<Imported>,
    ) -> Result<(), AdminError> {
        let account = self.account.clone();
        let sorted = self.sorted_to_add(context).await;
        let summary = sorted.as_ref().ok().map(|(imported, _)| Summary {
            rows: imported.new + imported.known + imported.wrong,
            new: imported.new,
        });
        let context = &context.carrying("suppression.import", &account, &summary);
        let added = match sorted {
            Ok((imported, entries)) => add(context, &account, (imported, entries), items).await,
            Err(error) => Err(error),
        };
        context
            .record("suppression.import", &account, &summary, added)
            .await
    }
}

impl Import {
    async fn sorted_to_add(
        &self,
        context: &Context,
    ) -> Result<(Imported, Vec<NewSuppression>), AdminError> {
        context.check_account(&self.account)?;
        let (imported, entries) = sort(context, &self.account, &self.table).await?;
        if imported.wrong > 0 && !self.leave_out_wrong {
            let text = format!(
                "{} rows are wrong; correct them, or leave them out",
                imported.wrong
            );
            return Err(AdminError::invalid(text).at("leave_out_wrong"));
        }
        Ok((imported, entries))
    }
}

/// Reads the table, and looks for its addresses on the list.
async fn sort(
    context: &Context,
    account: &str,
    table: &str,
) -> Result<(Imported, Vec<NewSuppression>), AdminError> {
    let now = context.clock.now();
    let rows = rows(table).map_err(|text| AdminError::invalid(text).at("table"))?;
    let mut imported = Imported::default();
    let (mut entries, mut seen) = (Vec::new(), HashSet::new());
    for row in rows {
        let entry = match row.entry(account, now) {
            Ok(entry) => entry,
            Err(error) => {
                imported.wrong += 1;
                if imported.told.len() < WRONG_TOLD {
                    let line = row.line;
                    imported.told.push(WrongRow { line, error });
                }
                continue;
            }
        };
        let name = base_in_list(&entry.base, &entry.list);
        let is_known = seen.contains(&name)
            || context
                .store
                .suppression(account, &name, now)
                .await?
                .is_some();
        seen.insert(name);
        if is_known {
            imported.known += 1;
        } else {
            imported.new += 1;
            entries.push(entry);
        }
    }
    Ok((imported, entries))
}

/// Adds entries, step by step.
async fn add(
    context: &Context,
    account: &str,
    (imported, entries): (Imported, Vec<NewSuppression>),
    items: &mut impl Sink<Imported>,
) -> Result<(), AdminError> {
    let left_out = Imported { new: 0, ..imported };
    items.send(vec![left_out]).await?;
    let _held = context.hold_account(account).await?;
    let count = entries.len();
    let mut entries = entries.into_iter();
    loop {
        let suppress: Vec<_> = entries.by_ref().take(STEP).collect();
        if suppress.is_empty() {
            break;
        }
        let step = Imported {
            new: suppress.len() as u64,
            ..Imported::default()
        };
        let accept = Accept {
            suppress,
            ..Accept::default()
        };
        context.store.accept(accept).await?;
        items.send(vec![step]).await?;
    }
    debug!(account, count, "suppressions imported");
    Ok(())
}

/// A row of the table.
struct Row {
    line: u64,
    fields: Result<[String; 4], String>,
}

impl Row {
    fn entry(&self, account: &str, now: Time) -> Result<NewSuppression, String> {
        let [address, reason, list, created] = self.fields.clone()?;
        if address.is_empty() {
            return Err("it has no address".to_owned());
        }
        let address = parse(&address, "address").map_err(|error| error.text)?;
        if list.chars().any(char::is_control) {
            return Err("the name of the list has a control character".to_owned());
        }
        let created = match created.as_str() {
            "" => now,
            text => time_or_date(text).ok_or_else(|| format!("{text:?} is not a time"))?,
        };
        if created > now {
            return Err(format!("{created} is in the future"));
        }
        Ok(NewSuppression {
            account: account.to_owned(),
            base: base_address(&address),
            list,
            original: address.unicode(),
            created,
            manual: true,
            reason: match reason.is_empty() {
                true => REASON.to_owned(),
                false => reason,
            },
            reply: None,
            until: None,
        })
    }
}

/// The rows of a table, without the one that names the columns.
fn rows(table: &str) -> Result<Vec<Row>, String> {
    let mut reader = Reader::new(table);
    let mut rows: Vec<Row> = Vec::new();
    let mut places = [Some(0), Some(1), Some(2), Some(3)];
    let mut is_first = true;
    while let Some((line, record)) = reader.next_record() {
        if let Ok(record) = &record {
            if record.iter().all(String::is_empty) {
                continue;
            }
            let is_head = |name: &String| COLUMNS.contains(&name.to_lowercase().as_str());
            if std::mem::take(&mut is_first) && record.iter().any(is_head) {
                places = COLUMNS.map(|column| {
                    let mut names = record.iter();
                    names.position(|name| name.eq_ignore_ascii_case(column))
                });
                if places[0].is_none() {
                    return Err("the first line names no column \"address\"".to_owned());
                }
                continue;
            }
        }
        if rows.len() == ROWS_MAX {
            return Err(format!("the table has more than {ROWS_MAX} rows"));
        }
        let fields = record.map(|record| {
            places.map(|place| {
                let field = place.and_then(|place| record.get(place));
                field.map(|field| csv::plain(field)).unwrap_or_default()
            })
        });
        rows.push(Row { line, fields });
    }
    match rows.is_empty() {
        true => Err("the table has no rows".to_owned()),
        false => Ok(rows),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(table: &str) -> Vec<(u64, Result<[String; 4], String>)> {
        let rows = rows(table).unwrap().into_iter();
        rows.map(|row| (row.line, row.fields)).collect()
    }

    fn row(fields: [&str; 4]) -> Result<[String; 4], String> {
        Ok(fields.map(str::to_owned))
    }

    #[test]
    fn rows_are_read_as_programs_write_them() {
        for (table, expected) in [
            ("a@b.test", vec![(1, row(["a@b.test", "", "", ""]))]),
            (
                "address,reason\r\na@b.test,\"said \"\"no\"\"\nand, left\"\r\nc@d.test\r\n",
                vec![
                    (2, row(["a@b.test", "said \"no\"\nand, left", "", ""])),
                    (4, row(["c@d.test", "", "", ""])),
                ],
            ),
            (
                "created,Address\n2026-01-02,'+a@b.test\n\n,'=x@b.test",
                vec![
                    (2, row(["+a@b.test", "", "", "2026-01-02"])),
                    (4, row(["=x@b.test", "", "", ""])),
                ],
            ),
            (
                "\u{feff}a@b.test,\"x\"y\nc@d.test",
                vec![
                    (1, Err("there is text behind a quotation mark".to_owned())),
                    (2, row(["c@d.test", "", "", ""])),
                ],
            ),
        ] {
            assert_eq!(read(table), expected, "{table:?}");
        }
    }

    #[test]
    fn a_table_without_addresses_or_with_too_many_rows_is_refused() {
        assert!(rows("").is_err());
        assert!(rows("reason\nx").is_err());
        assert!(rows(&"a@b.test\n".repeat(ROWS_MAX)).is_ok());
        assert!(rows(&"a@b.test\n".repeat(ROWS_MAX + 1)).is_err());
    }

    #[test]
    fn a_row_says_what_is_wrong_with_it() {
        let now = Time(1_800_000_000_000_000);
        let entry = |fields| {
            let fields = row(fields);
            Row { line: 1, fields }.entry("ann", now)
        };
        let right = entry(["A+x@B.test", "", "news", "2026-01-02"]).unwrap();
        assert_eq!(
            (right.reason.as_str(), right.list.as_str()),
            (REASON, "news")
        );
        assert_eq!(right.created.to_string(), "2026-01-02T00:00:00Z");
        for (fields, error) in [
            (["", "x", "", ""], "it has no address"),
            (["a@b.test", "", "", "soon"], "\"soon\" is not a time"),
            (
                ["a@b.test", "", "a\nb", ""],
                "the name of the list has a control character",
            ),
        ] {
            assert_eq!(entry(fields).unwrap_err(), error);
        }
        assert!(entry(["a@b.test", "", "", "2050-01-01"]).is_err());
        assert!(entry(["no address", "", "", ""]).is_err());
    }
}
