//! All checks of one message, from MAIL to the end of its text.
//!
//! | when | what starts |
//! |---|---|
//! | MAIL | iprev and SPF |
//! | the header section is whole | the questions for the keys of its signatures |
//! | the end of the text | the comparison of the signatures, then DMARC |

use std::sync::Arc;

use bytes::Bytes;
use postrider_smtp::{Domain, ReversePath, server::Client};
use postrider_store::Time;

use super::{
    background::Background,
    dkim::{BodyForms, BodyHashes, DkimCheck, DkimOutcome, DkimResult, HeaderFields, Keys},
    dmarc::{DmarcInput, dmarc},
    early::{EarlyChecks, early_checks},
    from::from_domain,
    questions::Questions,
    results::AuthenticationResults,
};

/// The checks of a message under way. They end when this value is dropped, as by RSET.
#[derive(Debug)]
pub(crate) struct MessageChecks {
    questions: Questions,
    early: EarlyChecks,
    /// The domain of the From field. None before the header section is whole, and without exactly
    /// one domain.
    from: Option<Domain>,
    /// None before the header section is whole, and without signatures.
    signatures: Option<Signatures>,
}

/// The signatures of a message.
#[derive(Debug)]
struct Signatures {
    dkim: Arc<DkimCheck>,
    keys: Background<Keys>,
}

/// What the checks need from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// The forms in which the body has to be hashed.
    pub(crate) body_forms: BodyForms,
    /// How many bytes of the header section they hold in memory.
    pub(crate) kept: usize,
}

impl MessageChecks {
    /// Starts the checks of a message. None for a client that is not checked.
    pub(crate) fn start(
        questions: Questions,
        client: &Client,
        reverse_path: &ReversePath,
    ) -> Option<Self> {
        Some(Self {
            early: early_checks(&questions, client, reverse_path)?,
            questions,
            from: None,
            signatures: None,
        })
    }

    /// Takes the whole header section, as it came. A signature may cover fields that are removed
    /// later.
    pub(crate) fn header(&mut self, section: &Bytes, now: Time) -> Needs {
        self.from = from_domain(section);
        let fields = Arc::new(HeaderFields::new(section.clone()));
        let dkim = DkimCheck::new(fields, self.from.as_ref(), now);
        if dkim.is_empty() {
            return Needs::default();
        }
        let needs = Needs {
            body_forms: dkim.body_forms(),
            kept: section.len(),
        };
        let dkim = Arc::new(dkim);
        // The time that the text took so far is no time of these questions.
        let questions = self.questions.renewed();
        let check = Arc::clone(&dkim);
        let keys = Background::start(async move { check.keys(&questions).await });
        self.signatures = Some(Signatures { dkim, keys });
        needs
    }

    /// Waits for the results of a message with this body. All questions that are open now, or asked
    /// from now on, end at one deadline at the latest. None if a check broke off.
    pub(crate) async fn results(self, body: &BodyHashes) -> Option<AuthenticationResults> {
        let questions = self.questions.renewed();
        let (iprev, spf) = self.early.result().await?;
        let dkim = match self.signatures {
            Some(signatures) => signatures.results(body).await?,
            None => Vec::new(),
        };
        let with = |outcome| -> Vec<Domain> {
            let results = dkim.iter().filter(|result| result.outcome == outcome);
            results.filter_map(|result| result.domain.clone()).collect()
        };
        let input = DmarcInput {
            from: self.from.as_ref(),
            spf: Some(&spf),
            dkim_passed: &with(DkimOutcome::Pass),
            dkim_unanswered: &with(DkimOutcome::TempError),
        };
        let dmarc = dmarc(&questions, input).await;
        Some(AuthenticationResults {
            iprev: Some(iprev),
            spf: Some(spf),
            dkim,
            dmarc: Some(dmarc),
            ..AuthenticationResults::default()
        })
    }
}

impl Signatures {
    async fn results(self, body: &BodyHashes) -> Option<Vec<DkimResult>> {
        let keys = self.keys.result().await?;
        Some(self.dkim.results(&keys, body))
    }
}
