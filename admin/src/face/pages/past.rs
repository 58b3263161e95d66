//! Pages about what happened to mail, and who was told of it: history, events, suppressions and
//! webhooks. They serve administrators and holders of accounts. A holder sees and changes only what
//! is of the own account.

pub(super) mod call;
pub(super) mod calls;
pub(super) mod change_calls;
pub(super) mod clear;
pub(super) mod events;
pub(super) mod filter;
pub(super) mod history;
pub(super) mod import;
pub(super) mod message;
mod streamed;
pub(super) mod suppressions;
pub(super) mod waiting;
pub(super) mod webhook_test;
