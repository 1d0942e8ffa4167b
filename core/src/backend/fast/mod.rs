//! The quick backend: the naive one's results, from blocked matrix products, vector instructions and threads.
//!
//! What differs from [`super::naive`]: prefill runs every stage for a whole chunk of tokens, so that the projections are
//! matrix products; the scan holds sixteen slots of a block of channels in registers; exp is a polynomial (about one unit
//! in the last place); all buffers live in the session, so that a decoded token allocates nothing
//! (the cache of attention and its scratch double when they are full).

mod attention;
mod bf16;
mod conv;
mod feed_forward;
mod limits;
mod mamba;
mod mamba2;
mod math;
mod matmul;
mod scan;
mod session;
mod ssd;
mod tile;
mod vector;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ndarray::{Array2, Axis};

use self::bf16::Instruction;
use self::conv::Conv;
pub use self::limits::{Cost, Limits};
use self::math::activate_delta;
pub(crate) use self::math::{dot, mean_decay, recur};
use self::matmul::{ProductScratch, Products, Rows, linear};
use self::scan::scan_channels;
pub(crate) use self::scan::{Channels, Coefficient, run_kernel};
use self::session::FastSession;
use super::{Backend, BackendError, Session};
use crate::model::Model;
use crate::scan::{Projection, ScanInput, ScanOutput, SsdInput, SsdOutput, silu, ssd_sequential};
use crate::tensor::Tensor;
use crate::trace::{Probe, Site, Tap};

/// Threads shared by all sessions of a backend.
#[derive(Clone)]
pub(crate) struct Threads {
    pool: Arc<rayon::ThreadPool>,
    count: usize,
}

impl Threads {
    /// Runs `work` where its parallel parts find the threads; on the caller's own thread when there is only one.
    fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        if self.count == 1 {
            work()
        } else {
            self.pool.install(work)
        }
    }

    /// [`Threads::run`] for work of many short parallel parts.
    fn run_awake<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        if self.count == 1 {
            return work();
        }
        self.pool.install(|| {
            let done = AtomicBool::new(false);
            let leader = rayon::current_thread_index();
            let lead = || {
                let _at_the_end = Finish(&done);
                work()
            };
            rayon::join(lead, || stay_awake(self.count - 1, leader, &done)).0
        })
    }
}

/// Hands out pieces of work one at a time to `threads` threads: whoever is done takes the next, so that at the end nobody waits longer
/// than one piece takes. Shares cut beforehand leave a thread waiting for one that something else has disturbed.
fn hand_out<T: Send, W>(
    pieces: impl Iterator<Item = T> + Send,
    threads: usize,
    start: impl Fn() -> W + Sync,
    work: impl Fn(&mut W, T) + Sync,
) {
    let pieces = Mutex::new(pieces);
    let take = || {
        let mut pieces = pieces.lock().unwrap_or_else(PoisonError::into_inner);
        pieces.next()
    };
    let worker = || {
        let mut own = start();
        while let Some(piece) = take() {
            work(&mut own, piece);
        }
    };
    side_by_side(threads, &worker);
}

/// Runs `worker` once on each of `threads` threads, or fewer times where they are busy elsewhere.
fn side_by_side(threads: usize, worker: &(impl Fn() + Sync)) {
    if threads <= 1 {
        worker();
    } else {
        rayon::join(worker, || side_by_side(threads - 1, worker));
    }
}

/// Says that it is done when it goes, after a panic too: others wait for it.
struct Finish<'a>(&'a AtomicBool);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Keeps `count` threads looking for work until `done`: a thread that slept would wake up later than a product of one token takes.
fn stay_awake(count: usize, leader: Option<usize>, done: &AtomicBool) {
    let stay = || {
        // The thread that does the work would wait for itself.
        while rayon::current_thread_index() != leader && !done.load(Ordering::Acquire) {
            if rayon::yield_now() != Some(rayon::Yield::Executed) {
                std::hint::spin_loop();
            }
        }
    };
    match count {
        0 => {}
        1 => stay(),
        _ => {
            rayon::join(stay, || stay_awake(count - 1, leader, done));
        }
    }
}

