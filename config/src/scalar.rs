//! From single TOML values to the types of this crate.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use postrider_smtp::{Address, Domain, Host, LocalPart, bounce::Class};
use toml_edit::Value;

use crate::{
    day::Day,
    duration::parse_duration,
    dynamics::SmtpError,
    hooks::{HookBody, HookError, HookKind, HookQuarantine, HookStage},
    origin::Origin,
    providers::{ProviderTls, ReplyScope},
    quantity::{Rate, Size},
    schema::Kind,
    tenant::Tenant,
    values::{
        Canonicalization, DkimAlgorithm, DkimHash, DmarcHandling, DomainPattern, FailureDsn,
        KeepTranscripts, LogFormat, LogLevel, Mechanism, MtaStsMode, Network, OnBlock, Pattern,
        ReportsTls, RequireTls, RequireTotp, Right, StoreEngine, TlsVersion, TsigAlgorithm,
        WebhookEvent, parse_address, parse_domain,
    },
};

/// A type that can be read from one TOML value.
pub(crate) trait Scalar: Sized + PartialEq {
    /// The kind in the schema.
    const KIND: Kind;

    /// Whether the value is between two others, bounds included. Only types with an order implement
    /// it.
    fn is_between(&self, _min: &Self, _max: &Self) -> bool {
        true
    }

    /// Reads the value. The error is a sentence that can follow the key.
    fn read(value: &Value, folder: &Path) -> Result<Self, String>;
}

/// The error for a value of the wrong type. It suggests quotes if they are missing.
fn wrong_type(kind: Kind, value: &Value) -> String {
    let quotes = match value {
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_)
            if !matches!(
                kind,
                Kind::Bool | Kind::Integer | Kind::Number | Kind::Tenant
            ) =>
        {
            "; put it in quotes"
        }
        Value::String(_) if matches!(kind, Kind::Bool | Kind::Integer | Kind::Number) => {
            "; leave out the quotes"
        }
        _ => "",
    };
    let found = match value.type_name() {
        "integer" => "a number",
        "float" => "a number with a fraction",
        "string" => "a string",
        "boolean" => "true or false",
        "datetime" => "a time",
        "array" => "an array",
        _ => "a table",
    };
    format!("must be {}, not {found}{quotes}", article(kind))
}

pub(crate) fn article(kind: Kind) -> String {
    match kind {
        Kind::Bool | Kind::Word(_) | Kind::Secret => kind.to_string(),
        Kind::Ip | Kind::Network | Kind::SocketAddress | Kind::Origin | Kind::List(_) => {
            format!("an {kind}")
        }
        kind => format!("a {kind}"),
    }
}

fn text<T: Scalar>(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| wrong_type(T::KIND, value))
}

/// The part of [`Scalar`] for types with an order.
macro_rules! ordered {
    () => {
        fn is_between(&self, min: &Self, max: &Self) -> bool {
            (min..=max).contains(&self)
        }
    };
}

impl Scalar for String {
    const KIND: Kind = Kind::Text;

    fn read(value: &Value, _: &Path) -> Result<Self, String> {
        let text = text::<Self>(value)?;
        // These texts get into header fields, replies and log lines.
        if text.chars().any(|c| c.is_control() && c != '\t') {
            return Err("must not have control characters or line breaks".to_owned());
        }
        Ok(text.to_owned())
    }
}

impl Scalar for bool {
    const KIND: Kind = Kind::Bool;

    fn read(value: &Value, _: &Path) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| wrong_type(Self::KIND, value))
    }
}

macro_rules! integers {
    ($($type:ty),+) => {$(
        impl Scalar for $type {
            const KIND: Kind = Kind::Integer;

            ordered!();

            fn read(value: &Value, _: &Path) -> Result<Self, String> {
                let number = value.as_integer().ok_or_else(|| wrong_type(Self::KIND, value))?;
                Self::try_from(number).map_err(|_| match number {
                    ..0 => "must not be negative".to_owned(),
                    _ => format!("must not be more than {}", Self::MAX),
                })
            }
        }
    )+};
}

integers!(u16, u32, usize);

impl Scalar for f64 {
    const KIND: Kind = Kind::Number;

    ordered!();

    fn read(value: &Value, _: &Path) -> Result<Self, String> {
        #[expect(clippy::cast_precision_loss, reason = "ranges are small")]
        let whole = value.as_integer().map(|number| number as Self);
        let number = value.as_float().or(whole);
        let number = number.ok_or_else(|| wrong_type(Self::KIND, value))?;
        // No bound compares with NaN, so a range does not exclude it.
        if number.is_finite() {
            Ok(number)
        } else {
            Err("must be a finite number".to_owned())
        }
    }
}

impl Scalar for Duration {
    const KIND: Kind = Kind::Duration;

    ordered!();

