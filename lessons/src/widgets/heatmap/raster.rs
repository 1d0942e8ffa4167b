//! egui's triangles as pixels, without a graphics card: enough to save what a widget draws.

use std::collections::HashMap;

use egui::epaint::textures::{TextureFilter, TexturesDelta};
use egui::epaint::{ClippedPrimitive, ImageData, Mesh, Primitive, Vertex};
use egui::{Color32, ColorImage, Pos2, Rect, TextureId, Vec2, pos2};

/// A texture and whether its texels are blended into each other.
struct Texture {
    image: ColorImage,
    smooth: bool,
}

/// Textures by name, and the pixels painted so far.
pub(super) struct Raster {
    textures: HashMap<TextureId, Texture>,
    image: ColorImage,
    pixels_per_point: f32,
}

#[cfg(test)]
thread_local! {
    static PAINTED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// How many pictures this thread has begun.
#[cfg(test)]
pub(super) fn painted_here() -> usize {
    PAINTED.get()
}

impl Raster {
    pub fn new(size: [usize; 2], background: Color32, pixels_per_point: f32) -> Self {
        #[cfg(test)]
        PAINTED.set(PAINTED.get() + 1);
        Self {
            textures: HashMap::new(),
            image: ColorImage::filled(size, background),
            pixels_per_point,
        }
    }

    /// Take in new and changed textures.
    pub fn load(&mut self, mut delta: TexturesDelta) {
        for (id, changes) in std::mem::take(&mut delta.set) {
            for change in changes {
                let ImageData::Color(image) = change.image;
                let smooth = change.options.magnification == TextureFilter::Linear;
                match (change.pos, self.textures.get_mut(&id)) {
                    (Some(corner), Some(texture)) => patch(&mut texture.image, &image, corner),
                    _ => {
                        let image = image.as_ref().clone();
                        self.textures.insert(id, Texture { image, smooth });
                    }
                }
            }
        }
        // Textures to be freed go with the raster.
        delta.clear();
    }

    /// Paint the primitives over what is there.
    pub fn paint(&mut self, primitives: &[ClippedPrimitive]) {
        for ClippedPrimitive {
            clip_rect,
            primitive,
        } in primitives
        {
            if let Primitive::Mesh(mesh) = primitive {
                self.mesh(mesh, *clip_rect);
            }
        }
    }

    pub fn into_image(self) -> ColorImage {
        self.image
    }

    fn mesh(&mut self, mesh: &Mesh, clip: Rect) {
        let Some(texture) = self.textures.get(&mesh.texture_id) else {
            return;
        };
        let clip = clip * self.pixels_per_point;
        for corners in mesh.indices.chunks_exact(3) {
            let mut vertices = [Vertex::default(); 3];
            for (vertex, index) in vertices.iter_mut().zip(corners) {
                *vertex = mesh.vertices[*index as usize];
                vertex.pos = (vertex.pos.to_vec2() * self.pixels_per_point).to_pos2();
            }
            triangle(&mut self.image, texture, vertices, clip);
        }
    }
}

fn patch(image: &mut ColorImage, patch: &ColorImage, [x, y]: [usize; 2]) {
    for row in 0..patch.height() {
        for col in 0..patch.width() {
            image[(x + col, y + row)] = patch[(col, row)];
        }
    }
}

/// Paint the pixels whose middle is in the triangle, each seam by one of its two neighbours only.
fn triangle(image: &mut ColorImage, texture: &Texture, mut v: [Vertex; 3], clip: Rect) {
    if cross(v[1].pos - v[0].pos, v[2].pos - v[0].pos) < 0.0 {
        v.swap(1, 2);
    }
    let area = cross(v[1].pos - v[0].pos, v[2].pos - v[0].pos);
    if area <= 0.0 || area.is_nan() {
        return;
    }
    let screen = Rect::from_min_size(Pos2::ZERO, Vec2::from(image.size.map(|n| n as f32)));
    let within = Rect::from_points(&v.map(|vertex| vertex.pos))
        .intersect(clip)
        .intersect(screen);
    if !within.is_positive() {
        return;
    }
    for y in within.top().floor() as usize..within.bottom().ceil() as usize {
        for x in within.left().floor() as usize..within.right().ceil() as usize {
            let middle = pos2(x as f32 + 0.5, y as f32 + 0.5);
            let inside = within.contains(middle)
                && (0..3).all(|i| on_side(v[i].pos, v[(i + 1) % 3].pos, middle));
            if inside && y < image.height() && x < image.width() {
                let weight = |i: usize| {
                    let (from, to) = (v[(i + 1) % 3].pos, v[(i + 2) % 3].pos);
                    cross(to - from, middle - from) / area
                };
                let source = shade(texture, &v, [weight(0), weight(1), weight(2)]);
                let target = &mut image[(x, y)];
                *target = source + target.gamma_multiply_u8(255 - source.a());
            }
        }
    }
}

fn cross(a: Vec2, b: Vec2) -> f32 {
    a.x * b.y - a.y * b.x
}

/// Whether `p` is on the inner side of an edge; points on it belong to top and left edges.
fn on_side(from: Pos2, to: Pos2, p: Pos2) -> bool {
    let edge = to - from;
    let side = cross(edge, p - from);
    let top_or_left = edge.y < 0.0 || (edge.y == 0.0 && edge.x > 0.0);
    side > 0.0 || (side == 0.0 && top_or_left)
}

fn shade(texture: &Texture, v: &[Vertex; 3], weights: [f32; 3]) -> Color32 {
    let mix = |value: &dyn Fn(&Vertex) -> f32| -> f32 {
        v.iter()
            .zip(weights)
            .map(|(vertex, w)| value(vertex) * w)
            .sum()
    };
    let uv = pos2(mix(&|v| v.uv.x), mix(&|v| v.uv.y));
    let texel = sample(texture, uv);
    let channel = |c: usize| {
        let vertex = mix(&|v| f32::from(v.color[c])).clamp(0.0, 255.0);
        (vertex * f32::from(texel[c]) / 255.0 + 0.5) as u8
    };
    Color32::from_rgba_premultiplied(channel(0), channel(1), channel(2), channel(3))
}

fn sample(texture: &Texture, uv: Pos2) -> Color32 {
    let image = &texture.image;
    let [width, height] = image.size;
    if width == 0 || height == 0 {
        return Color32::TRANSPARENT;
    }
    let texel = |x: f32, y: f32| {
        let at = |v: f32, len: usize| (v.max(0.0) as usize).min(len - 1);
        image[(at(x, width), at(y, height))]
    };
    let (x, y) = (uv.x * width as f32, uv.y * height as f32);
    if !texture.smooth {
        return texel(x, y);
    }
    let (x, y) = (x - 0.5, y - 0.5);
    let row = |y: f32| texel(x, y).lerp_to_gamma(texel(x + 1.0, y), x.rem_euclid(1.0));
    row(y).lerp_to_gamma(row(y + 1.0), y.rem_euclid(1.0))
}

#[cfg(test)]
mod tests {
    use egui::{Mesh, vec2};

    use super::*;

    const PAPER: Color32 = Color32::WHITE;
    const INK: Color32 = Color32::BLACK;

    fn raster(texture: ColorImage) -> Raster {
        let mut raster = Raster::new([8, 6], PAPER, 2.0);
        let smooth = false;
        let id = TextureId::default();
        raster.textures.insert(
            id,
            Texture {
                image: texture,
                smooth,
            },
        );
        raster
    }

    fn painted(mut raster: Raster, mesh: Mesh, clip: Rect) -> ColorImage {
        raster.paint(&[ClippedPrimitive {
            clip_rect: clip,
            primitive: Primitive::Mesh(mesh),
        }]);
        raster.into_image()
    }

    #[test]
    fn a_rectangle_covers_its_pixels_once_and_no_others() {
        let rect = Rect::from_min_size(pos2(1.0, 0.5), vec2(2.0, 1.5));
        let whole = Rect::from_min_max(Pos2::ZERO, pos2(1.0, 1.0));
        let mut mesh = Mesh::default();
        // Half transparent, so that a pixel painted twice would be darker.
        mesh.add_rect_with_uv(rect, whole, Color32::from_black_alpha(128));
        let clip = Rect::EVERYTHING;
        let image = painted(raster(ColorImage::filled([1, 1], PAPER)), mesh, clip);
        for y in 0..6 {
            for x in 0..8 {
                let inside = (2..6).contains(&x) && (1..4).contains(&y);
                let expected = if inside { 127 } else { 255 };
                assert_eq!(image[(x, y)].r(), expected, "{x} {y}");
            }
        }
    }

    #[test]
    fn texels_are_not_smeared_and_clips_hold() {
        let texture = ColorImage::new([2, 1], vec![INK, PAPER]);
        let mut mesh = Mesh::default();
        let rect = Rect::from_min_size(Pos2::ZERO, vec2(4.0, 3.0));
        let whole = Rect::from_min_max(Pos2::ZERO, pos2(1.0, 1.0));
        mesh.add_rect_with_uv(rect, whole, Color32::WHITE);
        let clip = Rect::from_min_max(Pos2::ZERO, pos2(9.0, 1.0));
        let image = painted(raster(texture), mesh, clip);
        let dark = |x, y| image[(x, y)] == INK;
        assert!((0..4).all(|x| dark(x, 0) && dark(x, 1)));
        assert!((4..8).all(|x| !dark(x, 0)));
        assert!((0..8).all(|x| !dark(x, 2)), "below the clip");
    }
}
