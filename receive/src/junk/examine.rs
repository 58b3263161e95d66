//! The judgement of any message, with its reasons: for administrators and their tools.

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use postrider_dns::Resolver;
use postrider_queue::header::{self, Header};
use postrider_smtp::{Address, ReversePath, mime::Limits};
use postrider_store::{Clock, Store, StoreError};

use super::{
    content::{Content, threshold},
    filter::Filter,
    history::{Basis, History, Opinion},
    senders::Senders,
    verdict::{Acceptance, Doubts, JunkFacts, JunkReason, JunkVerdict, judge},
};
use crate::checks::{
    dkim::DkimOutcome,
    examine::{Examination, Sample, with_crlf},
    questions::Questions,
    results::AuthenticationResults,
    spf::SpfOutcome,
};

/// The least score of a message that is taken for junk.
const JUNK_SCORE: f64 = 5.0;
/// The step between the scores of junk and of other mail.
const STEP: f64 = 0.1;

/// A message, with what is known of the session that brought it.
#[derive(Clone, Debug)]
pub struct Question {
    /// The message. Its beginning is enough for all but signatures. Lines may end with LF alone, as
    /// in files.
    pub message: Bytes,
    /// The account whose filter judges. Empty: the server's own filter.
    pub account: String,
    /// The words count: the account has not turned them off.
    pub words: bool,
    /// The address of the client. None: SPF, DKIM and the like are not checked.
    pub remote: Option<IpAddr>,
    /// The name in EHLO.
    pub helo: Option<String>,
    /// The client used TLS. None: that is not known, and counts as yes.
    pub tls: Option<bool>,
    /// MAIL FROM.
    pub mail_from: ReversePath,
    /// The recipients. Without any, the message counts as addressed to them.
    pub recipients: Vec<Address>,
}

/// One thing that was found out, and what it adds to the score.
#[derive(Clone, Debug, PartialEq)]
pub struct Tag {
    /// The name, such as `SPF_FAIL`.
    pub name: String,
    /// What it adds.
    pub score: f64,
}

/// The judgement of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Examined {
    /// The verdict.
    pub verdict: JunkVerdict,
    /// The sum of all tags. 5 or more means junk.
    pub score: f64,
    /// What was found out. Never a word of the message.
    pub tags: Vec<Tag>,
}

/// The parts of the server that a judgement needs.
#[derive(Clone, Copy)]
#[expect(
    missing_debug_implementations,
    reason = "its parts have nothing to show"
)]
pub struct Examiner<'a> {
    /// The store.
    pub store: &'a Store,
    /// Answers DNS questions.
    pub resolver: &'a Arc<dyn Resolver>,
    /// The clock.
    pub clock: &'a Arc<dyn Clock>,
    /// The limits for reading messages.
    pub limits: Limits,
    /// The probability above which a message is taken for junk.
    pub threshold: f64,
}

impl Examiner<'_> {
    /// Judges a message as it would be judged for an account.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn examine(&self, question: &Question) -> Result<Examined, StoreError> {
        let question = &Question {
            message: with_crlf(&question.message),
            ..question.clone()
        };
        let results = self.results(question).await.unwrap_or_default();
        let header = Header::scan(header::section(&question.message));
        let (mail_from, remote) = (&question.mail_from, question.remote);
        let senders = Senders::of_incoming(header.from(), mail_from, remote, &results);
        let filter = Filter {
            store: self.store,
            limits: self.limits,
        };
        let letter = filter.letter_of(mail_from, &question.message).await?;
        let is_addressed = |address: &Address| letter.is_addressed_to(&address.unicode());
        let recipients = &question.recipients;
        let doubts = Doubts {
            no_tls: question.tls == Some(false),
            not_addressed: !recipients.is_empty() && !recipients.iter().any(is_addressed),
            ..Doubts::of_client(&results)
        };
        let account = &question.account;
        let today = self.clock.now().day();
        let probability = match question.words {
            true => filter.probability(account, &letter.tokens).await?,
            false => None,
        };
        let facts = JunkFacts {
            trusted: false,
            history: filter.history(account, &senders, today).await?.history,
            good_domain_passes: false,
            author_validated: senders.author.as_ref().is_some_and(|it| it.validated),
            forwarded: false,
            spf: results.spf.as_ref().map(|spf| spf.outcome),
            doubts,
            content: probability.map(|probability| Content {
                probability,
                threshold: threshold(self.threshold, doubts.lower_the_threshold()),
            }),
            listed: None,
        };
        Ok(report(&facts, &results))
    }

    /// Checks SPF, DKIM, DMARC and iprev. None: there is no client to check.
    async fn results(&self, question: &Question) -> Option<AuthenticationResults> {
        let remote = question.remote?;
        let questions = Questions::new(Arc::clone(self.resolver), Arc::clone(self.clock));
        let examination = Examination {
            questions: &questions,
            // A client on this machine passes on the mail of others.
            client: (!remote.to_canonical().is_loopback()).then_some(remote),
            helo: question.helo.as_deref().unwrap_or_default(),
            mail_from: &question.mail_from,
            trusted: &[],
            any_chain: false,
            now: self.clock.now(),
        };
        examination.run(&Sample::of(&question.message)).await
    }
}

