//! What the requests of several methods have in common.

use postrider_smtp::Address;

use crate::{
    error::{ApiError, Code},
    json::{self, JsonError, Object},
};

/// Reads the fields of a request, which must be all that it has.
pub(crate) fn read<T>(
    text: &str,
    fields: impl FnOnce(&mut Object) -> Result<T, JsonError>,
) -> Result<T, ApiError> {
    let read = || {
        let mut object = Object::new(json::first_value(text)?, String::new())?;
        let request = fields(&mut object)?;
        object.finish()?;
        Ok(request)
    };
    read().map_err(|error: JsonError| ApiError::protocol(error.to_string()))
}

/// How many bytes pairs of texts have, all of them.
pub(crate) fn lengths<'a>(pairs: impl IntoIterator<Item = (&'a String, &'a String)>) -> usize {
    let pairs = pairs.into_iter();
    pairs.map(|(name, value)| name.len() + value.len()).sum()
}

/// An address as a caller gives it.
pub(crate) fn address(text: &str) -> Result<Address, ApiError> {
    Address::parse(text.trim()).map_err(|error| {
        ApiError::new(
            Code::BadAddress,
            format!("parsing address {text:?}: {error}"),
        )
    })
}
