//! `spf ...`, `dkim ...`, `dmarc ...`, `dns lookup`

use std::{
    fmt::Write as _,
    fs,
    io::{self, Read, Write},
    path::Path,
};

use anyhow::{Context, bail};
use bytes::Bytes;
use postrider_admin::op::{
    checks::{
        CheckDetails, DkimItem, DkimVerify, DmarcCheck, DmarcChecked, Letter, SpfCheck, SpfItem,
    },
    dns::{Dnssec, Lookup, LookupItem},
};

use super::{
    alone::{Alone, Parts},
    output::{List, print, print_json, until_closed},
    visible,
};
use crate::cli::{CheckedClient, DkimCheck, Dmarc, Spf};

pub(super) fn spf(place: &Alone, command: Spf) -> anyhow::Result<()> {
    let Spf::Check(CheckedClient {
        ip,
        from,
        helo,
        json,
    }) = command;
    let check = SpfCheck { ip, from, helo };
    let checked = place.one(check, async |parts: &Parts, check| {
        parts.checker.spf(check).await
    })?;
    match json {
        true => print_json(&checked)?,
        false => {
            let shown = visible::value(&checked)?;
            let mut text = spf_text("MAIL FROM", &shown.mail_from);
            text.push_str(&spf_text("EHLO", &shown.helo));
            print(&text)?;
        }
    }
    match checked.mail_from.result.as_str() {
        "pass" => Ok(()),
        result => bail!("SPF does not pass for MAIL FROM: {result}"),
    }
}

pub(super) fn dkim(place: &Alone, command: DkimCheck) -> anyhow::Result<()> {
    let DkimCheck::Verify { file, json } = command;
    let message = letter(&file)?;
    let items = place.all(DkimVerify { message }, async |parts: &Parts, verify| {
        parts.checker.dkim(verify).await
    })?;
    let row = |out: &mut dyn Write, _: u64, item: &DkimItem| {
        out.write_all(line("", &item.result, &dkim_text(item)).as_bytes())
    };
    let mut list = List::new(io::stdout().lock(), json, row);
    let written = items.iter().try_for_each(|item| list.add(item));
    until_closed(written.and_then(|()| list.end("the message has no signature")))?;
    match items.iter().any(|item| item.result == "pass") {
        true => Ok(()),
        false => bail!("no signature passes"),
    }
}

pub(super) fn dmarc(place: &Alone, command: Dmarc) -> anyhow::Result<()> {
    let Dmarc::Check { file, client } = command;
    let check = DmarcCheck {
        ip: client.ip,
        from: client.from,
        helo: client.helo,
        message: Some(letter(&file)?),
    };
    let checked = place.one(check, async |parts: &Parts, check| {
        parts.checker.dmarc(check).await
    })?;
    match (client.json, &checked.details) {
        (false, Some(details)) => print(&details_text(&visible::value(details)?))?,
        _ => print_json(&checked)?,
    }
    verdict(&checked)
}

/// An error, unless DMARC passes.
fn verdict(checked: &DmarcChecked) -> anyhow::Result<()> {
    match (checked.dmarc_pass, &checked.details) {
        (true, _) => Ok(()),
        (false, Some(details)) => bail!("DMARC does not pass: {}", details.dmarc.reason),
        (false, None) => bail!("DMARC does not pass"),
    }
}

pub(super) fn lookup(
    place: &Alone,
    record_type: String,
    name: String,
    json: bool,
) -> anyhow::Result<()> {
    let lookup = Lookup { record_type, name };
    let found = place.one(lookup, async |parts: &Parts, lookup| {
        parts.lookup(lookup).await
    })?;
    match json {
        true => print_json(&found)?,
        false => print(&lookup_text(&visible::value(&found)?))?,
    }
    match found.reason {
        None => Ok(()),
        Some(reason) => bail!("{} {}: {reason}", found.name, found.record_type),
    }
}

/// The message in a file; "-" is standard input.
fn letter(file: &Path) -> anyhow::Result<Letter> {
    let read = match file == Path::new("-") {
        true => {
            let mut message = Vec::new();
            io::stdin()
                .lock()
                .read_to_end(&mut message)
                .map(|_| message)
        }
        false => fs::read(file),
    };
    let message = read.with_context(|| format!("failed to read {}", file.display()))?;
    Ok(Letter::of(&Bytes::from(message)))
}

/// A result on a line of its own.
fn line(check: &str, result: &str, text: &str) -> String {
    let line = match check {
        "" => format!("{result:<9}  {text}"),
        check => format!("{check:<13}  {result:<9}  {text}"),
    };
    format!("{}\n", line.trim_end())
}

fn spf_text(check: &str, item: &SpfItem) -> String {
    let mut text = line(
        check,
        &item.result,
        &about(item.domain.as_deref(), &item.reason),
    );
    if let Some(explanation) = &item.explanation {
        text.push_str(&line(" ", "", explanation));
    }
    text
}

/// A reason, with the name of what it is about before it.
fn about(name: Option<&str>, reason: &str) -> String {
    match (name, reason) {
        (None, reason) => reason.to_owned(),
        (Some(name), "") => name.to_owned(),
        (Some(name), reason) => format!("{name}: {reason}"),
    }
}

fn dkim_text(item: &DkimItem) -> String {
    let mut name = item
        .domain
        .clone()
        .unwrap_or_else(|| "no domain".to_owned());
    for (word, part) in [
        ("selector ", &item.selector),
        ("", &item.algorithm),
        ("for ", &item.identity),
    ] {
        if let Some(part) = part {
            let _ = write!(name, ", {word}{part}");
        }
    }
    about(Some(&name), item.reason.as_deref().unwrap_or_default())
}

