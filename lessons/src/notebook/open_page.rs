//! The page that is open: its cells, the demos and questions on it, and what of them is at work.

use std::collections::{HashMap, HashSet};

use super::check::{Draft, is_settled};
use super::settings::NotebookSettings;
use super::text::Texts;
use crate::course::{self, Lesson};
use crate::demo::AnyDemo;
use crate::page::{Cell, CellKind, Page, PageError};

/// The page that is open.
pub(super) struct OpenPage {
    pub(super) lesson: &'static Lesson,
    pub(super) page: Result<Page, PageError>,
    pub(super) texts: Texts,
    pub(super) demos: HashMap<String, LiveDemo>,
    pub(super) drafts: HashMap<String, Draft>,
    /// Experiments that are to run, or have.
    pub(super) asked: HashSet<&'static str>,
    /// Height of each cell when it was last drawn.
    pub(super) heights: Vec<f32>,
    /// Cells whose note is open though it is empty.
    pub(super) noting: HashSet<usize>,
    /// A cell to scroll to.
    pub(super) go_to: Option<Target>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Cell(usize),
    Sources,
}

pub(super) struct LiveDemo {
    pub(super) demo: Box<dyn AnyDemo>,
    /// The controls it begins with on this page.
    pub(super) first: serde_json::Value,
    /// The preset being pasted, while the field is open.
    pub(super) pasting: Option<String>,
    pub(super) error: Option<String>,
}

impl OpenPage {
    pub(super) fn new(lesson: &'static Lesson, settings: &NotebookSettings) -> Self {
        let page = Page::parse(lesson.id, lesson.text);
        let mut texts = Texts::default();
        let (mut demos, mut drafts) = (HashMap::new(), HashMap::new());
        let mut cells = 0;
        if let Ok(page) = &page {
            texts = Texts::of(page);
            cells = page.cells.len();
            for cell in &page.cells {
                match &cell.kind {
                    CellKind::Demo { id, preset, .. } => {
                        if let Some(live) = LiveDemo::new(id, preset.as_ref(), settings) {
                            demos.insert(id.clone(), live);
                        }
                    }
                    CellKind::Check(check) => {
                        drafts.insert(check.id.clone(), Draft::of(check));
                    }
                    _ => {}
                }
            }
        }
        Self {
            lesson,
            page,
            texts,
            demos,
            drafts,
            asked: HashSet::new(),
            heights: vec![0.0; cells],
            noting: HashSet::new(),
            go_to: None,
        }
    }

    /// The cell of the first of these checks that has no answer yet.
    pub(super) fn unanswered(
        &self,
        checks: &[String],
        settings: &NotebookSettings,
    ) -> Option<usize> {
        let page = self.page.as_ref().ok()?;
        let is_open = |cell: &Cell| match &cell.kind {
            CellKind::Check(check) => {
                let guess = settings.guesses.get(&check.id);
                checks.contains(&check.id) && !is_settled(check, guess)
            }
            _ => false,
        };
        page.cells.iter().position(is_open)
    }

    /// Whether a demo over this cell waits for this check.
    pub(super) fn is_waited_for_above(&self, cell: usize, check: &str) -> bool {
        let cells = self.page.as_ref().map_or(&[][..], |page| &page.cells);
        let waits = |cell: &Cell| match &cell.kind {
            CellKind::Demo { after, .. } => after.iter().any(|name| name == check),
            _ => false,
        };
        cells.iter().take(cell).any(waits)
    }

    /// The slots of the engine it uses.
    pub(super) fn slots(&self) -> impl Iterator<Item = &'static str> {
        let demos = self.demos.values().map(|live| live.demo.id());
        demos.chain(self.asked.iter().copied())
    }
}

impl LiveDemo {
    pub(super) fn new(
        id: &str,
        preset: Option<&serde_json::Value>,
        settings: &NotebookSettings,
    ) -> Option<Self> {
        let mut demo = (course::demo(id)?.make)();
        if let Some(preset) = preset {
            // A page's own preset is tested; were it wrong, the demo would begin as it is made.
            let _ = demo.load(preset.clone());
        }
        let first = demo.save();
        let kept = settings.demos.get(id);
        let kept = kept.and_then(|kept| serde_json::from_str(kept).ok());
        if let Some(kept) = kept {
            // Controls of an older version of the demo are let go.
            let _ = demo.load(kept);
        }
        Some(Self {
            demo,
            first,
            pasting: None,
            error: None,
        })
    }
}
