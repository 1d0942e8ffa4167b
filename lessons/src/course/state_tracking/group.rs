//! Groups to be tracked, as permutations, and the machines that try: one linear map a token.

use mambascope_core::noise::Noise;
use ndarray::{Array1, Array2};
use serde::{Deserialize, Serialize};

/// Things that are permuted, at most.
pub const THINGS: usize = 5;

/// Where each thing goes; a group on fewer things leaves the last ones alone.
pub type Permutation = [u8; THINGS];

/// Nothing moves.
pub const IDENTITY: Permutation = [0, 1, 2, 3, 4];

/// First `first`, then `second`.
pub fn then(first: &Permutation, second: &Permutation) -> Permutation {
    first.map(|place| second[usize::from(place)])
}

/// A word problem: tokens are permutations, wanted is their product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Two things: is the number of swaps even?
    Parity,
    /// Three things that turn: counting modulo three.
    Mod3,
    /// All orders of three things.
    S3,
    /// The even orders of five things.
    A5,
}

impl Group {
    /// All, from easy to hard.
    pub const ALL: [Self; 4] = [Self::Parity, Self::Mod3, Self::S3, Self::A5];

    /// Its name.
    pub fn title(self) -> &'static str {
        match self {
            Self::Parity => "parity",
            Self::Mod3 => "count mod 3",
            Self::S3 => "S3: shuffle three",
            Self::A5 => "A5: even shuffles of five",
        }
    }

    /// Its tokens.
    pub fn tokens(self) -> &'static [Permutation] {
        match self {
            Self::Parity => &[IDENTITY, [1, 0, 2, 3, 4]],
            Self::Mod3 => &[IDENTITY, [1, 2, 0, 3, 4], [2, 0, 1, 3, 4]],
            Self::S3 => &[IDENTITY, [1, 0, 2, 3, 4], [0, 2, 1, 3, 4]],
            Self::A5 => &[IDENTITY, [1, 2, 0, 3, 4], [1, 2, 3, 4, 0]],
        }
    }

    /// How a token is written.
    pub fn text(self, token: usize) -> &'static str {
        match (self, token) {
            (_, 0) => "–",
            (Self::Parity, _) => "1",
            (Self::Mod3, 1) => "+1",
            (Self::Mod3, _) => "+2",
            (Self::S3, 1) => "(12)",
            (Self::S3, _) => "(23)",
            (Self::A5, 1) => "(123)",
            (Self::A5, _) => "(12345)",
        }
    }

    /// Things it moves.
    pub fn things(self) -> usize {
        match self {
            Self::Parity => 2,
            Self::Mod3 | Self::S3 => 3,
            Self::A5 => 5,
        }
    }

    /// Its elements: 2, 3, 6, 60.
    pub fn order(self) -> usize {
        match self {
            Self::Parity => 2,
            Self::Mod3 => 3,
            Self::S3 => 6,
            Self::A5 => 60,
        }
    }

    /// The permutation a word comes to.
    pub fn product(self, word: &[usize]) -> Permutation {
        let tokens = self.tokens();
        word.iter()
            .fold(IDENTITY, |product, &token| then(&product, &tokens[token]))
    }

    /// Random words.
    pub fn words(self, length: usize, count: usize, noise: Noise) -> Vec<Vec<usize>> {
        let tokens = self.tokens().len();
        let token = |i: usize| (noise.bits(i) >> 32) as usize % tokens;
        (0..count)
            .map(|word| (0..length).map(|l| token(word * length + l)).collect())
            .collect()
    }
}

/// What a token may do to the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transition {
    /// A diagonal of numbers between 0 and 1; the token is written, as Mamba does.
    Decay,
    /// 1 or −1: the sign of the permutation.
    Sign,
    /// A turn in the plane by one full turn over the token's order.
    Rotation,
    /// One Householder reflection: of a permutation, its first swap.
    Reflection,
    /// The matrix of the permutation.
    Permutation,
}

impl Transition {
    /// All, from narrow to wide.
    pub const ALL: [Self; 5] = [
        Self::Decay,
        Self::Sign,
        Self::Rotation,
        Self::Reflection,
        Self::Permutation,
    ];

