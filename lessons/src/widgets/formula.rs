//! Formulas, typeset as TeX would: parsed and laid out by RaTeX, drawn as a picture in the colour of the text.
//!
//! A formula is laid out once and kept; its picture is made at the size of the screen's pixels when it is first seen. What stands
//! where is known, so a symbol under the pointer can be named.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use egui::{Color32, Id, Image, Rect, Response, Sense, Ui, Vec2, pos2, vec2};
use ratex_types::color::Color;
use ratex_types::display_item::{DisplayItem, DisplayList};
use ratex_types::math_style::MathStyle;

/// A number inside a formula, where an `e` would be a letter.
pub fn number_tex(value: f64) -> String {
    let text = super::number(value as f32);
    match text.split_once('e') {
        Some((digits, power)) => format!(r"{digits} \cdot 10^{{{power}}}"),
        None => text.replace('∞', r"\infty "),
    }
}

/// Why a formula cannot be typeset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the formula {tex:?} cannot be typeset: {reason}")]
pub struct FormulaError {
    /// The formula.
    pub tex: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A symbol of a formula, and where it stands: in em, from the left and from the top.
#[derive(Clone, Debug, PartialEq)]
pub struct Glyph {
    /// The letter; an accent over it stands before it as TeX writes it, such as `\bar A`.
    pub symbol: String,
    /// Its box, in em.
    pub rect: Rect,
}

/// A formula laid out.
#[derive(Clone, Debug)]
pub struct Typeset {
    list: DisplayList,
    /// Its symbols.
    pub glyphs: Vec<Glyph>,
}

impl Typeset {
    /// Lays a formula out, within a line or on its own.
    ///
    /// # Errors
    /// When it is not TeX this knows.
    pub fn new(tex: &str, is_inline: bool) -> Result<Self, FormulaError> {
        let refuse = |reason: String| FormulaError {
            tex: tex.to_owned(),
            reason,
        };
        let nodes = ratex_parser::parser::parse(tex).map_err(|error| refuse(error.to_string()))?;
        let style = if is_inline {
            MathStyle::Text
        } else {
            MathStyle::Display
        };
        let options = ratex_layout::LayoutOptions::default().with_style(style);
        let list = ratex_layout::to_display_list(&ratex_layout::layout(&nodes, &options));
        let glyphs = glyphs(&list);
        Ok(Self { list, glyphs })
    }

    /// Width and height, in em.
    pub fn size(&self) -> Vec2 {
        vec2(self.list.width as f32, self.list.total_height() as f32)
    }

    /// How far it reaches below its line, in em.
    pub fn depth(&self) -> f32 {
        self.list.depth as f32
    }

