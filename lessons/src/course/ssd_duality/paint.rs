//! The pictures of a mixing matrix: itself with a block framed, the block's singular values, who computes what, and its masks.

use egui::{
    Align2, Color32, CornerRadius, FontId, Mesh, Painter, Rect, Sense, Stroke, StrokeKind, Ui,
    pos2, vec2,
};
use egui_plot::{HLine, Line, Plot, PlotPoints, Points, VLine};

use super::one_matrix::{Matrix, TOKENS};
use crate::theme::{self, Palette};
use crate::widgets::Colormap;
use crate::widgets::controls::picture;
use crate::widgets::plots::{axis, footnote, guess_key, line_key, log_axis, marks, show_plot};

/// Side of the matrix, and of what stands beside it.
const SIDE: f32 = 270.0;
const SMALL: f32 = 190.0;
/// Height of the row of masks.
const MASKS: f32 = 96.0;
/// The words over a picture.
const WORDS: f32 = 26.0;
const GAP: f32 = 20.0;

/// What is drawn on the matrix.
pub struct Drawn {
    /// First row of the block.
    pub row: usize,
    /// Columns of the block.
    pub columns: usize,
    /// Tokens of a chunk.
    pub chunk: usize,
    /// The token whose decay may be changed.
    pub cut: Option<usize>,
    /// Slots.
    pub slots: usize,
    /// What the reader guessed the rank to be.
    pub guess: Option<f64>,
}

/// Draws all, and gives the cell that was clicked, as row and column.
pub fn show(ui: &mut Ui, matrix: Option<&Matrix>, drawn: &Drawn) -> Option<(usize, usize)> {
    let palette = theme::palette(ui.visuals());
    let clicked = picture(ui, WORDS + SIDE + 4.0, |ui| {
        let all = ui.max_rect();
        let square = Rect::from_min_size(all.min + vec2(0.0, WORDS), vec2(SIDE, SIDE));
        let work = Rect::from_min_size(
            pos2(all.right() - SMALL, all.top() + WORDS),
            vec2(SMALL, SMALL),
        );
        let middle = Rect::from_min_max(
            pos2(square.right() + GAP, all.top()),
            pos2(work.left() - GAP, all.bottom()),
        );
        words(
            ui.painter(),
            square,
            "M, blue below and red above zero",
            palette,
        );
        words(ui.painter(), work, "Who computes it", palette);
        division(ui, work, drawn, palette);
        let matrix = matrix?;
        let mut room = ui.new_child(egui::UiBuilder::new().max_rect(middle));
        singular(&mut room, matrix, drawn, palette);
        mixing(ui, square, matrix, drawn, palette)
    });
    picture(ui, WORDS + MASKS, |ui| {
        if let Some(matrix) = matrix {
            masks(ui, matrix, palette);
        }
    });
    clicked
}

fn words(painter: &Painter, under: Rect, text: &str, palette: &Palette) {
    let at = under.left_top() - vec2(0.0, 6.0);
    let font = FontId::proportional(13.5);
    painter.text(at, Align2::LEFT_BOTTOM, text, font, palette.text);
}

/// A cell of a square.
fn cell(square: Rect, i: usize, j: usize) -> Rect {
    let side = square.width() / TOKENS as f32;
    let at = |i: usize| i as f32 * side;
    Rect::from_min_size(square.min + vec2(at(j), at(i)), vec2(side, side))
}

/// Values as colours: one mesh, so that no seams show between small cells.
fn fill(painter: &Painter, square: Rect, values: &[f32], colour: impl Fn(f32) -> Color32) {
    let mut mesh = Mesh::default();
    for (k, &value) in values.iter().enumerate() {
        mesh.add_colored_rect(cell(square, k / TOKENS, k % TOKENS), colour(value));
    }
    painter.add(mesh);
}

