//! SPF, DKIM, ARC, DMARC and the names of a client, of any message: the checks of incoming mail, by
//! the same functions, with the reason of each result.
//!
//! They need no server: a [`Checker`] has all parts.

mod items;

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use postrider_dns::Resolver;
use postrider_observe::millis;
use postrider_receive::checks::{
    examine::{Examination, Sample, signatures},
    questions::Questions,
    spf,
};
use postrider_smtp::{
    Domain, ReversePath,
    canonical::{BodyHashes, Form},
};
use postrider_store::{Clock, Moment};
use serde::{Deserialize, Serialize};

pub use items::{
    ArcDetails, CheckDetails, CheckOutcome, CheckPolicy, DkimItem, DmarcChecked, DmarcDetails,
    IprevDetails, SpfChecked, SpfItem,
};

use super::{Operation, Single, Sink, delivery::reverse_path, queue::Piece};
use crate::{AdminError, Context};

/// The parts that checks need.
#[derive(Clone)]
#[expect(
    missing_debug_implementations,
    reason = "its parts have nothing to show"
)]
pub struct Checker {
    /// Answers the questions.
    pub resolver: Arc<dyn Resolver>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The domains whose ARC seals are trusted.
    pub trusted: Vec<Domain>,
    /// Our host name, for the explanation of a failure of SPF.
    pub hostname: String,
}

/// A message for the checks: its header section, and the hashes of its body in both forms. So the
/// body itself goes nowhere, however large it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Letter {
    /// The header section, where each line ends with CRLF.
    pub header: Piece,
    /// The SHA-256 hash of the body in the simple form (RFC 6376 §3.4.3).
    pub simple: Piece,
    /// The same in the relaxed form (RFC 6376 §3.4.4).
    pub relaxed: Piece,
}

impl Letter {
    /// Reads a message. Its lines may end with LF alone.
    #[must_use]
    pub fn of(message: &Bytes) -> Self {
        let sample = Sample::of(message);
        let hash = |form| Piece(sample.body.of(form).unwrap_or_default().to_vec());
        Self {
            simple: hash(Form::Simple),
            relaxed: hash(Form::Relaxed),
            header: Piece(sample.section.to_vec()),
        }
    }

    fn sample(self) -> Result<Sample, AdminError> {
        let hash = |piece: Piece, field: &str| {
            let bytes = <[u8; 32]>::try_from(piece.0);
            bytes.map_err(|_| AdminError::invalid("a hash has 32 bytes").at(field))
        };
        let simple = hash(self.simple, "simple")?;
        Ok(Sample {
            section: self.header.0.into(),
            body: BodyHashes::new(simple, hash(self.relaxed, "relaxed")?),
        })
    }
}

/// Checks whether a client may send mail in the name of a domain, by SPF: for MAIL FROM, and for
/// its name in EHLO.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpfCheck {
    /// The address of the client.
    pub ip: IpAddr,
    /// MAIL FROM; empty or `<>`: the null reverse-path.
    pub from: String,
    /// The name in EHLO; empty: it gave none.
    #[serde(default)]
    pub helo: String,
}

/// Verifies the DKIM signatures of a message. Each is an item.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DkimVerify {
    /// The message.
    pub message: Letter,
}

/// Checks a message as if this client brought it now: SPF, DKIM, ARC, DMARC and the names of the
/// client. Nothing is decided or stored. A client on this machine is checked, too.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DmarcCheck {
    /// The address of the client.
    pub ip: IpAddr,
    /// MAIL FROM; empty or `<>`: the null reverse-path.
    pub from: String,
    /// The name in EHLO; empty: it gave none.
    #[serde(default)]
    pub helo: String,
    /// The message. None: one without signatures, with MAIL FROM as its author.
    #[serde(default)]
    pub message: Option<Letter>,
}

impl Checker {
    fn questions(&self) -> Questions {
        Questions::new(Arc::clone(&self.resolver), Arc::clone(&self.clock))
    }

    /// Milliseconds since this moment.
    fn elapsed(&self, since: Moment) -> u64 {
        millis(self.clock.moment().since(since))
    }

