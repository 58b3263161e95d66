//! What happened to a message, as rows of its page.

use super::super::{
    super::{
        asked::Asked,
        form::query,
        shown::{When, counted},
    },
    events,
};
use crate::op::{
    details::DetailsItem,
    events::EventItem,
    messages::MessageItem,
    queue::AttemptItem,
    suppression::SuppressionItem,
    traces::TraceItem,
    transcripts::TranscriptItem,
    webhook::{HookItem, RetiredHookItem},
};

/// A row of what happened.
pub(super) struct Row {
    time: String,
    pub(super) when: When,
    pub(super) title: String,
    pub(super) class: &'static str,
    pub(super) text: String,
    /// Until when something is kept.
    pub(super) until: Option<When>,
    pub(super) transcript: Option<TranscriptItem>,
    /// The steps of a trace: when, and what.
    pub(super) steps: Vec<(When, String)>,
    /// The calls that tell of it.
    pub(super) calls: Vec<Call>,
    /// A page that does something about it: its path, and what it does.
    pub(super) link: Option<(String, &'static str)>,
}

/// A call of a webhook.
pub(super) struct Call {
    pub(super) id: u64,
    pub(super) class: &'static str,
    /// How it stands.
    pub(super) how: &'static str,
    /// The URL, the tries, and the last answer.
    pub(super) text: String,
    /// The next try. None: it ended.
    pub(super) next: Option<When>,
}

impl Call {
    fn new(call: &HookItem, ended: Option<bool>, asked: &Asked) -> Self {
        let last = call.results.last();
        let answer = last.map(|last| match (last.code, last.error.as_str()) {
            (0, error) => format!(", {error}"),
            (code, "") => format!(", answer {code}"),
            (code, error) => format!(", answer {code}: {error}"),
        });
        let (class, how) = match ended {
            Some(true) => ("good", "Told"),
            Some(false) => ("bad", "Given up"),
            None => ("warn", "Waits"),
        };
        let tries = counted(call.attempts, "try", "tries");
        Self {
            id: call.id,
            class,
            how,
            text: format!("{}, {tries}{}", call.url, answer.unwrap_or_default()),
            next: match ended {
                Some(_) => None,
                None => Some(When::new(&call.next_attempt, asked.now())),
            },
        }
    }
}

impl Row {
    fn new(time: &str, title: impl Into<String>, asked: &Asked) -> Self {
        Self {
            time: time.to_owned(),
            when: When::new(time, asked.now()),
            title: title.into(),
            class: "",
            text: String::new(),
            until: None,
            transcript: None,
            steps: Vec::new(),
            calls: Vec::new(),
            link: None,
        }
    }

    fn accepted(item: &MessageItem, details: &DetailsItem, asked: &Asked) -> Self {
        let account = &item.message.account;
        Self {
            text: format!("{}, account {account}", details.origin),
            ..Self::new(&item.message.created, "Accepted", asked)
        }
    }

    /// It left the queue.
    fn retired(ended: &str, until: &str, asked: &Asked) -> Self {
        Self {
            until: Some(When::new(until, asked.now())),
            ..Self::new(ended, "Retired: it left the queue", asked)
        }
    }

    fn attempt(attempt: &AttemptItem, transcripts: &[TranscriptItem], asked: &Asked) -> Self {
        let title = match attempt.success {
            true => "Taken",
            false => "Not taken",
        };
        let mut parts = Vec::new();
        if !attempt.remote.is_empty() {
            parts.push(format!("by {}", attempt.remote));
        }
        parts.push(attempt.reply());
        let mut transcripts = transcripts.iter();
        let transcript = transcripts.find(|it| it.start == attempt.start);
        Self {
            class: if attempt.success { "good" } else { "bad" },
            text: parts.join(": "),
            transcript: transcript.cloned(),
            ..Self::new(&attempt.start, title, asked)
        }
    }

