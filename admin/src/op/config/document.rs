//! Edits of `domains.conf` that look as a person would make them.
//!
//! A person may write a table in four ways: with a header, with dotted keys, as an inline table, or
//! as a mix of these. A new entry takes the form of its siblings. Comments and order stay. A
//! removed entry takes along the comment right above it, and a comment in a paragraph of its own
//! stays.
//!
//! A path is the list of the names from the root of the document to an entry, each as the file
//! spells it. A number is the index in an array of tables.

mod lines;

use postrider_config::toml_edit::{
    Array, Decor, Document, DocumentMut, InlineTable, Item, RawString, Table, TableLike, Value,
};

use self::lines::Lines;
use crate::AdminError;

/// The table at a path; None if there is none.
pub(super) fn table<'a>(document: &'a DocumentMut, path: &[&str]) -> Option<&'a dyn TableLike> {
    let mut table: &dyn TableLike = document.as_table();
    for name in path {
        table = table.get(name)?.as_table_like()?;
    }
    Some(table)
}

/// The name of an entry in the table at a path, as the file spells it; None if no name is meant by
/// `is_meant`.
pub(super) fn spelled(
    document: &DocumentMut,
    path: &[&str],
    is_meant: impl Fn(&str) -> bool,
) -> Option<String> {
    let mut names = table(document, path)?.iter();
    let found = names.find(|(name, item)| !item.is_none() && is_meant(name))?;
    Some(found.0.to_owned())
}

/// The table at a path, with the tables on the way to it, made if needed.
fn table_mut<'a>(
    document: &'a mut DocumentMut,
    path: &[&str],
) -> Result<&'a mut dyn TableLike, AdminError> {
    let mut table: &mut dyn TableLike = document.as_table_mut();
    for (depth, name) in path.iter().enumerate() {
        if table.get(name).is_none_or(Item::is_none) {
            let mut new = Table::new();
            match depth {
                // `[accounts.jane]` needs no line `[accounts]`.
                0 => new.set_implicit(true),
                1 => {}
                // In `[accounts.jane]`: `outgoing_webhook.url = ...`.
                _ => new.set_dotted(true),
            }
            table.insert(name, Item::Table(new));
        }
        let item = table.get_mut(name);
        table = item
            .and_then(Item::as_table_like_mut)
            .ok_or_else(|| AdminError::invalid(format!("{name} is not a table in the file")))?;
    }
    Ok(table)
}

/// Splits a path into the path of the table and the name in it.
fn split<'a, 'b>(path: &'b [&'a str]) -> Result<(&'b [&'a str], &'a str), AdminError> {
    let (name, parent) = path
        .split_last()
        .ok_or_else(|| AdminError::internal("an edit without a key"))?;
    Ok((parent, name))
}

/// Sets a value. The comment behind an old value stays.
pub(super) fn set(
    document: &mut DocumentMut,
    path: &[&str],
    value: impl Into<Value>,
) -> Result<(), AdminError> {
    let (parent, name) = split(path)?;
    let table = table_mut(document, parent)?;
    let mut value = value.into();
    match table.get_mut(name).filter(|item| !item.is_none()) {
        Some(item) => {
            if let Some(old) = item.as_value() {
                *value.decor_mut() = old.decor().clone();
            }
            *item = Item::Value(value);
        }
        None => insert(table, name, Item::Value(value)),
    }
    Ok(())
}

/// Inserts a new entry. In an inline table, the blank before the closing brace stays there.
fn insert(table: &mut dyn TableLike, name: &str, mut item: Item) {
    if let Some((_, Item::Value(last))) = table.iter_mut().last() {
        let suffix = raw(last.decor().suffix());
        if !suffix.is_empty() && suffix.trim().is_empty() {
            last.decor_mut().set_suffix("");
            if let Item::Value(value) = &mut item {
                value.decor_mut().set_suffix(suffix);
            }
        }
    }
    table.insert(name, item);
}