/// When products of many tokens with bf16 weights may round what they multiply to bf16 too. Where the processor has an instruction
/// for that it is twice as quick; sums are f32 either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rounding {
    /// They are exact.
    Never,
    /// Large products of passes nobody watches: what is shown, recorded or compared is exact.
    #[default]
    Unwatched,
    /// All large products, to measure what rounding does.
    Always,
}

impl Rounding {
    /// Whether this processor has the instruction; without it nothing is rounded.
    pub fn is_available() -> bool {
        Instruction::available().is_some()
    }

    fn applies(self, tap: &dyn Tap, layers: usize) -> bool {
        let is_watched = || {
            let sites = (0..layers).flat_map(|i| Probe::ALL.map(|probe| Site::layer(i, probe)));
            let of_model = Probe::ALL.map(Site::model);
            of_model
                .into_iter()
                .chain(sites)
                .any(|site| tap.wants(site))
        };
        match self {
            Rounding::Never => false,
            Rounding::Unwatched => !is_watched(),
            Rounding::Always => true,
        }
    }
}

/// The quick backend.
pub struct FastBackend {
    threads: Threads,
    rounding: Rounding,
}

impl FastBackend {
    /// With so many threads; 0 means one for each core.
    ///
    /// # Errors
    /// When the system refuses the threads.
    pub fn new(threads: usize) -> Result<Self, BackendError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("fast-{i}"))
            .build()
            .map_err(|error| BackendError::Threads {
                threads,
                reason: error.to_string(),
            })?;
        let count = pool.current_num_threads();
        // Each has begun, so that none gets ready in the middle of a text.
        pool.broadcast(|_| ());
        Ok(Self {
            threads: Threads {
                pool: Arc::new(pool),
                count,
            },
            rounding: Rounding::default(),
        })
    }

    /// The same with another rule of rounding.
    pub fn with_rounding(self, rounding: Rounding) -> Self {
        Self { rounding, ..self }
    }

    /// x · Wᵀ on its own, `[l, o]`, for x `[l, i]` and a matrix `[o, i]` of as many columns; exact.
    pub fn product(&self, x_li: &Array2<f32>, weight_oi: &Tensor) -> Array2<f32> {
        let x_li = x_li.as_standard_layout();
        let rows = weight_oi.shape().first().copied().unwrap_or(0);
        let mut y_lo = Array2::zeros((x_li.nrows(), rows));
        if let (Some(x), Some(y)) = (x_li.as_slice(), y_lo.as_slice_mut()) {
            let x = Rows::whole(x, x_li.ncols());
            let how = Products {
                threads: self.threads.count,
                may_round: false,
            };
            let mut scratch = ProductScratch::default();
            self.threads
                .run(|| linear(y, x, weight_oi, None, &mut scratch, how));
        }
        y_lo
    }

    /// SiLU of the causal convolution of x `[l, d]` with weights `[d, 1, k]`, on its own and without a bias.
    pub fn convolution(&self, x_ld: &Array2<f32>, weight: &Tensor) -> Array2<f32> {
        let (tokens, channels) = x_ld.dim();
        let taps = weight.shape().last().copied().unwrap_or(0);
        let mut conv = Conv::new(weight, channels, taps);
        let mut padded = vec![0.0; conv.padded_len(tokens)];
        for (padded, x) in conv.pad(&mut padded).iter_mut().zip(x_ld) {
            *padded = *x;
        }
        let mut u_ld = Array2::zeros((tokens, channels));
        if let Some(u) = u_ld.as_slice_mut() {
            self.threads.run(|| conv.run(u, &padded, None));
        }
        u_ld
    }

    /// Threads it has.
    pub fn threads(&self) -> usize {
        self.threads.count
    }
}

