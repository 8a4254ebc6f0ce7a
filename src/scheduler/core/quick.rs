//! Maps by numbers that are ours, hashed by one multiplication.
//!
//! Owns the hasher. Nobody outside chooses these keys, so none can be made to collide, and what the standard map spends on
//! that would be most of a look-up. Not for names that come from outside.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// An odd number whose bits look random (2^64 ÷ the golden ratio).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// See the module's header.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Quick(u64);

/// A map by such numbers.
pub(super) type QuickMap<K, V> = HashMap<K, V, BuildHasherDefault<Quick>>;

impl Hasher for Quick {
    fn finish(&self) -> u64 {
        // the map looks at the lowest and the highest bits; the product's best ones are the highest
        self.0.rotate_left(26)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(SPREAD);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_u16(&mut self, number: u16) {
        self.write_u64(u64::from(number));
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number.unsigned_abs() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_a_row_are_spread() {
        let mut low = std::collections::BTreeSet::new();
        let mut high = std::collections::BTreeSet::new();
        for number in 0..4096_u64 {
            let mut hasher = Quick::default();
            hasher.write_u64(number);
            low.insert(hasher.finish() & 4095);
            high.insert(hasher.finish() >> 57);
        }
        assert!(low.len() > 2000 && high.len() == 128, "{} {}", low.len(), high.len());
    }
}
