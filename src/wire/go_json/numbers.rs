//! Runs of digits and lists of plain numbers, eight bytes at a time: embeddings are little else.
//!
//! Owns only the fast way through what is certainly well formed; everything else is left to the scanner (`scan`),
//! which has the words for what is wrong.

use wide::u8x64;

/// Bytes at the front that are decimal digits.
pub(super) fn leading_digits(bytes: &[u8]) -> usize {
    let (words, _) = bytes.as_chunks::<8>();
    let mut count = 0;
    for word in words {
        let odd = not_digits(u64::from_le_bytes(*word));
        if odd != 0 {
            return count + odd.trailing_zeros() as usize / 8;
        }
        count += 8;
    }
    let tail = bytes.get(count..).unwrap_or_default();
    count + tail.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Bytes from `at`, where an element of an array begins, that are whole elements: numbers without an exponent, each
/// with its comma.
pub(super) fn plain_numbers(bytes: &[u8], at: usize) -> usize {
    let mut done = at;
    loop {
        let start = done;
        done += small_numbers(bytes, done);
        // what stopped the blocks is behind us after one of them
        while done < start + BLOCK
            && let Some(length) = plain_number(bytes.get(done..).unwrap_or_default())
        {
            done += length;
        }
        if done < start + BLOCK {
            return done - at;
        }
    }
}

/// Bytes that are looked at as one.
const BLOCK: usize = 64;

/// The same for numbers with one digit before the point, block by block.
fn small_numbers(bytes: &[u8], at: usize) -> usize {
    // two bytes before a block tell how it begins
    let Some(lead) = at.checked_sub(2).and_then(|lead| bytes.get(lead..)) else { return 0 };
    // an element begins here, whatever stands before it
    let (mut done, mut begins) = (0, 0b10);
    while let Some(block) = lead.get(done..).and_then(|rest| rest.first_chunk()) {
        let odd = no_small_numbers(block, begins);
        if odd != 0 {
            done += odd.trailing_zeros() as usize - 2;
            break;
        }
        done += BLOCK - 2;
        begins = 0;
    }
    // the last one may be cut
    let good = lead.get(2..done + 2).unwrap_or_default();
    memchr::memrchr(b',', good).map_or(0, |comma| comma + 1)
}

/// Marks the bytes after the first two that do not go on as numbers with one digit before the point. Each byte is
/// a bit, the next one the bit above it; `begins` marks after what an element begins beside the commas.
fn no_small_numbers(block: &[u8; BLOCK], begins: u64) -> u64 {
    let bytes = u8x64::new(*block);
    let is = |byte| bytes.simd_eq(u8x64::splat(byte)).to_bitmask();
    let value = bytes - u8x64::splat(b'0');
    let digits = value.simd_eq(value.min(u8x64::splat(9))).to_bitmask();
    let (commas, points, signs) = (is(b','), is(b'.'), is(b'-'));
    let after = |bits: u64| bits << 1;
    let starts = commas | begins;
    let firsts = digits & after(starts | signs);
    let good =
        (digits & !after(firsts)) | (commas & after(digits)) | (points & after(firsts)) | (signs & after(starts));
    // a comma and a point want a digit before them, so nothing but a digit follows a point or a sign
    !good & !0b11
}

/// The length of `-12.345,` with its comma, if that is what stands at the front.
fn plain_number(bytes: &[u8]) -> Option<usize> {
    let sign = usize::from(*bytes.first()? == b'-');
    let whole = leading_digits(bytes.get(sign..)?);
    // a leading zero stands alone
    if whole == 0 || (whole > 1 && bytes.get(sign) == Some(&b'0')) {
        return None;
    }
    let mut at = sign + whole;
    if *bytes.get(at)? == b'.' {
        let part = leading_digits(bytes.get(at + 1..)?);
        if part == 0 {
            return None;
        }
        at += 1 + part;
    }
    (*bytes.get(at)? == b',').then_some(at + 1)
}

/// The top bit of each byte that is no decimal digit, right up to the first one.
fn not_digits(word: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    // digits become 0 to 9: what is larger reaches the top bit when 0x76 is added, what is far larger has it already
    let value = word ^ (ONES * 0x30);
    (value.wrapping_add(ONES * 0x76) | value) & (ONES << 7)
}

/// The numbers of a flat array as the nearest 32-bit floats; zero for what is no number.
pub(in crate::wire) fn floats(array: &[u8]) -> impl Iterator<Item = f32> {
    let inside = array.strip_prefix(b"[").and_then(|inside| inside.strip_suffix(b"]")).unwrap_or(array).trim_ascii();
    let mut start = 0;
    // an empty array has no number
    let end = Some(inside.len()).filter(|end| *end > 0);
    memchr::memchr_iter(b',', inside).chain(end).map(move |comma| {
        let token = inside.get(start..comma).unwrap_or_default();
        start = comma + 1;
        float32(token.trim_ascii())
    })
}

fn float32(token: &[u8]) -> f32 {
    let any = || std::str::from_utf8(token).ok()?.parse().ok();
    short_float32(token).or_else(any).unwrap_or(0.0)
}

/// The same for up to 15 digits without an exponent, which is what embeddings look like.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "both are what this is about")]
fn short_float32(bytes: &[u8]) -> Option<f32> {
    const TENS: [f64; 16] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
    /// What a 64-bit float has more than one of 32 bits, and the middle of it.
    const MORE: u64 = (1 << 29) - 1;
    const MIDDLE: u64 = 1 << 28;
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let (mut value, mut point) = (0_u64, digits.len());
    if digits.len() > 16 {
        return None;
    }
    for (at, &byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' => value = value * 10 + u64::from(byte - b'0'),
            b'.' if point == digits.len() => point = at,
            _ => return None,
        }
    }
    // 53 bits hold the digits and the power of ten, so the quotient is the nearest float of 64 bits; the nearest of 32
    // bits to that one is the nearest of all, unless it stands in the middle between two or is too small for 32 bits
    if value >= 1 << 53 {
        return None;
    }
    let after = digits.len().saturating_sub(point + 1);
    let wide = value as f64 / TENS.get(after)?;
    if wide.to_bits() & MORE == MIDDLE || (wide != 0.0 && wide < f64::from(f32::MIN_POSITIVE)) {
        return None;
    }
    Some(if bytes.len() > digits.len() { -wide } else { wide } as f32)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn floats_are_the_nearest(bits in any::<u32>(), text in "-?(0|[1-9][0-9]{0,9})(\\.[0-9]{1,10})?", places in 0..17usize) {
            let value = f32::from_bits(bits);
            for text in [text, format!("{value}"), format!("{value:.places$}"), format!("{value:e}")] {
                let wanted: f32 = text.parse().unwrap();
                prop_assert_eq!(float32(text.as_bytes()).to_bits(), wanted.to_bits(), "{}", text);
            }
        }

        #[test]
        fn middles_between_two_floats_are_the_nearest(mantissa in 1u32..1 << 24, shift in 0..6u32, nudge in 0..3u64) {
            // one bit more than a float of 32 bits has, and its neighbours in the last decimal digit
            let middle = (u64::from(mantissa | 1 << 23) * 2 + 1) << shift;
            let text = format!("{}", middle * 10 + nudge - 1);
            let text = format!("{}.{}", &text[..text.len() - 1], &text[text.len() - 1..]);
            prop_assert_eq!(float32(text.as_bytes()).to_bits(), text.parse::<f32>().unwrap().to_bits(), "{}", text);
        }
    }

    #[test]
    fn every_byte_is_a_digit_or_none() {
        for byte in 0..=u8::MAX {
            for at in 0..17 {
                let mut bytes = *b"01234567890123456";
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
                let wanted = if byte.is_ascii_digit() { 17 } else { at };
                assert_eq!(leading_digits(&bytes), wanted, "{byte} at {at}");
            }
        }
    }

    #[test]
    fn only_whole_plain_numbers_are_passed() {
        for (text, wanted) in [
            ("1,2,3]", 4),
            ("-0.012345678,0.5,-1]", 17),
            ("0,-0,10,100000000000000000000.25,x", 33),
            ("01,2", 0),
            ("-,2", 0),
            ("1.,2", 0),
            (".5,2", 0),
            ("1,2e5,3,", 2),
            ("1 ,2", 0),
            ("[1,2],", 0),
            ("1", 0),
            ("1,", 2),
            ("", 0),
        ] {
            assert_eq!(plain_numbers(text.as_bytes(), 0), wanted, "{text}");
            // the same behind what fills some blocks
            let filled = format!("[[{}{text}", "-0.012345678,1,".repeat(30));
            assert_eq!(plain_numbers(filled.as_bytes(), 2), 450 + wanted, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_passed_is_json(text in "\\[(-?[0-9.,]{1,30},){1,20}", spoilt in any::<prop::sample::Index>(), byte in "[-0-9.,eE +\\]\\[\"]",
            good in prop::collection::vec("-?(0|[1-9][0-9]{0,1})(\\.[0-9]{1,9})?,", 1..60))
        {
            let mut changed = format!("[[{}", good.concat()).into_bytes();
            prop_assert_eq!(plain_numbers(&changed, 2), changed.len() - 2);
            let place = 2 + spoilt.index(changed.len() - 2);
            changed[place] = byte.as_bytes()[0];
            for text in [changed, format!("[{text}").into_bytes()] {
                let passed = plain_numbers(&text, 2);
                let list = format!("[{}0]", std::str::from_utf8(&text[2..2 + passed]).unwrap());
                prop_assert!(serde_json::from_str::<serde_json::Value>(&list).is_ok(), "{}", list);
            }
        }
    }
}
