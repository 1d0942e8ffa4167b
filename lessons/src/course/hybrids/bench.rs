//! The bench: place the attention yourself, and read what it costs.

use std::ops::{ControlFlow, RangeInclusive};

use egui::{Grid, RichText, Ui, vec2};
use egui_plot::{GridMark, Line, Plot, VLine};
use mambascope_core::job::{JobError, Progress, Workshop};
use mambascope_core::study::Study;
use serde::{Deserialize, Serialize};

use super::cost::Cost;
use super::stack::{Feed, MOST_LAYERS, Maker, Mixer, Stack};
use super::strip::{feed_colour, mixer_colour, strip};
use crate::demo::{Around, Demo, Scene};
use crate::theme;
use crate::widgets::amounts::{bytes_text, count_text, power_text, short_text};
use crate::widgets::controls::{columns, controls, whole_log_slider};
use crate::widgets::plots::{footnote, line_key, log_axis, log_marks, marks, show_plot};

const CONTEXT: RangeInclusive<u64> = 1..=1_048_576;
const BATCH: RangeInclusive<u64> = 1..=256;
/// Points of a curve.
const POINTS: usize = 120;

/// The controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HybridBench {
    maker: Maker,
    layers: Stack,
    /// Tokens already read.
    context: u64,
    batch: u64,
}

impl Default for HybridBench {
    fn default() -> Self {
        Self {
            maker: Maker::Jamba,
            layers: Stack::jamba(),
            context: 262_144,
            batch: 1,
        }
    }
}

/// What the bills are computed from.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    maker: Maker,
    layers: Stack,
}

/// The bills of three stacks: this one, and the same with one mixer throughout.
pub struct Bills {
    own: Bill,
    all_attention: Bill,
    all_mamba: Bill,
}

/// The curves of a stack: points (log10 of tokens, log2 of bytes or log10 of multiplications).
struct Bill {
    memory: Vec<[f64; 2]>,
    work: Vec<[f64; 2]>,
}

impl Bill {
    fn of(layers: &Stack, maker: Maker) -> Self {
        let cost = Cost::of(layers, &maker.sizes());
        let last = (*CONTEXT.end() as f64).log10();
        let logs = || (0..=POINTS).map(|i| last * i as f64 / POINTS as f64);
        let memory = logs().map(|log| [log, cost.memory(10f64.powf(log)).max(1.0).log2()]);
        let work = logs().map(|log| [log, cost.decode_work(10f64.powf(log)).max(1.0).log10()]);
        Self {
            memory: memory.collect(),
            work: work.collect(),
        }
    }
}

impl Study for Layout {
    type Answer = Bills;

    fn compute(
        &self,
        _: &mut Workshop,
        _: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Bills, JobError> {
        let bill = |layers: &Stack| Bill::of(layers, self.maker);
        Ok(Bills {
            own: bill(&self.layers),
            all_attention: bill(&self.layers.with_all(Mixer::Attention)),
            all_mamba: bill(&self.layers.with_all(Mixer::Mamba)),
        })
    }
}

impl Demo for HybridBench {
    const ID: &'static str = "hybrid-bench";
    const TITLE: &'static str = "Place the attention yourself";
    type Study = Layout;

    fn study(&self, _: &Around) -> Option<Layout> {
        Some(Layout {
            maker: self.maker,
            layers: self.layers.clone(),
        })
    }

    fn ui(&mut self, ui: &mut Ui, scene: &Scene<'_, Bills>) {
        self.presets(ui);
        strip(ui, &mut self.layers);
        self.key(ui, scene.guess("jamba-attention"));
        controls(ui, |ui| {
            whole_log_slider(ui, "tokens of context", &mut self.context, CONTEXT);
            whole_log_slider(ui, "batch, texts", &mut self.batch, BATCH);
        });
        // Counted from the controls and not from the answer, so that text and strip never disagree: a few sums.
        let cost = Cost::of(&self.layers, &self.maker.sizes());
        self.readout(ui, &cost);
        columns(ui, 214.0, 2, |i, ui| match i {
            0 => self.memory_plot(ui, scene.answer),
            _ => self.work_plot(ui, scene.answer),
        });
        let weak = theme::palette(ui.visuals()).weak_text;
        footnote(ui, &self.small_print(), weak);
    }

    fn clamp(&mut self) {
        let range =
            |value: u64, range: RangeInclusive<u64>| value.clamp(*range.start(), *range.end());
        self.context = range(self.context, CONTEXT);
        self.batch = range(self.batch, BATCH);
        self.layers.0.truncate(MOST_LAYERS);
        if self.layers.0.is_empty() {
            self.layers = Stack::jamba();
        }
    }

