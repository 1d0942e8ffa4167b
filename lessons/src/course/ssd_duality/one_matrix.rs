//! A matrix of 32 by 32 tokens: its mask, the rank of a block of it, and the two ways to multiply by it.

use std::ops::{ControlFlow, RangeInclusive};

use egui::Ui;
use mambascope_core::job::{JobError, Progress, Workshop};
use mambascope_core::noise::Noise;
use mambascope_core::scan::SsdMacs;
use mambascope_core::study::Study;
use ndarray::{Array1, s};
use serde::{Deserialize, Serialize};

use super::mixing::{Mask, Mixing, projection, spectrum};
use super::paint;
use crate::demo::{Around, Demo, Scene};
use crate::theme;
use crate::widgets::controls::{choice, clamped, controls, slider};
use crate::widgets::plots::footnote;

/// Tokens.
pub const TOKENS: usize = 32;
/// Channels of a head, for the counts.
const HEAD_DIM: usize = 64;

const SHARE: RangeInclusive<f64> = 0.0..=1.0;
const GAMMA: RangeInclusive<f64> = 0.5..=1.0;
const SLOTS: RangeInclusive<usize> = 1..=16;
const CHUNK: RangeInclusive<usize> = 1..=TOKENS;

/// The controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OneMatrix {
    mask: Mask,
    /// The decay of RetNet's mask.
    gamma: f64,
    /// The decays of the selective mask, `[l]`.
    decay_l: Vec<f64>,
    /// The token whose decay the slider sets.
    token: usize,
    slots: usize,
    /// The block: rows from here on …
    row: usize,
    /// … and this many columns from the left.
    columns: usize,
    chunk: usize,
    /// Whether each slot has a decay of its own, as in Mamba-1.
    diagonal: bool,
}

impl Default for OneMatrix {
    fn default() -> Self {
        let noise = Noise::new(6, "decays");
        // Two decimals, so that a preset is short.
        let decay = |l| (85.0 + 15.0 * f64::from(noise.uniform(l))).round() / 100.0;
        Self {
            mask: Mask::Selective,
            gamma: 0.9,
            decay_l: (0..TOKENS).map(decay).collect(),
            token: 20,
            slots: 8,
            row: 16,
            columns: 16,
            chunk: 8,
            diagonal: false,
        }
    }
}

/// What the matrix is made of; what is drawn on it is not part of that.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    mask: Mask,
    decay_l: Vec<f64>,
    slots: usize,
    row: usize,
    columns: usize,
    diagonal: bool,
}

/// The matrix, and what its block is.
pub struct Matrix {
    /// M, `[l, l]` row after row.
    pub m_ll: Vec<f32>,
    /// The masks, likewise.
    pub masks: Vec<Vec<f32>>,
    /// Singular values of the block, the largest first.
    pub singular: Vec<f64>,
    /// How many of them are more than rounding.
    pub rank: usize,
}

impl Study for Recipe {
    type Answer = Matrix;

    fn compute(
        &self,
        _: &mut Workshop,
        _: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Matrix, JobError> {
        let (b_ln, c_ln) = (
            projection("B", TOKENS, self.slots),
            projection("C", TOKENS, self.slots),
        );
        let decay_l = Array1::from(self.decay_l.clone());
        let mixing = match self.mask {
            Mask::Softmax => Mixing::softmax(&b_ln, &c_ln),
            _ if self.diagonal => Mixing::diagonal(&decay_l, &b_ln, &c_ln),
            _ => Mixing::masked(&decay_l, &b_ln, &c_ln),
        };
        let (singular, rank) = spectrum(mixing.m_ll.slice(s![self.row.., ..self.columns]))?;
        let single = |values: &ndarray::Array2<f64>| values.iter().map(|&x| x as f32).collect();
        Ok(Matrix {
            m_ll: single(&mixing.m_ll),
            masks: mixing.masks.iter().map(single).collect(),
            singular,
            rank,
        })
    }
}

impl OneMatrix {
    /// The decays of the chosen mask.
    fn decays(&self) -> Vec<f64> {
        match self.mask {
            Mask::Ones | Mask::Softmax => vec![1.0; TOKENS],
            Mask::Retention => vec![self.gamma; TOKENS],
            Mask::Selective => self.decay_l.clone(),
        }
    }

    fn masks(&mut self, ui: &mut Ui) {
        let masks = [
            (Mask::Ones, "all ones: linear attention"),
            (Mask::Retention, "γ to the distance: RetNet"),
            (Mask::Selective, "products of a(t): SSD"),
            (Mask::Softmax, "softmax"),
        ];
        choice(ui, "Mask", &mut self.mask, &masks);
        controls(ui, |ui| match self.mask {
            Mask::Selective => {
                slider(ui, "t, token to change", &mut self.token, 0..=TOKENS - 1);
                if let Some(decay) = self.decay_l.get_mut(self.token) {
                    slider(ui, "a(t), kept at token t", decay, SHARE);
                }
            }
            Mask::Retention => {
                slider(ui, "γ, kept at every token", &mut self.gamma, GAMMA);
            }
            Mask::Ones | Mask::Softmax => {
                ui.label("Nothing decays: this mask has no decay to set.");
            }
        });
        controls(ui, |ui| {
            slider(ui, "N, slots", &mut self.slots, SLOTS);
            slider(ui, "Q, tokens of a chunk", &mut self.chunk, CHUNK);
            ui.checkbox(
                &mut self.diagonal,
                "diagonal A: slot n decays n times as fast",
            );
        });
    }

