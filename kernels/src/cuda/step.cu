// One token through a Mamba-1 block, in four launches; the first and the last are `matvec` (matmul.cu): norm + in_proj, and
// out_proj + residual. Between them:
//
//   step_select  u = silu(conv(x)), then dt, B, C = x_proj(u). A block for one row of x_proj; every block computes all of u,
//                which costs less than a launch that would write it first.
//   step_scan    the norms of dt, B and C where the family has them, D = softplus(W_dt dt + b), h = exp(D A) h + D B u,
//                y = (C h + skip u) silu(z), and the convolution's window moved on. Sixteen threads a channel.
//
// What bounds them is latency, not bytes: x_proj, dt_proj and the state of mamba-130m are 0.6 MB a block. So weights, window
// and state are asked for before x is there.
//
// Tried, and slower than these: blocks that bring the next large weights into the chip's cache meanwhile, and one launch for the
// two, by a cluster of eight blocks that see each other's shared memory (eight multiprocessors are too few to fetch what the
// others would). On Hopper and newer token.cu does all of it in one launch for all blocks of a model, where it takes the model.

struct StepArgs {
    const float *xz;           // [2d]: x, z
    const float *conv;         // [d, k]
    const float *conv_bias;    // [d] or null
    float *window;             // [d, k]
    const void *x_proj;        // [r + 2n, d]
    const void *dt_proj;       // [d, r]
    const float *dt_bias;      // [d]
    const float *a;            // [d, n]
    const float *skip;         // [d]
    const float *norm_dt, *norm_b, *norm_c; // [r], [n], [n] or null
    float *state;              // [d, n]
    float *u;                  // [d]
    float *projected;          // [r + 2n]
    float *y;                  // [d]
    int channels, slots, rank, taps;
    int has_norm;
    float eps;
};

#define SELECT_THREADS 512
// Channels of a thread whose weights are asked for before anything else.
#define SELECT_AHEAD 3

__device__ __forceinline__ float dot_window(float4 taps, float4 window, float x, float bias) {
    // The oldest of the window is out: x is the newest.
    return fmaf(taps.w, x, fmaf(taps.z, window.w, fmaf(taps.y, window.z, fmaf(taps.x, window.y, bias))));
}

template <typename W> __device__ __forceinline__ void step_select(const StepArgs &p) {
    __shared__ float room[33];
    let_next_begin();
    const W *row = (const W *)p.x_proj + (size_t)blockIdx.x * p.channels;
    float4 taps[SELECT_AHEAD], window[SELECT_AHEAD];
    float bias[SELECT_AHEAD], weight[SELECT_AHEAD];
    bool is_usual = p.taps == 4;
#pragma unroll
    for (int k = 0; k < SELECT_AHEAD; k++) {
        int d = threadIdx.x + k * SELECT_THREADS;
        if (!is_usual || d >= p.channels) continue;
        taps[k] = ((const float4 *)p.conv)[d], window[k] = ((const float4 *)p.window)[d];
        bias[k] = p.conv_bias ? p.conv_bias[d] : 0.0f, weight[k] = to_float(row[d]);
    }
    wait_for_previous();
    float sum = 0.0f;
#pragma unroll
    for (int k = 0; k < SELECT_AHEAD; k++) {
        int d = threadIdx.x + k * SELECT_THREADS;
        if (!is_usual || d >= p.channels) continue;
        float u = silu(dot_window(taps[k], window[k], p.xz[d], bias[k]));
        if (blockIdx.x == 0) p.u[d] = u;
        sum = fmaf(weight[k], u, sum);
    }
    for (int d = threadIdx.x + (is_usual ? SELECT_AHEAD * SELECT_THREADS : 0); d < p.channels; d += SELECT_THREADS) {
        float u = p.conv_bias ? p.conv_bias[d] : 0.0f;
        const float *taps = p.conv + (size_t)d * p.taps, *window = p.window + (size_t)d * p.taps;
        for (int j = 0; j + 1 < p.taps; j++) u = fmaf(taps[j], window[j + 1], u);
        u = silu(fmaf(taps[p.taps - 1], p.xz[d], u));
        if (blockIdx.x == 0) p.u[d] = u;
        sum = fmaf(to_float(row[d]), u, sum);
    }
    sum = sum_of_block(sum, room);
    if (threadIdx.x == 0) p.projected[blockIdx.x] = sum;
}
extern "C" __global__ void __launch_bounds__(SELECT_THREADS) step_select_f32(StepArgs p) { step_select<float>(p); }
extern "C" __global__ void __launch_bounds__(SELECT_THREADS) step_select_bf16(StepArgs p) { step_select<bf16>(p); }

