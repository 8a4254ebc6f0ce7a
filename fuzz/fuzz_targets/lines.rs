//! The line framer: any chunks give the lines that a plain split gives, up to the limit.
#![no_main]

use gaucho_fuzz::wire::TooLong;
use gaucho_fuzz::{cut, lines};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&[limit, ref cuts @ ..], stream)) = data.split_first_chunk::<4>() else { return };
    let limit = usize::from(limit);
    let split = lines(cut(stream, cuts), limit);
    let mut wanted: Vec<&[u8]> = stream.split(|&byte| byte == b'\n').collect();
    let rest = wanted.pop().unwrap_or_default();
    if wanted.iter().any(|line| line.len() > limit) || rest.len() > limit {
        assert_eq!(split, Err(TooLong { limit }));
        return;
    }
    let wanted: Vec<Vec<u8>> = wanted
        .into_iter()
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line).to_vec())
        .filter(|line| !line.is_empty())
        .collect();
    assert_eq!(split, Ok((wanted, rest.to_vec())));
});
