//! Which lines are written: the configured levels, and what an administrator orders meanwhile.
//!
//! A level belongs to a module, and holds for all that is below it. The longest name that fits
//! decides. Lines of libraries are written from the level warn on only: below it they may show what
//! they read and send, and that holds passwords and tokens. [`OPEN`] names the one exception.

use std::{fmt, net::IpAddr, sync::Arc};

use super::line::Level;

/// The least severe level that is written. None: nothing is.
pub type Threshold = Option<Level>;

/// The libraries whose lines below warn an administrator may ask for by name. They ask DNS, and
/// know no secret.
pub(super) const OPEN: [&str; 1] = ["hickory"];

/// Lines of libraries about what a remote server gets wrong, which no administrator can mend. The
/// first library calls a certificate that it does not know an error, also where any certificate
/// will do. The second writes out each answer that DNSSEC does not prove. What follows from either
/// is in the result of an attempt. Who looks into something with `debug` or `trace` gets them.
const REMOTE_FAULTS: [(&str, Threshold); 2] = [
    ("rustls_platform_verifier", None),
    ("hickory_net::dnssec", Some(Level::Error)),
];

/// Our crates below `postrider_`. A module may be named without that.
const CRATES: [&str; 10] = [
    "admin", "config", "dns", "observe", "queue", "receive", "smtp", "store", "webapi", "webhook",
];

/// Whether the part of a program is ours.
pub(super) fn is_ours(target: &str) -> bool {
    let rest = target.strip_prefix("postrider");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::") || rest.starts_with('_'))
}

/// Whether the target is the module or below it.
pub(super) fn is_within(target: &str, module: &str) -> bool {
    let Some(rest) = target.strip_prefix(module) else {
        return false;
    };
    // All of our crates are below `postrider`, and `hickory` stands for its crates.
    let is_family = module == "postrider" || OPEN.contains(&module);
    rest.is_empty() || rest.starts_with("::") || is_family && rest.starts_with('_')
}

/// Whether a line of this target is of a module, or of one below it. The module may have any of its
/// names: `queue.deliver` is `postrider_queue::deliver`, and `postrider` stands for all of ours.
#[must_use]
pub fn is_of_module(target: &str, module: &str) -> bool {
    is_within(target, &full_name(module))
}

/// The full name of a module: `queue.deliver` is `postrider_queue::deliver`.
pub(super) fn full_name(module: &str) -> String {
    let path = module.trim().replace('.', "::").replace('-', "_");
    let first = path.split("::").next().unwrap_or_default();
    match CRATES.contains(&first) {
        true => format!("postrider_{path}"),
        false => match path.strip_prefix("postrider::") {
            // What the log itself calls `postrider.queue`.
            Some(rest) if CRATES.contains(&rest.split("::").next().unwrap_or_default()) => {
                format!("postrider_{rest}")
            }
            _ => path,
        },
    }
}

/// Levels by module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    general: Threshold,
    /// By full name.
    modules: Vec<(String, Threshold)>,
}

impl Levels {
    /// A level for all that has none of its own.
    #[must_use]
    pub const fn new(general: Threshold) -> Self {
        Self {
            general,
            modules: Vec::new(),
        }
    }

    /// The same with the level of a module: `queue`, `postrider_queue::deliver` or
    /// `postrider.queue.deliver`. An empty name is the general level.
    #[must_use]
    pub fn with(mut self, module: &str, level: Threshold) -> Self {
        let name = full_name(module);
        if name.is_empty() {
            self.general = level;
            return self;
        }
        self.modules.retain(|(module, _)| *module != name);
        self.modules.push((name, level));
        self
    }

