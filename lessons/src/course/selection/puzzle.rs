//! The four puzzles: what their strings are, what is wanted of the last token, and a setting that gives it where there is one.

use mambascope_core::noise::Noise;
use serde::{Deserialize, Serialize};

use super::cell::{KINDS, Knobs};

/// The lengths every setting is scored at.
pub const LENGTHS: [usize; 3] = [16, 256, 4096];
/// The longest gap between two markers.
const LONGEST_GAP: usize = 15;
/// Tokens among which the last mark stands, before the noise begins.
pub const MARK_ROOM: usize = 8;

/// A token: what kind it is of, and what it carries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Token {
    /// Its kind: decides Δ, B and C.
    pub kind: usize,
    /// The input it gives.
    pub u: f64,
}

/// A string, and the sign its last output should have.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// The string.
    pub tokens: Vec<Token>,
    /// 1 or −1.
    pub wanted: f64,
}

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Puzzle {
    /// The value of the last marked token, behind noise.
    Hold,
    /// Whether more +1 than −1 came since the marker.
    Reset,
    /// The value that stood behind this key.
    Induction,
    /// Whether the ones are even in number.
    Parity,
}

/// Kinds of tokens by number, of each puzzle.
const MARK: usize = 0;
const NOISE: usize = 2;
const KEYS: [usize; 2] = [0, 1];
const START: usize = 0;
const ZERO: usize = 1;
const ONE: usize = 2;

fn token(kind: usize, u: f64) -> Token {
    Token { kind, u }
}

/// Random bits, one after the other.
struct Coins {
    noise: Noise,
    next: usize,
}

impl Coins {
    fn below(&mut self, end: usize) -> usize {
        self.next += 1;
        ((self.noise.bits(self.next) >> 32) as usize) % end.max(1)
    }

    fn sign(&mut self) -> f64 {
        if self.below(2) == 0 { 1.0 } else { -1.0 }
    }
}

