//! A mail with its signs of a mailer daemon, or of other authors.

use std::sync::LazyLock;

use mail_parser::{HeaderValue, Message, PartType, decoders::html::html_to_text};
use regex::Regex;

use super::{
    cut_at,
    phrases::{self, Subject},
    returned::{self, Returned},
};
use crate::{ReversePath, mime};

/// The most addresses of author and addressees.
const OWN_MAX: usize = 1000;
/// The most bytes of the text.
const READ_MAX: usize = 64 * 1024;

/// The author that the header section tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A mailer daemon.
    Daemon,
    /// A program that nobody can reply to. It may be a mailer daemon or an automatic reply.
    Program,
    /// A person, a list, or an automatic reply.
    Other,
}

/// The envelope sender of a mail, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    Null,
    /// The address of a daemon.
    Daemon,
    Other,
    Unknown,
}

/// A mail, as a reader of bounces needs it.
pub(super) struct Letter<'a> {
    pub(super) mail: &'a Message<'a>,
    pub(super) origin: Origin,
    /// The reverse-path is null.
    pub(super) null: bool,
    pub(super) subject: Subject,
    /// The text in all parts before the returned message.
    pub(super) text: String,
    /// The message that comes back in a part of its own.
    pub(super) returned: Option<Returned>,
    /// The addresses of author and addressees, in lower case. They are rarely the failed ones.
    pub(super) own: Vec<String>,
}

impl<'a> Letter<'a> {
    /// `path` is the reverse-path of the envelope. Without it, the first Return-Path counts.
    pub(super) fn new(mail: &'a Message<'a>, path: Option<&ReversePath>) -> Self {
        let path = match path {
            Some(ReversePath::Null) => Path::Null,
            Some(path) => named_path(&path.to_string()),
            None => first_raw(mail, "Return-Path").map_or(Path::Unknown, named_path),
        };
        Self {
            mail,
            origin: origin(mail, path),
            null: path == Path::Null,
            subject: phrases::of_subject(mail.subject().unwrap_or_default()),
            text: text(mail),
            returned: in_parts(mail),
            own: own_addresses(mail),
        }
    }

    /// The addresses in X-Failed-Recipients.
    pub(super) fn failed_recipients(&self) -> Vec<String> {
        let raw = self.mail.header_raw("X-Failed-Recipients");
        let addresses = raw.unwrap_or_default().split([',', '\n']);
        let addresses = addresses.filter_map(super::address);
        addresses.take(super::RECIPIENTS_MAX).collect()
    }
}

/// The first field of this name. The topmost Return-Path is that of the last server.
fn first_raw<'a>(mail: &'a Message<'_>, name: &str) -> Option<&'a str> {
    let mut fields = mail.headers_raw();
    fields.find_map(|(field, value)| field.eq_ignore_ascii_case(name).then(|| value.trim()))
}

fn named_path(path: &str) -> Path {
    let path = path.trim().trim_matches(['<', '>']).to_lowercase();
    if path.is_empty() {
        Path::Null
    } else if is_daemon(&path) {
        Path::Daemon
    } else {
        Path::Other
    }
}

/// The address of a daemon, in lower case.
fn is_daemon(address: &str) -> bool {
    DAEMON.is_match(local_part(address))
}

fn local_part(address: &str) -> &str {
    address.split('@').next().unwrap_or_default()
}

#[expect(clippy::expect_used, reason = "a constant, which the tests compile")]
static DAEMON: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"^(?:mailer?[-_. ]?(?:daemon|deamon|demon)s?|mdaemon|post[-_]?master|bounces?|mta|mailsystem",
        r"|mail[-_.]?deliver(?:y|er)?(?:[-_.]?(?:sub)?system)?|microsoftexchange[0-9a-f]*",
        r"|(?:mail|smtp|delivery)[-_.]?(?:agent|service|subsystem|server|gateway|router)",
        r"|double-bounce|dsn|ndr|undeliver\w*|sysadmin|system[-_.]?administrator)$",
    ))
    .expect("a pattern")
});

/// The display name of a daemon.
#[expect(clippy::expect_used, reason = "a constant, which the tests compile")]
static DAEMON_NAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"mailer[-_ ]?da?e?a?mon|mail deliver|postmaster|system administrator|mail administrator",
        r"|delivery (?:sub|service|system|status|agent)|mail (?:sub)?system|microsoft outlook",
        r"|internet mail|returned mail|mail router|undeliver|delivery notif|mail server",
        r"|microsoft exchange|mail gateway|mail transfer|^bounce",
    ))
    .expect("a pattern")
});

/// The address of a program that nobody can reply to.
#[expect(clippy::expect_used, reason = "a constant, which the tests compile")]
static PROGRAM: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"no[-_.]?reply|not?[-_.]?reply|donot|admin|system|daemon|mail|smtp|server|gateway|filter",
        r"|interscan|scan|spam|guard|security|notif|alert|robot|^list",
    ))
    .expect("a pattern")
});

