//! A drill: numbers from a seed that is shown, an answer that is checked by computing, the calculation.

use egui::{Key, RichText, Ui};
use egui_plot::{AxisHints, Line, Plot, PlotPoint, PlotPoints, Points};

use super::PracticeRequest;
use super::desk::{Desk, Extra, lesson_title};
use super::parts::{
    Stopwatch, card, confidence, describe, done_keys, free_key, heading, keys_are_free, kicker,
    lines, main_button, rating, small,
};
use super::record::Logged;
use crate::practice::drill::{
    CodeTask, CurveTask, Drill, DrillEntry, DrillError, Outcome, Response, Task,
};
use crate::practice::mock;
use crate::practice::schedule::{Evidence, Grade};
use crate::theme;
use crate::widgets::controls::picture;
use crate::widgets::plots::{axis, line_key, marks, show_plot, value_axis, value_marks};

/// Seeds are short enough to be told.
const SEEDS: u64 = 100_000;

/// What has been entered.
#[derive(Clone, Debug, Default)]
struct Sheet {
    number: String,
    curve: Vec<f64>,
    fields: Vec<String>,
}

impl Sheet {
    fn of(drill: &Drill) -> Self {
        let mut sheet = Self::default();
        match &drill.task {
            Task::Number(_) => {}
            Task::Curve(task) => {
                let middle = 0.5 * (task.y_range[0] + task.y_range[1]);
                sheet.curve = vec![middle; task.x.len()];
            }
            Task::Code(task) => {
                let fields = task.fields.iter();
                sheet.fields = fields.map(|field| field.start.to_owned()).collect();
            }
        }
        sheet
    }

    /// What is entered, once it can be checked.
    fn response(&self, task: &Task) -> Option<Response> {
        match task {
            Task::Number(_) => read_number(&self.number).map(Response::Number),
            Task::Curve(_) => Some(Response::Curve(self.curve.clone())),
            Task::Code(_) => {
                let is_full = self.fields.iter().all(|field| !field.trim().is_empty());
                is_full.then(|| Response::Code(self.fields.clone()))
            }
        }
    }
}

fn read_number(text: &str) -> Option<f64> {
    let text = text.trim().replace('−', "-").replace([',', ' '], "");
    let value: f64 = text.parse().ok()?;
    value.is_finite().then_some(value)
}

/// What a terminal shows and the window's fonts lack, as formulas.
fn typeset(text: &str) -> String {
    text.replace("Āᵏ⁺¹", r"$\bar A^{k+1}$")
        .replace("B\u{304}", r"$\bar B$")
        .replace('ᵏ', "$^k$")
        .replace('ⁿ', "$^n$")
}

/// A drill's title in plain text: no font has the bar over the B.
pub(super) fn title(entry: &DrillEntry) -> String {
    entry.title.replace("B\u{304}", "B-bar")
}

/// What is kept of a response in the log.
fn written(response: &Response) -> String {
    match response {
        Response::Number(value) => value.to_string(),
        Response::Curve(curve) => {
            let values = curve.iter().map(|value| format!("{value:.3}"));
            values.collect::<Vec<_>>().join(" ")
        }
        Response::Code(fields) => fields.join("; "),
    }
}

/// An attempt at a drill.
pub(super) struct DrillAttempt {
    entry: &'static DrillEntry,
    drill: Result<Drill, DrillError>,
    seed: u64,
    sheet: Sheet,
    watch: Stopwatch,
    confidence: Option<f64>,
    outcome: Option<Result<Outcome, DrillError>>,
    logged: Option<Logged>,
}

impl DrillAttempt {
    pub(super) fn new(entry: &'static DrillEntry, now: i64) -> Self {
        let seed = now.unsigned_abs() % SEEDS;
        Self::with_seed(entry, seed, now)
    }

