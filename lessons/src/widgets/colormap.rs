//! From a number to a colour, and the ticks that let a reader go back.

use egui::{Color32, Mesh, Rect, pos2};

use crate::theme::{Palette, VIRIDIS};

/// How many colours a ready-made table of a map holds.
const SHADES: usize = 256;

/// A perceptual colour map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Colormap {
    /// Dark to bright, for magnitudes.
    #[default]
    Viridis,
    /// Two hues that meet in the neutral colour of the page, for signed values.
    Diverging,
}

impl Colormap {
    /// The colour at `t`, from 0 to 1; outside it the nearest end, for NaN [`Palette::missing`].
    pub fn color(self, t: f32, palette: &Palette) -> Color32 {
        if t.is_nan() {
            return palette.missing;
        }
        match self {
            Self::Viridis => along(&VIRIDIS, t),
            Self::Diverging => along(&palette.diverging, t),
        }
    }

    /// Every shade of the map, for painting many cells.
    pub fn shades(self, palette: &Palette) -> Shades {
        let last = (SHADES - 1) as f32;
        Shades {
            colors: std::array::from_fn(|i| self.color(i as f32 / last, palette)),
            missing: palette.missing,
        }
    }
}

/// The map as a smooth strip, rising to the right or, where the strip is higher than wide, upwards.
pub(super) fn strip(rect: Rect, colormap: Colormap, palette: &Palette) -> Mesh {
    /// Enough for the eye not to see the joints between linear pieces.
    const PIECES: u32 = 48;
    let mut mesh = Mesh::default();
    for i in 0..=PIECES {
        let t = i as f32 / PIECES as f32;
        let color = colormap.color(t, palette);
        let (one, other) = if rect.width() >= rect.height() {
            let x = egui::lerp(rect.x_range(), t);
            (pos2(x, rect.top()), pos2(x, rect.bottom()))
        } else {
            let y = egui::lerp(rect.bottom()..=rect.top(), t);
            (pos2(rect.left(), y), pos2(rect.right(), y))
        };
        mesh.colored_vertex(one, color);
        mesh.colored_vertex(other, color);
        if i > 0 {
            let k = 2 * i;
            mesh.add_triangle(k - 2, k - 1, k);
            mesh.add_triangle(k - 1, k, k + 1);
        }
    }
    mesh
}

/// A colour map worked out beforehand.
#[derive(Clone, Debug)]
pub struct Shades {
    colors: [Color32; SHADES],
    missing: Color32,
}

impl Shades {
    /// The colour of a position on a scale; `None` is a value the scale cannot place.
    pub fn pick(&self, t: Option<f32>) -> Color32 {
        match t {
            // The cast saturates, so the index is in range for every finite or infinite `t`.
            Some(t) => self.colors[(t * (SHADES - 1) as f32 + 0.5) as u8 as usize],
            None => self.missing,
        }
    }
}

fn along(stops: &[Color32], t: f32) -> Color32 {
    let Some(last) = stops.len().checked_sub(1) else {
        return Color32::TRANSPARENT;
    };
    let x = t.clamp(0.0, 1.0) * last as f32;
    let i = (x as usize).min(last.saturating_sub(1));
    let next = (i + 1).min(last);
    stops[i].lerp_to_gamma(stops[next], x - i as f32)
}

/// How a [`Scale`] spreads its values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ScaleKind {
    /// Equal steps for equal differences.
    #[default]
    Linear,
    /// Equal steps for equal ratios; needs `lo > 0`, and shows anything smaller as `lo`.
    Log,
    /// Linear with zero in the middle, for signed values.
    Symmetric,
}

/// The range of values a colour map covers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// The value of the first colour.
    pub lo: f32,
    /// The value of the last colour.
    pub hi: f32,
    /// How the values between are spread.
    pub kind: ScaleKind,
}

/// The least positive value a logarithmic scale goes down to.
const LOG_FLOOR: f32 = 1e-30;
/// A fitted logarithmic scale spans at most this ratio, so that one tiny value cannot flatten the rest.
const LOG_SPAN: f32 = 1e6;

impl Scale {
    /// From `lo` to `hi` in equal steps.
    pub fn linear(lo: f32, hi: f32) -> Self {
        let kind = ScaleKind::Linear;
        Self { lo, hi, kind }
    }

