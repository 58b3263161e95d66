//! Command lines: verbs, paths and parameters (RFC 5321 §4.1.1).

use super::xclient::Xclient;
use crate::{
    Address, AddressError, BodyType, ByMode, DeliverBy, DeliveryOptions, EnhancedCode, ForwardPath,
    Hold, Notify, Reply, ReplyCode, Ret, ReversePath, params::xtext,
};

/// The fewest seconds in which a message must be delivered or fail (RFC 2852 §4).
pub(super) const DELIVER_BY_MIN: i64 = 60;

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
    pub(crate) submission: bool,
    pub(crate) xclient: bool,
    pub(crate) max_size: u64,
}

/// The refusal of wrong parameters.
pub(super) fn wrong(text: impl Into<std::borrow::Cow<'static, str>>) -> Reply {
    Reply::new(
        ReplyCode::PARAMETER_ERROR,
        Some(EnhancedCode::INVALID_ARGUMENTS),
        text,
    )
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
        )),
        verb if is_http_method(verb) && rest.contains("HTTP/") => Ok(Command::Http),
        _ => Err(Reply::fixed(
            ReplyCode::SYNTAX_ERROR,
            Some(EnhancedCode::INVALID_COMMAND),
            "command not recognized",
        )),
    }
}

/// The word is a method of HTTP that browsers and their attackers use.
pub(super) fn is_http_method(word: &str) -> bool {
    matches!(
        word,
        "GET" | "POST" | "PUT" | "HEAD" | "OPTIONS" | "CONNECT"
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
}

fn recipient_error(error: &AddressError) -> Reply {
    Reply::new(
        ReplyCode::PARAMETER_ERROR,
        Some(EnhancedCode::BAD_RECIPIENT_SYNTAX),
        format!("bad recipient address: {error}"),
    )
}

/// The refusal of an address in UTF-8 without SMTPUTF8 (RFC 6531 §3.5).
fn needs_smtputf8() -> Reply {
    Reply::fixed(
        ReplyCode::NAME_NOT_ALLOWED,
        Some(EnhancedCode::NON_ASCII_ADDRESS),
        "non-ASCII addresses need SMTPUTF8",
    )
}

fn unknown_parameter(keyword: &str) -> Reply {
    Reply::new(
        ReplyCode::PARAMETERS_UNKNOWN,
        Some(EnhancedCode::INVALID_ARGUMENTS),
        format!("parameter {keyword} is not known or not offered"),
    )
}

/// Reads the words `keyword[=value]`. No keyword may come twice.
fn parameters(rest: &str) -> Result<Vec<(String, Option<&str>)>, Reply> {
    let mut found: Vec<(String, Option<&str>)> = Vec::new();
    for word in rest.split(' ').filter(|word| !word.is_empty()) {
        let (keyword, value) = match word.split_once('=') {
            Some((keyword, value)) => (keyword, Some(value)),
            None => (word, None),
        };
        let keyword = keyword.to_ascii_uppercase();
        if found.iter().any(|(known, _)| *known == keyword) {
            return Err(wrong(format!("parameter {keyword} is given twice")));
        }
        found.push((keyword, value));
    }
    Ok(found)
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
    for (keyword, value) in parameters(rest)? {
        let bad = || wrong(format!("bad value of parameter {keyword}"));
        match (keyword.as_str(), value) {
            ("SIZE", Some(value)) => mail.size = Some(value.parse().map_err(|_| bad())?),
            ("BODY", Some(value)) => {
                mail.body = value.parse().map_err(|_| bad())?;
                if mail.body == BodyType::BinaryMime && !offered.binary_mime {
                    return Err(unknown_parameter("BODY=BINARYMIME"));
                }
            }
            ("SMTPUTF8", None) => mail.smtputf8 = true,
            ("REQUIRETLS", None) if offered.require_tls == RequireTls::Offered => {
                mail.require_tls = true;
            }
            ("REQUIRETLS", None) if offered.require_tls == RequireTls::NeedsTls => {
                return Err(Reply::fixed(
                    ReplyCode::ENCRYPTION_NEEDED,
                    Some(EnhancedCode::ENCRYPTION_NEEDED),
                    "REQUIRETLS needs TLS, use STARTTLS first",
                ));
            }
            // The submitter, as the client names it (RFC 4954 §5). Nothing here needs that.
            ("AUTH", Some(_)) => {}
            ("RET", Some(value)) if offered.dsn => {
                mail.ret = Some(value.parse().map_err(|_| bad())?)
            }
            ("ENVID", Some(value)) if offered.dsn && value.len() <= 100 => {
                mail.envid = Some(xtext::decode(value).map_err(|_| bad())?);
            }
            (keyword, Some(value)) if offered.submission => {
                delivery_option(keyword, value, &mut mail.delivery)?;
            }
            _ => return Err(unknown_parameter(&keyword)),
        }
    }
    if !mail.smtputf8 && !mail.reverse_path.address().is_none_or(Address::is_ascii) {
        return Err(needs_smtputf8());
    }
    if mail.size.is_some_and(|size| size > offered.max_size) {
        return Err(too_large(offered.max_size));
    }
    Ok(mail)
}

/// Reads a parameter about the time or the urgency of the delivery.
fn delivery_option(keyword: &str, value: &str, options: &mut DeliveryOptions) -> Result<(), Reply> {
    let bad = |_| wrong(format!("bad value of parameter {keyword}"));
    match keyword {
        "HOLDFOR" | "HOLDUNTIL" if options.hold.is_some() => {
            return Err(wrong("give HOLDFOR or HOLDUNTIL, not both"));
        }
        "HOLDFOR" => options.hold = Some(Hold::parse_for(value).map_err(bad)?),
        "HOLDUNTIL" => options.hold = Some(Hold::parse_until(value).map_err(bad)?),
        "MT-PRIORITY" => options.priority = value.parse().map_err(bad)?,
        "BY" => {
            let by: DeliverBy = value.parse().map_err(bad)?;
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
}

fn rcpt(rest: &str, offered: Offered) -> Result<RcptTo, Reply> {
    let (path, rest) = path(rest, "TO")?;
    let forward_path = ForwardPath::parse(path).map_err(|error| recipient_error(&error))?;
    let mut rcpt = RcptTo {
        forward_path,
        notify: None,
        orcpt: None,
    };
    for (keyword, value) in parameters(rest)? {
        let bad = || wrong(format!("bad value of parameter {keyword}"));
        match (keyword.as_str(), value) {
            ("NOTIFY", Some(value)) if offered.dsn => {
                rcpt.notify = Some(value.parse().map_err(|_| bad())?)
            }
            ("ORCPT", Some(value)) if offered.dsn && value.len() <= 500 => {
                let (kind, address) = value.split_once(';').ok_or_else(bad)?;
                rcpt.orcpt = Some(format!(
                    "{kind};{}",
                    xtext::decode(address).map_err(|_| bad())?
                ));
            }
            _ => return Err(unknown_parameter(&keyword)),
        }
    }
    Ok(rcpt)
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: Offered = Offered {
        dsn: true,
        require_tls: RequireTls::Offered,
        binary_mime: true,
        submission: true,
        xclient: true,
        max_size: 1000,
    };

    fn refused(line: &str, expected: &str) {
        let reply = parse(
            line,
            Offered {
                max_size: 1000,
                ..Offered::default()
            },
        )
        .unwrap_err()
        .to_string();
        assert!(reply.starts_with(expected), "{line}: {reply}");
    }

    #[test]
    fn mail_with_all_its_parameters() {
        let line = "mail from:<@relay.example:\"a>b\"@example.com> size=10 BODY=8bitmime SMTPUTF8 REQUIRETLS RET=HDRS ENVID=a+2Bb AUTH=<>";
        let Ok(Command::Mail(mail)) = parse(line, ALL) else {
            panic!("{line}")
        };
        assert_eq!(mail.reverse_path.to_string(), "\"a>b\"@example.com");
        assert_eq!((mail.size, mail.body), (Some(10), BodyType::EightBitMime));
        assert!(mail.smtputf8 && mail.require_tls);
        assert_eq!(
            (mail.ret, mail.envid.as_deref()),
            (Some(Ret::Headers), Some("a+b"))
        );
    }

    #[test]
    fn parameters_about_the_delivery() {
        let read = |parameters: &str| {
            let line = format!("MAIL FROM:<a@b.example> {parameters}");
            match parse(&line, ALL) {
                Ok(Command::Mail(mail)) => {
                    let DeliveryOptions {
                        hold,
                        priority,
                        deliver_by,
                    } = mail.delivery;
                    let hold = hold.map(|it| it.to_string()).unwrap_or_default();
                    let by = deliver_by.map(|it| it.to_string()).unwrap_or_default();
                    format!("{hold} {priority} {by}")
                }
                Ok(other) => panic!("{other:?}"),
                Err(reply) => reply.to_string(),
            }
        };
        assert_eq!(
            read("HOLDFOR=60 mt-priority=-4 BY=60;RT"),
            "for;60 -4 60;RT"
        );
        assert_eq!(
            read("HOLDUNTIL=2026-12-01T09:00:00Z BY=-3;N"),
            "until;2026-12-01T09:00:00Z 0 -3;N"
        );
        for (bad, code) in [
            (
                "HOLDFOR=60 HOLDUNTIL=2026-12-01T09:00:00Z",
                "501 5.5.4 give",
            ),
            ("HOLDFOR=-1", "501 5.5.4 bad value of parameter HOLDFOR"),
            ("HOLDUNTIL=tomorrow", "501 5.5.4 bad value"),
            ("MT-PRIORITY=10", "501 5.5.4 bad value"),
            ("BY=59;R", "501 5.5.4 with BY mode R"),
            ("BY=0;R", "501 5.5.4 with BY mode R"),
            ("BY=60", "501 5.5.4 bad value"),
            ("HOLD=1", "555 5.5.4"),
        ] {
            assert!(read(bad).starts_with(code), "{bad}: {}", read(bad));
        }
        refused("MAIL FROM:<a@b.example> HOLDFOR=60", "555 5.5.4");
        refused("MAIL FROM:<a@b.example> MT-PRIORITY=1", "555 5.5.4");
        refused("MAIL FROM:<a@b.example> BY=60;R", "555 5.5.4");
    }

    #[test]
    fn rcpt_with_all_its_parameters() {
        let line = "RCPT TO:<user@example.com> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2Bb@example.com";
        let Ok(Command::Rcpt(rcpt)) = parse(line, ALL) else {
            panic!("{line}")
        };
        assert_eq!(
            rcpt.notify,
            Some(Notify {
                success: true,
                failure: false,
                delay: true
            })
        );
        assert_eq!(rcpt.orcpt.as_deref(), Some("rfc822;a+b@example.com"));
    }

    #[test]
    fn what_is_wrong_gets_the_right_code() {
        refused("", "500 5.5.1");
        refused("FOO bar", "500 5.5.1");
        refused("EHLO", "501 5.5.4");
        refused("EHLO  ", "501 5.5.4");
        refused(&format!("EHLO {}", "a".repeat(256)), "501 5.5.4");
        refused("DATA now", "501 5.5.4");
        refused("MAIL", "501 5.5.4");
        refused("MAIL FROM user@example.com", "501 5.5.4");
        refused("MAIL FROM:", "501 5.5.4");
        refused("MAIL FROM: SIZE=1", "501 5.1.7");
        refused("MAIL FROM:user@example.com>", "501 5.5.4");
        refused("MAIL FROM:User <user@example.com>", "501 5.1.7");
        refused("RCPT TO:user", "501 5.1.3");
        refused("MAIL FROM:<user@example.com", "501 5.5.4");
        refused("MAIL FROM:<user@example.com>SIZE=1", "501 5.5.4");
        refused("MAIL FROM:<user>", "501 5.1.7");
        refused("RCPT TO:<>", "501 5.1.3");
        refused("RCPT TO:<a@b@c@-d>", "501 5.1.3");
        refused("MAIL FROM:<> SIZE=x", "501 5.5.4");
        refused("MAIL FROM:<> SIZE=1 SIZE=1", "501 5.5.4");
        refused("MAIL FROM:<> SIZE=1001", "552 5.3.4");
        refused("MAIL FROM:<> BODY=BINARYMIME", "555 5.5.4");
        refused("MAIL FROM:<> RET=FULL", "555 5.5.4");
        refused("MAIL FROM:<j\u{f6}rg@example.com>", "553 5.6.7");
        refused("BDAT", "501 5.5.4");
        refused("BDAT 1 2", "501 5.5.4");
        refused("BDAT -1", "501 5.5.4");
        refused("AUTH", "501 5.5.4");
    }

    #[test]
    fn addresses_are_taken_as_real_programs_write_them() {
        for (line, expected) in [
            ("MAIL FROM:joe@remote.test SIZE=10", "joe@remote.test"),
            ("MAIL FROM: joe@remote.test", "joe@remote.test"),
            ("MAIL FROM: < joe@remote.test >", "joe@remote.test"),
            (
                "MAIL FROM:\"a b>\"@remote.test RET=FULL",
                "\"a b>\"@remote.test",
            ),
            ("MAIL FROM:<a..b@remote.test>", "\"a..b\"@remote.test"),
            (
                "MAIL FROM:<joe@my_host.remote.test>",
                "joe@my_host.remote.test",
            ),
            ("MAIL FROM:< >", ""),
        ] {
            let Ok(Command::Mail(mail)) = parse(line, ALL) else {
                panic!("{line}")
            };
            assert_eq!(mail.reverse_path.to_string(), expected, "{line}");
        }
        for (line, expected) in [
            ("RCPT TO:app@sender.test NOTIFY=NEVER", "app@sender.test"),
            ("RCPT TO:<ab.@remote.test>", "\"ab.\"@remote.test"),
            ("RCPT TO:postmaster", "postmaster"),
        ] {
            let Ok(Command::Rcpt(rcpt)) = parse(line, ALL) else {
                panic!("{line}")
            };
            assert_eq!(rcpt.forward_path.to_string(), expected, "{line}");
        }
    }

    #[test]
    fn names_of_clients_are_made_safe() {
        for (line, expected) in [
            (&b"EHLO mail.example.org"[..], "mail.example.org"),
            (b"HELO my_host", "my_host"),
            (b"EHLO [IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"),
            (b"EHLO Johns PC", "Johns?PC"),
            (b"ehlo b\xc3\xbcro-pc", "b?ro-pc"),
            (b"ehlo b\xfcro-pc", "b?ro-pc"),
            (b"EHLO a(b);<c>\x01", "a?b???c??"),
        ] {
            let read = std::str::from_utf8(line).map(|line| parse(line, ALL));
            let read = read.unwrap_or_else(|_| parse_bytes(line, ALL).unwrap());
            match read {
                Ok(Command::Ehlo(name) | Command::Helo(name)) => assert_eq!(name, expected),
                other => panic!("{other:?}"),
            }
        }
        assert!(parse_bytes(b"MAIL FROM:<\xfc@x.test>", ALL).is_none());
        assert!(parse_bytes(b"EHLO", ALL).is_none());
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line in "(MAIL FROM:|RCPT TO:|AUTH |BDAT )?[ -~\u{e0}]{0,60}") {
            let _ = parse(&line, ALL);
        }
    }
}