    /// Checks a client by SPF.
    ///
    /// # Errors
    /// If MAIL FROM is no address.
    pub async fn spf(&self, check: SpfCheck) -> Result<SpfChecked, AdminError> {
        let from = reverse_path(&check.from)?;
        let begun = self.clock.moment();
        let spf = spf::SpfCheck::new(self.questions(), check.ip, &check.helo);
        let (helo, mail_from) = tokio::join!(spf.helo(), spf.mail_from(&from));
        let now = self.clock.now();
        let explanation = spf.explain(&mail_from, &self.hostname, now).await;
        Ok(SpfChecked {
            helo: SpfItem::of(&helo),
            mail_from: SpfItem {
                explanation,
                ..SpfItem::of(&mail_from)
            },
            elapsed: self.elapsed(begun),
        })
    }

    /// Verifies signatures.
    ///
    /// # Errors
    /// If the message is no message.
    pub async fn dkim(&self, verify: DkimVerify) -> Result<Vec<DkimItem>, AdminError> {
        let sample = verify.message.sample()?;
        let questions = self.questions();
        let results = signatures(&questions, &sample, self.clock.now()).await;
        Ok(results.iter().map(DkimItem::of).collect())
    }

    /// Checks a message with all that is known of its client.
    ///
    /// # Errors
    /// If MAIL FROM is no address, or the message is no message.
    pub async fn dmarc(&self, check: DmarcCheck) -> Result<DmarcChecked, AdminError> {
        let from = reverse_path(&check.from)?;
        let sample = match check.message {
            Some(message) => message.sample()?,
            None => plain_message(&from),
        };
        let begun = self.clock.moment();
        let questions = self.questions();
        let examination = Examination {
            questions: &questions,
            client: Some(check.ip),
            helo: &check.helo,
            mail_from: &from,
            trusted: &self.trusted,
            any_chain: true,
            now: self.clock.now(),
        };
        let found = examination.run_with_helo(&sample).await;
        let found = found.ok_or_else(|| AdminError::internal("a check broke off"))?;
        Ok(DmarcChecked::of(&found, self.elapsed(begun)))
    }
}

/// A message without signatures whose author is the sender.
fn plain_message(from: &ReversePath) -> Sample {
    let author = from.address().map(|from| format!("From: <{from}>\r\n"));
    let author = author.unwrap_or_default();
    Sample::of(&Bytes::from(format!(
        "{author}Subject: test\r\n\r\ntest\r\n"
    )))
}

impl Context {
    /// The parts for checks: those of incoming mail.
    #[must_use]
    pub fn checker(&self) -> Checker {
        Checker {
            resolver: Arc::clone(&self.checks),
            clock: Arc::clone(&self.clock),
            trusted: self.statics.policy.arc_trusted_sealers.clone(),
            hostname: self.statics.hostname.to_string(),
        }
    }
}

impl Single for SpfCheck {
    type Output = SpfChecked;

    async fn answer(self, context: &Context) -> Result<SpfChecked, AdminError> {
        context.checker().spf(self).await
    }
}

impl Operation for DkimVerify {
    type Item = DkimItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<DkimItem>,
    ) -> Result<(), AdminError> {
        items.send(context.checker().dkim(self).await?).await
    }
}

impl Single for DmarcCheck {
    type Output = DmarcChecked;

    async fn answer(self, context: &Context) -> Result<DmarcChecked, AdminError> {
        context.checker().dmarc(self).await
    }
}

#[cfg(test)]
mod tests {
    use postrider_dns::{FakeResolver, Question, Record};
    use postrider_store::{ManualClock, Time};
    use serde_json::{Value, json};

    use super::*;

    const IP: &str = "192.0.2.7";

    fn checker(fake: &FakeResolver) -> Checker {
        Checker {
            resolver: Arc::new(fake.clone()),
            clock: Arc::new(ManualClock::new(Time(1_800_000_000_000_000))),
            trusted: Vec::new(),
            hostname: "mx.example.org".to_owned(),
        }
    }

