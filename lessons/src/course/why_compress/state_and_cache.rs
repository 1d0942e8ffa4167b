//! Two towers of bytes: what a state-space model remembers of a text, and what a Transformer of its class does.

use std::ops::RangeInclusive;

use egui::{Align2, Color32, ComboBox, Rect, RichText, Ui, UiBuilder, pos2};
use egui_plot::{Line, LineStyle, Plot, PlotPoint, PlotUi, Points, Text, VLine};
use serde::{Deserialize, Serialize};

use super::bill::{Asked, Bill, Parts, TOKENS, Towers};
use super::ledger::Stored;
use super::pairs::{PAIRS, PairId};
use super::towers::{Part, Tower, towers};
use crate::demo::{Around, Demo, Scene};
use crate::theme;
use crate::widgets::amounts::{bytes_text, count_text, ratio_text, tokens_text};
use crate::widgets::controls::{choice, controls, picture, slider, whole_log_slider};
use crate::widgets::formula::display_formula;
use crate::widgets::plots::{
    footnote, guess_key, line_key, log_axis, log_marks, marks, named_menu, show_plot,
};

const SLOTS: RangeInclusive<u64> = 1..=256;
const EXPAND: RangeInclusive<u64> = 1..=4;
const LAYERS: RangeInclusive<u64> = 1..=96;
const COLUMNS: RangeInclusive<u64> = 3..=4;
const BATCH: RangeInclusive<u64> = 1..=512;
/// Seconds between two steps of writing.
const BEAT: f64 = 1.0 / 12.0;
/// Tokens from which on a step is a share of them: the axis is logarithmic.
const ONE_BY_ONE: u64 = 200;

/// The controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StateAndCache {
    #[serde(flatten)]
    bill: Bill,
    /// Tokens at which the towers are drawn.
    tokens: u64,
}

impl Default for StateAndCache {
    fn default() -> Self {
        Self {
            bill: Bill::of(PairId::Mamba2800m),
            tokens: 40,
        }
    }
}

impl Demo for StateAndCache {
    const ID: &'static str = "state-and-cache";
    const TITLE: &'static str = "A state that stays, a cache that grows";
    type Study = Asked;

    fn study(&self, around: &Around) -> Option<Asked> {
        Some(Asked {
            bill: self.bill.clone(),
            backend: around.backend.clone(),
        })
    }

