//! Times the ways to compute a scan on this machine, against attention's scores.

use std::ops::ControlFlow;
use std::time::Instant;

use mambascope_core::job::{JobError, Progress, Workshop};
use mambascope_core::noise::Noise;
use mambascope_core::scan::{
    Geometry, ScanInput, ScanOperands, ScanOutput, Tree, associative, chunked,
};
use ndarray::{Array2, ArrayView2, s};

use super::operands::shape;
use crate::course::shared::refused;

/// Channels and slots of the scan that is timed; attention has a head of as many channels.
pub const CHANNELS: usize = 16;
/// Slots of each channel.
pub const SLOTS: usize = 16;
/// The shortest text.
pub const SHORTEST: usize = 256;
/// Short runs are repeated until they took this many seconds together: by then the caches are warm and a disturbance is over.
const ENOUGH: f64 = 0.02;
/// Most runs of one.
pub const RUNS: usize = 30;

/// What can be timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The loop, as the naive backend has it.
    Loop,
    /// A Blelloch tree over every channel and slot.
    Tree,
    /// The kernel's chunks, on this processor.
    Chunks,
    /// The fast backend's scan.
    Fast,
    /// The scan on a graphics card.
    Cuda,
    /// Softmax attention over all tokens before.
    Attention,
}

impl Way {
    /// In the order they are shown.
    pub const ALL: [Self; 6] = [
        Self::Loop,
        Self::Tree,
        Self::Chunks,
        Self::Fast,
        Self::Cuda,
        Self::Attention,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loop => "loop (naive backend)",
            Self::Tree => "tree (Blelloch)",
            Self::Chunks => "the kernel's chunks, on the CPU",
            Self::Fast => "fast backend",
            Self::Cuda => "CUDA backend",
            Self::Attention => "attention, one head",
        }
    }
}

/// What was measured of one way.
pub struct Row {
    /// Which.
    pub way: Way,
    /// Tokens and seconds.
    pub times: Vec<(usize, f64)>,
    /// The power of L that fits the times best; none from fewer than two.
    pub slope: Option<f64>,
    /// Largest difference of its y from the loop's, as a share of the largest y; none where there is nothing to compare.
    pub off: Option<f64>,
    /// Why there are no times.
    pub reason: Option<String>,
}

/// Lengths from the shortest to this one, doubling.
pub fn lengths(longest: usize) -> Vec<usize> {
    let doubled = |&tokens: &usize| Some(tokens * 2);
    let all = std::iter::successors(Some(SHORTEST), doubled);
    all.take_while(|&tokens| tokens <= longest).collect()
}

/// Times all ways over texts up to this long. When it is stopped, what is there already is the answer.
///
/// # Errors
/// When an operand does not fit, or a backend other than the graphics card's fails.
pub fn measure(
    longest: usize,
    workshop: &mut Workshop,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Vec<Row>, JobError> {
    let lengths = lengths(longest);
    let total = lengths.len() * Way::ALL.len();
    let mut rows: Vec<Row> = Way::ALL.into_iter().map(empty).collect();
    'all: for (i, &tokens) in lengths.iter().enumerate() {
        let operands = ScanOperands::seeded(shape(tokens, CHANNELS, SLOTS), 3);
        let input = operands.input(0).map_err(refused)?;
        let mut wanted = None;
        for (k, row) in rows.iter_mut().enumerate() {
            let done = i * Way::ALL.len() + k;
            let count = Progress::Count {
                what: "measurements",
                done,
                total,
            };
            if progress(count).is_break() {
                break 'all;
            }
            one(row, &input, workshop, &mut wanted)?;
        }
    }
    for row in &mut rows {
        row.slope = slope(&row.times);
    }
    Ok(rows)
}

fn empty(way: Way) -> Row {
    Row {
        way,
        times: Vec::new(),
        slope: None,
        off: None,
        reason: None,
    }
}

/// Times one way on one text, and compares what it gives with what the loop gave.
fn one(
    row: &mut Row,
    input: &ScanInput<'_, f32>,
    workshop: &mut Workshop,
    wanted: &mut Option<Array2<f32>>,
) -> Result<(), JobError> {
    let tokens = input.dims().0;
    let geometry = Geometry::of_kernel(tokens);
    let timed = match row.way {
        Way::Loop => quickest(|| Ok(workshop.backend("naive")?.scan(input)?)),
        Way::Tree => quickest(|| scan_of(associative(input, Tree::Blelloch))),
        Way::Chunks => quickest(|| scan_of(chunked(input, geometry))),
        Way::Fast => quickest(|| Ok(workshop.backend("fast")?.scan(input)?)),
        Way::Cuda => {
            // Not every machine has one: that is a row with the reason.
            let timed = quickest(|| Ok(workshop.backend("cuda")?.scan(input)?));
            match timed {
                Ok(timed) => Ok(timed),
                Err(error) => {
                    row.reason = Some(why_not(&error));
                    return Ok(());
                }
            }
        }
        Way::Attention => {
            let (seconds, ()) = quickest(|| {
                attention(tokens);
                Ok(())
            })?;
            row.times.push((tokens, seconds));
            return Ok(());
        }
    };
    let (seconds, output) = timed?;
    row.times.push((tokens, seconds));
    match wanted {
        Some(wanted) => {
            let off = share_off(output.y_ld.view(), wanted.view());
            row.off = Some(row.off.unwrap_or(0.0).max(off));
        }
        None => *wanted = Some(output.y_ld),
    }
    Ok(())
}