#define STEP_LANES 16
// Entries of a row of dt_proj that a lane asks for before anything else.
#define RANK_AHEAD 4

// x[0..width] normed in shared memory by one warp.
__device__ __forceinline__ void norm_part(float *x, const float *weight, int width, float eps) {
    int lane = threadIdx.x % 32;
    float squares = 0.0f;
    for (int i = lane; i < width; i += 32) squares += x[i] * x[i];
    float scale = rsqrtf(sum_of_warp(squares) / width + eps);
    for (int i = lane; i < width; i += 32) x[i] *= weight ? scale * weight[i] : scale;
}

template <typename W> __device__ __forceinline__ void step_scan(const StepArgs &p) {
    extern __shared__ float4 shared[];
    let_next_begin();
    int lane = threadIdx.x % STEP_LANES;
    int d = blockIdx.x * (blockDim.x / STEP_LANES) + threadIdx.x / STEP_LANES;
    bool is_live = d < p.channels;
    d = min(d, p.channels - 1);
    const W *row = (const W *)p.dt_proj + (size_t)d * p.rank;
    float weight[RANK_AHEAD], a = 0.0f, before = 0.0f;
#pragma unroll
    for (int k = 0; k < RANK_AHEAD; k++) {
        int i = lane + k * STEP_LANES;
        weight[k] = i < p.rank ? to_float(row[i]) : 0.0f;
    }
    size_t first = (size_t)d * p.slots + lane;
    if (lane < p.slots) a = p.a[first], before = p.state[first];
    float bias = p.dt_bias[d], skip = p.skip[d];
    wait_for_previous();

    const float *dt = p.projected;
    if (p.has_norm) {
        float *copy = (float *)shared;
        for (int i = threadIdx.x; i < p.rank + 2 * p.slots; i += blockDim.x) copy[i] = p.projected[i];
        __syncthreads();
        int warp = threadIdx.x / 32;
        if (warp == 0) norm_part(copy, p.norm_dt, p.rank, p.eps);
        if (warp == 1) norm_part(copy + p.rank, p.norm_b, p.slots, p.eps);
        if (warp == 2) norm_part(copy + p.rank + p.slots, p.norm_c, p.slots, p.eps);
        __syncthreads();
        dt = copy;
    }
    const float *b = dt + p.rank, *c = b + p.slots;
    float u = p.u[d], x = p.xz[d], z = p.xz[p.channels + d];
    float step = 0.0f;
#pragma unroll
    for (int k = 0; k < RANK_AHEAD; k++) {
        int i = lane + k * STEP_LANES;
        if (i < p.rank) step = fmaf(weight[k], dt[i], step);
    }
    for (int i = lane + RANK_AHEAD * STEP_LANES; i < p.rank; i += STEP_LANES) step = fmaf(to_float(row[i]), dt[i], step);
    for (int o = STEP_LANES / 2; o > 0; o >>= 1) step += __shfl_xor_sync(FULL_WARP, step, o);
    step = softplus(step + bias);
    float written = step * u, y = 0.0f;
    for (int n = lane; n < p.slots; n += STEP_LANES) {
        size_t at = (size_t)d * p.slots + n;
        if (n != lane) a = p.a[at], before = p.state[at];
        float h = fmaf(exp_of(step * a), before, written * b[n]);
        if (is_live) p.state[at] = h;
        y = fmaf(c[n], h, y);
    }
    for (int o = STEP_LANES / 2; o > 0; o >>= 1) y += __shfl_xor_sync(FULL_WARP, y, o);
    if (lane != 0 || !is_live) return;
    p.y[d] = fmaf(skip, u, y) * silu(z);
    float *window = p.window + (size_t)d * p.taps;
    for (int j = 0; j + 1 < p.taps; j++) window[j] = window[j + 1];
    window[p.taps - 1] = x;
}
extern "C" __global__ void __launch_bounds__(256) step_scan_f32(StepArgs p) { step_scan<float>(p); }
extern "C" __global__ void __launch_bounds__(256) step_scan_bf16(StepArgs p) { step_scan<bf16>(p); }
