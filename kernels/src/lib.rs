//! CUDA for Mambascope: the only crate that speaks to a device. [`device`] tells whether there is one; [`CudaBackend`] runs
//! models on it. The kernels are in `cuda/`, and in `ptx/` as a machine without a toolkit loads them.

mod alone;
mod backend;
pub mod bench;
mod blocks;
mod buffer;
mod choose;
pub mod device;
mod gpu;
mod library;
mod once;
mod ops;
mod pass;
mod sample;
mod scan;
mod session;
mod slots;
pub mod source;
mod ssd;
mod tiles;
mod token;
mod weights;

pub use backend::CudaBackend;
pub use gpu::{Gpu, Use};
pub use scan::{MOST_SLOTS, Operand, ScanKernel};
