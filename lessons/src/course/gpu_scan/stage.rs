//! What the scan theatre shows: the chunks in a row, the tokens of one of them on their threads, and what each thread holds; or the
//! launches in a row, the tokens of the text on their segments, and the state before each. The colour says how far back a value
//! reaches.

use egui::{Color32, CornerRadius, Painter, Rect, Sense, Stroke, StrokeKind, Ui, pos2, vec2};
use mambascope_core::scan::{Geometry, Stage, WARP};

use super::device_states::DeviceStates;
use super::operands::CHANNELS;
use super::own::{Cut, LEAN_HELD, LEAN_TILE, Launch, SLOTS};
use super::scan_theatre::{Play, Round, Run, Seen};
use crate::theme::{self, Palette};
use crate::widgets::amounts::count_text;
use crate::widgets::number;
use crate::widgets::plots::{footnote, line_key};

/// Height of the tokens' grid.
const GRID: f32 = 190.0;
/// Height of a strip, and of the words over it.
const STRIP: f32 = 18.0;
const WORDS: f32 = 20.0;
/// Between two warps.
const WARP_GAP: f32 = 6.0;

/// How the tokens are dealt out.
#[derive(Clone, Copy)]
pub enum Deal {
    /// Chunks, one after the other.
    Chunks(Geometry),
    /// Segments, at the same time.
    Segments(Cut),
}

impl Deal {
    /// The columns of the picture and the tokens of each.
    fn geometry(self) -> Geometry {
        match self {
            Self::Chunks(geometry) => geometry,
            Self::Segments(cut) => Geometry {
                threads: cut.segments,
                items: cut.segment,
            },
        }
    }

    /// Columns that stand closer together: a warp's threads.
    fn together(self) -> usize {
        match self {
            Self::Chunks(_) => WARP,
            Self::Segments(cut) => cut.segments,
        }
    }

    /// What the colours stand for.
    fn reaches(self) -> [(Reach, &'static str); 4] {
        let (column, columns) = match self {
            Self::Chunks(_) => ("its thread", "its warp"),
            Self::Segments(_) => ("its segment", "several segments"),
        };
        [
            (Reach::Itself, "its own token"),
            (Reach::Thread, column),
            (Reach::Warp, columns),
            (Reach::Start, "all, to token 0"),
        ]
    }
}

/// How far back a value reaches.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    Itself,
    Thread,
    Warp,
    Start,
}

impl Reach {
    fn of(run: &Run, geometry: Geometry, chunk: usize) -> Self {
        let (items, from) = (geometry.items, run.from);
        let first = chunk * geometry.chunk();
        let thread = run.to.saturating_sub(first) / items;
        let of_thread = first + thread * items;
        match from {
            0 => Self::Start,
            from if from < of_thread => Self::Warp,
            from if from < run.to => Self::Thread,
            _ => Self::Itself,
        }
    }

    fn colour(self, palette: &Palette) -> Color32 {
        let [blue, _, green, pink, ..] = palette.series;
        match self {
            Self::Itself => palette.border,
            Self::Thread => pink,
            Self::Warp => blue,
            Self::Start => green,
        }
    }
}

/// What this program's kernel did, in words.
fn own_words(launch: Launch, cut: Cut) -> String {
    let Geometry { threads, items } = cut.carry;
    match launch {
        Launch::Loaded => "every token's step (a, b); nothing is put together".to_owned(),
        Launch::Ends { item } => format!(
            "scan_ends: every segment but the last adds its token {item} to what it has, from zero"
        ),
        Launch::Carry(Stage::Serial { .. }) => format!(
            "scan_carry: {threads} threads put together what {items} segments each have left"
        ),
        Launch::Carry(Stage::Warp { distance }) => {
            format!("scan_carry: each thread takes in what the thread {distance} back has")
        }
        Launch::Carry(Stage::Written { .. }) => {
            "scan_carry: each thread writes the true state before its segments".to_owned()
        }
        Launch::Carry(_) => "scan_carry: each thread knows all before its first segment".to_owned(),
        Launch::Full { item } => format!(
            "scan_full: every segment writes the state of its token {item}, from its true beginning"
        ),
    }
}

/// What was done, in words.
fn words(stage: Stage) -> String {
    match stage {
        Stage::Loaded => "every token's step (a, b) is loaded".to_owned(),
        Stage::Serial { item } => {
            format!("each thread adds its token {item} to what it has: serial, no thread waits for another")
        }
        Stage::Warp { distance: 1 } => {
            "warp scan: each thread takes in the total of the thread before it".to_owned()
        }
        Stage::Warp { distance } => {
            format!("warp scan: each thread takes in what the thread {distance} back has")
        }
        Stage::Across => {
            "warp after warp, behind the carried prefix: each thread knows all before its first token"
                .to_owned()
        }
        Stage::Written { item } => {
            format!("each thread writes the state of its token {item}")
        }
        Stage::Carried => "the prefix is carried to the next chunk".to_owned(),
    }
}

