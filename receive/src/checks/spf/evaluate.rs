//! The evaluation of SPF records: `check_host()` of RFC 7208 §4.

use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    pin::Pin,
};

use postrider_dns::{Answer, DnsError, is_within};

use super::{
    SpfCheck, SpfOutcome,
    macros::{MacroString, Values},
    record::{Directive, Mechanism, Networks, Record, is_spf},
};
use crate::checks::{iprev::leads_to, name::is_name};

/// How many terms may ask DNS (RFC 7208 §4.6.4).
const MAX_TERMS: u32 = 10;
/// How many terms may ask DNS for what does not exist. The RFC counts terms, not questions.
const MAX_VOID_TERMS: u32 = 2;
/// How many hosts an MX look-up may give. More are an error.
const MAX_MX: usize = 10;
/// How many names of the client's address count. More are ignored.
const MAX_PTR: usize = 10;

/// The value of the macro `p` without a name that leads back (RFC 7208 §7.3).
const NO_NAME: &str = "unknown";

/// The evaluation of one sender. It counts over all records that it reads.
pub(super) struct Evaluation<'a> {
    check: &'a SpfCheck,
    local_part: &'a str,
    sender_domain: &'a str,
    terms: u32,
    void_terms: u32,
    /// The names of the client's address, once they are known.
    names: Option<Vec<ClientName>>,
    /// There is no answer about these names. So nobody can say that there are none.
    names_unanswered: bool,
}

/// A name of the client's address.
struct ClientName {
    name: String,
    /// It leads back to the address. None before it was looked up.
    leads_back: Option<bool>,
}

/// The end of an evaluation.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) outcome: SpfOutcome,
    /// The domain of the record that decided.
    pub(super) domain: String,
    /// The mechanism that matched, or that is at fault.
    pub(super) mechanism: Option<String>,
    pub(super) reason: String,
    /// The name of the explanation in the record that decided.
    pub(super) explanation: Option<MacroString>,
}

impl Found {
    fn new(outcome: SpfOutcome, domain: &str, reason: String) -> Self {
        Self {
            outcome,
            domain: domain.to_owned(),
            mechanism: None,
            reason,
            explanation: None,
        }
    }

    fn permerror(domain: &str, reason: impl Into<String>) -> Self {
        Self::new(SpfOutcome::PermError, domain, reason.into())
    }

    /// An error of DNS for now. A negative answer is none.
    fn temperror(domain: &str, asked: &str, error: &DnsError) -> Self {
        let reason = format!("no answer about {asked}: {error}");
        Self::new(SpfOutcome::TempError, domain, reason)
    }

    fn by(mut self, mechanism: &str) -> Self {
        self.mechanism.get_or_insert_with(|| mechanism.to_owned());
        self
    }
}

/// What a term found.
#[derive(Clone, Copy, Default)]
struct Seen {
    matches: bool,
    /// A question of the term had an answer with the data that the term wants.
    any: bool,
}

/// An evaluation, which may be inside of another one.
type Checking<'f> = Pin<Box<dyn Future<Output = Result<Found, Found>> + Send + 'f>>;

impl<'a> Evaluation<'a> {
    pub(super) const fn new(
        check: &'a SpfCheck,
        local_part: &'a str,
        sender_domain: &'a str,
    ) -> Self {
        Self {
            check,
            local_part,
            sender_domain,
            terms: 0,
            void_terms: 0,
            names: None,
            names_unanswered: false,
        }
    }

    /// Evaluates the record of a domain, and the records that it leads to.
    ///
    /// # Errors
    /// The result, if it is a temporary or a permanent error.
    pub(super) fn check_host<'f>(&'f mut self, domain: &'f str) -> Checking<'f> {
        Box::pin(self.follow(domain))
    }

    async fn follow(&mut self, domain: &str) -> Result<Found, Found> {
        let mut domain = domain.to_owned();
        let Some(mut record) = self.record(&domain).await? else {
            let reason = format!("{domain} has no SPF record");
            return Ok(Found::new(SpfOutcome::None, &domain, reason));
        };
        loop {
            for directive in &record.directives {
                let matches = self.matches(directive, &domain).await;
                if matches.map_err(|error| error.by(&directive.text))? {
                    let reason = format!("{} matches in the record of {domain}", directive.text);
                    let found = Found::new(directive.outcome, &domain, reason);
                    return Ok(Found {
                        explanation: record.explanation,
                        ..found.by(&directive.text)
                    });
                }
            }
            let Some(redirect) = record.redirect else {
                let reason = format!("nothing matches in the record of {domain}");
                return Ok(Found::new(SpfOutcome::Neutral, &domain, reason));
            };
            self.count_term(&domain)?;
            let target = self.name(&redirect, &domain).await;
            let Some(target) = target else {
                return Err(Found::permerror(&domain, "redirect= leads to no domain"));
            };
            record = self.record(&target).await?.ok_or_else(|| {
                Found::permerror(
                    &domain,
                    format!("redirect= leads to {target}, which has no record"),
                )
            })?;
            domain = target;
        }
    }

