//! The log and traces as OTLP has them (OpenTelemetry protocol 1.x, binary protobuf).
//!
//! Nothing here sends: the frames are bytes, for requests to `/v1/logs` and `/v1/traces`.

mod logs;
mod traces;

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value as Any},
    resource::v1::Resource,
};

pub use self::{
    logs::rejected_lines,
    traces::{TraceFrame, TraceFrames, rejected_spans},
};

/// The content type of frames and of their answers.
pub const CONTENT_TYPE: &str = "application/x-protobuf";

/// Makes frames for one server.
#[derive(Clone, Debug)]
pub struct Frames {
    /// The name of the server.
    host: String,
    resource: Resource,
}

impl Frames {
    /// Frames of the server of this name, in this version.
    #[must_use]
    pub fn new(host: &str, version: &str) -> Self {
        // The names of the semantic conventions of OpenTelemetry.
        let attributes = [
            ("service.name", "postrider"),
            ("service.version", version),
            ("service.instance.id", host),
            ("host.name", host),
        ];
        let attributes =
            attributes.map(|(key, text)| attribute(key, Any::StringValue(text.into())));
        Self {
            host: host.to_owned(),
            resource: Resource {
                attributes: attributes.into(),
                ..Resource::default()
            },
        }
    }
}

/// A time in nanoseconds since 1970.
fn nanos(micros: i64) -> u64 {
    u64::try_from(micros).unwrap_or(0).saturating_mul(1000)
}

/// A number as OTLP has it. It has no larger ones.
fn number(number: u64) -> Any {
    match i64::try_from(number) {
        Ok(number) => Any::IntValue(number),
        Err(_) => Any::StringValue(number.to_string()),
    }
}

fn attribute(key: &str, value: Any) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}
