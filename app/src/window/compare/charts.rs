//! Loss, bytes and pace of each lane as lines.

use egui::{ComboBox, RichText, Slider, Ui};
use egui_plot::{
    AxisHints, HoverPosition, Line, LineStyle, Plot, PlotPoint, PlotPoints, Points, Text, VLine,
};
use mambascope_core::compare::{Compared, Lane, crossing};
use mambascope_core::state::StateBytes;
use mambascope_lessons::widgets::number;

use super::{ComparePage, lane_name};
use crate::window::palette;
use crate::window::scope::bytes_text;
use mambascope_lessons::widgets::plots::{
    axis, footnote, log_axis, log_marks, marks, named_menu, over_note, over_tokens, show_plot,
};

/// Tokens a local mean is taken over.
const LOCAL: usize = 16;
/// Tokens the median of times is taken over: other programs on the machine interrupt now and then.
const PACED: usize = 32;
/// The longest context the ledger is drawn for.
const LONGEST: usize = 1 << 20;

impl ComparePage {
    /// Loss of each token: its mean over the text so far, or over the last few tokens.
    pub(super) fn loss(&self, ui: &mut Ui, compared: &Compared, cumulative: &mut bool) {
        let same = compared.same_tokens;
        let unit = if same { "nats a token" } else { "bits a byte" };
        let lines: Vec<Line<'_>> = (0..compared.lanes.len())
            .map(|lane| {
                let points = loss_points(&compared.lanes[lane], *cumulative, same);
                Line::new(lane_name(&compared.lanes, lane), PlotPoints::from(points))
                    .color(self.colour(ui, &compared.lanes[lane].model))
                    .width(1.5)
            })
            .collect();
        let place = if same { "token" } else { "byte" };
        let plot = over_tokens(ui, "compared loss", unit)
            .custom_x_axes(vec![axis(AxisHints::new_x(), ui, place)])
            .label_formatter(move |hover| match hover {
                HoverPosition::NearDataPoint {
                    plot_name,
                    position,
                    ..
                } => Some(format!(
                    "{plot_name}\n{place} {:.0}\n{} {unit}",
                    position.x,
                    number(position.y as f32)
                )),
                HoverPosition::Elsewhere { .. } => None,
            });
        let title = if *cumulative {
            format!("Loss, mean of the text so far ({unit})")
        } else {
            format!("Loss, mean of the last {LOCAL} tokens ({unit})")
        };
        let marker = end_of_text(ui, compared, same);
        let key = |ui: &mut Ui| {
            let text = if *cumulative { "so far" } else { "local" };
            let menu = ComboBox::from_id_salt("loss over")
                .selected_text(text)
                .width(72.0)
                .show_ui(ui, |ui| {
                    ui.selectable_value(cumulative, true, "so far");
                    ui.selectable_value(cumulative, false, "local");
                });
            named_menu(&menu.response, "Loss over");
        };
        show_plot(ui, &title, key, plot, |plot| {
            for line in lines {
                plot.line(line);
            }
            if let Some(marker) = marker {
                plot.vline(marker);
            }
        });
    }
}

/// Where the given text ends and the models' own begin, if they wrote any.
fn end_of_text(ui: &Ui, compared: &Compared, by_token: bool) -> Option<VLine> {
    let wrote = compared
        .lanes
        .iter()
        .find(|lane| lane.points.len() > lane.given)?;
    let given = wrote.points.iter().take(wrote.given);
    let place = if by_token {
        wrote.given as f64
    } else {
        given.map(|point| f64::from(point.bytes)).sum()
    };
    let line = VLine::new("the text ends here", place);
    Some(
        line.color(palette(ui).weak_text)
            .style(LineStyle::dotted_dense()),
    )
}

/// (token or byte, loss) of a lane.
fn loss_points(lane: &Lane, cumulative: bool, same_tokens: bool) -> Vec<[f64; 2]> {
    let mut points = Vec::new();
    let mut seen: Vec<(f64, f64)> = Vec::new();
    let (mut nats, mut weight, mut bytes) = (0.0, 0.0, 0.0);
    for (i, point) in lane.points.iter().enumerate() {
        bytes += f64::from(point.bytes);
        let Some(loss) = point.nats.map(f64::from) else {
            continue;
        };
        // A token counts once, or as many times as it has bytes.
        let of_token = if same_tokens {
            (loss, 1.0)
        } else {
            (loss / std::f64::consts::LN_2, f64::from(point.bytes))
        };
        seen.push(of_token);
        nats += of_token.0;
        weight += of_token.1;
        if !cumulative && seen.len() > LOCAL {
            let (old_nats, old_weight) = seen[seen.len() - 1 - LOCAL];
            nats -= old_nats;
            weight -= old_weight;
        }
        let place = if same_tokens { i as f64 } else { bytes };
        if weight > 0.0 {
            points.push([place, nats / weight]);
        }
    }
    points
}

