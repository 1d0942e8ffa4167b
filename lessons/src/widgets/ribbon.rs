//! A ribbon of tokens: one chip each, coloured by a reading, wrapped like text.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use egui::accesskit::Role;
use egui::{
    Color32, EventFilter, FontId, Id, IdSalt, Key, Painter, PopupAnchor, Rect, Response,
    ScrollArea, Sense, Shape, Stroke, StrokeKind, TextStyle, Tooltip, Ui, WidgetInfo, pos2, vec2,
};

use super::colormap::{Colormap, Scale, number, strip};
use super::token_text::visible_token;
use crate::theme::{self, Palette};

/// From one line of chips to the next.
const PITCH: f32 = 30.0;
/// Height of a chip.
const CHIP: f32 = 24.0;
/// Between the edge of a chip and its text.
const PADDING: f32 = 5.0;
/// Between two chips of a line.
const GAP: f32 = 3.0;
/// Room around the chips for the frame of the selected one.
const EDGE: f32 = 3.0;
/// Height of the legend.
const LEGEND: f32 = 22.0;
/// Longer tokens are cut on the chip; the tooltip has them in full.
const LONGEST_TEXT: usize = 48;

/// One chip of a [`Ribbon`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RibbonToken<'a> {
    /// The token as the tokenizer gives it, spaces and line ends included.
    pub text: &'a str,
    /// The reading that colours the chip; NaN where there is none.
    pub value: f32,
    /// Whether the model wrote it; the others are the prompt.
    pub generated: bool,
}

/// Tokens as coloured chips, one of which may be selected.
#[must_use = "a widget does nothing until it is shown"]
pub struct Ribbon<'a> {
    id_salt: IdSalt,
    tokens: &'a [RibbonToken<'a>],
    title: &'a str,
    value_name: &'a str,
    selected: Option<usize>,
    scale: Scale,
    colormap: Colormap,
    max_height: f32,
    hover: Option<&'a dyn Fn(usize) -> String>,
}

/// What the user did to a [`Ribbon`].
#[derive(Debug)]
pub struct RibbonResponse {
    /// The selection after this frame: what was passed in, or what a click or key made of it.
    pub selected: Option<usize>,
    /// The chip under the pointer.
    pub hovered: Option<usize>,
    /// The widget as a whole; it holds the keyboard focus.
    pub response: Response,
}

