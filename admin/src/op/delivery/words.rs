//! What the stages of a check tell people.

use super::{
    PatternItem::{Equals, StartsWith},
    PlanItem, PolicyItem, ResultItem,
    RuaItem::{Http, Mail},
    SessionItem, StageItem,
};
use crate::op::{hex, transcripts::CertificateItem};

/// The step of a stage that ends one, and how it ended.
#[must_use]
pub fn step_of(kind: &str) -> Option<(&'static str, &'static str)> {
    const STEPS: [(&str, &str); 16] = [
        ("mxLookup", "MX"),
        ("mtaStsFetch", "MTA-STS"),
        ("mtaSts", "MTA-STS"),
        ("tlsRptLookup", "TLS reports to"),
        ("tlsRpt", "TLS reports to"),
        ("mtaStsVerify", "in MTA-STS policy"),
        ("tlsaLookup", "TLSA"),
        ("tlsa", "TLSA"),
        ("ipLookup", "addresses"),
        ("connection", "connection"),
        ("readGreeting", "greeting"),
        ("ehlo", "EHLO"),
        ("startTls", "STARTTLS"),
        ("daneVerify", "TLSA match"),
        ("auth", "AUTH"),
        ("mailFrom", "MAIL"),
    ];
    if kind == "quitCompleted" {
        return Some(("QUIT", "ok"));
    }
    let ends = [("Success", "ok"), ("NotFound", "none"), ("Error", "error")];
    let (name, word) = ends
        .iter()
        .find_map(|(end, word)| Some((kind.strip_suffix(end)?, *word)))?;
    if name == "rcptTo" {
        return Some(("RCPT", word));
    }
    let step = STEPS.iter().find(|(known, _)| *known == name);
    step.map(|(_, step)| (*step, word))
}

/// What a step found, or why it failed.
#[must_use]
pub fn details(stage: &StageItem) -> String {
    if let Some(reason) = stage.reason.as_ref().or(stage.reply.as_ref()) {
        return reason.clone();
    }
    if let Some(mxs) = &stage.mxs {
        let hosts = mxs.iter().flat_map(|mx| {
            mx.exchanges
                .iter()
                .map(|host| format!("{} {host}", mx.preference))
        });
        let hosts: Vec<String> = hosts.collect();
        let kind = match stage.implicit {
            Some(true) => "no MX records, the domain is its own host: ",
            _ => "",
        };
        let secure = match stage.secure {
            Some(true) => "proven by DNSSEC",
            _ => "not proven by DNSSEC",
        };
        return format!("{kind}{} ({secure})", hosts.join(", "));
    }
    if let Some(policy) = &stage.policy {
        return policy_text(policy);
    }
    if let Some(rua) = &stage.rua {
        let uris = rua.iter().map(|uri| match uri {
            Mail { email } => email.as_str(),
            Http { url } => url.as_str(),
        });
        return uris.collect::<Vec<_>>().join(", ");
    }
    if let Some(record) = &stage.record {
        let usage = |is_end: bool| if is_end { "3" } else { "2" };
        let records = record.entries.iter().map(|entry| {
            let digest = hex(&entry.data);
            let selector = u8::from(entry.is_spki);
            format!("{} {selector} {digest}", usage(entry.is_end_entity))
        });
        let records: Vec<String> = records.collect();
        return match records.is_empty() {
            true => "there are records, and none can be used".to_owned(),
            false => records.join(", "),
        };
    }
    let ips = stage.remote_ips.as_ref().map(|ips| ips.join(", "));
    ips.unwrap_or_default()
}

fn policy_text(policy: &PolicyItem) -> String {
    let mx = policy.mx.iter().map(|mx| match mx {
        Equals(name) => name.clone(),
        StartsWith(name) => format!("*.{name}"),
    });
    let mx: Vec<String> = mx.collect();
    let hosts = mx.join(" ");
    let days = policy.max_age / 86_400;
    format!("{} {hosts} (id {}, {days} days)", policy.mode, policy.id)
}

/// Where mail for the address goes.
#[must_use]
pub fn plan_text(plan: &PlanItem) -> String {
    let state = match &plan.destination {
        Some(known) => known.state.as_str(),
        None => "not known",
    };
    let transport = match plan.transport.as_str() {
        "" => String::new(),
        name => format!(", transport {name}"),
    };
    format!(
        "site {} ({state}), provider {}{transport}, TLS {}",
        plan.site, plan.provider, plan.tls
    )
}

/// Why the site of a plan is in its state; None: there is no reason.
#[must_use]
pub fn plan_reason(plan: &PlanItem) -> Option<&str> {
    let reason = plan.destination.as_ref()?.reason.as_deref()?;
    (!reason.is_empty()).then_some(reason)
}

/// An open session.
#[must_use]
pub fn session_text(session: &SessionItem) -> String {
    let tls = match (&session.tls_version, &session.tls_cipher) {
        (Some(version), Some(cipher)) => format!("{version} {cipher}"),
        _ => "in clear".to_owned(),
    };
    format!(
        "session: {tls}, {}, by the rule {}; from {} as {}",
        session.proven, session.tls_rule, session.source, session.ehlo
    )
}

/// A certificate on one line.
#[must_use]
pub fn certificate_text(certificate: &CertificateItem) -> String {
    format!(
        "subject \"{}\", issuer \"{}\", names {}, valid {} to {}, SPKI SHA-256 {}",
        certificate.subject,
        certificate.issuer,
        certificate.names.join(" "),
        certificate.not_before,
        certificate.not_after,
        certificate.spki_sha256
    )
}

/// The end of a check.
#[must_use]
pub fn result_text(result: &ResultItem) -> String {
    let (word, class) = match (&result.class, result.permanent) {
        (None, _) => ("taken", String::new()),
        (Some(class), true) => ("refused for good", format!(" ({class})")),
        (Some(class), false) => ("not taken now", format!(" ({class})")),
    };
    format!("{word}{class}: {}", result.text)
}