    /// From `lo` to `hi` in equal ratios; both are raised to be positive.
    pub fn log(lo: f32, hi: f32) -> Self {
        let lo = lo.max(LOG_FLOOR);
        Self {
            lo,
            hi: hi.max(lo),
            kind: ScaleKind::Log,
        }
    }

    /// From `-most` to `most`.
    pub fn symmetric(most: f32) -> Self {
        Self {
            lo: -most.abs(),
            hi: most.abs(),
            kind: ScaleKind::Symmetric,
        }
    }

    /// The tightest scale of this kind around the finite values; 0 to 1 where there are none.
    pub fn fit(values: impl IntoIterator<Item = f32>, kind: ScaleKind) -> Self {
        let (mut lo, mut hi) = (f32::INFINITY, f32::NEG_INFINITY);
        for value in values {
            let placeable = value.is_finite() && (kind != ScaleKind::Log || value > 0.0);
            if placeable {
                lo = lo.min(value);
                hi = hi.max(value);
            }
        }
        if lo > hi {
            (lo, hi) = (0.0, 1.0);
        }
        match kind {
            ScaleKind::Linear => Self::linear(lo, hi),
            ScaleKind::Log => Self::log(lo.max(hi / LOG_SPAN), hi),
            ScaleKind::Symmetric => Self::symmetric(lo.abs().max(hi.abs())),
        }
    }

    /// Where `value` lies, 0 at `lo` to 1 at `hi` and clamped there; `None` for NaN and infinities.
    pub fn place(&self, value: f32) -> Option<f32> {
        self.placer().place(value)
    }

    /// The same question for many values, with the logarithms of the ends taken once.
    pub fn placer(&self) -> Placer {
        let log = self.kind == ScaleKind::Log;
        let end = |value: f32| {
            f64::from(if log {
                value.max(LOG_FLOOR).ln()
            } else {
                value
            })
        };
        // In f64, so that a range such as -3e38..3e38 does not overflow.
        let (lo, hi) = (end(self.lo), end(self.hi));
        let per_value = if hi > lo { 1.0 / (hi - lo) } else { 0.0 };
        Placer { log, lo, per_value }
    }

    /// The value at position `t`, the inverse of [`Self::place`].
    pub fn value_at(&self, t: f32) -> f32 {
        let (lo, hi, t) = (f64::from(self.lo), f64::from(self.hi), f64::from(t));
        let value = match self.kind {
            ScaleKind::Log => (lo.ln() + (hi.ln() - lo.ln()) * t).exp(),
            ScaleKind::Linear | ScaleKind::Symmetric => lo + (hi - lo) * t,
        };
        value as f32
    }

    /// At most about `most` round values of the scale, in rising order.
    pub fn ticks(&self, most: usize) -> Vec<Tick> {
        if !(self.lo.is_finite() && self.hi.is_finite()) || most == 0 {
            return Vec::new();
        }
        if self.hi <= self.lo {
            return vec![Tick::at(0.5, number(self.lo))];
        }
        let decades = f64::from(self.hi).log10() - f64::from(self.lo).log10();
        if self.kind == ScaleKind::Log && decades >= 1.0 {
            self.log_ticks(most)
        } else {
            self.even_ticks(most)
        }
    }

    fn even_ticks(&self, most: usize) -> Vec<Tick> {
        // A single mark tells no scale: better one too many than that.
        let finer = [most, most + 1, 2 * most, 4 * most].into_iter();
        let mut tried = finer.map(|most| self.ticks_apart(most));
        tried.find(|ticks| ticks.len() > 1).unwrap_or_default()
    }

    fn ticks_apart(&self, most: usize) -> Vec<Tick> {
        let (lo, hi) = (f64::from(self.lo), f64::from(self.hi));
        let step = round_step((hi - lo) / most as f64);
        let slack = step * 1e-6;
        let first = ((lo - slack) / step).ceil() as i64;
        let last = ((hi + slack) / step).floor() as i64;
        (first..=last)
            .filter_map(|k| {
                let value = k as f64 * step;
                let t = self.place(value as f32)?;
                Some(Tick::at(t, stepped(value, step)))
            })
            .collect()
    }

