//! The right side: the ribbon, and a panel for each thing that moves.

use std::path::PathBuf;
use std::sync::Arc;

use egui::{Align, Layout, RichText, ScrollArea, TextStyle, Ui, vec2};
use egui_plot::{AxisHints, Bar, BarChart, GridMark, HLine, Legend, Line, Plot, PlotPoints, VLine};
use mambascope_core::export::Picture;
use mambascope_core::job::{Job, ModelRef};
use mambascope_core::model::Model;
use mambascope_core::trace_file::TraceJob;
use mambascope_core::watch::Watched;
use mambascope_lessons::widgets::{
    Axis, Colormap, Grid, Heatmap, HeatmapAction, Ribbon, RibbonToken, Scale, ScaleKind, number,
    visible_token,
};

use super::pictures::{Histogram, Texts};
use super::{Around, ScopePage};
use crate::window::{ChannelOrder, Reading, Request, ScopeSettings, palette};

/// Least and greatest height of a panel, title and axes included; between them the panels fill the window.
const PANEL_HEIGHT: std::ops::RangeInclusive<f32> = 236.0..=600.0;
/// Widest a panel may become before another column is worth more.
const PANEL_WIDTH: f32 = 640.0;
/// Room between panels.
const GAP: f32 = 12.0;

impl ScopePage {
    pub(super) fn pictures(
        &mut self,
        ui: &mut Ui,
        settings: &mut ScopeSettings,
        around: &mut Around<'_>,
    ) {
        let (Some(watched), Some(model)) = (self.watched.clone(), around.model) else {
            ui.centered_and_justified(|ui| {
                let text = match &self.reply.error {
                    Some(error) => error.to_string(),
                    None => "Write a prompt on the left and press Run: the model's inner life appears here.".to_owned(),
                };
                ui.label(text);
            });
            return;
        };
        self.pictures.update(&watched, model, settings);
        let Some(focus) = self.focus() else {
            ui.centered_and_justified(|ui| ui.label("Reading the prompt…"));
            return;
        };
        self.ribbon_bar(ui, settings, &watched, model, around);
        self.ribbon(ui, settings, &watched, focus);
        ui.separator();
        let scene = Scene {
            watched: &watched,
            model,
            focus,
            height: *PANEL_HEIGHT.start(),
        };
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            let room = ui.available_width() - ui.spacing().scroll.bar_width;
            let columns = ((room / PANEL_WIDTH).ceil() as usize).clamp(1, 4);
            let width = (room - GAP * (columns - 1) as f32) / columns as f32;
            let rows = Panel::ALL.len().div_ceil(columns);
            let height = ui.available_height() / rows as f32 - GAP - ui.spacing().item_spacing.y;
            let scene = Scene {
                height: height.clamp(*PANEL_HEIGHT.start(), *PANEL_HEIGHT.end()),
                ..scene
            };
            for row in Panel::ALL.chunks(columns) {
                ui.horizontal_top(|ui| {
                    ui.spacing_mut().item_spacing.x = GAP;
                    for panel in row {
                        ui.allocate_ui(vec2(width, scene.height), |ui| {
                            ui.set_width(width);
                            ui.vertical(|ui| self.panel(*panel, ui, settings, &scene, around));
                        });
                    }
                });
                ui.add_space(GAP);
            }
        });
    }

    fn ribbon_bar(
        &self,
        ui: &mut Ui,
        settings: &mut ScopeSettings,
        watched: &Watched,
        model: &Arc<Model>,
        around: &mut Around<'_>,
    ) {
        ui.horizontal_wrapped(|ui| {
            let label = ui.label("Colour");
            egui::ComboBox::from_id_salt("reading")
                .selected_text(settings.reading.title())
                .width(176.0)
                .show_ui(ui, |ui| {
                    for reading in Reading::ALL {
                        ui.selectable_value(&mut settings.reading, reading, reading.title());
                    }
                })
                .response
                .labelled_by(label.id);
            let of_layers = settings.reading != Reading::Surprise;
            ui.add_enabled_ui(of_layers, |ui| {
                ui.checkbox(&mut settings.all_layers, "mean of all layers");
            });
            ui.separator();
            let label = ui.label("Layer");
            let mut layer = settings.layer;
            egui::ComboBox::from_id_salt("layer")
                .selected_text(layer.to_string())
                .width(56.0)
                .show_ui(ui, |ui| {
                    for i in 0..model.config.n_layers() {
                        ui.selectable_value(&mut layer, i, i.to_string());
                    }
                })
                .response
                .labelled_by(label.id);
            settings.layer = layer;
            ui.separator();
            let label = ui
                .label("Channels by")
                .on_hover_text("Order of the rows of Δ.");
            egui::ComboBox::from_id_salt("order")
                .selected_text(settings.order.title())
                .width(78.0)
                .show_ui(ui, |ui| {
                    for order in ChannelOrder::ALL {
                        ui.selectable_value(&mut settings.order, order, order.title());
                    }
                })
                .response
                .labelled_by(label.id);
            ui.separator();
            trace_menu(ui, settings, watched, model, around);
        });
    }

    fn ribbon(&mut self, ui: &mut Ui, settings: &ScopeSettings, watched: &Watched, focus: usize) {
        let values = &self.pictures.ribbon;
        let tokens: Vec<RibbonToken<'_>> = (watched.first..)
            .zip(values)
            .map(|(position, &value)| RibbonToken {
                text: self.pictures.texts.get(position),
                value,
                generated: position >= watched.prompt_len,
            })
            .collect();
        let room = ribbon_room(ui, watched.prompt_len + settings.limit.max(self.written()));
        let top = ui.cursor().top();
        let describe =
            |index: usize| describe_token(watched, &tokens[index], watched.first + index, settings);
        let response = Ribbon::new("ribbon", &tokens)
            .title("Tokens of the text")
            .value_name(settings.reading.value_name())
            .scale(Scale::fit(values.iter().copied(), ScaleKind::Linear))
            .selected(Some(focus - watched.first))
            .max_height(room)
            .hover(&describe)
            .show(ui);
        self.ribbon_focused = response.response.has_focus();
        // The legend takes a line of its own; the rest is kept free for the lines to come.
        ui.add_space((room + LEGEND - (ui.cursor().top() - top)).max(0.0));
        if let Some(index) = response
            .selected
            .filter(|&index| index + watched.first != focus)
        {
            self.select(index + watched.first);
        }
    }

    fn panel(
        &mut self,
        panel: Panel,
        ui: &mut Ui,
        settings: &mut ScopeSettings,
        scene: &Scene<'_>,
        around: &mut Around<'_>,
    ) {
        match panel {
            Panel::Overview => self.overview(ui, settings, scene, around),
            Panel::State => self.state(ui, scene, around),
            Panel::Delta => self.delta(ui, scene, around),
            Panel::Norms => self.norms(ui, scene),
            Panel::B => self.slots_by_tokens(ui, scene, around, "B"),
            Panel::C => self.slots_by_tokens(ui, scene, around, "C"),
            Panel::HalfLife => self.half_life(ui, scene),
            Panel::Surprise => self.surprise(ui, scene),
        }
    }

    fn overview(
        &mut self,
        ui: &mut Ui,
        settings: &mut ScopeSettings,
        scene: &Scene<'_>,
        around: &mut Around<'_>,
    ) {
        let watched = scene.watched;
        let reading = if settings.reading == Reading::Surprise {
            Reading::Delta
        } else {
            settings.reading
        };
        let texts = &self.pictures.texts;
        let hover = |row: usize, col: usize, value: f32| {
            format!(
                "layer {row}, token {}\n{} {}",
                named(texts, watched.first + col),
                reading.value_name(),
                number(value)
            )
        };
        let grid = Grid::row_major(
            &self.pictures.overview,
            scene.layers(),
            watched.records.len(),
        );
        let title = format!("All layers: {}", reading.value_name());
        let map = Heatmap::new("overview", &title, grid)
            .data_version(self.pictures.version)
            .rows(Axis::new("layer"))
            .cols(Axis::new("token").counted_from(watched.first))
            .value_name(reading.value_name())
            .selected_row(Some(watched.layer))
            .selected_col(Some(scene.focus - watched.first))
            .hover(&hover)
            .height(scene.height)
            .scroll_zooms(false);
        let response = map.show(ui);
        take_home(&map, response.action, ui, "overview", around);
        if let Some((layer, col)) = response.clicked {
            settings.layer = layer;
            self.select(watched.first + col);
        }
    }

    fn state(&mut self, ui: &mut Ui, scene: &Scene<'_>, around: &mut Around<'_>) {
        let Some(focus) = &scene.watched.focus else {
            return;
        };
        let Some(dims) = scene.recurrent() else {
            return;
        };
        let hover =
            |n: usize, d: usize, value: f32| format!("channel {d}, slot {n}\nh {}", number(value));
        let token = named(&self.pictures.texts, focus.token);
        let title = format!("Hidden state h, layer {}, after token {token}", focus.layer);
        let version =
            self.pictures.version ^ (focus.token as u64) << 20 ^ (focus.layer as u64) << 44;
        let map = Heatmap::new(
            "state",
            &title,
            Grid::row_major(&focus.h_nd, dims.d_state, dims.d_inner),
        )
        .data_version(version)
        .rows(Axis::new("slot"))
        .cols(Axis::new("channel"))
        .value_name("h")
        .scale(Scale::symmetric(self.pictures.h_most))
        .colormap(Colormap::Diverging)
        .hover(&hover)
        .height(scene.height)
        .scroll_zooms(false);
        let response = map.show(ui);
        take_home(&map, response.action, ui, "hidden-state", around);
    }

    fn delta(&mut self, ui: &mut Ui, scene: &Scene<'_>, around: &mut Around<'_>) {
        let watched = scene.watched;
        let channels = &self.pictures.channels;
        let texts = &self.pictures.texts;
        let channel = |row: usize| channels.get(row).map_or_else(String::new, usize::to_string);
        let hover = |row: usize, col: usize, value: f32| {
            format!(
                "channel {}, token {}\nΔ {}",
                channel(row),
                named(texts, watched.first + col),
                number(value)
            )
        };
        let title = format!("Step size Δ, layer {}", watched.layer);
        let map = Heatmap::new(
            "delta",
            &title,
            Grid::row_major(&self.pictures.delta, channels.len(), watched.records.len()),
        )
        .data_version(self.pictures.version)
        .rows(Axis::new("channel").labels(&channel))
        .cols(Axis::new("token").counted_from(watched.first))
        .value_name("Δ")
        .scale(self.pictures.delta_scale)
        .selected_col(Some(scene.focus - watched.first))
        .hover(&hover)
        .height(scene.height)
        .scroll_zooms(false);
        let response = map.show(ui);
        take_home(&map, response.action, ui, "delta", around);
        if let Some((_, col)) = response.clicked {
            self.select(watched.first + col);
        }
    }

    fn slots_by_tokens(
        &mut self,
        ui: &mut Ui,
        scene: &Scene<'_>,
        around: &mut Around<'_>,
        name: &'static str,
    ) {
        let watched = scene.watched;
        let (values, verb) = if name == "B" {
            (&self.pictures.b, "write")
        } else {
            (&self.pictures.c, "read")
        };
        let texts = &self.pictures.texts;
        let hover = |n: usize, col: usize, value: f32| {
            format!(
                "slot {n}, token {}\n{name} {}",
                named(texts, watched.first + col),
                number(value)
            )
        };
        let title = format!("{name}, how tokens {verb}, layer {}", watched.layer);
        let map = Heatmap::new(
            name,
            &title,
            Grid::row_major(
                values,
                values.len() / watched.records.len().max(1),
                watched.records.len(),
            ),
        )
        .data_version(self.pictures.version)
        .rows(Axis::new("slot"))
        .cols(Axis::new("token").counted_from(watched.first))
        .value_name(name)
        .fit(ScaleKind::Symmetric)
        .colormap(Colormap::Diverging)
        .selected_col(Some(scene.focus - watched.first))
        .hover(&hover)
        .height(scene.height)
        .scroll_zooms(false);
        let response = map.show(ui);
        take_home(&map, response.action, ui, name, around);
        if let Some((_, col)) = response.clicked {
            self.select(watched.first + col);
        }
    }

    fn norms(&mut self, ui: &mut Ui, scene: &Scene<'_>) {
        let slots = self.pictures.norms.len();
        let title = format!("State norm of each slot, layer {}", scene.watched.layer);
        plot_title(ui, &title, |ui| slot_key(ui, slots));
        let colours = palette(ui);
        let line = |(n, points): (usize, &Vec<[f64; 2]>)| {
            Line::new(format!("slot {n}"), PlotPoints::from(points.clone()))
                .color(slot_colour(ui, n, slots))
                .width(1.3)
        };
        let lines: Vec<Line<'_>> = self.pictures.norms.iter().enumerate().map(line).collect();
        let marker = VLine::new("token looked at", scene.focus as f64)
            .color(colours.accent)
            .width(1.0);
        let plot = Plot::new("norms")
            .custom_x_axes(vec![axis(AxisHints::new_x(), ui, "token")])
            .x_grid_spacer(|input| token_marks(input.bounds))
            .custom_y_axes(vec![axis(AxisHints::new_y(), ui, "‖h[·, slot]‖")])
            .label_formatter(|hover| match hover {
                egui_plot::HoverPosition::NearDataPoint {
                    plot_name,
                    position,
                    ..
                } => Some(format!(
                    "{plot_name}\ntoken {:.0}\n‖h‖ {}",
                    position.x,
                    number(position.y as f32)
                )),
                egui_plot::HoverPosition::Elsewhere { .. } => None,
            });
        show_plot(ui, plot, scene.height, |plot| {
            for line in lines {
                plot.line(line);
            }
            plot.vline(marker);
        });
    }

    fn half_life(&mut self, ui: &mut Ui, scene: &Scene<'_>) {
        let layer = scene.watched.layer;
        let token = named(&self.pictures.texts, scene.focus);
        let Some(histogram) = self
            .pictures
            .half_life(scene.watched, scene.model, scene.focus)
        else {
            return;
        };
        plot_title(
            ui,
            &format!("Half-life ln 2 / (Δ·|A|), layer {layer}, token {token}"),
            |_| (),
        );
        let colours = palette(ui);
        let bar = |&(log, count): &(f64, usize)| {
            Bar::new(log, count as f64).width(Histogram::WIDTH * 0.92)
        };
        let chart =
            BarChart::new("pairs", histogram.bars.iter().map(bar).collect()).color(colours.accent);
        let chart = chart.element_formatter(Box::new(|bar, _| {
            let edge =
                |side: f64| number(10f64.powf(bar.argument + side * Histogram::WIDTH / 2.0) as f32);
            format!(
                "{} to {} tokens\n{} pairs",
                edge(-1.0),
                edge(1.0),
                bar.value
            )
        }));
        let median = histogram.median;
        let marker = VLine::new(
            format!("median {} tokens", number(median as f32)),
            median.log10(),
        )
        .color(colours.series[1]);
        let plot = Plot::new("half-life")
            .custom_x_axes(vec![
                axis(AxisHints::new_x(), ui, "half-life (tokens)")
                    .formatter(|mark, _| number(10f64.powf(mark.value) as f32)),
            ])
            .custom_y_axes(vec![axis(AxisHints::new_y(), ui, "channel–slot pairs")])
            .x_grid_spacer(|input| decades(input.bounds))
            .label_formatter(|_| None)
            .legend(Legend::default().text_style(TextStyle::Small));
        show_plot(ui, plot, scene.height, |plot| {
            plot.bar_chart(chart);
            plot.vline(marker);
        });
    }
}

