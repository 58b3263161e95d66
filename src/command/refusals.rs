//! `refusals`

use std::io::{self, Write};

use postrider_admin::op::refusals::{List, RefusalItem};

use super::running::Running;

pub(super) fn run(server: &Running, all: bool, json: bool) -> anyhow::Result<()> {
    let none = "nothing was refused since the start of the server";
    server.print_list(&List { all }, json, none, row)
}

fn row(out: &mut dyn Write, _: u64, item: &RefusalItem) -> io::Result<()> {
    writeln!(out, "{:>10}  {}", item.count, item.reason)
}
