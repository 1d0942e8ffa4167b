//! What the scans of a model read and gave for one text: the records the pictures of this lesson are computed from.

use mambascope_core::backend::{Backend, BackendError};
use mambascope_core::job::{JobError, ModelRef, Workshop, prompt_ids};
use mambascope_core::model::{Mixer, MixerDims, Model};
use mambascope_core::tokenizer::id_label;
use mambascope_core::trace::{DEFAULT_BUDGET, Probe, Site, Trace, TracePlan, TraceTap};
use ndarray::{Array2, Ix2};

/// Why a model without a Mamba-1 layer shows nothing.
pub(in crate::course) const NO_SCANS: &str = "The open model has no Mamba-1 layer, so there is nothing to show here: open a Mamba-1 model, such as the embedded novel-mamba-3m.";

/// The backend that runs every model.
const FALLBACK: &str = "fast";

/// One selective scan over a text.
pub(in crate::course) struct Scan {
    /// The block it belongs to.
    pub layer: usize,
    /// Input, `[l, d]`.
    pub u_ld: Array2<f32>,
    /// Δ, `[l, d]`.
    pub delta_ld: Array2<f32>,
    /// B, `[l, n]`.
    pub b_ln: Array2<f32>,
    /// C, `[l, n]`.
    pub c_ln: Array2<f32>,
    /// Output with the skip, before the gate, `[l, d]`.
    pub y_ld: Array2<f32>,
    /// A, `[d, n]`.
    pub a_dn: Array2<f32>,
    /// D, `[d]`.
    pub skip_d: Vec<f32>,
}

impl Scan {
    /// Tokens, channels, slots.
    pub fn dims(&self) -> (usize, usize, usize) {
        let (channels, slots) = self.a_dn.dim();
        (self.u_ld.nrows(), channels, slots)
    }

    /// Running sums of Δ over the tokens, `[l, d]`, in double precision: a decay between two tokens is e to the difference of two
    /// of them times A, and no product of small numbers is ever divided by another.
    pub fn clock_ld(&self) -> Array2<f64> {
        let mut clock_ld = self.delta_ld.mapv(f64::from);
        for l in 1..clock_ld.nrows() {
            for d in 0..clock_ld.ncols() {
                clock_ld[[l, d]] += clock_ld[[l - 1, d]];
            }
        }
        clock_ld
    }
}

/// The blocks whose mixer is Mamba-1.
pub(in crate::course) fn scan_layers(model: &Model) -> Vec<usize> {
    let blocks = model.config.blocks.iter().enumerate();
    blocks
        .filter(|(_, block)| matches!(block.mixer, MixerDims::Mamba(_)))
        .map(|(layer, _)| layer)
        .collect()
}

/// Token ids of a text, at most `most` of them.
///
/// # Errors
/// When the model cannot turn the text into ids.
pub(in crate::course) fn ids_of(
    model: &Model,
    text: &str,
    most: usize,
) -> Result<Vec<u32>, JobError> {
    let mut ids = prompt_ids(model, text)?;
    ids.truncate(most);
    Ok(ids)
}

/// What each id stands for, for a chip.
pub(in crate::course) fn texts_of(model: &Model, ids: &[u32]) -> Vec<String> {
    let text = |&id: &u32| match &model.tokenizer {
        Some(tokenizer) => tokenizer.decode(&[id]),
        None => id_label(id),
    };
    ids.iter().map(text).collect()
}

/// Reads a text and records these stages of these blocks.
///
/// # Errors
/// When the backend fails, or the record would be too large.
pub(in crate::course) fn traced(
    model: &ModelRef,
    ids: &[u32],
    layers: &[usize],
    probes: &[Probe],
    backend: &mut dyn Backend,
) -> Result<(Trace, Vec<f32>), JobError> {
    let plan = TracePlan {
        layers: layers.to_vec(),
        probes: probes.to_vec(),
        tokens: ids.len(),
        budget: DEFAULT_BUDGET,
    };
    let mut tap = TraceTap::new(&plan, &model.config)?;
    let mut session = backend.open(model)?;
    session.prefill(ids, &mut tap)?;
    let logits_v = session.logits()?.to_vec();
    Ok((tap.finish(), logits_v))
}

/// A recorded matrix.
///
/// # Errors
/// When it was not recorded, or is none.
pub(in crate::course) fn matrix(trace: &Trace, site: Site) -> Result<Array2<f32>, JobError> {
    let missing = || JobError::Study(format!("{} was not recorded", site.name()));
    let value = trace.get(site).ok_or_else(missing)?;
    value
        .view()
        .into_dimensionality::<Ix2>()
        .map(|value| value.to_owned())
        .map_err(|_| missing())
}

/// The stages a [`Scan`] is made of.
pub(super) const OF_SCANS: [Probe; 5] = [
    Probe::ConvOut,
    Probe::Delta,
    Probe::B,
    Probe::C,
    Probe::ScanOut,
];

/// The scans of these blocks over a text.
///
/// # Errors
/// As [`traced`].
pub(in crate::course) fn scans(
    model: &ModelRef,
    ids: &[u32],
    layers: &[usize],
    backend: &mut dyn Backend,
) -> Result<Vec<Scan>, JobError> {
    let (trace, _) = traced(model, ids, layers, &OF_SCANS, backend)?;
    scans_of(model, &trace, layers)
}

