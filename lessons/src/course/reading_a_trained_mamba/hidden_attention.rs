//! α of a layer as a matrix: how it is gathered over channels, and how much of what is seen is the normaliser's.

use std::ops::ControlFlow;

use egui::Ui;
use mambascope_core::backend::Backend;
use mambascope_core::checkpoint::Embedded;
use mambascope_core::job::{JobError, ModelRef, Progress, Workshop};
use mambascope_core::model::Mixer;
use mambascope_core::scan::silu;
use mambascope_core::study::Study;
use mambascope_core::trace::{Probe, Site};
use ndarray::{Array2, Axis as NdAxis};
use serde::{Deserialize, Serialize};

use super::alpha::{Around as Surroundings, Included, STRONGEST, gather};
use super::model_controls::{capped, text_to_read};
use super::records::{NO_SCANS, chosen, ids_of, matrix, scan_layers, scans, texts_of, traced};
use crate::demo::{Around, Demo, Scene};
use crate::theme;
use crate::widgets::controls::{choice, clamped, columns, controls, share_slider};
use crate::widgets::plots::footnote;
use crate::widgets::{Axis, Colormap, Grid, Heatmap, ScaleKind, number, visible_token};

/// Most tokens read.
const MOST_TOKENS: usize = 48;
/// Most characters of the text.
const MOST_TEXT: usize = 240;
/// Largest layer and channel a preset may name.
const MOST_LAYER: usize = 255;
const MOST_CHANNEL: usize = 65_535;
/// The model whose attention stands beside.
const ATTENTION_MODEL: &str = "novel-transformer-4m";

/// How much of something is in.
const PART: std::ops::RangeInclusive<f64> = 0.0..=1.0;

/// How the channels' matrices become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Gathering {
    MeanAbs,
    Mean,
    Strongest,
    Channel,
}

/// What is done to each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Normaliser {
    None,
    RowL1,
    MinMax,
    Softmax,
}

const GATHERINGS: [Gathering; 4] = [
    Gathering::MeanAbs,
    Gathering::Mean,
    Gathering::Strongest,
    Gathering::Channel,
];
const NORMALISERS: [Normaliser; 4] = [
    Normaliser::None,
    Normaliser::RowL1,
    Normaliser::MinMax,
    Normaliser::Softmax,
];

/// The controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HiddenAttention {
    text: String,
    layer: usize,
    channel: usize,
    gathering: Gathering,
    normaliser: Normaliser,
    /// How much of the convolution is in the matrix, 0 to 1.
    #[serde(default)]
    conv: f64,
    /// How much of the gate.
    #[serde(default)]
    gate: f64,
}

impl Default for HiddenAttention {
    fn default() -> Self {
        Self {
            text: "Mr. Hall went to the door. The door was shut, and Mr. Hall said nothing.".into(),
            layer: 2,
            channel: 7,
            gathering: Gathering::MeanAbs,
            normaliser: Normaliser::None,
            conv: 0.0,
            gate: 0.0,
        }
    }
}

/// What is computed: the controls that change α.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    model: ModelRef,
    backend: String,
    text: String,
    layer: usize,
    channel: usize,
    conv: f64,
    gate: f64,
}

/// One way to show α.
struct Shown {
    /// `[i, j]`, NaN above the diagonal.
    values: Vec<f32>,
    /// The last row's largest share of the row's |sum|: how peaked it looks.
    peak: f32,
}

/// What the controls give.
pub struct Matrices {
    texts: Vec<String>,
    layer: usize,
    channel: usize,
    /// By gathering, then by normaliser.
    shown: Vec<Vec<Shown>>,
    negative: f64,
    worst: f32,
    largest: f32,
    /// Mean over heads and layers of a Transformer's attention to the same tokens.
    attention: Option<Vec<f32>>,
    version: u64,
    /// Why it was not computed where it was asked.
    elsewhere: Option<String>,
}

impl Study for Asked {
    type Answer = Option<Matrices>;

