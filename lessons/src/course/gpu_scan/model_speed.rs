//! Tokens a second of the program's own model on the backend the reader chose, held against what the processor gives. Measured when
//! it is asked for.

use std::ops::ControlFlow;
use std::sync::Arc;

use egui::{Align2, CornerRadius, FontId, Grid, RichText, Sense, Stroke, Ui, vec2};
use mambascope_core::checkpoint::embedded;
use mambascope_core::job::{JobError, ModelRef, Progress, Workshop};
use mambascope_core::speed::{Reach, Speed, SpeedStudy};
use mambascope_core::study::Study;
use serde::{Deserialize, Serialize};

use crate::course::reading_a_trained_mamba::records::chosen;
use crate::demo::{Around, Demo, Scene};
use crate::theme;
use crate::widgets::amounts::count_text;
use crate::widgets::controls::{controls, picture};
use crate::widgets::plots::footnote;

/// Measurements that can be told apart; then the count begins again.
const MOST_RUNS: u32 = 1000;
/// Size of the bar of a share.
const BAR: [f32; 2] = [220.0, 12.0];

/// The controls.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelSpeed {
    /// Counts the measurements asked for: none yet, and another number is another job.
    run: u32,
}

/// What is measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Which measurement it is; nought asks for none.
    run: u32,
    /// Name of the backend.
    backend: String,
}

/// What was measured.
pub struct Measured {
    speed: Speed,
    /// Why it was not measured where it was asked.
    elsewhere: Option<String>,
}

impl Study for Asked {
    type Answer = Option<Measured>;

    fn compute(
        &self,
        workshop: &mut Workshop,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<Measured>, JobError> {
        if self.run == 0 {
            return Ok(None);
        }
        let model = ModelRef(Arc::new(embedded()?));
        let (backend, elsewhere) = chosen(workshop, &self.backend, &model)?;
        let study = SpeedStudy {
            backend: backend.name().to_owned(),
            model,
        };
        let speed = study.compute(workshop, progress)?;
        Ok(Some(Measured { speed, elsewhere }))
    }
}

impl Demo for ModelSpeed {
    const ID: &'static str = "model-speed";
    const TITLE: &'static str = "Measured here: a model's tokens a second";
    type Study = Asked;

    fn study(&self, around: &Around) -> Option<Asked> {
        Some(Asked {
            run: self.run,
            backend: around.backend.clone(),
        })
    }

    fn ui(&mut self, ui: &mut Ui, scene: &Scene<'_, Option<Measured>>) {
        let measured = scene.answer.and_then(Option::as_ref);
        let weak = theme::palette(ui.visuals()).weak_text;
        controls(ui, |ui| {
            let name = match self.run {
                0 => "Measure this machine",
                _ => "Measure this machine again",
            };
            if ui.button(name).clicked() {
                // Nought is the state in which nothing was asked for.
                self.run = self.run % MOST_RUNS + 1;
            }
            let told = match (self.run, measured) {
                (0, _) => "It takes about two seconds.",
                (_, None) => "Measuring…",
                _ => "",
            };
            ui.label(RichText::new(told).color(weak));
        });
        picture(ui, 84.0, |ui| {
            table(ui, measured.map(|measured| &measured.speed));
        });
        let told = match measured {
            Some(measured) => how(measured),
            None => format!(
                "Nothing is measured yet. It will be the embedded model, on the backend \"{}\".\n ",
                scene.around.backend
            ),
        };
        footnote(ui, &told, weak);
    }

    fn clamp(&mut self) {
        self.run = self.run.min(MOST_RUNS);
    }

