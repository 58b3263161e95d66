//! Mail that goes on to other servers.

use std::collections::BTreeMap;

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::{Engine, engine::general_purpose::STANDARD};
use postrider_config::{Canonicalization, Dkim, DkimAlgorithm, DkimHash, DkimKey, DkimSelector};
use postrider_smtp::{Notify, Ret};
use postrider_store::{Order, Origin, QueueFilter, Queued};

use super::{dmarc::signed, *};
use crate::checks::{
    arc::{ArcChain, ArcOutcome},
    dkim::{BodyHasher, HeaderFields, tests::support::ed25519},
    questions::Questions,
};

/// Forwards and LMTP, beside the account of the other tests.
const FORWARDS: &str = r#"
destinations."away@example.org" = { forward = ["x@elsewhere.test"] }
destinations."both@example.org" = { forward = ["x@elsewhere.test", "y@other.test"] }
destinations."imap@example.org" = { forward_lmtp = "dovecot" }
[domains."example.org".aliases.team]
addresses = ["away@example.org", "ann@example.org"]
post_public = true
"#;

const LMTP: &str = "[transports.dovecot.lmtp]\nsocket = \"/run/dovecot/lmtp\"\n";

fn world() -> World {
    let world = World::with(LMTP);
    let dynamics = format!("{DYNAMICS}{FORWARDS}");
    let dynamic = Dynamic::parse(&dynamics, "domains.conf", &world.context.statics).unwrap();
    world.context.config.store(Arc::new(dynamic));
    world
}

impl World {
    /// Gives our domain a key, and publishes it.
    fn sign(&self) {
        let document = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new());
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            STANDARD.encode(document.unwrap())
        );
        let key = DkimKey::from_pem(&pem).unwrap();
        let record = format!("v=DKIM1; k=ed25519; p={}", key.public_base64());
        self.dns
            .add("s._domainkey.example.org", Record::Txt(record.into()));
        let selector = DkimSelector {
            private_key_file: "s.pem".into(),
            algorithm: DkimAlgorithm::Ed25519,
            hash: DkimHash::Sha256,
            canonicalization: Canonicalization::RelaxedRelaxed,
            headers: ["From", "Subject", "Received"].map(str::to_owned).to_vec(),
            dont_seal_headers: false,
            expiration: Duration::ZERO,
            key: Arc::new(key),
        };
        let mut config = Dynamic::clone(&self.context.dynamic());
        for domain in config.domains.values_mut() {
            domain.dkim = Dkim {
                selectors: BTreeMap::from([("s".parse().unwrap(), Arc::new(selector.clone()))]),
                sign: vec!["s".parse().unwrap()],
            };
        }
        self.context.config.store(Arc::new(config));
    }

    async fn queued(&self) -> Vec<Queued> {
        let filter = QueueFilter::default();
        let page = self
            .context
            .store
            .list(&filter, None, Order::Ascending, 100);
        page.await.unwrap().items
    }

    async fn text(&self, message: &Queued) -> String {
        let message = self.context.store.queued_message(message).await.unwrap();
        String::from_utf8(message.whole().await.unwrap().to_vec()).unwrap()
    }

    /// Sends a message with this transaction. Gives the reply to its end, or to RCPT.
    async fn give(&self, remote: &str, transaction: Transaction, message: &str) -> String {
        let client = client(remote);
        let mut session = self.session();
        session.mail(&client, &transaction.mail).await.unwrap();
        for rcpt in &transaction.recipients {
            if let Err(reply) = session.rcpt(&client, &transaction, rcpt).await {
                return reply.to_string();
            }
        }
        text(&mut session, &client, &transaction, message).await;
        session.end(&client, &transaction).await.to_string()
    }

    /// The same for one recipient, which takes it.
    async fn take(&self, remote: &str, from: &str, to: &str) -> Vec<Queued> {
        let reply = self.give(remote, to_one(from, to), MESSAGE).await;
        assert!(reply.starts_with("250 "), "{reply}");
        self.queued().await
    }
}

fn to_one(from: &str, to: &str) -> Transaction {
    let mut transaction = transaction(from);
    transaction.recipients[0].forward_path = ForwardPath::Mailbox(to.parse().unwrap());
    transaction
}

