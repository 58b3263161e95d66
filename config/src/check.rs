//! Checks of values that refer to each other: names that do not exist, addresses with two owners.

use std::collections::BTreeSet;

use postrider_smtp::{Address, Domain};

use crate::{
    dynamics::{
        Account, Destination, DomainConfig, Dynamic, OutgoingWebhook, ReportAddress, Route,
    },
    error::ConfigError,
    lookup::{AddressConflict, Index},
    public::is_public,
    reader::{Reader, Source},
    sources,
    statics::Static,
    suggest,
    tables::Tables,
    transports::Transport,
    values::{DestinationAddress, WebhookEvent},
};

/// Reports all conflicts between values, and makes the index of addresses.
pub(crate) fn check(
    config: &Dynamic,
    tables: &Tables<'_>,
    root: &Reader<'_>,
    source: &Source<'_>,
    statics: &Static,
) -> Index {
    let mut check = Check {
        config,
        statics,
        index: Index::new(statics, config.domains.keys()),
        list_names: BTreeSet::new(),
    };
    check.accounts_of_static(source);
    check.redirects(&root.section("web"));
    check.host_reports();
    check.routes(root, &config.routes);
    // Destinations come first. If an alias or a report address repeats one, the error is at the
    // later.
    for (name, reader) in &tables.accounts {
        if let Some(account) = config.accounts.get(name) {
            check.account(name, account, reader);
        }
    }
    if let Some(domain) = &config.srs_domain
        && !config.domains.contains_key(domain)
    {
        root.wrong("srs_domain", check.no_domain(&domain.unicode()));
    }
    for (domain, reader) in &tables.domains {
        if let Some(configured) = config.domains.get(domain) {
            check.domain(domain, configured, reader);
        }
    }
    for (name, reader) in &tables.accounts {
        check.login_addresses_with_ids(name, reader);
        if let Some(account) = config.accounts.get(name) {
            check.forwards_to_itself(account, reader);
        }
    }
    check.index
}

struct Check<'a> {
    config: &'a Dynamic,
    statics: &'a Static,
    index: Index,
    /// The names of lists that were seen.
    list_names: BTreeSet<&'a str>,
}

impl<'a> Check<'a> {
    /// Checks the accounts that `postrider.conf` names.
    fn accounts_of_static(&self, source: &Source<'_>) {
        let notes = &self.statics.notes;
        if notes.incomplete {
            return;
        }
        let postmaster = &self.statics.postmaster.account;
        let reports = self.statics.host_tls_rpt.as_ref();
        let named = [
            ("postmaster.account", Some(postmaster), notes.postmaster_at),
            (
                "host_tls_rpt.account",
                reports.map(|reports| &reports.account),
                notes.host_tls_rpt_at,
            ),
        ];
        for (key, account, (line, column)) in named {
            let Some(account) = account else { continue };
            if self.config.accounts.contains_key(account) {
                continue;
            }
            source.report_elsewhere(ConfigError {
                file: self.statics.path.clone(),
                line,
                column,
                key: key.to_owned(),
                message: format!(
                    "names account {account:?}, which is not in {}{}",
                    source.path.display(),
                    self.nearest_account(account)
                ),
            });
        }
    }

    /// Takes the address for reports about the server. If the hostname is a configured domain, it
    /// is the first address of the domain, so that another use of it is the error.
    fn host_reports(&mut self) {
        let domain = &self.statics.hostname;
        let configured = self.config.domains.get(domain);
        if let (Some(reports), Some(_)) = (&self.statics.host_tls_rpt, configured) {
            let report = ReportAddress {
                account: reports.account.clone(),
                mailbox: reports.mailbox.clone(),
                localpart: reports.localpart.clone(),
                domain: domain.clone(),
            };
            // An empty index has no other owner of the address.
            let _ = self.index.add_report(configured, &report);
        }
    }

