// One token through a Mamba-1 block: norm + in_proj, u = silu(conv(x)); dt, B, C = x_proj(u), normed where the family does so; D = softplus(W_dt dt + b);
// h = exp(D A) h + D B u; y = (C h + skip u) silu(z); and the convolution's window
// moved on; out_proj + residual. In v1 the first and the last are `matvec` (matmul.cu).
//
// Versions, and what each changed:
//   v1  step_select and step_scan. The first has a block for one row of x_proj, which computes all of u, for that costs less
//       than a launch that would write it first; the second sixteen threads a channel for all the rest. Weights, window and
//       state are asked for before x is there. Any shape.
//       (One launch for both, by a cluster of eight blocks that see each other's shared memory, took twice as long as the two:
//       eight multiprocessors are too few to fetch what the others would.)
//   v2  token_pass: all blocks of a model in one launch. One block of threads stays on each multiprocessor; between two stages
//       all wait for each other in device memory, which costs less than half of what the end of one launch and the beginning
//       of the next do, and while they wait the weights of the next stage are on their way. For models of nothing but alike
//       Mamba-1 blocks.
//
// What bounds them is latency, not bytes: x_proj, dt_proj and the state of mamba-130m are 0.6 MB a block.

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
    let_next_begin();
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
    let_next_begin();
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

// ---- v2: all blocks in one launch --------------------------------------------------------------------------------------

struct TokenLayer {
    const float *norm;     // [e]
    const void *in_proj;   // [2d, e]
    const float *in_bias;  // [2d] or null
    const float *conv;     // [d, 4]
    const float *conv_bias; // [d] or null
    float *window;         // [d, 4]
    const void *x_proj;    // [r + 2n, d]
    const void *dt_proj;   // [d, r]
    const float *dt_bias;  // [d]
    const float *a;        // [d, n]
    const float *skip;     // [d]
    const float *norm_dt, *norm_b, *norm_c; // or null
    float *state;          // [d, n]
    const void *out_proj;  // [e, d]
    const float *out_bias; // [e] or null
};

struct TokenArgs {
    const TokenLayer *layers;
    float *x;         // [e], the residual stream
    float *xz;        // [2d]
    float *u;         // [d]
    float *projected; // [r + 2n]
    float *y;         // [d]
    u32 *arrivals;    // zero at the start
    int count, width, channels, slots, rank, has_norm;
    float eps, inner_eps;
};

#define TOKEN_THREADS 512
#define TOKEN_WARPS (TOKEN_THREADS / 32)

// Activations are written by other multiprocessors while the kernel runs: read past this one's cache.
__device__ __forceinline__ float fresh(const float *from) {
    float x;
    asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(x) : "l"(from) : "memory");
    return x;
}
__device__ __forceinline__ float4 fresh_four(const float *from) {
    float4 v;
    asm volatile("ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
                 : "l"(from)
                 : "memory");
    return v;
}

// All blocks of the grid have come here when `wait_for_all` returns. In between, work that needs nothing of the others.
__device__ __forceinline__ void arrive(const TokenArgs &p) {
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        atomicAdd(p.arrivals, 1u);
    }
}
__device__ __forceinline__ void wait_for_all(const TokenArgs &p, u32 &stage) {
    stage++;
    if (threadIdx.x == 0) {
        u32 seen;
        do {
            asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(p.arrivals) : "memory");
        } while (seen < stage * gridDim.x);
    }
    __syncthreads();
}

// Eight weights of a row as they lie in memory.
template <typename W> struct Eight;
template <> struct Eight<bf16> {
    uint4 packed;
    __device__ __forceinline__ void load(const bf16 *from) { packed = *(const uint4 *)from; }
    __device__ __forceinline__ float dot(const float (&x)[8]) const {
        const u32 v[4] = {packed.x, packed.y, packed.z, packed.w};
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            sum = fmaf(__uint_as_float(v[i] << 16), x[2 * i], sum);
            sum = fmaf(__uint_as_float(v[i] & 0xffff0000u), x[2 * i + 1], sum);
        }
        return sum;
    }
};
template <> struct Eight<float> {
    float4 low, high;
    __device__ __forceinline__ void load(const float *from) {
        low = ((const float4 *)from)[0], high = ((const float4 *)from)[1];
    }
    __device__ __forceinline__ float dot(const float (&x)[8]) const {
        float sum = fmaf(low.x, x[0], fmaf(low.y, x[1], fmaf(low.z, x[2], low.w * x[3])));
        return sum + fmaf(high.x, x[4], fmaf(high.y, x[5], fmaf(high.z, x[6], high.w * x[7])));
    }
};

