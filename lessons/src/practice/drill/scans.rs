//! Drills on scans: how many combines, how long chunks, how many bytes.

use mambascope_core::scan::ScanShape;

use super::sizes::MIB;
use super::{Drawn, DrillEntry, Task};
use crate::notebook::trial::exact_number;
use crate::practice::bank::Level;

/// A way to scan, as a drill names it.
#[derive(Clone, Copy, Default)]
enum Way {
    #[default]
    Loop,
    HillisSteele,
    Blelloch,
}

impl Way {
    /// Combines and rounds over a power of two of tokens, counted one by one.
    fn count(self, tokens: usize) -> (usize, usize) {
        let strides = || std::iter::successors(Some(1), |stride| Some(2 * stride));
        let strides = || strides().take_while(|stride| *stride < tokens);
        match self {
            Self::Loop => (tokens - 1, tokens - 1),
            // Every token that has one `stride` before it takes it in.
            Self::HillisSteele => strides().fold((0, 0), |(combines, rounds), stride| {
                (combines + tokens - stride, rounds + 1)
            }),
            // Up and down the tree: a combine for each pair of neighbours, both ways.
            Self::Blelloch => strides().fold((0, 0), |(combines, rounds), stride| {
                (combines + 2 * (tokens / (2 * stride)), rounds + 2)
            }),
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Loop => "a loop",
            Self::HillisSteele => "the scan of Hillis and Steele",
            Self::Blelloch => "Blelloch's scan (up and down the tree)",
        }
    }

    fn working(self, tokens: usize) -> String {
        let rounds = tokens.ilog2();
        match self {
            Self::Loop => format!("every token after the first takes one, in {tokens} − 1 rounds"),
            Self::HillisSteele => format!(
                "round k combines L − 2ᵏ pairs: L·log₂L − (L − 1) with L = {tokens} and {rounds} rounds"
            ),
            Self::Blelloch => format!(
                "L − 1 up and L − 1 down, with L = {tokens}, in 2 · log₂L = 2 · {rounds} rounds"
            ),
        }
    }
}

pub(super) const SCAN_COMBINES: DrillEntry = DrillEntry {
    id: "drill-scan-combines",
    topic: "scan-and-hardware",
    level: Level::Intermediate,
    title: "Work and depth of a scan",
    lesson: "gpu-scan",
    draw: |draw| {
        let tokens = draw.pick(&[256usize, 512, 1024, 2048, 4096]);
        let way = draw.pick(&[Way::Loop, Way::HillisSteele, Way::Blelloch]);
        let asks_work = draw.between(0.0, 1.0) < 0.6;
        let (combines, rounds) = way.count(tokens);
        let (what, unit, answer) = if asks_work {
            (
                "How many combines does it take in all",
                "combines",
                combines,
            )
        } else {
            ("How many rounds follow one another", "rounds", rounds)
        };
        Ok(Drawn {
            text: format!(
                "{tokens} tokens are scanned by {}, with as many threads as it can use. {what}?",
                way.title()
            ),
            task: Task::number(unit, 0.01, answer as f64),
            working: format!(
                "{}: {} combines, {} rounds; so **{} {unit}**.",
                way.working(tokens),
                exact_number(combines as f64),
                exact_number(rounds as f64),
                exact_number(answer as f64)
            ),
        })
    },
};

pub(super) const SSD_CHUNK: DrillEntry = DrillEntry {
    id: "drill-ssd-chunk",
    topic: "ssd",
    level: Level::Advanced,
    title: "The chunk at which both halves of SSD cost the same",
    lesson: "ssd-duality",
    draw: |draw| {
        let n = draw.pick(&[16.0, 32.0, 64.0, 128.0, 256.0]);
        let p = draw.pick(&[32.0, 64.0, 128.0]);
        let causal = draw.between(0.0, 1.0) < 0.5;
        let (part, share): (_, f64) = if causal {
            ("only the causal half of each block is computed", 0.5)
        } else {
            ("each block is computed whole", 1.0)
        };
        let states = 2.0 * n * p;
        let answer = states / (share * (n + p));
        Ok(Drawn {
            text: format!(
                "SSD with N = {n} and heads of width P = {p}. Within a chunk of Q tokens a token costs Q·(N + P) multiplications for the \
                 whole block, where {part}; chunk states and outputs cost it 2·N·P. At which Q do both cost the same?"
            ),
            task: Task::number("tokens", 0.03, answer),
            working: format!(
                "{share} · Q · ({n} + {p}) = 2 · {n} · {p} = {}, so Q = {} / {} = **{} tokens**.",
                exact_number(states),
                exact_number(states),
                exact_number(share * (n + p)),
                exact_number(answer)
            ),
        })
    },
};

pub(super) const FUSED_BYTES: DrillEntry = DrillEntry {
    id: "drill-fused-bytes",
    topic: "scan-and-hardware",
    level: Level::Intermediate,
    title: "Bytes kept out of memory by fusing",
    lesson: "gpu-scan",
    draw: |draw| {
        let tokens = draw.pick(&[1024usize, 2048, 4096, 8192]);
        let width = draw.pick(&[768usize, 1024, 2048, 2560]);
        let slots = draw.pick(&[16usize, 32, 64]);
        let shape = ScanShape {
            batch: 1,
            channels: 2 * width,
            tokens,
            slots,
            groups: 1,
        };
        let fused = shape.bytes(4) as f64;
        let tensor = (4 * tokens * shape.channels * slots) as f64;
        let answer = tensor / fused;
        Ok(Drawn {
            text: format!(
                "A layer of width {width}, expand 2, N = {slots} scans {tokens} tokens in float32. A fused kernel reads u, Δ, z, B, C \
                 and writes y, once each. How many times as many bytes has one tensor of all states, [tokens, channels, N]?"
            ),
            task: Task::number("times", 0.05, answer),
            working: format!(
                "One tensor: {tokens} · {} · {slots} · 4 bytes = {} MiB. Fused: four arrays of {tokens} · {} values, and B, C, A and the \
                 last state beside them, {} MiB. The one over the other is **{}**, close to N/4.",
                shape.channels,
                exact_number(tensor / MIB),
                shape.channels,
                exact_number(fused / MIB),
                exact_number(answer)
            ),
        })
    },
};
