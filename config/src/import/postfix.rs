//! The configuration of Postfix: `main.cf`, `master.cf`, and the text sources of its tables.

mod addresses;
mod advice;
mod context;
mod domains;
mod maps;
mod master;
mod nexthop;
mod output;
mod params;
mod relays;
mod resolve;
mod services;

use std::path::Path;

use self::{context::Context, params::Params};
use super::{Files, Import, lines::logical};
use crate::error::Errors;

/// Reads a folder with `main.cf`, and the tables that it names. `hostname` is the name of this
/// machine. Postfix uses it when `myhostname` is not set.
///
/// A path below `/etc/postfix`, or with the name of a file of the folder, means the file of the
/// folder. So a copy of the folder can be read on another machine.
///
/// # Errors
/// If `main.cf` cannot be read, or a line of it or of `master.cf` is wrong.
pub fn postfix(files: &dyn Files, folder: &Path, hostname: Option<&str>) -> Result<Import, Errors> {
    let main = folder.join("main.cf");
    let text = read_lossy(files, &main)?;
    let params = Params::read(logical(&text), &main, hostname)?;
    let path = folder.join("master.cf");
    let services = match files.read(&path) {
        Ok(bytes) => Some(master::read(
            &logical(&String::from_utf8_lossy(&bytes)),
            &path,
        )?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(_) => {
            // The file is there, so its error is told like that of main.cf.
            super::files::text(files, &path)?;
            None
        }
    };
    let context = Context::new(files, folder, params, path);
    let hostname = services::hostname(&context)?;
    let domains = domains::read(&context);
    let mut model = addresses::read(&context, domains);
    let relays = relays::read(&context, &mut model);
    let listeners = services::read(&context, services.as_deref());
    context.left_over(services.as_deref());
    Ok(output::write(context, &hostname, &model, relays, listeners))
}

/// The text of a file. Bytes that are not UTF-8 become U+FFFD, and each value with this
/// character is noted.
fn read_lossy(files: &dyn Files, path: &Path) -> Result<String, Errors> {
    match files.read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(_) => super::files::text(files, path),
    }
}