/// The matrix, the block framed, the cut of the chosen token; gives the cell that was clicked.
fn mixing(
    ui: &mut Ui,
    square: Rect,
    matrix: &Matrix,
    drawn: &Drawn,
    palette: &Palette,
) -> Option<(usize, usize)> {
    let id = ui.make_persistent_id("mixing matrix");
    let response = ui.interact(square, id, Sense::click());
    response.widget_info(|| {
        let role = egui::accesskit::Role::Image;
        egui::WidgetInfo::labeled(role, true, "The matrix M")
    });
    let painter = ui.painter();
    let most = matrix.m_ll.iter().fold(0.0f32, |most, m| most.max(m.abs()));
    let shades = Colormap::Diverging.shades(palette);
    fill(painter, square, &matrix.m_ll, |value| {
        let size = (value.abs() / most.max(f32::MIN_POSITIVE)).sqrt();
        shades.pick(Some(0.5 + 0.5 * size.copysign(value)))
    });
    let frame = Stroke::new(1.0, palette.border);
    painter.rect_stroke(square, CornerRadius::ZERO, frame, StrokeKind::Outside);
    if let Some(token) = drawn.cut {
        // What lies left of t and from t downwards passes through a of t.
        let corner = cell(square, token, token).left_top();
        let cut = Stroke::new(1.5, palette.warning);
        painter.hline(square.left()..=corner.x, corner.y, cut);
        painter.vline(corner.x, corner.y..=square.bottom(), cut);
    }
    let block = Rect::from_min_max(
        cell(square, drawn.row, 0).left_top(),
        cell(square, TOKENS - 1, drawn.columns - 1).right_bottom(),
    );
    let stroke = Stroke::new(2.0, palette.accent);
    painter.rect_stroke(block, CornerRadius::ZERO, stroke, StrokeKind::Inside);
    let at = |pointer: egui::Pos2| {
        let place = (pointer - square.min) / square.width() * TOKENS as f32;
        let (i, j) = (place.y as usize, place.x as usize);
        (i < TOKENS && j < TOKENS).then_some((i, j))
    };
    if let Some((i, j)) = response.hover_pos().and_then(at) {
        let value = crate::widgets::number(matrix.m_ll[i * TOKENS + j]);
        let told = format!(
            "M[{i}, {j}] = {value}\nwhat token {i} takes from token {j}\nclick: corner of the block"
        );
        response.clone().on_hover_text_at_pointer(told);
    }
    let pointer = response.interact_pointer_pos();
    pointer.filter(|_| response.clicked()).and_then(at)
}

/// The singular values of the block, as shares of the largest, on a logarithmic axis.
fn singular(ui: &mut Ui, matrix: &Matrix, drawn: &Drawn, palette: &Palette) {
    /// What is drawn of a value that is nothing.
    const FLOOR: f64 = -18.0;
    let longer = (TOKENS - drawn.row).max(drawn.columns);
    let largest = matrix.singular.first().copied().unwrap_or(0.0);
    let log = |value: f64| (value / largest.max(f64::MIN_POSITIVE)).log10().max(FLOOR);
    let rounding = (longer as f64 * f64::EPSILON).log10();
    let title = format!(
        "Block of {} × {}: rank {}",
        TOKENS - drawn.row,
        drawn.columns,
        matrix.rank
    );
    let is_counted = |k: usize| k < matrix.rank;
    let key = |ui: &mut Ui| {
        if drawn.guess.is_some() {
            guess_key(ui);
        }
        line_key(ui, palette.error, "rounding".to_owned());
    };
    let plot = Plot::new("singular values")
        .custom_x_axes(vec![axis(
            egui_plot::AxisHints::new_x(),
            ui,
            "singular value, counted",
        )])
        .x_grid_spacer(|input| marks(input.bounds, 8.0, 1.0))
        .custom_y_axes(vec![log_axis(ui, false, "share of the largest", |y| {
            format!("1e{y:.0}").replace('-', "\u{2212}")
        })])
        .y_grid_spacer(|input| marks(input.bounds, 6.0, 1.0))
        .include_y(FLOOR)
        .include_y(0.5)
        .include_x(0.0)
        .include_x(matrix.singular.len() as f64 + 1.0)
        .allow_drag(false)
        .allow_zoom(false)
        .allow_double_click_reset(false);
    let counted = palette.series[0];
    show_plot(ui, &title, key, plot, |plot| {
        for (k, &value) in matrix.singular.iter().enumerate() {
            let (x, y) = (k as f64 + 1.0, log(value));
            let colour = if is_counted(k) {
                counted
            } else {
                palette.border
            };
            let stem = vec![[x, FLOOR], [x, y]];
            plot.line(Line::new("singular value", stem).color(colour).width(4.0));
            plot.points(
                Points::new("singular value", PlotPoints::from(vec![[x, y]]))
                    .color(colour)
                    .radius(3.0),
            );
        }
        plot.hline(HLine::new("rounding", rounding).color(palette.error));
        if let Some(guess) = drawn.guess {
            plot.vline(VLine::new("your guess", guess).color(palette.accent));
        }
    });
}

