//! The device at work: its context, one stream, the kernels that have been loaded, and memory that is counted.

use std::collections::HashMap;
use std::ffi::c_void;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{
    CUdevice_attribute, CUfunction_attribute, CUmemPool_attribute, CUresult,
};
use cudarc::driver::{CudaContext, CudaFunction, CudaModule, CudaStream};
use cudarc::nvrtc::Ptx;
use mambascope_core::backend::BackendError;

use crate::device;
use crate::source::{self, Source};

/// A kernel: its file and its name there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kernel(pub Source, pub &'static str);

/// How many threads, in blocks, and bytes of shared memory for each block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    pub blocks: [usize; 3],
    pub threads: [usize; 3],
    pub shared: usize,
}

impl Grid {
    /// Blocks in a row, threads in a row, no shared memory asked for.
    pub(crate) fn line(blocks: usize, threads: usize) -> Self {
        Self {
            blocks: [blocks, 1, 1],
            threads: [threads, 1, 1],
            shared: 0,
        }
    }
}

/// What a kernel takes: a structure laid out as its twin in CUDA C.
///
/// # Safety
/// The structure is `repr(C)`, without holes, and the same, field by field, as the one the kernel names.
#[expect(unsafe_code, reason = "the compiler of the kernel cannot check it")]
pub(crate) unsafe trait KernelArgs {}

/// Tells each other's modules and functions apart by name.
#[derive(Default)]
struct Loaded {
    modules: HashMap<Source, Arc<CudaModule>>,
    functions: HashMap<Kernel, CudaFunction>,
    /// How each file's kernels were made.
    origins: HashMap<Source, String>,
}

/// A device, ready to compute. Everything runs on one stream, in the order it was asked for.
pub struct Gpu {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    loaded: Mutex<Loaded>,
    turn: Mutex<()>,
    chip: String,
    multiprocessors: usize,
    shared_limit: usize,
    /// By [`Use`].
    in_use: [AtomicU64; 3],
}

/// What memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Of models, shared by their sessions.
    Weights,
    /// What sessions remember.
    State,
    /// Buffers of a chunk on its way.
    Activations,
}

impl Gpu {
    /// Starts the first device.
    ///
    /// # Errors
    /// What the driver said.
    pub fn start() -> Result<Arc<Self>, BackendError> {
        if let Some(reason) = device::unavailable_reason() {
            return Err(BackendError::Device(reason));
        }
        let started = catch_unwind(Self::start_first);
        started
            .unwrap_or_else(|_| {
                Err(BackendError::Device(
                    "The NVIDIA driver on this machine is too old or damaged: its library lacks functions this program needs."
                        .to_owned(),
                ))
            })
            .map(Arc::new)
    }

