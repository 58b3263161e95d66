//! `queue ...`: the queued messages. Their history, suppression, hold rules and webhook calls have
//! files of their own.

use std::io::{self, IsTerminal, Write};

use postrider_admin::op::{
    delivery::words::certificate_text,
    queue::{Dump, End, Ending, Explain, List, Modify, QueueItem},
    transcripts::TranscriptItem,
};
use postrider_store::{Change, NextAttempt, QueueFilter, QueueId};

use super::{
    destinations, history, hold_rules,
    output::{MessageOutput, count, or_null, print, print_json, until_closed},
    reports,
    running::Running,
    select::{bounds, bracketed, check_selection, next_attempt, now, oldest_first},
    stops, suppression, webhook,
};
use crate::cli::{Filter, Listing, Queue, Selection, TlsPolicy};

pub(super) fn run(server: &Running, command: Queue) -> anyhow::Result<()> {
    match command {
        Queue::List { filter, listing } => list(server, &filter, listing),
        Queue::Explain { id, json } => explain(server, id, json),
        Queue::Dump { id } => dump(server, id),
        Queue::Hold(which) => modify(server, &which, hold(true)),
        Queue::Release(which) => modify(server, &which, hold(false)),
        Queue::Kick(which) => modify(server, &which, attempt(now())),
        Queue::Schedule { when, which } => modify(server, &which, attempt(next_attempt(&when))),
        Queue::Transport { name, which } => modify(server, &which, transport(name)),
        Queue::Requiretls { policy, which } => modify(server, &which, require_tls(policy)),
        Queue::Fail(which) => end(server, &which, Ending::Failed),
        Queue::Drop(which) => end(server, &which, Ending::Canceled),
        Queue::Status { json } => stops::status(server, json),
        Queue::Stop { only } => stops::stop(server, only),
        Queue::Start { only } => stops::start(server, only),
        Queue::Destinations(command) => destinations::run(server, command),
        Queue::Retired(command) => history::run(server, command),
        Queue::Suppress(command) => suppression::run(server, command),
        Queue::HoldRules(command) => hold_rules::run(server, command),
        Queue::Reports(command) => reports::run(server, command),
        Queue::Webhook(command) => webhook::run(server, command),
    }
}

fn hold(hold: bool) -> Change {
    Change {
        hold: Some(hold),
        ..Change::default()
    }
}

fn attempt(next: NextAttempt) -> Change {
    Change {
        next_attempt: Some(next),
        ..Change::default()
    }
}

fn transport(name: String) -> Change {
    Change {
        transport: Some(name),
        ..Change::default()
    }
}

fn require_tls(policy: TlsPolicy) -> Change {
    let required = match policy {
        TlsPolicy::Yes => Some(true),
        TlsPolicy::No => Some(false),
        TlsPolicy::Default => None,
    };
    Change {
        require_tls: Some(required),
        ..Change::default()
    }
}

fn list(server: &Running, options: &Filter, listing: Listing) -> anyhow::Result<()> {
    let filter = filter(options);
    let none = match filter == QueueFilter::default() {
        true => "nothing is queued",
        false => "no queued message matches",
    };
    let list = List {
        filter,
        order: oldest_first(listing),
        limit: listing.limit,
    };
    server.print_list(&list, listing.json, none, row)
}

fn explain(server: &Running, id: u64, json: bool) -> anyhow::Result<()> {
    let explained = server.ask(&Explain { id: QueueId(id) })?;
    if json {
        return print_json(&explained);
    }
    let mut text = format!("message {id} {}\n", explained.state);
    explained
        .transcripts
        .iter()
        .for_each(|transcript| text += &transcript_text(transcript));
    print(&text)
}

