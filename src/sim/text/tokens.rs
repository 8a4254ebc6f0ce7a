//! Text cut into token-like pieces.
//!
//! A piece is a word or a mark with the space before it, so that plain English counts as it did in the
//! recordings (`Why is the sky blue?` is six).

use super::words::mix;

/// Characters of a word after which a new piece begins.
const LONGEST: usize = 10;

/// The pieces of `text`; joined they are the text again.
pub(super) fn pieces(text: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut piece = String::new();
    // letters in the piece so far; a piece of a space alone has none
    let mut letters = 0;
    for c in text.chars() {
        let joins = if c == ' ' {
            false
        } else if c.is_alphanumeric() || c == '_' {
            letters < LONGEST && (letters > 0 || piece.is_empty() || piece == " ")
        } else {
            c != '\n' && piece == " "
        };
        if !joins && !piece.is_empty() {
            out.push(std::mem::take(&mut piece));
            letters = 0;
        }
        piece.push(c);
        letters = if c.is_alphanumeric() || c == '_' { letters + 1 } else { 0 };
    }
    if !piece.is_empty() {
        out.push(piece);
    }
    out
}

/// Tokens of `text`.
pub(in crate::sim) fn count(text: &str) -> u64 {
    pieces(text).len() as u64
}

/// Token ids of `text`, as `context` of a generate reply lists them.
pub(in crate::sim) fn ids(text: &str) -> Vec<u64> {
    pieces(text).iter().map(|piece| 106 + mix(piece.as_bytes()) % 262_000).collect()
}
