//! NVIDIA's own matrix products (cuBLAS), where a toolkit has brought them: the two parts of x, one product each.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cudarc::cublas::{result, sys};
use mambascope_core::backend::BackendError;

/// Held while the library starts or ends, and while a token's pass is recorded: the library then waits for the device, which
/// ends recordings in any thread, and is refused while there is one.
static STILL: Mutex<()> = Mutex::new(());

/// Until it is dropped no pass is recorded elsewhere, and the library neither starts nor ends.
pub(crate) fn hold_still() -> MutexGuard<'static, ()> {
    STILL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A way to the library, made once for a device.
pub(crate) struct Library {
    handle: sys::cublasHandle_t,
}

#[expect(unsafe_code, reason = "a handle is a raw pointer")]
// SAFETY: the library allows a handle to move between threads; it is used behind a lock, one thread at a time.
unsafe impl Send for Library {}

/// y = x · Wᵀ (+ y): `x` is `[rows, 2 · inputs]` in bf16, both parts of a row one behind the other, rows apart by `x_row`;
/// `weight` is `[out, inputs]` in bf16; `y` is `[rows, out]` in f32, rows apart by `y_row`. All in values.
pub(crate) struct SplitProduct {
    pub x: u64,
    pub x_row: usize,
    pub weight: u64,
    pub y: u64,
    pub y_row: usize,
    pub rows: usize,
    pub out: usize,
    pub inputs: usize,
    pub adds: bool,
}

impl Library {
    /// `None` where there is none, or it does not start.
    pub(crate) fn find() -> Option<Self> {
        let _still = hold_still();
        // cudarc panics where a library lacks a function.
        catch_unwind(|| {
            is_present().then(|| result::create_handle().ok().map(|handle| Self { handle }))
        })
        .ok()
        .flatten()
        .flatten()
    }

    /// Asks for a product on a stream.
    pub(crate) fn run(
        &self,
        stream: cudarc::driver::sys::CUstream,
        product: &SplitProduct,
    ) -> Result<(), BackendError> {
        let asked = catch_unwind(AssertUnwindSafe(|| self.ask(stream, product)));
        let said = match asked {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => format!("{error:?}"),
            Err(_) => "it lacks a function".to_owned(),
        };
        Err(BackendError::Device(format!(
            "CUDA failed in a product by cuBLAS: {said}. Start the program again; if it happens again, choose a CPU backend and report the sentence."
        )))
    }

    #[expect(unsafe_code, reason = "calls of C")]
    fn ask(
        &self,
        stream: cudarc::driver::sys::CUstream,
        product: &SplitProduct,
    ) -> Result<(), result::CublasError> {
        let [out, rows, inputs] =
            [product.out, product.rows, product.inputs].map(|size| size as i32);
        let one = 1.0_f32;
        // The second part first: it is the small one.
        for (part, beta) in [(1, if product.adds { 1.0_f32 } else { 0.0 }), (0, 1.0)] {
            // SAFETY: the handle is the library's; the pointers are to buffers of the device that hold the sizes given, as
            // their owners promise; the two factors are read during the call. Matrices are column by column there, so that
            // rows of ours are its columns: yᵀ = W · xᵀ.
            unsafe {
                result::set_stream(self.handle, stream.cast())?;
                result::gemm_ex(
                    self.handle,
                    sys::cublasOperation_t::CUBLAS_OP_T,
                    sys::cublasOperation_t::CUBLAS_OP_N,
                    out,
                    rows,
                    inputs,
                    (&raw const one).cast(),
                    product.weight as *const c_void,
                    sys::cudaDataType::CUDA_R_16BF,
                    inputs,
                    (product.x + (part * product.inputs * 2) as u64) as *const c_void,
                    sys::cudaDataType::CUDA_R_16BF,
                    product.x_row as i32,
                    (&raw const beta).cast(),
                    product.y as *mut c_void,
                    sys::cudaDataType::CUDA_R_32F,
                    product.y_row as i32,
                    sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                    sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
                )?;
            }
        }
        Ok(())
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        let _still = hold_still();
        #[expect(unsafe_code, reason = "a call of C")]
        // SAFETY: the handle was made by the library and is not used after this. What it says at the end changes nothing.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

#[expect(
    unsafe_code,
    reason = "loading a shared library runs its initialisers; cuBLAS's are NVIDIA's own"
)]
fn is_present() -> bool {
    // SAFETY: only the library is opened, by the names its toolkit installs it under.
    unsafe { sys::is_culib_present() }
}