    fn log_ticks(&self, most: usize) -> Vec<Tick> {
        let (lo, hi) = (f64::from(self.lo), f64::from(self.hi));
        let (first, last) = (lo.log10().floor() as i32, hi.log10().ceil() as i32);
        let decades = ((hi.log10() - lo.log10()).round() as usize).max(1);
        let every = i32::try_from(decades.div_ceil(most)).unwrap_or(1).max(1);
        // Few decades leave room for the marks between the powers of ten.
        let mantissas: &[f64] = match most / decades {
            0..=2 => &[1.0],
            3..=5 => &[1.0, 3.0],
            _ => &[1.0, 2.0, 5.0],
        };
        (first..=last)
            .filter(|power| power.rem_euclid(every) == 0)
            .flat_map(|power| mantissas.iter().map(move |m| m * 10f64.powi(power)))
            .filter(|value| (lo * (1.0 - 1e-6)..=hi * (1.0 + 1e-6)).contains(value))
            .filter_map(|value| {
                let value = value as f32;
                Some(Tick::at(self.place(value)?, number(value)))
            })
            .collect()
    }
}

/// A [`Scale`] made ready to place many values.
#[derive(Clone, Copy, Debug)]
pub struct Placer {
    log: bool,
    lo: f64,
    /// Zero on a scale without extent, where every value goes to the middle.
    per_value: f64,
}

impl Placer {
    /// See [`Scale::place`].
    pub fn place(&self, value: f32) -> Option<f32> {
        if !value.is_finite() {
            return None;
        }
        if self.per_value == 0.0 {
            return Some(0.5);
        }
        let x = if self.log {
            value.max(LOG_FLOOR).ln()
        } else {
            value
        };
        Some(((f64::from(x) - self.lo) * self.per_value).clamp(0.0, 1.0) as f32)
    }
}

/// A marked value of a [`Scale`].
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    /// Where on the scale, 0 to 1.
    pub position: f32,
    /// The value, written out.
    pub label: String,
}

impl Tick {
    fn at(position: f32, label: String) -> Self {
        Self { position, label }
    }
}

/// The smallest of 1, 2, 5 times a power of ten that is at least `raw`.
pub(crate) fn round_step(raw: f64) -> f64 {
    if !(raw.is_finite() && raw > 0.0) {
        return 1.0;
    }
    let base = 10f64.powf(raw.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|m| m * base)
        .find(|step| *step >= raw * (1.0 - 1e-9))
        .unwrap_or(base * 10.0)
}

/// A multiple of `step` with just the decimals the step calls for.
fn stepped(value: f64, step: f64) -> String {
    let value = if value.abs() < step * 1e-6 {
        0.0
    } else {
        value
    };
    if !(1e-4..1e5).contains(&step) {
        return number(value as f32);
    }
    let decimals = (-step.log10()).ceil().max(0.0) as usize;
    with_minus(format!("{value:.decimals$}"))
}

/// A value with four significant digits, as shown in ticks and tooltips.
pub fn number(value: f32) -> String {
    if !value.is_finite() {
        return match value {
            v if v.is_nan() => "NaN".to_owned(),
            v if v > 0.0 => "∞".to_owned(),
            _ => "\u{2212}∞".to_owned(),
        };
    }
    let size = value.abs();
    if size == 0.0 {
        return "0".to_owned();
    }
    if !(1e-4..1e6).contains(&size) {
        let text = format!("{value:.3e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        return with_minus(format!("{}e{exponent}", trim_zeros(mantissa)));
    }
    let before_point = size.log10().floor() as i32 + 1;
    let decimals = usize::try_from(4 - before_point).unwrap_or(0);
    let text = format!("{value:.decimals$}");
    with_minus(trim_zeros(&text).to_owned())
}

fn trim_zeros(text: &str) -> &str {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    }
}