    fn read(value: &Value, _: &Path) -> Result<Self, String> {
        if let Some(number) = value.as_integer() {
            return Err(format!(
                "must be a duration with a unit, as in \"{number}s\""
            ));
        }
        parse_duration(text::<Self>(value)?)
    }
}

impl Scalar for Size {
    const KIND: Kind = Kind::Size;

    ordered!();

    fn read(value: &Value, _: &Path) -> Result<Self, String> {
        match value.as_integer() {
            Some(number) => u64::try_from(number)
                .map(Self)
                .map_err(|_| "must not be negative".to_owned()),
            None => Self::parse(text::<Self>(value)?),
        }
    }
}

/// None: no limit.
impl Scalar for Option<Rate> {
    const KIND: Kind = Kind::Rate;

    fn read(value: &Value, _: &Path) -> Result<Self, String> {
        match text::<Self>(value)? {
            "none" => Ok(None),
            text => Rate::parse(text).map(Some),
        }
    }
}

/// With quotes or without: TOML knows dates.
impl Scalar for Day {
    const KIND: Kind = Kind::Date;

    ordered!();

    fn read(value: &Value, _: &Path) -> Result<Self, String> {
        match value.as_datetime() {
            Some(date) => Self::parse(&date.to_string()),
            None => Self::parse(text::<Self>(value)?),
        }
    }
}

impl Scalar for Class {
    const KIND: Kind = Kind::Word(Self::NAMES);

    fn read(value: &Value, _: &Path) -> Result<Self, String> {
        let text = text::<Self>(value)?;
        Self::named(text).ok_or_else(|| not_a_word(text, Self::KIND))
    }
}

impl Scalar for Tenant {
    const KIND: Kind = Kind::Tenant;

    fn read(value: &Value, _: &Path) -> Result<Self, String> {
        if let Some(number) = value.as_integer() {
            return Self::parse(&number.to_string()).map_err(str::to_owned);
        }
        Self::parse(text::<Self>(value)?).map_err(str::to_owned)
    }
}

impl Scalar for PathBuf {
    const KIND: Kind = Kind::Path;

    fn read(value: &Value, folder: &Path) -> Result<Self, String> {
        let text = text::<Self>(value)?;
        if text.is_empty() || text.contains('\0') {
            return Err("must be a path; it is empty or has a NUL".to_owned());
        }
        Ok(folder.join(text))
    }
}

/// Types that are read from a string by one function.
macro_rules! parsed {
    ($($type:ty, $kind:expr, $parse:expr;)+) => {$(
        impl Scalar for $type {
            const KIND: Kind = $kind;

            fn read(value: &Value, _: &Path) -> Result<Self, String> {
                $parse(text::<Self>(value)?)
            }
        }
    )+};
}

parsed! {
    Domain, Kind::Domain, parse_domain;
    DomainPattern, Kind::DomainPattern, DomainPattern::parse;
    Address, Kind::Address, parse_address;
    LocalPart, Kind::LocalPart, parse_localpart;
    Host, Kind::Host, parse_host;
    IpAddr, Kind::Ip, parse_ip;
    Network, Kind::Network, Network::parse;
    Origin, Kind::Origin, Origin::parse;
    SocketAddr, Kind::SocketAddress, parse_socket_address;
    Url, Kind::Url, Url::parse;
    Pattern, Kind::Regexp, parse_pattern;
    SmtpError, Kind::Reply, parse_reply;
}

fn not_a_word(text: &str, kind: Kind) -> String {
    format!("{text:?} is not a value of this key; write {kind}")
}

macro_rules! word {
    ($($type:ty),+) => {$(
        impl Scalar for $type {
            const KIND: Kind = Kind::Word(Self::WORDS);

            fn read(value: &Value, _: &Path) -> Result<Self, String> {
                let text = text::<Self>(value)?;
                Self::from_word(text).ok_or_else(|| not_a_word(text, Self::KIND))
            }
        }
    )+};
}

word!(
    LogLevel,
    LogFormat,
    TlsVersion,
    StoreEngine,
    DmarcHandling,
    OnBlock,
    KeepTranscripts,
    RequireTotp,
    Mechanism,
    DkimAlgorithm,
    DkimHash,
    Canonicalization,
    MtaStsMode,
    ProviderTls,
    ReplyScope,
    WebhookEvent,
    FailureDsn,
    Right,
    ReportsTls,
    RequireTls,
    TsigAlgorithm,
    HookKind,
    HookStage,
    HookBody,
    HookError,
    HookQuarantine
);

/// A URL, checked, in the form in which it was written.
#[derive(PartialEq, Eq)]
pub(crate) struct Url(pub(crate) String);