/// The verdict about facts, with its reasons. The score is that of the content filter. If something
/// else decides, its tag adds what lacks.
fn report(facts: &JunkFacts, results: &AuthenticationResults) -> Examined {
    let verdict = judge(facts);
    let mut tags = Vec::new();
    let mut add = |name: String, score| tags.push(Tag { name, score });
    let content = facts.content.map_or(0.0, Content::score);
    let is_junk = !matches!(verdict, JunkVerdict::Accept(_));
    let lacking = match (is_junk, content >= JUNK_SCORE) {
        (true, false) => JUNK_SCORE - content,
        (false, true) => JUNK_SCORE - STEP - content,
        _ => 0.0,
    };
    let by_spf = verdict == JunkVerdict::Junk(JunkReason::SpfFails);
    let by_content = matches!(
        verdict,
        JunkVerdict::Junk(JunkReason::Content)
            | JunkVerdict::Refuse(JunkReason::CertainContent)
            | JunkVerdict::Accept(Acceptance::Unsure | Acceptance::Stranger)
    );
    if let Some(spf) = facts.spf {
        let score = if by_spf { lacking } else { 0.0 };
        add(format!("SPF_{}", spf_name(spf)), score);
    }
    let dkim = results.dkim.iter().map(|result| result.outcome);
    let dkim = dkim.min_by_key(|outcome| *outcome != DkimOutcome::Pass);
    if let Some(dkim) = dkim {
        add(format!("DKIM_{}", dkim.as_str().to_uppercase()), 0.0);
    }
    if let Some(dmarc) = &results.dmarc {
        let outcome = dmarc.outcome.as_str().to_uppercase();
        add(format!("DMARC_{outcome}"), 0.0);
    }
    if let Some(iprev) = &results.iprev {
        let outcome = iprev.outcome.as_str().to_uppercase();
        add(format!("IPREV_{outcome}"), 0.0);
    }
    if facts.doubts.no_tls {
        add("NO_TLS".to_owned(), 0.0);
    }
    if facts.doubts.not_addressed {
        add("NOT_ADDRESSED".to_owned(), 0.0);
    }
    let score = if by_spf || by_content { 0.0 } else { lacking };
    add(reputation(facts.history).to_owned(), score);
    if facts.content.is_some() {
        let score = if by_content {
            content + lacking
        } else {
            content
        };
        add("BAYES".to_owned(), score);
    }
    Examined {
        verdict,
        score: tags.iter().map(|tag| tag.score).sum(),
        tags,
    }
}

fn reputation(history: History) -> &'static str {
    match (history.basis, history.opinion) {
        (Basis::Nothing, _) => "REPUTATION_NONE",
        (_, Opinion::Good) => "REPUTATION_GOOD",
        (_, Opinion::Junk) => "REPUTATION_JUNK",
        (_, Opinion::Open) => "REPUTATION_OPEN",
    }
}

fn spf_name(outcome: SpfOutcome) -> String {
    outcome.as_str().to_uppercase()
}

#[cfg(test)]
mod tests {
    use postrider_dns::{FakeResolver, Record};
    use postrider_store::{ManualClock, Time};

    use super::*;

