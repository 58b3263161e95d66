//! What mail programs ask: services, names of this server, and the settings there.

use postrider_dns::{Record, Resolver};

use super::{About, Found, Row, Subject, Verdict, tls::Shown};
use crate::op::dns::{
    record::content,
    records::{ABSENT_SERVICES, autoconfig_port, services as offered},
};

/// The settings for mail programs, at the place that Thunderbird asks for.
const AUTOCONFIG_PATH: &str = "/mail/config-v1.1.xml";

/// The SRV records of services that are here, and of those that are not.
pub(super) fn services<'a>(subject: &'a Subject<'a>, resolver: &'a dyn Resolver) -> Row<'a> {
    Box::pin(async move {
        let offered = offered(&subject.world.statics, subject.config);
        let has_settings = autoconfig_port(&subject.world.statics).is_some();
        let mut wanted: Vec<(&str, Option<(u16, &str)>)> = Vec::new();
        for (service, port, target) in offered {
            if service != "_autodiscover" || has_settings {
                wanted.push((service, Some((port, target))));
            }
        }
        for service in ["_submissions", "_imaps"].iter().chain(&ABSENT_SERVICES) {
            if wanted.iter().all(|(known, _)| known != service) {
                wanted.push((*service, None));
            }
        }
        let items = wanted
            .into_iter()
            .map(|(service, wanted)| async move { one(subject, service, wanted, resolver).await });
        futures_util::future::join_all(items).await
    })
}

async fn one(
    subject: &Subject<'_>,
    service: &str,
    wanted: Option<(u16, &str)>,
    resolver: &dyn Resolver,
) -> Found {
    let name = subject.at(&format!("{service}._tcp"));
    let about = About {
        check: "SRV",
        record_type: "SRV",
        name: &name,
        wanted: match wanted {
            Some((port, target)) => format!("0 1 {port} {target}."),
            None => "0 0 0 .".to_owned(),
        },
        needed: wanted.is_some(),
    };
    let answer = match resolver.srv(&name).await {
        Ok(answer) => answer,
        Err(error) => {
            let advice = match wanted {
                Some(_) => "add the record, so that mail programs find the service",
                None => "the record is optional: with it, mail programs do not try the service",
            };
            return about.failed(&error, advice);
        }
    };
    let client = subject.config.client_settings_domain.ascii();
    let right = |srv: &postrider_dns::Srv| match wanted {
        // Also the name for mail programs leads to this server.
        Some((port, target)) => {
            let ours = target == subject.host && srv.target == client;
            srv.port == port && (srv.target == target || ours)
        }
        None => srv.target.is_empty(),
    };
    let all_right = answer.records.iter().all(right);
    let records = answer.records.into_iter().map(Record::Srv);
    let found: Vec<String> = records.map(|record| content(&record)).collect();
    let result = match (all_right, wanted) {
        (true, _) => about.ok(found),
        (false, Some(_)) => {
            let advice = "the record leads mail programs to another place; replace it";
            about.found(Verdict::Differs, found, advice)
        }
        (false, None) => {
            let advice = "this server does not have the service; remove the record, unless another \
                server has it";
            about.found(Verdict::Differs, found, advice)
        }
    };
    result.holds(Some(answer.ttl))
}

/// The names under which mail programs find this server.
pub(super) fn names<'a>(subject: &'a Subject<'a>, resolver: &'a dyn Resolver) -> Row<'a> {
    Box::pin(async move {
        let client = subject.config.client_settings_domain.ascii();
        let autoconfig = subject.at("autoconfig");
        let mut names = Vec::new();
        if client != subject.domain && client != subject.host {
            names.push((client, submissions_port(subject).is_some()));
        }
        if autoconfig_port(&subject.world.statics).is_some() {
            names.push((autoconfig.as_str(), true));
        }
        let items = names
            .iter()
            .map(|(name, needed)| own_name(subject, "mail programs", name, *needed, resolver));
        futures_util::future::join_all(items).await
    })
}

