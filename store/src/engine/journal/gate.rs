//! A test's hold on the thread that makes checkpoints.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Holds checkpoints back, so that operations meet what was frozen for them. Tells when the thread
/// that makes them does nothing.
#[derive(Debug, Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Checkpoints have to wait.
    held: bool,
    /// A checkpoint was begun and has not ended.
    expected: bool,
    /// It waits because checkpoints are held.
    at_gate: bool,
    /// It waits for room on the disk.
    wants_room: bool,
    /// It may look once more whether there is room.
    may_look: bool,
    /// It need not wait for room any more.
    stopped: bool,
}

impl State {
    const fn rests(&self) -> bool {
        !self.expected || self.at_gate || (self.wants_room && !self.may_look)
    }
}

/// A checkpoint that is being made.
pub(super) struct Passing(Arc<Gate>);

impl Drop for Passing {
    fn drop(&mut self) {
        self.0.change(|state| state.expected = false);
    }
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    fn wait(&self, until: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        self.changed
            .wait_while(self.state(), |state| !until(state))
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds checkpoints back, or no longer.
    pub(super) fn hold(&self, on: bool) {
        self.change(|state| {
            state.held = on;
            state.at_gate &= on;
        });
    }

    /// A checkpoint begins.
    pub(super) fn expect(&self) {
        self.change(|state| state.expected = true);
    }

    /// Waits until checkpoints are not held.
    pub(super) fn pass(self: &Arc<Self>) -> Passing {
        let held = |state: &mut State| state.at_gate = state.held;
        self.change(held);
        drop(self.wait(|state| !state.held));
        Passing(Arc::clone(self))
    }

    /// Waits until the test lets the checkpoint look again whether there is room. False: it should
    /// give up.
    pub(super) fn wait_for_room(&self) -> bool {
        self.change(|state| state.wants_room = true);
        let mut state = self.wait(|state| state.may_look || state.stopped);
        (state.wants_room, state.may_look) = (false, false);
        !state.stopped
    }

    /// Ends all waiting for room.
    pub(super) fn stop(&self) {
        self.change(|state| state.stopped = true);
    }

    /// Lets a checkpoint that waits for room look once, and waits until the thread does nothing.
    pub(super) fn rest(&self) {
        self.change(|state| state.may_look = state.wants_room);
        drop(self.wait(State::rests));
    }
}
