//! Transports and next hops as Postfix writes them (transport(5)).

/// A host to deliver to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct NextHop {
    pub(super) host: String,
    pub(super) port: Option<u16>,
    /// Whether the MX hosts of the name are meant, and not the name itself.
    pub(super) mx: bool,
}

/// The place of an LMTP server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lmtp {
    Socket(String),
    Host(NextHop),
}

/// How mail is delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// Over SMTP. None means the hosts of the recipient's domain.
    Smtp(Option<NextHop>),
    Lmtp(Lmtp),
    /// The mail fails with this text.
    Error(String),
    /// To mailboxes of Postfix itself.
    Own,
    /// By a program, or in a way that is not understood.
    Other,
}

impl Delivery {
    /// Reads `transport:nexthop`. Either part may be empty.
    pub(super) fn parse(text: &str) -> Self {
        let (transport, hop) = text.split_once(':').unwrap_or((text, ""));
        let (transport, hop) = (transport.trim(), hop.trim());
        match transport {
            "" | "smtp" | "relay" if hop.is_empty() => Self::Smtp(None),
            "" | "smtp" | "relay" => match NextHop::parse(hop) {
                Some(hop) => Self::Smtp(Some(hop)),
                None => Self::Other,
            },
            "lmtp" => match hop.strip_prefix("unix:") {
                Some(path) if !path.is_empty() => Self::Lmtp(Lmtp::Socket(path.to_owned())),
                Some(_) => Self::Other,
                None => match NextHop::parse(hop.strip_prefix("inet:").unwrap_or(hop)) {
                    Some(hop) => Self::Lmtp(Lmtp::Host(hop)),
                    None => Self::Other,
                },
            },
            "error" => Self::Error(hop.to_owned()),
            "local" | "virtual" => Self::Own,
            _ => Self::Other,
        }
    }
}

impl NextHop {
    /// Reads `[host]:port`, `host:port`, `[host]` or `host`. None if it is none of them.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, port, mx) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']')?;
                let port = match rest {
                    "" => None,
                    rest => Some(rest.strip_prefix(':')?),
                };
                (host.strip_prefix("ipv6:").unwrap_or(host), port, false)
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port), true),
                None => (text, None, true),
            },
        };
        let port = match port {
            None => None,
            Some(port) => Some(parse_port(port)?),
        };
        if host.is_empty() || host.contains([' ', ',', '/']) {
            return None;
        }
        // An address has no MX hosts.
        let mx = mx && host.parse::<std::net::IpAddr>().is_err();
        Some(Self {
            host: host.to_owned(),
            port,
            mx,
        })
    }
}

/// A port as a number or by its name. 0 is none.
pub(super) fn parse_port(text: &str) -> Option<u16> {
    match text {
        "smtp" => Some(25),
        "lmtp" => Some(24),
        "submission" => Some(587),
        "smtps" | "submissions" => Some(465),
        digits => digits.parse().ok().filter(|port| *port > 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_hops() {
        let check = |text: &str, expected: Option<(&str, Option<u16>, bool)>| {
            let found = NextHop::parse(text);
            let shown = found
                .as_ref()
                .map(|hop| (hop.host.as_str(), hop.port, hop.mx));
            assert_eq!(shown, expected, "{text}");
        };
        check("[h.example]:587", Some(("h.example", Some(587), false)));
        check(
            "[h.example]:submission",
            Some(("h.example", Some(587), false)),
        );
        check("[h.example]", Some(("h.example", None, false)));
        check("h.example", Some(("h.example", None, true)));
        check("h.example:2525", Some(("h.example", Some(2525), true)));
        check("192.0.2.1", Some(("192.0.2.1", None, false)));
        check(
            "[ipv6:2001:db8::1]:25",
            Some(("2001:db8::1", Some(25), false)),
        );
        for text in ["", "[h", "[h]x", "[h]:", "h:0", "h:x", "[]", "a b"] {
            check(text, None);
        }
    }

    #[test]
    fn deliveries() {
        let hop = |text: &str| NextHop::parse(text).unwrap();
        for (text, expected) in [
            ("smtp:[h]", Delivery::Smtp(Some(hop("[h]")))),
            ("relay:h:26", Delivery::Smtp(Some(hop("h:26")))),
            (":[h]", Delivery::Smtp(Some(hop("[h]")))),
            ("smtp:", Delivery::Smtp(None)),
            (":", Delivery::Smtp(None)),
            (
                "lmtp:unix:private/dovecot-lmtp",
                Delivery::Lmtp(Lmtp::Socket("private/dovecot-lmtp".to_owned())),
            ),
            ("lmtp:inet:h:24", Delivery::Lmtp(Lmtp::Host(hop("h:24")))),
            ("lmtp:[h]", Delivery::Lmtp(Lmtp::Host(hop("[h]")))),
            ("lmtp:unix:", Delivery::Other),
            ("error:5.1.2 gone", Delivery::Error("5.1.2 gone".to_owned())),
            ("virtual", Delivery::Own),
            ("local:$myhostname", Delivery::Own),
            ("dovecot", Delivery::Other),
            ("smtp:[h", Delivery::Other),
        ] {
            assert_eq!(Delivery::parse(text), expected, "{text}");
        }
    }
}
