// Mamba-2's scan (state-space duality) and what stands around it. For every head h, its channels p, and the group g of B and
// C that it reads:
//
//     H[h,p,n] <- exp(delta[l,h] * A[h]) * H[h,p,n] + delta[l,h] * x[l,h,p] * B[l,g,n]
//     y[l,h,p]  = sum_n C[l,g,n] * H[h,p,n] + D[h] * x[l,h,p]
//
// In chunks of 64 tokens, with cum_t the running sum of delta * A inside the chunk and H_before the state before it:
//
//     S   = sum_t exp(cum_end - cum_t) * delta_t * x_t (x) B_t          what a chunk adds to the state
//     H'  = exp(cum_end) * H_before + S                                 from chunk to chunk
//     Y_t = sum_{s<=t} (C_t . B_s) exp(cum_t - cum_s) delta_s x_s + exp(cum_t) H_before C_t + D x_t
//
// Versions:
//   v1  ssd_plain: the recurrence as written, a warp for each (h, p), any shape up to N = 1024. It can record every state.
//   v2  ssd_chunk_states, ssd_carry, ssd_chunk_out: the chunked form. Only ssd_carry goes through time, once a chunk; all
//       else is products on tensor cores. P a multiple of 16 up to 128, N a multiple of 16 up to 256.
//       - A factor is cut into three bf16 pieces, a = a1 + a2 + a3, 24 bits together; of the nine products the six with
//         i + j <= 4 are taken, the others lie below float's last bit.
//       - Each product over 16 values of depth starts from zero and is added to the sum by the ordinary adder, which rounds
//         to nearest; the tensor core cuts off, always towards zero.
//       - C . B is the same for all heads of a group: it is computed once, by blocks of ssd_chunk_states.
//       - cum is summed in double and kept as two floats: over a chunk it may grow so large that differences of plain floats
//         would lose their digits.
//   ssd_step: one token. Bound by memory: a row of the state is read and written once, in float4 where it can be.
//
// Around it:
//     mamba2_activate   delta = clamp(softplus(dt + bias), low, high)
//     gated_norm        v = y * silu(z), then v / sqrt(mean(v^2) + eps) * w, the mean over each group of a token

struct SsdArgs {
    const float *x;      // [l, x_row], h*p used
    const float *delta;  // [l, h], final
    const float *a;      // [h], below zero
    const float *b;      // [l, b_row], g*n used
    const float *c;      // [l, c_row], g*n used
    const float *d_skip; // [h], or null
    float *state;        // [h, p, n], first state, then last
    float *y;            // [l, y_row], h*p used
    float *record;       // [l, h, p, n], every state, or null; ssd_plain and ssd_step
    float *chunk_states; // [chunks, h, p, n]; chunked form only
    float *chunk_decay;  // [chunks, h]; chunked form only
    float *scores;       // [chunks, g, 64, 64], C . B; chunked form only
    int tokens, heads, head_dim, groups, d_state;
    int x_row, b_row, c_row, y_row;
    int chunks; // tokens / 64, rounded up
};

// ---------------------------------------------------------------------------------------------------------------- v1

// Row `row` = h * head_dim + p of the state, over all tokens; lane i holds slots i, i + 32, ...
template <int SLOTS> __device__ __forceinline__ void scan_row(const SsdArgs &s, int row, int lane) {
    int h = row / s.head_dim, g = h / (s.heads / s.groups), slots = s.d_state;
    float *state = s.state + (size_t)row * slots;
    const float *b = s.b + (size_t)g * slots, *c = s.c + (size_t)g * slots;
    float a = s.a[h];
    float held[SLOTS];
#pragma unroll
    for (int i = 0; i < SLOTS; i++) {
        int n = lane + 32 * i;
        held[i] = n < slots ? state[n] : 0.0f;
    }
    for (int l = 0; l < s.tokens; l++) {
        float delta = s.delta[(size_t)l * s.heads + h];
        float x = s.x[(size_t)l * s.x_row + row];
        // Not exp_of: an error in the decay comes back with every token.
        float decay = expf(delta * a), written = delta * x, sum = 0.0f;
        const float *b_n = b + (size_t)l * s.b_row, *c_n = c + (size_t)l * s.c_row;
#pragma unroll
        for (int i = 0; i < SLOTS; i++) {
            int n = lane + 32 * i;
            if (n < slots) {
                held[i] = decay * held[i] + written * b_n[n];
                sum += c_n[n] * held[i];
            }
        }
        if (s.record) {
            float *to = s.record + ((size_t)l * s.heads * s.head_dim + row) * slots;
#pragma unroll
            for (int i = 0; i < SLOTS; i++) {
                int n = lane + 32 * i;
                if (n < slots) to[n] = held[i];
            }
        }
        sum = sum_of_warp(sum);
        if (lane == 0) s.y[(size_t)l * s.y_row + row] = s.d_skip ? sum + s.d_skip[h] * x : sum;
    }
#pragma unroll
    for (int i = 0; i < SLOTS; i++) {
        int n = lane + 32 * i;
        if (n < slots) state[n] = held[i];
    }
}

