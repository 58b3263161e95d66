//! `sources` and `pools`: the addresses of this machine that mail goes out from.

use std::{collections::BTreeMap, net::IpAddr};

use postrider_smtp::Domain;

use crate::{reader::Reader, suggest};

/// An address that connections to MX hosts come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingSource {
    /// The address.
    pub ip: IpAddr,
    /// The name in EHLO for connections from it.
    pub ehlo: Domain,
}

/// The sources of a pool, each with its weight of 1 to 1000. A pool has at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The weights by the names of the sources.
    pub sources: BTreeMap<String, u16>,
}

/// Reads `sources.<name>`.
pub(crate) fn read_source(
    reader: &Reader<'_>,
    hostname: Option<&Domain>,
) -> Option<OutgoingSource> {
    let ehlo: Option<Domain> = reader.opt("ehlo");
    let ip: IpAddr = reader.opt("ip")?;
    if ip.is_unspecified() || ip.is_multicast() {
        reader.wrong("ip", "is not the address of a machine");
        return None;
    }
    Some(OutgoingSource {
        ip,
        ehlo: ehlo.or_else(|| hostname.cloned())?,
    })
}

/// Reads `pools.<name>`, whose sources are among these.
pub(crate) fn read_pool(reader: &Reader<'_>, all: &Reader<'_>) -> Option<Pool> {
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
    Some(Pool { sources })
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
    use crate::{Dynamic, Static, Transport};

    const BASE: &str = "hostname = \"mail.example.org\"\npostmaster.account = \"a\"\n\
                        [listeners.l]\nips = [\"127.0.0.1\"]\n";

    fn parse(text: &str) -> Result<Static, String> {
        let text = format!("{BASE}{text}");
        Static::parse(&text, "postrider.conf").map_err(|errors| errors.to_string())
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
