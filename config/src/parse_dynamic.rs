//! From the tables of `domains.conf` to a [`Dynamic`].

use std::{collections::BTreeMap, path::Path, sync::Arc};

use postrider_smtp::{Domain, Host, LocalPart};
use toml_edit::{Item, Value};

use crate::{
    check,
    dkim_key::DkimKey,
    dynamics::{
        Account, Alias, Destination, Dkim, DkimSelector, DomainConfig, Dynamic, IncomingWebhook,
        MtaSts, OutgoingWebhook, ReportAddress, Route, Ruleset, Text, Tracking,
    },
    error::Errors,
    keys, parse_providers,
    parse_static::{mailbox_problem, read_mailbox},
    providers::{Layer, Providers},
    reader::{Reader, Source, read_text},
    scalar::{Scalar as _, parse_host_port, parse_localpart},
    secret_file::{SecretFileError, read_secret_file},
    statics::Static,
    tables::Tables,
    values::{
        Canonicalization, DestinationAddress, DkimAlgorithm, DkimHash, DomainPattern, FailureDsn,
        MtaStsMode, Pattern, Right, WebhookSecret, missing_domain, parse_domain,
    },
};

/// The shortest RSA key that the library signs with.
const RSA_SIGNED_BITS: usize = 2048;

impl Dynamic {
    /// Reads and checks the file and the key files that it names.
    ///
    /// # Errors
    /// If the file cannot be read. If it has problems, with all of them.
    pub fn load(path: impl AsRef<Path>, statics: &Static) -> Result<Self, Errors> {
        let path = path.as_ref();
        let text = read_text(path)?;
        Self::parse(&text, path, statics)
    }

    /// Checks a text as the content of the file `path`. The file need not exist. Key files are
    /// read.
    ///
    /// # Errors
    /// All problems of the text.
    pub fn parse(text: &str, path: impl AsRef<Path>, statics: &Static) -> Result<Self, Errors> {
        let path = path.as_ref();
        let source = Source::new(text, path);
        let document = source.document()?;
        let root = source.root(&document, &keys::DYNAMIC_TREE);
        let tables = Tables::new(&root);
        let mut read = Self {
            path: path.to_owned(),
            domains: tables
                .domains
                .iter()
                .map(|(domain, reader)| (domain.clone(), read_domain(domain, reader, statics)))
                .collect(),
            accounts: tables
                .accounts
                .iter()
                .map(|(name, reader)| (name.clone(), read_account(reader)))
                .collect(),
            routes: read_routes(&root),
            srs_domain: root.opt("srs_domain"),
            monitor_dnsbls: root.set("monitor_dnsbls"),
            web_redirects: read_redirects(&root.section("web")),
            providers: read_providers(&root, statics),
            text: Text(text.into()),
            index: Default::default(),
            not_yet: Vec::new(),
            warnings: Vec::new(),
        };
        read.index = check::check(&read, &tables, &root, &source, statics);
        match source.errors() {
            Some(errors) => Err(errors),
            None => {
                read.not_yet = source.take_not_yet();
                read.warnings = source.take_warnings();
                Ok(read)
            }
        }
    }
}

fn read_providers(root: &Reader<'_>, statics: &Static) -> Arc<Providers> {
    let below = &statics.providers;
    let Some(section) = root.table("providers") else {
        return Arc::clone(below);
    };
    let pools: Vec<String> = statics.pools.keys().cloned().collect();
    let pools = (!statics.notes.incomplete).then_some(pools.as_slice());
    let entries = parse_providers::read(&section, Layer::Domains, Some(below), pools);
    Arc::new(below.under(entries))
}