    fn ui(&mut self, ui: &mut Ui, scene: &Scene<'_, Towers>) {
        self.choices(ui);
        controls(ui, |ui| {
            let bill = &mut self.bill;
            whole_log_slider(ui, "tokens", &mut self.tokens, TOKENS);
            whole_log_slider(ui, "batch, texts", &mut bill.batch, BATCH);
            slider(ui, "N, slots", &mut bill.slots, SLOTS);
            slider(ui, "expand", &mut bill.expand, EXPAND);
            slider(ui, "layers", &mut bill.layers, LAYERS);
            let most = bill.layers;
            slider(ui, "of them attention", &mut bill.attention, 0..=most);
        });
        let parts = self.bill.parts();
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = 24.0;
            display_formula(ui, &self.division(&parts));
            ui.vertical(|ui| {
                ui.add_space(6.0);
                ui.horizontal(|ui| {
                    ui.spacing_mut().item_spacing.x = 8.0;
                    self.write(ui);
                    self.go_to_the_crossing(ui, &parts);
                });
            });
        });
        picture(ui, 300.0, |ui| {
            let all = ui.max_rect();
            let cut = all.left() + 0.62 * all.width();
            let mut room = |from: f32, to: f32| {
                let rect = Rect::from_min_max(pos2(from, all.top()), pos2(to, all.bottom()));
                ui.new_child(UiBuilder::new().max_rect(rect))
            };
            let (mut left, mut right) = (room(all.left(), cut), room(cut + 24.0, all.right()));
            self.plot(&mut left, scene);
            self.towers(&mut right, &parts);
        });
        let weak = theme::palette(ui.visuals()).weak_text;
        footnote(ui, &self.small_print(scene.answer), weak);
    }

    fn clamp(&mut self) {
        let range =
            |value: u64, range: RangeInclusive<u64>| value.clamp(*range.start(), *range.end());
        self.tokens = range(self.tokens, TOKENS);
        let bill = &mut self.bill;
        bill.slots = range(bill.slots, SLOTS);
        bill.expand = range(bill.expand, EXPAND);
        bill.layers = range(bill.layers, LAYERS);
        bill.attention = bill.attention.min(bill.layers);
        bill.columns = range(bill.columns, COLUMNS);
        bill.batch = range(bill.batch, BATCH);
    }

    fn ends() -> Vec<Self> {
        let low = Bill {
            pair: PairId::Mamba130m,
            slots: *SLOTS.start(),
            expand: *EXPAND.start(),
            layers: *LAYERS.start(),
            attention: *LAYERS.start(),
            state: Stored::F16,
            cache: Stored::F32,
            columns: *COLUMNS.end(),
            batch: *BATCH.start(),
        };
        let high = Bill {
            pair: PairId::Codestral,
            slots: *SLOTS.end(),
            expand: *EXPAND.end(),
            layers: *LAYERS.end(),
            attention: 0,
            batch: *BATCH.end(),
            ..Bill::of(PairId::Codestral)
        };
        let with = |bill, tokens| Self { bill, tokens };
        vec![
            with(low, *TOKENS.start()),
            with(high, *TOKENS.end()),
            with(Bill::of(PairId::Own), 64),
            with(Bill::of(PairId::Jamba), 262_144),
        ]
    }

    fn live(&self, symbol: &str, _: Option<&Towers>) -> Option<String> {
        match symbol {
            "N" => Some(self.bill.slots.to_string()),
            "L" => Some(self.tokens.to_string()),
            _ => None,
        }
    }
}

impl StateAndCache {
    /// The pair, and how values are stored.
    fn choices(&mut self, ui: &mut Ui) {
        controls(ui, |ui| {
            let mut chosen = self.bill.pair;
            let pair = chosen.pair();
            let menu = ComboBox::from_id_salt("pair")
                .width(270.0)
                .selected_text(format!("{} against {}", pair.model, pair.other))
                .show_ui(ui, |ui| {
                    for pair in &PAIRS {
                        let name = format!("{} against {}", pair.model, pair.other);
                        ui.selectable_value(&mut chosen, pair.id, name);
                    }
                });
            named_menu(&menu.response, "Pair of models");
            if chosen != self.bill.pair {
                self.bill = Bill::of(chosen);
            }
            let stored = [(Stored::F32, "f32"), (Stored::F16, "f16")];
            choice(ui, "state", &mut self.bill.state, &stored);
            choice(ui, "cache", &mut self.bill.cache, &stored);
            let columns = [(3, "3"), (4, "4")];
            choice(ui, "window columns", &mut self.bill.columns, &columns);
        });
    }

    /// Writes on while it runs, token by token; off until the button is pressed.
    fn write(&mut self, ui: &mut Ui) {
        let last = *TOKENS.end();
        let id = ui.make_persistent_id("writing");
        // When the next token is due; none while nothing is written.
        let mut due: Option<f64> = ui.data(|data| data.get_temp(id)).flatten();
        let now = ui.input(|input| input.time);
        let name = if due.is_some() { "Pause" } else { "Write" };
        let told =
            format!("One token after the other; from {ONE_BY_ONE} on, one per cent more at a time");
        if ui.button(name).on_hover_text(told).clicked() {
            due = if due.is_some() { None } else { Some(now) };
            if self.tokens >= last {
                self.tokens = *TOKENS.start();
            }
        }
        if ui.button("To the start").clicked() {
            self.tokens = *TOKENS.start();
        }
        if due.is_some_and(|due| now >= due) {
            self.tokens = after(self.tokens).min(last);
            due = (self.tokens < last).then_some(now + BEAT);
        }
        if due.is_some() {
            ui.request_repaint_after_secs(BEAT as f32);
        }
        ui.data_mut(|data| data.insert_temp(id, due));
    }