/// Draws the theatre; its room is the same before there is an answer.
pub fn show(ui: &mut Ui, deal: Deal, tokens: usize, shown: Option<(&Play, &Seen)>) {
    let palette = theme::palette(ui.visuals());
    head(ui, deal, tokens, shown, palette);
    let width = ui.available_width();
    let height = 3.0 * WORDS + 2.0 * STRIP + GRID;
    let (outer, response) = ui.allocate_exact_size(vec2(width, height), Sense::hover());
    response.widget_info(|| {
        egui::WidgetInfo::labeled(
            egui::accesskit::Role::Image,
            true,
            match deal {
                Deal::Chunks(_) => "Tokens of the chunk on their threads",
                Deal::Segments(_) => "Tokens of the text on their segments",
            },
        )
    });
    let strip = outer.with_max_y(outer.top() + WORDS + STRIP);
    let totals = outer.with_min_y(outer.bottom() - WORDS - STRIP);
    let grid = Rect::from_min_max(
        pos2(outer.left(), strip.bottom() + WORDS),
        pos2(outer.right(), totals.top()),
    );
    let painter = ui.painter().clone();
    match deal {
        Deal::Chunks(geometry) => chunks(&painter, strip, geometry, tokens, shown, palette),
        Deal::Segments(cut) => launches(&painter, strip, cut, shown, palette),
    }
    let Some((play, seen)) = shown else { return };
    let stage = Picture {
        painter,
        palette,
        geometry: deal.geometry(),
        together: deal.together(),
        play,
        seen,
    };
    stage.title(grid.left_top() - vec2(0.0, WORDS - 2.0), grid_title(deal));
    stage.grid(grid);
    stage.title(totals.left_top(), totals_title(seen.round).to_owned());
    stage.totals(totals.with_min_y(totals.top() + WORDS));
    if let Some(pointer) = response.hover_pos()
        && let Some(text) = stage.under(grid, pointer)
    {
        response.on_hover_text_at_pointer(text);
    }
}

/// What the columns are.
fn grid_title(deal: Deal) -> String {
    let Geometry { threads, items } = deal.geometry();
    match deal {
        Deal::Chunks(_) => format!(
            "Tokens of the chunk: {threads} threads as columns, {items} tokens each from top to bottom"
        ),
        Deal::Segments(_) => format!(
            "The text: {threads} segments as columns, {items} tokens each from top to bottom, fetched {LEAN_TILE} at a time"
        ),
    }
}

/// What the row under them is.
fn totals_title(round: Round) -> &'static str {
    match round {
        Round::Published(Stage::Loaded | Stage::Serial { .. }) => {
            "What each thread holds (nothing yet)"
        }
        Round::Published(Stage::Warp { .. }) => {
            "What each thread holds: its total and those before it in its warp"
        }
        Round::Published(_) => "What each thread holds: the prefix before its first token",
        Round::Own(Launch::Loaded | Launch::Ends { .. }) => {
            "The state before each segment (not known yet; before the first there is none)"
        }
        Round::Own(Launch::Carry(Stage::Written { .. }) | Launch::Full { .. }) => {
            "The state before each segment (before the first there is none)"
        }
        Round::Own(Launch::Carry(_)) => {
            "What is known of the state before each segment (before the first there is none)"
        }
    }
}

/// The line over the picture: the light, the round in words; and the key.
fn head(ui: &mut Ui, deal: Deal, tokens: usize, shown: Option<(&Play, &Seen)>, palette: &Palette) {
    ui.horizontal(|ui| {
        let (dot, _) = ui.allocate_exact_size(vec2(14.0, 14.0), Sense::hover());
        let (colour, text) = match shown {
            None => (palette.control, String::new()),
            Some((play, _)) if play.wrong == 0 => (
                palette.series[2],
                format!(
                    "Equals the loop: largest difference {}",
                    number(play.worst as f32)
                ),
            ),
            Some((play, _)) => (
                palette.error,
                format!(
                    "Not what the loop gives: {} of {tokens} tokens differ, by up to {}",
                    play.wrong,
                    number(play.worst as f32)
                ),
            ),
        };
        ui.painter().circle_filled(dot.center(), 6.0, colour);
        ui.label(text);
    });
    let told = match (shown.map(|(_, seen)| (seen.round, seen.chunk)), deal) {
        (Some((Round::Published(stage), chunk)), Deal::Chunks(geometry)) => {
            let chunks = tokens.div_ceil(geometry.chunk());
            format!("Chunk {} of {chunks}: {}", chunk + 1, words(stage))
        }
        (Some((Round::Own(launch), _)), Deal::Segments(cut)) => own_words(launch, cut),
        // An answer of the other layout, until the new one is there.
        _ => String::new(),
    };
    ui.strong(told);
    ui.horizontal(|ui| {
        footnote(ui, "Colour: the value reaches back over", palette.weak_text);
        for (reach, text) in deal.reaches() {
            line_key(ui, reach.colour(palette), text.to_owned());
        }
        line_key(ui, palette.error, "all, but wrong".to_owned());
    });
}

