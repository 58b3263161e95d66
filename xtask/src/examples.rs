//! The examples of the documentation: code blocks with `run` after the language in the first line.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::programs::{finish, program};
use crate::workspace::root;

/// The address of localserve in the documentation.
const ADDRESS: &str = "127.0.0.1:1080";

/// A block of code.
#[derive(Debug, PartialEq, Eq)]
struct Example {
    language: String,
    /// The line on which it begins.
    line: usize,
    code: String,
}

/// The languages of the examples, and the program that runs each.
pub(crate) const LANGUAGES: [(&str, &str); 4] = [
    ("sh", "bash"),
    ("python", "python3"),
    ("js", "node"),
    ("go", "go"),
];

/// Runs the examples of a file in this language, with this program, against a server on this port.
/// Each example must succeed.
pub(crate) fn run(file: &str, (language, name): (&str, &str), port: u16) -> Result<()> {
    let text =
        fs::read_to_string(root().join(file)).with_context(|| format!("failed to read {file}"))?;
    let mut count = 0;
    for example in examples(&text) {
        let known = LANGUAGES
            .iter()
            .any(|(known, _)| *known == example.language);
        ensure!(
            known,
            "{file}:{}: no program runs this language",
            example.line
        );
        if example.language != language {
            continue;
        }
        count += 1;
        let code = example.code.replace(ADDRESS, &format!("127.0.0.1:{port}"));
        let dir = tempfile::tempdir()?;
        let path = dir.path().join(format!("example.{language}"));
        fs::write(&path, &code)?;
        let mut command = command(name);
        command.arg(&path).stdin(Stdio::null());
        finish(&mut command).with_context(|| format!("{file}:{}", example.line))?;
    }
    ensure!(count > 0, "{file} has no examples in {language}");
    Ok(())
}

fn command(name: &str) -> Command {
    let mut command = program(name);
    if name == "go" {
        command.arg("run");
    }
    command
}

fn examples(text: &str) -> Vec<Example> {
    let mut examples = Vec::new();
    let mut open: Option<Example> = None;
    for (number, line) in text.lines().enumerate() {
        match &mut open {
            Some(example) if line == "```" => {
                examples.push(Example {
                    code: std::mem::take(&mut example.code),
                    language: std::mem::take(&mut example.language),
                    line: example.line,
                });
                open = None;
            }
            Some(example) => {
                example.code.push_str(line);
                example.code.push('\n');
            }
            None => {
                let language = line
                    .strip_prefix("```")
                    .and_then(|rest| rest.strip_suffix(" run"));
                open = language.map(|language| Example {
                    language: language.to_owned(),
                    line: number + 1,
                    code: String::new(),
                });
            }
        }
    }
    examples
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_blocks_that_say_so_are_examples() {
        let text = "x\n```sh run\na\nb\n```\n```sh\nno\n```\n```go run\n```\n";
        let found = examples(text);
        let expected = [("sh", 2, "a\nb\n"), ("go", 9, "")].map(|(language, line, code)| Example {
            language: language.into(),
            line,
            code: code.into(),
        });
        assert_eq!(found, expected);
    }
}
