//! `hooks ...`

use std::{
    fmt::Write as _,
    fs,
    io::{self, Read, Write},
    path::Path,
};

use anyhow::{Context as _, bail};
use postrider_admin::op::{
    hooks::{HookTested, List, ProgramItem, Test},
    queue::Piece,
};

use super::{
    output::{print, print_json},
    running::Running,
    visible,
};
use crate::cli::{Hooks, HooksTest};

pub(super) fn run(server: &Running, command: Hooks) -> anyhow::Result<()> {
    match command {
        Hooks::List { json } => {
            let none = "no hook and no milter is in use";
            server.print_list(&List {}, json, none, row)
        }
        Hooks::Test(options) => test(server, options),
    }
}

fn row(out: &mut dyn Write, _: u64, item: &ProgramItem) -> io::Result<()> {
    let ProgramItem {
        name,
        kind,
        place,
        stages,
        state,
        since,
        reason,
    } = item;
    let stages = stages.join(" ");
    writeln!(out, "{state:<4}  {kind:<6}  {name}  {place}  ({stages})")?;
    match since {
        Some(since) if !reason.is_empty() => {
            writeln!(out, "      since {since}: {}", visible::lines(reason))
        }
        _ => Ok(()),
    }
}

fn test(server: &Running, options: HooksTest) -> anyhow::Result<()> {
    let HooksTest {
        name,
        stage,
        message,
        ip,
        helo,
        login,
        from,
        to,
        json,
    } = options;
    let message = message.as_deref().map(read).transpose()?;
    let tested = server.ask(&Test {
        name: name.clone(),
        stage: Some(stage),
        ip: Some(ip),
        helo: Some(helo),
        login,
        from: Some(from),
        to,
        message: message.map(Piece),
    })?;
    match json {
        true => print_json(&tested)?,
        false => print(&text_of(&tested))?,
    }
    match tested.error {
        Some(error) => bail!("{name} gave no answer that counts: {error}"),
        None => Ok(()),
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    if file == Path::new("-") {
        let mut message = Vec::new();
        io::stdin().read_to_end(&mut message)?;
        return Ok(message);
    }
    fs::read(file).with_context(|| format!("failed to read {}", file.display()))
}

/// What came of a test, for people.
fn text_of(tested: &HookTested) -> String {
    let HookTested {
        asked,
        request,
        response,
        result,
        reply,
        changes,
        error: _,
        elapsed_ms,
    } = tested;
    let mut text = String::new();
    let mut part = |name: &str, body: &Option<String>| {
        if let Some(body) = body {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name}\n{}\n", visible::lines(&readable(body)));
        }
    };
    part("call:", request);
    part("answer:", response);
    let _ = write!(text, "result: {result} after {elapsed_ms} ms");
    if let Some(reply) = reply {
        let _ = write!(text, ", reply {}", visible::lines(reply));
    }
    text.push('\n');
    for change in changes {
        let _ = writeln!(text, "change: {}", visible::lines(change));
    }
    if !asked {
        text.push_str("a session like this would not ask it: see its stages and conditions\n");
    }
    text
}

/// JSON with line breaks. Another text stays as it is.
fn readable(body: &str) -> String {
    let value: Result<serde_json::Value, _> = serde_json::from_str(body);
    let pretty = value.and_then(|value| serde_json::to_string_pretty(&value));
    pretty.unwrap_or_else(|_| body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_of_a_test_is_text_for_people() {
        let tested = HookTested {
            asked: false,
            request: Some("{\"a\":1}".into()),
            response: Some("no\u{7}pe".into()),
            result: "reject".into(),
            reply: Some("550 5.7.1 no".into()),
            changes: vec!["on top: X: y".into()],
            error: None,
            elapsed_ms: 7,
        };
        assert_eq!(
            text_of(&tested),
            "call:\n{\n  \"a\": 1\n}\n\nanswer:\nno\\u{7}pe\n\nresult: reject after 7 ms, reply \
             550 5.7.1 no\nchange: on top: X: y\na session like this would not ask it: see its \
             stages and conditions\n"
        );
    }
}
