//! The checks of a message that is there as a whole, for administrators who ask why it passes or
//! fails. They are the checks of a session, by the same functions.

use std::{net::IpAddr, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use postrider_queue::header;
use postrider_smtp::{Domain, ReversePath, canonical::Form};
use postrider_store::Time;

use super::{
    dkim::{BodyForms, BodyHasher, BodyHashes, DkimCheck, DkimResult, HeaderFields},
    early::Peer,
    from::from_domain,
    message::MessageChecks,
    questions::Questions,
    results::AuthenticationResults,
    spf::{SpfCheck, SpfIdentity, SpfResult},
};
use crate::work::long_work;

/// A message as the checks see it: all but the content of its body.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The header section, where each line ends with CRLF.
    pub section: Bytes,
    /// The hashes of the body in both forms.
    pub body: BodyHashes,
}

impl Sample {
    /// Reads a message. Its lines may end with LF alone, as in files.
    #[must_use]
    pub fn of(message: &Bytes) -> Self {
        let message = with_crlf(message);
        let section = header::section(&message);
        let section = message.slice_ref(section);
        // The empty line between both belongs to neither.
        let body = message.get(section.len() + 2..).unwrap_or_default();
        let mut forms = BodyForms::default();
        forms.add(Form::Simple);
        forms.add(Form::Relaxed);
        let body = long_work(body.len(), || {
            let mut hasher = BodyHasher::new(forms);
            hasher.write(body);
            hasher.finish()
        });
        Self { section, body }
    }
}

/// What is known of the session that would bring a message.
#[derive(Clone, Copy, Debug)]
pub struct Examination<'a> {
    /// The questions to DNS. Their time begins anew.
    pub questions: &'a Questions,
    /// The address of the client. None: iprev and SPF are not checked. A client on this machine is
    /// checked, too: a session leaves that out.
    pub client: Option<IpAddr>,
    /// The name in EHLO; empty: it gave none.
    pub helo: &'a str,
    /// MAIL FROM.
    pub mail_from: &'a ReversePath,
    /// The domains whose ARC seals are trusted.
    pub trusted: &'a [Domain],
    /// Verify each ARC chain, as if the message were to be forwarded. Otherwise only those with a
    /// trusted seal.
    pub any_chain: bool,
    /// The time.
    pub now: Time,
}

/// What the checks of a message found, and that of the name in EHLO.
#[derive(Clone, Debug)]
pub struct Found {
    /// The results.
    pub results: AuthenticationResults,
    /// The SPF result of the name in EHLO. None without a client.
    pub helo: Option<SpfResult>,
}

impl Examination<'_> {
    fn peer(&self) -> Option<Peer<'_>> {
        self.client.map(|client| Peer::new(client, self.helo))
    }

    /// Checks a message. None if a check broke off.
    pub async fn run(&self, sample: &Sample) -> Option<AuthenticationResults> {
        let peer = self.peer();
        let questions = self.questions.renewed();
        let mut checks = MessageChecks::of_peer(questions, peer, self.mail_from, None);
        let size = sample.section.len();
        long_work(size, || {
            checks.header(&sample.section, self.trusted, self.any_chain, self.now)
        });
        let checked = checks.results(&sample.body, self.trusted, self.now).await;
        checked.map(|checked| checked.results)
    }

    /// Checks a message, and the name in EHLO by SPF, which a session asks for a null reverse-path
    /// alone. None if a check broke off.
    pub async fn run_with_helo(&self, sample: &Sample) -> Option<Found> {
        let asked = self.peer();
        let asked = asked.filter(|_| *self.mail_from != ReversePath::Null);
        let named = async {
            let peer = asked?;
            let check = SpfCheck::new(self.questions.renewed(), peer.address, peer.helo);
            Some(check.helo().await)
        };
        let (results, named) = tokio::join!(self.run(sample), named);
        let results = results?;
        // For a null reverse-path, the check of the sender was that of the name.
        let of_sender = results.spf.as_ref();
        let of_sender = of_sender.filter(|result| result.identity == SpfIdentity::Helo);
        let helo = named.or_else(|| of_sender.cloned());
        Some(Found { results, helo })
    }
}

/// Checks the DKIM signatures of a message, and nothing else.
pub async fn signatures(questions: &Questions, sample: &Sample, now: Time) -> Vec<DkimResult> {
    let from = from_domain(&sample.section);
    let fields = Arc::new(HeaderFields::new(sample.section.clone()));
    let dkim = DkimCheck::new(fields, from.as_ref(), now);
    let keys = dkim.keys(&questions.renewed()).await;
    dkim.results(&keys, &sample.body)
}

