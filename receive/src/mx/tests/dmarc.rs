//! Messages that pass or fail the check of the author's domain.

use std::collections::BTreeMap;

use postrider_queue::{Submission, SubmittedRecipient};
use postrider_store::{Arrival, Event, EventFilter, NewText, Order, Top};

use super::*;
use crate::checks::{
    arc::tests::seal_as,
    dkim::tests::support::{ed25519, sign},
};

/// Mail of `bank.test`, whose owner publishes this record. The client may send for `remote.test`.
pub(super) struct Bank {
    pub(super) world: World,
}

impl Bank {
    pub(super) fn new(record: &str) -> Self {
        Self::with("", record)
    }

    /// The same with more keys in postrider.conf.
    pub(super) fn with(statics: &str, record: &str) -> Self {
        let world = World::with(statics);
        world
            .dns
            .add("_dmarc.bank.test", Record::Txt(record.into()));
        let key = Record::Txt(ed25519().record.clone().into());
        world.dns.add("k._domainkey.bank.test", key.clone());
        world.dns.add("k._domainkey.remote.test", key);
        Self { world }
    }

    pub(super) async fn send(&self, from: &str, to: &[&str], message: &str) -> String {
        let client = client(REMOTE);
        let mut transaction = transaction(from);
        transaction.recipients = to.iter().map(|to| rcpt(to)).collect();
        let mut session = self.world.session();
        begin(&mut session, &client, &transaction).await;
        text(&mut session, &client, &transaction, message).await;
        session.end(&client, &transaction).await.to_string()
    }

    /// Sends a message with `remote.test` as sender, and checks the reply.
    pub(super) async fn check(&self, message: &str, expected: &str) {
        let reply = self
            .send("x@remote.test", &["ann@example.org"], message)
            .await;
        assert!(reply.starts_with(expected), "{reply}");
    }

    /// The mailbox of the newest mail, and its result of DMARC.
    pub(super) async fn newest(&self) -> (String, String) {
        let (mail, text) = self.world.mails().await.pop().unwrap();
        let mut lines = text.lines().map(str::trim_start);
        let result = lines.find(|line| line.starts_with("dmarc=")).unwrap();
        (mail.mailbox, result.to_owned())
    }

    pub(super) async fn check_newest(&self, mailbox: &str, result: &str) {
        let expected = (mailbox.to_owned(), result.to_owned());
        assert_eq!(self.newest().await, expected);
    }
}

pub(super) fn rcpt(to: &str) -> RcptTo {
    let forward_path = match to {
        "postmaster" => ForwardPath::Postmaster,
        to => ForwardPath::Mailbox(Address::parse(to).unwrap()),
    };
    RcptTo {
        forward_path,
        notify: None,
        orcpt: None,
    }
}

pub(super) const REJECT: &str = "v=DMARC1; p=reject";
pub(super) const FORGED: &str = "From: The bank <ceo@bank.test>\r\nSubject: hi\r\n\r\nPay.\r\n";
pub(super) const REFUSED: &str = "550 5.7.1 rejected per DMARC policy of bank.test: SPF not aligned, no aligned \
                       DKIM signature";

pub(super) fn signed(domain: &str, message: &str) -> String {
    let tags = format!("v=1; a=ed25519-sha256; d={domain}; s=k; h=from:subject; c=relaxed/relaxed");
    sign(ed25519(), &tags, message)
}

#[tokio::test]
async fn a_forged_message_is_refused_and_a_signed_one_is_taken() {
    let bank = Bank::new(REJECT);
    bank.check(FORGED, REFUSED).await;
    // A signature of another domain helps nobody.
    bank.check(&signed("remote.test", FORGED), REFUSED).await;
    let broken = signed("bank.test", FORGED).replace("Pay.", "Pay!");
    bank.check(&broken, REFUSED).await;
    let mails = bank.world.mails().await;
    assert!(mails.iter().all(|(mail, _)| mail.mailbox == "Rejects"));
    bank.check(&signed("bank.test", FORGED), "250 ").await;
    let passed = "dmarc=pass header.from=bank.test policy.dmarc=reject";
    bank.check_newest("Inbox", passed).await;
    // SPF alone is enough too.
    let own = FORGED.replace("bank.test", "remote.test");
    bank.world
        .dns
        .add("_dmarc.remote.test", Record::Txt(REJECT.into()));
    bank.check(&own, "250 ").await;
    let passed = "dmarc=pass header.from=remote.test policy.dmarc=reject";
    bank.check_newest("Inbox", passed).await;
}