#[tokio::test]
async fn a_forward_has_our_reverse_path_and_reports_to_it_go_back() {
    let world = world();
    let queued = world
        .take(REMOTE, "Bob@remote.test", "away@example.org")
        .await;
    assert!(world.mails().await.is_empty());
    let [forward] = queued.as_slice() else {
        panic!("{queued:?}");
    };
    assert_eq!(forward.recipient.to_string(), "x@elsewhere.test");
    let path = forward.reverse_path.to_string();
    assert!(path.starts_with("SRS0=") && path.ends_with("=remote.test=Bob@example.org"));
    let sender = "Bob@remote.test".parse().unwrap();
    assert_eq!(forward.common.origin, Origin::Passed { sender });
    assert_eq!(forward.orcpt, "rfc822;away@example.org");
    assert!(forward.notify.failure && !forward.notify.given);
    let text = world.text(forward).await;
    let (top, rest) = text.split_at(text.len() - MESSAGE.len());
    assert_eq!(rest, MESSAGE, "the text is as it came");
    assert!(top.starts_with("Delivered-To: away@example.org\r\nAuthentication-Results: "));
    // The report comes back in another case.
    let lower = path.to_lowercase();
    let queued = world.take(REMOTE, "", &lower).await;
    let report = &queued[1];
    assert_eq!(report.recipient.to_string(), "bob@remote.test");
    assert_eq!(report.reverse_path, ReversePath::Null);
    assert!(!report.notify.failure, "nobody hears of a lost report");
    let text = world.text(report).await;
    assert!(!text.contains("Return-Path"), "{text}");
    assert!(world.mails().await.is_empty());
}

#[tokio::test]
async fn addresses_of_reports_are_for_reports_only_and_for_21_days() {
    let world = world();
    let queued = world
        .take(REMOTE, "bob@remote.test", "away@example.org")
        .await;
    let path = queued[0].reverse_path.to_string();
    let reply = world.give(REMOTE, to_one("a@remote.test", &path), MESSAGE);
    assert!(reply.await.starts_with("550 5.7.1 only reports"));
    for forged in [
        path.replace("=bob@", "=eve@"),
        "SRS0=AAAAAA=AA=remote.test=bob@example.org".to_owned(),
        "SRS1=AAAAAA=remote.test==x@example.org".to_owned(),
    ] {
        let reply = world.give(REMOTE, to_one("", &forged), MESSAGE).await;
        assert!(reply.starts_with("550 5.7.1 this server did"), "{reply}");
    }
    let day = Duration::from_secs(86400);
    world.clock.advance(21 * day);
    // A new key writes new addresses. The one before it counts too.
    world
        .take(REMOTE, "bob@remote.test", "away@example.org")
        .await;
    let reply = world.give(REMOTE, to_one("", &path), MESSAGE).await;
    assert!(reply.starts_with("250 "), "{reply}");
    world.clock.advance(day);
    let reply = world.give(REMOTE, to_one("", &path), MESSAGE).await;
    assert!(reply.starts_with("550 5.7.1 the time"), "{reply}");
}

#[tokio::test]
async fn a_configured_address_may_look_like_a_rewritten_sender() {
    let world = world();
    let dynamics = format!(
        "{DYNAMICS}destinations.\"srs0-a@example.org\" = {{}}\n\
         destinations.\"@example.org\" = {{}}\n[domains.\"example.org\".aliases.srs1-b]\n\
         addresses = [\"ann@example.org\"]\npost_public = true\n"
    );
    let parse = |text: &str| Dynamic::parse(text, "domains.conf", &world.context.statics).unwrap();
    world.context.config.store(Arc::new(parse(&dynamics)));
    for to in ["SRS0-a@example.org", "srs1-b+x@example.org"] {
        let reply = world.give(REMOTE, to_one("bob@remote.test", to), MESSAGE);
        let reply = reply.await;
        assert!(reply.starts_with("250 "), "{to}: {reply}");
    }
    let to = to_one("bob@remote.test", "srs0-b@example.org");
    let reply = world.give(REMOTE, to, MESSAGE).await;
    assert!(reply.starts_with("550 5.7.1 only reports"), "{reply}");
    let dynamics = DYNAMICS.replace("[accounts", "disabled = true\n[accounts");
    world.context.config.store(Arc::new(parse(&dynamics)));
    let reply = world.give(REMOTE, to_one("", "srs0-b@example.org"), MESSAGE);
    let reply = reply.await;
    assert!(reply.starts_with("451 4.3.0 "), "{reply}");
}

#[tokio::test]
async fn the_null_reverse_path_stays_and_long_senders_are_kept() {
    let world = world();
    let queued = world.take(REMOTE, "", "away@example.org").await;
    assert_eq!(queued[0].reverse_path, ReversePath::Null);
    let long = format!("{}@remote.test", "x".repeat(60));
    let queued = world.take(REMOTE, &long, "away@example.org").await;
    let path = queued[1].reverse_path.to_string();
    assert!(path.len() <= 64 + "@example.org".len(), "{path}");
    let queued = world.take(REMOTE, "", &path).await;
    assert_eq!(queued[2].recipient.to_string(), long);
}