    fn compute(
        &self,
        workshop: &mut Workshop,
        _: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<Matrices>, JobError> {
        let layers = scan_layers(&self.model);
        let Some(last) = layers.len().checked_sub(1) else {
            return Ok(None);
        };
        let layer = layers[self.layer.min(last)];
        let ids = ids_of(&self.model, &self.text, MOST_TOKENS)?;
        let (backend, elsewhere) = chosen(workshop, &self.backend, &self.model)?;
        let found = scans(&self.model, &ids, &[layer], backend)?;
        let Some(scan) = found.first() else {
            return Ok(None);
        };
        let channel = self.channel.min(scan.dims().1.saturating_sub(1));
        let around = around(&self.model, &ids, layer, backend)?;
        let included = Included {
            conv: self.conv as f32,
            gate: self.gate as f32,
        };
        let widened = around.as_ref().map(|around| (around, included));
        let gathered = gather(scan, channel, widened);
        let ways = [
            &gathered.mean_abs,
            &gathered.mean,
            &gathered.strongest,
            &gathered.channel,
        ];
        let shown = ways.map(|alpha| NORMALISERS.map(|by| normalised(alpha, by)).into());
        let attention = attention((&self.model, &self.backend), &ids, workshop)?;
        Ok(Some(Matrices {
            texts: texts_of(&self.model, &ids),
            layer,
            channel,
            shown: shown.into(),
            negative: gathered.negative,
            worst: gathered.worst,
            largest: gathered.largest,
            attention,
            version: version(scan.y_ld.iter().chain(gathered.mean_abs.iter()))
                ^ ((channel as u64) << 32),
            elsewhere,
        }))
    }
}

/// A number that differs where values do.
fn version<'a>(values: impl Iterator<Item = &'a f32>) -> u64 {
    values.fold(0xcbf2_9ce4_8422_2325, |hash, value| {
        (hash ^ u64::from(value.to_bits())).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Rows as a normaliser leaves them.
fn normalised(alpha_ij: &Array2<f32>, by: Normaliser) -> Shown {
    let tokens = alpha_ij.nrows();
    let mut values = vec![f32::NAN; tokens * tokens];
    let mut peak = 0.0;
    for i in 0..tokens {
        let seen: Vec<f32> = alpha_ij.row(i).iter().take(i + 1).copied().collect();
        let row = match by {
            Normaliser::None => seen,
            Normaliser::RowL1 => {
                let sum: f32 = seen.iter().map(|alpha| alpha.abs()).sum();
                let sum = if sum > 0.0 { sum } else { 1.0 };
                seen.iter().map(|alpha| alpha / sum).collect()
            }
            Normaliser::MinMax => {
                let most = seen.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let least = seen.iter().copied().fold(f32::INFINITY, f32::min);
                // A row of one value has nothing to stretch.
                let reach = if most > least { most - least } else { 1.0 };
                seen.iter().map(|alpha| (alpha - least) / reach).collect()
            }
            Normaliser::Softmax => {
                let most = seen.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let raised: Vec<f32> = seen.iter().map(|alpha| (alpha - most).exp()).collect();
                let sum: f32 = raised.iter().sum();
                raised.iter().map(|share| share / sum).collect()
            }
        };
        let sum: f32 = row.iter().map(|value| value.abs()).sum();
        peak = row
            .iter()
            .fold(0.0, |most: f32, value| most.max(value.abs()))
            / sum.max(1e-30);
        values[i * tokens..][..=i].copy_from_slice(&row);
    }
    Shown { values, peak }
}

/// What stands around the scan of a layer.
fn around(
    model: &ModelRef,
    ids: &[u32],
    layer: usize,
    backend: &mut dyn Backend,
) -> Result<Option<Surroundings>, JobError> {
    let Some(Mixer::Mamba(mixer)) = model.layers.get(layer).map(|layer| &layer.mixer) else {
        return Ok(None);
    };
    let (trace, _) = traced(model, ids, &[layer], &[Probe::X, Probe::Gate], backend)?;
    let x_ld = matrix(&trace, Site::layer(layer, Probe::X))?;
    let z_ld = matrix(&trace, Site::layer(layer, Probe::Gate))?;
    let channels = x_ld.ncols();
    let taps = mixer.conv.len() / channels.max(1);
    let taps_dk = Array2::from_shape_vec((channels, taps), mixer.conv.as_f32().to_vec());
    let bias = mixer.conv_bias.as_ref();
    Ok(Some(Surroundings {
        x_ld,
        gate_ld: z_ld.mapv(silu),
        taps_dk: taps_dk.map_err(|error| JobError::Study(error.to_string()))?,
        bias_d: bias.map_or_else(|| vec![0.0; channels], |bias| bias.as_f32().to_vec()),
    }))
}

/// What the embedded Transformer looks at in the same tokens, where it shares the model's vocabulary.
fn attention(
    (model, backend): (&ModelRef, &str),
    ids: &[u32],
    workshop: &mut Workshop,
) -> Result<Option<Vec<f32>>, JobError> {
    let Some(embedded) = Embedded::named(ATTENTION_MODEL) else {
        return Ok(None);
    };
    let sibling = ModelRef(std::sync::Arc::new(embedded.load()?));
    let vocabulary = |model: &ModelRef| {
        let tokenizer = model.tokenizer.as_ref()?;
        Some(
            ids.iter()
                .map(|&id| tokenizer.bytes_of(id).map(<[u8]>::to_vec))
                .collect::<Vec<_>>(),
        )
    };
    if vocabulary(model).is_none() || vocabulary(model) != vocabulary(&sibling) {
        return Ok(None);
    }
    let layers: Vec<usize> = (0..sibling.config.n_layers()).collect();
    let (backend, _) = chosen(workshop, backend, &sibling)?;
    let (trace, _) = traced(&sibling, ids, &layers, &[Probe::Attention], backend)?;
    let tokens = ids.len();
    let mut mean = vec![0.0f32; tokens * tokens];
    for &layer in &layers {
        let Some(weights) = trace.get(Site::layer(layer, Probe::Attention)) else {
            return Ok(None);
        };
        let Some(of_heads) = weights.mean_axis(NdAxis(1)) else {
            return Ok(None);
        };
        for (sum, weight) in mean.iter_mut().zip(of_heads.iter()) {
            *sum += weight / layers.len() as f32;
        }
    }
    for i in 0..tokens {
        mean[i * tokens..][i + 1..tokens].fill(f32::NAN);
    }
    Ok(Some(mean))
}

impl Demo for HiddenAttention {
    const ID: &'static str = "hidden-attention";
    const TITLE: &'static str = "The attention a scan hides";
    type Study = Asked;

    fn study(&self, around: &Around) -> Option<Asked> {
        Some(Asked {
            model: around.model.clone()?,
            backend: around.backend.clone(),
            text: self.text.clone(),
            layer: self.layer,
            channel: self.channel,
            conv: self.conv,
            gate: self.gate,
        })
    }

    fn ui(&mut self, ui: &mut Ui, scene: &Scene<'_, Option<Matrices>>) {
        self.controls(ui, scene);
        match scene.answer {
            Some(Some(answer)) => self.pictures(ui, answer),
            Some(None) => {
                ui.label(NO_SCANS);
            }
            None => ui.add_space(460.0),
        }
    }

    fn clamp(&mut self) {
        self.text = self.text.chars().take(MOST_TEXT).collect();
        self.layer = self.layer.min(MOST_LAYER);
        self.channel = self.channel.min(MOST_CHANNEL);
        self.conv = clamped(self.conv, PART);
        self.gate = clamped(self.gate, PART);
    }

    fn ends() -> Vec<Self> {
        let all = GATHERINGS.into_iter().flat_map(|gathering| {
            NORMALISERS.into_iter().map(move |normaliser| Self {
                gathering,
                normaliser,
                ..Self::default()
            })
        });
        let short = Self {
            text: "a".into(),
            layer: 0,
            channel: 0,
            ..Self::default()
        };
        let long = Self {
            text: "the ".repeat(MOST_TEXT / 4),
            layer: MOST_LAYER,
            channel: MOST_CHANNEL,
            gathering: Gathering::Channel,
            normaliser: Normaliser::RowL1,
            conv: *PART.end(),
            gate: *PART.end(),
        };
        all.chain([short, long]).collect()
    }
}

impl HiddenAttention {
    fn controls(&mut self, ui: &mut Ui, scene: &Scene<'_, Option<Matrices>>) {
        text_to_read(ui, &mut self.text, MOST_TEXT);
        let model = scene.around.model.as_ref();
        let scans = model.map_or(1, |model| scan_layers(model).len());
        let channels = match scene.answer {
            Some(Some(_)) => model.map_or(1, |model| widest(model)),
            _ => MOST_CHANNEL,
        };
        controls(ui, |ui| {
            capped(
                ui,
                "Mamba layer",
                &mut self.layer,
                0..=scans.saturating_sub(1),
            );
            ui.add_enabled_ui(self.gathering == Gathering::Channel, |ui| {
                capped(
                    ui,
                    "channel",
                    &mut self.channel,
                    0..=channels.saturating_sub(1),
                );
            });
        });
        controls(ui, |ui| {
            share_slider(ui, "of the convolution", &mut self.conv, PART);
            share_slider(ui, "of the gate", &mut self.gate, PART);
        });
        controls(ui, |ui| {
            choice(
                ui,
                "channels:",
                &mut self.gathering,
                &[
                    (Gathering::MeanAbs, "mean |α|"),
                    (Gathering::Mean, "mean α"),
                    (Gathering::Strongest, "16 strongest"),
                    (Gathering::Channel, "one channel"),
                ],
            );
            choice(
                ui,
                "each row:",
                &mut self.normaliser,
                &[
                    (Normaliser::None, "as it is"),
                    (Normaliser::RowL1, "by its Σ|α|"),
                    (Normaliser::MinMax, "min to max"),
                    (Normaliser::Softmax, "softmax"),
                ],
            );
        });
    }

    fn pictures(&self, ui: &mut Ui, answer: &Matrices) {
        let palette = theme::palette(ui.visuals());
        let gathering = GATHERINGS.iter().position(|&way| way == self.gathering);
        let normaliser = NORMALISERS.iter().position(|&way| way == self.normaliser);
        let (gathering, normaliser) = (gathering.unwrap_or(0), normaliser.unwrap_or(0));
        let ways = answer.shown.get(gathering).map_or(&[][..], Vec::as_slice);
        let Some(shown) = ways.get(normaliser) else {
            return;
        };
        let title = match self.gathering {
            Gathering::Channel => format!("α, layer {}, channel {}", answer.layer, answer.channel),
            Gathering::Strongest => {
                format!("α, layer {}, {STRONGEST} strongest channels", answer.layer)
            }
            _ => format!("α, layer {}, gathered", answer.layer),
        };
        let stamp = answer.version ^ (gathering * NORMALISERS.len() + normaliser) as u64;
        let signed = self.gathering != Gathering::MeanAbs
            && matches!(self.normaliser, Normaliser::None | Normaliser::RowL1);
        columns(ui, 340.0, 2, |i, ui| match (i, &answer.attention) {
            (0, _) => square(
                ui,
                ("alpha", &title),
                answer,
                &shown.values,
                (stamp, signed),
            ),
            (_, Some(attention)) => {
                let title = "Softmax attention, novel-transformer-4m";
                let of = ("attention", title);
                square(ui, of, answer, attention, (answer.version, false));
            }
            _ => {
                ui.label("The embedded Transformer has another vocabulary than the open model: no attention to set beside.");
            }
        });
        let peaks: Vec<String> = ways.iter().map(|way| percent(way.peak)).collect();
        footnote(
            ui,
            &format!(
                "Largest share of the last row: {}. It is the same α each time. Entries below zero, over all channels: {}.",
                match peaks.as_slice() {
                    [raw, l1, stretched, softmax] => format!(
                        "{raw} as it is, {l1} by its sum, {stretched} from min to max, {softmax} after softmax"
                    ),
                    _ => String::new(),
                },
                percent(answer.negative as f32),
            ),
            palette.weak_text,
        );
        footnote(
            ui,
            &format!(
                "Check, of the scan alone: Σ α u + D u gives the scan's own output to {} at most, where the largest output is {}. Right: mean over all heads and layers; another model, the same tokens.",
                number(answer.worst),
                number(answer.largest),
            ),
            palette.weak_text,
        );
        if let Some(elsewhere) = &answer.elsewhere {
            footnote(ui, elsewhere, palette.weak_text);
        }
    }
}

fn percent(share: f32) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Channels of the widest scan.
fn widest(model: &mambascope_core::model::Model) -> usize {
    let blocks = model.config.blocks.iter();
    let channels = blocks.filter_map(|block| match block.mixer {
        mambascope_core::model::MixerDims::Mamba(dims) => Some(dims.d_inner),
        _ => None,
    });
    channels.max().unwrap_or(1)
}

/// One matrix, tokens by tokens.
fn square(
    ui: &mut Ui,
    (id, title): (&str, &str),
    answer: &Matrices,
    values: &[f32],
    (version, signed): (u64, bool),
) {
    let tokens = answer.texts.len();
    let text = |l: usize| {
        let text = answer.texts.get(l).map_or("", String::as_str);
        format!("{l} {}", visible_token(text))
    };
    let hover = |row: usize, col: usize, value: f32| {
        if value.is_nan() {
            return format!("token {}\ncannot see what comes after it", text(row));
        }
        format!(
            "output at {}\ninput of {}\n{}",
            text(row),
            text(col),
            number(value)
        )
    };
    let map = Heatmap::new(id, title, Grid::row_major(values, tokens, tokens))
        .data_version(version)
        .rows(Axis::new("token that reads, i"))
        .cols(Axis::new("token that wrote, j"))
        .value_name("weight")
        .gaps()
        .hover(&hover)
        .height(340.0)
        .scroll_zooms(false);
    if signed {
        map.fit(ScaleKind::Symmetric)
            .colormap(Colormap::Diverging)
            .show(ui);
    } else {
        map.fit(ScaleKind::Linear).show(ui);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mambascope_core::backend::FastBackend;
    use mambascope_core::checkpoint::embedded;

    use super::*;
    use crate::course::reading_a_trained_mamba::alpha::alpha_of_channel;

    #[test]
    fn the_strongest_channels_are_those_with_the_largest_sum() {
        let model = ModelRef(Arc::new(embedded().unwrap()));
        let ids = ids_of(&model, &HiddenAttention::default().text, 6).unwrap();
        let mut backend = FastBackend::new(1).unwrap();
        let scan = scans(&model, &ids, &[2], &mut backend).unwrap().remove(0);
        let mut all: Vec<Array2<f32>> = (0..scan.dims().1)
            .map(|d| alpha_of_channel(&scan, d))
            .collect();
        let strength = |alpha_ij: &Array2<f32>| alpha_ij.mapv(f32::abs).sum();
        all.sort_by(|one, other| strength(other).total_cmp(&strength(one)));
        let wanted = all[..STRONGEST]
            .iter()
            .fold(Array2::zeros((6, 6)), |sum: Array2<f32>, alpha_ij| {
                sum + alpha_ij
            })
            / STRONGEST as f32;
        let apart = (gather(&scan, 0, None).strongest - &wanted).mapv(f32::abs);
        assert!(apart.iter().all(|&apart| apart < 1e-5 * strength(&wanted)));
    }

    #[test]
    fn a_row_is_stretched_from_its_least_to_its_largest_value() {
        let alpha_ij = ndarray::array![[2.0f32, 0.0, 0.0], [-1.0, 3.0, 0.0], [1.0, -1.0, 0.0]];
        let shown = normalised(&alpha_ij, Normaliser::MinMax);
        assert_eq!(shown.values[0], 0.0);
        assert_eq!(shown.values[3..5], [0.0, 1.0]);
        assert_eq!(shown.values[6..], [1.0, 0.0, 0.5]);
    }

    /// With both in, the matrix times the convolution's input is the gated output, but for the skip and for what comes of the bias.
    #[test]
    fn convolution_and_gate_in_the_matrix_give_the_gated_output() {
        let model = ModelRef(Arc::new(embedded().unwrap()));
        let ids = ids_of(&model, &HiddenAttention::default().text, 12).unwrap();
        let mut backend = FastBackend::new(1).unwrap();
        let scan = scans(&model, &ids, &[2], &mut backend).unwrap().remove(0);
        let around = around(&model, &ids, 2, &mut backend).unwrap().unwrap();
        let whole = Included {
            conv: 1.0,
            gate: 1.0,
        };
        let (mut apart, mut largest) = (0.0f32, 0.0f32);
        for d in (0..scan.dims().1).step_by(29) {
            let alpha_ij = alpha_of_channel(&scan, d);
            let mixed_l = around
                .widen(&alpha_ij, d, whole)
                .dot(&around.x_ld.column(d));
            let conv_l: Vec<f32> = (0..ids.len())
                .map(|l| {
                    (0..4)
                        .filter(|k| l + k >= 3)
                        .map(|k| around.taps_dk[[d, k]] * around.x_ld[[l + k - 3, d]])
                        .sum()
                })
                .collect();
            // u without what the bias adds to c, σ(c) as it is.
            let u_l = ndarray::Array1::from_iter(
                conv_l
                    .iter()
                    .map(|c| c / (1.0 + (-c - around.bias_d[d]).exp())),
            );
            let scanned_l = alpha_ij.dot(&u_l);
            for l in 0..ids.len() {
                let wanted = scanned_l[l] * around.gate_ld[[l, d]];
                apart += (mixed_l[l] - wanted).abs();
                largest = largest.max(wanted.abs());
            }
            let own = around.widen(
                &alpha_ij,
                d,
                Included {
                    conv: 0.0,
                    gate: 0.0,
                },
            );
            assert_eq!(own, alpha_ij);
        }
        assert!(apart < 1e-4 * largest, "{apart} of {largest}");
    }
}
