// Matrix products with weights as checkpoints store them, [out, in]:
//
//   y[l,o] = sum_i x[l,i] * W[o,i] + bias[o]      (+ y[l,o] where the result is added to what is there)
//
// The tensor cores multiply bf16, and x is f32: so x is cut into a sum of bf16 parts, each what the ones before have left
// over, and the products of the parts are added up in f32. Two parts keep 16 bits of x, three keep all 24.
//
// Versions, and what each changed:
//   matvec   for a few tokens: a warp for two rows of W, 16-byte loads, f32 multiply-adds. Reads W once; that is its floor.
//            Can norm x on the way (RMSNorm), so that a token's norm and projection are one launch. x stays in registers: no
//            barrier, no shared memory. The first weights are asked for before x is there, and before the kernel that makes x
//            is done.
//   matmul   for many: tiles of x and W in shared memory, loaded while the tile before is multiplied, mma.sync on 16x8x16.
//            W in bf16 needs two products (x1 W, x2 W); W in f32 is cut too, and the six products above 2^-24 are kept:
//            x1 W1, x1 W2, x2 W1, x2 W2, x1 W3, x3 W1. The largest tiles of which there are enough for the chip; where a
//            product is too small for that, several blocks share a tile, each with a part of `in`, and matmul_sum adds up.

struct MatmulArgs {
    const float *x;       // [rows, in]
    const void *w;        // [out, in]
    const float *bias;    // [out] or null
    const float *norm;    // matvec: [in], weight of an RMSNorm of x before the product, or null
    float *y;             // [rows, out]
    const int *row_count; // on the device: how many rows there are really, or null
    int rows, out, in;
    int x_row, y_row;
    int adds;      // y += instead of y =
    int has_norm;  // matvec: x is normed first
    int out_tiles; // matmul: tiles along `out`
    float eps;
    int split_depth; // matmul: values of `in` that a block takes; blocks in y take the next ones
    float *partial;  // matmul: [splits, rows, out], where there are several, or null
};

__device__ __forceinline__ bool is_aligned(const void *pointer, int bytes) { return (u64)pointer % bytes == 0; }

// ---- a few tokens ------------------------------------------------------------------------------------------------

struct Eight {
    float v[8];
};

