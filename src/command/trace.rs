//! `trace ...`

use std::io::{self, Write};

use anyhow::bail;
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use postrider_admin::op::traces::{
    Follow, FollowItem, Stories, Story, StoryItem, TraceEvent, TraceItem,
};

use super::{
    desk::Desk,
    output::until_closed,
    running::Running,
    select::time_of,
    visible::{self, write_json},
};
use crate::cli::Trace;

/// The column of the name of a session.
const NAME_AT: usize = 63;
/// Events that are no steps of their own: what was said to a host.
const SAID: [&str; 2] = ["delivery.raw-output", "delivery.raw-input"];

/// Prints what happened. It fails if there is nothing.
pub(super) fn run(desk: &Desk, server: &Running, options: Trace) -> anyhow::Result<()> {
    let Trace {
        of,
        since,
        json,
        follow,
    } = options;
    let story = Story {
        of,
        since: since.map(time_of),
        sight: None,
    };
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let mut out = io::stdout().lock();
    if follow {
        let follow = Follow { story };
        let written = server.call(&follow, |item| {
            followed(&mut out, &item, json, today)?;
            out.flush()
        })?;
        return Ok(until_closed(written)?);
    }
    let stories = desk.ask(&story)?;
    if stories.stories.is_empty() {
        if json {
            until_closed(out.write_all(b"[\n]\n"))?;
        }
        bail!("{}", nothing(&story.of, stories.earliest.as_deref()));
    }
    let written = match json {
        true => write_stories(&mut out, &stories.stories),
        false => tell(&mut out, &stories, today),
    };
    Ok(until_closed(written.and_then(|()| out.flush()))?)
}

/// The sentence about nothing: how far back traces go.
fn nothing(of: &str, earliest: Option<&str>) -> String {
    match earliest {
        Some(earliest) => {
            format!("there is no trace of {of:?}; traces go back to {earliest}")
        }
        None => format!("there is no trace of {of:?}; no traces are kept yet"),
    }
}

fn write_stories(out: &mut impl Write, stories: &[StoryItem]) -> io::Result<()> {
    for (at, story) in stories.iter().enumerate() {
        out.write_all(if at == 0 { b"[\n" } else { b",\n" })?;
        write_json(&mut *out, story)?;
    }
    out.write_all(b"\n]\n")
}

fn followed(out: &mut impl Write, item: &FollowItem, json: bool, today: Date) -> io::Result<()> {
    match item {
        FollowItem::Stories(stories) if json => {
            for story in &stories.stories {
                for trace in &story.traces {
                    write_json(&mut *out, trace)?;
                    writeln!(out)?;
                }
            }
            Ok(())
        }
        FollowItem::Stories(stories) => tell(out, stories, today),
        FollowItem::Trace(trace) if json => {
            write_json(&mut *out, trace)?;
            writeln!(out)
        }
        FollowItem::Trace(trace) => trace_rows(out, &visible::value(trace)?, today),
        FollowItem::Lost(count) => {
            eprintln!("{count} traces were left out, because they were not taken in time");
            Ok(())
        }
    }
}

fn tell(out: &mut impl Write, stories: &Stories, today: Date) -> io::Result<()> {
    for (at, story) in stories.stories.iter().enumerate() {
        if at > 0 {
            writeln!(out)?;
        }
        let story = visible::value(story)?;
        writeln!(out, "{}", story.title)?;
        for trace in &story.traces {
            trace_rows(out, trace, today)?;
        }
    }
    if stories.more {
        writeln!(
            out,
            "\nthere are older ones; --since and --json show other parts"
        )?;
    }
    Ok(())
}

