//! What administrators do: passwords, domains, accounts, keys, and the running server's control.
