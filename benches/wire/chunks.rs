//! One chunk of a stream: from upstream's line to the caller's frame.

use crate::rounds::{row, title};
use crate::subjects::{encoder, line, pass_chunk, text_surfaces};

/// Most µs for one.
const MOST: f64 = 1.0;

pub(crate) fn run() {
    title("chunks of a stream: decode_event and Encoder::stream", MOST);
    for surface in text_surfaces() {
        let (task, mut encoder, mut out) = (surface.task(), encoder(surface), Vec::with_capacity(4096));
        let line = line(task).as_bytes();
        row(surface.path(), line, MOST, || {
            out.clear();
            pass_chunk(task, line, &mut encoder, &mut out);
        });
    }
}
