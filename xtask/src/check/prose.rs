//! Limits on what a person must read at once: the lines of a file and the columns of a comment.
//!
//! rustfmt wraps code and leaves comments alone, so the check looks at lines that begin with `//`
//! in Rust, and with `#` in the other languages. The check leaves out tables, code blocks of
//! Markdown, generated files, and lines with one long word.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::workspace::{files, root};

/// The columns of a comment line.
const COLUMNS: usize = 100;

/// The lines of a Rust file.
const LINES: usize = 700;

/// Files that may be longer, each with the reason.
const LONGER: &[(&str, &str)] = &[];

/// Files that a task or a test writes.
const GENERATED: &[&str] = &["docs/config.md"];

/// Prints each place that breaks a rule, and fails when there is one.
pub(crate) fn check() -> Result<()> {
    let findings = findings(&root())?;
    findings.iter().for_each(|finding| println!("{finding}"));
    if findings.is_empty() {
        return Ok(());
    }
    bail!("{} places are too long", findings.len());
}

/// All places below this folder, as `file:line: sentence`.
fn findings(root: &Path) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for (end, check) in CHECKS {
        for file in files(root, end)? {
            let text =
                fs::read_to_string(&file).with_context(|| format!("failed to read {file:?}"))?;
            let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy();
            if !GENERATED.contains(&name.as_ref()) {
                check(&name, &text, &mut findings);
            }
        }
    }
    Ok(findings)
}

/// The check for the files with each end of the name.
const CHECKS: &[(&str, Check)] = &[
    (".rs", check_rust),
    (".md", check_markdown),
    (".toml", check_comments),
    (".conf", check_comments),
    (".py", check_comments),
    (".sh", check_comments),
    (".yml", check_comments),
    (".yaml", check_comments),
];

type Check = fn(name: &str, text: &str, findings: &mut Vec<String>);

fn check_rust(name: &str, text: &str, findings: &mut Vec<String>) {
    let lines = text.lines().count();
    let longer = LONGER.iter().any(|(longer, _)| *longer == name);
    if lines > LINES && !longer {
        findings.push(format!("{name}: {lines} lines, more than {LINES}"));
    }
    if lines <= LINES && longer {
        findings.push(format!("{name}: {lines} lines; it needs no exception now"));
    }
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("//") {
            check_line(name, number, line, findings);
        }
    }
}

/// Checks the lines that are a comment after `#`.
fn check_comments(name: &str, text: &str, findings: &mut Vec<String>) {
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with('#') {
            check_line(name, number, line, findings);
        }
    }
}

fn check_markdown(name: &str, text: &str, findings: &mut Vec<String>) {
    let mut code = false;
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        if trimmed.starts_with("```") {
            code = !code;
        } else if !code {
            check_line(name, number, line, findings);
        }
    }
}

fn check_line(name: &str, number: usize, line: &str, findings: &mut Vec<String>) {
    let columns = line.chars().count();
    if columns > COLUMNS && could_be_wrapped(line) {
        let number = number + 1;
        findings.push(format!("{name}:{number}: {columns} columns"));
    }
}

/// Whether the line is no row of a table, and has a space within the limit and behind its
/// beginning.
fn could_be_wrapped(line: &str) -> bool {
    let text = line
        .trim_start()
        .trim_start_matches(['/', '!', '#', '-', '*']);
    let text = text.trim_start();
    if text.starts_with('|') {
        return false;
    }
    let indent = line.chars().count() - text.chars().count();
    let room = COLUMNS.saturating_sub(indent);
    text.chars().take(room).any(|c| c == ' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_findings(check: Check, text: &str, expected: &[&str]) {
        let mut findings = Vec::new();
        check("f", text, &mut findings);
        assert_eq!(findings, expected, "{text}");
    }

    #[test]
    fn long_comments_are_found() {
        let long = "word ".repeat(20);
        let link = "x".repeat(120);
        check_findings(check_rust, &format!("// {long}"), &["f:1: 103 columns"]);
        check_findings(
            check_rust,
            &format!("\n    /// {long}"),
            &["f:2: 108 columns"],
        );
        check_findings(check_rust, &format!("let x = \"{long}\";"), &[]);
        check_findings(check_rust, &format!("// {link}"), &[]);
        check_findings(check_rust, &format!("//! | {long} |"), &[]);
    }

    #[test]
    fn long_comments_of_other_languages_are_found() {
        let long = "word ".repeat(20);
        let text = format!("x = 1\n  # {long}\ntext = \"{long}{long}\"\n");
        check_findings(check_comments, &text, &["f:2: 104 columns"]);
        for name in ["a.rs", "b.toml", "c.conf", "d.py", "e.sh", "f.yml"] {
            let dir = tempfile::tempdir().unwrap();
            let sign = if name == "a.rs" { "//" } else { "#" };
            fs::write(dir.path().join(name), format!("{sign} {long}")).unwrap();
            let found = findings(dir.path()).unwrap();
            assert!(
                found.len() == 1 && found[0].starts_with(name),
                "{name}: {found:?}"
            );
        }
    }

    #[test]
    fn tables_and_code_of_markdown_may_be_long() {
        let long = "word ".repeat(21);
        check_findings(check_markdown, &long, &["f:1: 105 columns"]);
        check_findings(check_markdown, &format!("| {long} |"), &[]);
        check_findings(check_markdown, &format!("```sh\n{long}\n```\n"), &[]);
    }

    #[test]
    fn long_files_are_found() {
        check_findings(check_rust, &"x\n".repeat(LINES), &[]);
        let found = ["f: 701 lines, more than 700"];
        check_findings(check_rust, &"x\n".repeat(LINES + 1), &found);
    }
}