impl Puzzle {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Hold, Self::Reset, Self::Induction, Self::Parity];

    /// Its name on the button.
    pub fn title(self) -> &'static str {
        match self {
            Self::Hold => "Copy the marked",
            Self::Reset => "Reset at a marker",
            Self::Induction => "Induction",
            Self::Parity => "Parity",
        }
    }

    /// What is wanted, and what the tokens carry.
    pub fn task(self) -> &'static str {
        match self {
            Self::Hold => {
                "At the end, give the value of the last marked token (●). All tokens carry +1 or −1; at least L of noise follow the mark."
            }
            Self::Reset => {
                "At the end, say whether more + or more − came since the last marker (|); never as many. Values carry +1 or −1, the marker 0."
            }
            Self::Induction => {
                "Keys a and b each stand once before a value of +1 or −1, among noise of ±1. At the end a key comes again: give its value."
            }
            Self::Parity => {
                "Behind the start (›), give +1 for an even number of ones and −1 for an odd one. Start and one carry 1, zero carries 0."
            }
        }
    }

    /// Why one Δ, B and C for all tokens cannot do it.
    pub fn refutation(self) -> &'static str {
        match self {
            Self::Hold => {
                "Cannot be solved: the mark is not in the input, only in what a token may set. Two strings that differ in where the mark is give one output, and want two."
            }
            Self::Reset => {
                "Cannot be solved: a gap of 1 wants the newest value to outweigh all before the marker together; a gap of 15 wants any eight values to outweigh the other seven."
            }
            Self::Induction => {
                "Cannot be solved: both keys carry the same input, 0, so that asking for a and asking for b gives one output, and wants two."
            }
            Self::Parity => {
                "Cannot be solved: outputs add up. y(00) + y(11) = y(01) + y(10), but the left is wanted above zero and the right below."
            }
        }
    }

    /// The kinds of its tokens by name, first to last.
    pub fn kinds(self) -> &'static [(usize, &'static str)] {
        match self {
            Self::Hold => &[(MARK, "● marked"), (NOISE, "noise")],
            Self::Reset => &[(MARK, "| marker"), (NOISE, "value")],
            Self::Induction => &[
                (KEYS[0], "key a"),
                (KEYS[1], "key b"),
                (NOISE, "value, noise"),
            ],
            Self::Parity => &[(START, "› start"), (ZERO, "zero"), (ONE, "one")],
        }
    }

    /// Slots that are needed.
    pub fn slots(self) -> usize {
        if self == Self::Induction { 2 } else { 1 }
    }

    /// How a token is written.
    pub fn text(self, token: Token) -> &'static str {
        let sign = |up, down| if token.u > 0.0 { up } else { down };
        match (self, token.kind) {
            (Self::Hold, MARK) => sign("●+", "●−"),
            (Self::Reset, MARK) => "|",
            (Self::Induction, 0) => "a",
            (Self::Induction, 1) => "b",
            (Self::Parity, START) => "›",
            (Self::Parity, ZERO) => "0",
            (Self::Parity, _) => "1",
            _ => sign("+", "−"),
        }
    }

    /// A setting that solves it, and whether Δ and B see the token before.
    pub fn solution(self) -> ([Knobs; KINDS], bool) {
        let quiet = Knobs::first(-12.0, 0.0, 1.0);
        match self {
            // Softplus(4) is 4.02: a quarter of that is a write of one, and e^−4.02 forgets what was there.
            Self::Hold => ([Knobs::first(4.0, 0.25, 1.0), quiet, quiet], false),
            Self::Reset => {
                // Little is written a token, so that little is lost a token; C makes up for it.
                let value = Knobs::first(-6.0, 8.0, 64.0);
                ([Knobs::first(5.0, 0.0, 0.0), value, value], false)
            }
            Self::Induction => {
                let key = |b_n: [f64; 2]| Knobs {
                    z: -2.0,
                    b_n: b_n.map(|b| 8.0 * b),
                    c_n: b_n,
                    flips: false,
                };
                ([key([1.0, 0.0]), key([0.0, 1.0]), quiet], true)
            }
            Self::Parity => {
                let one = Knobs {
                    flips: true,
                    ..quiet
                };
                ([Knobs::first(4.0, 0.25, 1.0), quiet, one], false)
            }
        }
    }

    /// Random strings of a length.
    pub fn samples(self, length: usize, count: usize, seed: u64) -> Vec<Example> {
        let mut coins = Coins {
            noise: Noise::new(seed, "puzzle strings"),
            next: length << 32,
        };
        (0..count)
            .map(|_| self.sample(length, &mut coins))
            .collect()
    }

    fn sample(self, length: usize, coins: &mut Coins) -> Example {
        match self {
            Self::Hold => {
                let last = coins.below(MARK_ROOM);
                let kinds = (0..MARK_ROOM + length).map(|l| match l {
                    l if l == last => MARK,
                    l if l < last && coins.below(4) == 0 => MARK,
                    _ => NOISE,
                });
                let kinds: Vec<usize> = kinds.collect();
                let tokens = kinds.into_iter().map(|kind| token(kind, coins.sign()));
                hold(tokens.collect())
            }
            Self::Reset => {
                let gap = 1 + 2 * coins.below(LONGEST_GAP.div_ceil(2));
                let gap = gap.min(length.saturating_sub(1) | 1);
                let mut tokens: Vec<Token> = (0..length.max(gap + 1))
                    .map(|_| token(NOISE, coins.sign()))
                    .collect();
                let mut at = tokens.len() - 1 - gap;
                loop {
                    tokens[at] = token(MARK, 0.0);
                    // Another odd gap before it, and the marker itself.
                    let step = 2 + 2 * coins.below(LONGEST_GAP.div_ceil(2));
                    match at.checked_sub(step) {
                        Some(next) => at = next,
                        None => break,
                    }
                }
                tokens[0] = token(MARK, 0.0);
                reset(tokens)
            }
            Self::Induction => {
                let mut tokens: Vec<Token> =
                    (0..length).map(|_| token(NOISE, coins.sign())).collect();
                // Two different places in the first half, each with room for the value behind its key.
                let room = (length / 4).max(2);
                let (one, other) = (2 * coins.below(room), coins.below(room - 1));
                let other = (one + 2 + 2 * other) % (2 * room);
                let first = coins.below(2);
                tokens[one] = token(KEYS[first], 0.0);
                tokens[other] = token(KEYS[1 - first], 0.0);
                tokens.push(token(KEYS[coins.below(2)], 0.0));
                induction(tokens)
            }
            Self::Parity => {
                let bits: Vec<usize> = (0..length).map(|_| coins.below(2)).collect();
                parity(&bits)
            }
        }
    }

    /// Every short string there is, up to a length of its own for each puzzle.
    pub fn all_short(self) -> Vec<Example> {
        match self {
            Self::Hold => every(4, 1..=6)
                .map(|digits| {
                    let kind = |digit: usize| if digit < 2 { MARK } else { NOISE };
                    let sign = |digit: usize| if digit.is_multiple_of(2) { 1.0 } else { -1.0 };
                    digits
                        .into_iter()
                        .map(|digit| token(kind(digit), sign(digit)))
                        .collect()
                })
                .filter(|tokens: &Vec<Token>| tokens.iter().any(|token| token.kind == MARK))
                .map(hold)
                .collect(),
            Self::Reset => every(3, 1..=7)
                .map(|digits| {
                    let mut tokens = vec![token(MARK, 0.0)];
                    tokens.extend(digits.into_iter().map(|digit| match digit {
                        0 => token(MARK, 0.0),
                        1 => token(NOISE, 1.0),
                        _ => token(NOISE, -1.0),
                    }));
                    reset(tokens)
                })
                .filter(|example| example.wanted != 0.0)
                .collect(),
            Self::Induction => every(4, 5..=7)
                .map(|digits| {
                    let token = |digit: usize| match digit {
                        0 | 1 => token(KEYS[digit], 0.0),
                        _ => token(NOISE, 5.0 - 2.0 * digit as f64),
                    };
                    digits.into_iter().map(token).collect()
                })
                .filter(|tokens: &Vec<Token>| asks_for_a_key(tokens))
                .map(induction)
                .collect(),
            Self::Parity => every(2, 0..=10).map(|bits| parity(&bits)).collect(),
        }
    }
}

