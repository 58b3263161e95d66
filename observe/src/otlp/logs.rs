//! Lines of the log, for `/v1/logs`. The text of a line is the body, and its fields are attributes.

use std::{collections::BTreeMap, sync::Arc};

use opentelemetry_proto::tonic::{
    collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse},
    common::v1::{AnyValue, InstrumentationScope, any_value::Value as Any},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber},
};
use prost::Message;

use super::{Frames, attribute, nanos, number};
use crate::log::{Level, Line, Value, part};

impl Frames {
    /// The frame with these lines of the log.
    #[must_use]
    pub fn logs(&self, lines: &[Arc<Line>]) -> Vec<u8> {
        let mut scopes: BTreeMap<String, Vec<LogRecord>> = BTreeMap::new();
        for line in lines {
            scopes
                .entry(part(&line.target))
                .or_default()
                .push(record(line));
        }
        let scopes = scopes.into_iter().map(|(name, log_records)| ScopeLogs {
            scope: Some(InstrumentationScope {
                name,
                ..InstrumentationScope::default()
            }),
            log_records,
            ..ScopeLogs::default()
        });
        let request = ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                resource: Some(self.resource.clone()),
                scope_logs: scopes.collect(),
                ..ResourceLogs::default()
            }],
        };
        request.encode_to_vec()
    }
}

/// How many lines of a frame the collector did not take, by its answer. An answer that can't be
/// read says nothing of that.
#[must_use]
pub fn rejected_lines(answer: &[u8]) -> u64 {
    let answer = ExportLogsServiceResponse::decode(answer).unwrap_or_default();
    let rejected = answer.partial_success.map(|part| part.rejected_log_records);
    rejected
        .and_then(|count| u64::try_from(count).ok())
        .unwrap_or(0)
}

fn record(line: &Line) -> LogRecord {
    let nanos = nanos(line.micros);
    let fields = line.fields.iter().map(|(name, value)| {
        let value = match value {
            Value::Text(text) => Any::StringValue(text.to_string()),
            Value::Signed(number) => Any::IntValue(*number),
            Value::Unsigned(value) => number(*value),
            Value::Float(number) => Any::DoubleValue(*number),
            Value::Flag(flag) => Any::BoolValue(*flag),
        };
        attribute(name, value)
    });
    LogRecord {
        time_unix_nano: nanos,
        observed_time_unix_nano: nanos,
        severity_number: severity(line.level).into(),
        severity_text: line.level.name().to_owned(),
        body: Some(AnyValue {
            value: Some(Any::StringValue(line.message.clone())),
        }),
        attributes: fields.collect(),
        ..LogRecord::default()
    }
}

const fn severity(level: Level) -> SeverityNumber {
    match level {
        Level::Error => SeverityNumber::Error,
        Level::Warn => SeverityNumber::Warn,
        Level::Info => SeverityNumber::Info,
        Level::Debug => SeverityNumber::Debug,
        Level::Trace => SeverityNumber::Trace,
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsPartialSuccess;

    use super::*;

    #[test]
    fn a_line_is_a_record_with_attributes() {
        let line = |level, target: &'static str, fields| {
            Arc::new(Line {
                micros: 1_772_355_600_123_456,
                level,
                target: target.into(),
                message: "accepted".to_owned(),
                event: None,
                fields,
            })
        };
        let lines = [
            line(
                Level::Info,
                "postrider_queue::add",
                vec![
                    ("to", Value::Text("a@b.test".into())),
                    ("queue", Value::Unsigned(7301)),
                    ("large", Value::Unsigned(u64::MAX)),
                    ("left", Value::Signed(-1)),
                    ("share", Value::Float(0.5)),
                    ("tls", Value::Flag(true)),
                ],
            ),
            line(Level::Trace, "postrider_smtp", vec![]),
            line(Level::Error, "postrider_queue::add", vec![]),
        ];
        let frame = Frames::new("mail.example.org", "1.2.3").logs(&lines);
        let request = ExportLogsServiceRequest::decode(frame.as_slice()).unwrap();
        let [logs] = request.resource_logs.as_slice() else {
            panic!("{request:?}");
        };
        let resource = &logs.resource.as_ref().unwrap().attributes;
        assert_eq!(
            resource[0],
            attribute("service.name", Any::StringValue("postrider".into()))
        );
        let scopes: Vec<(&str, usize)> = { logs.scope_logs.iter() }
            .map(|it| (&*it.scope.as_ref().unwrap().name, it.log_records.len()))
            .collect();
        assert_eq!(scopes, [("postrider.queue.add", 2), ("postrider.smtp", 1)]);
        let first = &logs.scope_logs[0].log_records[0];
        assert_eq!(first.time_unix_nano, 1_772_355_600_123_456_000);
        assert_eq!((first.severity_number, &*first.severity_text), (9, "INFO"));
        let text = |text: &str| Any::StringValue(text.to_owned());
        assert_eq!(first.body.as_ref().unwrap().value, Some(text("accepted")));
        let expected = [
            ("to", text("a@b.test")),
            ("queue", Any::IntValue(7301)),
            ("large", text("18446744073709551615")),
            ("left", Any::IntValue(-1)),
            ("share", Any::DoubleValue(0.5)),
            ("tls", Any::BoolValue(true)),
        ];
        let expected = expected.map(|(key, value)| attribute(key, value));
        assert_eq!(first.attributes, expected);
    }

    #[test]
    fn the_collector_says_what_it_did_not_take() {
        let answer = ExportLogsServiceResponse {
            partial_success: Some(ExportLogsPartialSuccess {
                rejected_log_records: 3,
                error_message: "too old".to_owned(),
            }),
        };
        assert_eq!(rejected_lines(&answer.encode_to_vec()), 3);
        assert_eq!(rejected_lines(b""), 0);
        assert_eq!(rejected_lines(b"<html>"), 0);
    }
}
