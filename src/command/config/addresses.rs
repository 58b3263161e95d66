//! `config address ...`

use std::io::{self, Write};

use postrider_admin::op::config::addresses::{Add, AddressItem, List, Remove};

use crate::{
    cli::Address,
    command::{desk::Desk, output::print},
};

pub(super) fn run(desk: &Desk, command: Address) -> anyhow::Result<()> {
    match command {
        Address::Add { address, account } => {
            let said = format!("{address} is an address of account {account}\n");
            desk.ask(&Add { address, account })?;
            print(&said)
        }
        Address::Rm { address } => {
            let said = format!("{address} removed\n");
            desk.ask(&Remove { address })?;
            print(&said)
        }
        Address::List { account, json } => {
            let row = |out: &mut dyn Write, _: u64, item: &AddressItem| -> io::Result<()> {
                let AddressItem {
                    address,
                    account,
                    mailbox,
                } = item;
                writeln!(out, "{address:<40}  {account}  {mailbox}")
            };
            desk.print_list(&List { account }, json, "there are no addresses", row)
        }
    }
}
