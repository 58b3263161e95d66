//! The newest lines of the log, which the running server keeps in memory, and which lines are
//! written.

use std::sync::Arc;

use postrider_config::{Network, nearest_names};
use postrider_observe::log::{
    About, Line, Log, Order, Remotes, Threshold, is_known_module, is_of_module, known_modules,
    threshold,
};
use postrider_store::Time;
use serde::{Deserialize, Serialize};

use super::{Operation, Single, Sink, destinations::until};
use crate::{AdminError, Context};

/// How many lines are handed over at once.
const PORTION: usize = 500;

/// How severe a line is, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// A person is needed.
    Error,
    /// Unexpected.
    Warn,
    /// What happens to mail, and the state of the server.
    Info,
    /// Decisions.
    Debug,
    /// The protocols, line by line.
    Trace,
}

impl Level {
    /// The level with this name, in lower or upper case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name.to_lowercase().as_str() {
            "error" => Some(Self::Error),
            "warn" => Some(Self::Warn),
            "info" => Some(Self::Info),
            "debug" => Some(Self::Debug),
            "trace" => Some(Self::Trace),
            _ => None,
        }
    }
}

impl From<postrider_observe::log::Level> for Level {
    fn from(level: postrider_observe::log::Level) -> Self {
        use postrider_observe::log::Level as Of;
        match level {
            Of::Error => Self::Error,
            Of::Warn => Self::Warn,
            Of::Info => Self::Info,
            Of::Debug => Self::Debug,
            Of::Trace => Self::Trace,
        }
    }
}

/// A line of the log, as a listing gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogItem {
    /// The number of the line since the start of the server.
    pub id: u64,
    /// When it was written, as RFC 3339.
    pub timestamp: String,
    /// How severe it is.
    pub level: Level,
    /// What happened, in words.
    pub event: String,
    /// The name of what happened, for example `delivery.delivered`.
    pub event_id: String,
    /// The facts, as `key = value, ...`.
    pub details: String,
    /// The module that wrote it, for example `postrider_queue::deliver`.
    pub module: String,
}

/// Lists the newest lines of the log, newest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct List {
    /// Lines that have this text somewhere, in lower or upper case.
    pub filter: Option<String>,
    /// Lines that are at least so severe.
    pub level: Option<Level>,
    /// Lines of this module and those within it, for example `queue` or `postrider_queue::deliver`.
    /// The names are those of levels, so `postrider` stands for all modules of ours.
    pub module: Option<String>,
    /// Lines about the queued message with this id.
    pub queue: Option<u64>,
    /// Lines with a number below this.
    pub before: Option<u64>,
    /// Lines with a number above this.
    pub after: Option<u64>,
    /// The largest number of lines; None: all.
    pub limit: Option<usize>,
}

