//! The lanes in numbers, and in what they wrote.

use egui::{Align, Grid, Label, Layout, RichText, ScrollArea, TextWrapMode, Ui};
use mambascope_core::compare::{Compared, Lane};
use mambascope_core::model::{Config, MixerDims};
use mambascope_lessons::widgets::number;

use super::{ComparePage, colour, lane_name};
use crate::window::palette;
use crate::window::scope::{bytes_text, count_text};

/// A column of the table: its name, what it says, and its text for a lane.
struct Column {
    name: &'static str,
    meaning: &'static str,
    text: fn(&Lane) -> String,
    is_timing: bool,
}

const COLUMNS: [Column; 9] = [
    Column {
        name: "parameters",
        meaning: "Weights, a tied head counted once. The siblings differ by up to 43 %.",
        text: |lane| count_text(lane.model.parameters()),
        is_timing: false,
    },
    Column {
        name: "tokens",
        meaning: "Tokens of the text that were predicted: all but the first.",
        text: |lane| lane.total().tokens.to_string(),
        is_timing: false,
    },
    Column {
        name: "nats",
        meaning: "−ln p of all predicted tokens together.",
        text: |lane| format!("{:.1}", lane.total().nats),
        is_timing: false,
    },
    Column {
        name: "nats a token",
        meaning: "Their mean; can be compared between models that cut the text into the same tokens.",
        text: |lane| known(lane.total().nats_a_token()),
        is_timing: false,
    },
    Column {
        name: "bits a byte",
        meaning: "The same in bits, over the bytes the predicted tokens stand for; can be compared between any models.",
        text: |lane| known(lane.total().bits_a_byte()),
        is_timing: false,
    },
    Column {
        name: "state",
        meaning: "Bytes of hidden states and convolution windows, in the session's own buffers. They do not grow.",
        text: |lane| {
            let bytes = lane
                .points
                .last()
                .map(|point| point.state.ssm + point.state.conv);
            bytes_text(bytes.unwrap_or(0) as u64)
        },
        is_timing: false,
    },
    Column {
        name: "keys, values",
        meaning: "Bytes of cached keys and values, in the session's own buffers. They grow with every token.",
        text: |lane| bytes_text(lane.points.last().map_or(0, |point| point.state.kv) as u64),
        is_timing: false,
    },
    Column {
        name: "by formula",
        meaning: "What the sizes say of both: layers, channels, slots and taps (or heads' widths), four bytes each; T is the number of tokens.",
        text: |lane| formula(&lane.model.config),
        is_timing: false,
    },
    Column {
        name: "tokens/s",
        meaning: "By the median time of the last 32 tokens, read one by one, with attention recorded.",
        text: |lane| {
            let pace = lane.pace(32).filter(|pace| !pace.is_zero());
            pace.map_or_else(
                || "–".to_owned(),
                |pace| format!("{:.0}", 1.0 / pace.as_secs_f64()),
            )
        },
        is_timing: true,
    },
];

fn known(value: f64) -> String {
    if value.is_finite() {
        format!("{value:.3}")
    } else {
        "–".to_owned()
    }
}

impl ComparePage {
    pub(super) fn table(&self, ui: &mut Ui, compared: &Compared, hide_timings: bool) {
        let columns = || {
            COLUMNS
                .iter()
                .filter(|column| !(column.is_timing && hide_timings))
        };
        ScrollArea::horizontal().id_salt("lanes").show(ui, |ui| {
            Grid::new("lanes").spacing([18.0, 6.0]).show(ui, |ui| {
                let weak = palette(ui).weak_text;
                ui.label(RichText::new("model").color(weak));
                for column in columns() {
                    right(ui, RichText::new(column.name).color(weak), column.meaning);
                }
                ui.end_row();
                for (i, lane) in compared.lanes.iter().enumerate() {
                    ui.horizontal(|ui| {
                        dot(ui, self.colour(ui, &lane.model));
                        ui.label(RichText::new(lane_name(&compared.lanes, i)).strong());
                    });
                    for column in columns() {
                        right(ui, RichText::new((column.text)(lane)), column.meaning);
                    }
                    ui.end_row();
                }
            });
        });
        if !compared.same_tokens {
            let text = "These models cut the text into different tokens, so nats a token cannot be compared: bits a byte can.";
            ui.label(RichText::new(text).color(palette(ui).warning));
        }
        for lane in compared
            .lanes
            .iter()
            .filter(|lane| lane.model.tokenizer.is_none())
        {
            let text = format!(
                "{} has no tokenizer: its tokens stand for no bytes, so beside other tokens its loss cannot be drawn.",
                lane.model.name
            );
            ui.label(RichText::new(text).color(palette(ui).warning));
        }
        if compared.cancelled {
            ui.label(RichText::new("Stopped before the end.").color(palette(ui).warning));
        }
    }
}