impl<'a> Ribbon<'a> {
    /// A ribbon of `tokens`; `id_salt` tells it from its siblings on the same page.
    pub fn new(id_salt: impl egui::AsIdSalt, tokens: &'a [RibbonToken<'a>]) -> Self {
        Self {
            id_salt: IdSalt::new(id_salt),
            tokens,
            title: "Tokens",
            value_name: "",
            selected: None,
            scale: Scale::linear(0.0, 1.0),
            colormap: Colormap::default(),
            max_height: 180.0,
            hover: None,
        }
    }

    /// The name of the whole, for those who hear the page. "Tokens" unless set.
    pub fn title(mut self, title: &'a str) -> Self {
        self.title = title;
        self
    }

    /// What the colours mean, with its unit, for the legend: "surprise (nats)".
    pub fn value_name(mut self, name: &'a str) -> Self {
        self.value_name = name;
        self
    }

    /// The selected chip. When it changes from outside, the ribbon scrolls to show it.
    pub fn selected(mut self, selected: Option<usize>) -> Self {
        self.selected = selected;
        self
    }

    /// The values of the first and the last colour. 0 to 1 unless set.
    pub fn scale(mut self, scale: Scale) -> Self {
        self.scale = scale;
        self
    }

    /// The colours. Viridis unless set.
    pub fn colormap(mut self, colormap: Colormap) -> Self {
        self.colormap = colormap;
        self
    }

    /// How high the chips may grow before they scroll, in points. 180 unless set.
    pub fn max_height(mut self, height: f32) -> Self {
        self.max_height = height;
        self
    }

    /// What to say of a chip under the pointer, instead of its text and value.
    pub fn hover(mut self, describe: &'a dyn Fn(usize) -> String) -> Self {
        self.hover = Some(describe);
        self
    }

    /// Draw the ribbon over the available width.
    pub fn show(&self, ui: &mut Ui) -> RibbonResponse {
        let id = ui.make_persistent_id(self.id_salt);
        let font = TextStyle::Body.resolve(ui.style());
        let flow = self.flow(ui, id, &font);
        let given = self.selected.filter(|index| *index < self.tokens.len());

        let top_left = ui.cursor().min;
        let seen: Option<Option<usize>> = ui.data(|data| data.get_temp(id.with("seen")));
        let area = ScrollArea::vertical()
            .id_salt(self.id_salt)
            .max_height(self.max_height)
            .auto_shrink([false, true]);
        let shown = area.show_viewport(ui, |ui, viewport| {
            ui.set_height(flow.height());
            let origin = ui.max_rect().min + vec2(EDGE, EDGE);
            let window = ui.clip_rect().intersect(ui.max_rect());
            // The whole takes the focus; it lies under the chips and leaves the clicks to them.
            let whole = ui.interact(window, id, Sense::click());
            self.name_whole(ui, &whole);
            let keyed = self.keys(ui, &whole, &flow, given);
            let in_view = flow.in_view(viewport.y_range());
            let place = |index| (id.with(index), flow.rect(index, origin));
            let (clicked, hovered) = self.chips(ui, in_view, &place, keyed);
            if clicked.is_some() {
                whole.request_focus();
            }
            let selected = clicked.or(keyed);
            if let Some(chip) = selected.filter(|_| seen != Some(selected)) {
                let rect = flow.rect(chip, origin).expand(EDGE);
                if !window.contains_rect(rect) {
                    // By as little as needed: then whole lines stay in view.
                    ui.scroll_to_rect(rect, None);
                }
            }
            (whole, selected, hovered)
        });
        let (response, selected, hovered) = shown.inner;
        ui.data_mut(|data| data.insert_temp(id.with("seen"), selected));
        if response.has_focus() {
            let frame = Rect::from_min_max(top_left, shown.inner_rect.max);
            let stroke = Stroke::new(1.0, theme::palette(ui.visuals()).accent);
            let painter = ui.painter();
            painter.rect_stroke(frame.expand(2.0), 6, stroke, StrokeKind::Outside);
        }
        self.legend(ui);
        RibbonResponse {
            selected,
            hovered,
            response,
        }
    }

    /// Where each chip goes; worked out anew only when a text or the width changes.
    fn flow(&self, ui: &Ui, id: Id, font: &FontId) -> Arc<Flow> {
        let room = ui.available_width() - 2.0 * EDGE - ui.spacing().scroll.allocated_width();
        let mut hasher = DefaultHasher::new();
        (room.to_bits(), font.size.to_bits()).hash(&mut hasher);
        ui.pixels_per_point().to_bits().hash(&mut hasher);
        for token in self.tokens {
            token.text.hash(&mut hasher);
        }
        let key = hasher.finish();
        let known = ui.data(|data| {
            let layout = data.get_temp::<Layout>(id)?;
            (layout.key == Some(key)).then_some(layout.flow)
        });
        if let Some(flow) = known {
            return flow;
        }
        // Taken out, so that the table of widths grows in place.
        let remembered = ui.data_mut(|data| data.remove_temp::<Layout>(id));
        let mut layout = remembered.unwrap_or_default();
        layout.measure(self.tokens, ui.painter(), font);
        let sizes = self.tokens.iter().map(|token| {
            let width = layout.widths.get(token.text).copied().unwrap_or_default();
            (width + 2.0 * PADDING, token.text.ends_with('\n'))
        });
        layout.flow = Arc::new(Flow::new(sizes, room));
        layout.key = Some(key);
        let flow = layout.flow.clone();
        ui.data_mut(|data| data.insert_temp(id, layout));
        flow
    }

    fn name_whole(&self, ui: &Ui, whole: &Response) {
        let enabled = ui.is_enabled();
        whole.widget_info(|| {
            let mut info = WidgetInfo::labeled(Role::ListBox, enabled, self.title);
            info.current_text_value = Some(match self.selected {
                Some(index) => format!("{} of {}", index + 1, self.tokens.len()),
                None => format!("{} tokens", self.tokens.len()),
            });
            info
        });
    }

    /// Move the selection with the arrow keys, Home and End.
    fn keys(
        &self,
        ui: &Ui,
        whole: &Response,
        flow: &Flow,
        selected: Option<usize>,
    ) -> Option<usize> {
        let last = self.tokens.len().checked_sub(1)?;
        if !whole.has_focus() {
            return selected;
        }
        let filter = EventFilter {
            horizontal_arrows: true,
            vertical_arrows: true,
            ..Default::default()
        };
        ui.memory_mut(|memory| memory.set_focus_lock_filter(whole.id, filter));
        let presses = |key| ui.input(|input| input.num_presses(key));
        let mut index = selected;
        for (key, step) in [(Key::ArrowLeft, -1), (Key::ArrowRight, 1)] {
            for _ in 0..presses(key) {
                let start = if step > 0 { 0 } else { last };
                index = Some(index.map_or(start, |i| i.saturating_add_signed(step).min(last)));
            }
        }
        for (key, down) in [(Key::ArrowUp, false), (Key::ArrowDown, true)] {
            for _ in 0..presses(key) {
                index = Some(index.map_or(0, |i| flow.vertical_neighbour(i, down)));
            }
        }
        for (key, end) in [(Key::Home, 0), (Key::End, last)] {
            if presses(key) > 0 {
                index = Some(end);
            }
        }
        index
    }

    /// Draw these chips; which was clicked, and which is under the pointer.
    fn chips(
        &self,
        ui: &Ui,
        indices: Range<usize>,
        place: &dyn Fn(usize) -> (Id, Rect),
        selected: Option<usize>,
    ) -> (Option<usize>, Option<usize>) {
        let palette = theme::palette(ui.visuals());
        let font = TextStyle::Body.resolve(ui.style());
        let (mut clicked, mut hovered) = (None, None);
        for index in indices {
            let token = &self.tokens[index];
            let (id, rect) = place(index);
            let response = ui.interact(rect, id, Sense::CLICK);
            if response.clicked() {
                clicked = Some(index);
            }
            if response.hovered() {
                hovered = Some(index);
                self.tell(ui, &response, index);
            }
            let chosen = selected == Some(index);
            response.widget_info(|| {
                let name = self.name(index);
                WidgetInfo::selected(Role::ListBoxOption, true, chosen, name)
            });
            let begins = index > 0 && token.generated && !self.tokens[index - 1].generated;
            let chip = Chip {
                token,
                rect,
                fill: self.fill(token, palette),
                hovered: response.hovered(),
                begins,
            };
            chip.paint(ui.painter(), &font, palette);
        }
        if let Some(index) = selected {
            frame(ui.painter(), place(index).1, palette);
        }
        (clicked, hovered)
    }

    fn fill(&self, token: &RibbonToken<'_>, palette: &Palette) -> Color32 {
        match self.scale.place(token.value) {
            Some(t) => self.colormap.color(t, palette),
            None => palette.control,
        }
    }

    /// A chip in words: its text and its reading.
    fn name(&self, index: usize) -> String {
        let token = &self.tokens[index];
        let text = visible_token(token.text);
        if token.value.is_nan() {
            text.into_owned()
        } else {
            format!("{text} {}", number(token.value))
        }
    }

    fn tell(&self, ui: &Ui, response: &Response, index: usize) {
        let text = match self.hover {
            Some(describe) => describe(index),
            None if self.value_name.is_empty() => self.name(index),
            None => {
                let token = &self.tokens[index];
                let (text, value) = (visible_token(token.text), number(token.value));
                format!("{index}: {text}\n{} = {value}", self.value_name)
            }
        };
        let anchor = PopupAnchor::ParentRect(response.rect);
        Tooltip::always_open(ui.ctx().clone(), response.layer_id, response.id, anchor)
            .gap(6.0)
            .show(|ui| ui.label(text));
    }

    /// A strip of the colours with the values of its ends, and what an underline means.
    fn legend(&self, ui: &mut Ui) {
        const STRIP: f32 = 110.0;
        let palette = theme::palette(ui.visuals());
        let (_, row) = ui.allocate_space(vec2(ui.available_width(), LEGEND));
        let painter = ui.painter_at(row);
        let font = TextStyle::Small.resolve(ui.style());
        let ink = palette.weak_text;
        let mut x = row.left() + EDGE;
        let write = |x: &mut f32, text: String| {
            let galley = painter.layout_no_wrap(text, font.clone(), ink);
            let fits = *x + galley.size().x <= row.right();
            if fits {
                let at = pos2(*x, row.center().y - galley.size().y / 2.0);
                *x += galley.size().x;
                painter.galley(at, galley, ink);
            }
            fits
        };
        if !self.value_name.is_empty() && write(&mut x, self.value_name.to_owned()) {
            x += 10.0;
        }
        if x + STRIP + 90.0 <= row.right() {
            write(&mut x, number(self.scale.lo));
            x += 6.0;
            let bar =
                Rect::from_x_y_ranges(x..=x + STRIP, row.center().y - 4.0..=row.center().y + 4.0);
            painter.add(strip(bar, self.colormap, palette));
            x += STRIP + 6.0;
            write(&mut x, number(self.scale.hi));
            x += 22.0;
        }
        let generated = self.tokens.iter().any(|token| token.generated);
        if generated && x + 130.0 <= row.right() {
            let y = row.center().y + 4.0;
            painter.hline(x..=x + 18.0, y, Stroke::new(2.0, palette.accent));
            x += 24.0;
            write(&mut x, "written by the model".to_owned());
        }
    }
}