fn read_domain(domain: &Domain, reader: &Reader<'_>, statics: &Static) -> DomainConfig {
    let client_settings_domain = reader
        .opt("client_settings_domain")
        .or_else(|| Domain::parse(&format!("mail.{}", domain.ascii())).ok());
    DomainConfig {
        disabled: reader.get("disabled"),
        description: reader.get("description"),
        tenant: reader.opt("tenant"),
        tracking: reader
            .table("tracking")
            .and_then(|table| read_tracking(&table)),
        client_settings_domain: client_settings_domain.unwrap_or_else(|| domain.clone()),
        client_settings_imap: read_imap(&reader.section("client_settings")),
        localpart_catchall_separators: read_separators(reader),
        localpart_case_sensitive: reader.get("localpart_case_sensitive"),
        dkim: read_dkim(&reader.section("dkim")),
        dmarc: reader
            .table("dmarc")
            .and_then(|table| read_report(&table, domain)),
        tls_rpt: reader
            .table("tls_rpt")
            .and_then(|table| read_report(&table, domain)),
        mta_sts: reader
            .table("mta_sts")
            .and_then(|table| read_mta_sts(&table, statics)),
        aliases: read_aliases(&reader.section("aliases")),
        routes: read_routes(reader),
    }
}

fn read_tracking(reader: &Reader<'_>) -> Option<Tracking> {
    let (opens, clicks): (bool, bool) = (reader.get("opens"), reader.get("clicks"));
    if !opens && !clicks && reader.has("host") {
        reader.warn("host", "tracks nothing: set opens or clicks to true");
    }
    Some(Tracking {
        host: reader.opt("host")?,
        opens,
        clicks,
    })
}

fn read_imap(reader: &Reader<'_>) -> Option<(Domain, u16)> {
    let text: String = reader.opt("imap")?;
    let (host, port) = parse_host_port(&text)
        .inspect_err(|message| reader.wrong("imap", message.as_str()))
        .ok()?;
    match host {
        Host::Domain(host) => Some((host, port)),
        Host::Literal(_) => {
            let message = "must be a domain name and a port: mail programs need a certificate for \
                the name";
            reader.wrong("imap", message);
            None
        }
    }
}

fn read_separators(reader: &Reader<'_>) -> Vec<String> {
    let name = "localpart_catchall_separators";
    let separators: Vec<(usize, String)> = reader.entries(name);
    for (index, separator) in &separators {
        if separator.is_empty() || separator.contains(['@', '.', '"', ' ']) {
            reader.wrong_element(
                name,
                *index,
                "must be a character such as \"+\" or \"-\", without any of @ . \" and spaces",
            );
            continue;
        }
        let others = separators.iter().map(|(_, other)| other);
        let mut others = others.filter(|other| *other != separator && !other.is_empty());
        if let Some(other) = others.find(|other| separator.contains(other.as_str())) {
            reader.wrong_element(
                name,
                *index,
                format!(
                    "has the separator {other:?} in it, so it would never be found; remove one"
                ),
            );
        }
    }
    reader.set(name)
}

fn read_dkim(reader: &Reader<'_>) -> Dkim {
    let section = reader.section("selectors");
    let mut selectors = BTreeMap::new();
    for (name, table) in section.named() {
        match parse_domain(name) {
            Err(_) => section.wrong(
                name,
                format!("{name:?} is not a selector: letters, digits, hyphens and dots"),
            ),
            Ok(selector) if selectors.contains_key(&selector) => {
                section.wrong(
                    name,
                    format!("is {selector} in another spelling, and exists already; keep one"),
                );
            }
            Ok(selector) => {
                selectors.insert(selector, read_selector(&table));
            }
        }
    }
    let mut sign: Vec<Domain> = Vec::new();
    for (index, name) in reader.entries::<String>("sign") {
        match parse_domain(&name)
            .ok()
            .filter(|name| selectors.contains_key(name))
        {
            Some(selector) if sign.contains(&selector) => {
                reader.wrong_element("sign", index, "is in the array twice; remove one");
            }
            Some(selector) => sign.push(selector),
            None => reader.wrong_element(
                "sign",
                index,
                format!(
                    "names {name:?}, which is not in selectors; add it there or remove it here"
                ),
            ),
        }
    }
    let selectors = selectors
        .into_iter()
        .filter_map(|(name, selector)| Some((name, Arc::new(selector?))))
        .collect();
    Dkim { selectors, sign }
}

