//! Matrices as Hopper's copy engine sees them, which brings tiles of them into shared memory by itself.

use std::ffi::c_void;

use cudarc::driver::sys::{
    CUtensorMap, CUtensorMapDataType, CUtensorMapFloatOOBfill, CUtensorMapInterleave,
    CUtensorMapL2promotion, CUtensorMapSwizzle, cuTensorMapEncodeTiled,
};
use mambascope_core::backend::BackendError;

use crate::gpu::refusal;

/// A matrix of f32 in device memory, `[b, l, d]`.
pub(crate) struct Matrix {
    pub pointer: u64,
    /// b, l and d.
    pub sizes: [usize; 3],
    /// Values from one token to the next. Sequences follow one another.
    pub row: usize,
}

/// How the engine finds tiles of so many tokens and channels; what lies outside of the matrix it brings as zeros. The matrix
/// and its rows begin on 16 bytes, and so do a tile's.
///
/// # Errors
/// What the driver said.
pub(crate) fn tiles(
    matrix: &Matrix,
    [tokens, channels]: [usize; 2],
) -> Result<CUtensorMap, BackendError> {
    let float = size_of::<f32>();
    let [batch, length, width] = matrix.sizes;
    let mut map = CUtensorMap { opaque: [0; 16] };
    // The engine counts from the innermost.
    let sizes = [width as u64, length as u64, batch as u64];
    let strides = [matrix.row * float, length * matrix.row * float].map(|bytes| bytes as u64);
    let tile = [channels as u32, tokens as u32, 1];
    let steps = [1; 3];
    #[expect(
        unsafe_code,
        reason = "a C function that reads and writes through pointers"
    )]
    // SAFETY: the map is live and of the type it writes, the arrays have the three (strides: two) values it reads; nothing is
    // read through the matrix's pointer.
    let encoded = unsafe {
        cuTensorMapEncodeTiled(
            &raw mut map,
            CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
            sizes.len() as u32,
            matrix.pointer as *mut c_void,
            sizes.as_ptr(),
            strides.as_ptr(),
            tile.as_ptr(),
            steps.as_ptr(),
            CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
            CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_NONE,
            CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_NONE,
            CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
    };
    encoded
        .result()
        .map_err(|error| refusal("describing a matrix to the copy engine", error))?;
    Ok(map)
}
