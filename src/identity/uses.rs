//! Which signed requests were seen: a signature that somebody overheard is of no use elsewhere or later.
//!
//! The Ollama client signs method, path and the time in whole seconds, with an algorithm that gives the same bytes for the
//! same words; so a program that calls `/api/show` twice within a second sends the same signature twice, in good faith.
//! Both are told apart by where and when: an honest repetition comes from the same address within the second that the
//! signature names, and however wrong a client's clock is, that second is one second long. So the first use fixes the
//! address, and repetitions are taken for [`REPEAT`]; after that, or from elsewhere, the signature is spent until it is too
//! old by itself. Who listens on the very machine (or behind the same address translation) and repeats at once is not kept
//! out by this: TLS does that. The same holds where a proxy hides the addresses.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How old a signature may be, and how far ahead a client's clock.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// How long after its first use it may come again: its second, and as much for the way here.
pub(super) const REPEAT: Duration = Duration::from_secs(3);
/// Different signed requests of one key within the window; one program makes a handful per second.
const MOST: usize = 4096;

/// What is remembered of a request: the first half of the signed text's SHA-256.
pub(super) type Mark = [u8; 16];

/// Why a good signature is refused all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spent {
    /// It was used before: elsewhere, or too long ago.
    Replayed,
    /// So many are remembered that one more could not be.
    Crowded,
}

/// The recent signatures of one public key.
#[derive(Debug, Default)]
pub(super) struct Uses(Mutex<HashMap<Mark, Use>>);

#[derive(Debug, Clone, Copy)]
struct Use {
    peer: IpAddr,
    /// Since 1970, as are all times here.
    first: Duration,
    /// From then on the signature is too old.
    until: Duration,
}

impl Uses {
    /// Notes a use, or says why it is none.
    pub(super) fn note(&self, mark: Mark, peer: IpAddr, now: Duration, until: Duration) -> Result<(), Spent> {
        let peer = peer.to_canonical();
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(earlier) = seen.get(&mark) {
            let again = earlier.peer == peer && now.saturating_sub(earlier.first) <= REPEAT;
            return if again { Ok(()) } else { Err(Spent::Replayed) };
        }
        if seen.len() >= MOST {
            seen.retain(|_, noted| noted.until > now);
        }
        if seen.len() >= MOST {
            return Err(Spent::Crowded);
        }
        seen.insert(mark, Use { peer, first: now, until });
        Ok(())
    }

    /// Forgets what is too old to come again.
    pub(super) fn forget(&self, now: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, noted| noted.until > now);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_repetition_counts_by_where_and_when() {
        let uses = Uses::default();
        let (here, there) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv4Addr::new(10, 0, 0, 1)));
        let at = Duration::from_millis;
        let until = at(70_000);
        assert_eq!(uses.note([1; 16], here, at(10_000), until), Ok(()));
        assert_eq!(uses.note([1; 16], here, at(10_400), until), Ok(()), "in good faith");
        assert_eq!(uses.note([1; 16], there, at(10_400), until), Err(Spent::Replayed));
        assert_eq!(uses.note([1; 16], here, at(12_900), until), Ok(()));
        assert_eq!(uses.note([1; 16], here, at(13_100), until), Err(Spent::Replayed), "counted from the first use");
        assert_eq!(uses.note([2; 16], there, at(13_100), until), Ok(()), "another");
        uses.forget(at(69_999));
        assert_eq!(uses.note([1; 16], here, at(69_999), until), Err(Spent::Replayed), "remembered to the end");
    }

    #[test]
    fn memory_is_bounded_and_closes_rather_than_forgets() {
        let uses = Uses::default();
        let here = IpAddr::from(Ipv4Addr::LOCALHOST);
        let second = Duration::from_secs;
        let mark = |n: u32| {
            let mut mark = [0; 16];
            mark[..4].copy_from_slice(&n.to_be_bytes());
            mark
        };
        for n in 0..u32::try_from(MOST).unwrap_or(u32::MAX) {
            assert_eq!(uses.note(mark(n), here, second(1), second(61)), Ok(()));
        }
        assert_eq!(uses.note([9; 16], here, second(2), second(62)), Err(Spent::Crowded));
        assert_eq!(uses.note(mark(0), here, second(2), second(61)), Ok(()), "what is known still counts");
        assert_eq!(uses.note([9; 16], here, second(62), second(120)), Ok(()), "room again");
    }
}
