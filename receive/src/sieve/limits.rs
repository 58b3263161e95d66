//! The limits of scripts: their size, and the work and the results of a run.

/// The most bytes of a script.
pub const SCRIPT_MAX: usize = 64 << 10;
/// The most levels of blocks within blocks, and of tests within tests.
pub const LEVELS_MAX: usize = 15;
/// The most variables of a script.
pub const VARIABLES_MAX: usize = 128;
/// The most bytes of the value of a variable.
pub const VALUE_MAX: usize = 4 << 10;
/// The most regular expressions of a script.
pub(super) const REGEXES_MAX: usize = 100;
/// The most bytes of a text with its variables filled in.
pub const TEXT_MAX: usize = 64 << 10;

/// The limits of the scripts that run for one message. All of them share the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most commands and tests that run.
    pub steps: u32,
    /// The most work of comparisons, roughly in bytes that are looked at.
    pub effort: usize,
    /// The most addresses that the message is redirected to.
    pub redirects: usize,
    /// The most mailboxes that the message is filed into.
    pub mailboxes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            steps: 10_000,
            effort: 100_000_000,
            redirects: 4,
            mailboxes: 32,
        }
    }
}

/// The work that is left.
#[derive(Debug)]
pub(super) struct Effort(usize);

/// No work is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exhausted;

impl Effort {
    pub(super) const fn new(most: usize) -> Self {
        Self(most)
    }

    /// Takes some work away.
    pub(super) fn spend(&mut self, work: usize) -> Result<(), Exhausted> {
        self.0 = self.0.checked_sub(work).ok_or(Exhausted)?;
        Ok(())
    }
}
