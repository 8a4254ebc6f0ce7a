//! Patterns over names: `*` (any run without `/`), `**` (any run), `?` (one character but `/`), all else literal.
//!
//! Owns matching, how specific a pattern is, and whether two patterns can match one name: the question that a general
//! glob library does not answer, and on which the choice of a runner profile rests. It knows nothing of model names.

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Char(char),
    /// `?`
    One,
    /// `*`
    Run,
    /// `**`
    Path,
}

impl Piece {
    /// Whether a run may swallow `other`.
    fn absorbs(self, other: Self) -> bool {
        self == Self::Path || other != Self::Char('/')
    }

    fn meets(self, other: Self) -> bool {
        match (self, other) {
            (Self::Char(a), Self::Char(b)) => a == b,
            (Self::One, Self::Char(c)) | (Self::Char(c), Self::One) => c != '/',
            _ => true,
        }
    }

    fn is_run(self) -> bool {
        matches!(self, Self::Run | Self::Path)
    }
}

impl Glob {
    /// A pattern whose `*` stops at `/`, so that it never reaches into a namespace its writer did not name.
    pub(crate) fn stopping(text: &str) -> Self {
        let mut pieces = Vec::new();
        for c in text.chars() {
            match (c, pieces.last_mut()) {
                ('*', Some(last @ Piece::Run)) => *last = Piece::Path,
                ('*', Some(Piece::Path)) => {}
                ('*', _) => pieces.push(Piece::Run),
                ('?', _) => pieces.push(Piece::One),
                (c, _) => pieces.push(Piece::Char(c)),
            }
        }
        Self { text: text.to_owned(), pieces }
    }

    /// A pattern whose `*` crosses `/`, for routes and URLs.
    pub(crate) fn crossing(text: &str) -> Self {
        let mut glob = Self::stopping(text);
        for piece in &mut glob.pieces {
            if piece.is_run() {
                *piece = Piece::Path;
            }
        }
        glob
    }

    /// The pattern as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it has no wildcard, so that it is one name.
    pub(crate) fn is_exact(&self) -> bool {
        self.pieces.iter().all(|piece| matches!(piece, Piece::Char(_)))
    }

    /// Whether it matches `name`.
    pub(crate) fn matches(&self, name: &str) -> bool {
        // most patterns differ from most names in their first letters, and many end in their only run
        let mut rest = name.chars();
        let mut pieces = self.pieces.as_slice();
        while let Some((Piece::Char(expected), tail)) = pieces.split_first() {
            if rest.next() != Some(*expected) {
                return false;
            }
            pieces = tail;
        }
        match pieces {
            [] => rest.as_str().is_empty(),
            [Piece::Path] => true,
            [Piece::Run] => !rest.as_str().contains('/'),
            _ => meet(pieces, &rest.map(Piece::Char).collect::<Vec<_>>()),
        }
    }

    /// Whether some name matches both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        meet(&self.pieces, &other.pieces)
    }

    /// How narrow it is: letters first, then `?`.
    pub(crate) fn specificity(&self) -> (usize, usize) {
        let count = |wanted: fn(&Piece) -> bool| self.pieces.iter().filter(|piece| wanted(piece)).count();
        (count(|piece| matches!(piece, Piece::Char(_))), count(|piece| matches!(piece, Piece::One)))
    }
}