// Eight weights as they lie in memory, 16 or 32 aligned bytes.
template <typename W> struct Piece;
template <> struct Piece<float> {
    float4 low, high;
    __device__ __forceinline__ void load(const float *from) {
        low = ((const float4 *)from)[0], high = ((const float4 *)from)[1];
    }
    __device__ __forceinline__ Eight values() const {
        return {{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
    }
};
template <> struct Piece<bf16> {
    uint4 packed;
    __device__ __forceinline__ void load(const bf16 *from) { packed = *(const uint4 *)from; }
    __device__ __forceinline__ Eight values() const {
        return {{__uint_as_float(packed.x << 16), __uint_as_float(packed.x & 0xffff0000u),
                 __uint_as_float(packed.y << 16), __uint_as_float(packed.y & 0xffff0000u),
                 __uint_as_float(packed.z << 16), __uint_as_float(packed.z & 0xffff0000u),
                 __uint_as_float(packed.w << 16), __uint_as_float(packed.w & 0xffff0000u)}};
    }
};

// Values a warp reads at once, eight a lane.
#define STRIDE 256
// Rows of W a warp has at hand.
#define MATVEC_ROWS 2
#define MATVEC_WARPS 4

// Where rows begin on 16 bytes and hold a multiple of eight values. AHEAD pieces of each row are asked for before anything
// else: all of them where a row has no more.
template <typename W, int AHEAD> __device__ __forceinline__ void matvec_wide(const MatmulArgs &p) {
    int token = blockIdx.y, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    int step = gridDim.x * MATVEC_WARPS * MATVEC_ROWS, row = (blockIdx.x * MATVEC_WARPS + warp) * MATVEC_ROWS;
    const W *w = (const W *)p.w + lane * 8;
    Piece<W> ahead[MATVEC_ROWS][AHEAD];
    auto ask = [&](int row) {
#pragma unroll
        for (int r = 0; r < MATVEC_ROWS; r++)
#pragma unroll
            for (int k = 0; k < AHEAD; k++)
                if (row + r < p.out && k * STRIDE + lane * 8 < p.in)
                    ahead[r][k].load(w + (size_t)(row + r) * p.in + k * STRIDE);
    };
    let_next_begin();
    ask(row);
    wait_for_previous();
    if (p.row_count && token >= *p.row_count) return;

    const float *from = p.x + (size_t)token * p.x_row + lane * 8, *norm = p.norm ? p.norm + lane * 8 : nullptr;
    float squares = 0.0f;
    auto load_x = [&](int at) {
        Piece<float> x;
        x.load(from + at);
        Eight v = x.values();
        if (!p.has_norm) return v;
#pragma unroll
        for (int j = 0; j < 8; j++) squares = fmaf(v.v[j], v.v[j], squares);
        if (!norm) return v;
        x.load(norm + at);
        Eight weight = x.values();
#pragma unroll
        for (int j = 0; j < 8; j++) v.v[j] *= weight.v[j];
        return v;
    };
    Eight x[AHEAD];
#pragma unroll
    for (int k = 0; k < AHEAD; k++)
        if (k * STRIDE + lane * 8 < p.in) x[k] = load_x(k * STRIDE);
    // The rest of a longer row is read again for every row of W; its squares count once.
    for (int at = AHEAD * STRIDE; p.has_norm && at + lane * 8 < p.in; at += STRIDE) load_x(at);
    float scale = p.has_norm ? rsqrtf(sum_of_warp(squares) / p.in + p.eps) : 1.0f;

    for (; row < p.out; row += step) {
        float sums[MATVEC_ROWS] = {};
        auto add = [&](float &sum, const Piece<W> &piece, const Eight &x) {
            Eight weight = piece.values();
#pragma unroll
            for (int j = 0; j < 8; j++) sum = fmaf(weight.v[j], x.v[j], sum);
        };
#pragma unroll
        for (int k = 0; k < AHEAD; k++)
            if (k * STRIDE + lane * 8 < p.in) {
#pragma unroll
                for (int r = 0; r < MATVEC_ROWS; r++) add(sums[r], ahead[r][k], x[k]);
            }
        for (int at = AHEAD * STRIDE; at + lane * 8 < p.in; at += STRIDE) {
            Eight more = load_x(at);
#pragma unroll
            for (int r = 0; r < MATVEC_ROWS; r++) {
                Piece<W> piece;
                if (row + r >= p.out) continue;
                piece.load(w + (size_t)(row + r) * p.in + at);
                add(sums[r], piece, more);
            }
        }
        ask(row + step);
#pragma unroll
        for (int r = 0; r < MATVEC_ROWS; r++) {
            float sum = sum_of_warp(sums[r]) * scale;
            if (lane != 0 || row + r >= p.out) continue;
            if (p.bias) sum += p.bias[row + r];
            float *y = p.y + (size_t)token * p.y_row + row + r;
            *y = p.adds ? *y + sum : sum;
        }
    }
}

// Any other shape, a value at a time.
template <typename W> __device__ __forceinline__ void matvec_narrow(const MatmulArgs &p) {
    let_next_begin();
    wait_for_previous();
    int token = blockIdx.y, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    if (p.row_count && token >= *p.row_count) return;
    const float *x = p.x + (size_t)token * p.x_row;
    float squares = 0.0f;
    for (int i = lane; p.has_norm && i < p.in; i += 32) squares = fmaf(x[i], x[i], squares);
    float scale = p.has_norm ? rsqrtf(sum_of_warp(squares) / p.in + p.eps) : 1.0f;
    for (int row = blockIdx.x * MATVEC_WARPS + warp; row < p.out; row += gridDim.x * MATVEC_WARPS) {
        const W *w = (const W *)p.w + (size_t)row * p.in;
        float sum = 0.0f;
        for (int i = lane; i < p.in; i += 32)
            sum = fmaf(to_float(w[i]), p.has_norm && p.norm ? x[i] * p.norm[i] : x[i], sum);
        sum = sum_of_warp(sum) * scale;
        if (lane != 0) continue;
        if (p.bias) sum += p.bias[row];
        float *y = p.y + (size_t)token * p.y_row + row;
        *y = p.adds ? *y + sum : sum;
    }
}

template <typename W, int AHEAD> __device__ __forceinline__ void matvec(const MatmulArgs &p) {
    bool is_wide = p.in % 8 == 0 && p.x_row % 4 == 0 && is_aligned(p.w, 16) && is_aligned(p.x, 16) && is_aligned(p.norm, 16);
    if (is_wide)
        matvec_wide<W, AHEAD>(p);
    else
        matvec_narrow<W>(p);
}

extern "C" __global__ void __launch_bounds__(128) matvec_f32(MatmulArgs p) { matvec<float, 3>(p); }
extern "C" __global__ void __launch_bounds__(128) matvec_bf16(MatmulArgs p) { matvec<bf16, 6>(p); }
// For rows of up to 768: half the registers, so that the next kernel's blocks find room beside these.
extern "C" __global__ void __launch_bounds__(128) matvec_short_bf16(MatmulArgs p) { matvec<bf16, 3>(p); }

// ---- many tokens -------------------------------------------------------------------------------------------------

__device__ __forceinline__ void load_matrices(u32 (&to)[4], const bf16 *from) {
    u32 at = (u32)__cvta_generic_to_shared(from);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(at));
}

__device__ __forceinline__ void multiply(float (&sum)[4], const u32 (&x)[4], u32 w0, u32 w1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(w0), "r"(w1));
}