    /// The record of a domain (RFC 7208 §4.4 and §4.5). None without one.
    async fn record(&self, domain: &str) -> Result<Option<Record>, Found> {
        if !is_name(domain) || !domain.contains('.') {
            return Ok(None);
        }
        let texts = match self.check.questions.ask(|dns| dns.txt(domain)).await {
            Ok(answer) => answer.records,
            Err(error) if error.negative().is_some() => return Ok(None),
            Err(error) => return Err(Found::temperror(domain, domain, &error)),
        };
        let mut records = texts.iter().filter(|text| is_spf(text));
        let Some(record) = records.next() else {
            return Ok(None);
        };
        if records.next().is_some() {
            let reason = format!("{domain} has several SPF records");
            return Err(Found::permerror(domain, reason));
        }
        let record = Record::parse(record).map_err(|error| {
            Found::permerror(domain, format!("in the SPF record of {domain}, {error}"))
        })?;
        Ok(Some(record))
    }

    /// Whether a mechanism matches the client (RFC 7208 §5).
    async fn matches(&mut self, directive: &Directive, domain: &str) -> Result<bool, Found> {
        let client = self.check.client;
        match &directive.mechanism {
            Mechanism::All => return Ok(true),
            Mechanism::Ip4(network, length) => {
                return Ok(
                    matches!(client, IpAddr::V4(client) if in_v4(client, *network, *length)),
                );
            }
            Mechanism::Ip6(network, length) => {
                return Ok(
                    matches!(client, IpAddr::V6(client) if in_v6(client, *network, *length)),
                );
            }
            _ => self.count_term(domain)?,
        }
        let target = match &directive.mechanism {
            Mechanism::Include(target) | Mechanism::Exists(target) => {
                self.name(target, domain).await
            }
            Mechanism::A(Some(target), _)
            | Mechanism::Mx(Some(target), _)
            | Mechanism::Ptr(Some(target)) => self.name(target, domain).await,
            _ => Some(domain.to_owned()),
        };
        let Some(target) = target else {
            // Such a name does not exist. Nothing was asked, so the term is not void.
            return match directive.mechanism {
                Mechanism::Include(_) => Err(Found::permerror(domain, "it includes no domain")),
                _ => Ok(false),
            };
        };
        let seen = match &directive.mechanism {
            Mechanism::Include(_) => return self.include(&target, domain).await,
            Mechanism::A(_, networks) => self.address_matches(&target, *networks, domain).await?,
            Mechanism::Mx(_, networks) => self.mx_matches(&target, *networks, domain).await?,
            Mechanism::Ptr(_) => self.ptr_matches(&target).await,
            Mechanism::Exists(_) => {
                let found = self.check.questions.ask(|dns| dns.a(&target)).await;
                let any = !records(found, &target, domain)?.is_empty();
                Seen { matches: any, any }
            }
            Mechanism::All | Mechanism::Ip4(..) | Mechanism::Ip6(..) => Seen::default(),
        };
        if !seen.any {
            self.void_terms += 1;
            if self.void_terms > MAX_VOID_TERMS {
                let reason =
                    format!("more than {MAX_VOID_TERMS} terms ask for what does not exist");
                return Err(Found::permerror(domain, reason));
            }
        }
        Ok(seen.matches)
    }

    /// Counts a term that asks DNS (RFC 7208 §4.6.4).
    fn count_term(&mut self, domain: &str) -> Result<(), Found> {
        self.terms += 1;
        if self.terms > MAX_TERMS {
            let reason = format!("more than {MAX_TERMS} terms ask DNS");
            return Err(Found::permerror(domain, reason));
        }
        Ok(())
    }

    /// RFC 7208 §5.2. The explanation of the included record does not count.
    async fn include(&mut self, target: &str, domain: &str) -> Result<bool, Found> {
        let found = self.check_host(target).await.map_err(|error| Found {
            domain: domain.to_owned(),
            mechanism: None,
            ..error
        })?;
        match found.outcome {
            SpfOutcome::Pass => Ok(true),
            SpfOutcome::None => Err(Found::permerror(
                domain,
                format!("it includes {target}, which has no record"),
            )),
            _ => Ok(false),
        }
    }

    /// RFC 7208 §5.3: the client's network has an address of the host.
    async fn address_matches(
        &self,
        host: &str,
        networks: Networks,
        domain: &str,
    ) -> Result<Seen, Found> {
        let questions = &self.check.questions;
        Ok(match self.check.client {
            IpAddr::V4(client) => {
                let found = records(questions.ask(|dns| dns.a(host)).await, host, domain)?;
                Seen {
                    matches: found.iter().any(|host| in_v4(client, *host, networks.v4)),
                    any: !found.is_empty(),
                }
            }
            IpAddr::V6(client) => {
                let found = records(questions.ask(|dns| dns.aaaa(host)).await, host, domain)?;
                Seen {
                    matches: found.iter().any(|host| in_v6(client, *host, networks.v6)),
                    any: !found.is_empty(),
                }
            }
        })
    }