    fn zone() -> FakeResolver {
        let fake = FakeResolver::default();
        let question = Question::reverse(IP.parse().unwrap());
        fake.add(question.name(), Record::Ptr("mx.good.test".to_owned()));
        fake.add_address("mx.good.test", IP);
        for (name, text) in [
            ("good.test", "v=spf1 ip4:192.0.2.7 -all"),
            ("bad.test", "v=spf1 exp=why.bad.test -all"),
            ("why.bad.test", "not from %{i}"),
            ("_dmarc.bad.test", "v=DMARC1; p=quarantine"),
        ] {
            fake.add(name, Record::Txt(text.into()));
        }
        fake
    }

    async fn dmarc(from: &str, message: Option<&'static str>) -> Value {
        let check = DmarcCheck {
            ip: IP.parse().unwrap(),
            from: from.to_owned(),
            helo: "mx.good.test".to_owned(),
            message: message.map(|text| Letter::of(&Bytes::from(text))),
        };
        let checked = checker(&zone()).dmarc(check).await.unwrap();
        serde_json::to_value(DmarcChecked {
            details: None,
            ..checked
        })
        .unwrap()
    }

    #[tokio::test]
    async fn a_message_has_results_in_the_form_of_the_api() {
        let none = json!({"type": "none"});
        let pass = json!({"type": "pass"});
        let expected = json!({
            "spfEhloDomain": "mx.good.test", "spfEhloResult": none,
            "spfMailFromDomain": "good.test", "spfMailFromResult": pass,
            "ipRevResult": pass, "ipRevPtr": ["mx.good.test"],
            "dkimResults": [], "dkimPass": false, "arcResult": none,
            "dmarcResult": none, "dmarcPass": false, "dmarcPolicy": "unspecified", "elapsed": 0,
        });
        assert_eq!(dmarc("a@good.test", None).await, expected);
        let broken = "DKIM-Signature: v=1; a=rsa-sha1\nFrom: a@bad.test\n\nHi\n";
        let found = dmarc("a@bad.test", Some(broken)).await;
        let fail = |details: &str| json!({"type": "fail", "details": details});
        assert_eq!(found["spfMailFromResult"]["type"], "fail");
        assert_eq!(found["dkimResults"][0]["type"], "permError");
        assert_eq!(
            found["dmarcResult"],
            fail("SPF fail, no aligned DKIM signature")
        );
        assert_eq!(found["dmarcPolicy"], "quarantine");
        // The null reverse-path: the name in EHLO counts, and a message of ours has no author.
        let found = dmarc("<>", None).await;
        assert_eq!(found["spfMailFromDomain"], "mx.good.test");
        assert_eq!(found["dmarcResult"]["type"], "permError");
    }

    #[tokio::test]
    async fn spf_says_why() {
        let check = |from: &str| SpfCheck {
            ip: IP.parse().unwrap(),
            from: from.to_owned(),
            helo: "mx.good.test".to_owned(),
        };
        let checker = checker(&zone());
        let checked = checker.spf(check("a@bad.test")).await.unwrap();
        let mail_from = serde_json::to_value(&checked.mail_from).unwrap();
        let expected = json!({
            "domain": "bad.test", "result": "fail", "mechanism": "-all", "record": "bad.test",
            "reason": "-all matches in the record of bad.test",
            "explanation": "bad.test explains: not from 192.0.2.7",
        });
        assert_eq!(mail_from, expected);
        assert_eq!(checked.helo.result, "none");
        let error = checker.spf(check("a b")).await.unwrap_err();
        assert_eq!(error.field.as_deref(), Some("from"));
    }

    #[tokio::test]
    async fn a_letter_is_a_message_without_its_body() {
        let letter = Letter::of(&Bytes::from("From: a@b.test\n\nsecret words\n"));
        let text = serde_json::to_string(&letter).unwrap();
        let again: Letter = serde_json::from_str(&text).unwrap();
        let sample = again.sample().unwrap();
        assert_eq!(sample.section, "From: a@b.test\r\n");
        let whole = Sample::of(&Bytes::from("From: a@b.test\r\n\r\nsecret words\r\n"));
        assert_eq!(format!("{:?}", sample.body), format!("{:?}", whole.body));
        let short = Letter {
            relaxed: Piece(vec![1]),
            ..letter
        };
        assert_eq!(
            short.sample().unwrap_err().field.as_deref(),
            Some("relaxed")
        );
    }
}
