//! The scan as a kernel deals it out, round by round: threads with a few tokens each, warps, chunks, or the segments of this
//! program's own kernel; and what becomes of it when two values are put together in a wrong way.

use std::ops::{ControlFlow, RangeInclusive};

use egui::Ui;
use mambascope_core::job::{JobError, Progress, Workshop};
use mambascope_core::scan::{
    Affine, Cost, Geometry, Moment, Stage, WARP, chunked_scan, sequential,
};
use mambascope_core::study::Study;
use serde::{Deserialize, Serialize};

use super::device_states::{DeviceStates, device_states};
use super::operands::{CHANNELS, Operands, fused_bytes, materialised_bytes};
use super::own::{Cut, H200, Launch, segmented_scan};
use super::stage;
use crate::demo::{Around, Demo, Scene};
use crate::theme;
use crate::widgets::amounts::count_text;
use crate::widgets::controls::{choice, controls, log_slider, slider};
use crate::widgets::plots::footnote;

const TOKENS: RangeInclusive<usize> = 1..=4096;
const SLOTS: RangeInclusive<usize> = 1..=64;
const THREADS: [(usize, &str); 6] = [
    (4, "4"),
    (8, "8"),
    (16, "16"),
    (32, "32"),
    (64, "64"),
    (128, "128"),
];
const ITEMS: [(usize, &str); 5] = [(1, "1"), (2, "2"), (4, "4"), (8, "8"), (16, "16")];
const MULTIPROCESSORS: RangeInclusive<usize> = 1..=160;
/// Seconds a round is looked at while playing.
const BEAT: f64 = 0.25;
/// Draws the text that is scanned.
const SEED: u64 = 11;
/// A state this far from the loop's, as a share of the largest, is another number.
const SAME: f64 = 1e-9;

/// How two maps are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rule {
    /// First the earlier, then the later.
    Composed,
    /// The other way round.
    Swapped,
    /// b is added up, and what came before does not decay.
    Added,
}

impl Rule {
    /// `earlier` and `later` as one, or what this rule takes for it.
    fn combine(self, earlier: Affine<f64>, later: Affine<f64>) -> Affine<f64> {
        match self {
            Rule::Composed => Affine::compose(earlier, later),
            Rule::Swapped => Affine::compose(later, earlier),
            Rule::Added => Affine {
                a: later.a * earlier.a,
                b: later.b + earlier.b,
            },
        }
    }
}

/// Whose kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// The published one: chunks one after the other, threads and warps within.
    Published,
    /// This program's: segments at the same time.
    Own,
}

/// The controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScanTheatre {
    layout: Layout,
    /// Of the device, which decides into how many segments the own kernel cuts a text.
    multiprocessors: usize,
    threads: usize,
    items: usize,
    tokens: usize,
    slots: usize,
    rule: Rule,
    /// Rounds played.
    step: usize,
}

impl Default for ScanTheatre {
    fn default() -> Self {
        Self {
            layout: Layout::Published,
            multiprocessors: H200,
            threads: 64,
            items: 4,
            tokens: 600,
            slots: 16,
            rule: Rule::Composed,
            // In the second chunk, in the midst of the warps' scan.
            step: 23,
        }
    }
}

/// What is computed.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    controls: ScanTheatre,
    /// Name of the backend whose own states are shown; none in the layout of another kernel.
    backend: Option<String>,
}

/// A map, and the tokens it stands for.
#[derive(Clone, Copy)]
pub struct Run {
    /// The map.
    pub map: Affine<f64>,
    /// Its first token.
    pub from: usize,
    /// Its last.
    pub to: usize,
}

/// What was just done.
#[derive(Clone, Copy)]
pub enum Round {
    /// By the published kernel, in its chunk.
    Published(Stage),
    /// By this program's.
    Own(Launch),
}

/// What is to be seen after a number of rounds.
pub struct Seen {
    /// Which chunk, from 0.
    pub chunk: usize,
    /// What was just done.
    pub round: Round,
    /// What stands at each token of the chunk, or of the text where it is not cut into chunks.
    pub cells: Vec<Run>,
    /// What each thread holds, or what is known of the state before each segment; empty before there is any of it.
    pub threads: Vec<Option<Run>>,
    /// The prefix of the chunks done.
    pub running: Option<Run>,
    /// Of all rounds so far.
    pub cost: Cost,
}

