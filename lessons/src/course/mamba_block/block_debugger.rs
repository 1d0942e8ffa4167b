//! One block of the open model, stage by stage; change a value and see what it does to the next token.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use egui::{RichText, Ui};
use mambascope_core::generate::most_likely;
use mambascope_core::job::{JobError, ModelRef, Progress, Workshop};
use mambascope_core::model::{MixerDims, Model};
use mambascope_core::study::Study;
use mambascope_core::trace::{Probe, Site, Trace};
use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::forward::{Change, Edit, Stages, divergence, forward_from};
use super::stages::{Kind, Stage};
use crate::course::reading_a_trained_mamba::model_controls::{capped, text_to_read};
use crate::course::reading_a_trained_mamba::records::{chosen, ids_of, matrix, texts_of, traced};
use crate::demo::{Around, Demo, Scene};
use crate::theme;
use crate::widgets::controls::{choice, columns, controls, slider};
use crate::widgets::formula::formula;
use crate::widgets::plots::footnote;
use crate::widgets::{Axis, Bar, Bars, Colormap, Grid, Heatmap, ScaleKind, number, visible_token};

/// Why a model without a state shows nothing.
const NO_STATES: &str = "The open model has no Mamba layer, so there is nothing to show here: open one that has, such as the embedded novel-mamba-3m or novel-mamba2-3m.";
/// Most tokens read.
const MOST_TOKENS: usize = 24;
/// Most characters of the text.
const MOST_TEXT: usize = 120;
/// Largest layer and value a preset may name.
const MOST_LAYER: usize = 255;
const MOST_INDEX: usize = 1 << 20;
/// What a value is scaled by, or replaced with.
const AMOUNT: std::ops::RangeInclusive<f32> = -20.0..=20.0;
/// Tokens listed.
const LISTED: usize = 5;
/// A computation shorter than this shows no progress: a bar that only flashes tells nobody anything.
const QUIET: Duration = Duration::from_millis(300);

/// What is done to the chosen value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Doing {
    Nothing,
    Scale,
    Replace,
}

/// The controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BlockDebugger {
    text: String,
    token: usize,
    /// Counted among the blocks that are Mamba-1 or Mamba-2.
    layer: usize,
    stage: Stage,
    doing: Doing,
    /// Which value of the stage.
    index: usize,
    amount: f32,
}

impl Default for BlockDebugger {
    fn default() -> Self {
        Self {
            text: "\"I am very glad to see you,\" said the old".into(),
            token: 11,
            layer: 2,
            stage: Stage::Delta,
            doing: Doing::Nothing,
            index: 0,
            amount: 4.0,
        }
    }
}

/// What is computed: without an edit the chosen stage is only looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    model: ModelRef,
    backend: String,
    text: String,
    token: usize,
    /// Counted among the blocks that are Mamba-1 or Mamba-2.
    layer: usize,
    edit: Option<(Stage, usize, Change)>,
}

/// One stage of the block.
struct Row {
    stage: Stage,
    /// Values of a token.
    width: usize,
    /// Least and largest at the token.
    range: (f32, f32),
    /// All tokens, `[l, width]`; of h one token, `[n, d]`.
    values: Array2<f32>,
}

/// Next tokens and their probabilities.
type Ranked = Vec<(String, f32)>;

/// What the controls give.
pub struct Record {
    texts: Vec<String>,
    token: usize,
    /// The block, counted among all, and its kind.
    layer: usize,
    kind: Kind,
    rows: Vec<Row>,
    /// Largest difference of these stages, and of the scores, from the engine's own, over the largest value of the stage.
    apart: f32,
    before: Ranked,
    after: Option<After>,
    version: u64,
    /// Why it was not computed where it was asked.
    elsewhere: Option<String>,
}

/// What an edit did.
struct After {
    /// Which value, what it was, and what it became.
    value: (usize, f32, f32),
    /// The next tokens, and how far they are from those without the edit: KL in nats.
    next: (Ranked, f64),
}

