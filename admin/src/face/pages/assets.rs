//! The files for browsers: one style sheet, one script, one icon. They are part of the program.
//! Each has its hash in its name, so that browsers keep it for good.

use std::sync::LazyLock;

use axum::{
    body::Bytes,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, VARY},
    },
    response::{IntoResponse, Response},
};
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};
use std::io::Write;

use crate::op::hex;

/// A file for browsers.
pub(super) struct Asset {
    name: String,
    path: String,
    kind: &'static str,
    plain: Bytes,
    packed: Bytes,
}

impl Asset {
    fn new(name: &str, ending: &str, kind: &'static str, texts: &[&str]) -> Self {
        let plain = texts.concat();
        let mut hash = hex(Sha256::digest(&plain));
        hash.truncate(12);
        let name = format!("{name}.{hash}.{ending}");
        let mut packer = GzEncoder::new(Vec::new(), Compression::best());
        // Writing to memory does not fail; without the packed form the plain one is sent.
        let packed = packer
            .write_all(plain.as_bytes())
            .and_then(|()| packer.finish());
        Self {
            path: format!("/assets/{name}"),
            name,
            kind,
            packed: packed.unwrap_or_default().into(),
            plain: plain.into(),
        }
    }

    /// Where browsers find it.
    pub(super) fn path(&self) -> &str {
        &self.path
    }
}

/// How all pages look.
pub(super) static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    let texts = [include_str!("../../../assets/style.css")];
    Asset::new("style", "css", "text/css; charset=utf-8", &texts)
});

/// htmx with its extension for streams, and our own script. In files of their own the extension is
/// often too late for the first stream.
pub(super) static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    let texts = [
        include_str!("../../../assets/htmx.js"),
        ";\n",
        include_str!("../../../assets/hx-sse.js"),
        ";\n",
        include_str!("../../../assets/script.js"),
    ];
    Asset::new("script", "js", "text/javascript; charset=utf-8", &texts)
});

/// The icon of the pages.
pub(super) static ICON: LazyLock<Asset> = LazyLock::new(|| {
    let texts = [include_str!("../../../assets/icon.svg")];
    Asset::new("icon", "svg", "image/svg+xml", &texts)
});

/// Answers a request for a file.
pub(super) fn file(name: &str, headers: &HeaderMap) -> Response {
    let assets = [&STYLE, &SCRIPT, &ICON];
    let Some(asset) = assets.into_iter().find(|asset| asset.name == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let accepts = headers.get(ACCEPT_ENCODING).and_then(|it| it.to_str().ok());
    let takes_gzip = accepts.is_some_and(|list| {
        let mut list = list.split(',');
        list.any(|one| one.trim().split(';').next() == Some("gzip"))
    });
    let body = match takes_gzip && !asset.packed.is_empty() {
        true => &asset.packed,
        false => &asset.plain,
    };
    let mut response = body.clone().into_response();
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    fields.insert(VARY, HeaderValue::from_static("accept-encoding"));
    let for_good = "public, max-age=31536000, immutable";
    fields.insert(CACHE_CONTROL, HeaderValue::from_static(for_good));
    if takes_gzip && !asset.packed.is_empty() {
        fields.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_their_hash_in_their_name_and_are_small() {
        let all: usize = [&STYLE, &SCRIPT, &ICON]
            .iter()
            .map(|it| it.packed.len())
            .sum();
        assert!(all < 40_000, "{all} bytes");
        assert!(STYLE.path().starts_with("/assets/style.") && STYLE.path().ends_with(".css"));
        let mut headers = HeaderMap::new();
        let plain = file(&SCRIPT.name, &headers);
        assert!(plain.headers().get(CONTENT_ENCODING).is_none());
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("br, gzip;q=0.5"));
        let packed = file(&SCRIPT.name, &headers);
        assert_eq!(packed.headers()[CONTENT_ENCODING], "gzip");
        assert_eq!(file("style.css", &headers).status(), StatusCode::NOT_FOUND);
    }
}
