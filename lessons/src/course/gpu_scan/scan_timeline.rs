//! What a scan does when, as far as bytes and exponentials decide it: with the large tensors written to memory, fused, and as this
//! program's kernel has it in three launches. Counted, not measured.

use std::ops::{ControlFlow, RangeInclusive};

use egui::accesskit::Role;
use egui::{Align2, Color32, Rect, Sense, Stroke, TextStyle, Ui, WidgetInfo, pos2, vec2};
use mambascope_core::job::{JobError, Progress, Workshop};
use mambascope_core::study::Study;
use serde::{Deserialize, Serialize};

use super::operands::CHANNELS;
use super::own::{Cut, H200, SLOTS};
use crate::demo::{Around, Demo, Scene};
use crate::theme;
use crate::widgets::amounts::{bytes_text, count_text, short_text};
use crate::widgets::controls::{clamped, controls, log_slider, picture, slider};
use crate::widgets::number;
use crate::widgets::plots::{footnote, line_key, marks};

const TOKENS: RangeInclusive<usize> = 128..=65_536;
const MULTIPROCESSORS: RangeInclusive<usize> = 1..=160;
const BANDWIDTH: RangeInclusive<f64> = 0.1..=10.0;
/// Exponentials of a multiprocessor in a second: 16 a clock, at 1.98 GHz (`kernels/MEASURED.md`).
const EXPONENTIALS: f64 = 16.0 * 1.98e9;

/// The controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScanTimeline {
    tokens: usize,
    /// Of the device: how many exponentials it makes, and into how many segments the own kernel cuts a text.
    multiprocessors: usize,
    /// Terabytes a second.
    bandwidth: f64,
}

impl Default for ScanTimeline {
    fn default() -> Self {
        Self {
            tokens: 2048,
            multiprocessors: H200,
            // Of a copy on an H200 (`kernels/MEASURED.md`).
            bandwidth: 4.21,
        }
    }
}

/// One launch: what it moves and what it computes.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    name: &'static str,
    /// Values of four bytes.
    read: usize,
    written: usize,
    exponentials: usize,
}

/// A way to scan.
pub struct Lane {
    name: &'static str,
    launches: Vec<Launch>,
}

impl ScanTimeline {
    /// The three ways, for a layer of [`CHANNELS`] channels with [`SLOTS`] slots.
    fn lanes(&self) -> Vec<Lane> {
        let launch = |name, read, written, exponentials| Launch {
            name,
            read,
            written,
            exponentials,
        };
        let of_channels = self.tokens * CHANNELS;
        let of_slots = self.tokens * SLOTS;
        let of_states = of_channels * SLOTS;
        // The gate's SiLU takes two of the special functions, the step's softplus one.
        let (soft, gate) = (of_channels, 2 * of_channels);
        let plain = vec![
            // Δ and u and B; Ā and B̄u.
            launch(
                "discretise",
                2 * of_channels + of_slots,
                2 * of_states,
                of_states + soft,
            ),
            launch("scan", 2 * of_states, of_states, 0),
            // h and C, u and z; y.
            launch(
                "read out",
                of_states + of_slots + 2 * of_channels,
                of_channels,
                gate,
            ),
        ];
        let all = launch(
            "all at once",
            3 * of_channels + 2 * of_slots,
            of_channels,
            of_states + soft + gate,
        );
        let cut = Cut::new(self.tokens, self.multiprocessors);
        let before = cut.segments - 1;
        let (ahead, states) = (before * cut.segment, before * CHANNELS * SLOTS);
        // Of a segment: what it leaves, and the sum of its steps.
        let ends = launch(
            "ends",
            ahead * (2 * CHANNELS + SLOTS),
            states + before * CHANNELS,
            ahead * CHANNELS * (SLOTS + 1),
        );
        let carry = launch("carry", states + before * CHANNELS, states, states);
        let full = Launch {
            name: "full",
            read: all.read + states,
            ..all.clone()
        };
        let own = match before {
            0 => vec![full],
            _ => vec![ends, carry, full],
        };
        let lane = |name, launches| Lane { name, launches };
        vec![
            lane("The large tensors in memory", plain),
            lane("Fused, once through", vec![all]),
            lane("In segments, as v3 does", own),
        ]
    }

    /// Microseconds for so many values of four bytes.
    fn moving(&self, values: usize) -> f64 {
        (values * size_of::<f32>()) as f64 / (1e6 * self.bandwidth)
    }

    /// Microseconds for so many exponentials.
    fn computing(&self, exponentials: usize) -> f64 {
        exponentials as f64 / (self.multiprocessors as f64 * EXPONENTIALS) * 1e6
    }

    /// Microseconds of a launch that keeps the busier of memory and exponentials busy all the time, the other beside it.
    fn lasts(&self, launch: &Launch) -> f64 {
        let moving = self.moving(launch.read + launch.written);
        moving.max(self.computing(launch.exponentials))
    }

    fn total(&self, lane: &Lane) -> f64 {
        lane.launches.iter().map(|launch| self.lasts(launch)).sum()
    }
}

