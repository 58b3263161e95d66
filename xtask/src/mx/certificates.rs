//! The certificates of the hosts, and the TLSA records that danetool makes of them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

use crate::keys::Certificate;
use crate::programs::{finish, program};
use crate::workspace::write_private;

/// Who signed the certificate of a host.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Issued {
    /// The host itself.
    Own,
    /// The host itself, and the certificate has expired.
    Expired,
    /// The CA. The host sends the certificate of the CA too.
    ByCa,
    /// The CA, whose certificate has expired.
    ByExpiredCa,
}

/// A CA with its certificate in a file.
pub(super) struct Ca {
    pub(super) file: PathBuf,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    /// Makes a CA. Its file gets this name, in the folder.
    pub(super) fn create(folder: &Path, name: &str, expired: bool) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        if expired {
            expire(&mut params);
        }
        let pem = params.self_signed(&key)?.pem();
        let file = folder.join(format!("{name}.pem"));
        fs::write(&file, &pem)?;
        Ok(Self {
            file,
            pem,
            issuer: Issuer::new(params, key),
        })
    }
}

/// Makes the certificates of hosts, in a folder.
pub(super) struct Certificates {
    folder: PathBuf,
    pub(super) ca: Ca,
    pub(super) expired_ca: Ca,
}

impl Certificates {
    pub(super) fn create(folder: &Path) -> Result<Self> {
        Ok(Self {
            folder: folder.to_owned(),
            ca: Ca::create(folder, "ca", false)?,
            expired_ca: Ca::create(folder, "expired-ca", true)?,
        })
    }

    /// Makes a key, and a certificate for these names. The files get the name `file`.
    pub(super) fn issue(&self, file: &str, names: &[&str], issued: Issued) -> Result<Certificate> {
        let key = KeyPair::generate()?;
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        let signed = |params: &CertificateParams, ca: &Ca| -> Result<String> {
            let own = params.signed_by(&key, &ca.issuer)?.pem();
            Ok(format!("{own}{}", ca.pem))
        };
        let chain = match issued {
            Issued::Own => params.self_signed(&key)?.pem(),
            Issued::Expired => {
                expire(&mut params);
                params.self_signed(&key)?.pem()
            }
            Issued::ByCa => signed(&params, &self.ca)?,
            Issued::ByExpiredCa => signed(&params, &self.expired_ca)?,
        };
        let files = Certificate {
            certificate: self.folder.join(format!("{file}.pem")),
            key: self.folder.join(format!("{file}.key")),
        };
        fs::write(&files.certificate, chain)?;
        write_private(&files.key, key.serialize_pem().as_bytes())?;
        Ok(files)
    }
}

/// Sets a validity that lies in the past.
fn expire(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2001, 1, 1);
    params.not_after = date_time_ymd(2002, 1, 1);
}

/// What a TLSA record names.
#[derive(Clone, Copy)]
pub(super) enum Named {
    /// The key of the host: usage 3, selector 1, matching 1.
    Host,
    /// The key of a CA: usage 2, selector 1, matching 1.
    Ca,
}

/// The TLSA record of port 25 of a host for a certificate, as danetool writes it for a zone file.
pub(super) fn tlsa(host: &str, certificate: &Path, named: Named) -> Result<String> {
    let mut danetool = program("danetool");
    danetool.args(["--tlsa-rr", "--host", host, "--port", "25"]);
    if matches!(named, Named::Ca) {
        danetool.arg("--ca");
    }
    let output = finish(danetool.arg("--load-certificate").arg(certificate))?;
    let text = String::from_utf8(output.stdout).context("danetool printed no text")?;
    Ok(text.trim().to_owned())
}
