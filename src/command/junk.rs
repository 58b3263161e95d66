//! `junk ...`: the junk filter.

mod messages;

use std::{
    fmt::Write as _,
    io::{self, Write},
    path::Path,
};

use anyhow::Context;
use postrider_admin::{
    Code,
    face::client::CallError,
    op::{
        junk::{
            Classified, Classify as ClassifyOp, Disposition, FilterItem, Reset, Status,
            Train as TrainOp, TrainMailbox,
        },
        queue::Piece,
    },
};

use super::{output::print, running::Running};
use crate::cli::{Classify, Junk, Train};

pub(super) fn run(server: &Running, command: Junk) -> anyhow::Result<()> {
    match command {
        Junk::Train(options) => train(server, options),
        Junk::Classify(options) => classify(server, options),
        Junk::Status { account, json } => {
            server.print_list(&Status { account }, json, "there is no filter", row)
        }
        Junk::Reset { account } => {
            let of = whose(account.as_deref());
            server.ask(&Reset { account })?;
            print(&format!("{of} has forgotten all words\n"))
        }
    }
}

/// A filter in words.
fn whose(account: Option<&str>) -> String {
    match account {
        Some(account) => format!("the junk filter of {account}"),
        None => "the server's own junk filter".to_owned(),
    }
}

fn row(out: &mut dyn Write, _: u64, item: &FilterItem) -> io::Result<()> {
    let name = match item.account.as_str() {
        "" => "(server)",
        account => account,
    };
    let FilterItem { spam, ham, .. } = item;
    writeln!(out, "{name:<20}  {spam} junk  {ham} not junk")
}

fn train(server: &Running, options: Train) -> anyhow::Result<()> {
    let junk = options.kind.spam;
    let kind = if junk { "junk" } else { "not junk" };
    if let (Some(account), Some(mailbox)) = (&options.account, options.mailbox) {
        let trained = server.ask(&TrainMailbox {
            account: account.clone(),
            mailbox,
            junk,
        })?;
        let before = match trained.mails - trained.learnt.min(trained.mails) {
            0 => String::new(),
            before => format!(", and {before} were learnt before"),
        };
        let learnt = messages(trained.learnt);
        return print(&format!("learnt {learnt} as {kind}{before}\n"));
    }
    let (mut learnt, mut empty) = (0, 0);
    let mut learn = |message: Vec<u8>| -> anyhow::Result<()> {
        let trained = server.ask(&TrainOp {
            account: options.account.clone(),
            junk,
            message: Piece(message),
        });
        match trained {
            Ok(()) => learnt += 1,
            Err(error) if has_no_words(&error) => empty += 1,
            Err(error) => return Err(error),
        }
        Ok(())
    };
    let read = match options.files.as_slice() {
        [] => messages::of_input(&mut learn),
        files => files.iter().try_for_each(|file| {
            let read = messages::of_path(file, &mut learn);
            read.with_context(|| format!("{} was not learnt as a whole", file.display()))
        }),
    };
    // What was learnt before an error stays learnt.
    read.with_context(|| format!("learnt {} as {kind} before", messages(learnt)))?;
    if learnt == 0 {
        anyhow::bail!("there is no message with words to learn from");
    }
    let without = match empty {
        0 => String::new(),
        empty => format!(", left out {empty} without words"),
    };
    print(&format!("learnt {} as {kind}{without}\n", messages(learnt)))
}

/// The server found no words in a message. The others may have some.
fn has_no_words(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<CallError>() {
        Some(CallError::Refused(error)) => {
            error.code == Code::Invalid && error.field.as_deref() == Some("message")
        }
        _ => false,
    }
}

fn messages(count: u64) -> String {
    match count {
        1 => "1 message".to_owned(),
        count => format!("{count} messages"),
    }
}

fn classify(server: &Running, options: Classify) -> anyhow::Result<()> {
    let mut message = None;
    let mut take = |read: Vec<u8>| {
        message.get_or_insert(read);
        Ok(())
    };
    match options.file.as_deref() {
        None => messages::of_input(&mut take)?,
        Some(file) if file == Path::new("-") => messages::of_input(&mut take)?,
        Some(file) => messages::of_file(file, &mut take)
            .with_context(|| format!("failed to read {}", file.display()))?,
    }
    let found = server.ask(&ClassifyOp {
        account: options.account,
        message: Piece(message.unwrap_or_default()),
        remote_ip: options.remote,
        helo: options.helo,
        tls: options.no_tls.then_some(false),
        mail_from: options.from,
        recipients: options.recipients,
    })?;
    match options.json {
        true => print(&format!("{}\n", serde_json::to_string(&found)?)),
        false => print(&shown(&found)),
    }
}

fn shown(found: &Classified) -> String {
    let becomes = match found.disposition {
        Disposition::Accept => "taken",
        Disposition::Junk => "junk",
        Disposition::Refuse => "refused",
    };
    let reason = match found.reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    let mut text = format!(
        "{becomes}{reason}\nscore {:.2} (5 or more is junk)\n",
        found.score
    );
    for (tag, score) in &found.tags {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {score:>6.2}  {tag}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_judgement_is_shown_with_what_each_finding_adds() {
        let found = Classified {
            disposition: Disposition::Junk,
            reason: "the words are those of junk".to_owned(),
            score: 8.25,
            tags: [("BAYES".to_owned(), 8.25), ("SPF_PASS".to_owned(), 0.0)].into(),
        };
        assert_eq!(
            shown(&found),
            "junk: the words are those of junk\nscore 8.25 (5 or more is junk)\n    8.25  BAYES\n    \
             0.00  SPF_PASS\n"
        );
    }
}
