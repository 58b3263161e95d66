//! Runs the check of a fuzz target over its seeds and findings.

use std::{fs, path::Path};

/// Fails where the check fails for a file of the corpus, and without a file.
pub(crate) fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../testdata/fuzz")
        .join(target);
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        eprintln!("{}", path.display());
        check(&fs::read(path).unwrap());
        seen += 1;
    }
    assert!(seen > 0, "no corpus for {target}");
}