impl Operation for List {
    type Item = LogItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<LogItem>,
    ) -> Result<(), AdminError> {
        let wanted = self.filter.map(|text| text.to_lowercase());
        let mut room = self.limit.unwrap_or(usize::MAX);
        let after = self.after.unwrap_or(0);
        let mut lines = context.logs.newest(self.before);
        lines.retain(|(id, line)| {
            *id > after
                && self
                    .level
                    .is_none_or(|level| Level::from(line.level) <= level)
                && self
                    .module
                    .as_ref()
                    .is_none_or(|module| is_of_module(&line.target, module))
                && self.queue.is_none_or(|queue| is_about(line, queue))
        });
        for portion in lines.chunks(PORTION) {
            let found = portion.iter();
            let found = found.filter(|(_, line)| wanted.as_deref().is_none_or(|it| line.has(it)));
            let found: Vec<LogItem> = { found.take(room) }
                .map(|(id, line)| LogItem {
                    id: *id,
                    timestamp: Time(line.micros).to_string(),
                    level: line.level.into(),
                    event: line.message.clone(),
                    event_id: line.name().into_owned(),
                    details: line.details(),
                    module: line.target.to_string(),
                })
                .collect();
            room -= found.len();
            items.send(found).await?;
            if room == 0 {
                break;
            }
            // A filter that matches little looks through all lines.
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

/// Whether a line is about a queued message. A line about several has their ids as one text.
fn is_about(line: &Line, queue: u64) -> bool {
    let ids = line.field("queue").map(ToString::to_string);
    let queue = queue.to_string();
    ids.is_some_and(|ids| ids.split([' ', '"']).any(|id| id == queue))
}

/// Which lines are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[cfg_attr(test, schema(as = LogLevelItem))]
pub struct LevelItem {
    /// A module, for example `postrider_queue`. Empty: all that have no level of their own. None:
    /// the line is about `remote`.
    pub module: Option<String>,
    /// A network of remote hosts.
    pub remote: Option<String>,
    /// The least severe level that is written: `off`, or `error` to `trace`.
    pub level: String,
    /// When it ends, as RFC 3339. None: it does not end before a restart.
    pub until: Option<String>,
    /// Whether it comes from the configuration. Otherwise it goes with the process.
    pub configured: bool,
}

fn word(level: Threshold) -> String {
    level
        .map_or("off", postrider_observe::log::Level::word)
        .to_owned()
}

/// Lists the configured levels, and those that were set since the start.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListLevels {}

impl Operation for ListLevels {
    type Item = LevelItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<LevelItem>,
    ) -> Result<(), AdminError> {
        items.send(levels(&context.logs)).await
    }
}

fn levels(log: &Log) -> Vec<LevelItem> {
    let configured = log.configured();
    let modules = configured.modules();
    let configured = [("", configured.general())].into_iter().chain(modules);
    let configured = configured.map(|(module, level)| LevelItem {
        module: Some(module.to_owned()),
        remote: None,
        level: word(level),
        until: None,
        configured: true,
    });
    let orders = log.orders().into_iter().map(|order| {
        let name = order.about.name();
        let (module, remote) = match order.about {
            About::Module(_) => (Some(name), None),
            About::Remotes(_) => (None, Some(name)),
        };
        LevelItem {
            module,
            remote,
            level: word(order.level),
            until: order.until.map(|until| Time(until).to_string()),
            configured: false,
        }
    });
    configured.chain(orders).collect()
}

/// Sets the level of a module, or of all lines about some remote hosts. A restart takes it back.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[cfg_attr(test, schema(as = SetLogLevel))]
#[serde(default, deny_unknown_fields)]
pub struct SetLevel {
    /// The module, for example `queue` or `postrider_queue::deliver`. Empty: all that have no level
    /// of their own.
    pub module: Option<String>,
    /// The address or the network of remote hosts, in the place of a module.
    pub remote: Option<String>,
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// For how long, for example `10m`; null: until a restart.
    #[serde(rename = "for")]
    pub lasts: Option<String>,
}

impl SetLevel {
    fn order(&self, context: &Context) -> Result<Order, AdminError> {
        let level = threshold(&self.level).ok_or_else(|| {
            let text = "must be off, error, warn, info, debug or trace";
            AdminError::invalid(text).at("level")
        })?;
        let about = match (&self.module, &self.remote) {
            (Some(module), None) if is_module(module) => {
                if !module.is_empty() && !is_known_module(module) {
                    let nearest = nearest_names(module, known_modules()).join(", ");
                    let text =
                        format!("no module {module} writes lines; the nearest are {nearest}");
                    return Err(AdminError::invalid(text).at("module"));
                }
                About::Module(module.clone())
            }
            (Some(_), None) => {
                let text = "must be the path of a module, for example queue or smtp::server";
                return Err(AdminError::invalid(text).at("module"));
            }
            (None, Some(remote)) => {
                let network = Network::parse(remote);
                let network = network.map_err(|text| AdminError::invalid(text).at("remote"))?;
                About::Remotes(Remotes {
                    name: network.to_string(),
                    contains: Arc::new(move |ip| network.contains(ip)),
                })
            }
            _ => {
                let text = "name either a module or a remote network";
                return Err(AdminError::invalid(text).at("module"));
            }
        };
        let until = until(self.lasts.as_deref(), context)?;
        Ok(Order {
            about,
            level,
            until: until.map(|until| until.0),
        })
    }
}

/// The longest name of a module.
const MODULE_MAX: usize = 128;

/// Whether the text may name a module. The empty text stands for all.
fn is_module(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_:.-".contains(&byte);
    text.len() <= MODULE_MAX && text.bytes().all(allowed)
}

impl Single for SetLevel {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let target = self.module.as_ref().or(self.remote.as_ref());
        let target = target.cloned().unwrap_or_default();
        let order = self.order(context);
        let set = order.and_then(|order| context.logs.order(order).map_err(AdminError::conflict));
        context.record("log.set_level", &target, &self, set).await
    }
}

/// Takes back all levels that were set since the start.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetLevels {}

/// The result of [`ResetLevels`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[cfg_attr(test, schema(as = LogLevelsReset))]
pub struct LevelsReset {
    /// How many levels were taken back.
    pub count: usize,
}

impl Single for ResetLevels {
    type Output = LevelsReset;

    async fn answer(self, context: &Context) -> Result<LevelsReset, AdminError> {
        let count = context.logs.reset();
        context.record("log.reset_levels", "", &(), Ok(())).await?;
        Ok(LevelsReset { count })
    }
}
