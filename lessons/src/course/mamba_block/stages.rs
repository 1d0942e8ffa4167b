//! The stages of a Mamba block of either kind: their names, formulas, and lines of the engine's source.

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

const SOURCE2: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../core/src/backend/naive/mamba2.rs"
));
const SOURCE2_NAME: &str = "core/src/backend/naive/mamba2.rs";
const SSD: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../core/src/scan/ssd.rs"
));
const SSD_NAME: &str = "core/src/scan/ssd.rs";

/// Which Mamba a block is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    One,
    Two,
}

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
    GatedNorm,
    Out,
    Residual,
}

impl Stage {
    pub const ALL: [Stage; 16] = [
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
        Stage::GatedNorm,
        Stage::Out,
        Stage::Residual,
    ];

    /// The stages of a kind of block, in order.
    pub fn of(kind: Kind) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |stage| stage.is_in(kind))
    }

    /// Whether a kind of block has it.
    pub fn is_in(self, kind: Kind) -> bool {
        self != Stage::GatedNorm || kind == Kind::Two
    }

    /// What a reader calls it.
    pub fn name(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (Stage::X, Kind::Two) => return "in_proj: xBC",
            (Stage::Silu, Kind::Two) => return "SiLU: xBC",
            (Stage::DtLow, Kind::Two) => return "in_proj: dt",
            (Stage::B, Kind::Two) => return "of xBC: B",
            (Stage::C, Kind::Two) => return "of xBC: C",
            (Stage::Delta, Kind::Two) => return "softplus: Δ",
            _ => {}
        }
        match self {
            Stage::GatedNorm => "gated norm",
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
    pub fn tex(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (Stage::X, Kind::Two) => return r"[x, B, C] = W_{xBC}\,\hat x",
            (Stage::Conv, Kind::Two) => {
                return r"c_t = b + \sum_{k=0}^{3} w_k \odot [x, B, C]_{t-3+k}";
            }
            (Stage::Silu, Kind::Two) => return r"[x, B, C] = c \cdot \sigma(c)",
            (Stage::DtLow, Kind::Two) => return r"dt = W_{dt}\,\hat x",
            (Stage::B, Kind::Two) => return r"B \text{ of } [x, B, C]",
            (Stage::C, Kind::Two) => return r"C \text{ of } [x, B, C]",
            (Stage::Delta, Kind::Two) => return r"\Delta = \text{softplus}(dt + b_\Delta)",
            (Stage::H, Kind::Two) => {
                return r"h_t[d,n] = e^{\Delta A}\,h_{t-1}[d,n] + \Delta\,x_d\,B_n";
            }
            (Stage::Skip, Kind::Two) => return r"y_d = \sum_n C_n\,h[d,n] + D\,x_d",
            (Stage::Gate, Kind::Two) => return r"v = y \odot \text{SiLU}(z)",
            _ => {}
        }
        match self {
            Stage::GatedNorm => r"g = w \odot v \,/\, \sqrt{\text{mean}(v^2) + \varepsilon}",
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
    pub fn axes(self, kind: Kind) -> &'static str {
        match self {
            Stage::X | Stage::Conv | Stage::Silu if kind == Kind::Two => "w",
            Stage::DtLow | Stage::Delta if kind == Kind::Two => "h",
            Stage::Norm | Stage::Out | Stage::Residual => "e",
            Stage::DtLow => "r",
            Stage::B | Stage::C => "n",
            Stage::H => "d, n",
            _ => "d",
        }
    }

    /// Where the engine records it; it does not record all.
    pub fn probe(self, kind: Kind) -> Option<Probe> {
        Some(match self {
            Stage::DtLow | Stage::Gate if kind == Kind::Two => return None,
            Stage::GatedNorm => Probe::GatedOut,
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
    fn place(self, kind: Kind) -> (&'static str, &'static str, &'static str) {
        if kind == Kind::Two
            && let Some((is_scan, line)) = self.line_of_two()
        {
            let (name, text) = if is_scan {
                (SSD_NAME, SSD)
            } else {
                (SOURCE2_NAME, SOURCE2)
            };
            return (name, text, line);
        }
        match self {
            Stage::GatedNorm => (SOURCE2_NAME, SOURCE2, "v_d[d] = v_d[d] * scale"),
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

    /// Where Mamba-2 differs: whether the line is in its scan, and what it contains.
    fn line_of_two(self) -> Option<(bool, &'static str)> {
        Some(match self {
            Stage::X => (false, "let xbc_lw = columns("),
            Stage::Z => (false, "let z_ld = columns("),
            Stage::DtLow => (false, "let dt_lh = columns("),
            Stage::B => (false, "let b_lgn = in_three("),
            Stage::C => (false, "let c_lgn = in_three("),
            Stage::Delta => (false, "crate::scan::clamp(softplus("),
            Stage::H => (true, "h_hpn[[h, p, n]] = a_bar"),
            Stage::Read => (true, "y += input.c_lgn["),
            Stage::Skip => (true, "y += skip_h[h] * x"),
            Stage::Gate => (false, "let mut v_ld = y_ld"),
            Stage::Out => (false, "let out_le = linear("),
            _ => return None,
        })
    }

    /// File and line, and the line.
    pub fn source(self, kind: Kind) -> Option<(String, &'static str)> {
        let (name, text, wanted) = self.place(kind);
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
        for kind in [Kind::One, Kind::Two] {
            for stage in Stage::of(kind) {
                let (name, text, wanted) = stage.place(kind);
                assert_eq!(text.matches(wanted).count(), 1, "{wanted} in {name}");
                assert!(stage.source(kind).is_some());
                Typeset::new(stage.tex(kind), true).unwrap();
            }
        }
    }
}
