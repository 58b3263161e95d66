//! The first page: what needs attention, and how much there is of everything.

use std::{fmt::Write, sync::Arc, time::Duration};

use askama::Template;
use axum::http::Method;
use postrider_store::Work;

use super::super::{
    answer::{Answer, Trouble},
    asked::Asked,
    command::AsCommand,
    confirm::Confirm,
    frame::Frame,
    live::{self, Live, Part, Shown},
    shown::{Count, When, counted},
};
use crate::{
    face::path::segment,
    op::{
        overview::{Attention, Day, Figures, GetAttention, GetDay, GetFigures},
        stops::{GetStatus, Start, Stop},
    },
};

/// How often the page shows what changed.
const EVERY: Duration = Duration::from_secs(2);
/// Width and height of a plot.
const PLOT: (f64, f64) = (480.0, 64.0);

#[derive(Template)]
#[template(path = "admin/overview.html")]
struct Overview {
    frame: Frame,
    live: Live,
}

/// The part that changes. Its buttons are of forms that stand outside of it.
#[derive(Template)]
#[template(path = "admin/overview_part.html")]
struct Now {
    frame: Frame,
    attention: Vec<Item>,
    queued: Count,
    held: Count,
    due: Option<Count>,
    in_flight: Count,
    oldest: When,
    calls: Count,
    delivered: Count,
    not_delivered: Count,
    plots: Vec<Plot>,
    /// Deliveries are made.
    deliveries: bool,
    /// Webhooks are called.
    webhooks: bool,
}

/// Something that needs attention.
struct Item {
    attention: Attention,
    when: When,
    /// The page that tells more, and what a link to it says.
    link: (String, &'static str),
}

/// A line over the last day.
struct Plot {
    title: &'static str,
    /// The figures in words.
    told: String,
    /// The points of the line.
    points: String,
}

/// The page that tells more of something: its path and its name.
fn link(attention: &Attention) -> (String, &'static str) {
    let (path, name) = match attention.about.as_str() {
        "hold_rules" => ("hold-rules", "Hold rules"),
        "held" => ("queue?chip=held", "Held messages"),
        "destinations" => ("queue/destinations?failing=1", "Destinations"),
        "webhooks" => ("webhooks", "Webhooks"),
        "hooks" => ("logs", "Log"),
        "config" => ("config", "Configuration"),
        "stopped" => ("queue", "Queue"),
        "dns" if !attention.domain.is_empty() => {
            let path = format!("domains/{}/dns", segment(&attention.domain));
            return (path, "Its records");
        }
        _ => ("check", "Is it set up rightly?"),
    };
    (path.to_owned(), name)
}

fn plot(title: &'static str, one: &str, many: &str, values: &[u64]) -> Plot {
    let max = values.iter().copied().max().unwrap_or_default();
    let step = PLOT.0 / (values.len().max(2) - 1) as f64;
    let mut points = String::new();
    for (at, value) in values.iter().enumerate() {
        let share = *value as f64 / max.max(1) as f64;
        let (x, y) = (at as f64 * step, PLOT.1 - 2.0 - share * (PLOT.1 - 4.0));
        let _ = write!(points, "{x:.0},{y:.1} ");
    }
    let last = values.last().copied().unwrap_or_default();
    Plot {
        title,
        told: format!(
            "At most {} in half an hour, {} in the last one.",
            counted(max, one, many),
            counted(last, one, many)
        ),
        points: points.trim_end().to_owned(),
    }
}

fn plots(day: &Day) -> Vec<Plot> {
    let parts = day.parts.iter();
    let values = |value: fn(&crate::op::overview::DayPart) -> u64| -> Vec<u64> {
        parts.clone().map(value).collect()
    };
    let delivered = values(|part| part.delivered);
    let not_delivered = values(|part| part.not_delivered);
    vec![
        plot("Delivered", "message", "messages", &delivered),
        plot("Not delivered", "message", "messages", &not_delivered),
    ]
}

async fn part(asked: Arc<Asked>) -> Result<Part, Trouble> {
    let figures: Figures = asked.run(GetFigures {}).await?;
    let attention = asked.run(GetAttention {}).await?;
    let day = asked.run(GetDay {}).await?;
    let status = asked.run(GetStatus {}).await?;
    let now = asked.now();
    let item = |attention: Attention| Item {
        when: When::maybe(attention.time.as_ref(), now),
        link: link(&attention),
        attention,
    };
    Part::new(&Now {
        frame: asked.frame("Overview"),
        attention: attention.into_iter().map(item).collect(),
        queued: Count(figures.queued),
        held: Count(figures.held),
        due: figures.due.map(Count),
        in_flight: Count(figures.in_flight),
        oldest: When::maybe(figures.oldest.as_ref(), now),
        calls: Count(figures.calls),
        delivered: Count(day.delivered),
        not_delivered: Count(day.not_delivered),
        plots: plots(&day),
        deliveries: status.deliveries,
        webhooks: status.webhooks,
    })
}

pub(in super::super) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let live = match live::shown(&asked, EVERY, part).await? {
        Shown::Part(answer) => return Ok(answer),
        Shown::Page(live) => live,
    };
    let command = AsCommand::cli(["queue", "status"]).get("/api/queue/status");
    Answer::page(&Overview {
        frame: asked.frame("Overview").with(command),
        live,
    })
}

/// The work that a form names, and its name.
fn work(asked: &Asked) -> Result<(Work, &'static str), Trouble> {
    match asked.element(0) {
        "deliveries" => Ok((Work::Deliveries, "deliveries")),
        "webhooks" => Ok((Work::Webhooks, "webhooks")),
        _ => Err(Trouble::NoPage),
    }
}

/// The command that stops or starts work.
fn command(verb: &str, name: &str) -> AsCommand {
    let command = AsCommand::cli(["queue", verb, "--only", name]);
    match name {
        "deliveries" => command.call(&Method::PATCH, &format!("/api/queue/status/{verb}"), None),
        _ => command,
    }
}

/// Asks before work is stopped.
pub(in super::super) async fn ask_stop(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let (work, name) = work(&asked)?;
    let question = match work {
        Work::Deliveries => "Stop all deliveries?",
        Work::Webhooks => "Stop all calls of webhooks?",
    };
    let action = asked.url(&format!("queue/stop/{name}"));
    let confirm = Confirm::new(&asked, question, "Stop", &action)
        .effect("What goes on comes to its end. Nothing else begins, also after a restart.")
        .effect("The server accepts messages as before. They wait.")
        .command(command("stop", name));
    Answer::page(&confirm)
}

/// Stops work.
pub(in super::super) async fn stop(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let (work, name) = work(&asked)?;
    asked.run(Stop { only: Some(work) }).await?;
    Ok(asked.done(format!("The {name} are stopped."), ""))
}

/// Lets work go on.
pub(in super::super) async fn start(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let (work, name) = work(&asked)?;
    asked.run(Start { only: Some(work) }).await?;
    Ok(asked.done(format!("The {name} go on."), ""))
}
