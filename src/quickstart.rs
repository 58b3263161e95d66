//! `quickstart`: a whole configuration for one domain on a new machine.
//!
//! It asks nothing that it can find out, and explains each finding. All files are made in a folder
//! of their own, checked as `config test` checks them, and moved to their place at the end. So a
//! failure leaves nothing, and a file that exists is never overwritten.

mod findings;
mod machine;
mod place;
#[cfg(test)]
mod tests;
mod texts;

use std::{fmt::Write as _, path::Path};

use anyhow::{Context, bail};
use jiff::tz::TimeZone;
use postrider_admin::op::{
    config::keyfile::KeyFile,
    dns::{HostFacts, RecordItem, Wanted, wanted},
};
use postrider_config::{DkimAlgorithm, DkimKey, Dynamic, Static};
use postrider_smtp::{Address, Domain};
use rand::RngExt as _;

pub use self::machine::Machine;
use self::{
    findings::{Facts, Finding, gather},
    place::{File, Place},
    texts::{KeyFiles, Subject},
};
use crate::{cli, command::Usage};

/// The characters of a password.
const PASSWORD_LENGTH: usize = 16;
/// Characters that nobody mistakes for each other.
const PASSWORD_CHARACTERS: &[u8] = b"abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// The end of a quickstart.
#[derive(Debug)]
pub struct Done {
    /// The text for the terminal. It has the passwords.
    pub text: String,
}

/// Makes the configuration of a server for the address of a person.
///
/// # Errors
/// If the arguments are wrong, some of the files exist, or the files can't be made. Then nothing
/// was written.
pub async fn run(options: &cli::Quickstart, machine: &Machine) -> anyhow::Result<Done> {
    let address = parse_address(&options.address)?;
    let domain =
        address.host.domain().cloned().with_context(|| {
            Usage::new(format!("{address} is at an IP address, not at a domain"))
        })?;
    let place = Place::new(&options.dir)?;
    match &*place.existing() {
        [] => {}
        found if found.len() == place::WANTED.len() => {
            let text = format!("nothing to do: {} has all files\n", place.dir().display());
            return Ok(Done { text });
        }
        found => bail!(
            "{} has some of the files already: {}; move them away, or choose another folder with \
             --dir; nothing was written",
            place.dir().display(),
            found.join(", ")
        ),
    }
    let facts = gather(machine, &domain, options.hostname.as_ref()).await?;
    let account = account_name(&address);
    let (keys, mut files) = make_keys(machine, &facts, &domain).await?;
    let utc = machine.now.with_time_zone(TimeZone::UTC);
    let policy_id = utc.strftime("%Y%m%dT%H%M%S").to_string();
    let subject = Subject {
        address: &address,
        domain: &domain,
        account: &account,
        facts: &facts,
        keys: &keys,
        policy_id: &policy_id,
    };
    let admin = password();
    let own = password();
    files.push(File::public("config/postrider.conf", subject.static_conf()));
    files.push(File::public("config/domains.conf", subject.domains_conf()));
    let program = std::env::current_exe().context("failed to find this program")?;
    files.push(File::open(
        "postrider.service",
        texts::unit(place.dir(), &program),
    ));

    let mut text = format!("postrider quickstart for {address}\n");
    for Finding { good, text: line } in &facts.report {
        let word = if *good { "ok" } else { "warning" };
        let _ = writeln!(text, "  {word:<8} {line}");
    }
    let _ = writeln!(
        text,
        "written  config/ ({}), data/, postrider.service",
        keys_in_words(&keys)
    );
    let passwords = format!("Passwords, shown once:  admin  {admin}   {address}  {own}\n");
    let draft = place.draft(&files)?;
    let (statics, dynamic) = check(&draft.path().join("config"))?;
    let after = after(&statics, &dynamic, &domain, machine, place.dir());
    draft.add(&File::secret("quickstart.txt", format!("{text}{after}")))?;
    draft
        .set_passwords(&statics, &dynamic, &account, &own, &admin)
        .await?;
    draft.move_to_place()?;
    Ok(Done {
        text: format!("{text}{passwords}{after}"),
    })
}

fn parse_address(text: &str) -> anyhow::Result<Address> {
    Address::parse_strict(text).map_err(|error| {
        let sentence =
            format!("{text:?} is not a mail address ({error}); for example: jane@example.org");
        anyhow::Error::new(Usage::new(sentence))
    })
}

