//! Every widget at once, in both themes, for a person to look at: target/tmp/gallery-*.png.

use std::path::Path;

use egui::{Theme, Ui};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use mambascope_lessons::reading_guide::ReadingGuide;
use mambascope_lessons::theme;
use mambascope_lessons::widgets::{
    Axis, Bar, Bars, Colormap, Grid, Heatmap, Ribbon, RibbonToken, Scale, ScaleKind, visible_token,
};

const PROMPT: usize = 38;

/// A little English, with line ends, accents and a byte of a longer character.
fn tokens() -> Vec<&'static str> {
    vec![
        "The", " Black", " M", "amba", " is", " a", " highly", " venom", "ous", " snake", " that",
        " lives", " in", " the", " s", "avan", "nas", " of", " sub", "-", "S", "ahar", "an",
        " Africa", ".", "\n\n", "Its", " name", " comes", " from", " the", " ink", "-", "black",
        " inside", " of", " its", " mouth", ".", " In", " a", " caf", "é", " it", " is", " \"",
        "na", "ï", "ve", "\"", " to", " keep", " one", " as", " a", " pet", ":", " it", " moves",
        " at", " 20", " km", "/", "h", ".", "\n", "\u{fffd}", "  ", "End",
    ]
}

fn surprise(i: usize) -> f32 {
    if i == 0 {
        f32::NAN
    } else {
        (i as f32 * 1.7).sin().abs().powi(3) * 9.0
    }
}

fn wavy(rows: usize, cols: usize) -> Vec<f32> {
    (0..rows * cols)
        .map(|i| {
            let (r, c) = ((i / cols) as f32, (i % cols) as f32);
            0.02 + 0.6 * ((r * 0.13).sin() * (c * 0.31).cos()).abs().powi(2)
        })
        .collect()
}

fn signed(rows: usize, cols: usize) -> Vec<f32> {
    (0..rows * cols)
        .map(|i| {
            let (r, c) = ((i / cols) as f32, (i % cols) as f32);
            (r * 0.5).sin() * (c * 0.9 + r * 0.05).cos() * 2.4
        })
        .collect()
}

fn gallery(ui: &mut Ui) {
    let texts = tokens();
    let chips: Vec<RibbonToken<'_>> = texts
        .iter()
        .enumerate()
        .map(|(i, text)| RibbonToken {
            text,
            value: surprise(i),
            generated: i > PROMPT,
        })
        .collect();
    let _ribbon = Ribbon::new("ribbon", &chips)
        .value_name("surprise −ln p (nats)")
        .scale(Scale::linear(0.0, 9.0))
        .selected(Some(9))
        .max_height(130.0)
        .show(ui);
    ui.add_space(4.0);
    let delta = wavy(768, texts.len());
    let state = signed(64, 16);
    let holes: Vec<f32> = (0..60)
        .map(|i| {
            if i % 17 == 3 {
                f32::NAN
            } else {
                10f32.powi(i % 5 - 4)
            }
        })
        .collect();
    let token = |i: usize| visible_token(texts[i]).into_owned();
    let width = ui.available_width();
    ui.horizontal_top(|ui| {
        ui.vertical(|ui| {
            ui.set_width(width * 0.62);
            Heatmap::new(
                "delta",
                "Step size Δ, layer 3",
                Grid::row_major(&delta, 768, texts.len()),
            )
            .rows(Axis::new("channel"))
            .cols(Axis::new("token").labels(&token))
            .value_name("Δ")
            .selected_col(Some(9))
            .height(300.0)
            .show(ui);
            Heatmap::new(
                "log",
                "B on a logarithmic scale",
                Grid::row_major(&holes, 3, 20),
            )
            .rows(Axis::new("slot"))
            .cols(Axis::new("token"))
            .value_name("B")
            .fit(ScaleKind::Log)
            .height(150.0)
            .show(ui);
        });
        ui.vertical(|ui| {
            let map = Heatmap::new(
                "state",
                "Hidden state after “·snake”",
                Grid::row_major(&state, 64, 16),
            );
            map.rows(Axis::new("channel"))
                .cols(Axis::new("slot"))
                .value_name("h")
                .fit(ScaleKind::Symmetric)
                .colormap(Colormap::Diverging)
                .selected_row(Some(20))
                .height(300.0)
                .show(ui);
            Bars::new("What may come next", &bars()).show(ui);
        });
    });
    Heatmap::new("none", "State norms", Grid::row_major(&[], 0, 0))
        .empty("Run the model to see its state.")
        .height(70.0)
        .show(ui);
}

