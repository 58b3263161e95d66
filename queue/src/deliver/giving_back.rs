//! The messages of an attempt that make way for others: no further MAIL goes out for them.

use postrider_store::Queued;

use super::attempt::OngoingAttempt;

impl OngoingAttempt<'_> {
    /// Gives back the messages that make way for others by now. Those whose MAIL was sent go on.
    pub(super) fn give_back(&mut self) {
        let Some(hand) = &self.slot.hand else {
            return;
        };
        let begun = &self.begun;
        let goes_back = |(message, _): &mut (Queued, _)| {
            hand.makes_way(message) && begun.iter().all(|(id, _)| *id != message.id)
        };
        let back = self.pending.extract_if(.., goes_back);
        self.given_back.extend(back.map(|(message, _)| message));
    }
}
