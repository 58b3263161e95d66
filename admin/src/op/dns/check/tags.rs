//! Texts of the form `tag=value; tag=value`: DKIM keys, DMARC, TLS-RPT and MTA-STS.

use postrider_dns::{Answer, DnsError, Resolver};

/// The texts of a name that begin with a version, such as `v=DMARC1`.
pub(super) async fn texts(
    resolver: &dyn Resolver,
    name: &str,
    version: &str,
) -> Result<Answer<String>, DnsError> {
    let answer = resolver.txt(name).await?;
    let texts = answer.records.iter();
    let texts = texts.map(|text| String::from_utf8_lossy(text).into_owned());
    let texts = texts.filter(|text| begins_with(text, version)).collect();
    Ok(answer.with_records(texts))
}

/// Whether the first tag of a text is this version.
pub(in crate::op::dns) fn begins_with(text: &str, version: &str) -> bool {
    let first = text.split(';').next().unwrap_or_default();
    let bare: String = first.split_whitespace().collect();
    bare.eq_ignore_ascii_case(version)
}

/// The value of a tag.
pub(in crate::op::dns) fn tag<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let tags = text.split(';').filter_map(|tag| tag.split_once('='));
    let mut values = tags.filter(|(tag, _)| tag.trim().eq_ignore_ascii_case(name));
    values.next().map(|(_, value)| value.trim())
}

/// Whether a list of URIs has the URI of our report address. A size behind `!` does not count.
pub(in crate::op::dns) fn has_uri(list: &str, wanted: &str) -> bool {
    let uris = list.split(',').map(str::trim);
    let mut bare = uris.map(|uri| uri.split_once('!').map_or(uri, |(uri, _)| uri));
    bare.any(|uri| uri.eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_found_in_any_spelling() {
        let text = "V = DMARC1 ;p=none; RUA=mailto:a@b.test!10m, mailto:c@d.test";
        assert!(begins_with(text, "v=DMARC1") && !begins_with("v=DMARC12", "v=DMARC1"));
        assert_eq!(tag(text, "p"), Some("none"));
        assert_eq!(tag(text, "sp"), None);
        let rua = tag(text, "rua").unwrap();
        assert!(has_uri(rua, "mailto:a@b.test") && has_uri(rua, "mailto:C@d.test"));
        assert!(!has_uri(rua, "mailto:x@b.test"));
    }
}
