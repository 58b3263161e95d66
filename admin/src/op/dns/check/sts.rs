//! The TLS policy of the domain (MTA-STS, RFC 8461).

use std::time::Duration;

use postrider_config::{MtaSts, MtaStsMode};
use postrider_dns::Resolver;

use super::{
    About, Found, Row, Subject, Verdict,
    dmarc::one,
    http,
    mx::hosts,
    tags::{tag, texts},
    web::own_name,
};
use crate::op::dns::records;

/// A policy that others forget sooner protects little.
const SHORT: Duration = Duration::from_secs(24 * 60 * 60);
/// The HTTPS port.
const HTTPS_PORT: u16 = 443;
/// The place of the policy (RFC 8461 §3.3).
const POLICY_PATH: &str = "/.well-known/mta-sts.txt";

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
            wanted: one_line(&Policy::of(wanted)),
            needed: true,
        };
        let answer = http::get(subject, &name, HTTPS_PORT, POLICY_PATH, resolver).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(reason) => {
                let advice = format!("https://{name}{POLICY_PATH}: {reason}");
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

fn judge(about: &About<'_>, body: &str, wanted: &MtaSts, hosts: &[String]) -> Found {
    let Some(served) = Policy::parse(body) else {
        let advice = "the answer is not a policy (RFC 8461 section 3.2)";
        return about.found(Verdict::Differs, Vec::new(), advice);
    };
    let found = vec![one_line(&served)];
    if served != Policy::of(wanted) {
        let advice = "another policy is served than domains.D.mta_sts has";
        return about.found(Verdict::Differs, found, advice);
    }
    let outside = hosts
        .iter()
        .find(|host| !served.mx.iter().any(|pattern| matches(pattern, host)));
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

/// A policy, with its hosts in alphabetical order.
#[derive(Debug, PartialEq, Eq)]
struct Policy {
    mode: String,
    max_age: u64,
    mx: Vec<String>,
}

impl Policy {
    fn of(config: &MtaSts) -> Self {
        let mut mx = config.mx.clone();
        mx.sort();
        Self {
            mode: config.mode.as_str().to_owned(),
            max_age: config.max_age.as_secs(),
            mx,
        }
    }

    /// Reads the text of a policy. Unknown fields do not count.
    fn parse(text: &str) -> Option<Self> {
        let (mut version, mut mode, mut max_age, mut mx) = (None, None, None, Vec::new());
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let (name, value) = line.split_once(':')?;
            let value = value.trim();
            match name.trim() {
                "version" => version = version.or(Some(value)),
                "mode" => mode = mode.or(Some(value)),
                "max_age" => max_age = max_age.or(Some(value)),
                "mx" => mx.push(value.to_ascii_lowercase()),
                _ => {}
            }
        }
        mx.sort();
        (version == Some("STSv1")).then_some(())?;
        Some(Self {
            mode: mode?.to_owned(),
            max_age: max_age?.parse().ok()?,
            mx,
        })
    }
}

fn one_line(policy: &Policy) -> String {
    let Policy { mode, max_age, mx } = policy;
    format!("mode: {mode}, max_age: {max_age}, mx: {}", mx.join(" "))
}

/// Whether a pattern of a policy stands for a host (RFC 8461 §4.1).
fn matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(parent) => host
            .split_once('.')
            .is_some_and(|(_, above)| above.eq_ignore_ascii_case(parent)),
        None => pattern.eq_ignore_ascii_case(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_and_compared() {
        let text = "version: STSv1\r\nmode: enforce\r\nmx: b.test\r\nmx: *.a.test\r\n\
            max_age: 604800\r\nother: x\r\n";
        let policy = Policy::parse(text).unwrap();
        let shown = "mode: enforce, max_age: 604800, mx: *.a.test b.test";
        assert_eq!(one_line(&policy), shown);
        for wrong in [
            "",
            "version: STSv2\nmode: none\nmax_age: 1\n",
            "<html>",
            "version: STSv1",
        ] {
            assert_eq!(Policy::parse(wrong), None, "{wrong}");
        }
        assert!(matches("*.a.test", "mx.a.test") && matches("A.test", "a.test"));
        assert!(!matches("*.a.test", "a.test") && !matches("*.a.test", "x.mx.a.test"));
    }
}
