//! Every page of the notebook: it can be read, its formulas are typeset, what it names is there, the numbers in its text are those
//! its experiments measure. With PAGE_PICTURES=folder a picture of each whole page is written there; with PAGE=name only that one.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use egui::{Color32, Theme};
use egui_kittest::Harness;
use mambascope_core::engine::Engine;
use mambascope_lessons::course::{self, LESSONS, Lesson};
use mambascope_lessons::notebook::Notebook;
use mambascope_lessons::notebook::settings::NotebookSettings;
use mambascope_lessons::notebook::text::{Followed, followed};
use mambascope_lessons::page::{CellKind, Page, formulas, links};
use mambascope_lessons::theme;
use mambascope_lessons::widgets::formula::Typeset;

use crate::numbers::Measured;
use crate::{around, workshop};

fn lessons() -> impl Iterator<Item = &'static Lesson> {
    let only = std::env::var("PAGE").ok();
    LESSONS
        .iter()
        .filter(move |lesson| only.as_ref().is_none_or(|only| only == lesson.id))
}

fn page(lesson: &Lesson) -> Page {
    Page::parse(lesson.id, lesson.text).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_page_has_what_a_page_has() {
    for lesson in lessons() {
        let page = page(lesson);
        let has = |wanted: fn(&CellKind) -> bool| page.cells.iter().any(|cell| wanted(&cell.kind));
        assert!(
            !page.title.is_empty() && !page.objective.is_empty(),
            "{}",
            lesson.id
        );
        assert!(
            page.minutes > 0 && !page.sources.is_empty(),
            "{}",
            lesson.id
        );
        assert!(
            has(|kind| matches!(kind, CellKind::Demo { .. })),
            "{}: no demo",
            lesson.id
        );
        assert!(
            has(|kind| matches!(kind, CellKind::Check(_))),
            "{}: no check",
            lesson.id
        );
        assert!(
            has(|kind| matches!(kind, CellKind::Experiment(_))),
            "{}: no experiment",
            lesson.id
        );
        assert!(
            has(|kind| matches!(kind, CellKind::Excerpt(_))),
            "{}: no source",
            lesson.id
        );
    }
}

#[test]
fn what_a_page_names_is_there() {
    for lesson in lessons() {
        let page = page(lesson);
        let experiment =
            |name: &str| course::experiments().any(|experiment| experiment.name == name);
        for cell in &page.cells {
            let place = format!("{}, line {}", lesson.id, cell.line);
            match &cell.kind {
                CellKind::Demo { id, preset, after } => {
                    for name in after {
                        let is_here = page.checks().any(|check| check.id == *name);
                        assert!(
                            is_here,
                            "{place}: {id} waits for {name}, no check of this page"
                        );
                    }
                    let entry = course::demo(id).unwrap_or_else(|| panic!("{place}: no demo {id}"));
                    let mut demo = (entry.make)();
                    if let Some(preset) = preset {
                        demo.load(preset.clone())
                            .unwrap_or_else(|error| panic!("{place}: {error}"));
                    }
                }
                CellKind::Check(check) => {
                    let demo = check.demo.iter().find(|demo| course::demo(demo).is_none());
                    assert!(demo.is_none(), "{place}: no demo {demo:?}");
                    if let Some(finding) = &check.finding {
                        let (name, _) = finding
                            .split_once('/')
                            .unwrap_or_else(|| panic!("{place}: {finding}"));
                        assert!(experiment(name), "{place}: no experiment {name}");
                    }
                }
                CellKind::Experiment(name) => {
                    assert!(experiment(name), "{place}: no experiment {name}")
                }
                CellKind::Excerpt(excerpt) => {
                    let lines = excerpt
                        .read()
                        .unwrap_or_else(|error| panic!("{place}: {error}"));
                    assert!(
                        lines.iter().any(|line| line.is_marked),
                        "{place}: no line is marked"
                    );
                }
                CellKind::Prose(_) => {}
            }
        }
        // Demos and experiments that no page shows would never be seen.
        for demo in lesson.demos {
            let is_it =
                |kind: &CellKind| matches!(kind, CellKind::Demo { id, .. } if id == demo.id);
            assert!(
                page.cells.iter().any(|cell| is_it(&cell.kind)),
                "{}: {} is not shown",
                lesson.id,
                demo.id
            );
        }
        for own in lesson.experiments {
            let is_it =
                |kind: &CellKind| matches!(kind, CellKind::Experiment(name) if name == own.name);
            assert!(
                page.cells.iter().any(|cell| is_it(&cell.kind)),
                "{}: {} is not shown",
                lesson.id,
                own.name
            );
        }
    }
}

#[test]
fn names_are_unique() {
    // Demos and experiments share the slots of the engine with the window's own.
    let mut names: HashSet<&str> = ["model", "save", "copy", "notes"].into();
    let demos = LESSONS
        .iter()
        .flat_map(|lesson| lesson.demos)
        .map(|demo| demo.id);
    for name in demos.chain(course::experiments().map(|experiment| experiment.name)) {
        assert!(names.insert(name), "{name} is there twice");
    }
    let mut checks = HashSet::new();
    for lesson in LESSONS {
        for cell in page(lesson).cells {
            if let CellKind::Check(check) = cell.kind {
                assert!(
                    checks.insert(check.id.clone()),
                    "{} is there twice",
                    check.id
                );
            }
        }
    }
}

#[test]
fn every_formula_is_typeset_without_text() {
    for lesson in lessons() {
        for (line, text) in page(lesson).texts() {
            for (tex, is_inline) in formulas(text) {
                let typeset = Typeset::new(&tex, is_inline)
                    .unwrap_or_else(|error| panic!("{}, cell at line {line}: {error}", lesson.id));
                let svg = typeset.svg(20.0, Color32::BLACK);
                assert!(
                    !svg.contains("<text"),
                    "{}, cell at line {line}: {tex}",
                    lesson.id
                );
                assert!(typeset.size().x > 0.0, "{}: {tex} is empty", lesson.id);
            }
        }
    }
}

#[test]
fn numbers_in_the_texts_are_what_the_experiments_measure() {
    let mut measured = Measured::default();
    let mut wrong = Vec::new();
    for lesson in lessons() {
        let page = page(lesson);
        let mut claims: Vec<(usize, String, String)> = Vec::new();
        for (line, text) in page.texts() {
            for link in links(text) {
                match (followed(&link.to), link.to.strip_prefix("prove:")) {
                    (Some(Followed::Source(id)), _) => {
                        assert!(
                            page.sources.iter().any(|source| source.id == id),
                            "{}: no source {id}",
                            lesson.id
                        );
                    }
                    (Some(_), Some(finding)) => claims.push((line, link.text, finding.to_owned())),
                    _ => assert!(
                        link.to.starts_with("https://"),
                        "{}: {}",
                        lesson.id,
                        link.to
                    ),
                }
            }
        }
        let checks = page.cells.iter().filter_map(|cell| match &cell.kind {
            CellKind::Check(check) => Some((cell.line, String::new(), check.finding.clone()?)),
            _ => None,
        });
        claims.extend(checks);
        for (line, text, finding) in claims {
            let place = format!("{}, cell at line {line}", lesson.id);
            wrong.extend(measured.wrong(&place, &text, &finding));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// All demos, so that none is covered.
fn demo_names() -> BTreeSet<String> {
    let demos = LESSONS.iter().flat_map(|lesson| lesson.demos);
    demos.map(|demo| demo.id.to_owned()).collect()
}

/// A window with the notebook open at a page.
fn open(
    lesson: &str,
    theme: Theme,
    size: [f32; 2],
) -> (Harness<'static, (Notebook, NotebookSettings)>, Arc<Engine>) {
    let engine = Arc::new(Engine::start(workshop(), || {}).unwrap());
    let around = around();
    let settings = NotebookSettings {
        lesson: lesson.to_owned(),
        uncovered: demo_names(),
        ..Default::default()
    };
    let asked = Arc::clone(&engine);
    let mut harness = Harness::builder()
        .with_size(size)
        .with_max_steps(64)
        .with_render_cursor(false)
        .with_context_setup(theme::apply)
        .build_ui_state(
            move |ui, (notebook, settings): &mut (Notebook, NotebookSettings)| {
                let fill = theme::palette(ui.visuals()).bg;
                egui::Frame::new().fill(fill).show(ui, |ui| {
                    notebook.show(ui, &asked, &around, settings, &mut Vec::new());
                });
            },
            (Notebook::new(None), settings),
        );
    harness.ctx.set_theme(theme);
    let start = Instant::now();
    let mut rest = 0;
    while rest < 3 {
        harness.run_steps(2);
        rest = if engine.is_busy() { 0 } else { rest + 1 };
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{lesson} never came to rest"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    (harness, engine)
}

#[test]
fn every_page_is_drawn() {
    let folder = std::env::var("PAGE_PICTURES").ok();
    for lesson in lessons() {
        let (mut harness, _engine) = open(lesson.id, Theme::Light, [1280.0, 800.0]);
        harness.run_steps(2);
        let Some(folder) = &folder else { continue };
        for (name, theme) in [("light", Theme::Light), ("dark", Theme::Dark)] {
            let (mut harness, _engine) = open(lesson.id, theme, [1280.0, 6400.0]);
            let image = harness.render().unwrap();
            image
                .save(format!("{folder}/{}-{name}.png", lesson.id))
                .unwrap();
        }
    }
}
