//! The reader of journal segments. No content of a file makes it panic, loop, or use much memory.
//!
//! The input is used twice: as a whole file, and as a list of entries that get right checksums
//! (`docs/store-format.md`). Random bytes alone never pass the checksums.

#![no_main]

use crc32c::{crc32c, crc32c_append};
use libfuzzer_sys::fuzz_target;
use postrider_store::journal::check;

const SIZE: usize = 32 * 1024;

fuzz_target!(|data: &[u8]| {
    let _ = check(data);
    let mut image = vec![0; SIZE];
    image[..8].copy_from_slice(b"postrJNL");
    image[8] = 1;
    image[16] = 1;
    image[32..40].copy_from_slice(&(SIZE as u64).to_le_bytes());
    let crc = crc32c_append(crc32c(&image[..12]), &image[16..64]);
    image[12..16].copy_from_slice(&crc.to_le_bytes());
    let seed = crc32c_append(crc32c(&[0; 8]), &1_u64.to_le_bytes());

    let mut at = 4096;
    let mut rest = data;
    // Each entry: how far from the one before, then bytes 4 to 31 of its header with small numbers
    // made likely.
    while let Some((head, after)) = rest.split_at_checked(16) {
        rest = after;
        at = (at + usize::from(head[0]) * 8) % (SIZE - 64) / 8 * 8;
        let (op, text) = (
            u32::from(u16::from_le_bytes([head[1], head[2]])),
            u32::from(head[3]) * 64,
        );
        // Lengths beyond the file too.
        let stretch = if head[4] & 0xf0 == 0xf0 { 1 << 20 } else { 1 };
        let mut header = [0; 32];
        header[4] = head[5] % 4;
        header[5] = head[6];
        header[6] = head[7] & 1;
        header[8..16].copy_from_slice(
            &u64::from_le_bytes([head[8], head[9], 0, 0, 0, 0, 0, head[10]]).to_le_bytes(),
        );
        header[16..20].copy_from_slice(&op.saturating_mul(stretch).to_le_bytes());
        header[20..24].copy_from_slice(&text.saturating_mul(stretch).to_le_bytes());
        if let Some(payload) = image.get(at + 32..at + 32 + (op + text) as usize) {
            let (op, text) = payload.split_at(op as usize);
            header[24..28].copy_from_slice(&crc32c(op).to_le_bytes());
            header[28..32].copy_from_slice(&crc32c(text).to_le_bytes());
        }
        let offset = u32::try_from(at).unwrap_or_default();
        let crc = crc32c_append(crc32c_append(seed, &offset.to_le_bytes()), &header[4..]);
        header[..4].copy_from_slice(&crc.to_le_bytes());
        image[at..at + 32].copy_from_slice(&header);
    }
    let _ = check(&image);
});
