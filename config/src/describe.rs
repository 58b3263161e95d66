//! The description of every key, for `config describe` and for `docs/config.md`.

use std::fmt::Write as _;

use crate::{
    keys::{DYNAMIC, STATIC},
    schema::{Default, Key, Section},
};

/// Both files, in the order of the documentation.
const FILES: [(&str, &str, &[Section]); 2] = [
    ("postrider.conf", "The file takes effect at start.", STATIC),
    (
        "domains.conf",
        "The file is in the folder of postrider.conf. It takes effect when it is saved. A \
            file with an error changes nothing.",
        DYNAMIC,
    ),
];

/// The description of a key, for programs.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct KeyDescription {
    /// `postrider.conf` or `domains.conf`.
    pub file: &'static str,
    /// The full name. A part in `<>` stands for any name. `[]` after a part means an array of
    /// tables.
    pub key: &'static str,
    /// The kind of its value.
    pub kind: String,
    /// The default in TOML, or in words. None if the key must be set.
    pub default: Option<&'static str>,
    /// The effect of the key, with its range.
    pub meaning: String,
    /// Whether this version uses the key. If not, it only checks the value.
    pub ready: bool,
}

/// The description of every key of both files.
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
        text.push_str(" This version only checks the value.");
    }
    text
}

/// The description of every key as text for a terminal.
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
                let _ = writeln!(text, "    {}; {}", key.kind, default_text(key));
                let _ = writeln!(text, "    {}", meaning(key));
            }
        }
        text.push('\n');
    }
    text
}

fn default_text(key: &Key) -> String {
    match key.default {
        Default::Required => "required".to_owned(),
        Default::Value(text) | Default::Absent(text) => format!("default {text}"),
    }
}

/// The description of every key as Markdown: the content of `docs/config.md`.
#[must_use]
pub fn describe_markdown() -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         Both files are TOML. `postrider config test` checks them and shows every problem with its line.\n\n\
         | value | form |\n|---|---|\n\
         | duration | numbers with units from d, h, m, s and ms: `\"90s\"`, `\"7m30s\"`, `\"1.5h\"`, `\"3d\"` |\n\
         | size | `\"25MB\"` (10^6), `\"25MiB\"` (2^20), or a number of bytes |\n\
         | rate | a number per `second`, `minute`, `hour` or `day`: `\"100/minute\"`; `\"none\"` is no limit |\n\
         | date | a day in UTC, with quotes or without: `2026-12-01` |\n\
         | path | absolute, or relative to the folder of the file that has it |\n\
         | domain | in Unicode or in ASCII |\n\n\
         In the names of keys, a part in `<>` stands for a name of your choice. `[]` after a part means an array of tables (`[[routes]]`). \
         This version only checks the keys that have a *. It does not use them yet.\n",
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
    // Without the backslash, `<postmaster>` would be HTML.
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

    /// `POSTRIDER_BLESS=1 cargo test -p postrider-config` writes the page again.
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
            "docs/config.md differs from describe_markdown(); run the test with POSTRIDER_BLESS=1"
        );
    }

    #[test]
    fn names_are_unique_and_meanings_are_sentences() {
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
