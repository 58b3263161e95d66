//! DKIM signatures of other servers (RFC 6376, RFC 8463).

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{Ed25519KeyPair, KeyPair},
};

use super::base64;

/// The key of a domain at a selector.
pub struct DkimKey(Ed25519KeyPair);

impl DkimKey {
    /// A new key.
    pub fn new() -> Self {
        Self(Ed25519KeyPair::generate().unwrap())
    }

    /// The TXT record of the key.
    pub fn record(&self) -> String {
        let public = base64(self.0.public_key().as_ref());
        format!("v=DKIM1; k=ed25519; p={public}")
    }

    /// The private key as PKCS#8 in PEM.
    pub fn pem(&self) -> String {
        let key = base64(self.0.to_pkcs8v1().unwrap().as_ref());
        format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n")
    }

    /// The message with a signature over From, Subject and the body, all as they are. The lines end
    /// with CRLF.
    pub fn sign(&self, domain: &str, selector: &str, message: &str) -> String {
        let (header, body) = message.split_once("\r\n\r\n").unwrap();
        let body = format!("{}\r\n", body.trim_end_matches("\r\n"));
        let hash = base64(digest(&SHA256, body.as_bytes()).as_ref());
        let field = format!(
            "DKIM-Signature: v=1; a=ed25519-sha256; c=simple/simple; d={domain}; s={selector};\r\n\
             \th=From:Subject; bh={hash}; b="
        );
        let signed = ["From:", "Subject:"].map(|name| {
            let mut lines = header.lines();
            lines.find(|line| line.starts_with(name)).unwrap()
        });
        let covered = format!("{}\r\n{}\r\n{field}", signed[0], signed[1]);
        let covered = digest(&SHA256, covered.as_bytes());
        let signature = base64(self.0.sign(covered.as_ref()).as_ref());
        format!("{field}{signature}\r\n{message}")
    }
}