// Four neighbours of a row, zeros beyond its end.
__device__ __forceinline__ float4 load_four(const float *row, int i, int end, bool is_wide) {
    if (is_wide && i + 4 <= end) return *(const float4 *)(row + i);
    float4 v = {0.0f, 0.0f, 0.0f, 0.0f};
    if (i < end) v.x = row[i];
    if (i + 1 < end) v.y = row[i + 1];
    if (i + 2 < end) v.z = row[i + 2];
    if (i + 3 < end) v.w = row[i + 3];
    return v;
}
__device__ __forceinline__ float4 load_four(const bf16 *row, int i, int end, bool is_wide) {
    float4 v = {0.0f, 0.0f, 0.0f, 0.0f};
    if (is_wide && i + 4 <= end) {
        uint2 packed = *(const uint2 *)(row + i);
        v.x = __uint_as_float(packed.x << 16), v.y = __uint_as_float(packed.x & 0xffff0000u);
        v.z = __uint_as_float(packed.y << 16), v.w = __uint_as_float(packed.y & 0xffff0000u);
        return v;
    }
    if (i < end) v.x = to_float(row[i]);
    if (i + 1 < end) v.y = to_float(row[i + 1]);
    if (i + 2 < end) v.z = to_float(row[i + 2]);
    if (i + 3 < end) v.w = to_float(row[i + 3]);
    return v;
}

// Writes a value as PARTS bf16 parts, each `plane` apart.
template <int PARTS> __device__ __forceinline__ void store_parts(bf16 *to, int plane, float4 v) {
#pragma unroll
    for (int part = 0; part < PARTS; part++) {
        u32 low = pack_bf16(v.x, v.y), high = pack_bf16(v.z, v.w);
        *(uint2 *)(to + part * plane) = {low, high};
        v.x -= __uint_as_float(low << 16), v.y -= __uint_as_float(low & 0xffff0000u);
        v.z -= __uint_as_float(high << 16), v.w -= __uint_as_float(high & 0xffff0000u);
    }
}

template <typename W> struct Cut;
template <> struct Cut<bf16> {
    static const int X = 2, WEIGHT = 1, DEPTH = 32;
};
template <> struct Cut<float> {
    static const int X = 3, WEIGHT = 3, DEPTH = 16;
};

