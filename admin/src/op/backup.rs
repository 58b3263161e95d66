//! The files of a backup. The program that asks copies them; the server keeps them meanwhile.

use postrider_store::{StoreFile, journal::Position};
use serde::{Deserialize, Serialize};
use tracing::info;

use super::{Operation, Sink};
use crate::{AdminError, Context};

/// Files that are sent at once.
const PORTION: usize = 500;

/// Lists the files of the store at one position of its journal. They stay as they are until the
/// caller closes the connection: the operation has no other end. If the connection breaks, the
/// caller must not use its copies.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {}

/// A part of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupItem {
    /// A file to copy.
    File(StoreFile),
    /// The list is complete. The files stand for this position.
    Ready(Position),
}

impl Operation for Backup {
    type Item = BackupItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<BackupItem>,
    ) -> Result<(), AdminError> {
        let snapshot = context.store.snapshot().await?;
        let position = snapshot.position();
        let files: Vec<StoreFile> = snapshot.files().collect();
        info!(files = files.len(), ?position, "backup started");
        for portion in files.chunks(PORTION) {
            let portion = portion.iter().cloned().map(BackupItem::File);
            items.send(portion.collect()).await?;
        }
        items.send(vec![BackupItem::Ready(position)]).await?;
        // The face drops this future when the caller goes. Then the snapshot ends.
        std::future::pending::<()>().await;
        drop(snapshot);
        Ok(())
    }
}
