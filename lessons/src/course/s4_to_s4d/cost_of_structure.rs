//! LegS and what it takes to make a kernel of it: eigenvalues, digits lost, kernels and how long they take.

use std::ops::{ControlFlow, RangeInclusive};

use egui::Ui;
use egui_plot::{AxisHints, GridMark, Line, MarkerShape, Plot, Points, VLine};
use mambascope_core::job::{JobError, Progress, Workshop};
use mambascope_core::s4::{KernelBy, S4dInit, diagonalize_legs_directly};
use mambascope_core::study::Study;
use serde::{Deserialize, Serialize};

use super::kernels::{WAYS, largest_difference, s4, s4d, seconds};
use crate::course::shared::{refused, relative_error};
use crate::demo::{Around, Demo, Scene};
use crate::theme;
use crate::widgets::controls::{choice, columns, controls, slider};
use crate::widgets::number;
use crate::widgets::plots::{
    axis, footnote, line_key, log_axis, log_marks, marks, over_tokens, show_plot, value_axis,
};

/// Half the slots: they come in pairs.
const PAIRS: RangeInclusive<usize> = 2..=64;
/// Slots at which digits are counted.
const COUNTED: [usize; 12] = [2, 4, 8, 12, 16, 20, 24, 32, 48, 64, 96, 128];
/// Taps on the plot of the kernels.
const TAPS: usize = 300;
/// The shortest kernel that is timed.
const SHORTEST: usize = 64;

/// The longest kernel that is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Longest {
    L1024,
    L4096,
    L16384,
}

impl Longest {
    const ALL: [(Self, &'static str); 3] = [
        (Self::L1024, "1,024"),
        (Self::L4096, "4,096"),
        (Self::L16384, "16,384"),
    ];

    fn tokens(self) -> usize {
        match self {
            Self::L1024 => 1024,
            Self::L4096 => 4096,
            Self::L16384 => 16_384,
        }
    }
}

/// The controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CostOfStructure {
    /// Pairs of slots, N / 2.
    pairs: usize,
    init: S4dInit,
    longest: Longest,
}

impl Default for CostOfStructure {
    fn default() -> Self {
        Self {
            pairs: 8,
            init: S4dInit::Legs,
            longest: Longest::L4096,
        }
    }
}

/// What the controls give.
pub struct Costs {
    /// Real and imaginary part: LegS, its normal part, the diagonal model with both of every pair.
    eigenvalues: [Vec<[f64; 2]>; 3],
    /// Slots, digits lost.
    lost: Vec<[f64; 2]>,
    /// Digits lost at these slots.
    lost_here: f64,
    /// Condition of the eigenvectors at these slots.
    condition: f64,
    /// Token, tap: of S4, of the diagonal model.
    kernels: [Vec<[f64; 2]>; 2],
    /// Between powers and generating function.
    difference: f64,
    /// Of the diagonal kernel to S4's, where they are to be the same.
    diagonal_error: Option<f64>,
    /// Log10 of the length and of the seconds, for each of [`WAYS`].
    times: [Vec<[f64; 2]>; 3],
}

impl Study for CostOfStructure {
    type Answer = Costs;