    fn go_to_the_crossing(&mut self, ui: &mut Ui, parts: &Parts) {
        let crossing = parts.crossing();
        let button = egui::Button::new("Go to the crossing");
        let there = ui.add_enabled(crossing.is_some(), button);
        if let (true, Some(crossing)) = (there.clicked(), crossing) {
            self.tokens = (crossing.ceil() as u64).clamp(*TOKENS.start(), *TOKENS.end());
        }
    }

    /// The division whose result is the crossing, with its numbers.
    fn division(&self, parts: &Parts) -> String {
        let said = |bytes: f64| bytes_text(bytes).replace(' ', r"\ ");
        let state = said(parts.state());
        let mut below = format!(r"\text{{{}}}", said(parts.cache_of_a_token));
        if parts.own_of_a_token > 0.0 {
            below += &format!(r" - \text{{{}}}", said(parts.own_of_a_token));
        }
        let result = parts
            .crossing()
            .map_or(r"\text{they never cross}".to_owned(), |tokens| {
                format!(r"{} \text{{ tokens}}", tokens_text(tokens))
            });
        format!(
            r"\frac{{\text{{state}}}}{{\text{{what a token adds}}}} = \frac{{\text{{{state}}}}}{{{below}}} = {result}"
        )
    }

    fn plot(&self, ui: &mut Ui, scene: &Scene<'_, Towers>) {
        let palette = theme::palette(ui.visuals());
        let [state, cache, ..] = palette.series;
        let pair = self.bill.pair.pair();
        // The question is of published models, not of those in this program.
        let is_asked = self.bill.pair != PairId::Own;
        let guess = scene.guess("crossing-2-8b");
        let guess = guess.filter(|&guess| is_asked && guess >= 1.0);
        let key = |ui: &mut Ui| {
            if guess.is_some() {
                guess_key(ui);
            }
            if scene
                .answer
                .is_some_and(|answer| !answer.measured.is_empty())
            {
                line_key(ui, palette.text, "measured (dots)".to_owned());
            }
            line_key(ui, cache, pair.other.to_owned());
            line_key(ui, state, pair.model.to_owned());
        };
        let tokens_axis = log_axis(ui, true, "tokens read", |mark| count_text(10f64.powf(mark)));
        let bytes_axis = log_axis(ui, false, "bytes kept", |mark| bytes_text(mark.exp2()));
        let plot = Plot::new("towers over tokens")
            .custom_x_axes(vec![tokens_axis])
            .x_grid_spacer(|input| log_marks(input.bounds))
            .custom_y_axes(vec![bytes_axis])
            .y_grid_spacer(|input| marks(input.bounds, 6.0, 5.0))
            .allow_drag(false)
            .allow_zoom(false)
            .allow_double_click_reset(false);
        let answer = scene.answer;
        let tokens = self.tokens as f64;
        show_plot(ui, "Bytes over tokens", key, plot, |plot| {
            if let Some(guess) = guess {
                let line = VLine::new("your guess", guess.log10()).color(palette.accent);
                plot.vline(line.style(LineStyle::dashed_loose()));
            }
            let here = VLine::new("the towers", tokens.log10()).color(palette.weak_text);
            plot.vline(here.width(1.0));
            let Some(answer) = answer else { return };
            plot.line(
                Line::new(pair.model, answer.model.clone())
                    .color(state)
                    .width(2.0),
            );
            plot.line(
                Line::new(pair.other, answer.cache.clone())
                    .color(cache)
                    .width(2.0),
            );
            if !answer.measured.is_empty() {
                let dots = Points::new("measured", answer.measured.clone());
                plot.points(dots.color(palette.text).radius(3.0));
            }
            crossing_mark(plot, answer, palette.accent);
        });
    }

