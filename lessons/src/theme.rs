//! Every colour and every distance of the interface, for a light and a dark window.
//!
//! Widgets ask for a role ("the colour of weak text"), never for a literal: [`palette`] gives the
//! roles of the theme in force, [`apply`] teaches egui the same colours once at start-up.

use egui::{
    Color32, CornerRadius, FontDefinitions, FontFamily, FontId, Margin, Shadow, Stroke, Style,
    TextStyle, Theme, Visuals, style::HandleShape, style::ScrollFadeStyle, style::ScrollStyle,
    style::WidgetVisuals, vec2,
};

/// The colours of one theme, by what they are for.
#[derive(Clone, Debug, PartialEq)]
pub struct Palette {
    /// Behind everything.
    pub bg: Color32,
    /// Side panels and bars.
    pub panel: Color32,
    /// Cards, plots, text fields: what content lies on.
    pub surface: Color32,
    /// The face of a button at rest.
    pub control: Color32,
    /// The face of a button under the pointer.
    pub control_hovered: Color32,
    /// Hairlines and frames.
    pub border: Color32,
    /// Running text.
    pub text: Color32,
    /// Captions, ticks, hints. Still at least 4.5 : 1 on every background above.
    pub weak_text: Color32,
    /// The one colour that says "this one".
    pub accent: Color32,
    /// A wash of the accent, to put text on.
    pub accent_soft: Color32,
    /// Text on [`Self::accent_soft`], and strong words in running text.
    pub on_accent_soft: Color32,
    /// Something to know before going on.
    pub warning: Color32,
    /// Something that did not work.
    pub error: Color32,
    /// Lines of a plot, in the order they should be used; told apart with any colour vision.
    pub series: [Color32; 8],
    /// Control points for signed values, from most negative to most positive; zero is the middle.
    pub diverging: [Color32; 5],
    /// Where a map has no number to show: NaN and infinities.
    pub missing: Color32,
    /// Under windows, menus and tooltips.
    pub shadow: Color32,
}

/// Sixteen equally spaced points of viridis (CC0), dark to bright, for magnitudes.
pub const VIRIDIS: [Color32; 16] = [
    Color32::from_rgb(0x44, 0x01, 0x54),
    Color32::from_rgb(0x48, 0x1a, 0x6c),
    Color32::from_rgb(0x47, 0x2f, 0x7d),
    Color32::from_rgb(0x41, 0x44, 0x87),
    Color32::from_rgb(0x39, 0x56, 0x8c),
    Color32::from_rgb(0x31, 0x68, 0x8e),
    Color32::from_rgb(0x2a, 0x78, 0x8e),
    Color32::from_rgb(0x23, 0x88, 0x8e),
    Color32::from_rgb(0x1f, 0x98, 0x8b),
    Color32::from_rgb(0x22, 0xa8, 0x84),
    Color32::from_rgb(0x35, 0xb7, 0x79),
    Color32::from_rgb(0x54, 0xc5, 0x68),
    Color32::from_rgb(0x7a, 0xd1, 0x51),
    Color32::from_rgb(0xa5, 0xdb, 0x36),
    Color32::from_rgb(0xd2, 0xe2, 0x1b),
    Color32::from_rgb(0xfd, 0xe7, 0x25),
];

