//! Which messages a page of the queue shows.

use std::time::Duration;

use jiff::Timestamp;
use postrider_config::parse_duration;
use postrider_store::{QueueId, Time};

use super::super::super::{
    command::AsCommand,
    form::{Fields, query},
};
use crate::{
    AdminError,
    op::messages::{Selection, Stage},
};

/// The filters beside search box, hold and chips: name, label, hint.
pub(super) const FIELDS: [(&str, &str, &str); 8] = [
    ("account", "Account", ""),
    ("from", "From", "Part of the address, or @domain"),
    ("to", "To", "Part of the address, or @domain"),
    ("message_id", "Message-ID", ""),
    ("subject", "Subject", "Part of it"),
    ("transport", "Transport", "The one that is forced"),
    (
        "submitted",
        "Queued",
        "<-4h: more than 4 hours ago. >-4h: since then",
    ),
    (
        "next_attempt",
        "Next attempt",
        "<now: due. >2h: in more than 2 hours",
    ),
];

/// The chips: value and label.
pub(super) const CHIPS: [(&str, &str); 5] = [
    ("", "All"),
    ("due", "Due"),
    ("held", "Held"),
    ("failed", "Failed before"),
    ("old", "Over 4 h"),
];

/// The age of the chip `old`, as the command has it.
const OLD: &str = "<-4h";

