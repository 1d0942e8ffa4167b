// Matrix products with weights as checkpoints store them, [out, in]:
//
//   y[l,o] = sum_i x[l,i] * W[o,i] + bias[o]      (+ y[l,o] where the result is added to what is there)
//
// The tensor cores multiply bf16, and x is f32: so x is cut into a sum of bf16 parts, each what the ones before have left
// over, and the products of the parts are added up in f32. Two parts keep 16 bits of x, three keep all 24.
//
// Versions, and what each changed:
//   matvec   for a few tokens: a warp for two rows of W, 16-byte loads, f32 multiply-adds. Reads W once; that is its floor.
//            Can norm x on the way (RMSNorm), so that a token's norm and projection are one launch.
//   matmul   for many: tiles of x and W in shared memory, loaded while the tile before is multiplied, mma.sync on 16x8x16.
//            W in bf16 needs two products (x1 W, x2 W); W in f32 is cut too, and the six products above 2^-24 are kept:
//            x1 W1, x1 W2, x2 W1, x2 W2, x1 W3, x3 W1. Big tiles where there are enough of them for the chip, small ones
//            elsewhere.

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
    int spare;
};

__device__ __forceinline__ bool is_aligned(const void *pointer, int bytes) { return (u64)pointer % bytes == 0; }

