//! `delivery ...`

use std::io::{self, Write};

use anyhow::bail;
use postrider_admin::op::{
    delivery::{Check, PlanItem, PolicyItem, ResultItem, SessionItem, StageItem},
    transcripts::CertificateItem,
};

use super::{
    output::{List, until_closed},
    running::Running,
};
use crate::cli::{Delivery, DeliveryCheck};

pub(super) fn run(server: &Running, command: Delivery) -> anyhow::Result<()> {
    let Delivery::Check(DeliveryCheck {
        address,
        from,
        source,
        timeout,
        json,
    }) = command;
    let check = Check {
        to: address.clone(),
        from,
        source,
        timeout,
    };
    let mut result: Option<ResultItem> = None;
    let mut list = List::new(io::stdout().lock(), json, row);
    let written = server.call(&check, |stage| {
        result = stage.result.clone().or(result.take());
        list.add(&stage)
    })?;
    until_closed(written.and_then(|()| list.end("nothing was checked")))?;
    match result {
        Some(result) if result.ok => Ok(()),
        Some(result) => bail!("mail for {address} is not taken: {}", result.text),
        None => bail!("the check did not come to its end"),
    }
}

/// A stage for people. The beginning of a step is not shown, unless it names a host or an address.
fn row(out: &mut dyn Write, _: u64, stage: &StageItem) -> io::Result<()> {
    if let Some(host) = &stage.hostname {
        return writeln!(out, "host {host}");
    }
    if let Some(ip) = &stage.remote_ip {
        return writeln!(out, "  address {ip}");
    }
    if let Some(plan) = &stage.plan {
        return plan_row(out, plan);
    }
    if let Some(session) = &stage.session {
        return session_row(out, session);
    }
    if let Some(result) = &stage.result {
        return result_row(out, result);
    }
    let Some((step, word)) = step_of(&stage.kind) else {
        return Ok(());
    };
    let took = stage.elapsed.map(|elapsed| format!("{elapsed} ms"));
    writeln!(
        out,
        "    {step:<18} {word:<9} {:>9}  {}",
        took.unwrap_or_default(),
        details(stage)
    )
}

/// The step of a stage that ends one, and how it ended.
fn step_of(kind: &str) -> Option<(&'static str, &'static str)> {
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
fn details(stage: &StageItem) -> String {
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
        use postrider_admin::op::delivery::RuaItem::{Http, Mail};
        let uris = rua.iter().map(|uri| match uri {
            Mail { email } => email.as_str(),
            Http { url } => url.as_str(),
        });
        return uris.collect::<Vec<_>>().join(", ");
    }
    if let Some(record) = &stage.record {
        let usage = |is_end: bool| if is_end { "3" } else { "2" };
        let records = record.entries.iter().map(|entry| {
            let digest: String = entry.data.iter().map(|it| format!("{it:02x}")).collect();
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
    use postrider_admin::op::delivery::PatternItem::{Equals, StartsWith};
    let mx = policy.mx.iter().map(|mx| match mx {
        Equals(name) => name.clone(),
        StartsWith(name) => format!("*.{name}"),
    });
    let mx: Vec<String> = mx.collect();
    let hosts = mx.join(" ");
    let days = policy.max_age / 86_400;
    format!("{} {hosts} (id {}, {days} days)", policy.mode, policy.id)
}

fn plan_row(out: &mut dyn Write, plan: &PlanItem) -> io::Result<()> {
    let state = match &plan.destination {
        Some(known) => known.state.as_str(),
        None => "not known",
    };
    let transport = match plan.transport.as_str() {
        "" => String::new(),
        name => format!(", transport {name}"),
    };
    writeln!(
        out,
        "site {} ({state}), provider {}{transport}, TLS {}",
        plan.site, plan.provider, plan.tls
    )?;
    let reason = plan.destination.as_ref();
    let reason = reason.and_then(|known| known.reason.as_deref());
    match reason.filter(|reason| !reason.is_empty()) {
        Some(reason) => writeln!(out, "    reason: {reason}"),
        None => Ok(()),
    }
}

fn session_row(out: &mut dyn Write, session: &SessionItem) -> io::Result<()> {
    let tls = match (&session.tls_version, &session.tls_cipher) {
        (Some(version), Some(cipher)) => format!("{version} {cipher}"),
        _ => "in clear".to_owned(),
    };
    writeln!(
        out,
        "    session: {tls}, {}, by the rule {}; from {} as {}",
        session.proven, session.tls_rule, session.source, session.ehlo
    )?;
    match &session.certificate {
        Some(certificate) => writeln!(out, "    certificate: {}", certificate_text(certificate)),
        None => Ok(()),
    }
}

/// A certificate on one line.
pub(super) fn certificate_text(certificate: &CertificateItem) -> String {
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

fn result_row(out: &mut dyn Write, result: &ResultItem) -> io::Result<()> {
    let (word, class) = match (&result.class, result.permanent) {
        (None, _) => ("taken", String::new()),
        (Some(class), true) => ("refused for good", format!(" ({class})")),
        (Some(class), false) => ("not taken now", format!(" ({class})")),
    };
    writeln!(out, "{word}{class}: {}", result.text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn stages_are_lines_for_people() {
        for (stage, expected) in [
            (json!({"type": "mxLookupStart", "domain": "a.test"}), ""),
            (
                json!({"type": "mxLookupSuccess", "elapsed": 3, "secure": true, "implicit": false,
                    "mxs": [{"exchanges": ["a.test", "b.test"], "preference": 10}]}),
                "    MX                 ok             3 ms  10 a.test, 10 b.test (proven by DNSSEC)\n",
            ),
            (
                json!({"type": "mtaStsNotFound", "elapsed": 0}),
                "    MTA-STS            none           0 ms  \n",
            ),
            (
                json!({"type": "deliveryAttemptStart", "hostname": "a.test"}),
                "host a.test\n",
            ),
            (
                json!({"type": "mtaStsVerifyError", "reason": "not there"}),
                "    in MTA-STS policy  error                not there\n",
            ),
            (
                json!({"type": "tlsaLookupSuccess", "elapsed": 1, "record": {"entries": [
                    {"is_end_entity": true, "is_sha256": true, "is_spki": true, "data": [1, 255]}],
                    "has_end_entities": true, "has_intermediates": false}}),
                "    TLSA               ok             1 ms  3 1 01ff\n",
            ),
            (
                json!({"type": "rcptToError", "elapsed": 8, "reason": "550 no"}),
                "    RCPT               error          8 ms  550 no\n",
            ),
            (
                json!({"type": "quitCompleted", "elapsed": 1}),
                "    QUIT               ok             1 ms  \n",
            ),
            (
                json!({"type": "completed", "result": {"ok": false, "permanent": true,
                    "class": "unknown_mailbox", "code": 550, "text": "RCPT: 550 no"}}),
                "refused for good (unknown_mailbox): RCPT: 550 no\n",
            ),
        ] {
            let stage: StageItem = serde_json::from_value(stage).unwrap();
            let mut out = Vec::new();
            row(&mut out, 0, &stage).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{}", stage.kind);
        }
    }
}
