//! The menu of weights: the number formats a model can be brought to, their bytes, and what they do to its scores.

use std::path::PathBuf;
use std::sync::Arc;

use egui::containers::menu::{MenuButton, MenuConfig};
use egui::{Grid, PopupCloseBehavior, RichText, Ui};
use mambascope_core::backend::Rounding;
use mambascope_core::checkpoint::KEPT;
use mambascope_core::engine::Engine;
use mambascope_core::job::ModelRef;
use mambascope_core::model::{Model, Source};
use mambascope_core::precision::{Form, PrecisionStudy, coarser_forms};
use mambascope_core::tensor::Dtype;

use super::measuring::{Measuring, framed};
use super::{Around, ScopePage};
use crate::window::{Request, Stored, bytes_text, palette};

/// Width of the menu.
const WIDTH: f32 = 520.0;

/// What coarser numbers cost the open model.
pub(super) struct Precisions {
    measuring: Measuring<PrecisionStudy>,
    /// The folder in which the int8 form is to be kept, where that is ticked: another one was not meant.
    keep: Option<PathBuf>,
}

impl Default for Precisions {
    fn default() -> Self {
        Self {
            measuring: Measuring::new("precision"),
            keep: None,
        }
    }
}

impl Precisions {
    /// Takes what there is of the measurement asked for; one of another model than the stored one is dropped.
    pub(super) fn ask(&mut self, engine: &Engine, stored: Option<&Stored>) {
        let asked = self.measuring.asked();
        let is_current = asked
            .zip(stored)
            .is_some_and(|(asked, stored)| Arc::ptr_eq(&asked.model, &stored.model));
        if is_current {
            self.measuring.ask(engine);
        } else {
            self.measuring.forget(engine);
        }
    }

    /// Stops a measurement that runs.
    pub(super) fn halt(&mut self, engine: &Engine) {
        self.measuring.halt(engine);
    }
}

/// What was clicked in the menu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightsClick {
    /// Take this form; without a format the one that is stored.
    Choose(Option<Dtype>),
    /// Measure them.
    Measure,
}

impl ScopePage {
    pub(super) fn weights_menu(&mut self, ui: &mut Ui, around: &mut Around<'_>) {
        let Some(stored) = around.stored else { return };
        let dtype = stored.dtype.unwrap_or_else(|| stored.model.main_dtype());
        let title = format!("Weights: {}", name(dtype));
        let stays = MenuConfig::new().close_behavior(PopupCloseBehavior::CloseOnClickOutside);
        MenuButton::new(title).config(stays).ui(ui, |ui| {
            ui.set_width(WIDTH);
            let Precisions { measuring, keep } = &mut self.precisions;
            let forms = measuring.found().map(Vec::as_slice);
            let busy = measuring.is_busy();
            match weights_rows(ui, &stored.model, stored.dtype, forms, busy) {
                Some(WeightsClick::Choose(dtype)) => {
                    let keep = dtype == Some(Dtype::Int8) && is_kept(&stored.model, keep.as_ref());
                    around.requests.push(Request::Recast(dtype, keep));
                    ui.close();
                }
                Some(WeightsClick::Measure) => {
                    let model = ModelRef(stored.model.clone());
                    measuring.start(around.engine, PrecisionStudy { model });
                }
                None => {}
            }
            measuring.way(ui, around.engine);
            if keep_ui(ui, &stored.model, keep) && stored.dtype == Some(Dtype::Int8) {
                around.requests.push(Request::Recast(stored.dtype, true));
                ui.close();
            }
        });
    }
}

/// Whether that is the folder of the model.
fn is_kept(model: &Model, keep: Option<&PathBuf>) -> bool {
    matches!((&model.source, keep), (Source::Folder(folder), Some(keep)) if folder == keep)
}

/// Whether to keep the int8 form of a model in a folder; says whether that was ticked now.
fn keep_ui(ui: &mut Ui, model: &Model, keep: &mut Option<PathBuf>) -> bool {
    let Source::Folder(folder) = &model.source else {
        return false;
    };
    let place = format!(
        "In {}: read in place of making it, as long as it fits the weights",
        folder.join(KEPT).display()
    );
    let mut ticked = is_kept(model, keep.as_ref());
    let tick = ui.checkbox(&mut ticked, "Keep the int8 form beside the checkpoint");
    let is_new = tick.on_hover_text(place).changed();
    if is_new {
        *keep = ticked.then(|| folder.clone());
    }
    is_new && ticked
}

