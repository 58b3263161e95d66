//! The explanation of a failure (RFC 7208 §6.2).
//!
//! It is asked for only if the failure is told to the client. A stranger wrote it, so it is short,
//! and it stands behind the name of the stranger's domain.

use postrider_store::Time;

use super::{
    SpfCheck, SpfResult,
    evaluate::Evaluation,
    macros::{MacroString, Use, Values},
};

/// The longest explanation in bytes. The rest of a longer one is left out.
const EXPLANATION_MAX: usize = 200;

impl SpfCheck {
    /// The explanation of a failure, for the reply that refuses the mail: `example.net explains:`
    /// and the text of the domain. `receiver` is our host name, `now` the time. None without an
    /// explanation, and if it can't be had.
    ///
    /// Asks one question, and more only if the explanation has a name of the client in it.
    pub async fn explain(&self, result: &SpfResult, receiver: &str, now: Time) -> Option<String> {
        let domain = result.domain.as_ref()?;
        let text = self.explanation(result, receiver, now).await?;
        Some(format!("{domain} explains: {text}"))
    }

    pub(super) async fn explanation(
        &self,
        result: &SpfResult,
        receiver: &str,
        now: Time,
    ) -> Option<String> {
        let at = result.explanation.as_ref()?;
        let sender_domain = result.domain.as_ref()?.ascii();
        let mut evaluation = Evaluation::new(self, &at.local_part, sender_domain);
        let name = evaluation.name(&at.name, &at.domain).await?;
        let answer = self.questions.ask(|dns| dns.txt(&name)).await.ok()?;
        let [text] = answer.records.as_slice() else {
            return None;
        };
        let text = MacroString::parse(str::from_utf8(text).ok()?, Use::Explanation).ok()?;
        let validated_name = evaluation.validated_name_for(&text, &at.domain).await;
        let mut text = text.expand(&Values {
            receiver,
            now: now.timestamp().as_second(),
            ..evaluation.values(&at.domain, &validated_name)
        });
        let printable = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
        if text.trim().is_empty() || !text.bytes().all(printable) {
            return None;
        }
        text.truncate(EXPLANATION_MAX);
        Some(text)
    }
}
