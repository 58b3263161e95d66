//! What became of a message, step by step, for people.

use askama::Template;

use super::super::{asked::Asked, shown::When};
use crate::op::inbox::{Happened, InboxMessage};

/// What happened, for people.
#[derive(Template)]
#[template(path = "inbox/happened.html")]
pub(super) struct Story {
    /// Newest first.
    steps: Vec<Step>,
    /// Why it is where it is.
    state: String,
    pub(super) over: bool,
}

/// Something that happened.
struct Step {
    at: String,
    when: When,
    title: String,
    tone: &'static str,
    lines: Vec<String>,
    /// What unfolds.
    details: Vec<String>,
}

impl Story {
    pub(super) fn new(asked: &Asked, message: &InboxMessage, happened: Happened) -> Self {
        let mut steps = Vec::new();
        let mut step = |at: &str, tone: &'static str, title: String, lines: Vec<String>| {
            steps.push(Step {
                at: at.to_owned(),
                when: When::new(at, asked.now()),
                title,
                tone,
                lines: lines.into_iter().filter(|line| !line.is_empty()).collect(),
                details: Vec::new(),
            });
        };
        let mut state = String::new();
        match &happened.message {
            Some(sent) => {
                let it = &sent.message;
                let lines = vec![
                    format!("from {} to {}", or_null(&it.from), it.to),
                    format!("account {}", it.account),
                ];
                step(&it.created, "", "Accepted for delivery".to_owned(), lines);
                for result in &sent.results {
                    let title = match (result.success, result.code) {
                        (true, _) => "Attempt: delivered".to_owned(),
                        (false, 0) => "Attempt: failed".to_owned(),
                        (false, code) => format!("Attempt: {code} {}", result.enhanced_code),
                    };
                    let tone = if result.success { "good" } else { "bad" };
                    let remote = match result.remote.is_empty() {
                        true => String::new(),
                        false => format!("at {}", result.remote),
                    };
                    step(
                        &result.start,
                        tone,
                        title,
                        vec![result.text.clone(), remote],
                    );
                }
                state = format!("The message {}.", it.state);
                if let Some(next) = sent.next_retry.as_ref().filter(|_| !sent.stage.is_end()) {
                    state.push_str(&format!(" The next attempt is at {next}."));
                }
            }
            None => {
                let ip = match message.remote_ip.is_empty() {
                    true => String::new(),
                    false => format!("from the client {}", message.remote_ip),
                };
                let lines = vec![
                    format!(
                        "from {} to {}",
                        or_null(&message.mail_from),
                        message.rcpt_to
                    ),
                    ip,
                ];
                step(&message.row.time, "", "Came in".to_owned(), lines);
            }
        }
        for event in &happened.events {
            let tone = match event.event.as_str() {
                "delivered" | "relayed" => "good",
                "delayed" => "warn",
                "failed" | "suppressed" | "complained" => "bad",
                _ => "",
            };
            let code = match event.code {
                0 => String::new(),
                code => format!("{code} {}", event.enhanced_code),
            };
            let suppressing = match event.suppressing {
                true => "The recipient is on the suppression list now.".to_owned(),
                false => String::new(),
            };
            let lines = vec![code, event.error.clone(), suppressing];
            step(&event.time, tone, format!("Event {}", event.event), lines);
        }
        let ended = happened.ended_calls.iter().map(|ended| &ended.call);
        for call in happened.calls.iter().chain(ended) {
            let about = format!("for the event {}", call.event);
            for result in &call.results {
                let (tone, title) = match (result.success, result.code) {
                    (true, code) => ("good", format!("Webhook: {code}")),
                    (false, 0) => ("bad", "Webhook: no answer".to_owned()),
                    (false, code) => ("bad", format!("Webhook: {code}")),
                };
                let lines = vec![
                    call.url.clone(),
                    about.clone(),
                    format!("took {} ms", result.duration_ms),
                    result.error.clone(),
                    result.response.clone(),
                ];
                step(&result.start, tone, title, lines);
            }
        }
        for call in &happened.calls {
            let lines = vec![call.url.clone(), format!("for the event {}", call.event)];
            step(
                &call.next_attempt,
                "warn",
                "Webhook will be called".to_owned(),
                lines,
            );
        }
        for trace in happened.stories.iter().flat_map(|story| &story.traces) {
            let title = match trace.kind.as_str() {
                "session" => "Session",
                "attempt" => "Attempt, step by step",
                "webhook" => "Webhook, step by step",
                _ => "Call of the API",
            };
            let events = trace.events.iter();
            steps.push(Step {
                at: trace.start.clone(),
                when: When::new(&trace.start, asked.now()),
                title: title.to_owned(),
                tone: "",
                lines: Vec::new(),
                details: events
                    .map(|event| format!("{} {}: {}", event.created_at, event.text, event.details))
                    .collect(),
            });
        }
        let time = |step: &Step| step.at.parse::<jiff::Timestamp>().ok();
        steps.sort_by_key(|step| std::cmp::Reverse(time(step)));
        Self {
            steps,
            state,
            over: happened.over,
        }
    }
}

/// A reverse-path for people.
fn or_null(path: &str) -> &str {
    match path {
        "" => "<>",
        path => path,
    }
}
