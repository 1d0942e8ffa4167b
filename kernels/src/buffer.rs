//! Memory of the device: counted, freed when dropped, filled and read in whole values.

use std::marker::PhantomData;
use std::sync::Arc;

use cudarc::driver::result;
use cudarc::driver::sys::{
    CU_MEMHOSTALLOC_DEVICEMAP, CUdeviceptr, CUresult, cuMemHostGetDevicePointer_v2,
};
use cudarc::driver::{CudaSlice, DevicePtr, PinnedHostSlice};
use mambascope_core::backend::BackendError;
use ndarray::{Array2, ArrayView, Dimension};

use crate::gpu::{Gpu, Use, refusal};

/// A kind of value that is the same bytes here and there, every pattern of which is one.
///
/// # Safety
/// As said.
#[expect(unsafe_code, reason = "that bytes are values is a promise")]
pub(crate) unsafe trait Value: Copy + Default {}

#[expect(unsafe_code, reason = "plain numbers")]
// SAFETY: plain numbers are.
unsafe impl Value for f32 {}
#[expect(unsafe_code, reason = "plain numbers")]
// SAFETY: plain numbers are.
unsafe impl Value for i32 {}
#[expect(unsafe_code, reason = "plain numbers")]
// SAFETY: plain numbers are.
unsafe impl Value for u8 {}
#[expect(unsafe_code, reason = "plain numbers")]
// SAFETY: plain numbers are.
unsafe impl Value for u64 {}

/// `len` values on the device.
pub(crate) struct Buffer<T> {
    gpu: Arc<Gpu>,
    slice: CudaSlice<u8>,
    pointer: CUdeviceptr,
    purpose: Use,
    len: usize,
    values: PhantomData<T>,
}

impl<T: Value> Buffer<T> {
    /// With nothing known in it.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(crate) fn new(gpu: &Arc<Gpu>, purpose: Use, len: usize) -> Result<Self, BackendError> {
        let bytes = len * size_of::<T>();
        let refused = |error: result::DriverError| match error.0 {
            CUresult::CUDA_ERROR_OUT_OF_MEMORY => BackendError::DeviceMemory {
                wanted: bytes as u64,
                free: gpu.free_bytes(),
            },
            _ => refusal("taking memory", error),
        };
        #[expect(unsafe_code, reason = "the memory holds whatever it held before")]
        // SAFETY: any bytes are values (`Value`), and every kernel writes its output before another reads it.
        let slice = unsafe { gpu.stream().alloc::<u8>(bytes.max(1)) }.map_err(refused)?;
        gpu.count_allocation(purpose, bytes as u64);
        let pointer = slice.device_ptr(gpu.stream()).0;
        Ok(Self {
            gpu: Arc::clone(gpu),
            slice,
            pointer,
            purpose,
            len,
            values: PhantomData,
        })
    }

    /// All zeros.
    pub(crate) fn zeros(gpu: &Arc<Gpu>, purpose: Use, len: usize) -> Result<Self, BackendError> {
        let buffer = Self::new(gpu, purpose, len)?;
        buffer.fill(0)?;
        Ok(buffer)
    }

    /// A copy of values of this machine.
    pub(crate) fn of(gpu: &Arc<Gpu>, purpose: Use, values: &[T]) -> Result<Self, BackendError> {
        let mut buffer = Self::new(gpu, purpose, values.len())?;
        buffer.upload(values)?;
        Ok(buffer)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn bytes(&self) -> u64 {
        (self.len * size_of::<T>()) as u64
    }

    /// The device it is on.
    pub(crate) fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// Its address on the device.
    pub(crate) fn pointer(&self) -> CUdeviceptr {
        self.pointer
    }

    /// The address of value `index`.
    pub(crate) fn at(&self, index: usize) -> CUdeviceptr {
        debug_assert!(index <= self.len);
        self.pointer + (index * size_of::<T>()) as u64
    }

    /// Sets every byte.
    pub(crate) fn fill(&self, byte: u8) -> Result<(), BackendError> {
        let bytes = self.len * size_of::<T>();
        if bytes == 0 {
            return Ok(());
        }
        self.gpu.bind()?;
        #[expect(unsafe_code, reason = "a call of C")]
        // SAFETY: the buffer has so many bytes.
        unsafe { result::memset_d8_async(self.pointer, byte, bytes, self.gpu.stream().cu_stream()) }
            .map_err(|error| refusal("filling memory", error))
    }

    /// Copies values to its beginning.
    pub(crate) fn upload(&mut self, values: &[T]) -> Result<(), BackendError> {
        debug_assert!(values.len() <= self.len);
        let values = &values[..values.len().min(self.len)];
        if values.is_empty() {
            return Ok(());
        }
        self.gpu.bind()?;
        #[expect(unsafe_code, reason = "a call of C")]
        // SAFETY: the buffer has room for the values, which are ordinary memory: the driver has read them when it returns.
        unsafe { result::memcpy_htod_async(self.pointer, values, self.gpu.stream().cu_stream()) }
            .map_err(|error| refusal("copying to the device", error))
    }

    /// Copies `count` values from `from` on back, and waits for them.
    pub(crate) fn download(&self, from: usize, count: usize) -> Result<Vec<T>, BackendError> {
        let mut values = vec![T::default(); count];
        self.download_to(from, &mut values)?;
        Ok(values)
    }

    /// Copies the values from `from` on back, and waits for them.
    pub(crate) fn download_to(&self, from: usize, values: &mut [T]) -> Result<(), BackendError> {
        debug_assert!(from + values.len() <= self.len);
        if values.is_empty() {
            return Ok(());
        }
        self.gpu.bind()?;
        let stream = self.gpu.stream().cu_stream();
        #[expect(unsafe_code, reason = "a call of C")]
        // SAFETY: the buffer has so many values behind `from`; `wait` comes before anyone reads or frees the target.
        unsafe { result::memcpy_dtoh_async(values, self.at(from), stream) }
            .map_err(|error| refusal("copying from the device", error))?;
        self.gpu.wait()
    }

    /// Copies `count` values of another buffer, from `from` on, to the beginning of this one.
    pub(crate) fn copy_from(
        &mut self,
        other: &Self,
        from: usize,
        count: usize,
    ) -> Result<(), BackendError> {
        debug_assert!(count <= self.len && from + count <= other.len);
        let bytes = count * size_of::<T>();
        if bytes == 0 {
            return Ok(());
        }
        self.gpu.bind()?;
        let stream = self.gpu.stream().cu_stream();
        #[expect(unsafe_code, reason = "a call of C")]
        // SAFETY: both buffers have so many bytes.
        unsafe { result::memcpy_dtod_async(self.pointer, other.at(from), bytes, stream) }
            .map_err(|error| refusal("copying on the device", error))
    }
}