impl ScopePage {
    fn surprise(&self, ui: &mut Ui, scene: &Scene<'_>) {
        plot_title(ui, "Surprise −ln p of each token", |_| ());
        let colours = palette(ui);
        let watched = scene.watched;
        let surprises = (watched.first..).zip(&watched.records);
        let points: Vec<[f64; 2]> = surprises
            .filter_map(|(token, record)| {
                record
                    .surprise
                    .map(|surprise| [token as f64, f64::from(surprise)])
            })
            .collect();
        let mean = points.iter().map(|point| point[1]).sum::<f64>() / points.len() as f64;
        let texts = &self.pictures.texts;
        let line = Line::new("surprise", PlotPoints::from(points))
            .color(colours.accent)
            .width(1.3);
        let marker = VLine::new("token looked at", scene.focus as f64)
            .color(colours.accent)
            .width(1.0);
        let level =
            HLine::new(format!("mean {} nats", number(mean as f32)), mean).color(colours.series[1]);
        let plot = Plot::new("surprise")
            .custom_x_axes(vec![axis(AxisHints::new_x(), ui, "token")])
            .x_grid_spacer(|input| token_marks(input.bounds))
            .custom_y_axes(vec![axis(AxisHints::new_y(), ui, "−ln p (nats)")])
            .include_y(0.0)
            .label_formatter(|hover| match hover {
                egui_plot::HoverPosition::NearDataPoint { position, .. } => {
                    let token = named(texts, position.x as usize);
                    Some(format!(
                        "token {token}\n−ln p {} nats",
                        number(position.y as f32)
                    ))
                }
                egui_plot::HoverPosition::Elsewhere { .. } => None,
            })
            .legend(Legend::default().text_style(TextStyle::Small));
        show_plot(ui, plot, scene.height, |plot| {
            plot.line(line);
            if mean.is_finite() {
                plot.hline(level);
            }
            plot.vline(marker);
        });
    }
}