/// What is drawn for one token.
struct Chip<'a> {
    token: &'a RibbonToken<'a>,
    rect: Rect,
    fill: Color32,
    hovered: bool,
    /// Whether the model's own words begin here.
    begins: bool,
}

impl Chip<'_> {
    fn paint(&self, painter: &Painter, font: &FontId, palette: &Palette) {
        let Self { rect, fill, .. } = *self;
        painter.rect_filled(rect, 4, fill);
        let ink = theme::ink_on(fill);
        let galley = painter.layout_no_wrap(chip_text(self.token.text), font.clone(), ink);
        let at = pos2(
            rect.left() + PADDING,
            rect.center().y - galley.size().y / 2.0,
        );
        painter.galley(at, galley, ink);
        if self.hovered {
            let stroke = Stroke::new(1.0, palette.text);
            painter.rect_stroke(rect, 4, stroke, StrokeKind::Outside);
        }
        let accent = Stroke::new(2.0, palette.accent);
        if self.token.generated {
            let line = rect.left() + 1.0..=rect.right() - 1.0;
            painter.hline(line, rect.bottom() + 2.0, accent);
        }
        if self.begins {
            let x = rect.left() - GAP / 2.0 - 0.5;
            painter.vline(x, rect.top() - 1.0..=rect.bottom() + 3.5, accent);
            let tip = pos2(x, rect.top() - 3.0);
            let flag = vec![tip, tip + vec2(6.0, 3.0), tip + vec2(0.0, 6.0)];
            painter.add(Shape::convex_polygon(flag, palette.accent, Stroke::NONE));
        }
    }
}