/// Why the graphics card was not timed, for a reader.
fn why_not(error: &JobError) -> String {
    match error {
        JobError::NoBackend { .. } => "This program runs without its CUDA backend here.".to_owned(),
        // The device's own reason is a sentence.
        error => error.to_string(),
    }
}

fn scan_of<C>(
    scanned: Result<(ScanOutput<f32>, C), mambascope_core::scan::ScanError>,
) -> Result<ScanOutput<f32>, JobError> {
    scanned.map(|(output, _)| output).map_err(refused)
}

/// Largest difference as a share of the largest value wanted.
pub fn share_off(found: ArrayView2<'_, f32>, wanted: ArrayView2<'_, f32>) -> f64 {
    let size = wanted.iter().fold(0.0f32, |most, y| most.max(y.abs()));
    let pairs = found.iter().zip(wanted.iter());
    let far = pairs.map(|(found, wanted)| f64::from((found - wanted).abs()));
    far.fold(0.0, f64::max) / f64::from(size.max(f32::MIN_POSITIVE))
}

/// Seconds of the quickest of a few runs, and what the last gave.
fn quickest<R>(mut run: impl FnMut() -> Result<R, JobError>) -> Result<(f64, R), JobError> {
    let mut time = || {
        let start = Instant::now();
        let result = run()?;
        Ok::<_, JobError>((start.elapsed().as_secs_f64(), result))
    };
    let (mut best, mut result) = time()?;
    let mut total = best;
    for _ in 1..RUNS {
        if total >= ENOUGH {
            break;
        }
        let (seconds, again) = time()?;
        best = best.min(seconds);
        total += seconds;
        result = again;
    }
    Ok((best, result))
}

/// Causal softmax attention of one head on random values, a block of queries at a time: the scores never lie in memory all
/// at once, their number is still L²/2.
fn attention(tokens: usize) -> Array2<f32> {
    const BLOCK: usize = 64;
    let noise = Noise::new(4, "attention");
    let values = |from: usize| {
        Array2::from_shape_fn((tokens, CHANNELS), |(l, d)| {
            noise.normal(from + l * CHANNELS + d)
        })
    };
    let all = tokens * CHANNELS;
    let (q_ld, k_ld, v_ld) = (values(0), values(all), values(2 * all));
    let scale = (CHANNELS as f32).sqrt().recip();
    let mut y_ld = Array2::zeros((tokens, CHANNELS));
    for from in (0..tokens).step_by(BLOCK) {
        let to = (from + BLOCK).min(tokens);
        let queries = q_ld.slice(s![from..to, ..]);
        let mut scores = queries.dot(&k_ld.slice(s![..to, ..]).t());
        for (i, mut row) in scores.rows_mut().into_iter().enumerate() {
            let seen = from + i + 1;
            row.slice_mut(s![seen..]).fill(f32::NEG_INFINITY);
            let most = row.iter().fold(f32::NEG_INFINITY, |most, &x| most.max(x));
            row.mapv_inplace(|x| ((x - most) * scale).exp());
            let sum = row.sum();
            row /= sum;
        }
        let read = scores.dot(&v_ld.slice(s![..to, ..]));
        y_ld.slice_mut(s![from..to, ..]).assign(&read);
    }
    y_ld
}

/// The slope of the line of least squares through the logarithms.
fn slope(times: &[(usize, f64)]) -> Option<f64> {
    if times.len() < 2 {
        return None;
    }
    let logs: Vec<(f64, f64)> = times
        .iter()
        .map(|&(tokens, seconds)| ((tokens as f64).log10(), seconds.max(1e-9).log10()))
        .collect();
    let count = logs.len() as f64;
    let (mean_x, mean_y) = (
        logs.iter().map(|log| log.0).sum::<f64>() / count,
        logs.iter().map(|log| log.1).sum::<f64>() / count,
    );
    let spread: f64 = logs.iter().map(|log| (log.0 - mean_x).powi(2)).sum();
    let common: f64 = logs
        .iter()
        .map(|log| (log.0 - mean_x) * (log.1 - mean_y))
        .sum();
    Some(common / spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_has_its_exponent_as_slope() {
        let times: Vec<_> = lengths(4096)
            .into_iter()
            .map(|tokens| (tokens, 3e-9 * (tokens as f64).powi(2)))
            .collect();
        assert_eq!(times.len(), 5);
        assert!((slope(&times).unwrap() - 2.0).abs() < 1e-12);
        assert!(slope(&times[..1]).is_none());
    }

    #[test]
    fn a_card_that_is_not_there_is_said_in_a_sentence() {
        let mut workshop = Workshop::new(Vec::new());
        let error = workshop.backend("cuda").err().unwrap();
        let told = why_not(&error);
        assert!(told.ends_with('.') && !told.contains('"'), "{told}");
    }

    #[test]
    fn attention_sees_no_later_token() {
        // The first token reads itself alone, whatever comes behind it.
        let y_ld = attention(3);
        let noise = Noise::new(4, "attention");
        let value = noise.normal(2 * 3 * CHANNELS);
        assert!((y_ld[[0, 0]] - value).abs() < 1e-6);
    }
}