impl Study for ScanTimeline {
    type Answer = Vec<Lane>;

    fn compute(
        &self,
        _: &mut Workshop,
        _: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<Lane>, JobError> {
        Ok(self.lanes())
    }
}

impl Demo for ScanTimeline {
    const ID: &'static str = "scan-timeline";
    const TITLE: &'static str = "Where a scan's time would go";
    type Study = Self;

    fn study(&self, _: &Around) -> Option<Self> {
        Some(self.clone())
    }

    fn ui(&mut self, ui: &mut Ui, scene: &Scene<'_, Vec<Lane>>) {
        controls(ui, |ui| {
            log_slider(ui, "L, tokens", &mut self.tokens, TOKENS);
            slider(ui, "memory, TB/s", &mut self.bandwidth, BANDWIDTH);
            let most = MULTIPROCESSORS;
            slider(ui, "multiprocessors", &mut self.multiprocessors, most);
        });
        picture(ui, HEIGHT, |ui| {
            if let Some(lanes) = scene.answer {
                self.draw(ui, lanes);
            }
        });
        let weak = theme::palette(ui.visuals()).weak_text;
        footnote(
            ui,
            &format!(
                "Counted, not measured: bytes over the bandwidth, exponentials over their rate, one text, {} channels of {SLOTS} slots, \
                 f32. What caches save and other instructions add is left out; reading and writing go on together, and are drawn one after \
                 the other to show how much each is. The demo begins with the figures of an H200 in \
                 kernels/MEASURED.md: 4.21 TB/s, measured by a copy, and 16 exponentials a clock of 1.98 GHz and multiprocessor.",
                count_text(CHANNELS as f64)
            ),
            weak,
        );
    }

    fn clamp(&mut self) {
        self.tokens = self.tokens.clamp(*TOKENS.start(), *TOKENS.end());
        let (fewest, most) = MULTIPROCESSORS.into_inner();
        self.multiprocessors = self.multiprocessors.clamp(fewest, most);
        self.bandwidth = clamped(self.bandwidth, BANDWIDTH);
    }

    fn ends() -> Vec<Self> {
        let low = Self {
            tokens: *TOKENS.start(),
            multiprocessors: *MULTIPROCESSORS.start(),
            bandwidth: *BANDWIDTH.start(),
        };
        let high = Self {
            tokens: *TOKENS.end(),
            multiprocessors: *MULTIPROCESSORS.end(),
            bandwidth: *BANDWIDTH.end(),
        };
        vec![low, high]
    }

    fn live(&self, symbol: &str, _: Option<&Vec<Lane>>) -> Option<String> {
        match symbol {
            "L" => Some(self.tokens.to_string()),
            "N" => Some(SLOTS.to_string()),
            _ => None,
        }
    }
}

/// Heights of the key, of a lane, its bars, and of the axis.
const KEY: f32 = 26.0;
const LANE: f32 = 78.0;
const BAR: f32 = 16.0;
const TITLE: f32 = 22.0;
const AXIS: f32 = 40.0;
const HEIGHT: f32 = KEY + 3.0 * LANE + AXIS;
/// Room for the names of the bars.
const NAMES: f32 = 96.0;

impl ScanTimeline {
    fn draw(&self, ui: &mut Ui, lanes: &[Lane]) {
        let palette = theme::palette(ui.visuals());
        let [read, written, exponential, ..] = palette.series;
        let outer = ui.max_rect();
        let head = Rect::from_min_size(outer.min, vec2(outer.width(), KEY));
        let right = egui::Layout::right_to_left(egui::Align::Center);
        let mut line = ui.new_child(egui::UiBuilder::new().max_rect(head).layout(right));
        line_key(&mut line, exponential, "exponentials".to_owned());
        line_key(&mut line, written, "written".to_owned());
        line_key(&mut line, read, "read".to_owned());
        let totals = lanes.iter().map(|lane| self.total(lane));
        let longest = totals.fold(f64::MIN_POSITIVE, f64::max);
        let (left, width) = (outer.left() + NAMES, outer.width() - NAMES - 12.0);
        let x = |at: f64| left + width * (at / longest) as f32;
        let ground = outer.bottom() - AXIS;
        let small = TextStyle::Small.resolve(ui.style());
        let words = |at, anchor, text: &str, ink| {
            let painter = ui.painter();
            painter.text(at, anchor, text, small.clone(), ink)
        };
        for mark in marks((0.0, longest), 8.0, 0.0) {
            let stroke = Stroke::new(1.0, palette.border);
            // Not through the words over a lane.
            for i in 0..lanes.len() {
                let top = outer.top() + KEY + i as f32 * LANE;
                let reach = top + TITLE..=top + LANE;
                ui.painter().vline(x(mark.value), reach, stroke);
            }
            let text = number(mark.value as f32);
            let at = pos2(x(mark.value), ground + 4.0);
            words(at, Align2::CENTER_TOP, &text, palette.weak_text);
        }
        let at = pos2(left + width / 2.0, outer.bottom());
        words(
            at,
            Align2::CENTER_BOTTOM,
            "time (µs, counted)",
            palette.text,
        );
        for (i, lane) in lanes.iter().enumerate() {
            let top = outer.top() + KEY + i as f32 * LANE;
            let bytes: usize = lane.launches.iter().map(|it| it.read + it.written).sum();
            let bytes = bytes_text((bytes * size_of::<f32>()) as f64);
            let total = number(self.total(lane) as f32);
            let title = format!("{}: {total} µs, {bytes}", lane.name);
            let at = pos2(outer.left(), top + 10.0);
            words(at, Align2::LEFT_CENTER, &title, palette.text);
            let memory = top + TITLE;
            for (y, name) in [(memory, "memory"), (memory + BAR + 3.0, "exponentials")] {
                let at = pos2(outer.left(), y + BAR / 2.0);
                words(at, Align2::LEFT_CENTER, name, palette.weak_text);
            }
            self.bars(ui, lane, memory, &x);
        }
    }