// Eight weights, from 16 or 32 aligned bytes.
struct Eight {
    float v[8];
};
__device__ __forceinline__ Eight load_eight(const float *from) {
    float4 low = ((const float4 *)from)[0], high = ((const float4 *)from)[1];
    return {{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
}
__device__ __forceinline__ Eight load_eight(const bf16 *from) {
    uint4 v = *(const uint4 *)from;
    return {{__uint_as_float(v.x << 16), __uint_as_float(v.x & 0xffff0000u), __uint_as_float(v.y << 16),
             __uint_as_float(v.y & 0xffff0000u), __uint_as_float(v.z << 16), __uint_as_float(v.z & 0xffff0000u),
             __uint_as_float(v.w << 16), __uint_as_float(v.w & 0xffff0000u)}};
}

// ---- a few tokens ------------------------------------------------------------------------------------------------

#define MATVEC_WARPS 8
// Rows of W a warp reads at once, and how many pieces of 256 values of each are asked for before anything else.
#define MATVEC_ROWS 2
#define MATVEC_AHEAD 3

template <typename W> __device__ __forceinline__ void matvec(const MatmulArgs &p) {
    extern __shared__ float4 shared[];
    __shared__ float room[33];
    float *x = (float *)shared;
    int token = blockIdx.y, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    if (p.row_count && token >= *p.row_count) return;
    const W *w = (const W *)p.w;
    bool is_wide = p.in % 8 == 0 && is_aligned(w, 16);
    int step = gridDim.x * MATVEC_WARPS * MATVEC_ROWS, first = (blockIdx.x * MATVEC_WARPS + warp) * MATVEC_ROWS;

    // The weights are asked for before x is there: their way is the longest.
    Eight ahead[MATVEC_ROWS][MATVEC_AHEAD];
#pragma unroll
    for (int r = 0; r < MATVEC_ROWS; r++)
#pragma unroll
        for (int k = 0; k < MATVEC_AHEAD; k++) {
            int i = (k * 32 + lane) * 8;
            if (is_wide && first + r < p.out && i < p.in) ahead[r][k] = load_eight(w + (size_t)(first + r) * p.in + i);
        }

    float squares = 0.0f;
    for (int i = threadIdx.x; i < p.in; i += blockDim.x) {
        float v = p.x[(size_t)token * p.x_row + i];
        squares += v * v;
        x[i] = v;
    }
    if (p.has_norm) {
        float scale = rsqrtf(sum_of_block(squares, room) / p.in + p.eps);
        for (int i = threadIdx.x; i < p.in; i += blockDim.x) x[i] *= p.norm ? scale * p.norm[i] : scale;
    }
    __syncthreads();

    for (int row = first, turn = 0; row < p.out; row += step, turn++) {
        float sums[MATVEC_ROWS] = {};
        if (is_wide) {
            for (int k = 0, i = lane * 8; i < p.in; k++, i += 256) {
                Eight v = load_eight(x + i);
#pragma unroll
                for (int r = 0; r < MATVEC_ROWS; r++) {
                    if (row + r >= p.out) continue;
                    Eight weights;
                    if (turn == 0 && k < MATVEC_AHEAD) {
#pragma unroll
                        for (int q = 0; q < MATVEC_AHEAD; q++)
                            if (q == k) weights = ahead[r][q];
                    } else
                        weights = load_eight(w + (size_t)(row + r) * p.in + i);
#pragma unroll
                    for (int j = 0; j < 8; j++) sums[r] = fmaf(weights.v[j], v.v[j], sums[r]);
                }
            }
        } else {
            for (int i = lane; i < p.in; i += 32)
#pragma unroll
                for (int r = 0; r < MATVEC_ROWS; r++)
                    if (row + r < p.out) sums[r] = fmaf(to_float(w[(size_t)(row + r) * p.in + i]), x[i], sums[r]);
        }
#pragma unroll
        for (int r = 0; r < MATVEC_ROWS; r++) {
            float sum = sum_of_warp(sums[r]);
            if (lane != 0 || row + r >= p.out) continue;
            if (p.bias) sum += p.bias[row + r];
            float *y = p.y + (size_t)token * p.y_row + row + r;
            *y = p.adds ? *y + sum : sum;
        }
    }
}

extern "C" __global__ void __launch_bounds__(256) matvec_f32(MatmulArgs p) { matvec<float>(p); }
extern "C" __global__ void __launch_bounds__(256) matvec_bf16(MatmulArgs p) { matvec<bf16>(p); }

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

// A block multiplies ROWS x OUTS by warps of (ROWS / DOWN) x (OUTS / ACROSS).
template <typename W, int ROWS, int OUTS, int DOWN, int ACROSS>
__device__ __forceinline__ void matmul(const MatmulArgs &p) {
    constexpr int X = Cut<W>::X, WEIGHT = Cut<W>::WEIGHT, DEPTH = Cut<W>::DEPTH;
    constexpr int THREADS = 32 * DOWN * ACROSS, LINE = DEPTH + 8; // 16 bytes more: rows begin in different banks
    constexpr int TALL = ROWS / DOWN / 16, BROAD = OUTS / ACROSS / 8;
    constexpr int X_PLANE = ROWS * LINE, W_PLANE = OUTS * LINE, BUFFER = X * X_PLANE + WEIGHT * W_PLANE;
    constexpr int X_LOADS = ROWS * DEPTH / 4 / THREADS, W_LOADS = OUTS * DEPTH / 4 / THREADS, FOURS = DEPTH / 4;
    extern __shared__ float4 shared[];
    bf16 *buffers = (bf16 *)shared;

    int rows = p.row_count ? min(*p.row_count, p.rows) : p.rows;
    int first_row = blockIdx.x / p.out_tiles * ROWS, first_out = blockIdx.x % p.out_tiles * OUTS;
    if (first_row >= rows) return;
    const W *w = (const W *)p.w;
    bool is_wide_x = p.x_row % 4 == 0 && is_aligned(p.x, 16), is_wide_w = p.in % 4 == 0 && is_aligned(w, 16);

    float4 next_x[X_LOADS], next_w[W_LOADS];
    auto load = [&](int depth) {
#pragma unroll
        for (int i = 0; i < X_LOADS; i++) {
            int at = i * THREADS + threadIdx.x, row = first_row + at / FOURS, k = depth + at % FOURS * 4;
            next_x[i] = row < rows ? load_four(p.x + (size_t)row * p.x_row, k, p.in, is_wide_x)
                                   : float4{0.0f, 0.0f, 0.0f, 0.0f};
        }
#pragma unroll
        for (int i = 0; i < W_LOADS; i++) {
            int at = i * THREADS + threadIdx.x, out = first_out + at / FOURS, k = depth + at % FOURS * 4;
            next_w[i] = out < p.out ? load_four(w + (size_t)out * p.in, k, p.in, is_wide_w)
                                    : float4{0.0f, 0.0f, 0.0f, 0.0f};
        }
    };
    auto store = [&](bf16 *buffer) {
#pragma unroll
        for (int i = 0; i < X_LOADS; i++) {
            int at = i * THREADS + threadIdx.x;
            store_parts<X>(buffer + at / FOURS * LINE + at % FOURS * 4, X_PLANE, next_x[i]);
        }
#pragma unroll
        for (int i = 0; i < W_LOADS; i++) {
            int at = i * THREADS + threadIdx.x;
            store_parts<WEIGHT>(buffer + X * X_PLANE + at / FOURS * LINE + at % FOURS * 4, W_PLANE, next_w[i]);
        }
    };

    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int warp_row = warp / ACROSS * (ROWS / DOWN), warp_out = warp % ACROSS * (OUTS / ACROSS);
    float sums[TALL][BROAD][4] = {};
    load(0);
    store(buffers);
    __syncthreads();
    for (int depth = 0, turn = 0; depth < p.in; depth += DEPTH, turn ^= 1) {
        bool has_next = depth + DEPTH < p.in;
        if (has_next) load(depth + DEPTH);
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
                if constexpr (IS_APART)
#pragma unroll
                    for (int o = 0; o < BROAD; o++)
#pragma unroll
                        for (int q = 0; q < 4; q++) sums[l][o][q] += step[o][q];
            }
        }
        if (has_next) store(buffers + (turn ^ 1) * BUFFER);
        __syncthreads();
    }

#pragma unroll
    for (int l = 0; l < TALL; l++)
#pragma unroll
        for (int o = 0; o < BROAD; o++)
#pragma unroll
            for (int q = 0; q < 4; q++) {
                int row = first_row + warp_row + l * 16 + lane / 4 + q / 2 * 8;
                int out = first_out + warp_out + o * 8 + lane % 4 * 2 + q % 2;
                if (row >= rows || out >= p.out) continue;
                float sum = sums[l][o][q] + (p.bias ? p.bias[out] : 0.0f);
                float *y = p.y + (size_t)row * p.y_row + out;
                *y = p.adds ? *y + sum : sum;
            }
}

extern "C" __global__ void __launch_bounds__(256) matmul_big_bf16(MatmulArgs p) { matmul<bf16, 128, 128, 2, 4>(p); }
extern "C" __global__ void __launch_bounds__(128) matmul_small_bf16(MatmulArgs p) { matmul<bf16, 64, 64, 2, 2>(p); }
extern "C" __global__ void __launch_bounds__(256) matmul_big_f32(MatmulArgs p) { matmul<float, 128, 128, 2, 4>(p); }
extern "C" __global__ void __launch_bounds__(128) matmul_small_f32(MatmulArgs p) { matmul<float, 64, 64, 2, 2>(p); }
