//! The newest lines of the log, and which lines are written.

use std::{sync::Arc, time::Duration};

use askama::{Template, filters::HtmlSafe};
use postrider_store::{Order, Time};

use super::super::{
    answer::{Answer, Trouble},
    asked::Asked,
    command::{self, AsCommand},
    form::{Faults, Fields},
    frame::Frame,
    list::{Links, Listing},
    live::{self, Live, Part, Shown},
    shown::{When, counted},
};
use crate::{
    AdminError, Code,
    op::logs::{Level, LevelItem, List, ListLevels, LogItem, ResetLevels, SetLevel},
};

#[derive(Template)]
#[template(path = "admin/watch/logs.html")]
struct Page {
    frame: Frame,
    level: String,
    module: String,
    text: String,
    queue: String,
    is_filtered: bool,
    /// The lines go on by themselves.
    live: Option<Live>,
    /// The lines stand still.
    still: Option<Lines>,
    /// The query of the page whose lines stand still, or go on.
    other: String,
    faults: Faults,
    levels: Vec<LevelRow>,
    /// The form for a level, as it was typed.
    typed: Fields,
    set_faults: Faults,
}

/// The lines that match.
#[derive(Template)]
#[template(path = "admin/watch/logs_lines.html")]
struct Lines {
    lines: Vec<Row>,
    links: Links,
    is_filtered: bool,
}

impl HtmlSafe for Lines {}

struct Row {
    line: LogItem,
    level: &'static str,
    /// The class of the level.
    class: &'static str,
    /// The exact time, to the millisecond.
    time: String,
}

struct LevelRow {
    item: LevelItem,
    about: String,
    until: When,
}

/// How often the lines go on.
const EVERY: Duration = Duration::from_secs(1);
/// The fields of the filter.
const FIELDS: [&str; 4] = ["level", "module", "text", "queue"];

/// The lines that match, newest first. Those of the first part go on by themselves.
pub(in super::super) async fn list(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let listing = Listing::new(&asked.query);
    let list = match wanted(&asked.query, &listing) {
        Ok(list) => list,
        Err(error) => {
            let mut page = page(&asked).await?;
            page.faults = Faults::of(&error);
            return Answer::again(&page);
        }
    };
    let command = command(&list);
    let is_still = asked.query.flag("pause") || asked.query.text("cursor").is_some();
    let (live, still) = match is_still {
        true => (None, Some(lines(&asked).await?)),
        false => match live::shown_of(&asked, live::Of::Log, EVERY, part).await? {
            Shown::Part(answer) => return Ok(answer),
            Shown::Page(live) => (Some(live), None),
        },
    };
    let mut page = page(&asked).await?;
    page.frame = page.frame.with(command);
    (page.live, page.still) = (live, still);
    Answer::page(&page)
}

async fn part(asked: Arc<Asked>) -> Result<Part, Trouble> {
    Part::new(&lines(&asked).await?)
}

async fn lines(asked: &Asked) -> Result<Lines, Trouble> {
    let listing = Listing::new(&asked.query);
    let list = wanted(&asked.query, &listing)?;
    let is_back = list.after.is_some();
    let mut found = asked.list(list).await?;
    if is_back {
        // The operation has the newest lines first.
        found.reverse();
        found.truncate(listing.limit());
    }
    let (lines, links) = listing.arrange(found, |line| line.id.to_string());
    Ok(Lines {
        lines: lines.into_iter().map(row).collect(),
        links,
        is_filtered: is_filtered(asked),
    })
}

fn is_filtered(asked: &Asked) -> bool {
    FIELDS.iter().any(|name| asked.query.text(name).is_some())
}

fn wanted(query: &Fields, listing: &Listing) -> Result<List, AdminError> {
    let text = |name| query.text(name).map(str::to_owned);
    let level = query.text("level").map(|name| {
        let unknown = || AdminError::invalid(format!("{name:?} is no level")).at("level");
        Level::named(name).ok_or_else(unknown)
    });
    let (key, limit) = (listing.after(), listing.limit());
    let is_forth = listing.order(Order::Descending) == Order::Descending;
    Ok(List {
        filter: text("text"),
        level: level.transpose()?,
        module: text("module"),
        queue: query.parsed("queue", "the number of a message")?,
        before: key.filter(|_| is_forth),
        after: key.filter(|_| !is_forth),
        // The operation has the newest lines first, so those just above a line come last.
        limit: is_forth.then_some(limit),
    })
}

