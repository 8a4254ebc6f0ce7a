//! Streams of any text, read by a reader of server-sent events (or of lines) in chunks cut anywhere.
//!
//! Two bytes set the chunks; in the rest, 0xFF ends a piece and 0xFE is where its thinking begins.
#![no_main]

use gaucho_fuzz::domain::{Event, Finish, Surface};
use gaucho_fuzz::{cut, encoder, heard, lines, piece, request, sse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((cuts, texts)) = data.split_first_chunk::<2>() else { return };
    let mut said = String::new();
    let mut events: Vec<Event> = Vec::new();
    for part in texts.splitn(16, |&byte| byte == 0xFF) {
        let mut halves = part.splitn(2, |&byte| byte == 0xFE);
        let text = String::from_utf8_lossy(halves.next().unwrap_or_default());
        let mut piece = piece(&text);
        piece.thinking = halves.next().map(|thinking| String::from_utf8_lossy(thinking).into_owned());
        said.push_str(&text);
        events.push(Event::Piece(Box::new(piece)));
    }
    if let Some(Event::Piece(last)) = events.last_mut() {
        last.finish = Some(Finish { reason: Some("stop".into()), ..Finish::default() });
    }
    for surface in Surface::ALL.into_iter().filter(|surface| !surface.task().embeds()) {
        let request = request(surface, "m", false);
        let mut encoder = encoder(&request);
        let mut stream = Vec::new();
        for event in &events {
            encoder.stream(event, &mut stream);
        }
        assert_eq!(heard(surface, &stream), said, "{}", String::from_utf8_lossy(&stream));
        let pieces = cut(&stream, cuts);
        if surface.path() == surface.task().path() {
            assert_eq!(lines(pieces, usize::MAX), lines([&stream[..]], usize::MAX));
        } else {
            let mut whole = Vec::new();
            // a comment may stand between any two events
            encoder.comment("position 3", &mut whole);
            whole.extend_from_slice(&stream);
            assert_eq!(sse::events(pieces), sse::events([&whole[..]]));
        }
    }
});
