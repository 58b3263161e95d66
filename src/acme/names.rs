//! The names that get certificates.

use std::collections::{BTreeMap, BTreeSet};

use postrider_config::{Dynamic, Static};
use postrider_smtp::Domain;

use super::host_keys::HostKey;

/// The host keys of each listener with ACME, by the name of the listener.
pub(super) type HostKeys = BTreeMap<String, Vec<HostKey>>;

/// A certificate that the server wants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Wanted {
    /// The name of the account in the configuration.
    pub(super) account: String,
    /// The domain name in ASCII.
    pub(super) name: String,
    /// Empty: a key of its own. Else the id of a host key.
    pub(super) key_id: String,
}

/// The certificates that the configuration asks for: for the hostnames, the names of the mail
/// programs, the hosts of tracked links, MTA-STS policies and settings where a listener serves
/// them, and the domains that lead to others. A disabled domain gets none, since its names may
/// still lead to another server.
pub(super) fn wanted(statics: &Static, dynamic: &Dynamic, keys: &HostKeys) -> BTreeSet<Wanted> {
    let mut all = BTreeSet::new();
    for (listener, configured) in &statics.listeners {
        let Some(account) = configured.acme_account() else {
            continue;
        };
        let mut names = BTreeSet::from([statics.hostname.ascii().to_owned()]);
        names.insert(configured.hostname.ascii().to_owned());
        let has_https = configured.challenge_ports(true).next().is_some();
        for (domain, settings) in &dynamic.domains {
            if settings.disabled {
                continue;
            }
            names.insert(settings.client_settings_domain.ascii().to_owned());
            if configured.autoconfig_https.enabled {
                names.insert(format!("autoconfig.{}", domain.ascii()));
            }
            if let Some(tracking) = settings.tracking.as_ref().filter(|_| has_https) {
                names.insert(tracking.host.ascii().to_owned());
            }
            if configured.mta_sts_https.enabled && settings.mta_sts.is_some() {
                names.insert(format!("mta-sts.{}", domain.ascii()));
            }
        }
        if has_https {
            let redirects = dynamic.web_redirects.iter();
            names.extend(redirects.map(|(from, _)| from.ascii().to_owned()));
        }
        for name in names.into_iter().filter(|name| can_have_certificate(name)) {
            let ids = key_ids(statics, keys, listener, account, &name);
            all.extend(ids.into_iter().map(|key_id| Wanted {
                account: account.to_owned(),
                name: name.clone(),
                key_id,
            }));
        }
    }
    all
}

/// The ids of the keys of a name: the host keys of the listeners of this account that have the name
/// as their hostname, or one key of its own.
fn key_ids(
    statics: &Static,
    keys: &HostKeys,
    listener: &str,
    account: &str,
    name: &str,
) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for (other, configured) in &statics.listeners {
        let is_host = configured.acme_account() == Some(account)
            && configured.hostname.ascii() == name
            && (other == listener || keys.get(other).is_some_and(|keys| !keys.is_empty()));
        if is_host {
            let keys = keys.get(other).into_iter().flatten();
            ids.extend(keys.map(|key| key.id.clone()));
        }
    }
    if ids.is_empty() {
        ids.insert(String::new());
    }
    ids
}

/// A CA that others trust knows no names without a dot.
fn can_have_certificate(name: &str) -> bool {
    name.contains('.') && Domain::parse(name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(statics: &str, dynamic: &str) -> (Static, Dynamic) {
        let statics = Static::parse(statics, "postrider.conf").unwrap();
        let dynamic = Dynamic::parse(dynamic, "domains.conf", &statics).unwrap();
        (statics, dynamic)
    }

    const STATIC: &str = r#"
hostname = "mx.example"
postmaster.account = "ann"
acme.ca = {}
acme.other = {}
listeners.public = { ips = ["192.0.2.1"], tls.acme = "ca", smtp = {}, autoconfig_https = {}, mta_sts_https = {} }
listeners.more = { ips = ["192.0.2.2"], hostname = "more.example", tls.acme = "other", submissions = {} }
listeners.plain = { ips = ["192.0.2.3"], hostname = "plain.example", webapi_http = {} }
"#;

    const DYNAMIC: &str = r#"
web.redirects = { "old.example" = "www.example" }
domains."bücher.example" = { mta_sts.policy_id = "1" }
domains."b.example" = { client_settings_domain = "mx.example", tracking = { host = "go.b.example", opens = true } }
domains."gone.example" = { disabled = true, mta_sts.policy_id = "1" }
domains."localhost" = { client_settings_domain = "localhost" }
accounts.ann = { domain = "b.example" }
"#;

    #[test]
    fn the_names_follow_from_the_services_and_the_domains() {
        let (statics, dynamic) = read(STATIC, DYNAMIC);
        let all = wanted(&statics, &dynamic, &HostKeys::new());
        let names = |account: &str| -> Vec<&str> {
            let all = all.iter().filter(|wanted| wanted.account == account);
            all.map(|wanted| wanted.name.as_str()).collect()
        };
        assert_eq!(
            names("ca"),
            [
                "autoconfig.b.example",
                "autoconfig.localhost",
                "autoconfig.xn--bcher-kva.example",
                "go.b.example",
                "mail.xn--bcher-kva.example",
                "mta-sts.xn--bcher-kva.example",
                "mx.example",
                "old.example",
            ]
        );
        // No HTTPS there: no policies, no settings, no redirects.
        assert_eq!(
            names("other"),
            ["mail.xn--bcher-kva.example", "more.example", "mx.example"]
        );
    }

    #[test]
    fn a_hostname_has_a_certificate_for_each_host_key() {
        let (statics, dynamic) = read(
            &STATIC.replace("tls.acme = \"other\"", "tls.acme = \"ca\""),
            DYNAMIC,
        );
        let keys = HostKeys::from([
            ("public".into(), vec![HostKey::p256(), HostKey::p256()]),
            ("more".into(), Vec::new()),
        ]);
        let all = wanted(&statics, &dynamic, &keys);
        let ids = |name: &str| -> Vec<&str> {
            let all = all.iter().filter(|wanted| wanted.name == name);
            all.map(|wanted| wanted.key_id.as_str()).collect()
        };
        let mut expected: Vec<&str> = keys["public"].iter().map(|key| key.id.as_str()).collect();
        expected.sort_unstable();
        assert_eq!(ids("mx.example"), expected);
        assert_eq!(ids("more.example"), [""]);
        assert_eq!(ids("autoconfig.b.example"), [""]);
    }
}
