//! The stage hooks over HTTP: one JSON object for each question, and one for the answer.
//!
//! The wire format is that of Stalwart's MTA hooks, version 1. The calls themselves are not here.
//!
//! | module | what is in it |
//! |---|---|
//! | `contents` | bytes of a message as text and in base64, piece by piece |
//! | `request` | the body of a call |
//! | `response` | the answer |

mod contents;
pub mod request;
pub mod response;

pub use request::{RequestBody, RequestOptions, fields};
pub use response::read;
