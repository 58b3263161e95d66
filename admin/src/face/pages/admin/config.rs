//! Both files of the configuration, without their secrets.

use std::sync::Arc;

use askama::Template;

use super::super::{
    answer::{Answer, Trouble},
    asked::Asked,
    command::AsCommand,
    frame::Frame,
};
use crate::{
    AdminError,
    op::config::file::{DomainsShow, FileText, StaticShow},
};

#[derive(Template)]
#[template(path = "admin/watch/config.html")]
struct Page {
    frame: Frame,
    files: Vec<File>,
}

/// A file, or why it can't be shown.
struct File {
    name: &'static str,
    /// The beginning of the ids of its lines.
    mark: &'static str,
    file: Option<FileText>,
    fault: String,
}

impl File {
    fn new(name: &'static str, mark: &'static str, read: Result<FileText, AdminError>) -> Self {
        let (file, fault) = match read {
            Ok(file) => (Some(file), String::new()),
            Err(error) => (None, error.text),
        };
        Self {
            name,
            mark,
            file,
            fault,
        }
    }

    fn is_static(&self) -> bool {
        self.mark == "p"
    }
}

/// Shows both files.
pub(in super::super) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domains = DomainsShow { hide_secrets: true };
    let (statics, domains) = (asked.run(StaticShow {}).await, asked.run(domains).await);
    let command = AsCommand::cli(["config", "test"]);
    Answer::page(&Page {
        frame: asked
            .frame("Configuration")
            .with(AsCommand::cli(["config", "get"]))
            .with(command),
        files: vec![
            File::new("postrider.conf", "p", statics),
            File::new("domains.conf", "d", domains),
        ],
    })
}
