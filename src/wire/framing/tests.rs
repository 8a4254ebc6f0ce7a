//! Any way of cutting a stream gives the same lines, and no line grows past the limit.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

fn split(chunks: &[&[u8]], limit: usize) -> Result<(Vec<Vec<u8>>, Vec<u8>), TooLong> {
    let mut lines = Lines::new(limit);
    let mut found = Vec::new();
    for chunk in chunks {
        lines.push(chunk);
        while let Some(line) = lines.next_line()? {
            found.push(line.to_vec());
        }
    }
    Ok((found, lines.rest().to_vec()))
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_lines(texts in prop::collection::vec("[^\r\n]{1,40}", 0..12), tail in "[^\r\n]{0,9}",
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20))
    {
        let mut stream: Vec<u8> = texts.iter().flat_map(|t| format!("{t}\n").into_bytes()).collect();
        stream.extend_from_slice(tail.as_bytes());
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        places.extend([0, stream.len()]);
        places.sort_unstable();
        let chunks: Vec<&[u8]> = places.windows(2).map(|w| &stream[w[0]..w[1]]).collect();
        let (lines, rest) = split(&chunks, 1 << 20).unwrap();
        let wanted: Vec<Vec<u8>> = texts.iter().map(|t| t.clone().into_bytes()).collect();
        prop_assert_eq!(lines, wanted);
        prop_assert_eq!(rest, tail.into_bytes());
    }
}

#[test]
fn every_byte_alone_gives_the_same_lines() {
    let stream = "{\"a\":\"🎉 日本\"}\r\n\n\n{\"b\":2}\n{\"cut".as_bytes();
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    let whole = split(&[stream], 100).unwrap();
    assert_eq!(split(&bytes, 100).unwrap(), whole);
    assert_eq!(whole.0, ["{\"a\":\"🎉 日本\"}".as_bytes().to_vec(), b"{\"b\":2}".to_vec()]);
    assert_eq!(whole.1, b"{\"cut".to_vec());
}

#[test]
fn a_line_past_the_limit_is_refused_whole_or_not() {
    assert!(split(&[b"12345\n1234567\n"], 6).is_err());
    assert!(split(&[b"123", b"456", b"7"], 6).is_err());
    assert!(split(&[b"123456", b"\n"], 6).is_ok());
}
