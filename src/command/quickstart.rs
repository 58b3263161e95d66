//! `quickstart`.

use super::{output::print, runtime};
use crate::{
    cli,
    quickstart::{self, Machine},
};

pub(super) fn run(options: &cli::Quickstart) -> anyhow::Result<()> {
    let machine = Machine::this(!options.skip_dns)?;
    let done = runtime()?.block_on(quickstart::run(options, &machine))?;
    print(&done.text)
}