/// A number that the device writes into this machine's memory: to copy one takes longer than many a launch.
pub(crate) struct Mailbox {
    gpu: Arc<Gpu>,
    slice: PinnedHostSlice<i32>,
    pointer: CUdeviceptr,
}

impl Mailbox {
    /// Holds zero.
    ///
    /// # Errors
    /// When the driver refuses such memory.
    pub(crate) fn new(gpu: &Arc<Gpu>) -> Result<Self, BackendError> {
        let refused = |error| refusal("taking memory both can see", error);
        #[expect(unsafe_code, reason = "calls of C")]
        // SAFETY: the memory is this one's alone, is written before it is read, and is mapped, as it was asked for.
        let (slice, pointer) = unsafe {
            let slice = gpu
                .context()
                .alloc_pinned_with_flags::<i32>(1, CU_MEMHOSTALLOC_DEVICEMAP)
                .map_err(refused)?;
            let here = slice.as_ptr().map_err(refused)?.cast_mut();
            here.write_volatile(0);
            let mut pointer = 0;
            cuMemHostGetDevicePointer_v2(&raw mut pointer, here.cast(), 0)
                .result()
                .map_err(refused)?;
            (slice, pointer)
        };
        Ok(Self {
            gpu: Arc::clone(gpu),
            slice,
            pointer,
        })
    }

    /// Its address on the device.
    pub(crate) fn pointer(&self) -> CUdeviceptr {
        self.pointer
    }

    /// What was written last, once all that was asked for is done.
    pub(crate) fn read(&self) -> Result<i32, BackendError> {
        self.gpu.bind()?;
        self.gpu.wait()?;
        let here = self
            .slice
            .as_ptr()
            .map_err(|error| refusal("reading what the device wrote", error))?;
        #[expect(unsafe_code, reason = "the device writes behind the compiler's back")]
        // SAFETY: the memory holds one number, and nothing the device was asked for is still under way.
        Ok(unsafe { here.read_volatile() })
    }
}

impl Buffer<f32> {
    /// A copy of an array of this machine, row-major.
    pub(crate) fn of_array<D: Dimension>(
        gpu: &Arc<Gpu>,
        purpose: Use,
        values: ArrayView<'_, f32, D>,
    ) -> Result<Self, BackendError> {
        match values.as_slice() {
            Some(values) => Self::of(gpu, purpose, values),
            None => Self::of(gpu, purpose, &values.iter().copied().collect::<Vec<_>>()),
        }
    }

    /// Copies an array to its beginning, row-major.
    pub(crate) fn upload_array(&mut self, values: &Array2<f32>) -> Result<(), BackendError> {
        match values.as_slice() {
            Some(values) => self.upload(values),
            None => self.upload(&values.iter().copied().collect::<Vec<_>>()),
        }
    }

    /// `rows` · `columns` values as a matrix of this machine.
    pub(crate) fn matrix(&self, rows: usize, columns: usize) -> Result<Array2<f32>, BackendError> {
        let values = self.download(0, rows * columns)?;
        Ok(Array2::from_shape_fn((rows, columns), |(i, j)| {
            values[i * columns + j]
        }))
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        // The slice frees itself; its bytes are no longer this program's.
        let bytes = self.len * size_of::<T>();
        debug_assert!(self.slice.num_bytes() >= bytes);
        self.gpu.count_release(self.purpose, bytes as u64);
    }
}
