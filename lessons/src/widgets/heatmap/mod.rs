//! The heatmap of the whole app: a grid of numbers as one texture, with axes, a colour bar,
//! values on hover, zoom, and ways to take the picture or the numbers home.

mod export;
mod grid;
mod layout;
mod paint;
mod raster;
mod texture;
mod view;

use egui::accesskit::Role;
use egui::containers::menu::MenuButton;
use egui::{
    AsIdSalt, Button, CursorIcon, EventFilter, Id, IdSalt, Key, Popup, PopupAnchor, Rect, Response,
    RichText, Sense, Tooltip, Ui, UiBuilder, Vec2, WidgetInfo, vec2,
};

pub use export::{Takeaway, png};
pub use grid::{Grid, Pooling};

use super::colormap::{Colormap, Scale, ScaleKind, number};
use crate::theme;
use grid::Bins;
use view::{Projection, View, shown};

/// The name and the labels of one side of a heatmap.
#[derive(Clone, Copy)]
pub struct Axis<'a> {
    name: &'a str,
    start: usize,
    label: Option<&'a dyn Fn(usize) -> String>,
}

impl<'a> Axis<'a> {
    /// An axis counted from zero. Put the unit into the name where there is one: "time (steps)".
    pub fn new(name: &'a str) -> Self {
        Self {
            name,
            start: 0,
            label: None,
        }
    }

    /// Count its places from `start` instead of zero, for a window into something longer.
    pub fn counted_from(mut self, start: usize) -> Self {
        self.start = start;
        self
    }

    /// Label its places with these texts instead of their indices.
    pub fn labels(mut self, label: &'a dyn Fn(usize) -> String) -> Self {
        self.label = Some(label);
        self
    }

    /// What to call place `index`.
    fn label(&self, index: usize) -> String {
        match self.label {
            Some(label) => label(index),
            None => (self.start + index).to_string(),
        }
    }
}

/// What the user asked of a heatmap that only its caller can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeatmapAction {
    /// Put [`Takeaway::clipboard_picture`] on the clipboard.
    CopyPicture,
    /// Write [`Takeaway::picture`] to a file.
    SavePicture,
    /// Write [`Takeaway::csv`] to a file.
    SaveCsv,
}

/// What the user did to a [`Heatmap`].
#[derive(Debug)]
pub struct HeatmapResponse {
    /// The cell that was clicked in this frame, as (row, col).
    pub clicked: Option<(usize, usize)>,
    /// The cell under the pointer, as (row, col).
    pub hovered: Option<(usize, usize)>,
    /// What was chosen from the menu in this frame.
    pub action: Option<HeatmapAction>,
    /// The widget as a whole.
    pub response: Response,
}

/// A grid of numbers as colours.
#[derive(Clone, Copy)]
#[must_use = "a widget does nothing until it is shown"]
pub struct Heatmap<'a> {
    id_salt: IdSalt,
    title: &'a str,
    grid: Grid<'a>,
    data_version: u64,
    rows: Axis<'a>,
    cols: Axis<'a>,
    value_name: &'a str,
    scale: Option<Scale>,
    scale_kind: ScaleKind,
    colormap: Colormap,
    pooling: Pooling,
    gaps: bool,
    selected_row: Option<usize>,
    selected_col: Option<usize>,
    hover: Option<&'a dyn Fn(usize, usize, f32) -> String>,
    empty: &'a str,
    height: f32,
    scroll_zooms: bool,
    /// Whether there is someone to open the menu; a picture goes without it.
    on_screen: bool,
}

impl<'a> Heatmap<'a> {
    /// A heatmap of `grid`; `id_salt` tells it from its siblings on the same page.
    pub fn new(id_salt: impl AsIdSalt, title: &'a str, grid: Grid<'a>) -> Self {
        Self {
            id_salt: IdSalt::new(id_salt),
            title,
            grid,
            data_version: 0,
            rows: Axis::new("row"),
            cols: Axis::new("column"),
            value_name: "value",
            scale: None,
            scale_kind: ScaleKind::Linear,
            colormap: Colormap::default(),
            pooling: Pooling::default(),
            gaps: false,
            selected_row: None,
            selected_col: None,
            hover: None,
            empty: "Nothing to show yet.",
            height: 240.0,
            scroll_zooms: true,
            on_screen: true,
        }
    }

    /// A number that changes whenever the values do. Between changes the picture is reused.
    pub fn data_version(mut self, version: u64) -> Self {
        self.data_version = version;
        self
    }

    /// What the rows are.
    pub fn rows(mut self, axis: Axis<'a>) -> Self {
        self.rows = axis;
        self
    }