// Rows of a weight, a warp a row, spread over all multiprocessors: row, row + `warps`, ... AHEAD pieces of 256 values of the
// first two rows are asked for by `ask`.
template <typename W, int ROWS, int AHEAD> struct TokenRows {
    Eight<W> ahead[ROWS][AHEAD];
    const W *weight;
    int row, step, out, in, lane;

    __device__ __forceinline__ TokenRows(const void *w, int out_, int in_)
        : weight((const W *)w), row((int)(threadIdx.x / 32 * gridDim.x + blockIdx.x)), step((int)(gridDim.x * TOKEN_WARPS)),
          out(out_), in(in_), lane((int)(threadIdx.x % 32)) {
#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
            for (int k = 0; k < AHEAD; k++) {
                // Clamped, not skipped: what is beyond the end meets zeros, or is never written.
                int at = min(row + r * step, out - 1), i = min(k * 256 + lane * 8, in - 8);
                ahead[r][k].load(weight + (size_t)at * in + i);
            }
    }

    // done(row, sum of weight * x * norm, sum of x * x) for every row of the warp, on its first lane.
    template <typename Done> __device__ __forceinline__ void run(const float *x, const float *norm, Done done) {
        if (row >= out) return;
        // All of x is asked for before any of it is used; beyond the end it is zero.
        float4 pieces[AHEAD][2];
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            int i = min(k * 256 + lane * 8, in - 8);
            pieces[k][0] = fresh_four(x + i), pieces[k][1] = fresh_four(x + i + 4);
        }
        float v[AHEAD][8], squares = 0.0f;
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            int i = k * 256 + lane * 8;
            take(pieces[k], i < in, v[k]);
            if (norm) apply(norm + min(i, in - 8), v[k], squares);
        }
        if (norm)
#pragma unroll 1
            for (int i = AHEAD * 256 + lane * 8; i < in; i += 256) {
                float more[8];
                float4 four[2] = {fresh_four(x + i), fresh_four(x + i + 4)};
                take(four, true, more);
                apply(norm + i, more, squares);
            }
        squares = sum_of_warp(squares);
#pragma unroll 1
        for (int first = row, turn = 0; first < out; first += ROWS * step, turn++) {
            float sums[ROWS] = {};
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                int at = min(first + r * step, out - 1);
#pragma unroll
                for (int k = 0; k < AHEAD; k++) {
                    if (turn > 0) ahead[r][k].load(weight + (size_t)at * in + min(k * 256 + lane * 8, in - 8));
                    sums[r] += ahead[r][k].dot(v[k]);
                }
            }
#pragma unroll 1
            for (int i = AHEAD * 256 + lane * 8; i < in; i += 256) {
                float more[8], unused = 0.0f;
                float4 four[2] = {fresh_four(x + i), fresh_four(x + i + 4)};
                take(four, true, more);
                if (norm) apply(norm + i, more, unused);
#pragma unroll
                for (int r = 0; r < ROWS; r++) {
                    Eight<W> now;
                    now.load(weight + (size_t)min(first + r * step, out - 1) * in + i);
                    sums[r] += now.dot(more);
                }
            }
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                float sum = sum_of_warp(sums[r]);
                if (lane == 0 && first + r * step < out) done(first + r * step, sum, squares);
            }
        }
    }

    __device__ __forceinline__ void take(const float4 (&from)[2], bool is_inside, float (&v)[8]) {
        const float all[8] = {from[0].x, from[0].y, from[0].z, from[0].w, from[1].x, from[1].y, from[1].z, from[1].w};
#pragma unroll
        for (int j = 0; j < 8; j++) v[j] = is_inside ? all[j] : 0.0f;
    }

    __device__ __forceinline__ void apply(const float *norm, float (&v)[8], float &squares) {
        float4 low = *(const float4 *)norm, high = *(const float4 *)(norm + 4);
        const float weights[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
        for (int j = 0; j < 8; j++) {
            squares = fmaf(v[j], v[j], squares);
            v[j] *= weights[j];
        }
    }
};