fn probes(kind: Kind) -> Vec<Probe> {
    let stages = Stage::of(kind).filter_map(|stage| stage.probe(kind));
    stages.chain([Probe::Embedded]).collect()
}

/// The blocks that have a state, each with its kind and its slots.
fn blocks_with_states(model: &Model) -> Vec<(usize, Kind, usize)> {
    let blocks = model.config.blocks.iter().enumerate();
    blocks
        .filter_map(|(layer, block)| match block.mixer {
            MixerDims::Mamba(dims) => Some((layer, Kind::One, dims.d_state)),
            MixerDims::Mamba2(dims) => Some((layer, Kind::Two, dims.d_state)),
            MixerDims::Attention(_) => None,
        })
        .collect()
}

impl Study for Asked {
    type Answer = Option<Record>;

    fn compute(
        &self,
        workshop: &mut Workshop,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<Record>, JobError> {
        let model = &self.model;
        let blocks = blocks_with_states(model);
        let last = blocks.len().saturating_sub(1);
        let Some(&(layer, kind, slots)) = blocks.get(self.layer.min(last)) else {
            return Ok(None);
        };
        let ids = ids_of(model, &self.text, MOST_TOKENS)?;
        let token = self.token.min(ids.len().saturating_sub(1));
        let before = layer.checked_sub(1);
        let wanted: Vec<usize> = before.into_iter().chain([layer]).collect();
        let began = Instant::now();
        let (backend, elsewhere) = chosen(workshop, &self.backend, model)?;
        let (trace, logits_v) = traced(model, &ids, &wanted, &probes(kind), backend)?;
        let input = match before {
            Some(before) => Site::layer(before, Probe::BlockOutput),
            None => Site::model(Probe::Embedded),
        };
        let x_le = matrix(&trace, input)?;
        let mut pass = |edit: Option<Edit>, done: usize| -> Result<(Vec<f32>, Stages), JobError> {
            let count = Progress::Count {
                what: "readings",
                done,
                total: 2,
            };
            if began.elapsed() >= QUIET && progress(count).is_break() {
                return Err(JobError::Study("stopped before it was done".into()));
            }
            let mut stages = Stages::new();
            let scores = forward_from(model, layer, &x_le, edit, &mut stages, &mut *backend)?;
            Ok((scores, stages))
        };
        let (plain_v, plain) = pass(None, 0)?;
        let apart = difference(&plain_v, &logits_v);
        let apart = worse(apart, stages_apart(&plain, &trace, model, (layer, kind))?);
        let (mut stages, mut after) = (plain.clone(), None);
        let edit = self.edit.filter(|(stage, ..)| stage.is_in(kind));
        if let Some((stage, index, change)) = edit {
            let width = plain.get(&stage).map_or(1, Array2::ncols);
            let edit = Edit {
                stage,
                token,
                index: index.min(width.saturating_sub(1)),
                change,
            };
            let (edited_v, edited) = pass(Some(edit), 1)?;
            stages = edited;
            after = Some(After {
                value: (edit.index, value_at(&plain, edit), value_at(&stages, edit)),
                next: (ranked(model, &edited_v), divergence(&plain_v, &edited_v)),
            });
        }
        let rows: Vec<Row> = Stage::of(kind)
            .filter_map(|stage| Some(row(stage, stages.get(&stage)?, token, slots)))
            .collect();
        let version = version(&rows, token);
        Ok(Some(Record {
            texts: texts_of(model, &ids),
            token,
            layer,
            kind,
            rows,
            apart,
            before: ranked(model, &plain_v),
            after,
            version,
            elsewhere,
        }))
    }
}

/// The larger of two differences, or the one that is no number.
fn worse(one: f32, other: f32) -> f32 {
    if one.is_nan() {
        one
    } else if other.is_nan() {
        other
    } else {
        one.max(other)
    }
}

/// The largest difference of the stages from what the engine recorded.
fn stages_apart(
    stages: &Stages,
    trace: &Trace,
    model: &ModelRef,
    (layer, kind): (usize, Kind),
) -> Result<f32, JobError> {
    // Where a feed-forward part follows, the block's output is more than what the mixer adds to.
    let block = &model.config.blocks[layer];
    let ends_with_the_mixer = block.feed_forward.is_none();
    let mut apart = 0.0f32;
    for (stage, value) in stages {
        let is_there = *stage != Stage::Residual || ends_with_the_mixer;
        if let Some(probe) = stage.probe(kind).filter(|_| is_there) {
            let site = Site::layer(layer, probe);
            let own = trace.get(site);
            let own =
                own.ok_or_else(|| JobError::Study(format!("{} was not recorded", site.name())))?;
            let (own, value): (Vec<f32>, Vec<f32>) = (
                own.iter().copied().collect(),
                value.iter().copied().collect(),
            );
            apart = worse(apart, difference(&value, &own));
        }
    }
    Ok(apart)
}

/// The value that is edited.
fn value_at(stages: &Stages, edit: Edit) -> f32 {
    let value = stages.get(&edit.stage);
    let value = value.and_then(|value| value.get([edit.token, edit.index]));
    value.copied().unwrap_or(f32::NAN)
}

/// A number that differs where values do.
fn version(rows: &[Row], token: usize) -> u64 {
    let values = rows.iter().flat_map(|row| row.values.iter());
    values.fold(token as u64, |hash, value| {
        (hash ^ u64::from(value.to_bits())).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The largest difference over the largest value.
fn difference(one: &[f32], other: &[f32]) -> f32 {
    let pairs = one.iter().zip(other);
    let apart = pairs.fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
    let largest = other
        .iter()
        .fold(0.0f32, |most, value| most.max(value.abs()));
    apart / largest.max(f32::MIN_POSITIVE)
}

fn ranked(model: &ModelRef, logits_v: &[f32]) -> Ranked {
    let found = most_likely(logits_v, LISTED);
    found
        .into_iter()
        .map(|(id, probability)| {
            let text = texts_of(model, &[id]).concat();
            (visible_token(&text).into_owned(), probability)
        })
        .collect()
}

fn row(stage: Stage, value: &Array2<f32>, token: usize, slots: usize) -> Row {
    let at_token = value.row(token.min(value.nrows().saturating_sub(1)));
    let least = at_token.iter().copied().fold(f32::INFINITY, f32::min);
    let most = at_token.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let values = if stage == Stage::H {
        let channels = value.ncols() / slots.max(1);
        Array2::from_shape_fn((slots, channels), |(n, d)| at_token[d * slots + n])
    } else {
        value.clone()
    };
    Row {
        stage,
        width: value.ncols(),
        range: (least, most),
        values,
    }
}

impl Demo for BlockDebugger {
    const ID: &'static str = "block-debugger";
    const TITLE: &'static str = "A block, stage by stage";
    type Study = Asked;

    fn study(&self, around: &Around) -> Option<Asked> {
        let change = match self.doing {
            Doing::Nothing => None,
            Doing::Scale => Some(Change::Scale(self.amount)),
            Doing::Replace => Some(Change::Replace(self.amount)),
        };
        Some(Asked {
            model: around.model.clone()?,
            backend: around.backend.clone(),
            text: self.text.clone(),
            token: self.token,
            layer: self.layer,
            edit: change.map(|change| (self.stage, self.index, change)),
        })
    }

    fn ui(&mut self, ui: &mut Ui, scene: &Scene<'_, Option<Record>>) {
        text_to_read(ui, &mut self.text, MOST_TEXT);
        match scene.answer {
            Some(Some(answer)) => self.answered(ui, answer, scene),
            Some(None) => {
                ui.label(NO_STATES);
            }
            None => ui.add_space(664.0),
        }
    }

    fn clamp(&mut self) {
        self.text = self.text.chars().take(MOST_TEXT).collect();
        self.token = self.token.min(MOST_TOKENS - 1);
        self.layer = self.layer.min(MOST_LAYER);
        self.index = self.index.min(MOST_INDEX);
        self.amount = if self.amount.is_nan() {
            0.0
        } else {
            self.amount.clamp(*AMOUNT.start(), *AMOUNT.end())
        };
    }

    fn ends() -> Vec<Self> {
        let of_stage = |(i, stage): (usize, Stage)| {
            let is_low = i % 2 == 0;
            Self {
                token: if is_low { 0 } else { MOST_TOKENS - 1 },
                layer: if is_low { 0 } else { MOST_LAYER },
                stage,
                doing: if is_low { Doing::Scale } else { Doing::Replace },
                index: if is_low { 0 } else { MOST_INDEX },
                amount: if is_low {
                    *AMOUNT.end()
                } else {
                    *AMOUNT.start()
                },
                ..Self::default()
            }
        };
        let short = Self {
            text: "a".into(),
            doing: Doing::Nothing,
            ..Self::default()
        };
        let long = Self {
            text: "the ".repeat(MOST_TEXT / 4),
            ..Self::default()
        };
        let stages = Stage::ALL.into_iter().enumerate().map(of_stage);
        stages.chain([short, long]).collect()
    }

    fn live(&self, symbol: &str, answer: Option<&Option<Record>>) -> Option<String> {
        let stage = match symbol {
            "Δ" => Stage::Delta,
            "B" => Stage::B,
            "C" => Stage::C,
            "h" => Stage::H,
            _ => return None,
        };
        let rows = &answer?.as_ref()?.rows;
        let row = rows.iter().find(|row| row.stage == stage)?;
        Some(format!(
            "{} to {}",
            number(row.range.0),
            number(row.range.1)
        ))
    }
}

impl BlockDebugger {
    fn answered(&mut self, ui: &mut Ui, answer: &Record, scene: &Scene<'_, Option<Record>>) {
        let last = answer.texts.len().saturating_sub(1);
        let model = scene.around.model.as_ref();
        let layers = model.map_or(0, |model| blocks_with_states(model).len().saturating_sub(1));
        controls(ui, |ui| {
            capped(ui, "Mamba layer", &mut self.layer, 0..=layers);
            capped(ui, "token", &mut self.token, 0..=last);
            let text = answer.texts.get(answer.token).map_or("", String::as_str);
            ui.label(format!("\"{}\"", visible_token(text)));
        });
        columns(ui, 410.0, 2, |i, ui| match i {
            0 => self.list(ui, answer),
            _ => self.picture(ui, answer),
        });
        self.editing(ui, answer);
        self.outcome(ui, answer);
    }

    /// All stages, one of them chosen.
    fn list(&mut self, ui: &mut Ui, answer: &Record) {
        let weak = theme::palette(ui.visuals()).weak_text;
        ui.spacing_mut().button_padding.y = 1.0;
        ui.spacing_mut().interact_size.y = 20.0;
        egui::Grid::new("stages")
            .num_columns(4)
            .spacing(egui::vec2(16.0, 3.0))
            .show(ui, |ui| {
                for head in ["stage", "shape", "least", "largest"] {
                    ui.label(RichText::new(head).small().color(weak));
                }
                ui.end_row();
                for row in &answer.rows {
                    ui.selectable_value(&mut self.stage, row.stage, row.stage.name(answer.kind));
                    let shape = match row.stage {
                        Stage::H => {
                            let (slots, channels) = row.values.dim();
                            format!("[{}] = {channels} × {slots}", row.stage.axes(answer.kind))
                        }
                        _ => format!("[{}] = {}", row.stage.axes(answer.kind), row.width),
                    };
                    ui.label(RichText::new(shape).small().color(weak));
                    ui.label(RichText::new(number(row.range.0)).small());
                    ui.label(RichText::new(number(row.range.1)).small());
                    ui.end_row();
                }
            });
    }

    /// The chosen stage: formula, line of source, values.
    fn picture(&self, ui: &mut Ui, answer: &Record) {
        let weak = theme::palette(ui.visuals()).weak_text;
        let Some(row) = answer.rows.iter().find(|row| row.stage == self.stage) else {
            return;
        };
        formula(ui, row.stage.tex(answer.kind));
        if let Some((place, line)) = row.stage.source(answer.kind) {
            footnote(ui, &place, weak);
            ui.add(
                egui::Label::new(
                    RichText::new(line)
                        .family(egui::FontFamily::Monospace)
                        .small(),
                )
                .wrap(),
            );
        }
        let is_state = row.stage == Stage::H;
        let title = if is_state {
            format!("h after token {}", answer.token)
        } else {
            format!("{}, all tokens", row.stage.name(answer.kind))
        };
        let (rows, cols) = row.values.dim();
        let place = |row: usize| match answer.texts.get(row) {
            Some(text) if !is_state => format!("token {row} {}", visible_token(text)),
            _ => format!("slot {row}"),
        };
        let hover = |row: usize, col: usize, value: f32| {
            format!("{}\nvalue {col}\n{}", place(row), number(value))
        };
        let values = row.values.as_slice().unwrap_or(&[]);
        let map = Heatmap::new("stage", &title, Grid::row_major(values, rows, cols))
            .data_version(answer.version ^ ((row.stage as u64) << 48))
            .rows(Axis::new(if is_state { "slot, n" } else { "token, l" }))
            .cols(Axis::new(match row.stage.axes(answer.kind) {
                "e" => "width, e",
                "r" => "rank, r",
                "n" => "slot, n",
                "h" => "head, h",
                "w" => "channel of x, B and C",
                _ => "channel, d",
            }))
            .value_name("value")
            .selected_row((!is_state).then_some(answer.token))
            .hover(&hover)
            .height(ui.available_height().max(120.0))
            .scroll_zooms(false);
        if row.stage == Stage::Delta {
            map.fit(ScaleKind::Log).show(ui);
        } else {
            map.fit(ScaleKind::Symmetric)
                .colormap(Colormap::Diverging)
                .show(ui);
        }
    }

    fn editing(&mut self, ui: &mut Ui, answer: &Record) {
        let row = answer.rows.iter().find(|row| row.stage == self.stage);
        let most = row.map_or(0, |row| row.width.saturating_sub(1));
        let name = format!("At token {}, this stage:", answer.token);
        controls(ui, |ui| {
            choice(
                ui,
                &name,
                &mut self.doing,
                &[
                    (Doing::Nothing, "leave"),
                    (Doing::Scale, "scale a value"),
                    (Doing::Replace, "replace a value"),
                ],
            );
        });
        let is_edited = self.doing != Doing::Nothing;
        ui.add_enabled_ui(is_edited, |ui| {
            controls(ui, |ui| {
                capped(ui, "which value", &mut self.index, 0..=most);
                let name = match self.doing {
                    Doing::Replace => "new value",
                    _ => "times",
                };
                slider(ui, name, &mut self.amount, AMOUNT);
            });
        });
    }

    /// What comes next, before and after.
    fn outcome(&self, ui: &mut Ui, answer: &Record) {
        let weak = theme::palette(ui.visuals()).weak_text;
        let said = match &answer.after {
            None => "What the model expects after the text:".to_owned(),
            Some(After {
                value: (index, old, new),
                next,
            }) => {
                let what = format!("KL of the next token: {} nats.", number(next.1 as f32));
                format!(
                    "Value {index}: {} became {}. {what}",
                    number(*old),
                    number(*new)
                )
            }
        };
        ui.label(said);
        columns(ui, 24.0 * LISTED as f32, 2, |i, ui| {
            match (i, &answer.after) {
                (0, _) => bars(ui, "before", &answer.before),
                (_, Some(after)) => bars(ui, "after the edit", &after.next.0),
                _ => {
                    let text = "Scale or replace a value to see here what it changes.";
                    ui.label(RichText::new(text).small().color(weak));
                }
            }
        });
        footnote(
            ui,
            &format!(
                "Layer {}, recomputed from what the engine recorded before it. Largest difference from the engine's own stages and scores: {} of the largest value.",
                answer.layer,
                number(answer.apart)
            ),
            weak,
        );
        if let Some(elsewhere) = &answer.elsewhere {
            footnote(ui, elsewhere, weak);
        }
    }
}

fn bars(ui: &mut Ui, title: &str, ranked: &Ranked) {
    let bars: Vec<Bar<'_>> = ranked
        .iter()
        .map(|(label, value)| Bar {
            label,
            value: *value,
            came: false,
        })
        .collect();
    Bars::new(title, &bars).show(ui);
}

#[cfg(test)]
mod tests {
    use super::*;
    use mambascope_core::backend::FastBackend;
    use mambascope_core::checkpoint::{Embedded, embedded};
    use std::sync::Arc;

    fn record(edit: Option<(Stage, usize, Change)>, layer: usize) -> Record {
        record_of(embedded().unwrap(), edit, layer)
    }

    fn record_of(model: Model, edit: Option<(Stage, usize, Change)>, layer: usize) -> Record {
        let mut workshop = Workshop::new(vec![Box::new(FastBackend::new(1).unwrap())]);
        let asked = Asked {
            model: ModelRef(Arc::new(model)),
            backend: "fast".into(),
            text: BlockDebugger::default().text,
            token: 3,
            layer,
            edit,
        };
        let answer = asked.compute(&mut workshop, &mut |_| ControlFlow::Continue(()));
        answer.unwrap().unwrap()
    }

    #[test]
    fn without_an_edit_every_stage_and_the_scores_are_the_engines() {
        for layer in [0, 3, 5] {
            let record = record(None, layer);
            assert!(record.apart < 1e-4, "layer {layer}: {}", record.apart);
        }
    }

    /// The first layers of these models, by their name.
    fn edited(name: &str, layer: usize, stage: Stage, change: Change) -> After {
        let model = Embedded::named(name).unwrap().load().unwrap();
        record_of(model, Some((stage, 1, change)), layer)
            .after
            .unwrap()
    }

    #[test]
    fn an_edit_that_changes_nothing_changes_nothing_and_others_do_in_every_family() {
        let families = [
            ("novel-mamba-3m", Kind::One),
            ("novel-mamba2-3m", Kind::Two),
            ("novel-jamba-4m", Kind::One),
        ];
        for (name, kind) in families {
            for stage in Stage::of(kind) {
                let same = edited(name, 1, stage, Change::Scale(1.0)).next.1;
                assert!(same < 1e-9, "{name} {stage:?}: {same}");
                let other = edited(name, 1, stage, Change::Replace(9.0));
                assert!(other.next.1 > 1e-9, "{name} {stage:?}: {}", other.next.1);
                assert_eq!(other.value.2, 9.0, "{name} {stage:?}");
            }
        }
    }

    /// Blocks of other kinds are not counted; feed-forward parts, experts and attention lie behind the edit.
    #[test]
    fn stages_and_scores_of_mamba_2_and_of_a_mixed_model_are_the_engines() {
        for name in ["novel-mamba2-3m", "novel-jamba-4m"] {
            let load = || Embedded::named(name).unwrap().load().unwrap();
            for (i, (layer, ..)) in blocks_with_states(&load()).into_iter().enumerate() {
                let plain = record_of(load(), None, i);
                assert_eq!(plain.layer, layer);
                assert!(plain.apart < 1e-4, "{name} layer {layer}: {}", plain.apart);
            }
        }
        let jamba = Embedded::named("novel-jamba-4m").unwrap().load().unwrap();
        let with_states = blocks_with_states(&jamba).len();
        assert!((1..jamba.config.n_layers()).contains(&with_states));
    }
}
