//! `sources` and `pools`: the addresses of this machine that mail goes out from.

use std::{collections::BTreeMap, net::IpAddr};

use postrider_smtp::Domain;

use crate::{day::Day, quantity::Rate, reader::Reader, suggest, values::OnBlock};

/// An address that connections to MX hosts come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingSource {
    /// The address.
    pub ip: IpAddr,
    /// The name in EHLO for connections from it.
    pub ehlo: Domain,
    /// The most messages to one site in a time. None means no limit.
    pub rate: Option<Rate>,
    /// The day from which on its mail grows slowly. None: other servers know the address.
    pub warm_up: Option<Day>,
}

/// The sources of a pool, each with its weight of 1 to 1000. A pool has at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The weights by the names of the sources.
    pub sources: BTreeMap<String, u16>,
    /// What becomes of a message when a host says that its source is blocked. None: as
    /// `delivery.on_block` says.
    pub on_block: Option<OnBlock>,
}

/// Reads `sources.<name>`.
pub(crate) fn read_source(
    reader: &Reader<'_>,
    hostname: Option<&Domain>,
) -> Option<OutgoingSource> {
    let ehlo: Option<Domain> = reader.opt("ehlo");
    let rate: Option<Option<Rate>> = reader.opt("rate");
    let warm_up = reader.opt("warm_up");
    let ip: IpAddr = reader.opt("ip")?;
    if ip.is_unspecified() || ip.is_multicast() {
        reader.wrong("ip", "is not the address of a machine");
        return None;
    }
    Some(OutgoingSource {
        ip,
        ehlo: ehlo.or_else(|| hostname.cloned())?,
        rate: rate.flatten(),
        warm_up,
    })
}

/// Reads `pools.<name>`, whose sources are among these.
pub(crate) fn read_pool(reader: &Reader<'_>, all: &Reader<'_>) -> Option<Pool> {
    let on_block = reader.opt("on_block");
    let section = reader.section("sources");
    let mut sources = BTreeMap::new();
    for name in section.names() {
        if !all.has(name) {
            let hint = suggest::did_you_mean(name, all.names().into_iter());
            section.wrong(
                name,
                format!("needs a source of this name in sources.<name>{hint}"),
            );
        }
        if let Some(weight) = section.opt(name) {
            sources.insert(name.to_owned(), weight);
        }
    }
    if section.names().is_empty() {
        reader.wrong_here("needs a source: sources.NAME = WEIGHT");
        return None;
    }
    Some(Pool { sources, on_block })
}