#[tokio::test]
async fn the_policy_and_the_setting_say_what_becomes_of_a_failure() {
    for (statics, record, mailbox, result) in [
        (
            "",
            "v=DMARC1; p=none",
            "Inbox",
            "fail header.from=bank.test policy.dmarc=none",
        ),
        (
            "",
            "v=DMARC1; p=quarantine",
            "Junk",
            "fail header.from=bank.test policy.dmarc=quarantine",
        ),
        // The owner only tests: one lower.
        (
            "",
            "v=DMARC1; p=reject; t=y",
            "Junk",
            "fail header.from=bank.test policy.dmarc=quarantine",
        ),
        (
            "[policy]\ndmarc = \"junk\"\n",
            REJECT,
            "Junk",
            "fail (junk: this server refuses nothing by DMARC) header.from=bank.test \
             policy.dmarc=reject",
        ),
        (
            "[policy]\ndmarc = \"report\"\n",
            REJECT,
            "Inbox",
            "fail (none: this server only reports) header.from=bank.test policy.dmarc=reject",
        ),
    ] {
        let bank = Bank::with(statics, record);
        bank.check(FORGED, "250 ").await;
        bank.check_newest(mailbox, &format!("dmarc={result}")).await;
    }
}

#[tokio::test]
async fn mail_of_a_list_goes_to_junk() {
    let bank = Bank::new(REJECT);
    let result = "dmarc=fail (junk: sent by a list) header.from=bank.test policy.dmarc=reject";
    for field in [
        "List-Id: <a.remote.test>",
        "List-Post: <mailto:a@remote.test>",
    ] {
        let of_list = format!("{field}\r\n{FORGED}");
        bank.check(&of_list, "250 ").await;
        bank.check_newest("Junk", result).await;
        // Nobody stands behind the list.
        let to = &["ann@example.org"];
        let reply = bank.send("x@other.test", to, &of_list).await;
        assert!(reply.starts_with("550 5.7.1 "), "{reply}");
        let of_list = signed("remote.test", &of_list);
        let reply = bank.send("x@other.test", to, &of_list).await;
        assert!(reply.starts_with("250 "), "{reply}");
    }
}

#[tokio::test]
async fn no_answer_is_a_temporary_refusal() {
    let later = "451 4.7.1 there is no answer about the DMARC policy of bank.test just now";
    let bank = Bank::new(REJECT);
    bank.world.dns.fail("_dmarc.bank.test");
    bank.check(FORGED, later).await;
    bank.check(&signed("bank.test", FORGED), "250 ").await;
    bank.world.dns.mend("_dmarc.bank.test");
    // The key might have made it pass.
    bank.world.dns.fail("k._domainkey.bank.test");
    bank.check(&signed("bank.test", FORGED), later).await;
    bank.check(FORGED, REFUSED).await;
    let none = Bank::new("v=DMARC1; p=none");
    none.world.dns.fail("k._domainkey.bank.test");
    none.check(&signed("bank.test", FORGED), "250 ").await;
}

#[tokio::test]
async fn a_message_has_one_from_of_one_domain() {
    let bank = Bank::new(REJECT);
    let unclear = "554 5.6.0 exactly one From is needed";
    let body = "Subject: hi\r\n\r\nPay.\r\n";
    for from in [
        "",
        "From: <ann@remote.test>\r\nFrom: <ceo@bank.test>\r\n",
        "From: <ann@remote.test>, <ceo@bank.test>\r\n",
        "From: nobody\r\n",
    ] {
        let message = format!("{from}{body}");
        bank.check(&message, unclear).await;
        let reply = bank.send("", &["ann@example.org"], &message).await;
        assert!(reply.starts_with("250 "), "{reply}");
        let (mailbox, result) = bank.newest().await;
        assert_eq!(mailbox, "Junk");
        assert!(result.starts_with("dmarc=permerror "), "{result}");
    }
    let several = format!("From: <ann@remote.test>, <bob@remote.test>\r\n{body}");
    bank.check(&several, "250 ").await;
    assert_eq!(bank.newest().await.0, "Inbox");
}

#[tokio::test]
async fn postmaster_and_abuse_take_all() {
    let bank = Bank::new(REJECT);
    let result =
        "dmarc=fail (junk: the recipient takes all mail) header.from=bank.test policy.dmarc=reject";
    for to in [
        &["postmaster"][..],
        &["Postmaster@example.org"],
        &["ann@example.org", "abuse@example.org"],
    ] {
        let reply = bank.send("x@remote.test", to, FORGED).await;
        assert!(reply.starts_with("250 "), "{to:?}: {reply}");
        bank.check_newest("Junk", result).await;
        // The account of both gets it once.
        let mails = bank.world.mails().await;
        assert!(mails.iter().all(|(mail, _)| mail.mailbox == "Junk"));
    }
    assert_eq!(bank.world.mails().await.len(), 3);
    bank.world.dns.fail("_dmarc.bank.test");
    let reply = bank.send("x@remote.test", &["postmaster"], FORGED).await;
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!(bank.newest().await.0, "Junk");
}