    /// What the columns are.
    pub fn cols(mut self, axis: Axis<'a>) -> Self {
        self.cols = axis;
        self
    }

    /// What a value is, with its unit: "Δ (steps)". It labels the colour bar.
    pub fn value_name(mut self, name: &'a str) -> Self {
        self.value_name = name;
        self
    }

    /// The values of the first and the last colour. Unless set, the scale is fitted to the data.
    pub fn scale(mut self, scale: Scale) -> Self {
        self.scale = Some(scale);
        self
    }

    /// Fit a scale of this kind to the data. Linear unless set.
    pub fn fit(mut self, kind: ScaleKind) -> Self {
        self.scale = None;
        self.scale_kind = kind;
        self
    }

    /// The colours. Viridis unless set.
    pub fn colormap(mut self, colormap: Colormap) -> Self {
        self.colormap = colormap;
        self
    }

    /// What stands for cells that share a pixel. The loudest of them unless set.
    pub fn pooling(mut self, pooling: Pooling) -> Self {
        self.pooling = pooling;
        self
    }

    /// Take NaN for a place without a value, such as what a token cannot see, and not for a value that went wrong.
    pub fn gaps(mut self) -> Self {
        self.gaps = true;
        self
    }

    /// Frame a row.
    pub fn selected_row(mut self, row: Option<usize>) -> Self {
        self.selected_row = row;
        self
    }

    /// Frame a column, such as the token selected elsewhere.
    pub fn selected_col(mut self, col: Option<usize>) -> Self {
        self.selected_col = col;
        self
    }

    /// What to say of the cell under the pointer, from its row, column and value.
    pub fn hover(mut self, describe: &'a dyn Fn(usize, usize, f32) -> String) -> Self {
        self.hover = Some(describe);
        self
    }

    /// What to say where there is no cell.
    pub fn empty(mut self, message: &'a str) -> Self {
        self.empty = message;
        self
    }

    /// The height of the whole widget in points, title and axes included. 240 unless set.
    pub fn height(mut self, height: f32) -> Self {
        self.height = height;
        self
    }

    /// Whether turning the wheel over the map zooms it. Otherwise only Ctrl + wheel and pinching do,
    /// and the wheel is left to the page.
    pub fn scroll_zooms(mut self, zooms: bool) -> Self {
        self.scroll_zooms = zooms;
        self
    }

    /// Draw the map over the available width.
    pub fn show(&self, ui: &mut Ui) -> HeatmapResponse {
        let id = ui.make_persistent_id(self.id_salt);
        let (_, outer) = ui.allocate_space(vec2(ui.available_width(), self.height));
        if self.grid.is_empty() {
            return self.show_empty(ui, id, outer);
        }
        let scale = self.scale_in_force(ui, id);
        let layout = layout::arrange(outer, paint::wants(self, ui, outer, &scale));
        let response = ui.interact(layout.map, id, Sense::click_and_drag());
        let mut view: View = ui.data(|data| data.get_temp(id)).unwrap_or_default();
        self.steer(ui, &response, &mut view);
        let chosen = self.menus(ui, &response, layout.title, view.is_zoomed());
        if chosen == Some(Choice::ResetZoom) {
            view = View::default();
        }
        ui.data_mut(|data| data.insert_temp(id, view));

        let projection = Projection {
            rect: layout.map,
            rows: shown(view.rows, self.grid.rows()),
            cols: shown(view.cols, self.grid.cols()),
        };
        let bins = texture::bins(ui, &projection);
        // A menu over the map is what the pointer is busy with.
        let hovered = response
            .hover_pos()
            .filter(|_| !Popup::is_any_open(ui.ctx()))
            .and_then(|pos| self.cell_shown(&projection, bins, pos));
        let clicked = response
            .interact_pointer_pos()
            .filter(|_| response.clicked())
            .and_then(|pos| self.cell_shown(&projection, bins, pos));
        if ui.is_rect_visible(outer) {
            let canvas = paint::Canvas {
                map: self,
                layout: &layout,
                projection,
                scale,
                bins,
                palette: theme::palette(ui.visuals()),
            };
            let texture = texture::cached(self, ui, id, &scale, bins);
            canvas.paint(ui, &texture, &response, hovered);
            if let Some(cell) = hovered.filter(|_| !response.dragged()) {
                self.tell(ui, &response, cell);
            }
        }
        self.name(ui, &response, &scale);
        HeatmapResponse {
            clicked,
            hovered,
            action: chosen.and_then(Choice::action),
            response,
        }
    }