/// An axis with its name; labels are shown or not, never half faded.
fn axis<'a>(hints: AxisHints<'a>, ui: &Ui, name: &str) -> AxisHints<'a> {
    hints
        .label(name)
        .label_spacing(30.0..=31.0)
        .tick_label_color(palette(ui).weak_text)
}

/// Room a plot's title takes.
const PLOT_TITLE: f32 = 26.0;

/// A plot's title, and at the right what explains its colours.
fn plot_title(ui: &mut Ui, title: &str, key: impl FnOnce(&mut Ui)) {
    ui.allocate_ui_with_layout(
        vec2(ui.available_width(), PLOT_TITLE - 6.0),
        Layout::right_to_left(Align::Center),
        |ui| {
            key(ui);
            ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                ui.add(egui::Label::new(title).truncate());
            });
        },
    );
}

/// Shows a plot in the measures and colours all plots share.
fn show_plot<'a>(
    ui: &mut Ui,
    plot: Plot<'a>,
    height: f32,
    draw: impl FnOnce(&mut egui_plot::PlotUi<'a>) + 'a,
) {
    ui.scope(|ui| {
        // egui_plot writes its axes in the body style; heatmaps label theirs smaller.
        let small = TextStyle::Small.resolve(ui.style());
        ui.style_mut().text_styles.insert(TextStyle::Body, small);
        let grid = palette(ui).border;
        plot.height(height - PLOT_TITLE)
            .allow_scroll(false)
            .grid_color(grid)
            .show(ui, draw);
    });
}

