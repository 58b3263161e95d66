//! The conversation of one session with a milter.
//!
//! A milter hears all stages in their order. A session may have its conditions fulfilled late, when
//! the sender or the recipient is known. Then the milter hears first what came before.

use postrider_config::{HookStage, Milter, Static};

use super::{
    answer::{Answer, Failure, Vote},
    asked::Asked,
    milter::MilterConnection,
};

/// A conversation with a milter, as far as it is.
#[derive(Debug)]
pub(super) struct Replayed {
    milter: Milter,
    /// The most bytes of a body that the milter may give.
    body_max: usize,
    connection: Option<Box<MilterConnection>>,
    /// The last stage that the milter heard.
    heard: Option<HookStage>,
    /// A transaction ended, and the milter was not told yet.
    is_over: bool,
}

impl Replayed {
    /// No conversation yet.
    pub(super) fn new(milter: &Milter, statics: &Static) -> Self {
        let sizes = statics.listeners.values();
        let largest = sizes.map(|listener| listener.max_message_size.0).max();
        let largest = usize::try_from(largest.unwrap_or_default());
        Self {
            milter: milter.clone(),
            body_max: largest.unwrap_or(usize::MAX),
            connection: None,
            heard: None,
            is_over: false,
        }
    }

    /// No conversation yet, about another client.
    pub(super) fn anew(self) -> Self {
        Self {
            connection: None,
            heard: None,
            is_over: false,
            ..self
        }
    }

    /// Connects to the milter and negotiates. Then the conversation is over.
    pub(super) async fn reach(&self) -> Result<(), Failure> {
        let opened = MilterConnection::connect(&self.milter, self.body_max).await?;
        opened.quit().await;
        Ok(())
    }

    /// The transaction is over.
    pub(super) fn reset(&mut self) {
        self.is_over = matches!(self.heard, Some(HookStage::Mail | HookStage::Rcpt));
        if matches!(
            self.heard,
            Some(HookStage::Mail | HookStage::Rcpt | HookStage::Data)
        ) {
            self.heard = Some(HookStage::Ehlo);
        }
    }

    /// Asks the milter, after all that it has to hear before. A failure ends the conversation.
    pub(super) async fn ask(&mut self, asked: &Asked<'_>) -> Result<Answer, Failure> {
        let answer = self.try_ask(asked).await;
        if answer.is_err() {
            self.connection = None;
            self.heard = None;
            self.is_over = false;
        }
        answer
    }

    async fn try_ask(&mut self, asked: &Asked<'_>) -> Result<Answer, Failure> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                let opened = MilterConnection::connect(&self.milter, self.body_max).await?;
                self.connection.insert(Box::new(opened))
            }
        };
        if std::mem::take(&mut self.is_over) {
            connection.abort().await;
        }
        for stage in before(asked.stage, self.heard) {
            for earlier in at_stage(asked, stage) {
                let answer = connection.ask(&earlier).await?;
                self.heard = Some(stage);
                if !matches!(answer.vote, Vote::Accept) {
                    return Ok(answer);
                }
            }
        }
        let answer = connection.ask(asked).await?;
        self.heard = Some(asked.stage);
        Ok(answer)
    }
}

/// The stages of a milter, in their order.
const STAGES: [HookStage; 5] = [
    HookStage::Connect,
    HookStage::Ehlo,
    HookStage::Mail,
    HookStage::Rcpt,
    HookStage::Data,
];

fn place(stage: HookStage) -> Option<usize> {
    STAGES.iter().position(|known| *known == stage)
}

/// The stages that a milter has to hear before this one.
fn before(stage: HookStage, heard: Option<HookStage>) -> impl Iterator<Item = HookStage> {
    let from = heard.and_then(place).map_or(0, |heard| heard + 1);
    let to = place(stage).unwrap_or(0);
    STAGES.into_iter().take(to).skip(from)
}

/// The questions of an earlier stage, as they would have been asked then.
fn at_stage<'a>(asked: &Asked<'a>, stage: HookStage) -> Vec<Asked<'a>> {
    let recipients = asked.to();
    let plain = Asked {
        stage,
        recipients: &[],
        draft: None,
        added: &[],
        mail: None,
        ..*asked
    };
    let mail = asked.draft.map(|draft| &draft.mail).or(asked.mail);
    match stage {
        HookStage::Connect => vec![Asked {
            helo: None,
            ..plain
        }],
        HookStage::Ehlo | HookStage::Auth => vec![plain],
        HookStage::Mail => vec![Asked { mail, ..plain }],
        HookStage::Rcpt | HookStage::Data => (1..=recipients.len())
            .filter_map(|count| recipients.get(..count))
            .map(|recipients| Asked {
                mail,
                recipients,
                ..plain
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_milter_hears_what_it_missed() {
        use HookStage::{Connect, Data, Ehlo, Mail, Rcpt};
        for (stage, heard, expected) in [
            (Connect, None, [].as_slice()),
            (Ehlo, None, &[Connect]),
            (Mail, None, &[Connect, Ehlo]),
            (Rcpt, Some(Connect), &[Ehlo, Mail]),
            (Rcpt, Some(Rcpt), &[]),
            (Data, Some(Mail), &[Rcpt]),
            (Data, None, &[Connect, Ehlo, Mail, Rcpt]),
            // A second EHLO.
            (Ehlo, Some(Ehlo), &[]),
        ] {
            let missed: Vec<HookStage> = before(stage, heard).collect();
            assert_eq!(missed, expected, "{stage:?} after {heard:?}");
        }
    }
}