/// A name has addresses, and all are ours.
pub(super) async fn own_name(
    subject: &Subject<'_>,
    check: &str,
    name: &str,
    needed: bool,
    resolver: &dyn Resolver,
) -> Found {
    let about = About {
        check,
        record_type: "CNAME",
        name,
        wanted: format!("{}.", subject.host),
        needed,
    };
    let answer = match resolver.addresses(name).await {
        Ok(answer) => answer,
        Err(error) => return about.failed(&error, "add the record"),
    };
    let found: Vec<String> = answer.records.iter().map(ToString::to_string).collect();
    let foreign = answer.records.iter().any(|ip| !subject.facts.is_own(*ip));
    let result = match foreign {
        false => about.ok(found),
        true => {
            let advice = "the name leads to another server; make it an alias of this host";
            about.found(Verdict::Differs, found, advice)
        }
    };
    result.holds(Some(answer.ttl))
}

fn submissions_port(subject: &Subject<'_>) -> Option<u16> {
    let mut listeners = subject.world.statics.listeners.values();
    let listener = listeners.find(|listener| listener.submissions.enabled)?;
    Some(listener.submissions.port)
}

/// The services behind the names: the certificates fit, and the settings are there.
pub(super) fn connections<'a>(subject: &'a Subject<'a>, resolver: &'a dyn Resolver) -> Row<'a> {
    Box::pin(async move {
        let client = subject.config.client_settings_domain.ascii();
        let submission = async {
            let port = submissions_port(subject)?;
            Some(certificate_of(subject, client, port, resolver).await)
        };
        let settings = async {
            let port = autoconfig_port(&subject.world.statics)?;
            Some(settings(subject, port, resolver).await)
        };
        let autodiscover = async {
            let srv = resolver.srv(&subject.at("_autodiscover._tcp")).await;
            let srv = srv
                .ok()?
                .records
                .into_iter()
                .find(|srv| !srv.target.is_empty())?;
            // The row about SRV records tells when there are none, or when they are wrong.
            autoconfig_port(&subject.world.statics)?;
            Some(certificate_of(subject, &srv.target, srv.port, resolver).await)
        };
        let (submission, settings, autodiscover) = tokio::join!(submission, settings, autodiscover);
        [submission, settings, autodiscover]
            .into_iter()
            .flatten()
            .collect()
    })
}

async fn certificate_of(
    subject: &Subject<'_>,
    name: &str,
    port: u16,
    resolver: &dyn Resolver,
) -> Found {
    let about = About {
        check: "mail programs",
        record_type: "TLS",
        name,
        wanted: format!("port {port} with a certificate for {name}"),
        needed: true,
    };
    match subject.certificate(name, port, resolver).await {
        Ok(Shown {
            trusted: Ok(()), ..
        }) => about.ok(vec![format!("port {port}")]),
        Ok(Shown {
            trusted: Err(reason),
            ..
        }) => {
            let advice = format!("the certificate does not fit ({reason})");
            about.found(Verdict::Differs, vec![format!("port {port}")], advice)
        }
        // Without an address, the row about names tells.
        Err(reason) => about.found(Verdict::Error, Vec::new(), reason),
    }
}

async fn settings(subject: &Subject<'_>, port: u16, resolver: &dyn Resolver) -> Found {
    let name = subject.at("autoconfig");
    let url = format!("https://{name}{AUTOCONFIG_PATH}");
    let about = About {
        check: "mail programs",
        record_type: "HTTPS",
        name: &name,
        wanted: format!("{url} answers 200"),
        needed: true,
    };
    match subject.get(&name, port, AUTOCONFIG_PATH, resolver).await {
        Ok(answer) if answer.status == 200 => about.ok(vec!["200".to_owned()]),
        Ok(answer) => {
            let found = vec![answer.status.to_string()];
            about.found(Verdict::Differs, found, "the settings are not there")
        }
        Err(error) => about.found(Verdict::Error, Vec::new(), error.to_string()),
    }
}
