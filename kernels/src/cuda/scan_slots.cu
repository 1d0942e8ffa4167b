// v4 of the selective scan (scan.cu has the formula, and v1 to v3), for the shape most models have: 16 slots, a softplus, a
// gate, nothing recorded, channels in fours, and rows of u, delta and z that begin on the bytes of four values.
//
// v3 gives a thread all slots of two channels, so few threads carry a sequence, and it has to be cut into segments whose
// exponentials are then taken twice. Here a channel's slots lie across eight lanes, two a lane: a sequence is gone through
// once, as one segment, and each exponential is taken once. That pays where the channels of all sequences fill the chip.
//
// The warps of a block have roles, so that the recurrence issues nothing but its own:
//   WARPS       carry the states, four channels each;
//   one         makes Delta, Delta u and the gates two chunks of tokens ahead, a lane a token;
//   FINISHERS   copy the operands AHEAD chunks ahead, and sum what the eight lanes of a channel have of y a chunk behind.
// They meet once a chunk.

#define CHUNK 32 // tokens, a lane of the preparing warp each
#define AHEAD 6  // chunks under way from memory; with 4 it waits for them
#define RING (AHEAD + 1)
#define GROUP 8 // tokens whose loads, decays and recurrence follow one another
#define FINISHERS 4

__device__ __forceinline__ float4 load_four(const float *from) { return *(const float4 *)from; }
__device__ __forceinline__ float4 load_four(const bf16 *from) {
    uint2 v = *(const uint2 *)from;
    return make_float4(__uint_as_float(v.x << 16), __uint_as_float(v.x & 0xffff0000u), __uint_as_float(v.y << 16),
                       __uint_as_float(v.y & 0xffff0000u));
}

// Zeros behind the end of the text, of which nothing is read then.
template <int BYTES> __device__ __forceinline__ void copy_or_zero(u32 to, const char *from, bool is_there) {
    int size = is_there ? BYTES : 0;
    if (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(size) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(from), "n"(BYTES), "r"(size)
                     : "memory");
}

// Where the parts of y of four tokens of a channel lie among each other (`item`: which four, which channel), so that neither
// who writes nor who reads them waits for a bank.
__device__ __forceinline__ int part_place(int item, int pair) {
    return item * 8 + (pair ^ ((item & 3) << 1 | (item >> 2 & 1)));
}

// The shared memory of a block; slots.rs asks for as much.
template <typename T, int WARPS> struct SlotsRoom {
    static constexpr int N = 16, CHANNELS = 4 * WARPS, ROW = 2 * N;
    static constexpr int B_VALUES = CHUNK * ROW, U_VALUES = CHUNK * CHANNELS, RAW_VALUES = B_VALUES + 3 * U_VALUES;
    static constexpr int STEP_ROW = CHUNK + 2; // float2; the two keep channels on banks of their own
    static constexpr int RAW = RING * RAW_VALUES * (int)sizeof(T), GATES = 4 * 2 * U_VALUES * 4;
    static constexpr int STEPS = 3 * CHANNELS * STEP_ROW * 8, PARTS = 2 * (CHUNK / 4) * CHANNELS * 8 * 16;
    static constexpr int BYTES = RAW + GATES + STEPS + PARTS;
};
static_assert(SlotsRoom<float, 2>::BYTES == 81280 && SlotsRoom<float, 3>::BYTES == 107584, "as in slots.rs");
static_assert(SlotsRoom<bf16, 2>::BYTES == 56192 && SlotsRoom<bf16, 3>::BYTES == 77120, "as in slots.rs");

