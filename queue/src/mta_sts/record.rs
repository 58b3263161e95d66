//! The record that announces a policy (RFC 8461 §3.1).

/// The longest id.
const ID_MAX: usize = 32;
/// The version, which stands first.
const VERSION: &str = "v=STSv1";

/// The name of the record of a domain. The name may be an alias, so that somebody else can keep the
/// record (RFC 8461 §8.2). An alias of the domain itself does not count: the policy is that of the
/// domain to which the mail is addressed.
pub(super) fn name(domain: &str) -> String {
    format!("_mta-sts.{domain}")
}

/// The id that the texts of a name announce. None: there is not exactly one text with the version,
/// or it has no id of 1 to 32 letters and digits. Then there is no new policy.
pub(super) fn id(texts: &[Vec<u8>]) -> Option<&str> {
    let mut fields = texts.iter().filter_map(|text| fields(text));
    match (fields.next(), fields.next()) {
        (Some(fields), None) => id_of(fields),
        _ => None,
    }
}

/// The fields behind the version. None: the text is about something else.
fn fields(text: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(text).ok()?;
    let fields = text.strip_prefix(VERSION)?;
    trim(fields).strip_prefix(';')
}

fn id_of(fields: &str) -> Option<&str> {
    let fields = fields.split(';').map(trim);
    let id = fields
        .filter_map(|field| field.strip_prefix("id="))
        .next()?;
    let is_id =
        (1..=ID_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_id.then_some(id)
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_record_announces_an_id() {
        let right = "v=STSv1; id=20260101T000000Z;";
        let long = format!("v=STSv1; id={}", "a".repeat(32));
        let too_long = format!("v=STSv1; id={}", "a".repeat(33));
        for (texts, expected) in [
            (&[right] as &[&str], Some("20260101T000000Z")),
            (&["v=STSv1;id=1"], Some("1")),
            (&["v=STSv1 ;\tid=1 ; id=2"], Some("1")),
            (&["v=STSv1; x=y; id=1"], Some("1")),
            (&[&long], Some(&long[12..])),
            (
                &["v=spf1 -all", right, "v=STSv12; id=2"],
                Some("20260101T000000Z"),
            ),
            (&[], None),
            (&["v=STSv1; id=1", "v=STSv1; id=1"], None),
            (&["v=STSv1; id=1", "v=STSv1; x"], None),
            (&["V=STSv1; id=1"], None),
            (&[" v=STSv1; id=1"], None),
            (&["v=STSv1"], None),
            (&["v=STSv1;"], None),
            (&["v=STSv1; id="], None),
            (&["v=STSv1; id=a-b"], None),
            (&["v=STSv1; ID=1"], None),
            (&["v=STSv1; id = 1"], None),
            (&[&too_long], None),
        ] {
            let bytes: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
            assert_eq!(id(&bytes), expected, "{texts:?}");
        }
        assert_eq!(id(&[b"v=STSv1; id=1; \xff".to_vec()]), None);
    }
}
