//! The device at work: its context, one stream, the kernels that have been loaded, and memory that is counted.

use std::collections::HashMap;
use std::ffi::c_void;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{
    CUdevice_attribute, CUfunction_attribute, CUlaunchAttribute, CUlaunchAttributeID,
    CUlaunchAttributeValue, CUlaunchConfig, CUmemPool_attribute, CUresult, cuLaunchKernelEx,
};
use cudarc::driver::{CudaContext, CudaFunction, CudaModule, CudaStream};
use cudarc::nvrtc::Ptx;
use mambascope_core::backend::BackendError;

use crate::device;
use crate::library::{Library, SplitProduct};
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
    /// Whether it may begin while the launch before it is still at work; the kernel itself waits for what it needs
    /// (`wait_for_previous` in common.cuh). Heard where the chip and the way it was compiled allow it.
    pub overlaps: bool,
    /// Whether all blocks have to be there at once, for they wait for each other.
    pub stays: bool,
}

impl Grid {
    /// Blocks in a row, threads in a row, no shared memory asked for.
    pub(crate) fn line(blocks: usize, threads: usize) -> Self {
        Self {
            blocks: [blocks, 1, 1],
            threads: [threads, 1, 1],
            shared: 0,
            overlaps: false,
            stays: false,
        }
    }
}

/// What a kernel takes: a structure laid out as its twin in CUDA C.
///
/// # Safety
/// The structure is `repr(C)`, without holes, and the same, field by field, as the one the kernel names.
#[expect(unsafe_code, reason = "the compiler of the kernel cannot check it")]
pub(crate) unsafe trait KernelArgs {}

/// What has been loaded: a module a file, and its kernels by name.
#[derive(Default)]
struct Loaded {
    modules: HashMap<Source, Arc<CudaModule>>,
    functions: HashMap<Kernel, Function>,
    /// How each file's kernels were made.
    origins: HashMap<Source, Origin>,
}

/// A loaded kernel.
#[derive(Clone)]
struct Function {
    function: CudaFunction,
    /// Whether it was compiled with the instructions that let launches overlap.
    knows_to_wait: bool,
}

/// How kernels were made.
#[derive(Clone)]
struct Origin {
    /// For this very chip.
    is_native: bool,
    /// For a reader.
    text: String,
}

/// The first chip, by its compute capability without the point, whose launches can overlap, and that has a copy engine.
const HOPPER: i32 = 90;
/// The first driver, by its CUDA (1000 · major + 10 · minor), that takes such launches into a graph.
const FIRST_TO_CAPTURE_OVERLAPS: i32 = 12_030;

/// What a plan needs to know of a device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chip {
    pub multiprocessors: usize,
    /// Bytes of shared memory that a block can have.
    pub shared_limit: usize,
}

#[cfg(test)]
impl Chip {
    /// An H100 or an H200.
    pub(crate) const HOPPER: Self = Self {
        multiprocessors: 132,
        shared_limit: 227 << 10,
    };
}

/// Asks that a launch may begin before the one before it is done.
fn overlap_attribute() -> CUlaunchAttribute {
    CUlaunchAttribute {
        id: CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
        pad: [0; 4],
        value: CUlaunchAttributeValue {
            programmaticStreamSerializationAllowed: 1,
        },
    }
}

/// Asks that all blocks of a launch be there at once.
fn stay_attribute() -> CUlaunchAttribute {
    CUlaunchAttribute {
        id: CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_COOPERATIVE,
        pad: [0; 4],
        value: CUlaunchAttributeValue { cooperative: 1 },
    }
}

/// What all streams of a device share.
struct Device {
    /// Whether NVRTC and cuBLAS are looked for.
    has_toolkit: bool,
    /// Looked for when a product first asks; before the context, so that it goes first.
    library: OnceLock<Option<Mutex<Library>>>,
    context: Arc<CudaContext>,
    loaded: Mutex<Loaded>,
    /// Its compute capability, without the point.
    capability: u32,
    /// Whether launches that overlap can be captured.
    can_overlap: bool,
    /// Whether it knows launches whose blocks are all there at once.
    can_keep_blocks: bool,
    chip: Chip,
    /// By [`Use`].
    in_use: [AtomicU64; 3],
    /// Recordings of a token's pass that other work ended.
    ended_recordings: AtomicU64,
}