    fn ends() -> Vec<Self> {
        let bench = |maker, layers, context, batch| Self {
            maker,
            layers,
            context,
            batch,
        };
        let mut nothing = Stack::jamba().with_all(Mixer::Mamba);
        for layer in &mut nothing.0 {
            layer.mixer = Mixer::None;
            layer.feed = Feed::None;
        }
        let mut long = Stack::nvidia().with_all(Mixer::Attention);
        while long.0.len() < MOST_LAYERS {
            long.0.extend(long.0.last().copied());
        }
        vec![
            bench(Maker::Jamba, nothing, *CONTEXT.start(), *BATCH.start()),
            bench(Maker::Nvidia, long, *CONTEXT.end(), *BATCH.end()),
            bench(Maker::Nvidia, Stack::nvidia(), 4096, 32),
        ]
    }

    fn live(&self, symbol: &str, _: Option<&Bills>) -> Option<String> {
        (symbol == "L").then(|| count_text(self.context as f64))
    }
}

impl HybridBench {
    /// Published layouts, and their two extremes.
    fn presets(&mut self, ui: &mut Ui) {
        controls(ui, |ui| {
            let presets = [
                ("Jamba v0.1", Maker::Jamba, Stack::jamba()),
                (
                    "Jamba, 1 of 4",
                    Maker::Jamba,
                    Stack::jamba_with(|i| i % 4 == 2),
                ),
                ("all Mamba", Maker::Jamba, Stack::jamba_with(|_| false)),
                ("all attention", Maker::Jamba, Stack::jamba_with(|_| true)),
                ("NVIDIA 43/7/50", Maker::Nvidia, Stack::nvidia()),
            ];
            for (name, maker, layers) in presets {
                let is_on = self.maker == maker && self.layers == layers;
                if ui.selectable_label(is_on, name).clicked() {
                    (self.maker, self.layers) = (maker, layers);
                }
            }
        });
    }

