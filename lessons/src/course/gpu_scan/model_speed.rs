//! Tokens a second of the program's own model on the reader's processor, held against what the processor gives. Measured when it is
//! asked for.

use std::ops::ControlFlow;
use std::sync::Arc;

use egui::{Grid, RichText, Ui};
use mambascope_core::checkpoint::embedded;
use mambascope_core::job::{JobError, ModelRef, Progress, Workshop};
use mambascope_core::speed::{Speed, SpeedStudy};
use mambascope_core::study::Study;
use serde::{Deserialize, Serialize};

use crate::demo::{Around, Demo, Scene};
use crate::theme;
use crate::widgets::controls::{controls, picture};
use crate::widgets::plots::footnote;

/// Measurements that can be told apart; then the count begins again.
const MOST_RUNS: u32 = 1000;
/// The backend that is measured.
const BACKEND: &str = "fast";

/// The controls.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelSpeed {
    /// Counts the measurements asked for: none yet, and another number is another job.
    run: u32,
}

impl Study for ModelSpeed {
    type Answer = Option<Speed>;

    fn compute(
        &self,
        workshop: &mut Workshop,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<Speed>, JobError> {
        if self.run == 0 {
            return Ok(None);
        }
        let study = SpeedStudy {
            model: ModelRef(Arc::new(embedded()?)),
            backend: BACKEND.to_owned(),
        };
        study.compute(workshop, progress).map(Some)
    }
}

impl Demo for ModelSpeed {
    const ID: &'static str = "model-speed";
    const TITLE: &'static str = "Measured here: a model's tokens a second";
    type Study = Self;

    fn study(&self, _: &Around) -> Option<Self> {
        Some(self.clone())
    }

    fn ui(&mut self, ui: &mut Ui, scene: &Scene<'_, Option<Speed>>) {
        controls(ui, |ui| {
            let name = match self.run {
                0 => "Measure this machine",
                _ => "Measure this machine again",
            };
            if ui.button(name).clicked() {
                // Nought is the state in which nothing was asked for.
                self.run = self.run % MOST_RUNS + 1;
            }
        });
        picture(ui, 92.0, |ui| match scene.answer {
            Some(Some(speed)) => table(ui, speed),
            _ => {
                let weak = theme::palette(ui.visuals()).weak_text;
                ui.label(RichText::new(self.unmeasured()).color(weak));
            }
        });
        let told = match scene.answer {
            Some(Some(speed)) => how(speed),
            _ => String::new(),
        };
        footnote(ui, &told, theme::palette(ui.visuals()).weak_text);
    }

    fn clamp(&mut self) {
        self.run = self.run.min(MOST_RUNS);
    }

    fn ends() -> Vec<Self> {
        vec![Self { run: 0 }, Self { run: MOST_RUNS }]
    }
}

impl ModelSpeed {
    fn unmeasured(&self) -> &'static str {
        match self.run {
            0 => "Not measured yet: it takes about two seconds, on the fast CPU backend.",
            _ => "Measuring…",
        }
    }
}

/// Reading and writing, each with its limit.
fn table(ui: &mut Ui, speed: &Speed) {
    let weak = theme::palette(ui.visuals()).weak_text;
    let grid = Grid::new("model speed")
        .num_columns(4)
        .spacing([28.0, 6.0])
        .min_row_height(22.0);
    grid.show(ui, |ui| {
        for head in ["", "tokens a second", "the machine's limit", "reached"] {
            ui.label(RichText::new(head).small().color(weak));
        }
        ui.end_row();
        let reach = speed.reach.as_ref();
        let multiplying = reach.map(|reach| {
            let rate = reach.limits.gemm_flops_per_s / 1e9;
            (
                format!("multiplying, {rate:.0} GFLOP/s"),
                reach.prefill_share,
            )
        });
        let memory = reach.map(|reach| {
            let rate = reach.limits.bandwidth_bytes_per_s / 1e9;
            (format!("memory, {rate:.1} GB/s"), reach.decode_share)
        });
        let rows = [
            ("reading", speed.prefill_tokens_per_s, multiplying),
            ("writing", speed.decode_tokens_per_s, memory),
        ];
        for (name, rate, limit) in rows {
            ui.label(name);
            ui.label(RichText::new(format!("{rate:.0}")).strong());
            if let Some((limit, share)) = limit {
                ui.label(limit);
                ui.label(format!("{:.0} %", 100.0 * share));
            }
            ui.end_row();
        }
    });
}

/// How it was measured.
fn how(speed: &Speed) -> String {
    let threads = speed.reach.as_ref().map_or(String::new(), |reach| {
        format!(", {} threads", reach.threads)
    });
    format!(
        "The embedded model on the {BACKEND} CPU backend{threads}: {:.1} MB of weights, most of them {}. The best of {} turns of {} tokens \
         read and {} written, in turns with the limits, while the machine may have other things to do.",
        speed.weight_bytes as f64 / 1e6,
        speed.dtype.name().to_lowercase(),
        speed.turns,
        speed.prompt,
        speed.tokens,
    )
}