// Grid: h*p / 4 rounded up. Block: 128.
extern "C" __global__ void __launch_bounds__(128) ssd_plain(SsdArgs s) {
    int row = blockIdx.x * 4 + (threadIdx.x >> 5), lane = threadIdx.x & 31;
    if (row >= s.heads * s.head_dim) return; // whole warps, and no barrier follows
    if (s.d_state <= 32) scan_row<1>(s, row, lane);
    else if (s.d_state <= 64) scan_row<2>(s, row, lane);
    else if (s.d_state <= 128) scan_row<4>(s, row, lane);
    else if (s.d_state <= 256) scan_row<8>(s, row, lane);
    else if (s.d_state <= 512) scan_row<16>(s, row, lane);
    else scan_row<32>(s, row, lane);
}

// -------------------------------------------------------------------------------------------------------- one token

__device__ __forceinline__ int round_up_to_power_of_two(int x) { return x <= 1 ? 1 : 1 << (32 - __clz(x - 1)); }

// One token of row `row`; `lanes` neighbours, a power of two, share it. Lanes without a row still take part in the shuffles.
template <typename V> __device__ __forceinline__ void step_row(const SsdArgs &s, int row, bool inside, int part, int lanes);

template <> __device__ __forceinline__ void step_row<float4>(const SsdArgs &s, int row, bool inside, int part, int lanes) {
    int h = row / s.head_dim, g = h / (s.heads / s.groups), quads = s.d_state >> 2;
    float x = 0.0f, sum = 0.0f;
    if (inside) {
        float delta = s.delta[h], decay = expf(delta * s.a[h]);
        x = s.x[row];
        float written = delta * x;
        float4 *state = (float4 *)(s.state + (size_t)row * s.d_state);
        float4 *record = s.record ? (float4 *)(s.record + (size_t)row * s.d_state) : (float4 *)0;
        const float4 *b = (const float4 *)(s.b + (size_t)g * s.d_state);
        const float4 *c = (const float4 *)(s.c + (size_t)g * s.d_state);
        for (int i = part; i < quads; i += lanes) {
            float4 held = state[i], b_n = b[i], c_n = c[i];
            held.x = decay * held.x + written * b_n.x;
            held.y = decay * held.y + written * b_n.y;
            held.z = decay * held.z + written * b_n.z;
            held.w = decay * held.w + written * b_n.w;
            sum += c_n.x * held.x + c_n.y * held.y + c_n.z * held.z + c_n.w * held.w;
            state[i] = held;
            if (record) record[i] = held;
        }
    }
    for (int o = lanes >> 1; o > 0; o >>= 1) sum += __shfl_xor_sync(FULL_WARP, sum, o);
    if (inside && part == 0) s.y[row] = s.d_skip ? sum + s.d_skip[h] * x : sum;
}

template <> __device__ __forceinline__ void step_row<float>(const SsdArgs &s, int row, bool inside, int part, int lanes) {
    int h = row / s.head_dim, g = h / (s.heads / s.groups);
    float x = 0.0f, sum = 0.0f;
    if (inside) {
        float delta = s.delta[h], decay = expf(delta * s.a[h]);
        x = s.x[row];
        float written = delta * x;
        float *state = s.state + (size_t)row * s.d_state;
        float *record = s.record ? s.record + (size_t)row * s.d_state : (float *)0;
        const float *b = s.b + (size_t)g * s.d_state, *c = s.c + (size_t)g * s.d_state;
        for (int i = part; i < s.d_state; i += lanes) {
            float held = decay * state[i] + written * b[i];
            sum += c[i] * held;
            state[i] = held;
            if (record) record[i] = held;
        }
    }
    for (int o = lanes >> 1; o > 0; o >>= 1) sum += __shfl_xor_sync(FULL_WARP, sum, o);
    if (inside && part == 0) s.y[row] = s.d_skip ? sum + s.d_skip[h] * x : sum;
}

