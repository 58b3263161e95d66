//! `login ...`

use postrider_admin::op::logins::Unlock;

use super::{output::print, running::Running};
use crate::cli::Login;

pub(super) fn run(server: &Running, command: Login) -> anyhow::Result<()> {
    let Login::Unlock { account, network } = command;
    let unlocked = server.ask(&Unlock {
        account,
        ip: network,
    })?;
    print(match unlocked.counts {
        0 => "there were no failed logins\n",
        _ => "unlocked\n",
    })
}
