//! The methods of v1, except the event stream.

use postrider_store::Scope;

/// A method that takes one request and gives one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Send,
    SendBatch,
    QueueList,
    QueueStatus,
    QueueCancel,
    Events,
    Stats,
    MessageList,
}

impl Method {
    pub(crate) const ALL: [Self; 8] = [
        Self::Send,
        Self::SendBatch,
        Self::QueueList,
        Self::QueueStatus,
        Self::QueueCancel,
        Self::Events,
        Self::Stats,
        Self::MessageList,
    ];

    /// The method of this name. Names are case-sensitive.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Send => "Send",
            Self::SendBatch => "SendBatch",
            Self::QueueList => "QueueList",
            Self::QueueStatus => "QueueStatus",
            Self::QueueCancel => "QueueCancel",
            Self::Events => "Events",
            Self::Stats => "Stats",
            Self::MessageList => "MessageList",
        }
    }

    /// The scope that a key needs for this method.
    pub(super) const fn scope(self) -> Scope {
        match self {
            Self::Send
            | Self::SendBatch
            | Self::QueueList
            | Self::QueueStatus
            | Self::QueueCancel => Scope::Send,
            Self::Events | Self::Stats => Scope::Events,
            Self::MessageList => Scope::Messages,
        }
    }
}