    /// A redirect of a name that the server itself needs would hide the server.
    fn redirects(&self, web: &Reader<'_>) {
        for (from, _) in &self.config.web_redirects {
            if let Some(use_) = self.own_use(from) {
                let from = from.unicode();
                let message = format!("{from} is {use_}, so it can't lead elsewhere; remove it");
                web.wrong("redirects", message);
            }
        }
    }

    /// The use of a name by the server itself.
    fn own_use(&self, name: &Domain) -> Option<String> {
        let statics = self.statics;
        let mut listeners = statics.listeners.values();
        if !statics.notes.incomplete
            && (statics.hostname == *name || listeners.any(|it| it.hostname == *name))
        {
            return Some("the hostname of this server".to_owned());
        }
        self.config.domains.iter().find_map(|(domain, configured)| {
            let shown = domain.unicode();
            let own = |label: &str| name.ascii() == format!("{label}.{}", domain.ascii());
            if configured.client_settings_domain == *name {
                Some(format!("the client_settings_domain of {shown}"))
            } else if own("mta-sts") && configured.mta_sts.is_some() {
                Some(format!("the host of the MTA-STS policy of {shown}"))
            } else if own("autoconfig") {
                Some(format!(
                    "the host of the settings for mail programs of {shown}"
                ))
            } else {
                None
            }
        })
    }

    fn nearest_account(&self, name: &str) -> String {
        suggest::did_you_mean(name, self.config.accounts.keys().map(String::as_str))
    }

    fn account_exists(&self, reader: &Reader<'_>, name: &str, account: &str) {
        if !self.config.accounts.contains_key(account) {
            let hint = self.nearest_account(account);
            reader.wrong(
                name,
                format!("names account {account:?}, which does not exist{hint}"),
            );
        }
    }

    fn no_domain(&self, domain: &str) -> String {
        let known: Vec<String> = self.config.domains.keys().map(Domain::unicode).collect();
        let hint = suggest::did_you_mean(domain, known.iter().map(String::as_str));
        if domain.starts_with('[') {
            return "must be at a domain, not at an IP address".to_owned();
        }
        let add = match hint.as_str() {
            "" => format!("; add [domains.{domain:?}]"),
            hint => format!("{hint} Otherwise add [domains.{domain:?}]"),
        };
        format!("names domain {domain}, which is not in [domains]{add}")
    }

    fn routes(&self, reader: &Reader<'_>, routes: &[Route]) {
        for (route, reader) in routes.iter().zip(reader.tables("routes")) {
            if reader.has("transport") && !route.transport.is_empty() {
                self.transport(&reader, "transport", &route.transport);
            }
        }
    }

    fn transport(&self, reader: &Reader<'_>, name: &str, transport: &str) -> Option<&Transport> {
        let known = self.statics.transports.get(transport);
        if known.is_none() && !self.statics.notes.incomplete {
            let names = self.statics.transports.keys().map(String::as_str);
            let hint = suggest::did_you_mean(transport, names);
            let file = self.statics.path.display();
            reader.wrong(
                name,
                format!("names transport {transport:?}, which is not in {file}{hint}"),
            );
        }
        known
    }

