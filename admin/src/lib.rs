//! Administration: what administrators can do to a server, and the ways to reach it.
//!
//! In reading order:
//! - [`op`]: the operations. Each has a typed input, a typed output and the error [`AdminError`].
//! - [`face`]: the ways to reach the operations. Today this is the control socket, for the command
//!   line.
//! - [`Context`]: the parts of the running server that operations work on, and the caller.
//!
//! Invariant: an operation does not know its face. It has no JSON, no HTTP and no terminal.

mod context;
mod csv;
mod error;
pub mod face;
pub mod op;

pub use context::{Caller, Context};
pub use error::{AdminError, Code};