    /// As a picture of one colour, an em being `em` units.
    pub fn svg(&self, em: f64, colour: Color32) -> String {
        let part = |value: u8| f32::from(value) / 255.0;
        let ink = Color::rgb(part(colour.r()), part(colour.g()), part(colour.b()));
        let mut list = self.list.clone();
        for item in &mut list.items {
            match item {
                DisplayItem::GlyphPath { color, .. }
                | DisplayItem::Line { color, .. }
                | DisplayItem::Rect { color, .. }
                | DisplayItem::Path { color, .. } => *color = ink,
            }
        }
        let options = ratex_svg::SvgOptions {
            font_size: em,
            padding: 0.0,
            stroke_width: em * 0.04,
            embed_glyphs: true,
            ..Default::default()
        };
        ratex_svg::render_to_svg_with_color_syntax(&list, &options, ratex_svg::SvgColorSyntax::Rgb)
    }
}

/// The letters of a formula. A line or an accent closely over a letter is part of its name.
fn glyphs(list: &DisplayList) -> Vec<Glyph> {
    let letter = |item: &DisplayItem| match item {
        DisplayItem::GlyphPath {
            x,
            y,
            scale,
            char_code,
            ..
        } => char::from_u32(*char_code)
            .map(|c| (plain_letter(c), *x as f32, *y as f32, *scale as f32)),
        _ => None,
    };
    let all: Vec<_> = list.items.iter().filter_map(letter).collect();
    let is_bar = |c: char| matches!(c, '\u{af}' | '\u{2c9}' | '\u{304}' | '\u{305}');
    let bars = all.iter().filter(|(c, ..)| is_bar(*c));
    let bars: Vec<(f32, f32)> = bars.map(|&(_, x, y, _)| (x, y)).collect();
    let letters = all
        .iter()
        .filter(|(c, ..)| c.is_alphabetic() && !is_bar(*c));
    letters
        .map(|&(c, x, y, scale)| {
            let rect = Rect::from_min_max(
                pos2(x, y - 0.75 * scale),
                pos2(x + 0.65 * scale, y + 0.22 * scale),
            );
            let is_barred = bars.iter().any(|&(bar_x, bar_y)| {
                (bar_x - x).abs() < 0.5 * scale && (bar_y - y).abs() < 0.5 * scale
            });
            let symbol = if is_barred {
                format!(r"\bar {c}")
            } else {
                c.to_string()
            };
            Glyph { symbol, rect }
        })
        .collect()
}

/// The letter a mathematical letter stands for: fonts of formulas have ranges of their own.
fn plain_letter(c: char) -> char {
    let code = c as u32;
    let plain = match code {
        0x1d400..=0x1d433 => (code - 0x1d400) % 52,
        0x1d434..=0x1d467 => code - 0x1d434,
        0x1d468..=0x1d49b => code - 0x1d468,
        0x210e => return 'h',
        _ => return c,
    };
    let base = if plain < 26 { b'A' } else { b'a' - 26 };
    char::from(base + plain as u8)
}

/// What the window keeps of formulas: laid out once each.
#[derive(Clone, Default)]
struct Kept(HashMap<(String, bool), Result<Arc<Typeset>, FormulaError>>);

/// The formula laid out, from what is kept where it was seen before.
fn typeset(ui: &Ui, tex: &str, is_inline: bool) -> Result<Arc<Typeset>, FormulaError> {
    /// Formulas with numbers in them are new in every frame of a drag; what is kept is let go of when it is this many.
    const MOST: usize = 2000;
    ui.data_mut(|data| {
        let kept: &mut Kept = data.get_temp_mut_or_default(Id::unique("formulas"));
        if kept.0.len() > MOST {
            kept.0.clear();
        }
        kept.0
            .entry((tex.to_owned(), is_inline))
            .or_insert_with(|| Typeset::new(tex, is_inline).map(Arc::new))
            .clone()
    })
}

/// A formula and the symbol of it under the pointer.
pub struct FormulaResponse {
    /// Of the picture.
    pub response: Response,
    /// The symbol under the pointer, as in [`Glyph::symbol`].
    pub hovered: Option<String>,
}

/// Draws a formula of a line, in the size of the text around it.
pub fn formula(ui: &mut Ui, tex: &str) -> FormulaResponse {
    let size = egui::TextStyle::Body.resolve(ui.style()).size;
    show(ui, tex, true, 1.12 * size)
}

/// Draws a formula on its own.
pub fn display_formula(ui: &mut Ui, tex: &str) -> FormulaResponse {
    let size = egui::TextStyle::Body.resolve(ui.style()).size;
    show(ui, tex, false, 1.25 * size)
}

fn show(ui: &mut Ui, tex: &str, is_inline: bool, em: f32) -> FormulaResponse {
    let typeset = match typeset(ui, tex, is_inline) {
        Ok(typeset) => typeset,
        Err(error) => {
            let colour = crate::theme::palette(ui.visuals()).error;
            let response = ui.colored_label(colour, error.to_string());
            return FormulaResponse {
                response,
                hovered: None,
            };
        }
    };
    // A formula wider than its column is made to fit rather than cut.
    let room = ui.max_rect().width();
    let em = em.min(room / typeset.size().x.max(0.01));
    let size = typeset.size() * em;
    // What stands in a line has its base line where the text has it, and is as high as the line at least, or the line would be
    // laid out anew behind it; the little that hangs lower does so between the lines.
    let (above, below) = text_extent(ui);
    let rise = size.y - typeset.depth() * em;
    let (over, hang) = if is_inline {
        ((above - rise).max(0.0), typeset.depth() * em - below)
    } else {
        (0.0, 0.0)
    };
    let place = vec2(size.x, over + size.y - hang);
    let (rect, response) = ui.allocate_exact_size(place, Sense::hover());
    let picture = Rect::from_min_size(rect.min + vec2(0.0, over), size);
    response.widget_info(|| egui::WidgetInfo::labeled(egui::accesskit::Role::Math, true, tex));
    if ui.is_rect_visible(picture) {
        paint(ui, &typeset, tex, em, picture);
    }
    let pointer = response.hover_pos();
    let hovered = pointer.and_then(|pointer| {
        let at = ((pointer - picture.min) / em).to_pos2();
        let found = typeset.glyphs.iter().find(|glyph| glyph.rect.contains(at));
        found.map(|glyph| glyph.symbol.clone())
    });
    FormulaResponse { response, hovered }
}

/// How far a line of body text reaches above and below its base line.
fn text_extent(ui: &Ui) -> (f32, f32) {
    let font = egui::TextStyle::Body.resolve(ui.style());
    let galley = ui
        .painter()
        .layout_no_wrap("x".to_owned(), font, Color32::WHITE);
    let glyph = galley
        .rows
        .first()
        .and_then(|row| row.glyphs.first().copied());
    let base = glyph.map_or(0.8 * galley.size().y, |glyph| glyph.pos.y);
    (base, galley.size().y - base)
}

/// Whether this frame has time for one more picture: each takes a millisecond or two, and a page has dozens.
fn may_make_one_more(ui: &Ui) -> bool {
    const A_FRAME: u32 = 6;
    let frame = ui.ctx().cumulative_frame_nr();
    ui.data_mut(|data| {
        let made: &mut (u64, u32) = data.get_temp_mut_or_default(Id::unique("formulas made"));
        if made.0 != frame {
            *made = (frame, 0);
        }
        made.1 += 1;
        made.1 <= A_FRAME
    })
}

/// Draws the picture of a formula into a rectangle.
fn paint(ui: &Ui, typeset: &Typeset, tex: &str, em: f32, rect: Rect) {
    let colour = ui.visuals().text_color();
    let mut hasher = DefaultHasher::new();
    (tex, colour.to_array(), (em * 16.0) as u32).hash(&mut hasher);
    let uri = format!("bytes://formula-{:016x}.svg", hasher.finish());
    // The bytes are asked for when the picture is not there yet; egui keeps the picture.
    if ui.ctx().try_load_bytes(&uri).is_err() {
        if !may_make_one_more(ui) {
            // It is there a frame later.
            ui.ctx().request_repaint();
            return;
        }
        let svg = typeset.svg(f64::from(em), colour);
        ui.ctx().include_bytes(uri.clone(), svg.into_bytes());
    }
    Image::from_uri(uri)
        .fit_to_exact_size(rect.size())
        .paint_at(ui, rect);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_known_by_name_and_place() {
        let formula = Typeset::new(r"h_t = \bar{A}\,h_{t-1} + \bar B u_t", true).unwrap();
        let names: Vec<&str> = formula
            .glyphs
            .iter()
            .map(|glyph| glyph.symbol.as_str())
            .collect();
        assert_eq!(names, ["h", "t", r"\bar A", "h", "t", r"\bar B", "u", "t"]);
        assert!(
            formula
                .glyphs
                .windows(2)
                .all(|pair| pair[0].rect.left() < pair[1].rect.left())
        );
    }

    #[test]
    fn a_formula_has_no_text_left_to_fonts() {
        let svg = Typeset::new(
            r"\frac{\ln 2}{\Delta\,|A|}\ \text{tokens} \sqrt{2n+1}",
            false,
        )
        .unwrap()
        .svg(20.0, Color32::BLACK);
        assert!(svg.contains("<path") && !svg.contains("<text"));
        assert!(Typeset::new(r"\frac{1", true).is_err());
    }
}
