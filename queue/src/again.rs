//! Messages of the history that are sent again.

use postrider_store::{
    Accept, Common, NewMessage, NewRecipient, QueueId, Queued, Store, StoreError, TextSource,
    Urgency,
};

use crate::{Queue, add::UniquePath, route};

impl Queue {
    /// Sends a message again, to the same recipient: a new message with the same text, due at once.
    /// Its reverse-path has a new fromid if the old one has one. `store` makes the change.
    ///
    /// # Errors
    /// [`StoreError::NoText`] if no record refers to the text any more, and the errors of the
    /// store.
    pub async fn send_again(&self, store: &Store, message: &Queued) -> Result<QueueId, StoreError> {
        let now = self.clock.now();
        let (reverse_path, from_id) = match unique(message) {
            Some(path) => path.with_id(&mut *self.rng(), now),
            None => (message.reverse_path.clone(), String::new()),
        };
        let common = Common {
            queued: now,
            future_release: String::new(),
            urgency: Urgency {
                deadline: None,
                ..message.common.urgency
            },
            ..Common::clone(&message.common)
        };
        let recipient = NewRecipient {
            reverse_path,
            from_id,
            recipient: message.recipient.clone(),
            notify: message.notify,
            orcpt: message.orcpt.clone(),
            transport: String::new(),
            route: String::new(),
            hold: false,
            next_attempt: now,
        };
        let mut again = NewMessage {
            common,
            top: message.top.clone(),
            text: TextSource::Existing(message.text),
            recipients: vec![recipient],
        };
        route::note(&mut again, &self.config.load());
        let accept = Accept {
            queue: vec![again],
            ..Accept::default()
        };
        let accepted = store.accept(accept).await?;
        self.see_new_holds(&accepted.queue).await;
        let missing = || StoreError::Bug("a message was accepted without a number".to_owned());
        accepted.queue.first().copied().ok_or_else(missing)
    }
}

/// How the message's own fromid stands in its reverse-path. None: it has none.
fn unique(message: &Queued) -> Option<UniquePath> {
    let address = message.reverse_path.address()?;
    let id = Some(message.from_id.as_str()).filter(|id| !id.is_empty())?;
    let stem = address.local.as_str().strip_suffix(id)?;
    Some(UniquePath {
        stem: stem.to_owned(),
        host: address.host.clone(),
    })
}
