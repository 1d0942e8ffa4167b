//! What the window remembers from one start to the next.

use std::path::PathBuf;

use mambascope_core::generate::Sampling;
use mambascope_core::trace::DEFAULT_BUDGET;
use mambascope_lessons::notebook::settings::NotebookSettings;
use mambascope_lessons::practice::page::settings::PracticeSettings;
use serde::{Deserialize, Serialize};

use super::compare::CompareSettings;

/// A page of the app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Page {
    /// Read, try and prove.
    Lessons,
    /// Answer, and be asked again.
    Practice,
    /// Watch a model write.
    #[default]
    Scope,
    /// Set models side by side.
    Compare,
    /// How to read the pictures.
    Guide,
}

impl Page {
    /// All pages, in the order of the tabs.
    pub const ALL: [Page; 5] = [
        Page::Lessons,
        Page::Practice,
        Page::Scope,
        Page::Compare,
        Page::Guide,
    ];

    /// Text of its tab.
    pub fn title(self) -> &'static str {
        match self {
            Page::Lessons => "Lessons",
            Page::Practice => "Practice",
            Page::Scope => "Scope",
            Page::Compare => "Compare",
            Page::Guide => "Reading the pictures",
        }
    }
}

/// What colours the token ribbon and the overview.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reading {
    /// Mean of Δ over channels.
    #[default]
    Delta,
    /// ‖Δ·B·u‖.
    Write,
    /// Mean of exp(ΔA).
    Retention,
    /// −ln p of the token.
    Surprise,
}

impl Reading {
    /// All readings, in the order of the menu.
    pub const ALL: [Reading; 4] = [
        Reading::Delta,
        Reading::Write,
        Reading::Retention,
        Reading::Surprise,
    ];

    /// Name in the menu.
    pub fn title(self) -> &'static str {
        match self {
            Reading::Delta => "mean Δ",
            Reading::Write => "write strength ‖Δ·B·u‖",
            Reading::Retention => "retention mean exp(ΔA)",
            Reading::Surprise => "surprise −ln p",
        }
    }

    /// Name on a colour bar, with its unit.
    pub fn value_name(self) -> &'static str {
        match self {
            Reading::Delta => "mean Δ",
            Reading::Write => "‖Δ·B·u‖",
            Reading::Retention => "mean exp(ΔA)",
            Reading::Surprise => "−ln p (nats)",
        }
    }
}

/// How the rows of the Δ heatmap are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChannelOrder {
    /// As in the weights.
    #[default]
    Index,
    /// Largest mean first.
    Mean,
    /// Largest variance over tokens first.
    Variance,
}

impl ChannelOrder {
    /// All orders, as in the menu.
    pub const ALL: [ChannelOrder; 3] = [
        ChannelOrder::Index,
        ChannelOrder::Mean,
        ChannelOrder::Variance,
    ];

    /// Name in the menu.
    pub fn title(self) -> &'static str {
        match self {
            ChannelOrder::Index => "index",
            ChannelOrder::Mean => "mean",
            ChannelOrder::Variance => "variance",
        }
    }
}

impl ChannelOrder {
    /// Name of an axis whose places, channels or heads, are in this order.
    pub fn axis_name(self, of: &str) -> String {
        match self {
            ChannelOrder::Index => of.to_owned(),
            ChannelOrder::Mean => format!("{of}, by mean Δ"),
            ChannelOrder::Variance => format!("{of}, by variance of Δ"),
        }
    }
}

/// What the Δ heatmap shows of Δ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeltaView {
    /// log₂ of Δ over the channel's mean: the levels of channels lie decades apart and drown what tokens do.
    #[default]
    Relative,
    /// Δ itself.
    Absolute,
}

impl DeltaView {
    /// Both, as in the menu.
    pub const ALL: [DeltaView; 2] = [DeltaView::Relative, DeltaView::Absolute];

    /// Name in the menu.
    pub fn title(self) -> &'static str {
        match self {
            DeltaView::Relative => "relative",
            DeltaView::Absolute => "absolute",
        }
    }

    /// Name on the colour bar.
    pub fn value_name(self) -> &'static str {
        match self {
            DeltaView::Relative => "log₂ (Δ / mean)",
            DeltaView::Absolute => "Δ",
        }
    }
}

