//! The stages of a check of deliveries, on their way to a client.

use tokio::sync::mpsc;

use super::task;
use crate::{
    AdminError, Context,
    op::{
        Gone, Operation, Sink,
        delivery::{Check, StageItem},
    },
};

/// How many stages wait for a slow client.
pub(super) const WAITING: usize = 64;

/// Passes on the stages that are shown.
struct ToClient<F> {
    sender: mpsc::Sender<Result<StageItem, AdminError>>,
    is_shown: F,
}

impl<F: Fn(&StageItem) -> bool + Send> Sink<StageItem> for ToClient<F> {
    async fn send(&mut self, items: Vec<StageItem>) -> Result<(), AdminError> {
        for item in items {
            if (self.is_shown)(&item) {
                self.sender.send(Ok(item)).await.map_err(|_| Gone)?;
            }
        }
        Ok(())
    }
}

/// Begins a check. The check ends when its receiver goes. If it fails, the error comes last.
pub(super) fn begin(
    check: Check,
    context: Context,
    is_shown: impl Fn(&StageItem) -> bool + Send + 'static,
) -> mpsc::Receiver<Result<StageItem, AdminError>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let mut client = ToClient {
        sender: sender.clone(),
        is_shown,
    };
    task::begin(async move {
        let checked = tokio::select! {
            checked = check.run(&context, &mut client) => checked,
            () = sender.closed() => return,
        };
        if let Err(error) = checked {
            let _ = sender.send(Err(error)).await;
        }
    });
    receiver
}