/// Ann sends a message to `bob@bank.test`. The fromid of its return address is `order7`.
pub(super) async fn ann_sends(world: &World) {
    let added = ann_submits(world, "ann+id@example.org", "").await;
    assert_eq!(added, "order7");
}

/// The same with this login and ENVID. Gives the fromid.
pub(super) async fn ann_submits(world: &World, login: &str, envid: &str) -> String {
    let submission = Submission {
        account: "ann".to_owned(),
        login: Some(Address::parse(login).unwrap()),
        reverse_path: ReversePath::Mailbox(Address::parse("ann+order7@example.org").unwrap()),
        own_from_id: true,
        recipients: vec![SubmittedRecipient {
            address: Address::parse("bob@bank.test").unwrap(),
            notify: postrider_store::Notify::default(),
            orcpt: String::new(),
        }],
        top: Top::default(),
        text: NewText::Inline("Subject: hi\r\n\r\nHi.\r\n".into()),
        size: 20,
        message_id: "<1@example.org>".to_owned(),
        subject: "hi".to_owned(),
        from: None,
        needs: Default::default(),
        smtputf8: false,
        require_tls: None,
        not_before: None,
        hold: false,
        future_release: String::new(),
        extra: BTreeMap::new(),
        ret_full: None,
        envid: envid.to_owned(),
        list: String::new(),
        urgency: Default::default(),
        once: None,
    };
    let mut added = world.context.queue.add(submission).await.unwrap();
    added.remove(0).from_id
}

/// A DSN whose author can't be verified, to the return address of a message that ann sent.
#[tokio::test]
async fn reports_to_a_fromid_are_taken() {
    let bank = Bank::new(REJECT);
    ann_sends(&bank.world).await;
    let known = &["ann+order7@example.org"];
    let unknown = &["ann+order8@example.org"];
    let reply = bank.send("", unknown, FORGED).await;
    assert!(reply.starts_with("550 5.7.1 "), "{reply}");
    // Mail that is no report is refused as always.
    let reply = bank.send("x@remote.test", known, FORGED).await;
    assert!(reply.starts_with("550 5.7.1 "), "{reply}");
    let reply = bank.send("", known, FORGED).await;
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!(bank.newest().await.0, "Junk");
}

#[tokio::test]
async fn a_client_on_this_machine_is_not_refused_for_a_failure() {
    const HERE: &str = "127.0.0.1:1";
    let bank = Bank::new(REJECT);
    let sent = async |message| send(&bank.world, HERE, "x@remote.test", message).await;
    let (mail, text) = sent(FORGED).await;
    let result = "Authentication-Results: other.example.org; dmarc=fail (none: from this machine, \
                  without SPF) header.from=bank.test policy.dmarc=reject\r\n";
    assert!(text.contains(result), "{text}");
    assert_eq!(mail.mailbox, "Inbox");
    assert!(!mail.smtp.unwrap().msg_from_validated);
    // A signature counts.
    let signed = signed("bank.test", FORGED);
    let (mail, text) = sent(&signed).await;
    let passed = "dmarc=pass header.from=bank.test policy.dmarc=reject\r\n";
    assert!(text.contains(passed), "{text}");
    assert!(mail.smtp.unwrap().msg_from_validated);
    bank.world.dns.fail("_dmarc.bank.test");
    let (mail, text) = sent(FORGED).await;
    assert!(text.contains("dmarc=temperror "), "{text}");
    assert_eq!(mail.mailbox, "Inbox");
    // It needs an author as any mail.
    let (client, transaction) = (client(HERE), transaction("x@remote.test"));
    let mut session = bank.world.session();
    begin(&mut session, &client, &transaction).await;
    super::text(
        &mut session,
        &client,
        &transaction,
        "Subject: hi\r\n\r\nHi.\r\n",
    )
    .await;
    let reply = session.end(&client, &transaction).await.to_string();
    assert!(reply.starts_with("554 5.6.0 exactly one From"), "{reply}");
}