    fn towers(&self, ui: &mut Ui, parts: &Parts) {
        let palette = theme::palette(ui.visuals());
        let [state, cache, _, _, window, ..] = palette.series;
        let tokens = self.tokens as f64;
        let pair = self.bill.pair.pair();
        let title = match self.tokens {
            1 => "After 1 token".to_owned(),
            _ => format!("After {} tokens", count_text(tokens)),
        };
        let part = |name, bytes, colour| Part {
            name,
            bytes,
            colour,
        };
        towers(
            ui,
            &title,
            parts.state(),
            &[
                Tower {
                    name: pair.model,
                    parts: vec![
                        part("hidden states", parts.hidden, state),
                        part("windows", parts.windows, window),
                        part("cache", parts.own_of_a_token * tokens, cache),
                    ],
                },
                Tower {
                    name: pair.other,
                    parts: vec![part("cache", parts.cache_of_a_token * tokens, cache)],
                },
            ],
        );
    }

    /// How alike the two are, and what a decoded token moves.
    fn small_print(&self, answer: Option<&Towers>) -> String {
        let likeness = self.bill.pair.pair().likeness;
        let measured = answer.and_then(|answer| answer.measured_on.as_deref());
        let measured = measured.map_or(String::new(), |on| format!(" {on}"));
        let weights = answer.and_then(|answer| Some((answer.weights?, answer.parts)));
        let Some((weights, parts)) = weights else {
            return format!("The pair: {likeness}.{measured}\n ");
        };
        let moved = 2.0 * parts.hidden;
        format!(
            "The pair: {likeness}.{measured}\nA step of decoding reads the layers' weights, {} in f16, once for the batch; it reads and \
             writes its hidden states, {}: {} times as much.",
            bytes_text(weights),
            bytes_text(moved),
            ratio_text(moved / weights),
        )
    }
}

/// Tokens one step of writing later.
fn after(tokens: u64) -> u64 {
    tokens + (tokens / 100 * u64::from(tokens >= ONE_BY_ONE)).max(1)
}

/// The point where both curves meet, with its tokens.
fn crossing_mark(plot: &mut PlotUi<'_>, answer: &Towers, colour: Color32) {
    let Some(tokens) = answer.crossing.filter(|&tokens| tokens >= 1.0) else {
        return;
    };
    let height = (answer.parts.cache_of_a_token * tokens).max(1.0).log2();
    let at = PlotPoint::new(tokens.log10(), height);
    let dot = Points::new("crossing", vec![[at.x, at.y]]);
    plot.points(dot.color(colour).radius(5.0));
    let name = RichText::new(format!("  {} tokens", tokens_text(tokens))).strong();
    let mark = Text::new("crossing", at, name).color(colour);
    plot.text(mark.anchor(Align2::LEFT_TOP));
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use egui_kittest::Harness;
    use egui_kittest::kittest::Queryable as _;

    use super::*;

    #[test]
    fn writing_is_one_token_at_a_time_at_first() {
        assert_eq!([1, 199, 200, 5000].map(after), [2, 200, 202, 5050]);
    }

    #[test]
    fn the_text_is_written_only_while_it_is_asked_for() {
        let demo = Rc::new(RefCell::new(StateAndCache::default()));
        let shown = Rc::clone(&demo);
        let mut harness = Harness::builder()
            .with_size([920.0, 900.0])
            .with_step_dt(0.1)
            .build_ui(move |ui| {
                let around = Around::default();
                let scene = Scene {
                    answer: None,
                    guesses: &[],
                    around: &around,
                };
                shown.borrow_mut().ui(ui, &scene);
            });
        let tokens = || demo.borrow().tokens;
        harness.run_steps(5);
        assert_eq!(tokens(), 40);
        harness.get_by_label("Write").click();
        harness.run_steps(10);
        let written = tokens();
        assert!((45..=51).contains(&written), "{written}");
        harness.get_by_label("Pause").click();
        harness.run_steps(2);
        let paused = tokens();
        harness.run_steps(5);
        assert_eq!(tokens(), paused);
        harness.get_by_label("To the start").click();
        harness.run_steps(2);
        assert_eq!(tokens(), 1);
    }
}
