//! The server itself.

use serde::{Deserialize, Serialize};

use super::Single;
use crate::{AdminError, Context};

/// Asks whether the server runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ping {}

/// The server runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its version.
    pub version: String,
}

impl Single for Ping {
    type Output = Running;

    async fn answer(self, _: &Context) -> Result<Running, AdminError> {
        Ok(Running {
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }
}