    /// RFC 7208 §5.4. The domain itself is never its own MX host.
    async fn mx_matches(
        &self,
        target: &str,
        networks: Networks,
        domain: &str,
    ) -> Result<Seen, Found> {
        let found = self.check.questions.ask(|dns| dns.mx(target)).await;
        let hosts = records(found, target, domain)?;
        if hosts.len() > MAX_MX {
            let reason = format!("{target} has more than {MAX_MX} MX hosts");
            return Err(Found::permerror(domain, reason));
        }
        let mut seen = Seen::default();
        for mx in hosts.iter().filter(|mx| is_name(&mx.host)) {
            let host = self.address_matches(&mx.host, networks, domain).await?;
            seen.any |= host.any;
            seen.matches = host.matches;
            if seen.matches {
                break;
            }
        }
        Ok(seen)
    }

    /// RFC 7208 §5.5. An error of DNS is no match, and does not make the term void.
    async fn ptr_matches(&mut self, target: &str) -> Seen {
        let count = self.names().await.len();
        let mut seen = Seen {
            matches: false,
            any: count > 0 || self.names_unanswered,
        };
        for at in 0..count {
            if self
                .validated(at, |name| is_within(name, target))
                .await
                .is_some()
            {
                seen.matches = true;
                break;
            }
        }
        seen
    }

    /// The first names of the client's address. Empty if there is no answer.
    async fn names(&mut self) -> &mut Vec<ClientName> {
        let names = match self.names.take() {
            Some(names) => names,
            None => {
                let client = self.check.client;
                let answer = self.check.questions.ask(|dns| dns.ptr(client)).await;
                self.names_unanswered = match &answer {
                    Ok(_) => false,
                    Err(error) => error.negative().is_none(),
                };
                let names = answer.map(|answer| answer.records).unwrap_or_default();
                let names = names.into_iter().take(MAX_PTR).map(|name| ClientName {
                    name: name.trim_end_matches('.').to_ascii_lowercase(),
                    leads_back: None,
                });
                names.collect()
            }
        };
        self.names.insert(names)
    }

    /// A name of the client's address, if it is wanted and leads back to the address.
    async fn validated(&mut self, at: usize, wanted: impl FnOnce(&str) -> bool) -> Option<String> {
        let check = self.check;
        let known = self.names().await.get_mut(at)?;
        if !wanted(&known.name) {
            return None;
        }
        let leads_back = match known.leads_back {
            Some(leads_back) => leads_back,
            None if is_name(&known.name) => {
                let found = leads_to(&check.questions, &known.name, check.client).await;
                *known.leads_back.insert(found.unwrap_or(false))
            }
            None => false,
        };
        leads_back.then(|| known.name.clone())
    }

    /// The value of the macro `p` (RFC 7208 §7.3): the domain itself, else a name below it, else
    /// any name, if it leads back.
    async fn validated_name(&mut self, domain: &str) -> String {
        type Wanted = fn(&str, &str) -> bool;
        let preferences: [Wanted; 3] = [
            |name, domain| name.eq_ignore_ascii_case(domain),
            is_within,
            |_, _| true,
        ];
        for wanted in preferences {
            for at in 0..self.names().await.len() {
                if let Some(name) = self.validated(at, |name| wanted(name, domain)).await {
                    return name;
                }
            }
        }
        NO_NAME.to_owned()
    }

    /// The name of DNS that a text with macros means. None if it means none.
    pub(super) async fn name(&mut self, text: &MacroString, domain: &str) -> Option<String> {
        let validated_name = self.validated_name_for(text, domain).await;
        text.name(&self.values(domain, &validated_name))
    }

    /// The validated name, if the text needs it. Empty if not.
    pub(super) async fn validated_name_for(&mut self, text: &MacroString, domain: &str) -> String {
        match text.needs_validated_name() {
            true => self.validated_name(domain).await,
            false => String::new(),
        }
    }

    /// The values of macros in a record of this domain.
    pub(super) fn values<'v>(&'v self, domain: &'v str, validated_name: &'v str) -> Values<'v> {
        Values {
            local_part: self.local_part,
            sender_domain: self.sender_domain,
            domain,
            client: self.check.client,
            helo: &self.check.helo,
            validated_name,
            receiver: "",
            now: 0,
        }
    }
}

/// The records of an answer; none for a negative answer.
fn records<T>(
    found: Result<Answer<T>, DnsError>,
    asked: &str,
    domain: &str,
) -> Result<Vec<T>, Found> {
    match found {
        Ok(answer) => Ok(answer.records),
        Err(error) if error.negative().is_some() => Ok(Vec::new()),
        Err(error) => Err(Found::temperror(domain, asked, &error)),
    }
}

/// Both addresses are in one network of this prefix length.
fn in_v4(a: Ipv4Addr, b: Ipv4Addr, length: u8) -> bool {
    let differ = a.to_bits() ^ b.to_bits();
    differ
        .checked_shr(32_u32.saturating_sub(length.into()))
        .unwrap_or(0)
        == 0
}

/// Both addresses are in one network of this prefix length.
fn in_v6(a: Ipv6Addr, b: Ipv6Addr, length: u8) -> bool {
    let differ = a.to_bits() ^ b.to_bits();
    differ
        .checked_shr(128_u32.saturating_sub(length.into()))
        .unwrap_or(0)
        == 0
}
