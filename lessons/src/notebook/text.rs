//! Markdown with formulas, links to experiments and sources, and symbols that say what they mean.

use std::cell::RefCell;
use std::rc::Rc;

use egui::Ui;
use egui_commonmark::{CommonMarkCache, CommonMarkViewer};

use crate::page::{Page, links};
use crate::widgets::formula::{display_formula, formula};

/// A link inside the notebook that was followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed {
    /// To an experiment, by its name.
    Experiment(String),
    /// To a source of the page, by its name.
    Source(String),
}

/// Draws the texts of a page.
#[derive(Default)]
pub struct Texts {
    cache: CommonMarkCache,
    /// Links the page has, as they are written.
    hooks: Vec<String>,
    hovered: Rc<RefCell<Option<String>>>,
    /// A link that was followed in this frame.
    pub followed: Option<Followed>,
}

impl Texts {
    /// For the texts of this page.
    pub fn of(page: &Page) -> Self {
        Self::of_all(page.texts().map(|(_, text)| text))
    }

    /// For these texts: links of the notebook's own in others are not followed.
    pub fn of_all<'t>(all: impl Iterator<Item = &'t str>) -> Self {
        let mut texts = Self::default();
        for text in all {
            for link in links(text) {
                if followed(&link.to).is_some() && !texts.hooks.contains(&link.to) {
                    texts.cache.add_link_hook(link.to.clone());
                    texts.hooks.push(link.to);
                }
            }
        }
        texts
    }

    /// Draws a text over the available width.
    pub fn show(&mut self, ui: &mut Ui, text: &str) {
        let hovered = Rc::clone(&self.hovered);
        let typeset = move |ui: &mut Ui, tex: &str, is_inline: bool| {
            let drawn = if is_inline {
                formula(ui, tex)
            } else {
                display_formula(ui, tex)
            };
            if let Some(symbol) = drawn.hovered {
                *hovered.borrow_mut() = Some(symbol);
            }
        };
        ui.scope(|ui| {
            // A formula at the beginning of a line begins a row of widgets: it is to be no farther off than a line of text.
            ui.spacing_mut().item_spacing.y = 2.0;
            // No row is higher than its text, or what follows a bullet would stand on two lines.
            ui.spacing_mut().interact_size.y = ui.text_style_height(&egui::TextStyle::Body);
            CommonMarkViewer::new()
                .render_math_fn(Some(&typeset))
                .show(ui, &mut self.cache, text);
        });
        let hook = self
            .hooks
            .iter()
            .find(|hook| self.cache.get_link_hook(hook) == Some(true));
        if let Some(target) = hook.and_then(|hook| followed(hook)) {
            self.followed = Some(target);
        }
    }

    /// The symbol under the pointer in this frame, once.
    pub fn take_hovered(&self) -> Option<String> {
        self.hovered.borrow_mut().take()
    }
}

/// Where a link leads, if it is one of the notebook's own.
pub fn followed(link: &str) -> Option<Followed> {
    if let Some(finding) = link.strip_prefix("prove:") {
        let experiment = finding.split('/').next().unwrap_or(finding);
        return Some(Followed::Experiment(experiment.to_owned()));
    }
    let source = link.strip_prefix("source:")?;
    Some(Followed::Source(source.to_owned()))
}