    fn account(&mut self, name: &str, account: &Account, reader: &Reader<'_>) {
        if reader.has("domain") && !self.config.domains.contains_key(&account.domain) {
            reader.wrong("domain", self.no_domain(&account.domain.unicode()));
        }
        self.routes(reader, &account.routes);
        self.shared_with(name, account, &reader.section("shared_with"));
        if let Some(pool) = &account.source_pool
            && !self.statics.notes.incomplete
        {
            let pools = self.statics.pools.keys().map(String::as_str);
            sources::check_pool(reader, "source_pool", pool, pools);
        }
        if account.destinations.is_empty() {
            let message = "is empty: the account gets no mail, and nobody can log in with it";
            reader.warn("destinations", message);
        }
        if let Some(hook) = &account.outgoing_webhook {
            webhook_events(hook, &reader.section("outgoing_webhook"));
        }
        self.webhooks(account, reader);
        let section = reader.section("destinations");
        for (typed, reader) in section.named() {
            let Ok(address) = DestinationAddress::parse(typed) else {
                continue;
            };
            let Some(destination) = account.destinations.get(&address) else {
                continue;
            };
            let configured = self.domain_of(&address);
            if let Some(message) = separator_problem(configured, &address) {
                section.wrong(typed, message);
            }
            match self.index.add_destination(configured, name, &address) {
                Ok(()) => {}
                Err(AddressConflict::By(owner)) => {
                    section.wrong(typed, format!("is not unique: {owner}; remove one"))
                }
                Err(AddressConflict::NoDomain) => {
                    section.wrong(typed, self.no_domain(&domain_text(&address)))
                }
            }
            if destination.passes_on() {
                mailbox_without_effect(destination, &reader);
            }
            let ours = destination.forward.iter().find(|to| {
                let domain = to.host.domain();
                domain.is_some_and(|domain| self.config.domains.contains_key(domain))
            });
            if let Some(ours) = ours {
                let message = format!(
                    "has {ours}, which is at a domain of this server: the mail goes out and comes \
                     back; an alias delivers it at once"
                );
                reader.warn("forward", &message);
            }
            if !destination.forward_lmtp.is_empty()
                && let Some(transport) =
                    self.transport(&reader, "forward_lmtp", &destination.forward_lmtp)
                && !matches!(transport, Transport::Lmtp(_))
            {
                let kind = transport.kind();
                reader.wrong(
                    "forward_lmtp",
                    format!("names a transport of kind {kind}; it must be of kind lmtp"),
                );
            }
        }
    }

    fn shared_with(&self, name: &str, account: &Account, reader: &Reader<'_>) {
        for other in account.shared_with.keys() {
            if other == name {
                reader.wrong(other, "is the account itself; remove it");
            } else if !self.config.accounts.contains_key(other) {
                let hint = self.nearest_account(other);
                reader.wrong(other, format!("is no account of this file{hint}"));
            }
        }
    }

    /// A call to a private address is refused each time, so tell it now. Only a look-up shows the
    /// addresses of other names.
    fn webhooks(&self, account: &Account, reader: &Reader<'_>) {
        if self.statics.webhook.allow_private_addresses || self.statics.notes.incomplete {
            return;
        }
        let outgoing = account.outgoing_webhook.as_ref().map(|hook| &hook.url);
        let incoming = account.incoming_webhook.as_ref().map(|hook| &hook.url);
        for (name, url) in [
            ("outgoing_webhook", outgoing),
            ("incoming_webhook", incoming),
        ] {
            if url.is_some_and(|url| is_private(url)) {
                let message = "is at a private address, so each call is refused; \
                    webhook.allow_private_addresses = true in postrider.conf allows them";
                reader.section(name).warn("url", message);
            }
        }
    }

