//! A heatmap to take home: as a picture, and as numbers.

use std::fmt::Write as _;

use egui::{ColorImage, Context, RawInput, Rect, Vec2, ViewportId, vec2};
use image::{ImageFormat, RgbaImage};

use super::Heatmap;
use super::raster::Raster;
use crate::theme;

/// Pixels of a picture to a point of the interface: sharp on paper too.
const PIXELS_PER_POINT: f32 = 2.0;
/// Around the widget, in points.
const MARGIN: f32 = 20.0;

impl Heatmap<'_> {
    /// The whole map as the widget draws it, in the theme and fonts of `ctx`, however small or
    /// zoomed it is on screen; larger maps make larger pictures.
    pub fn picture(&self, ctx: &Context) -> ColorImage {
        let palette = theme::palette(&ctx.global_style().visuals);
        let size = self.picture_size();
        let studio = studio(ctx);
        let map = Self {
            height: size.y - 2.0 * MARGIN,
            on_screen: false,
            ..*self
        };
        let pixels = (size * PIXELS_PER_POINT).round();
        let mut raster = Raster::new(
            [pixels.x as usize, pixels.y as usize],
            palette.surface,
            PIXELS_PER_POINT,
        );
        let output = studio.run_ui(photo_input(size), |ui| {
            let page = Rect::from_min_size(egui::Pos2::ZERO, size).shrink(MARGIN);
            map.show(&mut ui.new_child(egui::UiBuilder::new().max_rect(page)));
        });
        raster.load(output.textures_delta);
        raster.paint(&studio.tessellate(output.shapes, PIXELS_PER_POINT));
        raster.into_image()
    }

    /// Room for each cell, between the size of a figure in a text and that of a poster.
    fn picture_size(&self) -> Vec2 {
        let length = |cells: usize, each: f32, least: f32, most: f32| {
            (cells as f32 * each + 140.0).clamp(least, most)
        };
        vec2(
            length(self.grid.cols(), 6.0, 900.0, 2400.0),
            length(self.grid.rows(), 6.0, 420.0, 1600.0),
        )
    }

    /// The values as CSV in full precision: a header with the column indices, then for each row
    /// its label and its values.
    pub fn csv(&self) -> String {
        let (rows, cols) = (self.grid.rows(), self.grid.cols());
        // About ten characters to a value.
        let mut csv = String::with_capacity((rows + 1) * (cols + 1) * 10);
        let corner = format!("{} / {}", self.rows.name, self.cols.name);
        csv.push_str(&field(&corner));
        for col in 0..cols {
            push(&mut csv, format_args!(",{col}"));
        }
        csv.push_str("\r\n");
        for row in 0..rows {
            csv.push_str(&field(&self.rows.label(row)));
            for col in 0..cols {
                push(&mut csv, format_args!(",{}", self.grid.get(row, col)));
            }
            csv.push_str("\r\n");
        }
        csv
    }
}

/// A context that looks like `ctx` and has no window.
fn studio(ctx: &Context) -> Context {
    let studio = Context::default();
    let (definitions, discovered) = ctx.fonts(|fonts| {
        (
            fonts.definitions().clone(),
            fonts.discovered_fonts().to_vec(),
        )
    });
    studio.set_fonts(definitions);
    for font in discovered {
        studio.add_font(font);
    }
    studio.set_theme(ctx.theme());
    studio.set_style_of(ctx.theme(), ctx.global_style());
    studio
}

fn photo_input(size: Vec2) -> RawInput {
    let mut input = RawInput {
        screen_rect: Some(Rect::from_min_size(egui::Pos2::ZERO, size)),
        max_texture_side: Some(8192),
        ..RawInput::default()
    };
    let viewport = input.viewports.entry(ViewportId::ROOT).or_default();
    viewport.native_pixels_per_point = Some(PIXELS_PER_POINT);
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
    use crate::widgets::{Axis, Grid, Scale};

    #[test]
    fn csv_keeps_every_digit_and_quotes_labels() {
        let values = [0.1, -1e-20, f32::NAN, 16_777_217.0];
        let label = |row: usize| ["a,b", "say \"x\""][row].to_owned();
        let map = Heatmap::new("map", "Map", Grid::row_major(&values, 2, 2))
            .rows(Axis::new("channel").labels(&label))
            .cols(Axis::new("token"));
        let csv = map.csv();
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
    fn a_picture_shows_title_and_cells() {
        let ctx = Context::default();
        theme::apply(&ctx);
        ctx.set_theme(egui::Theme::Light);
        // A first pass, as the fonts of a context only exist within one.
        let mut picture = ColorImage::default();
        let mut output = ctx.run_ui(RawInput::default(), |ui| {
            let map = Heatmap::new("map", "Retention", Grid::row_major(&[0.0, 1.0], 1, 2))
                .scale(Scale::linear(0.0, 1.0));
            picture = map.picture(ui.ctx());
        });
        output.textures_delta.clear();
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
    fn a_png_is_read_back_as_it_was() -> Result<(), image::ImageError> {
        let image = ColorImage::new([2, 1], vec![VIRIDIS[3], VIRIDIS[9]]);
        let back = image::load_from_memory(&png(&image)?)?.to_rgba8();
        assert_eq!(back.dimensions(), (2, 1));
        assert_eq!(back.get_pixel(1, 0).0, VIRIDIS[9].to_array());
        Ok(())
    }
}
