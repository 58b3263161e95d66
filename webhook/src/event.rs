//! Which events an account is told of: the one place where a webhook call comes into being.

use postrider_config::{Account, WebhookEvent};
use postrider_store::{Event, NewHook, NewHookKind, NewMail, OutgoingEvent};

/// The call that tells of what became of a sent message; None if the account does not want to be told.
///
/// It is due when the event was made, so at once.
#[must_use]
pub fn outgoing(account_name: &str, account: &Account, outgoing: OutgoingEvent) -> Option<NewHook> {
    let webhook = account.outgoing_webhook.as_ref()?;
    if !webhook.wants(configured(outgoing.event)?) {
        return None;
    }
    let made = outgoing.queued;
    Some(NewHook {
        account: account_name.to_owned(),
        url: webhook.url.clone(),
        authorization: webhook.authorization.clone(),
        kind: NewHookKind::Outgoing(outgoing),
        submitted: made,
        next_attempt: made,
    })
}

/// The call that tells of a received message, which is at `mail_index` of the unit that brings both; None if the account
/// does not want to be told. It is as old as the message: by that a call that tells of it again is known.
#[must_use]
pub fn incoming(mail: &NewMail, account: &Account, mail_index: u32) -> Option<NewHook> {
    let webhook = account.incoming_webhook.as_ref()?;
    Some(NewHook {
        account: mail.account.clone(),
        url: webhook.url.clone(),
        authorization: webhook.authorization.clone(),
        kind: NewHookKind::Incoming(mail_index),
        submitted: mail.received,
        next_attempt: mail.received,
    })
}

/// The configuration's word for an event; None for one that webhooks do not tell.
const fn configured(event: Event) -> Option<WebhookEvent> {
    Some(match event {
        Event::Delivered => WebhookEvent::Delivered,
        Event::Suppressed => WebhookEvent::Suppressed,
        Event::Delayed => WebhookEvent::Delayed,
        Event::Failed => WebhookEvent::Failed,
        Event::Relayed => WebhookEvent::Relayed,
        Event::Expanded => WebhookEvent::Expanded,
        Event::Canceled => WebhookEvent::Canceled,
        Event::Unrecognized => WebhookEvent::Unrecognized,
        Event::Unsubscribed => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_the_same_names_in_the_configuration() {
        for event in Event::ALL {
            let known = event != Event::Unsubscribed;
            let name = configured(event).map(WebhookEvent::as_str);
            assert_eq!(name, known.then_some(event.name()));
        }
    }
}
