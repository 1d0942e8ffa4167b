//! One block of the open model, stage by stage; change a value and see what it does to the next token.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use egui::{RichText, TextEdit, Ui};
use mambascope_core::generate::most_likely;
use mambascope_core::job::{JobError, ModelRef, Progress, Workshop};
use mambascope_core::study::Study;
use mambascope_core::trace::{Probe, Site, Trace};
use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::forward::{Change, Edit, Stages, divergence, forward_from};
use super::stages::Stage;
use crate::course::reading_a_trained_mamba::records::{
    NO_SCANS, ids_of, matrix, scan_layers, texts_of, traced,
};
use crate::demo::{Around, Demo, Scene};
use crate::theme;
use crate::widgets::controls::{choice, columns, controls, slider};
use crate::widgets::formula::formula;
use crate::widgets::plots::footnote;
use crate::widgets::{Axis, Bar, Bars, Colormap, Grid, Heatmap, ScaleKind, number, visible_token};

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
    /// Counted among the blocks that are Mamba-1.
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
    text: String,
    token: usize,
    /// Counted among the blocks that are Mamba-1.
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
    /// The block, counted among all.
    layer: usize,
    rows: Vec<Row>,
    /// Largest difference of these stages, and of the scores, from the engine's own, over the largest value of the stage.
    apart: f32,
    before: Ranked,
    after: Option<After>,
    version: u64,
}

/// What an edit did.
struct After {
    /// Which value, what it was, and what it became.
    value: (usize, f32, f32),
    /// The next tokens, and how far they are from those without the edit: KL in nats. Only where all blocks behind are Mamba-1.
    next: Option<(Ranked, f64)>,
}

fn probes() -> Vec<Probe> {
    let stages = Stage::ALL.iter().filter_map(|stage| stage.probe());
    stages.chain([Probe::Embedded]).collect()
}

impl Study for Asked {
    type Answer = Option<Record>;

    fn compute(
        &self,
        workshop: &mut Workshop,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<Record>, JobError> {
        let model = &self.model;
        let layers = scan_layers(model);
        let Some(&layer) = layers.get(self.layer.min(layers.len().saturating_sub(1))) else {
            return Ok(None);
        };
        let ids = ids_of(model, &self.text, MOST_TOKENS)?;
        let token = self.token.min(ids.len().saturating_sub(1));
        let before = layer.checked_sub(1);
        let wanted: Vec<usize> = before.into_iter().chain([layer]).collect();
        let began = Instant::now();
        let backend = workshop.backend("fast")?;
        let (trace, logits_v) = traced(model, &ids, &wanted, &probes(), backend)?;
        let input = match before {
            Some(before) => Site::layer(before, Probe::BlockOutput),
            None => Site::model(Probe::Embedded),
        };
        let x_le = matrix(&trace, input)?;
        let passes = 1 + usize::from(self.edit.is_some());
        let total = passes * (model.config.n_layers() - layer);
        let mut done = 0;
        let mut report = || {
            done += 1;
            if began.elapsed() < QUIET {
                return ControlFlow::Continue(());
            }
            let what = "blocks computed";
            progress(Progress::Count {
                what,
                done: done - 1,
                total,
            })
        };
        let mut plain = Stages::new();
        let plain_v = forward_from(model, layer, &x_le, None, &mut plain, &mut report)?;
        let scores_apart = plain_v
            .as_ref()
            .map_or(0.0, |plain_v| difference(plain_v, &logits_v));
        let apart = scores_apart.max(stages_apart(&plain, &trace, model, layer)?);
        let (mut stages, mut after) = (plain.clone(), None);
        if let Some((stage, index, change)) = self.edit {
            let width = plain.get(&stage).map_or(1, Array2::ncols);
            let edit = Edit {
                stage,
                token,
                index: index.min(width.saturating_sub(1)),
                change,
            };
            stages.clear();
            let edited_v = forward_from(model, layer, &x_le, Some(edit), &mut stages, &mut report)?;
            let both = plain_v.as_ref().zip(edited_v.as_ref());
            after = Some(After {
                value: (edit.index, value_at(&plain, edit), value_at(&stages, edit)),
                next: both.map(|(plain_v, edited_v)| {
                    (ranked(model, edited_v), divergence(plain_v, edited_v))
                }),
            });
        }
        let slots = plain.get(&Stage::B).map_or(1, Array2::ncols);
        let rows: Vec<Row> = Stage::ALL
            .into_iter()
            .filter_map(|stage| Some(row(stage, stages.get(&stage)?, token, slots)))
            .collect();
        let version = version(&rows, token);
        Ok(Some(Record {
            texts: texts_of(model, &ids),
            token,
            layer,
            rows,
            apart,
            before: ranked(model, plain_v.as_ref().unwrap_or(&logits_v)),
            after,
            version,
        }))
    }
}

/// The largest difference of the stages from what the engine recorded.
fn stages_apart(
    stages: &Stages,
    trace: &Trace,
    model: &ModelRef,
    layer: usize,
) -> Result<f32, JobError> {
    // Where a feed-forward part follows, the block's output is more than what the mixer adds to.
    let block = &model.config.blocks[layer];
    let ends_with_the_mixer = block.feed_forward.is_none();
    let mut apart = 0.0f32;
    for (stage, value) in stages {
        let is_there = *stage != Stage::Residual || ends_with_the_mixer;
        if let Some(probe) = stage.probe().filter(|_| is_there) {
            let own = matrix(trace, Site::layer(layer, probe))?;
            let (own, value): (Vec<f32>, Vec<f32>) =
                (own.into_iter().collect(), value.iter().copied().collect());
            apart = apart.max(difference(&value, &own));
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
            text: self.text.clone(),
            token: self.token,
            layer: self.layer,
            edit: change.map(|change| (self.stage, self.index, change)),
        })
    }

