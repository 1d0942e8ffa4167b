//! Every demo draws its own answer, survives its controls at both ends, saves and loads. With DEMO_PICTURES=folder a picture of
//! each is written there, in both themes; with DEMO=name only that one is run, and with DEMO_CONTROLS='{…}' that picture is of these.

use std::ops::ControlFlow;

use egui::Theme;
use egui_kittest::Harness;
use mambascope_core::job::{Answer, Workshop};
use mambascope_lessons::course::LESSONS;
use mambascope_lessons::demo::{AnyDemo, Around, DemoEntry};
use mambascope_lessons::page::{CheckKind, Page};
use mambascope_lessons::theme;

use crate::{around, workshop};

/// As wide as the column of a page in a window of 1280 points.
const SIZE: [f32; 2] = [920.0, 900.0];

fn entries() -> impl Iterator<Item = &'static DemoEntry> {
    let only = std::env::var("DEMO").ok();
    LESSONS
        .iter()
        .flat_map(|lesson| lesson.demos)
        .filter(move |entry| only.as_ref().is_none_or(|only| only == entry.id))
}

fn answer(demo: &dyn AnyDemo, workshop: &mut Workshop, around: &Around) -> Answer {
    let job = demo
        .job(around)
        .unwrap_or_else(|| panic!("{} asks for nothing", demo.id()));
    workshop
        .run(&job, &mut |_| ControlFlow::Continue(()))
        .unwrap_or_else(|error| panic!("{}: {error}", demo.id()))
}

/// Draws a demo for a few frames; gives the picture where one is wanted.
fn draw(
    demo: &mut dyn AnyDemo,
    answer: Option<&Answer>,
    around: &Around,
    picture: Option<(&str, Theme)>,
) {
    let guesses = [];
    let mut harness = Harness::builder()
        .with_size(SIZE)
        .with_max_steps(40)
        .with_context_setup(theme::apply)
        .build_ui(|root| {
            egui::Frame::central_panel(root.style()).show(root, |ui| {
                demo.ui(ui, answer, &guesses, around);
            });
        });
    harness.run_steps(4);
    if let Some((path, wanted)) = picture {
        harness.ctx.set_theme(wanted);
        harness.run_steps(3);
        let image = harness.render().unwrap();
        image.save(path).unwrap();
    }
}

#[test]
fn every_demo_draws_its_own_answer() {
    let (around, mut workshop) = (around(), workshop());
    let folder = std::env::var("DEMO_PICTURES").ok();
    let controls = std::env::var("DEMO_CONTROLS").ok();
    for entry in entries() {
        let mut demo = (entry.make)();
        assert_eq!(demo.id(), entry.id);
        draw(&mut *demo, None, &around, None);
        let answer = answer(&*demo, &mut workshop, &around);
        draw(&mut *demo, Some(&answer), &around, None);
        assert!(
            demo.is_untouched(),
            "{} changes its controls by itself",
            entry.id
        );
        let Some(folder) = &folder else { continue };
        if let Some(controls) = &controls {
            let preset = format!("{} {controls}", entry.id);
            demo.load_preset(&preset).unwrap();
        }
        let answer = self::answer(&*demo, &mut workshop, &around);
        for (name, wanted) in [("light", Theme::Light), ("dark", Theme::Dark)] {
            let path = format!("{folder}/{}-{name}.png", entry.id);
            draw(&mut *demo, Some(&answer), &around, Some((&path, wanted)));
        }
    }
}

/// How often the colour of a guess is in what a demo paints with these guesses committed, and how often it is named.
fn accents(demo: &mut dyn AnyDemo, answer: &Answer, guesses: &[(String, f64)]) -> (usize, usize) {
    let around = around();
    let mut harness = Harness::builder()
        .with_size(SIZE)
        .with_max_steps(40)
        .with_context_setup(theme::apply)
        .build_ui(|root| {
            egui::Frame::central_panel(root.style()).show(root, |ui| {
                demo.ui(ui, Some(answer), guesses, &around);
            });
        });
    harness.run_steps(4);
    let accent = format!(
        "{:?}",
        theme::palette(&harness.ctx.global_style().visuals).accent
    );
    let shapes = harness.output().shapes.iter();
    let painted: String = shapes
        .map(|clipped| format!("{:?}", clipped.shape))
        .collect();
    let named = painted.matches("text: \"your guess").count();
    (painted.matches(&accent).count(), named)
}

#[test]
fn a_guess_stays_drawn_on_the_demo_its_question_names() {
    let (around, mut workshop) = (around(), workshop());
    for lesson in LESSONS {
        let page = Page::parse(lesson.id, lesson.text).unwrap();
        for check in page
            .checks()
            .filter(|check| check.kind == CheckKind::Number)
        {
            let Some(named) = &check.demo else { continue };
            let mut demo = (mambascope_lessons::course::demo(named).unwrap().make)();
            let answer = answer(&*demo, &mut workshop, &around);
            let (without, unnamed) = accents(&mut *demo, &answer, &[]);
            assert_eq!(unnamed, 0, "{named} names a guess that is not there");
            // One of these lies on the plot, whatever its axis.
            let found = [0.3, 3.0, 12.0]
                .into_iter()
                .map(|guess| accents(&mut *demo, &answer, &[(check.id.clone(), guess)]))
                .find(|&(drawn, _)| drawn > without);
            let (_, keys) =
                found.unwrap_or_else(|| panic!("{named} does not draw the guess of {}", check.id));
            assert!(keys > 0, "{named} does not name the guess of {}", check.id);
        }
    }
}

#[test]
fn every_demo_survives_its_controls_at_both_ends() {
    let (around, mut workshop) = (around(), workshop());
    for entry in entries() {
        let ends = (entry.ends)();
        assert!(ends.len() >= 2, "{} names no ends", entry.id);
        for end in ends {
            let mut demo = (entry.make)();
            demo.load(end.clone()).unwrap();
            assert_eq!(demo.save(), end, "{}: an end is out of range", entry.id);
            let answer = answer(&*demo, &mut workshop, &around);
            draw(&mut *demo, Some(&answer), &around, None);
        }
    }
}

#[test]
fn every_demo_saves_and_loads() {
    for entry in entries() {
        for end in (entry.ends)() {
            let mut demo = (entry.make)();
            demo.load(end).unwrap();
            let preset = demo.preset();
            let mut other = (entry.make)();
            other.load_preset(&preset).unwrap();
            assert_eq!(other.preset(), preset);
            other.reset();
            assert!(other.is_untouched());
            assert!(other.load_preset("nonsense").is_err());
            assert!(
                other
                    .load_preset(&format!("{} {{\"nonsense\": 1}}", entry.id))
                    .is_err()
            );
        }
    }
}

#[test]
fn every_experiment_holds() {
    let mut workshop = workshop();
    let only = std::env::var("EXPERIMENT").ok();
    for experiment in mambascope_lessons::course::experiments() {
        if only.as_ref().is_some_and(|only| only != experiment.name) {
            continue;
        }
        let mut bench = mambascope_lessons::experiment::Bench {
            workshop: &mut workshop,
            progress: &mut |_| ControlFlow::Continue(()),
        };
        let findings = (experiment.run)(&mut bench)
            .unwrap_or_else(|error| panic!("{}: {error}", experiment.name));
        assert!(!findings.is_empty(), "{}", experiment.name);
        for finding in findings {
            println!(
                "{}/{}: {} (expected {:?}) {}",
                experiment.name, finding.name, finding.measured, finding.expected, finding.unit
            );
            assert!(finding.holds(), "{}: {finding:?}", experiment.name);
        }
    }
}
