//! Limits of an answer in JSON.

use super::answer::Failure;
use crate::json::Parts;

/// The most levels of objects and lists. Real answers have five.
const LEVELS_MAX: usize = 32;
/// The most commas between values. Each value takes memory beside its text.
const COMMAS_MAX: usize = 200_000;

/// Looks over an answer before a parser makes values of it.
///
/// # Errors
/// If it would make too many values.
pub(super) fn check_json(body: &[u8]) -> Result<(), Failure> {
    let parts = Parts::of(body);
    let too_many = if parts.levels > LEVELS_MAX {
        format!("more than {LEVELS_MAX} levels of objects and lists")
    } else if parts.commas > COMMAS_MAX {
        format!("more than {COMMAS_MAX} values")
    } else {
        return Ok(());
    };
    Err(Failure::invalid(format_args!("its answer has {too_many}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_limit_of_levels_and_values() {
        for (body, expected) in [
            ("[".repeat(LEVELS_MAX), ""),
            ("[".repeat(LEVELS_MAX + 1), "more than 32 levels"),
            (",".repeat(COMMAS_MAX), ""),
            (",".repeat(COMMAS_MAX + 1), "more than 200000 values"),
        ] {
            let text = check_json(body.as_bytes()).map_or_else(|it| it.to_string(), |()| "".into());
            assert!(text.contains(expected) && text.is_empty() == expected.is_empty());
        }
    }
}