/// The whole scan, and one look into it.
pub struct Play {
    /// The look; none only when there are no rounds.
    pub seen: Option<Seen>,
    /// h of every token, by the loop.
    pub loop_l: Vec<f64>,
    /// Largest |h| of the loop, the measure of a difference.
    pub size: f64,
    /// Largest difference of the finished scan from the loop.
    pub worst: f64,
    /// Tokens that are another number than the loop's at the end.
    pub wrong: usize,
    /// Of the whole scan.
    pub cost: Cost,
    /// What the chosen backend has at the borders of its segments, where it has any; or why it could not be asked.
    pub device: Result<Option<DeviceStates>, String>,
}

impl Play {
    /// Whether a value at a token is what the loop has there.
    pub fn is_right(&self, token: usize, h: f64) -> bool {
        let wanted = self.loop_l.get(token).copied().unwrap_or(f64::NAN);
        (h - wanted).abs() <= SAME * self.size
    }
}

impl Study for Asked {
    type Answer = Play;

    fn compute(
        &self,
        workshop: &mut Workshop,
        _: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Play, JobError> {
        let mut play = self.controls.play()?;
        if let Some(name) = &self.backend {
            let found = device_states(workshop, name, (SEED, &play.loop_l));
            play.device = found.map_err(|error| error.to_string());
        }
        Ok(play)
    }
}

impl ScanTheatre {
    /// The scan, with the look that is asked for.
    fn play(&self) -> Result<Play, JobError> {
        let operands = Operands::<f64>::seeded(self.tokens, 1, 1, SEED);
        let input = operands.input();
        let mut loop_l = Vec::with_capacity(self.tokens);
        sequential(&input, |_, h_dn| loop_l.extend(h_dn.iter().copied()))
            .map_err(|error| JobError::Study(error.to_string()))?;
        let one = |(l, map)| Run {
            map,
            from: l,
            to: l,
        };
        let steps: Vec<Run> = input.steps(0, 0).into_iter().enumerate().map(one).collect();
        let combine = |earlier: Run, later: Run| Run {
            map: self.rule.combine(earlier.map, later.map),
            from: earlier.from.min(later.from),
            to: earlier.to.max(later.to),
        };
        let (mut rounds, mut seen) = (0, None);
        let mut is_wanted = || {
            rounds += 1;
            rounds - 1 == self.step
        };
        let (prefixes, cost) = match self.layout {
            Layout::Published => chunked_scan(&steps, self.geometry(), combine, |moment| {
                if is_wanted() {
                    seen = Some(seen_of(moment));
                }
            }),
            Layout::Own => segmented_scan(&steps, self.cut(), combine, |look| {
                if is_wanted() {
                    seen = Some(Seen {
                        chunk: 0,
                        round: Round::Own(look.launch),
                        cells: look.cells.to_vec(),
                        threads: look.starts.to_vec(),
                        running: None,
                        cost: look.cost,
                    });
                }
            }),
        };
        let size = loop_l.iter().fold(0.0f64, |most, h| most.max(h.abs()));
        let difference = |(prefix, h): (&Run, &f64)| (prefix.map.apply(0.0) - h).abs();
        let differences = || prefixes.iter().zip(&loop_l).map(difference);
        let (worst, wrong) = (
            differences().fold(0.0, f64::max),
            differences().filter(|&far| !(far <= SAME * size)).count(),
        );
        Ok(Play {
            seen,
            size,
            worst,
            wrong,
            cost,
            loop_l,
            device: Ok(None),
        })
    }
}

fn seen_of(moment: Moment<'_, Run>) -> Seen {
    Seen {
        chunk: moment.chunk,
        round: Round::Published(moment.stage),
        cells: moment.cells.to_vec(),
        threads: moment.threads.to_vec(),
        running: moment.running,
        cost: moment.cost,
    }
}

impl ScanTheatre {
    /// How the published kernel deals the tokens out.
    fn geometry(&self) -> Geometry {
        Geometry {
            threads: self.threads,
            items: self.items,
        }
    }

    /// How this program's kernel cuts the text.
    fn cut(&self) -> Cut {
        Cut::new(self.tokens, self.multiprocessors)
    }

