//! Turns bodies that were recorded into ones that nobody would send.

/// xorshift64*: the same everywhere, so that a seed repeats what it found.
pub(crate) struct Mutator(u64);

/// Pieces of text that readers trip over.
const TOKENS: &[&str] = &[
    "null",
    "true",
    "-1",
    "0",
    "12.7",
    "1e308",
    "-0.0",
    "1e-400",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "2147483648",
    "\"\"",
    "\"9223372036854775807\"",
    "\"\\ud800\"",
    "\"\\u0000\"",
    "\"+/-_==\"",
    "[]",
    "{}",
    "[null,[],{}]",
    "{\"instanceId\":1}",
    "\u{feff}",
    "/*",
    "\\",
    "\"",
    ",",
    ":",
];

impl Mutator {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
    }

    /// `0..below`, or 0.
    fn below(&mut self, below: usize) -> usize {
        (self.next() % below.max(1) as u64) as usize
    }

    /// A body made of those of the corpus, `longest` bytes at most.
    pub(crate) fn body(&mut self, corpus: &[Vec<u8>], longest: usize) -> Vec<u8> {
        let mut body = corpus[self.below(corpus.len())].clone();
        for _ in 0..1 + self.below(6) {
            self.change(&mut body, corpus);
        }
        body.truncate(longest);
        body
    }

    fn change(&mut self, body: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let (at, to) = self.range(body.len());
        match self.below(9) {
            0 if !body.is_empty() => {
                let at = at.min(body.len() - 1);
                body[at] ^= 1 << self.below(8);
            }
            1 => body.insert(at, (self.next() & 0xff) as u8),
            2 => drop(body.drain(at..to)),
            3 => {
                let copy = body[at..to].to_vec();
                body.splice(at..at, copy);
            }
            4 => {
                let other = &corpus[self.below(corpus.len())];
                let (from, until) = self.range(other.len());
                body.splice(at..to, other[from..until].iter().copied());
            }
            5 => body.truncate(at),
            6 => {
                let deep = 1 + self.below(300);
                let open = if self.below(2) == 0 { "[" } else { "{\"a\":" };
                body.splice(at..to, open.repeat(deep).into_bytes());
            }
            _ => self.replace_value(body),
        }
    }

    /// Puts a piece of text where a value of the JSON is.
    fn replace_value(&mut self, body: &mut Vec<u8>) {
        let token = TOKENS[self.below(TOKENS.len())].as_bytes().to_vec();
        let colons: Vec<usize> = body.iter().enumerate().filter(|(_, b)| **b == b':').map(|(i, _)| i + 1).collect();
        if colons.is_empty() {
            let (at, to) = self.range(body.len());
            body.splice(at..to, token);
            return;
        }
        let at = colons[self.below(colons.len())];
        let end = body[at..].iter().position(|b| matches!(b, b',' | b'}' | b']')).map_or(body.len(), |n| at + n);
        body.splice(at..end, token);
    }

    fn range(&mut self, len: usize) -> (usize, usize) {
        let at = self.below(len + 1);
        let length = self.below(64);
        let to = (at + length).min(len);
        (at.min(to), to)
    }
}
