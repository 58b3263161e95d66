//! The answers of the suppression methods.

use postrider_store::Suppression;
use serde::{Deserialize, Serialize};

/// An empty answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Done {}

/// The answer of SuppressionList.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SuppressionListResponse {
    pub(crate) suppressions: Vec<SuppressionEntry>,
}

/// An address to which the account does not send.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SuppressionEntry {
    /// The number of the entry. Later entries have higher numbers.
    #[serde(rename = "ID")]
    pub id: u64,
    /// RFC 3339.
    pub created: String,
    /// The account of the list.
    pub account: String,
    /// The base address, which stands for all variants of the address. Unicode.
    pub base_address: String,
    /// The address as it was given. Unicode.
    pub original_address: String,
    /// A person added the entry, not a failed delivery.
    pub manual: bool,
    /// The reason, for people.
    pub reason: String,
}

impl From<Suppression> for SuppressionEntry {
    fn from(entry: Suppression) -> Self {
        // The contract has no field for the list.
        let reason = match entry.list.as_str() {
            "" => entry.reason,
            list => format!("{} from list {list:?}", entry.reason),
        };
        Self {
            id: entry.id.0,
            created: entry.created.to_string(),
            account: entry.account,
            base_address: entry.base,
            original_address: entry.original,
            manual: entry.manual,
            reason,
        }
    }
}

/// The answer of SuppressionPresent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SuppressionPresentResponse {
    pub(crate) present: bool,
}