    fn with_seed(entry: &'static DrillEntry, seed: u64, now: i64) -> Self {
        let drill = entry.draw(seed);
        Self {
            entry,
            sheet: drill.as_ref().map(Sheet::of).unwrap_or_default(),
            drill,
            seed,
            watch: Stopwatch::new(now),
            confidence: None,
            outcome: None,
            logged: None,
        }
    }

    /// Out of sight: its time does not run.
    pub(super) fn pause(&mut self, now: i64) {
        self.watch.pause(now);
    }

    /// Whether it has been checked and counted.
    pub(super) fn is_logged(&self) -> bool {
        self.logged.is_some()
    }

    /// Which numbers are drawn.
    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    fn redraw(&mut self, seed: u64, now: i64) {
        *self = Self::with_seed(self.entry, seed % SEEDS, now);
    }

    /// Checks what is entered; the first check of these numbers counts.
    fn check(&mut self, desk: &mut Desk<'_>) {
        let Ok(drill) = &self.drill else { return };
        let Some(response) = self.sheet.response(&drill.task) else {
            return;
        };
        let outcome = drill.check(&response);
        if let (Ok(outcome), None) = (&outcome, &self.logged) {
            let evidence = Evidence {
                grade: if outcome.correct {
                    Grade::Right
                } else {
                    Grade::Wrong
                },
                seconds: self.watch.read(desk.now),
                expected_seconds: f64::from(mock::seconds(drill.level)),
                confidence: self.confidence,
            };
            let extra = Extra {
                correct: outcome.correct,
                rating: None,
                seed: Some(self.seed),
                answer: Some(written(&response)),
            };
            self.logged = Some(desk.log(drill.id, evidence, extra));
        }
        self.outcome = Some(outcome);
    }

    /// The bar under the drill. Gives the answer when the learner goes on.
    pub(super) fn actions(&mut self, ui: &mut Ui, desk: &mut Desk<'_>) -> Option<Logged> {
        self.watch.go_on(desk.now);
        let ready = match &self.drill {
            Ok(drill) => self.sheet.response(&drill.task).is_some(),
            Err(_) => false,
        };
        let mut goes_on = false;
        ui.horizontal_wrapped(|ui| {
            let Some(logged) = &mut self.logged else {
                let pressed = main_button(ui, ready, "Check");
                small(ui, "Enter. The first check of these numbers counts.");
                let entered = keys_are_free(ui) && ui.input(|input| input.key_pressed(Key::Enter));
                if ready && (pressed || entered || done_keys(ui)) {
                    self.check(desk);
                    ui.ctx().request_repaint();
                }
                return;
            };
            goes_on = main_button(ui, true, "Go on") || free_key(ui, Key::Space);
            small(ui, "Comes back in:");
            let preview = desk.record.preview(&logged.before, logged.review.at);
            if let Some(chosen) = rating(ui, preview, logged.review.rating) {
                desk.record.correct(&mut logged.review, chosen);
                goes_on = true;
            }
        });
        if goes_on { self.logged.clone() } else { None }
    }

    /// The task, what is entered, and what the check says.
    pub(super) fn body(&mut self, ui: &mut Ui, desk: &mut Desk<'_>) {
        card(ui, |ui| self.task(ui, desk));
        if self.outcome.is_some() {
            card(ui, |ui| self.feedback(ui, desk));
        }
    }

    fn task(&mut self, ui: &mut Ui, desk: &mut Desk<'_>) {
        let entry = self.entry;
        kicker(ui, &describe("Drill", entry.level, entry.topic));
        ui.label(RichText::new(title(entry)).strong().size(17.0));
        self.numbers(ui, desk);
        ui.add_space(4.0);
        let drill = match &self.drill {
            Ok(drill) => drill,
            Err(error) => {
                ui.colored_label(theme::palette(ui.visuals()).error, error.to_string());
                return;
            }
        };
        lines(ui, |ui| desk.texts.show(ui, &typeset(&drill.text)));
        ui.add_space(8.0);
        let is_checked = self.outcome.is_some();
        let entered = match &drill.task {
            Task::Number(task) => number_ui(ui, task.unit, &mut self.sheet),
            Task::Curve(task) => {
                curve_ui(ui, task, &mut self.sheet, is_checked);
                false
            }
            Task::Code(task) => code_ui(ui, task, &mut self.sheet),
        };
        ui.add_space(4.0);
        if self.logged.is_none() {
            confidence(ui, 0.0, &mut self.confidence);
        } else if ui.button("Check again").clicked() {
            self.check(desk);
        }
        if entered {
            self.check(desk);
        }
    }