/// Adds a table, in the form of its siblings: with a header, with dotted keys, or inline.
pub(super) fn add_table(
    document: &mut DocumentMut,
    path: &[&str],
    content: InlineTable,
) -> Result<(), AdminError> {
    let (parent, name) = split(path)?;
    let depth = parent.len();
    let parent = table_mut(document, parent)?;
    let headers = |item: &Item| item.as_table().is_some_and(|table| !table.is_dotted());
    let has_headers = parent.iter().any(|(_, item)| headers(item));
    let item = if depth == 1 || has_headers {
        Item::Table(content.into_table())
    } else {
        Item::Value(content.into())
    };
    insert(parent, name, item);
    Ok(())
}

/// Makes a table with a header of its own, empty at first. Without effect if there is one.
pub(super) fn set_header(document: &mut DocumentMut, path: &[&str]) -> Result<(), AdminError> {
    let (parent, name) = split(path)?;
    let parent = table_mut(document, parent)?;
    if !parent.contains_key(name) {
        parent.insert(name, Item::Table(Table::new()));
    }
    Ok(())
}

/// Changes an array of values. Makes the array if there is none, and removes it if it becomes
/// empty.
pub(super) fn change_array(
    document: &mut DocumentMut,
    path: &[&str],
    change: impl FnOnce(&mut Array),
) -> Result<(), AdminError> {
    let (parent, name) = split(path)?;
    let table = table_mut(document, parent)?;
    if table.get(name).is_none_or(Item::is_none) {
        table.insert(name, Item::Value(Array::new().into()));
    }
    let array = table
        .get_mut(name)
        .and_then(Item::as_array_mut)
        .ok_or_else(|| AdminError::invalid(format!("{name} is not an array in the file")))?;
    change(array);
    if array.is_empty() {
        remove(document, path)?;
    }
    Ok(())
}

/// The part of a text before its first line end.
fn head(text: &str) -> &str {
    text.split('\n').next().unwrap_or(text)
}

/// The part of a text from its first line end on.
fn tail(text: &str) -> &str {
    text.get(head(text).len()..).unwrap_or("")
}

fn raw(text: Option<&RawString>) -> String {
    text.and_then(RawString::as_str).unwrap_or("").to_owned()
}

fn prefix(value: &Value) -> String {
    raw(value.decor().prefix())
}

/// Adds an element at the end of an array. In an array with one element in each line it gets a line
/// of its own, behind the comment of the last element.
pub(super) fn push(array: &mut Array, value: impl Into<Value>) {
    let mut value = value.into();
    let Some(last) = array.len().checked_sub(1) else {
        return array.push_formatted(value);
    };
    let before = array.get(last).map(prefix).unwrap_or_default();
    let indent = match before.rsplit_once('\n') {
        Some((_, indent)) => format!("\n{indent}"),
        None => " ".to_owned(),
    };
    // The comment of the last element is behind that element, or behind the last comma.
    let trailing = raw(Some(array.trailing()));
    let mut comment = head(&trailing).to_owned();
    array.set_trailing(tail(&trailing).to_owned());
    let mut end = String::new();
    if let Some(last) = array.get_mut(last) {
        let suffix = raw(last.decor().suffix());
        comment = format!("{}{comment}", head(&suffix).trim_end());
        tail(&suffix).clone_into(&mut end);
        last.decor_mut().set_suffix("");
    }
    let comment = comment.trim_end();
    let line = if comment.is_empty() || indent.starts_with('\n') {
        indent
    } else {
        format!("\n{indent}")
    };
    *value.decor_mut() = Decor::new(format!("{comment}{line}"), end);
    array.push_formatted(value);
}

/// Removes the elements that `is_meant` chooses, each with the comment behind it.
pub(super) fn remove_elements(array: &mut Array, is_meant: impl Fn(&Value) -> bool) {
    let mut index = 0;
    while let Some(value) = array.get(index) {
        match is_meant(value) {
            true => remove_element(array, index),
            false => index += 1,
        }
    }
}

