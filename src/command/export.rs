//! `export maildir` and `export mbox`: writes the mail of an account into files, with or without a
//! running server. This process writes, since the server may write in its own folders only.

use std::path::Path;

use anyhow::Context as _;
use postrider_admin::op::export::{DamagedMail, Export};

use super::{desk::Desk, load_static, output::print};
use crate::{
    backup::copy::Owner,
    cli,
    export::{Exported, Exporter, Form},
};

pub(super) fn run(conf: &Path, export: cli::Export) -> anyhow::Result<()> {
    let (form, target) = match export {
        cli::Export::Maildir(target) => (Form::Maildir, target),
        cli::Export::Mbox(target) => (Form::Mbox, target),
    };
    let statics = load_static(conf)?;
    // Without a running server, root becomes the user of the server, and works on as that.
    let owner = Owner::of(&statics.data_dir)?;
    let host = statics.hostname.ascii();
    let dir = std::path::absolute(&target.dir)?;
    let mut exporter = Exporter::new(&dir, form, host, owner)?;
    let operation = Export {
        account: target.account.clone(),
    };
    let written = Desk::of(conf).and_then(|desk| desk.call(&operation, |item| exporter.add(&item)));
    let finished = written.and_then(|written| {
        let finished = written.and_then(|()| exporter.finish());
        finished.with_context(|| format!("failed to write into {}", dir.display()))
    });
    match finished {
        Ok(Exported { mails, damaged }) => {
            let shown = dir.display();
            let account = &target.account;
            print(&format!("{mails} mails of {account} are in {shown}\n"))?;
            if damaged.is_empty() {
                return Ok(());
            }
            let lines = damaged.iter().map(|mail| {
                let DamagedMail {
                    id, mailbox, error, ..
                } = mail;
                let came = mail.received.timestamp();
                format!("\n  mail {id} in {mailbox}, which came at {came}: {error}")
            });
            let lines: String = lines.collect();
            let count = damaged.len();
            anyhow::bail!("{count} mails can't be read, and are not there:{lines}")
        }
        Err(error) => {
            Exporter::give_up(&dir);
            Err(error)
        }
    }
}
