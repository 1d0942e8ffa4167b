//! The menu of backends: where the model runs, why not elsewhere, and how quick it is there.

use egui::containers::menu::{MenuButton, MenuConfig};
use egui::{PopupCloseBehavior, RichText, Ui};
use mambascope_core::engine::Engine;
use mambascope_core::job::ModelRef;
use mambascope_core::speed::{Speed, SpeedStudy};

use super::measuring::{Measuring, framed};
use super::{Around, ScopePage};
use crate::backends::BackendChoice;
use crate::window::{ScopeSettings, bytes_text, palette};

/// Width of the menu.
const WIDTH: f32 = 400.0;

/// What has been measured of the open model.
pub(super) struct Speeds {
    measuring: Measuring<SpeedStudy>,
    found: Vec<Speed>,
}

impl Default for Speeds {
    fn default() -> Self {
        Self {
            measuring: Measuring::new("speed"),
            found: Vec::new(),
        }
    }
}

impl Speeds {
    /// Takes what there is of a measurement asked for.
    pub(super) fn ask(&mut self, engine: &Engine) {
        self.measuring.ask(engine);
        if let Some(speed) = self.measuring.found().cloned() {
            self.found.retain(|old| old.backend != speed.backend);
            self.found.push(speed);
            self.measuring.forget(engine);
        }
    }

    /// Stops a measurement that runs.
    pub(super) fn halt(&mut self, engine: &Engine) {
        self.measuring.halt(engine);
    }

    /// Drops all that was of another model.
    pub(super) fn forget(&mut self, engine: &Engine) {
        self.measuring.forget(engine);
        self.found.clear();
    }
}

/// What was clicked in the menu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendClick {
    /// Run on this one.
    Choose(&'static str),
    /// Measure this one.
    Measure(&'static str),
}

impl ScopePage {
    pub(super) fn backend_menu(
        &mut self,
        ui: &mut Ui,
        settings: &mut ScopeSettings,
        around: &Around<'_>,
    ) {
        let mut choices = around.backends.iter();
        let current = choices.find(|choice| choice.name == settings.backend);
        let title = current.map_or(settings.backend.as_str(), |choice| choice.title);
        // It stays open while something is measured in it.
        let stays = MenuConfig::new().close_behavior(PopupCloseBehavior::CloseOnClickOutside);
        let button = MenuButton::new(format!("Runs on: {title}")).config(stays);
        button.ui(ui, |ui| {
            ui.set_width(WIDTH);
            // Times of a machine are no part of pictures that are compared.
            let found = if around.hide_timings {
                &[]
            } else {
                self.speeds.found.as_slice()
            };
            let busy = self.speeds.measuring.is_busy();
            let clicked = backend_rows(ui, around.backends, &settings.backend, found, busy);
            match (clicked, around.model) {
                (Some(BackendClick::Choose(name)), _) => {
                    name.clone_into(&mut settings.backend);
                    ui.close();
                }
                (Some(BackendClick::Measure(name)), Some(model)) => {
                    let study = SpeedStudy {
                        model: ModelRef(model.clone()),
                        backend: name.to_owned(),
                    };
                    self.speeds.measuring.start(around.engine, study);
                }
                _ => {}
            }
            self.speeds.measuring.way(ui, around.engine);
        });
    }
}

/// A row a backend, with what was measured of it.
pub fn backend_rows(
    ui: &mut Ui,
    choices: &[BackendChoice],
    current: &str,
    found: &[Speed],
    busy: bool,
) -> Option<BackendClick> {
    let weak = palette(ui).weak_text;
    let mut clicked = None;
    for choice in choices {
        let usable = choice.unavailable.is_none();
        let speed = found.iter().find(|speed| speed.backend == choice.name);
        ui.horizontal(|ui| {
            ui.add_enabled_ui(usable, |ui| {
                if ui.radio(current == choice.name, choice.title).clicked() {
                    clicked = Some(BackendClick::Choose(choice.name));
                }
            });
            if usable {
                let text = match speed {
                    Some(_) => format!("Measure {} again", choice.title),
                    None => format!("Measure {}", choice.title),
                };
                let button = ui.add_enabled(!busy, framed(ui, text).small());
                let button = button.on_hover_text(
                    "Reads and writes a short text on this backend, up to three times, and tells how many tokens a second that are.",
                );
                if button.clicked() {
                    clicked = Some(BackendClick::Measure(choice.name));
                }
            }
        });
        if let Some(reason) = &choice.unavailable {
            ui.label(RichText::new(reason).small().color(weak));
        }
        if let Some(speed) = speed {
            speed_lines(ui, speed);
        }
    }
    if found.is_empty() {
        let text = "How quick each is here, with this model, is not known until it is measured.";
        ui.label(RichText::new(text).small().color(weak));
    }
    clicked
}

/// What was measured, in two lines.
fn speed_lines(ui: &mut Ui, speed: &Speed) {
    let rates = format!(
        "reads {} tokens/s, writes {} tokens/s",
        rate_text(speed.prefill_tokens_per_s),
        rate_text(speed.decode_tokens_per_s),
    );
    let how = format!(
        "The best of {} turns of {} tokens read and {} written, with {} of weights, most of them {}.",
        speed.turns,
        speed.prompt,
        speed.tokens,
        bytes_text(speed.weight_bytes as u64),
        speed.dtype.name().to_lowercase(),
    );
    let weak = palette(ui).weak_text;
    ui.indent(("speed", &speed.backend), |ui| {
        ui.label(RichText::new(rates).small()).on_hover_text(how);
        let Some(reach) = &speed.reach else { return };
        let shares = format!(
            "writing: {:.0} % of the {:.1} GB/s at which memory is read; reading: {:.0} % of the {:.0} GFLOP/s of a large product",
            100.0 * reach.decode_share,
            reach.limits.bandwidth_bytes_per_s / 1e9,
            100.0 * reach.prefill_share,
            reach.limits.gemm_flops_per_s / 1e9,
        );
        ui.label(RichText::new(shares).small().color(weak))
            .on_hover_text(format!(
                "Measured in turns with the text, by the fast backend's own products with {} threads. A written token reads every \
                 weight once, so memory sets its pace; a small model stays in the caches and may pass that mark. Tokens that are read \
                 share the weights, so multiplying sets theirs.",
                reach.threads
            ));
    });
}

/// Three digits that matter, thousands set apart.
fn rate_text(rate: f64) -> String {
    if rate < 99.95 {
        return format!("{rate:.1}");
    }
    let step = 10f64.powf(rate.log10().floor() - 2.0);
    let digits = format!("{:.0}", (rate / step).round() * step);
    let places = digits.len();
    let apart = digits.chars().enumerate().map(|(i, digit)| {
        let comma = i > 0 && (places - i).is_multiple_of(3);
        let comma = if comma { "," } else { "" };
        format!("{comma}{digit}")
    });
    apart.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_three_digits() {
        let texts = [0.31, 42.0, 99.96, 1_234.5, 12_345.0, 999_960.0].map(rate_text);
        assert_eq!(
            texts,
            ["0.3", "42.0", "100", "1,230", "12,300", "1,000,000"]
        );
    }
}
