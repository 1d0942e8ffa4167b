//! What the parts of the page share: cards, the rating, how sure one is, spans of time.

use egui::{AsIdSalt, CentralPanel, Frame, Key, Panel, Response, RichText, ScrollArea, Ui, vec2};

use crate::practice::bank::{Level, Reference};
use crate::practice::schedule::{DAY, Rating, Zone};
use crate::theme;
use crate::widgets::plots::named_menu;

/// Widest line of text, about a hundred characters.
const LINE: f32 = 720.0;

/// Widest column of a part.
const COLUMN: f32 = 900.0;

/// The bar at the foot, with what can be done next: it stays in sight while the rest is scrolled.
pub(super) fn bar<R>(ui: &mut Ui, contents: impl FnOnce(&mut Ui) -> R) -> R {
    Panel::bottom("what can be done next")
        .resizable(false)
        .show(ui, |ui| {
            ui.add_space(6.0);
            let made = ui
                .horizontal_top(|ui| {
                    let (margin, width) = column(ui);
                    ui.add_space(margin);
                    ui.vertical(|ui| {
                        ui.set_width(width);
                        contents(ui)
                    })
                    .inner
                })
                .inner;
            ui.add_space(6.0);
            made
        })
        .inner
}

/// The column of a part, scrolled; another `salt` begins at its top.
pub(super) fn sheet<R>(ui: &mut Ui, salt: impl AsIdSalt, contents: impl FnOnce(&mut Ui) -> R) -> R {
    let scroll = ScrollArea::vertical().auto_shrink(false).id_salt(salt);
    let shown = CentralPanel::default().show(ui, |ui| {
        scroll.show(ui, |ui| {
            scroll_by_keys(ui);
            ui.horizontal_top(|ui| {
                let (margin, width) = column(ui);
                ui.add_space(margin);
                ui.vertical(|ui| {
                    ui.set_width(width);
                    ui.add_space(10.0);
                    let made = contents(ui);
                    ui.add_space(16.0);
                    made
                })
                .inner
            })
            .inner
        })
    });
    shown.inner.inner
}

/// Room to the left of the column, and its width.
fn column(ui: &Ui) -> (f32, f32) {
    let width = COLUMN.min(ui.available_width() - 24.0);
    let margin = ((ui.available_width() - width) / 2.0 - 4.0).clamp(4.0, 60.0);
    (margin, width)
}

/// Scrolls by keys, unless a control has them.
fn scroll_by_keys(ui: &Ui) {
    if !keys_are_free(ui) {
        return;
    }
    let screen = ui.clip_rect().height();
    let steps = [
        (Key::ArrowDown, 60.0),
        (Key::ArrowUp, -60.0),
        (Key::PageDown, 0.9 * screen),
        (Key::PageUp, -0.9 * screen),
    ];
    for (key, step) in steps {
        if ui.input(|input| input.key_pressed(key)) {
            ui.scroll_with_delta(vec2(0.0, -step));
        }
    }
}

/// Where one is in a row of things, and the way to the neighbours: by arrow keys too.
pub(super) fn neighbours(ui: &mut Ui, place: usize, count: usize, what: &str) -> Option<usize> {
    let mut go = None;
    ui.horizontal(|ui| {
        let back = ui.add_enabled(place > 0, egui::Button::new("← Previous"));
        if back.clicked() || (place > 0 && free_key(ui, Key::ArrowLeft)) {
            go = Some(place.saturating_sub(1));
        }
        let is_last = place + 1 >= count;
        let on = ui.add_enabled(!is_last, egui::Button::new("Next →"));
        if on.clicked() || (!is_last && free_key(ui, Key::ArrowRight)) {
            go = Some(place + 1);
        }
        small(ui, format!("{} of {count} {what}", place + 1));
    });
    go
}

/// The frame around one thing.
pub(super) fn card<R>(ui: &mut Ui, contents: impl FnOnce(&mut Ui) -> R) -> R {
    let palette = theme::palette(ui.visuals());
    ui.add_space(4.0);
    let shown = Frame::new()
        .fill(palette.panel)
        .stroke(egui::Stroke::new(1.0, palette.border))
        .corner_radius(6)
        .inner_margin(14)
        .show(ui, |ui| {
            ui.set_width(ui.available_width());
            contents(ui)
        });
    ui.add_space(4.0);
    shown.inner
}

/// Text in lines of a length that reads well.
pub(super) fn lines<R>(ui: &mut Ui, contents: impl FnOnce(&mut Ui) -> R) -> R {
    ui.scope(|ui| {
        ui.set_max_width(LINE.min(ui.available_width()));
        contents(ui)
    })
    .inner
}

/// The same for a question: larger.
pub(super) fn large_lines<R>(ui: &mut Ui, contents: impl FnOnce(&mut Ui) -> R) -> R {
    lines(ui, |ui| {
        let size = egui::FontId::proportional(17.0);
        let styles = &mut ui.style_mut().text_styles;
        styles.insert(egui::TextStyle::Body, size);
        contents(ui)
    })
}