    fn compute(
        &self,
        _: &mut Workshop,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Costs, JobError> {
        let slots = 2 * self.pairs;
        let (full, diagonal) = (s4(slots)?, s4d(self.init, slots)?);
        let here = diagonalize_legs_directly(slots).map_err(refused)?;
        let lost = COUNTED.map(|slots| {
            let direct = diagonalize_legs_directly(slots).map_err(refused)?;
            Ok::<_, JobError>([slots as f64, direct.digits_lost()])
        });
        let powers = full.kernel(KernelBy::Powers, TAPS).map_err(refused)?;
        let generating = full
            .kernel(KernelBy::GeneratingFunction, TAPS)
            .map_err(refused)?;
        let by_diagonal = diagonal.kernel(TAPS).map_err(refused)?;
        let diagonal_error =
            (self.init == S4dInit::Legs).then(|| relative_error(&by_diagonal, &powers));
        let line = |kernel: &ndarray::Array1<f64>| {
            let taps = kernel.iter().enumerate();
            taps.map(|(l, &tap)| [l as f64, tap]).collect()
        };
        let normal = full.nplr().lambda_n.iter();
        let ladder = full.system().a_nn.diag().into_iter();
        let both = diagonal.lambda_n().into_iter().flat_map(|lambda| {
            let mirrored = if self.init.is_paired() {
                -lambda.im
            } else {
                lambda.im
            };
            [[lambda.re, lambda.im], [lambda.re, mirrored]]
        });
        Ok(Costs {
            eigenvalues: [
                ladder.map(|&entry| [entry, 0.0]).collect(),
                normal.map(|lambda| [lambda.re, lambda.im]).collect(),
                both.collect(),
            ],
            lost: lost.into_iter().collect::<Result<_, _>>()?,
            lost_here: here.digits_lost(),
            condition: here.condition,
            kernels: [line(&powers), line(&by_diagonal)],
            difference: largest_difference(&powers, &generating),
            diagonal_error,
            times: self.times(&full, &diagonal, progress)?,
        })
    }
}

impl CostOfStructure {
    /// Times of all lengths up to the longest; those that are there when it is to stop.
    fn times(
        &self,
        full: &mambascope_core::s4::S4,
        diagonal: &mambascope_core::s4::S4d,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<[Vec<[f64; 2]>; 3], JobError> {
        let lengths = std::iter::successors(Some(SHORTEST), |length| Some(2 * length));
        let lengths: Vec<usize> = lengths
            .take_while(|&length| length <= self.longest.tokens())
            .collect();
        let mut times = [Vec::new(), Vec::new(), Vec::new()];
        for (done, &length) in lengths.iter().enumerate() {
            let counted = Progress::Count {
                what: "Timing kernels",
                done,
                total: lengths.len(),
            };
            if progress(counted).is_break() {
                break;
            }
            for (line, seconds) in times.iter_mut().zip(seconds(full, diagonal, length)?) {
                line.push([(length as f64).log10(), seconds.max(1e-9).log10()]);
            }
        }
        Ok(times)
    }
}

impl Demo for CostOfStructure {
    const ID: &'static str = "cost-of-structure";
    const TITLE: &'static str = "What the structure of A costs, and saves";
    type Study = Self;

    fn study(&self, _: &Around) -> Option<Self> {
        Some(self.clone())
    }

    fn ui(&mut self, ui: &mut Ui, scene: &Scene<'_, Costs>) {
        controls(ui, |ui| {
            slider(ui, "pairs of slots, N/2", &mut self.pairs, PAIRS);
            choice(ui, "Time up to L =", &mut self.longest, &Longest::ALL);
        });
        controls(ui, |ui| {
            let inits = S4dInit::ALL.map(|init| (init, init.title()));
            choice(ui, "Diagonal", &mut self.init, &inits);
        });
        let answer = scene.answer;
        columns(ui, 240.0, 2, |column, ui| match column {
            0 => self.eigenvalue_plot(ui, answer),
            _ => self.digits_plot(ui, answer),
        });
        ui.add_space(6.0);
        columns(ui, 240.0, 2, |column, ui| match column {
            0 => self.kernel_plot(ui, answer),
            _ => time_plot(ui, answer),
        });
        self.readout(ui, answer);
    }

    fn clamp(&mut self) {
        self.pairs = self.pairs.clamp(*PAIRS.start(), *PAIRS.end());
    }

    fn ends() -> Vec<Self> {
        let at = |pairs: &usize, init, longest| Self {
            pairs: *pairs,
            init,
            longest,
        };
        vec![
            at(PAIRS.start(), S4dInit::Lin, Longest::L1024),
            at(PAIRS.start(), S4dInit::Real, Longest::L4096),
            at(PAIRS.end(), S4dInit::Inv, Longest::L1024),
            at(PAIRS.end(), S4dInit::Legs, Longest::L1024),
            at(PAIRS.start(), S4dInit::Legs, Longest::L16384),
        ]
    }

