//! The first page: what needs attention, and how much there is of everything.

use std::sync::Arc;

use askama::Template;

use super::super::{
    answer::{Answer, Trouble},
    asked::Asked,
    command::AsCommand,
    frame::Frame,
    shown::When,
};
use crate::op::stops::{GetStatus, Status};

#[derive(Template)]
#[template(path = "admin/overview.html")]
struct Overview {
    frame: Frame,
    status: Status,
    stopped: When,
}

pub(in super::super) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let status = asked.run(GetStatus {}).await?;
    let stopped = When::maybe(status.deliveries_stopped.as_ref(), asked.now());
    let command = AsCommand::cli(["queue", "status"]).call(
        &axum::http::Method::GET,
        "/api/queue/status",
        None,
    );
    Answer::page(&Overview {
        frame: asked.frame("Overview").with(command),
        status,
        stopped,
    })
}
