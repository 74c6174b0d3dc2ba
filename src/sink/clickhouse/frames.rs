//! Compressed blocks as the server reads them from a body: `decompress=1`.
//!
//! A frame is a checksum, a header and what LZ4 made of the bytes, see
//! <https://clickhouse.com/docs/native-protocol/hash>: `CityHash128` of version 1.0.2 over header and
//! data, so that what changed on the way is refused and not stored.

/// How much becomes one frame.
const CHUNK: usize = 1 << 20;
const CHECKSUM: usize = 16;
const HEADER: usize = 9;
const LZ4: u8 = 0x82;

/// Appends `bytes` to `out` as frames.
pub(super) fn compress(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.chunks(CHUNK) {
        let start = out.len();
        let room = lz4_flex::block::get_maximum_output_size(chunk.len());
        out.resize(start + CHECKSUM + HEADER + room, 0);
        let data = &mut out[start + CHECKSUM + HEADER..];
        // It fails only where there is too little room.
        let length = lz4_flex::block::compress_into(chunk, data).unwrap_or_default();
        out.truncate(start + CHECKSUM + HEADER + length);
        let (checksum, rest) = out[start..].split_at_mut(CHECKSUM);
        rest[0] = LZ4;
        rest[1..5].copy_from_slice(&((HEADER + length) as u32).to_le_bytes());
        rest[5..HEADER].copy_from_slice(&(chunk.len() as u32).to_le_bytes());
        let hash = cityhash_rs::cityhash_102_128(rest).rotate_right(64);
        checksum.copy_from_slice(&hash.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_hold_all_bytes_in_order() {
        let bytes: Vec<u8> = (0..3 * CHUNK + 17).map(|n| (n % 251) as u8).collect();
        let mut out = Vec::new();
        compress(&bytes, &mut out);
        let (mut rest, mut back) = (&out[..], Vec::new());
        while !rest.is_empty() {
            let number = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
            let (packed, size) = (number(CHECKSUM + 1) as usize, number(CHECKSUM + 5) as usize);
            let hash = cityhash_rs::cityhash_102_128(&rest[CHECKSUM..CHECKSUM + packed]);
            assert_eq!(rest[..CHECKSUM], hash.rotate_right(64).to_le_bytes());
            let data = &rest[CHECKSUM + HEADER..CHECKSUM + packed];
            back.extend(lz4_flex::block::decompress(data, size).unwrap());
            rest = &rest[CHECKSUM + packed..];
        }
        assert_eq!(back, bytes);
        assert!(out.len() < bytes.len() / 50);
        let mut none = Vec::new();
        compress(&[], &mut none);
        assert!(none.is_empty());
    }
}
