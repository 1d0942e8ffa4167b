//! How far one has come: what is due, what is known, whether confidence fits, and how it is forgotten.

use egui::{Align2, RichText, Sense, TextStyle, Ui, vec2};
use egui_plot::{AxisHints, HLine, Line, LineStyle, Plot, PlotPoints, Points, VLine};

use super::desk::Desk;
use super::parts::{card, heading, sheet, small, span, topic_title};
use super::review::queue;
use super::settings::PracticeSettings;
use crate::practice::schedule::{CalibrationPoint, Card, DAY, Mastery};
use crate::practice::{Item, Kind, drill, items};
use crate::theme;
use crate::widgets::controls::columns;
use crate::widgets::plots::{axis, line_key, marks, named_menu, show_plot};

/// The probability at which an item comes back.
const RETENTION: f64 = 0.9;
/// Height of a topic's row.
const ROW: f32 = 26.0;
/// Points of a forgetting curve.
const POINTS: usize = 120;

/// The part of the page.
#[derive(Default)]
pub(super) struct ProgressPart {
    /// Whose forgetting is drawn; the next that is due when absent.
    chosen: Option<String>,
}

impl ProgressPart {
    /// Draws it.
    pub(super) fn show(&mut self, ui: &mut Ui, desk: &mut Desk<'_>, settings: &PracticeSettings) {
        let standing = desk.record.standing(desk.now, desk.zone).clone();
        sheet(ui, "progress", |ui| {
            let queue = queue(desk, settings);
            let all = items(desk.bank);
            let deck = &desk.record.deck;
            let seen = all.iter().filter(|item| !deck.card(item.id).is_new());
            let seen: Vec<Item<'_>> = seen.copied().collect();
            let new_today = deck.new_today(desk.now, desk.zone);
            let brier = standing.brier;
            tiles(
                ui,
                &[
                    (queue.due.len().to_string(), "due now"),
                    (
                        format!("{new_today} of {}", settings.new_per_day),
                        "new ones today",
                    ),
                    (
                        format!("{} of {}", seen.len(), all.len()),
                        "answered at least once",
                    ),
                    (standing.streak.to_string(), "days in a row"),
                    (
                        brier.map_or_else(|| "–".to_owned(), |brier| format!("{brier:.3}")),
                        "Brier score (0 is best)",
                    ),
                ],
            );
            card(ui, |ui| mastery(ui, desk, &all));
            card(ui, |ui| {
                columns(ui, 320.0, 2, |i, ui| match i {
                    0 => calibration(ui, &standing.calibration),
                    _ => self.forgetting(ui, desk, &seen),
                });
            });
        });
    }

    fn forgetting(&mut self, ui: &mut Ui, desk: &Desk<'_>, seen: &[Item<'_>]) {
        let deck = &desk.record.deck;
        let chosen = seen
            .iter()
            .find(|item| Some(item.id) == self.chosen.as_deref());
        let next = seen.iter().min_by_key(|item| deck.card(item.id).due);
        let Some(item) = chosen.or(next) else {
            nothing(
                ui,
                "Forgetting",
                "Answer a question or do a drill: then its forgetting curve is drawn here.",
            );
            return;
        };
        let menu = egui::ComboBox::from_id_salt("whose forgetting")
            .width(ui.available_width() - 8.0)
            .truncate()
            .selected_text(name(desk, item))
            .show_ui(ui, |ui| {
                for item in seen {
                    let is_it = self.chosen.as_deref() == Some(item.id);
                    if ui.selectable_label(is_it, name(desk, item)).clicked() {
                        self.chosen = Some(item.id.to_owned());
                    }
                }
            });
        named_menu(&menu.response, "Whose forgetting is drawn");
        let mut room =
            ui.new_child(egui::UiBuilder::new().max_rect(ui.available_rect_before_wrap()));
        forgetting_plot(&mut room, &deck.card(item.id), desk.now);
    }
}

/// What an item is called in a menu.
fn name(desk: &Desk<'_>, item: &Item<'_>) -> String {
    let text = match item.kind {
        Kind::Drill => drill::drill(item.id).map(|entry| entry.title),
        Kind::Question => desk.bank.question(item.id).map(|it| it.question.as_str()),
        Kind::Claim => desk.bank.claim(item.id).map(|it| it.text.as_str()),
    };
    let text = text.unwrap_or(item.id).replace(['$', '*', '`'], "");
    let short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        format!("{}…", short.trim_end())
    } else {
        short
    }
}

