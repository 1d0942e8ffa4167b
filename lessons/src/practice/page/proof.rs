//! Experiments on the spot: those that decide a claim, and those that the numbers of a text lead to.

use egui::{Align, Ui};

use super::desk::{Desk, experiment};
use super::parts::{card, kicker, small};
use crate::experiment::Experiment;
use crate::notebook::text::Followed;
use crate::notebook::trial;
use crate::practice::proofs;

/// An experiment with its button and, once it has run, what it found.
pub(super) fn experiment_card(ui: &mut Ui, experiment: &'static Experiment, desk: &mut Desk<'_>) {
    let top = ui.cursor().min;
    card(ui, |ui| {
        kicker(ui, "Experiment");
        let reply = desk.experiment(experiment);
        match trial::show(ui, experiment, &reply, false) {
            Some(trial::Asked::Run) => {
                desk.asked.insert(experiment.name);
                desk.engine.allow_again(experiment.name);
                ui.ctx().request_repaint();
            }
            Some(trial::Asked::Stop) => desk.engine.cancel(experiment.name),
            None => {}
        }
        let is_settled = !reply.busy && (reply.answer.is_some() || reply.error.is_some());
        if *desk.go_to == Some(experiment.name) && is_settled {
            *desk.go_to = None;
            ui.scroll_to_rect(ui.min_rect().with_min_y(top.y), Some(Align::BOTTOM));
        }
    });
}

/// Says what a number in the colour of links does, where these texts have one.
pub(super) fn hint<'t>(ui: &mut Ui, mut texts: impl Iterator<Item = &'t String>) {
    if texts.any(|text| proofs::is_proven(text)) {
        small(
            ui,
            "A coloured number runs the experiment that measures it.",
        );
    }
}

/// The experiments to which numbers of these texts lead, once such a number has been clicked; `besides` has its place already.
pub(super) fn followed<'t>(
    ui: &mut Ui,
    texts: impl Iterator<Item = &'t String>,
    besides: Option<&str>,
    desk: &mut Desk<'_>,
) {
    if let Some(Followed::Experiment(name)) = desk.texts.followed.take()
        && let Some(experiment) = experiment(&name)
    {
        desk.asked.insert(experiment.name);
        *desk.go_to = Some(experiment.name);
        ui.ctx().request_repaint();
    }
    if desk.asked.is_empty() {
        return;
    }
    let mut shown: Vec<String> = besides.map(str::to_owned).into_iter().collect();
    for name in texts.flat_map(|text| proofs::experiments(text)) {
        let wanted = experiment(&name).filter(|experiment| desk.asked.contains(experiment.name));
        if let Some(experiment) = wanted.filter(|_| !shown.contains(&name)) {
            experiment_card(ui, experiment, desk);
            shown.push(name);
        }
    }
}
