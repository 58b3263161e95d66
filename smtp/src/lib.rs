//! What goes over an SMTP wire and what it means.
