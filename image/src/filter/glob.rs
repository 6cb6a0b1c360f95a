//! rsync's wildcards, matched in time proportional to pattern times text whatever the pattern is.
//!
//! The pattern becomes an automaton whose states are the positions in it; all states that can be reached are kept as
//! bits and stepped together (Baeza-Yates and Gonnet, "A new approach to text searching", 1992). So no pattern makes a
//! scan slow, as trying one way after the other does for `*a*a*a*a*b`.

/// A pattern with at least one of `*`, `?` and `[`.
#[derive(Debug, Clone)]
pub(super) struct Glob {
    /// 64-bit words of a set of states; there is one state per token and one more for the end.
    words: usize,
    /// For each byte, the states that it leads on from to the next: `words` words each.
    steps: Box<[u64]>,
    /// States that any byte but `/` leaves as they are: `*`.
    stars: Box<[u64]>,
    /// States that any byte leaves as they are: `**`.
    double_stars: Box<[u64]>,
    end: usize,
}

/// A pattern that could never match anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum GlobFault {
    #[error("a \"[\" has no \"]\"")]
    OpenClass,
    #[error("there is no such class as the one between \"[:\" and \":]\"")]
    UnknownClass,
    #[error("the backslash at the end has nothing to escape")]
    LoneBackslash,
}

/// What one token of a pattern takes from the text.
enum Token {
    /// One byte of this set.
    One(ByteSet),
    Star,
    DoubleStar,
}

/// A set of byte values.
#[derive(Clone, Copy, Default)]
struct ByteSet([u64; 4]);

impl Glob {
    pub(super) fn parse(pattern: &[u8]) -> Result<Self, GlobFault> {
        let tokens = tokens(pattern)?;
        let words = tokens.len() / 64 + 1;
        let mut glob = Self {
            words,
            steps: vec![0; words * 256].into(),
            stars: vec![0; words].into(),
            double_stars: vec![0; words].into(),
            end: tokens.len(),
        };
        for (state, token) in tokens.iter().enumerate() {
            let (word, bit) = (state / 64, 1 << (state % 64));
            match token {
                Token::Star => glob.stars[word] |= bit,
                Token::DoubleStar => glob.double_stars[word] |= bit,
                Token::One(set) => {
                    for byte in 0..=u8::MAX {
                        if set.has(byte) {
                            glob.steps[usize::from(byte) * words + word] |= bit;
                        }
                    }
                }
            }
        }
        Ok(glob)
    }

    /// Whether the pattern matches the whole of the pieces put together.
    pub(super) fn matches(&self, pieces: &[&[u8]]) -> bool {
        // Nearly all patterns have fewer than 64 tokens.
        if self.words == 1 {
            return self.run(pieces, &mut [0]);
        }
        self.run(pieces, &mut vec![0; self.words])
    }

    fn run(&self, pieces: &[&[u8]], states: &mut [u64]) -> bool {
        states[0] = 1;
        self.pass_stars(states);
        for &byte in pieces.iter().copied().flatten() {
            let steps = &self.steps[usize::from(byte) * self.words..][..self.words];
            let mut carry = 0;
            let mut alive = 0;
            for (index, word) in states.iter_mut().enumerate() {
                let moved = *word & steps[index];
                let stars = if byte == b'/' { 0 } else { self.stars[index] };
                *word = moved << 1 | carry | *word & (stars | self.double_stars[index]);
                carry = moved >> 63;
                alive |= *word;
            }
            if alive == 0 {
                return false;
            }
            self.pass_stars(states);
        }
        states[self.end / 64] >> (self.end % 64) & 1 == 1
    }

    /// A star may take nothing: whoever stands before one also stands behind it. No star follows another.
    fn pass_stars(&self, states: &mut [u64]) {
        let mut carry = 0;
        for (index, word) in states.iter_mut().enumerate() {
            let at_star = *word & (self.stars[index] | self.double_stars[index]);
            *word |= at_star << 1 | carry;
            carry = at_star >> 63;
        }
    }
}

impl ByteSet {
    fn insert(&mut self, byte: u8) {
        self.0[usize::from(byte) / 64] |= 1 << (byte % 64);
    }

    fn remove(&mut self, byte: u8) {
        self.0[usize::from(byte) / 64] &= !(1 << (byte % 64));
    }

    fn has(self, byte: u8) -> bool {
        self.0[usize::from(byte) / 64] >> (byte % 64) & 1 == 1
    }

    fn invert(&mut self) {
        for word in &mut self.0 {
            *word = !*word;
        }
    }

