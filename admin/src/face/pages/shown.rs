//! Times, sizes and counts for people. Each writes its own HTML.

use std::fmt::{self, Display, Formatter};

use askama::{Template, filters::HtmlSafe};
use jiff::Timestamp;
use postrider_store::Time;

/// A time, told by how far it is away. The exact time is in the title.
#[derive(Clone, Debug)]
pub(super) struct When {
    at: Option<Timestamp>,
    now: Timestamp,
}

impl When {
    /// A time in RFC 3339, as operations give it. A text that is none is shown as "never".
    pub(super) fn new(text: &str, now: Time) -> Self {
        Self {
            at: text.parse().ok(),
            now: now.timestamp(),
        }
    }

    pub(super) fn maybe(text: Option<&String>, now: Time) -> Self {
        Self::new(text.map_or("", String::as_str), now)
    }
}

impl HtmlSafe for When {}

impl Display for When {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(at) = self.at else {
            return f.write_str("never");
        };
        let exact = at.strftime("%Y-%m-%d %H:%M:%S UTC");
        let away = at.as_second() - self.now.as_second();
        let told = span(away.unsigned_abs());
        let told = match away {
            ..=-1 => format!("{told} ago"),
            0 => "now".to_owned(),
            1.. => format!("in {told}"),
        };
        write!(f, "<time datetime=\"{at}\" title=\"{exact}\">{told}</time>")
    }
}

/// A sentence of an operation, with its times (RFC 3339) as people read them: "at TIME" by how far
/// it is away, others in UTC.
#[derive(Clone, Debug, Template)]
#[template(
    source = "{% for piece in pieces %}{% match piece %}{% when Piece::Text with (text) %}{{ text }}{% when Piece::Time with (when) %}{{ when }}{% endmatch %}{% endfor %}",
    ext = "html"
)]
pub(super) struct Told {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    Time(When),
}

impl Told {
    pub(super) fn new(text: &str, now: Time) -> Self {
        let (mut pieces, mut before) = (Vec::new(), String::new());
        for word in text.split_inclusive(' ') {
            let core = word.trim_matches([' ', '(', ')', ',', ';', ':', '.']);
            let at: Option<Timestamp> = core.parse().ok();
            let told = before.strip_suffix("at ");
            let told = told.filter(|rest| rest.is_empty() || rest.ends_with(' '));
            match (at, told) {
                (None, _) => before.push_str(word),
                (Some(_), Some(rest)) => {
                    pieces.push(Piece::Text(rest.to_owned()));
                    pieces.push(Piece::Time(When::new(core, now)));
                    before = word.replace(core, "");
                }
                (Some(at), None) => {
                    let exact = at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
                    before.push_str(&word.replace(core, &exact));
                }
            }
        }
        pieces.push(Piece::Text(before));
        Self { pieces }
    }
}

impl HtmlSafe for Told {}

/// A time span of so many seconds, in its largest unit.
pub(super) fn span(seconds: u64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match seconds {
        ..MINUTE => format!("{seconds} s"),
        MINUTE..HOUR => format!("{} min", seconds / MINUTE),
        HOUR..DAY => format!("{} h", seconds / HOUR),
        DAY.. => format!("{} d", seconds / DAY),
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes(pub(super) u64);

impl HtmlSafe for Bytes {}

impl Display for Bytes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(bytes) = *self;
        let units = ["B", "kB", "MB", "GB", "TB"];
        let (mut value, mut unit) = (bytes as f64, 0);
        while value >= 1000.0 && unit + 1 < units.len() {
            value /= 1000.0;
            unit += 1;
        }
        let name = units.get(unit).copied().unwrap_or("B");
        let digits = usize::from(unit > 0 && value < 10.0);
        write!(
            f,
            "<span title=\"{bytes} bytes\">{value:.digits$} {name}</span>"
        )
    }
}

/// A count, with its thousands apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count(pub(super) u64);

impl HtmlSafe for Count {}

impl Display for Count {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                // A thin space that lines do not break at.
                f.write_str("\u{202f}")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

/// "1 message", "2 messages".
pub(super) fn counted(count: impl TryInto<u64>, one: &str, many: &str) -> String {
    match count.try_into().unwrap_or(u64::MAX) {
        1 => format!("1 {one}"),
        count => format!("{} {many}", Count(count)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_by_their_distance() {
        let now = Time(1_796_040_000_000_000);
        let told = |seconds: i64| {
            let at = Time(now.0 + seconds * 1_000_000).to_string();
            let html = When::new(&at, now).to_string();
            html.split(['>', '<']).nth(2).unwrap_or_default().to_owned()
        };
        for (seconds, text) in [
            (0, "now"),
            (-59, "59 s ago"),
            (-60, "1 min ago"),
            (7199, "in 1 h"),
            (-86_400 * 3, "3 d ago"),
        ] {
            assert_eq!(told(seconds), text);
        }
        assert_eq!(When::new("", now).to_string(), "never");
    }

    #[test]
    fn times_in_sentences_are_told_as_people_read_them() {
        let now: Timestamp = "2027-01-15T13:00:00Z".parse().unwrap();
        let told = |text: &str| {
            let html = Told::new(text, now.into()).to_string();
            let mut parts = html.split("<time ");
            let mut plain = parts.next().unwrap().to_owned();
            for part in parts {
                let rest = part.split_once('>').unwrap().1;
                plain.push_str(&rest.replacen("</time>", "", 1));
            }
            plain
        };
        for (text, wanted) in [
            ("", ""),
            ("is held", "is held"),
            (
                "waits for its next attempt at 2027-01-15T13:15:25.111078Z (attempt 3 of 9); \
                 last answer, at 2027-01-15T12:00:00Z: 451 <later>",
                "waits for its next attempt in 15 min (attempt 3 of 9); last answer, 1 h ago: \
                 451 &#60;later&#62;",
            ),
            (
                "is due since 2027-01-15T12:00:00.5Z, at last",
                "is due since 2027-01-15 12:00:00 UTC, at last",
            ),
        ] {
            assert_eq!(told(text), wanted);
        }
    }

    #[test]
    fn sizes_and_counts_have_units_and_spaces() {
        let size = |bytes| Bytes(bytes).to_string();
        assert_eq!(size(999), "<span title=\"999 bytes\">999 B</span>");
        assert_eq!(size(1500), "<span title=\"1500 bytes\">1.5 kB</span>");
        assert_eq!(
            size(25_000_000),
            "<span title=\"25000000 bytes\">25 MB</span>"
        );
        assert_eq!(Count(1_234_567).to_string(), "1\u{202f}234\u{202f}567");
        assert_eq!(Count(100).to_string(), "100");
        assert_eq!(counted(1, "message", "messages"), "1 message");
        assert_eq!(
            counted(2000, "message", "messages"),
            "2\u{202f}000 messages"
        );
    }
}