impl ComparePage {
    /// For each lane what was measured, and up to `context` tokens what the formula says.
    fn ledger_lines(&self, ui: &Ui, lanes: &[Lane], context: usize) -> Vec<Line<'static>> {
        let mut lines = Vec::new();
        for (i, lane) in lanes.iter().enumerate() {
            let (name, colour) = (lane_name(lanes, i), self.colour(ui, &lane.model));
            let measured = lane.points.iter().enumerate();
            let measured: Vec<[f64; 2]> = measured
                .map(|(i, point)| log_point(i + 1, point.state.total()))
                .collect();
            let from = lane.points.len().max(1);
            let formula = |tokens: usize| {
                log_point(
                    tokens,
                    StateBytes::formula(&lane.model.config, tokens).total(),
                )
            };
            let steps = doublings(from, context.max(from));
            lines.push(
                Line::new(
                    format!("{name}, by formula"),
                    PlotPoints::from(steps.map(formula).collect::<Vec<_>>()),
                )
                .color(colour)
                .width(1.2)
                .style(LineStyle::dashed_dense()),
            );
            lines.push(
                Line::new(name, PlotPoints::from(measured))
                    .color(colour)
                    .width(2.0),
            );
        }
        lines
    }

    /// Bytes of each lane's memory as its text grows: measured, and beyond that by the formula.
    pub(super) fn ledger(&self, ui: &mut Ui, compared: &Compared, context: &mut usize) {
        let (mut above, mut below) = over_note(ui);
        let ui = &mut above;
        let lanes = &compared.lanes;
        let lines = self.ledger_lines(ui, lanes, *context);
        let crossings = crossings(lanes);
        let text_colour = palette(ui).text;
        let agrees = lanes.iter().all(Lane::ledger_agrees);
        let plot = Plot::new("ledger")
            .custom_x_axes(vec![log_axis(ui, true, "tokens", |x| {
                number(10f64.powf(x) as f32)
            })])
            .custom_y_axes(vec![log_axis(ui, false, "bytes of state", |y| {
                bytes_text(2f64.powf(y).round() as u64)
            })])
            .x_grid_spacer(|input| log_marks(input.bounds))
            .y_grid_spacer(|input| marks(input.bounds, 6.0, 1.0))
            .include_x((*context as f64).log10())
            .label_formatter(|hover| match hover {
                HoverPosition::NearDataPoint {
                    plot_name,
                    position,
                    ..
                } => Some(format!(
                    "{plot_name}\n{} tokens\n{}",
                    number(10f64.powf(position.x) as f32),
                    bytes_text(2f64.powf(position.y).round() as u64)
                )),
                HoverPosition::Elsewhere { .. } => None,
            });
        let key = |ui: &mut Ui| {
            ui.spacing_mut().slider_width = 90.0;
            ui.add(
                Slider::new(context, 16..=LONGEST)
                    .logarithmic(true)
                    .text("tokens"),
            )
            .on_hover_text("How far the formula is drawn beyond what was measured.");
        };
        show_plot(ui, "Bytes of state as the text grows", key, plot, |plot| {
            for line in lines {
                plot.line(line);
            }
            for crossing in &crossings {
                let dot = Points::new(crossing.text.clone(), vec![crossing.at]);
                plot.points(dot.color(text_colour).radius(4.0));
            }
            for crossing in apart(&crossings) {
                let at = PlotPoint::new(crossing.at[0], crossing.at[1]);
                let text = RichText::new(format!("  {} tokens", crossing.tokens)).size(11.0);
                plot.text(
                    Text::new("crossing", at, text)
                        .color(text_colour)
                        .anchor(egui::Align2::LEFT_TOP),
                );
            }
        });
        let (text, tone) = if agrees {
            (
                "Solid: the sessions' own buffers, equal to the formula after every token. Dashed: the formula alone.",
                palette(ui).weak_text,
            )
        } else {
            (
                "The sessions' buffers differ from the formula: please report this.",
                palette(ui).error,
            )
        };
        footnote(&mut below, text, tone);
    }
}