/// The colours of a light window.
pub static LIGHT: Palette = Palette {
    bg: Color32::from_rgb(0xf4, 0xf6, 0xf7),
    panel: Color32::from_rgb(0xfa, 0xfb, 0xfb),
    surface: Color32::from_rgb(0xff, 0xff, 0xff),
    control: Color32::from_rgb(0xea, 0xee, 0xf0),
    control_hovered: Color32::from_rgb(0xdf, 0xe6, 0xe9),
    border: Color32::from_rgb(0xd5, 0xdb, 0xdf),
    text: Color32::from_rgb(0x1e, 0x25, 0x2a),
    weak_text: Color32::from_rgb(0x56, 0x61, 0x69),
    accent: Color32::from_rgb(0x0b, 0x6e, 0x82),
    accent_soft: Color32::from_rgb(0xcf, 0xe9, 0xee),
    on_accent_soft: Color32::from_rgb(0x06, 0x4b, 0x5a),
    warning: Color32::from_rgb(0x8a, 0x5a, 0x00),
    error: Color32::from_rgb(0xb4, 0x2a, 0x21),
    series: [
        Color32::from_rgb(0x0b, 0x6e, 0xb0),
        Color32::from_rgb(0xc8, 0x56, 0x00),
        Color32::from_rgb(0x00, 0x8a, 0x66),
        Color32::from_rgb(0xb0, 0x52, 0x88),
        Color32::from_rgb(0xb0, 0x7c, 0x00),
        Color32::from_rgb(0x3b, 0x91, 0xc6),
        Color32::from_rgb(0x6a, 0x5f, 0x00),
        Color32::from_rgb(0x4c, 0x53, 0x59),
    ],
    diverging: [
        Color32::from_rgb(0x1f, 0x4f, 0x94),
        Color32::from_rgb(0x86, 0xae, 0xda),
        Color32::from_rgb(0xf3, 0xf4, 0xf4),
        Color32::from_rgb(0xe9, 0x9e, 0x86),
        Color32::from_rgb(0xa8, 0x2a, 0x24),
    ],
    missing: Color32::from_rgb(0xd6, 0x2f, 0xc4),
    shadow: Color32::from_black_alpha(28),
};

/// The colours of a dark window.
pub static DARK: Palette = Palette {
    bg: Color32::from_rgb(0x14, 0x18, 0x1b),
    panel: Color32::from_rgb(0x1a, 0x1f, 0x22),
    surface: Color32::from_rgb(0x20, 0x26, 0x2a),
    control: Color32::from_rgb(0x2c, 0x34, 0x39),
    control_hovered: Color32::from_rgb(0x37, 0x41, 0x47),
    border: Color32::from_rgb(0x37, 0x40, 0x46),
    text: Color32::from_rgb(0xe3, 0xe8, 0xea),
    weak_text: Color32::from_rgb(0xa3, 0xae, 0xb5),
    accent: Color32::from_rgb(0x5c, 0xc3, 0xd8),
    accent_soft: Color32::from_rgb(0x1d, 0x4a, 0x56),
    on_accent_soft: Color32::from_rgb(0xc8, 0xf0, 0xf7),
    warning: Color32::from_rgb(0xe9, 0xb6, 0x5c),
    error: Color32::from_rgb(0xf4, 0x8b, 0x81),
    series: [
        Color32::from_rgb(0x5b, 0xb0, 0xe8),
        Color32::from_rgb(0xee, 0x8f, 0x4e),
        Color32::from_rgb(0x3f, 0xc4, 0x9c),
        Color32::from_rgb(0xdb, 0x8d, 0xb8),
        Color32::from_rgb(0xe6, 0xb0, 0x3d),
        Color32::from_rgb(0x8f, 0xcf, 0xf2),
        Color32::from_rgb(0xd9, 0xcf, 0x6a),
        Color32::from_rgb(0xb6, 0xbf, 0xc5),
    ],
    diverging: [
        Color32::from_rgb(0x7f, 0xbd, 0xfa),
        Color32::from_rgb(0x3b, 0x6c, 0xa8),
        Color32::from_rgb(0x25, 0x2b, 0x2f),
        Color32::from_rgb(0xa8, 0x4c, 0x3f),
        Color32::from_rgb(0xf9, 0x95, 0x80),
    ],
    missing: Color32::from_rgb(0xf0, 0x5b, 0xe0),
    shadow: Color32::from_black_alpha(110),
};

/// Text for backgrounds too bright for [`PALE_INK`].
const DARK_INK: Color32 = Color32::from_rgb(0x00, 0x00, 0x00);
/// Text for backgrounds too dark for [`DARK_INK`].
const PALE_INK: Color32 = Color32::from_rgb(0xff, 0xff, 0xff);

/// The palette that goes with these visuals.
pub fn palette(visuals: &Visuals) -> &'static Palette {
    if visuals.dark_mode { &DARK } else { &LIGHT }
}

