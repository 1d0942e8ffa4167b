//! What the practice page remembers from one start to the next.

use serde::{Deserialize, Serialize};

use crate::practice::Item;
use crate::practice::bank::Level;
use crate::practice::mock::Kept;
use crate::practice::schedule::NEW_PER_DAY;

/// A part of the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Part {
    /// What is due, and what is new.
    #[default]
    Review,
    /// Tasks whose numbers are drawn.
    Drills,
    /// Claims to judge.
    Court,
    /// Half an hour of questions.
    Interview,
    /// How far one has come.
    Progress,
}

impl Part {
    /// All parts, in the order of the list.
    pub const ALL: [Self; 5] = [
        Self::Review,
        Self::Drills,
        Self::Court,
        Self::Interview,
        Self::Progress,
    ];

    /// Its name in the list.
    pub fn title(self) -> &'static str {
        match self {
            Self::Review => "Review",
            Self::Drills => "Drills",
            Self::Court => "Claim court",
            Self::Interview => "Mock interview",
            Self::Progress => "Progress",
        }
    }
}

/// What is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PracticeSettings {
    /// The part shown last.
    pub part: Part,
    /// Only what is about this; everything when absent.
    pub topic: Option<String>,
    /// Only what is as hard as this; everything when absent.
    pub level: Option<Level>,
    /// New questions a day.
    pub new_per_day: usize,
    /// The interview that was going on. Whoever keeps the settings keeps it apart: one that cannot be read any more takes nothing
    /// with it.
    #[serde(skip)]
    pub interview: Option<Kept>,
}

impl Default for PracticeSettings {
    fn default() -> Self {
        Self {
            part: Part::default(),
            topic: None,
            level: None,
            new_per_day: NEW_PER_DAY,
            interview: None,
        }
    }
}

impl PracticeSettings {
    /// Whether the filters let it through.
    pub fn admits(&self, item: &Item<'_>) -> bool {
        let topic = self.topic.as_ref().is_none_or(|topic| topic == item.topic);
        topic && self.level.is_none_or(|level| level == item.level)
    }
}
