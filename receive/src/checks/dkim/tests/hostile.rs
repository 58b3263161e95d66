//! Messages that are made to cost much. The tests count questions and results, not time: work in
//! proportion to the square of these sizes would not end.

use postrider_dns::{FakeResolver, Record};

use super::{
    signed,
    support::{MESSAGE, ed25519, hash_of, results, sign, zone},
};
use crate::checks::dkim::{DkimOutcome, MAX_FIELDS, MAX_SIGNATURES};

/// A signature field that needs a key of its own.
fn field(domain: &str, selector: usize) -> String {
    let hash = hash_of(b"");
    format!(
        "DKIM-Signature: v=1; a=rsa-sha256; d={domain}; s=k{selector}; h=from:subject; bh={hash}; \
         b=AAAA\r\n"
    )
}

#[tokio::test]
async fn a_thousand_signatures_ask_ten_questions() {
    let many: String = (0..900).map(|at| field("other.test", at)).collect();
    let (found, asked) = results(&format!("{many}{MESSAGE}"), &FakeResolver::default()).await;
    assert_eq!((found.len(), asked), (MAX_SIGNATURES + 1, 10));
    let more = found.last().unwrap();
    assert_eq!(more.outcome, DkimOutcome::Policy);
    assert_eq!(more.reason.as_deref(), Some("too many signatures"));
    assert_eq!(more.domain, None);
    let ten: String = (0..10).map(|at| field("other.test", at)).collect();
    let (found, asked) = results(&format!("{ten}{MESSAGE}"), &FakeResolver::default()).await;
    assert_eq!((found.len(), asked), (10, 10), "ten are not too many");
}

/// Others can't push the author's signature out.
#[tokio::test]
async fn the_authors_signatures_come_first() {
    let before: String = (0..20).map(|at| field("other.test", at)).collect();
    let organisation = field("news.example.org", 1);
    let text = signed("h=from:subject");
    let text = format!(
        "{before}{organisation}{}",
        text.replace("From: Ann", "X: y\r\nFrom: Ann")
    );
    let (found, asked) = results(&text, &zone(&ed25519().record)).await;
    let domains: Vec<_> = found
        .iter()
        .map(|one| one.domain.as_ref().map_or("", |domain| domain.ascii()))
        .collect();
    assert_eq!(
        domains[..3],
        ["example.org", "news.example.org", "other.test"]
    );
    assert_eq!(found[0].outcome, DkimOutcome::Pass);
    assert_eq!(found[2].selector.as_deref(), Some("k0"), "from the top");
    assert_eq!((found.len(), asked), (11, 10));
}

#[tokio::test]
async fn many_names_and_fields_are_refused_without_a_question() {
    let names = format!("h=from:subject{}", ":from".repeat(64 * 1024));
    let (found, asked) = results(&signed(&names), &zone(&ed25519().record)).await;
    assert_eq!(found[0].reason.as_deref(), Some("too many names in h="));
    assert_eq!((found[0].outcome, asked), (DkimOutcome::Policy, 0));
    let many = format!("{}{MESSAGE}", "X: y\r\n".repeat(MAX_FIELDS));
    let tags = "v=1; a=ed25519-sha256; d=example.org; s=k; h=from:subject";
    let text = sign(ed25519(), tags, &many);
    let (found, asked) = results(&text, &zone(&ed25519().record)).await;
    assert_eq!(found[0].reason.as_deref(), Some("too many header fields"));
    assert_eq!((found[0].outcome, asked), (DkimOutcome::Policy, 0));
}

/// Ten signatures with 100 names each over almost 1000 long fields.
#[tokio::test]
async fn the_largest_header_that_is_checked_passes() {
    let long = format!("X: {}\r\n", "y ".repeat(500)).repeat(MAX_FIELDS - 4 - MAX_SIGNATURES);
    let text = format!("{long}{MESSAGE}");
    let names = format!("from:subject{}", ":x".repeat(98));
    let tags = format!("v=1; a=ed25519-sha256; d=example.org; s=k; c=relaxed; h={names}");
    let one = sign(ed25519(), &tags, &text);
    let (own, _) = one.split_once("\r\n").unwrap();
    let all = format!("{}{text}", format!("{own}\r\n").repeat(MAX_SIGNATURES));
    let (found, asked) = results(&all, &zone(&ed25519().record)).await;
    assert_eq!((found.len(), asked), (MAX_SIGNATURES, 1));
    assert!(
        found.iter().all(|one| one.outcome == DkimOutcome::Pass),
        "{found:?}"
    );
}

/// Reports and third parties would ask more questions. mail-auth asks them.
#[tokio::test]
async fn no_tag_asks_for_more_questions() {
    for tags in ["r=y", "atps=other.test; atpsh=sha256", "z=From:x|Subject:y"] {
        let text = signed(&format!("h=from:subject; {tags}"));
        for text in [text.clone(), text.replace("Bob.", "Bob!")] {
            let (_, asked) = results(&text, &zone(&ed25519().record)).await;
            assert_eq!(asked, 1, "{tags}");
        }
    }
}

#[tokio::test]
async fn long_values_are_cut_or_left_out() {
    let long = "x".repeat(100_000);
    let text = signed(&format!("h=from:subject; i={long}@example.org"));
    let (found, _) = results(&text, &zone(&ed25519().record)).await;
    assert_eq!(
        (found[0].outcome, &found[0].identity),
        (DkimOutcome::Pass, &None)
    );
    let text = signed("h=from:subject").replace("; b=", &format!("; b={}", "QUJD".repeat(50_000)));
    let (found, _) = results(&text, &zone(&ed25519().record)).await;
    assert_eq!(
        (found[0].outcome, found[0].signature.len()),
        (DkimOutcome::Fail, 64)
    );
    let fake = FakeResolver::default();
    let record = format!("v=DKIM1; k=ed25519; n={long}; p=QUJD");
    fake.add("k._domainkey.example.org", Record::Txt(record.into()));
    let (found, _) = results(&signed("h=from:subject"), &fake).await;
    assert_eq!(found[0].reason.as_deref(), Some("the key can't be read"));
}
