//! The internet around an MX that is measured: the DNS of a domain, and signed mail from it.
//!
//! SPF passes for the clients of the load driver, the signature is by RSA with 2048 bits over the
//! usual fields, and DMARC asks to refuse what fails. So a server that takes this mail and refuses
//! a forged message has made all three checks.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::lab::dns::{self, Record, Zone};
use crate::load::filler;

/// The author's domain.
const DOMAIN: &str = "author.example";
/// The author, and the reverse-path.
pub(super) const AUTHOR: &str = "load@author.example";
/// The domain of the mailboxes.
pub(crate) const MAILBOX_DOMAIN: &str = "sink.example";
/// Mail goes to so many mailboxes in turn.
pub(crate) const MAILBOXES: usize = 100;
/// How many texts there are. They go out in turn.
const TEXTS: usize = 500;
/// The address of the DNS server. The port is 53, since not all programs can use another one.
pub(crate) const DNS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 83, 1, 1));

/// The texts. The DNS server lives as long as this process.
pub(super) struct Internet {
    texts: TempDir,
}

impl Internet {
    /// Serves the DNS, and makes texts of this size.
    pub(super) fn new(size: usize) -> Result<Self> {
        let key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).context("failed to make a key")?;
        dns::serve_aside((DNS, 53).into(), zone(&key))?;
        let texts = tempfile::tempdir()?;
        for number in 0..TEXTS {
            let file = texts.path().join(number.to_string());
            fs::write(file, signed(&key, &text(number, size))?)?;
        }
        Ok(Self { texts })
    }

    /// The folder with the texts.
    pub(super) fn texts(&self) -> &Path {
        self.texts.path()
    }
}

fn zone(key: &KeyPair) -> Zone {
    let mut zone = Zone::default();
    let host = format!("mail.{DOMAIN}");
    zone.add(DOMAIN, Record::Mx(10, host.clone()));
    zone.add(&host, Record::A(Ipv4Addr::new(11, 0, 0, 1)));
    zone.add(DOMAIN, Record::Txt("v=spf1 ip4:11.0.0.0/8 -all".to_owned()));
    let policy = Record::Txt("v=DMARC1; p=reject".to_owned());
    zone.add(&format!("_dmarc.{DOMAIN}"), policy);
    let public = BASE64.encode(key.subject_public_key_info());
    let record = Record::Txt(format!("v=DKIM1; k=rsa; p={public}"));
    zone.add(&format!("load._domainkey.{DOMAIN}"), record);
    zone
}

/// The fields of a message, and its body.
struct Text {
    fields: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

fn text(number: usize, size: usize) -> Text {
    let fields = vec![
        ("From", format!("<{AUTHOR}>")),
        ("To", format!("<sink@{MAILBOX_DOMAIN}>")),
        ("Subject", format!("load {number}")),
        (
            "Message-ID",
            format!("<{number}.{}@{DOMAIN}>", std::process::id()),
        ),
        ("Date", "Thu, 01 Jan 2026 00:00:00 +0000".to_owned()),
    ];
    // The header section has about 800 bytes.
    let mut body = filler(size.saturating_sub(800));
    body.extend_from_slice(b"\r\n");
    Text { fields, body }
}

/// The text with its signature (RFC 6376), in the simple form of header and body.
fn signed(key: &KeyPair, text: &Text) -> Result<Vec<u8>> {
    let mut section = String::new();
    let mut names = Vec::new();
    for (name, value) in &text.fields {
        write!(section, "{name}: {value}\r\n")?;
        names.push(name.to_lowercase());
    }
    let body_hash = BASE64.encode(Sha256::digest(&text.body));
    let names = names.join(":");
    let mut signature = format!(
        "DKIM-Signature: v=1; a=rsa-sha256; c=simple/simple; d={DOMAIN}; s=load;\r\n\t\
         h={names};\r\n\tbh={body_hash};\r\n\tb="
    );
    let covered = format!("{section}{signature}");
    let proof = key.sign(covered.as_bytes()).context("failed to sign")?;
    for line in BASE64.encode(proof).as_bytes().chunks(70) {
        write!(signature, "\r\n\t{}", str::from_utf8(line)?)?;
    }
    let mut whole = format!("{signature}\r\n{section}\r\n").into_bytes();
    whole.extend_from_slice(&text.body);
    Ok(whole)
}

/// Fails if the server on this port takes a forged message.
pub(super) fn check_refusal(port: u16) -> Result<()> {
    let mut server = BufReader::new(TcpStream::connect(("127.0.0.1", port))?);
    let text = format!("From: <{AUTHOR}>\r\nSubject: forged\r\n\r\nforged\r\n.");
    let rcpt = format!("RCPT TO:<sink-1@{MAILBOX_DOMAIN}>");
    let mail = format!("MAIL FROM:<{AUTHOR}>");
    let mut last = String::new();
    for line in [
        "PROXY TCP4 12.0.0.1 198.51.100.25 4711 25",
        "EHLO other.example",
        &mail,
        &rcpt,
        "DATA",
        &text,
    ] {
        ensure!(
            !last.starts_with(['4', '5']),
            "the server refused a forged message too early: {last}"
        );
        server
            .get_mut()
            .write_all(format!("{line}\r\n").as_bytes())?;
        last = reply(&mut server)?;
    }
    ensure!(
        last.starts_with('5'),
        "the server took a message that fails DMARC: {last}"
    );
    Ok(())
}

/// The last line of a reply.
fn reply(server: &mut impl std::io::BufRead) -> Result<String> {
    loop {
        let mut line = String::new();
        ensure!(server.read_line(&mut line)? > 0, "the server hung up");
        if line.get(3..4) != Some("-") {
            return Ok(line.trim_end().to_owned());
        }
    }
}