/// The page without lines.
async fn page(asked: &Asked) -> Result<Page, Trouble> {
    let now = asked.now();
    let shown = |name| asked.query.shown(name).to_owned();
    let paused: &[(&str, &str)] = match asked.query.flag("pause") {
        true => &[],
        false => &[("pause", "1")],
    };
    let levels = asked.list(ListLevels {}).await?;
    Ok(Page {
        frame: asked.frame("Logs"),
        level: shown("level").to_lowercase(),
        module: shown("module"),
        text: shown("text"),
        queue: shown("queue"),
        is_filtered: is_filtered(asked),
        live: None,
        still: None,
        other: asked.query.query(&["cursor", "told", "pause"], paused),
        faults: Faults::default(),
        levels: levels.into_iter().map(|it| level_row(it, now)).collect(),
        typed: asked.form.clone(),
        set_faults: Faults::default(),
    })
}

fn command(list: &List) -> AsCommand {
    let level = list.level.map(|level| level_of(level).0.to_lowercase());
    let queue = list.queue.map(|queue| queue.to_string());
    let command = AsCommand::cli(["logs"])
        .option("--filter", list.filter.as_deref())
        .option("--level", level.as_deref())
        .option("--module", list.module.as_deref())
        .option("--queue", queue.as_deref());
    // The call has a text only.
    if level.is_some() || list.module.is_some() || queue.is_some() {
        return command;
    }
    let path = command::path("/api/logs", &[("filter", list.filter.as_deref())]);
    command.get(&path)
}

/// The word of a level, and its class.
const fn level_of(level: Level) -> (&'static str, &'static str) {
    match level {
        Level::Error => ("ERROR", "bad"),
        Level::Warn => ("WARN", "warn"),
        Level::Info => ("INFO", ""),
        Level::Debug => ("DEBUG", "soft"),
        Level::Trace => ("TRACE", "soft"),
    }
}

fn row(line: LogItem) -> Row {
    let (level, class) = level_of(line.level);
    let time = line.timestamp.parse::<jiff::Timestamp>();
    let time = time.map(|time| time.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string());
    Row {
        time: time.unwrap_or_else(|_| line.timestamp.clone()),
        level,
        class,
        line,
    }
}

fn level_row(item: LevelItem, now: Time) -> LevelRow {
    let about = match (item.module.as_deref(), &item.remote) {
        (Some(""), _) => "all other modules".to_owned(),
        (Some(module), _) => module.to_owned(),
        (None, remote) => format!("lines about {}", remote.as_deref().unwrap_or("hosts")),
    };
    LevelRow {
        about,
        until: When::maybe(item.until.as_ref(), now),
        item,
    }
}

/// Sets the level of a module or of remote hosts.
pub(in super::super) async fn set(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let form = &asked.form;
    let text = |name| form.text(name).map(str::to_owned);
    let remote = text("remote");
    let set = SetLevel {
        module: match &remote {
            Some(_) => text("set_module"),
            None => Some(text("set_module").unwrap_or_default()),
        },
        remote,
        level: text("set_level").unwrap_or_default(),
        lasts: text("for"),
    };
    let level = set.level.clone();
    match asked.run(set).await {
        Ok(()) => Ok(asked.done(format!("The level is {level} now."), "logs")),
        Err(error) if error.code == Code::Invalid => {
            let mut page = page(&asked).await?;
            page.still = Some(lines(&asked).await?);
            page.set_faults = Faults::of(&named(error));
            Answer::again(&page)
        }
        Err(error) => Err(error.into()),
    }
}

/// The form has two fields with names of their own, since the filter has them too.
fn named(mut error: AdminError) -> AdminError {
    let field = error.field.take().map(|field| match field.as_str() {
        "level" => "set_level".to_owned(),
        "module" => "set_module".to_owned(),
        _ => field,
    });
    error.field = field;
    error
}

/// Takes back the levels that were set.
pub(in super::super) async fn reset(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let reset = asked.run(ResetLevels {}).await?;
    let count = counted(reset.count as u64, "level is", "levels are");
    Ok(asked.done(format!("{count} taken back."), "logs"))
}