fn read_selector(reader: &Reader<'_>) -> Option<DkimSelector> {
    let hash = reader.opt("hash").unwrap_or(DkimHash::Sha256);
    let wanted: Option<DkimAlgorithm> = reader.opt("algorithm");
    let canonicalization = reader.opt("canonicalization");
    let headers = read_signed_headers(reader);
    let dont_seal_headers = reader.get("dont_seal_headers");
    let expiration = reader.get("expiration");
    let private_key_file: std::path::PathBuf = reader.opt("private_key_file")?;
    let key = match read_key(&private_key_file) {
        Ok(key) => key,
        Err(message) => {
            reader.wrong("private_key_file", message);
            return None;
        }
    };
    let algorithm = key.algorithm();
    if algorithm == DkimAlgorithm::Rsa && key.bits() < RSA_SIGNED_BITS {
        reader.warn(
            "private_key_file",
            "is an RSA key of less than 2048 bits: this version does not sign with it; make a new \
             key",
        );
    }
    if let Some(wanted) = wanted.filter(|wanted| *wanted != algorithm) {
        reader.wrong(
            "algorithm",
            format!(
                "is \"{wanted}\", but the key is a \"{algorithm}\" key; remove the algorithm, or \
            name another key"
            ),
        );
    }
    if hash == DkimHash::Sha1 {
        if algorithm == DkimAlgorithm::Ed25519 {
            reader.wrong("hash", "must be \"sha256\" for an Ed25519 key (RFC 8463)");
        } else {
            reader.warn(
                "hash",
                "sha1 has no effect: receivers ignore such signatures (RFC 8301), so the key signs \
                 with sha256; remove the line",
            );
        }
    }
    Some(DkimSelector {
        private_key_file,
        algorithm,
        hash,
        canonicalization: canonicalization.unwrap_or(Canonicalization::RelaxedRelaxed),
        headers,
        dont_seal_headers,
        expiration,
        key: Arc::new(key),
    })
}

fn read_key(path: &Path) -> Result<DkimKey, String> {
    let shown = path.display();
    let bytes = read_secret_file(path).map_err(|error| {
        let hint = match error {
            SecretFileError::Missing(_) => {
                "; correct the path, or make a key: openssl genpkey -algorithm ed25519 -out FILE"
            }
            _ => "",
        };
        format!("{shown} {error}{hint}")
    })?;
    let text = String::from_utf8_lossy(&bytes);
    DkimKey::from_pem(&text).map_err(|message| format!("{shown} {message}"))
}

fn read_signed_headers(reader: &Reader<'_>) -> Vec<String> {
    let mut headers: Vec<String> = Vec::new();
    for (index, header) in reader.entries::<String>("headers") {
        let wrong = |message: String| reader.wrong_element("headers", index, message);
        let valid = |b: u8| b.is_ascii_graphic() && b != b':' && b != b';';
        if header.is_empty() || !header.bytes().all(valid) {
            wrong(format!("{header:?} is not the name of a header field"));
        } else if headers
            .iter()
            .any(|other| other.eq_ignore_ascii_case(&header))
        {
            wrong("is in the array twice; remove one".to_owned());
        }
        if DkimSelector::changes(&header) {
            reader.warn(
                "headers",
                &format!("{header} is never signed: it changes on the way"),
            );
        }
        headers.push(header);
    }
    if !headers
        .iter()
        .any(|header| header.eq_ignore_ascii_case("From"))
    {
        reader.wrong("headers", "must have \"From\" (RFC 6376 section 5.4)");
    }
    headers
}

fn read_report(reader: &Reader<'_>, domain: &Domain) -> Option<ReportAddress> {
    let localpart: Option<LocalPart> = match reader.opt("localpart") {
        Some(localpart) => Some(localpart),
        None => reader.default_of("localpart"),
    };
    let mailbox = read_mailbox(reader, "mailbox");
    let domain = reader.opt("domain").unwrap_or_else(|| domain.clone());
    Some(ReportAddress {
        account: reader.opt("account")?,
        mailbox,
        localpart: localpart?,
        domain,
    })
}