fn bars() -> [Bar<'static>; 5] {
    let bar = |label, value, came| Bar { label, value, came };
    [
        bar("·that", 0.42, true),
        bar("·which", 0.231, false),
        bar("·found", 0.08, false),
        bar("·and·its·very·long·tail·of·a·token", 0.013, false),
        bar("·native", 0.000_04, false),
    ]
}

fn harness<'a>(
    theme: Theme,
    size: [f32; 2],
    scale: f32,
    ui: impl FnMut(&mut Ui) + 'a,
) -> Harness<'a> {
    let mut ui = ui;
    Harness::builder()
        .with_size(size)
        .with_pixels_per_point(scale)
        .with_theme(theme)
        .with_context_setup(theme::apply)
        .wgpu()
        .build_ui(move |root| {
            egui::Frame::central_panel(root.style())
                .inner_margin(16)
                .show(root, |inner| {
                    ui(inner);
                    inner.take_available_space();
                });
        })
}

fn save(harness: &mut Harness<'_>, name: &str) -> Result<image::RgbaImage, String> {
    let image = harness.render()?;
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("gallery-{name}.png"));
    image.save(path).map_err(|error| error.to_string())?;
    Ok(image)
}

fn has(image: &image::RgbaImage, colour: egui::Color32) -> bool {
    image.pixels().any(|pixel| pixel.0 == colour.to_array())
}

#[test]
fn the_gallery_draws_in_both_themes() -> Result<(), String> {
    for (theme, name, palette) in [
        (Theme::Light, "light", &theme::LIGHT),
        (Theme::Dark, "dark", &theme::DARK),
    ] {
        let mut harness = harness(theme, [1280.0, 800.0], 1.0, gallery);
        harness.run();
        let cell = harness.get_by_label("Step size Δ, layer 3").rect();
        harness.hover_at(cell.center());
        harness.run();
        let image = save(&mut harness, name)?;
        for colour in [
            palette.accent,
            palette.missing,
            palette.panel,
            palette.border,
        ] {
            assert!(has(&image, colour), "{name}: {colour:?}");
        }
    }
    Ok(())
}

#[test]
fn a_narrow_window_and_a_sharp_screen_draw_too() -> Result<(), String> {
    let mut narrow = harness(Theme::Light, [420.0, 760.0], 2.0, gallery);
    narrow.run();
    // The ring of the keyboard focus is to be seen too.
    narrow.key_press(egui::Key::Tab);
    narrow.run();
    save(&mut narrow, "narrow")?;
    Ok(())
}

#[test]
fn the_menu_opens() -> Result<(), String> {
    let mut harness = harness(Theme::Dark, [1280.0, 800.0], 1.0, gallery);
    harness.run();
    harness.get_by_label("Menu of Step size Δ, layer 3").click();
    harness.run();
    assert!(harness.query_by_label("Save data as CSV…").is_some());
    save(&mut harness, "menu")?;
    Ok(())
}

#[test]
fn the_reading_guide_has_only_letters_we_can_draw() -> Result<(), String> {
    let mut guide = ReadingGuide::default();
    let mut harness = harness(Theme::Light, [760.0, 1500.0], 1.0, |ui| guide.show(ui));
    harness.run();
    let heading = harness.query_by_label_contains("How to read the pictures");
    assert!(heading.is_some());
    save(&mut harness, "guide")?;
    Ok(())
}

#[test]
fn a_saved_picture_looks_like_the_widget() -> Result<(), String> {
    let mut takeaway = None;
    let state = signed(64, 16);
    let mut harness = harness(Theme::Light, [300.0, 200.0], 1.0, |ui| {
        let map = Heatmap::new("state", "Hidden state", Grid::row_major(&state, 64, 16))
            .rows(Axis::new("channel"))
            .cols(Axis::new("slot"))
            .value_name("h")
            .fit(ScaleKind::Symmetric)
            .colormap(Colormap::Diverging);
        map.show(ui);
        takeaway = Some(map.takeaway(ui.ctx()));
    });
    harness.run();
    drop(harness);
    let picture = takeaway.ok_or("nothing was drawn")?.picture();
    let bytes = mambascope_lessons::widgets::heatmap::png(&picture).map_err(|e| e.to_string())?;
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gallery-picture.png");
    std::fs::write(path, bytes).map_err(|error| error.to_string())?;
    let strongest = theme::LIGHT.diverging[4];
    assert!(picture.pixels.contains(&strongest));
    Ok(())
}
