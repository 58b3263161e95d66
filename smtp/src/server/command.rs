//! Command lines: verbs, paths and parameters (RFC 5321 §4.1.1).

mod given;

use super::xclient::Xclient;
use crate::{
    Address, AddressError, BodyType, ByMode, DeliverBy, DeliveryOptions, EnhancedCode, ForwardPath,
    Hold, Notify, Reply, ReplyCode, Ret, ReversePath,
    params::{InvalidParameter, utf8_addr, xtext},
    reason,
};

/// The fewest seconds in which a message must be delivered or fail (RFC 2852 §4).
pub(super) const DELIVER_BY_MIN: i64 = 60;

/// The longest values of ENVID and ORCPT (RFC 3461 §5.4).
const ENVID_MAX: usize = 100;
const ORCPT_MAX: usize = 500;

/// The sender and the parameters of a MAIL command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailFrom {
    /// The sender, who gets the reports of failures.
    pub reverse_path: ReversePath,
    /// The size that the client says the message has (RFC 1870).
    pub size: Option<u64>,
    /// The bytes that the text may have (RFC 6152).
    pub body: BodyType,
    /// The envelope and the header section may have UTF-8 (RFC 6531).
    pub smtputf8: bool,
    /// Every hop must use verified TLS (RFC 8689).
    pub require_tls: bool,
    /// The part of the message that a failure DSN returns (RFC 3461 §4.3).
    pub ret: Option<Ret>,
    /// The submitter's own id of this transaction, decoded (RFC 3461 §4.4).
    pub envid: Option<String>,
    /// The time and the urgency of the delivery.
    pub delivery: DeliveryOptions,
}

/// The recipient and the parameters of a RCPT command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RcptTo {
    /// The recipient.
    pub forward_path: ForwardPath,
    /// The events that the sender wants a DSN for (RFC 3461 §4.1).
    pub notify: Option<Notify>,
    /// The original recipient as `type;address`, decoded (RFC 3461 §4.2).
    pub orcpt: Option<String>,
}

/// The offers to a program that the administrator trusts.
const ALL_OFFERED: Offered = Offered {
    dsn: true,
    require_tls: RequireTls::Offered,
    binary_mime: true,
    xclient: false,
    submission: true,
    smtputf8: true,
    max_size: u64::MAX,
};

impl MailFrom {
    /// Another sender, with the parameters of a MAIL command, as a mail filter gives them. RET and
    /// ENVID are those of `parameters` alone. All else stays.
    ///
    /// # Errors
    /// If the parameters are wrong.
    pub fn changed(&self, to: ReversePath, parameters: &str) -> Result<Self, Reply> {
        let is_ascii = to.address().is_none_or(Address::is_ascii);
        let given = mail(&format!("FROM:<> {parameters}"), ALL_OFFERED)?;
        Ok(Self {
            reverse_path: to,
            smtputf8: self.smtputf8 || !is_ascii,
            ret: given.ret,
            envid: given.envid,
            ..self.clone()
        })
    }
}

impl RcptTo {
    /// A recipient with the parameters of a RCPT command, as a mail filter gives them.
    ///
    /// # Errors
    /// If the parameters are wrong.
    pub fn added(address: Address, parameters: &str) -> Result<Self, Reply> {
        let given = rcpt(&format!("TO:<postmaster> {parameters}"), ALL_OFFERED)?;
        Ok(Self {
            forward_path: ForwardPath::Mailbox(address),
            ..given
        })
    }
}

/// A command that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Ehlo(String),
    Helo(String),
    Mail(MailFrom),
    Rcpt(RcptTo),
    Data,
    Bdat {
        size: u64,
        last: bool,
    },
    Rset,
    Noop,
    Vrfy,
    Expn,
    Help,
    Quit,
    StartTls,
    Auth {
        mechanism: String,
        initial: Option<String>,
    },
    /// A peer tells for which client it speaks.
    Xclient(Box<Xclient>),
    /// The first line of an HTTP request. Somebody misuses a browser to send mail.
    Http,
}

/// Whether a client may use REQUIRETLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RequireTls {
    /// The server does not know it.
    #[default]
    Unknown,
    /// Only under TLS (RFC 8689 §2).
    NeedsTls,
    Offered,
}

/// The offers of a session that parameters depend on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offered {
    pub(crate) dsn: bool,
    pub(crate) require_tls: RequireTls,
    pub(crate) binary_mime: bool,
    pub(crate) xclient: bool,
    pub(crate) submission: bool,
    /// The transaction has SMTPUTF8.
    pub(crate) smtputf8: bool,
    pub(crate) max_size: u64,
}