/// A message as it would come by SMTP: each line ends with CRLF.
pub(crate) fn with_crlf(message: &Bytes) -> Bytes {
    let is_bare = |at: usize| at.checked_sub(1).and_then(|it| message.get(it)) != Some(&b'\r');
    if !memchr::memchr_iter(b'\n', message).any(is_bare) {
        return message.clone();
    }
    let mut changed = BytesMut::with_capacity(message.len() + message.len() / 16);
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(text) => {
                changed.put_slice(text.strip_suffix(b"\r").unwrap_or(text));
                changed.put_slice(b"\r\n");
            }
            None => changed.put_slice(line),
        }
    }
    changed.freeze()
}

#[cfg(test)]
mod tests {
    use postrider_dns::{FakeResolver, Question, Record, RecordType};
    use postrider_smtp::server::{Client, SessionId};

    use super::*;
    use crate::checks::{
        arc::{ArcOutcome, tests::seal_as},
        dkim::{
            DkimOutcome,
            tests::support::{MESSAGE, ed25519, hashes, now, questions, sign, split, zone},
        },
    };

    const CLIENT: &str = "192.0.2.7";
    const TAGS: &str =
        "v=1; a=ed25519-sha256; c=relaxed/simple; d=example.org; s=k; h=from:subject:to:date";

    /// A zone in which the client may send for example.org, and for its name in EHLO.
    fn friendly() -> FakeResolver {
        let fake = zone(&ed25519().record);
        let question = Question::reverse(CLIENT.parse().unwrap());
        fake.add(question.name(), Record::Ptr("mx.example.org".to_owned()));
        fake.add_address("mx.example.org", CLIENT);
        for (name, text) in [
            ("example.org", "v=spf1 ip4:192.0.2.7 ip4:127.0.0.1 -all"),
            ("mx.example.org", "v=spf1 a -all"),
            ("_dmarc.example.org", "v=DMARC1; p=reject"),
        ] {
            fake.add(name, Record::Txt(text.into()));
        }
        fake
    }

    fn examination<'a>(questions: &'a Questions, from: &'a ReversePath) -> Examination<'a> {
        Examination {
            questions,
            client: CLIENT.parse().ok(),
            helo: "mx.example.org",
            mail_from: from,
            trusted: &[],
            any_chain: true,
            now: now(),
        }
    }

    fn sample(text: &str) -> Sample {
        Sample::of(&Bytes::from(text.to_owned()))
    }

    /// All results on one line.
    fn shown(found: &Found) -> String {
        let results = &found.results;
        let dkim = results.dkim.iter().map(|it| it.outcome.as_str());
        let iprev = results.iprev.as_ref().map(|it| it.outcome.as_str());
        let spf = |it: &Option<SpfResult>| {
            let result = it.as_ref().map(|it| {
                let domain = it.domain.as_ref().map(ToString::to_string);
                format!("{} {}", it.outcome, domain.unwrap_or_default())
            });
            result.unwrap_or_default()
        };
        format!(
            "{}, {}, {}, {}, {}",
            iprev.unwrap_or_default(),
            spf(&found.helo),
            spf(&results.spf),
            dkim.collect::<Vec<_>>().join(" "),
            results.dmarc.as_ref().unwrap().outcome.as_str()
        )
    }

    #[tokio::test]
    async fn the_results_are_those_of_a_session() {
        let fake = friendly();
        let questions = questions(&fake);
        let signed = sign(ed25519(), TAGS, MESSAGE);
        for (text, path, expected) in [
            (
                signed.as_str(),
                "<ann@example.org>",
                "pass, pass mx.example.org, pass example.org, pass, pass",
            ),
            (
                &signed.replace("Bob", "Eve"),
                "<>",
                "pass, pass mx.example.org, pass mx.example.org, fail, pass",
            ),
            (
                MESSAGE,
                "<eve@other.test>",
                "pass, pass mx.example.org, none other.test, , fail",
            ),
        ] {
            let path = match path {
                "<>" => ReversePath::Null,
                path => ReversePath::parse(path.trim_matches(['<', '>'])).unwrap(),
            };
            let examination = examination(&questions, &path);
            let found = examination.run_with_helo(&sample(text)).await.unwrap();
            assert_eq!(shown(&found), expected, "{path:?}");
            // A file has lines that end with LF.
            let file = text.replace("\r\n", "\n");
            let of_file = examination.run_with_helo(&sample(&file)).await.unwrap();
            assert_eq!(shown(&of_file), expected);
            // The way of a session.
            let remote = (examination.client.unwrap(), 25).into();
            let client = Client {
                helo: Some("mx.example.org".to_owned()),
                ..Client::new(SessionId::default(), remote, remote)
            };
            let mut checks = MessageChecks::start(questions.renewed(), &client, &path, None);
            let (section, body) = split(text);
            let needs = checks.header(&section, &[], true, now());
            let hashes = hashes(needs.body_forms, &body);
            let checked = checks.results(&hashes, &[], now()).await.unwrap();
            assert_eq!(
                format!("{:?}", checked.results),
                format!("{:?}", found.results)
            );
        }
    }