/// The frame of the selected chip, set off from the colour of the chip.
fn frame(painter: &Painter, rect: Rect, palette: &Palette) {
    let paper = Stroke::new(1.5, palette.surface);
    painter.rect_stroke(rect, 4, paper, StrokeKind::Inside);
    let accent = Stroke::new(2.5, palette.accent);
    painter.rect_stroke(rect, 4, accent, StrokeKind::Outside);
}

/// What is written on the chip of a token.
fn chip_text(text: &str) -> String {
    let shown = visible_token(text);
    match shown.char_indices().nth(LONGEST_TEXT) {
        Some((end, _)) => format!("{}…", &shown[..end]),
        None => shown.into_owned(),
    }
}

/// What a ribbon remembers from frame to frame.
#[derive(Clone, Default)]
struct Layout {
    /// Of the texts, the width and the font the flow was made for.
    key: Option<u64>,
    flow: Arc<Flow>,
    /// Widths of the texts met so far, at [`Self::font`].
    widths: Arc<HashMap<String, f32>>,
    font: Option<(FontId, u32)>,
}

impl Layout {
    /// Learn the widths of texts not met before.
    fn measure(&mut self, tokens: &[RibbonToken<'_>], painter: &Painter, font: &FontId) {
        let font_now = Some((font.clone(), painter.pixels_per_point().to_bits()));
        if self.font != font_now {
            self.font = font_now;
            self.widths = Arc::default();
        }
        let widths = Arc::make_mut(&mut self.widths);
        for token in tokens {
            if !widths.contains_key(token.text) {
                let text = chip_text(token.text);
                let galley = painter.layout_no_wrap(text, font.clone(), Color32::PLACEHOLDER);
                widths.insert(token.text.to_owned(), galley.size().x);
            }
        }
    }
}

/// Chips in lines.
#[derive(Debug, Default)]
struct Flow {
    chips: Vec<Place>,
    /// The first chip of each line.
    lines: Vec<usize>,
}

/// Where a chip is in the flow.
#[derive(Clone, Copy, Debug)]
struct Place {
    line: usize,
    left: f32,
    width: f32,
}

impl Flow {
    /// Fill lines of `room` with chips of these widths; a chip with `true` ends its line.
    fn new(chips: impl Iterator<Item = (f32, bool)>, room: f32) -> Self {
        let mut flow = Self::default();
        let mut left = 0.0;
        let mut broken = true;
        for (index, (width, ends_line)) in chips.enumerate() {
            let width = width.min(room.max(2.0 * PADDING));
            if broken || left + width > room {
                flow.lines.push(index);
                left = 0.0;
            }
            let line = flow.lines.len() - 1;
            flow.chips.push(Place { line, left, width });
            left += width + GAP;
            broken = ends_line;
        }
        flow
    }

