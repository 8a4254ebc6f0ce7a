//! A request of about 1 KB: from the caller's bytes to those of the upstream call.

use gaucho::domain::Surface;

use crate::rounds::{row, title};
use crate::subjects::{body, pass_request};

/// Most µs for one.
const MOST: f64 = 3.0;

pub(crate) fn run() {
    title("requests of 1 KB: decode and encode_upstream", MOST);
    for surface in Surface::ALL {
        let body = body(surface);
        row(surface.path(), body.as_bytes(), MOST, || pass_request(surface, body.as_bytes()));
    }
}
