//! A heatmap to take home: as a picture, and as numbers.

use std::fmt::Write as _;
use std::sync::Arc;

use egui::epaint::text::FontInsert;
use egui::{
    ColorImage, Context, FontDefinitions, RawInput, Rect, Style, Theme, Ui, Vec2, ViewportId, vec2,
};
use image::{ImageFormat, RgbaImage};

use super::raster::Raster;
use super::{Axis, Colormap, Grid, Heatmap, Pooling, Scale, ScaleKind};
use crate::theme;

/// Pixels of a picture to a point of the interface: sharp on paper too.
const PIXELS_PER_POINT: f32 = 2.0;
/// Around the widget, in points.
const MARGIN: f32 = 20.0;
/// Largest picture for the clipboard, in points: what lies there is handed over on the interface's thread.
const CLIPBOARD: Vec2 = vec2(1280.0, 900.0);
/// About as many pixels a picture for the clipboard has at most.
const CLIPBOARD_PIXELS: f32 = 1.5e6;

/// A heatmap to take home: all it draws, owned, so that another thread can paint or print it.
///
/// To make one is to copy its values; to paint one takes many frames.
pub struct Takeaway {
    title: String,
    values: Vec<f32>,
    shape: [usize; 2],
    rows: OwnedAxis,
    cols: OwnedAxis,
    value_name: String,
    scale: Option<Scale>,
    scale_kind: ScaleKind,
    colormap: Colormap,
    pooling: Pooling,
    gaps: bool,
    selected: [Option<usize>; 2],
    looks: Looks,
}

/// An [`Axis`] with its labels written out.
struct OwnedAxis {
    name: String,
    start: usize,
    labels: Option<Vec<String>>,
}

impl OwnedAxis {
    fn new(axis: &Axis<'_>, len: usize) -> Self {
        Self {
            name: axis.name.to_owned(),
            start: axis.start,
            labels: axis.label.map(|label| (0..len).map(label).collect()),
        }
    }

    /// Calls place `index` as the heatmap did.
    fn label(&self, index: usize) -> String {
        match &self.labels {
            Some(labels) => labels.get(index).cloned().unwrap_or_default(),
            None => (self.start + index).to_string(),
        }
    }

    fn borrow<'a>(&'a self, label: &'a dyn Fn(usize) -> String) -> Axis<'a> {
        Axis {
            name: &self.name,
            start: self.start,
            label: self.labels.is_some().then_some(label),
        }
    }
}

/// The theme and the fonts of a window.
struct Looks {
    theme: Theme,
    style: Arc<Style>,
    fonts: FontDefinitions,
    discovered: Vec<FontInsert>,
}

impl Looks {
    fn of(ctx: &Context) -> Self {
        let (fonts, discovered) = ctx.fonts(|fonts| {
            let discovered = fonts.discovered_fonts().to_vec();
            (fonts.definitions().clone(), discovered)
        });
        Self {
            theme: ctx.theme(),
            style: ctx.global_style(),
            fonts,
            discovered,
        }
    }

    /// A context that looks the same and has no window.
    fn studio(&self) -> Context {
        let studio = Context::default();
        studio.set_fonts(self.fonts.clone());
        for font in &self.discovered {
            studio.add_font(font.clone());
        }
        studio.set_theme(self.theme);
        studio.set_style_of(self.theme, Arc::clone(&self.style));
        studio
    }
}

impl Heatmap<'_> {
    /// The map to take home, in the theme and fonts of `ctx`. Call it within a frame.
    pub fn takeaway(&self, ctx: &Context) -> Takeaway {
        let shape = [self.grid.rows(), self.grid.cols()];
        Takeaway {
            title: self.title.to_owned(),
            values: self.grid.iter().collect(),
            shape,
            rows: OwnedAxis::new(&self.rows, shape[0]),
            cols: OwnedAxis::new(&self.cols, shape[1]),
            value_name: self.value_name.to_owned(),
            scale: self.scale,
            scale_kind: self.scale_kind,
            colormap: self.colormap,
            pooling: self.pooling,
            gaps: self.gaps,
            selected: [self.selected_row, self.selected_col],
            looks: Looks::of(ctx),
        }
    }
}

impl Takeaway {
    /// The whole map as the widget draws it, however small or zoomed it is on screen; larger maps
    /// make larger pictures.
    pub fn picture(&self) -> ColorImage {
        self.painted(self.size(vec2(2400.0, 1600.0)), PIXELS_PER_POINT)
    }

