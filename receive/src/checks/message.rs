//! All checks of one message, from MAIL to the end of its text.
//!
//! | when | what starts |
//! |---|---|
//! | the connection | iprev |
//! | MAIL | SPF, and the question for the DMARC record of the sender's domain |
//! | the header section is whole | the questions for the keys of signatures, and the walk of DMARC |
//! | the end of the text | the comparison of the signatures, then DMARC, then ARC |
//!
//! A client on this machine passes on the mail of others. So iprev and SPF are not checked for it.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use postrider_observe::metrics::TimedCheck;
use postrider_smtp::{Domain, Host, ReversePath, canonical::Form, server::Client};
use postrider_store::Time;

use super::{
    arc::{ArcChain, ArcOutcome, ArcResult},
    background::Background,
    dkim::{BodyForms, BodyHashes, DkimCheck, DkimOutcome, DkimResult, HeaderFields, Keys},
    dmarc::{self, Aligned, Alignment, DmarcInput, DmarcOutcome, Identifier, Records},
    early::{ClientCheck, EarlyChecks, Peer, early_checks},
    from::from_domain,
    iprev::IprevResult,
    questions::{Questions, Took},
    results::AuthenticationResults,
    sender::{SenderDomain, sender_domain},
    spf::{SpfCheck, SpfResult},
};

/// The checks of a message under way. They end when this value is dropped, as by RSET.
#[derive(Debug)]
pub(crate) struct MessageChecks {
    questions: Questions,
    /// None for a client on this machine.
    client: Option<IpAddr>,
    /// None for a client on this machine.
    early: Option<EarlyChecks>,
    /// The DMARC records that are asked for. None for a null reverse-path before the header section
    /// is whole.
    records: Option<Background<Records>>,
    /// The domain of the From field. None before the header section is whole, and without exactly
    /// one domain.
    from: Option<Domain>,
    /// None before the header section is whole, and without signatures.
    signatures: Option<Signatures>,
    /// None before the header section is whole, and if nothing needs the chain.
    arc: Option<ArcChain>,
    /// The message may be forwarded.
    forwards: bool,
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
    /// Starts the checks of a message. `known` is the check that began with the session of the
    /// client.
    pub(crate) fn start(
        questions: Questions,
        client: &Client,
        reverse_path: &ReversePath,
        known: Option<&ClientCheck>,
    ) -> Self {
        Self::of_peer(questions, Peer::of(client), reverse_path, known)
    }

    /// The same for a client of which only this is known. None: iprev and SPF are not checked.
    pub(super) fn of_peer(
        questions: Questions,
        peer: Option<Peer<'_>>,
        reverse_path: &ReversePath,
        known: Option<&ClientCheck>,
    ) -> Self {
        let sender = reverse_path.address();
        let sender = sender.and_then(|sender| sender.host.domain()).cloned();
        let records = sender.map(|sender| {
            let questions = questions.clone();
            Background::start(async move {
                let asked = Records::default().and_of(&questions, &sender);
                questions.timed(TimedCheck::Dmarc, asked).await
            })
        });
        Self {
            early: peer.map(|peer| early_checks(&questions, peer, reverse_path, known)),
            records,
            questions,
            client: peer.map(|peer| peer.address),
            from: None,
            signatures: None,
            arc: None,
            forwards: false,
        }
    }

    /// The client is on this machine.
    pub(crate) const fn is_of_this_machine(&self) -> bool {
        self.early.is_none()
    }

    /// What DNS says about the domain of the sender.
    pub(crate) async fn sender_domain(&self, host: &Host) -> SenderDomain {
        sender_domain(&self.questions, host).await
    }

    /// The results for the client and the sender that are there by now, or within this time.
    pub(crate) async fn early(
        &mut self,
        time: Duration,
    ) -> (Option<&IprevResult>, Option<&SpfResult>) {
        let late = self.questions.sleep(time);
        let early = match &mut self.early {
            Some(early) => early.results.before(late).await,
            None => None,
        };
        early.map(|(iprev, spf)| (iprev, spf)).unzip()
    }

