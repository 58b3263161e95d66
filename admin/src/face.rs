//! The ways to reach the operations. A face only translates.
//!
//! - [`socket`]: the control socket in the data folder, the server's side.
//! - [`client`]: its other side, for the command line.
//! - [`http`]: the management API.
//! - [`mail`]: the administrative half of the mailbox API.
//! - [`pages`]: the web pages.
//! - [`sessions`]: who is logged in with a browser, for the pages.
//!
//! A client of the socket sends one request as one line of JSON,
//! `{"operation": NAME, "input": {...}}`. The server answers with lines: any number of
//! `{"item": ...}`, then either `{"done": true}` or
//! `{"error": {"code": ..., "field": ..., "text": ...}}`.

pub mod client;
pub mod http;
pub mod mail;
pub mod pages;
mod path;
pub mod sessions;
pub mod socket;
mod stages;
mod task;

use serde::{Deserialize, Serialize};

use crate::AdminError;

/// The name of the control socket in the data folder.
pub const SOCKET_NAME: &str = "postrider.sock";

/// A request, as the client writes it.
#[derive(Serialize)]
struct RequestLine<'a, O> {
    operation: &'static str,
    input: &'a O,
}

/// A line of an answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AnswerLine<T> {
    Item(T),
    Done(bool),
    Error(AdminError),
}
