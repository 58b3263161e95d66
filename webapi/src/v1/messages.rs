//! What is in the account's mailboxes.

use postrider_store::MailId;

use super::{
    limit,
    shape::{MessageItem, MessageListRequest, MessageListResponse, Problem},
};
use crate::{auth::User, context::Context, error::ApiError, mailbox::Meta};

/// List the messages in the account's mailboxes. The methods of v0 read and change them.
#[utoipa::path(
    post, path = "/MessageList", operation_id = "MessageList",
    request_body = MessageListRequest,
    responses((status = 200, body = MessageListResponse), (status = 400, body = Problem, description = "Something is wrong with the request"))
)]
pub(super) async fn list(
    context: &Context,
    user: &User,
    request: &MessageListRequest,
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
