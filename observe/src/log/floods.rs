//! Floods of equal lines become few.
//!
//! | line | how many a minute, and then one with `repeated` |
//! |---|---|
//! | `accepted delivered failed changed`, and all below info | all |
//! | `refused` | 100 for a network and a reason |
//! | any other | 5 for a line, a kind of error, and a host, site, hook, file, service or account |
//!
//! A network is a /24 or a /64. Of a /48, 16 networks are told apart: it is as easy to get as a
//! /64.
//!
//! A minute begins with its first line. When it ends, the last line that was left out is written
//! with `repeated=N`, the number of those that were left out. The memory is bounded. Strangers
//! choose their networks, so at most half of the kinds are refusals: further ones are joined by
//! their reason. Other lines beyond [`KEYS_MAX`] kinds are joined by their text alone, and if the
//! texts are too many too, all together.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
    sync::Arc,
};

use super::line::{Level, Line, Value};

/// The most kinds of lines that are told apart, of them refusals, and with them lines by their
/// texts or reasons alone.
pub(super) const KEYS_MAX: usize = 4096;
const REFUSALS_MAX: usize = KEYS_MAX / 2;
const ALL_MAX: usize = KEYS_MAX + 512;
/// The most networks of a /48 that are told apart.
const PER_SITE: usize = 16;
/// In microseconds.
const MINUTE: i64 = 60_000_000;
const A_MINUTE: u64 = 5;
const REFUSALS_A_MINUTE: u64 = 100;
/// Each says what happens to one message or one setting.
const NEVER_JOINED: [&str; 4] = ["accepted", "delivered", "failed", "changed"];
/// The fields that tell the kind of an error.
const ERRORS: [&str; 3] = ["kind", "reason", "error"];
/// The fields that tell whom a line is about. A webhook is told by its URL: the field `hook` is the
/// number of one call, or the name of a hook.
const SUBJECTS: [&str; 8] = [
    "host", "site", "hook", "url", "file", "zone", "service", "account",
];

/// What becomes of a line.
#[derive(Debug, PartialEq)]
pub(super) enum Fate {
    /// It is written.
    Written,
    /// It is written, after the line that ends the minute before.
    WrittenAfter(Arc<Line>),
    /// It is left out.
    Joined,
}

/// What makes lines equal.
#[derive(Clone, Copy, Debug)]
pub(super) struct FloodKey {
    key: u64,
    /// How many lines with it are written in a minute.
    limit: u64,
    refusal: Option<Refusal>,
}

/// What a refusal is joined by when there are too many networks.
#[derive(Clone, Copy, Debug)]
struct Refusal {
    /// The key of its reason alone.
    reason: u64,
    /// The /48 that the network is in, and its key with that in the place of the network.
    site: Option<(u64, u64)>,
}

/// The lines of the last minute.
#[derive(Debug, Default)]
pub(super) struct Floods {
    minutes: HashMap<u64, Minute>,
    /// How many of the minutes are of refusals.
    refusals: usize,
    /// How many of them are of a /48.
    of_sites: HashMap<u64, usize>,
}

#[derive(Debug)]
struct Minute {
    /// In microseconds.
    begun: i64,
    count: u64,
    key: FloodKey,
    /// The last line that was left out.
    last: Option<Arc<Line>>,
}

impl Minute {
    fn is_over(&self, now: i64) -> bool {
        // The clock may also be set back.
        !(self.begun..self.begun.saturating_add(MINUTE)).contains(&now)
    }

    /// The line for those that were left out.
    fn end(self, now: i64) -> Option<Arc<Line>> {
        let repeated = self.count.saturating_sub(self.key.limit);
        let mut line = Line::clone(self.last.as_deref()?);
        line.micros = now;
        line.fields.push(("repeated", Value::Unsigned(repeated)));
        Some(Arc::new(line))
    }
}

impl Floods {
    /// Decides about a line with this key. None: it is never joined.
    pub(super) fn fate(&mut self, line: &Arc<Line>, key: Option<FloodKey>) -> Fate {
        let Some(key) = key else {
            return Fate::Written;
        };
        let now = line.micros;
        let key = match self.minutes.contains_key(&key.key) {
            true => key,
            false => self.within_bounds(key, &line.message),
        };
        let mut fate = Fate::Written;
        let mut entry = match self.minutes.entry(key.key) {
            Entry::Occupied(entry) => entry,
            Entry::Vacant(place) => {
                place.insert(Minute::of(now, key));
                if let Some(refusal) = key.refusal {
                    self.refusals += 1;
                    if let Some((site, _)) = refusal.site {
                        *self.of_sites.entry(site).or_default() += 1;
                    }
                }
                return fate;
            }
        };
        if entry.get().is_over(now) {
            let over = entry.insert(Minute::of(now, key));
            if let Some(line) = over.end(now) {
                fate = Fate::WrittenAfter(line);
            }
            return fate;
        }
        let minute = entry.get_mut();
        minute.count += 1;
        if minute.count > minute.key.limit {
            minute.last = Some(Arc::clone(line));
            fate = Fate::Joined;
        }
        fate
    }

