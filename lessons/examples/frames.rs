//! How long a frame of each demo takes while its controls are dragged from one end to the other, on the interface's thread:
//! layout, drawing and tessellation, with the computation going on on the worker.
//!
//! `cargo run --release -p mambascope-lessons --example frames`

use std::sync::Arc;
use std::time::{Duration, Instant};

use mambascope_core::backend::{FastBackend, NaiveBackend};
use mambascope_core::checkpoint::embedded;
use mambascope_core::engine::Engine;
use mambascope_core::job::{ModelRef, Workshop};
use mambascope_lessons::course::LESSONS;
use mambascope_lessons::demo::{AnyDemo, Around, DemoEntry};
use mambascope_lessons::theme;
use serde_json::Value;

/// Frames of a drag.
const FRAMES: usize = 60;
/// What a frame may take, at 60 frames a second.
const ALLOWED: Duration = Duration::from_millis(16);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let backends: Vec<Box<dyn mambascope_core::backend::Backend>> = vec![
        Box::new(NaiveBackend::default()),
        Box::new(FastBackend::new(2)?),
    ];
    let engine = Engine::start(Workshop::new(backends), || {})?;
    let around = Around {
        model: Some(ModelRef(Arc::new(embedded()?))),
        backend: "fast".to_owned(),
    };
    println!("{:<24} {:>10} {:>10}", "demo", "median ms", "worst ms");
    let mut too_slow = 0;
    for entry in LESSONS.iter().flat_map(|lesson| lesson.demos) {
        let (median, worst) = drag(entry, &engine, &around)?;
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let verdict = if worst > ALLOWED { "over 16 ms" } else { "" };
        too_slow += usize::from(worst > ALLOWED);
        println!(
            "{:<24} {:>10.2} {:>10.2} {verdict}",
            entry.id,
            ms(median),
            ms(worst)
        );
    }
    println!("{too_slow} over 16 ms");
    Ok(())
}

/// Drags a demo's controls through what lies between its ends; median and worst frame.
fn drag(
    entry: &DemoEntry,
    engine: &Engine,
    around: &Around,
) -> Result<(Duration, Duration), Box<dyn std::error::Error>> {
    let ends = (entry.ends)();
    let mut demo = (entry.make)();
    let first = demo.save();
    let ctx = egui::Context::default();
    theme::apply(&ctx);
    let mut times = Vec::new();
    // The first frames make fonts and pictures that stay.
    for _ in 0..4 {
        frame(&ctx, &mut *demo, engine, around);
    }
    for end in &ends {
        for i in 0..FRAMES {
            let share = i as f64 / (FRAMES - 1) as f64;
            demo.load(between(&first, end, share))?;
            let start = Instant::now();
            frame(&ctx, &mut *demo, engine, around);
            times.push(start.elapsed());
            // As a window would, which draws no faster than the screen.
            std::thread::sleep(ALLOWED.saturating_sub(start.elapsed()));
        }
    }
    engine.forget(entry.id);
    times.sort();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    Ok((median, times.last().copied().unwrap_or_default()))
}

fn frame(ctx: &egui::Context, demo: &mut dyn AnyDemo, engine: &Engine, around: &Around) {
    let reply = demo
        .job(around)
        .map(|job| engine.ask(demo.id(), job))
        .unwrap_or_default();
    let input = egui::RawInput {
        screen_rect: Some(egui::Rect::from_min_size(
            egui::Pos2::ZERO,
            egui::vec2(920.0, 900.0),
        )),
        ..Default::default()
    };
    let output = ctx.run_ui(input, |ui| {
        demo.ui(ui, reply.answer.as_ref(), &[], around);
    });
    let pixels_per_point = output.pixels_per_point;
    let mut textures = output.textures_delta;
    textures.clear();
    let _ = ctx.tessellate(output.shapes, pixels_per_point);
}

/// A value part of the way from one to another; what is no number jumps half way.
fn between(from: &Value, to: &Value, share: f64) -> Value {
    match (from, to) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap_or(0.0), b.as_f64().unwrap_or(0.0));
            let value = a + (b - a) * share;
            if from.is_u64() || from.is_i64() {
                Value::from(value.round() as i64)
            } else {
                Value::from(value)
            }
        }
        (Value::Object(a), Value::Object(b)) => b
            .iter()
            .map(|(key, to)| {
                let from = a.get(key).unwrap_or(to);
                (key.clone(), between(from, to, share))
            })
            .collect(),
        _ if share < 0.5 => from.clone(),
        _ => to.clone(),
    }
}