/// The refusal of wrong parameters.
pub(super) fn wrong(text: impl Into<std::borrow::Cow<'static, str>>) -> Reply {
    Reply::new(
        ReplyCode::PARAMETER_ERROR,
        Some(EnhancedCode::INVALID_ARGUMENTS),
        text,
    )
    .because(reason::PARAMETER)
}

fn no_parameters(rest: &str, command: Command) -> Result<Command, Reply> {
    if rest.trim().is_empty() {
        Ok(command)
    } else {
        Err(wrong("this command takes no parameters"))
    }
}

/// Reads a command line without its CRLF.
pub(crate) fn parse(line: &str, offered: Offered) -> Result<Command, Reply> {
    let line = line.trim_end_matches([' ', '\t']);
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    match verb.to_ascii_uppercase().as_str() {
        "EHLO" => client_name(rest).map(Command::Ehlo),
        "HELO" => client_name(rest).map(Command::Helo),
        "MAIL" => mail(rest, offered).map(Command::Mail),
        "RCPT" => rcpt(rest, offered).map(Command::Rcpt),
        "DATA" => no_parameters(rest, Command::Data),
        "BDAT" => bdat(rest),
        "RSET" => no_parameters(rest, Command::Rset),
        "NOOP" => Ok(Command::Noop),
        "VRFY" if rest.is_empty() => Err(wrong("VRFY needs an address")),
        "VRFY" => Ok(Command::Vrfy),
        "EXPN" => Ok(Command::Expn),
        "HELP" => Ok(Command::Help),
        "QUIT" => no_parameters(rest, Command::Quit),
        "STARTTLS" => no_parameters(rest, Command::StartTls),
        "AUTH" => auth(rest),
        "XCLIENT" if offered.xclient => {
            Xclient::parse(rest).map(|told| Command::Xclient(Box::new(told)))
        }
        "XCLIENT" => Err(Reply::fixed(
            ReplyCode::MAILBOX_UNAVAILABLE,
            Some(EnhancedCode::SECURITY),
            "you may not speak for other clients",
        )
        .because(reason::XCLIENT)),
        verb if is_http_method(verb) && rest.contains("HTTP/") => Ok(Command::Http),
        _ => Err(Reply::fixed(
            ReplyCode::SYNTAX_ERROR,
            Some(EnhancedCode::INVALID_COMMAND),
            "command not recognized",
        )
        .because(reason::UNKNOWN_COMMAND)),
    }
}

/// The word is a method of HTTP that browsers and their attackers use.
pub(super) fn is_http_method(word: &str) -> bool {
    matches!(
        word,
        "GET" | "POST" | "PUT" | "HEAD" | "OPTIONS" | "CONNECT" | "DELETE" | "PATCH" | "TRACE"
    )
}

/// The name in EHLO, as it may stand in a Received field. Many real clients give neither a domain
/// nor an address literal: the name of a computer, perhaps with spaces or in a charset of its own.
/// RFC 5321 §4.1.4 forbids to refuse mail for that. So each other character becomes a `?`.
pub(super) fn client_name(rest: &str) -> Result<String, Reply> {
    let name = rest.trim();
    if name.is_empty() || name.len() > 255 {
        return Err(wrong("give your domain name or address literal"));
    }
    let safe = |c: char| match c {
        '(' | ')' | ';' | '<' | '>' | '"' | '\\' | ',' => '?',
        c if c.is_ascii_graphic() => c,
        _ => '?',
    };
    Ok(name.chars().map(safe).collect())
}

/// Reads a line that is not UTF-8. Only EHLO and HELO may be in another charset: the names of some
/// Windows computers are.
pub(crate) fn parse_bytes(line: &[u8], offered: Offered) -> Option<Result<Command, Reply>> {
    let verb = line.get(..5)?;
    let hello = verb.eq_ignore_ascii_case(b"EHLO ") || verb.eq_ignore_ascii_case(b"HELO ");
    hello.then(|| parse(&String::from_utf8_lossy(line), offered))
}

/// The line is a BDAT command, right or wrong.
pub(crate) fn is_bdat(line: &[u8]) -> bool {
    let line = line.trim_ascii_start();
    line.get(..4)
        .is_some_and(|verb| verb.eq_ignore_ascii_case(b"BDAT"))
}