/// Removes an element with the comment behind it. Without effect if there is no such element.
pub(super) fn remove_element(array: &mut Array, index: usize) {
    // A comment behind an element is in the first line before the next one.
    let Some(before) = array.get(index).map(prefix) else {
        return;
    };
    array.remove(index);
    match array.get_mut(index) {
        Some(next) => {
            let text = format!("{}{}", head(&before), tail(&prefix(next)));
            next.decor_mut().set_prefix(text);
        }
        None => {
            let trailing = raw(Some(array.trailing()));
            if trailing.contains('\n') {
                array.set_trailing(format!("{}{}", head(&before), tail(&trailing)));
            }
        }
    }
}

/// A table of an array of tables; None if there is no such table.
pub(super) fn element<'a>(
    document: &'a mut DocumentMut,
    path: &[&str],
    index: usize,
) -> Option<&'a mut dyn TableLike> {
    let mut item = document.as_item_mut();
    for name in path {
        item = item.as_table_like_mut()?.get_mut(name)?;
    }
    match item {
        Item::ArrayOfTables(tables) => Some(tables.get_mut(index)?),
        Item::Value(Value::Array(array)) => Some(array.get_mut(index)?.as_inline_table_mut()?),
        _ => None,
    }
}

/// Adds a table to an array of tables, before the one with this index or at the end. A new array is
/// one of inline tables.
pub(super) fn insert_element(
    document: &mut DocumentMut,
    path: &[&str],
    index: Option<usize>,
    content: InlineTable,
) -> Result<(), AdminError> {
    let (parent, name) = split(path)?;
    let table = table_mut(document, parent)?;
    if let Some(Item::ArrayOfTables(tables)) = table.get_mut(name) {
        let index = index.unwrap_or(tables.len()).min(tables.len());
        let mut table = content.into_table();
        // Without a position it would stand at the beginning of the file.
        table.set_position(tables.get(index).and_then(Table::position));
        tables.insert(index, table);
        return Ok(());
    }
    change_array(document, path, |array| {
        let next = index.and_then(|index| Some((index, prefix(array.get(index)?))));
        let Some((index, before)) = next else {
            return push(array, content);
        };
        if let Some(next) = array.get_mut(index).filter(|_| !before.contains('\n')) {
            next.decor_mut().set_prefix(" ");
        }
        let mut value = Value::from(content);
        *value.decor_mut() = Decor::new(before, "");
        array.insert_formatted(index, value);
    })
}

/// Removes an element of an array, which may be one of tables. False: there is no such element.
pub(super) fn remove_at(
    document: &mut DocumentMut,
    path: &[&str],
    index: usize,
) -> Result<bool, AdminError> {
    let length = match find(document.as_item(), path) {
        Some(Item::ArrayOfTables(tables)) => tables.len(),
        Some(Item::Value(Value::Array(array))) if index < array.len() => {
            change_array(document, path, |array| remove_element(array, index))?;
            return Ok(true);
        }
        _ => 0,
    };
    if length == 1 && index == 0 {
        return remove(document, path);
    }
    if index >= length {
        return Ok(false);
    }
    let text = document.to_string();
    let parsed = Document::parse(text.as_str()).map_err(broken)?;
    let mut lines = Lines::new(&text);
    if let Some(Item::ArrayOfTables(tables)) = find(parsed.as_item(), path) {
        tables
            .get(index)
            .into_iter()
            .for_each(|it| lines.add_table(it));
    }
    *document = lines.without().parse().map_err(broken)?;
    Ok(true)
}

/// Removes an entry, and the tables around it that become empty. False: there is no such entry.
pub(super) fn remove(document: &mut DocumentMut, path: &[&str]) -> Result<bool, AdminError> {
    let (parent, name) = split(path)?;
    match find(document.as_item(), path) {
        None => return Ok(false),
        Some(Item::None) => return Ok(false),
        Some(_) => {}
    }
    if inside_inline(document, parent) {
        remove_inline(document, parent, name);
    } else {
        remove_lines(document, path)?;
    }
    // An account, a domain and a destination exist by their names. Another empty table says
    // nothing.
    let exists_by_name = parent.len() == 2 || parent.iter().rev().nth(1) == Some(&"destinations");
    match find(document.as_item(), parent).and_then(Item::as_table_like) {
        None if exists_by_name => set(document, parent, InlineTable::new())?,
        Some(table) if table.is_empty() && !parent.is_empty() && !exists_by_name => {
            remove(document, parent)?;
        }
        _ => {}
    }
    Ok(true)
}