    fn live(&self, symbol: &str, _: Option<&Costs>) -> Option<String> {
        match symbol {
            "N" => Some((2 * self.pairs).to_string()),
            "L" => Some(self.longest.tokens().to_string()),
            _ => None,
        }
    }
}

/// Points with the asinh of their imaginary part: even near zero, logarithmic far from it, the same on both sides.
fn compressed(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let places = points
        .iter()
        .map(|&[real, imaginary]| [real, imaginary.asinh()]);
    places.collect()
}

/// A plot that does not move.
fn still(plot: Plot<'_>) -> Plot<'_> {
    plot.allow_drag(false)
        .allow_zoom(false)
        .allow_boxed_zoom(false)
        .allow_double_click_reset(false)
}

impl CostOfStructure {
    /// Eigenvalues in the complex plane.
    fn eigenvalue_plot(&self, ui: &mut Ui, answer: Option<&Costs>) {
        let palette = theme::palette(ui.visuals());
        let [blue, orange, green, ..] = palette.series;
        let key = |ui: &mut Ui| {
            line_key(ui, green, self.init.title().to_owned());
            line_key(ui, orange, "normal part".to_owned());
            line_key(ui, blue, "LegS".to_owned());
        };
        let plot = still(over_tokens(ui, "eigenvalues", "imaginary part, compressed"))
            .custom_x_axes(vec![
                axis(AxisHints::new_x(), ui, "real part")
                    .formatter(|mark, _| number(mark.value as f32)),
            ])
            .x_grid_spacer(|input| marks(input.bounds, 6.0, 0.5))
            .custom_y_axes(vec![
                value_axis(ui, "imaginary part, compressed")
                    .formatter(|mark, _| number(mark.value.sinh().round() as f32)),
            ])
            .y_grid_spacer(|input| both_sides(input.bounds))
            .include_y(3.0)
            .include_y(-3.0)
            .include_x(0.5);
        show_plot(ui, "Eigenvalues", key, plot, |plot| {
            let Some(answer) = answer else { return };
            let [legs, normal, diagonal] = &answer.eigenvalues;
            let drawn = [
                ("LegS", legs, blue, MarkerShape::Circle, 2.5),
                ("normal part", normal, orange, MarkerShape::Circle, 5.0),
                (self.init.title(), diagonal, green, MarkerShape::Plus, 4.0),
            ];
            for (name, points, colour, shape, radius) in drawn {
                plot.points(
                    Points::new(name, compressed(points))
                        .color(colour)
                        .shape(shape)
                        .radius(radius),
                );
            }
        });
    }

    /// Digits lost over N.
    fn digits_plot(&self, ui: &mut Ui, answer: Option<&Costs>) {
        let palette = theme::palette(ui.visuals());
        let slots = 2.0 * self.pairs as f64;
        let key = |ui: &mut Ui| {
            line_key(ui, palette.weak_text, "all of them, 15.65".to_owned());
            line_key(ui, palette.accent, "this N".to_owned());
        };
        let plot = still(over_tokens(ui, "digits", "decimal digits"))
            .custom_x_axes(vec![axis(AxisHints::new_x(), ui, "N, slots")])
            .x_grid_spacer(|input| marks(input.bounds, 8.0, 1.0))
            .include_x(0.0)
            .include_y(0.0)
            .include_y(17.0);
        show_plot(ui, "Digits lost", key, plot, |plot| {
            plot.vline(VLine::new("this N", slots).color(palette.accent));
            let all = -f64::EPSILON.log10();
            plot.hline(
                egui_plot::HLine::new("digits of a 64-bit number", all).color(palette.weak_text),
            );
            let Some(answer) = answer else { return };
            let red = palette.series[1];
            plot.line(Line::new("digits lost", answer.lost.clone()).color(red));
            plot.points(
                Points::new("digits lost", answer.lost.clone())
                    .color(red)
                    .radius(3.0),
            );
        });
    }

    /// S4's kernel and the diagonal one.
    fn kernel_plot(&self, ui: &mut Ui, answer: Option<&Costs>) {
        let palette = theme::palette(ui.visuals());
        let [blue, _, green, ..] = palette.series;
        let key = |ui: &mut Ui| {
            line_key(ui, green, self.init.title().to_owned());
            line_key(ui, blue, "S4 on LegS".to_owned());
        };
        let plot = still(over_tokens(ui, "kernels", "weight"))
            .custom_x_axes(vec![axis(AxisHints::new_x(), ui, "lag, tokens ago")])
            .include_y(0.0)
            .include_y(0.012);
        show_plot(ui, "Kernel, Δ = 0.01", key, plot, |plot| {
            let Some(answer) = answer else { return };
            let [full, diagonal] = &answer.kernels;
            plot.line(Line::new("S4 on LegS", full.clone()).color(blue).width(2.5));
            plot.line(Line::new(self.init.title(), diagonal.clone()).color(green));
        });
    }

    /// What was measured, in words.
    fn readout(&self, ui: &mut Ui, answer: Option<&Costs>) {
        let weak = theme::palette(ui.visuals()).weak_text;
        let Some(answer) = answer else { return };
        let number = |value: f64| number(value as f32);
        let slots = 2 * self.pairs;
        let against = match answer.diagonal_error {
            Some(error) => format!("The diagonal kernel is {} off (relative).", number(error)),
            None => "This diagonal has B = 1 and an even C: its kernel is not meant to be S4's."
                .to_owned(),
        };
        let last = answer.times.each_ref().map(|line| line.last());
        let ratios = match last {
            [Some(powers), Some(generating), Some(diagonal)] => format!(
                "Time over that of the full matrix, here and now at the longest L: diagonal {}, generating function {}.",
                number(two_digits(10f64.powf(diagonal[1] - powers[1]))),
                number(two_digits(10f64.powf(generating[1] - powers[1]))),
            ),
            _ => String::new(),
        };
        let text = format!(
            "N = {slots}: condition of LegS's eigenvectors {}, {} digits lost. Powers and generating function differ by {} at most. \
             {against} {ratios}",
            number(answer.condition),
            number(answer.lost_here),
            number(answer.difference),
        );
        footnote(ui, &text, weak);
    }
}

/// Rounded to two digits.
fn two_digits(value: f64) -> f64 {
    let unit = 10f64.powf(value.abs().max(1e-300).log10().floor() - 1.0);
    (value / unit).round() * unit
}

/// Marks at zero and at powers of ten on both sides of an axis that shows asinh of its values.
fn both_sides((from, to): (f64, f64)) -> Vec<GridMark> {
    // One is too close to zero to be named where much is to be shown.
    let first = if to > 5.0 { 1 } else { 0 };
    let powers = (first..5).map(|exponent| 10f64.powi(exponent));
    let values = powers.flat_map(|power| [-power, power]).chain([0.0]);
    let places = values.map(f64::asinh);
    places
        .filter(|place| (from..=to).contains(place))
        .map(|value| GridMark {
            value,
            step_size: 2.0,
        })
        .collect()
}

/// A length or a time from its logarithm: a power of ten.
fn power_of_ten(exponent: f64) -> String {
    match exponent.round() as i32 {
        -6 => "1 µs".to_owned(),
        -5 => "10 µs".to_owned(),
        -4 => "100 µs".to_owned(),
        -3 => "1 ms".to_owned(),
        -2 => "10 ms".to_owned(),
        -1 => "100 ms".to_owned(),
        0 => "1 s".to_owned(),
        other => number(10f32.powi(other)),
    }
}

/// Time over length, both logarithmic.
fn time_plot(ui: &mut Ui, answer: Option<&Costs>) {
    let palette = theme::palette(ui.visuals());
    let [blue, orange, green, ..] = palette.series;
    let short = ["full matrix", "generating fn.", "diagonal"];
    let key = |ui: &mut Ui| {
        for (name, colour) in short.into_iter().zip([blue, orange, green]).rev() {
            line_key(ui, colour, name.to_owned());
        }
    };
    let plot = still(over_tokens(ui, "times", "time"))
        .custom_x_axes(vec![log_axis(
            ui,
            true,
            "L, taps of the kernel",
            |exponent| number(10f32.powf(exponent as f32)),
        )])
        .x_grid_spacer(|input| log_marks(input.bounds))
        .custom_y_axes(vec![log_axis(ui, false, "time", power_of_ten)])
        .y_grid_spacer(|input| log_marks(input.bounds))
        .include_x(1.8)
        .include_x(4.2)
        .include_y(-6.0)
        .include_y(-2.0);
    show_plot(ui, "Time", key, plot, |plot| {
        let Some(answer) = answer else { return };
        for ((line, name), colour) in answer.times.iter().zip(WAYS).zip([blue, orange, green]) {
            plot.line(Line::new(name, line.clone()).color(colour));
            plot.points(Points::new(name, line.clone()).color(colour).radius(2.5));
        }
    });
}
