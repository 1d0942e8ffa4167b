//! Drills in which a formula is filled in and run against the engine's own scan.

use mambascope_core::noise::Noise;
use mambascope_core::scan::{Projection, ScanInput, sequential};
use ndarray::{Array2, Array3, ArrayView2};

use super::expr::Expr;
use super::sizes::{MIB, Shape};
use super::{Drawn, DrillEntry, DrillError, Outcome, Task, outcome, share_off};
use crate::notebook::trial::exact_number;
use crate::practice::bank::Level;

/// Tokens of the text that formulas are tried on.
const TOKENS: usize = 24;
/// How far a formula may be off: its rounding, and that of constants typed with a few digits.
const TOLERANCE: f64 = 0.001;

/// A formula to fill in.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// What it gives, such as "new h".
    pub label: &'static str,
    /// What stands in it at first.
    pub start: &'static str,
    /// A right one.
    pub solution: String,
}

/// How formulas are tried.
#[derive(Clone, Debug, PartialEq)]
enum Trial {
    /// New h, then y from it, run token by token.
    Step,
    /// Decay and content of two steps taken as one, run as a scan in doubling strides.
    Combine,
    /// A chunk for any N and P.
    Chunk,
    /// Numbers.
    Values(Vec<f64>),
}

/// Asks for formulas.
#[derive(Clone, Debug, PartialEq)]
pub struct CodeTask {
    /// What to fill in.
    pub fields: Vec<Field>,
    /// The names a formula may use, beside `exp` and `ln`.
    pub variables: &'static [&'static str],
    /// How far the result may be off, as a share.
    pub tolerance: f64,
    trial: Trial,
}

impl CodeTask {
    /// Right formulas, one a field.
    pub fn solution(&self) -> Vec<String> {
        let fields = self.fields.iter();
        fields.map(|field| field.solution.clone()).collect()
    }

    /// Runs what was filled in.
    pub(super) fn check(&self, texts: &[String], seed: u64) -> Result<Outcome, DrillError> {
        if texts.len() != self.fields.len() {
            return Err(DrillError::Kind {
                wanted: format!("{} formulas", self.fields.len()),
                found: texts.len().to_string(),
            });
        }
        let read = |(field, text): (&Field, &String)| {
            Expr::parse(text, self.variables).map_err(|error| DrillError::Formula {
                field: field.label.to_owned(),
                error,
            })
        };
        let formulas = self.fields.iter().zip(texts).map(read);
        let formulas: Vec<Expr> = formulas.collect::<Result<_, _>>()?;
        let off = match &self.trial {
            Trial::Step => Text::seeded(seed).try_step(&formulas)?,
            Trial::Combine => Text::seeded(seed).try_combine(&formulas)?,
            Trial::Chunk => try_chunk(&formulas),
            Trial::Values(values) => {
                let pairs = formulas.iter().zip(values);
                worst(pairs.map(|(formula, value)| share_off(formula.value(&[]), *value)))
            }
        };
        let what = match &self.trial {
            Trial::Step => "run over random tokens against the engine's scan, your step",
            Trial::Combine => "run as a parallel scan against the engine's loop, your combine",
            Trial::Chunk => "over several N and P, the balance at your Q",
            Trial::Values(_) => "the number that is furthest off",
        };
        Ok(outcome(off, self.tolerance, what))
    }
}

/// The largest of some distances; infinite where one is not a number.
fn worst(distances: impl Iterator<Item = f64>) -> f64 {
    distances.fold(0.0, |worst: f64, off| {
        if off.is_nan() {
            f64::INFINITY
        } else {
            worst.max(off)
        }
    })
}

/// How far `found` is from `wanted`, as a share of the largest value wanted.
fn series_off(found: &[f64], wanted: &[f64]) -> f64 {
    let size = wanted
        .iter()
        .fold(0.0, |size: f64, value| size.max(value.abs()));
    let pairs = found.iter().zip(wanted);
    worst(pairs.map(|(found, wanted)| (found - wanted).abs() / size))
}

/// A random text for one channel with one slot.
struct Text {
    a: f64,
    delta_l: Vec<f64>,
    b_l: Vec<f64>,
    c_l: Vec<f64>,
    x_l: Vec<f64>,
}

impl Text {
    fn seeded(seed: u64) -> Self {
        let noise = Noise::new(seed, "text of a code drill");
        let value = |stream: usize, l: usize| f64::from(noise.uniform(stream * TOKENS + l));
        let between = |stream: usize, low: f64, high: f64| -> Vec<f64> {
            let tokens = 0..TOKENS;
            tokens
                .map(|l| low + (high - low) * value(stream, l))
                .collect()
        };
        Self {
            a: -0.5 - 3.0 * value(0, 0),
            delta_l: between(1, 0.05, 0.9),
            b_l: between(2, 0.5, 2.0),
            c_l: between(3, 0.5, 2.0),
            x_l: between(4, -1.0, 1.0),
        }
    }

