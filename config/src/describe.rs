//! Every key with its kind, default and meaning: for `config describe` and for `docs/config.md`.

use std::fmt::Write as _;

use crate::schema::{DYNAMIC, Default, Key, STATIC, Section};

/// Both files, in the order in which they are told.
const FILES: [(&str, &str, &[Section]); 2] = [
    ("postrider.conf", "Takes effect at start.", STATIC),
    (
        "domains.conf",
        "Beside postrider.conf. Takes effect when it is saved; a file with an error is refused and changes nothing.",
        DYNAMIC,
    ),
];

/// One key, for a program.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct KeyDescription {
    /// `postrider.conf` or `domains.conf`.
    pub file: &'static str,
    /// The full name, with `<>` around parts that may be any name and `[]` behind arrays of tables.
    pub key: &'static str,
    /// What is written for it.
    pub kind: String,
    /// The default in TOML, or in words; `None` when it must be set.
    pub default: Option<&'static str>,
    /// What it does, with its range.
    pub meaning: String,
    /// Whether this version does that already, or only checks the value.
    pub ready: bool,
}

/// Every key of both files.
#[must_use]
pub fn describe() -> Vec<KeyDescription> {
    let files = FILES.into_iter();
    files
        .flat_map(|(file, _, sections)| {
            let keys = sections.iter().flat_map(Section::iter);
            keys.map(move |key| KeyDescription {
                file,
                key: key.name,
                kind: key.kind.to_string(),
                default: default(key),
                meaning: meaning(key),
                ready: key.ready,
            })
        })
        .collect()
}

fn default(key: &Key) -> Option<&'static str> {
    match key.default {
        Default::Required => None,
        Default::Value(text) | Default::Absent(text) => Some(text),
    }
}

fn meaning(key: &Key) -> String {
    let mut text = key.meaning.to_owned();
    if let Some((min, max)) = key.range {
        let _ = write!(text, " From {min} to {max}.");
    }
    if !key.ready {
        text.push_str(" Not in this version: the value is only checked.");
    }
    text
}

/// Every key as text for a terminal.
#[must_use]
pub fn describe_text() -> String {
    let mut text = String::new();
    for (file, intro, sections) in FILES {
        let _ = writeln!(text, "# {file}\n{intro}");
        for section in sections {
            let _ = writeln!(text, "\n## {}", section.title.replace('`', ""));
            if !section.intro.is_empty() {
                let _ = writeln!(text, "{}", section.intro.replace('`', ""));
            }
            for key in section.iter() {
                let _ = writeln!(text, "\n{}", key.name);
                let _ = writeln!(text, "    {}; {}", key.kind, told_default(key));
                let _ = writeln!(text, "    {}", meaning(key));
            }
        }
        text.push('\n');
    }
    text
}

fn told_default(key: &Key) -> String {
    match key.default {
        Default::Required => "required".to_owned(),
        Default::Value(text) | Default::Absent(text) => format!("default {text}"),
    }
}

/// Every key as Markdown, which `docs/config.md` is.
#[must_use]
pub fn describe_markdown() -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         Both files are TOML. Durations are strings such as `\"90s\"`, `\"7m30s\"`, `\"72h\"`, `\"3d\"`; sizes are `\"25MB\"` (10^6), `\"25MiB\"` (2^20) \
         or a number of bytes. Relative paths are relative to the folder of the file that names them. Domains may be written in Unicode or in ASCII. \
         `postrider config test` checks both files and tells every problem with its line.\n\n\
         In the tables, a part in `<>` stands for a name of your choice, and `[]` behind a part for an array of tables (`[[routes]]`). \
         Keys that are marked with * are checked, but what they do is not in this version.\n",
    );
    for (file, intro, sections) in FILES {
        let _ = write!(text, "\n## {file}\n\n{intro}\n");
        for section in sections {
            let _ = write!(text, "\n### {}\n\n", section.title);
            if !section.intro.is_empty() {
                let _ = write!(text, "{}\n\n", section.intro);
            }
            text.push_str("| key | type | default | meaning |\n|---|---|---|---|\n");
            for key in section.iter() {
                markdown_row(&mut text, key);
            }
        }
    }
    text
}

fn markdown_row(text: &mut String, key: &Key) {
    let later = if key.ready { "" } else { " *" };
    let default = match key.default {
        Default::Required => "*required*".to_owned(),
        Default::Value(text) => format!("`{text}`"),
        Default::Absent(text) => text.to_owned(),
    };
    let mut meaning = key.meaning.to_owned();
    if let Some((min, max)) = key.range {
        let _ = write!(meaning, " From {min} to {max}.");
    }
    // A bare `<postmaster>` would be taken for HTML.
    let escape = |text: &str| text.replace('|', "\\|").replace('<', "\\<");
    let _ = writeln!(
        text,
        "| `{}`{later} | {} | {default} | {} |",
        key.name,
        key.kind,
        escape(&meaning)
    );
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// `POSTRIDER_BLESS=1 cargo test -p postrider-config` writes the page anew.
    #[test]
    fn the_page_in_docs_is_this_description() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/config.md");
        let expected = describe_markdown();
        if std::env::var_os("POSTRIDER_BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &expected).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap();
        assert!(
            found == expected,
            "docs/config.md is not what describe_markdown() says; run with POSTRIDER_BLESS=1"
        );
    }

    #[test]
    fn names_are_unique_and_sentences_whole() {
        let all = describe();
        for key in &all {
            let same = all
                .iter()
                .filter(|other| (other.file, other.key) == (key.file, key.key));
            assert_eq!(same.count(), 1, "{}", key.key);
            assert!(key.meaning.ends_with('.'), "{}: {}", key.key, key.meaning);
        }
        assert!(
            describe_text().contains("\nlimits.connections\n    whole number; default 20000\n")
        );
    }
}