    /// How many layers of each kind there are, in its colour.
    fn key(&self, ui: &mut Ui, guess: Option<f64>) {
        let palette = theme::palette(ui.visuals());
        let count = |name: &str, found: usize| format!("{found} {name}");
        let entries = [
            (
                mixer_colour(Mixer::Mamba, palette),
                count("Mamba", self.layers.mixers(Mixer::Mamba)),
            ),
            (
                mixer_colour(Mixer::Attention, palette),
                count("attention", self.layers.mixers(Mixer::Attention)),
            ),
            (
                feed_colour(Feed::Mlp, palette),
                count("MLP", self.layers.feeds(Feed::Mlp)),
            ),
            (
                feed_colour(Feed::Experts, palette),
                count(
                    "MoE, 2 of 16 experts a token",
                    self.layers.feeds(Feed::Experts),
                ),
            ),
        ];
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = 6.0;
            for (colour, text) in entries {
                let (rect, _) = ui.allocate_exact_size(vec2(12.0, 12.0), egui::Sense::hover());
                ui.painter().rect_filled(rect, 2, colour);
                ui.label(RichText::new(text).small());
                ui.add_space(10.0);
            }
            if let Some(guess) = guess {
                let text = format!("your guess for Jamba: {} attention", count_text(guess));
                ui.label(RichText::new(text).small().color(palette.accent));
                ui.add_space(10.0);
            }
            let hint = "Click a half of a layer to change it.";
            ui.label(RichText::new(hint).small().color(palette.weak_text));
        });
    }

    /// All numbers at the chosen context.
    fn readout(&self, ui: &mut Ui, cost: &Cost) {
        let (tokens, batch) = (self.context as f64, self.batch as f64);
        let of_a_token = cost.decode_bytes(tokens, batch) / batch;
        let cells = [
            ("cache of a text", bytes_text(cost.cache(tokens))),
            ("weights", short_text(cost.weights)),
            (
                "multiplications, prefill",
                format!("{} a token", short_text(cost.prefill_work(tokens))),
            ),
            ("state of a text", bytes_text(cost.state)),
            ("weights a token uses", short_text(cost.active)),
            (
                "multiplications, decode",
                format!("{} a token", short_text(cost.decode_work(tokens))),
            ),
            ("cache of the batch", bytes_text(batch * cost.cache(tokens))),
            (
                "bytes moved, decode",
                format!("{} a token", bytes_text(of_a_token)),
            ),
            (
                "intensity of decode",
                format!("{:.1} operations a byte", cost.intensity(tokens, batch)),
            ),
        ];
        let weak = theme::palette(ui.visuals()).weak_text;
        Grid::new("bill")
            .num_columns(6)
            .spacing(vec2(14.0, 4.0))
            .show(ui, |ui| {
                for row in cells.chunks(3) {
                    for (name, value) in row {
                        ui.label(RichText::new(*name).small().color(weak));
                        ui.label(RichText::new(value).strong());
                    }
                    ui.end_row();
                }
            });
    }

    /// A plot of three stacks over the context, with a line where the numbers above are taken.
    fn over_context(
        &self,
        ui: &mut Ui,
        title: &'static str,
        plot: Plot<'_>,
        answer: Option<&Bills>,
        curve: impl Fn(&Bill) -> &Vec<[f64; 2]>,
    ) {
        let palette = theme::palette(ui.visuals());
        let [mamba, attention, own, ..] = palette.series;
        let key = |ui: &mut Ui| {
            line_key(ui, mamba, "all Mamba".to_owned());
            line_key(ui, attention, "all attention".to_owned());
            line_key(ui, own, "this stack".to_owned());
        };
        let tokens_axis = log_axis(ui, true, "tokens of context", |mark| {
            power_text(10f64.powf(mark))
        });
        let plot = plot
            .custom_x_axes(vec![tokens_axis])
            .x_grid_spacer(|input| log_marks(input.bounds))
            .allow_drag(false)
            .allow_zoom(false)
            .allow_double_click_reset(false);
        let here = (self.context as f64).log10();
        show_plot(ui, title, key, plot, |plot| {
            plot.vline(VLine::new("here", here).color(palette.weak_text).width(1.0));
            let Some(bills) = answer else { return };
            let lines = [
                ("all attention", &bills.all_attention, attention, 1.5),
                ("all Mamba", &bills.all_mamba, mamba, 1.5),
                ("this stack", &bills.own, own, 2.5),
            ];
            for (name, bill, colour, width) in lines {
                let line = Line::new(name, curve(bill).clone());
                plot.line(line.color(colour).width(width));
            }
        });
    }

    fn memory_plot(&self, ui: &mut Ui, answer: Option<&Bills>) {
        let axis = log_axis(ui, false, "bytes", |mark| bytes_text(mark.exp2()));
        let plot = Plot::new("memory of a text")
            .custom_y_axes(vec![axis])
            .y_grid_spacer(|input| marks(input.bounds, 5.0, 5.0));
        let title = "State and cache of a text";
        self.over_context(ui, title, plot, answer, |bill| &bill.memory);
    }

    fn work_plot(&self, ui: &mut Ui, answer: Option<&Bills>) {
        let axis = log_axis(ui, false, "multiplications", |mark| {
            short_text(10f64.powf(mark))
        });
        let plot = Plot::new("work of a token")
            .custom_y_axes(vec![axis])
            .y_grid_spacer(|input| one_two_five(input.bounds));
        let title = "Work of a written token";
        self.over_context(ui, title, plot, answer, |bill| &bill.work);
    }

    /// What is assumed.
    fn small_print(&self) -> String {
        let sizes = match self.maker {
            Maker::Jamba => {
                "Sizes of Jamba v0.1: width 4,096, 16 slots, 8 heads of keys and values."
            }
            Maker::Nvidia => {
                "Sizes of NVIDIA's 8B hybrid: width 4,096, 128 slots (Mamba-2), 8 heads of keys and values, the published order. \
                 Assumed: MLPs four times as wide, 256,000 tokens."
            }
        };
        format!(
            "{sizes} Cache and weights in f16, state in f32. Experts of a batch: the most that can be needed. Exact counts, not times."
        )
    }
}

/// Marks at 1, 2 and 5 times the powers of ten of a logarithmic axis; at the powers alone where there are many.
fn one_two_five((from, to): (f64, f64)) -> Vec<GridMark> {
    let power = |value: f64| (value.floor() as i32).clamp(-20, 40);
    let mut found = Vec::new();
    for power in power(from)..=power(to) {
        let factors: &[f64] = if to - from > 2.5 {
            &[1.0]
        } else {
            &[1.0, 2.0, 5.0]
        };
        for factor in factors {
            let value = f64::from(power) + factor.log10();
            if (from..=to).contains(&value) {
                found.push(GridMark {
                    value,
                    step_size: 1.0,
                });
            }
        }
    }
    found
}
