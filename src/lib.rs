//! The server: listeners, policy and commands, wired from the crates below.