__device__ __forceinline__ void copy_ahead(const bf16 *to, const bf16 *from, bool is_inside) {
    // What is not inside becomes zeros.
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((u32)__cvta_generic_to_shared(to)), "l"(from),
                 "r"(is_inside ? 16 : 0)
                 : "memory");
}

// Writes what a warp has made, two neighbours at once, or puts it with the other parts of a shared tile.
template <int TALL, int BROAD>
__device__ __forceinline__ void write_tile(const MatmulArgs &p, float (&sums)[TALL][BROAD][4], int first_row, int first_out,
                                           int rows) {
    int lane = threadIdx.x % 32, y_row = p.partial ? p.out : p.y_row;
    float *to = p.partial ? p.partial + (size_t)blockIdx.y * p.rows * p.out : p.y;
    bool is_even = y_row % 2 == 0 && p.out % 2 == 0 && is_aligned(to, 8), adds = p.adds && !p.partial;
    const float *bias = p.partial ? nullptr : p.bias;
#pragma unroll
    for (int o = 0; o < BROAD; o++) {
        int out = first_out + o * 8 + lane % 4 * 2;
        float bias_x = bias && out < p.out ? bias[out] : 0.0f, bias_y = bias && out + 1 < p.out ? bias[out + 1] : 0.0f;
#pragma unroll
        for (int l = 0; l < TALL; l++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int row = first_row + l * 16 + lane / 4 + half * 8;
                if (row >= rows || out >= p.out) continue;
                float2 v = {sums[l][o][2 * half] + bias_x, sums[l][o][2 * half + 1] + bias_y};
                float *y = to + (size_t)row * y_row + out;
                if (is_even) {
                    float2 before = adds ? *(float2 *)y : float2{0.0f, 0.0f};
                    *(float2 *)y = {before.x + v.x, before.y + v.y};
                    continue;
                }
                y[0] = adds ? y[0] + v.x : v.x;
                if (out + 1 < p.out) y[1] = adds ? y[1] + v.y : v.y;
            }
    }
}