#[tokio::test]
async fn senders_that_are_not_proven_get_no_reports() {
    let world = world();
    let queued = world
        .take("192.0.2.8:1", "bob@other.test", "away@example.org")
        .await;
    assert_eq!(queued[0].notify, postrider_store::Notify::NEVER);
}

#[tokio::test]
async fn a_forward_has_our_arc_set() {
    let world = world();
    world.sign();
    let queued = world
        .take(REMOTE, "bob@remote.test", "away@example.org")
        .await;
    let text = world.text(&queued[0]).await;
    assert!(text.starts_with("ARC-Seal: "), "{text}");
    assert!(!text.contains("DKIM-Signature"), "forwards are not signed");
    let at = text.find("\r\n\r\n").unwrap() + 2;
    let (section, body) = text.split_at(at);
    let fields = HeaderFields::new(section.as_bytes().to_vec().into());
    let chain = ArcChain::new(Arc::new(fields));
    let mut hasher = BodyHasher::new(chain.body_forms());
    hasher.write(&body.as_bytes()[2..]);
    let clock: Arc<dyn postrider_store::Clock> = Arc::new(world.clock.clone());
    let resolver: Arc<dyn Resolver> = Arc::new(world.dns.clone());
    let questions = Questions::new(resolver, clock);
    let now = world.context.clock.now();
    let result = chain.verify(&questions, &hasher.finish(), now).await;
    assert_eq!(result.outcome, ArcOutcome::Pass, "{result:?}");
    assert!(text.contains("ARC-Authentication-Results: i=1; other.example.org; "));
}

#[tokio::test]
async fn lmtp_servers_get_the_mail_with_its_own_reverse_path() {
    let world = world();
    let queued = world
        .take(REMOTE, "bob@remote.test", "imap@example.org")
        .await;
    let message = &queued[0];
    assert_eq!(message.transport, "dovecot");
    assert_eq!(message.recipient.to_string(), "imap@example.org");
    assert_eq!(message.reverse_path.to_string(), "bob@remote.test");
    let text = world.text(message).await;
    let expected = "Return-Path: <bob@remote.test>\r\nDelivered-To: imap@example.org\r\n\
                    Authentication-Results: ";
    assert!(text.starts_with(expected), "{text}");
    assert!(world.mails().await.is_empty());
}

/// An address of ours that is not ASCII stands in front of a message that is.
#[tokio::test]
async fn our_own_fields_ask_no_server_for_smtputf8() {
    let world = world();
    let dynamics = format!(
        "{DYNAMICS}destinations.\"j\u{f6}rg@example.org\" = {{ forward = [\"x@elsewhere.test\"] }}\n\
         destinations.\"\u{fc}@example.org\" = {{ forward_lmtp = \"dovecot\" }}\n\
         [domains.\"example.org\".aliases.all]\n\
         addresses = [\"j\u{f6}rg@example.org\"]\npost_public = true\n"
    );
    let dynamic = Dynamic::parse(&dynamics, "domains.conf", &world.context.statics).unwrap();
    world.context.config.store(Arc::new(dynamic));
    for to in ["all@example.org", "j\u{f6}rg@example.org"] {
        let forward = world
            .take(REMOTE, "bob@remote.test", to)
            .await
            .pop()
            .unwrap();
        assert!(
            !forward.common.smtputf8 && !forward.common.needs.eight_bit,
            "{to}"
        );
        let text = world.text(&forward).await;
        assert!(text.is_ascii(), "{text}");
    }
    // What needs SMTPUTF8 in any case has all fields.
    let mut utf8 = to_one("bob@remote.test", "j\u{f6}rg@example.org");
    utf8.mail.smtputf8 = true;
    let message = MESSAGE.replace("hi", "h\u{e4}");
    let reply = world.give(REMOTE, utf8, &message).await;
    assert!(reply.starts_with("250 "), "{reply}");
    let forward = world.queued().await.pop().unwrap();
    assert!(forward.common.smtputf8 && forward.common.needs.eight_bit);
    let text = world.text(&forward).await;
    for part in [
        "\r\nDelivered-To: j\u{f6}rg@",
        "Delivered-To: j\u{f6}rg@",
        "for <j\u{f6}rg@",
    ] {
        assert!(text.contains(part.trim_start()), "{text}");
    }
    let lmtp = world
        .take(REMOTE, "bob@remote.test", "\u{fc}@example.org")
        .await;
    let lmtp = lmtp.last().unwrap();
    assert!(lmtp.common.smtputf8 && lmtp.common.needs.eight_bit);
}