/// A device, ready to compute. What is asked for through it runs on one stream, in the order it was asked for.
pub struct Gpu {
    device: Arc<Device>,
    stream: Arc<CudaStream>,
}

/// What memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Of models, shared by their sessions.
    Weights,
    /// What sessions remember.
    State,
    /// Buffers of a chunk on its way, and what a session keeps books with.
    Activations,
}

impl Gpu {
    /// Starts the first device.
    ///
    /// # Errors
    /// What the driver said.
    pub fn start() -> Result<Arc<Self>, BackendError> {
        Self::start_with(true)
    }

    /// The same as on a machine where there is a driver and nothing else: kernels from the committed PTX, products by this
    /// crate's own.
    ///
    /// # Errors
    /// What the driver said.
    pub fn start_with_driver_alone() -> Result<Arc<Self>, BackendError> {
        Self::start_with(false)
    }

    fn start_with(has_toolkit: bool) -> Result<Arc<Self>, BackendError> {
        if let Some(reason) = device::unavailable_reason() {
            return Err(BackendError::Device(reason));
        }
        let started = catch_unwind(|| Self::start_first(has_toolkit));
        started
            .unwrap_or_else(|_| {
                Err(BackendError::Device(
                    "The NVIDIA driver on this machine is too old or damaged: its library lacks functions this program needs."
                        .to_owned(),
                ))
            })
            .map(Arc::new)
    }

