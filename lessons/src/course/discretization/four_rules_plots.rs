//! The pictures of the demo `four-rules`.

use std::f64::consts::TAU;

use egui::{Color32, RichText, Ui, vec2};
use egui_plot::{AxisHints, Line, MarkerShape, Plot, Points, VLine};

use super::four_rules::{Comparison, RULES, Rule};
use super::ode::WINDOW;
use crate::theme;
use crate::widgets::formula::formula;
use crate::widgets::number;
use crate::widgets::plots::{
    axis, guess_key, line_key, log_axis, log_marks, marks, show_plot, value_axis, value_marks,
};

/// Dots are drawn up to so many steps; more would be a thick line.
const DOTS: usize = 120;
/// What the picture of the poles shows: smallest and largest real part, largest imaginary part.
const DISC: (f64, f64, f64) = (-3.0, 1.6, 1.3);
/// What the picture of the errors shows, as powers of ten.
const ERRORS: (f64, f64) = (-7.0, 2.0);

/// A plot that does not move.
fn still(plot: Plot<'_>) -> Plot<'_> {
    plot.allow_drag(false)
        .allow_zoom(false)
        .allow_boxed_zoom(false)
        .allow_double_click_reset(false)
}

/// The rules that are shown: their colour, name and what they do.
fn shown<'a>(
    ui: &Ui,
    shown: &[bool],
    answer: &'a Comparison,
) -> Vec<(Color32, &'static str, &'a Rule)> {
    let colours = theme::palette(ui.visuals()).series;
    let all = colours.into_iter().zip(RULES).zip(&answer.rules);
    all.zip(shown)
        .filter(|&(_, &shown)| shown)
        .map(|(((colour, rule), found), _)| (colour, rule.title(), found))
        .collect()
}

/// State over time.
pub fn trajectories(ui: &mut Ui, which: &[bool], answer: Option<&Comparison>) {
    let palette = theme::palette(ui.visuals());
    let key = |ui: &mut Ui| {
        line_key(ui, palette.error, "leaves the picture".to_owned());
        line_key(ui, palette.text, "exact".to_owned());
    };
    let limit = answer.map_or(1.0, |answer| answer.limit);
    let plot = still(Plot::new("trajectories"))
        .custom_x_axes(vec![axis(AxisHints::new_x(), ui, "time")])
        .x_grid_spacer(|input| marks(input.bounds, 8.0, 1.0))
        .custom_y_axes(vec![value_axis(ui, "h")])
        .y_grid_spacer(value_marks(ui))
        .include_x(0.0)
        .include_x(WINDOW)
        .include_y(0.4 * limit)
        .include_y(-0.2 * limit);
    let Some(answer) = answer else {
        return show_plot(ui, "State over time", key, plot, |_| {});
    };
    let rules = shown(ui, which, answer);
    show_plot(ui, "State over time", key, plot, |plot| {
        plot.line(
            Line::new("exact", answer.exact.clone())
                .color(palette.text)
                .width(1.5),
        );
        for (colour, name, rule) in rules {
            plot.line(Line::new(name, rule.path.clone()).color(colour).width(1.5));
            if rule.path.len() <= DOTS {
                let dots = Points::new(name, rule.path.clone());
                plot.points(dots.color(colour).radius(3.0));
            }
            let last = rule.path.last().filter(|_| rule.has_left);
            if let Some(&last) = last {
                let mark = Points::new("leaves the picture", vec![last]);
                let mark = mark.shape(MarkerShape::Cross).color(palette.error);
                plot.points(mark.radius(6.0));
            }
        }
    });
}

/// A point, or where on the edge of the picture it is to be looked for.
fn on_disc([re, im]: [f64; 2]) -> ([f64; 2], Option<MarkerShape>) {
    let (left, right, high) = DISC;
    let at = [re.clamp(left, right), im.clamp(-high, high)];
    let outside = if re < left {
        Some(MarkerShape::Left)
    } else if im > high {
        Some(MarkerShape::Up)
    } else if im < -high {
        Some(MarkerShape::Down)
    } else {
        None
    };
    (at, outside)
}

/// Ā of each rule in the complex plane.
pub fn poles(ui: &mut Ui, which: &[bool], answer: Option<&Comparison>) {
    let palette = theme::palette(ui.visuals());
    let key = |ui: &mut Ui| {
        line_key(ui, palette.error, "explodes".to_owned());
        line_key(ui, palette.weak_text, "unit circle".to_owned());
    };
    let whole = |name: &str, hints| {
        axis(hints, ui, name)
            .label_spacing(8.0..=9.0)
            .formatter(|mark, _| number(mark.value as f32))
    };
    let (left, right, high) = DISC;
    let plot = still(Plot::new("poles"))
        .custom_x_axes(vec![whole("real part", AxisHints::new_x())])
        .custom_y_axes(vec![whole("imaginary part", AxisHints::new_y())])
        .x_grid_spacer(|input| marks(input.bounds, 6.0, 1.0))
        .y_grid_spacer(|input| marks(input.bounds, 4.0, 1.0))
        .data_aspect(1.0)
        .include_x(left)
        .include_x(right)
        .include_y(high)
        .include_y(-high);
    let rules = answer.map(|answer| (answer.is_real, shown(ui, which, answer)));
    show_plot(ui, "Poles: what a step multiplies by", key, plot, |plot| {
        let turn = |i: i32| TAU * f64::from(i) / 120.0;
        let circle: Vec<[f64; 2]> = (0..=120).map(|i| [turn(i).cos(), turn(i).sin()]).collect();
        let circle = Line::new("unit circle", circle).color(palette.weak_text);
        plot.line(circle.width(1.5));
        let Some((is_real, rules)) = rules else {
            return;
        };
        for (i, (colour, name, rule)) in rules.into_iter().enumerate() {
            let signs: &[f64] = if is_real { &[1.0] } else { &[1.0, -1.0] };
            for sign in signs {
                let side = |[re, im]: [f64; 2]| [re, sign * im];
                let trail = rule.trail.iter().map(|&pole| side(pole));
                let trail: Vec<_> = trail.filter(|&at| on_disc(at).1.is_none()).collect();
                plot.line(Line::new(name, trail).color(colour).width(1.0));
                let (at, outside) = on_disc(side(rule.pole));
                if rule.explodes() {
                    let mark = Points::new("explodes", vec![at]).color(palette.error);
                    let shape = outside.unwrap_or(MarkerShape::Cross);
                    plot.points(mark.shape(shape).radius(9.0));
                }
                // Some rules share a pole: theirs are rings around each other.
                let dot = Points::new(name, vec![at]).color(colour);
                plot.points(dot.filled(i == 0).radius(3.5 + 2.0 * i as f32));
            }
        }
    });
}