/// Diagonal blocks, done as matrices, and what is left of them, done through the state.
fn division(ui: &mut Ui, square: Rect, drawn: &Drawn, palette: &Palette) {
    let painter = ui.painter();
    let [through, inside, ..] = palette.series;
    for i in 0..TOKENS {
        for j in 0..=i {
            let is_inside = i / drawn.chunk == j / drawn.chunk;
            let colour = if is_inside { inside } else { through };
            painter.rect_filled(cell(square, i, j), CornerRadius::ZERO, colour);
        }
    }
    // The edges of the blocks.
    let edge = Stroke::new(1.0, palette.surface);
    for from in (0..TOKENS).step_by(drawn.chunk) {
        let corner = cell(square, from, from).left_top();
        painter.hline(square.left()..=corner.x, corner.y, edge);
        painter.vline(corner.x, corner.y..=square.bottom(), edge);
    }
    let frame = Stroke::new(1.0, palette.border);
    painter.rect_stroke(square, CornerRadius::ZERO, frame, StrokeKind::Outside);
    let below = Rect::from_min_max(
        square.left_bottom() + vec2(0.0, 6.0),
        square.right_bottom() + vec2(0.0, SIDE - SMALL),
    );
    let mut room = ui.new_child(egui::UiBuilder::new().max_rect(below));
    for (colour, text) in [
        (inside, format!("inside: {0} × {0} products", drawn.chunk)),
        (through, format!("across: a state of rank {}", drawn.slots)),
    ] {
        room.horizontal(|ui| line_key(ui, colour, text));
    }
}

/// The mask, or the masks of all slots.
fn masks(ui: &mut Ui, matrix: &Matrix, palette: &Palette) {
    /// More masks than this stand in a second line.
    const A_LINE: usize = 8;
    /// The words beside them.
    const TEXT: f32 = 270.0;
    let area = ui.max_rect();
    let count = matrix.masks.len();
    let head = match count {
        1 => "The mask L: one for all slots (0 dark, 1 bright)".to_owned(),
        _ => format!("{count} masks, one a slot (0 dark, 1 bright)"),
    };
    let line = area.with_min_y(area.top() + WORDS);
    words(ui.painter(), line, &head, palette);
    let lines = count.div_ceil(A_LINE);
    let in_a_line = count.min(A_LINE);
    let room = area.width() - TEXT - 16.0;
    let side = (MASKS / lines as f32 - 4.0).min(room / in_a_line as f32 - 4.0);
    let shades = Colormap::Viridis.shades(palette);
    for (n, mask) in matrix.masks.iter().enumerate() {
        let (along, down) = ((n % A_LINE) as f32, (n / A_LINE) as f32);
        let corner = vec2(along * (side + 4.0), down * (side + 4.0));
        let square = Rect::from_min_size(line.left_top() + corner, vec2(side, side));
        fill(ui.painter(), square, mask, |value| shades.pick(Some(value)));
    }
    let left = line.left() + in_a_line as f32 * (side + 4.0) + 12.0;
    let right = Rect::from_min_max(pos2(left, line.top()), pos2(left + TEXT, area.bottom()));
    let told = match count {
        1 => {
            "The products of C and B are multiplied by it value for value: it stands outside the sum over the slots, and the rest is plain matrix products."
        }
        _ => {
            "Every slot has its own mask under the sum: there is no single L to take outside, and no matrix product for all slots at once."
        }
    };
    let mut room = ui.new_child(egui::UiBuilder::new().max_rect(right));
    footnote(&mut room, told, palette.weak_text);
}