#[tokio::test]
async fn records_have_what_was_validated() {
    let bank = Bank::new("v=DMARC1; p=none");
    let name = "k._domainkey.xn--b-eha.test";
    let key = Record::Txt(ed25519().record.clone().into());
    bank.world.dns.add(name, key);
    let by_others = signed("xn--b-eha.test", &signed("remote.test", FORGED));
    let (forged, by_bank) = (by_others.clone(), signed("bank.test", FORGED));
    let twice = signed("bank.test", &by_bank);
    for (from, message, mail_from, msg_from, domains) in [
        ("x@remote.test", FORGED, true, false, &[][..]),
        (
            "x@remote.test",
            &*forged,
            true,
            false,
            &["b\u{fc}.test", "remote.test"],
        ),
        ("x@other.test", &*twice, false, true, &["bank.test"]),
        ("", &*by_bank, false, true, &["bank.test"]),
        ("x@bank.test", MESSAGE, false, false, &[]),
    ] {
        let reply = bank.send(from, &["ann@example.org"], message).await;
        assert!(reply.starts_with("250 "), "{reply}");
        let (mail, _) = bank.world.mails().await.pop().unwrap();
        let Arrival {
            mail_from_validated,
            msg_from_validated,
            dkim_domains,
            ..
        } = mail.smtp.unwrap();
        let found = (mail_from_validated, msg_from_validated, dkim_domains);
        let domains: Vec<String> = domains.iter().map(ToString::to_string).collect();
        assert_eq!(found, (mail_from, msg_from, domains), "{from}");
    }
}

#[tokio::test]
async fn a_complaint_counts_if_its_author_is_validated() {
    let statics = "[policy]\ntrusted_reporters = [\"remote.test\"]\n";
    let bank = Bank::with(statics, REJECT);
    ann_sends(&bank.world).await;
    let complaint = "From: fbl@remote.test\r\nSubject: FW: hi\r\nMIME-Version: 1.0\r\n\
        Content-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n\
        --b\r\nContent-Type: text/plain\r\n\r\nA complaint.\r\n\
        --b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\n\
        User-Agent: fbl/1\r\nVersion: 1\r\nOriginal-Rcpt-To: <bob@bank.test>\r\n\r\n\
        --b\r\nContent-Type: text/rfc822-headers\r\n\r\n\
        Message-ID: <1@example.org>\r\n\r\n--b--\r\n";
    for (sender, suppresses) in [("x@other.test", false), ("x@remote.test", true)] {
        let reply = bank.send(sender, &["abuse@example.org"], complaint).await;
        assert!(reply.starts_with("250 "), "{reply}");
        let filter = EventFilter {
            account: Some("ann".into()),
            ..EventFilter::default()
        };
        let store = &bank.world.context.store;
        let page = store.list_events(&filter, None, Order::Descending, 1).await;
        let last = &page.unwrap().items[0].told;
        assert_eq!(
            (last.event, last.suppressing),
            (Event::Complained, suppresses)
        );
    }
}

#[tokio::test]
async fn the_seal_of_a_trusted_server_is_believed() {
    let trusted = "[policy]\narc_trusted_sealers = [\"s1.test\"]\n";
    let (pass, fail) = (
        "mx.test; dmarc=pass header.from=bank.test",
        "mx.test; dmarc=fail header.from=bank.test",
    );
    let key = Question::new("k._domainkey.s1.test", RecordType::Txt);
    for (statics, sealer, reported, expected, verified) in [
        (trusted, "s1.test", pass, "250 ", true),
        (trusted, "s1.test", fail, REFUSED, true),
        (trusted, "s2.test", pass, REFUSED, false),
        ("", "s1.test", pass, REFUSED, false),
    ] {
        let bank = Bank::with(statics, REJECT);
        let record = Record::Txt(ed25519().record.clone().into());
        bank.world.dns.add(key.name(), record);
        let sealed = seal_as(FORGED, ed25519(), sealer, reported).await.unwrap();
        bank.check(&sealed, expected).await;
        assert_eq!(bank.world.dns.asked(&key) > 0, verified, "{sealer}");
        if expected == "250 " {
            let (mailbox, result) = bank.newest().await;
            let why = "dmarc=fail (none: s1.test saw it pass) header.from=bank.test \
                       policy.dmarc=reject";
            assert_eq!((&*mailbox, &*result), ("Inbox", why));
            let (_, text) = bank.world.mails().await.pop().unwrap();
            let passed = "\tarc=pass header.oldest-pass=0 smtp.remote-ip=192.0.2.7;\r\n";
            assert!(text.contains(passed), "{text}");
            let changed = sealed.replace("Pay.", "Pay!");
            bank.check(&changed, REFUSED).await;
        }
    }
}