    fn start_first() -> Result<Self, BackendError> {
        let starting = |error| refusal("starting the device", error);
        let context = CudaContext::new(0).map_err(starting)?;
        #[expect(
            unsafe_code,
            reason = "events between streams are for programs with several; this one has one"
        )]
        // SAFETY: all work goes through the one stream made below.
        unsafe {
            context.disable_event_tracking();
        }
        let stream = context.new_stream().map_err(starting)?;
        let (major, minor) = context.compute_capability().map_err(starting)?;
        let attribute = |which| context.attribute(which).map_err(starting);
        use CUdevice_attribute as Attribute;
        let multiprocessors =
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as usize;
        let shared_limit =
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)? as usize;
        Ok(Self {
            stream,
            context,
            loaded: Mutex::default(),
            turn: Mutex::default(),
            chip: format!("{major}{minor}"),
            multiprocessors,
            shared_limit,
            in_use: Default::default(),
        })
    }

    /// How many multiprocessors it has.
    pub(crate) fn multiprocessors(&self) -> usize {
        self.multiprocessors
    }

    /// Bytes of shared memory a block can have.
    pub(crate) fn shared_limit(&self) -> usize {
        self.shared_limit
    }

    /// Bytes this program holds on the device for a purpose.
    pub fn bytes_of(&self, purpose: Use) -> u64 {
        self.in_use[purpose as usize].load(Ordering::Relaxed)
    }

    /// Bytes the driver's pool has given out to this program, its rounding included.
    pub(crate) fn pool_bytes(&self) -> Result<u64, BackendError> {
        let refused = |error| refusal("asking for the memory in use", error);
        self.bind()?;
        let mut bytes = 0_u64;
        #[expect(unsafe_code, reason = "calls of C that take raw handles")]
        // SAFETY: the handles are the device's own; the attribute is a u64, and so is what it is written to.
        unsafe {
            let pool =
                result::device::get_default_mem_pool(self.context.cu_device()).map_err(refused)?;
            let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT;
            result::mem_pool::get_attribute(pool, attribute, (&raw mut bytes).cast())
                .map_err(refused)?;
        }
        Ok(bytes)
    }

    pub(crate) fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    pub(crate) fn count_allocation(&self, purpose: Use, bytes: u64) {
        self.in_use[purpose as usize].fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn count_release(&self, purpose: Use, bytes: u64) {
        self.in_use[purpose as usize].fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Held while a pass is asked for or captured: a launch by another thread in between would be captured with it.
    pub(crate) fn take_turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the device the calling thread's: sessions may move between threads.
    pub(crate) fn bind(&self) -> Result<(), BackendError> {
        self.context
            .bind_to_thread()
            .map_err(|error| refusal("taking up the device", error))
    }

    /// Waits for everything asked for so far.
    ///
    /// # Errors
    /// Also those of work that was only asked for before.
    pub(crate) fn wait(&self) -> Result<(), BackendError> {
        self.stream
            .synchronize()
            .map_err(|error| refusal("waiting for the device", error))
    }

    /// Bytes the device says are free.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.context
            .mem_get_info()
            .map_or(0, |(free, _)| free as u64)
    }

    /// Asks for a kernel to run, after all that was asked for before.
    pub(crate) fn launch<A: KernelArgs>(
        &self,
        kernel: Kernel,
        grid: Grid,
        args: &A,
    ) -> Result<(), BackendError> {
        self.bind()?;
        let function = self.function(kernel)?;
        let [blocks, threads] = [grid.blocks, grid.threads].map(|of| of.map(|n| n as u32));
        let mut arguments = [std::ptr::from_ref(args).cast_mut().cast::<c_void>()];
        #[expect(unsafe_code, reason = "launching a kernel is a call of C")]
        // SAFETY: the arguments are the structure the kernel takes (`KernelArgs`), copied during the call; their pointers are
        // to buffers of this device, whose release is ordered behind the kernel on the same stream.
        let launched = unsafe {
            result::launch_kernel(
                function.cu_function(),
                blocks.into(),
                threads.into(),
                grid.shared as u32,
                self.stream.cu_stream(),
                &mut arguments,
            )
        };
        launched.map_err(|error| refusal(&format!("launching {}", kernel.1), error))
    }

    /// The kernel, compiled and loaded when it is first asked for.
    fn function(&self, kernel: Kernel) -> Result<CudaFunction, BackendError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = loaded.functions.get(&kernel) {
            return Ok(function.clone());
        }
        let Kernel(source, name) = kernel;
        let module = match loaded.modules.get(&source) {
            Some(module) => Arc::clone(module),
            None => {
                let (module, origin) = self.load(source)?;
                loaded.modules.insert(source, Arc::clone(&module));
                loaded.origins.insert(source, origin);
                module
            }
        };
        let function = module
            .load_function(name)
            .map_err(|error| refusal(&format!("finding the kernel {name}"), error))?;
        self.allow_shared_memory(&function, name)?;
        loaded.functions.insert(kernel, function.clone());
        Ok(function)
    }

    /// Lets a kernel ask for as much shared memory as the device has for a block.
    fn allow_shared_memory(&self, function: &CudaFunction, name: &str) -> Result<(), BackendError> {
        let fixed = function.shared_size_bytes().unwrap_or(0);
        let rest = i32::try_from(self.shared_limit).unwrap_or(i32::MAX) - fixed;
        function
            .set_attribute(
                CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                rest,
            )
            .map_err(|error| refusal(&format!("preparing the kernel {name}"), error))
    }

    /// A file's kernels, for this chip where NVRTC is, and otherwise from the committed PTX.
    fn load(&self, source: Source) -> Result<(Arc<CudaModule>, String), BackendError> {
        let own = source::compile(&source.text(), &self.chip).and_then(|ptx| {
            let module = self.context.load_module(Ptx::from_src(ptx));
            module.map_err(|error| format!("the driver refused what NVRTC made ({error})"))
        });
        let reason = match own {
            Ok(module) => {
                return Ok((module, format!("NVRTC, for compute_{}", self.chip)));
            }
            Err(reason) => reason,
        };
        let module = self
            .context
            .load_module(Ptx::from_src(source.committed_ptx()))
            .map_err(|error| {
                refusal(&format!("loading the kernels of {}", source.name()), error)
            })?;
        Ok((module, format!("committed PTX: {reason}")))
    }

    /// How the kernels loaded so far were made, a line a file.
    pub fn origins(&self) -> Vec<(&'static str, String)> {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let mut origins: Vec<_> = loaded
            .origins
            .iter()
            .map(|(source, origin)| (source.name(), origin.clone()))
            .collect();
        origins.sort();
        origins
    }
}

/// The driver's refusal, as a sentence with what to do.
pub(crate) fn refusal(doing: &str, error: DriverError) -> BackendError {
    let said = error.error_string().map_or_else(
        |_| format!("{:?}", error.0),
        |text| text.to_string_lossy().into_owned(),
    );
    let advice = match error.0 {
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
            "Close other programs that use it, or open a smaller model."
        }
        CUresult::CUDA_ERROR_INVALID_PTX
        | CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION
        | CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU => {
            "Install a newer NVIDIA driver, or choose a CPU backend."
        }
        _ => {
            "Start the program again; if it happens again, choose a CPU backend and report the sentence."
        }
    };
    BackendError::Device(format!("CUDA failed while {doing}: {said}. {advice}"))
}
