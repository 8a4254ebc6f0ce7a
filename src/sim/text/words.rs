//! A repeatable source of numbers and of words.

use super::tokens::pieces;

const WORDS: [&str; 64] = [
    "a", "and", "the", "of", "in", "that", "as", "at", "calm", "river", "amber", "light", "carries", "small", "boats",
    "past", "quiet", "harbour", "where", "old", "maps", "rest", "under", "glass", "each", "day", "begins", "with",
    "warm", "bread", "talk", "about", "stars", "which", "sailors", "named", "after", "islands", "far", "away", "today",
    "many", "people", "ask", "why", "water", "always", "finds", "its", "way", "back", "because", "land", "leans",
    "toward", "sea", "rain", "makes", "paths", "across", "every", "grassy", "plain", "again",
];

/// A number that depends on every byte (FNV-1a, then mixed).
pub(super) fn mix(bytes: &[u8]) -> u64 {
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    Source(hash).next()
}

/// A small generator (splitmix64): the same seed gives the same numbers for ever.
#[derive(Debug, Clone)]
pub(super) struct Source(pub(super) u64);

impl Source {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound` (which must not be zero; then it is zero).
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let bound = bound as u64;
        usize::try_from(self.next().checked_rem(bound).unwrap_or(0)).unwrap_or(0)
    }

    pub(super) fn word(&mut self) -> &'static str {
        let at = self.below(WORDS.len());
        WORDS.get(at).copied().unwrap_or("a")
    }
}

/// Sentences of about `tokens` pieces, with words of the prompt here and there.
pub(super) fn sentences(source: &mut Source, prompt: &str, tokens: u64) -> String {
    let known: Vec<&str> = prompt
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty() && word.chars().count() <= 12)
        .take(64)
        .collect();
    let mut text = String::new();
    let mut made = 0;
    let mut left = 0;
    while made < tokens {
        let borrowed = known.get(source.below(known.len().max(1))).filter(|_| source.below(6) == 0);
        let word = borrowed.copied().unwrap_or_else(|| source.word());
        if !text.is_empty() {
            text.push(' ');
        }
        if left == 0 {
            left = 6 + source.below(7);
            text.extend(word.chars().next().map(|first| first.to_uppercase().to_string()));
            text.extend(word.chars().skip(1));
        } else {
            text.push_str(word);
        }
        made += pieces(word).len() as u64;
        left -= 1;
        if left == 0 || made >= tokens {
            text.push('.');
            made += 1;
            left = 0;
        }
    }
    text
}
