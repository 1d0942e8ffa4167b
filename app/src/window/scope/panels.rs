//! The right side: the ribbon, and a panel for each thing that moves.

use std::sync::Arc;

use egui::{ScrollArea, Ui, UiBuilder, Vec2, vec2};
use mambascope_core::job::{Job, ModelRef};
use mambascope_core::model::Model;
use mambascope_core::trace_file::TraceJob;
use mambascope_core::watch::Watched;
use mambascope_lessons::widgets::{
    Axis, Colormap, Grid, Heatmap, Pooling, Ribbon, RibbonToken, Scale, ScaleKind, number,
    visible_token,
};

use super::pictures::Texts;
use super::{Around, ScopePage, Stop};
use crate::window::board::Board;
use crate::window::take_home::take_home;
use crate::window::{ChannelOrder, DeltaView, Reading, Request, ScopeSettings};

/// The smallest panel worth looking at.
const LEAST_PANEL: Vec2 = vec2(330.0, 168.0);

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
            let text = match self.stop {
                Stop::Reading => "The prompt was not read. Run, Play or Step reads on.",
                _ => "Reading the prompt…",
            };
            ui.centered_and_justified(|ui| ui.label(text));
            return;
        };
        self.ribbon_bar(ui, settings, &watched, model, around);
        self.ribbon(ui, settings, &watched, focus);
        ui.separator();
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            ui.spacing_mut().item_spacing.y = 0.0;
            if self.is_stale(ui, settings, &watched) {
                ui.set_opacity(0.45);
            }
            let room = vec2(
                ui.available_width() - ui.spacing().scroll.bar_width,
                ui.available_height(),
            );
            let mixer = &model.config.blocks[watched.layer].mixer;
            let panels = match mixer.attention() {
                Some(_) if model.config.has_scans() => Panel::OF_ATTENTION.as_slice(),
                // There is nothing to see of all layers at once.
                Some(_) => &Panel::OF_ATTENTION[1..],
                None => Panel::ALL.as_slice(),
            };
            let board = Board::new(room, panels.len(), LEAST_PANEL);
            let scene = Scene {
                watched: &watched,
                model,
                focus,
                height: board.panel.y,
            };
            let (_, area) = ui.allocate_space(vec2(room.x, board.height()));
            for (nth, &panel) in panels.iter().enumerate() {
                let place = UiBuilder::new()
                    .id_salt(nth)
                    .max_rect(board.place(nth, area.min));
                self.panel(panel, &mut ui.new_child(place), settings, &scene, around);
            }
        });
    }

    /// Whether the panels have shown something else than was asked for so long that it should be seen.
    fn is_stale(&mut self, ui: &Ui, settings: &ScopeSettings, watched: &Watched) -> bool {
        /// An answer sooner than this needs no announcement, in seconds.
        const PATIENCE: f64 = 0.2;
        let seen = watched.focus.as_ref().map(|focus| focus.token);
        let other = watched.layer != settings.layer || seen != self.focus();
        if !(other && self.reply.busy) {
            self.stale_since = None;
            return false;
        }
        let now = ui.input(|input| input.time);
        let waited = now - *self.stale_since.get_or_insert(now);
        if waited < PATIENCE {
            let rest = std::time::Duration::from_secs_f64(PATIENCE - waited);
            ui.request_repaint_after(rest);
        }
        waited >= PATIENCE
    }

    fn ribbon_bar(
        &self,
        ui: &mut Ui,
        settings: &mut ScopeSettings,
        watched: &Watched,
        model: &Arc<Model>,
        around: &mut Around<'_>,
    ) {
        let has_scans = model.config.has_scans();
        ui.horizontal_wrapped(|ui| {
            let label = ui.label("Colour");
            egui::ComboBox::from_id_salt("reading")
                .selected_text(settings.reading.title())
                .width(176.0)
                .show_ui(ui, |ui| {
                    for reading in Reading::ALL {
                        let has_it = has_scans || reading == Reading::Surprise;
                        ui.add_enabled_ui(has_it, |ui| {
                            ui.selectable_value(&mut settings.reading, reading, reading.title())
                                .on_disabled_hover_text(
                                    "This model has no Δ: its layers are all attention.",
                                );
                        });
                    }
                })
                .response
                .labelled_by(label.id);
            let of_layers = has_scans && settings.reading != Reading::Surprise;
            ui.add_enabled_ui(of_layers, |ui| {
                ui.checkbox(&mut settings.all_layers, "mean of all layers");
            });
            ui.separator();
            let label = ui.label("Layer");
            let mut layer = settings.layer;
            egui::ComboBox::from_id_salt("layer")
                .selected_text(layer.to_string())
                .width(56.0)
                .height(320.0)
                .show_ui(ui, |ui| {
                    for (i, block) in model.config.blocks.iter().enumerate() {
                        let name = match block.mixer.attention() {
                            Some(_) if has_scans => format!("{i}, attention"),
                            _ => i.to_string(),
                        };
                        ui.selectable_value(&mut layer, i, name);
                    }
                })
                .response
                .labelled_by(label.id);
            settings.layer = layer;
            if !has_scans {
                ui.separator();
                trace_menu(ui, settings, watched, model, around);
                return;
            }
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
            let label = ui.label("Δ as").on_hover_text(DELTA_HINT);
            egui::ComboBox::from_id_salt("delta view")
                .selected_text(settings.delta_view.title())
                .width(84.0)
                .show_ui(ui, |ui| {
                    for view in DeltaView::ALL {
                        ui.selectable_value(&mut settings.delta_view, view, view.title());
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
        let describe =
            |index: usize| describe_token(watched, &tokens[index], watched.first + index, settings);
        let response = Ribbon::new("ribbon", &tokens)
            .title("Tokens of the text")
            .value_name(settings.reading.value_name())
            .scale(Scale::fit(values.iter().copied(), ScaleKind::Linear))
            .selected(Some(focus - watched.first))
            .max_height(ribbon_room(ui))
            .hover(&describe)
            .show(ui);
        self.ribbon_focused = response.response.has_focus();
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
        if scene.recurrent().is_none() {
            return self.attention_panel(panel, ui, settings, scene, around);
        }
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

    /// A layer of attention has no Δ and no hidden state; it has what its heads look at.
    fn attention_panel(
        &mut self,
        panel: Panel,
        ui: &mut Ui,
        settings: &mut ScopeSettings,
        scene: &Scene<'_>,
        around: &mut Around<'_>,
    ) {
        match panel {
            Panel::Overview => self.overview(ui, settings, scene, around),
            Panel::State => self.attention_of_token(ui, scene, around),
            Panel::Delta => self.attention_map(ui, scene, around),
            Panel::Surprise => self.surprise(ui, scene),
            // Not among the panels of such a layer.
            Panel::Norms | Panel::B | Panel::C | Panel::HalfLife => {}
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
            if scene.model.config.blocks[row].mixer.attention().is_some() {
                return format!("layer {row} is attention: it has no Δ");
            }
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
        // The rows of its layers of attention.
        let map = if scene.has_attention() {
            map.gaps()
        } else {
            map
        };
        let response = map.show(ui);
        take_home(&map, response.action, ui, "overview", around.requests);
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
        take_home(&map, response.action, ui, "hidden-state", around.requests);
    }

    fn delta(&mut self, ui: &mut Ui, scene: &Scene<'_>, around: &mut Around<'_>) {
        let watched = scene.watched;
        let pictures = &self.pictures;
        let channels = &pictures.channels;
        let channel = |row: usize| channels.get(row).map_or_else(String::new, usize::to_string);
        let hover = |row: usize, col: usize, value: f32| {
            let delta = channels.get(row).and_then(|&channel| {
                let record = watched.records.get(col)?;
                record.layers.get(watched.layer)?.scan()?.delta.get(channel)
            });
            let mut text = format!(
                "{} {}, token {}\nΔ {}",
                pictures.delta_of,
                channel(row),
                named(&pictures.texts, watched.first + col),
                number(delta.copied().unwrap_or(f32::NAN))
            );
            if pictures.delta_view == DeltaView::Relative {
                text += &format!(
                    "\n{} × the {}'s mean",
                    number(value.exp2()),
                    pictures.delta_of
                );
            }
            text
        };
        let (title, file) = match pictures.delta_view {
            DeltaView::Relative => ("Relative step size Δ", "delta-relative"),
            DeltaView::Absolute => ("Step size Δ", "delta"),
        };
        let title = format!("{title}, layer {}", watched.layer);
        let axis_name = pictures.order.axis_name(pictures.delta_of);
        let map = Heatmap::new(
            "delta",
            &title,
            Grid::row_major(&pictures.delta, channels.len(), watched.records.len()),
        )
        .data_version(pictures.version)
        .rows(match pictures.order {
            ChannelOrder::Index => Axis::new(pictures.delta_of),
            _ => Axis::new(&axis_name).labels(&channel),
        })
        .cols(Axis::new("token").counted_from(watched.first))
        .value_name(pictures.delta_view.value_name())
        .scale(pictures.delta_scale)
        .colormap(match pictures.delta_view {
            DeltaView::Relative => Colormap::Diverging,
            DeltaView::Absolute => Colormap::Viridis,
        })
        // Neighbouring channels have nothing to do with each other: the loudest would speak for all.
        .pooling(Pooling::Mean)
        .selected_col(Some(scene.focus - watched.first))
        .hover(&hover)
        .height(scene.height)
        .scroll_zooms(false);
        let response = map.show(ui);
        take_home(&map, response.action, ui, file, around.requests);
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
        let rows = values.len() / watched.records.len().max(1);
        let slots = scene.recurrent().map_or(1, |dims| dims.d_state);
        let slot = |row: usize| slot_name(row, slots, rows);
        let hover = |row: usize, col: usize, value: f32| {
            format!(
                "{}, token {}\n{name} {}",
                slot(row),
                named(texts, watched.first + col),
                number(value)
            )
        };
        let title = format!("{name}, how tokens {verb}, layer {}", watched.layer);
        let map = Heatmap::new(
            name,
            &title,
            Grid::row_major(values, rows, watched.records.len()),
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
        take_home(&map, response.action, ui, name, around.requests);
        if let Some((_, col)) = response.clicked {
            self.select(watched.first + col);
        }
    }
}

/// Height of the chips: the text gets a few lines and then scrolls, for the pictures below need the room more.
fn ribbon_room(ui: &Ui) -> f32 {
    /// Height of a line of chips.
    const LINE: f32 = 30.0;
    let lines = (ui.available_height() * 0.12 / LINE).floor();
    lines.clamp(2.0, 4.0) * LINE + 3.0
}

/// What all panels look at.
pub(super) struct Scene<'a> {
    pub(super) watched: &'a Arc<Watched>,
    pub(super) model: &'a Arc<Model>,
    pub(super) focus: usize,
    pub(super) height: f32,
}

impl Scene<'_> {
    /// Sizes of the layer's hidden state, if it has one.
    pub(super) fn recurrent(&self) -> Option<mambascope_core::model::RecurrentDims> {
        self.model.config.blocks[self.watched.layer]
            .mixer
            .recurrent()
    }

    /// Whether some layer has no hidden state.
    fn has_attention(&self) -> bool {
        let mut blocks = self.model.config.blocks.iter();
        blocks.any(|block| block.mixer.attention().is_some())
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
    /// Of a layer of attention, which has no Δ and no hidden state: its heads take the places of both.
    const OF_ATTENTION: [Panel; 4] = [Panel::Overview, Panel::State, Panel::Delta, Panel::Surprise];
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

/// A row of B or C: the slot, and with several groups the group.
fn slot_name(row: usize, slots: usize, rows: usize) -> String {
    if rows > slots {
        format!("group {}, slot {}", row / slots, row % slots)
    } else {
        format!("slot {row}")
    }
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

const DELTA_HINT: &str = "Relative: log₂ of Δ over the channel's mean, which shows the tokens a channel reacts to. Absolute: Δ itself, in which channels differ more than tokens do.";

const TRACE_HINT: &str = "Runs the text again and writes ids, logits, and Δ, B, C, states and block outputs of every layer as safetensors.";

/// "12 ·rainy".
pub(super) fn named(texts: &Texts, position: usize) -> String {
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