    /// States and outputs by the engine's loop.
    fn run(&self) -> Result<(Vec<f64>, Vec<f64>), DrillError> {
        let column = |values: &'_ [f64]| Array2::from_shape_fn((TOKENS, 1), |(l, _)| values[l]);
        let cube = |values: &'_ [f64]| Array3::from_shape_fn((TOKENS, 1, 1), |(l, ..)| values[l]);
        let (u_ld, delta_ld) = (column(&self.x_l), column(&self.delta_l));
        let (b_lgn, c_lgn) = (cube(&self.b_l), cube(&self.c_l));
        let a_dn = Array2::from_elem((1, 1), self.a);
        let input = ScanInput {
            u_ld: u_ld.view(),
            delta_ld: delta_ld.view(),
            delta_bias_d: None,
            delta_softplus: false,
            a_dn: a_dn.view(),
            b: Projection::Selective(b_lgn.view()),
            c: Projection::Selective(c_lgn.view()),
            d_skip_d: None,
            z_ld: None,
            initial_dn: None,
        };
        let mut h_l = Vec::new();
        let after = |_: usize, h_dn: ArrayView2<'_, f64>| h_l.push(h_dn[[0, 0]]);
        let output = sequential(&input, after)?;
        Ok((h_l, output.y_ld.column(0).to_vec()))
    }

    /// Runs a new h, and a y from it: variables a, b, c, x, h, delta.
    fn try_step(&self, formulas: &[Expr]) -> Result<f64, DrillError> {
        let (wanted_h, wanted_y) = self.run()?;
        let (mut found_h, mut found_y) = (Vec::new(), Vec::new());
        let mut h = 0.0;
        for l in 0..TOKENS {
            let (b, c, x) = (self.b_l[l], self.c_l[l], self.x_l[l]);
            let value = |field: usize, h: f64| {
                let values = [self.a, b, c, x, h, self.delta_l[l]];
                formulas
                    .get(field)
                    .map_or(f64::NAN, |formula| formula.value(&values))
            };
            h = value(0, h);
            found_h.push(h);
            found_y.push(value(1, h));
        }
        let off = [
            series_off(&found_h, &wanted_h),
            series_off(&found_y, &wanted_y),
        ];
        Ok(worst(off.into_iter()))
    }

    /// Scans with a decay and a content of two steps: variables a1, b1 of the earlier one, a2, b2 of the later.
    fn try_combine(&self, formulas: &[Expr]) -> Result<f64, DrillError> {
        let (wanted_h, _) = self.run()?;
        let mut steps: Vec<[f64; 2]> = (0..TOKENS)
            .map(|l| {
                let delta = self.delta_l[l];
                [(delta * self.a).exp(), delta * self.b_l[l] * self.x_l[l]]
            })
            .collect();
        let mut stride = 1;
        while stride < TOKENS {
            let before = steps.clone();
            for l in stride..TOKENS {
                let ([a1, b1], [a2, b2]) = (before[l - stride], before[l]);
                for (part, formula) in formulas.iter().enumerate().take(2) {
                    steps[l][part] = formula.value(&[a1, b1, a2, b2]);
                }
            }
            stride *= 2;
        }
        let found_h: Vec<f64> = steps.iter().map(|step| step[1]).collect();
        // All steps taken as one decay by the product of their decays.
        let whole: f64 = self
            .delta_l
            .iter()
            .map(|delta| (delta * self.a).exp())
            .product();
        let decay = steps.last().map_or(f64::NAN, |step| step[0]);
        let off = [series_off(&found_h, &wanted_h), share_off(decay, whole)];
        Ok(worst(off.into_iter()))
    }
}

/// How far the two costs of SSD are apart at the chunk a formula of n and p gives.
fn try_chunk(formulas: &[Expr]) -> f64 {
    let sizes = [(16.0, 64.0), (64.0, 64.0), (128.0, 64.0), (256.0, 128.0)];
    let Some(formula) = formulas.first() else {
        return f64::INFINITY;
    };
    worst(sizes.into_iter().map(|(n, p)| {
        let within = formula.value(&[n, p]) * (n + p);
        share_off(within, 2.0 * n * p)
    }))
}

fn field(label: &'static str, start: &'static str, solution: impl Into<String>) -> Field {
    Field {
        label,
        start,
        solution: solution.into(),
    }
}

