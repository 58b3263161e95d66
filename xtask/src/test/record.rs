//! The table of docs/testing.md: one row for each part, with the commit and the time of its last
//! run.

use std::fmt;
use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::parts::{Level, Part};
use crate::workspace::root;

/// The file with the table, below the root.
const FILE: &str = "docs/testing.md";

/// A row of the table.
pub(super) struct Row {
    /// The cells that say which part it is.
    head: String,
    /// The cells of the run.
    run: String,
}

impl Row {
    /// The row of a part that passed now.
    pub(super) fn new(part: &Part, time: Duration) -> Self {
        Self {
            head: head(part),
            run: format!("{} | {}", commit(), readable(time)),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{} |", self.head, self.run)
    }
}

/// The cells of a row up to those of the run.
fn head(part: &Part) -> String {
    let level = match part.level {
        Level::Plain => "plain",
        Level::Full => "full",
    };
    format!("| `{}` | {level} | {} | ", part.name, part.proves)
}

/// The short name of the commit, and whether the sources differ from it.
fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).current_dir(root()).output();
        let output = output.ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(name) = git(&["rev-parse", "--short", "HEAD"]) else {
        return "unknown".to_owned();
    };
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if changes.is_empty() => name,
        _ => format!("{name} with changes"),
    }
}

fn readable(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// Writes the rows into the documentation, each in place of the row of the same part.
pub(super) fn write(rows: &[Row]) -> Result<()> {
    let path = root().join(FILE);
    let mut text = fs::read_to_string(&path).with_context(|| format!("failed to read {FILE}"))?;
    for row in rows {
        text = replace(&text, row)?;
    }
    fs::write(&path, text).with_context(|| format!("failed to write {FILE}"))
}

/// The text with this row in place of the part's row.
fn replace(text: &str, row: &Row) -> Result<String> {
    let mut found = false;
    let mut changed = String::with_capacity(text.len());
    for line in text.lines() {
        if line.starts_with(&row.head) {
            found = true;
            changed.push_str(&row.to_string());
        } else {
            changed.push_str(line);
        }
        changed.push('\n');
    }
    ensure!(found, "{FILE} has no row that begins with {:?}", row.head);
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::parts::PARTS;

    /// The last cells of a part that was not run.
    const NOT_RUN: &str = "not yet run | -";

    #[test]
    fn the_documentation_lists_each_part() {
        let text = fs::read_to_string(root().join(FILE)).unwrap();
        let rows = text
            .lines()
            .skip_while(|line| !line.starts_with("| part |"))
            .skip(2)
            .take_while(|line| line.starts_with('|'));
        let heads: Vec<String> = PARTS.iter().map(head).collect();
        let mut count = 0;
        for (row, head) in rows.zip(&heads) {
            assert!(
                row.starts_with(head),
                "{FILE} has\n{row}\ninstead of\n{head}{NOT_RUN} |"
            );
            count += 1;
        }
        assert_eq!(count, heads.len(), "{FILE} lacks rows");
    }

    #[test]
    fn a_row_replaces_the_row_of_its_part() {
        let row = Row::new(&PARTS[0], Duration::from_secs(75));
        assert!(row.to_string().ends_with(" | 1 min 15 s |"), "{row}");
        let old = format!("a\n{}{NOT_RUN} |\nb\n", row.head);
        assert_eq!(replace(&old, &row).unwrap(), format!("a\n{row}\nb\n"));
        assert!(replace("a\n", &row).is_err());
    }

    #[test]
    fn times() {
        assert_eq!(readable(Duration::from_millis(59_900)), "59 s");
        assert_eq!(readable(Duration::from_secs(3601)), "60 min 1 s");
    }
}
