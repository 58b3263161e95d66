//! Who wants reports about TLS (RFC 8460 §3).

use postrider_dns::{DnsError, Resolver};
use postrider_smtp::Domain;

use super::{Found, Outcome};

/// The most URIs that are told.
const URIS_MAX: usize = 10;

/// The URIs that get reports about the TLS of deliveries to a domain.
pub(super) async fn wanted(resolver: &dyn Resolver, domain: &Domain) -> Outcome {
    let name = format!("_smtp._tls.{}", domain.ascii());
    let texts = match resolver.txt(&name).await {
        Ok(answer) => answer.records,
        Err(DnsError::NoName(_) | DnsError::NoRecords(_)) => return Outcome::NotFound,
        Err(error) => return Outcome::Failed(format!("looking up {name}: {error}")),
    };
    let texts = texts.iter().map(|text| String::from_utf8_lossy(text));
    let found: Vec<Vec<String>> = texts.filter_map(|text| uris(&text)).collect();
    // RFC 8460 §3: with several records there is none.
    match <[Vec<String>; 1]>::try_from(found) {
        Ok([uris]) => Outcome::Success(Found::Reports(uris)),
        Err(_) => Outcome::NotFound,
    }
}

/// The URIs of a record. None: it is no record of TLSRPT.
fn uris(text: &str) -> Option<Vec<String>> {
    let mut fields = text.split(';').map(str::trim);
    if fields.next()? != "v=TLSRPTv1" {
        return None;
    }
    let rua = fields.find_map(|field| field.strip_prefix("rua="))?;
    let uris = rua.split(',').map(str::trim).filter(|uri| !uri.is_empty());
    Some(uris.take(URIS_MAX).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        for (text, expected) in [
            (
                "v=TLSRPTv1; rua=mailto:a@b.test, https://c.test/r",
                Some(vec!["mailto:a@b.test", "https://c.test/r"]),
            ),
            (
                "v=TLSRPTv1;rua=mailto:a@b.test;",
                Some(vec!["mailto:a@b.test"]),
            ),
            ("v=TLSRPTv1", None),
            ("v=TLSRPTv2; rua=mailto:a@b.test", None),
            ("v=spf1 -all", None),
            ("", None),
        ] {
            let expected = expected.map(|uris| uris.into_iter().map(str::to_owned).collect());
            assert_eq!(uris(text), expected, "{text}");
        }
    }
}