    /// The same, small enough for the clipboard.
    pub fn clipboard_picture(&self) -> ColorImage {
        let size = self.size(CLIPBOARD);
        let sharpness = (CLIPBOARD_PIXELS / (size.x * size.y)).sqrt();
        self.painted(size, sharpness.clamp(1.0, PIXELS_PER_POINT))
    }

    fn painted(&self, size: Vec2, pixels_per_point: f32) -> ColorImage {
        let studio = self.looks.studio();
        let palette = theme::palette(&self.looks.style.visuals);
        let pixels = (size * pixels_per_point).round();
        let mut raster = Raster::new(
            [pixels.x as usize, pixels.y as usize],
            palette.surface,
            pixels_per_point,
        );
        let output = studio.run_ui(photo_input(size, pixels_per_point), |ui| {
            let page = Rect::from_min_size(egui::Pos2::ZERO, size).shrink(MARGIN);
            self.show(&mut ui.new_child(egui::UiBuilder::new().max_rect(page)));
        });
        raster.load(output.textures_delta);
        raster.paint(&studio.tessellate(output.shapes, pixels_per_point));
        raster.into_image()
    }

    fn show(&self, ui: &mut Ui) {
        let (row, col) = (
            |index| self.rows.label(index),
            |index| self.cols.label(index),
        );
        let grid = Grid::row_major(&self.values, self.shape[0], self.shape[1]);
        let mut map = Heatmap::new("takeaway", &self.title, grid)
            .rows(self.rows.borrow(&row))
            .cols(self.cols.borrow(&col))
            .value_name(&self.value_name)
            .fit(self.scale_kind)
            .colormap(self.colormap)
            .pooling(self.pooling)
            .selected_row(self.selected[0])
            .selected_col(self.selected[1])
            .height(ui.available_height());
        map.scale = self.scale;
        map.gaps = self.gaps;
        map.on_screen = false;
        map.show(ui);
    }

    /// Room for each cell, between the size of a figure in a text and `most`.
    fn size(&self, most: Vec2) -> Vec2 {
        let length = |cells: usize, least: f32, most: f32| {
            /// Of a cell, in points.
            const EACH: f32 = 6.0;
            (cells as f32 * EACH + 140.0).clamp(least, most)
        };
        vec2(
            length(self.shape[1], 900.0, most.x),
            length(self.shape[0], 420.0, most.y),
        )
    }

    /// The values as CSV in full precision: a header with the labels of the columns, then for each
    /// row its label and its values.
    pub fn csv(&self) -> String {
        let [rows, cols] = self.shape;
        // About ten characters to a value.
        let mut csv = String::with_capacity((rows + 1) * (cols + 1) * 10);
        let corner = format!("{} / {}", self.rows.name, self.cols.name);
        csv.push_str(&field(&corner));
        for col in 0..cols {
            push(&mut csv, format_args!(",{}", field(&self.cols.label(col))));
        }
        csv.push_str("\r\n");
        for (row, values) in self.values.chunks_exact(cols.max(1)).enumerate() {
            csv.push_str(&field(&self.rows.label(row)));
            for value in values {
                push(&mut csv, format_args!(",{value}"));
            }
            csv.push_str("\r\n");
        }
        csv
    }
}

fn photo_input(size: Vec2, pixels_per_point: f32) -> RawInput {
    let mut input = RawInput {
        screen_rect: Some(Rect::from_min_size(egui::Pos2::ZERO, size)),
        max_texture_side: Some(8192),
        ..RawInput::default()
    };
    let viewport = input.viewports.entry(ViewportId::ROOT).or_default();
    viewport.native_pixels_per_point = Some(pixels_per_point);
    input
}

/// A text as a field of CSV, quoted where it has to be.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

fn push(csv: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = csv.write_fmt(text);
}