/// All results of a message, each with its reason.
fn details_text(details: &CheckDetails) -> String {
    let CheckDetails {
        iprev,
        spf_ehlo,
        spf_mail_from,
        dkim,
        arc,
        dmarc,
    } = details;
    let reason = |reason: &Option<String>| reason.clone().unwrap_or_default();
    let names = iprev.name.clone().unwrap_or_else(|| iprev.names.join(" "));
    let names = Some(names.as_str()).filter(|names| !names.is_empty());
    let mut text = line(
        "client's name",
        &iprev.result,
        &about(names, &reason(&iprev.reason)),
    );
    text.push_str(&spf_text("SPF EHLO", spf_ehlo));
    text.push_str(&spf_text("SPF MAIL FROM", spf_mail_from));
    match dkim.as_slice() {
        [] => text.push_str(&line("DKIM", "none", "the message has no signature")),
        dkim => dkim
            .iter()
            .for_each(|item| text.push_str(&line("DKIM", &item.result, &dkim_text(item)))),
    }
    let chain = match (&arc.vouches, arc.oldest_pass) {
        (Some(domain), _) => Some(format!("{domain} vouches for the message")),
        (None, Some(0)) => Some("the message is the same since the first set".to_owned()),
        (None, Some(set)) => Some(format!("the message is the same since set {set}")),
        (None, None) => None,
    };
    text.push_str(&line(
        "ARC",
        &arc.result,
        &about(chain.as_deref(), &reason(&arc.reason)),
    ));
    let policy = dmarc
        .policy
        .as_ref()
        .map(|policy| format!(", policy {policy}"));
    let from = dmarc.from.as_ref();
    let from = from.map(|from| format!("{from}{}", policy.unwrap_or_default()));
    text.push_str(&line(
        "DMARC",
        &dmarc.result,
        &about(from.as_deref(), &dmarc.reason),
    ));
    text
}

fn lookup_text(found: &LookupItem) -> String {
    let mut text = String::new();
    let mut name = &found.name;
    for alias in &found.aliases {
        let _ = writeln!(text, "{name}. CNAME {alias}.");
        name = alias;
    }
    for record in &found.records {
        let _ = writeln!(text, "{name}. {} {record}", found.record_type);
    }
    let dnssec = match found.dnssec {
        Dnssec::Secure => "proven by DNSSEC",
        Dnssec::Insecure => "the zone is not signed",
        Dnssec::Bogus => "DNSSEC proves it wrong",
        Dnssec::Unchecked => "DNSSEC was not checked",
        Dnssec::NoAnswer => "no answer",
    };
    let ttl = found.ttl.map(|ttl| format!(", holds for {ttl} s"));
    let _ = writeln!(text, "({dnssec}{})", ttl.unwrap_or_default());
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn results_are_lines_with_their_reasons() {
        let spf = |result: &str, domain: &str, reason: &str| {
            json!({"domain": domain, "result": result, "mechanism": null, "record": null,
                "reason": reason, "explanation": null})
        };
        let details: CheckDetails = serde_json::from_value(json!({
            "iprev": {"result": "fail", "name": null, "names": ["a.test", "b.test"],
                "reason": "no name of the address leads back to it"},
            "spf_ehlo": spf("none", "mx.test", "mx.test has no SPF record"),
            "spf_mail_from": spf("pass", "good.test", "ip4:192.0.2.7 matches"),
            "dkim": [{"result": "fail", "domain": "good.test", "selector": "s", "identity": null,
                "algorithm": "rsa-sha256", "signature": "AbC", "reason": "body hash did not verify"}],
            "arc": {"result": "none", "oldest_pass": null, "vouches": null, "reason": null},
            "dmarc": {"result": "pass", "from": "good.test", "record": "good.test",
                "policy": "reject", "spf_aligned": true, "dkim_aligned": false,
                "reason": "SPF passed for an aligned domain"},
        }))
        .unwrap();
        assert_eq!(
            details_text(&details),
            "client's name  fail       a.test b.test: no name of the address leads back to it\n\
             SPF EHLO       none       mx.test: mx.test has no SPF record\n\
             SPF MAIL FROM  pass       good.test: ip4:192.0.2.7 matches\n\
             DKIM           fail       good.test, selector s, rsa-sha256: body hash did not verify\n\
             ARC            none\n\
             DMARC          pass       good.test, policy reject: SPF passed for an aligned domain\n"
        );
    }

    #[test]
    fn an_answer_of_dns_is_lines_of_a_zone() {
        let found: LookupItem = serde_json::from_value(json!({
            "name": "a.test", "type": "A", "records": ["192.0.2.1", "192.0.2.2"],
            "aliases": ["b.test"], "dnssec": "insecure", "ttl": 300, "reason": null,
        }))
        .unwrap();
        assert_eq!(
            lookup_text(&found),
            "a.test. CNAME b.test.\nb.test. A 192.0.2.1\nb.test. A 192.0.2.2\n\
             (the zone is not signed, holds for 300 s)\n"
        );
        let none = LookupItem {
            records: Vec::new(),
            aliases: Vec::new(),
            dnssec: Dnssec::NoAnswer,
            ttl: None,
            ..found
        };
        assert_eq!(lookup_text(&none), "(no answer)\n");
    }
}
