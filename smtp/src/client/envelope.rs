//! The envelope of a message.

use crate::{Address, BodyType, DeliveryOptions, Notify, Ret, ReversePath};

/// The envelope of a message: what MAIL and RCPT say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The sender, who gets the reports of failures.
    pub reverse_path: ReversePath,
    /// The bytes that the text has.
    ///
    /// For a server without 8BITMIME, or without BINARYMIME and CHUNKING, such a text has to be
    /// converted before ([`crate::convert`]). As it is, it fails with 5.6.3. An LMTP server that
    /// does not offer 8BITMIME gets an 8-bit text without the parameter: it stores any bytes.
    pub body_type: BodyType,
    /// The header section has UTF-8, so the server must offer SMTPUTF8 (RFC 6531), else it fails
    /// with 5.6.9 unless it was converted. An LMTP server
    /// that does not offer it gets the message without the parameter if all addresses are ASCII.
    pub smtputf8: bool,
    /// REQUIRETLS (RFC 8689): only under TLS, and only to a server that promises the same.
    pub require_tls: bool,
    /// MT-PRIORITY (RFC 6710) and BY (RFC 2852). A server that does not offer them does not get
    /// them. A hold is never sent: it ends before the message goes out.
    pub delivery: DeliveryOptions,
    /// RET (RFC 3461). A server without DSN does not get RET, ENVID, NOTIFY and ORCPT.
    pub ret: Option<Ret>,
    /// ENVID, not encoded.
    pub envid: Option<String>,
    /// The recipients. Without any, nothing is sent.
    pub recipients: Vec<Recipient>,
}

/// A recipient of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The address in RCPT TO.
    pub address: Address,
    /// NOTIFY.
    pub notify: Option<Notify>,
    /// ORCPT, as `type;address` with the address not encoded.
    pub orcpt: Option<String>,
}

impl From<Address> for Recipient {
    fn from(address: Address) -> Self {
        Self {
            address,
            notify: None,
            orcpt: None,
        }
    }
}