    /// Which numbers these are, and others.
    fn numbers(&mut self, ui: &mut Ui, desk: &Desk<'_>) {
        ui.horizontal(|ui| {
            let label = small(ui, "Numbers of seed");
            let mut seed = self.seed;
            let field = egui::DragValue::new(&mut seed).range(0..=SEEDS - 1);
            let field = ui.add(field).labelled_by(label.id);
            let tip = "The same seed draws the same numbers";
            if field.on_hover_text(tip).changed() && seed != self.seed {
                self.redraw(seed, desk.now);
            }
            if ui.button("New numbers").clicked() {
                self.redraw(self.seed + 1, desk.now);
            }
        });
    }

    fn feedback(&mut self, ui: &mut Ui, desk: &mut Desk<'_>) {
        let palette = theme::palette(ui.visuals());
        match &self.outcome {
            None => {}
            Some(Err(error)) => {
                ui.colored_label(
                    palette.warning,
                    format!("This cannot be checked yet: {error}."),
                );
            }
            Some(Ok(outcome)) => {
                let colour = if outcome.correct {
                    palette.accent
                } else {
                    palette.warning
                };
                ui.label(RichText::new(&outcome.feedback).strong().color(colour));
                if let Ok(drill) = &self.drill {
                    heading(ui, "The calculation");
                    lines(ui, |ui| desk.texts.show(ui, &typeset(&drill.working)));
                }
                ui.add_space(6.0);
                let lesson = format!("Read the lesson: {}", lesson_title(self.entry.lesson));
                if ui.button(lesson).clicked() {
                    let lesson = self.entry.lesson.to_owned();
                    desk.requests.push(PracticeRequest::Lesson(lesson));
                }
            }
        }
    }
}

/// A field for a number; whether Enter was pressed in it.
fn number_ui(ui: &mut Ui, unit: &str, sheet: &mut Sheet) -> bool {
    ui.horizontal(|ui| {
        let label = ui.label("Your number");
        let field = egui::TextEdit::singleline(&mut sheet.number)
            .desired_width(160.0)
            .hint_text("a number");
        let edit = ui.add(field).labelled_by(label.id);
        ui.label(unit);
        edit.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter))
    })
    .inner
}

/// Fields for formulas; whether Enter was pressed in the last.
fn code_ui(ui: &mut Ui, task: &CodeTask, sheet: &mut Sheet) -> bool {
    let mut entered = false;
    let last = task.fields.len().saturating_sub(1);
    egui::Grid::new("formulas")
        .num_columns(2)
        .spacing([10.0, 6.0])
        .show(ui, |ui| {
            for (i, (field, text)) in task.fields.iter().zip(&mut sheet.fields).enumerate() {
                let label = ui.label(format!("{} =", field.label));
                let edit = egui::TextEdit::singleline(text)
                    .font(egui::TextStyle::Monospace)
                    .desired_width(460.0)
                    .hint_text("a formula");
                let edit = ui.add(edit).labelled_by(label.id);
                let enter = ui.input(|input| input.key_pressed(Key::Enter));
                entered |= i == last && edit.lost_focus() && enter;
                ui.end_row();
            }
        });
    let names = if task.variables.is_empty() {
        "Numbers, + - * / ( ), exp and ln.".to_owned()
    } else {
        let names = task.variables.join(", ");
        format!("Names: {names}. Beside them numbers, + - * / ( ), exp and ln.")
    };
    small(ui, names);
    entered
}