    fn start_first(has_toolkit: bool) -> Result<Self, BackendError> {
        let starting = |error| refusal("starting the device", error);
        let context = CudaContext::new(0).map_err(starting)?;
        #[expect(
            unsafe_code,
            reason = "buffers need no events between streams where none crosses"
        )]
        // SAFETY: a buffer is used on its own stream alone; weights, which several read, are waited for when they are copied,
        // and a session waits for its work before it lets go of them.
        unsafe {
            context.disable_event_tracking();
        }
        let stream = context.new_stream().map_err(starting)?;
        let (major, minor) = context.compute_capability().map_err(starting)?;
        let attribute = |which| context.attribute(which).map_err(starting);
        use CUdevice_attribute as Attribute;
        let chip = Chip {
            multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?
                as usize,
            shared_limit: attribute(
                Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
            )? as usize,
        };
        let can_keep_blocks = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH)? == 1;
        let device = Device {
            has_toolkit,
            library: OnceLock::new(),
            context,
            loaded: Mutex::default(),
            capability: (10 * major + minor) as u32,
            can_overlap: device::cuda_version().map_err(starting)? >= FIRST_TO_CAPTURE_OVERLAPS
                && 10 * major + minor >= HOPPER,
            can_keep_blocks,
            chip,
            in_use: Default::default(),
            ended_recordings: Default::default(),
        };
        Ok(Self {
            device: Arc::new(device),
            stream,
        })
    }

    /// The same device with a stream of its own, so that a session can be captured while another computes.
    ///
    /// # Errors
    /// What the driver said.
    pub fn fork(&self) -> Result<Arc<Self>, BackendError> {
        let stream = self.device.context.new_stream();
        Ok(Arc::new(Self {
            device: Arc::clone(&self.device),
            stream: stream.map_err(|error| refusal("making a stream", error))?,
        }))
    }

    pub(crate) fn chip(&self) -> Chip {
        self.device.chip
    }

    /// Whether a kernel compiled for this chip may have tiles brought by the copy engine.
    pub(crate) fn has_copy_engine(&self) -> bool {
        self.device.capability >= HOPPER as u32
    }

    /// How many multiprocessors it has.
    pub(crate) fn multiprocessors(&self) -> usize {
        self.device.chip.multiprocessors
    }

    fn loaded(&self) -> MutexGuard<'_, Loaded> {
        let loaded = &self.device.loaded;
        loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file's kernels, loaded when they are first asked for.
    fn module(&self, loaded: &mut Loaded, source: Source) -> Result<Arc<CudaModule>, BackendError> {
        if let Some(module) = loaded.modules.get(&source) {
            return Ok(Arc::clone(module));
        }
        let (module, origin) = self.load(source)?;
        loaded.modules.insert(source, Arc::clone(&module));
        loaded.origins.insert(source, origin);
        Ok(module)
    }

    /// Asks cuBLAS for a product; whether there is a cuBLAS to ask.
    pub(crate) fn ask_library(&self, product: &SplitProduct) -> Result<bool, BackendError> {
        self.bind()?;
        let library = self.device.library.get_or_init(|| {
            let library = self.device.has_toolkit.then(Library::find);
            library.flatten().map(Mutex::new)
        });
        let Some(library) = library else {
            return Ok(false);
        };
        let library = library.lock().unwrap_or_else(PoisonError::into_inner);
        library.run(self.stream.cu_stream(), product)?;
        Ok(true)
    }

    /// Who makes the products of many tokens with weights in bf16; nothing before the first.
    pub(crate) fn library_note(&self) -> Option<&'static str> {
        self.device.library.get().map(|library| match library {
            Some(_) => "large products in bf16: cuBLAS",
            None => "large products in bf16: matmul, for no cuBLAS was found that starts",
        })
    }

    pub(crate) fn count_ended_recording(&self) {
        self.device.ended_recordings.fetch_add(1, Ordering::Relaxed);
    }

    /// How many tokens were read with a launch for each kernel in place of one for all; nothing where none was.
    pub(crate) fn recording_note(&self) -> Option<String> {
        let count = self.device.ended_recordings.load(Ordering::Relaxed);
        (count > 0).then(|| format!("recordings of a token's pass that other work ended: {count}"))
    }

    /// Bytes this program holds on the device for a purpose.
    pub fn bytes_of(&self, purpose: Use) -> u64 {
        self.device.in_use[purpose as usize].load(Ordering::Relaxed)
    }

    /// Bytes the driver's pool has given out to this program, its rounding included.
    pub(crate) fn pool_bytes(&self) -> Result<u64, BackendError> {
        let refused = |error| refusal("asking for the memory in use", error);
        self.bind()?;
        let mut bytes = 0_u64;
        #[expect(unsafe_code, reason = "calls of C that take raw handles")]
        // SAFETY: the handles are the device's own; the attribute is a u64, and so is what it is written to.
        unsafe {
            let pool = result::device::get_default_mem_pool(self.device.context.cu_device())
                .map_err(refused)?;
            let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT;
            result::mem_pool::get_attribute(pool, attribute, (&raw mut bytes).cast())
                .map_err(refused)?;
        }
        Ok(bytes)
    }

    pub(crate) fn context(&self) -> &Arc<CudaContext> {
        &self.device.context
    }

    pub(crate) fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    pub(crate) fn count_allocation(&self, purpose: Use, bytes: u64) {
        self.device.in_use[purpose as usize].fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn count_release(&self, purpose: Use, bytes: u64) {
        self.device.in_use[purpose as usize].fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Makes the device the calling thread's: sessions may move between threads.
    pub(crate) fn bind(&self) -> Result<(), BackendError> {
        self.device
            .context
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
        self.device
            .context
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
        let mut attributes = Vec::new();
        if grid.overlaps && function.knows_to_wait {
            attributes.push(overlap_attribute());
        }
        if grid.stays {
            attributes.push(stay_attribute());
        }
        let config = CUlaunchConfig {
            gridDimX: blocks[0],
            gridDimY: blocks[1],
            gridDimZ: blocks[2],
            blockDimX: threads[0],
            blockDimY: threads[1],
            blockDimZ: threads[2],
            sharedMemBytes: grid.shared as u32,
            hStream: self.stream.cu_stream(),
            attrs: attributes.as_mut_ptr(),
            numAttrs: attributes.len() as u32,
        };
        #[expect(unsafe_code, reason = "launching a kernel is a call of C")]
        // SAFETY: the arguments are the structure the kernel takes (`KernelArgs`), copied during the call; their pointers are
        // to buffers of this device, whose release is ordered behind the kernel on the same stream. The configuration's
        // pointer is to attributes that outlive the call.
        let launched = unsafe {
            cuLaunchKernelEx(
                &raw const config,
                function.function.cu_function(),
                arguments.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        };
        launched
            .result()
            .map_err(|error| refusal(&format!("launching {}", kernel.1), error))
    }

    /// Whether a kernel that needs Hopper's instructions was compiled with them, and all blocks of a launch have room at once.
    pub(crate) fn can_stay_on_hopper(
        &self,
        kernel: Kernel,
        grid: Grid,
    ) -> Result<bool, BackendError> {
        // An older chip need not load it.
        if !self.device.can_overlap {
            return Ok(false);
        }
        self.bind()?;
        Ok(self.function(kernel)?.knows_to_wait && self.can_stay(kernel, grid)?)
    }

    /// Whether all blocks of a launch have room at once, however the kernel was compiled.
    pub(crate) fn can_stay(&self, kernel: Kernel, grid: Grid) -> Result<bool, BackendError> {
        if !self.device.can_keep_blocks {
            return Ok(false);
        }
        self.bind()?;
        let function = self.function(kernel)?;
        let asking = |error| refusal(&format!("asking how often {} fits", kernel.1), error);
        let threads = grid.threads.iter().product::<usize>() as u32;
        let fitting = function
            .function
            .occupancy_max_active_blocks_per_multiprocessor(threads, grid.shared, None)
            .map_err(asking)? as usize;
        let blocks = grid.blocks.iter().product::<usize>();
        Ok(blocks <= fitting * self.multiprocessors())
    }

    /// The kernel, compiled and loaded when it is first asked for.
    fn function(&self, kernel: Kernel) -> Result<Function, BackendError> {
        let mut loaded = self.loaded();
        if let Some(function) = loaded.functions.get(&kernel) {
            return Ok(function.clone());
        }
        let Kernel(source, name) = kernel;
        let module = self.module(&mut loaded, source)?;
        let function = module
            .load_function(name)
            .map_err(|error| refusal(&format!("finding the kernel {name}"), error))?;
        self.allow_shared_memory(&function, name)?;
        let is_native = loaded
            .origins
            .get(&source)
            .is_some_and(|origin| origin.is_native);
        let function = Function {
            function,
            knows_to_wait: is_native && self.device.can_overlap,
        };
        loaded.functions.insert(kernel, function.clone());
        Ok(function)
    }

    /// Lets a kernel ask for as much shared memory as the device has for a block.
    fn allow_shared_memory(&self, function: &CudaFunction, name: &str) -> Result<(), BackendError> {
        let fixed = function.shared_size_bytes().unwrap_or(0);
        let rest = i32::try_from(self.device.chip.shared_limit).unwrap_or(i32::MAX) - fixed;
        function
            .set_attribute(
                CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                rest,
            )
            .map_err(|error| refusal(&format!("preparing the kernel {name}"), error))
    }

    /// A file's kernels, for this chip where NVRTC is, and otherwise from the committed PTX.
    fn load(&self, source: Source) -> Result<(Arc<CudaModule>, Origin), BackendError> {
        let compiled = if self.device.has_toolkit {
            source::compile(&source.text(), self.device.capability)
        } else {
            Err("no toolkit was looked for".to_owned())
        };
        let own = compiled.and_then(|ptx| {
            let module = self.device.context.load_module(Ptx::from_src(ptx));
            module.map_err(|error| format!("the driver refused what NVRTC made ({error})"))
        });
        let reason = match own {
            Ok(module) => {
                let origin = Origin {
                    is_native: true,
                    text: format!("NVRTC, for compute_{}", self.device.capability),
                };
                return Ok((module, origin));
            }
            Err(reason) => reason,
        };
        let module = self
            .device
            .context
            .load_module(Ptx::from_src(source.committed_ptx()))
            .map_err(|error| {
                refusal(&format!("loading the kernels of {}", source.name()), error)
            })?;
        let origin = Origin {
            is_native: false,
            text: format!("committed PTX: {reason}"),
        };
        Ok((module, origin))
    }

    /// How the kernels loaded so far were made, a line a file.
    pub fn origins(&self) -> Vec<(&'static str, String)> {
        let loaded = self.loaded();
        let mut origins: Vec<_> = loaded
            .origins
            .iter()
            .map(|(source, origin)| (source.name(), origin.text.clone()))
            .collect();
        origins.sort();
        origins
    }
}

/// The driver's refusal, as a sentence with what to do.
pub(crate) fn refusal(doing: &str, error: DriverError) -> BackendError {
    let mut said = error.error_string().map_or_else(
        |_| format!("{:?}", error.0),
        |text| text.to_string_lossy().into_owned(),
    );
    let advice = match error.0 {
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
            // How much it needs the driver does not say; before the device has started, nor what there is.
            if let Ok((free, _)) = result::mem_get_info() {
                said += &format!(" ({free} bytes are free)");
            }
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