    fn ends() -> Vec<Self> {
        vec![Self { run: 0 }, Self { run: MOST_RUNS }]
    }
}

/// A line of the table: its name, what limits it, and, where it is measured, tokens a second, the limit, and the share of it.
struct Line {
    name: &'static str,
    limited_by: &'static str,
    unit: &'static str,
    rate: Option<f64>,
    limit: Option<f64>,
    share: Option<f64>,
}

/// Reading and writing, each with its limit; dashes where nothing is measured.
fn table(ui: &mut Ui, speed: Option<&Speed>) {
    let weak = theme::palette(ui.visuals()).weak_text;
    let reach = speed.and_then(|speed| speed.reach.as_ref());
    let of = |value: fn(&Reach) -> f64| reach.map(value);
    let lines = [
        Line {
            name: "reading",
            limited_by: "multiplying",
            unit: "GFLOP/s",
            rate: speed.map(|speed| speed.prefill_tokens_per_s),
            limit: of(|reach| reach.limits.gemm_flops_per_s),
            share: of(|reach| reach.prefill_share),
        },
        Line {
            name: "writing",
            limited_by: "memory",
            unit: "GB/s",
            rate: speed.map(|speed| speed.decode_tokens_per_s),
            limit: of(|reach| reach.limits.bandwidth_bytes_per_s),
            share: of(|reach| reach.decode_share),
        },
    ];
    // Both bars end with the same share: all of the limit, with some room behind its mark, or what is beyond it.
    let shares = lines.iter().filter_map(|line| line.share);
    let end = shares.fold(1.15, |most: f64, share| most.max(1.05 * share));
    let grid = Grid::new("model speed")
        .num_columns(4)
        .spacing([28.0, 6.0])
        .min_row_height(22.0);
    grid.show(ui, |ui| {
        let heads = [
            "",
            "tokens a second",
            "what the processor gives",
            "share of it; the mark is all of it",
        ];
        for head in heads {
            ui.label(RichText::new(head).small().color(weak));
        }
        ui.end_row();
        for line in lines {
            let value = |value: Option<f64>, decimals| {
                value.map_or("–".to_owned(), |value| format!("{value:.decimals$}"))
            };
            ui.label(line.name);
            let rate = line
                .rate
                .map_or("–".to_owned(), |rate| count_text(rate.round()));
            ui.label(RichText::new(rate).strong());
            let limit = value(line.limit.map(|limit| limit / 1e9), 1);
            ui.label(format!("{}: {limit} {}", line.limited_by, line.unit));
            bar(ui, line.name, line.share, end);
            ui.end_row();
        }
    });
}

/// A share as a bar that reaches to `end`, with a mark at 1, and in percent.
fn bar(ui: &mut Ui, name: &str, share: Option<f64>, end: f64) {
    let palette = theme::palette(ui.visuals());
    let [width, height] = BAR;
    let (rect, response) = ui.allocate_exact_size(vec2(width + 56.0, 18.0), Sense::hover());
    let track = Align2::LEFT_CENTER.anchor_size(rect.left_center(), vec2(width, height));
    let at = |share: f64| track.left() + width * (share / end) as f32;
    let text = share.map_or("–".to_owned(), |share| format!("{:.0} %", 100.0 * share));
    let painter = ui.painter();
    let round = CornerRadius::same(3);
    painter.rect_filled(track, round, palette.control);
    if let Some(share) = share {
        painter.rect_filled(track.with_max_x(at(share)), round, palette.series[0]);
    }
    let mark = Stroke::new(2.0, palette.text);
    painter.vline(at(1.0), track.y_range().expand(3.0), mark);
    painter.text(
        rect.right_center(),
        Align2::RIGHT_CENTER,
        &text,
        FontId::proportional(14.0),
        palette.text,
    );
    let told = format!("{name}: {text} of what the processor gives");
    response.widget_info(|| {
        egui::WidgetInfo::labeled(egui::accesskit::Role::Image, true, told.as_str())
    });
}

/// How it was measured.
fn how(measured: &Measured) -> String {
    let speed = &measured.speed;
    let (threads, limits) = match &speed.reach {
        Some(reach) => (
            format!(" with {} threads", reach.threads),
            ", in turns with the limits",
        ),
        None => (String::new(), "; a device's limits are not measured here"),
    };
    let elsewhere = measured.elsewhere.as_deref().unwrap_or_default();
    format!(
        "The embedded model on the backend \"{}\"{threads}: {:.1} MB of weights, most of them {}. The best of {} turns of {} tokens read \
         and {} written{limits}, while the machine may have other things to do. {elsewhere}",
        speed.backend,
        speed.weight_bytes as f64 / 1e6,
        speed.dtype.name().to_lowercase(),
        speed.turns,
        speed.prompt,
        speed.tokens,
    )
}
