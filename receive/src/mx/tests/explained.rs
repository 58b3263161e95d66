//! Explanations of domains for which SPF failed (RFC 7208 §6.2).

use super::{
    dmarc::{Bank, FORGED, REJECT, signed},
    *,
};

const EXPLANATION: &str = "exp.bank.test";

/// A bank that lets nobody send, and says why.
fn bank(record: &str) -> Bank {
    let bank = Bank::new(record);
    let dns = &bank.world.dns;
    let spf = Record::Txt(b"v=spf1 -all exp=exp.bank.test".to_vec());
    dns.add("bank.test", spf);
    let text = Record::Txt(b"%{i} is no host of %{d}, see %{r}".to_vec());
    dns.add(EXPLANATION, text);
    bank
}

fn asked(bank: &Bank) -> usize {
    let question = Question::new(EXPLANATION, RecordType::Txt);
    bank.world.dns.asked(&question)
}

async fn reply(bank: &Bank, message: &str) -> String {
    bank.send("x@bank.test", &["ann@example.org"], message)
        .await
}

/// The lines of the reply, without the code of the second.
const LINES: [&str; 2] = [
    "550 5.7.1 rejected per DMARC policy of bank.test: SPF fail, no aligned DKIM signature",
    "bank.test explains: 192.0.2.7 is no host of bank.test, see other.example.org",
];

#[tokio::test]
async fn a_refusal_has_the_explanation_of_the_domain() {
    let bank = bank(REJECT);
    assert_eq!(reply(&bank, FORGED).await, LINES.join(" "));
    assert_eq!(asked(&bank), 1);
    // An account that keeps nothing refuses the same.
    let mut config = Dynamic::clone(&bank.world.context.dynamic());
    config
        .accounts
        .get_mut("ann")
        .unwrap()
        .rejects_mailbox
        .clear();
    bank.world.context.config.store(Arc::new(config));
    assert_eq!(reply(&bank, FORGED).await, LINES.join(" "));
}

/// Nothing is asked for a reply that does not come of SPF.
#[tokio::test]
async fn other_replies_ask_for_no_explanation() {
    let bank = bank(REJECT);
    let signed = signed("bank.test", FORGED);
    assert!(reply(&bank, &signed).await.starts_with("250 "));
    bank.world.dns.fail("k._domainkey.bank.test");
    assert!(reply(&bank, &signed).await.starts_with("451 4.7.1 "));
    let unclear = format!("From: <ceo@bank.test>\r\n{FORGED}");
    assert!(reply(&bank, &unclear).await.starts_with("554 5.6.0 "));
    // SPF passed for another domain.
    let to = &["ann@example.org"];
    let refused = bank.send("x@remote.test", to, FORGED).await;
    assert!(refused.starts_with("550 5.7.1 "), "{refused}");
    // The sender is not refused, whatever SPF says.
    let taken = self::bank("v=DMARC1; p=none");
    assert!(reply(&taken, FORGED).await.starts_with("250 "));
    assert_eq!(asked(&bank) + asked(&taken), 0);
}

#[tokio::test]
async fn a_refusal_waits_five_seconds_for_the_explanation() {
    let bank = bank(REJECT);
    bank.world.dns.hang(EXPLANATION);
    let refused = reply(&bank, FORGED);
    let later = async {
        while asked(&bank) == 0 {
            tokio::task::yield_now().await;
        }
        bank.world.clock.advance(Duration::from_secs(5));
    };
    let (refused, ()) = tokio::join!(refused, later);
    assert_eq!(refused, LINES[0]);
}
