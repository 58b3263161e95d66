//! The records of the DKIM keys.

use postrider_config::DkimSelector;
use postrider_dns::Resolver;
use postrider_smtp::Domain;

use super::{About, Found, Row, Subject, Verdict, tags::tag};

/// Each key has one record, with its public half.
pub(super) fn dkim<'a>(subject: &'a Subject<'a>, resolver: &'a dyn Resolver) -> Row<'a> {
    Box::pin(async move {
        let dkim = &subject.config.dkim;
        if dkim.sign.is_empty() {
            let about = About {
                check: "DKIM",
                record_type: "TXT",
                name: &subject.at("_domainkey"),
                wanted: String::new(),
                needed: true,
            };
            let advice = "no key signs mail of the domain; make one: postrider config dkim add";
            return vec![about.found(Verdict::Missing, Vec::new(), advice)];
        }
        let selectors = dkim.selectors.iter();
        let items = selectors.map(|(name, key)| selector(subject, name, key, resolver));
        futures_util::future::join_all(items).await
    })
}

async fn selector(
    subject: &Subject<'_>,
    selector: &Domain,
    settings: &DkimSelector,
    resolver: &dyn Resolver,
) -> Found {
    let signs = subject.config.dkim.sign.contains(selector);
    let name = subject.at(&format!("{}._domainkey", selector.ascii()));
    let wanted = settings.record();
    let about = About {
        check: "DKIM",
        record_type: "TXT",
        name: &name,
        wanted: wanted.clone(),
        needed: signs,
    };
    let missing = match signs {
        true => "the key signs, but nobody can verify its signatures; add the record at once",
        false => "add the record before the key signs",
    };
    let answer = match resolver.txt(&name).await {
        Ok(answer) => answer,
        Err(error) => return about.failed(&error, missing),
    };
    let texts = answer.records.iter();
    let found: Vec<String> = texts
        .map(|text| String::from_utf8_lossy(text).into_owned())
        .collect();
    let public = |text: &str| -> String {
        let value = tag(text, "p").unwrap_or_default();
        value.split_whitespace().collect()
    };
    let right = found.iter().any(|text| public(text) == public(&wanted));
    let result = match found.as_slice() {
        [text] if right => judge(&about, text, &wanted),
        _ if right => {
            let advice = "verifiers may take the wrong one of several records; keep the right one";
            about.found(Verdict::Extra, found, advice)
        }
        _ => {
            let advice = match signs {
                true => "signatures do not verify with another key; replace the record",
                false => "the record has another key; replace it before the key signs",
            };
            about.found(Verdict::Differs, found, advice)
        }
    };
    result.holds(Some(answer.ttl))
}

/// Looks at the other tags of a record with the right key.
fn judge(about: &About<'_>, text: &str, wanted: &str) -> Found {
    let found = vec![text.to_owned()];
    let lists = |name: &str, word: &str| {
        let value = tag(text, name);
        value.map(|value| {
            value
                .split(':')
                .any(|it| it.trim().eq_ignore_ascii_case(word))
        })
    };
    let same = |name: &str, default: &'static str| {
        let value = |text| tag(text, name).unwrap_or(default).to_owned();
        value(text).eq_ignore_ascii_case(&value(wanted))
    };
    if lists("t", "y") == Some(true) {
        let advice = "t=y says that the key is under test, so its signatures do not count; remove \
            it";
        about.found(Verdict::Differs, found, advice)
    } else if !same("k", "rsa") {
        about.found(Verdict::Differs, found, "k= names another kind of key")
    } else if tag(wanted, "h").and_then(|hash| lists("h", hash)) == Some(false) {
        let advice = "h= forbids the hash of our signatures";
        about.found(Verdict::Differs, found, advice)
    } else if lists("s", "*") == Some(false) && lists("s", "email") == Some(false) {
        about.found(Verdict::Differs, found, "s= forbids the key for mail")
    } else {
        about.ok(found)
    }
}