/// What was said in an attempt.
fn transcript_text(transcript: &TranscriptItem) -> String {
    let remote = match transcript.remote.as_str() {
        "" => "no host",
        remote => remote,
    };
    let source = match transcript.source.as_str() {
        "" => String::new(),
        source => format!(" from {source}"),
    };
    let tls = match (&transcript.tls_version, &transcript.tls_cipher) {
        (Some(version), Some(cipher)) => format!("{version} {cipher}"),
        _ => "in clear".to_owned(),
    };
    let mut text = format!(
        "\nattempt of {}, with {remote}{source} as {}\n  TLS: {tls}, by the rule {}\n",
        transcript.start, transcript.ehlo, transcript.tls_rule
    );
    if let Some(certificate) = &transcript.certificate {
        text += &format!("  certificate: {}\n", certificate_text(certificate));
    }
    for line in &transcript.lines {
        let by = match line.by.as_str() {
            "client" => "C:",
            "server" => "S:",
            _ => "*",
        };
        text += &format!("  {:>8} {by:<2} {}\n", line.ms, line.text);
    }
    match transcript.left_out {
        0 => text,
        count => text + &format!("  ({count} lines behind the first ones are not kept)\n"),
    }
}

fn dump(server: &Running, id: u64) -> anyhow::Result<()> {
    let out = io::stdout().lock();
    let terminal = out.is_terminal();
    let mut out = MessageOutput::new(out, terminal);
    let written = server.call(&Dump { id: QueueId(id) }, |piece| out.add(&piece.0))?;
    let written = written.and_then(|()| out.end());
    Ok(until_closed(written)?)
}

fn modify(server: &Running, which: &Selection, change: Change) -> anyhow::Result<()> {
    let filter = selection(which)?;
    let attempt = change.next_attempt.is_some();
    let modified = server.ask(&Modify { filter, change })?;
    print(&format!("{} changed\n", messages(modified.changed)))?;
    match modified.held {
        held if held > 0 && attempt => {
            let them = if held == 1 { "it" } else { "them" };
            let held = messages(held);
            print(&format!(
                "{held} still held; \"queue release\" lets {them} go\n"
            ))
        }
        _ => Ok(()),
    }
}

fn end(server: &Running, which: &Selection, ending: Ending) -> anyhow::Result<()> {
    let filter = selection(which)?;
    let ended = server.ask(&End { filter, ending })?;
    let how = match ending {
        Ending::Failed => "failed",
        Ending::Canceled => "dropped",
    };
    print(&format!("{} {how}\n", messages(ended.ended)))?;
    match ended.in_delivery {
        0 => Ok(()),
        left => print(&format!(
            "left alone because it was in delivery, or was delivered meanwhile: {}\n",
            messages(left)
        )),
    }
}

fn messages(number: u64) -> String {
    count(number, "message", "messages")
}

fn selection(which: &Selection) -> anyhow::Result<QueueFilter> {
    let filter = filter(&which.filter);
    check_selection(
        filter == QueueFilter::default(),
        which.all,
        "messages, by a filter such as --ids 7 or --to @example.com",
    )?;
    Ok(filter)
}

fn filter(options: &Filter) -> QueueFilter {
    let (submitted_before, submitted_after) = bounds(options.submitted);
    let (next_attempt_before, next_attempt_after) = bounds(options.next_attempt);
    QueueFilter {
        ids: options.ids.iter().copied().map(QueueId).collect(),
        account: options.account.clone(),
        from: options.from.clone(),
        to: options.to.clone(),
        message_id: options.message_id.as_deref().map(bracketed),
        subject: options.subject.clone(),
        hold: options.hold,
        transport: options.transport.clone(),
        submitted_before,
        submitted_after,
        next_attempt_before,
        next_attempt_after,
    }
}

fn row(out: &mut dyn Write, number: u64, item: &QueueItem) -> io::Result<()> {
    if number == 0 {
        writeln!(
            out,
            "{:>8}  {:<30}  {:<30}  {:>8}  {:>3}",
            "id", "from", "to", "size", "try"
        )?;
    }
    writeln!(
        out,
        "{:>8}  {:<30}  {:<30}  {:>8}  {:>3}",
        item.id,
        or_null(&item.from),
        item.to,
        item.size,
        item.attempts
    )?;
    writeln!(out, "          {}", item.state)
}
