//! The cells as one texture, made again only when what it shows changes.

use std::hash::Hash;

use egui::cache::FramePublisher;
use egui::{Color32, ColorImage, Context, Id, TextureHandle, TextureOptions, Ui};

use super::Heatmap;
use super::grid::{Bins, Pooling};
use super::view::Projection;
use crate::theme::{self, Palette};
use crate::widgets::colormap::{Colormap, Scale, ScaleKind};

/// The bins of the rows and of the columns that fit the pixels of the map.
pub(super) fn bins(ui: &Ui, projection: &Projection) -> (Bins, Bins) {
    let most = ui.input(|input| input.max_texture_side).saturating_sub(1);
    let per_point = ui.pixels_per_point();
    let fitting = |points: f32| ((points * per_point) as usize).clamp(1, most.max(1));
    let (rows, cols, rect) = (projection.rows, projection.cols, projection.rect);
    (
        Bins::covering(rows.start, rows.end(), fitting(rect.height())),
        Bins::covering(cols.start, cols.end(), fitting(rect.width())),
    )
}

/// Everything the texels depend on.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    id: Id,
    data_version: u64,
    shape: [usize; 4],
    bins: (Bins, Bins),
    ends: [u32; 2],
    kind: ScaleKind,
    colormap: Colormap,
    pooling: Pooling,
    gaps: bool,
    dark: bool,
}

/// The texture of these bins, from the last frame if nothing it depends on has changed.
pub(super) fn cached(
    map: &Heatmap<'_>,
    ui: &Ui,
    id: Id,
    scale: &Scale,
    bins: (Bins, Bins),
) -> TextureHandle {
    let key = Key {
        id,
        data_version: map.data_version,
        shape: map.grid.shape(),
        bins,
        ends: [scale.lo.to_bits(), scale.hi.to_bits()],
        kind: scale.kind,
        colormap: map.colormap,
        pooling: map.pooling,
        gaps: map.gaps,
        dark: ui.visuals().dark_mode,
    };
    remembered(ui.ctx(), key, || {
        let image = image(map, scale, bins, theme::palette(ui.visuals()));
        ui.ctx()
            .load_texture(map.title, image, TextureOptions::NEAREST)
    })
}

/// What `make` made for this key in the last frame, or what it makes now.
///
/// Values no one asks for during a frame are dropped, textures of closed pages among them.
pub(super) fn remembered<K, V>(ctx: &Context, key: K, make: impl FnOnce() -> V) -> V
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    let found = ctx.memory_mut(|memory| {
        let cache = memory.caches.cache::<FramePublisher<K, V>>();
        cache.get(&key).cloned()
    });
    let value = found.unwrap_or_else(make);
    ctx.memory_mut(|memory| {
        let cache = memory.caches.cache::<FramePublisher<K, V>>();
        cache.set(key, value.clone());
    });
    value
}

/// One pixel for each pair of bins.
pub(super) fn image(
    map: &Heatmap<'_>,
    scale: &Scale,
    (rows, cols): (Bins, Bins),
    palette: &Palette,
) -> ColorImage {
    let shades = map.colormap.shades(palette);
    let placer = scale.placer();
    let pixels: Vec<Color32> = map
        .grid
        .pooled(rows, cols, map.pooling)
        .into_iter()
        .map(|value| {
            if map.gaps && value.is_nan() {
                palette.control
            } else {
                shades.pick(placer.place(value))
            }
        })
        .collect();
    ColorImage::new([cols.count, rows.count], pixels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::theme::LIGHT;
    use crate::widgets::heatmap::Grid;

    #[test]
    fn pixels_follow_the_scale_and_mark_what_is_missing() {
        let values = [0.0, 1.0, f32::NAN, 0.5];
        let map = Heatmap::new("map", "Map", Grid::row_major(&values, 2, 2));
        let all = Bins::covering(0.0, 2.0, 100);
        let scale = Scale::linear(0.0, 1.0);
        let image = image(&map, &scale, (all, all), &LIGHT);
        assert_eq!(image.size, [2, 2]);
        assert_eq!(image.pixels[0], theme::VIRIDIS[0]);
        assert_eq!(image.pixels[1], theme::VIRIDIS[15]);
        assert_eq!(image.pixels[2], LIGHT.missing);
        let gap = super::image(&map.gaps(), &scale, (all, all), &LIGHT);
        assert_eq!(gap.pixels[2], LIGHT.control);
    }

    #[test]
    fn what_is_asked_for_every_frame_is_made_once() {
        let ctx = Context::default();
        let mut made = 0;
        let mut frame = |key: u32| {
            let mut value = 0;
            let mut output = ctx.run_ui(egui::RawInput::default(), |ui| {
                value = remembered(ui.ctx(), key, || {
                    made += 1;
                    key * 10
                });
            });
            output.textures_delta.clear();
            (value, made)
        };
        assert_eq!(frame(1), (10, 1));
        assert_eq!(frame(1), (10, 1));
        assert_eq!(frame(1), (10, 1));
        assert_eq!(frame(2), (20, 2));
        assert_eq!(frame(2), (20, 2));
        assert_eq!(frame(1), (10, 3), "forgotten when it was not asked for");
    }
}