/// The line is a MAIL command, right or wrong.
pub(crate) fn is_mail(line: &[u8]) -> bool {
    let verb = line.split(|byte| *byte == b' ').next();
    verb.is_some_and(|verb| verb.trim_ascii_end().eq_ignore_ascii_case(b"MAIL"))
}

/// Splits `KEYWORD:<path> parameters` into the path and the parameters. The path comes without its
/// brackets and source route. Some programs leave out the brackets.
fn path<'a>(rest: &'a str, keyword: &str) -> Result<(&'a str, &'a str), Reply> {
    let syntax = || wrong(format!("the syntax is {keyword}:<address>"));
    let after = match rest.trim_start().split_at_checked(keyword.len()) {
        Some((word, after)) if word.eq_ignore_ascii_case(keyword) => after,
        _ => return Err(syntax()),
    };
    // A space after the colon is wrong, but common.
    let open = after
        .strip_prefix(':')
        .ok_or_else(syntax)?
        .trim_start_matches(' ');
    let Some(inner) = open.strip_prefix('<') else {
        let end = unquoted(open, |byte| byte == b' ').unwrap_or(open.len());
        let (path, rest) = open.split_at_checked(end).ok_or_else(syntax)?;
        let bracket = unquoted(path, |byte| matches!(byte, b'<' | b'>'));
        return match path.is_empty() || bracket.is_some() {
            true => Err(syntax()),
            false => Ok((path, rest)),
        };
    };
    let close = unquoted(inner, |byte| byte == b'>').ok_or_else(syntax)?;
    let (path, rest) = inner.split_at_checked(close).ok_or_else(syntax)?;
    let rest = rest.strip_prefix('>').unwrap_or_default();
    if !(rest.is_empty() || rest.starts_with(' ')) {
        return Err(syntax());
    }
    // Spaces beside the brackets are wrong, too.
    let path = path.trim_matches(' ');
    // A server accepts a source route and ignores it (RFC 5321 §4.1.1.3).
    let path = match path
        .strip_prefix('@')
        .and_then(|route| route.split_once(':'))
    {
        Some((_, mailbox)) => mailbox,
        None => path,
    };
    Ok((path, rest))
}

/// The place of the first such byte outside of quotes.
fn unquoted(text: &str, is_wanted: impl Fn(u8) -> bool) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            byte if !quoted && is_wanted(byte) => return Some(at),
            _ => {}
        }
    }
    None
}

fn sender_error(error: &AddressError) -> Reply {
    Reply::new(
        ReplyCode::PARAMETER_ERROR,
        Some(EnhancedCode::BAD_SENDER_SYNTAX),
        format!("bad sender address: {error}"),
    )
    .because(reason::ADDRESS_SYNTAX)
}

fn recipient_error(error: &AddressError) -> Reply {
    Reply::new(
        ReplyCode::PARAMETER_ERROR,
        Some(EnhancedCode::BAD_RECIPIENT_SYNTAX),
        format!("bad recipient address: {error}"),
    )
    .because(reason::ADDRESS_SYNTAX)
}

/// The refusal of an address in UTF-8 without SMTPUTF8 (RFC 6531 §3.5).
fn needs_smtputf8() -> Reply {
    Reply::fixed(
        ReplyCode::NAME_NOT_ALLOWED,
        Some(EnhancedCode::NON_ASCII_ADDRESS),
        "non-ASCII addresses need SMTPUTF8",
    )
    .because(reason::NEEDS_SMTPUTF8)
}

fn unknown_parameter(keyword: &str) -> Reply {
    Reply::new(
        ReplyCode::PARAMETERS_UNKNOWN,
        Some(EnhancedCode::INVALID_ARGUMENTS),
        format!("parameter {keyword} is not known or not offered"),
    )
    .because(reason::PARAMETER_UNKNOWN)
}

/// Reads the words `keyword[=value]`, each by `read`. No keyword may come twice. A parameter that
/// is not known is refused before a wrong value, wherever they stand: the client can go on without
/// the extension.
fn parameters<'a>(
    rest: &'a str,
    mut read: impl FnMut(&str, Option<&'a str>) -> Result<(), Reply>,
) -> Result<(), Reply> {
    let (mut found, mut wrong_value): (Vec<String>, _) = (Vec::new(), None);
    for word in rest.split(' ').filter(|word| !word.is_empty()) {
        let (keyword, value) = match word.split_once('=') {
            Some((keyword, value)) => (keyword, Some(value)),
            None => (word, None),
        };
        let keyword = keyword.to_ascii_uppercase();
        let result = match found.contains(&keyword) {
            true => Err(wrong(format!("parameter {keyword} is given twice"))),
            false => read(&keyword, value),
        };
        match result {
            Err(reply) if reply.code() == ReplyCode::PARAMETERS_UNKNOWN => return Err(reply),
            Err(reply) => _ = wrong_value.get_or_insert(reply),
            Ok(()) => {}
        }
        found.push(keyword);
    }
    wrong_value.map_or(Ok(()), Err)
}