/// The subject of an answer, or of a message that somebody passes on.
#[expect(clippy::expect_used, reason = "a constant, which the tests compile")]
static ANSWER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)^\s*(?:re|aw|sv|vs|antw|odp|ynt|rif|fwd?|wg|tr|rv|enc|doorst)\s*",
        r"(?:\[\d+\])?\s*:",
    ))
    .expect("a pattern")
});

/// The subject of an automatic answer.
#[expect(clippy::expect_used, reason = "a constant, which the tests compile")]
static AUTOMATIC: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)^\s*(?:auto(?:matic|matische)?[ -]?(?:reply|response|antwort|:)|out of (?:the )?office",
        r"|abwesen|absence|automatisch|r.ponse automatique|respuesta autom|vacation|ooo\b)",
    ))
    .expect("a pattern")
});

fn origin(mail: &Message<'_>, path: Path) -> Origin {
    let raw = |name: &str| {
        mail.header_raw(name)
            .map(|value| value.trim().to_lowercase())
    };
    let others = [
        "List-Id",
        "List-Post",
        "List-Unsubscribe",
        "X-Autoreply",
        "X-Autorespond",
        "X-Auto-Reply-From",
        "X-Mail-Autoreply",
    ];
    if others.iter().any(|name| raw(name).is_some()) {
        return Origin::Other;
    }
    let from = mail.from().and_then(|from| from.first());
    let address = from
        .and_then(|from| from.address())
        .unwrap_or_default()
        .to_lowercase();
    let name = from
        .and_then(|from| from.name())
        .unwrap_or_default()
        .to_lowercase();
    let by_address = is_daemon(&address);
    let named = by_address || DAEMON_NAME.is_match(&name);
    let null = path == Path::Null;
    let subject = mail.subject().unwrap_or_default();
    let answers = ANSWER.is_match(subject) && !(null && by_address);
    let in_thread = raw("In-Reply-To").is_some() && !null;
    if answers || in_thread || AUTOMATIC.is_match(subject) {
        return Origin::Other;
    }
    let replied = raw("Auto-Submitted").is_some_and(|value| value.starts_with("auto-replied"));
    match path {
        Path::Null | Path::Daemon | Path::Unknown if named => Origin::Daemon,
        // Forwarding may have changed the reverse-path.
        Path::Other if by_address => Origin::Daemon,
        // A vacation notice has the null reverse-path too.
        Path::Null if replied && !address.is_empty() => Origin::Other,
        Path::Null if address.is_empty() => Origin::Daemon,
        Path::Null | Path::Unknown if PROGRAM.is_match(local_part(&address)) => Origin::Program,
        Path::Null if !subject.trim().is_empty() && phrases::of_subject(subject).fits => {
            Origin::Program
        }
        _ => Origin::Other,
    }
}

/// The text of all parts that are text, but not of returned messages.
fn text(mail: &Message<'_>) -> String {
    let mut text = String::new();
    for at in 0..mail.text_body_count() {
        let part = mail.text_part(u32::try_from(at).unwrap_or(u32::MAX));
        let is_header = part.is_some_and(|part| returned::is_header_part(part));
        if is_header {
            continue;
        }
        let body = match part.map(|part| &part.body) {
            Some(PartType::Html(html)) => Some(text_of_html(cut_at(html, 4 * READ_MAX)).into()),
            _ => mail.body_text(at),
        };
        if let Some(body) = body {
            text.push_str(cut_at(&body, READ_MAX));
            text.push('\n');
        }
        if text.len() >= READ_MAX {
            break;
        }
    }
    text
}

/// The beginning of a block or of a cell.
#[expect(clippy::expect_used, reason = "a constant, which the tests compile")]
static BLOCK: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)<(t[dhr]|li|dt|dd|div|h[1-6]|pre|hr)(?-u:\b)").expect("a pattern")
});

/// The text of HTML. Each block and each cell has a line of its own.
fn text_of_html(html: &str) -> String {
    html_to_text(&BLOCK.replace_all(html, "<br><$1"))
}

/// The message that comes back in a part of its own.
pub(super) fn in_parts(mail: &Message<'_>) -> Option<Returned> {
    for part in &mail.parts {
        if let PartType::Message(inner) = &part.body {
            return Some(Returned::of(inner));
        }
    }
    let part = mail
        .parts
        .iter()
        .find(|part| returned::is_header_part(part))?;
    let message = mime::parser().parse_headers(part.contents())?;
    Some(Returned::of(&message))
}

/// The addresses in the fields of author and addressees.
fn own_addresses(mail: &Message<'_>) -> Vec<String> {
    let mut own = Vec::new();
    for field in mail.headers() {
        let name = field.name().to_ascii_lowercase();
        if ![
            "from",
            "to",
            "cc",
            "delivered-to",
            "x-original-to",
            "return-path",
            "reply-to",
        ]
        .contains(&name.as_str())
        {
            continue;
        }
        match field.value() {
            HeaderValue::Address(address) => {
                own.extend(
                    address
                        .iter()
                        .filter_map(|one| one.address())
                        .map(str::to_lowercase),
                );
            }
            HeaderValue::Text(text) => own.extend(super::address(text).map(|a| a.to_lowercase())),
            _ => {}
        }
    }
    own.truncate(OWN_MAX);
    own
}