    fn show_empty(&self, ui: &Ui, id: Id, outer: Rect) -> HeatmapResponse {
        let response = ui.interact(outer, id, Sense::hover());
        paint::empty(self, ui, outer);
        let enabled = ui.is_enabled();
        response.widget_info(|| {
            WidgetInfo::labeled(
                Role::Image,
                enabled,
                format!("{}: {}", self.title, self.empty),
            )
        });
        HeatmapResponse {
            clicked: None,
            hovered: None,
            action: None,
            response,
        }
    }

    /// The scale that was set, or one fitted once for each version of the data.
    fn scale_in_force(&self, ui: &Ui, id: Id) -> Scale {
        self.scale.unwrap_or_else(|| {
            let key = (id, self.data_version, self.grid.shape(), self.scale_kind);
            texture::remembered(ui.ctx(), key, || self.fitted())
        })
    }

    fn fitted(&self) -> Scale {
        Scale::fit(self.grid.iter(), self.scale_kind)
    }

    /// Zoom and pan with the wheel, fingers, a drag or keys.
    fn steer(&self, ui: &Ui, response: &Response, view: &mut View) {
        let (rows, cols) = (self.grid.rows(), self.grid.cols());
        let size = response.rect.size();
        if let Some(pos) = response.hover_pos() {
            let factor = self.wheel_zoom(ui);
            if factor != Vec2::splat(1.0) {
                view.zoom(factor, (pos - response.rect.min) / size, rows, cols);
            }
        }
        if response.dragged() {
            view.pan(response.drag_delta() / size, rows, cols);
        }
        if view.is_zoomed() && response.dragged() {
            ui.set_cursor_icon(CursorIcon::Grabbing);
        }
        if response.double_clicked() {
            *view = View::default();
        }
        if response.has_focus() {
            self.steer_by_keys(ui, response.id, view);
        }
    }

    /// How much the wheel or the fingers enlarge the cells in this frame.
    fn wheel_zoom(&self, ui: &Ui) -> Vec2 {
        /// A notch of a usual wheel, some forty points, enlarges by about a fifth.
        const PER_POINT: f32 = 1.0 / 220.0;
        let pinch = ui.input(|input| input.zoom_delta_2d());
        if pinch != Vec2::splat(1.0) || !self.scroll_zooms {
            return pinch;
        }
        let (wheel, rows_only) = ui.input_mut(|input| {
            // Taken, so that a page around the map stays where it is.
            let wheel = std::mem::take(&mut input.smooth_scroll_delta);
            (wheel, input.modifiers.alt)
        });
        let both = (wheel.y * PER_POINT).exp();
        // Shift turns the wheel sideways: columns alone.
        let cols = (wheel.x * PER_POINT).exp();
        vec2(if rows_only { 1.0 } else { both * cols }, both)
    }

    fn steer_by_keys(&self, ui: &Ui, id: Id, view: &mut View) {
        const STEP: f32 = 0.1;
        const FACTOR: f32 = 1.25;
        let (rows, cols) = (self.grid.rows(), self.grid.cols());
        let arrows = view.is_zoomed();
        ui.memory_mut(|memory| {
            let filter = EventFilter {
                horizontal_arrows: arrows,
                vertical_arrows: arrows,
                ..Default::default()
            };
            memory.set_focus_lock_filter(id, filter);
        });
        let pressed = |key| ui.input(|input| input.key_pressed(key));
        let moves = [
            (Key::ArrowLeft, vec2(STEP, 0.0)),
            (Key::ArrowRight, vec2(-STEP, 0.0)),
            (Key::ArrowUp, vec2(0.0, STEP)),
            (Key::ArrowDown, vec2(0.0, -STEP)),
        ];
        for (key, by) in moves {
            if pressed(key) {
                view.pan(by, rows, cols);
            }
        }
        let centre = Vec2::splat(0.5);
        if pressed(Key::Plus) || pressed(Key::Equals) {
            view.zoom(Vec2::splat(FACTOR), centre, rows, cols);
        }
        if pressed(Key::Minus) {
            view.zoom(Vec2::splat(1.0 / FACTOR), centre, rows, cols);
        }
        if pressed(Key::Num0) {
            *view = View::default();
        }
    }