pub(super) const WRITE_THE_STEP: DrillEntry = DrillEntry {
    id: "code-write-the-step",
    topic: "code",
    level: Level::Basic,
    title: "Write the step",
    lesson: "selection",
    draw: |_| {
        Ok(Drawn {
            text: "Write one step of Mamba's recurrence for one channel and one slot, as the code computes it: first the new state from \
                   the old `h`, then the output from the new `h`. There are `a`, `b`, `c`, `x`, `h`, `delta` and `exp(…)`. Your step is \
                   run over 24 random tokens against the engine's scan."
                .to_owned(),
            task: Task::Code(CodeTask {
                fields: vec![
                    field("new h", "", "exp(delta * a) * h + delta * b * x"),
                    field("y", "", "c * h"),
                ],
                variables: &["a", "b", "c", "x", "h", "delta"],
                tolerance: TOLERANCE,
                trial: Trial::Step,
            }),
            working: "`h = exp(delta * a) * h + delta * b * x`: the decay is exact (zero-order hold), the write is Euler's. Then \
                      `y = c * h` reads the new state."
                .to_owned(),
        })
    },
};

pub(super) const FIX_THE_SCAN: DrillEntry = DrillEntry {
    id: "code-fix-the-scan",
    topic: "code",
    level: Level::Intermediate,
    title: "Fix the combine",
    lesson: "gpu-scan",
    draw: |_| {
        Ok(Drawn {
            text: "This parallel scan gives wrong states: somebody swapped the operands of its combine. `a1`, `b1` are decay and content \
                   of the earlier part, `a2`, `b2` of the later. Mend it; it is run against the engine's loop."
                .to_owned(),
            task: Task::Code(CodeTask {
                fields: vec![
                    field("a, decay of both", "a1 * a2", "a2 * a1"),
                    field("b, content of both", "a1 * b2 + b1", "a2 * b1 + b2"),
                ],
                variables: &["a1", "b1", "a2", "b2"],
                tolerance: TOLERANCE,
                trial: Trial::Combine,
            }),
            working: "The later part acts on what the earlier one left: h₂ = a2 · (a1 · h + b1) + b2, so the decay is `a2 * a1` and the \
                      content `a2 * b1 + b2`. Which parts are combined first does not matter; which is the earlier one does."
                .to_owned(),
        })
    },
};

pub(super) const DERIVE_THE_CHUNK: DrillEntry = DrillEntry {
    id: "code-derive-the-chunk",
    topic: "code",
    level: Level::Advanced,
    title: "Derive the chunk",
    lesson: "ssd-duality",
    draw: |_| {
        Ok(Drawn {
            text: "SSD cuts a text into chunks of Q tokens. A token and head cost Q·(N + P) multiplications within the chunk (whole block), \
                   and 2·N·P for chunk states and outputs. Write the Q at which both cost the same, as a formula of `n` and `p`."
                .to_owned(),
            task: Task::Code(CodeTask {
                fields: vec![field("Q", "", "2 * n * p / (n + p)")],
                variables: &["n", "p"],
                tolerance: TOLERANCE,
                trial: Trial::Chunk,
            }),
            working: format!(
                "Q·(N + P) = 2·N·P gives `Q = 2 * n * p / (n + p)`, the harmonic mean of N and P: with N = 128 and P = 64 it is {}, and \
                 twice that where only the causal half is computed.",
                exact_number(2.0 * 128.0 * 64.0 / (128.0 + 64.0))
            ),
        })
    },
};

pub(super) const SIZE_THE_POOL: DrillEntry = DrillEntry {
    id: "code-size-the-pool",
    topic: "code",
    level: Level::Intermediate,
    title: "Size a server's pool",
    lesson: "why-compress",
    draw: |draw| {
        let (name, layers, width) = draw.pick(&[
            ("Falcon-Mamba-7B", 64usize, 4096usize),
            ("mamba-2.8b", 64, 2560),
            ("mamba-1.4b", 48, 2048),
            ("mamba-130m", 24, 768),
        ]);
        let sessions = draw.pick(&[128usize, 256, 512, 1000]);
        let shape = Shape {
            layers,
            width,
            slots: 16,
        };
        let one = shape.session_bytes()? / MIB;
        let all = one * sessions as f64 / 1024.0;
        let one_text = format!("{layers} * {} * (16 + 3) * 4 / 1048576", 2 * width);
        Ok(Drawn {
            text: format!(
                "A server keeps {sessions} sessions of {name} ({layers} layers, width {width}, expand 2, N = 16) in float32: hidden states \
                 and the last 3 inputs of each convolution. Fill in the table, with numbers or with formulas."
            ),
            task: Task::Code(CodeTask {
                fields: vec![
                    field("MiB of one session", "", one_text.clone()),
                    field("GiB of all", "", format!("{sessions} * {one_text} / 1024")),
                ],
                variables: &[],
                tolerance: 0.03,
                trial: Trial::Values(vec![one, all]),
            }),
            working: format!(
                "One session: {one_text} = **{} MiB**. {sessions} of them: **{} GiB**.",
                exact_number(one),
                exact_number(all)
            ),
        })
    },
};