/// The chunks as boxes in a row: done, being done, to come; and what is carried.
fn chunks(
    painter: &Painter,
    area: Rect,
    geometry: Geometry,
    tokens: usize,
    shown: Option<(&Play, &Seen)>,
    palette: &Palette,
) {
    /// More chunks than this are drawn as one bar.
    const MOST: usize = 64;
    let count = tokens.div_ceil(geometry.chunk());
    let (now, carried) = shown.map_or((0, None), |(_, seen)| (seen.chunk, seen.running));
    let text = match carried {
        None => format!("{count} chunks, one after the other; nothing is carried yet"),
        Some(run) => format!(
            "{count} chunks, one after the other; carried: tokens 0 to {}, a = {}, b = {}",
            run.to,
            number(run.map.a as f32),
            number(run.map.b as f32)
        ),
    };
    let font = egui::FontId::proportional(12.5);
    painter.text(
        area.left_top(),
        egui::Align2::LEFT_TOP,
        text,
        font,
        palette.weak_text,
    );
    let row = area.with_min_y(area.top() + WORDS).shrink2(vec2(0.0, 2.0));
    let shown_count = count.min(MOST);
    let width = row.width() / shown_count as f32;
    for i in 0..shown_count {
        // Of many, a box stands for several.
        let chunk = i * count / shown_count;
        let left = row.left() + i as f32 * width;
        let rect = Rect::from_x_y_ranges(left..=left + width - 2.0, row.y_range());
        let is_now = i == (now * shown_count) / count;
        let fill = if chunk < now && !is_now {
            Reach::Start.colour(palette)
        } else {
            palette.control
        };
        painter.rect_filled(rect, CornerRadius::same(2), fill);
        if is_now {
            let stroke = Stroke::new(2.0, palette.accent);
            painter.rect_stroke(rect, CornerRadius::same(2), stroke, StrokeKind::Inside);
        }
    }
}

/// The three launches as boxes in a row: done, at work, to come.
fn launches(
    painter: &Painter,
    area: Rect,
    cut: Cut,
    shown: Option<(&Play, &Seen)>,
    palette: &Palette,
) {
    const NAMES: [&str; 3] = [
        "scan_ends: from zero",
        "scan_carry: the states between",
        "scan_full: from the true states",
    ];
    let text = format!(
        "{} channels with {SLOTS} slots: a thread has {LEAN_HELD} channels and all their slots, a warp {} channels at the same token",
        count_text(CHANNELS as f64),
        LEAN_HELD * WARP
    );
    let font = egui::FontId::proportional(12.5);
    painter.text(
        area.left_top(),
        egui::Align2::LEFT_TOP,
        text,
        font.clone(),
        palette.weak_text,
    );
    let now = match shown.map(|(_, seen)| seen.round) {
        Some(Round::Own(Launch::Carry(_))) => 1,
        Some(Round::Own(Launch::Full { .. })) => 2,
        _ => 0,
    };
    // One segment is begun at its true beginning: the others are not launched.
    let first = if cut.segments == 1 { 2 } else { 0 };
    let row = area.with_min_y(area.top() + WORDS).shrink2(vec2(0.0, 1.0));
    let names = &NAMES[first..];
    let width = row.width() / names.len() as f32;
    for (i, name) in names.iter().enumerate() {
        let left = row.left() + i as f32 * width;
        let rect = Rect::from_x_y_ranges(left..=left + width - 2.0, row.y_range());
        painter.rect_filled(rect, CornerRadius::same(2), palette.control);
        let launch = first + i;
        let colour = if launch == now {
            let stroke = Stroke::new(2.0, palette.accent);
            painter.rect_stroke(rect, CornerRadius::same(2), stroke, StrokeKind::Inside);
            palette.text
        } else {
            palette.weak_text
        };
        let mark = if launch < now { " ✔" } else { "" };
        painter.text(
            rect.center(),
            egui::Align2::CENTER_CENTER,
            format!("{name}{mark}"),
            egui::FontId::proportional(11.5),
            colour,
        );
    }
}

