//! The senders of a mail, as the history of an account knows them.

use std::net::IpAddr;

use postrider_dns::{is_within, organisation};
use postrider_smtp::{Address, Domain, ReversePath};
use postrider_store::{HistoryKey, HistoryKind, Mail};
use sha2::{Digest, Sha256};

use crate::{
    checks::{
        results::AuthenticationResults,
        spf::{SpfIdentity, SpfOutcome},
    },
    network::Network,
};

/// The field on top of a mail that another server of ours forwarded. An incoming message has none:
/// such fields are removed from it.
const FORWARDED_FIELD: &str = "X-Postrider-Forwarded-By";

/// The field that says which server of ours forwarded a mail.
pub(crate) fn forwarded_field(forwarder: &Domain) -> String {
    format!("{FORWARDED_FIELD}: {}\r\n", forwarder.ascii())
}

/// The author in the From field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// The address as the mail has it.
    pub from: Address,
    /// The address as the history knows it.
    pub address: String,
    /// Its domain.
    pub domain: String,
    /// The organisation of that domain, by the public suffix list.
    pub organisation: String,
    /// SPF or DKIM stands behind the domain.
    pub validated: bool,
    /// A number that stands for the local-part.
    pub number: u32,
}

/// The senders of a mail. All names are in lower case, domains in their Unicode form. What was not
/// validated is left out, but for the author.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Senders {
    /// The author. None without exactly one.
    pub author: Option<Author>,
    /// The domains whose DKIM signatures passed.
    pub dkim: Vec<String>,
    /// The MAIL FROM address that SPF validated, and its domain.
    pub mail_from: Option<(String, String)>,
    /// The EHLO name that SPF validated, of mail with a null reverse-path.
    pub helo: Option<String>,
    /// The networks of the client, narrow to wide.
    pub networks: Vec<String>,
}

impl Senders {
    /// The senders of a mail in a mailbox. It has what was found out when it came.
    #[must_use]
    pub fn of_mail(mail: &Mail) -> Self {
        let Some(arrival) = &mail.smtp else {
            return Self::default();
        };
        let mail_from = arrival.mail_from.address();
        let senders = Self {
            author: Author::of(arrival.msg_from.as_ref(), arrival.msg_from_validated),
            dkim: arrival.dkim_domains.clone(),
            mail_from: mail_from
                .filter(|_| arrival.mail_from_validated)
                .map(with_domain),
            helo: match mail_from {
                Some(_) => None,
                None => helo_that_passed(mail.top.bytes()),
            },
            networks: arrival.remote_ip.map(networks).unwrap_or_default(),
        };
        match forwarder(mail.top.bytes()) {
            Some(forwarder) => senders.forwarded_by(Some(&forwarder)),
            None => senders,
        }
    }

    /// The senders of a mail that comes in, with the results of its checks.
    #[must_use]
    pub fn of_incoming(
        from: Option<&Address>,
        mail_from: &ReversePath,
        remote: Option<IpAddr>,
        results: &AuthenticationResults,
    ) -> Self {
        let spf = results.spf.as_ref();
        let helo = spf.filter(|spf| {
            spf.outcome == SpfOutcome::Pass
                && spf.identity == SpfIdentity::Helo
                && *mail_from == ReversePath::Null
        });
        let helo = helo.and_then(|spf| spf.domain.as_ref());
        let mail_from = mail_from.address();
        let domains = results.dkim_domains().into_iter();
        Self {
            author: Author::of(from, results.validated_from().is_some()),
            dkim: domains.map(Domain::unicode).collect(),
            mail_from: mail_from
                .filter(|_| results.mail_from_is_validated())
                .map(with_domain),
            helo: helo.map(Domain::unicode),
            networks: remote.map(networks).unwrap_or_default(),
        }
    }

    /// The senders that a client names before its mail comes, and that nothing has validated yet.
    pub(crate) fn of_session(mail_from: &Address, helo: Option<&str>, remote: IpAddr) -> Self {
        Self {
            mail_from: Some(with_domain(mail_from)),
            helo: helo.map(str::to_lowercase),
            networks: networks(remote),
            ..Self::default()
        }
    }

    /// The senders of a mail that another server of ours forwards. What that server stands for says
    /// nothing about the mail: its address and names, its MAIL FROM and its signatures.
    pub(crate) fn forwarded_by(&self, forwarder: Option<&Domain>) -> Self {
        let forwarder = forwarder.map(Domain::unicode);
        let is_of_forwarder = |domain: &String| {
            let forwarder = forwarder.as_deref();
            forwarder.is_some_and(|forwarder| is_within(domain, forwarder))
        };
        let dkim = self.dkim.iter().filter(|domain| !is_of_forwarder(domain));
        Self {
            author: self.author.clone(),
            dkim: dkim.cloned().collect(),
            ..Self::default()
        }
    }