    /// The block: strictly below the diagonal, so its columns end at its first row.
    fn block(&mut self, ui: &mut Ui) {
        controls(ui, |ui| {
            if slider(ui, "block: rows from", &mut self.row, 1..=TOKENS - 1).changed() {
                self.columns = self.columns.min(self.row);
            }
            let mut columns = self.columns;
            if slider(ui, "block: columns before", &mut columns, 1..=TOKENS - 1).changed() {
                self.columns = columns;
                self.row = self.row.max(columns);
            }
        });
    }

    /// What the two ways cost, in words.
    fn counts(&self, ui: &mut Ui) {
        let weak = theme::palette(ui.visuals()).weak_text;
        let macs = SsdMacs::of(self.chunk, self.slots, HEAD_DIM);
        let whole = SsdMacs::of(TOKENS, self.slots, HEAD_DIM).inside;
        footnote(
            ui,
            &format!(
                "Multiplications a token, head of {HEAD_DIM} channels: inside the chunks {:.0}, through the state {:.0} + {:.0}, together {:.0}. The whole matrix at once: {whole:.0}. Inside and through the state are equal at Q = {:.1}. (Colours of M go by the square root, so that small values are seen.)",
                macs.inside,
                macs.states,
                macs.between,
                macs.total(),
                macs.states / SsdMacs::of(1, self.slots, HEAD_DIM).inside,
            ),
            weak,
        );
        // A line is there in every case, so that nothing moves.
        let told = match self.mask {
            Mask::Softmax => {
                "Softmax has no mask to multiply with: the division of work at the right is not open to it, and diagonal A changes nothing."
            }
            _ if self.diagonal => {
                "With diagonal A the products inside the chunks would need a mask for every slot: the counts above do not hold."
            }
            _ => "Step 3, from chunk to chunk, is the second of the two numbers through the state.",
        };
        footnote(ui, told, weak);
    }
}

impl Demo for OneMatrix {
    const ID: &'static str = "one-matrix";
    const TITLE: &'static str = "One matrix, four masks";
    type Study = Recipe;

    fn study(&self, _: &Around) -> Option<Recipe> {
        Some(Recipe {
            mask: self.mask,
            decay_l: self.decays(),
            slots: self.slots,
            row: self.row,
            columns: self.columns,
            diagonal: self.diagonal,
        })
    }

    fn ui(&mut self, ui: &mut Ui, scene: &Scene<'_, Matrix>) {
        self.masks(ui);
        self.block(ui);
        let drawn = paint::Drawn {
            row: self.row,
            columns: self.columns,
            chunk: self.chunk,
            cut: (self.mask == Mask::Selective).then_some(self.token),
            slots: self.slots,
            guess: scene.guess("rank-below"),
        };
        if let Some((row, column)) = paint::show(ui, scene.answer, &drawn)
            && column < row
        {
            self.row = row;
            self.columns = column + 1;
        }
        self.counts(ui);
    }

    fn clamp(&mut self) {
        self.gamma = clamped(self.gamma, GAMMA);
        self.decay_l.resize(TOKENS, 1.0);
        for decay in &mut self.decay_l {
            *decay = clamped(*decay, SHARE);
        }
        self.token = self.token.min(TOKENS - 1);
        self.slots = self.slots.clamp(*SLOTS.start(), *SLOTS.end());
        self.row = self.row.clamp(1, TOKENS - 1);
        self.columns = self.columns.clamp(1, self.row);
        self.chunk = self.chunk.clamp(*CHUNK.start(), *CHUNK.end());
    }

    fn ends() -> Vec<Self> {
        let at = |mask, share: f64, token, slots, row, columns, chunk| Self {
            mask,
            gamma: share.max(*GAMMA.start()),
            decay_l: vec![share; TOKENS],
            token,
            slots,
            row,
            columns,
            chunk,
            diagonal: chunk > 1,
        };
        vec![
            at(Mask::Selective, 0.0, 0, 1, 1, 1, 1),
            at(Mask::Retention, 0.0, 31, 16, 31, 31, 32),
            at(Mask::Ones, 1.0, 31, 16, 31, 1, 32),
            at(Mask::Softmax, 1.0, 31, 16, 16, 16, 32),
            at(Mask::Selective, 1.0, 31, 16, 16, 16, 32),
        ]
    }

    fn live(&self, symbol: &str, answer: Option<&Matrix>) -> Option<String> {
        match symbol {
            "N" => Some(self.slots.to_string()),
            "Q" => Some(self.chunk.to_string()),
            "M" => answer.map(|matrix| format!("rank of the block: {}", matrix.rank)),
            _ => None,
        }
    }
}