    fn examiner<'a>(
        store: &'a Store,
        resolver: &'a Arc<dyn Resolver>,
        clock: &'a Arc<dyn Clock>,
    ) -> Examiner<'a> {
        Examiner {
            store,
            resolver,
            clock,
            limits: Limits::default(),
            threshold: 0.95,
        }
    }

    fn facts() -> JunkFacts {
        JunkFacts {
            spf: Some(SpfOutcome::Fail),
            content: Some(Content {
                probability: 0.5,
                threshold: 0.95,
            }),
            ..JunkFacts::of_stranger()
        }
    }

    fn check(facts: &JunkFacts, score: f64, tags: &[(&str, f64)]) {
        let found = report(facts, &AuthenticationResults::default());
        let close = |a: f64, b: f64| (a - b).abs() < 0.005;
        assert!(close(found.score, score), "{found:?}");
        let same =
            found.tags.len() == tags.len()
                && found.tags.iter().zip(tags).all(|(found, (name, score))| {
                    found.name == *name && close(found.score, *score)
                });
        assert!(same, "{found:?}");
    }

    #[test]
    fn the_sum_of_the_tags_says_what_the_verdict_says() {
        // ln(0.95 / 0.05) is 2.944.
        let strange = &[
            ("SPF_FAIL", 2.944),
            ("REPUTATION_NONE", 0.0),
            ("BAYES", 2.056),
        ];
        check(&facts(), 5.0, strange);
        let mut pass = facts();
        pass.spf = Some(SpfOutcome::Pass);
        let quiet = &[
            ("SPF_PASS", 0.0),
            ("REPUTATION_NONE", 0.0),
            ("BAYES", 2.056),
        ];
        check(&pass, 2.056, quiet);
        let mut words = pass;
        words.content = Some(Content {
            probability: 0.999,
            threshold: 0.95,
        });
        let by_words = &[
            ("SPF_PASS", 0.0),
            ("REPUTATION_NONE", 0.0),
            ("BAYES", 8.962),
        ];
        check(&words, 8.962, by_words);
        // A good sender may use the words of junk.
        words.history = History {
            basis: Basis::Author,
            opinion: Opinion::Good,
            conclusive: true,
        };
        let good = &[
            ("SPF_PASS", 0.0),
            ("REPUTATION_GOOD", -4.062),
            ("BAYES", 8.962),
        ];
        check(&words, 4.9, good);
        words.history.opinion = Opinion::Junk;
        words.content = None;
        let junk = &[("SPF_PASS", 0.0), ("REPUTATION_JUNK", 5.0)];
        check(&words, 5.0, junk);
    }

    /// The same words, with Return-Path and in lines of a file, as in the mailbox.
    #[tokio::test]
    async fn the_words_are_those_of_a_delivery_and_an_account_may_turn_them_off() {
        let store = Store::memory();
        let filter = Filter {
            store: &store,
            limits: Limits::default(),
        };
        let path = ReversePath::Mailbox("bounce@cheap.test".parse().unwrap());
        let message = Bytes::from("Subject: plain\n\nHi\n");
        let letter = filter.letter_of(&path, &with_crlf(&message)).await.unwrap();
        for (junk, count) in [(true, 20), (false, 50)] {
            let tokens = if junk { letter.tokens.clone() } else { vec![1] };
            for _ in 0..count {
                let learnt = store.train_junk("ann", tokens.clone(), junk, Time(0));
                learnt.await.unwrap();
            }
        }
        let resolver: Arc<dyn Resolver> = Arc::new(FakeResolver::default());
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Time(0)));
        let examiner = examiner(&store, &resolver, &clock);
        let mut question = Question {
            message,
            account: "ann".into(),
            words: true,
            remote: None,
            helo: None,
            tls: None,
            mail_from: path,
            recipients: Vec::new(),
        };
        let judged = examiner.examine(&question).await.unwrap();
        assert_eq!(judged.verdict, JunkVerdict::Junk(JunkReason::Content));
        question.words = false;
        let judged = examiner.examine(&question).await.unwrap();
        assert_eq!(judged.verdict, JunkVerdict::Accept(Acceptance::Stranger));
    }

    #[tokio::test]
    async fn a_message_is_checked_if_its_client_is_known() {
        let store = Store::memory();
        let dns = FakeResolver::default();
        dns.add("sender.test", Record::Txt(b"v=spf1 -all".to_vec()));
        let resolver: Arc<dyn Resolver> = Arc::new(dns);
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Time(86_400_000_000)));
        let examiner = examiner(&store, &resolver, &clock);
        let question = Question {
            message: "From: a@sender.test\r\nTo: b@x.example\r\n\r\nHi\r\n".into(),
            account: "ann".into(),
            words: true,
            remote: None,
            helo: None,
            tls: None,
            mail_from: ReversePath::Mailbox("a@sender.test".parse().unwrap()),
            recipients: Vec::new(),
        };
        let names = |examined: Examined| -> Vec<String> {
            examined.tags.into_iter().map(|tag| tag.name).collect()
        };
        let alone = examiner.examine(&question).await.unwrap();
        assert_eq!(alone.verdict, JunkVerdict::Accept(Acceptance::Stranger));
        assert_eq!(names(alone), ["REPUTATION_NONE"]);
        let session = Question {
            remote: Some([192, 0, 2, 1].into()),
            tls: Some(false),
            recipients: vec!["c@x.example".parse().unwrap()],
            ..question
        };
        let checked = examiner.examine(&session).await.unwrap();
        assert_eq!(checked.verdict, JunkVerdict::Junk(JunkReason::SpfFails));
        assert_eq!(checked.score, 5.0);
        assert_eq!(
            names(checked),
            [
                "SPF_FAIL",
                "DMARC_NONE",
                "IPREV_PERMERROR",
                "NO_TLS",
                "NOT_ADDRESSED",
                "REPUTATION_NONE"
            ]
        );
    }
}