/// An image as the bytes of a PNG file.
pub fn png(image: &ColorImage) -> Result<Vec<u8>, image::ImageError> {
    let (width, height) = (image.width() as u32, image.height() as u32);
    let mut file = std::io::Cursor::new(Vec::new());
    RgbaImage::from_fn(width, height, |x, y| {
        image::Rgba(image[(x as usize, y as usize)].to_srgba_unmultiplied())
    })
    .write_to(&mut file, ImageFormat::Png)?;
    Ok(file.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::theme::VIRIDIS;

    /// Runs `make` within a frame of a light window, where fonts exist.
    fn within_a_frame<T>(make: impl Fn(&Context) -> T) -> T {
        let ctx = Context::default();
        theme::apply(&ctx);
        ctx.set_theme(Theme::Light);
        let mut made = None;
        let mut output = ctx.run_ui(RawInput::default(), |ui| made = Some(make(ui.ctx())));
        output.textures_delta.clear();
        made.unwrap()
    }

    #[test]
    fn csv_keeps_every_digit_and_quotes_labels() {
        let values = [0.1, -1e-20, f32::NAN, 16_777_217.0];
        let label = |row: usize| ["a,b", "say \"x\""][row].to_owned();
        let map = Heatmap::new("map", "Map", Grid::row_major(&values, 2, 2))
            .rows(Axis::new("channel").labels(&label))
            .cols(Axis::new("token"));
        let csv = within_a_frame(|ctx| map.takeaway(ctx).csv());
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines[0], "channel / token,0,1");
        assert_eq!(lines[2], "\"say \"\"x\"\"\",NaN,16777216");
        assert!(lines[1].starts_with("\"a,b\","));
        let back: Vec<f32> = lines[1]
            .trim_start_matches("\"a,b\",")
            .split(',')
            .filter_map(|v| v.parse().ok())
            .collect();
        assert_eq!(back, [0.1, -1e-20]);
    }

    #[test]
    fn csv_names_columns_and_rows_as_the_axes_do() {
        let map = Heatmap::new("map", "Map", Grid::col_major(&[1.0, 2.0, 3.0, 4.0], 2, 2))
            .rows(Axis::new("slot").counted_from(7))
            .cols(Axis::new("token").counted_from(64));
        let csv = within_a_frame(|ctx| map.takeaway(ctx).csv());
        assert_eq!(csv, "slot / token,64,65\r\n7,1,3\r\n8,2,4\r\n");
    }

    #[test]
    fn a_picture_shows_title_and_cells() {
        let map = Heatmap::new("map", "Retention", Grid::row_major(&[0.0, 1.0], 1, 2))
            .scale(Scale::linear(0.0, 1.0));
        let picture = within_a_frame(|ctx| map.takeaway(ctx)).picture();
        assert_eq!(picture.size, [1800, 840]);
        let middle = picture.height() / 2;
        let count = |colour| {
            let row = &picture.pixels[middle * picture.width()..][..picture.width()];
            row.iter().filter(|pixel| **pixel == colour).count()
        };
        let (dark, bright) = (count(VIRIDIS[0]), count(VIRIDIS[15]));
        assert!(dark > 500 && dark.abs_diff(bright) <= 2, "{dark} {bright}");
        let letters = (0..90)
            .flat_map(|y| (0..400).map(move |x| (x, y)))
            .filter(|at| picture[*at] == theme::LIGHT.text)
            .count();
        assert!(letters > 100, "the title is written: {letters}");
    }

    #[test]
    fn a_large_map_is_painted_where_it_is_wanted_and_not_before() {
        let values = vec![0.5; 512 * 1024];
        let map = Heatmap::new("map", "Large", Grid::row_major(&values, 512, 1024));
        let before = crate::widgets::heatmap::raster::painted_here();
        let takeaway = within_a_frame(|ctx| map.takeaway(ctx));
        assert_eq!(crate::widgets::heatmap::raster::painted_here(), before);
        let [width, height] = std::thread::scope(|threads| {
            let worker = threads.spawn(|| takeaway.clipboard_picture());
            worker.join().unwrap().size
        });
        assert_eq!(crate::widgets::heatmap::raster::painted_here(), before);
        assert!(width * height <= 1_600_000, "{width} × {height}");
    }

    #[test]
    fn a_png_is_read_back_as_it_was() -> Result<(), image::ImageError> {
        let image = ColorImage::new([2, 1], vec![VIRIDIS[3], VIRIDIS[9]]);
        let back = image::load_from_memory(&png(&image)?)?.to_rgba8();
        assert_eq!(back.dimensions(), (2, 1));
        assert_eq!(back.get_pixel(1, 0).0, VIRIDIS[9].to_array());
        Ok(())
    }
}