    /// The menu behind the dots and, the same, behind a right click.
    fn menus(
        &self,
        ui: &mut Ui,
        response: &Response,
        title: Option<Rect>,
        zoomed: bool,
    ) -> Option<Choice> {
        let mut chosen = None;
        let hints = || Hints {
            zoomed,
            wheel: self.scroll_zooms,
        };
        response.context_menu(|ui| chosen = Choice::menu(ui, hints()));
        if let Some(title) = title.filter(|_| self.on_screen) {
            let place = paint::menu_place(title);
            let mut corner = ui.new_child(UiBuilder::new().id_salt(response.id).max_rect(place));
            corner.spacing_mut().button_padding = Vec2::ZERO;
            let dots = Button::new("")
                .frame_when_inactive(false)
                .min_size(place.size());
            let (button, _) = MenuButton::from_button(dots).ui(&mut corner, |ui| {
                chosen = chosen.or(Choice::menu(ui, hints()));
            });
            paint::dots(&corner, &button);
            button.accessible_name(format!("Menu of {}", self.title));
        }
        chosen
    }

    /// The cell at `pos`; where several share a pixel and the loudest stands for them, that one.
    fn cell_shown(
        &self,
        projection: &Projection,
        (rows, cols): (Bins, Bins),
        pos: egui::Pos2,
    ) -> Option<(usize, usize)> {
        let grid = &self.grid;
        let (row, col) = projection.cell(pos, grid.rows(), grid.cols())?;
        if self.pooling == Pooling::Mean {
            return Some((row, col));
        }
        let share = |bins: Bins, cell, len| bins.cells(bins.of(cell), len);
        Some(grid.loudest(share(rows, row, grid.rows()), share(cols, col, grid.cols())))
    }

    /// Say what the cell under the pointer is.
    fn tell(&self, ui: &Ui, response: &Response, (row, col): (usize, usize)) {
        let value = self.grid.get(row, col);
        let text = match self.hover {
            Some(describe) => describe(row, col, value),
            None => self.describe(row, col, value),
        };
        let (ctx, layer) = (ui.ctx().clone(), response.layer_id);
        Tooltip::always_open(ctx, layer, response.id, PopupAnchor::Pointer)
            .gap(14.0)
            .show(|ui| ui.label(text));
    }

    fn describe(&self, row: usize, col: usize, value: f32) -> String {
        let place = |axis: &Axis<'_>, index| match axis.label {
            Some(label) => format!("{} {index}: {}", axis.name, label(index)),
            None => format!("{} {index}", axis.name),
        };
        let (row, col) = (place(&self.rows, row), place(&self.cols, col));
        format!("{} = {}\n{row}\n{col}", self.value_name, number(value))
    }

    /// Tell those who hear the page what is drawn.
    fn name(&self, ui: &Ui, response: &Response, scale: &Scale) {
        let enabled = ui.is_enabled();
        response.widget_info(|| {
            let mut info = WidgetInfo::labeled(Role::Image, enabled, self.title);
            info.current_text_value = Some(format!(
                "{} from {} to {}, {} by {}: {} by {}",
                self.value_name,
                number(scale.lo),
                number(scale.hi),
                self.rows.name,
                self.cols.name,
                self.grid.rows(),
                self.grid.cols(),
            ));
            info
        });
    }
}

/// What the menu says of moving about.
#[derive(Clone, Copy)]
struct Hints {
    zoomed: bool,
    /// Whether the wheel alone zooms.
    wheel: bool,
}

impl Hints {
    fn text(self) -> &'static str {
        if self.wheel {
            "Wheel, pinch, + and \u{2212}: zoom\nShift: columns alone · Alt: rows alone\nDrag, arrows: move"
        } else {
            "Ctrl + wheel, pinch, + and \u{2212}: zoom\nDrag, arrows: move\nDouble click, 0: everything"
        }
    }
}

/// An entry of the menu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Take(HeatmapAction),
    ResetZoom,
}

impl Choice {
    fn menu(ui: &mut Ui, hints: Hints) -> Option<Self> {
        let takings = [
            ("Copy picture", HeatmapAction::CopyPicture),
            ("Save picture…", HeatmapAction::SavePicture),
            ("Save data as CSV…", HeatmapAction::SaveCsv),
        ];
        let mut chosen = None;
        for (label, action) in takings {
            if ui.button(label).clicked() {
                chosen = Some(Self::Take(action));
            }
        }
        ui.separator();
        let reset = Button::new("Reset zoom");
        if ui.add_enabled(hints.zoomed, reset).clicked() {
            chosen = Some(Self::ResetZoom);
        }
        let weak = theme::palette(ui.visuals()).weak_text;
        ui.label(RichText::new(hints.text()).small().color(weak));
        if chosen.is_some() {
            ui.close();
        }
        chosen
    }

    fn action(self) -> Option<HeatmapAction> {
        match self {
            Self::Take(action) => Some(action),
            Self::ResetZoom => None,
        }
    }
}