    /// The keys under which a judgement of the mail is kept.
    #[must_use]
    pub fn keys(&self) -> Vec<HistoryKey> {
        let mut keys = Vec::new();
        let mut add = |kind, name: &str, validated| {
            keys.push(HistoryKey {
                kind,
                name: name.to_owned(),
                validated,
            });
        };
        if let Some(author) = &self.author {
            add(HistoryKind::FromAddress, &author.address, author.validated);
            add(HistoryKind::FromDomain, &author.domain, author.validated);
            let organisation = &author.organisation;
            add(HistoryKind::Organisation, organisation, author.validated);
        }
        for domain in &self.dkim {
            add(HistoryKind::Dkim, domain, true);
        }
        if let Some((address, domain)) = &self.mail_from {
            add(HistoryKind::MailFrom, address, true);
            add(HistoryKind::MailFromDomain, domain, true);
        }
        if let Some(helo) = &self.helo {
            add(HistoryKind::Helo, helo, true);
        }
        for network in &self.networks {
            add(HistoryKind::Network, network, true);
        }
        keys
    }

    /// The keys that are asked for about the mail: its own, and those of validated mail of its
    /// author.
    #[must_use]
    pub fn asked(&self) -> Vec<HistoryKey> {
        let mut keys = self.keys();
        if self.author.as_ref().is_some_and(|author| !author.validated) {
            let of_author = keys.iter().filter(|key| !key.validated);
            let validated = of_author.map(|key| HistoryKey {
                validated: true,
                ..key.clone()
            });
            keys.extend(validated.collect::<Vec<_>>());
        }
        keys
    }
}

impl Author {
    fn of(from: Option<&Address>, validated: bool) -> Option<Self> {
        from.map(|from| Self::new(from, validated))
    }

    fn new(from: &Address, validated: bool) -> Self {
        let organisation = from.host.domain().map(known_organisation);
        let domain = from.host.unicode().to_lowercase();
        let local = from.local.as_str().to_lowercase();
        let number = Sha256::digest(local.as_bytes());
        Self {
            from: from.clone(),
            address: known_as(from),
            organisation: organisation.unwrap_or_else(|| domain.clone()),
            domain,
            validated,
            number: number.first_chunk().map_or(0, |it| u32::from_be_bytes(*it)),
        }
    }
}

/// An address as the history knows it.
fn known_as(address: &Address) -> String {
    address.unicode().to_lowercase()
}

/// An address as the history knows it, with its domain.
fn with_domain(address: &Address) -> (String, String) {
    (known_as(address), address.host.unicode().to_lowercase())
}

/// The organisation of a domain, by the public suffix list.
fn known_organisation(domain: &Domain) -> String {
    let name = organisation(domain.ascii());
    Domain::parse(name).map_or_else(|_| name.to_owned(), |it| it.unicode())
}

/// The networks of an address, narrow to wide. This machine has none: who sends from it may pass on
/// mail of anybody.
fn networks(address: IpAddr) -> Vec<String> {
    if address.to_canonical().is_loopback() {
        return Vec::new();
    }
    Network::around(address).map(Network::with_prefix).into()
}

/// The server of ours that forwarded a mail with these fields on top.
fn forwarder(top: &[u8]) -> Option<Domain> {
    let mut fields = postrider_smtp::field::fields(top);
    let field = fields.find(|field| field.is(FORWARDED_FIELD))?;
    let name = std::str::from_utf8(field.value).ok()?;
    Domain::parse(name.trim()).ok()
}

/// The EHLO name in our Authentication-Results field, if SPF passed for it.
fn helo_that_passed(top: &[u8]) -> Option<String> {
    let mut fields = postrider_smtp::field::fields(top);
    let results = fields.find(|field| field.is("Authentication-Results"))?;
    let results = String::from_utf8_lossy(results.value);
    let mut results = results.split(';').map(str::trim);
    let passed = results.find_map(|result| result.strip_prefix("spf=pass"))?;
    let mut words = passed.split_ascii_whitespace();
    let name = words.find_map(|word| word.strip_prefix("smtp.helo="))?;
    Domain::parse(name.trim_matches('"'))
        .ok()
        .map(|it| it.unicode())
}

#[cfg(test)]
mod tests {
    use postrider_store::{Arrival, MailId, TextId, Time, Top};

    use super::*;

    fn arrival(mail_from: &str, validated: bool) -> Arrival {
        Arrival {
            mail_from: match mail_from {
                "" => ReversePath::Null,
                path => ReversePath::Mailbox(path.parse().unwrap()),
            },
            rcpt_to: "ann@here.example".parse().unwrap(),
            msg_from: Some("Jane@Mail.Shop.co.uk".parse().unwrap()),
            mail_from_validated: validated,
            msg_from_validated: validated,
            dkim_domains: vec!["shop.co.uk".into()],
            remote_ip: Some([192, 0, 2, 77].into()),
        }
    }