/// Whether some text matches both sequences. `reached[j]` says whether `a` up to the present piece and `b` up to `j`
/// can have matched the same text; work is the product of the lengths.
fn meet(a: &[Piece], b: &[Piece]) -> bool {
    let mut reached = vec![false; b.len() + 1];
    for i in 0..=a.len() {
        let above = std::mem::replace(&mut reached, vec![false; b.len() + 1]);
        for j in 0..=b.len() {
            let left = i.checked_sub(1).and_then(|n| a.get(n)).copied();
            let right = j.checked_sub(1).and_then(|n| b.get(n)).copied();
            let from_above = above.get(j).copied().unwrap_or(false);
            let from_left = j > 0 && reached.get(j - 1).copied().unwrap_or(false);
            let diagonal = j > 0 && above.get(j - 1).copied().unwrap_or(false);
            let can = match (left, right) {
                (None, None) => true,
                (left, right) => {
                    // a run matches nothing, or swallows what stands against it
                    let skip_left = left.is_some_and(Piece::is_run) && from_above;
                    let skip_right = right.is_some_and(Piece::is_run) && from_left;
                    let both = left.zip(right);
                    let left_eats = both.is_some_and(|(l, r)| l.is_run() && l.absorbs(r)) && from_left;
                    let right_eats = both.is_some_and(|(l, r)| r.is_run() && r.absorbs(l)) && from_above;
                    let step = both.is_some_and(|(l, r)| !l.is_run() && !r.is_run() && l.meets(r)) && diagonal;
                    skip_left || skip_right || left_eats || right_eats || step
                }
            };
            if let Some(cell) = reached.get_mut(j) {
                *cell = can;
            }
        }
    }
    reached.last().copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stars_stop_at_slashes_unless_doubled() {
        let table = [
            ("llama3.2:*", "llama3.2:3b", true),
            ("llama3.2:*", "llama3.2x:3b", false),
            ("llama3*", "llama3.2:3b", true),
            ("llama3*", "llama3/evil:latest", false),
            ("*", "user/x:latest", false),
            ("**", "user/x:latest", true),
            ("hf.co/**", "hf.co/u/x:q4", true),
            ("hf.co/*/*:q?", "hf.co/u/x:q4", true),
            ("a?c", "a/c", false),
            ("a?c", "abc", true),
            ("", "", true),
            ("", "a", false),
            ("*b*b", "aabab", true),
            ("*b*b", "aaba", false),
        ];
        for (pattern, name, expected) in table {
            assert_eq!(Glob::stopping(pattern).matches(name), expected, "{pattern} on {name}");
        }
        assert!(Glob::crossing("/v1/*").matches("/v1/chat/completions"));
        assert!(!Glob::crossing("/v1/*").matches("/api/chat"));
    }

    #[test]
    fn overlap_is_exact() {
        for (a, b, expected) in [
            ("gemma3:*", "llama3:*", false),
            ("*:3b", "llama*", true),
            ("llama?:*", "llama*:3b", true),
            ("a*", "*/b", false),
            ("a**", "*/b", true),
            ("?", "/", false),
        ] {
            assert_eq!(Glob::stopping(a).overlaps(&Glob::stopping(b)), expected, "{a} and {b}");
            assert_eq!(Glob::stopping(b).overlaps(&Glob::stopping(a)), expected, "{b} and {a}");
        }
    }

    /// The plainest matcher there is, to check the real one against.
    fn plain(pattern: &[Piece], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (None, Some(_)) => false,
            (Some((run, rest)), _) if run.is_run() => {
                plain(rest, text)
                    || text.split_first().is_some_and(|(c, tail)| run.absorbs(Piece::Char(*c)) && plain(pattern, tail))
            }
            (Some((piece, rest)), Some((c, tail))) => piece.meets(Piece::Char(*c)) && plain(rest, tail),
            (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn matches_as_the_plain_matcher(pattern in "[ab/*?]{0,7}", text in "[ab/]{0,7}") {
            let glob = Glob::stopping(&pattern);
            let chars: Vec<char> = text.chars().collect();
            prop_assert_eq!(glob.matches(&text), plain(&glob.pieces, &chars), "{} on {}", pattern, text);
        }

        #[test]
        fn two_that_match_one_name_overlap(a in "[ab*?/]{0,6}", b in "[ab*?/]{0,6}", text in "[ab/]{0,5}") {
            let (a, b) = (Glob::stopping(&a), Glob::stopping(&b));
            prop_assert!(!(a.matches(&text) && b.matches(&text)) || a.overlaps(&b));
        }

        #[test]
        fn two_that_overlap_share_a_name(a in "[ab*?/]{0,4}", b in "[ab*?/]{0,4}") {
            let (a, b) = (Glob::stopping(&a), Glob::stopping(&b));
            prop_assume!(a.overlaps(&b));
            let mut names = vec![String::new()];
            let mut shared = false;
            for _ in 0..=8 {
                shared = shared || names.iter().any(|name| a.matches(name) && b.matches(name));
                names = names.iter().filter(|_| !shared)
                    .flat_map(|name| ["a", "b", "/"].map(|c| format!("{name}{c}"))).collect();
            }
            prop_assert!(shared, "{:?} {:?}", a, b);
        }
    }
}