/// A trace: its first event with the time, and the others with the time since then.
fn trace_rows(out: &mut impl Write, trace: &TraceItem, today: Date) -> io::Result<()> {
    let name = match trace.session.is_empty() {
        true => format!("span {}", trace.id),
        false => trace.session.clone(),
    };
    let first = trace.events.first();
    let head = first.map_or(trace.kind.as_str(), |event| event.details.as_str());
    let line = format!("{}  {head}", clock(&trace.start, today));
    writeln!(out, "{line:<NAME_AT$} {name}")?;
    for event in trace.events.iter().skip(1) {
        let since = match SAID.contains(&event.kind.as_str()) {
            true => String::new(),
            false => format!("+{} ms", elapsed(&trace.start, event)),
        };
        writeln!(out, "{since:>9}  {}", event.details)?;
    }
    Ok(())
}

/// The time of the day in UTC, with the date if that is not today.
fn clock(time: &str, today: Date) -> String {
    let Ok(time) = time.parse::<Timestamp>() else {
        return time.to_owned();
    };
    let time = time.to_zoned(TimeZone::UTC);
    match time.date() == today {
        true => time.strftime("%H:%M:%S%.3f").to_string(),
        false => time.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
    }
}

/// Milliseconds from a start to an event.
fn elapsed(start: &str, event: &TraceEvent) -> i64 {
    let time = |text: &str| text.parse::<Timestamp>().map(Timestamp::as_millisecond);
    match (time(start), time(&event.created_at)) {
        (Ok(start), Ok(now)) => now - start,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn story() -> StoryItem {
        let event = |at: &str, kind: &str, details: &str| {
            json!({"text": "", "details": details, "createdAt": format!("2026-03-01T09:00:{at}Z"),
                "type": kind, "data": {}})
        };
        let trace = |id: u64, session: &str, start: &str, events: Vec<serde_json::Value>| {
            json!({"id": id, "kind": "attempt", "start": format!("2026-03-01T09:00:{start}Z"),
                "end": "", "session": session, "accounts": [], "queue_ids": [7301],
                "events": events})
        };
        let story = json!({
            "queue_id": 7301,
            "title": "message 7301 of account app, from app@sender.test: failed at attempt 1",
            "traces": [
                trace(1, "7h3kq0v9x2mc.1", "00.12", vec![
                    event("00.12", "postrider.api-start", "Send, from 192.0.2.10"),
                    event("00.123", "queue.queue-message", "queued as 7301, 1451 bytes"),
                ]),
                trace(51200881, "", "00.124", vec![
                    event("00.124", "delivery.attempt-start", "attempt 1, direct"),
                    event("00.125", "delivery.raw-input", "S: 550 5.1.1 gone\u{1b}"),
                    event("00.168", "delivery.failed", "failed: unknown_mailbox"),
                ]),
            ],
        });
        serde_json::from_value(story).unwrap()
    }

    fn told(today: &str) -> String {
        let stories = Stories {
            stories: vec![story()],
            ..Stories::default()
        };
        let mut out = Vec::new();
        tell(&mut out, &stories, today.parse().unwrap()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_story_is_told_by_time() {
        let lines = [
            "message 7301 of account app, from app@sender.test: failed at attempt 1".to_owned(),
            format!(
                "{:<64}{}",
                "09:00:00.120  Send, from 192.0.2.10", "7h3kq0v9x2mc.1"
            ),
            "    +3 ms  queued as 7301, 1451 bytes".to_owned(),
            format!(
                "{:<64}{}",
                "09:00:00.124  attempt 1, direct", "span 51200881"
            ),
            "           S: 550 5.1.1 gone\\u{1b}".to_owned(),
            "   +44 ms  failed: unknown_mailbox".to_owned(),
        ];
        assert_eq!(told("2026-03-01"), lines.join("\n") + "\n");
        assert!(told("2026-03-02").contains("\n2026-03-01 09:00:00.120  Send"));
    }

    #[test]
    fn nothing_tells_how_far_back_traces_go() {
        assert_eq!(
            nothing("a@b.test", Some("2026-03-01T09:00:00Z")),
            "there is no trace of \"a@b.test\"; traces go back to 2026-03-01T09:00:00Z"
        );
    }
}
