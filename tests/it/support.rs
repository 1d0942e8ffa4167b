//! What the tests share: fixtures, and the one comparison of numbers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use mambascope_core::backend::{Backend, FastBackend, NaiveBackend, Session};
use mambascope_core::checkpoint;
use mambascope_core::model::{Config, Model};
use mambascope_kernels::{CudaBackend, Gpu, ScanKernel};
use ndarray::{ArrayD, IxDyn};
use safetensors::{Dtype, SafeTensors};

/// Folder of a fixture.
pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name)
}

pub fn load(name: &str) -> Arc<Model> {
    Arc::new(checkpoint::load(&fixture(name), &checkpoint::unhurried).unwrap())
}

pub fn embedded() -> Arc<Model> {
    Arc::new(checkpoint::embedded().unwrap())
}

/// Scores after the last token read, for [`compare`].
pub fn scores(session: &mut dyn Session) -> Vec<f64> {
    let logits = session.logits().unwrap().iter();
    logits.map(|&x| x.into()).collect()
}

/// Every backend this machine can run, with one thread and with two.
pub fn backends() -> Vec<Box<dyn Backend>> {
    vec![
        Box::new(NaiveBackend::default()),
        Box::new(FastBackend::new(1).unwrap()),
        Box::new(FastBackend::new(2).unwrap()),
    ]
}

/// The CUDA backend, once for each rung of its scan. The first as on a machine with a driver alone, with buffers that hold no
/// number before every block, so that a value some kernel forgot to write shows; the others with what toolkit there is, as they
/// are, with the pass of a token captured.
pub fn cuda() -> Vec<Box<dyn Backend>> {
    static GPUS: OnceLock<[Arc<Gpu>; 2]> = OnceLock::new();
    let [alone, full] = GPUS
        .get_or_init(|| {
            [
                Gpu::start_with_driver_alone().unwrap(),
                Gpu::start().unwrap(),
            ]
        })
        .each_ref();
    let on_rung = |(i, scan_kernel)| {
        let mut backend = CudaBackend::on(if i == 0 { alone } else { full }).unwrap();
        (backend.scan_kernel, backend.is_poisoning) = (scan_kernel, i == 0);
        Box::new(backend) as Box<dyn Backend>
    };
    let rungs = ScanKernel::ALL.into_iter().rev();
    rungs.enumerate().map(on_rung).collect()
}

/// How a test gets the backends it is to hold to the same standard.
pub type Backends = fn() -> Vec<Box<dyn Backend>>;

/// Tests of one body: on the backends of every machine, and on CUDA, counted among the ignored where there is no device.
macro_rules! on_every_backend {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            fn on_the_cpu() {
                super::$name(crate::support::backends);
            }

            #[test]
            #[ignore = "needs an NVIDIA GPU"]
            fn on_cuda() {
                super::$name(crate::support::cuda);
            }
        }
    )+};
}
pub(crate) use on_every_backend;

/// The arrays of a safetensors file as f64, and its metadata.
pub struct Arrays {
    pub values: BTreeMap<String, ArrayD<f64>>,
    pub metadata: BTreeMap<String, String>,
}

impl Arrays {
    pub fn read(path: PathBuf) -> Self {
        let bytes = std::fs::read(&path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = header
            .metadata()
            .clone()
            .unwrap_or_default()
            .into_iter()
            .collect();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let values = file.tensors().into_iter().map(|(name, view)| {
            let data = view.data();
            let numbers: Vec<f64> = match view.dtype() {
                Dtype::F32 => data
                    .as_chunks()
                    .0
                    .iter()
                    .map(|b| f32::from_le_bytes(*b).into())
                    .collect(),
                Dtype::F64 => data
                    .as_chunks()
                    .0
                    .iter()
                    .map(|b| f64::from_le_bytes(*b))
                    .collect(),
                Dtype::I64 => data
                    .as_chunks()
                    .0
                    .iter()
                    .map(|b| i64::from_le_bytes(*b) as f64)
                    .collect(),
                other => panic!("{name} has dtype {other:?}"),
            };
            (
                name,
                ArrayD::from_shape_vec(IxDyn(view.shape()), numbers).unwrap(),
            )
        });
        Self {
            values: values.collect(),
            metadata,
        }
    }

    pub fn get(&self, name: &str) -> &ArrayD<f64> {
        self.values
            .get(name)
            .unwrap_or_else(|| panic!("no {name} in the fixture"))
    }
}

/// How far two arrays may lie apart.
#[derive(Clone, Copy)]
pub enum Tolerance {
    /// |d| ≤ t.
    Absolute(f64),
    /// |d| ≤ t · max(1, largest |wanted|).
    OfLargest(f64),
}

/// The largest difference, or why there is none to speak of. NaN on either side never agrees.
pub fn compare(found: &[f64], wanted: &[f64], tolerance: Tolerance) -> Result<f64, String> {
    if found.len() != wanted.len() {
        return Err(format!("{} values, wanted {}", found.len(), wanted.len()));
    }
    let allowed = match tolerance {
        Tolerance::Absolute(t) => t,
        Tolerance::OfLargest(t) => t * wanted.iter().fold(1.0, |m: f64, x| m.max(x.abs())),
    };
    let mut worst = 0.0;
    for (i, (f, w)) in found.iter().zip(wanted).enumerate() {
        let difference = (f - w).abs();
        if !(difference <= allowed) {
            return Err(format!(
                "value {i}: found {f}, wanted {w}, {difference} apart, allowed {allowed}"
            ));
        }
        worst = f64::max(worst, difference);
    }
    Ok(worst)
}

/// [`compare`] as an assertion.
#[track_caller]
pub fn assert_close(
    what: &str,
    found: impl IntoIterator<Item = f32>,
    wanted: &ArrayD<f64>,
    tolerance: Tolerance,
) {
    let found: Vec<f64> = found.into_iter().map(f64::from).collect();
    let wanted: Vec<f64> = wanted.iter().copied().collect();
    if let Err(reason) = compare(&found, &wanted, tolerance) {
        panic!("{what}: {reason}");
    }
}

#[test]
fn nan_never_agrees() {
    let close = |f: f64, w: f64| compare(&[f], &[w], Tolerance::Absolute(1.0)).is_ok();
    assert!(close(1.0, 1.5));
    assert!(!close(1.0, 2.5));
    assert!(!close(f64::NAN, 1.0) && !close(1.0, f64::NAN) && !close(f64::NAN, f64::NAN));
    assert!(!close(f64::INFINITY, f64::INFINITY));
    assert!(compare(&[], &[1.0], Tolerance::Absolute(1.0)).is_err());
}

/// Weights of a checkpoint of this configuration, the head counted once when it is tied.
pub fn parameters(config: &Config) -> usize {
    let entry = config.family.entry();
    let specs = entry.tensors(config).into_iter();
    specs
        .filter(|spec| !config.tied || spec.name != entry.head_name())
        .map(|spec| spec.shape.iter().product::<usize>())
        .sum()
}