    fn height(&self) -> f32 {
        self.lines.len() as f32 * PITCH - (PITCH - CHIP) + 2.0 * EDGE + 3.0
    }

    fn rect(&self, index: usize, origin: egui::Pos2) -> Rect {
        let Some(place) = self.chips.get(index) else {
            return Rect::NOTHING;
        };
        let corner = origin + vec2(place.left, place.line as f32 * PITCH);
        Rect::from_min_size(corner, vec2(place.width, CHIP))
    }

    fn line(&self, line: usize) -> Range<usize> {
        let start = |line: usize| self.lines.get(line).copied().unwrap_or(self.chips.len());
        start(line)..start(line + 1)
    }

    /// The chips of the lines in this stretch of the height; of the underline at its very top none.
    fn in_view(&self, y_range: egui::Rangef) -> Range<usize> {
        let line = |y: f32| (y / PITCH).max(0.0) as usize;
        let (first, last) = (line(y_range.min + 1.0), line(y_range.max));
        self.line(first).start..self.line(last).end
    }

    /// The chip above or below, the one whose middle is nearest.
    fn vertical_neighbour(&self, index: usize, down: bool) -> usize {
        let Some(from) = self.chips.get(index) else {
            return index;
        };
        let line = from.line.saturating_add_signed(if down { 1 } else { -1 });
        if line == from.line || line >= self.lines.len() {
            return index;
        }
        let middle = |place: &Place| place.left + place.width / 2.0;
        let distance = |i: &usize| (middle(&self.chips[*i]) - middle(from)).abs();
        self.line(line)
            .min_by(|a, b| distance(a).total_cmp(&distance(b)))
            .unwrap_or(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(widths: &[(f32, bool)]) -> Flow {
        Flow::new(widths.iter().copied(), 100.0)
    }

    fn lines(flow: &Flow) -> Vec<usize> {
        flow.chips.iter().map(|chip| chip.line).collect()
    }

    #[test]
    fn chips_wrap_and_break_after_line_ends() {
        let flow = flow(&[(60.0, false), (30.0, false), (30.0, true), (10.0, false)]);
        assert_eq!(lines(&flow), [0, 0, 1, 2]);
        assert_eq!(flow.chips[1].left, 60.0 + GAP);
        assert_eq!(flow.line(1), 2..3);
        assert_eq!(flow.line(9), 4..4);
    }

    #[test]
    fn a_chip_wider_than_the_line_is_cut_to_it() {
        let flow = flow(&[(10.0, false), (500.0, false), (10.0, false)]);
        assert_eq!(lines(&flow), [0, 1, 2]);
        assert_eq!(flow.chips[1].width, 100.0);
    }

    #[test]
    fn only_lines_in_view_are_drawn() {
        let flow = flow(&[(100.0, false); 50]);
        assert_eq!(flow.in_view(egui::Rangef::new(0.0, 59.0)), 0..2);
        assert_eq!(flow.in_view(egui::Rangef::new(95.0, 125.0)), 3..5);
        assert_eq!(flow.in_view(egui::Rangef::new(30.0, 93.0)), 1..4);
        assert_eq!(flow.in_view(egui::Rangef::new(1e6, 2e6)), 50..50);
        assert!(flow.height() > 49.0 * PITCH);
    }

    #[test]
    fn up_and_down_go_to_the_nearest_chip() {
        let flow = flow(&[(45.0, false), (45.0, true), (20.0, false), (70.0, false)]);
        assert_eq!(flow.vertical_neighbour(1, true), 3);
        assert_eq!(flow.vertical_neighbour(2, false), 0);
        assert_eq!(flow.vertical_neighbour(0, false), 0);
        assert_eq!(flow.vertical_neighbour(3, true), 3);
    }

    #[test]
    fn an_empty_ribbon_has_no_lines() {
        let flow = flow(&[]);
        assert_eq!(flow.in_view(egui::Rangef::new(0.0, 500.0)), 0..0);
        assert_eq!(flow.rect(0, egui::Pos2::ZERO), Rect::NOTHING);
    }

    #[test]
    fn long_tokens_are_cut_on_the_chip() {
        let shown = chip_text(&"é".repeat(60));
        assert_eq!(shown.chars().count(), LONGEST_TEXT + 1);
        assert!(shown.ends_with('…'));
    }
}
