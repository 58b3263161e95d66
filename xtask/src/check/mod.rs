//! Checks of the workspace's own rules, which neither the compiler nor clippy knows.

pub(crate) mod dependencies;
#[cfg(test)]
mod layers;
pub(crate) mod prose;