    /// Reads levels as `RUST_LOG` has them: `info,postrider_queue=debug`. None: the text has
    /// something else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut levels = Self::new(Some(Level::Error));
        for part in text.split(',').map(str::trim).filter(|it| !it.is_empty()) {
            levels = match part.split_once('=') {
                Some((module, level)) => levels.with(module, threshold(level)?),
                None => levels.with("", threshold(part)?),
            };
        }
        Some(levels)
    }

    /// The level of all that has none of its own.
    #[must_use]
    pub const fn general(&self) -> Threshold {
        self.general
    }

    /// The modules that have levels of their own, by full name.
    pub fn modules(&self) -> impl Iterator<Item = (&str, Threshold)> {
        self.modules.iter().map(|(name, level)| (&**name, *level))
    }

    /// The least severe level of lines that a part of a program writes.
    pub(super) fn of(&self, target: &str) -> Threshold {
        let named = self.modules.iter();
        let named = named.filter(|(module, _)| is_within(target, module));
        let named = named.max_by_key(|(module, _)| module.len());
        let is_open = named.is_some() && OPEN.iter().any(|open| target.starts_with(open));
        let level = named.map_or(self.general, |(_, level)| *level);
        match is_ours(target) || is_open {
            true => level,
            false => level
                .min(Some(Level::Warn))
                .min(self.of_remote_faults(target, named.is_some())),
        }
    }

    fn of_remote_faults(&self, target: &str, is_named: bool) -> Threshold {
        if is_named || self.general > Some(Level::Info) {
            return Some(Level::Trace);
        }
        let known = REMOTE_FAULTS.iter();
        let mut known = known.filter(|(module, _)| is_within(target, module));
        known.next().map_or(Some(Level::Trace), |(_, level)| *level)
    }

    /// The least severe level of all.
    fn widest(&self) -> Threshold {
        let levels = self.modules.iter().map(|(_, level)| *level);
        levels.chain([self.general]).max().flatten()
    }
}

/// Reads the name of a level, or `off`.
#[must_use]
pub fn threshold(text: &str) -> Option<Threshold> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("off") {
        return Some(None);
    }
    let level = Level::ALL.into_iter();
    let mut level = level.filter(|level| text.eq_ignore_ascii_case(level.word()));
    level.next().map(Some)
}

/// Some remote hosts, such as a network.
#[derive(Clone)]
pub struct Remotes {
    /// As an administrator knows them, for example `192.0.2.0/24`.
    pub name: String,
    /// Whether an address is one of them.
    pub contains: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
}

impl fmt::Debug for Remotes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// What an order is about.
#[derive(Clone, Debug)]
pub enum About {
    /// A module, as in [`Levels::with`]. Empty: the general level.
    Module(String),
    /// All lines of ours about some remote hosts. They are written if the order or the level of
    /// their module lets them through.
    Remotes(Remotes),
}

impl About {
    /// The full name of the module, or the name of the remote hosts.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Module(module) => full_name(module),
            Self::Remotes(remotes) => remotes.name.clone(),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        matches!(self, Self::Module(_)) == matches!(other, Self::Module(_))
            && self.name() == other.name()
    }
}

/// What an administrator wants while the process runs.
#[derive(Clone, Debug)]
pub struct Order {
    /// What it is about.
    pub about: About,
    /// The least severe level that is written.
    pub level: Threshold,
    /// When it ends, in microseconds since 1970. None: when the process ends.
    pub until: Option<i64>,
}

/// The most orders at a time.
pub const ORDERS_MAX: usize = 64;

/// There are [`ORDERS_MAX`] orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are {ORDERS_MAX} levels for a time; take back some of them first")]
pub struct TooManyOrders;

/// The configured levels, and the orders that hold.
#[derive(Debug, Default)]
pub(super) struct Orders {
    pub(super) configured: Levels,
    orders: Vec<Order>,
}

impl Orders {
    pub(super) const fn new(configured: Levels) -> Self {
        Self {
            configured,
            orders: Vec::new(),
        }
    }

    /// Adds an order. It replaces one about the same.
    pub(super) fn add(&mut self, order: Order) -> Result<(), TooManyOrders> {
        let mut others = self.orders.clone();
        others.retain(|other| !other.about.is_same(&order.about));
        if others.len() >= ORDERS_MAX {
            return Err(TooManyOrders);
        }
        others.push(order);
        self.orders = others;
        Ok(())
    }

    /// Takes back all orders. Gives their number.
    pub(super) fn clear(&mut self) -> usize {
        std::mem::take(&mut self.orders).len()
    }