    fn mail(smtp: Option<Arrival>, top: &str) -> Mail {
        Mail {
            id: MailId(1),
            account: "ann".into(),
            mailbox: "Inbox".into(),
            top: Top::new(top.to_owned()).unwrap(),
            text: TextId(1),
            size: 1,
            received: Time(0),
            flags: Vec::new(),
            dsn: false,
            smtp,
        }
    }

    fn names(keys: &[HistoryKey]) -> Vec<String> {
        let names = keys.iter();
        let names = names.map(|key| format!("{:?} {} {}", key.kind, key.name, key.validated));
        names.collect()
    }

    #[test]
    fn a_mail_has_the_senders_that_were_validated_and_its_author() {
        let senders = Senders::of_mail(&mail(Some(arrival("B+1@Bounce.example", true)), ""));
        assert_eq!(
            names(&senders.keys()),
            [
                "FromAddress jane@mail.shop.co.uk true",
                "FromDomain mail.shop.co.uk true",
                "Organisation shop.co.uk true",
                "Dkim shop.co.uk true",
                "MailFrom b+1@bounce.example true",
                "MailFromDomain bounce.example true",
                "Network 192.0.2.77/32 true",
                "Network 192.0.2.64/26 true",
                "Network 192.0.0.0/21 true",
            ]
        );
        assert_eq!(senders.asked(), senders.keys());
        assert_eq!(Senders::of_mail(&mail(None, "")).keys(), []);
    }

    #[test]
    fn about_an_author_that_is_not_validated_validated_mail_is_asked_for_too() {
        let senders = Senders::of_mail(&mail(Some(arrival("b@bounce.example", false)), ""));
        let keys = names(&senders.asked());
        let own = "FromDomain mail.shop.co.uk false".to_owned();
        let validated = "FromDomain mail.shop.co.uk true".to_owned();
        assert!(keys.contains(&own) && keys.contains(&validated));
        assert!(
            !keys.iter().any(|key| key.starts_with("MailFrom")),
            "SPF did not pass"
        );
        assert_eq!(keys.len(), senders.keys().len() + 3);
    }

    #[test]
    fn a_report_has_the_name_of_its_server() {
        let top = "Return-Path: <>\r\nAuthentication-Results: mx.here.example; iprev=pass \
                   policy.iprev=192.0.2.7;\r\n\tspf=pass smtp.helo=MX.there.example;\r\n\tdmarc=none\r\n";
        let senders = Senders::of_mail(&mail(Some(arrival("", false)), top));
        assert_eq!(senders.helo.as_deref(), Some("mx.there.example"));
        let failed = top.replace("spf=pass", "spf=fail");
        let senders = Senders::of_mail(&mail(Some(arrival("", false)), &failed));
        assert_eq!(senders.helo, None);
        let senders = Senders::of_mail(&mail(Some(arrival("b@x.example", false)), top));
        assert_eq!(senders.helo, None, "only of mail with a null reverse-path");
    }

    #[test]
    fn a_forwarder_says_nothing_about_the_mail() {
        let mut senders = Senders::of_mail(&mail(Some(arrival("b@x.example", true)), ""));
        senders.dkim = ["fwd.example", "a.fwd.example", "xfwd.example"]
            .map(str::to_owned)
            .into();
        let forwarder = "fwd.example".parse().unwrap();
        let forwarded = senders.forwarded_by(Some(&forwarder));
        assert_eq!(forwarded.dkim, ["xfwd.example"]);
        assert_eq!(forwarded.author, senders.author);
        assert!(forwarded.networks.is_empty() && forwarded.mail_from.is_none());
        assert_eq!(senders.forwarded_by(None).dkim, senders.dkim);
    }

    #[test]
    fn a_mail_that_was_forwarded_keeps_its_forwarder_out() {
        let forwarder = "fwd.b\u{fc}cher.example".parse().unwrap();
        let top = format!(
            "Return-Path: <b@x.example>\r\n{}",
            forwarded_field(&forwarder)
        );
        let mut arrival = arrival("b@x.example", true);
        arrival.dkim_domains.push(forwarder.unicode());
        let senders = Senders::of_mail(&mail(Some(arrival), &top));
        assert_eq!(
            names(&senders.keys()),
            [
                "FromAddress jane@mail.shop.co.uk true",
                "FromDomain mail.shop.co.uk true",
                "Organisation shop.co.uk true",
                "Dkim shop.co.uk true",
            ]
        );
    }

    #[test]
    fn networks_go_from_narrow_to_wide() {
        let of = |address: &str| networks(address.parse().unwrap());
        assert_eq!(
            of("2001:db8:1:2:3::4"),
            ["2001:db8:1:2::/64", "2001:db8:1::/48", "2001:db8::/32"]
        );
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        for local in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"] {
            assert!(of(local).is_empty(), "{local}");
        }
    }
}
