//! The editor of `domains.conf`: check, difference, save, and earlier versions.

use std::sync::Arc;

use askama::Template;
use axum::http::StatusCode;

use super::{
    super::{
        answer::{Answer, Trouble},
        asked::Asked,
        command::AsCommand,
        form::Faults,
        frame::Frame,
        shown::{Bytes, When, counted},
    },
    difference::{Line, difference},
};
use crate::{
    AdminError, Code,
    op::config::file::{
        Checked, DomainsCheck, DomainsRestore, DomainsSave, DomainsShow, DomainsVersion,
        DomainsVersions, FileText, VersionItem,
    },
};

const PATH: &str = "config/domains";

#[derive(Template)]
#[template(path = "admin/watch/config_domains.html")]
struct Editor {
    frame: Frame,
    /// The text, with its secrets; None: the visitor gives the password first.
    text: Option<String>,
    /// The hash of the text that was edited.
    hash: String,
    checked: Option<Checked>,
    /// The file was changed meanwhile: from what stands there to what was typed.
    conflict: Vec<Line>,
    faults: Faults,
    versions: Vec<Version>,
}

struct Version {
    item: VersionItem,
    time: When,
    size: Bytes,
}

/// The text as it was typed. Browsers send CRLF.
fn typed(asked: &Asked) -> String {
    asked.form.shown("text").replace("\r\n", "\n")
}

async fn editor(asked: &Asked, text: Option<String>, hash: String) -> Result<Editor, Trouble> {
    let versions = asked.list(DomainsVersions {}).await?;
    let now = asked.now();
    let version = |item: VersionItem| Version {
        time: When::new(&item.time, now),
        size: Bytes(item.size as u64),
        item,
    };
    Ok(Editor {
        frame: asked
            .frame("Edit domains.conf")
            .with(AsCommand::cli(["config", "test"])),
        text,
        hash,
        checked: None,
        conflict: Vec::new(),
        faults: Faults::default(),
        versions: versions.into_iter().map(version).collect(),
    })
}

/// The file with its secrets.
async fn current(asked: &Asked) -> Result<FileText, AdminError> {
    asked.run(DomainsShow::default()).await
}

/// The editor, or the question for the password.
pub(in super::super) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    if !asked.is_proven() {
        return Answer::page(&editor(&asked, None, String::new()).await?);
    }
    let FileText { text, hash, .. } = current(&asked).await?;
    Answer::page(&editor(&asked, Some(text), hash).await?)
}

/// Takes the password, and leads to the editor.
pub(in super::super) async fn open(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    match asked.prove().await {
        Ok(()) => Ok(Answer::SeeOther(asked.url(PATH))),
        Err(error) if error.code == Code::Invalid => {
            let mut page = editor(&asked, None, String::new()).await?;
            page.faults = Faults::of(&error);
            Answer::again(&page)
        }
        Err(error) => Err(error.into()),
    }
}

/// Checks what was typed, shows what it changes, or saves it.
pub(in super::super) async fn act(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let (text, hash) = (typed(&asked), asked.form.shown("hash").to_owned());
    let what = asked.form.text("do").unwrap_or("check");
    let checked = asked.run(DomainsCheck { text: text.clone() }).await;
    let again = || editor(&asked, Some(text.clone()), hash.clone());
    let checked = match checked {
        Ok(checked) => checked,
        Err(error) => return refused(again().await?, error),
    };
    if what == "check" || !checked.problems.is_empty() {
        let mut page = again().await?;
        let is_right = checked.problems.is_empty();
        page.checked = Some(checked);
        return match is_right {
            true => Answer::page(&page),
            false => Answer::again(&page),
        };
    }
    // What follows shows or changes secrets.
    if let Err(error) = asked.prove().await {
        return refused(again().await?, error);
    }
    let before = current(&asked).await?;
    if before.hash != hash {
        return conflict(&asked, text, before).await;
    }
    if what != "save" {
        return Answer::page(&Saving {
            frame: asked.frame("Save domains.conf?"),
            lines: difference(&before.text, &text),
            checked,
            text,
            hash,
        });
    }
    let save = DomainsSave {
        text: text.clone(),
        hash: hash.clone(),
    };
    match asked.run(save).await {
        Ok(saved) => {
            let changes = counted(saved.changes.len() as u64, "value", "values");
            let told = format!("domains.conf is saved and in force: {changes} changed.");
            Ok(asked.done(told, PATH))
        }
        Err(error) if error.code == Code::Conflict => {
            let before = current(&asked).await?;
            conflict(&asked, text, before).await
        }
        Err(error) => refused(again().await?, error),
    }
}

/// The editor again with a fault; other errors are trouble.
fn refused(mut page: Editor, error: AdminError) -> Result<Answer, Trouble> {
    if error.code != Code::Invalid {
        return Err(error.into());
    }
    page.faults = Faults::of(&error);
    Answer::again(&page)
}

/// The file was changed since it was read: what was typed stays, beside what stands there.
async fn conflict(asked: &Asked, text: String, now: FileText) -> Result<Answer, Trouble> {
    let lines = difference(&now.text, &text);
    let mut page = editor(asked, Some(text), now.hash).await?;
    page.conflict = lines;
    // The password was given with this form.
    page.frame.proven = true;
    Answer::with(StatusCode::CONFLICT, &page)
}

/// What saving changes.
#[derive(Template)]
#[template(path = "admin/watch/config_save.html")]
struct Saving {
    frame: Frame,
    lines: Vec<Line>,
    checked: Checked,
    text: String,
    hash: String,
}

/// A version beside the file.
#[derive(Template)]
#[template(path = "admin/watch/config_version.html")]
struct Compared {
    frame: Frame,
    version: VersionItem,
    time: When,
    lines: Vec<Line>,
    /// The hash of the file that it was compared with.
    hash: String,
    faults: Faults,
}

async fn compared(asked: &Asked) -> Result<Compared, Trouble> {
    let id = asked.number(0)?;
    let versions = asked.list(DomainsVersions {}).await?;
    let found = versions.into_iter().find(|version| version.id == id);
    let missing = || AdminError::not_found(format!("there is no version {id} any more"));
    let version = found.ok_or_else(missing)?;
    let hide_secrets = true;
    let old = asked.run(DomainsVersion { id, hide_secrets }).await?;
    let now = asked.run(DomainsShow { hide_secrets }).await?;
    Ok(Compared {
        frame: asked.frame(&format!("Version {id} of domains.conf")),
        time: When::new(&version.time, asked.now()),
        version,
        lines: difference(&now.text, &old.text),
        hash: now.hash,
        faults: Faults::default(),
    })
}

/// Shows what would change if a version was restored.
pub(in super::super) async fn compare(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    Answer::page(&compared(&asked).await?)
}

/// Puts a version in force again.
pub(in super::super) async fn restore(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let id = asked.number(0)?;
    let hash = asked.form.text("hash").map(str::to_owned);
    match asked.run_proven(DomainsRestore { id, hash }).await {
        Ok(saved) => {
            let changes = counted(saved.changes.len() as u64, "value", "values");
            let told = format!("Version {id} is in force: {changes} changed.");
            Ok(asked.done(told, PATH))
        }
        Err(error) if matches!(error.code, Code::Invalid | Code::Conflict) => {
            let status = match error.code {
                Code::Conflict => StatusCode::CONFLICT,
                _ => StatusCode::UNPROCESSABLE_ENTITY,
            };
            let mut page = compared(&asked).await?;
            page.faults = Faults::of(&error);
            Answer::with(status, &page)
        }
        Err(error) => Err(error.into()),
    }
}