    /// The launches of a way, one after the other from the height `memory` down; `x` is where a time stands.
    fn bars(&self, ui: &Ui, lane: &Lane, memory: f32, x: &dyn Fn(f64) -> f32) {
        let palette = theme::palette(ui.visuals());
        let [read, written, exponential, ..] = palette.series;
        let special = memory + BAR + 3.0;
        let block = |from: f64, lasts: f64, y: f32, colour: Color32| {
            let rect = Rect::from_min_max(pos2(x(from), y), pos2(x(from + lasts), y + BAR));
            ui.painter().rect_filled(rect, 1, colour);
        };
        let mut from = 0.0;
        for launch in &lane.launches {
            let until = from + self.lasts(launch);
            let (reading, writing) = (self.moving(launch.read), self.moving(launch.written));
            block(from, reading, memory, read);
            block(from + reading, writing, memory, written);
            let computing = self.computing(launch.exponentials);
            block(from, computing, special, exponential);
            let whole = Rect::from_min_max(pos2(x(from), memory), pos2(x(until), special + BAR));
            let stroke = Stroke::new(1.0, palette.weak_text);
            ui.painter().vline(whole.right(), whole.y_range(), stroke);
            self.name(ui, whole, launch);
            from = until;
        }
    }

    /// What a launch is, in words under it where there is room, and all of its numbers for the pointer.
    fn name(&self, ui: &Ui, room: Rect, launch: &Launch) {
        let palette = theme::palette(ui.visuals());
        let small = TextStyle::Small.resolve(ui.style());
        let text = launch.name.to_owned();
        let galley = ui.painter().layout_no_wrap(text, small, palette.weak_text);
        if galley.size().x < room.width() {
            let at = pos2(room.center().x - galley.size().x / 2.0, room.bottom());
            ui.painter().galley(at, galley, palette.weak_text);
        }
        let said = format!(
            "{}: reads {}, writes {}, {} exponentials, {} µs",
            launch.name,
            bytes_text((launch.read * size_of::<f32>()) as f64),
            bytes_text((launch.written * size_of::<f32>()) as f64),
            short_text(launch.exponentials as f64),
            number(self.lasts(launch) as f32)
        );
        let id = ui.unique_id().with((room.top() as i32, launch.name));
        let response = ui.interact(room, id, Sense::hover());
        response.widget_info(|| WidgetInfo::labeled(Role::Image, true, &said));
        response.on_hover_text(said);
    }
}

#[cfg(test)]
mod tests {
    use super::super::operands::{fused_bytes, materialised_bytes};
    use super::*;

    fn bytes(launches: &[Launch]) -> f64 {
        let values: usize = launches.iter().map(|it| it.read + it.written).sum();
        (values * size_of::<f32>()) as f64
    }

    #[test]
    fn the_bytes_are_those_of_the_page() {
        let demo = ScanTimeline::default();
        let lanes = demo.lanes();
        let (of_channels, of_slots) = fused_bytes(2048, CHANNELS, SLOTS);
        assert_eq!(bytes(&lanes[1].launches), of_channels + of_slots);
        // Two written, two read and one written, one read; and the operands beside them.
        let large = 6.0 * materialised_bytes(2048, CHANNELS, SLOTS);
        let operands = of_channels * 5.0 / 4.0 + of_slots;
        assert_eq!(bytes(&lanes[0].launches), large + operands);
    }

    #[test]
    fn the_floors_are_those_of_the_measured_file() {
        // Of 65,536 tokens on an H200: 383 µs of bytes and 457 of exponentials once, about 860 as the kernel has them.
        let demo = ScanTimeline {
            tokens: 65_536,
            ..ScanTimeline::default()
        };
        let lanes = demo.lanes();
        let once = &lanes[1].launches[0];
        assert!((demo.moving(once.read + once.written) - 383.0).abs() < 4.0);
        assert!((demo.computing(once.exponentials) - 457.0).abs() < 2.0);
        let own = lanes[2].launches.iter();
        let all: f64 = own.map(|it| demo.computing(it.exponentials)).sum();
        assert!((all - 860.0).abs() < 20.0, "{all}");
    }
}