// Grid: any that covers h*p rows at 4 a block or more (h*p / 4 rounded up always does). Block: 128.
extern "C" __global__ void __launch_bounds__(128) ssd_step(SsdArgs s) {
    // float4 only where every row begins on 16 bytes: x, B and C may be columns of a buffer of any width.
    u64 pointers = (u64)s.b | (u64)s.c | (u64)s.state | (u64)s.record;
    bool quads = (s.d_state & 3) == 0 && (pointers & 15) == 0;
    int lanes = min(32, round_up_to_power_of_two(quads ? s.d_state >> 2 : s.d_state));
    int thread = blockIdx.x * 128 + threadIdx.x;
    int row = thread / lanes, part = thread & (lanes - 1);
    bool inside = row < s.heads * s.head_dim;
    if (quads) step_row<float4>(s, inside ? row : 0, inside, part, lanes);
    else step_row<float>(s, inside ? row : 0, inside, part, lanes);
}

// ---------------------------------------------------------------------------------------------------------------- v2

#define CHUNK 64
#define SLAB 32    // depth of a product that is in shared memory at once
#define PLANE 4096 // bytes of one bf16 piece of 64 x 32 values

// Running sums of delta * A of a chunk's tokens, each as high + low, and their delta, zero beyond the text.
struct Decays {
    float high[CHUNK], low[CHUNK], delta[CHUNK];
    double first_half;

    // exp(cum_t - cum_s). Ask only for s <= t: elsewhere it would overflow.
    __device__ __forceinline__ float between(int t, int s) const {
        return expf((high[t] - high[s]) + (low[t] - low[s]));
    }
};

// Fills `decays` for head h; ends with a barrier.
__device__ __forceinline__ void sum_decays(const SsdArgs &s, int h, int start, Decays &decays) {
    int t = threadIdx.x;
    double sum = 0.0;
    if (t < CHUNK) {
        float delta = start + t < s.tokens ? s.delta[(size_t)(start + t) * s.heads + h] : 0.0f;
        double step = (double)delta * (double)s.a[h];
        // exp of this is zero already; smaller ones would only eat digits of the others. NaN stays.
        sum = step < -1e4 ? -1e4 : step;
        for (int o = 1; o < 32; o <<= 1) {
            double before = __shfl_up_sync(FULL_WARP, sum, o);
            if ((t & 31) >= o) sum += before;
        }
        if (t == 31) decays.first_half = sum;
        decays.delta[t] = delta;
    }
    __syncthreads();
    if (t < CHUNK) {
        if (t >= 32) sum += decays.first_half;
        float high = (float)sum;
        decays.high[t] = high;
        decays.low[t] = (float)(sum - (double)high);
    }
    __syncthreads();
}

__device__ __forceinline__ u32 shared_address(const void *p) { return (u32)__cvta_generic_to_shared(p); }

// Four 8x8 matrices of bf16, one row's address from each lane: lane i gets of each the values 2(i % 4) and the next of row i / 4.
__device__ __forceinline__ void load_matrices(u32 (&to)[4], const unsigned char *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// The same, each matrix transposed.
__device__ __forceinline__ void load_matrices_turned(u32 (&to)[4], const unsigned char *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// sum += a * b, 16 x 8 with depth 16.
__device__ __forceinline__ void multiply_add(float (&sum)[4], const u32 (&a)[4], u32 b_0, u32 b_1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_0), "r"(b_1));
}

// Where a value lies in its plane. A factor has 64 lines (rows of the first, columns of the second) and 32 values of depth.
// Either depth is contiguous (64 rows of 64 bytes) or the lines are (32 rows of 128 bytes). Eighths of 16 bytes change places
// so that neither ldmatrix nor the stores meet a bank twice.
template <bool BY_DEPTH> __device__ __forceinline__ int place(int line, int k) {
    if (BY_DEPTH) return k * 128 + (((line >> 3) ^ (k & 7)) << 4) + (line & 7) * 2;
    return line * 64 + (((k >> 3) ^ ((line >> 1) & 3)) << 4) + (k & 7) * 2;
}