    /// Its name.
    pub fn title(self) -> &'static str {
        match self {
            Self::Decay => "decay in (0, 1)",
            Self::Sign => "±1",
            Self::Rotation => "rotation",
            Self::Reflection => "one reflection",
            Self::Permutation => "permutation",
        }
    }
}

/// A machine: h = T(token) h + write(token).
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// One matrix for each token, `[n, n]`.
    pub transition_nn: Vec<Array2<f64>>,
    /// What each token writes, `[n]`.
    pub write_n: Vec<Array1<f64>>,
    /// State before the first token, `[n]`.
    pub start_n: Array1<f64>,
}

impl Machine {
    /// The machine of this kind for a group's tokens; `decay` is what the diagonal one keeps a token.
    pub fn new(group: Group, transition: Transition, decay: f64) -> Self {
        let tokens = group.tokens();
        let things = group.things();
        let slots = match transition {
            Transition::Decay => tokens.len(),
            Transition::Sign => 1,
            Transition::Rotation => 2,
            Transition::Reflection | Transition::Permutation => things,
        };
        let matrix = |token: &Permutation| match transition {
            Transition::Decay => Array2::eye(slots) * decay,
            Transition::Sign => Array2::from_elem((1, 1), sign(token)),
            Transition::Rotation => rotation(token),
            Transition::Reflection => match first_swap(token) {
                Some((one, other)) => householder(things, one, other),
                None => Array2::eye(things),
            },
            Transition::Permutation => permutation_matrix(token, things),
        };
        let write = |token: usize| {
            let mut write_n = Array1::zeros(slots);
            if transition == Transition::Decay {
                write_n[token] = 1.0;
            }
            write_n
        };
        let start_n = match transition {
            Transition::Decay => Array1::zeros(slots),
            // The first of two coordinates.
            Transition::Rotation => Array1::from_vec(vec![1.0, 0.0]),
            // All different, so that no order of them looks like another.
            _ => Array1::from_shape_fn(slots, |n| 1.0 - n as f64 / slots as f64),
        };
        Self {
            transition_nn: tokens.iter().map(matrix).collect(),
            write_n: (0..tokens.len()).map(write).collect(),
            start_n,
        }
    }

    /// The state after one more token.
    pub fn step(&self, h_n: &Array1<f64>, token: usize) -> Array1<f64> {
        self.transition_nn[token].dot(h_n) + &self.write_n[token]
    }

    /// The state after a word, `[n]`.
    pub fn state(&self, word: &[usize]) -> Array1<f64> {
        word.iter()
            .fold(self.start_n.clone(), |h_n, &token| self.step(&h_n, token))
    }

    /// The product of a word's transitions alone, `[n, n]`: what becomes of whatever was in the state before.
    pub fn product(&self, word: &[usize]) -> Array2<f64> {
        let eye = Array2::eye(self.start_n.len());
        word.iter().fold(eye, |product, &token| {
            self.transition_nn[token].dot(&product)
        })
    }
}

/// 1 for an even permutation, −1 for an odd one.
fn sign(token: &Permutation) -> f64 {
    let mut sign = 1.0;
    for (i, a) in token.iter().enumerate() {
        for b in &token[i + 1..] {
            if a > b {
                sign = -sign;
            }
        }
    }
    sign
}

/// A full turn over the token's order: the least number of times that brings everything back. A token's inverse turns back.
fn rotation(token: &Permutation) -> Array2<f64> {
    let mut order = 1;
    let mut power = *token;
    while power != IDENTITY {
        power = then(&power, token);
        order += 1;
    }
    // Of two tokens that undo each other, the one that moves the first thing further turns backwards.
    let backwards = order > 2 && token[0] > 1;
    let angle = std::f64::consts::TAU / f64::from(order) * if backwards { -1.0 } else { 1.0 };
    let (sin, cos) = angle.sin_cos();
    ndarray::array![[cos, -sin], [sin, cos]]
}