/// The owner of the domain wants such mail to be treated as junk.
#[tokio::test]
async fn junk_is_not_forwarded_and_marked_for_lmtp_servers() {
    let world = world();
    let record = b"v=DMARC1; p=quarantine".to_vec();
    world.dns.add("_dmarc.bank.test", Record::Txt(record));
    let message = MESSAGE.replace("remote.test", "bank.test");
    for to in ["away@example.org", "imap@example.org"] {
        let reply = world.give(REMOTE, to_one("bob@remote.test", to), &message);
        let reply = reply.await;
        assert!(reply.starts_with("250 "), "{reply}");
    }
    let mails = world.mails().await;
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].0.mailbox, "Junk");
    let queued = world.queued().await;
    assert_eq!(queued.len(), 1);
    let text = world.text(&queued[0]).await;
    assert!(
        text.contains("\r\nX-Postrider-Junk: DMARC failed\r\n"),
        "{text}"
    );
}

/// What the sender asked of reports, for one recipient.
fn asking(to: &str, notify: Notify) -> Transaction {
    let mut transaction = to_one("bob@remote.test", to);
    transaction.mail.ret = Some(Ret::Full);
    transaction.mail.envid = Some("E1".to_owned());
    transaction.recipients[0].notify = Some(notify);
    transaction.recipients[0].orcpt = Some("rfc822;first@origin.test".to_owned());
    transaction
}

const SUCCESS: Notify = Notify {
    success: true,
    failure: true,
    delay: false,
};

#[tokio::test]
async fn who_asks_hears_that_its_mail_is_in_the_mailbox() {
    let world = world();
    let reply = world.give(REMOTE, asking("ann@example.org", SUCCESS), MESSAGE);
    assert!(reply.await.starts_with("250 "));
    let queued = world.queued().await;
    assert_eq!(queued[0].recipient.to_string(), "bob@remote.test");
    assert_eq!(queued[0].reverse_path, ReversePath::Null);
    assert_eq!(queued[0].common.origin, Origin::Server);
    let report = world.text(&queued[0]).await;
    for part in [
        "Original-Envelope-Id: E1\r\n",
        "Original-Recipient: rfc822; first@origin.test\r\n",
        "Final-Recipient: rfc822; ann@example.org\r\n",
        "Action: delivered\r\nStatus: 2.0.0\r\n",
        "Content-Type: message/rfc822\r\n",
        MESSAGE,
    ] {
        assert!(report.contains(part), "{part}: {report}");
    }
    // Others may have sent it in Bob's name.
    let reply = world.give("192.0.2.8:1", asking("ann@example.org", SUCCESS), MESSAGE);
    assert!(reply.await.starts_with("250 "));
    assert_eq!(world.queued().await.len(), 1);
    assert_eq!(world.mails().await.len(), 2);
}

/// The text of such a message is in no report, and the report needs REQUIRETLS too.
#[tokio::test]
async fn reports_about_messages_with_requiretls_show_no_text() {
    let world = world();
    let mut transaction = asking("ann@example.org", SUCCESS);
    transaction.mail.require_tls = true;
    let reply = world.give(REMOTE, transaction, MESSAGE).await;
    assert!(reply.starts_with("250 "), "{reply}");
    let queued = world.queued().await;
    assert_eq!(queued[0].common.require_tls, Some(true));
    let report = world.text(&queued[0]).await;
    assert!(report.contains("text/rfc822-headers"), "{report}");
    assert!(!report.contains("Hello."), "{report}");
}

#[tokio::test]
async fn what_the_sender_asks_goes_on_with_a_forward() {
    let world = world();
    let mut transaction = asking("away@example.org", SUCCESS);
    transaction.mail.require_tls = true;
    let reply = world.give(REMOTE, transaction, MESSAGE);
    assert!(reply.await.starts_with("250 "));
    let queued = world.queued().await;
    let [forward] = queued.as_slice() else {
        panic!("{queued:?}");
    };
    assert!(forward.notify.success && forward.notify.given);
    assert_eq!(forward.orcpt, "rfc822;first@origin.test");
    assert_eq!(forward.common.envid, "E1");
    assert_eq!(forward.common.ret_full, Some(true));
    assert_eq!(forward.common.require_tls, Some(true));
}