/// The time something takes, without that in which it was out of sight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stopwatch {
    started: i64,
    spent: i64,
    is_paused: bool,
}

impl Stopwatch {
    /// Most seconds that count: who comes back after a day has not thought for a day.
    const MOST: i64 = 3_600;

    pub(super) fn new(now: i64) -> Self {
        Self {
            started: now,
            spent: 0,
            is_paused: false,
        }
    }

    pub(super) fn pause(&mut self, now: i64) {
        if !self.is_paused {
            self.spent = self.seconds(now);
            self.is_paused = true;
        }
    }

    pub(super) fn go_on(&mut self, now: i64) {
        if self.is_paused {
            self.started = now;
            self.is_paused = false;
        }
    }

    fn seconds(&self, now: i64) -> i64 {
        if self.is_paused {
            return self.spent;
        }
        (self.spent + (now - self.started).max(0)).min(Self::MOST)
    }

    /// Seconds so far.
    pub(super) fn read(&self, now: i64) -> f64 {
        self.seconds(now) as f64
    }
}

/// A small heading in the accent colour.
pub(super) fn kicker(ui: &mut Ui, text: &str) {
    let palette = theme::palette(ui.visuals());
    ui.label(RichText::new(text).small().strong().color(palette.accent));
}

/// A heading within a card.
pub(super) fn heading(ui: &mut Ui, text: &str) {
    ui.add_space(10.0);
    ui.label(RichText::new(text).strong().size(15.0));
    ui.add_space(2.0);
}

/// Small print.
pub(super) fn small(ui: &mut Ui, text: impl Into<String>) -> Response {
    let palette = theme::palette(ui.visuals());
    ui.label(RichText::new(text).small().color(palette.weak_text))
}

/// What there is to do where there is nothing to see.
pub(super) fn empty(ui: &mut Ui, title: &str, text: &str) {
    let palette = theme::palette(ui.visuals());
    ui.add_space(60.0);
    ui.vertical_centered(|ui| {
        ui.set_max_width(520.0);
        ui.label(RichText::new(title).strong().size(20.0));
        ui.add_space(6.0);
        ui.label(RichText::new(text).color(palette.weak_text));
    });
}

/// What an answer rests on.
pub(super) fn sources(ui: &mut Ui, sources: &[Reference]) {
    heading(ui, "Sources");
    for source in sources {
        ui.hyperlink_to(&source.text, &source.url);
    }
}

/// A field for words of the learner's own, with its name over it.
pub(super) fn words(
    ui: &mut Ui,
    name: &str,
    hint: &str,
    rows: usize,
    text: &mut String,
) -> Response {
    let label = small(ui, name);
    let field = egui::TextEdit::multiline(text)
        .desired_width(f32::INFINITY)
        .desired_rows(rows)
        .hint_text(hint);
    ui.add(field).labelled_by(label.id)
}

/// How sure the learner is, in percent; nothing until the slider is moved, unless there was something.
pub(super) fn confidence(ui: &mut Ui, least: f64, value: &mut Option<f64>) {
    ui.horizontal(|ui| {
        let mut percent = 100.0 * value.unwrap_or(least.max(0.5));
        let slider = egui::Slider::new(&mut percent, (100.0 * least).ceil()..=100.0)
            .fixed_decimals(0)
            .suffix(" %")
            .text("How sure are you?");
        if ui.add(slider).changed() {
            *value = Some(percent / 100.0);
        }
        if value.is_none() {
            small(ui, "not said yet");
        }
    });
}

/// Whether nothing has the keys, no control and no window over the page: those of the page are the page's.
pub(super) fn keys_are_free(ui: &Ui) -> bool {
    ui.memory(|memory| memory.focused().is_none() && memory.top_modal_layer().is_none())
}

/// Whether a key was pressed that no control wants.
pub(super) fn free_key(ui: &Ui, key: Key) -> bool {
    keys_are_free(ui) && ui.input(|input| input.key_pressed(key))
}

/// Whether the keys for "done writing" were pressed.
pub(super) fn done_keys(ui: &Ui) -> bool {
    ui.input(|input| input.modifiers.command && input.key_pressed(Key::Enter))
}

/// The digit from 1 that was pressed, unless a letter is being typed.
pub(super) fn digit(ui: &Ui) -> Option<u8> {
    const KEYS: [Key; 4] = [Key::Num1, Key::Num2, Key::Num3, Key::Num4];
    let is_covered = ui.memory(|memory| memory.top_modal_layer().is_some());
    if is_covered || ui.ctx().text_edit_focused() {
        return None;
    }
    let pressed = KEYS
        .iter()
        .position(|key| ui.input(|input| input.key_pressed(*key)))?;
    u8::try_from(pressed + 1).ok()
}

/// A word with a capital.
pub(super) fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().collect::<String>() + letters.as_str()
    })
}

