//! The layer of `tracing` that makes lines of events.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use tracing::{
    Event, Metadata, Subscriber,
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
    subscriber::Interest,
};
use tracing_subscriber::{
    layer::{Context, Layer},
    registry::{LookupSpan, SpanRef},
};

use super::{
    floods::address,
    levels::{Effect, is_ours},
    line::{Fields, Level, Line, Value},
    output::Shared,
};

/// The field that names the remote host, in lines and in spans.
const REMOTE: &str = "remote";

/// Makes lines of events, and decides which of them are wanted. It wants to be the only layer.
///
/// A place in the code whose lines are not wanted costs what `tracing` needs to see that: one load.
/// Only while there are orders about remote hosts, places ask each time.
pub struct LogLayer(pub(super) Arc<Shared>);

impl LogLayer {
    /// Spans of ours up to info are always there, so that each line, at whatever level, says which
    /// session and message it is about.
    fn is_wanted_span(metadata: &Metadata<'_>) -> bool {
        metadata.is_span()
            && is_ours(metadata.target())
            && Level::from(*metadata.level()) <= Level::Info
    }
}

impl<S> Layer<S> for LogLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        let (target, level) = (metadata.target(), (*metadata.level()).into());
        let effect = self.0.effect();
        if Self::is_wanted_span(metadata) || effect.passes(target, level) {
            Interest::always()
        } else if effect.may_pass_for_remotes(target, level) {
            Interest::sometimes()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, S>) -> bool {
        let (target, level) = (metadata.target(), (*metadata.level()).into());
        let effect = self.0.effect();
        Self::is_wanted_span(metadata)
            || effect.passes(target, level)
            || effect.may_pass_for_remotes(target, level)
                && (metadata.fields().field(REMOTE).is_some()
                    || passes_in(&effect, level, context.lookup_current()))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.0.effect().widest() {
            Some(Level::Trace) => LevelFilter::TRACE,
            Some(Level::Debug) => LevelFilter::DEBUG,
            // Spans are there for lines of all levels.
            Some(_) => LevelFilter::INFO,
            None => LevelFilter::OFF,
        })
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else {
            return;
        };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(SpanFields::of(fields));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else {
            return;
        };
        // Before the lock: a value whose text panics has a line, which looks at the span.
        let mut new = Fields::default();
        values.record(&mut new);
        let mut extensions = span.extensions_mut();
        let Some(known) = extensions.get_mut::<SpanFields>() else {
            return;
        };
        let mut fields = Fields {
            fields: std::mem::take(&mut known.fields),
            ..Fields::default()
        };
        for (name, value) in new.fields {
            fields.set(name, value);
        }
        *known = SpanFields::of(fields);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let level = Level::from(*metadata.level());
        let mut own = Fields::default();
        event.record(&mut own);
        let mut fields = Fields::default();
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            if let Some(known) = span.extensions().get::<SpanFields>() {
                for (name, value) in &known.fields {
                    fields.set(name, value.clone());
                }
            }
        }
        for (name, value) in own.fields {
            fields.set(name, value);
        }
        let target: Cow<'static, str> = match own.target {
            Some(target) => target.into(),
            None => metadata.target().into(),
        };
        let effect = self.0.effect();
        let passes = effect.passes(&target, level) || {
            let remote = fields.fields.iter().find(|(name, _)| *name == REMOTE);
            let remote = remote.and_then(|(_, value)| remote_of(value));
            remote.is_some_and(|remote| is_ours(&target) && effect.passes_for(remote, level))
        };
        if passes {
            self.0.add(Line {
                micros: (self.0.now)(),
                level,
                target,
                message: own.message,
                event: own.event,
                fields: fields.fields,
            });
        }
    }
}

/// The fields of a span.
struct SpanFields {
    fields: Vec<(&'static str, Value)>,
    remote: Option<IpAddr>,
}

impl SpanFields {
    fn of(fields: Fields) -> Self {
        let fields = fields.fields;
        let remote = fields.iter().find(|(name, _)| *name == REMOTE);
        let remote = remote.and_then(|(_, value)| remote_of(value));
        Self { fields, remote }
    }
}

fn remote_of(value: &Value) -> Option<IpAddr> {
    match value {
        Value::Text(text) => address(text),
        _ => None,
    }
}

/// Whether the span, or one that it is in, is about a remote host whose lines pass.
fn passes_in<'a, R: LookupSpan<'a>>(
    effect: &Effect,
    level: Level,
    span: Option<SpanRef<'a, R>>,
) -> bool {
    let mut spans = span.into_iter().flat_map(|span| span.scope());
    spans.any(|span| {
        let extensions = span.extensions();
        let remote = extensions
            .get::<SpanFields>()
            .and_then(|known| known.remote);
        remote.is_some_and(|remote| effect.passes_for(remote, level))
    })
}
