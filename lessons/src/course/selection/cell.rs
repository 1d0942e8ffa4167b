//! One channel of a selective state-space model, small enough to be set by hand: every kind of token has its own Δ, B and C.

use mambascope_core::scan::{Projection, ScanError, ScanInput, sequential};
use ndarray::{Array1, Array2, Array3, array};

use super::puzzle::Token;

/// Slots of the cell.
pub const SLOTS: usize = 2;
/// Most kinds of tokens a puzzle has.
pub const KINDS: usize = 3;

/// What one kind of token sets.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Knobs {
    /// Δ before softplus.
    pub z: f64,
    /// How to write, a number a slot.
    pub b_n: [f64; SLOTS],
    /// How to read, a number a slot.
    pub c_n: [f64; SLOTS],
    /// Whether the state changes its sign at this token: something exp(ΔA) cannot do.
    pub flips: bool,
}

impl Knobs {
    /// A kind that reads and writes the first slot only.
    pub const fn first(z: f64, b: f64, c: f64) -> Self {
        Self {
            z,
            b_n: [b, 0.0],
            c_n: [c, 0.0],
            flips: false,
        }
    }
}

/// The cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// A of both slots.
    pub a: f64,
    /// The knobs of each kind of token.
    pub kinds: [Knobs; KINDS],
    /// Whether Δ and B are set by the token before, as a convolution allows; C is always set by the token itself.
    pub sees_previous: bool,
}

/// What the cell did.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// State after each token, `[l, n]`.
    pub h_ln: Array2<f64>,
    /// Output, `[l]`.
    pub y_l: Array1<f64>,
    /// exp(ΔA), what each token left of the state, `[l]`; below zero where it changed the sign.
    pub kept_l: Vec<f64>,
}

impl Cell {
    /// The cell in which every token sets the same.
    pub fn invariant(a: f64, knobs: Knobs) -> Self {
        Self {
            a,
            kinds: [knobs; KINDS],
            sees_previous: false,
        }
    }

    /// Runs the engine's scan over a string.
    ///
    /// # Errors
    /// None in practice: the operands are made to fit.
    pub fn run(&self, tokens: &[Token]) -> Result<Run, ScanError> {
        let mut h_ln = Array2::zeros((tokens.len(), SLOTS));
        let (signs, y_l) = self.scan(tokens, |l, h_n| {
            for (place, h) in h_ln.row_mut(l).iter_mut().zip(h_n) {
                *place = *h;
            }
        })?;
        let mut before = 1.0;
        let mut kept_l = Vec::with_capacity(tokens.len());
        for (l, sign) in signs.into_iter().enumerate() {
            h_ln.row_mut(l).mapv_inplace(|h| h * sign);
            let delta = mambascope_core::scan::softplus(self.writer(tokens, l).z);
            kept_l.push(sign * before * (delta * self.a).exp());
            before = sign;
        }
        Ok(Run { h_ln, y_l, kept_l })
    }

    /// The output at the last token.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn last(&self, tokens: &[Token]) -> Result<f64, ScanError> {
        let (_, y_l) = self.scan(tokens, |_, _| ())?;
        Ok(y_l.last().copied().unwrap_or(0.0))
    }

    /// What sets Δ and B at token `l`. Before the first token there is one of the last kind: noise.
    fn writer(&self, tokens: &[Token], l: usize) -> Knobs {
        let kind = match (self.sees_previous, l.checked_sub(1)) {
            (false, _) => tokens[l].kind,
            (true, Some(before)) => tokens[before].kind,
            (true, None) => KINDS - 1,
        };
        self.kinds[kind.min(KINDS - 1)]
    }

    /// Signs of the state and outputs; `after` sees the state without its sign.
    ///
    /// The engine's exp(ΔA) is above zero. A state that changes sign is s·g, with s the product of all signs so far and g the
    /// state of a cell that writes s·B and reads s·C: so the same scan computes it.
    fn scan(
        &self,
        tokens: &[Token],
        mut after: impl FnMut(usize, &[f64]),
    ) -> Result<(Vec<f64>, Array1<f64>), ScanError> {
        let length = tokens.len();
        let mut signs = Vec::with_capacity(length);
        let mut sign = 1.0;
        for token in tokens {
            if self.kinds[token.kind.min(KINDS - 1)].flips {
                sign = -sign;
            }
            signs.push(sign);
        }
        let u_ld = Array2::from_shape_fn((length, 1), |(l, _)| tokens[l].u);
        let delta_ld = Array2::from_shape_fn((length, 1), |(l, _)| self.writer(tokens, l).z);
        let b_lgn = Array3::from_shape_fn((length, 1, SLOTS), |(l, _, n)| {
            signs[l] * self.writer(tokens, l).b_n[n]
        });
        let c_lgn = Array3::from_shape_fn((length, 1, SLOTS), |(l, _, n)| {
            signs[l] * self.kinds[tokens[l].kind.min(KINDS - 1)].c_n[n]
        });
        let a_dn = array![[self.a, self.a]];
        let input = ScanInput {
            u_ld: u_ld.view(),
            delta_ld: delta_ld.view(),
            delta_bias_d: None,
            delta_softplus: true,
            a_dn: a_dn.view(),
            b: Projection::Selective(b_lgn.view()),
            c: Projection::Selective(c_lgn.view()),
            d_skip_d: None,
            z_ld: None,
            initial_dn: None,
        };
        let output = sequential(&input, |l, h_dn| {
            if let Some(h_n) = h_dn.as_slice() {
                after(l, h_n);
            }
        })?;
        Ok((signs, output.y_ld.column(0).to_owned()))
    }
}