/// Numbers side by side, each with what it counts.
fn tiles(ui: &mut Ui, tiles: &[(String, &str)]) {
    let palette = theme::palette(ui.visuals());
    let gap = 10.0;
    let count = tiles.len().max(1) as f32;
    let width = (ui.available_width() - gap * (count - 1.0)) / count;
    ui.horizontal(|ui| {
        ui.spacing_mut().item_spacing.x = gap;
        for (value, what) in tiles {
            egui::Frame::new()
                .fill(palette.panel)
                .stroke(egui::Stroke::new(1.0, palette.border))
                .corner_radius(6)
                .inner_margin(12)
                .show(ui, |ui| {
                    ui.set_width(width - 26.0);
                    ui.vertical(|ui| {
                        ui.spacing_mut().item_spacing.y = 2.0;
                        ui.label(RichText::new(value).size(22.0).strong());
                        small(ui, *what);
                    });
                });
        }
    });
}

/// A bar for each topic, in two columns.
fn mastery(ui: &mut Ui, desk: &Desk<'_>, items: &[Item<'_>]) {
    let mastery = desk.record.deck.mastery(items, desk.now);
    ui.label(RichText::new("Mastery by topic").strong().size(15.0));
    small(
        ui,
        "The mean probability that you know an item of the topic now; what is new counts as not known.",
    );
    ui.add_space(4.0);
    let half = mastery.len().div_ceil(2);
    columns(ui, half as f32 * ROW, 2, |column, ui| {
        let part = mastery.iter().skip(column * half).take(half);
        ui.spacing_mut().item_spacing.y = 0.0;
        for topic in part {
            topic_row(ui, &topic_title(&topic.topic), topic);
        }
    });
}

/// A topic's name, its bar, and what it says.
fn topic_row(ui: &mut Ui, name: &str, topic: &Mastery) {
    const NAME: f32 = 130.0;
    const SAYS: f32 = 122.0;
    let palette = theme::palette(ui.visuals());
    let percent = (100.0 * topic.known).round();
    let says = format!("{percent} %, {} of {} seen", topic.seen, topic.items);
    let (rect, row) = ui.allocate_exact_size(vec2(ui.available_width(), ROW), Sense::hover());
    row.widget_info(|| {
        let text = format!("{name}: {says}");
        egui::WidgetInfo::labeled(egui::accesskit::Role::Label, true, text)
    });
    let text = |at: f32, text: &str, style: TextStyle, colour| {
        let font = style.resolve(ui.style());
        let place = egui::pos2(at, rect.center().y);
        ui.painter()
            .text(place, Align2::LEFT_CENTER, text, font, colour);
    };
    text(rect.left(), name, TextStyle::Body, palette.text);
    let room = rect
        .with_min_x(rect.left() + NAME)
        .with_max_x(rect.right() - SAYS)
        .shrink2(vec2(0.0, 7.0));
    text(
        room.right() + 8.0,
        &says,
        TextStyle::Small,
        palette.weak_text,
    );
    let filled = room.with_max_x(room.left() + room.width() * topic.known as f32);
    ui.painter().rect_filled(room, 3.0, palette.control);
    ui.painter().rect_filled(filled, 3.0, palette.series[2]);
}

/// A place for a plot that has nothing to show yet.
fn nothing(ui: &mut Ui, title: &str, text: &str) {
    heading(ui, title);
    small(ui, text);
}