/// Typeset minus signs: as wide as a plus, and never broken off at the end of a line.
fn with_minus(text: String) -> String {
    text.replace('-', "\u{2212}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::theme::{DARK, LIGHT, contrast};

    fn labels(ticks: &[Tick]) -> Vec<&str> {
        ticks.iter().map(|t| t.label.as_str()).collect()
    }

    #[test]
    fn viridis_only_gets_brighter() {
        let brightness: Vec<f32> = (0..=100)
            .map(|i| {
                contrast(
                    Colormap::Viridis.color(i as f32 / 100.0, &LIGHT),
                    Color32::BLACK,
                )
            })
            .collect();
        assert!(brightness.is_sorted(), "{brightness:?}");
    }

    #[test]
    fn the_middle_of_the_diverging_map_melts_into_the_page() {
        for palette in [&LIGHT, &DARK] {
            let colour = |t| Colormap::Diverging.color(t, palette);
            assert!(contrast(colour(0.5), palette.surface) < 1.15);
            assert!(contrast(colour(0.0), palette.surface) > 4.0);
            assert!(contrast(colour(1.0), palette.surface) > 4.0);
        }
    }

    #[test]
    fn shades_agree_with_the_map() {
        let shades = Colormap::Viridis.shades(&DARK);
        for i in 0..=20 {
            let t = i as f32 / 20.0;
            let exact = Colormap::Viridis.color(t, &DARK);
            let picked = shades.pick(Some(t));
            for channel in 0..3 {
                assert!(exact[channel].abs_diff(picked[channel]) <= 3, "{t}");
            }
        }
        assert_eq!(shades.pick(None), DARK.missing);
        assert_eq!(shades.pick(Some(-7.0)), VIRIDIS[0]);
        assert_eq!(shades.pick(Some(9.0)), VIRIDIS[15]);
    }

    #[test]
    fn values_are_placed_in_order() {
        let scales = [
            Scale::linear(-2.0, 6.0),
            Scale::log(1e-4, 10.0),
            Scale::symmetric(3.0),
            Scale::linear(f32::MIN, f32::MAX),
        ];
        for scale in scales {
            let places: Vec<f32> = [-1e30, -1.0, 0.0, 1e-3, 0.5, 2.0, 5.0, 1e30]
                .into_iter()
                .filter_map(|v| scale.place(v))
                .collect();
            assert_eq!(places.len(), 8);
            assert!(places.is_sorted(), "{scale:?}: {places:?}");
            assert_eq!(scale.place(scale.lo), Some(0.0));
            assert_eq!(scale.place(scale.hi), Some(1.0));
        }
        assert_eq!(Scale::symmetric(3.0).place(0.0), Some(0.5));
        assert_eq!(Scale::linear(2.0, 2.0).place(2.0), Some(0.5));
    }

    #[test]
    fn what_is_no_number_has_no_place() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(Scale::linear(0.0, 1.0).place(value), None);
        }
    }

    #[test]
    fn places_and_values_are_inverse() {
        for scale in [Scale::linear(-2.0, 6.0), Scale::log(1e-4, 10.0)] {
            for t in [0.0, 0.25, 0.5, 1.0] {
                let back = scale.place(scale.value_at(t));
                assert!(back.is_some_and(|b| (b - t).abs() < 1e-5), "{scale:?} {t}");
            }
        }
    }

    #[test]
    fn fitting_skips_what_cannot_be_placed() {
        let values = [f32::NAN, -1.0, 0.0, 0.01, 4.0, f32::INFINITY];
        assert_eq!(
            Scale::fit(values, ScaleKind::Linear),
            Scale::linear(-1.0, 4.0)
        );
        assert_eq!(Scale::fit(values, ScaleKind::Log), Scale::log(0.01, 4.0));
        assert_eq!(
            Scale::fit(values, ScaleKind::Symmetric),
            Scale::symmetric(4.0)
        );
        assert_eq!(Scale::fit([], ScaleKind::Linear), Scale::linear(0.0, 1.0));
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(
            labels(&Scale::linear(0.0, 1.0).ticks(5)),
            ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
        );
        assert_eq!(
            labels(&Scale::symmetric(3.0).ticks(6)),
            ["\u{2212}3", "\u{2212}2", "\u{2212}1", "0", "1", "2", "3"]
        );
        assert_eq!(
            labels(&Scale::log(1e-3, 10.0).ticks(5)),
            ["0.001", "0.01", "0.1", "1", "10"]
        );
        assert_eq!(labels(&Scale::linear(7.0, 7.0).ticks(5)), ["7"]);
        for most in 1..9 {
            let ticks = Scale::linear(-0.37, 12.9).ticks(most);
            assert!(ticks.len() <= most + 1, "{most}: {ticks:?}");
            assert!(ticks.iter().all(|t| (0.0..=1.0).contains(&t.position)));
        }
    }

    #[test]
    fn numbers_keep_four_digits() {
        let cases = [
            (0.0, "0"),
            (1.0, "1"),
            (-0.5, "\u{2212}0.5"),
            (0.012_345, "0.01235"),
            (1234.56, "1235"),
            (1.5e-7, "1.5e\u{2212}7"),
            (-2.0e9, "\u{2212}2e9"),
            (f32::NAN, "NaN"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }
}