template <typename W> __device__ __forceinline__ void token_select(const TokenArgs &p, const TokenLayer &layer, u32 &stage) {
    __shared__ float room[33];
    int rows = p.rank + 2 * p.slots;
    float4 taps[SELECT_AHEAD], window[SELECT_AHEAD];
    float bias[SELECT_AHEAD], weight[SELECT_AHEAD];
    const W *x_proj = (const W *)layer.x_proj;
    bool is_busy = blockIdx.x < rows;
#pragma unroll
    for (int k = 0; k < SELECT_AHEAD; k++) {
        int d = threadIdx.x + k * TOKEN_THREADS;
        if (!is_busy || d >= p.channels) continue;
        taps[k] = ((const float4 *)layer.conv)[d], window[k] = ((const float4 *)layer.window)[d];
        bias[k] = layer.conv_bias ? layer.conv_bias[d] : 0.0f;
        weight[k] = to_float(x_proj[(size_t)blockIdx.x * p.channels + d]);
    }
    wait_for_all(p, stage);
    if (!is_busy) return;
    float x[SELECT_AHEAD], sum = 0.0f;
#pragma unroll
    for (int k = 0; k < SELECT_AHEAD; k++) x[k] = fresh(p.xz + min((int)threadIdx.x + k * TOKEN_THREADS, p.channels - 1));
#pragma unroll
    for (int k = 0; k < SELECT_AHEAD; k++) {
        int d = threadIdx.x + k * TOKEN_THREADS;
        if (d >= p.channels) continue;
        float u = silu(dot_window(taps[k], window[k], x[k], bias[k]));
        if (blockIdx.x == 0) p.u[d] = u;
        sum = fmaf(weight[k], u, sum);
    }
    // More channels, or more rows, than there are threads and blocks.
#pragma unroll 1
    for (int row = blockIdx.x, from = SELECT_AHEAD * TOKEN_THREADS; row < rows; row += gridDim.x, from = 0, sum = 0.0f) {
#pragma unroll 1
        for (int d = from + threadIdx.x; d < p.channels; d += TOKEN_THREADS) {
            float bias = layer.conv_bias ? layer.conv_bias[d] : 0.0f;
            float4 taps = ((const float4 *)layer.conv)[d], window = ((const float4 *)layer.window)[d];
            float u = silu(dot_window(taps, window, fresh(p.xz + d), bias));
            if (row == 0) p.u[d] = u;
            sum = fmaf(to_float(x_proj[(size_t)row * p.channels + d]), u, sum);
        }
        sum = sum_of_block(sum, room);
        if (threadIdx.x == 0) p.projected[row] = sum;
    }
}

