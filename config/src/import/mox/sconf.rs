//! The format of mox's files: lines `Key: value`, nested by tabs, and lists of lines `- item`.

use std::{
    cell::Cell,
    collections::HashSet,
    path::{Path, PathBuf},
};

use super::super::{
    files::{Files, text},
    problem,
};
use crate::error::{ConfigError, Errors};

/// No file of mox is nested this deep.
const DEEPEST: usize = 32;

/// A key with its value or with the keys below it.
#[derive(Debug)]
pub(super) struct Node {
    /// The key. Empty for an item of a list.
    pub(super) key: String,
    /// The keys from the top of the file to this one, with dots between them.
    pub(super) path: String,
    /// The text behind the colon. Empty if there is none.
    pub(super) value: String,
    /// The line, from 1.
    pub(super) line: usize,
    /// The keys or items below.
    pub(super) children: Vec<Self>,
    used: Cell<bool>,
}

impl Node {
    fn new(key: &str, path: String, value: &str, line: usize) -> Self {
        Self {
            key: key.to_owned(),
            path,
            value: value.to_owned(),
            line,
            children: Vec::new(),
            used: Cell::new(false),
        }
    }

    /// The child with this key. The caller notes its fate.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let found = self.children.iter().find(|child| child.key == key)?;
        found.used.set(true);
        Some(found)
    }

    /// All children. The caller notes their fate.
    pub(super) fn all(&self) -> impl Iterator<Item = &Self> {
        self.children.iter().inspect(|child| child.used.set(true))
    }

    /// The value of a key that is set and is not empty.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        let found = self.get(key)?;
        (!found.value.is_empty()).then_some(found.value.as_str())
    }

    /// Whether a key is `true`.
    pub(super) fn is(&self, key: &str) -> bool {
        self.get(key).is_some_and(|found| found.value == "true")
    }

    /// The items of a list.
    pub(super) fn items(&self) -> Vec<&str> {
        self.all().map(|item| item.value.as_str()).collect()
    }

    /// Whether no caller asked for this key.
    pub(super) const fn is_left(&self) -> bool {
        !self.used.get()
    }

    /// Whether mox would do the same if the key were absent.
    pub(super) fn is_default(&self) -> bool {
        let empty = matches!(
            self.value.as_str(),
            "" | "false" | "0" | "0s" | "nil" | "0.000000"
        );
        let off = self
            .children
            .iter()
            .any(|child| child.key == "Enabled" && child.value == "false");
        empty && (off || self.children.iter().all(Self::is_default))
    }
}

/// A file as a tree.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) path: PathBuf,
    pub(super) root: Node,
}

impl Tree {
    pub(super) fn read(files: &dyn Files, path: &Path) -> Result<Self, Errors> {
        let text = text(files, path)?;
        let root = parse(&text, path)?;
        Ok(Self {
            path: path.to_owned(),
            root,
        })
    }
}

/// A key that may get further children.
struct Open {
    node: Node,
    /// The keys of its children.
    seen: HashSet<String>,
}

/// Reads a file.
///
/// # Errors
/// All lines that are wrong.
fn parse(text: &str, file: &Path) -> Result<Node, Errors> {
    let mut problems: Vec<ConfigError> = Vec::new();
    let mut open = vec![Open {
        node: Node::new("", String::new(), "", 0),
        seen: HashSet::new(),
    }];
    // The lines below a wrong line would only give more errors.
    let mut skip_below: Option<usize> = None;
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let (depth, content) = indentation(line);
        match skip_below {
            Some(wrong) if depth > wrong => continue,
            _ => skip_below = None,
        }
        if let Err(message) = add(&mut open, depth, content, number) {
            problems.push(problem(file, number, message));
            skip_below = Some(depth);
        }
    }
    while open.len() > 1 {
        close(&mut open);
    }
    match (Errors::new(problems), open.pop()) {
        (None, Some(root)) => Ok(root.node),
        (Some(errors), _) => Err(errors),
        (None, None) => Err(Errors::one(problem(file, 0, "is empty"))),
    }
}

/// The depth of a line and the rest of it. Four spaces count as a tab.
fn indentation(line: &str) -> (usize, &str) {
    let mut depth = 0;
    let mut rest = line;
    while let Some(next) = rest
        .strip_prefix('\t')
        .or_else(|| rest.strip_prefix("    "))
    {
        depth += 1;
        rest = next;
    }
    (depth, rest.trim_end())
}