    /// The key of a line whose own key is not there yet: a wider one, if there are too many.
    fn within_bounds(&self, key: FloodKey, message: &str) -> FloodKey {
        let Some(refusal) = key.refusal else {
            return match self.minutes.len() {
                ..KEYS_MAX => key,
                KEYS_MAX..ALL_MAX => FloodKey {
                    key: hash(|hasher| message.hash(hasher)),
                    ..key
                },
                _ => FloodKey { key: 0, ..key },
            };
        };
        // A key that is of no network does not count as a refusal.
        let wider = |wider| FloodKey {
            key: wider,
            refusal: None,
            ..key
        };
        if self.refusals >= REFUSALS_MAX {
            return wider(refusal.reason);
        }
        match refusal.site {
            Some((site, of_site)) if self.is_full(site) => FloodKey {
                key: of_site,
                refusal: Some(Refusal {
                    site: None,
                    ..refusal
                }),
                ..key
            },
            _ => key,
        }
    }

    fn is_full(&self, site: u64) -> bool {
        self.of_sites
            .get(&site)
            .is_some_and(|count| *count >= PER_SITE)
    }

    /// Ends the minutes that are over. Gives the lines for those that were left out.
    pub(super) fn end(&mut self, now: i64) -> Vec<Arc<Line>> {
        let over = self.minutes.extract_if(|_, minute| minute.is_over(now));
        let mut lines = Vec::new();
        for (_, minute) in over {
            if let Some(refusal) = minute.key.refusal {
                self.refusals -= 1;
                if let Some((site, _)) = refusal.site
                    && let Some(count) = self.of_sites.get_mut(&site)
                {
                    *count -= 1;
                    if *count == 0 {
                        self.of_sites.remove(&site);
                    }
                }
            }
            lines.extend(minute.end(now));
        }
        lines.sort_by(|a, b| a.message.cmp(&b.message));
        lines
    }

    /// Ends all minutes, since the process ends.
    pub(super) fn end_all(&mut self, now: i64) -> Vec<Arc<Line>> {
        let minutes = std::mem::take(self).minutes.into_values();
        minutes.filter_map(|minute| minute.end(now)).collect()
    }
}

impl Minute {
    const fn of(begun: i64, key: FloodKey) -> Self {
        Self {
            begun,
            count: 1,
            key,
            last: None,
        }
    }
}

fn hash(of: impl FnOnce(&mut DefaultHasher)) -> u64 {
    let mut hasher = DefaultHasher::new();
    of(&mut hasher);
    hasher.finish()
}

impl FloodKey {
    /// The key of a line. None: it is never joined with others.
    pub(super) fn of(line: &Line) -> Option<Self> {
        if line.level > Level::Info || NEVER_JOINED.contains(&&*line.message) {
            return None;
        }
        Some(match &*line.message {
            "refused" => Self::of_refusal(line),
            _ => Self {
                key: hash(|hasher| hash_line(line, hasher)),
                limit: A_MINUTE,
                refusal: None,
            },
        })
    }

    fn of_refusal(line: &Line) -> Self {
        let reason = line.field("reason").map(Value::text);
        let key = |place: Option<u128>| {
            hash(|hasher| {
                (&*line.message, place).hash(hasher);
                if let Some(reason) = &reason {
                    reason.hash(hasher);
                }
            })
        };
        let remote = line.field("remote").and_then(remote);
        let site = remote.and_then(site);
        Self {
            key: key(remote.map(network)),
            limit: REFUSALS_A_MINUTE,
            refusal: Some(Refusal {
                reason: key(None),
                site: site.map(|site| (hash(|hasher| site.hash(hasher)), key(Some(site)))),
            }),
        }
    }
}

fn hash_line(line: &Line, hasher: &mut DefaultHasher) {
    (&*line.message, line.level, &line.target).hash(hasher);
    for name in ERRORS {
        if let Some(value) = line.field(name) {
            name.hash(hasher);
            hash_kind(&value.text(), hasher);
        }
    }
    for name in SUBJECTS {
        // The number of a call is no name.
        if let Some(Value::Text(text)) = line.field(name) {
            (name, &**text).hash(hasher);
        }
    }
}

/// Errors of one kind differ in numbers, such as ports and ids.
fn hash_kind(text: &str, hasher: &mut DefaultHasher) {
    for byte in text.bytes().filter(|byte| !byte.is_ascii_digit()) {
        hasher.write_u8(byte);
    }
}