template <typename W> __device__ __forceinline__ void token_scan(const TokenArgs &p, const TokenLayer &layer, u32 &stage) {
    extern __shared__ float4 shared[];
    float *sums = (float *)shared;
    int lane = threadIdx.x % STEP_LANES, group = threadIdx.x / STEP_LANES, rows = p.rank + 2 * p.slots;
    const W *dt_proj = (const W *)layer.dt_proj;
    float weight[RANK_AHEAD] = {}, a = 0.0f, before = 0.0f;
    int d = group * gridDim.x + blockIdx.x; // the first of the group's channels
    if (d < p.channels) {
#pragma unroll
        for (int k = 0; k < RANK_AHEAD; k++) {
            int i = lane + k * STEP_LANES;
            if (i < p.rank) weight[k] = to_float(dt_proj[(size_t)d * p.rank + i]);
        }
        if (lane < p.slots) a = layer.a[(size_t)d * p.slots + lane], before = layer.state[(size_t)d * p.slots + lane];
    }
    wait_for_all(p, stage);
    int first = min(d, p.channels - 1);
    float u = fresh(p.u + first), x = fresh(p.xz + first), z = fresh(p.xz + p.channels + first);
    float bias = layer.dt_bias[first], skip = layer.skip[first];
    for (int i = threadIdx.x; i < rows; i += TOKEN_THREADS) sums[i] = fresh(p.projected + i);
    __syncthreads();
    if (p.has_norm) {
        int warp = threadIdx.x / 32;
        if (warp == 0) norm_part(sums, layer.norm_dt, p.rank, p.inner_eps);
        if (warp == 1) norm_part(sums + p.rank, layer.norm_b, p.slots, p.inner_eps);
        if (warp == 2) norm_part(sums + p.rank + p.slots, layer.norm_c, p.slots, p.inner_eps);
        __syncthreads();
    }
    const float *b = sums + p.rank, *c = b + p.slots;
#pragma unroll 1
    // A warp holds two groups: it goes on while one of them has a channel, for both take part in the sums.
    for (int turn = 0; (group & ~1) * gridDim.x + blockIdx.x + turn * (TOKEN_THREADS / STEP_LANES) * gridDim.x < p.channels;
         turn++, d += TOKEN_THREADS / STEP_LANES * gridDim.x) {
        bool is_live = d < p.channels;
        int at = min(d, p.channels - 1);
        float step = 0.0f, y = 0.0f;
        if (turn > 0) {
            u = fresh(p.u + at), x = fresh(p.xz + at), z = fresh(p.xz + p.channels + at);
            bias = layer.dt_bias[at], skip = layer.skip[at];
        }
#pragma unroll
        for (int k = 0; k < RANK_AHEAD; k++) {
            int i = lane + k * STEP_LANES;
            if (i < p.rank)
                step = fmaf(turn == 0 ? weight[k] : to_float(dt_proj[(size_t)at * p.rank + i]), sums[i], step);
        }
        for (int i = lane + RANK_AHEAD * STEP_LANES; i < p.rank; i += STEP_LANES)
            step = fmaf(to_float(dt_proj[(size_t)at * p.rank + i]), sums[i], step);
        for (int o = STEP_LANES / 2; o > 0; o >>= 1) step += __shfl_xor_sync(FULL_WARP, step, o);
        step = softplus(step + bias);
        float written = step * u;
#pragma unroll 1
        for (int n = lane; n < p.slots; n += STEP_LANES) {
            size_t slot = (size_t)at * p.slots + n;
            if (turn > 0 || n != lane) a = layer.a[slot], before = layer.state[slot];
            float h = fmaf(exp_of(step * a), before, written * b[n]);
            if (is_live) layer.state[slot] = h;
            y = fmaf(c[n], h, y);
        }
        for (int o = STEP_LANES / 2; o > 0; o >>= 1) y += __shfl_xor_sync(FULL_WARP, y, o);
        if (lane != 0 || !is_live) continue;
        p.y[at] = fmaf(skip, u, y) * silu(z);
        float4 window = ((float4 *)layer.window)[at];
        ((float4 *)layer.window)[at] = {window.y, window.z, window.w, x};
    }
}

// Launched with as many blocks as there are multiprocessors, all at once (a cooperative launch).
template <typename W> __device__ __forceinline__ void token_pass(const TokenArgs &p) {
    // Pieces that fit the registers.
    constexpr int IN_AHEAD = sizeof(W) == 2 ? 3 : 2, OUT_AHEAD = sizeof(W) == 2 ? 6 : 3;
    __shared__ TokenLayer layer;
    u32 stage = 0;
    for (int i = 0; i < p.count; i++) {
        // `arrive` has brought this block's threads together: none still reads the layer before.
        if (threadIdx.x < sizeof(TokenLayer) / 8) ((u64 *)&layer)[threadIdx.x] = ((const u64 *)(p.layers + i))[threadIdx.x];
        __syncthreads();
        {
            TokenRows<W, 2, IN_AHEAD> rows(layer.in_proj, 2 * p.channels, p.width);
            if (i > 0) wait_for_all(p, stage);
            rows.run(p.x, layer.norm, [&](int row, float sum, float squares) {
                sum *= rsqrtf(squares / p.width + p.eps);
                p.xz[row] = layer.in_bias ? sum + layer.in_bias[row] : sum;
            });
        }
        arrive(p);
        token_select<W>(p, layer, stage);
        arrive(p);
        token_scan<W>(p, layer, stage);
        arrive(p);
        {
            TokenRows<W, 1, OUT_AHEAD> rows(layer.out_proj, p.width, p.channels);
            wait_for_all(p, stage);
            rows.run(p.y, nullptr, [&](int row, float sum, float) {
                p.x[row] = fresh(p.x + row) + (layer.out_bias ? sum + layer.out_bias[row] : sum);
            });
        }
        if (i + 1 < p.count) arrive(p);
    }
}
extern "C" __global__ void __launch_bounds__(TOKEN_THREADS, 1) token_pass_f32(TokenArgs p) { token_pass<float>(p); }
extern "C" __global__ void __launch_bounds__(TOKEN_THREADS, 1) token_pass_bf16(TokenArgs p) { token_pass<bf16>(p); }
