//! The checks of a message as if a client brought it now: SPF, DKIM, ARC, DMARC.

use std::{net::IpAddr, sync::Arc};

use askama::Template;
use axum::body::Bytes;

use super::super::{
    answer::{Answer, Trouble},
    asked::Asked,
    command::AsCommand,
    form::Faults,
    frame::Frame,
};
use crate::{
    AdminError, Code,
    op::checks::{CheckDetails, CheckPolicy, DmarcCheck, DmarcChecked, Letter, SpfItem},
};

#[derive(Template)]
#[template(path = "admin/watch/message_check.html")]
struct Page {
    frame: Frame,
    ip: String,
    from: String,
    helo: String,
    message: String,
    faults: Faults,
    verdict: Option<Verdict>,
}

/// What was found.
struct Verdict {
    passed: bool,
    /// What the domain of the author wants to be done with such a message.
    policy: &'static str,
    text: String,
    rows: Vec<Row>,
    elapsed: u64,
}

/// The result of one check.
struct Row {
    check: &'static str,
    class: &'static str,
    result: String,
    about: String,
    reason: String,
}

/// The form.
pub(in super::super) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    Answer::page(&page(&asked))
}

fn page(asked: &Asked) -> Page {
    let typed = |name| asked.form.shown(name).to_owned();
    Page {
        frame: asked.frame("Checks of a message"),
        ip: typed("ip"),
        from: typed("from"),
        helo: typed("helo"),
        message: typed("message"),
        faults: Faults::default(),
        verdict: None,
    }
}

fn check(asked: &Asked) -> Result<DmarcCheck, AdminError> {
    let form = &asked.form;
    form.needed("ip")?;
    let ip = form.parsed::<IpAddr>("ip", "an IP address")?;
    let text = form.raw("message");
    let letter = text.map(|text| Letter::of(&Bytes::copy_from_slice(text.as_bytes())));
    Ok(DmarcCheck {
        ip: ip.ok_or_else(|| AdminError::invalid("this field must not be empty").at("ip"))?,
        from: form.text("from").unwrap_or_default().to_owned(),
        helo: form.text("helo").unwrap_or_default().to_owned(),
        message: letter,
    })
}

/// Checks a message.
pub(in super::super) async fn run(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let mut page = page(&asked);
    let checked = match check(&asked) {
        Ok(check) => {
            page.frame = page.frame.with(command(&check));
            asked.run(check).await
        }
        Err(error) => Err(error),
    };
    match checked {
        Ok(checked) => {
            page.verdict = Some(verdict(checked));
            Answer::page(&page)
        }
        Err(error) if error.code == Code::Invalid => {
            page.faults = Faults::of(&error);
            Answer::again(&page)
        }
        Err(error) => Err(error.into()),
    }
}

fn command(check: &DmarcCheck) -> AsCommand {
    let helo = Some(check.helo.as_str()).filter(|helo| !helo.is_empty());
    let ip = check.ip.to_string();
    AsCommand::cli(["dmarc", "check", "message.eml", "--ip", &ip])
        .option("--from", Some(&check.from))
        .option("--helo", helo)
}

fn class(result: &str) -> &'static str {
    match result {
        "pass" => "good",
        "none" | "neutral" | "policy" => "soft",
        "temperror" | "softfail" => "warn",
        _ => "bad",
    }
}

fn row(check: &'static str, result: &str, about: Option<&String>, reason: Option<&String>) -> Row {
    Row {
        check,
        class: class(result),
        result: result.to_owned(),
        about: about.cloned().unwrap_or_default(),
        reason: reason.cloned().unwrap_or_default(),
    }
}

fn verdict(checked: DmarcChecked) -> Verdict {
    let policy = match checked.dmarc_policy {
        CheckPolicy::None => "do nothing",
        CheckPolicy::Quarantine => "put it into the junk mailbox",
        CheckPolicy::Reject => "refuse it",
        CheckPolicy::Unspecified => "",
    };
    let details = checked.details;
    let text = details.as_ref().map(|details| details.dmarc.reason.clone());
    Verdict {
        passed: checked.dmarc_pass,
        policy,
        text: text.unwrap_or_default(),
        rows: details.as_ref().map_or_else(Vec::new, rows),
        elapsed: checked.elapsed,
    }
}

fn rows(details: &CheckDetails) -> Vec<Row> {
    let spf = |check, item: &SpfItem| {
        let about = item.domain.as_ref();
        row(check, &item.result, about, Some(&item.reason))
    };
    let (iprev, arc, dmarc) = (&details.iprev, &details.arc, &details.dmarc);
    let names = iprev.name.clone().unwrap_or_else(|| iprev.names.join(", "));
    let mut rows = vec![
        row(
            "Names of the client",
            &iprev.result,
            Some(&names),
            iprev.reason.as_ref(),
        ),
        spf("SPF of EHLO", &details.spf_ehlo),
        spf("SPF of MAIL FROM", &details.spf_mail_from),
    ];
    if details.dkim.is_empty() {
        let none = "the message has no signature".to_owned();
        rows.push(row("DKIM", "none", None, Some(&none)));
    }
    for item in &details.dkim {
        let of = |value: &Option<String>| value.clone().unwrap_or_default();
        let about = format!(
            "{} by {} {}",
            of(&item.domain),
            of(&item.selector),
            of(&item.algorithm)
        );
        rows.push(row(
            "DKIM",
            &item.result,
            Some(&about),
            item.reason.as_ref(),
        ));
    }
    rows.push(row(
        "ARC",
        &arc.result,
        arc.vouches.as_ref(),
        arc.reason.as_ref(),
    ));
    let aligned = match (dmarc.spf_aligned, dmarc.dkim_aligned) {
        (true, true) => "SPF and DKIM are aligned",
        (true, false) => "SPF is aligned",
        (false, true) => "DKIM is aligned",
        (false, false) => "nothing is aligned",
    };
    let about = format!("{}, {aligned}", dmarc.from.clone().unwrap_or_default());
    rows.push(row(
        "DMARC",
        &dmarc.result,
        Some(&about),
        Some(&dmarc.reason),
    ));
    rows
}