    /// Takes the whole header section, as it came. A signature may cover fields that are removed
    /// later. An ARC chain counts only with a seal of a trusted domain, or if the message may be
    /// forwarded.
    pub(crate) fn header(
        &mut self,
        section: &Bytes,
        trusted: &[Domain],
        forwards: bool,
        now: Time,
    ) -> Needs {
        self.forwards = forwards;
        self.from = from_domain(section);
        let fields = Arc::new(HeaderFields::new(section.clone()));
        if forwards || !trusted.is_empty() {
            let chain = ArcChain::new(Arc::clone(&fields));
            let is_trusted = chain.sealers().any(|sealer| trusted.contains(sealer));
            self.arc = (forwards || is_trusted).then_some(chain);
        }
        let dkim = DkimCheck::new(fields, self.from.as_ref(), now);
        let arc_forms = self.arc.as_ref().map(ArcChain::body_forms);
        let is_kept = self.arc.is_some() || !dkim.is_empty();
        let mut body_forms = dkim.body_forms().and(arc_forms.unwrap_or_default());
        if forwards {
            // Our own seal has this form.
            body_forms.add(Form::Relaxed);
        }
        let needs = Needs {
            body_forms,
            kept: if is_kept { section.len() } else { 0 },
        };
        if let Some(from) = self.from.clone() {
            let (earlier, questions) = (self.records.take(), self.questions.renewed());
            self.records = Some(Background::start(async move {
                let known = records(earlier).await;
                let asked = known.and_above(&questions, &from);
                questions.timed(TimedCheck::Dmarc, asked).await
            }));
        }
        if !dkim.is_empty() {
            let dkim = Arc::new(dkim);
            // The time that the text took so far is no time of these questions.
            let questions = self.questions.renewed();
            let check = Arc::clone(&dkim);
            let keys = Background::start(async move {
                let asked = check.keys(&questions);
                questions.timed(TimedCheck::Dkim, asked).await
            });
            self.signatures = Some(Signatures { dkim, keys });
        }
        needs
    }

    /// Waits for the results of a message with this body. All questions that are open now, or asked
    /// from now on, end at one deadline at the latest. None if a check broke off.
    pub(crate) async fn results(
        self,
        body: &BodyHashes,
        trusted: &[Domain],
        now: Time,
    ) -> Option<Checked> {
        let questions = self.questions.renewed();
        let (early, spf_check) = self.early.map(|it| (it.results, it.spf)).unzip();
        let (iprev, spf) = match early {
            Some(early) => Some(early.result().await?).unzip(),
            None => (None, None),
        };
        let dkim = match self.signatures {
            Some(signatures) => signatures.results(body).await?,
            None => Vec::new(),
        };
        let with = |outcome| -> Vec<Domain> {
            let results = dkim.iter().filter(|result| result.outcome == outcome);
            results.filter_map(|result| result.domain.clone()).collect()
        };
        let input = DmarcInput {
            spf: spf.as_ref(),
            dkim_passed: &with(DkimOutcome::Pass),
            dkim_unanswered: &with(DkimOutcome::TempError),
        };
        let known = match &self.from {
            Some(from) => Some((records(self.records).await, from)),
            None => None,
        };
        let check = async {
            let mut alignment = match known {
                Some((known, from)) => Some(Alignment::new(&questions, known, from).await),
                None => None,
            };
            let dmarc = dmarc::check(input, alignment.as_mut()).await;
            (alignment, dmarc)
        };
        let (mut alignment, dmarc) = questions.timed(TimedCheck::Dmarc, check).await;
        // Last, so that a long chain takes no questions from the others.
        let (mut arc, mut vouching, mut forward) = (None, Vouching::default(), None);
        if let Some(chain) = self.arc {
            let verify = chain.verify(&questions, body, now);
            let verified = questions.timed(TimedCheck::Arc, verify).await;
            // What did not fail needs nobody.
            if let (DmarcOutcome::Fail, Some(alignment)) = (dmarc.outcome, &mut alignment) {
                vouching = vouches(&chain, &verified, alignment, trusted).await;
            }
            // A message without a chain has no result.
            arc = (verified.outcome != ArcOutcome::None).then(|| ArcResult {
                remote_ip: self.client,
                ..verified.clone()
            });
            forward = self.forwards.then_some(ForwardChain {
                arc: chain,
                verified,
            });
        }
        let results = AuthenticationResults {
            arc,
            arc_vouches: vouching.vouches,
            arc_may_vouch: vouching.may_vouch,
            iprev,
            spf,
            dkim,
            dmarc: Some(dmarc),
        };
        Some(Checked {
            results,
            chain: forward,
            spf: spf_check,
            took: questions.took(),
        })
    }
}

