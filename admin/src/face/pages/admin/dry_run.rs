//! The way of a message to an address, without a message. The page is sent piece by piece: each
//! stage when it ends.

use std::{convert::Infallible, sync::Arc};

use askama::Template;
use axum::{
    body::{Body, Bytes},
    http::header::CONTENT_TYPE,
    response::IntoResponse,
};
use futures_util::stream;
use tokio::sync::mpsc;

use super::super::{
    answer::{Answer, Trouble, sentence},
    asked::{Asked, header_value},
    command::{self, AsCommand},
    form::Faults,
    frame::Frame,
};
use crate::{
    AdminError, Code,
    face::stages,
    op::delivery::{
        Check, StageItem,
        words::{
            certificate_text, details, plan_reason, plan_text, result_text, session_text, step_of,
        },
    },
};

/// Where the rows go.
const MARK: &str = "<!--rows-->";

#[derive(Template)]
#[template(path = "admin/watch/dry_run.html")]
struct Page {
    frame: Frame,
    to: String,
    from: String,
    source: String,
    timeout: String,
    faults: Faults,
    /// The page has the stages of a check.
    is_running: bool,
}

/// A row of the table.
#[derive(Template)]
#[template(path = "admin/watch/dry_run_row.html")]
struct Row {
    /// A host, an address, or the end: it stands over the whole width.
    heading: String,
    step: &'static str,
    verdict: &'static str,
    class: &'static str,
    took: String,
    text: String,
}

/// The form.
pub(in super::super) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    Answer::page(&page(&asked))
}

fn page(asked: &Asked) -> Page {
    // A link may name the address.
    let shown = |name| {
        let typed = asked.form.raw(name).or_else(|| asked.query.raw(name));
        typed.unwrap_or_default().to_owned()
    };
    Page {
        frame: asked.frame("Delivery to an address"),
        to: shown("to"),
        from: shown("from"),
        source: shown("source"),
        timeout: shown("timeout"),
        faults: Faults::default(),
        is_running: false,
    }
}

fn check(asked: &Asked) -> Result<Check, AdminError> {
    let form = &asked.form;
    Ok(Check {
        to: form.needed("to")?.to_owned(),
        from: form.text("from").unwrap_or_default().to_owned(),
        source: form.text("source").map(str::to_owned),
        timeout: form.parsed("timeout", "a number of seconds")?,
    })
}

fn command(check: &Check) -> AsCommand {
    let from = Some(check.from.as_str()).filter(|from| !from.is_empty());
    let timeout = check.timeout.map(|timeout| timeout.to_string());
    let options = [
        ("from", from),
        ("source", check.source.as_deref()),
        ("timeout", timeout.as_deref()),
    ];
    let command = AsCommand::cli(["delivery", "check", &check.to]);
    let command = options.iter().fold(command, |command, (name, value)| {
        command.option(&format!("--{name}"), *value)
    });
    let target: String = form_urlencoded::byte_serialize(check.to.as_bytes()).collect();
    let path = format!("/api/troubleshoot/delivery/{target}");
    command.get(&command::path(&path, &options))
}

/// Runs a check. It ends when the browser goes.
pub(in super::super) async fn run(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let mut page = page(&asked);
    let check = match check(&asked) {
        Ok(check) => check,
        Err(error) => {
            page.faults = Faults::of(&error);
            return Answer::again(&page);
        }
    };
    page.frame = page.frame.with(command(&check));
    let mut stages = stages::begin(check, asked.context.clone(), |_| true);
    let first = match stages.recv().await {
        Some(Err(error)) if error.code != Code::Internal => {
            page.faults = Faults::of(&error);
            return Answer::again(&page);
        }
        Some(Err(error)) => return Err(error.into()),
        first => first.and_then(Result::ok),
    };
    page.is_running = true;
    let html = page.render().map_err(AdminError::internal)?;
    let (head, tail) = html.split_once(MARK).unwrap_or((html.as_str(), ""));
    let head = format!("{head}{}", first.as_ref().map_or_else(String::new, row));
    let pieces = Pieces {
        head: Some(head),
        stages,
        tail: Some(tail.to_owned()),
    };
    let body = stream::unfold(pieces, |mut pieces| async move {
        let piece = pieces.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(piece)), pieces))
    });
    let kind = header_value("text/html; charset=utf-8");
    let body = ([(CONTENT_TYPE, kind)], Body::from_stream(body));
    Ok(Answer::Other(body.into_response()))
}

/// The pieces of the page.
struct Pieces {
    head: Option<String>,
    stages: mpsc::Receiver<Result<StageItem, AdminError>>,
    tail: Option<String>,
}

impl Pieces {
    async fn next(&mut self) -> Option<String> {
        if let Some(head) = self.head.take() {
            return Some(head);
        }
        match self.stages.recv().await {
            Some(Ok(stage)) => Some(row(&stage)),
            Some(Err(error)) => Some(rendered(&Row::heading(sentence(&error.text), "bad"))),
            None => self.tail.take(),
        }
    }
}

impl Row {
    fn heading(text: String, class: &'static str) -> Self {
        Self {
            heading: text,
            step: "",
            verdict: "",
            class,
            took: String::new(),
            text: String::new(),
        }
    }
}

fn rendered(row: &Row) -> String {
    row.render().unwrap_or_default()
}

/// The row of a stage; empty: it has none.
fn row(stage: &StageItem) -> String {
    if let Some(host) = &stage.hostname {
        return rendered(&Row::heading(format!("Host {host}"), ""));
    }
    if let Some(ip) = &stage.remote_ip {
        return rendered(&Row::heading(format!("Address {ip}"), ""));
    }
    if let Some(plan) = &stage.plan {
        let reason = plan_reason(plan).map(|reason| format!("; {reason}"));
        let text = format!("{}{}", plan_text(plan), reason.unwrap_or_default());
        return rendered(&Row::heading(sentence(&text), ""));
    }
    if let Some(session) = &stage.session {
        let certificate = session.certificate.as_ref().map(certificate_text);
        let certificate = certificate.map(|text| format!("; certificate: {text}"));
        let text = format!(
            "{}{}",
            session_text(session),
            certificate.unwrap_or_default()
        );
        return rendered(&Row::heading(sentence(&text), ""));
    }
    if let Some(result) = &stage.result {
        let class = match (result.ok, result.permanent) {
            (true, _) => "good",
            (false, true) => "bad",
            (false, false) => "warn",
        };
        return rendered(&Row::heading(sentence(&result_text(result)), class));
    }
    if stage.is_last() {
        let reason = stage.reason.as_deref().unwrap_or("the check has ended");
        return rendered(&Row::heading(sentence(reason), "bad"));
    }
    let Some((step, verdict)) = step_of(&stage.kind) else {
        return String::new();
    };
    rendered(&Row {
        heading: String::new(),
        step,
        verdict,
        class: match verdict {
            "ok" => "good",
            "error" => "bad",
            _ => "soft",
        },
        took: stage
            .elapsed
            .map_or_else(String::new, |took| format!("{took} ms")),
        text: details(stage),
    })
}