/// Reads a parameter of this keyword.
fn value<T>(
    keyword: &str,
    value: Option<&str>,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<T, Reply> {
    let bad = || wrong(format!("bad value of parameter {keyword}"));
    value.and_then(read).ok_or_else(bad)
}

/// Reads a parameter that has no value.
fn flag(keyword: &str, value: Option<&str>) -> Result<bool, Reply> {
    match value {
        None => Ok(true),
        Some(_) => Err(wrong(format!("parameter {keyword} takes no value"))),
    }
}

/// Reads SIZE: 20 digits at most (RFC 1870 §4). A number beyond all limits is a number.
fn size(text: &str) -> Option<u64> {
    let is_number = (1..=20).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

fn mail(rest: &str, offered: Offered) -> Result<MailFrom, Reply> {
    let (path, rest) = path(rest, "FROM")?;
    let reverse_path = ReversePath::parse(path).map_err(|error| sender_error(&error))?;
    let mut mail = MailFrom {
        reverse_path,
        size: None,
        body: BodyType::SevenBit,
        smtputf8: false,
        require_tls: false,
        ret: None,
        envid: None,
        delivery: DeliveryOptions::default(),
    };
    parameters(rest, |keyword, given| {
        match keyword {
            "SIZE" => mail.size = Some(value(keyword, given, size)?),
            "BODY" => {
                mail.body = value(keyword, given, |value| value.parse().ok())?;
                if mail.body == BodyType::BinaryMime && !offered.binary_mime {
                    return Err(unknown_parameter("BODY=BINARYMIME"));
                }
            }
            "SMTPUTF8" => mail.smtputf8 = flag(keyword, given)?,
            "REQUIRETLS" if offered.require_tls != RequireTls::Unknown => {
                mail.require_tls = flag(keyword, given)?;
            }
            // The submitter, as the client names it (RFC 4954 §5). Nothing here needs that.
            "AUTH" => value(keyword, given, |_| Some(()))?,
            "RET" if offered.dsn => {
                mail.ret = Some(value(keyword, given, |value| value.parse().ok())?);
            }
            "ENVID" if offered.dsn => {
                mail.envid = Some(value(keyword, given, |value| {
                    let fits = value.len() <= ENVID_MAX;
                    fits.then(|| xtext::decode(value).ok()).flatten()
                })?);
            }
            keyword if offered.submission => {
                delivery_option(keyword, given, &mut mail.delivery)?;
            }
            keyword => return Err(unknown_parameter(keyword)),
        }
        Ok(())
    })?;
    if !mail.smtputf8 && !mail.reverse_path.address().is_none_or(Address::is_ascii) {
        return Err(needs_smtputf8());
    }
    if mail.size.is_some_and(|size| size > offered.max_size) {
        return Err(too_large(offered.max_size));
    }
    if mail.require_tls && offered.require_tls == RequireTls::NeedsTls {
        return Err(Reply::fixed(
            ReplyCode::ENCRYPTION_NEEDED,
            Some(EnhancedCode::ENCRYPTION_NEEDED),
            "REQUIRETLS needs TLS, use STARTTLS first",
        )
        .because(reason::REQUIRETLS));
    }
    Ok(mail)
}

/// Reads a parameter about the time or the urgency of the delivery.
fn delivery_option(
    keyword: &str,
    given: Option<&str>,
    options: &mut DeliveryOptions,
) -> Result<(), Reply> {
    match keyword {
        "HOLDFOR" | "HOLDUNTIL" if options.hold.is_some() => {
            return Err(wrong("give HOLDFOR or HOLDUNTIL, not both"));
        }
        "HOLDFOR" => {
            options.hold = Some(value(keyword, given, |value| Hold::parse_for(value).ok())?);
        }
        "HOLDUNTIL" => {
            options.hold = Some(value(keyword, given, |value| {
                Hold::parse_until(value).ok()
            })?);
        }
        "MT-PRIORITY" => options.priority = value(keyword, given, |value| value.parse().ok())?,
        "BY" => {
            let by: DeliverBy = value(keyword, given, |value| value.parse().ok())?;
            if by.mode == ByMode::Return && by.seconds < DELIVER_BY_MIN {
                return Err(wrong(format!(
                    "with BY mode R the time is {DELIVER_BY_MIN} seconds or more"
                )));
            }
            options.deliver_by = Some(by);
        }
        _ => return Err(unknown_parameter(keyword)),
    }
    Ok(())
}

/// The refusal of a message above the SIZE limit (RFC 1870 §6.1).
pub(crate) fn too_large(max: u64) -> Reply {
    Reply::new(
        ReplyCode::STORAGE_EXCEEDED,
        Some(EnhancedCode::TOO_BIG),
        format!("the message is larger than {max} bytes"),
    )
    .because(reason::SIZE)
}

fn rcpt(rest: &str, offered: Offered) -> Result<RcptTo, Reply> {
    let (path, rest) = path(rest, "TO")?;
    let forward_path = ForwardPath::parse(path).map_err(|error| recipient_error(&error))?;
    let mut rcpt = RcptTo {
        forward_path,
        notify: None,
        orcpt: None,
    };
    parameters(rest, |keyword, given| {
        match keyword {
            "NOTIFY" if offered.dsn => {
                rcpt.notify = Some(value(keyword, given, |value| value.parse().ok())?);
            }
            "ORCPT" if offered.dsn => {
                let is_utf8 = given.is_some_and(|value| !value.is_ascii());
                if is_utf8 && !offered.smtputf8 {
                    return Err(needs_smtputf8());
                }
                let read = |value: &str| original_recipient(value).ok();
                rcpt.orcpt = Some(value(keyword, given, read)?);
            }
            keyword => return Err(unknown_parameter(keyword)),
        }
        Ok(())
    })?;
    Ok(rcpt)
}

/// Reads ORCPT as `type;address`, and decodes the address (RFC 3461 §4.2). The type `utf-8` has an
/// encoding of its own (RFC 6533 §3).
fn original_recipient(value: &str) -> Result<String, InvalidParameter> {
    let (kind, address) = value.split_once(';').ok_or(InvalidParameter)?;
    let is_atom = !kind.is_empty() && kind.bytes().all(is_atext);
    if !is_atom || value.len() > ORCPT_MAX {
        return Err(InvalidParameter);
    }
    let address = match kind.eq_ignore_ascii_case("utf-8") {
        true => utf8_addr::decode(address)?,
        false => xtext::decode(address)?,
    };
    // Reports show the address.
    match address.is_empty() || address.contains(char::is_control) {
        true => Err(InvalidParameter),
        false => Ok(format!("{kind};{address}")),
    }
}

/// A character of an atom (RFC 5322 §3.2.3).
const fn is_atext(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'/' | b'=' | b'?' | b'^'..=b'`' | b'{'..=b'~'
        )
}

/// Refuses a recipient in UTF-8 unless its transaction has SMTPUTF8.
pub(crate) fn check_smtputf8(rcpt: &RcptTo, smtputf8: bool) -> Result<(), Reply> {
    if smtputf8 || rcpt.forward_path.address().is_none_or(Address::is_ascii) {
        Ok(())
    } else {
        Err(needs_smtputf8())
    }
}

fn bdat(rest: &str) -> Result<Command, Reply> {
    let mut words = rest.split_ascii_whitespace();
    let size = words
        .next()
        .filter(|size| size.bytes().all(|byte| byte.is_ascii_digit()));
    let size = size.and_then(|size| size.parse().ok());
    let last = match words.next() {
        None => Some(false),
        Some(word) if word.eq_ignore_ascii_case("LAST") => Some(true),
        Some(_) => None,
    };
    match (size, last, words.next()) {
        (Some(size), Some(last), None) => Ok(Command::Bdat { size, last }),
        _ => Err(wrong("the syntax is BDAT size [LAST]")),
    }
}

fn auth(rest: &str) -> Result<Command, Reply> {
    let mut words = rest.split_ascii_whitespace();
    let mechanism = words.next().map(str::to_ascii_uppercase);
    let initial = words.next().map(str::to_owned);
    match (mechanism, words.next()) {
        (Some(mechanism), None) => Ok(Command::Auth { mechanism, initial }),
        _ => Err(wrong("the syntax is AUTH mechanism [initial-response]")),
    }
}

#[cfg(test)]
mod tests;
