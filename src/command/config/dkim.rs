//! `config dkim ...`

use std::io::{self, Write};

use anyhow::bail;
use postrider_admin::op::config::dkim::{
    Add, Algorithm, DkimItem, List, Remove, Rotate, Rotated, Step,
};

use crate::{
    cli::{Dkim, KeyAlgorithm},
    command::{
        desk::Desk,
        output::{print, print_json},
    },
};

pub(super) fn run(desk: &Desk, command: Dkim) -> anyhow::Result<()> {
    match command {
        Dkim::Add {
            domain,
            selector,
            algorithm,
            sign,
            hash,
            canonicalization,
            headers,
            dont_seal_headers,
            expiration,
            json,
        } => {
            let added = desk.ask(&Add {
                domain,
                selector,
                algorithm: algorithm.into(),
                sign,
                hash,
                canonicalization,
                headers,
                dont_seal_headers,
                expiration,
            })?;
            match json {
                true => print_json(&added),
                false => {
                    let signs = match added.signs {
                        true => "signs now",
                        false => "does not sign yet",
                    };
                    let record = records([&added].into_iter());
                    let selector = &added.selector;
                    print(&format!(
                        "key {selector} made; it {signs}. Its record:\n{record}"
                    ))
                }
            }
        }
        Dkim::Rm { domain, selector } => {
            let said = format!("key {selector} of {domain} removed\n");
            let removed = desk.ask(&Remove { domain, selector })?;
            print(&match removed.file {
                Some(file) => format!("{said}its file lies in {file}\n"),
                None => format!("{said}its file stays, because another selector uses it\n"),
            })
        }
        Dkim::List { domain, json } => {
            desk.print_list(&List { domain }, json, "there are no keys", row)
        }
        Dkim::Rotate { domain, json } => {
            let rotated = desk.ask(&Rotate {
                domain: domain.clone(),
            })?;
            match json {
                true => print_json(&rotated)?,
                false => print(&told(&rotated, &domain))?,
            }
            if rotated.step == Step::Unpublished {
                bail!(
                    "nothing has changed: the records of the keys that wait are not all in DNS, or could \
                     not be looked up: {}",
                    rotated.problems.join("; ")
                );
            }
            Ok(())
        }
    }
}

impl From<KeyAlgorithm> for Algorithm {
    fn from(algorithm: KeyAlgorithm) -> Self {
        match algorithm {
            KeyAlgorithm::Ed25519 => Self::Ed25519,
            KeyAlgorithm::Rsa => Self::Rsa,
        }
    }
}

/// The records of keys. Each text is in one piece, for the forms of a DNS provider.
fn records<'a>(keys: impl Iterator<Item = &'a DkimItem>) -> String {
    keys.map(|key| format!("{} TXT {}\n", key.name, key.content))
        .collect()
}

/// The text about a rotation.
fn told(rotated: &Rotated, domain: &str) -> String {
    let names = |keys: &[DkimItem]| {
        let names: Vec<&str> = keys.iter().map(|key| key.selector.as_str()).collect();
        names.join(", ")
    };
    let waiting = names(&rotated.waiting);
    let records = records(rotated.waiting.iter());
    match rotated.step {
        Step::Unpublished => format!("publish these records:\n{records}"),
        Step::Made => format!(
            "keys {waiting} made; they wait. Publish their records:\n{records}\nthen run this again: \
             postrider config dkim rotate {domain}\n"
        ),
        Step::Switched => {
            let mut text = format!("{} sign now\n", names(&rotated.signing));
            let old = rotated.old.join(", ");
            text += &match (&rotated.old_needed_until, old.as_str()) {
                (_, "") => String::new(),
                (Some(until), old) => format!(
                    "leave {old} and their records until {until}; then remove them: postrider config \
                     dkim rm {domain} SELECTOR\n"
                ),
                (None, old) => format!(
                    "signatures of {old} have no end; remove the keys when nobody checks them any more\n"
                ),
            };
            text + &format!(
                "\nkeys {waiting} wait for the next time. Publish their records:\n{records}"
            )
        }
    }
}

fn row(out: &mut dyn Write, _: u64, item: &DkimItem) -> io::Result<()> {
    let signs = match item.signs {
        true => "signs",
        false => "does not sign",
    };
    writeln!(
        out,
        "{}  {}  {} {}  {signs}  {}",
        item.domain, item.selector, item.algorithm, item.bits, item.private_key_file
    )?;
    write!(out, "  {}", records([item].into_iter()))
}