    fn ui(&mut self, ui: &mut Ui, scene: &Scene<'_, Option<Record>>) {
        let edit = TextEdit::singleline(&mut self.text)
            .char_limit(MOST_TEXT)
            .desired_width(f32::INFINITY);
        ui.add(edit).widget_info(|| {
            egui::WidgetInfo::labeled(egui::accesskit::Role::TextInput, true, "text to read")
        });
        match scene.answer {
            Some(Some(answer)) => self.answered(ui, answer, scene),
            Some(None) => {
                ui.label(NO_SCANS);
            }
            None => ui.add_space(640.0),
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
        let layers = model.map_or(0, |model| scan_layers(model).len().saturating_sub(1));
        let (mut token, mut layer) = (answer.token, self.layer.min(layers));
        controls(ui, |ui| {
            if slider(ui, "Mamba layer", &mut layer, 0..=layers).changed() {
                self.layer = layer;
            }
            if slider(ui, "token", &mut token, 0..=last).changed() {
                self.token = token;
            }
            let text = answer.texts.get(answer.token).map_or("", String::as_str);
            ui.label(format!("\"{}\"", visible_token(text)));
        });
        columns(ui, 386.0, 2, |i, ui| match i {
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
                    ui.selectable_value(&mut self.stage, row.stage, row.stage.name());
                    let shape = match row.stage {
                        Stage::H => {
                            let (slots, channels) = row.values.dim();
                            format!("[{}] = {channels} × {slots}", row.stage.axes())
                        }
                        _ => format!("[{}] = {}", row.stage.axes(), row.width),
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
        formula(ui, row.stage.tex());
        if let Some((place, line)) = row.stage.source() {
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
            format!("{}, all tokens", row.stage.name())
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
            .cols(Axis::new(match row.stage.axes() {
                "e" => "width, e",
                "r" => "rank, r",
                "n" => "slot, n",
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
                let mut index = self.index.min(most);
                if slider(ui, "which value", &mut index, 0..=most).changed() {
                    self.index = index;
                }
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
                let what = match next {
                    Some((_, divergence)) => {
                        format!("KL of the next token: {} nats.", number(*divergence as f32))
                    }
                    None => "The least and largest values above are of after the edit.".to_owned(),
                };
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
                (
                    _,
                    Some(After {
                        next: Some((after, _)),
                        ..
                    }),
                ) => bars(ui, "after the edit", after),
                (_, after) => {
                    let text = match after {
                        None => "Scale or replace a value to see here what it changes.",
                        Some(_) => {
                            "What the edit does to the next token is computed only where this block and all behind it are Mamba-1 and nothing else."
                        }
                    };
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
    use mambascope_core::model::Model;
    use std::sync::Arc;

    fn record(edit: Option<(Stage, usize, Change)>, layer: usize) -> Record {
        record_of(embedded().unwrap(), edit, layer)
    }

    fn record_of(model: Model, edit: Option<(Stage, usize, Change)>, layer: usize) -> Record {
        let mut workshop = Workshop::new(vec![Box::new(FastBackend::new(1).unwrap())]);
        let asked = Asked {
            model: ModelRef(Arc::new(model)),
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

    #[test]
    fn an_edit_that_changes_nothing_changes_nothing_and_others_do() {
        for stage in Stage::ALL {
            let same = record(Some((stage, 1, Change::Scale(1.0))), 1).after;
            let (_, kl) = same.unwrap().next.unwrap();
            assert!(kl < 1e-9, "{stage:?}: {kl}");
            let other = record(Some((stage, 1, Change::Replace(9.0))), 1).after;
            let After { value, next } = other.unwrap();
            let kl = next.unwrap().1;
            assert!(kl > 1e-9, "{stage:?}: {kl}");
            let (_, _, new) = value;
            assert_eq!(new, 9.0, "{stage:?}");
        }
    }

    /// Its blocks of other kinds are not counted, and where one follows no scores are claimed.
    #[test]
    fn blocks_of_a_mixed_model_are_the_engines_too() {
        let jamba = || Embedded::named("novel-jamba-4m").unwrap().load().unwrap();
        let layers = scan_layers(&jamba());
        assert!(!layers.is_empty() && layers.len() < jamba().config.n_layers());
        for (i, &layer) in layers.iter().enumerate() {
            let edit = Some((Stage::Delta, 1, Change::Scale(3.0)));
            let plain = record_of(jamba(), None, i);
            assert_eq!(plain.layer, layer);
            assert!(plain.apart < 1e-4, "layer {layer}: {}", plain.apart);
            let edited = record_of(jamba(), edit, i);
            assert!(edited.apart < 1e-4, "layer {layer}: {}", edited.apart);
            assert!(edited.after.is_some());
        }
    }
}
