//! `hooks.NAME` and `milters.NAME` of `postrider.conf`: outside programs that have a say in what
//! is accepted.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use postrider_smtp::Host;

use crate::{
    quantity::Size,
    reader::Reader,
    scalar::parse_host_port,
    values::{DomainPattern, Network},
    words::words,
};

words! {
    /// The protocol of a hook.
    HookKind {
        /// One call for each stage, with JSON.
        Stage = "stage",
        /// The HTTP protocol of rspamd, at the stage data.
        Rspamd = "rspamd",
    }
}

words! {
    /// A stage of an SMTP session.
    HookStage {
        /// Before the greeting.
        Connect = "connect",
        /// After EHLO or HELO.
        Ehlo = "ehlo",
        /// After a login.
        Auth = "auth",
        /// After MAIL.
        Mail = "mail",
        /// After each RCPT.
        Rcpt = "rcpt",
        /// After the end of the message.
        Data = "data",
    }
}

words! {
    /// The body in a call at the stage data.
    HookBody {
        /// The body as text.
        Text = "text",
        /// No body.
        None = "none",
    }
}

words! {
    /// What becomes of the mail when a hook or a milter fails.
    HookError {
        /// A temporary error.
        Tempfail = "tempfail",
        /// As if the program had accepted it.
        Accept = "accept",
        /// As if the program had asked for quarantine.
        Quarantine = "quarantine",
        /// A permanent error.
        Reject = "reject",
    }
}

words! {
    /// The meaning of quarantine.
    HookQuarantine {
        /// Delivery to the junk mailbox.
        Junk = "junk",
        /// A place in the queue, on hold.
        Hold = "hold",
    }
}

/// When a hook or a milter is asked: if all conditions hold. An empty list holds always.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookConditions {
    /// The names of the listeners of the session.
    pub listeners: Vec<String>,
    /// Whether the session has a login. None holds always.
    pub authenticated: Option<bool>,
    /// The networks of the client.
    pub remote: Vec<Network>,
    /// The domain of the sender.
    pub sender_domains: Vec<DomainPattern>,
    /// The domain of one recipient.
    pub recipient_domains: Vec<DomainPattern>,
}

/// When a hook or a milter counts as down. Then it is left out for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookBreaker {
    /// The calls in a row without an answer. 0: it never counts as down.
    pub failures: u32,
    /// How long it is left out.
    pub pause: Duration,
}

/// `hooks.NAME.auth`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookAuth {
    /// HTTP basic authentication.
    Basic {
        /// The user name.
        username: String,
        /// The file whose first line is the password.
        password_file: PathBuf,
    },
    /// A bearer token: the first line of this file.
    Bearer(PathBuf),
}

/// `hooks.NAME.controller`: the part of rspamd that learns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookController {
    /// Its URL. None: port 11334 at the host of the hook's URL.
    pub url: Option<String>,
    /// The file whose first line is its password. None: it wants none.
    pub password_file: Option<PathBuf>,
}

/// `hooks.NAME`.
#[derive(Clone, PartialEq, Eq)]
pub struct Hook {
    /// The URL that is called. Its scheme is http or https.
    pub url: String,
    /// Whether the hook is asked.
    pub enabled: bool,
    /// The protocol.
    pub kind: HookKind,
    /// The stages at which it is asked.
    pub stages: Vec<HookStage>,
    /// The time limit of a call, with all its tries.
    pub timeout: Duration,
    /// The largest answer.
    pub max_response_size: Size,
    /// The body in calls.
    pub body: HookBody,
    /// Whether calls have the whole message in base64.
    pub raw_base64: bool,
    /// The authentication.
    pub auth: Option<HookAuth>,
    /// Further header fields: name and value.
    pub headers: Vec<(String, String)>,
    /// The fate of mail if the receiver can't be reached or answers with an error.
    pub on_unavailable: HookError,
    /// The fate of mail after a time-out.
    pub on_timeout: HookError,
    /// The fate of mail after an answer that makes no sense.
    pub on_invalid: HookError,
    /// The meaning of quarantine.
    pub quarantine: HookQuarantine,
    /// The most further tries.
    pub retry_max: u32,
    /// The wait before each further try.
    pub retry_delay: Duration,
    /// When the hook counts as down.
    pub breaker: HookBreaker,
    /// When the hook is asked.
    pub conditions: HookConditions,
    /// The part of rspamd that learns from users. None: nothing is learnt.
    pub learns: Option<HookController>,
}

/// The values of header fields may be secrets.
impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook")
            .field("url", &self.url)
            .field("enabled", &self.enabled)
            .field("stages", &self.stages)
            .finish_non_exhaustive()
    }
}

/// The socket of a milter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MilterSocket {
    /// A TCP socket.
    Inet(Host, u16),
    /// A Unix socket.
    Unix(PathBuf),
}

/// As the configuration has it.
impl fmt::Display for MilterSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(host, port) => write!(f, "inet:{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `milters.NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Milter {
    /// The socket.
    pub socket: MilterSocket,
    /// The time limit of the connection and of each command.
    pub timeout: Duration,
    /// The fate of mail if the milter fails.
    pub on_error: HookError,
    /// When the milter counts as down.
    pub breaker: HookBreaker,
    /// When the milter is asked.
    pub conditions: HookConditions,
}

