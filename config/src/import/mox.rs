//! The configuration of mox: `mox.conf` and `domains.conf` in one folder.

mod accounts;
mod domains;
mod listeners;
mod rules;
mod sconf;
mod statics;
mod transports;

use std::path::Path;

use self::{
    rules::Convert,
    sconf::{Node, Tree},
};
use super::{Files, Import, document::Document};
use crate::error::Errors;

/// Reads the folder of `mox.conf`, and the DKIM keys that it names.
///
/// # Errors
/// If a file cannot be read or is not in mox's format, with all wrong lines.
pub fn mox(files: &dyn Files, folder: &Path) -> Result<Import, Errors> {
    let statics = Tree::read(files, &folder.join("mox.conf"));
    let dynamic = Tree::read(files, &folder.join("domains.conf"));
    let (statics, dynamic) = match (statics, dynamic) {
        (Ok(statics), Ok(dynamic)) => (statics, dynamic),
        (Err(errors), Ok(_)) | (Ok(_), Err(errors)) => return Err(errors),
        (Err(one), Err(other)) => return Err(one.and(other)),
    };
    let mut convert = Convert::new(files, folder, &statics.path);
    let mut document = Document::new(&[
        "postrider.conf, made from mox.conf by \"postrider config import-mox\".",
        "\"postrider config describe\" explains all keys.",
    ]);
    let wide = statics::convert(&mut convert, &statics.root, &mut document);
    convert.left_over(&statics.root);
    let statics = document.text();

    convert.file = dynamic.path;
    let mut document = Document::new(&[
        "domains.conf, made from the domains.conf of mox by \"postrider config import-mox\".",
        "\"postrider config describe\" explains all keys. A change takes effect when the file is \
         saved.",
    ]);
    convert_dynamic(&mut convert, &dynamic.root, &wide, &mut document);
    convert.left_over(&dynamic.root);
    Ok(Import {
        statics,
        dynamic: document.text(),
        files: convert.private,
        notes: convert.notes.finish(),
    })
}

/// Settings of mox.conf that matter for domains.conf.
struct Wide {
    hostname: String,
    /// The quota of accounts without one of their own, in bytes. 0 means none.
    quota: i64,
}

fn convert_dynamic(convert: &mut Convert<'_>, root: &Node, wide: &Wide, document: &mut Document) {
    let mut plain = super::document::Table::new::<&str>(&[]);
    convert.apply(root, &mut plain, domains::GENERAL);
    if let Some(redirects) = root.get("WebDomainRedirects") {
        for redirect in redirects.all() {
            plain.set_exact(&["web", "redirects", &redirect.key], &redirect.value);
            convert.taken(redirect, "web.redirects");
        }
    }
    document.push(plain);
    transports::routes(convert, root, &[], document);
    if let Some(all) = root.get("Domains") {
        for domain in all.all() {
            domains::convert(convert, domain, wide, document);
        }
    }
    if let Some(all) = root.get("Accounts") {
        convert.changed(
            all,
            "passwords are not taken; give each account one with \"postrider setpassword NAME\"",
        );
        for account in all.all() {
            accounts::convert(convert, account, wide, document);
        }
    }
}