/// Reports a key that names a pool, if there is none of this name among `pools`.
pub(crate) fn check_pool<'a>(
    reader: &Reader<'_>,
    key: &str,
    pool: &str,
    pools: impl Iterator<Item = &'a str> + Clone,
) {
    if pools.clone().all(|name| name != pool) {
        let hint = suggest::did_you_mean(pool, pools);
        reader.wrong(
            key,
            format!("names pool {pool:?}, which does not exist{hint}"),
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::{Dynamic, OnBlock, Static, Transport};

    const BASE: &str = "hostname = \"mail.example.org\"\npostmaster.account = \"a\"\n\
                        [listeners.l]\nips = [\"127.0.0.1\"]\n";

    fn parse(text: &str) -> Result<Static, String> {
        let text = format!("{BASE}{text}");
        Static::parse(&text, "postrider.conf").map_err(|errors| errors.to_string())
    }

    #[test]
    fn rates_warm_up_and_blocks() {
        let text = "[sources.a]\nip = \"192.0.2.1\"\nrate = \"1000/hour\"\nwarm_up = 2026-12-01\n\
                    [sources.b]\nip = \"192.0.2.2\"\nrate = \"none\"\nwarm_up = \"2026-12-02\"\n\
                    [sources.c]\nip = \"192.0.2.3\"\n\
                    [pools.p]\non_block = \"switch\"\nsources = { a = 1, b = 1 }\n\
                    [pools.q.sources]\nc = 1\n";
        let statics = parse(text).unwrap();
        let shown = |name: &str| {
            let source = &statics.sources[name];
            let rate = source.rate.map(|rate| rate.to_string());
            (rate, source.warm_up.map(|day| day.to_string()))
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(shown("a"), (text("1000/hour"), text("2026-12-01")));
        assert_eq!(shown("b"), (None, text("2026-12-02")));
        assert_eq!(shown("c"), (None, None));
        assert_eq!(statics.pools["p"].on_block, Some(OnBlock::Switch));
        assert_eq!(statics.pools["q"].on_block, None);
    }

    /// Entries of providers may be in either file, and in a file of their own.
    #[test]
    fn the_pool_of_a_provider_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("providers");
        let statics = |pool: &str| {
            std::fs::write(&file, format!("[google]\nsource_pool = \"{pool}\"\n")).unwrap();
            let name = file.display();
            parse(&format!("{POOL}[delivery]\nproviders_file = \"{name}\"\n"))
        };
        let parsed = statics("p").unwrap();
        let pool_of = |providers: &crate::Providers, name: &str| {
            let found = providers.iter().find(|provider| provider.name == name);
            found.unwrap().source_pool.clone()
        };
        assert_eq!(pool_of(&parsed.providers, "google").as_deref(), Some("p"));
        assert_eq!(pool_of(&parsed.providers, "yahoo"), None);
        let error = statics("pp").unwrap_err();
        let expected = "google.source_pool: names pool \"pp\", which does not exist";
        assert!(error.contains(expected), "{error}");
        let dynamic = |pool: &str| {
            let text = format!(
                "[domains.\"example.org\"]\n[accounts.a]\ndomain = \"example.org\"\n\
                 destinations.\"a@example.org\" = {{}}\n\
                 [providers.default]\nsource_pool = \"{pool}\"\n"
            );
            Dynamic::parse(&text, "domains.conf", &parsed).map_err(|errors| errors.to_string())
        };
        // What an entry does not have is that of the entry default.
        let providers = dynamic("p").unwrap().providers;
        assert_eq!(pool_of(&providers, "yahoo").as_deref(), Some("p"));
        let error = dynamic("q").unwrap_err();
        let expected = "providers.default.source_pool: names pool \"q\", which does not exist";
        assert!(error.contains(expected), "{error}");
    }

    const POOL: &str = "[sources.one]\nip = \"192.0.2.1\"\n\
                        [sources.two]\nip = \"2001:db8::2\"\nehlo = \"out2.example.org\"\n\
                        [pools.p.sources]\none = 1\ntwo = 3\n";

    #[test]
    fn sources_and_pools() {
        let text = format!(
            "{POOL}[transports.t.direct]\nsource_pool = \"p\"\n[delivery]\nsource_pool = \"p\"\n"
        );
        let statics = parse(&text).unwrap();
        let named = |name: &str| {
            let source = &statics.sources[name];
            format!("{} {}", source.ip, source.ehlo)
        };
        assert_eq!(named("one"), "192.0.2.1 mail.example.org");
        assert_eq!(named("two"), "2001:db8::2 out2.example.org");
        let weights: Vec<_> = statics.pools["p"].sources.iter().collect();
        assert_eq!(weights, [(&"one".to_owned(), &1), (&"two".to_owned(), &3)]);
        assert_eq!(statics.delivery.source_pool.as_deref(), Some("p"));
        let Transport::Direct(direct) = &statics.transports["t"] else {
            panic!("not direct");
        };
        assert_eq!(direct.source_pool.as_deref(), Some("p"));
        let account = |pool: &str| {
            let text = format!(
                "[domains.\"example.org\"]\n[accounts.a]\ndomain = \"example.org\"\n\
                 destinations.\"a@example.org\" = {{}}\nsource_pool = \"{pool}\"\n"
            );
            Dynamic::parse(&text, "domains.conf", &statics).map_err(|errors| errors.to_string())
        };
        let config = account("p").unwrap();
        assert_eq!(config.accounts["a"].source_pool.as_deref(), Some("p"));
        let error = account("q").unwrap_err();
        assert!(
            error.contains("accounts.a.source_pool: names pool \"q\""),
            "{error}"
        );
    }

    #[test]
    fn what_is_wrong_with_sources_and_pools() {
        for (text, expected) in [
            ("sources.a = {}\n", "sources.a.ip: is required"),
            (
                "sources.a.ip = \"0.0.0.0\"\n",
                "sources.a.ip: is not the address of a machine",
            ),
            ("pools.p = {}\n", "pools.p: needs a source"),
            (
                "sources.a = { ip = \"192.0.2.1\", rate = \"10\" }\n",
                "sources.a.rate: \"10\" is not a rate",
            ),
            (
                "sources.a = { ip = \"192.0.2.1\", warm_up = 2026-12-01T10:00:00Z }\n",
                "sources.a.warm_up: must be a date such as 2026-12-01, not \"2026-12-01T10:00:00Z\"",
            ),
            (
                "sources.a = { ip = \"192.0.2.1\", warm_up = 5 }\n",
                "sources.a.warm_up: must be a date, not a number",
            ),
            (
                "pools.p.on_block = \"wait\"\n",
                "pools.p.on_block: \"wait\" is not a value of this key",
            ),
            (
                "pools.p.sources.x = 1\n",
                "pools.p.sources.x: needs a source of this name",
            ),
            (
                "sources.one.ip = \"192.0.2.1\"\npools.p.sources.one = 0\n",
                "pools.p.sources.one: must be between 1 and 1000",
            ),
            (
                "delivery.source_pool = \"p\"\n",
                "delivery.source_pool: names pool \"p\", which does not exist",
            ),
            (
                "transports.t.direct.source_pool = \"p\"\n",
                "transports.t.direct.source_pool: names pool \"p\", which does not exist",
            ),
            (
                "sources.one.ip = \"192.0.2.1\"\npools.p.sources.one = 1\n\
                 transports.t.direct = { source_pool = \"p\", local_ips = [\"192.0.2.1\"] }\n",
                "transports.t.direct.source_pool: cannot be used together with local_ips",
            ),
        ] {
            // The keys of the root come before the tables.
            let text = format!(
                "hostname = \"mail.example.org\"\npostmaster.account = \"a\"\n\
                 listeners.l.ips = [\"127.0.0.1\"]\n{text}"
            );
            let errors = Static::parse(&text, "postrider.conf")
                .unwrap_err()
                .to_string();
            assert!(errors.contains(expected), "{text}: {errors}");
        }
    }
}