// A thread's share of a slab, four times four values: `value(line, k)` gives four along what is contiguous.
template <bool BY_DEPTH, typename Value>
__device__ __forceinline__ void fetch(float4 (&to)[4], int slab, const Value &value) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int q = threadIdx.x + 128 * i;
        to[i] = BY_DEPTH ? value((q & 15) * 4, slab + (q >> 4)) : value(q >> 3, slab + (q & 7) * 4);
    }
}

// Cuts them into pieces and stores those in three planes.
template <bool BY_DEPTH> __device__ __forceinline__ void put(unsigned char *planes, const float4 (&from)[4]) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int q = threadIdx.x + 128 * i;
        int at = BY_DEPTH ? place<true>((q & 15) * 4, q >> 4) : place<false>(q >> 3, (q & 7) * 4);
        float4 v = from[i];
#pragma unroll
        for (int piece = 0; piece < 3; piece++) {
            u32 first = pack_bf16(v.x, v.y), second = pack_bf16(v.z, v.w);
            *(uint2 *)(planes + piece * PLANE + at) = make_uint2(first, second);
            // What a piece leaves over is exact.
            v.x -= __uint_as_float(first << 16);
            v.y -= __uint_as_float(first & 0xffff0000u);
            v.z -= __uint_as_float(second << 16);
            v.w -= __uint_as_float(second & 0xffff0000u);
        }
    }
}

// A warp's quarter of the 64 x 64: it owns rows m.. and columns n.., 32 of each.
struct Quarter {
    int m, n, lane;
    __device__ __forceinline__ Quarter() {
        int warp = threadIdx.x >> 5;
        m = (warp & 1) * 32;
        n = (warp >> 1) * 32;
        lane = threadIdx.x & 31;
    }
    // Row and first of two columns of sum[i][j][2 * half] and the one after it.
    __device__ __forceinline__ int row(int i, int half) const { return m + 16 * i + 8 * half + (lane >> 2); }
    __device__ __forceinline__ int column(int j) const { return n + 8 * j + 2 * (lane & 3); }
};

// Adds a slab's products to a warp's 32 x 32.
template <bool A_BY_DEPTH, bool B_BY_DEPTH>
__device__ __forceinline__ void multiply_slab(float (&sum)[2][4][4], const unsigned char *planes, const Quarter &at) {
    int row = at.lane & 7, one = (at.lane >> 3) & 1, two = at.lane >> 4;
#pragma unroll 1 // unrolled, both steps' pieces would be held at once: there are not registers enough
    for (int k = 0; k < SLAB; k += 16) {
        // Matrices 0 to 3 of a: (rows, depth) = (0, 0), (8, 0), (0, 8), (8, 8).
        u32 a[2][3][4];
#pragma unroll
        for (int i = 0; i < 2; i++) {
#pragma unroll
            for (int piece = 0; piece < 3; piece++) {
                const unsigned char *plane = planes + piece * PLANE;
                int m = at.m + 16 * i + 8 * one;
                if (A_BY_DEPTH) load_matrices_turned(a[i][piece], plane + place<true>(m, k + 8 * two + row));
                else load_matrices(a[i][piece], plane + place<false>(m + row, k + 8 * two));
            }
        }
#pragma unroll
        for (int pair = 0; pair < 2; pair++) {
            // Of b: (columns, depth) = (0, 0), (0, 8), (8, 0), (8, 8).
            u32 b[3][4];
#pragma unroll
            for (int piece = 0; piece < 3; piece++) {
                const unsigned char *plane = planes + (3 + piece) * PLANE;
                int n = at.n + 16 * pair + 8 * two;
                if (B_BY_DEPTH) load_matrices_turned(b[piece], plane + place<true>(n, k + 8 * one + row));
                else load_matrices(b[piece], plane + place<false>(n + row, k + 8 * one));
            }
#pragma unroll
            for (int i = 0; i < 2; i++) {
#pragma unroll
                for (int j = 0; j < 2; j++) {
                    // Small ones first.
                    float part[4] = {0.0f, 0.0f, 0.0f, 0.0f};
                    multiply_add(part, a[i][2], b[0][2 * j], b[0][2 * j + 1]);
                    multiply_add(part, a[i][0], b[2][2 * j], b[2][2 * j + 1]);
                    multiply_add(part, a[i][1], b[1][2 * j], b[1][2 * j + 1]);
                    multiply_add(part, a[i][1], b[0][2 * j], b[0][2 * j + 1]);
                    multiply_add(part, a[i][0], b[1][2 * j], b[1][2 * j + 1]);
                    multiply_add(part, a[i][0], b[0][2 * j], b[0][2 * j + 1]);
#pragma unroll
                    for (int e = 0; e < 4; e++) sum[i][2 * pair + j][e] += part[e];
                }
            }
        }
    }
}