impl Backend for FastBackend {
    fn name(&self) -> &'static str {
        "fast"
    }

    fn open(&mut self, model: &Arc<Model>) -> Result<Box<dyn Session>, BackendError> {
        model.widen_unreadable()?;
        let threads = self.threads.clone();
        Ok(Box::new(FastSession::new(model, threads, self.rounding)))
    }

    fn scan(&mut self, input: &ScanInput<'_, f32>) -> Result<ScanOutput<f32>, BackendError> {
        input.validate()?;
        let (tokens, d_inner, d_state) = input.dims();
        let mut delta_ld = input.delta_ld.as_standard_layout().into_owned();
        if let Some(bias_d) = input.delta_bias_d {
            delta_ld += &bias_d;
        }
        if input.delta_softplus {
            delta_ld.as_slice_mut().into_iter().for_each(activate_delta);
        }
        let u_ld = input.u_ld.as_standard_layout();
        let a_nd = input.a_dn.t().as_standard_layout().into_owned();
        let mut h_nd = input.initial_dn.map_or_else(
            || Array2::zeros((d_state, d_inner)),
            |h| h.t().as_standard_layout().into_owned(),
        );
        let mut y_ld = Array2::zeros((tokens, d_inner));
        let groups = least_common_multiple(group_count(&input.b), group_count(&input.c));
        let width = d_inner / groups;
        for group in 0..groups {
            let channels = ndarray::s![.., group * width..(group + 1) * width];
            let (b, c) = (
                coefficient(&input.b, group, groups),
                coefficient(&input.c, group, groups),
            );
            let part = Channels {
                u_ld: u_ld.slice(channels),
                delta_ld: delta_ld.slice(channels),
                a_nd: a_nd.slice(channels),
                b: b.as_coefficient(),
                c: c.as_coefficient(),
            };
            let (y, h) = (y_ld.slice_mut(channels), h_nd.slice_mut(channels));
            self.threads.run(|| scan_channels(&part, h, y, None));
        }
        if let Some(d_skip_d) = input.d_skip_d {
            y_ld += &(&u_ld * &d_skip_d);
        }
        if let Some(z_ld) = input.z_ld {
            y_ld *= &z_ld.mapv(silu);
        }
        Ok(ScanOutput {
            y_ld,
            last_dn: h_nd.t().as_standard_layout().into_owned(),
        })
    }

    fn ssd(
        &mut self,
        input: &SsdInput<'_, f32>,
        chunk: usize,
    ) -> Result<SsdOutput<f32>, BackendError> {
        input.validate()?;
        let (tokens, heads, head_dim, d_state) = input.dims();
        if tokens * heads * head_dim * d_state == 0 {
            // Nothing to cut into chunks; the skip may be all there is.
            return Ok(ssd_sequential(input, |_, _| ())?);
        }
        let threads = self.threads.count;
        Ok(self
            .threads
            .run(|| mamba2::standalone(input, chunk, threads)))
    }
}

/// B or C of one group, laid out for the kernel.
enum OwnedCoefficient {
    PerToken(Array2<f32>),
    PerChannel(Array2<f32>),
}

impl OwnedCoefficient {
    fn as_coefficient(&self) -> Coefficient<'_> {
        match self {
            OwnedCoefficient::PerToken(ln) => Coefficient::PerToken(ln.view()),
            OwnedCoefficient::PerChannel(nd) => Coefficient::PerChannel(nd.view()),
        }
    }
}

fn group_count(projection: &Projection<'_, f32>) -> usize {
    match projection {
        Projection::Selective(lgn) => lgn.dim().1,
        Projection::Constant(_) => 1,
    }
}

/// The part of B or C that channels `group` of `groups` read.
fn coefficient(projection: &Projection<'_, f32>, group: usize, groups: usize) -> OwnedCoefficient {
    match projection {
        Projection::Selective(lgn) => {
            let own = group * lgn.dim().1 / groups;
            OwnedCoefficient::PerToken(lgn.index_axis(Axis(1), own).to_owned())
        }
        Projection::Constant(dn) => {
            let width = dn.nrows() / groups;
            let rows = dn.slice(ndarray::s![group * width..(group + 1) * width, ..]);
            OwnedCoefficient::PerChannel(rows.t().as_standard_layout().into_owned())
        }
    }
}

fn least_common_multiple(a: usize, b: usize) -> usize {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    a / x * b
}