/// What the checks of a message found.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    pub(crate) results: AuthenticationResults,
    /// The chain that our seal goes on. None if the message is not forwarded.
    pub(crate) chain: Option<ForwardChain>,
    /// The check of SPF, for its explanation. None if it was not made.
    pub(crate) spf: Option<SpfCheck>,
    /// How long the checks took.
    pub(crate) took: Took,
}

/// The records that were asked for, if anything did.
async fn records(asked: Option<Background<Records>>) -> Records {
    match asked {
        Some(asked) => asked.result().await.unwrap_or_default(),
        None => Records::default(),
    }
}

/// The ARC chain of a message that may be forwarded. It may have no sets.
#[derive(Debug)]
pub(crate) struct ForwardChain {
    pub(crate) arc: ArcChain,
    pub(crate) verified: ArcResult,
}

/// The trusted domains that say by their seals that a message passed.
#[derive(Debug, Default)]
struct Vouching {
    vouches: Option<Domain>,
    /// There is no answer for now about the chain, or about which domains are aligned.
    may_vouch: Option<Domain>,
}

/// The trusted domain that says by its seal that a message of this author passed. SPF and DKIM
/// count for aligned domains, as they do for DMARC.
async fn vouches(
    chain: &ArcChain,
    result: &ArcResult,
    alignment: &mut Alignment<'_>,
    trusted: &[Domain],
) -> Vouching {
    let is_trusted = |sealer: &Domain| trusted.contains(sealer);
    if !matches!(result.outcome, ArcOutcome::Pass | ArcOutcome::TempError) {
        return Vouching::default();
    }
    let (mut aligned, mut open) = (Vec::new(), Vec::new());
    for (identifier, domain) in chain.passed(&is_trusted) {
        match alignment.of(identifier, &domain).await {
            Aligned::Yes => aligned.push((identifier, domain)),
            Aligned::Unanswered => open.push((identifier, domain)),
            Aligned::No => {}
        }
    }
    let from = alignment.from();
    let vouching = |aligned: &[(Identifier, Domain)]| {
        let is_aligned =
            |kind, domain: &Domain| aligned.iter().any(|it| (it.0, &it.1) == (kind, domain));
        let set = chain.vouching_set(result, from, &is_trusted, &is_aligned)?;
        let index = usize::try_from(set).ok()?.checked_sub(1)?;
        chain.sealers().nth(index).cloned()
    };
    let vouches = vouching(&aligned).filter(|_| result.outcome == ArcOutcome::Pass);
    aligned.append(&mut open);
    let may_vouch = match vouches {
        Some(_) => None,
        None => vouching(&aligned),
    };
    Vouching { vouches, may_vouch }
}

impl Signatures {
    async fn results(self, body: &BodyHashes) -> Option<Vec<DkimResult>> {
        let keys = self.keys.result().await?;
        Some(self.dkim.results(&keys, body))
    }
}
