//! `queue hold-rules ...`

use std::io::{self, Write};

use postrider_admin::op::hold_rules::{Add, HoldRuleItem, List, Remove};
use postrider_store::HoldRuleId;

use super::{
    output::{count, print},
    running::Running,
};
use crate::cli::HoldRules;

pub(super) fn run(server: &Running, command: HoldRules) -> anyhow::Result<()> {
    match command {
        HoldRules::List { json } => {
            server.print_list(&List {}, json, "there are no hold rules", row)
        }
        HoldRules::Add {
            account,
            sender_domain,
            recipient_domain,
            sender,
            recipient,
        } => {
            let added = server.ask(&Add {
                account,
                sender_domain,
                recipient_domain,
                sender,
                recipient,
            })?;
            let held = count(added.held, "queued message", "queued messages");
            print(&format!("hold rule {} added; it holds {held}\n", added.id))
        }
        HoldRules::Remove { id, release } => {
            let remove = Remove {
                id: HoldRuleId(id),
                release,
            };
            let removed = server.ask(&remove)?;
            let rest = match release {
                true => format!(
                    "{} released",
                    count(removed.released, "message", "messages")
                ),
                false => "the messages that it held stay held until \"queue release\"".to_owned(),
            };
            print(&format!("hold rule {id} removed; {rest}\n"))
        }
    }
}

fn row(out: &mut dyn Write, _: u64, item: &HoldRuleItem) -> io::Result<()> {
    writeln!(out, "{:>6}  {}  {}", item.id, item.created, item.holds)
}
