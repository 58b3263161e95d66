//! The keys of both files.

use std::sync::LazyLock;

use crate::{
    keys_dynamic, keys_static,
    schema::{Node, Section},
};

/// The keys of `postrider.conf`, in the order of the documentation.
pub static STATIC: &[Section] = keys_static::SECTIONS;
/// The keys of `domains.conf`, in the order of the documentation.
pub static DYNAMIC: &[Section] = keys_dynamic::SECTIONS;

/// The tree of `postrider.conf`.
pub(crate) static STATIC_TREE: LazyLock<Node> = LazyLock::new(|| Node::new(STATIC));
/// The tree of `domains.conf`.
pub(crate) static DYNAMIC_TREE: LazyLock<Node> = LazyLock::new(|| Node::new(DYNAMIC));
