//! Checks of deliveries, and of messages.

use std::net::IpAddr;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use postrider_smtp::Address;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::super::{
    Answer, Asked,
    live::{Frame, Live},
    parameters::body,
    problem::Problem,
    value,
};
use crate::{
    AdminError,
    face::stages,
    op::{
        Single,
        checks::{DmarcCheck, Letter},
        delivery::{Check, StageItem, WAIT_MAX},
    },
};

/// How long each part of a session may take, in seconds, if nothing else is asked for.
const WAIT: u64 = 30;
/// Why a check ends that panics.
const BROKEN: &str = "the check ended with an internal error";
/// The path of the call that a token opens.
const OPENED: &str = "troubleshoot/delivery/{target}";

/// A token for a stream.
pub(in super::super) async fn token(asked: Asked) -> Result<Answer, Problem> {
    asked.token(OPENED)
}

impl Asked {
    /// The check that a request asks for. A tenant hears nothing of what other tenants do.
    fn check(&self) -> Result<Check, Problem> {
        let from = self.query.text("from").unwrap_or_default().to_owned();
        let source = self.query.text("source").map(str::to_owned);
        if self.access.is_tenant() {
            if source.is_some() || self.wants_all_stages() {
                let text = "source and stages=all are not for keys with domains";
                return Err(Problem::forbidden(text));
            }
            let foreign = Address::parse(&from).ok();
            if let Some(foreign) = foreign.filter(|from| !self.access.sees_address(from)) {
                let domain = foreign.host.to_string();
                let text = format!("there is no domain {domain}");
                return Err(Problem::not_found(domain, text));
            }
        }
        let wait = self.query.parsed("timeout")?.filter(|wait| *wait > 0);
        Ok(Check {
            to: self.element(0).to_owned(),
            from,
            source,
            timeout: Some(wait.unwrap_or(WAIT).min(WAIT_MAX)),
        })
    }

    fn wants_all_stages(&self) -> bool {
        self.query.text("stages") == Some("all")
    }
}

/// The stream of the stages of a check. A check that may not be made is answered as a problem.
pub(in super::super) async fn delivery(asked: Asked) -> Result<Answer, Problem> {
    let check = asked.check()?;
    // Clients of Stalwart do not know all of them.
    let all = asked.wants_all_stages();
    let is_shown = move |stage: &StageItem| all || !stage.is_extra();
    let mut receiver = stages::begin(check, asked.context.clone(), is_shown);
    let first = match receiver.recv().await {
        Some(first) => first?,
        None => return Err(Problem::internal(BROKEN)),
    };
    let frames = to_the_end(first, receiver)
        .filter_map(async |item| Some(Frame::Stage(value(&[item]).ok()?)));
    Ok(Answer::Live(Live::without_pings(&asked, None, frames)?))
}

/// The stages of a check that has begun. The last one is always `completed`: if the check fails, it
/// has the reason.
fn to_the_end(
    first: StageItem,
    receiver: mpsc::Receiver<Result<StageItem, AdminError>>,
) -> impl Stream<Item = StageItem> {
    let rest = stream::unfold(Some((receiver, first)), |going: Option<_>| async move {
        let (mut receiver, item): (mpsc::Receiver<Result<StageItem, AdminError>>, StageItem) =
            going?;
        if item.is_last() {
            return Some((item, None));
        }
        let next = match receiver.recv().await {
            Some(Ok(next)) => next,
            Some(Err(error)) => StageItem::failed(error.text),
            None => StageItem::failed(BROKEN.to_owned()),
        };
        Some((item, Some((receiver, next))))
    });
    rest.fuse()
}

/// A message to be checked, and the client that brings it.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct DmarcRequest {
    /// The address of the client.
    #[cfg_attr(test, schema(value_type = String))]
    remote_ip: IpAddr,
    /// The name in EHLO.
    ehlo_domain: String,
    /// MAIL FROM; empty: the null reverse-path.
    mail_from: String,
    /// The message. Without it, one without signatures, with MAIL FROM as its author.
    #[serde(default)]
    body: Option<String>,
}

/// The checks of a message. With `details=all`, more facts stand beside what clients of Stalwart
/// know.
pub(in super::super) async fn dmarc(asked: Asked) -> Result<Answer, Problem> {
    let request: DmarcRequest = body(&asked.body)?;
    let message = request.body.map(|text| Letter::of(&Bytes::from(text)));
    let check = DmarcCheck {
        ip: request.remote_ip,
        from: request.mail_from,
        helo: request.ehlo_domain,
        message,
    };
    let checked = check.answer(&asked.context).await;
    let mut checked = checked.map_err(|error| match error.field.as_deref() {
        Some("from") => error.at("mailFrom"),
        _ => error,
    })?;
    if asked.query.text("details") != Some("all") {
        checked.details = None;
    }
    Ok(Answer::Data(value(&checked)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_check_that_fails_says_so_at_its_end() {
        let stage = |kind: &str| StageItem {
            kind: kind.to_owned(),
            ..StageItem::default()
        };
        let broken = || Err(AdminError::unavailable("no more"));
        for (told, kinds, reason) in [
            (
                vec![Ok(stage("ehloStart")), Ok(stage("completed"))],
                &["mxLookupStart", "ehloStart", "completed"][..],
                None,
            ),
            (
                vec![Ok(stage("ehloStart")), broken()],
                &["mxLookupStart", "ehloStart", "completed"],
                Some("no more"),
            ),
            (vec![], &["mxLookupStart", "completed"], Some(BROKEN)),
        ] {
            let (sender, receiver) = mpsc::channel(stages::WAITING);
            for item in told {
                sender.send(item).await.unwrap();
            }
            drop(sender);
            let stages = to_the_end(stage("mxLookupStart"), receiver);
            let stages: Vec<StageItem> = stages.collect().await;
            let found: Vec<&str> = stages.iter().map(|stage| stage.kind.as_str()).collect();
            assert_eq!(found, kinds);
            let last = stages.last().and_then(|stage| stage.reason.as_deref());
            assert_eq!(last, reason);
        }
    }
}
