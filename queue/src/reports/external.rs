//! Addresses of other organisations: they get reports about a domain only if they agree (RFC 9990
//! §4).

use postrider_dns::{DnsError, Resolver, organisation};

use super::address::{self, DMARC, ReportAddress};

/// Whether two names belong to one organisation, by the public suffix list.
fn are_of_one(domain: &str, host: &str) -> bool {
    organisation(domain).eq_ignore_ascii_case(organisation(host))
}

/// The addresses that get reports about a domain in the place of this one: itself, if its host
/// belongs to the organisation of the domain, or agrees. A host that agrees may name other
/// addresses at itself. Empty: it does not agree.
///
/// # Errors
/// If there is no answer of DNS.
pub(super) async fn agreed(
    resolver: &dyn Resolver,
    domain: &str,
    address: ReportAddress,
) -> Result<Vec<ReportAddress>, DnsError> {
    let Some(host) = address.host().map(str::to_owned) else {
        return Ok(Vec::new());
    };
    if are_of_one(domain, &host) {
        return Ok(vec![address]);
    }
    let texts = match resolver
        .txt(&format!("{domain}._report._dmarc.{host}"))
        .await
    {
        Ok(answer) => answer.records,
        Err(error) if error.negative().is_some() => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut records = texts
        .iter()
        .filter(|text| address::is_record(text, DMARC))
        .peekable();
    if records.peek().is_none() {
        return Ok(Vec::new());
    }
    let others: Vec<_> = records
        .flat_map(|record| address::in_record(record, DMARC))
        .collect();
    if others.is_empty() {
        return Ok(vec![address]);
    }
    let here = |other: &ReportAddress| other.host() == Some(host.as_str());
    Ok(match others.iter().all(here) {
        true => others,
        false => Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use postrider_dns::{FakeResolver, Record};

    use super::*;

    async fn check(domain: &str, uri: &str, zone: &[(&str, &str)], expected: &str) {
        let resolver = FakeResolver::default();
        for (name, text) in zone {
            resolver.add(name, Record::Txt(text.as_bytes().to_vec()));
        }
        let record = format!("v=DMARC1; rua={uri}");
        let address = address::in_record(record.as_bytes(), DMARC).remove(0);
        let found = agreed(&resolver, domain, address).await.unwrap();
        let found: Vec<_> = found.into_iter().map(|address| address.uri).collect();
        assert_eq!(found.join(" "), expected, "{domain} {uri} {zone:?}");
    }

    #[tokio::test]
    async fn others_must_agree() {
        const NAME: &str = "a.com._report._dmarc.r.org";
        const OWN: &str = "mailto:x@a.com";
        const THEIRS: &str = "mailto:x@r.org";
        check("a.com", OWN, &[], OWN).await;
        check("b.a.com", OWN, &[], OWN).await;
        check("a.com", "mailto:x@mail.a.com", &[], "mailto:x@mail.a.com").await;
        check("a.com", THEIRS, &[], "").await;
        check("a.com", THEIRS, &[(NAME, "v=DMARC1")], THEIRS).await;
        check("a.com", THEIRS, &[(NAME, "v=DMARC1; x=y;")], THEIRS).await;
        check("a.com", THEIRS, &[(NAME, "v=spf1 -all")], "").await;
        check(
            "a.com",
            THEIRS,
            &[("b.com._report._dmarc.r.org", "v=DMARC1")],
            "",
        )
        .await;
        // Another address at the same host, and one elsewhere.
        let other = "v=DMARC1; rua=mailto:y@r.org";
        check("a.com", THEIRS, &[(NAME, other)], "mailto:y@r.org").await;
        let elsewhere = "v=DMARC1; rua=mailto:y@victim.org";
        check("a.com", THEIRS, &[(NAME, elsewhere)], "").await;
        // A public suffix is no organisation of the names below it.
        check("com", OWN, &[], "").await;
        check("a.co.uk", "mailto:x@b.co.uk", &[], "").await;
    }

    #[tokio::test]
    async fn without_an_answer_it_is_asked_again() {
        let resolver = FakeResolver::default();
        resolver.fail("a.com._report._dmarc.r.org");
        let record = b"v=DMARC1; rua=mailto:x@r.org";
        let address = address::in_record(record, DMARC).remove(0);
        assert!(agreed(&resolver, "a.com", address).await.is_err());
    }
}
