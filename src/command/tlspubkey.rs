//! `tlspubkey ...`

use std::{
    ffi::OsString,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use jiff::Timestamp;
use postrider_admin::op::tls_keys::{Add, List, Remove, TlsKeyItem};
use postrider_smtp::sasl::key_fingerprint;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ED25519};
use zeroize::Zeroizing;

use super::{
    desk::Desk,
    output::{print, print_json},
};
use crate::cli::TlsPubkey;

/// An Ed25519 key in PKCS#8 up to its seed (RFC 8410 §7). Here the public key does not follow the
/// seed: GnuTLS does not read such a file.
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// The most bytes of a certificate as text.
const CERTIFICATE_MAX: u64 = 64 * 1024;
/// The place of the seed in the PKCS#8 form of an Ed25519 key (RFC 8410 §7).
const SEED: std::ops::Range<usize> = 16..48;

pub(super) fn run(conf: &Path, command: TlsPubkey) -> anyhow::Result<()> {
    match command {
        TlsPubkey::Add {
            address,
            file,
            name,
            json,
        } => {
            let certificate = read(&file)?;
            let added = Desk::of(conf)?.ask(&Add {
                login: address,
                name,
                certificate,
            })?;
            match json {
                true => print_json(&added),
                false => print(&format!("{}\n", added.fingerprint)),
            }
        }
        TlsPubkey::Gen { stem } => {
            let made = generate(&stem, Timestamp::now())?;
            print(&made)
        }
        TlsPubkey::List { account, json } => {
            let none = "there are no keys of client certificates";
            Desk::of(conf)?.print_list(&List { account }, json, none, row)
        }
        TlsPubkey::Rm { fingerprint } => {
            let said = format!("key {fingerprint} removed\n");
            Desk::of(conf)?.ask(&Remove { fingerprint })?;
            print(&said)
        }
    }
}

fn row(out: &mut dyn Write, _: u64, item: &TlsKeyItem) -> io::Result<()> {
    let used = item.last_used.as_deref().unwrap_or("never");
    writeln!(
        out,
        "{}  {:<10}  {:<20}  {:<20}  made {}  last used {used}",
        item.fingerprint, item.kind, item.login, item.name, item.created
    )
}

fn read(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = match file.as_os_str() == "-" {
        true => io::stdin().take(CERTIFICATE_MAX).read_to_string(&mut text),
        false => std::fs::File::open(file)
            .and_then(|file| file.take(CERTIFICATE_MAX).read_to_string(&mut text)),
    };
    read.with_context(|| format!("failed to read the certificate in {}", file.display()))?;
    Ok(text)
}

/// Makes a key and its certificate, in three files. Gives what is printed.
fn generate(stem: &Path, now: Timestamp) -> anyhow::Result<String> {
    let key = KeyPair::generate_for(&PKCS_ED25519).context("failed to make a key")?;
    let mut params = CertificateParams::new(Vec::new())?;
    let name = stem.file_name().unwrap_or_default().to_string_lossy();
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.self_signed(&key);
    let certificate = certificate.context("failed to make a certificate")?;
    let der = key.serialize_der();
    let (Some(seed), Some(fingerprint)) = (der.get(SEED), key_fingerprint(certificate.der()))
    else {
        bail!("the key that was made is not in the form of RFC 8410");
    };
    let key = Zeroizing::new([&PKCS8[..], seed].concat());
    let key = Zeroizing::new(format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        BASE64_STANDARD.encode(&key)
    ));
    let seed = BASE64_URL_SAFE_NO_PAD.encode(seed);
    let certificate = certificate.pem();
    let time = now.strftime("%Y%m%d%H%M");
    let both = Zeroizing::new(format!("{}{certificate}", *key));
    let mut said = String::new();
    for (kind, content) in [
        ("ed25519privatekey.pkcs8", key.as_str()),
        ("certificate", certificate.as_str()),
        ("ed25519privatekey-certificate", both.as_str()),
    ] {
        let path = named(stem, &format!(".{time}.{kind}.pem"));
        if path.exists() {
            bail!("{} exists; nothing is overwritten", path.display());
        }
        crate::files::write_private(&path, content.as_bytes())?;
        said.push_str(&format!("written      {}\n", path.display()));
    }
    said.push_str(&format!(
        "fingerprint  {fingerprint}\nseed         {seed}\n"
    ));
    Ok(said)
}

fn named(stem: &Path, end: &str) -> PathBuf {
    let mut name: OsString = stem.as_os_str().to_owned();
    name.push(end);
    name.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_in_three_files_that_only_their_owner_reads() {
        let dir = tempfile::tempdir().unwrap();
        let stem = dir.path().join("ann");
        let now: Timestamp = "2026-03-01T09:08:07Z".parse().unwrap();
        let said = generate(&stem, now).unwrap();
        let file = |kind: &str| dir.path().join(format!("ann.202603010908.{kind}.pem"));
        for kind in [
            "ed25519privatekey.pkcs8",
            "certificate",
            "ed25519privatekey-certificate",
        ] {
            let mode = std::fs::metadata(file(kind)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{kind}");
        }
        let read = |kind: &str| std::fs::read_to_string(file(kind)).unwrap();
        let key = KeyPair::from_pem(&read("ed25519privatekey-certificate")).unwrap();
        let alone = KeyPair::from_pem(&read("ed25519privatekey.pkcs8")).unwrap();
        assert_eq!(key.serialize_der(), alone.serialize_der());
        let seed = said.lines().last().unwrap().rsplit_once(' ').unwrap().1;
        let seed = BASE64_URL_SAFE_NO_PAD.decode(seed).unwrap();
        assert_eq!(key.serialize_der()[SEED], seed[..]);
        let again = generate(&stem, now).unwrap_err().to_string();
        assert!(again.contains("nothing is overwritten"), "{again}");
    }
}