    /// Looks there are, one after each round: known before the scan is run, so that the slider has its end.
    fn rounds(&self) -> usize {
        if self.layout == Layout::Own {
            let [.., all] = self.cut().launches();
            return all;
        }
        let chunk = self.geometry().chunk();
        let of_chunk = |tokens: usize| {
            let lanes = tokens.div_ceil(self.items).min(WARP);
            // Loaded, serial, the warps' scan, across, written, carried.
            1 + (self.items - 1) + lanes.next_power_of_two().ilog2() as usize + 1 + self.items + 1
        };
        let rest = self.tokens % chunk;
        let last = if rest == 0 { 0 } else { of_chunk(rest) };
        self.tokens / chunk * of_chunk(chunk) + last
    }

    /// The first round of what comes after this one: of the next chunk, or the next launch.
    fn next_part(&self) -> usize {
        if self.layout == Layout::Own {
            let launches = self.cut().launches();
            let next = launches.into_iter().find(|&first| first > self.step);
            return next.unwrap_or(self.step);
        }
        let full = Self {
            tokens: self.geometry().chunk(),
            ..self.clone()
        };
        let chunk = full.rounds();
        (self.step / chunk + 1) * chunk
    }

    /// How the published kernel's threads are set.
    fn dealing(&mut self, ui: &mut Ui) {
        choice(ui, "Threads", &mut self.threads, &THREADS);
        choice(ui, "Tokens of a thread", &mut self.items, &ITEMS);
        let published = Geometry::of_kernel(self.tokens);
        let told = format!(
            "For {} tokens the published kernel takes {} threads with {} tokens each",
            self.tokens, published.threads, published.items
        );
        let button = ui.add_enabled(
            published != self.geometry(),
            egui::Button::new("As the kernel"),
        );
        if button
            .on_hover_text(told.as_str())
            .on_disabled_hover_text(told)
            .clicked()
        {
            (self.threads, self.items) = (published.threads, published.items);
            self.step = self.step.min(self.rounds() - 1);
        }
    }

    /// Buttons and the slider that move through the rounds.
    fn transport(&mut self, ui: &mut Ui) {
        let last = self.rounds() - 1;
        let id = ui.make_persistent_id("playing");
        // When the next round is due; none while it stands.
        let mut due: Option<f64> = ui.data(|data| data.get_temp(id)).flatten();
        let now = ui.input(|input| input.time);
        controls(ui, |ui| {
            let name = if due.is_some() { "Pause" } else { "Play" };
            if ui.button(name).clicked() {
                due = if due.is_some() { None } else { Some(now) };
                if self.step >= last {
                    self.step = 0;
                }
            }
            if ui.button("Step").clicked() {
                self.step = (self.step + 1).min(last);
            }
            let next = match self.layout {
                Layout::Published => "Next chunk",
                Layout::Own => "Next launch",
            };
            if ui.button(next).clicked() {
                self.step = self.next_part().min(last);
            }
            if ui.button("To the start").clicked() {
                self.step = 0;
            }
            let mut shown = self.step.min(last);
            if slider(ui, "round", &mut shown, 0..=last).changed() {
                self.step = shown;
            }
        });
        if due.is_some_and(|due| now >= due) {
            self.step = (self.step + 1).min(last);
            due = (self.step < last).then_some(now + BEAT);
        }
        if due.is_some() {
            ui.request_repaint_after_secs(BEAT as f32);
        }
        ui.data_mut(|data| data.insert_temp(id, due));
    }

    /// Counters under the picture.
    fn counters(&self, ui: &mut Ui, play: &Play, seen: &Seen) {
        const MIB: f64 = 1024.0 * 1024.0;
        let weak = theme::palette(ui.visuals()).weak_text;
        let (of_channels, of_slots) = fused_bytes(self.tokens, CHANNELS, self.slots);
        let written = materialised_bytes(self.tokens, CHANNELS, self.slots);
        footnote(
            ui,
            &format!(
                "Combines {} of {}, depth {} of {}. The loop: {} and {}. (One channel, one slot.)",
                seen.cost.combines,
                play.cost.combines,
                seen.cost.depth,
                play.cost.depth,
                self.tokens - 1,
                self.tokens - 1,
            ),
            weak,
        );
        footnote(
            ui,
            &format!(
                "A layer of {} channels, f32: one tensor with a value a token, channel and slot {:.2} MiB; fused, all that passes through memory is {:.2} + {:.2} MiB.",
                count_text(CHANNELS as f64),
                written / MIB,
                of_channels / MIB,
                of_slots / MIB,
            ),
            weak,
        );
        match &play.device {
            Ok(None) => {}
            Ok(Some(device)) => footnote(ui, &device.told(), weak),
            Err(reason) => footnote(ui, &format!("No states of the device: {reason}"), weak),
        }
    }
}

impl Demo for ScanTheatre {
    const ID: &'static str = "scan-theatre";
    const TITLE: &'static str = "A kernel's scan, round by round";
    type Study = Asked;