/// Which messages, and how commands and calls say it.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    pub(super) which: Selection,
    /// The options of the command. None: no option says it.
    options: Option<Vec<(&'static str, String)>>,
    /// The query of the call. None: no parameter says it.
    query: Option<Vec<(&'static str, String)>>,
    /// The parts of the parameter `filter` of the call.
    parts: Vec<String>,
}

impl Filter {
    /// Reads the filter of a query or of a form.
    ///
    /// # Errors
    /// If a field is wrong.
    pub(super) fn new(fields: &Fields, now: Time) -> Result<Self, AdminError> {
        let mut filter = Self {
            options: Some(Vec::new()),
            query: Some(Vec::new()),
            ..Self::default()
        };
        let text = |name: &str| fields.text(name).map(str::to_owned);
        if let Some(account) = text("account") {
            filter.say("--account", &account, Some("account"));
            filter.which.filter.account = Some(account);
        }
        if let Some(from) = text("from") {
            filter.say("--from", &from, None);
            filter.ask("from", from.clone());
            filter.which.filter.from = Some(from);
        }
        if let Some(to) = text("to") {
            filter.to(to);
        }
        if let Some(id) = text("message_id") {
            filter.message_id(&id);
        }
        if let Some(subject) = text("subject") {
            filter.say("--subject", &subject, None);
            filter.query = None;
            filter.which.filter.subject = Some(subject);
        }
        if let Some(transport) = text("transport") {
            filter.say("--transport", &transport, Some("transport"));
            filter.which.filter.transport = Some(transport);
        }
        match fields.text("hold") {
            Some("yes") => filter.held(),
            Some("no") => filter.not_held(),
            _ => {}
        }
        if let Some(bound) = fields.text("submitted") {
            filter.submitted(bound, now)?;
        }
        if let Some(bound) = fields.text("next_attempt") {
            filter.next_attempt(bound, now)?;
        }
        match fields.text("chip") {
            Some("due") => {
                filter.next_attempt("<now", now)?;
                filter.not_held();
            }
            Some("held") => filter.held(),
            Some("failed") => {
                filter.which.stage = Some(Stage::Deferred);
                filter.options = None;
                filter.parts.push("status:deferred".to_owned());
            }
            Some("old") => filter.submitted(OLD, now)?,
            _ => {}
        }
        if let Some(search) = fields.text("q") {
            filter.search(search);
        }
        Ok(filter)
    }

    /// One message, or some.
    pub(super) fn ids(ids: &[u64]) -> Self {
        let mut filter = Self {
            options: Some(Vec::new()),
            ..Self::default()
        };
        let texts: Vec<String> = ids.iter().map(u64::to_string).collect();
        filter.say("--ids", &texts.join(","), None);
        filter.which.filter.ids = ids.iter().copied().map(QueueId).collect();
        filter
    }

    pub(super) fn is_filtered(&self) -> bool {
        self.which != Selection::default()
    }

    /// What one box finds.
    fn search(&mut self, search: &str) {
        if let Ok(number) = search.parse() {
            self.say("--ids", search, None);
            self.query = None;
            self.which.filter.ids = vec![QueueId(number)];
        } else if search.starts_with('<') {
            self.message_id(search);
        } else if is_pair(search) {
            self.options = None;
            self.query = None;
            self.which.extra = Some(search.to_owned());
        } else if search.contains('@') && self.which.filter.to.is_none() {
            self.to(search.to_owned());
        } else {
            self.options = None;
            self.ask("text", search.to_owned());
            self.which.text = Some(search.to_owned());
        }
    }

    /// The query that looks for a sender, if the box looked for a recipient.
    pub(super) fn by_sender(&self, fields: &Fields) -> Option<String> {
        let search = fields.text("q")?;
        let is_recipient = self.which.filter.to.as_deref() == Some(search);
        is_recipient.then(|| fields.query(&["q", "from", "cursor", "told"], &[("from", search)]))
    }

    /// The query that looks for a Message-ID, if the box looked for a recipient.
    pub(super) fn by_message_id(&self, fields: &Fields) -> Option<String> {
        let search = fields.text("q")?;
        let is_recipient = self.which.filter.to.as_deref() == Some(search);
        let bare = ["q", "message_id", "cursor", "told"];
        let is_whole = !search.starts_with('@');
        (is_recipient && is_whole).then(|| fields.query(&bare, &[("message_id", search)]))
    }

    /// The query that looks for the same among past messages. None: they can't be looked for by it.
    pub(super) fn in_history(&self) -> Option<String> {
        let filter = &self.which.filter;
        let given = [
            ("account", &filter.account),
            ("from", &filter.from),
            ("to", &filter.to),
            ("message_id", &filter.message_id),
            ("subject", &filter.subject),
            ("extra", &self.which.extra),
        ];
        let given = given
            .iter()
            .filter_map(|(name, value)| Some((*name, value.as_deref()?)));
        let query = query(given);
        let is_all = self.which.text.is_none() && filter.ids.is_empty();
        (is_all && !query.is_empty()).then_some(query)
    }

    fn to(&mut self, to: String) {
        self.say("--to", &to, None);
        self.ask("to", to.clone());
        self.which.filter.to = Some(to);
    }

    fn message_id(&mut self, given: &str) {
        let bare = given.trim_matches(['<', '>']);
        self.say("--message-id", bare, Some("message_id"));
        self.which.filter.message_id = Some(format!("<{bare}>"));
    }

    fn held(&mut self) {
        self.say("--hold", "true", None);
        self.parts.push("status:held".to_owned());
        self.which.filter.hold = Some(true);
    }

    fn not_held(&mut self) {
        self.say("--hold", "false", None);
        self.query = None;
        self.which.filter.hold = Some(false);
    }

    fn submitted(&mut self, bound: &str, now: Time) -> Result<(), AdminError> {
        let (before, after) = bounds("submitted", bound, now)?;
        self.say("--submitted", bound, None);
        self.query = None;
        let filter = &mut self.which.filter;
        filter.submitted_before = before.or(filter.submitted_before);
        filter.submitted_after = after.or(filter.submitted_after);
        Ok(())
    }

    fn next_attempt(&mut self, bound: &str, now: Time) -> Result<(), AdminError> {
        let (before, after) = bounds("next_attempt", bound, now)?;
        self.say("--next-attempt", bound, None);
        self.query = None;
        let filter = &mut self.which.filter;
        filter.next_attempt_before = before.or(filter.next_attempt_before);
        filter.next_attempt_after = after.or(filter.next_attempt_after);
        Ok(())
    }

    /// An option of the command, and a part of the call's filter.
    fn say(&mut self, option: &'static str, value: &str, part: Option<&str>) {
        if let Some(options) = &mut self.options {
            // An option is given once.
            match options.iter().any(|(known, _)| *known == option) {
                true => self.options = None,
                false => options.push((option, value.to_owned())),
            }
        }
        match part {
            // A comma ends a part.
            Some(_) if value.contains(',') => self.query = None,
            Some(part) => self.parts.push(format!("{part}:{value}")),
            None => {}
        }
    }

    /// A parameter of the call.
    fn ask(&mut self, name: &'static str, value: String) {
        if let Some(query) = &mut self.query {
            query.push((name, value));
        }
    }

    /// The command with these words and the options of the filter. `all`: it needs an option also
    /// for everything.
    pub(super) fn command(&self, words: &[&str], all: bool) -> AsCommand {
        let Some(options) = &self.options else {
            return AsCommand::none();
        };
        let mut command = AsCommand::cli(words.iter().copied());
        for (name, value) in options {
            command = command.option(name, Some(value));
        }
        match options.is_empty() && all {
            true => command.word("--all"),
            false => command,
        }
    }

    /// The path and the query of the call, with more parameters. None: no call does this.
    pub(super) fn path(&self, more: &[(&str, &str)]) -> Option<String> {
        let path = "/api/queue/messages";
        let mut query = form_urlencoded::Serializer::new(String::new());
        let path = match (self.which.filter.ids.as_slice(), &self.query) {
            ([only], None) if self.is_one() => format!("{path}/{only}"),
            (_, Some(known)) => {
                query.extend_pairs(known);
                if !self.parts.is_empty() {
                    query.append_pair("filter", &self.parts.join(","));
                }
                path.to_owned()
            }
            _ => return None,
        };
        query.extend_pairs(more);
        Some(match query.finish().as_str() {
            "" => path,
            query => format!("{path}?{query}"),
        })
    }

    /// It names one message, and nothing else.
    fn is_one(&self) -> bool {
        match self.which.filter.ids.as_slice() {
            [only] => self.which == Selection::one(*only),
            _ => false,
        }
    }

    /// The command that lists the messages, the newest first or the oldest.
    pub(super) fn listing(&self, newest: bool) -> AsCommand {
        let command = self.command(&["queue", "list"], false);
        let (command, order) = match newest && !self.is_one() {
            true => (command.word("--reverse"), &[("sort", "-id")][..]),
            false => (command, &[][..]),
        };
        match self.path(order) {
            Some(path) => command.get(&path),
            None => command,
        }
    }
}

/// Whether a search is `KEY=VALUE`. The value may be an address.
fn is_pair(search: &str) -> bool {
    let at = search.find('@').unwrap_or(search.len());
    search
        .find('=')
        .is_some_and(|sign| sign < at && !search.starts_with('@'))
}

/// A bound as times before and after: `<` or `>`, and a time.
fn bounds(field: &str, text: &str, now: Time) -> Result<(Option<Time>, Option<Time>), AdminError> {
    let wrong = || {
        let text = format!("{text:?} must begin with < (before) or > (after)");
        AdminError::invalid(text).at(field)
    };
    let (is_before, time) = match text.strip_prefix('<') {
        Some(time) => (true, time),
        None => (false, text.strip_prefix('>').ok_or_else(wrong)?),
    };
    let time = time_of(time.trim(), now);
    let time = time.map_err(|error| AdminError::invalid(error).at(field))?;
    Ok(match is_before {
        true => (Some(time), None),
        false => (None, Some(time)),
    })
}

/// A time: `now`, `-1h30m`, `2h`, or in RFC 3339.
pub(super) fn time_of(text: &str, now: Time) -> Result<Time, String> {
    if text == "now" {
        return Ok(now);
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(Time(at.as_microsecond()));
    }
    match shift_of(text) {
        Some((true, by)) => Ok(now.before(by)),
        Some((false, by)) => Ok(now.after(by)),
        None => Err(format!(
            "{text:?} is not a time: write now, a duration such as 1h30m or -2d, or a time such as \
             2026-11-28T14:00:00Z"
        )),
    }
}

/// A duration with a sign: whether it is negative, and how long.
pub(super) fn shift_of(text: &str) -> Option<(bool, Duration)> {
    let (is_negative, duration) = match text.strip_prefix('-') {
        Some(duration) => (true, duration),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let duration = parse_duration(duration).ok()?;
    Some((is_negative, duration))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::pages::form::query;

    const NOW: Time = Time(1_796_040_000_000_000);

    fn filter(query: &str) -> Filter {
        Filter::new(&Fields::parse(query.as_bytes()), NOW).unwrap()
    }

    #[test]
    fn one_box_finds_what_a_text_names() {
        let which = |search: &str| filter(&query([("q", search)])).which;
        assert_eq!(which("7").filter.ids, [QueueId(7)]);
        assert_eq!(which("<a@b>").filter.message_id.as_deref(), Some("<a@b>"));
        assert_eq!(which("a@b.test").filter.to.as_deref(), Some("a@b.test"));
        assert_eq!(which("@b.test").filter.to.as_deref(), Some("@b.test"));
        assert_eq!(which("order=7").extra.as_deref(), Some("order=7"));
        assert_eq!(
            which("user=a@b.test").extra.as_deref(),
            Some("user=a@b.test")
        );
        assert_eq!(which("ann").text.as_deref(), Some("ann"));
    }

    #[test]
    fn commands_and_calls_say_the_same() {
        for (query, cli, path) in [
            ("", "postrider queue list", Some("/api/queue/messages")),
            (
                "account=app&to=%40b.test",
                "postrider queue list --account app --to @b.test",
                Some("/api/queue/messages?to=%40b.test&filter=account%3Aapp"),
            ),
            (
                "chip=due",
                "postrider queue list --next-attempt '<now' --hold false",
                None,
            ),
            (
                "chip=held",
                "postrider queue list --hold true",
                Some("/api/queue/messages?filter=status%3Aheld"),
            ),
            (
                "chip=failed",
                "",
                Some("/api/queue/messages?filter=status%3Adeferred"),
            ),
            (
                "q=7",
                "postrider queue list --ids 7",
                Some("/api/queue/messages/7"),
            ),
            ("q=order%3D7", "", None),
        ] {
            let filter = filter(query);
            assert_eq!(filter.listing(false).cli, cli, "{query}");
            assert_eq!(filter.path(&[]).as_deref(), path, "{query}");
        }
        let newest = filter("chip=held").listing(true);
        assert_eq!(newest.cli, "postrider queue list --hold true --reverse");
        assert!(newest.curl.contains("filter=status%3Aheld&sort=-id"));
        let all = filter("").command(&["queue", "hold"], true);
        assert_eq!(all.cli, "postrider queue hold --all");
    }

    #[test]
    fn a_wrong_time_names_its_field() {
        for (field, text) in [("submitted", "4h"), ("next_attempt", "<soon")] {
            let query = format!("{field}={text}");
            let error = Filter::new(&Fields::parse(query.as_bytes()), NOW).unwrap_err();
            assert_eq!(error.field.as_deref(), Some(field));
        }
        let which = filter("submitted=%3C-4h").which.filter;
        assert_eq!(
            which.submitted_before,
            Some(Time(NOW.0 - 4 * 3_600_000_000))
        );
    }
}