    /// Takes back orders whose time is over. Gives whether there were any.
    pub(super) fn expire(&mut self, now: i64) -> bool {
        let count = self.orders.len();
        self.orders
            .retain(|order| order.until.is_none_or(|until| until > now));
        self.orders.len() < count
    }

    pub(super) fn all(&self) -> &[Order] {
        &self.orders
    }

    /// What holds by all of it.
    pub(super) fn effect(&self) -> Effect {
        let mut effect = Effect {
            levels: self.configured.clone(),
            remotes: Vec::new(),
        };
        for order in &self.orders {
            match &order.about {
                About::Module(module) => effect.levels = effect.levels.with(module, order.level),
                About::Remotes(remotes) => effect.remotes.push((remotes.clone(), order.level)),
            }
        }
        effect
    }
}

/// What holds now.
#[derive(Debug, Default)]
pub(super) struct Effect {
    pub(super) levels: Levels,
    remotes: Vec<(Remotes, Threshold)>,
}

impl Effect {
    /// Whether the module's level lets a line through.
    pub(super) fn passes(&self, target: &str, level: Level) -> bool {
        Some(level) <= self.levels.of(target)
    }

    /// Whether lines about some remote host may pass.
    pub(super) fn may_pass_for_remotes(&self, target: &str, level: Level) -> bool {
        is_ours(target) && self.remotes.iter().any(|(_, to)| Some(level) <= *to)
    }

    /// Whether lines about this remote host pass.
    pub(super) fn passes_for(&self, remote: IpAddr, level: Level) -> bool {
        let mut orders = self.remotes.iter();
        orders.any(|(remotes, to)| Some(level) <= *to && (remotes.contains)(remote))
    }

    /// The least severe level of all that passes.
    pub(super) fn widest(&self) -> Threshold {
        let remotes = self.remotes.iter().map(|(_, level)| *level);
        remotes.chain([self.levels.widest()]).max().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(level: Threshold) -> &'static str {
        level.map_or("off", Level::word)
    }

    #[test]
    fn the_longest_name_decides() {
        let levels =
            Levels::parse("warn,queue=debug,postrider_queue::deliver=off,postrider.store=trace");
        let levels = levels.unwrap();
        for (target, expected) in [
            ("postrider", "warn"),
            ("postrider::server", "warn"),
            ("postrider_smtp::server", "warn"),
            ("postrider_queue", "debug"),
            ("postrider_queue::run", "debug"),
            ("postrider_queue::deliver", "off"),
            ("postrider_queue::deliver::tls", "off"),
            ("postrider_queue::delivery", "debug"),
            ("postrider_queues", "warn"),
            ("postrider_store::journal", "trace"),
        ] {
            assert_eq!(word(levels.of(target)), expected, "{target}");
        }
        let all = Levels::new(None).with("postrider", Some(Level::Info));
        assert_eq!(word(all.of("postrider_queue::run")), "info");
        assert_eq!(word(all.of("hyper::proto")), "off");
    }

    #[test]
    fn a_module_has_its_children_and_a_family_its_crates() {
        for (target, module, is) in [
            ("postrider_queue", "queue", true),
            ("postrider_queue::deliver", "queue", true),
            ("postrider_queue::deliver", "postrider_queue", true),
            ("postrider_queue::deliver", "queue.deliver", true),
            ("postrider_queue::delivery", "queue.deliver", false),
            ("postrider_queues", "queue", false),
            ("postrider_queue::deliver", "postrider", true),
            ("postrider::tls", "postrider", true),
            ("postrider_queue::deliver", "postrider.queue", true),
            ("hickory_net::udp", "hickory", true),
            ("hyper_util::client", "hyper", false),
        ] {
            assert_eq!(is_of_module(target, module), is, "{target} of {module}");
        }
    }

    #[test]
    fn levels_are_read_or_refused() {
        for (text, expected) in [
            ("info", Some("info")),
            ("OFF", Some("off")),
            ("", Some("error")),
            (" debug , queue=warn", Some("debug")),
            ("verbose", None),
            ("queue=", None),
            ("queue=loud,info", None),
        ] {
            let levels = Levels::parse(text);
            assert_eq!(levels.map(|it| word(it.general)), expected, "{text}");
        }
    }

