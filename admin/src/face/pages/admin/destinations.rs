//! Where mail goes: the sites with most messages, and one of them with what is wanted for it.

use std::{sync::Arc, time::Duration};

use askama::Template;
use axum::http::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::super::{
    answer::{Answer, Trouble},
    asked::Asked,
    command::AsCommand,
    confirm::Confirm,
    form::{Faults, Fields},
    frame::Frame,
    live::{self, Live, Part, Shown},
    shown::{Count, When},
};
use crate::{
    AdminError, Code,
    op::{
        board::{Board, GetBoard},
        destinations::{DestinationItem, Forget, Limit, List, Pause, Resume},
    },
};

/// How often a page shows what changed.
const EVERY: Duration = Duration::from_secs(2);

#[derive(Template)]
#[template(path = "admin/destinations.html")]
struct Page {
    frame: Frame,
    live: Live,
    failing: bool,
}

#[derive(Template)]
#[template(path = "admin/destinations_part.html")]
struct Sites {
    frame: Frame,
    rows: Vec<Row>,
    others: u64,
    others_waiting: u64,
    has_others: bool,
    is_counting: bool,
    failing: bool,
}

/// A site as a row.
struct Row {
    site: DestinationItem,
    /// Its page.
    path: String,
    /// What people know it by.
    name: String,
    queued: Count,
    held: Count,
    due: Count,
    oldest: When,
    until: When,
    /// The share of the messages of the last hour that were not delivered.
    failed: String,
    class: &'static str,
    error_time: When,
    delivered: Count,
    deferred: Count,
    ended: Count,
    last_success: When,
}

impl Row {
    fn new(site: DestinationItem, asked: &Asked) -> Self {
        let now = asked.now();
        let hour = site.hour;
        let bad = hour.deferred + hour.failed;
        let all = hour.delivered + bad;
        let failed = match all {
            0 => String::new(),
            _ => format!("{} % of {all}", bad * 100 / all),
        };
        let name = site.domains.first().unwrap_or(&site.site).clone();
        let error = site.last_error.as_ref().map(|error| error.time.clone());
        Self {
            path: path(&site.site),
            name,
            queued: Count(site.waiting + site.in_flight),
            held: Count(site.held),
            due: Count(site.due),
            oldest: When::maybe(site.oldest.as_ref(), now),
            until: When::maybe(site.until.as_ref(), now),
            failed,
            class: match site.state.as_str() {
                "active" => "good",
                "limited" => "",
                "paused" => "warn",
                _ => "bad",
            },
            error_time: When::maybe(error.as_ref(), now),
            delivered: Count(hour.delivered),
            deferred: Count(hour.deferred),
            ended: Count(hour.failed),
            last_success: When::maybe(site.last_success.as_ref(), now),
            site,
        }
    }
}

/// The path of a site's page within the area.
fn path(site: &str) -> String {
    let site = utf8_percent_encode(site, NON_ALPHANUMERIC);
    format!("queue/destinations/{site}")
}

async fn part(asked: Arc<Asked>) -> Result<Part, Trouble> {
    let failing = asked.query.flag("failing");
    let Board {
        sites,
        others,
        others_waiting,
        is_counting,
    } = asked.run(GetBoard { failing }).await?;
    let rows = sites.into_iter().map(|site| Row::new(site, &asked));
    Part::new(&Sites {
        rows: rows.collect(),
        frame: asked.frame("Destinations"),
        others,
        others_waiting,
        has_others: others > 0,
        is_counting,
        failing,
    })
}

/// The sites.
pub(in super::super) async fn list(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let live = match live::shown(&asked, EVERY, part).await? {
        Shown::Part(answer) => return Ok(answer),
        Shown::Page(live) => live,
    };
    let failing = asked.query.flag("failing");
    let mut frame = asked.frame("Destinations");
    // Command and call list all.
    if !failing {
        let command = AsCommand::cli(["queue", "destinations"]);
        frame = frame.with(command.get("/api/queue/destinations"));
    }
    Answer::page(&Page {
        frame,
        live,
        failing,
    })
}

#[derive(Template)]
#[template(path = "admin/destination.html")]
struct One {
    frame: Frame,
    live: Live,
    name: String,
    path: String,
    domains: Vec<String>,
    transports: Vec<String>,
    fields: Fields,
    faults: Faults,
}

#[derive(Template)]
#[template(path = "admin/destination_part.html")]
struct Details {
    row: Row,
    orders: Vec<(crate::op::destinations::DestinationOrder, When, When)>,
}