    fn domain_of(&self, address: &DestinationAddress) -> Option<&'a DomainConfig> {
        let domain = match address {
            DestinationAddress::CatchAll(domain) => domain,
            DestinationAddress::Address(address) => address.host.domain()?,
        };
        self.config.domains.get(domain)
    }

    fn domain(&mut self, domain: &Domain, configured: &'a DomainConfig, reader: &Reader<'_>) {
        self.routes(reader, &configured.routes);
        for (name, report) in [
            ("dmarc", &configured.dmarc),
            ("tls_rpt", &configured.tls_rpt),
        ] {
            if let Some(report) = report {
                self.report(&reader.section(name), report);
            }
        }
        self.aliases(domain, configured, &reader.section("aliases"));
        let mut listeners = self.statics.listeners.values();
        let served = listeners.any(|listener| listener.mta_sts_https.enabled);
        if configured.mta_sts.is_some() && !served && !self.statics.notes.incomplete {
            let message = "is not served: no listener of postrider.conf has mta_sts_https";
            reader.warn("mta_sts", message);
        }
    }

    fn report(&mut self, reader: &Reader<'_>, report: &ReportAddress) {
        self.account_exists(reader, "account", &report.account);
        let configured = self.config.domains.get(&report.domain);
        let address = Address {
            local: report.localpart.clone(),
            host: report.domain.clone().into(),
        };
        let address = DestinationAddress::Address(address);
        if let Some(message) = separator_problem(configured, &address) {
            reader.wrong("localpart", message);
        }
        match self.index.add_report(configured, report) {
            Ok(()) => {}
            Err(AddressConflict::By(owner)) => reader.wrong(
                "localpart",
                format!("makes {address}, which is taken: {owner}; use another localpart"),
            ),
            Err(AddressConflict::NoDomain) => {
                reader.wrong("domain", self.no_domain(&report.domain.unicode()))
            }
        }
    }

    fn aliases(&mut self, domain: &Domain, configured: &'a DomainConfig, section: &Reader<'_>) {
        for (typed, reader) in section.named() {
            let Ok(local) = crate::scalar::parse_localpart(typed) else {
                continue;
            };
            let address = Address {
                local: local.clone(),
                host: domain.clone().into(),
            };
            let address = DestinationAddress::Address(address);
            if let Some(message) = separator_problem(Some(configured), &address) {
                section.wrong(typed, message);
            }
            if let Err(AddressConflict::By(owner)) =
                self.index.add_alias(configured, domain, &local)
            {
                section.wrong(typed, format!("is not unique: {owner}; remove one"));
            }
            let Some(alias) = configured.aliases.get(&local) else {
                continue;
            };
            if let Some(name) = &alias.name {
                self.list_name(name, &reader);
            }
            if alias.addresses.is_empty() && reader.has("addresses") {
                reader.wrong("addresses", "must name at least one member");
            }
            for (index, typed) in reader.elements("addresses").into_iter().enumerate() {
                if let Ok(member) = Address::parse(typed)
                    && !self.is_destination(&member)
                {
                    reader.wrong_element("addresses", index, format!("{typed} is not a destination of an account; add it to one, or remove it here"));
                }
            }
        }
    }

    /// The management API finds a list by its name, in small letters, or by a number.
    fn list_name(&mut self, name: &'a str, reader: &Reader<'_>) {
        let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
        let is_bare = name.trim() == name && name.to_lowercase() == name;
        if is_number || !is_bare || name.chars().any(char::is_control) {
            let message = "must have no capitals, no blanks around it, and not only digits";
            reader.wrong("name", message);
        } else if !self.list_names.insert(name) {
            reader.wrong("name", "is the name of another list; choose another one");
        }
    }

    fn is_destination(&self, address: &Address) -> bool {
        let domain = address.host.domain();
        let configured = domain.and_then(|domain| self.config.domains.get(domain));
        self.index.is_destination(configured, address)
    }

    /// Mail that a destination forwards to itself would go in a circle.
    fn forwards_to_itself(&self, account: &Account, reader: &Reader<'_>) {
        let section = reader.section("destinations");
        for (typed, reader) in section.named() {
            let Ok(key) = DestinationAddress::parse(typed) else {
                continue;
            };
            let forward = account.destinations.get(&key).map(|it| &it.forward);
            let own = forward.into_iter().flatten().find(|to| {
                let domain = to.host.domain();
                let configured = domain.and_then(|domain| self.config.domains.get(domain));
                configured.and_then(|it| self.index.key_of(it, to)) == Some(&key)
            });
            if let Some(own) = own {
                let message =
                    format!("has {own}, whose mail comes back to this destination; remove it");
                reader.wrong("forward", message);
            }
        }
    }

    /// A fromid stands behind a separator, and a returned message must reach the account.
    fn login_addresses_with_ids(&self, name: &str, reader: &Reader<'_>) {
        let list = "from_id_login_addresses";
        for (index, typed) in reader.elements(list).into_iter().enumerate() {
            let Ok(address) = Address::parse(typed) else {
                continue;
            };
            let wrong = |message: String| reader.wrong_element(list, index, message);
            let domain = address.host.domain();
            let Some(configured) = domain.and_then(|domain| self.config.domains.get(domain)) else {
                wrong(self.no_domain(&address.host.unicode()));
                continue;
            };
            if configured.localpart_catchall_separators.is_empty() {
                let domain = address.host.unicode();
                wrong(format!(
                    "needs a separator: set domains.{domain:?}.localpart_catchall_separators, to \
            [\"+\"] for example"
                ));
            } else if self.index.owner(configured, &address) != Some(name) {
                wrong(format!(
                    "is not an address of this account; add it to accounts.{name}.destinations, or \
            remove it here"
                ));
            }
        }
    }
}