// Adds a product of 64 x depth and depth x 64 to a block's sums, four warps of 32 x 32. `a(line, k)` and `b(line, k)` give four
// values each, zeros outside; a warp for which a slab is not `useful` leaves it out.
template <bool A_BY_DEPTH, bool B_BY_DEPTH, typename A, typename B, typename Useful>
__device__ __forceinline__ void product(
    float (&sum)[2][4][4], unsigned char *planes, int depth, const Quarter &at, const A &a, const B &b, const Useful &useful) {
    float4 next_a[4], next_b[4];
    fetch<A_BY_DEPTH>(next_a, 0, a);
    fetch<B_BY_DEPTH>(next_b, 0, b);
#pragma unroll 1 // for the same reason
    for (int slab = 0; slab < depth; slab += SLAB) {
        __syncthreads(); // no warp reads the slab before any more
        put<A_BY_DEPTH>(planes, next_a);
        put<B_BY_DEPTH>(planes + 3 * PLANE, next_b);
        __syncthreads();
        if (slab + SLAB < depth) { // under way while this slab is multiplied
            fetch<A_BY_DEPTH>(next_a, slab + SLAB, a);
            fetch<B_BY_DEPTH>(next_b, slab + SLAB, b);
        }
        if (useful(slab)) multiply_slab<A_BY_DEPTH, B_BY_DEPTH>(sum, planes, at);
    }
}

__device__ __forceinline__ float4 four_or_zeros(const float *from, bool inside) {
    return inside ? *(const float4 *)from : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
}

__device__ __forceinline__ void clear(float (&sum)[2][4][4]) {
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) sum[i][j][e] = 0.0f;
}

// Grid: (chunks, h + g, ceil(p / 64) * ceil(n / 64)). Block: 128. The blocks after the last head compute C . B of a group.
// x_row, b_row and c_row are multiples of 4, and x, b, c and the scratch buffers begin on 16 bytes.
extern "C" __global__ void __launch_bounds__(128, 4) ssd_chunk_states(SsdArgs s) {
    __shared__ __align__(16) unsigned char planes[6 * PLANE];
    __shared__ Decays decays;
    Quarter at;
    int chunk = blockIdx.x, start = chunk * CHUNK, slots = s.d_state;
    float sum[2][4][4];
    clear(sum);
    if ((int)blockIdx.y >= s.heads) {
        if (blockIdx.z > 0) return;
        int g = blockIdx.y - s.heads;
        auto rows_of = [&](const float *from, int stride) {
            return [=, &s](int t, int n) {
                return four_or_zeros(from + (size_t)(start + t) * stride + g * slots + n, start + t < s.tokens && n < slots);
            };
        };
        // The quarter above the diagonal stays zero: nobody reads it.
        product<false, false>(sum, planes, slots, at, rows_of(s.c, s.c_row), rows_of(s.b, s.b_row),
            [&](int) { return at.n <= at.m; });
        float *to = s.scores + ((size_t)chunk * s.groups + g) * (CHUNK * CHUNK);
#pragma unroll
        for (int i = 0; i < 2; i++)
#pragma unroll
            for (int half = 0; half < 2; half++)
#pragma unroll
                for (int j = 0; j < 4; j++)
                    *(float2 *)(to + at.row(i, half) * CHUNK + at.column(j)) =
                        make_float2(sum[i][j][2 * half], sum[i][j][2 * half + 1]);
        return;
    }

    int h = blockIdx.y, g = h / (s.heads / s.groups), across = (slots + 63) / 64;
    int first_p = blockIdx.z / across * 64, first_n = blockIdx.z % across * 64;
    sum_decays(s, h, start, decays);
    if (blockIdx.z == 0 && threadIdx.x == 0) s.chunk_decay[(size_t)chunk * s.heads + h] = decays.high[CHUNK - 1];
    const float *x = s.x + h * s.head_dim, *b = s.b + g * slots;
    bool inside = first_p + at.m < s.head_dim && first_n + at.n < slots;
    product<true, true>(
        sum, planes, CHUNK, at,
        [&](int p, int t) {
            float4 v = four_or_zeros(x + (size_t)(start + t) * s.x_row + first_p + p,
                start + t < s.tokens && first_p + p < s.head_dim);
            float weight = decays.between(CHUNK - 1, t) * decays.delta[t];
            return make_float4(weight * v.x, weight * v.y, weight * v.z, weight * v.w);
        },
        [&](int n, int t) {
            return four_or_zeros(b + (size_t)(start + t) * s.b_row + first_n + n, start + t < s.tokens && first_n + n < slots);
        },
        [&](int) { return inside; });
    float *to = s.chunk_states + ((size_t)chunk * s.heads + h) * s.head_dim * slots;
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int half = 0; half < 2; half++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                int p = first_p + at.row(i, half), n = first_n + at.column(j);
                if (p < s.head_dim && n < slots)
                    *(float2 *)(to + (size_t)p * slots + n) = make_float2(sum[i][j][2 * half], sum[i][j][2 * half + 1]);
            }
}