fn read_mta_sts(reader: &Reader<'_>, statics: &Static) -> Option<MtaSts> {
    let mut mx: Vec<String> = Vec::new();
    for (index, host) in reader.entries::<String>("mx") {
        let (wildcard, name) = match host.strip_prefix("*.") {
            Some(name) => ("*.", name),
            None => ("", host.as_str()),
        };
        match parse_domain(name) {
            Ok(domain) => mx.push(format!("{wildcard}{}", domain.ascii())),
            Err(message) => reader.wrong_element("mx", index, message),
        }
    }
    if !reader.has("mx") {
        mx.push(statics.hostname.ascii().to_owned());
    }
    let mode = reader.opt("mode").unwrap_or(MtaStsMode::Enforce);
    let max_age = reader.get("max_age");
    let policy_id: String = reader.opt("policy_id")?;
    let valid =
        (1..=32).contains(&policy_id.len()) && policy_id.bytes().all(|b| b.is_ascii_alphanumeric());
    if !valid {
        reader.wrong(
            "policy_id",
            "must be 1 to 32 letters and digits (RFC 8461 section 3.1), such as a time",
        );
    }
    Some(MtaSts {
        policy_id,
        mode,
        max_age,
        mx,
    })
}

fn read_aliases(section: &Reader<'_>) -> BTreeMap<LocalPart, Alias> {
    let mut aliases = BTreeMap::new();
    for (name, reader) in section.named() {
        let alias = Alias {
            addresses: reader.set("addresses"),
            post_public: reader.get("post_public"),
            list_members: reader.get("list_members"),
            allow_msg_from: reader.get("allow_msg_from"),
            name: reader.opt("name"),
            description: reader.get("description"),
            urls: reader.set("urls"),
        };
        match parse_localpart(name) {
            Err(message) => section.wrong(name, message),
            Ok(local) => {
                if aliases.insert(local, alias).is_some() {
                    section.wrong(name, "exists already, in another spelling; keep one");
                }
            }
        }
    }
    aliases
}

fn read_routes(reader: &Reader<'_>) -> Vec<Route> {
    let tables = reader.tables("routes");
    tables
        .iter()
        .map(|route| Route {
            from_domain: route.set::<DomainPattern>("from_domain"),
            to_domain: route.set("to_domain"),
            minimum_attempts: route.get("minimum_attempts"),
            transport: route.opt("transport").unwrap_or_default(),
        })
        .collect()
}

fn read_account(reader: &Reader<'_>) -> Account {
    Account {
        domain: reader.opt("domain").unwrap_or_else(missing_domain),
        description: reader.get("description"),
        urls: reader.set("urls"),
        full_name: reader.get("full_name"),
        login_disabled: reader.get("login_disabled"),
        destinations: read_destinations(&reader.section("destinations")),
        routes: read_routes(reader),
        outgoing_webhook: reader
            .table("outgoing_webhook")
            .map(|hook| OutgoingWebhook {
                url: hook.url("url", &["http", "https"]).unwrap_or_default(),
                authorization: hook.get("authorization"),
                events: hook.set("events"),
                version: hook.get("version"),
                secret: read_secrets(&hook),
            }),
        incoming_webhook: reader
            .table("incoming_webhook")
            .map(|hook| IncomingWebhook {
                url: hook.url("url", &["http", "https"]).unwrap_or_default(),
                authorization: hook.get("authorization"),
                secret: read_secrets(&hook),
            }),
        failure_dsn: reader.opt("failure_dsn").unwrap_or(FailureDsn::Mail),
        shared_with: read_shared(&reader.section("shared_with")),
        allow_forward: reader.get("allow_forward"),
        undelete_period: reader.opt("undelete_period"),
        suppress_policy_blocks: reader.get("suppress_policy_blocks"),
        source_pool: reader.opt("source_pool"),
        suppression_period: reader.opt("suppression_period"),
        from_id_login_addresses: reader.set("from_id_login_addresses"),
        keep_retired_message_period: reader.get("keep_retired_message_period"),
        keep_retired_webhook_period: reader.get("keep_retired_webhook_period"),
        quota: reader.opt("quota"),
        max_outgoing_messages_per_day: reader.get("max_outgoing_messages_per_day"),
        max_first_time_recipients_per_day: reader.get("max_first_time_recipients_per_day"),
        rejects_mailbox: read_optional_mailbox(reader, "rejects_mailbox"),
        keep_rejects: reader.get("keep_rejects"),
        junk_filter: reader.get("junk_filter"),
        first_time_delay: reader.get("first_time_delay"),
        junk_mailbox: read_mailbox(reader, "junk_mailbox"),
        no_custom_password: reader.get("no_custom_password"),
    }
}