    #[tokio::test]
    async fn a_client_on_this_machine_is_checked_and_none_is_not() {
        let fake = friendly();
        let questions = questions(&fake);
        let path = ReversePath::parse("ann@example.org").unwrap();
        let of = |client: Option<&str>| Examination {
            client: client.map(|client| client.parse().unwrap()),
            ..examination(&questions, &path)
        };
        let local = of(Some("::ffff:127.0.0.1"));
        let found = local.run_with_helo(&sample(MESSAGE)).await.unwrap();
        let expected = "permerror, fail mx.example.org, pass example.org, , pass";
        assert_eq!(shown(&found), expected);
        let found = of(None).run_with_helo(&sample(MESSAGE)).await.unwrap();
        assert_eq!(shown(&found), ", , , , fail");
    }

    #[tokio::test]
    async fn the_name_in_ehlo_is_checked_on_request() {
        let fake = friendly();
        let questions = questions(&fake);
        let path = ReversePath::parse("ann@example.org").unwrap();
        let name = Question::new("mx.example.org", RecordType::Txt);
        let (examination, sample) = (examination(&questions, &path), sample(MESSAGE));
        examination.run(&sample).await.unwrap();
        assert_eq!(fake.asked(&name), 0);
        examination.run_with_helo(&sample).await.unwrap();
        assert_eq!(fake.asked(&name), 1);
    }

    #[tokio::test]
    async fn a_chain_is_verified_on_request() {
        let fake = friendly();
        let questions = questions(&fake);
        let results = "example.org; spf=pass smtp.mailfrom=a@example.org";
        let sealed = seal_as(MESSAGE, ed25519(), "example.org", results).await;
        let sample = sample(&sealed.unwrap());
        let path = ReversePath::Null;
        let any = examination(&questions, &path);
        let found = any.run(&sample).await.unwrap();
        let arc = found.arc.map(|arc| (arc.outcome, arc.remote_ip));
        assert_eq!(arc, Some((ArcOutcome::Pass, any.client)));
        let trusted = Examination {
            any_chain: false,
            ..any
        };
        assert_eq!(trusted.run(&sample).await.unwrap().arc, None);
    }

    #[tokio::test]
    async fn signatures_are_checked_alone() {
        let fake = friendly();
        let questions = questions(&fake);
        let signed = sign(ed25519(), TAGS, MESSAGE);
        let found = signatures(&questions, &sample(&signed), now()).await;
        let outcomes: Vec<_> = found.iter().map(|it| it.outcome).collect();
        assert_eq!(outcomes, [DkimOutcome::Pass]);
        assert_eq!(questions.asked(), 1);
        assert!(
            signatures(&questions, &sample(MESSAGE), now())
                .await
                .is_empty()
        );
    }

    #[test]
    fn lines_of_a_file_get_the_ends_of_smtp() {
        for (file, expected) in [
            ("A: b\nC: d\n\nHi\nend", "A: b\r\nC: d\r\n\r\nHi\r\nend"),
            ("A: b\r\n\nHi\n", "A: b\r\n\r\nHi\r\n"),
            ("A: b\r\n\r\nHi\r\n", "A: b\r\n\r\nHi\r\n"),
            ("\n", "\r\n"),
            ("", ""),
        ] {
            assert_eq!(with_crlf(&Bytes::from(file)), expected, "{file:?}");
        }
    }

    #[test]
    fn a_message_without_a_body_or_a_header_section_is_read() {
        for text in ["", "a", "\n", "From: a@b.test\n", "\nbody\n"] {
            let sample = sample(text);
            assert!(sample.section.is_empty() || sample.section.ends_with(b"\r\n") || text == "a");
        }
    }
}
