//! The left side: which models, on what, and what to take home.

use egui::{Align, Layout, RichText, Slider, TextEdit, Ui};
use mambascope_core::checkpoint::EMBEDDED;
use mambascope_core::export::Later;
use mambascope_core::job::Job;
use mambascope_core::recall::Words;

use super::table::swatch;
use super::{
    Around, COMPARE, ChosenLane, ComparePage, CompareSettings, LaneChoice, MOST_LANES, recall,
};
use crate::window::scope::progress;
use crate::window::{Request, palette};

/// A paragraph in the manner of the novels the siblings were trained on; written for this program.
pub(super) const PROSE: &str = "The rain had not ceased since noon, and the road to the village lay under water. Mr. Ashby stood at the \
window of the inn with his hands behind him, and watched the carriage come slowly down the hill. He had expected his sister on \
Tuesday; it was now Friday evening, and no letter had come. When the door was opened at last, it was not his sister who came in, but \
a tall young man in a grey coat, who looked about the room as if he had lost something there many years ago.";

/// Something to read, and how much to write after it.
struct Preset {
    name: &'static str,
    write: usize,
    is_local: bool,
    text: fn(&ComparePage) -> String,
}

const PRESETS: [Preset; 5] = [
    Preset {
        name: "A paragraph of prose",
        write: 0,
        is_local: false,
        text: |_| PROSE.to_owned(),
    },
    Preset {
        name: "The same paragraph twice",
        write: 0,
        is_local: false,
        text: |_| format!("{PROSE}\n\n{PROSE}"),
    },
    Preset {
        name: "Thirty-two facts, asked again",
        write: 0,
        is_local: true,
        text: ComparePage::facts_text,
    },
    Preset {
        name: "A story each writes on",
        write: 80,
        is_local: false,
        text: |_| {
            "It was a cold and rainy evening when Mr. Holt came down to the harbour, and".to_owned()
        },
    },
    Preset {
        name: "A long text, for bytes and pace",
        write: 0,
        is_local: false,
        text: |_| format!("{PROSE}\n\n").repeat(10),
    },
];

impl ComparePage {
    pub(super) fn controls(
        &mut self,
        ui: &mut Ui,
        settings: &mut CompareSettings,
        around: &mut Around<'_>,
    ) {
        ui.spacing_mut().slider_width = 104.0;
        self.lanes(ui, settings, around);
        ui.add_space(8.0);
        self.text_box(ui, settings, around);
        self.buttons(ui, settings, around);
        ui.separator();
        self.exports(ui, around);
        ui.separator();
        recall::fine_print(ui);
    }