fn read_shared(section: &Reader<'_>) -> BTreeMap<String, Right> {
    let names = section.names().into_iter();
    names
        .filter_map(|name| Some((name.to_owned(), section.opt(name)?)))
        .collect()
}

fn read_optional_mailbox(reader: &Reader<'_>, name: &str) -> String {
    let mailbox: String = reader.get(name);
    if let Some(message) = mailbox_problem(&mailbox).filter(|_| !mailbox.is_empty()) {
        reader.wrong(name, message);
    }
    mailbox
}

/// Reads `secret`: a string or an array of two, each `whsec_` and base64.
fn read_secrets(reader: &Reader<'_>) -> Vec<WebhookSecret> {
    let name = "secret";
    let texts: Vec<&Value> = match reader.raw(name) {
        Some(Item::Value(Value::Array(array))) if (1..=2).contains(&array.len()) => {
            array.iter().collect()
        }
        Some(Item::Value(Value::Array(_))) => {
            reader.wrong(name, "must be one secret or an array of two");
            return Vec::new();
        }
        Some(Item::Value(value)) => vec![value],
        Some(_) => {
            reader.wrong(name, "must be a string or an array of two");
            return Vec::new();
        }
        None => return Vec::new(),
    };
    let mut secrets = Vec::new();
    for (index, value) in texts.into_iter().enumerate() {
        match read_secret(value) {
            Ok(secret) => {
                if secret.0.len() < 24 {
                    reader.warn(name, "is shorter than 24 bytes, and may be guessed");
                }
                secrets.push(secret);
            }
            Err(message) => reader.wrong_element(name, index, message),
        }
    }
    secrets
}

fn read_secret(value: &Value) -> Result<WebhookSecret, String> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    // Errors are logged, so they never have the secret.
    let wrong =
        "must be \"whsec_\" and base64, as \"echo whsec_$(openssl rand -base64 32)\" makes it";
    let text = value.as_str().ok_or(wrong)?;
    let text = text.strip_prefix("whsec_").ok_or(wrong)?;
    let bytes = STANDARD.decode(text).map_err(|_| wrong)?;
    if bytes.is_empty() {
        return Err(wrong.to_owned());
    }
    Ok(WebhookSecret(bytes))
}

fn read_destinations(section: &Reader<'_>) -> BTreeMap<DestinationAddress, Destination> {
    let mut destinations = BTreeMap::new();
    for (name, reader) in section.named() {
        let destination = read_destination(&reader);
        match DestinationAddress::parse(name) {
            Err(message) => section.wrong(name, message),
            // The index of all addresses finds a second spelling of the same address.
            Ok(address) => drop(destinations.insert(address, destination)),
        }
    }
    destinations
}

fn read_destination(reader: &Reader<'_>) -> Destination {
    let rulesets = reader.tables("rulesets");
    if reader.has("forward") && reader.has("forward_lmtp") {
        reader.wrong(
            "forward",
            "cannot be used together with forward_lmtp; keep one",
        );
    }
    Destination {
        mailbox: read_mailbox(reader, "mailbox"),
        rulesets: rulesets.iter().map(read_ruleset).collect(),
        smtp_error: reader.opt("smtp_error"),
        message_auth_required_smtp_error: reader.get("message_auth_required_smtp_error"),
        full_name: reader.get("full_name"),
        forward_lmtp: reader.get("forward_lmtp"),
        forward: reader.set("forward"),
    }
}

