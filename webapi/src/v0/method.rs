//! The methods of v0.

use postrider_store::Scope;

/// A method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Send,
    SuppressionList,
    SuppressionAdd,
    SuppressionRemove,
    SuppressionPresent,
    MessageGet,
    MessageRawGet,
    MessagePartGet,
    MessageDelete,
    MessageFlagsAdd,
    MessageFlagsRemove,
    MessageMove,
}

impl Method {
    pub(crate) const ALL: [Self; 12] = [
        Self::Send,
        Self::SuppressionList,
        Self::SuppressionAdd,
        Self::SuppressionRemove,
        Self::SuppressionPresent,
        Self::MessageGet,
        Self::MessageRawGet,
        Self::MessagePartGet,
        Self::MessageDelete,
        Self::MessageFlagsAdd,
        Self::MessageFlagsRemove,
        Self::MessageMove,
    ];

    /// The method of this name. Names are case-sensitive.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Send => "Send",
            Self::SuppressionList => "SuppressionList",
            Self::SuppressionAdd => "SuppressionAdd",
            Self::SuppressionRemove => "SuppressionRemove",
            Self::SuppressionPresent => "SuppressionPresent",
            Self::MessageGet => "MessageGet",
            Self::MessageRawGet => "MessageRawGet",
            Self::MessagePartGet => "MessagePartGet",
            Self::MessageDelete => "MessageDelete",
            Self::MessageFlagsAdd => "MessageFlagsAdd",
            Self::MessageFlagsRemove => "MessageFlagsRemove",
            Self::MessageMove => "MessageMove",
        }
    }

    /// The scope that a key needs for this method.
    pub(crate) const fn scope(self) -> Scope {
        match self {
            Self::Send => Scope::Send,
            Self::SuppressionList
            | Self::SuppressionAdd
            | Self::SuppressionRemove
            | Self::SuppressionPresent => Scope::Suppression,
            Self::MessageGet
            | Self::MessageRawGet
            | Self::MessagePartGet
            | Self::MessageDelete
            | Self::MessageFlagsAdd
            | Self::MessageFlagsRemove
            | Self::MessageMove => Scope::Messages,
        }
    }
}
