//! The running server, as the commands reach it through its control socket.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use postrider_admin::{
    face::client,
    op::{Operation, Single},
};

use super::{
    load_static,
    output::{List, until_closed},
    runtime,
};

/// The running server.
pub(super) struct Running {
    data_dir: PathBuf,
}

impl Running {
    /// The server with this configuration.
    pub(super) fn of(conf: &Path) -> anyhow::Result<Self> {
        let data_dir = load_static(conf)?.data_dir;
        Ok(Self { data_dir })
    }

    /// Calls an operation with one output.
    pub(super) fn ask<S: Single>(&self, operation: &S) -> anyhow::Result<S::Output> {
        Ok(runtime()?.block_on(client::ask(&self.data_dir, operation))?)
    }

    /// Calls an operation, and hands over its items as they arrive. An `each` that fails ends the
    /// operation.
    pub(super) fn call<O: Operation>(
        &self,
        operation: &O,
        mut each: impl FnMut(O::Item) -> io::Result<()>,
    ) -> anyhow::Result<io::Result<()>> {
        runtime()?.block_on(async {
            let mut answer = client::call(&self.data_dir, operation).await?;
            while let Some(item) = answer.next().await? {
                if let Err(error) = each(item) {
                    return Ok(Err(error));
                }
            }
            Ok(Ok(()))
        })
    }

    /// Prints the items of an operation as they arrive: as a JSON array, or as rows. Without items,
    /// prints `none`.
    pub(super) fn print_list<O: Operation>(
        &self,
        operation: &O,
        json: bool,
        none: &str,
        row: impl Fn(&mut dyn Write, u64, &O::Item) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        let mut list = List::new(io::BufWriter::new(io::stdout().lock()), json, row);
        let written = self.call(operation, |item| list.add(&item))?;
        let written = written.and_then(|()| list.end(none));
        Ok(until_closed(written)?)
    }
}
