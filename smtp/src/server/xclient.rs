//! XCLIENT: a listed peer tells for which client it speaks, as Postfix's `XCLIENT_README` describes
//! it.
//!
//! The address, the port and the greeting of the client are believed. Its host name is looked up in
//! DNS as that of any client, and it logs in by itself. So NAME and LOGIN are read and not used.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{
    command::{client_name, wrong},
    handler::Client,
    session::Session,
    state::{Stage, State},
    transaction::bad_sequence,
};
use crate::{Reply, params::xtext};

/// The attributes, as EHLO announces them.
pub(super) const ATTRIBUTES: &str = "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT";
/// The longest value of an attribute in bytes, decoded.
const VALUE_MAX: usize = 255;

/// What a peer told of its client. The outer None: it told nothing. The inner None: it does not
/// know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Xclient {
    address: Option<Option<IpAddr>>,
    port: Option<Option<u16>>,
    local_address: Option<Option<IpAddr>>,
    local_port: Option<Option<u16>>,
    helo: Option<String>,
    esmtp: bool,
}

impl Xclient {
    /// Reads `attribute=value` words, at least one, each attribute once.
    pub(crate) fn parse(rest: &str) -> Result<Self, Reply> {
        let mut told = Self::default();
        let mut seen: Vec<String> = Vec::new();
        for word in rest.split(' ').filter(|word| !word.is_empty()) {
            let syntax = || wrong("the syntax is XCLIENT attribute=value ...");
            let (name, value) = word.split_once('=').ok_or_else(syntax)?;
            let name = name.to_ascii_uppercase();
            if seen.contains(&name) {
                return Err(wrong("an attribute of XCLIENT is given twice"));
            }
            told.read(&name, value)?;
            seen.push(name);
        }
        match seen.is_empty() {
            true => Err(wrong("XCLIENT needs an attribute")),
            false => Ok(told),
        }
    }

    fn read(&mut self, name: &str, value: &str) -> Result<(), Reply> {
        let bad = || wrong(format!("bad value of the attribute {name}"));
        let value = xtext::decode(value).map_err(|_| bad())?;
        if value.is_empty() || value.len() > VALUE_MAX {
            return Err(bad());
        }
        let unknown = ["[UNAVAILABLE]", "[TEMPUNAVAIL]"];
        let known = !unknown.iter().any(|word| word.eq_ignore_ascii_case(&value));
        match name {
            "ADDR" => {
                self.address = Some(known.then(|| address(&value).ok_or_else(bad)).transpose()?)
            }
            "DESTADDR" => {
                self.local_address =
                    Some(known.then(|| address(&value).ok_or_else(bad)).transpose()?);
            }
            "PORT" => self.port = Some(known.then(|| port(&value).ok_or_else(bad)).transpose()?),
            "DESTPORT" => {
                self.local_port = Some(known.then(|| port(&value).ok_or_else(bad)).transpose()?);
            }
            "PROTO" if !known => {}
            "PROTO" => match value.to_ascii_uppercase().as_str() {
                "ESMTP" => self.esmtp = true,
                "SMTP" => self.esmtp = false,
                _ => return Err(bad()),
            },
            "HELO" => self.helo = known.then(|| client_name(&value)).transpose()?,
            "NAME" | "LOGIN" => {}
            _ => return Err(wrong("XCLIENT has no such attribute")),
        }
        Ok(())
    }

    /// Puts the client in the place of the one that was known so far. An address that the peer does
    /// not know is the unspecified one: it is nobody's, and no check trusts it.
    fn apply(self, client: &mut Client) {
        let end = |old: SocketAddr, ip: Option<Option<IpAddr>>, port: Option<Option<u16>>| {
            // The port of another address means nothing.
            let port = port.unwrap_or_else(|| ip.is_none().then(|| old.port()));
            let ip = ip.unwrap_or(Some(old.ip()));
            let ip = ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
            SocketAddr::new(ip, port.unwrap_or(0))
        };
        client.remote = end(client.remote, self.address, self.port);
        client.local = end(client.local, self.local_address, self.local_port);
        client.esmtp = self.esmtp && self.helo.is_some();
        client.helo = self.helo;
        client.login = None;
    }
}