    /// A library writes out header fields and handshakes below warn. Nobody may open that, also not
    /// by naming it.
    #[test]
    fn libraries_show_no_secrets_at_any_level() {
        let levels = Levels::parse("trace,hyper=trace,h2::codec=trace,rustls=debug,reqwest=trace");
        let levels = levels.unwrap();
        for target in [
            "hyper::proto",
            "h2::codec::framed_read",
            "rustls::client",
            "reqwest::connect",
            "hickory_net::udp",
        ] {
            assert_eq!(word(levels.of(target)), "warn", "{target}");
        }
        let levels = levels
            .with("hickory", Some(Level::Debug))
            .with("hyper", Some(Level::Error));
        assert_eq!(word(levels.of("hickory_net::udp")), "debug");
        assert_eq!(word(levels.of("hyper::proto")), "error");
    }

    #[test]
    fn faults_of_remote_servers_are_written_for_those_who_look_into_them() {
        for (level, expected) in [
            ("off", ["off", "off", "off"]),
            ("error", ["off", "error", "error"]),
            ("info", ["off", "error", "warn"]),
            ("debug", ["warn", "warn", "warn"]),
            (
                "info,rustls_platform_verifier=warn",
                ["warn", "error", "warn"],
            ),
        ] {
            let levels = Levels::parse(level).unwrap();
            let targets = [
                "rustls_platform_verifier::verification",
                "hickory_net::dnssec",
                "hyper",
            ];
            let found = targets.map(|target| word(levels.of(target)));
            assert_eq!(found, expected, "{level}");
        }
    }

    fn order(about: About, level: Level, until: Option<i64>) -> Order {
        Order {
            about,
            level: Some(level),
            until,
        }
    }

    fn module(name: &str) -> About {
        About::Module(name.to_owned())
    }

    #[test]
    fn orders_hold_for_their_time() {
        let mut orders = Orders::new(Levels::new(Some(Level::Info)));
        orders
            .add(order(module("queue"), Level::Debug, Some(100)))
            .unwrap();
        orders
            .add(order(module("postrider_queue"), Level::Trace, Some(200)))
            .unwrap();
        orders.add(order(module(""), Level::Warn, None)).unwrap();
        assert_eq!(orders.all().len(), 2, "the second replaces the first");
        assert!(!orders.expire(199));
        let effect = orders.effect();
        assert!(effect.passes("postrider_queue::run", Level::Trace));
        assert!(!effect.passes("postrider_store", Level::Info));
        assert_eq!(effect.widest(), Some(Level::Trace));
        assert!(orders.expire(200));
        assert!(!orders.effect().passes("postrider_queue", Level::Info));
        assert_eq!(orders.clear(), 1);
        assert!(orders.effect().passes("postrider_queue", Level::Info));
        for number in 0..ORDERS_MAX {
            orders
                .add(order(module(&format!("m{number}")), Level::Info, None))
                .unwrap();
        }
        let more = orders.add(order(module("more"), Level::Info, None));
        assert_eq!(more, Err(TooManyOrders));
        orders.add(order(module("m7"), Level::Debug, None)).unwrap();
    }

    #[test]
    fn some_remote_hosts_are_looked_at_closely() {
        let mut orders = Orders::new(Levels::new(Some(Level::Info)));
        let remotes = Remotes {
            name: "192.0.2.1".to_owned(),
            contains: Arc::new(|ip| ip == IpAddr::from([192, 0, 2, 1])),
        };
        orders
            .add(order(About::Remotes(remotes), Level::Debug, None))
            .unwrap();
        let effect = orders.effect();
        assert!(effect.may_pass_for_remotes("postrider_smtp::server", Level::Debug));
        assert!(!effect.may_pass_for_remotes("postrider_smtp::server", Level::Trace));
        assert!(!effect.may_pass_for_remotes("hyper::proto", Level::Debug));
        assert!(effect.passes_for([192, 0, 2, 1].into(), Level::Debug));
        assert!(!effect.passes_for([192, 0, 2, 2].into(), Level::Debug));
        assert_eq!(effect.widest(), Some(Level::Debug));
    }
}
