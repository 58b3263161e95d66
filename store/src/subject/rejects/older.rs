//! Shapes of refused mail that earlier versions of operations have.

use serde::{Deserialize, Serialize};

use super::{NewReject, RejectKey, RejectLimit};
use crate::{Time, subject::mail::older::NewMailV7};

/// Refused mail before version 8 of units. It had no summary.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NewRejectV7 {
    mail: NewMailV7,
    key: RejectKey,
    until: Option<Time>,
    limit: Option<RejectLimit>,
}

impl From<NewRejectV7> for NewReject {
    fn from(old: NewRejectV7) -> Self {
        Self {
            mail: old.mail.into(),
            key: old.key,
            until: old.until,
            limit: old.limit,
        }
    }
}

#[cfg(test)]
impl NewRejectV7 {
    pub(crate) fn sample() -> Self {
        Self {
            mail: NewMailV7::sample(),
            key: RejectKey(5),
            until: Some(Time(6)),
            limit: None,
        }
    }
}
