//! An experiment on a page: a button, and a table of what was expected and what was measured.

use egui::{RichText, Ui};
use mambascope_core::engine::Reply;
use mambascope_core::job::Answer;

use crate::experiment::{Expected, Experiment, Finding, Trial};
use crate::theme;

/// What the reader asked of an experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To run.
    Run,
    /// To stop.
    Stop,
}

/// The findings in a reply.
pub fn findings(reply: &Reply) -> Option<&[Finding]> {
    match &reply.answer {
        Some(Answer::Study(answer)) => answer.of::<Trial>().map(Vec::as_slice),
        _ => None,
    }
}

/// Draws an experiment; `has_held` says whether it has run and held before.
pub fn show(ui: &mut Ui, experiment: &Experiment, reply: &Reply, has_held: bool) -> Option<Asked> {
    let palette = theme::palette(ui.visuals());
    let mut asked = None;
    ui.horizontal_wrapped(|ui| {
        if reply.busy {
            if ui.button("Stop").clicked() {
                asked = Some(Asked::Stop);
            }
        } else {
            let name = if reply.answer.is_some() {
                "Run again"
            } else {
                "Run"
            };
            if ui.button(name).clicked() {
                asked = Some(Asked::Run);
            }
        }
        ui.label(RichText::new(experiment.title).strong());
        ui.label(
            RichText::new(format!("mambascope prove {}", experiment.name))
                .monospace()
                .small()
                .color(palette.weak_text),
        );
    });
    if reply.busy {
        if is_slow(ui, experiment.name, true) {
            progress(ui, reply);
        }
    } else if has_held && reply.answer.is_none() {
        let text = "It held when it was last run.";
        ui.label(RichText::new(text).small().color(palette.weak_text));
    }
    if let Some(error) = &reply.error {
        ui.colored_label(palette.error, error.to_string());
    }
    if let Some(findings) = findings(reply) {
        ui.add_space(6.0);
        table(ui, experiment.name, findings);
    }
    asked
}

/// Seconds that are no wait: a bar that is gone sooner would only flash.
const NO_WAIT: f64 = 0.3;

/// Whether the job in this slot has been at work for so long that its progress is worth showing.
pub fn is_slow(ui: &Ui, slot: &str, is_busy: bool) -> bool {
    let id = since_id(slot);
    if !is_busy {
        ui.data_mut(|data| data.remove::<f64>(id));
        return false;
    }
    let now = ui.input(|input| input.time);
    let since = ui.data_mut(|data| *data.get_temp_mut_or_insert_with(id, || now));
    let rest = since + NO_WAIT - now;
    if rest > 0.0 {
        ui.request_repaint_after_secs(rest as f32);
    }
    !(rest > 0.0)
}

/// The job in this slot gives way to another: the wait begins anew.
pub fn begins_anew(ui: &Ui, slot: &str) {
    ui.data_mut(|data| data.remove::<f64>(since_id(slot)));
}

fn since_id(slot: &str) -> egui::Id {
    egui::Id::unique(("busy since", slot))
}

/// How far a job is.
pub fn progress(ui: &mut Ui, reply: &Reply) {
    match reply.progress {
        Some((what, done, total)) if total > 0 => {
            let share = done as f32 / total as f32;
            ui.add(egui::ProgressBar::new(share).text(format!("{what}: {done} of {total}")));
        }
        _ => {
            ui.horizontal(|ui| {
                ui.spinner();
                ui.label("Computing…");
            });
        }
    }
}

fn table(ui: &mut Ui, name: &str, findings: &[Finding]) {
    let palette = theme::palette(ui.visuals());
    // What is left for the first column.
    let room = (ui.available_width() - 430.0).max(160.0);
    egui::Grid::new(("findings", name))
        .num_columns(4)
        .spacing([18.0, 6.0])
        .striped(true)
        .show(ui, |ui| {
            for title in ["", "expected", "measured", ""] {
                ui.label(RichText::new(title).small().color(palette.weak_text));
            }
            ui.end_row();
            for finding in findings {
                ui.scope(|ui| {
                    ui.set_max_width(room);
                    ui.add(egui::Label::new(&finding.what).wrap());
                });
                ui.label(expected_text(finding));
                ui.label(RichText::new(measured_text(finding)).strong());
                let (text, colour) = if finding.holds() {
                    ("✔ holds", palette.accent)
                } else {
                    ("✖ does not hold", palette.error)
                };
                ui.colored_label(colour, text);
                ui.end_row();
            }
        });
}

fn with_unit(text: String, unit: &str) -> String {
    if unit.is_empty() {
        text
    } else {
        format!("{text} {unit}")
    }
}

/// What is expected, with its tolerance.
pub fn expected_text(finding: &Finding) -> String {
    let text = match finding.expected {
        Expected::Near {
            value,
            tolerance: 0.0,
        } => exact_number(value),
        Expected::Near { value, tolerance } => {
            format!("{} ± {}", exact_number(value), exact_number(tolerance))
        }
        Expected::AtMost(most) => format!("≤ {}", exact_number(most)),
        Expected::AtLeast(least) => format!("≥ {}", exact_number(least)),
    };
    with_unit(text, finding.unit)
}

/// What was measured.
pub fn measured_text(finding: &Finding) -> String {
    with_unit(exact_number(finding.measured), finding.unit)
}

/// A number for a table: whole ones whole, with thousands apart; others to five digits.
pub fn exact_number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() || value == 0.0 {
        return format!("{value}");
    }
    if value.fract() == 0.0 && size < 1e15 {
        let digits = format!("{size:.0}");
        let mut text = String::from(if value < 0.0 { "−" } else { "" });
        for (i, digit) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        return text;
    }
    if !(1e-3..1e6).contains(&size) {
        return format!("{value:.2e}").replace('-', "−");
    }
    let places = (4 - size.log10().floor() as i32).clamp(0, 6) as usize;
    let text = format!("{value:.places$}").replace('-', "−");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_comes_after_a_wait_and_goes_with_it() {
        let ctx = egui::Context::default();
        let seen = |seconds: f64, is_busy: bool| {
            let mut is_slow_now = false;
            let input = egui::RawInput {
                time: Some(seconds),
                ..Default::default()
            };
            let mut output = ctx.run_ui(input, |ui| is_slow_now = is_slow(ui, "slot", is_busy));
            output.textures_delta.clear();
            is_slow_now
        };
        assert!(!seen(1.0, true) && !seen(1.2, true) && seen(1.4, true));
        assert!(!seen(1.5, false));
        assert!(!seen(1.6, true), "a new job begins a new wait");
    }

    #[test]
    fn numbers_are_read_as_they_are_meant() {
        assert_eq!(exact_number(129_135_360.0), "129,135,360");
        assert_eq!(exact_number(-3.0), "−3");
        assert_eq!(exact_number(17.328_68), "17.329");
        assert_eq!(exact_number(0.95), "0.95");
        assert_eq!(exact_number(1.5e-15), "1.50e−15");
        assert_eq!(exact_number(f64::NAN), "NaN");
    }
}
