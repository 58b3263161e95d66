//! The mail of an account, for a program that writes it into files.

use postrider_store::{Mail, MailId, StoreError, Time};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{Operation, Sink, queue::Piece};
use crate::{AdminError, Context};

/// Mails that are listed at once.
const PAGE: usize = 100;
/// The bytes of a piece.
const PIECE: u64 = 64 * 1024;

/// Reads all mail of an account, in the order in which it came. Mail that comes meanwhile may be
/// part of it. A mail that can't be read is told, and the others follow.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// The name of the account.
    pub account: String,
}

/// A part of the mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportItem {
    /// A mail begins. Its pieces follow.
    Mail(ExportedMail),
    /// The next piece of the mail.
    Piece(Piece),
    /// A mail can't be read. If it began already, it does not go on. Others follow.
    Damaged(DamagedMail),
}

/// A mail that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedMail {
    /// Its number.
    pub id: MailId,
    /// The mailbox, with `/` between the names of a hierarchy.
    pub mailbox: String,
    /// When it came.
    pub received: Time,
    /// What is wrong.
    pub error: String,
}

impl DamagedMail {
    /// The item for a mail that the store can't give.
    ///
    /// # Errors
    /// The error, if it is not about this mail alone.
    fn item(mail: &Mail, error: StoreError) -> Result<ExportItem, AdminError> {
        match error {
            StoreError::Corrupt(_) | StoreError::Read(_) | StoreError::NoText(_) => {
                warn!(id = mail.id.0, account = mail.account, %error, "mail not exported");
                Ok(ExportItem::Damaged(Self {
                    id: mail.id,
                    mailbox: mail.mailbox.clone(),
                    received: mail.received,
                    error: error.to_string(),
                }))
            }
            error => Err(error.into()),
        }
    }
}

/// A mail without its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedMail {
    /// Its number.
    pub id: MailId,
    /// The mailbox, with `/` between the names of a hierarchy.
    pub mailbox: String,
    /// Lower-case system flags (`\seen`) and keywords.
    pub flags: Vec<String>,
    /// When it came.
    pub received: Time,
    /// The reverse-path. Empty for the null reverse-path, and if it did not come by SMTP.
    pub sender: String,
    /// The bytes of all its pieces.
    pub size: u64,
}

impl Operation for Export {
    type Item = ExportItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<ExportItem>,
    ) -> Result<(), AdminError> {
        let account = self.account.clone();
        let found = context.check_account(&account);
        context
            .record("mail.export", &account, &self, found)
            .await?;
        let mut after = None;
        loop {
            let page = context
                .store
                .list_mails(&account, None, after, PAGE)
                .await?;
            for mail in &page.items {
                let message = match context.store.mail_message(mail).await {
                    Ok(message) => message,
                    // It was removed since it was listed.
                    Err(StoreError::NoText(_)) if context.store.mail(mail.id).await?.is_none() => {
                        continue;
                    }
                    Err(error) => {
                        items.send(vec![DamagedMail::item(mail, error)?]).await?;
                        continue;
                    }
                };
                let pieces = message.into_pieces();
                let size = pieces.message().len();
                let sender = mail.smtp.as_ref().map(|smtp| smtp.mail_from.to_string());
                let head = ExportedMail {
                    id: mail.id,
                    mailbox: mail.mailbox.clone(),
                    flags: mail.flags.clone(),
                    received: mail.received,
                    sender: sender.unwrap_or_default(),
                    size,
                };
                items.send(vec![ExportItem::Mail(head)]).await?;
                let mut at = 0;
                while at < size {
                    let piece = match pieces.piece(at, PIECE).await {
                        Ok(piece) => piece,
                        Err(error) => {
                            items.send(vec![DamagedMail::item(mail, error)?]).await?;
                            break;
                        }
                    };
                    at += piece.len() as u64;
                    let piece = ExportItem::Piece(Piece(piece.to_vec()));
                    items.send(vec![piece]).await?;
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }
}
