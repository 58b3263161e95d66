//! A file of rules: patterns under heads.
//!
//! - `[head]` begins a rule. The lines after it are its patterns, in the syntax of the crate
//!   `regex`.
//! - `name = a|b` before the first rule is a list. `{name}` in a pattern stands for one of its
//!   words.
//! - A line with `#` at its beginning is a comment.

use std::collections::HashMap;

use regex::{RegexSet, RegexSetBuilder};

/// The rules of a file. `H` is the meaning of a head.
pub(super) struct Rules<H> {
    heads: Vec<H>,
    /// One pattern for each head, in the same order.
    patterns: RegexSet,
}

impl<H: Copy> Rules<H> {
    /// Reads a file. `meaning` reads a head. None if the file has a mistake.
    pub(super) fn compile(file: &str, meaning: impl Fn(&str) -> Option<H>) -> Option<Self> {
        let mut lists: HashMap<&str, &str> = HashMap::new();
        let mut heads = Vec::new();
        let mut patterns: Vec<String> = Vec::new();
        for line in file.lines() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let head = line
                .strip_prefix('[')
                .and_then(|line| line.strip_suffix(']'));
            if let Some(head) = head {
                heads.push(meaning(head)?);
                patterns.push(String::new());
            } else if let Some(pattern) = patterns.last_mut() {
                if !pattern.is_empty() {
                    pattern.push('|');
                }
                pattern.push_str(&with_lists(line, &lists));
            } else {
                let (name, words) = line.split_once(" = ")?;
                lists.insert(name, words);
            }
        }
        let patterns = RegexSetBuilder::new(patterns)
            .size_limit(64 << 20)
            .dfa_size_limit(16 << 20)
            .build()
            .ok()?;
        Some(Self { heads, patterns })
    }

    /// The heads of the rules with a pattern in the text, in the order of the file.
    pub(super) fn find(&self, text: &str) -> Vec<H> {
        let found = self.patterns.matches(text);
        found
            .iter()
            .filter_map(|at| self.heads.get(at).copied())
            .collect()
    }
}

/// The pattern with its lists. Word boundaries are those of ASCII: boundaries of other scripts
/// would make the search a thousand times slower.
fn with_lists(pattern: &str, lists: &HashMap<&str, &str>) -> String {
    let mut out = pattern.replace(r"\b", r"(?-u:\b)");
    for (name, words) in lists {
        let words = words.replace(r"\b", r"(?-u:\b)");
        out = out.replace(&format!("{{{name}}}"), &format!("(?:{words})"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_rules() {
        let file = "# a comment\nfruit = apple|pear\n\n[1]\nan? {fruit}\nplum\n[2]\n\\[x\\]\n";
        let rules = Rules::compile(file, |head| head.parse::<u8>().ok()).unwrap();
        assert_eq!(rules.find("an apple and [x]"), [1, 2]);
        assert_eq!(rules.find("plum"), [1]);
        assert_eq!(rules.find("apple"), [0_u8; 0]);
        for wrong in ["[one]\nx", "no list", "[1]\n(x"] {
            assert!(Rules::compile(wrong, |head| head.parse::<u8>().ok()).is_none());
        }
    }
}
