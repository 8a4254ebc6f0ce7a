//! Runs of bytes that need no closer look, sixteen at a time: nearly all of a request is such text.

use wide::u8x16;

/// Bytes in front of the first one that `marked` marks, or all of them. It must mark what it marks wherever it stands.
#[inline]
pub(super) fn unmarked(bytes: &[u8], mut marked: impl FnMut(u8x16) -> u8x16) -> usize {
    let mut first = |block: [u8; 16]| marked(u8x16::new(block)).to_bitmask().trailing_zeros() as usize;
    let (mut rest, all) = (bytes, bytes.len());
    while let Some((block, after)) = rest.split_first_chunk() {
        let found = first(*block);
        if found < block.len() {
            return all - rest.len() + found;
        }
        rest = after;
    }
    if rest.is_empty() {
        return all;
    }
    // what a block of the last bytes repeats is known to hold no mark
    if let Some(block) = bytes.last_chunk::<16>() {
        return (all - block.len() + first(*block)).min(all);
    }
    if let (Some(front), Some(back)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let both = u128::from(u64::from_le_bytes(*back)) << 64 | u128::from(u64::from_le_bytes(*front));
        let found = first(both.to_le_bytes());
        return if found < front.len() { found } else { (all + found - 16).min(all) };
    }
    let mut block = [0; 16];
    for (to, from) in block.iter_mut().zip(bytes) {
        *to = *from;
    }
    first(block).min(all)
}

/// Marks bytes that equal `byte`.
pub(super) fn is(bytes: u8x16, byte: u8) -> u8x16 {
    bytes.simd_eq(u8x16::splat(byte))
}

/// Marks control characters, up to the space.
pub(super) fn is_control(bytes: u8x16) -> u8x16 {
    bytes.simd_lt(u8x16::splat(b' '))
}

/// Marks bytes that are no signs of standard base64.
pub(super) fn is_no_base64(bytes: u8x16) -> u8x16 {
    let within = |bytes: u8x16, first, count| (bytes - u8x16::splat(first)).simd_lt(u8x16::splat(count));
    let letter = within(bytes | u8x16::splat(0x20), b'a', 26);
    // the slash stands before the digits
    let slash_or_digit = within(bytes, b'/', 11);
    !(letter | slash_or_digit | is(bytes, b'+'))
}