// Every chunk's S becomes the state before the chunk; the last state goes to `state`.
// Grid: h*p*n / 512 rounded up. Block: 128. state and chunk_states begin on 16 bytes.
extern "C" __global__ void __launch_bounds__(128) ssd_carry(SsdArgs s) {
    int all = s.heads * s.head_dim * s.d_state / 4; // p and n are multiples of 16
    int i = blockIdx.x * 128 + threadIdx.x;
    if (i >= all) return;
    const float *decay_h = s.chunk_decay + i / (s.head_dim * s.d_state / 4);
    float4 *states = (float4 *)s.chunk_states + i;
    float4 held = ((float4 *)s.state)[i];
    for (int first = 0; first < s.chunks; first += 4) {
        // Four loads under way at once: none waits for the sum.
        float4 own[4];
        float decay[4];
#pragma unroll
        for (int u = 0; u < 4; u++) {
            if (first + u < s.chunks) {
                own[u] = states[(size_t)(first + u) * all];
                decay[u] = decay_h[(size_t)(first + u) * s.heads];
            }
        }
#pragma unroll
        for (int u = 0; u < 4; u++) {
            if (first + u < s.chunks) {
                states[(size_t)(first + u) * all] = held;
                float kept = expf(decay[u]);
                held.x = kept * held.x + own[u].x;
                held.y = kept * held.y + own[u].y;
                held.z = kept * held.z + own[u].z;
                held.w = kept * held.w + own[u].w;
            }
        }
    }
    ((float4 *)s.state)[i] = held;
}

