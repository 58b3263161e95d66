//! A check of deliveries to an address, without a message.

mod stage;
pub mod words;

use std::{pin::pin, time::Duration};

use postrider_queue::check::{CheckError, CheckRequest, Stages};
use postrider_smtp::{Address, ReversePath};
use serde::{Deserialize, Serialize};

pub use stage::{
    MxItem, PatternItem, PlanItem, PolicyItem, ResultItem, RuaItem, SessionItem, StageItem,
    TlsaEntry, TlsaItem,
};

use super::{Operation, Sink};
use crate::{AdminError, Context};

/// The longest time of a check, unless a part of it may take longer.
const LIMIT: Duration = Duration::from_secs(5 * 60);
/// The longest time for a part that can be asked for, in seconds.
pub const WAIT_MAX: u64 = 900;

/// Walks the way of a message to an address: MX, MTA-STS, DANE, connection, STARTTLS, MAIL and
/// RCPT. No message is sent. Each stage is an item, and the last one is `completed`. Five checks go
/// on at once, and each site is checked once a minute.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Check {
    /// The recipient, or a domain for its postmaster.
    pub to: String,
    /// The reverse-path; empty: the null one.
    pub from: String,
    /// The name of a source of `postrider.conf`.
    pub source: Option<String>,
    /// The most seconds for each of these at an address: to connect, to open a session, to ask for
    /// the recipient, and to quit. None: as long as deliveries wait. The whole check ends after
    /// five minutes, or after this time if it is longer.
    pub timeout: Option<u64>,
}

impl From<CheckError> for AdminError {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Local | CheckError::Here(_) => Self::unsupported(error),
            CheckError::NoSource(_) => Self::not_found(error).at("source"),
            CheckError::Busy | CheckError::TooSoon { .. } => Self::unavailable(error),
        }
    }
}

/// Reads the reverse-path in the field `from`. Empty or `<>`: the null one.
pub(super) fn reverse_path(text: &str) -> Result<ReversePath, AdminError> {
    match text.trim() {
        "<>" => Ok(ReversePath::Null),
        text => ReversePath::parse(text).map_err(|_| no_address(text, "from")),
    }
}

fn no_address(text: &str, field: &str) -> AdminError {
    AdminError::invalid(format!("{text:?} is no address")).at(field)
}

impl Check {
    fn request(self) -> Result<CheckRequest, AdminError> {
        let to = match self.to.contains('@') {
            true => self.to.clone(),
            false => format!("postmaster@{}", self.to),
        };
        let to = Address::parse(&to).map_err(|_| no_address(&self.to, "to"))?;
        let from = reverse_path(&self.from)?;
        if self
            .timeout
            .is_some_and(|wait| !(1..=WAIT_MAX).contains(&wait))
        {
            let text = format!("the time must be between 1 and {WAIT_MAX} seconds");
            return Err(AdminError::invalid(text).at("timeout"));
        }
        let wait = self.timeout.map(Duration::from_secs);
        Ok(CheckRequest {
            to,
            from,
            source: self.source,
            limit: wait.map_or(LIMIT, |wait| wait.max(LIMIT)),
            wait,
        })
    }
}

impl Operation for Check {
    type Item = StageItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<StageItem>,
    ) -> Result<(), AdminError> {
        let request = self.request()?;
        let (stages, mut told) = Stages::new();
        let checking = async move { context.queue.check(request, &stages).await };
        let mut checking = pin!(checking);
        let mut checked = None;
        loop {
            tokio::select! {
                biased;
                stage = told.recv() => match stage {
                    Some(stage) => items.send(vec![StageItem::from(stage)]).await?,
                    None => break,
                },
                result = checking.as_mut(), if checked.is_none() => checked = Some(result),
            }
        }
        checked.transpose()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_an_address_or_a_domain() {
        let request = |to: &str, from: &str, timeout| {
            let check = Check {
                to: to.into(),
                from: from.into(),
                source: None,
                timeout,
            };
            let request = check.request();
            request
                .map(|it| {
                    let wait = it.wait.map(|wait| wait.as_secs());
                    format!("{} {} {} {wait:?}", it.to, it.from, it.limit.as_secs())
                })
                .map_err(|error| error.field.unwrap_or_default())
        };
        for (to, from, timeout, expected) in [
            ("x@a.test", "", None, Ok("x@a.test  300 None")),
            (
                "a.test",
                "<>",
                Some(30),
                Ok("postmaster@a.test  300 Some(30)"),
            ),
            (
                "x@a.test",
                "b@c.test",
                Some(900),
                Ok("x@a.test b@c.test 900 Some(900)"),
            ),
            ("x y", "", None, Err("to")),
            ("x@a.test", "@", None, Err("from")),
            ("x@a.test", "", Some(0), Err("timeout")),
            ("x@a.test", "", Some(901), Err("timeout")),
        ] {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(request(to, from, timeout), expected, "{to} {from}");
        }
    }
}