/// The item at a path. A number is an index in an array of tables.
fn find<'a>(root: &'a Item, path: &[&str]) -> Option<&'a Item> {
    let Some((name, rest)) = path.split_first() else {
        return Some(root);
    };
    match root {
        Item::ArrayOfTables(_) => None,
        item => find(item.as_table_like()?.get(name)?, rest),
    }
}

/// Whether a table on the way to an entry is inline. Then the entry has no lines of its own.
fn inside_inline(document: &DocumentMut, parent: &[&str]) -> bool {
    (1..=parent.len()).any(|depth| {
        let item = parent
            .get(..depth)
            .and_then(|path| find(document.as_item(), path));
        item.is_some_and(Item::is_inline_table)
    })
}

fn remove_inline(document: &mut DocumentMut, parent: &[&str], name: &str) {
    let mut table: &mut dyn TableLike = document.as_table_mut();
    for name in parent {
        match table.get_mut(name).and_then(Item::as_table_like_mut) {
            Some(inner) => table = inner,
            None => return,
        }
    }
    let removed = table.remove(name);
    let suffix = removed
        .as_ref()
        .and_then(Item::as_value)
        .map(|value| raw(value.decor().suffix()));
    // The blank before the closing brace belongs to the last value.
    let last = table.iter_mut().last();
    if let (Some(suffix), Some((_, Item::Value(last)))) = (suffix, last)
        && !suffix.is_empty()
    {
        last.decor_mut().set_suffix(suffix);
    }
}

fn broken(error: impl std::fmt::Display) -> AdminError {
    AdminError::internal(format!("an edit of the file failed: {error}"))
}

/// The lines of an entry. None if it has no lines of its own.
fn with_lines<T>(
    document: &DocumentMut,
    path: &[&str],
    f: impl FnOnce(&Lines<'_>) -> T,
) -> Result<Option<T>, AdminError> {
    let text = document.to_string();
    let parsed = Document::parse(text.as_str()).map_err(broken)?;
    let mut lines = Lines::new(&text);
    let (parent, name) = split(path)?;
    let table = find(parsed.as_item(), parent).and_then(Item::as_table_like);
    let Some((key, item)) = table.and_then(|table| table.get_key_value(name)) else {
        return Ok(None);
    };
    lines.add_item(key.span(), item);
    Ok((!lines.own.is_empty()).then(|| f(&lines)))
}

fn remove_lines(document: &mut DocumentMut, path: &[&str]) -> Result<(), AdminError> {
    if let Some(text) = with_lines(document, path, |lines| lines.without())? {
        *document = text.parse().map_err(broken)?;
    }
    // A table that only its entries in other places show has no lines.
    let (parent, name) = split(path)?;
    if find(document.as_item(), path).is_some() {
        remove_inline(document, parent, name);
    }
    Ok(())
}

/// Writes comment lines right above an entry. Without effect for an entry in an inline table.
pub(super) fn comment(
    document: &mut DocumentMut,
    path: &[&str],
    comment: &[String],
) -> Result<(), AdminError> {
    let (parent, _) = split(path)?;
    if inside_inline(document, parent) {
        return Ok(());
    }
    let text = with_lines(document, path, |lines| {
        let first = lines.own.iter().find(|line| !lines.is_comment(**line))?;
        let start = *lines.starts.get(*first)?;
        let (before, after) = lines.text.split_at_checked(start)?;
        let indent: String = after.chars().take_while(|c| *c == ' ').collect();
        let comment = comment.iter().map(|line| format!("{indent}# {line}\n"));
        Some(format!("{before}{}{after}", comment.collect::<String>()))
    })?;
    if let Some(text) = text.flatten() {
        *document = text.parse().map_err(broken)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