fn calibration(ui: &mut Ui, points: &[CalibrationPoint]) {
    if points.is_empty() {
        nothing(
            ui,
            "Calibration",
            "Judge claims, or say how sure you are of an answer: then this shows whether what you are 80 % sure of is right in 80 % \
             of the cases.",
        );
        return;
    }
    let palette = theme::palette(ui.visuals());
    // As high as the menu beside it, so that the plots line up.
    let height = ui.spacing().interact_size.y;
    ui.allocate_ui(vec2(ui.available_width(), height), |ui| {
        ui.set_min_height(height);
        small(
            ui,
            "On the dashed line you know what you know; below it you are too sure.",
        );
    });
    let mut room = ui.new_child(egui::UiBuilder::new().max_rect(ui.available_rect_before_wrap()));
    let ui = &mut room;
    let [yours, ..] = palette.series;
    let key = |ui: &mut Ui| {
        line_key(ui, yours, "you (larger: more answers)".to_owned());
    };
    let percent = |hints: AxisHints<'static>, ui: &Ui, name: &str| {
        axis(hints, ui, name)
            .label_spacing(8.0..=9.0)
            .formatter(|mark, _| format!("{:.0}", mark.value))
    };
    let plot = percent_plot("calibration")
        .custom_x_axes(vec![percent(AxisHints::new_x(), ui, "confidence (%)")])
        .custom_y_axes(vec![percent(AxisHints::new_y(), ui, "right (%)")]);
    show_plot(ui, "Calibration", key, plot, |plot| {
        let ideal = vec![[0.0, 0.0], [100.0, 100.0]];
        let ideal = Line::new("confidence that fits", ideal).color(palette.weak_text);
        plot.line(ideal.style(LineStyle::dashed_loose()).width(1.0));
        let at = |point: &CalibrationPoint| [100.0 * point.confidence, 100.0 * point.correct];
        let line: PlotPoints<'_> = points.iter().map(at).collect();
        plot.line(Line::new("you", line).color(yours).width(1.5));
        for point in points {
            let radius = (3.0 + (point.count as f32).sqrt()).min(10.0);
            let dot = Points::new(format!("{} answers", point.count), at(point));
            plot.points(dot.color(yours).radius(radius));
        }
    });
}

/// A plot of percent over percent.
fn percent_plot(name: &'static str) -> Plot<'static> {
    Plot::new(name)
        .x_grid_spacer(|input| marks(input.bounds, 6.0, 20.0))
        .y_grid_spacer(|input| marks(input.bounds, 6.0, 20.0))
        .default_x_bounds(-4.0, 104.0)
        .default_y_bounds(-4.0, 106.0)
        .allow_drag(false)
        .allow_zoom(false)
        .allow_double_click_reset(false)
}

fn forgetting_plot(ui: &mut Ui, card: &Card, now: i64) {
    let palette = theme::palette(ui.visuals());
    let [curve, ..] = palette.series;
    let today = (now - card.last).max(0) as f64 / DAY as f64;
    let due = card.interval() as f64 / DAY as f64;
    let days = (2.5 * due).max(1.25 * today).max(0.1);
    let key = |ui: &mut Ui| {
        line_key(ui, palette.accent, "now".to_owned());
        line_key(
            ui,
            palette.warning,
            format!("due after {}", span(card.interval())),
        );
    };
    let y_axis = axis(AxisHints::new_y(), ui, "still known (%)")
        .label_spacing(8.0..=9.0)
        .formatter(|mark, _| format!("{:.0}", mark.value));
    let plot = Plot::new("forgetting")
        .custom_x_axes(vec![axis(
            AxisHints::new_x(),
            ui,
            "days since the last answer",
        )])
        .x_grid_spacer(|input| marks(input.bounds, 7.0, 0.0))
        .custom_y_axes(vec![y_axis])
        .y_grid_spacer(|input| marks(input.bounds, 6.0, 5.0))
        .default_x_bounds(-0.03 * days, days)
        .include_y(101.0)
        .include_y(78.0)
        .allow_drag(false)
        .allow_zoom(false)
        .allow_double_click_reset(false);
    let points = card.forgetting(days, POINTS);
    show_plot(ui, "Forgetting", key, plot, |plot| {
        let line: PlotPoints<'_> = points
            .iter()
            .map(|[day, known]| [*day, 100.0 * known])
            .collect();
        plot.line(Line::new("still known", line).color(curve).width(2.0));
        let level = HLine::new("comes back", 100.0 * RETENTION).color(palette.weak_text);
        plot.hline(level.style(LineStyle::dashed_loose()));
        plot.vline(VLine::new("due", due).color(palette.warning));
        plot.vline(VLine::new("now", today).color(palette.accent));
    });
}