    fn trace(trace: &TraceItem, asked: &Asked) -> Self {
        let title = match trace.kind.as_str() {
            "session" => "SMTP session",
            "attempt" => "Attempt, step by step",
            "webhook" => "Webhook call, step by step",
            _ => "API call",
        };
        let steps = trace.events.iter().map(|event| {
            let when = When::new(&event.created_at, asked.now());
            (when, event.details.clone())
        });
        Self {
            text: trace
                .events
                .first()
                .map(|event| event.details.clone())
                .unwrap_or_default(),
            steps: steps.collect(),
            ..Self::new(&trace.start, title, asked)
        }
    }

    fn event(event: &EventItem, asked: &Asked) -> Self {
        let code = match event.smtp_code {
            0 => String::new(),
            code => code.to_string(),
        };
        let parts = [code.as_str(), &event.smtp_enhanced_code, &event.error];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let mut notes = vec![parts.join(" ")];
        if event.dsn {
            notes.push("a DSN told it".to_owned());
        }
        if event.suppressing {
            notes.push("it suppressed the recipient".to_owned());
        }
        notes.retain(|note| !note.is_empty());
        Self {
            class: events::class(&event.event),
            text: notes.join("; "),
            ..Self::new(&event.time, format!("Event {}", event.event), asked)
        }
    }

    /// An event of which only a call is kept.
    fn called(call: &HookItem, asked: &Asked) -> Self {
        let title = format!("Event {}", call.event);
        Self {
            class: events::class(&call.event),
            ..Self::new(&call.submitted, title, asked)
        }
    }

    fn suppressed(entry: &SuppressionItem, asked: &Asked) -> Self {
        let remove = query([
            ("account", entry.account.as_str()),
            ("address", &entry.base_address),
            ("list", &entry.list),
        ]);
        Self {
            class: "bad",
            text: format!("{}: {}", entry.base_address, entry.reason),
            link: Some((
                format!("suppressions/remove?{remove}"),
                "Remove the suppression",
            )),
            ..Self::new(&entry.created, "The recipient is suppressed", asked)
        }
    }
}

/// What is known of a message.
pub(super) struct Known<'a> {
    pub(super) item: &'a MessageItem,
    pub(super) details: &'a DetailsItem,
    pub(super) suppression: Option<&'a SuppressionItem>,
    pub(super) traces: &'a [TraceItem],
    pub(super) events: &'a [EventItem],
}

impl Known<'_> {
    /// What happened, newest first.
    pub(super) fn rows(&self, asked: &Asked) -> Vec<Row> {
        let Self { item, details, .. } = self;
        let traces = self.traces.iter();
        let mut rows: Vec<Row> = traces.map(|trace| Row::trace(trace, asked)).collect();
        rows.push(Row::accepted(item, details, asked));
        let results = item.results.iter();
        rows.extend(results.map(|it| Row::attempt(it, &item.transcripts, asked)));
        let mut told = self.told(asked);
        rows.append(&mut told);
        let retired = details.retired.iter();
        rows.extend(retired.map(|(ended, until)| Row::retired(ended, until, asked)));
        let suppression = self.suppression.iter();
        rows.extend(suppression.map(|entry| Row::suppressed(entry, asked)));
        // Times have different numbers of digits, so they are parsed to be compared.
        rows.sort_by_key(|row| row.time.parse::<jiff::Timestamp>().ok());
        rows.reverse();
        rows
    }

    /// The events, each with its calls.
    fn told(&self, asked: &Asked) -> Vec<Row> {
        let events = self.events.iter();
        let mut rows: Vec<Row> = events.map(|event| Row::event(event, asked)).collect();
        let waiting = self.details.calls.iter().map(|call| (call, None));
        let past = self.details.past_calls.iter();
        let past = past.map(|RetiredHookItem { call, success, .. }| (call, Some(*success)));
        for (call, ended) in waiting.chain(past) {
            let row = Row::called(call, asked);
            let is_its = |known: &&mut Row| known.title == row.title && known.time == row.time;
            let call = Call::new(call, ended, asked);
            match rows.iter_mut().find(is_its) {
                Some(known) => known.calls.push(call),
                None => rows.push(Row {
                    calls: vec![call],
                    ..row
                }),
            }
        }
        rows
    }
}
