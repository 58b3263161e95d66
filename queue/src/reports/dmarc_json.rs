//! An aggregate report about DMARC (RFC 9990) as JSON, for administrators. No standard has such a
//! form: the names and words are those that clients of Stalwart know, whose reports come from the
//! crate mail-auth.

use postrider_store::{
    DmarcAction, DmarcCount, DmarcOverride, DmarcPublished, DmarcResults, DmarcSignature,
};
use serde_json::{Value, json};

use super::{Sender, dmarc_body::GENERATOR, schedule};

/// The report.
pub(super) fn report(
    (day, domain): (u32, &str),
    results: &DmarcResults,
    sender: &Sender,
    id: &str,
) -> Value {
    json!({
        "version": 1.0,
        "report_metadata": {
            "org_name": sender.domain,
            "email": sender.from.to_string(),
            "extra_contact_info": null,
            "report_id": id,
            "date_range": {
                "begin": schedule::begin(day).timestamp().as_second(),
                "end": schedule::last_second(day).timestamp().as_second(),
            },
            "error": [],
            "generator": GENERATOR,
        },
        "policy_published": published(domain, &results.published),
        "record": results.counts.iter().map(record).collect::<Vec<_>>(),
        "extensions": [],
    })
}

fn published(domain: &str, published: &DmarcPublished) -> Value {
    let mode = |strict: bool| if strict { "Strict" } else { "Relaxed" };
    let [policy, below, missing] = published.in_force();
    json!({
        "domain": domain,
        "version_published": null,
        "adkim": mode(published.dkim_strict),
        "aspf": mode(published.spf_strict),
        "p": action(policy),
        "sp": action(below),
        "np": action(missing),
        "testing": published.testing,
        "discovery_method": "Treewalk",
        "fo": null,
    })
}

const fn action(action: DmarcAction) -> &'static str {
    match action {
        DmarcAction::None => "None",
        DmarcAction::Pass => "Pass",
        DmarcAction::Quarantine => "Quarantine",
        DmarcAction::Reject => "Reject",
    }
}

fn record(count: &DmarcCount) -> Value {
    let row = &count.row;
    let result = |passed: bool| if passed { "Pass" } else { "Fail" };
    let reasons = row.overrides.iter().map(|(kind, comment)| {
        let comment = Some(comment).filter(|comment| !comment.is_empty());
        json!({"type_": override_type(*kind), "comment": comment})
    });
    let spf = row.spf.iter().map(|(domain, result)| {
        json!({"domain": domain, "scope": "MailFrom", "result": spf_result(result),
            "human_result": null})
    });
    json!({
        "row": {
            "source_ip": row.source.to_canonical(),
            "count": count.count,
            "policy_evaluated": {
                "disposition": action(row.disposition),
                "dkim": result(row.dkim_aligned),
                "spf": result(row.spf_aligned),
                "reason": reasons.collect::<Vec<_>>(),
            },
        },
        "identifiers": {
            "envelope_to": row.envelope_to,
            "envelope_from": row.envelope_from,
            "header_from": row.header_from,
        },
        "auth_results": {
            "dkim": row.dkim.iter().map(signature).collect::<Vec<_>>(),
            "spf": spf.collect::<Vec<_>>(),
        },
        "extensions": [],
    })
}

/// Clients know these types, and not that of a domain that tests its policy.
const fn override_type(kind: DmarcOverride) -> &'static str {
    match kind {
        DmarcOverride::LocalPolicy => "LocalPolicy",
        DmarcOverride::MailingList => "MailingList",
        DmarcOverride::TrustedForwarder => "TrustedForwarder",
        DmarcOverride::PolicyTestMode => "Other",
    }
}

fn signature(signature: &DmarcSignature) -> Value {
    let result = match signature.result.as_str() {
        "pass" => "Pass",
        "fail" => "Fail",
        "policy" => "Policy",
        "neutral" => "Neutral",
        "temperror" => "TempError",
        "permerror" => "PermError",
        _ => "None",
    };
    json!({"domain": signature.domain, "selector": signature.selector, "result": result,
        "human_result": null})
}

fn spf_result(result: &str) -> &'static str {
    match result {
        "neutral" => "Neutral",
        "pass" => "Pass",
        "fail" => "Fail",
        "softfail" => "SoftFail",
        "temperror" => "TempError",
        "permerror" => "PermError",
        _ => "None",
    }
}

#[cfg(test)]
mod tests {
    use mail_auth::report::Report;

    use super::{
        super::dmarc_body::{
            self,
            tests::{results, sender},
        },
        *,
    };

    /// The JSON and the XML say the same.
    #[test]
    fn a_report_is_what_another_program_makes_of_the_sent_one() {
        let mut results = results("s1", "a list");
        for (signature, spf) in [
            ("pass", "pass"),
            ("policy", "neutral"),
            ("neutral", "fail"),
            ("temperror", "temperror"),
            ("permerror", "permerror"),
            ("none", "none"),
        ] {
            let mut count = results.counts[0].clone();
            count.row.dkim[0].result = signature.into();
            count.row.spf = Some(("b.test".into(), spf.into()));
            count.row.overrides = vec![
                (DmarcOverride::LocalPolicy, String::new()),
                (DmarcOverride::TrustedForwarder, "known".into()),
            ];
            results.counts.push(count);
        }
        let about = (20_000, "a.test");
        let xml = dmarc_body::write(about, &results, &sender(), "id1");
        let sent = Report::parse_xml(&xml).unwrap();
        let shown = report(about, &results, &sender(), "id1");
        assert_eq!(shown, serde_json::to_value(&sent).unwrap());
        let read: Report = serde_json::from_value(shown).unwrap();
        assert_eq!(read, sent);
    }

    #[test]
    fn what_clients_do_not_know_is_something_else() {
        let mut results = results("s1", "");
        results.counts[0].row.overrides = vec![(DmarcOverride::PolicyTestMode, String::new())];
        let shown = report((20_000, "a.test"), &results, &sender(), "id1");
        let reason = &shown["record"][0]["row"]["policy_evaluated"]["reason"][0];
        assert_eq!(*reason, json!({"type_": "Other", "comment": null}));
    }
}