/// The local-part, without the characters that an account name can't have.
fn account_name(address: &Address) -> String {
    let local = address.local.as_str().to_lowercase();
    let may = |c: &char| !c.is_control() && !"/\\@\" ".contains(*c);
    let name: String = local.chars().filter(may).take(64).collect();
    match name.trim_start_matches('.') {
        "" => "account".to_owned(),
        name => name.to_owned(),
    }
}

fn password() -> String {
    let mut rng = rand::rng();
    let mut character = || {
        let index = rng.random_range(0..PASSWORD_CHARACTERS.len());
        PASSWORD_CHARACTERS
            .get(index)
            .copied()
            .map_or('x', char::from)
    };
    (0..PASSWORD_LENGTH).map(|_| character()).collect()
}

fn keys_in_words(keys: &KeyFiles) -> String {
    let names: Vec<&str> = keys.dkim.iter().map(|(name, _)| &**name).collect();
    let (signing, waiting) = names.split_at(names.len().min(2));
    format!(
        "DKIM keys {} sign; {} wait",
        signing.join(", "),
        waiting.join(", ")
    )
}

/// The keys of the domain and of the host, with their files.
async fn make_keys(
    machine: &Machine,
    facts: &Facts,
    domain: &Domain,
) -> anyhow::Result<(KeyFiles, Vec<File>)> {
    let now = machine.now.clone();
    let (domain, host) = (domain.clone(), facts.hostname.ascii().to_owned());
    // RSA keys take a while to compute.
    let made = tokio::task::spawn_blocking(move || keys_and_files(&now, &domain, &host));
    made.await.context("the keys were not made")?
}

fn keys_and_files(
    now: &jiff::Zoned,
    domain: &Domain,
    host: &str,
) -> anyhow::Result<(KeyFiles, Vec<File>)> {
    use DkimAlgorithm::{Ed25519, Rsa};

    let stamp = now.strftime("%Y%m%dT%H%M%S").to_string();
    let made = now.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    let mut keys = KeyFiles {
        dkim: Vec::new(),
        host: Vec::new(),
    };
    let mut files = Vec::new();
    let failed = |error| anyhow::anyhow!("failed to make a key: {error}");
    for (letter, algorithm) in [('a', Ed25519), ('b', Rsa), ('c', Ed25519), ('d', Rsa)] {
        let selector = format!("{}{letter}", now.year());
        let name = Domain::parse(&selector)?;
        let key = KeyFile::generate(&name, domain, algorithm, now).map_err(failed)?;
        let path = format!("config/{}", key.path);
        files.push(File::secret(path, key.text.as_str()));
        keys.dkim.push((selector, key.path));
    }
    let note =
        |kind| format!("{kind} private host key for {host}, generated by postrider on {made}");
    let rsa = DkimKey::generate(Rsa).map_err(failed)?;
    let rsa = rsa.to_pem(&note("rsa-2048")).to_string();
    let ecdsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256);
    let ecdsa = ecdsa.context("failed to make a key")?.serialize_pem();
    let ecdsa = ecdsa.replacen(
        "-----\n",
        &format!("-----\nNote: {}\n\n", note("ecdsa-p256")),
        1,
    );
    for (kind, text) in [("rsa2048", rsa), ("ecdsap256", ecdsa)] {
        let file = format!("{host}.{stamp}.{kind}.privatekey.pkcs8.pem");
        files.push(File::secret(format!("config/hostkeys/{file}"), text));
        keys.host.push(file);
    }
    Ok((keys, files))
}

/// Reads both files as the server does.
fn check(config: &Path) -> anyhow::Result<(Static, Dynamic)> {
    let loaded = postrider_config::Loaded::read(&config.join("postrider.conf"));
    let both = loaded.both().map_err(anyhow::Error::new);
    both.context("quickstart made a configuration that is not valid; please report this")
}

/// The part of the output behind the passwords: the records, and the next steps.
fn after(
    statics: &Static,
    dynamic: &Dynamic,
    domain: &Domain,
    machine: &Machine,
    dir: &Path,
) -> String {
    let (facts, _) = HostFacts::gather(statics, &machine.addresses);
    let records = dynamic.domains.get(domain).map(|config| {
        let wanted = wanted(statics, config, domain, &facts);
        let items: Vec<RecordItem> = wanted.iter().map(Wanted::item).collect();
        RecordItem::text(&items)
    });
    let records = records.unwrap_or_default();
    let dir = dir.display();
    format!(
        "Records for {domain}:\n\n{records}\n\
         Next:  useradd --system --home-dir {dir} postrider; chown -R postrider: {dir}\n\
         \x20      systemctl enable --now {dir}/postrider.service;  postrider dns check {domain}\n"
    )
}