/// The colour of slot `n`: viridis without the end that the background would swallow.
fn slot_colour(ui: &Ui, n: usize, slots: usize) -> egui::Color32 {
    let share = n as f32 / (slots.max(2) - 1) as f32;
    let shade = if ui.visuals().dark_mode {
        0.25 + 0.75 * share
    } else {
        0.85 * share
    };
    Colormap::Viridis.color(shade, palette(ui))
}

/// Which colour is which slot.
fn slot_key(ui: &mut Ui, slots: usize) {
    let text = |text: String| RichText::new(text).small().color(palette(ui).weak_text);
    let (first, last) = (
        text("slot 0".to_owned()),
        text(slots.saturating_sub(1).to_string()),
    );
    ui.label(last);
    let (rect, _) = ui.allocate_exact_size(vec2(96.0, 8.0), egui::Sense::hover());
    let width = rect.width() / slots.max(1) as f32;
    for n in 0..slots {
        let cell = egui::Rect::from_min_size(
            rect.min + vec2(n as f32 * width, 0.0),
            vec2(width, rect.height()),
        );
        ui.painter()
            .rect_filled(cell, 0.0, slot_colour(ui, n, slots));
    }
    ui.label(first);
}

/// Height of a line of chips, and of the ribbon's legend.
const CHIP_LINE: f32 = 30.0;
const LEGEND: f32 = 36.0;