// A block multiplies ROWS x OUTS by warps of (ROWS / DOWN) x (OUTS / ACROSS). WIDE: rows begin on 16 bytes and hold a multiple
// of eight values; then no load has a condition, and none is waited for before the tile before it has been multiplied.
template <typename W, int ROWS, int OUTS, int DOWN, int ACROSS, bool WIDE>
__device__ __forceinline__ void matmul(const MatmulArgs &p) {
    constexpr int X = Cut<W>::X, WEIGHT = Cut<W>::WEIGHT, DEPTH = Cut<W>::DEPTH;
    constexpr int THREADS = 32 * DOWN * ACROSS, LINE = DEPTH + 8; // 16 bytes more: rows begin in different banks
    constexpr int TALL = ROWS / DOWN / 16, BROAD = OUTS / ACROSS / 8, FOURS = DEPTH / 4;
    constexpr int X_PLANE = ROWS * LINE, W_PLANE = OUTS * LINE, BUFFER = X * X_PLANE + WEIGHT * W_PLANE;
    constexpr bool COPIES = WIDE && WEIGHT == 1; // weights that are bf16 already go straight to shared memory
    constexpr int X_LOADS = ROWS * FOURS / THREADS, W_LOADS = COPIES ? 1 : OUTS * FOURS / THREADS;
    constexpr int EIGHTS = DEPTH / 8, W_COPIES = OUTS * EIGHTS / THREADS;
    extern __shared__ float4 shared[];
    bf16 *buffers = (bf16 *)shared;

    int rows = p.row_count ? min(*p.row_count, p.rows) : p.rows;
    int first_row = blockIdx.x / p.out_tiles * ROWS, first_out = blockIdx.x % p.out_tiles * OUTS;
    if (first_row >= rows) return;
    int first_depth = blockIdx.y * p.split_depth, end_depth = min(first_depth + p.split_depth, p.in);
    const W *w = (const W *)p.w;
    const float4 ZERO = {0.0f, 0.0f, 0.0f, 0.0f};

    float4 next_x[X_LOADS], next_w[W_LOADS];
    auto load = [&](int depth, bf16 *buffer) {
#pragma unroll
        for (int i = 0; i < X_LOADS; i++) {
            int at = i * THREADS + threadIdx.x, row = first_row + at / FOURS, k = depth + at % FOURS * 4;
            // Rows beyond the last are read again, and never written.
            if (WIDE)
                next_x[i] = *(const float4 *)(p.x + (size_t)min(row, rows - 1) * p.x_row + min(k, p.in - 4));
            else
                next_x[i] = row < rows ? load_four(p.x + (size_t)row * p.x_row, k, p.in, false) : ZERO;
        }
        if constexpr (COPIES) {
#pragma unroll
            for (int i = 0; i < W_COPIES; i++) {
                int at = i * THREADS + threadIdx.x, line = at / EIGHTS, k = at % EIGHTS * 8;
                bool is_inside = depth + k < p.in;
                copy_ahead(buffer + X * X_PLANE + line * LINE + k,
                           (const bf16 *)w + (size_t)min(first_out + line, p.out - 1) * p.in + (is_inside ? depth + k : 0),
                           is_inside);
            }
            asm volatile("cp.async.commit_group;" ::: "memory");
        } else {
#pragma unroll
            for (int i = 0; i < W_LOADS; i++) {
                int at = i * THREADS + threadIdx.x, out = first_out + at / FOURS, k = depth + at % FOURS * 4;
                if constexpr (WIDE)
                    next_w[i] = *(const float4 *)((const float *)w + (size_t)min(out, p.out - 1) * p.in + min(k, p.in - 4));
                else
                    next_w[i] = out < p.out ? load_four(w + (size_t)out * p.in, k, p.in, false) : ZERO;
            }
        }
    };
    auto store = [&](int depth, bf16 *buffer) {
#pragma unroll
        for (int i = 0; i < X_LOADS; i++) {
            int at = i * THREADS + threadIdx.x;
            if (WIDE && depth + at % FOURS * 4 >= p.in) next_x[i] = ZERO;
            store_parts<X>(buffer + at / FOURS * LINE + at % FOURS * 4, X_PLANE, next_x[i]);
        }
        if constexpr (COPIES) {
            asm volatile("cp.async.wait_group 0;" ::: "memory");
        } else {
#pragma unroll
            for (int i = 0; i < W_LOADS; i++) {
                int at = i * THREADS + threadIdx.x;
                if (WIDE && depth + at % FOURS * 4 >= p.in) next_w[i] = ZERO;
                store_parts<WEIGHT>(buffer + X * X_PLANE + at / FOURS * LINE + at % FOURS * 4, W_PLANE, next_w[i]);
            }
        }
    };

    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int warp_row = warp / ACROSS * (ROWS / DOWN), warp_out = warp % ACROSS * (OUTS / ACROSS);
    float sums[TALL][BROAD][4] = {};
    load(first_depth, buffers);
    store(first_depth, buffers);
    __syncthreads();
    for (int depth = first_depth, turn = 0; depth < end_depth; depth += DEPTH, turn ^= 1) {
        bool has_next = depth + DEPTH < end_depth;
        if (has_next) load(depth + DEPTH, buffers + (turn ^ 1) * BUFFER);
        const bf16 *x_tile = buffers + turn * BUFFER, *w_tile = x_tile + X * X_PLANE;
#pragma unroll
        for (int k = 0; k < DEPTH; k += 16) {
            u32 weights[WEIGHT][BROAD / 2][4];
#pragma unroll
            for (int part = 0; part < WEIGHT; part++)
#pragma unroll
                for (int o = 0; o < BROAD / 2; o++)
                    load_matrices(weights[part][o], w_tile + part * W_PLANE +
                                                        (warp_out + o * 16 + lane % 8 + lane / 16 * 8) * LINE + k +
                                                        lane / 8 % 2 * 8);
#pragma unroll
            for (int l = 0; l < TALL; l++) {
                u32 x[X][4];
#pragma unroll
                for (int part = 0; part < X; part++)
                    load_matrices(x[part], x_tile + part * X_PLANE + (warp_row + l * 16 + lane % 16) * LINE + k +
                                               lane / 16 * 8);
                // A tensor core cuts its sums off instead of rounding them. With six products a step that would add up: so
                // there each step is summed from zero, the small products first, and added here.
                constexpr bool IS_APART = WEIGHT > 1;
                float step[IS_APART ? BROAD : 1][4] = {};
#pragma unroll
                for (int order = X + WEIGHT - 2; order >= 0; order--)
#pragma unroll
                    for (int part = 0; part < X; part++) {
                        int other = order - part;
                        if (order > 2 || other < 0 || other >= WEIGHT) continue;
#pragma unroll
                        for (int o = 0; o < BROAD; o++) {
                            const u32(&w)[4] = weights[other][o / 2];
                            if constexpr (IS_APART)
                                multiply(step[o], x[part], w[o % 2 * 2], w[o % 2 * 2 + 1]);
                            else
                                multiply(sums[l][o], x[part], w[o % 2 * 2], w[o % 2 * 2 + 1]);
                        }
                    }
                if constexpr (IS_APART) {
#pragma unroll
                    for (int o = 0; o < BROAD; o++)
#pragma unroll
                        for (int q = 0; q < 4; q++) sums[l][o][q] += step[o][q];
                }
            }
        }
        if (has_next) store(depth + DEPTH, buffers + (turn ^ 1) * BUFFER);
        __syncthreads();
    }

    write_tile<TALL, BROAD>(p, sums, first_row + warp_row, first_out + warp_out, rows);
}

