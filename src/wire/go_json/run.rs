//! Runs of bytes that need no closer look, sixteen at a time: nearly all of a request is such text.

use wide::u8x16;

/// Bytes in front of the first one that `marked` marks, or all of them.
pub(super) fn unmarked(bytes: &[u8], mut marked: impl FnMut(u8x16) -> u8x16) -> usize {
    let mut first = |block: [u8; 16]| marked(u8x16::new(block)).to_bitmask().trailing_zeros() as usize;
    let (blocks, tail) = bytes.as_chunks();
    for (at, block) in blocks.iter().enumerate() {
        let found = first(*block);
        if found < block.len() {
            return at * block.len() + found;
        }
    }
    let mut last = [0; 16];
    for (to, from) in last.iter_mut().zip(tail) {
        *to = *from;
    }
    blocks.len() * last.len() + first(last).min(tail.len())
}

/// Marks bytes that equal `byte`.
pub(super) fn is(bytes: u8x16, byte: u8) -> u8x16 {
    bytes.simd_eq(u8x16::splat(byte))
}

/// Marks control characters, up to the space.
pub(super) fn is_control(bytes: u8x16) -> u8x16 {
    bytes.simd_lt(u8x16::splat(b' '))
}