/// Tells of mailboxes of a destination that get no mail, because all of it goes on.
fn mailbox_without_effect(destination: &Destination, reader: &Reader<'_>) {
    let key = match destination.forward.is_empty() {
        true => "forward_lmtp",
        false => "forward",
    };
    if reader.has("mailbox") {
        let message = format!("has no effect beside {key}, which takes the mail; remove it");
        reader.warn("mailbox", &message);
    }
    for (ruleset, reader) in destination.rulesets.iter().zip(reader.tables("rulesets")) {
        let says_more = ruleset.is_forward
            || ruleset.list_allow_domain.is_some()
            || !ruleset.accept_rejects_to_mailbox.is_empty();
        if !says_more {
            let message = format!("has no effect beside {key}, which takes the mail; remove it");
            reader.warn("mailbox", &message);
        }
    }
}

/// Tells of events that cause no call, because the version of the payloads does not have them.
fn webhook_events(hook: &OutgoingWebhook, reader: &Reader<'_>) {
    for (index, typed) in reader.elements("events").into_iter().enumerate() {
        let event = WebhookEvent::from_word(typed);
        if let Some(event) = event.filter(|it| it.is_tracked() && !hook.knows(*it)) {
            let version = hook.version;
            let message = format!(
                "{event} needs version = 1; the payloads of version {version} do not have it"
            );
            reader.wrong_element("events", index, message);
        }
    }
    let unknown = hook.events.iter();
    let unknown = unknown.filter(|event| !hook.knows(**event) && !event.is_tracked());
    let unknown: Vec<&str> = unknown.map(|event| event.as_str()).collect();
    if !unknown.is_empty() {
        let (names, version) = (unknown.join(", "), hook.version);
        let message = format!(
            "has events of version 1 ({names}), which cause no call with version = {version}"
        );
        reader.warn("events", &message);
    }
}

/// Whether the host of a URL is a private address, or a name of this machine (RFC 6761 §6.3).
fn is_private(url: &str) -> bool {
    let parsed = url::Url::parse(url).ok();
    match parsed.as_ref().and_then(url::Url::host) {
        Some(url::Host::Ipv4(ip)) => !is_public(ip.into()),
        Some(url::Host::Ipv6(ip)) => !is_public(ip.into()),
        Some(url::Host::Domain(name)) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
        None => false,
    }
}

fn domain_text(address: &DestinationAddress) -> String {
    match address {
        DestinationAddress::CatchAll(domain) => domain.unicode(),
        DestinationAddress::Address(address) => address.host.unicode(),
    }
}

/// An address with a separator in it could never be found: the part behind the separator is cut.
fn separator_problem(
    configured: Option<&DomainConfig>,
    address: &DestinationAddress,
) -> Option<String> {
    let DestinationAddress::Address(address) = address else {
        return None;
    };
    let separators = &configured?.localpart_catchall_separators;
    let separator = separators.iter().find(|separator| {
        !separator.is_empty() && address.local.as_str().contains(separator.as_str())
    })?;
    Some(format!(
        "has the domain's separator {separator:?}; mail to this address would be cut \
            there; remove the part from the separator on"
    ))
}
