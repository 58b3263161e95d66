//! Packed files for tests.

use std::io::Write as _;

use flate2::{
    Compress, Compression, Crc, FlushCompress,
    write::{DeflateEncoder, GzEncoder},
};

pub(crate) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(content).unwrap();
    gzip.finish().unwrap()
}

/// Deflated zeros: this many MiB. The same piece stands there again and again, so that nobody has
/// them unpacked.
pub(crate) fn deflated_zeros(mib: usize) -> Vec<u8> {
    let mut piece = Vec::with_capacity(64 << 10);
    let mut compress = Compress::new(Compression::best(), false);
    let zeros = vec![0; 1 << 20];
    compress
        .compress_vec(&zeros, &mut piece, FlushCompress::Full)
        .unwrap();
    piece.repeat(mib)
}

/// A gzip file with these deflated bytes, which has no end.
pub(crate) fn gzip_of(deflated: &[u8]) -> Vec<u8> {
    let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    [&header[..], deflated].concat()
}

fn crc(content: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(content);
    crc.sum()
}

/// An archive of these files, deflated.
pub(crate) fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let deflated: Vec<Vec<u8>> = files
        .iter()
        .map(|(_, content)| {
            let mut deflate = DeflateEncoder::new(Vec::new(), Compression::default());
            deflate.write_all(content).unwrap();
            deflate.finish().unwrap()
        })
        .collect();
    let files = files.iter().zip(&deflated);
    let files: Vec<_> = files
        .map(|((name, content), deflated)| (*name, 8, crc(content), &**deflated))
        .collect();
    zip_of(&files)
}

/// An archive of these files as they are.
pub(crate) fn zip_stored(files: &[(&str, &[u8])]) -> Vec<u8> {
    let files = files.iter();
    let files: Vec<_> = files
        .map(|(name, content)| (*name, 0, crc(content), *content))
        .collect();
    zip_of(&files)
}

/// An archive of these entries: the name, the method, the checksum, and the packed bytes.
pub(crate) fn zip_of(entries: &[(&str, u16, u32, &[u8])]) -> Vec<u8> {
    let (mut archive, mut list) = (Vec::new(), Vec::new());
    let size = |bytes: usize| u32::try_from(bytes).unwrap().to_le_bytes();
    for (name, method, crc, packed) in entries {
        let at = size(archive.len());
        let mut common = Vec::new();
        // The version, no flags, the method, no time.
        common.extend([20, 0, 0, 0]);
        common.extend(method.to_le_bytes());
        common.extend([0; 4]);
        common.extend(crc.to_le_bytes());
        common.extend(size(packed.len()));
        common.extend(size(packed.len()));
        common.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
        common.extend([0; 2]);
        archive.extend(b"PK\x03\x04");
        archive.extend(&common);
        archive.extend(name.as_bytes());
        archive.extend(*packed);
        list.extend(b"PK\x01\x02\x14\0");
        list.extend(&common);
        // No comment, the first disk, no attributes.
        list.extend([0; 10]);
        list.extend(at);
        list.extend(name.as_bytes());
    }
    let at = archive.len();
    let count = u16::try_from(entries.len()).unwrap().to_le_bytes();
    archive.extend(&list);
    archive.extend(b"PK\x05\x06\0\0\0\0");
    archive.extend(count);
    archive.extend(count);
    archive.extend(size(list.len()));
    archive.extend(size(at));
    archive.extend([0; 2]);
    archive
}
