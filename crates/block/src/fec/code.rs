//! Reed-Solomon (255, 255 - R) over GF(2^8): many codewords at once, a symbol of each at a time.
//!
//! ```text
//!   index     0 .. N-1: message, highest degree first     N .. 254: parity       N = 255 - R
//!   degree    254 - index; the generator's roots are alpha^0 .. alpha^(R-1)
//! ```
//!
//! Everything begins with the remainder of the message: it is the parity, and its difference
//! from the parity that is stored has the syndromes of the whole codeword. So one fast
//! loop makes, checks and locates, and nothing but the remainders needs to stay in memory.

use super::field::{self, ORDER};

/// Symbols of a codeword.
pub(super) const SYMBOLS: u8 = ORDER;

/// Parity symbols of a codeword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roots(u8);

impl Roots {
    /// The fewest.
    pub const MIN: u8 = 2;
    /// The most.
    pub const MAX: u8 = 24;
    /// What `veritysetup` takes when nothing is said.
    pub const DEFAULT: Roots = Roots(2);

    /// So many, unless the format does not have that.
    #[must_use]
    pub fn new(roots: u64) -> Option<Roots> {
        let roots = u8::try_from(roots).ok()?;
        (Self::MIN..=Self::MAX).contains(&roots).then_some(Roots(roots))
    }

    /// As a number.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }

    /// Message symbols of a codeword: 231 to 253.
    #[must_use]
    pub fn message(self) -> u8 {
        SYMBOLS - self.0
    }
}

/// The code with so many roots: tables, made once.
#[derive(Debug)]
pub(super) struct Code {
    roots: Roots,
    /// Words of eight symbols that a remainder takes.
    words: usize,
    /// By the symbol that leaves a remainder at the front: what it adds to the rest.
    table: Vec<u64>,
}

/// The remainders of codewords that lie side by side. The first parity symbol is the lowest
/// byte of the first word.
#[derive(Debug, Default)]
pub(super) struct Remainders {
    words: Vec<u64>,
}

impl Code {
    pub(super) fn new(roots: Roots) -> Code {
        let count = usize::from(roots.get());
        // The product of (x + alpha^n), lowest degree first.
        let mut generator = vec![1];
        for n in 0..roots.get() {
            let root = field::power(n);
            generator.push(0);
            for i in (0..generator.len()).rev() {
                let below = if i == 0 { 0 } else { generator[i - 1] };
                generator[i] = field::multiply(generator[i], root) ^ below;
            }
        }
        let words = count.div_ceil(8);
        let table = (0..=255_u8)
            .flat_map(|front| {
                let mut bytes = vec![0; words * 8];
                for (byte, coefficient) in bytes.iter_mut().zip(generator[..count].iter().rev()) {
                    *byte = field::multiply(front, *coefficient);
                }
                bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect::<Vec<_>>()
            })
            .collect();
        Code { roots, words, table }
    }

    /// Begins `codewords` codewords anew.
    pub(super) fn begin(&self, remainders: &mut Remainders, codewords: usize) {
        remainders.words.clear();
        remainders.words.resize(codewords * self.words, 0);
    }

    /// Takes the next symbol of each codeword.
    pub(super) fn push(&self, remainders: &mut Remainders, symbols: &[u8]) {
        match self.words {
            1 => push::<1>(&self.table, &mut remainders.words, symbols),
            2 => push::<2>(&self.table, &mut remainders.words, symbols),
            _ => push::<3>(&self.table, &mut remainders.words, symbols),
        }
    }

    /// The parity, codeword after codeword.
    pub(super) fn parity(&self, remainders: &Remainders, parity: &mut Vec<u8>) {
        let roots = usize::from(self.roots.get());
        parity.clear();
        parity.reserve(remainders.words.len() / self.words * roots);
        for remainder in remainders.words.chunks_exact(self.words) {
            let mut left = roots;
            for word in remainder {
                let bytes = &word.to_le_bytes()[..left.min(8)];
                parity.extend_from_slice(bytes);
                left -= bytes.len();
            }
        }
    }

