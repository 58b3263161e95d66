//! What becomes of an outgoing message.
