//! The HTTP protocol of rspamd: the fields of a request, and the answer.
//!
//! A scan is `POST /checkv2` with the raw message as its body ([`RawPieces`]). All else that rspamd
//! is told stands in fields of the request. We ask for values as milters get them, with LF in
//! folds. The calls themselves are not here.
//!
//! | module | what is in it |
//! |---|---|
//! | `request` | the fields of a scan |
//! | `response` | the answer to a scan |
//! | `milter` | the part of the answer with changes of the message |
//! | `learn` | telling rspamd of junk and of good mail |
//!
//! [`RawPieces`]: super::raw::RawPieces

pub mod learn;
mod milter;
pub mod request;
pub mod response;

pub use request::{CHECK_PATH, fields};
pub use response::{RspamdAnswer, Symbol, read};
