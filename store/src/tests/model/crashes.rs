//! Crashes of the engine, and what the next one finds.

use super::*;

impl World {
    pub(super) async fn crash(&mut self, kind: Crash, again: Option<u8>) {
        // Nothing that the engine does from here on reaches the disk.
        self.disk.fail_power_after(0);
        self.engine = Store::memory();
        match kind {
            Crash::Power => self.disk.crash(),
            Crash::Kill => self.disk.kill(),
        }
        if let Some(changes) = again {
            // While it opens, the power fails once more, or a call of the disk fails.
            if changes.is_multiple_of(2) {
                self.disk.fail_power_after(changes.into());
            } else {
                self.disk.fail_call_after(Calls::All, changes.into());
            }
            self.opened += 1;
            let options = &self.options;
            let mode = (self.mode)(self.opened);
            if let Ok(store) = Store::open_on(self.disk.disk(), options, mode) {
                store.rest().await;
                self.disk.fail_power_after(0);
                drop(store);
            }
            self.disk.crash();
        }
        self.reopen().await;
    }

    /// Opens what a crash left, and finds the moment that it shows.
    async fn reopen(&mut self) {
        self.power = false;
        self.full = false;
        self.disk.set_space(None);
        self.opened += 1;
        let mode = (self.mode)(self.opened);
        let opened = Store::open_on(self.disk.disk(), &self.options, mode);
        self.engine = opened.unwrap();
        self.engine.rest().await;
        let found = shown(&self.engine).await.unwrap();
        self.possible.iter().for_each(Store::crash);
        let mut shows = Vec::new();
        for possible in &self.possible {
            shows.push(shown(possible).await.unwrap());
        }
        let Some(at) = shows.iter().position(|shows| *shows == found) else {
            panic!(
                "after a crash there is {found:#?}
but it should be one of {shows:#?}"
            );
        };
        self.model = self.possible[at].fork();
        self.possible = vec![self.model.fork()];
        self.claimed.clear();
        self.claimed_hooks.clear();
    }
}
