//! The method MessageList.

use postrider_store::MailId;

use super::{
    paging::limit,
    shape::{MessageItem, MessageListRequest, MessageListResponse},
};
use crate::{
    call::{auth::User, context::CallContext},
    error::ApiError,
    received::Meta,
};

/// List the messages in the account's mailboxes. Methods of v0 read and change them.
#[cfg_attr(test, utoipa::path(
    post, path = "/MessageList", operation_id = "MessageList",
    request_body = MessageListRequest,
    responses((status = 200, body = MessageListResponse), (status = 400, body = super::shape::Problem, description = "The request is wrong"))
))]
pub(super) async fn list(
    context: &CallContext,
    user: &User,
    request: MessageListRequest,
) -> Result<MessageListResponse, ApiError> {
    let mailbox = Some(request.mailbox_name.as_str()).filter(|name| !name.is_empty());
    let after = (request.after > 0).then_some(MailId(request.after));
    let limit = limit(request.limit);
    let page = context
        .store
        .list_mails(&user.account, mailbox, after, limit)
        .await?;
    let messages = page.items.into_iter().map(|mail| MessageItem {
        msg_id: mail.id.0,
        received: mail.received.to_string(),
        meta: Meta::new(mail),
    });
    Ok(MessageListResponse {
        messages: messages.collect(),
        next: page.next.map(|id| id.0),
    })
}