/// An IPv4 address, or `IPV6:` and an IPv6 address.
fn address(value: &str) -> Option<IpAddr> {
    let tagged = value.split_at_checked(5);
    let v6 = tagged.filter(|(tag, _)| tag.eq_ignore_ascii_case("IPV6:"));
    match v6 {
        Some((_, address)) => Some(IpAddr::V6(address.parse().ok()?).to_canonical()),
        None => Some(IpAddr::V4(value.parse().ok()?)),
    }
}

fn port(value: &str) -> Option<u16> {
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| value.parse().ok())?
}

impl Session {
    /// XCLIENT of a listed peer. The session begins anew, with the greeting, for the client that it
    /// told of. TLS stays, since it is that of the connection.
    pub(super) fn xclient(&mut self, told: Xclient, stage: Stage) -> State {
        if !matches!(stage, Stage::Idle) {
            let reply = bad_sequence("not in a transaction");
            return self.refuse(&reply, State::ExpectCommand(stage));
        }
        let peer = self.client.remote;
        told.apply(&mut self.client);
        // A certificate and keys of the peer prove nothing about its client.
        self.tls_proof = None;
        tracing::debug!(session = %self.client.session, %peer, remote = %self.client.remote, "XCLIENT");
        self.begin_anew();
        State::AwaitGreeting { anew: true }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::server::SessionId;

    fn client(remote: &str) -> Client {
        let local = "127.0.0.1:25".parse().unwrap();
        let mut client = Client::new(SessionId::of(1), remote.parse().unwrap(), local);
        client.login = Some("ann@example.org".to_owned());
        client.helo = Some("proxy.example".to_owned());
        client.esmtp = true;
        client
    }

    #[test]
    fn clients() {
        for (line, remote, local, helo, esmtp) in [
            ("ADDR=192.0.2.7", "192.0.2.7:0", "127.0.0.1:25", None, false),
            (
                "addr=192.0.2.7 port=4711 proto=esmtp helo=mail.example.com",
                "192.0.2.7:4711",
                "127.0.0.1:25",
                Some("mail.example.com"),
                true,
            ),
            (
                "NAME=mail.example.com ADDR=IPV6:2001:db8::7 HELO=a+28b PROTO=SMTP",
                "[2001:db8::7]:0",
                "127.0.0.1:25",
                Some("a?b"),
                false,
            ),
            (
                "ADDR=ipv6:::ffff:192.0.2.7 DESTADDR=198.51.100.1 DESTPORT=587",
                "192.0.2.7:0",
                "198.51.100.1:587",
                None,
                false,
            ),
            (
                "NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE] PORT=[unavailable] HELO=[UNAVAILABLE] \
                 PROTO=ESMTP LOGIN=[TEMPUNAVAIL]",
                "0.0.0.0:0",
                "127.0.0.1:25",
                None,
                false,
            ),
            (
                "LOGIN=joe PROTO=[UNAVAILABLE]",
                "[::1]:9",
                "127.0.0.1:25",
                None,
                false,
            ),
            ("PORT=7", "[::1]:7", "127.0.0.1:25", None, false),
        ] {
            let mut client = client("[::1]:9");
            Xclient::parse(line).unwrap().apply(&mut client);
            assert_eq!(client.remote.to_string(), remote, "{line}");
            assert_eq!(client.local.to_string(), local, "{line}");
            assert_eq!(
                (client.helo.as_deref(), client.esmtp),
                (helo, esmtp),
                "{line}"
            );
            assert_eq!(client.login, None, "{line}");
        }
    }

    #[test]
    fn wrong_attributes() {
        for line in [
            "",
            "ADDR",
            "ADDR=",
            "ADDR=mail.example.com",
            "ADDR=2001:db8::7",
            "ADDR=IPV6:192.0.2.7",
            "ADDR=192.0.2.7 ADDR=192.0.2.7",
            "ADDR=192.0.2.7 addr=192.0.2.8",
            "PORT=65536",
            "PORT=-1",
            "PORT=+2B1",
            "PROTO=LMTP",
            "HELO=a+2",
            "NAME=a=b",
            "DESTADDR=x",
            "DESTPORT=x",
            "COLOR=red",
        ] {
            let reply = Xclient::parse(line).unwrap_err().to_string();
            assert!(reply.starts_with("501 5.5.4 "), "{line}: {reply}");
        }
        let long = format!("NAME={}", "x".repeat(VALUE_MAX + 1));
        assert!(Xclient::parse(&long).is_err());
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line in "((ADDR|PORT|HELO|PROTO|NAME)=[ -~]{0,20} ?){0,3}") {
            let _ = Xclient::parse(&line);
        }
    }
}