    /// The models, each with its colour, and a menu to add one.
    fn lanes(&mut self, ui: &mut Ui, settings: &mut CompareSettings, around: &mut Around<'_>) {
        ui.horizontal(|ui| {
            ui.label(RichText::new("Models").strong());
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                ui.add_enabled_ui(settings.lanes.len() < MOST_LANES, |ui| {
                    add_menu(ui, settings, around);
                });
            });
        });
        let mut removed = None;
        for (nth, ChosenLane { choice, place }) in settings.lanes.iter().enumerate() {
            ui.horizontal(|ui| {
                swatch(ui, *place);
                let name = self
                    .model(*place)
                    .map_or_else(|| choice.name(), |model| model.name.clone());
                let label = ui.label(&name);
                if let LaneChoice::Folder(path) = choice {
                    label.on_hover_text(path.display().to_string());
                }
                ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                    let button = egui::Button::new("Remove").small();
                    let enough = settings.lanes.len() > 2;
                    let response = ui.add_enabled(enough, button);
                    let title = format!("Remove {name}");
                    response.widget_info(|| {
                        egui::WidgetInfo::labeled(egui::accesskit::Role::Button, enough, &title)
                    });
                    if response.on_hover_text(title).clicked() {
                        removed = Some(nth);
                    }
                });
            });
            let reply = &self.models[*place];
            if let Some(error) = &reply.error {
                ui.colored_label(palette(ui).error, error.to_string());
            } else if reply.busy {
                progress(ui, reply, "loading");
            }
        }
        if let Some(lane) = removed {
            settings.lanes.remove(lane);
        }
    }

    fn text_box(&mut self, ui: &mut Ui, settings: &mut CompareSettings, around: &Around<'_>) {
        ui.horizontal(|ui| {
            ui.label(RichText::new("Text all read").strong());
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                ui.menu_button("Presets", |ui| {
                    for preset in &PRESETS {
                        if ui.button(preset.name).clicked() {
                            settings.text = (preset.text)(self);
                            settings.write = preset.write;
                            // Facts asked again show in the loss of the last tokens, not in the mean of all.
                            settings.cumulative = !preset.is_local;
                            self.run(settings, around);
                        }
                    }
                });
            });
        });
        let edit = TextEdit::multiline(&mut settings.text)
            .desired_rows(8)
            .desired_width(f32::INFINITY)
            .hint_text("A text for all models to read…");
        let field = egui::ScrollArea::vertical()
            .id_salt("compared text")
            .max_height(220.0)
            .show(ui, |ui| ui.add(edit))
            .inner;
        field.widget_info(|| {
            egui::WidgetInfo::labeled(
                egui::accesskit::Role::MultilineTextInput,
                true,
                "Text all read",
            )
        });
        ui.horizontal(|ui| {
            // At its left end the knob reaches over the edge.
            ui.add_space(6.0);
            ui.add(
                Slider::new(&mut settings.write, 0..=1000)
                    .logarithmic(true)
                    .smallest_positive(1.0)
                    .text("tokens each writes"),
            );
        });
        if settings.write > 0 {
            ui.horizontal(|ui| {
                let label = ui.label("temperature");
                ui.add(
                    egui::DragValue::new(&mut settings.sampling.temperature)
                        .range(0.0..=2.0)
                        .speed(0.01),
                )
                .labelled_by(label.id);
                let label = ui.label("seed");
                ui.add(egui::DragValue::new(&mut settings.sampling.seed))
                    .labelled_by(label.id);
            });
        }
    }

    fn buttons(&mut self, ui: &mut Ui, settings: &CompareSettings, around: &Around<'_>) {
        let job = self.job(settings, around.backend);
        let ready = job.is_some();
        let is_new = job != self.asked;
        ui.horizontal(|ui| {
            let run = egui::Button::new(
                RichText::new("Run")
                    .strong()
                    .color(palette(ui).on_accent_soft),
            )
            .fill(palette(ui).accent_soft);
            if ui
                .add_enabled(ready, run)
                .on_hover_text("All models read the text in step, then write.")
                .clicked()
            {
                self.run(settings, around);
            }
            if ui
                .add_enabled(self.reply.busy, egui::Button::new("Cancel"))
                .on_hover_text("Stop here; what was compared stays.")
                .clicked()
            {
                around.engine.cancel(COMPARE);
            }
            if is_new && ready && self.asked.is_some() {
                let hint = RichText::new("changed: press Run").color(palette(ui).weak_text);
                ui.label(hint);
            }
        });
        if self.reply.busy {
            progress(ui, &self.reply, "comparing");
        }
        if let Some(error) = &self.reply.error {
            ui.colored_label(palette(ui).error, error.to_string());
        }
    }

    fn exports(&mut self, ui: &mut Ui, around: &mut Around<'_>) {
        let compared = self.compared.clone();
        ui.add_enabled_ui(compared.is_some(), |ui| {
            ui.horizontal(|ui| {
                if ui
                    .button("Save numbers…")
                    .on_hover_text("Every token of every model as CSV, and below it the scores of the recall test.")
                    .clicked()
                    && let Some(compared) = compared
                {
                    let recalled = self.recalled.clone();
                    let text = Later::new(move || {
                        let recall = recalled.as_ref().map(|table| table.csv());
                        let parts = [Some(compared.csv()), recall];
                        parts.into_iter().flatten().collect::<Vec<_>>().join("\n")
                    });
                    around.requests.push(Request::Save {
                        name: "comparison.csv".to_owned(),
                        ending: "csv",
                        job: Box::new(move |path| Job::SaveText { path, text }),
                    });
                }
                if ui
                    .button("Save picture…")
                    .on_hover_text("The charts as they stand, as PNG.")
                    .clicked()
                {
                    around.requests.push(Request::SaveScreen {
                        name: "comparison.png".to_owned(),
                        rect: self.charts_rect,
                    });
                }
            });
        });
    }

    /// Facts in the first model's own words, twice: what the recall test asks.
    fn facts_text(&self) -> String {
        let row = (0..MOST_LANES).find_map(|place| {
            let model = self.model(place)?;
            let words = Words::of(model).ok()?;
            let row = words.row(32, 1, 0).ok()?;
            Some(model.tokenizer.as_ref()?.decode(&row.ids))
        });
        row.unwrap_or_else(|| "river stone, garden letter, window money, ".repeat(2))
    }
}

fn add_menu(ui: &mut Ui, settings: &mut CompareSettings, around: &mut Around<'_>) {
    ui.menu_button("Add", |ui| {
        for embedded in &EMBEDDED {
            if ui.button(embedded.name).clicked() {
                settings.add(LaneChoice::Embedded(embedded.name.to_owned()));
            }
        }
        ui.separator();
        for path in around.recent {
            let choice = LaneChoice::Folder(path.clone());
            if ui
                .button(choice.name())
                .on_hover_text(path.display().to_string())
                .clicked()
            {
                settings.add(choice);
            }
        }
        if ui.button("A folder…").clicked() {
            around.requests.push(Request::AskLane);
        }
    });
}