#[tokio::test]
async fn a_sender_who_waives_tls_waives_it_for_a_forward() {
    for (requires, expected) in [(false, Some(false)), (true, Some(true))] {
        let world = world();
        let mut transaction = asking("away@example.org", SUCCESS);
        transaction.mail.require_tls = requires;
        let text = format!("TLS-Required: No\r\n{MESSAGE}");
        let reply = world.give(REMOTE, transaction, &text);
        assert!(reply.await.starts_with("250 "));
        assert_eq!(world.queued().await[0].common.require_tls, expected);
    }
}

/// The names of one list are one list. Each that asks has its report.
#[tokio::test]
async fn a_list_by_two_names_is_expanded_once() {
    let world = world();
    let mut transaction = asking("team+1@example.org", SUCCESS);
    let mut again = transaction.recipients[0].clone();
    again.forward_path = ForwardPath::Mailbox("team+2@example.org".parse().unwrap());
    transaction.recipients.push(again);
    let reply = world.give(REMOTE, transaction, MESSAGE).await;
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!(world.mails().await.len(), 1);
    let queued = world.queued().await;
    let [forward, report] = queued.as_slice() else {
        panic!("{queued:?}");
    };
    assert_eq!(forward.recipient.to_string(), "x@elsewhere.test");
    let report = world.text(report).await;
    assert_eq!(
        report.matches("Action: expanded\r\n").count(),
        2,
        "{report}"
    );
}

#[tokio::test]
async fn lists_and_forwards_to_several_are_expanded() {
    for (to, forwards) in [("both@example.org", 2), ("team@example.org", 1)] {
        let world = world();
        let reply = world.give(REMOTE, asking(to, SUCCESS), MESSAGE).await;
        assert!(reply.starts_with("250 "), "{reply}");
        let queued = world.queued().await;
        let (reports, passed): (Vec<_>, Vec<_>) = queued
            .into_iter()
            .partition(|message| message.common.origin == Origin::Server);
        assert_eq!(passed.len(), forwards, "{to}");
        for forward in passed {
            assert!(!forward.notify.success && forward.notify.failure);
        }
        let [report] = reports.as_slice() else {
            panic!("{reports:?}");
        };
        let report = world.text(report).await;
        assert!(report.contains("Action: expanded\r\n"), "{report}");
    }
}

/// A domain with a key signs what its owner likes. That says nothing of the sender, to whom the
/// report with the text would go.
#[tokio::test]
async fn reports_go_to_a_proven_sender_and_not_to_one_that_the_author_names() {
    let world = world();
    let record = b"v=DMARC1; p=reject".to_vec();
    world.dns.add("_dmarc.bank.test", Record::Txt(record));
    let key = Record::Txt(ed25519().record.clone().into());
    world.dns.add("k._domainkey.bank.test", key);
    let mx = [(10, "mail.remote.test")];
    world.dns.set_mx("news.bank.test", &mx);
    world.dns.set_mx("notbank.test", &mx);
    let message = MESSAGE.replace("remote.test", "bank.test");
    let signed = signed("bank.test", &message);
    for (from, proven) in [
        ("victim@other.test", false),
        ("victim@notbank.test", false),
        ("bounces@news.bank.test", true),
        ("bounces@bank.test", true),
    ] {
        let before = world.queued().await.len();
        // A forward keeps the wish of a proven sender only.
        for to in ["away@example.org", "ann@example.org"] {
            let mut transaction = asking(to, SUCCESS);
            transaction.mail.reverse_path = ReversePath::Mailbox(from.parse().unwrap());
            let reply = world.give("192.0.2.8:1", transaction, &signed).await;
            assert!(reply.starts_with("250 "), "{reply}");
        }
        let queued = world.queued().await.split_off(before);
        assert_eq!(queued.len(), 1 + usize::from(proven), "{from}");
        assert_eq!(queued[0].notify.success, proven, "{from}");
        assert!(
            queued[1..]
                .iter()
                .all(|it| it.recipient.to_string() == from)
        );
    }
}

#[tokio::test]
async fn junk_is_no_success() {
    let world = world();
    let record = b"v=DMARC1; p=quarantine".to_vec();
    world.dns.add("_dmarc.bank.test", Record::Txt(record));
    let message = MESSAGE.replace("remote.test", "bank.test");
    for to in ["ann@example.org", "imap@example.org"] {
        let reply = world.give(REMOTE, asking(to, SUCCESS), &message).await;
        assert!(reply.starts_with("250 "), "{reply}");
    }
    let queued = world.queued().await;
    let [lmtp] = queued.as_slice() else {
        panic!("{queued:?}");
    };
    assert_eq!(lmtp.transport, "dovecot");
    assert!(lmtp.notify.failure && !lmtp.notify.success);
}
