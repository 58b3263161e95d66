//! Checks of deliveries.

use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;

use super::super::{
    Answer, Asked,
    live::{Frame, Live},
    problem::Problem,
    value,
};
use crate::{
    AdminError, Context,
    op::{
        Gone, Operation, Sink,
        delivery::{Check, StageItem},
    },
};

/// How many stages wait for a client that reads slowly.
const STAGES_MAX: usize = 64;

/// The stages of a check on their way to a client.
struct ToClient(mpsc::Sender<Result<StageItem, AdminError>>);

impl Sink<StageItem> for ToClient {
    async fn send(&mut self, items: Vec<StageItem>) -> Result<(), AdminError> {
        for item in items.into_iter().filter(|item| !item.is_extra()) {
            self.0.send(Ok(item)).await.map_err(|_| Gone)?;
        }
        Ok(())
    }
}

/// Makes a check, until its end or until the client has gone.
async fn run(check: Check, context: Context, mut client: ToClient) {
    let sender = client.0.clone();
    let checked = tokio::select! {
        checked = check.run(&context, &mut client) => checked,
        () = sender.closed() => return,
    };
    if let Err(error) = checked {
        let _ = sender.send(Err(error)).await;
    }
}

/// The stream of the stages of a check. A check that may not be made is answered as a problem.
pub(in super::super) async fn delivery(asked: Asked) -> Result<Answer, Problem> {
    let check = Check {
        to: asked.element(0).to_owned(),
        timeout: asked.query.parsed("timeout")?,
        ..Check::default()
    };
    let (sender, mut receiver) = mpsc::channel(STAGES_MAX);
    let context = asked.context.clone();
    tokio::spawn(run(check, context, ToClient(sender)));
    let first = match receiver.recv().await {
        Some(first) => first?,
        None => return Err(AdminError::from(Gone).into()),
    };
    let rest = stream::unfold(receiver, |mut receiver| async move {
        let item = receiver.recv().await?.ok()?;
        Some((item, receiver))
    });
    let stages = stream::once(async { first }).chain(rest);
    let frames = stages.enumerate().filter_map(|(at, item)| async move {
        let data = value(&[item]).ok()?;
        Some(Frame::Event {
            id: at as u64 + 1,
            name: "event",
            data,
        })
    });
    Ok(Answer::Live(Live::new(&asked, frames)?))
}
