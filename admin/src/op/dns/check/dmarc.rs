//! The policy for mail in the name of the domain, and the addresses for reports.

use postrider_dns::{Answer, DnsError, Resolver};

use super::{
    About, Found, Row, Subject, Verdict,
    tags::{has_uri, tag, texts},
};
use crate::op::dns::records::{mailto, needs_opt_in};

/// One DMARC record, with our report address, and the permission of that address' domain.
pub(super) fn dmarc<'a>(subject: &'a Subject<'a>, resolver: &'a dyn Resolver) -> Row<'a> {
    Box::pin(async move {
        let reports = subject.config.dmarc.as_ref();
        let at = reports.map(|reports| reports.domain.ascii());
        let rua = reports.map(|reports| mailto(&reports.localpart, reports.domain.ascii()));
        let policy = policy(subject, rua.as_deref(), resolver).await;
        match at {
            Some(at) if needs_opt_in(subject.domain, at) => {
                vec![policy, opt_in(subject.domain, at, resolver).await]
            }
            _ => vec![policy],
        }
    })
}

async fn policy(subject: &Subject<'_>, rua: Option<&str>, resolver: &dyn Resolver) -> Found {
    let reports = rua.map(|rua| format!("; rua={rua}!10m"));
    let about = About {
        check: "DMARC",
        record_type: "TXT",
        name: &subject.at("_dmarc"),
        wanted: format!("v=DMARC1; p=reject{}", reports.unwrap_or_default()),
        needed: true,
    };
    let missing = "add the record, or others may send mail in the name of the domain";
    let (text, found, ttl) = match one(&about, "v=DMARC1", missing, resolver).await {
        Ok(one) => one,
        Err(result) => return result,
    };
    let addresses = tag(&text, "rua").unwrap_or_default();
    let policy = |name: &str| tag(&text, name).unwrap_or_default().to_ascii_lowercase();
    let known = |policy: &str| matches!(policy, "none" | "quarantine" | "reject");
    let result = if !known(&policy("p")) {
        let advice = "p= must be none, quarantine or reject, or the record has no effect";
        about.found(Verdict::Differs, found, advice)
    } else if rua.is_some_and(|rua| !has_uri(addresses, rua)) {
        let advice = "our address for reports is not in rua=; add it";
        about.found(Verdict::Differs, found, advice)
    } else if policy("p") == "none" || policy("sp") == "none" {
        let advice = "the policy none stops no forged mail; go on to reject when the reports show \
            that all of your mail passes";
        about.found(Verdict::Differs, found, advice).warning()
    } else if addresses.is_empty() {
        let advice = "without rua= nobody reports forged mail, or mail of yours that fails; set \
            domains.D.dmarc";
        about.found(Verdict::Differs, found, advice).warning()
    } else {
        about.ok(found)
    };
    result.holds(Some(ttl))
}

/// The domain of the report address agrees to get reports about this domain.
async fn opt_in(domain: &str, reports_at: &str, resolver: &dyn Resolver) -> Found {
    let name = format!("{domain}._report._dmarc.{reports_at}");
    let about = About {
        check: "DMARC",
        record_type: "TXT",
        name: &name,
        wanted: "v=DMARC1".to_owned(),
        needed: true,
    };
    let missing = "others do not send reports to a domain that did not agree; add the record there";
    match texts(resolver, &name, "v=DMARC1").await {
        Ok(answer) if answer.records.is_empty() => {
            let found = about.found(Verdict::Missing, Vec::new(), missing);
            found.holds(Some(answer.ttl))
        }
        Ok(answer) => about.ok(answer.records),
        Err(error) => about.failed(&error, missing),
    }
}

/// One TLS-RPT record of the domain, and one of the host, with our addresses.
pub(super) fn tls_rpt<'a>(subject: &'a Subject<'a>, resolver: &'a dyn Resolver) -> Row<'a> {
    Box::pin(async move {
        let of_host = subject.world.statics.host_tls_rpt.as_ref();
        let of_host = of_host.map(|reports| mailto(&reports.localpart, subject.host));
        let of_domain = subject.config.tls_rpt.as_ref();
        let of_domain = of_domain.map(|reports| mailto(&reports.localpart, reports.domain.ascii()));
        if subject.host == subject.domain {
            let rua = of_domain.or(of_host);
            let key = "domains.D.tls_rpt";
            return vec![tls_rpt_of(subject.domain, rua, key, resolver).await];
        }
        let of_domain = tls_rpt_of(subject.domain, of_domain, "domains.D.tls_rpt", resolver);
        let of_host = tls_rpt_of(subject.host, of_host, "host_tls_rpt", resolver);
        let (of_domain, of_host) = tokio::join!(of_domain, of_host);
        vec![of_domain, of_host]
    })
}

async fn tls_rpt_of(
    domain: &str,
    rua: Option<String>,
    key: &str,
    resolver: &dyn Resolver,
) -> Found {
    let name = format!("_smtp._tls.{domain}");
    let wanted = rua.as_ref().map(|rua| format!("v=TLSRPTv1; rua={rua}"));
    let about = About {
        check: "TLS-RPT",
        record_type: "TXT",
        name: &name,
        wanted: wanted.unwrap_or_default(),
        needed: rua.is_some(),
    };
    let Some(rua) = rua else {
        let advice = format!("no address for reports is configured; set {key}");
        let found = texts(resolver, &name, "v=TLSRPTv1").await;
        let found = found.map(|answer| answer.records).unwrap_or_default();
        return about.found(Verdict::Missing, found, advice);
    };
    let missing = "add the record, so that others report TLS failures";
    let (text, found, ttl) = match one(&about, "v=TLSRPTv1", missing, resolver).await {
        Ok(one) => one,
        Err(result) => return result,
    };
    let result = match has_uri(tag(&text, "rua").unwrap_or_default(), &rua) {
        true => about.ok(found),
        false => {
            let advice = "our address for reports is not in rua=; add it";
            about.found(Verdict::Differs, found, advice)
        }
    };
    result.holds(Some(ttl))
}

/// The one record of a name with a version. `Err` has the item if there is none, or more than one.
pub(super) async fn one(
    about: &About<'_>,
    version: &str,
    missing: &str,
    resolver: &dyn Resolver,
) -> Result<(String, Vec<String>, std::time::Duration), Found> {
    let found: Result<Answer<String>, DnsError> = texts(resolver, about.name, version).await;
    let answer = found.map_err(|error| about.failed(&error, missing))?;
    let ttl = answer.ttl;
    match answer.records.as_slice() {
        [text] => Ok((text.clone(), answer.records.clone(), ttl)),
        [] => {
            let found = about.found(Verdict::Missing, Vec::new(), missing);
            Err(found.holds(Some(ttl)))
        }
        _ => {
            let advice = format!("several records with {version} count as none; keep one");
            let found = about.found(Verdict::Extra, answer.records, advice);
            Err(found.holds(Some(ttl)))
        }
    }
}
