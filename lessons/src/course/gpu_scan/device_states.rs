//! What a device itself went on from at the borders of its segments, held against the loop.

use mambascope_core::job::{JobError, Workshop};

use super::operands::{CHANNELS, Operands};
use super::own::SLOTS;
use crate::widgets::number;

/// A state of single precision this far from the loop's in double, as a share of the largest, is another number.
const SAME: f64 = 1e-5;

/// The states a device found before its segments.
pub struct DeviceStates {
    /// Name of the backend.
    pub backend: String,
    /// Tokens of a segment.
    pub segment: usize,
    /// Before each segment but the first: the last token before it, and whether its state is the loop's.
    pub borders: Vec<(usize, bool)>,
    /// Largest difference from the loop, as a share of its largest state.
    pub worst: f64,
}

impl DeviceStates {
    /// What the dots in the picture are.
    pub fn told(&self) -> String {
        let (name, tokens) = (&self.backend, self.segment);
        if self.borders.is_empty() {
            return format!(
                "On the backend \"{name}\" this text is one segment: nothing is carried."
            );
        }
        format!(
            "Dots: the states that the backend \"{name}\" itself carried over the borders of its {} segments, {tokens} tokens each. Farthest from \
             the loop: {} of its largest state, in single precision.",
            self.borders.len() + 1,
            number(self.worst as f32)
        )
    }
}

/// Runs the theatre's text on the chosen backend, in every channel and slot of a layer, so that it is cut as v3 cuts a layer; `loop_l`
/// is what it should give. Nothing for a backend that is no device, which cuts no text.
///
/// # Errors
/// What the device says.
pub fn device_states(
    workshop: &mut Workshop,
    name: &str,
    (seed, loop_l): (u64, &[f64]),
) -> Result<Option<DeviceStates>, JobError> {
    let operands = Operands::<f32>::seeded(loop_l.len(), 1, 1, seed);
    let Some(input) = operands.repeated(CHANNELS, SLOTS) else {
        return Ok(None);
    };
    let Some(starts) = workshop.backend(name)?.scan_segments(&input)? else {
        return Ok(None);
    };
    let size = loop_l.iter().fold(0.0f64, |most, h| most.max(h.abs()));
    let mut worst = 0.0f64;
    let segments = starts.h_sdn.dim().0;
    let borders = (1..segments).filter_map(|segment| {
        let token = segment * starts.segment - 1;
        let found = starts.h_sdn.get([segment, 0, 0])?;
        let apart = (f64::from(*found) - loop_l.get(token)?).abs() / size;
        // What is no number is the worst, and stays it.
        if apart.is_nan() || apart > worst {
            worst = apart;
        }
        Some((token, apart <= SAME))
    });
    Ok(Some(DeviceStates {
        borders: borders.collect(),
        backend: name.to_owned(),
        segment: starts.segment,
        worst,
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mambascope_core::backend::{Backend, BackendError, NaiveBackend, Session};
    use mambascope_core::model::Model;
    use mambascope_core::scan::{
        ScanInput, ScanOutput, SegmentStarts, SsdInput, SsdOutput, sequential,
    };
    use ndarray::Array3;

    use super::*;

    /// A device with segments of 32 tokens that is off by `0` in its second border.
    struct Cutting(f32);

    impl Backend for Cutting {
        fn name(&self) -> &'static str {
            "cutting"
        }

        fn open(&mut self, model: &Arc<Model>) -> Result<Box<dyn Session>, BackendError> {
            NaiveBackend::default().open(model)
        }

        fn scan(&mut self, input: &ScanInput<'_, f32>) -> Result<ScanOutput<f32>, BackendError> {
            NaiveBackend::default().scan(input)
        }

        fn scan_segments(
            &mut self,
            input: &ScanInput<'_, f32>,
        ) -> Result<Option<SegmentStarts>, BackendError> {
            let (tokens, d, n) = input.dims();
            let mut h_sdn = Array3::zeros([tokens.div_ceil(32), d, n]);
            sequential(input, |l, h_dn| {
                if (l + 1) % 32 == 0 && l + 1 < tokens {
                    h_sdn
                        .index_axis_mut(ndarray::Axis(0), (l + 1) / 32)
                        .assign(&h_dn);
                }
            })?;
            h_sdn[[2, 0, 0]] += self.0;
            Ok(Some(SegmentStarts { segment: 32, h_sdn }))
        }

        fn ssd(
            &mut self,
            input: &SsdInput<'_, f32>,
            chunk: usize,
        ) -> Result<SsdOutput<f32>, BackendError> {
            NaiveBackend::default().ssd(input, chunk)
        }
    }

    fn the_loop(tokens: usize) -> Vec<f64> {
        let mut loop_l = Vec::new();
        let operands = Operands::<f64>::seeded(tokens, 1, 1, 11);
        sequential(&operands.input(), |_, h_dn| loop_l.extend(h_dn.iter())).unwrap();
        loop_l
    }

    #[test]
    fn borders_are_where_the_device_cuts_and_a_wrong_state_shows() {
        let loop_l = the_loop(100);
        let states = |off: f32| {
            let mut workshop = Workshop::new(vec![Box::new(Cutting(off))]);
            let found = device_states(&mut workshop, "cutting", (11, &loop_l));
            found.unwrap().unwrap()
        };
        let right = states(0.0);
        assert_eq!(right.borders, [(31, true), (63, true), (95, true)]);
        assert!(right.worst < 1e-6, "{}", right.worst);
        let wrong = states(0.5);
        assert_eq!(wrong.borders, [(31, true), (63, false), (95, true)]);
        assert!(wrong.worst > 0.1, "{}", wrong.worst);
        assert_eq!(states(f32::NAN).borders[1], (63, false));
        assert!(states(f32::NAN).worst.is_nan());
    }

    #[test]
    fn a_backend_that_cuts_nothing_has_none() {
        let mut workshop = Workshop::new(vec![Box::new(NaiveBackend::default())]);
        let found = device_states(&mut workshop, "naive", (11, &the_loop(40)));
        assert!(found.unwrap().is_none());
    }
}