async fn site(asked: &Asked) -> Result<DestinationItem, Trouble> {
    let target = asked.element(0).to_owned();
    let missing = || AdminError::not_found(format!("no destination {target:?} is known"));
    let target = Some(target.clone());
    let sites = match asked.list(List { target }).await {
        Err(error) if error.code == Code::Invalid => return Err(missing().into()),
        sites => sites?,
    };
    sites.into_iter().next().ok_or_else(|| missing().into())
}

async fn details(asked: Arc<Asked>) -> Result<Part, Trouble> {
    let site = site(&asked).await?;
    let now = asked.now();
    let orders = site.orders.iter().cloned().map(|order| {
        let (since, until) = (&order.since, order.until.as_ref());
        let times = (When::new(since, now), When::maybe(until, now));
        (order, times.0, times.1)
    });
    let orders = orders.collect();
    Part::new(&Details {
        orders,
        row: Row::new(site, &asked),
    })
}

async fn page(asked: &Arc<Asked>, live: Live, faults: Faults) -> Result<One, Trouble> {
    let site = site(asked).await?;
    let command = AsCommand::cli(["queue", "destinations", &site.site]).get(&call(&site.site, ""));
    Ok(One {
        frame: asked
            .frame(&format!("Destination {}", site.site))
            .with(command),
        live,
        path: path(&site.site),
        name: site.site,
        domains: site.domains,
        transports: asked.context.statics.transports.keys().cloned().collect(),
        fields: asked.form.clone(),
        faults,
    })
}

/// One site.
pub(in super::super) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    match live::shown(&asked, EVERY, details).await? {
        Shown::Part(answer) => Ok(answer),
        Shown::Page(live) => Answer::page(&page(&asked, live, Faults::default()).await?),
    }
}

/// The path of a call about a site.
fn call(site: &str, what: &str) -> String {
    let site = utf8_percent_encode(site, NON_ALPHANUMERIC);
    let slash = if what.is_empty() { "" } else { "/" };
    format!("/api/queue/destinations/{site}{slash}{what}")
}

/// Does what a form of a site's page wants.
pub(in super::super) async fn act(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let form = &asked.form;
    let target = site(&asked).await?.site;
    let text = |name: &str| form.text(name).map(str::to_owned);
    let reason = text("reason").unwrap_or_default();
    let lasts = text("for");
    let (done, told) = match form.text("do") {
        Some("pause") => {
            let target = target.clone();
            let pause = Pause {
                target,
                lasts,
                reason,
            };
            (asked.run(pause).await, "Deliveries there are paused.")
        }
        Some("resume") => {
            let target = target.clone();
            let told = "Deliveries there go on. A halted site is tried with a message.";
            (asked.run(Resume { target }).await, told)
        }
        Some("limit") => {
            let limit = async {
                let limit = Limit {
                    target: target.clone(),
                    connections: form.parsed("connections", "a number")?,
                    rate: text("rate"),
                    lasts,
                    reason,
                };
                asked.run(limit).await
            };
            (limit.await, "The limit is set as given.")
        }
        Some("forget") => {
            if form.text("sure").is_none() {
                return Answer::page(&ask_forget(&asked, &target));
            }
            let target = target.clone();
            let forgotten = asked.run(Forget { target }).await.map(|_| ());
            (forgotten, "What was learnt of it is forgotten.")
        }
        _ => return Err(AdminError::invalid("choose what to do").into()),
    };
    match done {
        Ok(()) => Ok(asked.done(told, &path(&target))),
        Err(error) if error.code == Code::Invalid => {
            let part = details(Arc::clone(&asked)).await?;
            let live = live::still(&asked, part);
            let page = page(&asked, live, Faults::of(&error)).await?;
            Answer::with(StatusCode::UNPROCESSABLE_ENTITY, &page)
        }
        Err(error) => Err(error.into()),
    }
}

fn ask_forget(asked: &Asked, target: &str) -> Confirm {
    let command = AsCommand::cli(["queue", "destinations", "forget", target]).call(
        &Method::PATCH,
        &call(target, "forget"),
        None,
    );
    let action = asked.url(&path(target));
    let mut ask = Confirm::new(
        asked,
        "Forget what was learnt?",
        "Forget it",
        &action,
    )
    .effect("Its state, how many connections it takes, and what was used up of its rates start anew.")
    .effect("Pauses and limits stay.")
    .back(action.clone())
    .command(command);
    ask.fields.push(("do".to_owned(), "forget".to_owned()));
    ask.fields.push(("sure".to_owned(), "1".to_owned()));
    ask
}