fn name(dtype: Dtype) -> String {
    dtype.name().to_lowercase()
}

fn stored_name(model: &Model) -> String {
    format!("{}, as stored", name(model.main_dtype()))
}

/// A row a form, with what was measured of it, and what is to be said of all of them.
pub fn weights_rows(
    ui: &mut Ui,
    model: &Model,
    current: Option<Dtype>,
    forms: Option<&[Form]>,
    busy: bool,
) -> Option<WeightsClick> {
    let weak = palette(ui).weak_text;
    let small = |text: &str| RichText::new(text).small().color(weak);
    let stored = model.main_dtype();
    let mut clicked = None;
    let grid = Grid::new("weights").num_columns(5).spacing([16.0, 6.0]);
    grid.show(ui, |ui| {
        let heads = [
            "matrices",
            "bytes",
            "KL, mean",
            "KL, largest",
            "other favourite",
        ];
        for head in heads {
            ui.label(small(head));
        }
        ui.end_row();
        if ui.radio(current.is_none(), stored_name(model)).clicked() {
            clicked = Some(WeightsClick::Choose(None));
        }
        ui.label(bytes_text(model.stored_bytes() as u64));
        ui.label("0");
        ui.label("0");
        ui.label("0");
        ui.end_row();
        let forms_of = coarser_forms(stored).into_iter();
        for (dtype, _) in forms_of.filter(|(dtype, rounds)| !rounds && *dtype != stored) {
            if ui.radio(current == Some(dtype), name(dtype)).clicked() {
                clicked = Some(WeightsClick::Choose(Some(dtype)));
            }
            ui.label(bytes_text(model.bytes_as(dtype) as u64));
            match forms.and_then(|forms| of(forms, dtype, false)) {
                Some(form) => divergence_cells(ui, form),
                None => (0..3).for_each(|_| {
                    ui.label(small("–"));
                }),
            }
            ui.end_row();
        }
    });
    ui.separator();
    let tokens = forms.and_then(|forms| forms.iter().map(|form| form.divergence.tokens).max());
    ui.label(small(&match tokens {
        Some(tokens) => format!(
            "KL(exact ‖ coarse) of the next token's distribution, in nats, over {tokens} tokens of a text that is always the same; \
             after how many of them another token is the most likely one."
        ),
        None => "What a coarser form does to the model's scores is not known until it is measured, on a text of about a hundred tokens."
            .to_owned(),
    }));
    ui.label(small(&rounding_text(forms)));
    let formats: Vec<_> = model.dtypes().into_iter().map(name).collect();
    ui.label(small(&format!(
        "Stored as {}, {} on disk. Only matrices change: A, convolutions, norms and biases stay, and state and sums are f32. The stored form stays in \
         memory beside a coarser one.",
        formats.join(" and "),
        bytes_text(model.bytes_on_disk),
    )));
    if forms.is_none() {
        // In a row, for a menu makes its buttons as wide as itself.
        let button = ui.horizontal(|ui| ui.add_enabled(!busy, framed(ui, "Measure the forms")));
        if button.inner.clicked() {
            clicked = Some(WeightsClick::Measure);
        }
    }
    clicked
}

fn of(forms: &[Form], dtype: Dtype, rounds: bool) -> Option<&Form> {
    let mut forms = forms.iter();
    forms.find(|form| form.dtype == dtype && form.rounds == rounds)
}

fn divergence_cells(ui: &mut Ui, form: &Form) {
    let found = form.divergence;
    ui.label(format!("{:.1e}", found.mean));
    ui.label(format!("{:.1e}", found.most));
    ui.label(format!("{} of {}", found.flips, found.tokens));
}

/// What is rounded on the way, and what that does.
fn rounding_text(forms: Option<&[Form]>) -> String {
    let rule = "With bf16 weights the fast backend rounds what large products multiply to bf16 too, where the processor can, in passes \
                nobody watches: nothing that this page shows is rounded so.";
    let measured = forms.map(|forms| of(forms, Dtype::Bf16, true));
    match measured {
        None => rule.to_owned(),
        Some(None) if Rounding::is_available() => rule.to_owned(),
        Some(None) => format!("{rule} This processor cannot, so nothing is rounded."),
        Some(Some(form)) => format!(
            "{rule} Weights and rounding together: KL {:.1e} in the mean, {:.1e} at most, another favourite after {} of {} tokens.",
            form.divergence.mean,
            form.divergence.most,
            form.divergence.flips,
            form.divergence.tokens
        ),
    }
}