/// All words of these lengths over the digits below `base`.
fn every(
    base: usize,
    lengths: std::ops::RangeInclusive<usize>,
) -> impl Iterator<Item = Vec<usize>> {
    lengths.flat_map(move |length| {
        (0..base.pow(length as u32)).map(move |mut number| {
            (0..length)
                .map(|_| {
                    let digit = number % base;
                    number /= base;
                    digit
                })
                .collect()
        })
    })
}

fn hold(tokens: Vec<Token>) -> Example {
    let last = tokens.iter().rev().find(|token| token.kind == MARK);
    let wanted = last.map_or(0.0, |token| token.u);
    Example { tokens, wanted }
}

fn reset(tokens: Vec<Token>) -> Example {
    let since = tokens.iter().rev().take_while(|token| token.kind != MARK);
    let sum: f64 = since.map(|token| token.u).sum();
    let wanted = if sum == 0.0 { 0.0 } else { sum.signum() };
    Example { tokens, wanted }
}

/// Whether each key stands once before a value, and one of them again at the end.
fn asks_for_a_key(tokens: &[Token]) -> bool {
    let Some((last, facts)) = tokens.split_last() else {
        return false;
    };
    let once = |key: usize| facts.iter().filter(|token| token.kind == key).count() == 1;
    let has_value = |pair: &[Token]| pair[0].kind == NOISE || pair[1].kind == NOISE;
    let ends_with_key = facts.last().is_some_and(|token| token.kind != NOISE);
    last.kind != NOISE
        && !ends_with_key
        && KEYS.into_iter().all(once)
        && facts.windows(2).all(has_value)
}

fn induction(tokens: Vec<Token>) -> Example {
    let asked = tokens.last().map_or(0, |token| token.kind);
    let pair = tokens.windows(2).find(|pair| pair[0].kind == asked);
    let wanted = pair.map_or(0.0, |pair| pair[1].u);
    Example { tokens, wanted }
}

fn parity(bits: &[usize]) -> Example {
    let mut tokens = vec![token(START, 1.0)];
    tokens.extend(bits.iter().map(|&bit| match bit {
        0 => token(ZERO, 0.0),
        _ => token(ONE, 1.0),
    }));
    let odd = bits.iter().sum::<usize>() % 2 == 1;
    let wanted = if odd { -1.0 } else { 1.0 };
    Example { tokens, wanted }
}

/// Whether an output says what is wanted: on the right side, and at least a half.
pub fn is_right(y: f64, wanted: f64) -> bool {
    y * wanted >= 0.5
}

#[cfg(test)]
mod tests {
    use super::super::cell::Cell;
    use super::*;

    #[test]
    fn every_puzzle_is_solved_by_its_solution() {
        for puzzle in Puzzle::ALL {
            let (kinds, sees_previous) = puzzle.solution();
            let cell = Cell {
                a: -1.0,
                kinds,
                sees_previous,
            };
            let mut examples = puzzle.all_short();
            assert!(examples.len() >= 128);
            for length in LENGTHS {
                examples.extend(puzzle.samples(length, 20, 1));
            }
            for example in examples {
                assert!(example.wanted.abs() == 1.0, "{puzzle:?}: {example:?}");
                let y = cell.last(&example.tokens).unwrap();
                let short = &example.tokens[..example.tokens.len().min(24)];
                assert!(
                    is_right(y, example.wanted),
                    "{puzzle:?}: {y} for {}, {} tokens {short:?}",
                    example.wanted,
                    example.tokens.len()
                );
            }
        }
    }
}