/// The picture of a chunk, or of the whole text.
struct Picture<'a> {
    painter: Painter,
    palette: &'a Palette,
    geometry: Geometry,
    /// Columns between two gaps.
    together: usize,
    play: &'a Play,
    seen: &'a Seen,
}

impl Picture<'_> {
    fn title(&self, at: egui::Pos2, text: String) {
        let font = egui::FontId::proportional(12.5);
        let colour = self.palette.weak_text;
        self.painter
            .text(at, egui::Align2::LEFT_TOP, text, font, colour);
    }

    /// The columns of a thread.
    fn column(&self, area: Rect, thread: usize) -> egui::Rangef {
        let threads = self.geometry.threads;
        let gaps = (threads.div_ceil(self.together) - 1) as f32 * WARP_GAP;
        let width = (area.width() - gaps) / threads as f32;
        let left = area.left() + thread as f32 * width + (thread / self.together) as f32 * WARP_GAP;
        let gap = if width > 5.0 { 1.0 } else { 0.0 };
        egui::Rangef::new(left, left + width - gap)
    }

    fn row(&self, area: Rect, item: usize) -> egui::Rangef {
        let height = (area.height() - 4.0) / self.geometry.items as f32;
        let top = area.top() + item as f32 * height;
        let gap = if height > 4.0 { 1.0 } else { 0.0 };
        egui::Rangef::new(top, top + height - gap)
    }

    fn colour(&self, run: &Run) -> Color32 {
        let reach = Reach::of(run, self.geometry, self.seen.chunk);
        if reach == Reach::Start && !self.play.is_right(run.to, run.map.apply(0.0)) {
            return self.palette.error;
        }
        reach.colour(self.palette)
    }

    fn grid(&self, area: Rect) {
        for (i, run) in self.seen.cells.iter().enumerate() {
            let (thread, item) = (i / self.geometry.items, i % self.geometry.items);
            let rect = Rect::from_x_y_ranges(self.column(area, thread), self.row(area, item));
            self.painter
                .rect_filled(rect, CornerRadius::ZERO, self.colour(run));
        }
        if let Ok(Some(device)) = &self.play.device {
            self.borders(area, device);
        }
    }

    /// The states a device has carried on, each at the token it is the state of.
    fn borders(&self, area: Rect, device: &DeviceStates) {
        for &(token, is_right) in &device.borders {
            let (segment, item) = (token / self.geometry.items, token % self.geometry.items);
            let cell = Rect::from_x_y_ranges(self.column(area, segment), self.row(area, item));
            let fill = if is_right {
                self.palette.text
            } else {
                self.palette.error
            };
            let stroke = Stroke::new(1.0, self.palette.bg);
            // Whole inside the picture also in its last row.
            let middle = pos2(cell.center().x, cell.center().y.min(area.bottom() - 5.0));
            self.painter.circle(middle, 4.0, fill, stroke);
        }
    }

    fn totals(&self, area: Rect) {
        let rows = area.shrink2(vec2(0.0, 1.0)).y_range();
        for thread in 0..self.geometry.threads {
            let rect = Rect::from_x_y_ranges(self.column(area, thread), rows);
            match self.seen.threads.get(thread).copied().flatten() {
                Some(run) => {
                    self.painter
                        .rect_filled(rect, CornerRadius::ZERO, self.colour(&run));
                }
                None => {
                    let stroke = Stroke::new(1.0, self.palette.border);
                    self.painter
                        .rect_stroke(rect, CornerRadius::ZERO, stroke, StrokeKind::Inside);
                }
            }
        }
    }

    /// What the cell under the pointer is.
    fn under(&self, area: Rect, pointer: egui::Pos2) -> Option<String> {
        let items = self.geometry.items;
        let thread = (0..self.geometry.threads)
            .find(|&thread| self.column(area, thread).contains(pointer.x))?;
        let item = (0..items).find(|&item| self.row(area, item).contains(pointer.y))?;
        let run = self.seen.cells.get(thread * items + item)?;
        let wanted = self.play.loop_l.get(run.to)?;
        Some(format!(
            "column {thread}, its token {item}: token {} of the text\nstands for tokens {} to {}\na = {}, b = {}\nthe loop's state here: {}",
            run.to,
            run.from,
            run.to,
            number(run.map.a as f32),
            number(run.map.b as f32),
            number(*wanted as f32)
        ))
    }
}
