//! The two configuration files as types: parse, check, describe, rewrite, watch.
