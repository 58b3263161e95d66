//! Imports suppressions from a table: first it tells what the table has, then it adds the entries.

use std::sync::Arc;

use askama::Template;

use super::{
    super::{
        answer::{Answer, Trouble},
        asked::Asked,
        form::Faults,
        frame::Frame,
        job::{self, Words},
        shown::{Count, counted},
    },
    filter::{self, is_holder},
    suppressions::HERE,
};
use crate::{
    AdminError, Code,
    op::suppression::import::{Check, Import, Imported},
};

#[derive(Template)]
#[template(path = "past/import.html")]
struct Page {
    frame: Frame,
    faults: Faults,
    account: String,
    /// What was typed.
    table: String,
    is_holder: bool,
}

/// What the table has.
#[derive(Template)]
#[template(path = "past/imported.html")]
struct Checked {
    frame: Frame,
    faults: Faults,
    account: String,
    table: String,
    new: Count,
    known: Count,
    wrong: Count,
    /// All wrong rows are told.
    is_all: bool,
    imported: Imported,
}

fn page(asked: &Asked, faults: Faults) -> Page {
    Page {
        frame: asked.frame("Import suppressions"),
        faults,
        account: asked.form.shown("account").to_owned(),
        table: asked.form.shown("table").to_owned(),
        is_holder: is_holder(asked),
    }
}

/// The form for a table.
pub(in super::super) async fn ask(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    Answer::page(&page(&asked, Faults::default()))
}

fn words(account: &str) -> Words {
    let account = account.to_owned();
    Words {
        title: "Import suppressions".to_owned(),
        things: "addresses",
        told: Box::new(move |added, left_out| {
            let added = counted(added, "address is", "addresses are");
            let mut told = format!("{added} suppressed for {account}.");
            if left_out > 0 {
                let left_out = counted(left_out, "row was", "rows were");
                told.push_str(&format!(" {left_out} wrong, or on the list already."));
            }
            told
        }),
    }
}

/// Checks a table, or adds its entries.
pub(in super::super) async fn act(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let again = |error: &AdminError| Answer::again(&page(&asked, Faults::of(error)));
    let form = &asked.form;
    let Some(account) = filter::account(&asked, form) else {
        let missing = AdminError::invalid("this field must not be empty").at("account");
        return again(&missing);
    };
    let table = form.raw("file").or_else(|| form.raw("table"));
    let Some(table) = table.map(str::to_owned) else {
        return again(&AdminError::invalid("choose a file, or paste its lines").at("table"));
    };
    let mut faults = Faults::default();
    if form.flag("add") {
        let import = Import {
            account: account.clone(),
            table: table.clone(),
            leave_out_wrong: form.flag("leave_out_wrong"),
        };
        let words = words(&account);
        match job::begin(&asked, words, &asked.url(HERE), import).await {
            Err(Trouble::Failed(error)) if error.code == Code::Invalid => {
                faults = Faults::of(&error);
            }
            begun => return begun,
        }
    }
    let check = Check {
        account: account.clone(),
        table: table.clone(),
    };
    let imported = match asked.run(check).await {
        Ok(imported) => imported,
        Err(error) if matches!(error.code, Code::Invalid | Code::NotFound) => return again(&error),
        Err(error) => return Err(error.into()),
    };
    let has_faults = !faults.is_empty();
    let checked = Checked {
        frame: asked.frame("Import suppressions"),
        faults,
        account,
        table,
        new: Count(imported.new),
        known: Count(imported.known),
        wrong: Count(imported.wrong),
        is_all: imported.told.len() as u64 == imported.wrong,
        imported,
    };
    match has_faults {
        true => Answer::again(&checked),
        false => Answer::page(&checked),
    }
}
