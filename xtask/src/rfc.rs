//! Lists the RFC sections that doc comments cite, and where: a map from the standards to the code.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};
use clap::Args as ClapArgs;

use crate::workspace::{root, rust_files};

#[derive(ClapArgs)]
pub(crate) struct Args {
    /// Only this RFC
    number: Option<u32>,
}

/// A cited section, in the order of a table of contents. None if the RFC is cited as a whole.
type Section = Option<Vec<u32>>;

pub(crate) fn run(args: &Args) -> Result<()> {
    let root = root();
    let mut cited: BTreeMap<(u32, Section), Vec<String>> = BTreeMap::new();
    for file in rust_files(&root)? {
        let text = fs::read_to_string(&file).with_context(|| format!("failed to read {file:?}"))?;
        let name = file.strip_prefix(&root).unwrap_or(&file).display();
        for (index, line) in text.lines().enumerate() {
            for citation in citations(line) {
                cited
                    .entry(citation)
                    .or_default()
                    .push(format!("{name}:{}", index + 1));
            }
        }
    }
    for ((number, section), places) in cited {
        if args.number.is_some_and(|only| only != number) {
            continue;
        }
        let section = section.map_or(String::new(), |parts| {
            let parts: Vec<String> = parts.iter().map(u32::to_string).collect();
            format!(" \u{a7}{}", parts.join("."))
        });
        println!("RFC {number}{section}: {}", places.join(" "));
    }
    Ok(())
}

/// The citations in a line of a doc comment: `RFC NUMBER`, or `RFC NUMBER` and a section sign with
/// the section.
fn citations(line: &str) -> Vec<(u32, Section)> {
    let line = line.trim_start();
    if !line.starts_with("///") && !line.starts_with("//!") {
        return Vec::new();
    }
    line.split("RFC ").skip(1).filter_map(citation).collect()
}

fn citation(text: &str) -> Option<(u32, Section)> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, rest) = text.split_at_checked(digits)?;
    let section = rest
        .trim_start_matches([' ', ','])
        .strip_prefix('\u{a7}')
        .map(|section| {
            section
                .split(|c: char| !c.is_ascii_digit() && c != '.')
                .next()
                .unwrap_or_default()
                .split('.')
                .filter_map(|part| part.parse().ok())
                .collect()
        });
    Some((number.parse().ok()?, section))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn citations_are_found() {
        let found =
            citations("    /// As RFC 5321 \u{a7}4.5.3.1.10. says, and RFC 6409; not RFC x.");
        assert_eq!(found, [(5321, Some(vec![4, 5, 3, 1, 10])), (6409, None)]);
        assert_eq!(citations("//! RFC 5321, \u{a7}2"), [(5321, Some(vec![2]))]);
        assert!(citations("// RFC 5321").is_empty());
    }
}