/// The curve to drag, and under it its points as numbers.
fn curve_ui(ui: &mut Ui, task: &CurveTask, sheet: &mut Sheet, shows_answer: bool) {
    picture(ui, 270.0, |ui| curve_plot(ui, task, sheet, shows_answer));
    small(ui, "Drag the points, or type their heights:");
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 4.0;
        let [low, high] = task.y_range;
        for (x, height) in task.x.iter().zip(&mut sheet.curve) {
            let field = egui::DragValue::new(height)
                .range(low..=high)
                .speed(0.005 * (high - low))
                .max_decimals(3);
            let field = ui.add(field);
            let name = format!("{} at {} {x}", task.y_name, task.x_name);
            field.widget_info(|| {
                egui::WidgetInfo::labeled(egui::accesskit::Role::SpinButton, true, &name)
            });
            field.on_hover_text(name);
        }
    });
}

fn curve_plot(ui: &mut Ui, task: &CurveTask, sheet: &mut Sheet, shows_answer: bool) {
    let palette = theme::palette(ui.visuals());
    let [yours, computed, ..] = palette.series;
    let key = |ui: &mut Ui| {
        if shows_answer {
            line_key(ui, computed, "computed".to_owned());
        }
        line_key(ui, yours, "yours".to_owned());
    };
    let [low, high] = task.y_range;
    let margin = 0.06 * (high - low);
    let (first, last) = (
        task.x.first().copied().unwrap_or(0.0),
        task.x.last().copied().unwrap_or(1.0),
    );
    let side = 0.03 * (last - first);
    let plot = Plot::new("the curve you expect")
        .custom_x_axes(vec![axis(AxisHints::new_x(), ui, task.x_name)])
        .x_grid_spacer(|input| marks(input.bounds, 10.0, 1.0))
        .custom_y_axes(vec![value_axis(ui, task.y_name)])
        .y_grid_spacer(value_marks(ui))
        .default_x_bounds(first - side, last + side)
        .default_y_bounds(low - margin, high + margin)
        .show_x(false)
        .show_y(false)
        .allow_drag(false)
        .allow_zoom(false)
        .allow_double_click_reset(false);
    show_plot(ui, "The curve you expect", key, plot, |plot| {
        drag(plot, task, sheet);
        let pairs = |values: &[f64]| -> PlotPoints<'static> {
            let pairs = task.x.iter().zip(values);
            pairs.map(|(&x, &y)| [x, y]).collect()
        };
        if shows_answer {
            plot.line(
                Line::new("computed", pairs(&task.expected))
                    .color(computed)
                    .width(2.0),
            );
        }
        plot.line(
            Line::new("yours", pairs(&sheet.curve))
                .color(yours)
                .width(1.5),
        );
        plot.points(
            Points::new("your points", pairs(&sheet.curve))
                .color(yours)
                .radius(6.0),
        );
    });
}

/// Moves the point under the pointer to it while the button is down; drawing across the plot takes one point after the other.
fn drag(plot: &egui_plot::PlotUi<'_>, task: &CurveTask, sheet: &mut Sheet) {
    let response = plot.response();
    if !response.is_pointer_button_down_on() && !response.dragged() {
        return;
    }
    let Some(pointer) = response.interact_pointer_pos() else {
        return;
    };
    let at: PlotPoint = plot.transform().value_from_position(pointer);
    let distance = |i: &usize| task.x.get(*i).map_or(f64::INFINITY, |x| (x - at.x).abs());
    let nearest = (0..task.x.len()).min_by(|i, j| distance(i).total_cmp(&distance(j)));
    let [low, high] = task.y_range;
    if let Some(height) = nearest.and_then(|i| sheet.curve.get_mut(i)) {
        *height = at.y.clamp(low, high);
    }
}