/// Height for the chips of a text of so many tokens, fixed so that nothing below moves while the text grows.
fn ribbon_room(ui: &Ui, tokens: usize) -> f32 {
    /// A chip of the embedded model is about as wide on average, in points.
    const CHIP_WIDTH: f32 = 44.0;
    let lines = (tokens as f32 * CHIP_WIDTH / ui.available_width().max(1.0)).ceil();
    let most = (ui.available_height() * 0.22 / CHIP_LINE).floor();
    lines.clamp(1.0, most.max(2.0)) * CHIP_LINE + 6.0
}

/// What all panels look at.
struct Scene<'a> {
    watched: &'a Arc<Watched>,
    model: &'a Arc<Model>,
    focus: usize,
    height: f32,
}

impl Scene<'_> {
    /// Sizes of the layer's hidden state, if it has one.
    fn recurrent(&self) -> Option<mambascope_core::model::RecurrentDims> {
        self.model.config.blocks[self.watched.layer]
            .mixer
            .recurrent()
    }

    fn layers(&self) -> usize {
        self.model.config.n_layers()
    }
}

#[derive(Clone, Copy)]
enum Panel {
    Overview,
    State,
    Delta,
    Norms,
    B,
    C,
    HalfLife,
    Surprise,
}

impl Panel {
    /// In reading order.
    const ALL: [Panel; 8] = [
        Panel::Overview,
        Panel::State,
        Panel::Delta,
        Panel::Norms,
        Panel::B,
        Panel::C,
        Panel::HalfLife,
        Panel::Surprise,
    ];
}

