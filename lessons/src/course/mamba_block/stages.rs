//! The stages of a Mamba-1 block: their names, formulas, and lines of the engine's source.

use mambascope_core::trace::Probe;
use serde::{Deserialize, Serialize};

/// The engine's own block, as this program was built from it.
const SOURCE: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../core/src/backend/naive/mamba.rs"
));
const SOURCE_NAME: &str = "core/src/backend/naive/mamba.rs";
const AROUND: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../core/src/backend/naive/mod.rs"
));
const AROUND_NAME: &str = "core/src/backend/naive/mod.rs";
const LAYERS: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../core/src/backend/naive/layers.rs"
));
const LAYERS_NAME: &str = "core/src/backend/naive/layers.rs";
const SCAN: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../core/src/scan/sequential.rs"
));
const SCAN_NAME: &str = "core/src/scan/sequential.rs";

/// A stage of the block, in the order of the computation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    Norm,
    X,
    Z,
    Conv,
    Silu,
    DtLow,
    B,
    C,
    Delta,
    H,
    Read,
    Skip,
    Gate,
    Out,
    Residual,
}

impl Stage {
    pub const ALL: [Stage; 15] = [
        Stage::Norm,
        Stage::X,
        Stage::Z,
        Stage::Conv,
        Stage::Silu,
        Stage::DtLow,
        Stage::B,
        Stage::C,
        Stage::Delta,
        Stage::H,
        Stage::Read,
        Stage::Skip,
        Stage::Gate,
        Stage::Out,
        Stage::Residual,
    ];

    /// What a reader calls it.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Norm => "RMSNorm",
            Stage::X => "in_proj: x",
            Stage::Z => "in_proj: z",
            Stage::Conv => "convolution",
            Stage::Silu => "SiLU: u",
            Stage::DtLow => "x_proj: dt",
            Stage::B => "x_proj: B",
            Stage::C => "x_proj: C",
            Stage::Delta => "dt_proj: Δ",
            Stage::H => "scan: h",
            Stage::Read => "scan: C·h",
            Stage::Skip => "skip: y",
            Stage::Gate => "gate",
            Stage::Out => "out_proj",
            Stage::Residual => "residual",
        }
    }

    /// Its formula, as TeX.
    pub fn tex(self) -> &'static str {
        match self {
            Stage::Norm => r"\hat x = w \odot x \,/\, \sqrt{\text{mean}(x^2) + \varepsilon}",
            Stage::X => r"x = W_x\,\hat x",
            Stage::Z => r"z = W_z\,\hat x",
            Stage::Conv => r"c_t = b + \sum_{k=0}^{3} w_k \odot x_{t-3+k}",
            Stage::Silu => r"u = c \cdot \sigma(c)",
            Stage::DtLow => r"dt = W_{dt}\,u",
            Stage::B => r"B = W_B\,u",
            Stage::C => r"C = W_C\,u",
            Stage::Delta => r"\Delta = \text{softplus}(W_\Delta\,dt + b_\Delta)",
            Stage::H => r"h_t[d,n] = e^{\Delta_d A_{dn}}\,h_{t-1}[d,n] + \Delta_d\,B_n\,u_d",
            Stage::Read => r"y_d = \sum_n C_n\,h[d,n]",
            Stage::Skip => r"y_d = \sum_n C_n\,h[d,n] + D_d\,u_d",
            Stage::Gate => r"g = y \odot \text{SiLU}(z)",
            Stage::Out => r"o = W_{out}\,g",
            Stage::Residual => r"x \leftarrow x + o",
        }
    }

    /// Letters of its axes for one token.
    pub fn axes(self) -> &'static str {
        match self {
            Stage::Norm | Stage::Out | Stage::Residual => "e",
            Stage::DtLow => "r",
            Stage::B | Stage::C => "n",
            Stage::H => "d, n",
            _ => "d",
        }
    }

    /// Where the engine records it; it does not record all.
    pub fn probe(self) -> Option<Probe> {
        Some(match self {
            Stage::Norm => Probe::NormOut,
            Stage::X => Probe::X,
            Stage::Z => Probe::Gate,
            Stage::Silu => Probe::ConvOut,
            Stage::DtLow => Probe::DtLow,
            Stage::B => Probe::B,
            Stage::C => Probe::C,
            Stage::Delta => Probe::Delta,
            Stage::Skip => Probe::ScanOut,
            Stage::Gate => Probe::GatedOut,
            Stage::Out => Probe::MixerOutput,
            Stage::Residual => Probe::BlockOutput,
            Stage::Conv | Stage::H | Stage::Read => return None,
        })
    }

    /// File, text of it, and what its line contains.
    fn place(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Stage::Norm => (
                AROUND_NAME,
                AROUND,
                "let norm_le = rms_norm(&x_le, Some(&layer.norm)",
            ),
            Stage::X => (SOURCE_NAME, SOURCE, "let xz = linear("),
            Stage::Z => (SOURCE_NAME, SOURCE, "let (x_ld, z_ld) = "),
            Stage::Conv => (LAYERS_NAME, LAYERS, "sum += weight[d * taps + j]"),
            Stage::Silu => (LAYERS_NAME, LAYERS, "u_ld[[l, d]] = silu(sum)"),
            Stage::DtLow => (SOURCE_NAME, SOURCE, "let mut dt_lr = "),
            Stage::B => (SOURCE_NAME, SOURCE, "let mut b_ln = "),
            Stage::C => (SOURCE_NAME, SOURCE, "let mut c_ln = "),
            Stage::Delta => (SOURCE_NAME, SOURCE, "let delta_ld = linear("),
            Stage::H => (SCAN_NAME, SCAN, "h_dn[[d, n]] = a_bar"),
            Stage::Read => (SCAN_NAME, SCAN, "y += input.c.at("),
            Stage::Skip => (SCAN_NAME, SCAN, "y += skip_d[d] * u"),
            Stage::Gate => (SOURCE_NAME, SOURCE, "let gated_ld = "),
            Stage::Out => (SOURCE_NAME, SOURCE, "let out_le = linear("),
            Stage::Residual => (AROUND_NAME, AROUND, "x_le += &mix("),
        }
    }

    /// File and line, and the line.
    pub fn source(self) -> Option<(String, &'static str)> {
        let (name, text, wanted) = self.place();
        let mut lines = text.lines().enumerate();
        let (index, line) = lines.find(|(_, line)| line.contains(wanted))?;
        Some((format!("{name}:{}", index + 1), line.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::widgets::formula::Typeset;

    #[test]
    fn every_stage_has_one_line_of_source_and_a_formula_that_can_be_set() {
        for stage in Stage::ALL {
            let (name, text, wanted) = stage.place();
            assert_eq!(text.matches(wanted).count(), 1, "{wanted} in {name}");
            assert!(stage.source().is_some());
            Typeset::new(stage.tex(), true).unwrap();
        }
    }
}