impl Url {
    fn parse(text: &str) -> Result<Self, String> {
        let url = url::Url::parse(text).map_err(|error| {
            format!(
                "{text:?} is not a URL ({error}); write the complete URL, as in \
            \"https://example.com/path\""
            )
        })?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err(format!("{text:?} has no host"));
        }
        // The parser removes these characters silently. Then the URL that is called would differ
        // from the written one.
        if text.chars().any(|c| c.is_control() || c == ' ') {
            return Err("must not have spaces or control characters".to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    /// The scheme, in lower case.
    pub(crate) fn scheme(&self) -> String {
        let scheme = self.0.split(':').next().unwrap_or("");
        scheme.to_ascii_lowercase()
    }
}

pub(crate) fn parse_localpart(text: &str) -> Result<LocalPart, String> {
    LocalPart::parse(text).map_err(|error| format!("{text:?} is not a local-part: {error}"))
}

fn parse_host(text: &str) -> Result<Host, String> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    match bare.parse() {
        Ok(ip) => Ok(Host::Literal(ip)),
        Err(_) => parse_domain(text)
            .map(Host::Domain)
            .map_err(|_| format!("{text:?} is neither a domain name nor an IP address")),
    }
}

fn parse_ip(text: &str) -> Result<IpAddr, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not an IP address"))
}

fn parse_socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "{text:?} is not an IP address with a port; write it as \"192.0.2.1:53\" or \
            \"[2001:db8::1]:53\""
        )
    })
}

/// `HOST:PORT`.
pub(crate) fn parse_host_port(text: &str) -> Result<(Host, u16), String> {
    let wrong = || format!("{text:?} is not of the form \"HOST:PORT\"");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    if port == 0 {
        return Err(wrong());
    }
    Ok((parse_host(host)?, port))
}

fn parse_pattern(text: &str) -> Result<Pattern, String> {
    regex::Regex::new(text).map(Pattern).map_err(|error| {
        let error = error.to_string();
        // The message has several lines. The last line says what is wrong.
        let line = error.lines().last().unwrap_or("");
        format!(
            "is not a regular expression: {}",
            line.trim_start_matches("error: ")
        )
    })
}

/// Reads a reply: a code, perhaps an enhanced code of the same class, and text.
fn parse_reply(text: &str) -> Result<SmtpError, String> {
    let wrong = || format!("{text:?} is not a reply such as \"550 5.1.1 no such user\"");
    let (code, rest) = match text.split_once(' ') {
        Some((code, rest)) => (code, rest.trim()),
        None => (text, ""),
    };
    let number: u16 = code.parse().map_err(|_| wrong())?;
    let class = number / 100;
    let second = number / 10 % 10;
    if code.len() != 3 || !matches!(class, 4 | 5) || second > 5 {
        return Err(format!(
            "{code:?} is not the code of a refusal; use 450 for a temporary or 550 for a \
            permanent one"
        ));
    }
    let first = rest.split(' ').next().unwrap_or("");
    if let Ok(enhanced) = first.parse::<postrider_smtp::EnhancedCode>()
        && u16::from(enhanced.class) != class
    {
        return Err(format!(
            "{first} does not fit {number}; an enhanced code begins with the same digit"
        ));
    }
    if !rest.is_ascii() || rest.len() > 400 {
        return Err("the text of a reply must be ASCII and shorter than 400 characters".to_owned());
    }
    Ok(SmtpError {
        code: number,
        text: rest.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies() {
        let check = |text: &str, code: u16, rest: &str| {
            let expected = SmtpError {
                code,
                text: rest.to_owned(),
            };
            assert_eq!(parse_reply(text), Ok(expected));
        };
        check("550", 550, "");
        check("550 no such user", 550, "no such user");
        check("450 4.2.1 come back", 450, "4.2.1 come back");
        for text in [
            "",
            "no",
            "250 ok",
            "550 4.1.1 x",
            "5500",
            "560",
            "550 \u{e4}",
            "+50 x",
        ] {
            assert!(parse_reply(text).is_err(), "{text}");
        }
    }

    #[test]
    fn hosts_and_ports() {
        let read = |text: &str| parse_host_port(text).map(|(host, port)| format!("{host} {port}"));
        assert_eq!(read("localhost:1080"), Ok("localhost 1080".to_owned()));
        assert_eq!(read("[::1]:1080"), Ok("[IPv6:::1] 1080".to_owned()));
        assert_eq!(read("127.0.0.1:1080"), Ok("[127.0.0.1] 1080".to_owned()));
        for text in [
            "",
            "localhost",
            "localhost:",
            "localhost:0",
            "localhost:65536",
            ":25",
            "a b:25",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn urls_stay_as_written() {
        let read = |text: &str| Url::parse(text).map(|url| url.0);
        assert_eq!(
            read("HTTP://Example.com:80/a?b"),
            Ok("HTTP://Example.com:80/a?b".to_owned())
        );
        for text in [
            "",
            "example.com",
            "/x",
            "http://",
            "mailto:a@b",
            "http://a b/",
            "http://a/\n",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
