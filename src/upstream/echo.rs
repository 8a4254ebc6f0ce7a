//! Whether a model says the same again and again.
//!
//! Ollama ends such an answer without its last event (`ollama-facts`, "the repeat guard"): that is the model's doing, and
//! says nothing of its server.

use crate::domain::Event;

/// Equal pieces in a row after which Ollama ends an answer, less one that it may have kept.
const ENOUGH: u32 = 30;

/// The last piece, and how often it came in a row.
#[derive(Debug, Default)]
pub(super) struct Echo {
    last: String,
    times: u32,
}

impl Echo {
    /// An event came. White space around a piece counts for nothing, as with Ollama.
    pub(super) fn heard(&mut self, event: &Event) {
        let Event::Piece(piece) = event else { return };
        let thinking = piece.thinking.as_deref().filter(|_| piece.text.is_empty());
        let said = thinking.unwrap_or(&piece.text).trim();
        if self.times > 0 && self.last == said {
            self.times += 1;
        } else {
            self.last.clear();
            self.last.push_str(said);
            self.times = 1;
        }
    }

    /// Whether an answer that ends here without its last event ends because of that.
    pub(super) fn ends_an_answer(&self) -> bool {
        self.times >= ENOUGH
    }
}