// The same for bf16 weights and rows of x that lie in two parts already, `in` values of the first and then `in` of the second
// (split_rows and rms_norm in layers.cu write them so): everything goes straight to shared memory, two tiles ahead.
template <int ROWS, int OUTS, int DOWN, int ACROSS> __device__ __forceinline__ void matmul_split(const MatmulArgs &p) {
    constexpr int DEPTH = 32, STAGES = 3, THREADS = 32 * DOWN * ACROSS, LINE = DEPTH + 8, EIGHTS = DEPTH / 8;
    constexpr int TALL = ROWS / DOWN / 16, BROAD = OUTS / ACROSS / 8;
    constexpr int X_PLANE = ROWS * LINE, BUFFER = 2 * X_PLANE + OUTS * LINE;
    extern __shared__ float4 shared[];
    bf16 *buffers = (bf16 *)shared;
    int first_row = blockIdx.x / p.out_tiles * ROWS, first_out = blockIdx.x % p.out_tiles * OUTS;
    const bf16 *x = (const bf16 *)p.x, *w = (const bf16 *)p.w;

    auto load = [&](int depth, bf16 *buffer) {
#pragma unroll
        for (int i = 0; i < 2 * ROWS * EIGHTS / THREADS; i++) {
            int at = i * THREADS + threadIdx.x, k = at % EIGHTS * 8, row = at / EIGHTS % ROWS, part = at / (EIGHTS * ROWS);
            bool is_inside = depth + k < p.in;
            copy_ahead(buffer + part * X_PLANE + row * LINE + k,
                       x + (size_t)min(first_row + row, p.rows - 1) * 2 * p.x_row + part * p.in + (is_inside ? depth + k : 0),
                       is_inside);
        }
#pragma unroll
        for (int i = 0; i < OUTS * EIGHTS / THREADS; i++) {
            int at = i * THREADS + threadIdx.x, k = at % EIGHTS * 8, out = at / EIGHTS;
            bool is_inside = depth + k < p.in;
            copy_ahead(buffer + 2 * X_PLANE + out * LINE + k,
                       w + (size_t)min(first_out + out, p.out - 1) * p.in + (is_inside ? depth + k : 0), is_inside);
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
    };

    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int warp_row = warp / ACROSS * (ROWS / DOWN), warp_out = warp % ACROSS * (OUTS / ACROSS);
    float sums[TALL][BROAD][4] = {};
    for (int stage = 0; stage < STAGES - 1; stage++) load(stage * DEPTH, buffers + stage * BUFFER);
    int now = 0, next = (STAGES - 1) * BUFFER;
    for (int depth = 0; depth < p.in; depth += DEPTH) {
        asm volatile("cp.async.wait_group 1;" ::: "memory");
        __syncthreads();
        // Into the tile that was multiplied last; beyond the end it is zeros, and never read.
        load(depth + (STAGES - 1) * DEPTH, buffers + next);
        next = next == (STAGES - 1) * BUFFER ? 0 : next + BUFFER;
        const bf16 *x_tile = buffers + now, *w_tile = x_tile + 2 * X_PLANE;
        now = now == (STAGES - 1) * BUFFER ? 0 : now + BUFFER;
#pragma unroll
        for (int k = 0; k < DEPTH; k += 16) {
            u32 weights[BROAD / 2][4];
#pragma unroll
            for (int o = 0; o < BROAD / 2; o++)
                load_matrices(weights[o], w_tile + (warp_out + o * 16 + lane % 8 + lane / 16 * 8) * LINE + k + lane / 8 % 2 * 8);
#pragma unroll
            for (int l = 0; l < TALL; l++) {
#pragma unroll
                for (int part = 1; part >= 0; part--) {
                    u32 rows[4];
                    load_matrices(rows, x_tile + part * X_PLANE + (warp_row + l * 16 + lane % 16) * LINE + k + lane / 16 * 8);
#pragma unroll
                    for (int o = 0; o < BROAD; o++)
                        multiply(sums[l][o], rows, weights[o / 2][o % 2 * 2], weights[o / 2][o % 2 * 2 + 1]);
                }
            }
        }
    }
    asm volatile("cp.async.wait_group 0;" ::: "memory");

    write_tile<TALL, BROAD>(p, sums, first_row + warp_row, first_out + warp_out, p.rows);
}
extern "C" __global__ void __launch_bounds__(256, 2) matmul_split_big(MatmulArgs p) { matmul_split<128, 128, 2, 4>(p); }
extern "C" __global__ void __launch_bounds__(128, 3) matmul_split_middle(MatmulArgs p) { matmul_split<64, 128, 1, 4>(p); }

// Adds up what the blocks of one tile have made of their parts of `in`, always in the same order; a thread a value.
extern "C" __global__ void __launch_bounds__(256) matmul_sum(MatmulArgs p) {
    int rows = p.row_count ? min(*p.row_count, p.rows) : p.rows;
    long long at = (long long)blockIdx.x * 256 + threadIdx.x;
    if (at >= (long long)rows * p.out) return;
    int row = (int)(at / p.out), out = (int)(at % p.out), splits = (p.in + p.split_depth - 1) / p.split_depth;
    float sum = p.bias ? p.bias[out] : 0.0f;
    for (int split = 0; split < splits; split++) sum += p.partial[(size_t)split * p.rows * p.out + at];
    float *y = p.y + (size_t)row * p.y_row + out;
    *y = p.adds ? *y + sum : sum;
}

#define MATMUL_KERNELS(NAME, W)                                                                                        \
    extern "C" __global__ void __launch_bounds__(256, 2) matmul_big_##NAME(MatmulArgs p) {                             \
        matmul<W, 128, 128, 2, 4, true>(p);                                                                            \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(128, 3) matmul_middle_##NAME(MatmulArgs p) {                          \
        matmul<W, 128, 64, 2, 2, true>(p);                                                                             \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(128) matmul_small_##NAME(MatmulArgs p) {                              \
        matmul<W, 32, 64, 2, 2, true>(p);                                                                              \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(128) matmul_narrow_##NAME(MatmulArgs p) {                             \
        matmul<W, 32, 64, 2, 2, false>(p);                                                                             \
    }
MATMUL_KERNELS(bf16, bf16)
MATMUL_KERNELS(f32, float)
