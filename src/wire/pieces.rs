//! A body in pieces: what is written here, and between it parts of upstream's own body, which nobody copies.

use bytes::Bytes;

/// A body while it is written.
#[derive(Default)]
pub(super) struct Pieces {
    /// What is written.
    pub(super) out: Vec<u8>,
    /// Parts of another body, each with how much of `out` stands before it.
    parts: Vec<(usize, Bytes)>,
}

impl Pieces {
    /// Appends a part of another body.
    pub(super) fn part(&mut self, part: Bytes) {
        self.parts.push((self.out.len(), part));
    }

    /// The body; no piece of it is empty.
    pub(super) fn finish(self) -> Vec<Bytes> {
        let (mut out, mut taken) = (Bytes::from(self.out), 0);
        let mut pieces = Vec::with_capacity(2 * self.parts.len() + 1);
        for (before, part) in self.parts {
            pieces.extend([out.split_to(before - taken), part]);
            taken = before;
        }
        pieces.push(out);
        pieces.retain(|piece| !piece.is_empty());
        pieces
    }
}
