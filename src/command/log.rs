//! `logs` and `loglevel`.

use std::{
    io::{self, Write},
    thread::sleep,
    time::Duration,
};

use postrider_admin::op::logs::{
    Level, LevelItem, List, ListLevels, LogItem, ResetLevels, SetLevel,
};

use super::{
    Usage,
    output::{print, until_closed},
    running::Running,
    visible,
};
use crate::cli::{LogLevel, Logs, Severity};

/// How often `logs --follow` asks for new lines.
const PAUSE: Duration = Duration::from_millis(500);

/// Prints lines, the oldest first.
pub(super) fn show(server: &Running, options: Logs) -> anyhow::Result<()> {
    let last = List {
        limit: Some(1),
        ..List::default()
    };
    let last = newest(server, &last)?.first().map_or(0, |line| line.id);
    let mut list = List {
        filter: options.filter,
        level: options.level.map(severity),
        module: options.module,
        queue: options.queue,
        before: Some(last + 1),
        after: None,
        limit: Some(options.limit),
    };
    let mut lines = newest(server, &list)?;
    if options.json && !options.follow {
        return print(&format!("{}\n", serde_json::to_string_pretty(&lines)?));
    }
    // What comes from now on.
    (list.before, list.after, list.limit) = (None, Some(last), None);
    let mut out = io::stdout().lock();
    loop {
        for line in &lines {
            let written = match options.json {
                true => serde_json::to_writer(&mut out, line)
                    .map_err(io::Error::from)
                    .and_then(|()| out.write_all(b"\n")),
                false => write_line(&mut out, line),
            };
            if written.is_err() {
                return Ok(until_closed(written)?);
            }
            list.after = Some(line.id);
        }
        if !options.follow {
            return Ok(until_closed(out.flush())?);
        }
        out.flush()?;
        sleep(PAUSE);
        lines = newest(server, &list)?;
    }
}

const fn severity(severity: Severity) -> Level {
    match severity {
        Severity::Error => Level::Error,
        Severity::Warn => Level::Warn,
        Severity::Info => Level::Info,
        Severity::Debug => Level::Debug,
        Severity::Trace => Level::Trace,
    }
}

/// The lines of a list, the oldest first.
fn newest(server: &Running, list: &List) -> anyhow::Result<Vec<LogItem>> {
    let mut lines = Vec::new();
    server.call(list, |line| {
        lines.push(line);
        Ok(())
    })??;
    lines.reverse();
    Ok(lines)
}

fn write_line(out: &mut impl Write, line: &LogItem) -> io::Result<()> {
    let level = serde_json::to_value(line.level)?;
    let level = level.as_str().unwrap_or_default();
    writeln!(
        out,
        "{} {level} {}{}{}",
        line.timestamp,
        visible::lines(&line.event),
        if line.details.is_empty() { "" } else { "  " },
        visible::lines(&line.details)
    )
}

/// Shows or changes which lines are written.
pub(super) fn level(server: &Running, options: LogLevel) -> anyhow::Result<()> {
    if options.reset.is_some() {
        let reset = server.ask(&ResetLevels {})?;
        return print(&match reset.count {
            0 => "the configured levels hold already\n".to_owned(),
            1 => "one level is taken back\n".to_owned(),
            count => format!("{count} levels are taken back\n"),
        });
    }
    let Some(level) = options.level else {
        return server.print_list(&ListLevels {}, options.json, "nothing is written", row);
    };
    let set = set_level(&level, options.remote, options.lasts)?;
    server.ask(&set)?;
    let about = match (&set.remote, set.module.as_deref()) {
        (Some(remote), _) => format!("lines about {remote}"),
        (None, Some("") | None) => "all modules without a level of their own".to_owned(),
        (None, Some(module)) => module.to_owned(),
    };
    let lasts = match &set.lasts {
        Some(lasts) => format!("for {lasts}"),
        None => "until the server starts again".to_owned(),
    };
    print(&format!("{about}: {} {lasts}\n", set.level))
}

fn set_level(
    level: &str,
    remote: Option<String>,
    lasts: Option<String>,
) -> Result<SetLevel, Usage> {
    let (module, level) = match level.split_once('=') {
        Some(_) if remote.is_some() => {
            let text = "--remote takes a level alone, without a module";
            return Err(Usage::new(text.to_owned()));
        }
        Some((module, level)) => (Some(module.to_owned()), level),
        None => (remote.is_none().then(String::new), level),
    };
    Ok(SetLevel {
        module,
        remote,
        level: level.to_owned(),
        lasts,
    })
}

fn row(out: &mut dyn Write, _: u64, item: &LevelItem) -> io::Result<()> {
    let about = match (&item.remote, item.module.as_deref()) {
        (Some(remote), _) => format!("about {remote}"),
        (None, Some("") | None) => "all".to_owned(),
        (None, Some(module)) => module.to_owned(),
    };
    let origin = match (&item.until, item.configured) {
        (_, true) => "configured".to_owned(),
        (Some(until), _) => format!("until {until}"),
        (None, _) => "until the next start".to_owned(),
    };
    writeln!(out, "{:<5}  {about}  ({origin})", item.level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_for_a_module_for_a_network_or_for_all() {
        let about = |level: &str, remote: Option<&str>| {
            let set = set_level(level, remote.map(str::to_owned), None).ok()?;
            Some((set.module, set.remote, set.level))
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            about("queue=debug", None),
            Some((text("queue"), None, "debug".to_owned()))
        );
        assert_eq!(
            about("warn", None),
            Some((text(""), None, "warn".to_owned()))
        );
        assert_eq!(
            about("trace", Some("192.0.2.1")),
            Some((None, text("192.0.2.1"), "trace".to_owned()))
        );
        assert_eq!(about("queue=trace", Some("192.0.2.1")), None);
    }
}
