//! The CUDA backend: models on the device, shared by the sessions that run them.

use std::ops::Range;
use std::sync::{Arc, Weak};

use mambascope_core::backend::{Backend, BackendError, DeviceBytes, Session};
use mambascope_core::model::Model;
use mambascope_core::scan::{ScanInput, ScanOutput, SegmentStarts, SsdInput, SsdOutput};
use ndarray::Array3;

use crate::alone::scan_alone;
use crate::device;
use crate::gpu::{Gpu, Use};
use crate::scan::ScanKernel;
use crate::session::CudaSession;
use crate::ssd::ssd_alone;
use crate::weights::DeviceModel;

/// Models on the first CUDA device, which is started when it is first needed: that can take a second.
pub struct CudaBackend {
    gpu: Option<Arc<Gpu>>,
    models: Vec<(Weak<Model>, Weak<DeviceModel>)>,
    /// The rung that [`Backend::scan`] takes; for v4 and v5 it is v3 where they do not take the shape.
    pub scan_kernel: ScanKernel,
    /// Whether buffers are made no number before each pass, so that a value some kernel forgot to write shows: for tests.
    pub is_poisoning: bool,
}

impl Default for CudaBackend {
    fn default() -> Self {
        Self {
            gpu: None,
            models: Vec::new(),
            scan_kernel: ScanKernel::V3,
            is_poisoning: false,
        }
    }
}

impl CudaBackend {
    /// On a device that is at work already.
    ///
    /// # Errors
    /// What its driver said.
    pub fn on(gpu: &Gpu) -> Result<Self, BackendError> {
        Ok(Self {
            gpu: Some(gpu.fork()?),
            ..Self::default()
        })
    }

    /// The device, at work.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn gpu(&mut self) -> Result<Arc<Gpu>, BackendError> {
        if let Some(gpu) = &self.gpu {
            return Ok(Arc::clone(gpu));
        }
        let gpu = Gpu::start()?;
        self.gpu = Some(Arc::clone(&gpu));
        Ok(gpu)
    }

    /// [`Backend::scan`] that also hands out the states of the channels `watched` after every token, `[l, watched, n]`.
    ///
    /// # Errors
    /// As [`Backend::scan`], and when there are no such channels.
    pub fn scan_watched(
        &mut self,
        input: &ScanInput<'_, f32>,
        watched: Range<usize>,
    ) -> Result<(ScanOutput<f32>, Array3<f32>), BackendError> {
        let gpu = self.gpu()?;
        let (output, states, _) = scan_alone(&gpu, input, self.scan_kernel, watched)?;
        Ok((output, states))
    }

    /// The model's weights there: those of another session, or a copy made now.
    fn weights(
        &mut self,
        gpu: &Arc<Gpu>,
        model: &Arc<Model>,
    ) -> Result<Arc<DeviceModel>, BackendError> {
        self.models
            .retain(|(_, weights)| weights.strong_count() > 0);
        let known = self.models.iter().find_map(|(known, weights)| {
            let is_same = known
                .upgrade()
                .is_some_and(|known| Arc::ptr_eq(&known, model));
            is_same.then(|| weights.upgrade()).flatten()
        });
        if let Some(weights) = known {
            return Ok(weights);
        }
        let weights = Arc::new(DeviceModel::new(gpu, model)?);
        // Sessions read them on streams of their own.
        gpu.wait()?;
        self.models
            .push((Arc::downgrade(model), Arc::downgrade(&weights)));
        Ok(weights)
    }
}

impl Backend for CudaBackend {
    fn name(&self) -> &'static str {
        "cuda"
    }

    fn open(&mut self, model: &Arc<Model>) -> Result<Box<dyn Session>, BackendError> {
        let gpu = self.gpu()?;
        let weights = self.weights(&gpu, model)?;
        let session = CudaSession::new(&gpu.fork()?, model, weights, self.is_poisoning)?;
        Ok(Box::new(session))
    }

    fn scan(&mut self, input: &ScanInput<'_, f32>) -> Result<ScanOutput<f32>, BackendError> {
        let gpu = self.gpu()?;
        let (output, ..) = scan_alone(&gpu, input, self.scan_kernel, 0..0)?;
        Ok(output)
    }

    fn scan_segments(
        &mut self,
        input: &ScanInput<'_, f32>,
    ) -> Result<Option<SegmentStarts>, BackendError> {
        let gpu = self.gpu()?;
        // v4 cuts nothing, and v5 keeps no states before its segments.
        let kernel = match self.scan_kernel {
            ScanKernel::V4 | ScanKernel::V5 => ScanKernel::V3,
            kernel => kernel,
        };
        let (.., starts) = scan_alone(&gpu, input, kernel, 0..0)?;
        Ok(Some(starts))
    }

    fn ssd(
        &mut self,
        input: &SsdInput<'_, f32>,
        chunk: usize,
    ) -> Result<SsdOutput<f32>, BackendError> {
        let gpu = self.gpu()?;
        ssd_alone(&gpu, input, chunk)
    }

    fn device_bytes(&self) -> Option<DeviceBytes> {
        let gpu = self.gpu.as_ref()?;
        Some(DeviceBytes {
            weights: gpu.bytes_of(Use::Weights),
            state: gpu.bytes_of(Use::State),
            activations: gpu.bytes_of(Use::Activations),
            in_use: gpu.pool_bytes().ok()?,
        })
    }

    fn notes(&self) -> Vec<String> {
        let Some(gpu) = &self.gpu else {
            return Vec::new();
        };
        let mut notes = vec![device::describe()];
        let mut origins: Vec<(String, Vec<&str>)> = Vec::new();
        for (file, origin) in gpu.origins() {
            match origins.iter_mut().find(|(known, _)| *known == origin) {
                Some((_, files)) => files.push(file),
                None => origins.push((origin, vec![file])),
            }
        }
        let lines = origins.into_iter();
        notes.extend(gpu.library_note().map(str::to_owned));
        notes.extend(gpu.recording_note());
        notes.extend(lines.map(|(origin, files)| format!("{}: {origin}", files.join(", "))));
        notes
    }
}
