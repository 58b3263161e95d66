//! The CAs of `tls.ca_files`, for calls over HTTP.

use postrider_config::Static;
use reqwest::Certificate;

/// The CAs beside those of the system.
///
/// # Errors
/// If a file can't be read: its name, and what is wrong.
pub(crate) fn extra(statics: &Static) -> Result<Vec<Certificate>, String> {
    let mut roots = Vec::new();
    for file in &statics.tls.ca_files {
        let wrong = |error: String| format!("{}: {error}", file.display());
        let pem = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
        let read = Certificate::from_pem_bundle(&pem);
        roots.extend(read.map_err(|error| wrong(error.to_string()))?);
    }
    Ok(roots)
}
