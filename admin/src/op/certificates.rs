//! The certificates of the listeners, read again from their files.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Listed, Single};
use crate::{AdminError, Context};

/// The certificates of the listeners. Those by ACME are not in files.
pub trait CertificateFiles: Send + Sync {
    /// Reads all files. If all load and `check_only` is false, new connections get what was read.
    /// The caller may block.
    fn read(&self, check_only: bool) -> Read;

    /// The names of all certificates, with those by ACME, and when each ends in seconds since 1970.
    /// 0: the name has none yet.
    fn ends(&self) -> Vec<(String, i64)>;
}

/// The warnings and errors about the files. The keys are those of postrider.conf, for example
/// `listeners.mail.tls.certs.0`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// Certificates that clients will not accept, and keys that others can read.
    pub warnings: BTreeMap<String, String>,
    /// The reasons why files do not load. With errors all listeners keep what they have.
    pub errors: BTreeMap<String, String>,
}

/// No listener has certificates in files.
impl CertificateFiles for () {
    fn read(&self, _: bool) -> Read {
        Read::default()
    }

    fn ends(&self) -> Vec<(String, i64)> {
        Vec::new()
    }
}

/// Reads the certificates of the listeners again.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reload {
    /// Only check the files.
    pub check_only: bool,
}

impl Single for Reload {
    type Output = Read;

    async fn answer(self, context: &Context) -> Result<Read, AdminError> {
        let files = Arc::clone(&context.certificates);
        let read = tokio::task::spawn_blocking(move || files.read(self.check_only)).await;
        let read = read.map_err(AdminError::internal)?;
        if !self.check_only {
            let refusals: Vec<&str> = read.errors.values().map(String::as_str).collect();
            let refusals = refusals.join("; ");
            let (before, after) = (String::new(), String::new());
            context
                .audit(Self::NAME, "listeners", before, after, &refusals)
                .await;
        }
        Ok(read)
    }
}