    fn study(&self, around: &Around) -> Option<Asked> {
        let mut controls = self.clone();
        controls.step = self.step.min(self.rounds() - 1);
        let is_own = self.layout == Layout::Own;
        Some(Asked {
            controls,
            backend: is_own.then(|| around.backend.clone()),
        })
    }

    fn ui(&mut self, ui: &mut Ui, scene: &Scene<'_, Play>) {
        let layouts = [
            (Layout::Published, "the published kernel's"),
            (Layout::Own, "this program's"),
        ];
        let before = self.layout;
        choice(ui, "Layout", &mut self.layout, &layouts);
        if self.layout != before {
            self.step = 0;
        }
        controls(ui, |ui| match self.layout {
            Layout::Published => self.dealing(ui),
            Layout::Own => {
                let name = "multiprocessors (an H200 has 132)";
                slider(ui, name, &mut self.multiprocessors, MULTIPROCESSORS);
            }
        });
        controls(ui, |ui| {
            log_slider(ui, "L, tokens", &mut self.tokens, TOKENS);
            slider(ui, "N, slots (for the bytes)", &mut self.slots, SLOTS);
        });
        let rules = [
            (Rule::Composed, "earlier, then later"),
            (Rule::Swapped, "swapped operands"),
            (Rule::Added, "+ instead of the composition"),
        ];
        choice(ui, "Combine", &mut self.rule, &rules);
        self.transport(ui);
        let shown = scene
            .answer
            .and_then(|play| Some((play, play.seen.as_ref()?)));
        let deal = match self.layout {
            Layout::Published => stage::Deal::Chunks(self.geometry()),
            Layout::Own => stage::Deal::Segments(self.cut()),
        };
        stage::show(ui, deal, self.tokens, shown);
        if let Some((play, seen)) = shown {
            self.counters(ui, play, seen);
        }
    }

    fn clamp(&mut self) {
        let nearest = |value: usize, choices: &[(usize, &str)]| {
            let near = choices.iter().min_by_key(|choice| choice.0.abs_diff(value));
            near.map_or(1, |choice| choice.0)
        };
        let most = *MULTIPROCESSORS.end();
        self.multiprocessors = self.multiprocessors.clamp(*MULTIPROCESSORS.start(), most);
        self.threads = nearest(self.threads, &THREADS);
        self.items = nearest(self.items, &ITEMS);
        self.tokens = self.tokens.clamp(*TOKENS.start(), *TOKENS.end());
        self.slots = self.slots.clamp(*SLOTS.start(), *SLOTS.end());
        self.step = self.step.min(self.rounds() - 1);
    }

    fn ends() -> Vec<Self> {
        let at = |threads, items, tokens, slots, rule, step| Self {
            layout: Layout::Published,
            multiprocessors: *MULTIPROCESSORS.start(),
            threads,
            items,
            tokens,
            slots,
            rule,
            step,
        };
        vec![
            at(4, 1, 1, 1, Rule::Swapped, 0),
            at(4, 1, 4096, 64, Rule::Added, 5000),
            at(128, 16, 4096, 64, Rule::Swapped, 77),
            Self {
                layout: Layout::Own,
                ..at(4, 1, 4096, 64, Rule::Composed, 3000)
            },
            Self {
                layout: Layout::Own,
                multiprocessors: *MULTIPROCESSORS.end(),
                ..at(4, 1, 4096, 1, Rule::Added, 70)
            },
        ]
    }

    fn live(&self, symbol: &str, _: Option<&Play>) -> Option<String> {
        match symbol {
            "L" => Some(self.tokens.to_string()),
            "N" => Some(self.slots.to_string()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slider_ends_where_the_scan_does() {
        let demo = ScanTheatre::default();
        for (threads, items, tokens) in [(4, 1, 1), (64, 4, 600), (128, 16, 4096), (8, 2, 77)] {
            let demo = ScanTheatre {
                threads,
                items,
                tokens,
                ..demo.clone()
            };
            let mut rounds = 0;
            chunked_scan(&vec![0; tokens], demo.geometry(), |_, _| 0, |_| rounds += 1);
            assert_eq!(rounds, demo.rounds(), "{demo:?}");
        }
    }
}
