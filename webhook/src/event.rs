//! Makes the webhook calls for events. No call is made anywhere else.

use postrider_config::{Account, WebhookEvent};
use postrider_smtp::Address;
use postrider_store::{Event, NewHook, NewHookKind, NewMail, OutgoingEvent, RecipientEvent};

/// The call for an event of a message to this recipient. None if the account has no webhook for
/// this event.
///
/// The call is due at the time of the event, so at once.
#[must_use]
pub fn outgoing(
    account_name: &str,
    account: &Account,
    recipient: &Address,
    told: OutgoingEvent,
) -> Option<NewHook> {
    let webhook = account.outgoing_webhook.as_ref()?;
    if !webhook.wants(configured(told.event)) {
        return None;
    }
    let made = told.queued;
    let kind = match webhook.version {
        0 => NewHookKind::Outgoing(told),
        _ => NewHookKind::OutgoingV1(RecipientEvent {
            recipient: recipient.unicode(),
            told,
        }),
    };
    Some(NewHook {
        account: account_name.to_owned(),
        url: webhook.url.clone(),
        authorization: webhook.authorization.clone(),
        kind,
        submitted: made,
        next_attempt: made,
    })
}

/// The call for a received message. None if the account has no webhook for received messages.
///
/// The message is at `mail_index` of the `Accept` that brings the message and the call. The call is
/// as old as the message. A replayed call is younger, and this difference marks it as replayed.
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

/// The name of an event in the configuration.
const fn configured(event: Event) -> WebhookEvent {
    match event {
        Event::Delivered => WebhookEvent::Delivered,
        Event::Suppressed => WebhookEvent::Suppressed,
        Event::Delayed => WebhookEvent::Delayed,
        Event::Failed => WebhookEvent::Failed,
        Event::Relayed => WebhookEvent::Relayed,
        Event::Expanded => WebhookEvent::Expanded,
        Event::Canceled => WebhookEvent::Canceled,
        Event::Unrecognized => WebhookEvent::Unrecognized,
        Event::Unsubscribed => WebhookEvent::Unsubscribed,
        Event::Complained => WebhookEvent::Complained,
        Event::Opened => WebhookEvent::Opened,
        Event::Clicked => WebhookEvent::Clicked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_the_same_names_in_the_configuration() {
        for event in Event::ALL {
            assert_eq!(configured(event).as_str(), event.name());
        }
    }
}