// Grid: (chunks, h, ceil(p / 64)). Block: 128. As ssd_chunk_states, and y_row is even and y begins on 8 bytes.
extern "C" __global__ void __launch_bounds__(128, 4) ssd_chunk_out(SsdArgs s) {
    __shared__ __align__(16) unsigned char planes[6 * PLANE];
    __shared__ Decays decays;
    Quarter at;
    int chunk = blockIdx.x, start = chunk * CHUNK, slots = s.d_state;
    int h = blockIdx.y, g = h / (s.heads / s.groups), first_p = blockIdx.z * 64;
    sum_decays(s, h, start, decays);
    float sum[2][4][4];
    clear(sum);
    bool inside = first_p + at.n < s.head_dim;

    // What came before: C . H_before, then the decay since the chunk's beginning.
    const float *c = s.c + g * slots;
    const float *before = s.chunk_states + (((size_t)chunk * s.heads + h) * s.head_dim + first_p) * slots;
    product<false, false>(
        sum, planes, slots, at,
        [&](int t, int n) {
            return four_or_zeros(c + (size_t)(start + t) * s.c_row + n, start + t < s.tokens && n < slots);
        },
        [&](int p, int n) { return four_or_zeros(before + (size_t)p * slots + n, first_p + p < s.head_dim && n < slots); },
        [&](int) { return inside; });
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int t = at.row(i, half);
            float decay = expf(decays.high[t] + decays.low[t]);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                sum[i][j][2 * half] *= decay;
                sum[i][j][2 * half + 1] *= decay;
            }
        }

    // Inside the chunk. Above the diagonal the factor is zero whatever C . B is, and its exp is never taken.
    const float *scores = s.scores + ((size_t)chunk * s.groups + g) * (CHUNK * CHUNK);
    const float *x = s.x + h * s.head_dim + first_p;
    product<false, true>(
        sum, planes, CHUNK, at,
        [&](int t, int from) {
            float4 v = four_or_zeros(scores + t * CHUNK + from, from <= t);
            v.x = from <= t ? v.x * decays.between(t, from) * decays.delta[from] : 0.0f;
            v.y = from + 1 <= t ? v.y * decays.between(t, from + 1) * decays.delta[from + 1] : 0.0f;
            v.z = from + 2 <= t ? v.z * decays.between(t, from + 2) * decays.delta[from + 2] : 0.0f;
            v.w = from + 3 <= t ? v.w * decays.between(t, from + 3) * decays.delta[from + 3] : 0.0f;
            return v;
        },
        [&](int p, int from) {
            return four_or_zeros(x + (size_t)(start + from) * s.x_row + p,
                start + from < s.tokens && first_p + p < s.head_dim);
        },
        [&](int slab) { return inside && slab < at.m + 32; });

    float skip = s.d_skip ? s.d_skip[h] : 0.0f;
    float *y = s.y + h * s.head_dim + first_p;
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int l = start + at.row(i, half);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                int p = at.column(j);
                if (l < s.tokens && first_p + p < s.head_dim) {
                    float2 v = make_float2(sum[i][j][2 * half], sum[i][j][2 * half + 1]);
                    if (s.d_skip) {
                        float2 own = *(const float2 *)(x + (size_t)l * s.x_row + p);
                        v.x += skip * own.x;
                        v.y += skip * own.y;
                    }
                    *(float2 *)(y + (size_t)l * s.y_row + p) = v;
                }
            }
        }
}

// ------------------------------------------------------------------------------------------------------- around the scan

struct Mamba2ActivateArgs {
    const float *dt;      // [l, dt_row], h used
    const float *dt_bias; // [h], or null
    float *delta;         // [l, h]
    int tokens, heads, dt_row, unused;
    float low, high;
};

// Grid: l*h / 256 rounded up. Block: 256.
extern "C" __global__ void __launch_bounds__(256) mamba2_activate(Mamba2ActivateArgs s) {
    size_t i = (size_t)blockIdx.x * 256 + threadIdx.x;
    if (i >= (size_t)s.tokens * s.heads) return;
    int l = (int)(i / s.heads), h = (int)(i % s.heads);
    float x = s.dt[(size_t)l * s.dt_row + h];
    if (s.dt_bias) x += s.dt_bias[h];
    x = softplus(x);
    // Written so that NaN stays.
    s.delta[i] = x < s.low ? s.low : (x > s.high ? s.high : x);
}

struct GatedNormArgs {
    const float *y; // [l, y_row]
    const float *z; // [l, z_row]
    const float *w; // [groups * width]
    float *out;     // [l, out_row]; may be y
    int tokens, groups, width, y_row, z_row, out_row;
    float eps, unused;
};

// Grid: (l, groups). Block: 256.
extern "C" __global__ void __launch_bounds__(256) gated_norm(GatedNormArgs s) {
    __shared__ float room[33];
    size_t l = blockIdx.x;
    int first = blockIdx.y * s.width;
    const float *y = s.y + l * s.y_row + first, *z = s.z + l * s.z_row + first, *w = s.w + first;
    float *out = s.out + l * s.out_row + first;
    float squares = 0.0f;
    // v waits in `out`: a thread reads back only what it wrote, so out may be y.
    for (int d = threadIdx.x; d < s.width; d += 256) {
        float v = y[d] * silu(z[d]);
        out[d] = v;
        squares += v * v;
    }
    float scale = 1.0f / sqrtf(sum_of_block(squares, room) / (float)s.width + s.eps);
    for (int d = threadIdx.x; d < s.width; d += 256) out[d] = out[d] * scale * w[d];
}
