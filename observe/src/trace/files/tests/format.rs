//! Files of older and newer versions.

use super::*;

/// Version 1 had no checksum of the body.
#[test]
fn an_index_of_version_1_is_read() {
    let dir = tempdir().unwrap();
    seal(&dir, 1..4);
    let path = &names(&dir, "index")[0];
    let mut bytes = fs::read(path).unwrap();
    bytes.truncate(bytes.len() - 4);
    assert_eq!(bytes[8], 2);
    bytes[8] = 1;
    const HEAD: usize = 64;
    let checksum = crc32c::crc32c(&bytes[..HEAD - 4]);
    bytes[HEAD - 4..HEAD].copy_from_slice(&checksum.to_le_bytes());
    fs::write(path, &bytes).unwrap();
    let files = open(&dir);
    assert_eq!(find(&files, &of_queue(2)), [2]);
    assert_eq!(fs::read(path).unwrap(), bytes, "it stays as it is");
}

#[test]
fn a_newer_format_is_refused_with_a_sentence() {
    for (ending, magic) in [("traces", b"PRTRACES"), ("index", b"PRTRINDX")] {
        let dir = tempdir().unwrap();
        seal(&dir, 1..4);
        let path = &names(&dir, ending)[0];
        let mut bytes = fs::read(path).unwrap();
        assert_eq!(&bytes[..8], magic);
        bytes[8] = 9;
        fs::write(path, &bytes).unwrap();
        if ending == "traces" {
            fs::remove_file(&names(&dir, "index")[0]).unwrap();
        }
        for error in [
            Files::open(dir.path(), limits(1, 1 << 30)).unwrap_err(),
            Files::read(dir.path()).unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(text.contains("has format 9 of traces"), "{text}");
            assert!(text.contains("use the newer version"), "{text}");
        }
        assert_eq!(fs::read(path).unwrap(), bytes, "nothing changed");
    }
}