/// The scans of these blocks from a record of [`OF_SCANS`]; a block that is not Mamba-1 has none.
///
/// # Errors
/// When a stage was not recorded.
pub(super) fn scans_of(
    model: &Model,
    trace: &Trace,
    layers: &[usize],
) -> Result<Vec<Scan>, JobError> {
    let mut found = Vec::new();
    for &layer in layers {
        let Some(Mixer::Mamba(mixer)) = model.layers.get(layer).map(|layer| &layer.mixer) else {
            continue;
        };
        let value = |probe| matrix(trace, Site::layer(layer, probe));
        found.push(Scan {
            layer,
            u_ld: value(Probe::ConvOut)?,
            delta_ld: value(Probe::Delta)?,
            b_ln: value(Probe::B)?,
            c_ln: value(Probe::C)?,
            y_ld: value(Probe::ScanOut)?,
            a_dn: mixer.a_nd().reversed_axes(),
            skip_d: mixer.d_skip.as_f32().to_vec(),
        });
    }
    Ok(found)
}

/// The backend a study runs a model on, and the sentence to show where it is not the one chosen in the menu: one that cannot open
/// the model gives way to the quick one.
///
/// # Errors
/// When there is no quick one either.
pub(in crate::course) fn chosen<'w>(
    workshop: &'w mut Workshop,
    name: &str,
    model: &ModelRef,
) -> Result<(&'w mut dyn Backend, Option<String>), JobError> {
    let opened = match workshop.backend(name) {
        Ok(backend) => backend.open(model).map_err(JobError::from),
        Err(error) => Err(error),
    };
    match opened.map(drop) {
        Ok(()) => Ok((workshop.backend(name)?, None)),
        Err(error) => Ok((workshop.backend(FALLBACK)?, Some(not_on(name, &error)))),
    }
}

fn not_on(name: &str, error: &impl std::fmt::Display) -> String {
    format!("Computed on the backend \"{FALLBACK}\", not on \"{name}\": {error}")
}

/// What `work` gives on the [`chosen`] backend. Where that fails on its way, as a device does on which a second model finds no room,
/// all of it is done on the quick one, and the sentence says so.
///
/// # Errors
/// What `work` says for another reason, or on the quick backend.
pub(super) fn on_chosen<T>(
    workshop: &mut Workshop,
    name: &str,
    model: &ModelRef,
    mut work: impl FnMut(&mut dyn Backend) -> Result<T, JobError>,
) -> Result<(T, Option<String>), JobError> {
    let (backend, elsewhere) = chosen(workshop, name, model)?;
    match work(backend) {
        Err(JobError::Backend(error))
            if backend.name() != FALLBACK && !matches!(error, BackendError::Cancelled { .. }) =>
        {
            let found = work(workshop.backend(FALLBACK)?)?;
            Ok((found, Some(not_on(name, &error))))
        }
        found => Ok((found?, elsewhere)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mambascope_core::backend::{FastBackend, NaiveBackend, Session};
    use mambascope_core::checkpoint::embedded;
    use mambascope_core::scan::{ScanInput, ScanOutput, SsdInput, SsdOutput};

    use super::*;

    #[test]
    fn the_chosen_backend_is_used_and_another_only_with_a_sentence() {
        let model = ModelRef(Arc::new(embedded().unwrap()));
        let mut workshop = Workshop::new(vec![
            Box::new(NaiveBackend::default()),
            Box::new(FastBackend::new(1).unwrap()),
        ]);
        let (backend, said) = chosen(&mut workshop, "naive", &model).unwrap();
        assert_eq!((backend.name(), said), ("naive", None));
        let (backend, said) = chosen(&mut workshop, "cuda", &model).unwrap();
        assert_eq!(backend.name(), "fast");
        assert!(said.unwrap().contains("not on \"cuda\""));
    }

    /// A backend with room for nothing but a first look.
    #[derive(Default)]
    struct Full(NaiveBackend, usize);

    impl Backend for Full {
        fn name(&self) -> &'static str {
            "full"
        }

        fn open(&mut self, model: &Arc<Model>) -> Result<Box<dyn Session>, BackendError> {
            self.1 += 1;
            if self.1 > 1 {
                return Err(BackendError::Device("no room".into()));
            }
            self.0.open(model)
        }

        fn scan(&mut self, input: &ScanInput<'_, f32>) -> Result<ScanOutput<f32>, BackendError> {
            self.0.scan(input)
        }

        fn ssd(
            &mut self,
            input: &SsdInput<'_, f32>,
            chunk: usize,
        ) -> Result<SsdOutput<f32>, BackendError> {
            self.0.ssd(input, chunk)
        }
    }

    #[test]
    fn what_fails_on_its_way_is_done_elsewhere_with_a_sentence() {
        let model = ModelRef(Arc::new(embedded().unwrap()));
        let mut workshop = Workshop::new(vec![
            Box::new(Full::default()),
            Box::new(FastBackend::new(1).unwrap()),
        ]);
        let mut tried = Vec::new();
        let (read, said) = on_chosen(&mut workshop, "full", &model, |backend| {
            tried.push(backend.name());
            let mut session = backend.open(&model)?;
            session.prefill(&[1, 2], &mut ())?;
            Ok(session.logits()?.len())
        })
        .unwrap();
        assert_eq!(tried, ["full", "fast"]);
        assert_eq!(read, model.config.vocab_size);
        assert_eq!(
            said.unwrap(),
            "Computed on the backend \"fast\", not on \"full\": no room"
        );
        // What is wrong for another reason is said, and not tried again.
        let refused = on_chosen(&mut workshop, "fast", &model, |_| {
            Err::<(), _>(JobError::Study("stopped".into()))
        });
        assert!(matches!(refused, Err(JobError::Study(_))));
    }
}