fn remote(remote: &Value) -> Option<IpAddr> {
    match remote {
        Value::Text(text) => address(text),
        _ => None,
    }
}

/// The network of a remote host: /24 or /64.
const fn network(remote: IpAddr) -> u128 {
    match remote {
        IpAddr::V4(ip) => (ip.to_bits() >> 8) as u128,
        IpAddr::V6(ip) => ip.to_bits() >> 64 | 1 << 64,
    }
}

/// The /48 of a remote host with IPv6.
const fn site(remote: IpAddr) -> Option<u128> {
    match remote {
        IpAddr::V4(_) => None,
        IpAddr::V6(ip) => Some(ip.to_bits() >> 80 | 1 << 65),
    }
}

/// The address in a text, with or without a port.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    let alone = text.parse().ok();
    alone.or_else(|| {
        text.parse()
            .ok()
            .map(|socket: std::net::SocketAddr| socket.ip())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fate(floods: &mut Floods, line: &Arc<Line>) -> Fate {
        floods.fate(line, FloodKey::of(line))
    }

    fn line(seconds: i64, message: &str, fields: &[(&'static str, &str)]) -> Arc<Line> {
        let fields = fields.iter();
        Arc::new(Line {
            micros: seconds * 1_000_000,
            level: Level::Warn,
            target: "postrider_webhook".into(),
            message: message.to_owned(),
            event: None,
            fields: fields
                .map(|(name, value)| (*name, Value::Text((*value).into())))
                .collect(),
        })
    }

    /// How many of the lines are written, and the numbers of `repeated`.
    fn check(lines: impl IntoIterator<Item = Arc<Line>>) -> (usize, Vec<u64>) {
        let mut floods = Floods::default();
        let (mut written, mut repeated) = (0, Vec::new());
        let mut note = |line: &Line| match line.field("repeated") {
            Some(Value::Unsigned(count)) => repeated.push(*count),
            other => panic!("{other:?}"),
        };
        for line in lines {
            match fate(&mut floods, &line) {
                Fate::Written => written += 1,
                Fate::WrittenAfter(line) => {
                    note(&line);
                    written += 1;
                }
                Fate::Joined => {}
            }
        }
        for line in floods.end_all(0) {
            note(&line);
        }
        repeated.sort_unstable();
        (written, repeated)
    }

    #[test]
    fn a_failing_webhook_writes_six_lines_a_minute() {
        let call = |second: i64| {
            let error = format!("connection refused by port {}", 4000 + second);
            line(
                second,
                "webhook failed",
                &[("url", "https://app.test/"), ("error", &error)],
            )
        };
        assert_eq!(check((0..59).map(call)), (5, vec![54]));
        // The next minute begins with its first line.
        assert_eq!(check((0..120).map(call)), (10, vec![55, 55]));
        // Five are no flood.
        assert_eq!(check((0..5).map(call)), (5, vec![]));
        let mut floods = Floods::default();
        for second in 0..10 {
            fate(&mut floods, &call(second));
        }
        assert_eq!(floods.end(59_999_999), []);
        let ended = floods.end(60_000_000);
        let [ended] = ended.as_slice() else {
            panic!("{ended:?}");
        };
        assert_eq!(
            ended.details(),
            "url = https://app.test/, error = connection refused by port 4009, repeated = 5"
        );
        assert_eq!(ended.micros, 60_000_000);
        assert_eq!(floods.minutes.len(), 0);
    }

    #[test]
    fn different_things_are_told_apart() {
        let lines = |fields: &'static [&'static [(&'static str, &'static str)]]| {
            let twenty = (0..20).flat_map(move |_| fields.iter());
            check(twenty.map(|fields| line(0, "webhook failed", fields)))
        };
        assert_eq!(
            lines(&[&[("hook", "a")], &[("hook", "b")]]),
            (10, vec![15, 15])
        );
        assert_eq!(
            lines(&[&[("error", "timeout")], &[("error", "refused")]]),
            (10, vec![15, 15])
        );
        // Hosts, accounts and receivers may differ in a digit only.
        for (name, one, other) in [
            ("host", "mx1.a.test", "mx2.a.test"),
            ("host", "[192.0.2.1]", "[192.0.2.2]"),
            ("account", "app1", "app2"),
            ("url", "http://h/1", "http://h/2"),
        ] {
            let twenty = (0..20).flat_map(|_| [one, other]);
            let lines = twenty.map(|value| line(0, "webhook failed", &[(name, value)]));
            assert_eq!(check(lines), (10, vec![15, 15]), "{name}");
        }
        // A value that tells nothing about the kind is no difference.
        assert_eq!(lines(&[&[("to", "a")], &[("to", "b")]]), (5, vec![35]));
        let texts = (0..20).flat_map(|_| ["x", "y"]);
        assert_eq!(
            check(texts.map(|text| line(0, text, &[]))),
            (10, vec![15, 15])
        );
    }

    #[test]
    fn refusals_are_counted_by_network_and_reason() {
        let refused = |ip: &str, reason: &str| {
            let remote = format!("{ip}:25");
            line(0, "refused", &[("remote", &remote), ("reason", reason)])
        };
        let hosts = (0..250).map(|host| refused(&format!("192.0.2.{host}"), "unknown"));
        assert_eq!(check(hosts), (100, vec![150]));
        let hosts = (0..250).map(|host| refused(&format!("[2001:db8::{host:x}]"), "unknown"));
        assert_eq!(check(hosts), (100, vec![150]));
        let networks = (0..250).map(|net| refused(&format!("198.51.{net}.1"), "unknown"));
        assert_eq!(check(networks), (250, vec![]));
        let reasons = (0..250).map(|n| refused("192.0.2.1", ["relay", "syntax"][n % 2]));
        assert_eq!(check(reasons), (200, vec![25, 25]));
    }

    #[test]
    fn lines_that_tell_what_became_of_mail_are_all_written() {
        for message in NEVER_JOINED {
            assert_eq!(check((0..50).map(|_| line(0, message, &[]))), (50, vec![]));
        }
        let debug = Line {
            level: Level::Debug,
            ..Line::clone(&line(0, "a decision", &[]))
        };
        let debug = Arc::new(debug);
        assert_eq!(check((0..50).map(|_| Arc::clone(&debug))), (50, vec![]));
    }

    #[test]
    fn a_clock_that_is_set_back_ends_the_minute() {
        let times = [100, 100, 100, 100, 100, 100, 7, 7];
        let lines = times.map(|second| line(second, "x", &[]));
        assert_eq!(check(lines), (7, vec![1]));
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut floods = Floods::default();
        let mut written = 0;
        for number in 0..2 * KEYS_MAX {
            let name = number.to_string();
            let fate = fate(&mut floods, &line(0, "x", &[("host", &name)]));
            written += usize::from(fate == Fate::Written);
        }
        assert_eq!(floods.minutes.len(), KEYS_MAX + 1);
        assert_eq!(written, KEYS_MAX + 5);
    }

    /// Refusals of this host, for one reason, how many of them are written, and how many keys there
    /// are.
    fn refusals(remotes: impl Iterator<Item = String>) -> (usize, Floods) {
        let mut floods = Floods::default();
        let mut written = 0;
        for remote in remotes {
            let line = line(0, "refused", &[("remote", &remote), ("reason", "relay")]);
            written += usize::from(fate(&mut floods, &line) == Fate::Written);
        }
        (written, floods)
    }

    /// A client has a /48 as easily as a /64, and 65,536 networks in it.
    #[test]
    fn a_site_can_t_use_up_the_keys() {
        let remotes = (0..3000).map(|net| format!("2001:db8:7:{net:x}::1"));
        let (written, mut floods) = refusals(remotes);
        assert_eq!(floods.minutes.len(), PER_SITE + 1);
        assert_eq!(written, PER_SITE + 100);
        // Another one is not joined with it.
        let other = line(
            0,
            "refused",
            &[("remote", "2001:db8:8::1"), ("reason", "relay")],
        );
        assert_eq!(fate(&mut floods, &other), Fate::Written);
        assert_eq!(floods.end(MINUTE).len(), 1);
        assert!(floods.minutes.is_empty() && floods.of_sites.is_empty());
        assert_eq!(floods.refusals, 0);
    }

    #[test]
    fn strangers_leave_room_for_other_lines() {
        let remotes = (0..5000).map(|net| format!("2001:db8:{net:x}::1"));
        let (written, mut floods) = refusals(remotes);
        assert_eq!(floods.minutes.len(), REFUSALS_MAX + 1);
        assert_eq!(written, REFUSALS_MAX + 100);
        for host in ["a.test", "b.test"] {
            for _ in 0..5 {
                let line = line(0, "connection lost", &[("host", host)]);
                assert_eq!(fate(&mut floods, &line), Fate::Written, "{host}");
            }
        }
        assert_eq!(floods.end(MINUTE).len(), 1);
        assert_eq!(floods.refusals, 0);
    }

    /// Libraries may have anything in the texts of their lines.
    #[test]
    fn texts_are_bounded_too() {
        let mut floods = Floods::default();
        for number in 0..3 * KEYS_MAX {
            fate(&mut floods, &line(0, &format!("text {number}"), &[]));
        }
        assert_eq!(floods.minutes.len(), ALL_MAX + 1);
        assert!(matches!(
            fate(&mut floods, &line(0, "one more", &[])),
            Fate::Joined
        ));
    }
}
