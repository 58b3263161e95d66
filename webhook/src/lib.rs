//! What applications are told of their messages, and the calling of them.