/// What of the text to save, and how much memory that may take.
fn trace_menu(
    ui: &mut Ui,
    settings: &mut ScopeSettings,
    watched: &Watched,
    model: &Arc<Model>,
    around: &mut Around<'_>,
) {
    let menu = ui.menu_button("Save trace", |ui| {
        let one = settings.layer.min(model.config.n_layers() - 1);
        let choices = [
            (
                "All layers…".to_owned(),
                (0..model.config.n_layers()).collect(),
            ),
            (format!("Layer {one} only…"), vec![one]),
        ];
        for (title, layers) in choices {
            if ui.button(title).clicked() {
                let trace = TraceJob {
                    model: ModelRef(Arc::clone(model)),
                    backend: settings.backend.clone(),
                    ids: Arc::clone(&watched.ids),
                    layers,
                    probes: TraceJob::PROBES.to_vec(),
                    write: 0,
                    budget: settings.budget(),
                };
                around.requests.push(Request::Save {
                    name: format!("{}-trace.safetensors", model.name.replace('/', "-")),
                    ending: "safetensors",
                    job: Box::new(move |path| Job::SaveTrace { path, trace }),
                });
            }
        }
        ui.separator();
        ui.horizontal(|ui| {
            let label = ui.label("Budget");
            let most = egui::DragValue::new(&mut settings.budget_mib).range(16..=1 << 20);
            ui.add(most.suffix(" MiB")).labelled_by(label.id);
        });
    });
    menu.response.on_hover_text(TRACE_HINT);
}