/// Dark or pale ink, whichever reads better on `background`.
pub fn ink_on(background: Color32) -> Color32 {
    if contrast(DARK_INK, background) >= contrast(PALE_INK, background) {
        DARK_INK
    } else {
        PALE_INK
    }
}

/// The WCAG 2 contrast ratio of two opaque colours, 1 to 21.
pub fn contrast(one: Color32, other: Color32) -> f32 {
    let (a, b) = (luminance(one), luminance(other));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

/// Relative luminance, 0 (black) to 1 (white).
fn luminance(colour: Color32) -> f32 {
    let linear = egui::Rgba::from(colour);
    0.2126 * linear.r() + 0.7152 * linear.g() + 0.0722 * linear.b()
}

/// Give both the light and the dark style of `ctx` our fonts, colours, sizes and distances.
///
/// Call it once, when the window is made. Which of the two is in force stays the user's choice.
pub fn apply(ctx: &egui::Context) {
    ctx.set_fonts(fonts());
    // Formulas are pictures of lines.
    egui_extras::install_image_loaders(ctx);
    ctx.style_mut_of(Theme::Light, |style| {
        restyle(style, Visuals::light(), &LIGHT)
    });
    ctx.style_mut_of(Theme::Dark, |style| restyle(style, Visuals::dark(), &DARK));
}

/// egui's fonts, with the wide repertoire of its monospace face (arrows, norms, ↵) behind the others.
fn fonts() -> FontDefinitions {
    let mut fonts = FontDefinitions::default();
    let monospace = fonts.families.get(&FontFamily::Monospace).cloned();
    let proportional = fonts.families.entry(FontFamily::Proportional).or_default();
    for face in monospace.into_iter().flatten() {
        if !proportional.contains(&face) {
            proportional.push(face);
        }
    }
    fonts
}

fn restyle(style: &mut Style, base: Visuals, palette: &Palette) {
    style.text_styles = [
        (
            TextStyle::Small,
            FontId::new(12.0, FontFamily::Proportional),
        ),
        (TextStyle::Body, FontId::new(14.0, FontFamily::Proportional)),
        (
            TextStyle::Button,
            FontId::new(14.0, FontFamily::Proportional),
        ),
        (
            TextStyle::Heading,
            FontId::new(20.0, FontFamily::Proportional),
        ),
        (
            TextStyle::Monospace,
            FontId::new(13.0, FontFamily::Monospace),
        ),
    ]
    .into();
    let spacing = &mut style.spacing;
    spacing.item_spacing = vec2(8.0, 7.0);
    spacing.button_padding = vec2(10.0, 4.0);
    spacing.interact_size = vec2(40.0, 26.0);
    spacing.menu_margin = Margin::same(6);
    spacing.window_margin = Margin::same(14);
    spacing.slider_width = 160.0;
    spacing.slider_rail_height = 6.0;
    spacing.combo_width = 120.0;
    spacing.icon_width = 16.0;
    spacing.icon_width_inner = 9.0;
    spacing.tooltip_width = 380.0;
    spacing.scroll = ScrollStyle {
        bar_width: 8.0,
        floating_allocated_width: 8.0,
        // At the edges of a fading area a colour that stands for a number would stand for another.
        fade: ScrollFadeStyle {
            strength: 0.0,
            ..ScrollFadeStyle::default()
        },
        ..ScrollStyle::floating()
    };
    style.visuals = visuals(base, palette);
}

fn visuals(mut visuals: Visuals, palette: &Palette) -> Visuals {
    let plain = WidgetVisuals {
        bg_fill: palette.control,
        weak_bg_fill: palette.control,
        bg_stroke: Stroke::new(1.0, palette.border),
        corner_radius: CornerRadius::same(6),
        fg_stroke: Stroke::new(1.0, palette.text),
        expansion: 0.0,
    };
    visuals.widgets.noninteractive = WidgetVisuals {
        bg_fill: palette.panel,
        weak_bg_fill: palette.panel,
        ..plain
    };
    visuals.widgets.inactive = plain;
    visuals.widgets.hovered = WidgetVisuals {
        bg_fill: palette.control_hovered,
        weak_bg_fill: palette.control_hovered,
        bg_stroke: Stroke::new(1.0, palette.accent),
        ..plain
    };
    visuals.widgets.active = WidgetVisuals {
        bg_fill: palette.accent_soft,
        weak_bg_fill: palette.accent_soft,
        bg_stroke: Stroke::new(1.0, palette.accent),
        // Also the colour of strong text, which has no bolder face to be told by.
        fg_stroke: Stroke::new(1.0, palette.on_accent_soft),
        ..plain
    };
    visuals.widgets.open = WidgetVisuals {
        bg_stroke: Stroke::new(1.0, palette.accent),
        ..plain
    };
    visuals.selection.bg_fill = palette.accent_soft;
    visuals.selection.stroke = Stroke::new(1.0, palette.on_accent_soft);
    // A cursor that blinks wakes an idle window twice a second.
    visuals.text_cursor.blink = false;
    visuals.text_cursor.stroke = Stroke::new(2.0, palette.accent);
    visuals.weak_text_color = Some(palette.weak_text);
    visuals.hyperlink_color = palette.accent;
    visuals.warn_fg_color = palette.warning;
    visuals.error_fg_color = palette.error;
    visuals.panel_fill = palette.panel;
    visuals.window_fill = palette.surface;
    visuals.window_stroke = Stroke::new(1.0, palette.border);
    visuals.faint_bg_color = palette.bg;
    visuals.extreme_bg_color = palette.surface;
    visuals.code_bg_color = palette.control;
    visuals.window_corner_radius = CornerRadius::same(10);
    visuals.menu_corner_radius = CornerRadius::same(8);
    let shadow = |blur, drop| Shadow {
        offset: [0, drop],
        blur,
        spread: 0,
        color: palette.shadow,
    };
    visuals.window_shadow = shadow(24, 8);
    visuals.popup_shadow = shadow(14, 4);
    visuals.handle_shape = HandleShape::Circle;
    visuals.slider_trailing_fill = true;
    visuals.indent_has_left_vline = false;
    visuals
}

#[cfg(test)]
mod tests {
    use super::*;

    fn themes() -> [(&'static str, &'static Palette); 2] {
        [("light", &LIGHT), ("dark", &DARK)]
    }

    #[test]
    fn text_reads_on_every_background() {
        for (name, p) in themes() {
            let inks = [
                p.text,
                p.weak_text,
                p.on_accent_soft,
                p.accent,
                p.warning,
                p.error,
            ];
            for background in [p.bg, p.panel, p.surface] {
                for ink in inks {
                    let ratio = contrast(ink, background);
                    assert!(ratio >= 4.5, "{name}: {ink:?} on {background:?}: {ratio}");
                }
            }
            for face in [p.control, p.control_hovered, p.accent_soft] {
                let ratio = contrast(p.text, face);
                assert!(ratio >= 4.5, "{name}: text on {face:?}: {ratio}");
            }
            assert!(contrast(p.on_accent_soft, p.accent_soft) >= 4.5, "{name}");
        }
    }

    #[test]
    fn lines_of_a_plot_stand_out() {
        for (name, p) in themes() {
            for colour in p.series {
                let ratio = contrast(colour, p.surface);
                assert!(ratio >= 3.0, "{name}: {colour:?}: {ratio}");
            }
        }
    }

    #[test]
    fn there_is_readable_ink_for_any_grey_and_any_viridis() {
        let greys = (0..=255).map(Color32::from_gray);
        for background in greys.chain(VIRIDIS) {
            assert!(
                contrast(ink_on(background), background) >= 4.5,
                "{background:?}"
            );
        }
    }

    #[test]
    fn contrast_spans_one_to_twenty_one() {
        assert!((contrast(Color32::BLACK, Color32::WHITE) - 21.0).abs() < 0.01);
        assert!((contrast(LIGHT.text, LIGHT.text) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn both_styles_are_set() {
        let ctx = egui::Context::default();
        apply(&ctx);
        assert_eq!(ctx.style_of(Theme::Light).visuals.panel_fill, LIGHT.panel);
        assert_eq!(ctx.style_of(Theme::Dark).visuals.panel_fill, DARK.panel);
        assert_eq!(*palette(&ctx.style_of(Theme::Dark).visuals), DARK);
    }
}
