//! Embeddings: texts that share words point in similar directions.

use super::tokens::pieces;
use super::words::{Source, mix};

/// A vector of length one for `text` by the model with these weights.
pub(in crate::sim) fn embed(weights: &str, text: &str, dimensions: usize) -> Vec<f32> {
    let mut sum = vec![0.0_f32; dimensions];
    let mut add = |word: &str, share: f32| {
        let mut source = Source(mix(format!("{weights}\n{word}").as_bytes()));
        for slot in &mut sum {
            *slot += share * unit(source.next());
        }
    };
    for piece in pieces(text) {
        add(&piece.trim().to_lowercase(), 1.0);
    }
    // no two texts are quite the same, nor is the empty one nowhere
    add(text, 0.2);
    normalise(&mut sum);
    sum
}

/// Between -1 and 1.
fn unit(bits: u64) -> f32 {
    (bits >> 40) as f32 / 8_388_608.0 - 1.0
}

/// Scales to length one, as Ollama does before and after it cuts to `dimensions`.
pub(in crate::sim) fn normalise(vector: &mut [f32]) {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
    for x in vector {
        *x /= length;
    }
}
