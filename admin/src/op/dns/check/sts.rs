//! The TLS policy of the domain (MTA-STS, RFC 8461).

use std::time::Duration;

use postrider_config::{MtaSts, MtaStsMode};
use postrider_dns::Resolver;
use postrider_queue::{
    https::HTTPS_PORT,
    mta_sts::{POLICY_PATH, Policy, matches},
};

use super::{
    About, Found, Row, Subject, Verdict,
    dmarc::one,
    mx::hosts,
    tags::{tag, texts},
    web::own_name,
};
use crate::op::dns::records;

/// A policy that others forget sooner protects little.
const SHORT: Duration = Duration::from_secs(24 * 60 * 60);

/// The record that announces the policy, and the name of its host.
pub(super) fn records<'a>(subject: &'a Subject<'a>, resolver: &'a dyn Resolver) -> Row<'a> {
    Box::pin(async move {
        let name = subject.at("_mta-sts");
        let Some(policy) = &subject.config.mta_sts else {
            return not_configured(&name, resolver).await;
        };
        let about = About {
            check: "MTA-STS",
            record_type: "TXT",
            name: &name,
            wanted: records::mta_sts(&policy.policy_id),
            needed: true,
        };
        let host = subject.at("mta-sts");
        let host = own_name(subject, "MTA-STS", &host, true, resolver);
        let record = announcement(&about, policy, resolver);
        let (record, host) = tokio::join!(record, host);
        vec![record, host]
    })
}

async fn announcement(about: &About<'_>, policy: &MtaSts, resolver: &dyn Resolver) -> Found {
    let missing = "add the record, or nobody looks for the policy";
    let (text, found, ttl) = match one(about, "v=STSv1", missing, resolver).await {
        Ok(one) => one,
        Err(result) => return result,
    };
    let result = match tag(&text, "id") == Some(policy.policy_id.as_str()) {
        true => about.ok(found),
        false => {
            let advice = "the id is not that of the policy, so others keep an older policy";
            about.found(Verdict::Differs, found, advice)
        }
    };
    result.holds(Some(ttl))
}

async fn not_configured(name: &str, resolver: &dyn Resolver) -> Vec<Found> {
    let about = About {
        check: "MTA-STS",
        record_type: "TXT",
        name,
        wanted: String::new(),
        needed: false,
    };
    match texts(resolver, name, "v=STSv1").await {
        Ok(answer) if !answer.records.is_empty() => {
            let advice = "a policy is announced, but domains.D.mta_sts is not set; set it, or \
                remove the record";
            let found = about.found(Verdict::Differs, answer.records, advice);
            let mut found = found.holds(Some(answer.ttl));
            found.item.needed = true;
            vec![found]
        }
        _ => {
            let advice = "without a policy, TLS of other servers is not verified; set \
                domains.D.mta_sts";
            vec![about.found(Verdict::Missing, Vec::new(), advice)]
        }
    }
}

/// The policy as it is served, compared with the configuration and the MX hosts.
pub(super) fn policy<'a>(subject: &'a Subject<'a>, resolver: &'a dyn Resolver) -> Row<'a> {
    Box::pin(async move {
        let Some(wanted) = &subject.config.mta_sts else {
            return Vec::new();
        };
        let name = subject.at("mta-sts");
        let about = About {
            check: "MTA-STS",
            record_type: "HTTPS",
            name: &name,
            wanted: one_line(&configured(wanted)),
            needed: true,
        };
        let answer = match subject.get(&name, HTTPS_PORT, POLICY_PATH, resolver).await {
            Ok(answer) => answer,
            Err(error) => {
                let advice = format!("https://{name}{POLICY_PATH}: {error}");
                return vec![about.found(Verdict::Error, Vec::new(), advice)];
            }
        };
        if answer.status != 200 {
            let status = answer.status;
            let advice = format!("https://{name}{POLICY_PATH} answers {status}, not 200");
            return vec![about.found(Verdict::Differs, Vec::new(), advice)];
        }
        let hosts = hosts(subject, resolver).await.unwrap_or_default();
        let hosts: Vec<String> = hosts.into_iter().map(|host| host.name).collect();
        vec![judge(&about, &answer.body, wanted, &hosts)]
    })
}

fn judge(about: &About<'_>, body: &[u8], wanted: &MtaSts, hosts: &[String]) -> Found {
    let served = match Policy::parse(body) {
        Ok(policy) => sorted(policy),
        Err(error) => {
            let advice = format!("the answer is not a policy: {error} (RFC 8461 section 3.2)");
            return about.found(Verdict::Differs, Vec::new(), advice);
        }
    };
    let found = vec![one_line(&served)];
    if served != configured(wanted) {
        let advice = "another policy is served than domains.D.mta_sts has";
        return about.found(Verdict::Differs, found, advice);
    }
    let outside = hosts.iter().find(|host| !served.allows(host));
    if let Some(host) = outside {
        let advice = format!("the MX host {host} is not in the policy; add it to mta_sts.mx");
        return about.found(Verdict::Differs, found, advice);
    }
    let unused = served
        .mx
        .iter()
        .find(|pattern| !hosts.is_empty() && !hosts.iter().any(|host| matches(pattern, host)));
    if let Some(pattern) = unused {
        let advice = format!("no MX host is {pattern}; remove it from mta_sts.mx, or add the host");
        return about.found(Verdict::Differs, found, advice);
    }
    if wanted.mode != MtaStsMode::Enforce {
        let advice = "only the mode enforce protects mail";
        return about.found(Verdict::Differs, found, advice).warning();
    }
    if wanted.max_age <= SHORT {
        let advice = "others forget the policy after a day; a week or more protects better, once \
            all works";
        return about.found(Verdict::Differs, found, advice).warning();
    }
    about.ok(found)
}

/// The policy of the configuration, with its hosts in alphabetical order.
fn configured(config: &MtaSts) -> Policy {
    sorted(Policy {
        mode: config.mode,
        mx: config.mx.iter().map(|mx| mx.to_ascii_lowercase()).collect(),
        max_age: config.max_age,
    })
}

fn sorted(mut policy: Policy) -> Policy {
    policy.mx.sort();
    policy
}

fn one_line(policy: &Policy) -> String {
    let Policy { mode, max_age, mx } = policy;
    let seconds = max_age.as_secs();
    format!("mode: {mode}, max_age: {seconds}, mx: {}", mx.join(" "))
}