    fn one(byte: u8) -> Self {
        let mut set = Self::default();
        set.insert(byte);
        set
    }
}

fn tokens(pattern: &[u8]) -> Result<Vec<Token>, GlobFault> {
    let mut tokens = Vec::new();
    let mut rest = pattern;
    while let [first, behind @ ..] = rest {
        rest = behind;
        tokens.push(match first {
            b'*' => {
                let more = rest.iter().take_while(|&&byte| byte == b'*').count();
                rest = &rest[more..];
                if more > 0 { Token::DoubleStar } else { Token::Star }
            }
            b'?' => {
                let mut any = ByteSet::default();
                any.invert();
                any.remove(b'/');
                Token::One(any)
            }
            b'[' => {
                let (set, behind) = class(rest)?;
                rest = behind;
                Token::One(set)
            }
            b'\\' => {
                let (&escaped, behind) = rest.split_first().ok_or(GlobFault::LoneBackslash)?;
                rest = behind;
                Token::One(ByteSet::one(escaped))
            }
            &byte => Token::One(ByteSet::one(byte)),
        });
    }
    Ok(tokens)
}

/// Reads a class behind its `[`; returns it and what follows its `]`.
fn class(text: &[u8]) -> Result<(ByteSet, &[u8]), GlobFault> {
    let (inverted, mut rest) = match text {
        [b'!' | b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut set = ByteSet::default();
    // The byte before a `-`, when that can begin a range.
    let mut low = None;
    let mut first = true;
    loop {
        let (&byte, behind) = rest.split_first().ok_or(GlobFault::OpenClass)?;
        rest = behind;
        low = match (byte, rest) {
            (b']', _) if !first => break,
            (b'-', [next, ..]) if low.is_some() && *next != b']' => {
                let high;
                (high, rest) = member(*next, &rest[1..])?;
                (low.unwrap_or(high)..=high).for_each(|byte| set.insert(byte));
                None
            }
            (b'[', [b':', named @ ..]) => match named_class(named)? {
                Some((class, behind)) => {
                    rest = behind;
                    (0..=u8::MAX).filter(class).for_each(|byte| set.insert(byte));
                    None
                }
                // No ":]" follows: it is a "[" like another.
                None => {
                    set.insert(byte);
                    Some(byte)
                }
            },
            _ => {
                let value;
                (value, rest) = member(byte, rest)?;
                set.insert(value);
                Some(value)
            }
        };
        first = false;
    }
    if inverted {
        set.invert();
    }
    set.remove(b'/');
    Ok((set, rest))
}

/// The byte that `first` stands for: itself, or for a backslash the one that follows.
fn member(first: u8, rest: &[u8]) -> Result<(u8, &[u8]), GlobFault> {
    match (first, rest) {
        (b'\\', [escaped, rest @ ..]) => Ok((*escaped, rest)),
        (b'\\', []) => Err(GlobFault::OpenClass),
        _ => Ok((first, rest)),
    }
}

type ByteTest = fn(&u8) -> bool;

/// Reads `alpha:]…` behind its `[:`. `None` when the next `]` has no `:` before it.
fn named_class(text: &[u8]) -> Result<Option<(ByteTest, &[u8])>, GlobFault> {
    let end = text
        .iter()
        .position(|&byte| byte == b']')
        .ok_or(GlobFault::OpenClass)?;
    let [name @ .., b':'] = &text[..end] else {
        return Ok(None);
    };
    let test: ByteTest = match name {
        b"alnum" => u8::is_ascii_alphanumeric,
        b"alpha" => u8::is_ascii_alphabetic,
        b"blank" => |byte| matches!(byte, b' ' | b'\t'),
        b"cntrl" => u8::is_ascii_control,
        b"digit" => u8::is_ascii_digit,
        b"graph" => u8::is_ascii_graphic,
        b"lower" => u8::is_ascii_lowercase,
        b"print" => |byte| matches!(byte, b' '..=b'~'),
        b"punct" => u8::is_ascii_punctuation,
        // Unlike u8::is_ascii_whitespace, with the vertical tab.
        b"space" => |byte| matches!(byte, b' ' | b'\t'..=b'\r'),
        b"upper" => u8::is_ascii_uppercase,
        b"xdigit" => u8::is_ascii_hexdigit,
        _ => return Err(GlobFault::UnknownClass),
    };
    Ok(Some((test, &text[end + 1..])))
}

#[cfg(test)]
#[path = "glob_tests.rs"]
mod tests;