/// A topic as it is shown.
pub(super) fn topic_title(topic: &str) -> String {
    match topic {
        "hippo-and-s4" => "HiPPO and S4".to_owned(),
        "ssd" => "SSD".to_owned(),
        other => capital(&other.replace('-', " ")),
    }
}

/// What an item is, how hard, and about what.
pub(super) fn describe(kind: &str, level: Level, topic: &str) -> String {
    format!("{kind} · {} · {}", level.name(), topic_title(topic))
}

/// A span of time in the largest unit of which there is at least one.
pub(super) fn span(seconds: i64) -> String {
    let count = |share: f64, unit: &str| {
        let rounded = if share < 10.0 && unit != "day" {
            (share * 10.0).round() / 10.0
        } else {
            share.round()
        };
        let plural = if rounded == 1.0 { "" } else { "s" };
        format!("{rounded} {unit}{plural}")
    };
    let (seconds, day) = (seconds.max(0) as f64, DAY as f64);
    match seconds {
        s if s < 60.0 => "less than a minute".to_owned(),
        s if s < 3_600.0 => format!("{} min", (s / 60.0).round()),
        s if s < day => format!("{} h", (s / 3_600.0).round()),
        s if s < 60.0 * day => count(s / day, "day"),
        s if s < 365.0 * day => count((s / (30.4 * day)).round(), "month"),
        s => count(s / (365.25 * day), "year"),
    }
}

/// The four ratings with what each leads to, one of them proposed. The keys 1 to 4 choose, Enter takes the proposal.
pub(super) fn rating(ui: &mut Ui, preview: [i64; 4], proposed: Rating) -> Option<Rating> {
    let mut chosen = digit(ui).and_then(Rating::of_key);
    if free_key(ui, Key::Enter) {
        chosen = Some(proposed);
    }
    for (i, (rating, seconds)) in Rating::ALL.into_iter().zip(preview).enumerate() {
        let name = capital(rating.name());
        let text = format!("{}  {name}: {}", i + 1, span(seconds));
        let button = egui::Button::selectable(rating == proposed, text).min_size(vec2(0.0, 30.0));
        let button = ui.add(button.frame_when_inactive(true));
        if button.clicked() {
            chosen = Some(rating);
        }
    }
    chosen
}

/// The main button of a part, with the keys that press it.
pub(super) fn main_button(ui: &mut Ui, enabled: bool, text: &str) -> bool {
    let palette = theme::palette(ui.visuals());
    let text = RichText::new(text).strong().color(palette.on_accent_soft);
    let button = egui::Button::new(text)
        .fill(palette.accent_soft)
        .min_size(vec2(0.0, 30.0));
    ui.add_enabled(enabled, button).clicked()
}

/// A menu of choices that may be left open.
pub(super) fn filter<T: Clone + PartialEq>(
    ui: &mut Ui,
    name: &str,
    any: &str,
    value: &mut Option<T>,
    choices: impl Iterator<Item = (T, String)>,
) {
    small(ui, name);
    let choices: Vec<(T, String)> = choices.collect();
    let shown = choices
        .iter()
        .find(|(choice, _)| Some(choice) == value.as_ref())
        .map_or(any, |(_, text)| text);
    let menu = egui::ComboBox::from_id_salt(name)
        .width(ui.available_width() - 8.0)
        .selected_text(shown)
        .show_ui(ui, |ui| {
            ui.selectable_value(value, None, any);
            for (choice, text) in &choices {
                ui.selectable_value(value, Some(choice.clone()), text);
            }
        });
    named_menu(&menu.response, name);
}

/// The day and time of a moment, as in 2026-11-25 18:05.
pub(super) fn date(at: i64, zone: Zone) -> String {
    let local = zone.local(at);
    let (days, seconds) = (local.div_euclid(DAY), local.rem_euclid(DAY));
    // Years that begin in March, in eras of 400: the leap day comes last.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era * 400 + year + carry;
    let (hour, minute) = (seconds / 3_600, seconds % 3_600 / 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_their_date() {
        assert_eq!(date(0, Zone::UTC), "1970-01-01 00:00");
        assert_eq!(date(951_782_400, Zone::UTC), "2000-02-29 00:00");
        assert_eq!(date(1_795_633_500, Zone::UTC), "2026-11-25 19:05");
        assert_eq!(
            date(1_795_633_500, Zone::Fixed(5 * 3_600)),
            "2026-11-26 00:05"
        );
        assert_eq!(date(-1, Zone::UTC), "1969-12-31 23:59");
    }

    #[test]
    fn spans_are_said_in_fitting_units() {
        assert_eq!(span(600), "10 min");
        assert_eq!(span(DAY), "1 day");
        assert_eq!(span(16 * DAY), "16 days");
        assert_eq!(span(100 * DAY), "3 months");
        assert_eq!(span(800 * DAY), "2.2 years");
    }
}