template <typename T, int WARPS> __device__ __forceinline__ void scan_slots(const ScanArgs &p) {
    extern __shared__ float4 shared[];
    typedef SlotsRoom<T, WARPS> R;
    constexpr int N = R::N, CHANNELS = R::CHANNELS, ROW = R::ROW, B_VALUES = R::B_VALUES, U_VALUES = R::U_VALUES;
    constexpr int RAW_BYTES = R::RAW_VALUES * (int)sizeof(T), STEP_ROW = R::STEP_ROW;
    char *raw = (char *)shared; // RING of B and C: [token][pair of slots][B, B, C, C], and of u, delta, z: [token][channel]
    float *gates = (float *)(raw + R::RAW);                         // four of [u's share, gate][token][channel]
    float2 *steps = (float2 *)(raw + R::RAW + R::GATES);            // three of [channel][token]: Delta, Delta u
    float4 *parts = (float4 *)(raw + R::RAW + R::GATES + R::STEPS); // two of [token / 4][channel][pair of slots]
    constexpr int PARTS = CHUNK / 4 * CHANNELS * 8;

    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, batch = blockIdx.z;
    int group_start = blockIdx.x / p.tiles * p.group_channels, tile = blockIdx.x % p.tiles * CHANNELS;
    // The last block of a group overlaps the one before, and writes only what is new. Where `last` is `initial` it may read
    // states that the other has replaced already: those of channels of which it writes nothing.
    int first_channel = group_start + min(tile, p.group_channels - CHANNELS), first_own = group_start + tile;
    int last = p.tokens - 1, chunks = (p.tokens + CHUNK - 1) / CHUNK;
    size_t rows = (size_t)batch * p.tokens;
    let_next_begin();
    wait_for_previous();

    if (warp > WARPS) {
        int thread = threadIdx.x - 32 * (WARPS + 1);
        // Of B and C two values at once: a pair of slots has its B beside its C.
        constexpr int THREADS = 32 * FINISHERS, PIECES = ROW / 2, AT_ONCE = THREADS / PIECES; // AT_ONCE: tokens
        int token = thread / PIECES, piece = thread % PIECES, left = p.tokens;
        bool is_c = piece % 2;
        int slot = piece / 2 * 2, bc_row = (is_c ? p.c_token : p.b_token) * (int)sizeof(T);
        const T *b = (const T *)p.b + (rows + token) * p.b_token + (size_t)(first_channel / p.b_channels) * p.b_group;
        const T *c = (const T *)p.c + (rows + token) * p.c_token + (size_t)(first_channel / p.c_channels) * p.c_group;
        const char *bc = (const char *)((is_c ? c : b) + slot);
        int u_token = thread / WARPS, d_first = first_channel + thread % WARPS * 4;
        bool is_copier = thread < CHUNK * WARPS;
        const char *operands[3] = {(const char *)((const T *)p.u + (rows + u_token) * p.u_row + d_first),
                                   (const char *)((const T *)p.delta + (rows + u_token) * p.delta_row + d_first),
                                   (const char *)((const T *)p.z + (rows + u_token) * p.z_row + d_first)};
        int operand_rows[3] = {p.u_row * (int)sizeof(T), p.delta_row * (int)sizeof(T), p.z_row * (int)sizeof(T)};
        u32 room = (u32)__cvta_generic_to_shared(raw), offset = 0;
        static_assert(CHUNK * WARPS <= THREADS, "a thread copies four channels of a token at most");
        auto copy = [&]() {
            u32 to = room + offset;
#pragma unroll
            for (int i = 0; i < CHUNK / AT_ONCE; i++)
                copy_or_zero<2 * (int)sizeof(T)>(to + (thread + i * THREADS) * 2 * (int)sizeof(T),
                                                 row_at(bc, i * AT_ONCE, bc_row), token + i * AT_ONCE < left);
            bc = row_at(bc, CHUNK, bc_row);
            if (is_copier) {
#pragma unroll
                for (int q = 0; q < 3; q++) {
                    copy_or_zero<4 * (int)sizeof(T)>(to + (B_VALUES + q * U_VALUES + thread * 4) * (int)sizeof(T),
                                                     operands[q], u_token < left);
                    operands[q] = row_at(operands[q], CHUNK, operand_rows[q]);
                }
            }
            left -= CHUNK;
            offset = offset == (RING - 1) * RAW_BYTES ? 0 : offset + RAW_BYTES;
            asm volatile("cp.async.commit_group;" ::: "memory");
        };
        // Sums what the lanes of a channel have of y; a thread has four tokens of a channel.
        int item = thread / 32 * (8 * WARPS) + min(lane, 8 * WARPS - 1), group = item / CHANNELS, d = item % CHANNELS;
        bool is_new = lane < 8 * WARPS && first_channel + d >= first_own;
        T *y = (T *)p.y + (rows + group * 4) * p.y_row + first_channel + d;
        int y_row = p.y_row * (int)sizeof(T), y_left = p.tokens - group * 4;
        auto finish = [&](int chunk) {
            const float4 *from = parts + (chunk & 1) * PARTS;
            const float *gate = gates + chunk % 4 * 2 * U_VALUES + group * 4 * CHANNELS + d;
            float share[4], factor[4];
#pragma unroll
            for (int j = 0; j < 4; j++) share[j] = gate[j * CHANNELS], factor[j] = gate[U_VALUES + j * CHANNELS];
            float4 sum = from[part_place(item, 0)];
#pragma unroll
            for (int i = 1; i < 8; i++) {
                float4 part = from[part_place(item, i)];
                sum.x += part.x, sum.y += part.y, sum.z += part.z, sum.w += part.w;
            }
            float sums[4] = {sum.x, sum.y, sum.z, sum.w};
#pragma unroll
            for (int j = 0; j < 4; j++) {
                float out[1] = {fmaf(sums[j], factor[j], share[j])};
                store_if(j < y_left && is_new, row_at(y, j, y_row), out);
            }
            y = row_at(y, CHUNK, y_row);
            y_left -= CHUNK;
        };
        for (int chunk = 0; chunk < AHEAD; chunk++) copy();
        // Complete before the barrier: what is prepared behind it, two chunks ahead of the recurrence.
        asm volatile("cp.async.wait_group %0;" ::"n"(AHEAD - 3) : "memory");
        __syncthreads();
        __syncthreads();
        for (int chunk = 0; chunk < chunks; chunk++) {
            copy();
            if (chunk > 0) finish(chunk - 1);
            asm volatile("cp.async.wait_group %0;" ::"n"(AHEAD - 3) : "memory");
            __syncthreads();
        }
        asm volatile("cp.async.wait_group 0;" ::: "memory");
        finish(chunks - 1);
        return;
    }
    if (warp == WARPS) {
        float bias[CHANNELS], skip[CHANNELS];
#pragma unroll
        for (int i = 0; i < CHANNELS; i++) {
            bias[i] = p.bias ? p.bias[first_channel + i] : 0.0f;
            skip[i] = p.skip ? p.skip[first_channel + i] : 0.0f;
        }
        // Delta, Delta u, u's share of y and the gate; a lane has a token.
        auto prepare = [&](int chunk, int offset) {
            if (chunk >= chunks) return;
            const T *from = (const T *)(raw + offset) + B_VALUES + lane * CHANNELS;
            float2 *to = steps + chunk % 3 * CHANNELS * STEP_ROW + lane;
            float *gate_to = gates + chunk % 4 * 2 * U_VALUES + lane * CHANNELS;
            bool is_token = chunk * CHUNK + lane <= last;
            float4 u[WARPS], delta[WARPS], z[WARPS];
#pragma unroll
            for (int r = 0; r < WARPS; r++) {
                u[r] = load_four(from + r * 4), delta[r] = load_four(from + U_VALUES + r * 4);
                z[r] = load_four(from + 2 * U_VALUES + r * 4);
            }
#pragma unroll
            for (int r = 0; r < WARPS; r++) {
                float us[4] = {u[r].x, u[r].y, u[r].z, u[r].w};
                float deltas[4] = {delta[r].x, delta[r].y, delta[r].z, delta[r].w};
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    // A token behind the text's end leaves the state as it is.
                    float step = select(is_token, softplus(deltas[i] + bias[r * 4 + i]), 0.0f);
                    to[(r * 4 + i) * STEP_ROW] = make_float2(step, step * us[i]);
                }
                float4 gate = {silu(z[r].x), silu(z[r].y), silu(z[r].z), silu(z[r].w)};
                *(float4 *)(gate_to + r * 4) =
                    make_float4(skip[r * 4] * us[0] * gate.x, skip[r * 4 + 1] * us[1] * gate.y,
                                skip[r * 4 + 2] * us[2] * gate.z, skip[r * 4 + 3] * us[3] * gate.w);
                *(float4 *)(gate_to + U_VALUES + r * 4) = gate;
            }
        };
        __syncthreads();
        prepare(0, 0);
        prepare(1, RAW_BYTES);
        __syncthreads();
        int offset = 2 * RAW_BYTES;
        for (int chunk = 0; chunk < chunks; chunk++) {
            prepare(chunk + 2, offset);
            offset = offset == (RING - 1) * RAW_BYTES ? 0 : offset + RAW_BYTES;
            __syncthreads();
        }
        return;
    }

    // Lanes are numbered so that neighbours (lane ^ 1) have the same slots, and so the same B and C, and lanes two apart
    // (lane ^ 2) the same channel, and so the same Delta: a 16-byte load then serves two of them at once, and takes two clocks
    // instead of four.
    int own = warp * 4 + (lane >> 1 & 2 | lane & 1), pair = lane >> 2 & 6 | lane >> 1 & 1, d = first_channel + own;
    size_t state = ((size_t)batch * p.channels + d) * N + pair * 2;
    float a0 = p.a[(size_t)d * N + pair * 2] * LOG2E, a1 = p.a[(size_t)d * N + pair * 2 + 1] * LOG2E, h0 = 0.0f, h1 = 0.0f;
    if (p.initial) h0 = p.initial[state], h1 = p.initial[state + 1];
    // A group of tokens goes through three stages, each a group behind the other, also from chunk to chunk: loaded, made decays
    // of, taken in. Special functions of one and multiply-adds of another are then under way together.
    constexpr int GROUPS = CHUNK / GROUP;
    float4 loaded[GROUP / 2], loaded_bc[GROUP];
    float2 decay[GROUP], write[GROUP], read[GROUP];
    auto load = [&](const T *row, const float4 *step, int g) {
#pragma unroll
        for (int j = 0; j < GROUP / 2; j++) loaded[j] = step[g * GROUP / 2 + j];
#pragma unroll
        for (int j = 0; j < GROUP; j++) loaded_bc[j] = load_four(row + (g * GROUP + j) * ROW);
    };
    auto make = [&]() {
#pragma unroll
        for (int j = 0; j < GROUP; j++) {
            float delta = j % 2 ? loaded[j / 2].z : loaded[j / 2].x, x = j % 2 ? loaded[j / 2].w : loaded[j / 2].y;
            decay[j] = make_float2(exp2_unit(delta * a0), exp2_unit(delta * a1));
            write[j] = make_float2(x * loaded_bc[j].x, x * loaded_bc[j].y);
            read[j] = make_float2(loaded_bc[j].z, loaded_bc[j].w);
        }
    };
    const char *own_row = raw + pair * (ROW / 8) * (int)sizeof(T), *own_steps = (const char *)(steps + own * STEP_ROW);
    constexpr int STEP_BYTES = CHANNELS * STEP_ROW * 8;
    int raw_offset = 0, step_offset = 0, part_offset = 0;
    __syncthreads();
    __syncthreads();
    load((const T *)own_row, (const float4 *)own_steps, 0);
    make();
    load((const T *)own_row, (const float4 *)own_steps, 1);
    for (int chunk = 0; chunk < chunks; chunk++) {
        const T *row = (const T *)(own_row + raw_offset);
        const float4 *step = (const float4 *)(own_steps + step_offset);
        raw_offset = raw_offset == (RING - 1) * RAW_BYTES ? 0 : raw_offset + RAW_BYTES;
        step_offset = step_offset == 2 * STEP_BYTES ? 0 : step_offset + STEP_BYTES;
        const T *next_row = (const T *)(own_row + raw_offset);
        const float4 *next_step = (const float4 *)(own_steps + step_offset);
#pragma unroll
        for (int g = 0; g < GROUPS; g++) {
            float2 now[GROUP], w[GROUP], c[GROUP];
#pragma unroll
            for (int j = 0; j < GROUP; j++) now[j] = decay[j], w[j] = write[j], c[j] = read[j];
            make();
            // Behind the last chunk lies what is never taken in.
            if (g + 2 < GROUPS)
                load(row, step, g + 2);
            else
                load(next_row, next_step, g + 2 - GROUPS);
            float out[GROUP];
#pragma unroll
            for (int j = 0; j < GROUP; j++) {
                h0 = fmaf(now[j].x, h0, w[j].x);
                h1 = fmaf(now[j].y, h1, w[j].y);
                out[j] = fmaf(c[j].y, h1, c[j].x * h0);
            }
#pragma unroll
            for (int j = 0; j < GROUP; j += 4)
                parts[part_offset + part_place((g * GROUP + j) / 4 * CHANNELS + own, pair)] =
                    make_float4(out[j], out[j + 1], out[j + 2], out[j + 3]);
        }
        part_offset = PARTS - part_offset;
        __syncthreads();
    }
    if (d >= first_own && p.last) p.last[state] = h0, p.last[state + 1] = h1;
}

// One block a multiprocessor: with room for two the compiler keeps to 128 registers, and it is a tenth slower.
#define SLOTS_KERNELS(NAME, T, WARPS)                                                                                  \
    extern "C" __global__ void __launch_bounds__(32 * (WARPS + 1 + FINISHERS), 1)                                      \
        scan_slots_##NAME##_##WARPS(ScanArgs p) {                                                                      \
        scan_slots<T, WARPS>(p);                                                                                       \
    }
SLOTS_KERNELS(f32, float, 2)
SLOTS_KERNELS(f32, float, 3)
SLOTS_KERNELS(bf16, bf16, 2)
SLOTS_KERNELS(bf16, bf16, 3)