/// The first thing that moves, and where it goes.
fn first_swap(token: &Permutation) -> Option<(usize, usize)> {
    let moved = token
        .iter()
        .enumerate()
        .find(|&(i, &to)| i != usize::from(to));
    moved.map(|(from, &to)| (from, usize::from(to)))
}

/// I − 2 v vᵀ with v = (e_one − e_other) / √2: swaps two coordinates.
fn householder(slots: usize, one: usize, other: usize) -> Array2<f64> {
    let mut v_n = Array1::<f64>::zeros(slots);
    v_n[one] = std::f64::consts::FRAC_1_SQRT_2;
    v_n[other] = -std::f64::consts::FRAC_1_SQRT_2;
    Array2::from_shape_fn((slots, slots), |(i, j)| {
        f64::from(u8::from(i == j)) - 2.0 * v_n[i] * v_n[j]
    })
}

/// Puts what is at place i where the permutation sends it.
fn permutation_matrix(token: &Permutation, slots: usize) -> Array2<f64> {
    let mut matrix = Array2::zeros((slots, slots));
    for (from, &to) in token.iter().enumerate().take(slots) {
        matrix[[usize::from(to), from]] = 1.0;
    }
    matrix
}

/// Share of `tests` fresh words whose product is read off the state. The reader has seen `practice` other words of the same length,
/// keeps the mean state of every product among them, and names the product with the nearest mean.
pub fn accuracy(
    group: Group,
    machine: &Machine,
    length: usize,
    [practice, tests]: [usize; 2],
    seed: u64,
) -> f64 {
    let mut means: Vec<(Permutation, Array1<f64>, f64)> = Vec::new();
    for word in group.words(length, practice, Noise::new(seed, "practice words")) {
        let (product, h_n) = (group.product(&word), machine.state(&word));
        match means.iter_mut().find(|(known, ..)| *known == product) {
            Some((_, sum_n, count)) => {
                *sum_n += &h_n;
                *count += 1.0;
            }
            None => means.push((product, h_n, 1.0)),
        }
    }
    for (_, sum_n, count) in &mut means {
        *sum_n /= *count;
    }
    let words = group.words(length, tests, Noise::new(seed, "test words"));
    let is_right = |word: &&Vec<usize>| {
        let h_n = machine.state(word);
        let mut nearest = (f64::INFINITY, IDENTITY);
        for (product, mean_n, _) in &means {
            let distance: f64 = (mean_n - &h_n).iter().map(|x| x * x).sum();
            // Equal to within rounding is equal: the first one met is named.
            if distance < nearest.0 - 1e-9 {
                nearest = (distance, *product);
            }
        }
        nearest.1 == group.product(word)
    };
    words.iter().filter(is_right).count() as f64 / tests.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn tokens_make_their_groups() {
        for group in Group::ALL {
            let words = group.words(24, 2000, Noise::new(1, "all elements"));
            let found: HashSet<_> = words.iter().map(|word| group.product(word)).collect();
            assert_eq!(found.len(), group.order(), "{group:?}");
        }
    }

    #[test]
    fn permutation_matrices_follow_the_group() {
        for group in Group::ALL {
            let machine = Machine::new(group, Transition::Permutation, 1.0);
            for word in group.words(40, 20, Noise::new(2, "words")) {
                let wanted = permutation_matrix(&group.product(&word), group.things());
                assert_eq!(machine.product(&word), wanted);
            }
        }
    }

    #[test]
    fn a_swap_is_a_reflection_and_signs_multiply() {
        let tokens = Group::S3.tokens();
        for token in tokens {
            let machine = Machine::new(Group::S3, Transition::Reflection, 1.0);
            let at = tokens.iter().position(|other| other == token).unwrap();
            let difference = &machine.transition_nn[at] - &permutation_matrix(token, 3);
            assert!(difference.iter().all(|x| x.abs() < 1e-12));
        }
        assert!(Group::A5.tokens().iter().all(|token| sign(token) == 1.0));
        assert_eq!(tokens.iter().map(sign).sum::<f64>(), -1.0);
    }
}