const TRACE_HINT: &str = "Runs the text again and writes ids, logits, and Δ, B, C, states and block outputs of every layer as safetensors.";

/// Does what was chosen from a heatmap's menu.
fn take_home(
    map: &Heatmap<'_>,
    action: Option<HeatmapAction>,
    ui: &Ui,
    name: &str,
    around: &mut Around<'_>,
) {
    match action {
        None => {}
        Some(HeatmapAction::CopyPicture) => ui.ctx().copy_image(map.picture(ui.ctx())),
        Some(HeatmapAction::SavePicture) => {
            let image = map.picture(ui.ctx());
            let [width, height] = image
                .size
                .map(|side| u32::try_from(side).unwrap_or(u32::MAX));
            let rgba = image
                .pixels
                .iter()
                .flat_map(|pixel| pixel.to_srgba_unmultiplied())
                .collect();
            let picture = Arc::new(Picture {
                width,
                height,
                rgba,
            });
            save(around, name, "png", move |path| Job::SavePicture {
                path,
                picture,
            });
        }
        Some(HeatmapAction::SaveCsv) => {
            let text: Arc<str> = map.csv().into();
            save(around, name, "csv", move |path| Job::SaveText {
                path,
                text,
            });
        }
    }
}

fn save(
    around: &mut Around<'_>,
    name: &str,
    ending: &'static str,
    job: impl FnOnce(PathBuf) -> Job + 'static,
) {
    around.requests.push(Request::Save {
        name: format!("{name}.{ending}"),
        ending,
        job: Box::new(job),
    });
}

/// "12 ·rainy".
fn named(texts: &Texts, position: usize) -> String {
    format!("{position} “{}”", visible_token(texts.get(position)))
}

fn describe_token(
    watched: &Watched,
    token: &RibbonToken<'_>,
    position: usize,
    settings: &ScopeSettings,
) -> String {
    let mut lines = vec![format!("token {position} “{}”", visible_token(token.text))];
    if let Some(record) = watched.record(position) {
        lines.push(format!("id {}", record.id));
        let value = if token.value.is_nan() {
            "not defined for the first token".to_owned()
        } else {
            number(token.value)
        };
        lines.push(format!("{} {value}", settings.reading.value_name()));
        if let Some(surprise) = record.surprise {
            lines.push(format!(
                "probability {} %",
                number((-surprise).exp() * 100.0)
            ));
        }
    }
    lines.join("\n")
}

/// Grid lines at round token numbers, about eight of them.
fn token_marks((from, to): (f64, f64)) -> Vec<GridMark> {
    let rough = ((to - from) / 8.0).max(1.0);
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|&step| step >= rough)
        .unwrap_or(rough);
    let first = (from / step).ceil();
    (0..20)
        .map(|i| (first + f64::from(i)) * step)
        .take_while(|&value| value <= to)
        .map(|value| GridMark {
            value,
            step_size: step,
        })
        .collect()
}

/// Grid lines at every power of ten within the bounds.
fn decades((from, to): (f64, f64)) -> Vec<GridMark> {
    let mut mark = from.ceil();
    let mut marks = Vec::new();
    while mark <= to && marks.len() < 40 {
        marks.push(GridMark {
            value: mark,
            step_size: 1.0,
        });
        mark += 1.0;
    }
    marks
}