/// Adds a line to the tree.
fn add(open: &mut Vec<Open>, depth: usize, content: &str, line: usize) -> Result<(), String> {
    if content.starts_with(' ') {
        return Err("is indented with spaces; the format needs tabs".to_owned());
    }
    if depth >= DEEPEST {
        return Err("is nested too deep".to_owned());
    }
    if depth + 1 > open.len() {
        return Err("is indented more than the line above allows".to_owned());
    }
    while open.len() > depth + 1 {
        close(open);
    }
    let Some(parent) = open.last_mut() else {
        return Ok(());
    };
    if !parent.node.value.is_empty() {
        let key = &parent.node.path;
        return Err(format!("is below {key}, which has a value already"));
    }
    let item = content == "-" || content.starts_with("- ");
    let (key, value) = if item {
        ("", content.get(1..).unwrap_or(""))
    } else {
        content
            .split_once(':')
            .ok_or_else(|| format!("{content:?} has no colon; write \"Key: value\""))?
    };
    let first_is_item = parent
        .node
        .children
        .first()
        .map(|child| child.key.is_empty());
    if first_is_item.is_some_and(|first| first != item) {
        return Err("mixes the items of a list with keys".to_owned());
    }
    if !item && key.is_empty() {
        return Err("has no key before the colon".to_owned());
    }
    if !value.is_empty() && !value.starts_with(' ') {
        return Err(format!(
            "needs a space after {}",
            if item { "-" } else { "the colon" }
        ));
    }
    if !item && !parent.seen.insert(key.to_owned()) {
        return Err(format!("{key:?} is there twice; remove one"));
    }
    let path = match (parent.node.path.as_str(), key) {
        ("", key) => key.to_owned(),
        (path, "") => format!("{path}[]"),
        (path, key) => format!("{path}.{key}"),
    };
    open.push(Open {
        node: Node::new(key, path, value.trim(), line),
        seen: HashSet::new(),
    });
    Ok(())
}

/// Puts the last open key below its parent.
fn close(open: &mut Vec<Open>) {
    if let Some(last) = open.pop()
        && let Some(parent) = open.last_mut()
    {
        parent.node.children.push(last.node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> String {
        let errors = parse(text, Path::new("f")).unwrap_err();
        errors.to_string()
    }

    #[test]
    fn keys_lists_and_comments() {
        let text = "# comment\nA: b: c \nB:\n\tC:\n\t\t- 1\n\t\t# comment\n\n\t\t-\n\t\t\tD: 2\n    E: nil\n";
        let root = parse(text, Path::new("f")).unwrap();
        assert_eq!(root.text("A"), Some("b: c"));
        let b = root.get("B").unwrap();
        let list = b.get("C").unwrap();
        assert_eq!(list.items(), ["1", ""]);
        let nested = &list.children[1];
        assert_eq!(nested.path, "B.C[]");
        assert_eq!((nested.text("D"), nested.line), (Some("2"), 8));
        assert_eq!(b.get("E").unwrap().line, 10);
        assert!(b.get("E").unwrap().is_default());
    }

    #[test]
    fn wrong_lines_are_all_told() {
        let text = "A\n\tB: 1\nC: 1\n\tD: 2\nE:\n\t\tF: 3\n  G: 4\nH:5\nC: 2\n: 6\nI:\n\t- 1\n\tJ: 2\n\t-3\n";
        let expected = [
            "f:1:1: \"A\" has no colon; write \"Key: value\"",
            "f:4:1: is below C, which has a value already",
            "f:6:1: is indented more than the line above allows",
            "f:7:1: is indented with spaces; the format needs tabs",
            "f:8:1: needs a space after the colon",
            "f:9:1: \"C\" is there twice; remove one",
            "f:10:1: has no key before the colon",
            "f:13:1: mixes the items of a list with keys",
            "f:14:1: \"-3\" has no colon; write \"Key: value\"",
        ];
        assert_eq!(errors(text), expected.join("\n"));
        let deep: String = (0..40).map(|depth| "\t".repeat(depth) + "A:\n").collect();
        assert_eq!(errors(&deep), "f:33:1: is nested too deep");
    }
}