/// Settings of the Scope page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScopeSettings {
    /// What a model with a tokenizer continues.
    pub prompt: String,
    /// What a model without one continues: ids in decimal.
    pub prompt_ids: String,
    /// How many tokens to write.
    pub limit: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Tokens a second while playing.
    pub speed: f32,
    /// Name of the backend.
    pub backend: String,
    /// What colours the ribbon.
    pub reading: Reading,
    /// Whether the ribbon shows the mean of all layers.
    pub all_layers: bool,
    /// The layer looked at.
    pub layer: usize,
    /// Order of the channels.
    pub order: ChannelOrder,
    /// What is shown of Δ.
    pub delta_view: DeltaView,
    /// Tokens whose records are kept.
    pub window: usize,
    /// Most MiB the records of a text, or a saved trace, may take.
    pub budget_mib: u64,
}

impl Default for ScopeSettings {
    fn default() -> Self {
        Self {
            prompt: super::scope::EXAMPLES[0].to_owned(),
            prompt_ids: "1, 2, 3, 4, 5, 6, 7, 8".to_owned(),
            limit: 160,
            sampling: Sampling::default(),
            speed: 12.0,
            backend: "fast".to_owned(),
            reading: Reading::default(),
            all_layers: true,
            layer: 2,
            order: ChannelOrder::default(),
            delta_view: DeltaView::default(),
            window: 1024,
            budget_mib: DEFAULT_BUDGET >> 20,
        }
    }
}

impl ScopeSettings {
    /// Most bytes the records of a text, or a saved trace, may take.
    pub fn budget(&self) -> u64 {
        self.budget_mib.saturating_mul(1 << 20)
    }
}

/// Everything that is remembered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The page shown last.
    pub page: Page,
    /// Light, dark, or as the system.
    pub theme: egui::ThemePreference,
    /// Models opened before, newest first.
    pub recent: Vec<PathBuf>,
    /// The model open last; the embedded one when absent.
    pub model: Option<PathBuf>,
    /// Whether to begin writing when the window opens.
    pub autoplay: bool,
    /// Of the Scope page.
    pub scope: ScopeSettings,
    /// Of the Compare page.
    pub compare: CompareSettings,
    /// Of the lessons.
    pub notebook: NotebookSettings,
    /// Of the practice.
    pub practice: PracticeSettings,
    /// Leaves out measured times, so that two pictures of the same page are the same.
    #[serde(skip)]
    pub hide_timings: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            page: Page::default(),
            theme: egui::ThemePreference::System,
            recent: Vec::new(),
            model: None,
            autoplay: true,
            scope: ScopeSettings::default(),
            compare: CompareSettings::default(),
            notebook: NotebookSettings::default(),
            practice: PracticeSettings::default(),
            hide_timings: false,
        }
    }
}

/// How many models are remembered.
const RECENT: usize = 8;
/// The key under which an interview is kept.
const INTERVIEW: &str = "interview";

impl Settings {
    /// What is kept, each of its two parts for itself, and a sentence on what could not be read.
    pub fn read(storage: &dyn eframe::Storage) -> (Self, Option<String>) {
        let is_unreadable = |key| storage.get_string(key).is_some_and(|text| !text.is_empty());
        let mut lost = Vec::new();
        let mut settings: Self = eframe::get_value(storage, eframe::APP_KEY).unwrap_or_else(|| {
            if is_unreadable(eframe::APP_KEY) {
                lost.push(
                    "The settings that were kept cannot be read, and are as at the first start.",
                );
            }
            Self::default()
        });
        settings.practice.interview = eframe::get_value(storage, INTERVIEW).unwrap_or_else(|| {
            if is_unreadable(INTERVIEW) {
                lost.push("The interview that was kept cannot be read, and was given up.");
            }
            None
        });
        (
            settings,
            Some(lost.join(" ")).filter(|lost| !lost.is_empty()),
        )
    }

    /// Keeps them, in two parts.
    pub fn write(&self, storage: &mut dyn eframe::Storage) {
        eframe::set_value(storage, eframe::APP_KEY, self);
        eframe::set_value(storage, INTERVIEW, &self.practice.interview);
    }

    /// Puts a model at the head of those opened before.
    pub fn remember(&mut self, path: PathBuf) {
        self.recent.retain(|known| *known != path);
        self.recent.insert(0, path);
        self.recent.truncate(RECENT);
    }
}