fn read_ruleset(reader: &Reader<'_>) -> Ruleset {
    let ruleset = Ruleset {
        mail_from_regexp: reader.opt("mail_from_regexp"),
        msg_from_regexp: reader.opt("msg_from_regexp"),
        verified_domain: reader.opt("verified_domain"),
        headers_regexp: read_header_patterns(reader),
        is_forward: reader.get("is_forward"),
        list_allow_domain: reader.opt("list_allow_domain"),
        accept_rejects_to_mailbox: read_optional_mailbox(reader, "accept_rejects_to_mailbox"),
        mailbox: match reader.has("mailbox") {
            true => read_mailbox(reader, "mailbox"),
            false => String::new(),
        },
    };
    let conditions = [
        "mail_from_regexp",
        "msg_from_regexp",
        "verified_domain",
        "headers_regexp",
    ];
    if ruleset.is_forward && !(reader.has("mail_from_regexp") && reader.has("verified_domain")) {
        reader.wrong(
            "is_forward",
            "needs mail_from_regexp and verified_domain, which say who forwards the mail",
        );
    }
    if !conditions.iter().any(|name| reader.has(name)) {
        let names = conditions.join(", ");
        reader.wrong_here(format!(
            "has no condition, and would take all mail; set one of {names}, or the \
            destination's mailbox"
        ));
    }
    ruleset
}

fn read_redirects(reader: &Reader<'_>) -> Vec<(Domain, Domain)> {
    let name = "redirects";
    let Some(item) = reader.raw(name) else {
        return Vec::new();
    };
    let Some(table) = item.as_table_like() else {
        reader.wrong(
            name,
            "must be a table such as {\"old.example\" = \"new.example\"}",
        );
        return Vec::new();
    };
    let mut redirects: Vec<(Domain, Domain)> = Vec::new();
    for (from, to) in table.iter() {
        let to = match to.as_value() {
            Some(to) => Domain::read(to, reader.folder()),
            None => Err("must be a domain".to_owned()),
        };
        match (parse_domain(from), to) {
            (Ok(from), Ok(to)) if from == to => {
                reader.wrong(name, format!("{from} leads to itself; remove it"));
            }
            (Ok(from), Ok(_)) if redirects.iter().any(|(other, _)| *other == from) => {
                reader.wrong(name, format!("{from} is there twice; keep one"));
            }
            (Ok(from), Ok(to)) => redirects.push((from, to)),
            (from, to) => {
                for message in [from.err(), to.err()].into_iter().flatten() {
                    reader.wrong(name, message);
                }
            }
        }
    }
    for circle in circles(&redirects) {
        let circle: Vec<String> = circle.iter().map(|domain| domain.unicode()).collect();
        let circle = circle.join(" to ");
        reader.wrong(name, format!("leads in a circle: {circle}; remove one"));
    }
    redirects
}

/// The circles among redirects, each from its first domain on to the same domain.
fn circles(redirects: &[(Domain, Domain)]) -> Vec<Vec<&Domain>> {
    let mut left: BTreeMap<&Domain, &Domain> =
        redirects.iter().map(|(from, to)| (from, to)).collect();
    let mut found = Vec::new();
    while let Some((start, mut at)) = left.pop_first() {
        // Each domain has one way on. So a way that was gone once need not be gone again.
        let mut way = vec![start, at];
        while let Some(next) = left.remove(at) {
            way.push(next);
            at = next;
        }
        if let Some(begin) = way.iter().position(|domain| *domain == at)
            && begin + 1 < way.len()
        {
            found.push(way.split_off(begin));
        }
    }
    found
}

fn read_header_patterns(reader: &Reader<'_>) -> Vec<(Pattern, Pattern)> {
    let name = "headers_regexp";
    let Some(item) = reader.raw(name) else {
        return Vec::new();
    };
    let Some(table) = item.as_table_like() else {
        reader.wrong(
            name,
            "must be a table such as {\"^subject$\" = \"invoice\"}",
        );
        return Vec::new();
    };
    let mut patterns = Vec::new();
    for (field, value) in table.iter() {
        let field = Pattern::read(&Value::from(field), reader.folder());
        let value = match value.as_value() {
            Some(value) => Pattern::read(value, reader.folder()),
            None => Err("must be a string".to_owned()),
        };
        match (field, value) {
            (Ok(field), Ok(value)) => patterns.push((field, value)),
            (field, value) => {
                for message in [field.err(), value.err()].into_iter().flatten() {
                    reader.wrong(name, message);
                }
            }
        }
    }
    patterns
}
