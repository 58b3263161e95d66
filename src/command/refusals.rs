//! `refusals`

use std::io::{self, Write};

use postrider_admin::op::refusals::{List, RefusalItem};

use super::running::Running;

pub(super) fn run(server: &Running, json: bool) -> anyhow::Result<()> {
    server.print_list(&List {}, json, "there are no reasons", row)
}

fn row(out: &mut dyn Write, _: u64, item: &RefusalItem) -> io::Result<()> {
    writeln!(out, "{:>10}  {}", item.count, item.reason)
}