    /// Finds the errors of a codeword from what its parity should be and `difference` from what is
    /// stored. Symbols of which it is known that they may be anything are `erased`, by their
    /// distinct indices.
    ///
    /// Finds any E errors beside X erasures when 2 E + X <= R. Of more it finds none, or wrong ones.
    pub(super) fn decode(&self, difference: &[u8], erased: &[u8]) -> Option<Errors> {
        let roots = usize::from(self.roots.get());
        debug_assert_eq!(difference.len(), roots);
        if difference.iter().all(|symbol| *symbol == 0) {
            return Some(Errors::default());
        }
        if erased.len() > roots {
            return None;
        }
        let mut syndromes = [0; MAX];
        for (n, syndrome) in (0..).zip(&mut syndromes[..roots]) {
            let x = field::power(n);
            *syndrome = difference.iter().fold(0, |sum, c| field::multiply(sum, x) ^ c);
        }
        let syndromes = &syndromes[..roots];
        let locator = locator(syndromes, erased);
        let degree = locator.iter().rposition(|c| *c != 0).unwrap_or(0);
        if degree > roots {
            return None;
        }
        let locator = &locator[..=degree];
        // The product of syndromes and locator, modulo x^R.
        let mut evaluator = [0; MAX];
        for (n, coefficient) in evaluator[..roots].iter_mut().enumerate() {
            *coefficient = sum_of_products(&locator[..=n.min(degree)], &syndromes[..=n]);
        }
        let mut errors = Errors::default();
        let mut found = 0;
        let mut check = [0; MAX];
        // One root is read off, more are looked for everywhere.
        let powers = match locator {
            [_, root] => field::log(*root)..field::log(*root) + 1,
            _ => 0..SYMBOLS,
        };
        for power in powers {
            let inverse = field::inverse_power(power);
            if field::evaluate(locator, inverse) != 0 {
                continue;
            }
            found += 1;
            // The formal derivative: in characteristic 2 its even powers are the locator's odd ones.
            let mut derivative = 0;
            let square = field::multiply(inverse, inverse);
            for coefficient in locator.iter().skip(1).step_by(2).rev() {
                derivative = field::multiply(derivative, square) ^ coefficient;
            }
            if derivative == 0 {
                return None;
            }
            let value = field::multiply(
                field::power(power),
                field::divide(field::evaluate(&evaluator[..roots], inverse), derivative),
            );
            if value != 0 {
                errors.push(Error { index: SYMBOLS - 1 - power, value });
                let mut term = value;
                for sum in &mut check[..roots] {
                    *sum ^= term;
                    term = field::multiply(term, field::power(power));
                }
            }
        }
        (found == degree && check[..roots] == *syndromes).then_some(errors)
    }
}

const MAX: usize = Roots::MAX as usize;

/// A wrong symbol of a codeword.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Error {
    /// Which one, counted from the first of the message.
    pub(super) index: u8,
    /// What is to be added to it.
    pub(super) value: u8,
}

/// The wrong symbols of a codeword.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Errors {
    count: usize,
    errors: [Error; MAX],
}

impl Errors {
    fn push(&mut self, error: Error) {
        self.errors[self.count] = error;
        self.count += 1;
    }
}

impl std::ops::Deref for Errors {
    type Target = [Error];

    fn deref(&self) -> &[Error] {
        &self.errors[..self.count]
    }
}

impl Remainders {
    /// Turns parity into what it differs by from `stored`, which lies codeword after codeword.
    pub(super) fn differ_from(&mut self, code: &Code, stored: &[u8]) {
        let roots = usize::from(code.roots.get());
        for (remainder, stored) in
            self.words.chunks_exact_mut(code.words).zip(stored.chunks_exact(roots))
        {
            for (word, stored) in remainder.iter_mut().zip(stored.chunks(8)) {
                let mut bytes = [0; 8];
                bytes[..stored.len()].copy_from_slice(stored);
                *word ^= u64::from_le_bytes(bytes);
            }
        }
    }

    /// The symbols that belong to codeword `number`; only those that are the code's are not 0.
    pub(super) fn get(&self, code: &Code, number: usize) -> Option<[u8; MAX]> {
        let words = &self.words[number * code.words..][..code.words];
        if words.iter().all(|word| *word == 0) {
            return None;
        }
        let mut symbols = [0; MAX];
        for (bytes, word) in symbols.as_chunks_mut().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
        Some(symbols)
    }
}

/// Divides on: what leaves each remainder at the front comes back times the generator.
fn push<const WORDS: usize>(table: &[u64], remainders: &mut [u64], symbols: &[u8]) {
    let table: &[[u64; WORDS]; 256] =
        table.as_chunks().0.try_into().expect("the table has a row for each symbol");
    for (remainder, symbol) in remainders.as_chunks_mut::<WORDS>().0.iter_mut().zip(symbols) {
        let front = remainder[0].to_le_bytes()[0] ^ symbol;
        let add = &table[usize::from(front)];
        for i in 0..WORDS {
            let next = if i + 1 < WORDS { remainder[i + 1] << 56 } else { 0 };
            remainder[i] = (remainder[i] >> 8 | next) ^ add[i];
        }
    }
}

/// Berlekamp and Massey's: the polynomial, lowest degree first, whose roots are the inverses of
/// alpha^power for each symbol that is erased or wrong.
fn locator(syndromes: &[u8], erased: &[u8]) -> [u8; MAX + 1] {
    let mut locator = [0; MAX + 1];
    locator[0] = 1;
    for (degree, index) in erased.iter().enumerate() {
        let x = field::power(SYMBOLS - 1 - index);
        for i in (1..=degree + 1).rev() {
            locator[i] ^= field::multiply(locator[i - 1], x);
        }
    }
    let erasures = erased.len();
    let mut length = erasures;
    let mut last = locator;
    for n in erasures..syndromes.len() {
        let discrepancy = sum_of_products(&locator[..=n], &syndromes[..=n]);
        let before = locator;
        last.copy_within(..MAX, 1);
        last[0] = 0;
        if discrepancy == 0 {
            continue;
        }
        for (coefficient, last) in locator.iter_mut().zip(&last) {
            *coefficient ^= field::multiply(discrepancy, *last);
        }
        if 2 * length <= n + erasures {
            length = n + 1 + erasures - length;
            last = before.map(|coefficient| field::divide(coefficient, discrepancy));
        }
    }
    locator
}

/// The first of `a` times the last of `b`, and so on.
fn sum_of_products(a: &[u8], b: &[u8]) -> u8 {
    a.iter().zip(b.iter().rev()).fold(0, |sum, (a, b)| sum ^ field::multiply(*a, *b))
}