/// Reads `hooks.NAME`. `listeners` has the names of all listeners.
pub(crate) fn read_hook<T>(reader: &Reader<'_>, listeners: &BTreeMap<String, T>) -> Option<Hook> {
    let kind = reader.opt("kind").unwrap_or(HookKind::Stage);
    let stages: Vec<HookStage> = reader.set("stages");
    let enabled = reader.get("enabled");
    if enabled && stages.is_empty() {
        reader.wrong(
            "stages",
            "must name at least one stage; enabled = false switches the hook off",
        );
    } else if kind == HookKind::Rspamd && stages != [HookStage::Data] {
        reader.wrong("stages", "must be [\"data\"] for a hook of kind rspamd");
    }
    // A spam filter is not an authority.
    let on_error = reader.opt("on_error").unwrap_or(match kind {
        HookKind::Stage => HookError::Tempfail,
        HookKind::Rspamd => HookError::Accept,
    });
    let on = |name: &str| reader.opt(name).unwrap_or(on_error);
    let retry = reader.section("retry");
    Some(Hook {
        enabled,
        kind,
        stages,
        timeout: reader.get("timeout"),
        max_response_size: reader.get("max_response_size"),
        body: reader.opt("body").unwrap_or(HookBody::Text),
        raw_base64: reader.get("raw_base64"),
        auth: reader.table("auth").and_then(|auth| read_auth(&auth)),
        headers: read_headers(reader),
        on_unavailable: on("on_unavailable"),
        on_timeout: on("on_timeout"),
        on_invalid: on("on_invalid"),
        quarantine: reader.opt("quarantine").unwrap_or(HookQuarantine::Junk),
        retry_max: retry.get("max"),
        retry_delay: retry.get("delay"),
        breaker: read_breaker(reader),
        conditions: read_conditions(reader, listeners),
        learns: read_controller(reader, kind),
        url: reader.url("url", &["http", "https"])?,
    })
}

fn read_controller(reader: &Reader<'_>, kind: HookKind) -> Option<HookController> {
    let learns: bool = reader.get("learn");
    let controller = reader.section("controller");
    let read = HookController {
        url: controller.url("url", &["http", "https"]),
        password_file: controller.opt("password_file"),
    };
    if learns && kind != HookKind::Rspamd {
        reader.wrong("learn", "is for a hook of kind rspamd");
    }
    learns.then_some(read)
}

fn read_auth(reader: &Reader<'_>) -> Option<HookAuth> {
    let username: Option<String> = reader.opt("username");
    let password_file: Option<PathBuf> = reader.opt("password_file");
    let bearer: Option<PathBuf> = reader.opt("bearer_file");
    match (username, password_file, bearer) {
        (None, None, Some(file)) => Some(HookAuth::Bearer(file)),
        (Some(username), Some(password_file), None) if !username.contains(':') => {
            Some(HookAuth::Basic {
                username,
                password_file,
            })
        }
        (Some(_), Some(_), None) => {
            let message = "must not have a colon (RFC 7617 section 2)";
            reader.wrong("username", message);
            None
        }
        _ => {
            reader.wrong_here("needs either username and password_file, or bearer_file");
            None
        }
    }
}

fn read_headers(reader: &Reader<'_>) -> Vec<(String, String)> {
    let name = "headers";
    let Some(item) = reader.raw(name) else {
        return Vec::new();
    };
    let Some(table) = item.as_table_like() else {
        reader.wrong(name, "must be a table such as {\"X-Key\" = \"value\"}");
        return Vec::new();
    };
    let mut headers = Vec::new();
    for (field, value) in table.iter() {
        let known = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        // These values may be secrets, so errors do not show them.
        match value.as_str() {
            _ if field.is_empty() || !field.chars().all(known) => {
                reader.wrong(name, format!("{field:?} is not the name of a header field"));
            }
            Some(value) if value.chars().all(|c| !c.is_control() || c == '\t') => {
                headers.push((field.to_owned(), value.to_owned()));
            }
            _ => reader.wrong(
                name,
                format!("the value of {field} must be a string without line breaks"),
            ),
        }
    }
    headers
}

fn read_breaker(reader: &Reader<'_>) -> HookBreaker {
    let breaker = reader.section("breaker");
    HookBreaker {
        failures: breaker.get("failures"),
        pause: breaker.get("pause"),
    }
}

fn read_conditions<T>(reader: &Reader<'_>, listeners: &BTreeMap<String, T>) -> HookConditions {
    let name = "listeners";
    for (index, listener) in reader.entries::<String>(name) {
        if !listeners.contains_key(&listener) {
            let names = listeners.keys().map(String::as_str);
            let hint = crate::suggest::did_you_mean(&listener, names);
            let message = format!("names {listener:?}, which is not in [listeners]{hint}");
            reader.wrong_element(name, index, message);
        }
    }
    HookConditions {
        listeners: reader.set(name),
        authenticated: reader.opt("authenticated"),
        remote: reader.set("remote"),
        sender_domains: reader.set("sender_domains"),
        recipient_domains: reader.set("recipient_domains"),
    }
}

/// Reads `milters.NAME`. `listeners` has the names of all listeners.
pub(crate) fn read_milter<T>(
    reader: &Reader<'_>,
    listeners: &BTreeMap<String, T>,
) -> Option<Milter> {
    let on_error = reader.opt("on_error").unwrap_or(HookError::Tempfail);
    let timeout = reader.get("timeout");
    let breaker = read_breaker(reader);
    let conditions = read_conditions(reader, listeners);
    let text: String = reader.opt("socket")?;
    let socket = match text.split_once(':') {
        Some(("unix", path)) if !path.is_empty() && !path.contains('\0') => {
            Ok(MilterSocket::Unix(reader.folder().join(path)))
        }
        Some(("inet", place)) => {
            parse_host_port(place).map(|(host, port)| MilterSocket::Inet(host, port))
        }
        _ => Err(format!(
            "{text:?} is not of the form \"inet:HOST:PORT\" or \"unix:PATH\""
        )),
    };
    match socket {
        Ok(socket) => Some(Milter {
            socket,
            timeout,
            on_error,
            breaker,
            conditions,
        }),
        Err(message) => {
            reader.wrong("socket", message);
            None
        }
    }
}
