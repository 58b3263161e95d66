//! The paths of calls and pages.

/// The variable elements of a path, if it is like `pattern`: an element in braces stands for any
/// text but the empty one.
pub(super) fn elements(pattern: &str, path: &[&str]) -> Option<Vec<String>> {
    let mut elements = Vec::new();
    let mut given = path.iter();
    for wanted in pattern.split('/') {
        let found = given.next()?;
        if wanted.starts_with('{') {
            elements.push((!found.is_empty()).then(|| (*found).to_owned())?);
        } else if wanted != *found {
            return None;
        }
    }
    given.next().is_none().then_some(elements)
}