fn right(ui: &mut Ui, text: RichText, meaning: &str) {
    ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
        ui.add(Label::new(text).wrap_mode(TextWrapMode::Extend))
            .on_hover_text(meaning);
    });
}

/// A dot in the colour of a place.
pub(super) fn swatch(ui: &mut Ui, place: usize) {
    dot(ui, colour(ui, place));
}

fn dot(ui: &mut Ui, colour: egui::Color32) {
    let (rect, _) = ui.allocate_exact_size(egui::vec2(10.0, 10.0), egui::Sense::hover());
    ui.painter().circle_filled(rect.center(), 5.0, colour);
}

/// The bytes of a model's state as its sizes multiply, layers of a kind together: "6·512·(16 + 4)·4 B", with T for tokens.
fn formula(config: &Config) -> String {
    let mut kinds: Vec<(MixerDims, usize)> = Vec::new();
    for block in &config.blocks {
        match kinds.iter_mut().find(|(kind, _)| *kind == block.mixer) {
            Some((_, count)) => *count += 1,
            None => kinds.push((block.mixer, 1)),
        }
    }
    let text = |(kind, count): (MixerDims, usize)| match (kind.recurrent(), kind.attention()) {
        (Some(dims), _) if dims.conv_channels == dims.d_inner => {
            format!(
                "{count}·{}·({} + {})·4 B",
                dims.d_inner, dims.d_state, dims.d_conv
            )
        }
        (Some(dims), _) => format!(
            "{count}·({}·{} + {}·{})·4 B",
            dims.d_inner, dims.d_state, dims.conv_channels, dims.d_conv
        ),
        (None, Some(dims)) => format!("{count}·2·{}·T·4 B", dims.kv_width()),
        (None, None) => String::new(),
    };
    kinds.into_iter().map(text).collect::<Vec<_>>().join(" + ")
}

impl ComparePage {
    /// What each lane wrote after the text.
    pub(super) fn texts(&self, ui: &mut Ui, compared: &Compared) {
        ui.label("Written after the text");
        ui.add_space(4.0);
        if compared
            .lanes
            .iter()
            .all(|lane| lane.points.len() <= lane.given)
        {
            let text = "Nothing: raise “tokens each writes” and press Run, and each model goes on in its own words.";
            ui.label(RichText::new(text).color(palette(ui).weak_text));
            return;
        }
        ScrollArea::vertical()
            .id_salt("texts")
            .auto_shrink(false)
            .show(ui, |ui| {
                for (i, lane) in compared.lanes.iter().enumerate() {
                    ui.horizontal(|ui| {
                        dot(ui, self.colour(ui, &lane.model));
                        ui.label(RichText::new(lane_name(&compared.lanes, i)).strong());
                        let nats: Vec<f32> = lane
                            .points
                            .iter()
                            .skip(lane.given)
                            .filter_map(|point| point.nats)
                            .collect();
                        if !nats.is_empty() {
                            let mean = nats.iter().sum::<f32>() / nats.len() as f32;
                            let text = format!("{} nats a token of its own", number(mean));
                            ui.label(RichText::new(text).small().color(palette(ui).weak_text));
                        }
                    });
                    ui.label(lane.written().trim_start());
                    ui.add_space(8.0);
                }
            });
    }
}