struct Crossing {
    tokens: usize,
    /// Who passes whom.
    text: String,
    /// Where, in the logarithms of the axes: ten for tokens, two for bytes.
    at: [f64; 2],
}

/// Those with room for a label of their own.
fn apart(crossings: &[Crossing]) -> Vec<&Crossing> {
    let mut labelled: Vec<&Crossing> = Vec::new();
    for crossing in crossings {
        let is_near = |other: &&Crossing| {
            (crossing.at[0] - other.at[0]).abs() < 0.6 && (crossing.at[1] - other.at[1]).abs() < 0.8
        };
        if !labelled.iter().any(is_near) {
            labelled.push(crossing);
        }
    }
    labelled
}

/// Where the memory of one lane overtakes that of another, the earliest first.
fn crossings(lanes: &[Lane]) -> Vec<Crossing> {
    let mut found: Vec<Crossing> = Vec::new();
    for growing in lanes {
        for other in lanes {
            if let Some(tokens) = crossing(&growing.model, &other.model) {
                let bytes = StateBytes::formula(&other.model.config, tokens).total();
                found.push(Crossing {
                    tokens,
                    text: format!("{} passes {}", growing.model.name, other.model.name),
                    at: log_point(tokens, bytes),
                });
            }
        }
    }
    found.sort_by_key(|crossing| crossing.tokens);
    found
}

fn log_point(tokens: usize, bytes: usize) -> [f64; 2] {
    [(tokens as f64).log10(), (bytes.max(1) as f64).log2()]
}

/// Numbers of tokens from one to another, eight a doubling.
fn doublings(from: usize, to: usize) -> impl Iterator<Item = usize> {
    let steps = ((to as f64 / from as f64).log2() * 8.0).ceil().max(1.0) as usize;
    (0..=steps).map(move |i| {
        let share = i as f64 / steps as f64;
        (from as f64 * (to as f64 / from as f64).powf(share)).round() as usize
    })
}

impl ComparePage {
    /// Milliseconds a token took as the text grew, the median of the last few.
    pub(super) fn pace(&self, ui: &mut Ui, compared: &Compared, hide_timings: bool) {
        let lanes = &compared.lanes;
        if hide_timings {
            ui.label("Time of a token");
            let text = "Left out of this picture: it is another on every machine.";
            ui.label(RichText::new(text).color(palette(ui).weak_text));
            return;
        }
        let lines: Vec<Line<'_>> = (0..lanes.len())
            .map(|lane| {
                Line::new(
                    lane_name(lanes, lane),
                    PlotPoints::from(pace_points(&lanes[lane])),
                )
                .color(self.colour(ui, &compared.lanes[lane].model))
                .width(1.5)
            })
            .collect();
        let plot = over_tokens(ui, "pace", "ms a token")
            .include_y(0.0)
            .label_formatter(|hover| match hover {
                HoverPosition::NearDataPoint {
                    plot_name,
                    position,
                    ..
                } => Some(format!(
                    "{plot_name}\ntoken {:.0}\n{} ms, {} tokens/s",
                    position.x,
                    number(position.y as f32),
                    number((1e3 / position.y) as f32)
                )),
                HoverPosition::Elsewhere { .. } => None,
            });
        let title = format!("Time of a token, median of {PACED}");
        let marker = end_of_text(ui, compared, true);
        show_plot(
            ui,
            &title,
            |_| (),
            plot,
            |plot| {
                for line in lines {
                    plot.line(line);
                }
                if let Some(marker) = marker {
                    plot.vline(marker);
                }
            },
        );
    }
}

fn pace_points(lane: &Lane) -> Vec<[f64; 2]> {
    let times: Vec<f64> = lane
        .points
        .iter()
        .map(|point| point.time.as_secs_f64() * 1e3)
        .collect();
    let median = |window: &[f64]| {
        let mut sorted = window.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    // The first tokens also pay for memory that is touched for the first time.
    (PACED / 4..times.len())
        .map(|i| [i as f64, median(&times[(i + 1).saturating_sub(PACED)..=i])])
        .collect()
}