/// Error over step size, both logarithmic.
pub fn errors(ui: &mut Ui, which: &[bool], answer: Option<&Comparison>, guess: Option<f64>) {
    let palette = theme::palette(ui.visuals());
    let guess = guess.filter(|&guess| (0.001..=100.0).contains(&guess));
    let key = |ui: &mut Ui| {
        if guess.is_some() {
            guess_key(ui);
        }
        line_key(ui, palette.weak_text, "this step".to_owned());
    };
    let power = |log: f64| {
        let log = log.round();
        if log < -3.0 {
            format!("1e−{}", -log)
        } else {
            number(10f32.powf(log as f32))
        }
    };
    let plot = still(Plot::new("errors"))
        .custom_x_axes(vec![log_axis(ui, true, "Δ·|A|", power)])
        .x_grid_spacer(|input| log_marks(input.bounds))
        .custom_y_axes(vec![log_axis(ui, false, "mean error", power)])
        .y_grid_spacer(|input| marks(input.bounds, 6.0, 1.0))
        .include_x(-2.0)
        .include_x(1.0)
        .default_y_bounds(ERRORS.0, ERRORS.1);
    let rules = answer.map(|answer| (answer.z.log10(), shown(ui, which, answer)));
    show_plot(ui, "Error over step size", key, plot, |plot| {
        if let Some(guess) = guess {
            let line = VLine::new("your guess", guess.log10());
            plot.vline(line.color(palette.accent).width(2.0));
        }
        let Some((here, rules)) = rules else { return };
        plot.vline(VLine::new("this step", here).color(palette.weak_text));
        for (colour, name, rule) in rules {
            let points = rule.errors.iter().copied();
            let points: Vec<_> = points
                .filter(|point| (ERRORS.0..=ERRORS.1).contains(&point[1]))
                .collect();
            plot.line(Line::new(name, points.clone()).color(colour).width(1.5));
            plot.points(Points::new(name, points).color(colour).radius(2.0));
        }
    });
}

/// Which rules are shown, and their numbers.
pub fn table(ui: &mut Ui, which: &mut [bool], answer: Option<&Comparison>) {
    let palette = theme::palette(ui.visuals());
    let is_real = answer.is_none_or(|answer| answer.is_real);
    egui::Grid::new("four rules")
        .num_columns(5)
        .min_col_width(30.0)
        .spacing(vec2(12.0, 9.0))
        .show(ui, |ui| {
            ui.label(RichText::new("rule").small().color(palette.weak_text));
            let heads = if is_real {
                [r"\bar A", r"\bar B"]
            } else {
                [r"|\bar A|", r"|\bar B|"]
            };
            for head in heads {
                formula(ui, head);
            }
            for head in ["error", "slope"] {
                ui.label(RichText::new(head).small().color(palette.weak_text));
            }
            ui.end_row();
            for (i, (rule, shown)) in RULES.into_iter().zip(which).enumerate() {
                ui.horizontal(|ui| {
                    let (rect, _) = ui.allocate_exact_size(vec2(14.0, 8.0), egui::Sense::hover());
                    ui.painter().rect_filled(rect, 2.0, palette.series[i]);
                    ui.checkbox(shown, RichText::new(rule.title()).small());
                });
                if let Some(found) = answer.and_then(|answer| answer.rules.get(i)) {
                    numbers(ui, found, is_real, palette.error);
                }
                ui.end_row();
            }
        });
}

/// Ā, B̄, error and slope of a rule.
fn numbers(ui: &mut Ui, rule: &Rule, is_real: bool, error: Color32) {
    let short = |value: f64| number(value as f32);
    let keeps = if is_real { rule.pole[0] } else { rule.growth() };
    let keeps = RichText::new(short(keeps)).small();
    ui.label(if rule.explodes() {
        keeps.color(error).strong()
    } else {
        keeps
    });
    let [now, before] = rule.write;
    let write = if before > 0.0 {
        format!("{now:.3} + {before:.3}")
    } else {
        short(now)
    };
    ui.label(RichText::new(write).small());
    let off = match rule.error {
        off if (0.01..100.0).contains(&off) => format!("{off:.3}"),
        off => format!("{off:.1e}").replace("e-", "e−"),
    };
    ui.label(RichText::new(off).small());
    let slope = rule
        .slope
        .map_or("exact".to_owned(), |slope| format!("{slope:.2}"));
    ui.label(RichText::new(slope).small());
}
