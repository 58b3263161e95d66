//! The TLS of a connection.

use rustls::CommonState;

/// The TLS of a connection, for logs and Received fields.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsInfo {
    /// The version, for example `TLSv1.3`.
    pub version: String,
    /// The cipher suite by its registered name, for example `TLS_AES_256_GCM_SHA384`.
    pub cipher: String,
}

impl TlsInfo {
    /// The TLS of a connection after its handshake.
    pub(crate) fn of(connection: &CommonState) -> Self {
        // rustls writes TLSv1_3 and TLS13_AES_256_GCM_SHA384.
        let version = connection
            .protocol_version()
            .map(|version| format!("{version:?}").replace('_', "."));
        let cipher = connection
            .negotiated_cipher_suite()
            .map(|suite| format!("{:?}", suite.suite()).replace("TLS13_", "TLS_"));
        Self {
            version: version.unwrap_or_default(),
            cipher: cipher.unwrap_or_default(),
        }
    }
}
