//! Messages that would be refused, about which DNS lacks an answer, and the seals of others.

use super::{
    dmarc::{Bank, FORGED, REFUSED, REJECT, signed},
    *,
};
use crate::checks::{arc::tests::seal_as, dkim::tests::support::ed25519};

const TRUSTED: &str = "[policy]\narc_trusted_sealers = [\"s1.test\"]\n";
const SEAL_KEY: &str = "k._domainkey.s1.test";
const LATER: &str = "451 4.7.1 there is no answer just now about who stands behind this mail";

/// A bank with this DMARC record, at a server that trusts the seals of `s1.test`.
fn sealed_bank(record: &str) -> Bank {
    let bank = Bank::with(TRUSTED, record);
    let key = Record::Txt(ed25519().record.clone().into());
    bank.world.dns.add(SEAL_KEY, key);
    bank
}

/// The forged message with the seal of `s1.test`, which reports this.
async fn sealed(reported: &str) -> String {
    let reported = format!("mx.test; {reported}");
    let sealed = seal_as(FORGED, ed25519(), "s1.test", &reported).await;
    sealed.unwrap()
}

#[tokio::test]
async fn a_trusted_seal_without_an_answer_is_a_temporary_refusal() {
    let passed = sealed("dmarc=pass header.from=bank.test").await;
    for record in [REJECT, "v=DMARC1; p=quarantine"] {
        let bank = sealed_bank(record);
        bank.world.dns.fail(SEAL_KEY);
        bank.check(&passed, LATER).await;
        bank.world.dns.mend(SEAL_KEY);
        bank.check(&passed, "250 ").await;
        assert_eq!(bank.newest().await.0, "Inbox");
    }
    let bank = sealed_bank(REJECT);
    bank.world.dns.fail(SEAL_KEY);
    // The server saw it fail too.
    let failed = sealed("dmarc=fail header.from=bank.test").await;
    bank.check(&failed, REFUSED).await;
    let none = sealed_bank("v=DMARC1; p=none");
    none.world.dns.fail(SEAL_KEY);
    none.check(&passed, "250 ").await;
    let (_, text) = none.world.mails().await.pop().unwrap();
    let field = "\tarc=fail reason=\"message signature 1: no answer of DNS about the key\" ";
    assert!(text.contains(field), "{text}");
}

/// What a trusted server saw pass counts for the domains that DMARC aligns with the author's.
#[tokio::test]
async fn a_trusted_server_may_name_aligned_domains() {
    for (record, reported, expected) in [
        (REJECT, "dkim=pass header.d=bank.test", "250 "),
        (REJECT, "dkim=pass header.d=mail.bank.test", "250 "),
        (REJECT, "spf=pass smtp.mailfrom=x@mail.bank.test", "250 "),
        (REJECT, "spf=fail smtp.mailfrom=x@mail.bank.test", REFUSED),
        (REJECT, "dkim=pass header.d=own.bank.test", REFUSED),
        (REJECT, "dkim=pass header.d=test", REFUSED),
        (REJECT, "dkim=pass header.d=remote.test", REFUSED),
        (REJECT, "dkim=pass header.d=silent.bank.test", LATER),
        (
            "v=DMARC1; p=reject; adkim=s",
            "dkim=pass header.d=mail.bank.test",
            REFUSED,
        ),
        (
            "v=DMARC1; p=reject; adkim=s",
            "spf=pass smtp.mailfrom=mail.bank.test",
            "250 ",
        ),
        (
            "v=DMARC1; p=reject; aspf=s",
            "spf=pass smtp.mailfrom=mail.bank.test",
            REFUSED,
        ),
    ] {
        let bank = sealed_bank(record);
        let own = Record::Txt(b"v=DMARC1; p=none; psd=n".to_vec());
        bank.world.dns.add("_dmarc.own.bank.test", own);
        bank.world.dns.fail("_dmarc.silent.bank.test");
        bank.check(&sealed(reported).await, expected).await;
    }
}

#[tokio::test]
async fn a_list_without_an_answer_is_a_temporary_refusal() {
    let bank = Bank::new(REJECT);
    let of_list = format!("List-Id: <a.remote.test>\r\n{FORGED}");
    let of_list = signed("remote.test", &of_list);
    let to = &["ann@example.org"];
    bank.world.dns.fail("k._domainkey.remote.test");
    let reply = bank.send("x@other.test", to, &of_list).await;
    assert!(reply.starts_with(LATER), "{reply}");
    bank.world.dns.mend("k._domainkey.remote.test");
    let reply = bank.send("x@other.test", to, &of_list).await;
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!(bank.newest().await.0, "Junk");
}

#[tokio::test]
async fn an_author_without_an_answer_is_a_temporary_refusal() {
    let mut world = World::new();
    let asks = DYNAMICS.replace(
        "\"ann@example.org\" = {}",
        "\"ann@example.org\" = { message_auth_required_smtp_error = \"sign your mail\" }",
    );
    let config = Dynamic::parse(&asks, "domains.conf", &world.context.statics).unwrap();
    world.context.config = Arc::new(ArcSwap::from_pointee(config));
    let key = Record::Txt(ed25519().record.clone().into());
    world.dns.add("k._domainkey.bank.test", key);
    let bank = Bank { world };
    bank.check(FORGED, "550 5.7.26 sign your mail").await;
    bank.world.dns.fail("k._domainkey.bank.test");
    let message = signed("bank.test", FORGED);
    bank.check(&message, "451 4.7.26 sign your mail").await;
    bank.world.dns.mend("k._domainkey.bank.test");
    bank.check(&message, "250 ").await;
}
